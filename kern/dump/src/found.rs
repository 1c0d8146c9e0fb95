//! Finds all objects: a walk over capabilities.
//!
//! The walk finds all slots of each CNode; from each slot its whole derivation tree; from each Task
//! its Process; from each Process its spaces and tasks; from each Untyped its CNodes without
//! capabilities. Records of objects come in the order in
//! which the walk finds the objects, so two kernels with equal trees record their objects alike.

use abi::ObjType;
use heapless::index_map::FnvIndexMap;
use kern_base::events::EventPool;
use kern_base::group::Group;
use kern_base::header::Header;
use kern_base::irq::IrqHandler;
use kern_base::memory::{Frame, Untyped, VSpace};
use kern_base::notification::Notification;
use kern_base::objects::RawWord;
use kern_base::port::IoPort;
use kern_base::process::Process;
use kern_base::reply::Reply;
use kern_base::sched_context::SchedContext;
use kern_base::sched_control::SchedControl;
use kern_base::slot::{CNode, Slot};
use kern_base::task::{TASK_BYTES, Task};
use kern_core::MachineObject as Machine;
use smp::cpu::Pin;
use smp::door::{Ptr, Ref};

/// Most objects that the walk finds; it leaves out further ones.
pub const OBJECTS_MAX: usize = 1 << 14;
/// Most slots of one tree that the walk follows: a longer tree is broken.
const TREE_MAX: usize = OBJECTS_MAX * 4;

macro_rules! objects {
    ($($type:ident),*) => {
        /// Any kernel object.
        #[derive(Clone, Copy)]
        pub enum Object { $($type(Ptr<$type>),)* }

        impl Object {
            /// Returns the object of a capability, if an object of that type exists at its address.
            fn of(word: RawWord<'_>, pin: Pin<'_>) -> Option<Object> {
                let kind = ObjType::from_raw(word.object_type())?;
                let object = match kind { $(ObjType::$type => Object::$type(word.get::<$type>()?.ptr()),)* };
                (object.header(pin).object_type() == Some(kind)).then_some(object)
            }

            pub fn addr(self) -> u64 {
                match self { $(Object::$type(object) => object.addr(),)* }
            }

            /// Returns how many bytes of memory the object itself takes, without its tables.
            pub const fn bytes(self) -> u64 {
                let size = match self { $(Object::$type(_) => size_of::<$type>() as u64,)* };
                if matches!(self, Object::Task(_)) { TASK_BYTES } else { size }
            }

            fn header<'k>(self, pin: Pin<'k>) -> &'k Header {
                match self { $(Object::$type(object) => &object.get(pin).get().header,)* }
            }
        }
    };
}

objects! {
    Untyped, CNode, VSpace, Frame, Process, Task, SchedContext, Group, Notification, Reply, Machine, EventPool,
    SchedControl, IrqHandler, IoPort
}

impl Object {
    /// Returns whether the object belongs to capabilities and memory: an Untyped, CNode, VSpace or
    /// Frame.
    pub const fn is_memory(self) -> bool {
        matches!(self, Object::Untyped(_) | Object::CNode(_) | Object::VSpace(_) | Object::Frame(_))
    }
}

struct Entry {
    object: Object,
    /// Whether the walk found it in its derivation tree, all of which is known.
    in_tree: bool,
}

/// The objects of a walk by their addresses, in the order in which the walk found them.
pub struct Found(FnvIndexMap<u64, Entry, OBJECTS_MAX>);

impl Found {
    #[allow(clippy::new_without_default, reason = "too large for a stack")]
    pub const fn new() -> Found {
        Found(FnvIndexMap::new())
    }

    /// Whether there may be more objects than the walk can hold.
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    pub fn objects(&self) -> impl Iterator<Item = Object> {
        self.0.values().map(|entry| entry.object)
    }

    /// Returns the entry of an object in the walk's table. Makes one for a new object; `None` if
    /// the table has no room.
    fn entry(&mut self, object: Object) -> Option<&mut Entry> {
        self.0.entry(object.addr()).or_insert(Entry { object, in_tree: false }).ok()
    }

    /// Adds the objects that the walk has not found before.
    pub fn add(&mut self, objects: impl IntoIterator<Item = Object>) {
        objects.into_iter().for_each(|object| _ = self.entry(object));
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Finds all objects that the objects found so far lead to.
    pub fn discover(&mut self, pin: Pin<'_>) {
        let mut at = 0;
        while let Some((_, entry)) = self.0.get_index(at) {
            self.follow(pin, entry.object);
            at += 1;
        }
    }

    /// Adds the objects that an object leads to.
    fn follow(&mut self, pin: Pin<'_>, object: Object) {
        match object {
            Object::Untyped(untyped) => {
                let first = untyped.get(pin).get().zombies.get(pin);
                self.add(first.map(|cnode| Object::CNode(cnode.ptr())));
            }
            Object::CNode(cnode) => {
                let next = cnode.get(pin).get().ring.next.get(pin);
                self.add(next.map(|cnode| Object::CNode(cnode.ptr())));
                let slots = cnode.get(pin).get().slots.known().iter(pin);
                for slot in slots.filter(|slot| !slot.get().word.is_empty_below(u64::MAX)) {
                    self.add_slot(pin, slot);
                }
            }
            Object::Task(task) => {
                let owner = task.get(pin).get().owner(pin);
                self.add(owner.map(|process| Object::Process(process.ptr())));
            }
            Object::Process(process) => {
                let process = process.get(pin).get();
                self.add(process.cnode.get(pin).map(|cnode| Object::CNode(cnode.ptr())));
                self.add(process.vspace.get(pin).map(|vspace| Object::VSpace(vspace.ptr())));
                self.add(process.pool.get(pin).map(|pool| Object::EventPool(pool.ptr())));
                let tasks = process.tasks.iter(pin).filter_map(|number| number.get().task.get(pin));
                self.add(tasks.map(|task| Object::Task(task.ptr())));
            }
            _ => {}
        }
    }

    /// Adds the object of a slot, and its whole derivation tree.
    fn add_slot<'k>(&mut self, pin: Pin<'k>, slot: Ref<'k, Slot>) {
        let there = |slot: Ref<'k, Slot>| Object::of(slot.get().word.glance(pin), pin);
        let Some(object) = there(slot) else { return };
        if self.0.get(&object.addr()).is_some_and(|entry| entry.in_tree) {
            return;
        }
        let before = core::iter::successors(Some(slot), |slot| slot.get().prev.get(pin));
        let first = before.take(TREE_MAX).last();
        let tree = core::iter::successors(first, |slot| slot.get().next.get(pin));
        for object in tree.take(TREE_MAX).filter_map(there) {
            if let Some(entry) = self.entry(object) {
                entry.in_tree = true;
            }
        }
    }
}
