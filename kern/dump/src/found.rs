//! Finds all objects: a walk over capabilities.
//!
//! The walk finds all slots of each CNode; from each slot its whole derivation tree; from each Task
//! its Process; from each Process its spaces and tasks. Records of objects come in the order in
//! which the walk finds the objects, so two kernels with equal trees record their objects alike.

use abi::ObjType;
use kern_base::events::EventPool;
use kern_base::group::Group;
use kern_base::header::Header;
use kern_base::machine::Machine;
use kern_base::memory::{Frame, Untyped, VSpace};
use kern_base::notification::Notification;
use kern_base::objects::RawWord;
use kern_base::process::Process;
use kern_base::reply::Reply;
use kern_base::sched_context::SchedContext;
use kern_base::slot::{CNode, Slot};
use kern_base::task::Task;
use smp::cpu::Pin;
use smp::door::{Ptr, Ref};

use kern_core::{Cx, MachineObject};

/// Most objects that the walk finds; it leaves out further ones.
pub const OBJECTS_MAX: usize = 1 << 14;
const TABLE_SIZE: usize = 2 * OBJECTS_MAX;
const NOTHING: u16 = u16::MAX;
/// Most slots of one tree that the walk follows: a longer tree is broken.
const TREE_MAX: usize = OBJECTS_MAX * 4;

macro_rules! objects {
    ($($type:ident = $object:ty;)*) => {
        /// Any kernel object.
        #[derive(Clone, Copy)]
        pub enum Object { $($type(Ptr<$object>),)* }

        impl Object {
            /// Returns the object of a capability.
            pub fn of(word: RawWord<'_>) -> Option<Object> {
                match ObjType::from_raw(word.object_type())? {
                    $(ObjType::$type => Some(Object::$type(word.get::<$object>()?.ptr())),)*
                }
            }

            pub fn addr(self) -> u64 {
                match self { $(Object::$type(object) => object.addr(),)* }
            }

            const fn kind(self) -> ObjType {
                match self { $(Object::$type(_) => ObjType::$type,)* }
            }

            fn header<'k>(self, pin: Pin<'k>) -> &'k Header {
                match self { $(Object::$type(object) => &object.get(pin).get().header,)* }
            }
        }
    };
}

objects! {
    Untyped = Untyped;
    CNode = CNode;
    VSpace = VSpace;
    Frame = Frame;
    Process = Process;
    Task = Task;
    SchedContext = SchedContext;
    Group = Group;
    Notification = Notification;
    Reply = Reply;
    Machine = MachineObject;
    EventPool = EventPool;
}

impl Object {
    /// Whether it is only about capabilities and memory.
    pub const fn is_memory(self) -> bool {
        matches!(self, Object::Untyped(_) | Object::CNode(_) | Object::VSpace(_) | Object::Frame(_))
    }

    /// Whether an object of its type exists at its address.
    fn is_there(self, pin: Pin<'_>) -> bool {
        self.header(pin).object_type() == Some(self.kind())
    }
}

#[derive(Clone, Copy)]
struct Entry {
    object: Object,
    /// Its place in the table.
    place: u16,
    /// Whether the walk found it in its derivation tree, all of which is known.
    in_tree: bool,
}

/// The objects of a walk, in the order in which the walk found them.
pub struct Found {
    objects: [Option<Entry>; OBJECTS_MAX],
    len: usize,
    /// Maps addresses to places in `objects`, by open addressing.
    table: [u16; TABLE_SIZE],
}

impl Default for Found {
    fn default() -> Self {
        Self::new()
    }
}

impl Found {
    pub const fn new() -> Found {
        Found { objects: [const { None }; OBJECTS_MAX], len: 0, table: [NOTHING; TABLE_SIZE] }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there may be more objects than the walk can hold.
    pub const fn is_full(&self) -> bool {
        self.len == OBJECTS_MAX
    }

    pub fn get(&self, at: usize) -> Option<Object> {
        self.objects.get(at).copied().flatten().map(|entry| entry.object)
    }

    /// Returns the place of an address in the table, or the place where it would be.
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

    /// Adds an object, unless the walk has found it before.
    pub fn add(&mut self, object: Object) {
        let Err(at) = self.place(object.addr()) else { return };
        if self.is_full() {
            return;
        }
        self.objects[self.len] = Some(Entry { object, place: at as u16, in_tree: false });
        self.table[at] = self.len as u16;
        self.len += 1;
    }

    fn entry(&mut self, addr: u64) -> Option<&mut Entry> {
        let at = self.place(addr).ok()?;
        self.objects[usize::from(self.table[at])].as_mut()
    }

    pub fn clear(&mut self) {
        for entry in self.objects[..self.len].iter_mut().filter_map(Option::take) {
            self.table[usize::from(entry.place)] = NOTHING;
        }
        self.len = 0;
    }

    /// Finds all objects that the objects found so far lead to.
    pub fn discover<M: Machine>(&mut self, cx: Cx<'_, M>) {
        let mut at = 0;
        while let Some(object) = self.get(at) {
            self.follow(cx, object);
            at += 1;
        }
    }

    /// Adds the objects that an object leads to.
    fn follow<M: Machine>(&mut self, cx: Cx<'_, M>, object: Object) {
        match object {
            Object::CNode(cnode) => {
                let slots = cnode.get(cx.pin()).get().slots.known().iter(cx.pin());
                for slot in slots.filter(|slot| !slot.get().word.is_empty_below(u64::MAX)) {
                    self.add_slot(cx, slot);
                }
            }
            Object::Task(task) => {
                if let Some(process) = task.get(cx.pin()).get().owner.get(cx.pin()) {
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

    /// Adds the object of a slot, and its whole derivation tree.
    fn add_slot<'k, M: Machine>(&mut self, cx: Cx<'k, M>, slot: Ref<'k, Slot>) {
        let there = |slot: Ref<'k, Slot>| {
            Object::of(slot.get().word.glance(cx.pin())).filter(|object| object.is_there(cx.pin()))
        };
        let Some(object) = there(slot) else { return };
        if self.entry(object.addr()).is_some_and(|entry| entry.in_tree) {
            return;
        }
        let before = core::iter::successors(Some(slot), |slot| slot.get().prev.get(cx.pin()));
        let first = before.take(TREE_MAX).last();
        let tree = core::iter::successors(first, |slot| slot.get().next.get(cx.pin()));
        for object in tree.take(TREE_MAX).filter_map(there) {
            self.add(object);
            if let Some(entry) = self.entry(object.addr()) {
                entry.in_tree = true;
            }
        }
    }
}
