//! Which objects there are, and what a dump calls them.
//!
//! Found are: all slots of the CSpace that the walk begins at; from each slot the whole derivation tree that it is
//! part of; from each CNode its slots, from each Task its Process, from each Process its spaces and tasks. What
//! comes first has the lower number; so two kernels with the same trees call the same object the same.

use abi::ObjType;
use kern_base::events::EventPool;
use kern_base::group::Group;
use kern_base::header::Header;
use kern_base::machine::Machine;
use kern_base::memory::{Frame, Untyped, VSpace};
use kern_base::notification::Notification;
use kern_base::process::Process;
use kern_base::reply::Reply;
use kern_base::sched_context::SchedContext;
use kern_base::slot::{CNode, Slot};
use kern_base::task::Task;
use smp::door::{Ptr, RawWord, Ref};
use smp::lock::Lock;

use crate::dump::text::Text;
use crate::{Cx, MachineObject, Me};

/// Objects that are named; further ones are `?`.
const OBJECTS_MAX: usize = 1 << 14;
const TABLE_SIZE: usize = 2 * OBJECTS_MAX;
const TYPES: usize = 13;
const NOTHING: u16 = u16::MAX;
/// CNodes, Groups and EventPools, which have the slots.
const TABLES_MAX: usize = 512;

macro_rules! objects {
    ($($type:ident = $object:ty, $name:literal;)*) => {
        /// Any kernel object.
        #[derive(Clone, Copy)]
        pub enum Object { $($type(Ptr<$object>),)* }

        impl Object {
            /// What a capability refers to.
            pub fn of(word: RawWord<'_>) -> Option<Object> {
                match ObjType::from_raw(word.object_type())? {
                    $(ObjType::$type => Some(Object::$type(word.get::<$object>()?.ptr())),)*
                }
            }

            pub fn addr(self) -> u64 {
                match self { $(Object::$type(object) => object.addr(),)* }
            }

            fn type_number(self) -> usize {
                match self { $(Object::$type(_) => ObjType::$type as usize,)* }
            }

            fn type_name(self) -> &'static str {
                match self { $(Object::$type(_) => $name,)* }
            }
        }
    };
}

objects! {
    Untyped = Untyped, "untyped";
    CNode = CNode, "cnode";
    VSpace = VSpace, "vspace";
    Frame = Frame, "frame";
    Process = Process, "process";
    Task = Task, "task";
    SchedContext = SchedContext, "time";
    Group = Group, "group";
    Notification = Notification, "note";
    Reply = Reply, "reply";
    Machine = MachineObject, "machine";
    EventPool = EventPool, "pool";
}

impl Object {
    /// What only capabilities and memory are about.
    pub fn is_memory(self) -> bool {
        matches!(self, Object::Untyped(_) | Object::CNode(_) | Object::VSpace(_) | Object::Frame(_))
    }
}

/// An object with its name.
#[derive(Clone, Copy)]
struct Entry {
    object: Object,
    number: u32,
    /// It was found in its derivation tree, all of which is known.
    in_tree: bool,
}

/// The objects of one dump in the order in which they were found.
pub struct Names {
    objects: [Option<Entry>; OBJECTS_MAX],
    len: usize,
    /// From addresses to places in `objects`, by open addressing.
    table: [u16; TABLE_SIZE],
    counts: [u32; TYPES],
    /// Places in `objects` of those that have slots.
    tables: [u16; TABLES_MAX],
    tables_len: usize,
}

/// Too large for a kernel stack. One dump at a time.
pub static NAMES: Lock<Names> = Lock::new(Names {
    objects: [const { None }; OBJECTS_MAX],
    len: 0,
    table: [NOTHING; TABLE_SIZE],
    counts: [0; TYPES],
    tables: [NOTHING; TABLES_MAX],
    tables_len: 0,
});

impl Names {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_full(&self) -> bool {
        self.len == OBJECTS_MAX
    }

    pub fn get(&self, at: usize) -> Option<Object> {
        self.objects.get(at).copied().flatten().map(|entry| entry.object)
    }

    /// Writes the name of the object at an address, without a gap.
    pub fn write<M: Machine>(&self, text: &mut Text<'_, M>, addr: u64) {
        match self.place(addr) {
            _ if addr == 0 => text.bare("-"),
            Ok(at) => {
                if let Some(Entry { object, number, .. }) = self.objects[usize::from(self.table[at])] {
                    text.named(object.type_name(), u64::from(number));
                }
            }
            Err(_) => text.bare("?"),
        }
    }

    /// Where in the table an address is, or where it would be.
    fn place(&self, addr: u64) -> Result<usize, usize> {
        let mut at = (addr.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % TABLE_SIZE;
        // Half of the table stays empty.
        loop {
            let there = self.table[at];
            if there == NOTHING {
                return Err(at);
            }
            if self.get(usize::from(there)).is_some_and(|object| object.addr() == addr) {
                return Ok(at);
            }
            at = (at + 1) % TABLE_SIZE;
        }
    }

    /// Names an object that has no name yet.
    fn add(&mut self, object: Object) {
        let Err(at) = self.place(object.addr()) else { return };
        if self.is_full() {
            return;
        }
        let count = &mut self.counts[object.type_number()];
        *count += 1;
        self.objects[self.len] = Some(Entry { object, number: *count, in_tree: false });
        self.table[at] = self.len as u16;
        if let (Object::CNode(_) | Object::Group(_) | Object::EventPool(_), Some(place)) =
            (object, self.tables.get_mut(self.tables_len))
        {
            *place = self.len as u16;
            self.tables_len += 1;
        }
        self.len += 1;
    }

    fn entry(&mut self, addr: u64) -> Option<&mut Entry> {
        let at = self.place(addr).ok()?;
        self.objects[usize::from(self.table[at])].as_mut()
    }

    /// Those that have slots.
    pub fn tables(&self) -> impl Iterator<Item = Object> {
        self.tables[..self.tables_len].iter().filter_map(|at| self.get(usize::from(*at)))
    }

    fn clear(&mut self) {
        self.objects[..self.len].fill(None);
        self.table.fill(NOTHING);
        self.counts.fill(0);
        self.len = 0;
        self.tables_len = 0;
    }

    /// Finds all objects from the CSpace of `me` on.
    pub fn discover<M: Machine>(&mut self, cx: Cx<'_, M>, me: Me<'_>) {
        self.clear();
        self.add(Object::Task(me.task.ptr()));
        let mut at = 0;
        while let Some(object) = self.get(at) {
            self.follow(cx, object);
            at += 1;
        }
    }

    /// Adds what an object leads to.
    fn follow<M: Machine>(&mut self, cx: Cx<'_, M>, object: Object) {
        match object {
            Object::CNode(cnode) => {
                for slot in cnode.get(cx.pin()).get().slots.iter(cx.pin()) {
                    self.add_slot(cx, slot);
                }
            }
            Object::Task(task) => {
                let process = cx.task_hot(task.get(cx.pin())).and_then(|hot| hot.process.get(cx.pin()));
                if let Some(process) = process {
                    self.add(Object::Process(process.ptr()));
                }
            }
            Object::Process(process) => {
                let process = process.get(cx.pin()).get();
                if let Some(cnode) = process.cnode.get(cx.pin()) {
                    self.add(Object::CNode(cnode.ptr()));
                }
                if let Some(vspace) = process.vspace.get(cx.pin()) {
                    self.add(Object::VSpace(vspace.ptr()));
                }
                if let Some(pool) = process.pool.get(cx.pin()) {
                    self.add(Object::EventPool(pool.ptr()));
                }
                for number in process.tasks.iter(cx.pin()) {
                    if let Some(task) = number.get().task.get(cx.pin()) {
                        self.add(Object::Task(task.ptr()));
                    }
                }
            }
            _ => {}
        }
    }

    /// Adds what a slot refers to, and all of its derivation tree.
    fn add_slot<M: Machine>(&mut self, cx: Cx<'_, M>, slot: Ref<'_, Slot>) {
        let word = slot.get().word.load(cx.pin());
        let (Some(object), Some(header)) = (Object::of(word), cx.header_of(word)) else { return };
        if self.entry(object.addr()).is_some_and(|entry| entry.in_tree) {
            return;
        }
        for_tree(cx, slot, header, |slot| {
            let Some(object) = Object::of(slot.get().word.load(cx.pin())) else { return };
            self.add(object);
            if let Some(entry) = self.entry(object.addr()) {
                entry.in_tree = true;
            }
        });
    }
}

/// Every slot of the derivation tree that a full slot is part of, in the tree's order.
pub fn for_tree<'k, M: Machine>(
    cx: Cx<'k, M>,
    slot: Ref<'k, Slot>,
    header: &Header,
    mut each: impl FnMut(Ref<'k, Slot>),
) {
    let _root = cx.lock_root(header);
    let mut first = slot;
    for _ in 0..OBJECTS_MAX * 4 {
        let Some(prev) = first.get().prev.get(cx.pin()) else { break };
        first = prev;
    }
    let slots = core::iter::successors(Some(first), |slot| slot.get().next.get(cx.pin()));
    for slot in slots.take(OBJECTS_MAX * 4) {
        each(slot);
    }
}
