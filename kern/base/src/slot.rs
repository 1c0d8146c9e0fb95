//! Capability slots and the derivation tree.
//!
//! A slot is 32 bytes. Any CPU may read word 0 (object, rights, type), once. The other words are
//! stable while word 0 is full, and are written only under the root lock of the object that the
//! slot refers to. A slot is full, then empty with a grace stamp, then reusable once the epoch has
//! advanced far enough ([`smp::quiesce`]). So if a reader saw word 0 full, the other words that it
//! reads belong to that word 0.
//!
//! The derivation tree of one root is a doubly linked list in preorder with a depth per slot (as in
//! seL4's mapping database, `src/object/cnode.c`) and a *floor*. The descendants of a slot are the
//! slots directly after it whose floor exceeds the slot's depth. So a revoke walks forward, and
//! insertion takes constant time.
//!
//! # The floor
//! A new slot's floor is its depth. When a slot leaves the tree, the slot after it takes over the
//! floor of the slot that left, if that is less. So removal takes constant time, too, however many
//! children a slot has: they keep their depth, and their grandparent's later children do not take
//! the elder ones for their parents.
//!
//! Why no other pair of slots changes: let A come before N, and X leave from between them. N is a
//! descendant of A if and only if the floors of X and N, and of all slots between, exceed A's
//! depth. N's new floor is the lesser one of the two, so that is still the condition.
//!
//! A slot's floor is at most one more than the depth of the slot before it. Insertion and removal
//! keep this. So what is inserted after a slot, one deeper, gets no descendants by that.

use smp::cpu::Pin;
use smp::sync::{AtomicU32, AtomicU64, Ordering};

use abi::{ObjType, Rights, TaskId};
use smp::door::masked::FilledTable;
use smp::door::{AtomicLink, Ref};

use crate::audit::Actor;
use crate::header::{Header, RootId};
use crate::memory::Untyped;
use crate::methods::methods;
use crate::objects::ObjWord;
use crate::task::Task;

/// The rest of a badge's word is the slot's depth in the tree, and above that its floor.
pub use abi::BADGE_BITS;

const BADGE_MASK: u64 = (1 << BADGE_BITS) - 1;
const FLOOR_SHIFT: u32 = BADGE_BITS + u8::BITS;
const _: () = assert!(FLOOR_SHIFT + u8::BITS == u64::BITS);

/// Greatest depth of derivations. A search for a leaf of the tree takes at most so many steps.
pub const DEPTH_MAX: u16 = u8::MAX as u16;

/// One capability.
#[repr(C, align(32))]
#[derive(Default)]
pub struct Slot {
    pub word: ObjWord,
    meta: AtomicU64,
    pub next: AtomicLink<Slot>,
    pub prev: AtomicLink<Slot>,
}

methods! { Slot:
    /// Whether the slot is empty and part of no tree, and its note is below `limit`. For surveys,
    /// which look at many.
    fn is_blank(self, limit: u64) -> bool =
        self.word.is_empty_below(limit) && self.next.is_null() && self.prev.is_null();
    fn badge(self) -> u64 = self.meta.load(Ordering::Relaxed) & BADGE_MASK;
    fn depth(self) -> u16 = u16::from((self.meta.load(Ordering::Relaxed) >> BADGE_BITS) as u8);
    fn floor(self) -> u16 = (self.meta.load(Ordering::Relaxed) >> FLOOR_SHIFT) as u16;
    /// Sets the badge, and the depth and floor in the derivation tree, before word 0 is filled.
    /// `Relaxed` suffices: word 0's `Release` publishes them.
    fn set_meta(self, badge: u64, depth: u16, floor: u16) = {
        let level = u64::from(depth as u8) << BADGE_BITS | u64::from(floor) << FLOOR_SHIFT;
        self.meta.store((badge & BADGE_MASK) | level, Ordering::Relaxed);
    };
    /// Changes depth and floor of a slot in a tree.
    /// Requires: the root lock is held.
    fn set_level(self, depth: u16, floor: u16) = self.set_meta(self.badge(), depth, floor);
}

impl Slot {
    pub const fn new() -> Slot {
        Slot {
            word: ObjWord::empty(),
            meta: AtomicU64::new(0),
            next: AtomicLink::null(),
            prev: AtomicLink::null(),
        }
    }

    /// Offset of badge, depth and floor, for assembly: the low 32 bits of a group capability's
    /// badge are the byte offset of its member record.
    pub const META_OFFSET: usize = core::mem::offset_of!(Slot, meta);
}

const _: () = assert!(core::mem::size_of::<Slot>() == 32);

smp::zeroed! { Slot { word, meta, next, prev } }

/// A table of capability slots.
#[repr(C, align(64))]
pub struct CNode {
    pub header: Header,
    /// Slot 0 is never filled: a number that the table does not have leads to it.
    pub slots: FilledTable<Slot>,
    /// The one process whose CSpace has this table.
    pub process: AtomicLink<crate::process::Process>,
    /// The next table of the CSpace, whose slots continue the numbering.
    pub more: AtomicLink<CNode>,
    /// The Untyped that it was made of; null: a boot object.
    pub made_of: AtomicLink<Untyped>,
    /// Its neighbours in the ring of an Untyped's CNodes without capabilities. Under the root lock.
    pub ring: Neighbours,
    /// The last pass over that ring in which it could not be emptied.
    pub tried: AtomicU32,
    /// When it was made: [`made_at`].
    pub made: AtomicU32,
    /// Its neighbours in the list of the task that empties it, and for the first in the list the
    /// task. Under the lock of these lists.
    pub listed: Neighbours,
    pub worker: AtomicLink<Task>,
    /// The task that ended it, if there was an audit then, and the task's security label.
    ended_by: AtomicU64,
    ended_label: AtomicU32,
}

/// The CNodes before and after one in a list.
#[derive(Default)]
pub struct Neighbours {
    pub next: AtomicLink<CNode>,
    pub prev: AtomicLink<CNode>,
}

const _: () = assert!(core::mem::size_of::<CNode>() == 128);

/// Returns the time of an object that is made `now`, in units of 2²⁴ ticks; it wraps after 2⁵⁶.
pub fn made_at(now: u64) -> u32 {
    (now >> 24) as u32
}

/// Tables of a CSpace, at most.
pub const TABLES_MAX: usize = 16;

/// A slot, and the header of the object whose table it is part of.
#[derive(Clone, Copy)]
pub struct Place<'k> {
    pub slot: Ref<'k, Slot>,
    pub table: &'k Header,
}

impl CNode {
    /// Returns the tables of a CSpace from `first` on, in the order of their slots' numbers.
    pub fn tables<'k>(first: Ref<'k, CNode>, pin: Pin<'k>) -> impl Iterator<Item = Ref<'k, CNode>> {
        core::iter::successors(Some(first), move |table| table.get().more.get(pin)).take(TABLES_MAX)
    }

    pub fn new(root: RootId, slots: FilledTable<Slot>) -> CNode {
        CNode {
            header: Header::new(ObjType::CNode, root),
            slots,
            process: AtomicLink::null(),
            more: AtomicLink::null(),
            made_of: AtomicLink::null(),
            ring: Neighbours::default(),
            tried: AtomicU32::new(0),
            made: AtomicU32::new(0),
            listed: Neighbours::default(),
            worker: AtomicLink::null(),
            ended_by: AtomicU64::new(TaskId::NONE.raw()),
            ended_label: AtomicU32::new(0),
        }
    }

    /// Notes the task that ended this object.
    /// Requires: the root lock is held.
    pub fn set_ender(&self, actor: Actor) {
        self.ended_by.store(actor.task.raw(), Ordering::Relaxed);
        self.ended_label.store(actor.label, Ordering::Relaxed);
    }

    /// Returns the task that ended this object, if it was noted.
    pub fn ender(&self) -> Actor {
        let task = TaskId::from_raw(self.ended_by.load(Ordering::Relaxed));
        Actor { task, label: self.ended_label.load(Ordering::Relaxed) }
    }
}

/// A capability found by a lookup: the object and what may be done with it.
pub struct Found<'k, T> {
    pub object: Ref<'k, T>,
    pub rights: Rights,
    pub badge: u64,
}
