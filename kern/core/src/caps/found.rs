//! Finds all objects: a walk over capabilities, for dumps and [surveys](crate::survey).
//!
//! The walk finds all slots of each CNode; from each slot its whole derivation tree; from each Task
//! its Process; from each Process its spaces and tasks. Objects are numbered in the order in which
//! they are found, so two kernels with equal trees number their objects alike.

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

use crate::rooms::Caps;
use crate::{Cx, MachineObject};

/// Most objects that the walk finds; it leaves out further ones.
pub const OBJECTS_MAX: usize = 1 << 14;
const TABLE_SIZE: usize = 2 * OBJECTS_MAX;
const TYPES: usize = 13;
const NOTHING: u16 = u16::MAX;
/// Most CNodes, Groups and EventPools, the objects with slots.
const TABLES_MAX: usize = 1024;
/// Most slots of one tree that the walk follows: a longer tree is broken.
const TREE_MAX: usize = OBJECTS_MAX * 4;

macro_rules! objects {
    ($($type:ident = $object:ty, $name:literal;)*) => {
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

            pub const fn kind(self) -> ObjType {
                match self { $(Object::$type(_) => ObjType::$type,)* }
            }

            pub const fn type_name(self) -> &'static str {
                match self { $(Object::$type(_) => $name,)* }
            }

            pub fn header<'k>(self, pin: Pin<'k>) -> &'k Header {
                match self { $(Object::$type(object) => &object.get(pin).get().header,)* }
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

/// An object with its number among those of its type.
#[derive(Clone, Copy)]
struct Entry {
    object: Object,
    number: u32,
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
    counts: [u32; TYPES],
    /// Places in `objects` of objects with slots.
    tables: [u16; TABLES_MAX],
    tables_len: usize,
}

impl Default for Found {
    fn default() -> Self {
        Self::new()
    }
}

impl Found {
    pub const fn new() -> Found {
        Found {
            objects: [const { None }; OBJECTS_MAX],
            len: 0,
            table: [NOTHING; TABLE_SIZE],
            counts: [0; TYPES],
            tables: [NOTHING; TABLES_MAX],
            tables_len: 0,
        }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there may be more objects than the walk can hold.
    pub const fn is_full(&self) -> bool {
        self.len == OBJECTS_MAX || self.tables_len == TABLES_MAX
    }

    pub fn get(&self, at: usize) -> Option<Object> {
        self.objects.get(at).copied().flatten().map(|entry| entry.object)
    }

    /// Returns the object at an address, with its number among those of its type.
    pub fn at(&self, addr: u64) -> Option<(Object, u32)> {
        let place = self.place(addr).ok()?;
        self.objects[usize::from(self.table[place])].map(|entry| (entry.object, entry.number))
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
        let count = &mut self.counts[object.kind() as usize];
        *count += 1;
        self.objects[self.len] = Some(Entry { object, number: *count, place: at as u16, in_tree: false });
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

    /// Returns the objects with slots.
    pub fn tables(&self) -> impl Iterator<Item = Object> {
        self.tables[..self.tables_len].iter().filter_map(|at| self.get(usize::from(*at)))
    }

    pub fn clear(&mut self) {
        for entry in self.objects[..self.len].iter_mut().filter_map(Option::take) {
            self.table[usize::from(entry.place)] = NOTHING;
        }
        self.counts.fill(0);
        self.len = 0;
        self.tables_len = 0;
    }

    /// Finds all objects that the objects found so far lead to. `walk` visits each slot of a
    /// derivation tree.
    pub fn discover<'k, M: Machine>(&mut self, cx: Cx<'k, M>, walk: Walk<'k, M>) {
        let mut at = 0;
        while let Some(object) = self.get(at) {
            self.follow(cx, object, walk);
            at += 1;
        }
    }

    /// Adds the objects that an object leads to.
    fn follow<'k, M: Machine>(&mut self, cx: Cx<'k, M>, object: Object, walk: Walk<'k, M>) {
        match object {
            Object::CNode(cnode) => {
                let slots = cnode.get(cx.pin()).get().slots.iter(cx.pin());
                for slot in slots.filter(|slot| !slot.get().word.is_empty_below(u64::MAX)) {
                    self.add_slot(cx, slot, walk);
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
    fn add_slot<'k, M: Machine>(&mut self, cx: Cx<'k, M>, slot: Ref<'k, Slot>, walk: Walk<'k, M>) {
        let word = slot.get().word.glance(cx.pin());
        let Some(object) = Object::of(word).filter(|object| is_there(*object, cx.pin())) else { return };
        if self.entry(object.addr()).is_some_and(|entry| entry.in_tree) {
            return;
        }
        walk(cx, slot, object.header(cx.pin()), &mut |slot| {
            let Some(object) = Object::of(slot.get().word.glance(cx.pin())) else { return };
            if !is_there(object, cx.pin()) {
                return;
            }
            self.add(object);
            if let Some(entry) = self.entry(object.addr()) {
                entry.in_tree = true;
            }
        });
    }
}

/// Whether an object of its type exists at an object's address.
fn is_there(object: Object, pin: Pin<'_>) -> bool {
    object.header(pin).object_type() == Some(object.kind())
}

/// Visits every slot of a slot's derivation tree; the header is that of the slot's object.
pub type Walk<'k, M> = fn(Cx<'k, M>, Ref<'k, Slot>, &Header, &mut dyn FnMut(Ref<'k, Slot>));

/// Visits every slot of a full slot's derivation tree, in the tree's order, under the root's lock.
pub fn for_tree<'k, M: Machine>(
    cx: Cx<'k, M>,
    slot: Ref<'k, Slot>,
    header: &Header,
    each: &mut dyn FnMut(Ref<'k, Slot>),
) {
    let _root = Caps::of(cx).lock_root(header);
    for_still_tree(cx, slot, header, each);
}

/// Visits every slot as [`for_tree`] does, without the lock.
/// Requires: no CPU changes the tree.
pub fn for_still_tree<'k, M: Machine>(
    cx: Cx<'k, M>,
    slot: Ref<'k, Slot>,
    _header: &Header,
    each: &mut dyn FnMut(Ref<'k, Slot>),
) {
    let mut first = slot;
    for _ in 0..TREE_MAX {
        let Some(prev) = first.get().prev.get(cx.pin()) else { break };
        first = prev;
    }
    let slots = core::iter::successors(Some(first), |slot| slot.get().next.get(cx.pin()));
    slots.take(TREE_MAX).for_each(each);
}
