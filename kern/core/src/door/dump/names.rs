//! What a dump calls the objects that were [found](crate::caps::found).

use kern_base::machine::Machine;

use smp::lock::Lock;

use crate::Me;
use crate::caps::found::{Found, Object, for_tree};
use crate::door::dump::text::Text;

impl Object {
    /// What only capabilities and memory are about.
    pub fn is_memory(self) -> bool {
        matches!(self, Object::Untyped(_) | Object::CNode(_) | Object::VSpace(_) | Object::Frame(_))
    }
}

/// Too large for a kernel stack. One dump at a time.
pub static NAMES: Lock<Found> = Lock::new(Found::new());

impl Found {
    /// Writes the name of the object at an address, without a gap.
    pub fn write<M: Machine>(&self, text: &mut Text<'_, M>, addr: u64) {
        match self.at(addr) {
            _ if addr == 0 => text.bare("-"),
            Some((object, number)) => text.named(object.type_name(), u64::from(number)),
            None => text.bare("?"),
        }
    }

    /// Finds all objects from the CSpace of `me` on.
    pub fn discover_from<M: Machine>(&mut self, cx: crate::Cx<'_, M>, me: Me<'_>) {
        self.clear();
        self.add(Object::Task(me.task.ptr()));
        self.discover(cx, for_tree);
    }
}
