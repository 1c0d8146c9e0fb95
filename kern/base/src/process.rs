//! Processes: the CSpace and the VSpace of their tasks, and their identity.

use smp::lock::Lock;
use smp::sync::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

use abi::{ObjType, ProcessKey};
use smp::cpu::Pin;
use smp::door::masked::FilledTable;
use smp::door::{AtomicLink, Table};

use crate::events::EventPool;
use crate::group::{MEMBER_KEY_SHIFT, Membership};
use crate::header::{Header, RootId};
use crate::memory::VSpace;
use crate::slot::{CNode, Slot};
use crate::task::Task;

/// One task number of a process: the task that has it, and the generation it is at.
#[derive(Default)]
pub struct TaskNumber {
    pub task: AtomicLink<Task>,
    pub generation: AtomicU16,
}

smp::zeroed! { TaskNumber { task, generation } }

/// What stands for the slots of a process that has none.
static NO_SLOT: Slot = Slot::new();

fn no_slot() -> u64 {
    core::ptr::from_ref(&NO_SLOT) as u64
}

/// A slot that a process offers for a membership, and the group or process that may use it. It
/// changes under the lock of [`Process::memberships`]. Code that reads it without the lock must
/// read it again under the lock.
#[derive(Default)]
pub struct Offer {
    slot: AtomicU32,
    from: AtomicU64,
}

/// What an offer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offered {
    /// Where the membership is accepted; 0: nowhere.
    pub slot: u32,
    /// The [identity](Header::identity) of the group that it is of, or of the process that adds.
    pub from: u64,
}

impl Offered {
    pub const NONE: Offered = Offered { slot: 0, from: 0 };
}

impl Offer {
    /// Reads the offer without a lock. The slot is written last and read first, so its receiver is
    /// that of this offer or a later one.
    pub fn get(&self) -> Offered {
        let slot = self.slot.load(Ordering::Acquire);
        Offered { slot, from: self.from.load(Ordering::Relaxed) }
    }

    pub fn set(&self, offered: Offered) {
        self.from.store(offered.from, Ordering::Relaxed);
        self.slot.store(offered.slot, Ordering::Release);
    }
}

/// A process. Its first fields are what the fastpath reads.
#[repr(C, align(64))]
pub struct Process {
    pub header: Header,
    /// [`ProcessKey`] where a member record has it.
    key_word: AtomicU64,
    /// Address and length of the CNode's slots: copies, for one load each. Length 0: not
    /// configured. Slot 0 is always there, and empty: the fastpath takes it for every number beyond
    /// the length.
    cspace_base: AtomicU64,
    cspace_len: AtomicU64,
    pub vspace: AtomicLink<VSpace>,
    pub cnode: AtomicLink<CNode>,
    /// Where events for its tasks go.
    pub pool: AtomicLink<EventPool>,
    pub vector: AtomicBool,
    /// All task numbers below this one are in use, or used up. Under the lock of
    /// [`Process::memberships`].
    pub free_number: AtomicU16,
    /// Which membership the process accepts next.
    pub offer: Offer,
    /// The handler of its tasks' faults: a [`Target`](abi::Target) in its CSpace; 0: none.
    pub fault_handler: AtomicU64,
    /// How far the killed process has parted with groups: the slot of its CSpace in the upper half,
    /// the exposure there in the lower.
    pub left: AtomicU64,
    /// How often a kill has completed that.
    pub kills: AtomicU32,
    /// Task numbers that know the label of the process, or are being told: all below this one.
    /// Under the lock of [`Process::vspace`] and [`Process::cnode`].
    pub label_told: AtomicU32,
    pub tasks: Table<TaskNumber>,
    /// The first of its memberships: a list. Lock order: a group's root, then this one.
    pub memberships: Lock<AtomicLink<Membership>>,
}

impl Process {
    /// Returns whether a capability table is one of the process's own CSpace; `table` is its
    /// header.
    pub fn has_table<'k>(&self, pin: Pin<'k>, table: &Header) -> bool {
        let tables = self.cnode.get(pin).into_iter().flat_map(|first| CNode::tables(first, pin));
        tables.into_iter().any(|own| core::ptr::eq(&raw const own.get().header, table))
    }

    pub const KEY_OFFSET: usize = core::mem::offset_of!(Process, key_word);
    pub const CSPACE_BASE_OFFSET: usize = core::mem::offset_of!(Process, cspace_base);
    pub const CSPACE_LEN_OFFSET: usize = core::mem::offset_of!(Process, cspace_len);

    pub fn new(root: RootId, key: ProcessKey, tasks: Table<TaskNumber>) -> Process {
        Process {
            header: Header::new(ObjType::Process, root),
            key_word: AtomicU64::new(key.raw() << MEMBER_KEY_SHIFT),
            cspace_base: AtomicU64::new(no_slot()),
            cspace_len: AtomicU64::new(0),
            vspace: AtomicLink::null(),
            cnode: AtomicLink::null(),
            pool: AtomicLink::null(),
            vector: AtomicBool::new(false),
            free_number: AtomicU16::new(0),
            offer: Offer::default(),
            fault_handler: AtomicU64::new(0),
            left: AtomicU64::new(0),
            kills: AtomicU32::new(0),
            label_told: AtomicU32::new(tasks.len() as u32),
            tasks,
            memberships: Lock::new(AtomicLink::null()),
        }
    }

    pub fn key(&self) -> ProcessKey {
        ProcessKey::from_raw(self.key_word() >> MEMBER_KEY_SHIFT)
    }

    /// Returns the process's key, shifted to its position in a group's member record.
    pub fn key_word(&self) -> u64 {
        self.key_word.load(Ordering::Relaxed)
    }

    /// Returns a name of the process's kill that is under way, or comes next. It is never 0.
    pub fn kill_word(&self) -> u64 {
        let number = u64::from(self.kills.load(Ordering::Relaxed));
        self.key_word() | number & ((1 << MEMBER_KEY_SHIFT) - 1)
    }

    /// Returns the address and the number of the CSpace's slots, as the fast path finds them; zeros
    /// if it finds none. For surveys.
    pub fn published_cspace(&self) -> (u64, u64) {
        match self.cspace_len.load(Ordering::Relaxed) {
            0 => (0, 0),
            len => (self.cspace_base.load(Ordering::Relaxed), len),
        }
    }

    /// Publishes the slots of the process's CSpace to the fast path.
    pub fn publish_cspace(&self, pin: Pin<'_>, slots: &FilledTable<Slot>) {
        self.cspace_base.store(slots.get_or_first(pin, 0).addr(), Ordering::Relaxed);
        self.cspace_len.store(slots.known().len() as u64, Ordering::Release);
    }

    /// Withdraws the CSpace's slots from the fast path, which then finds an empty slot for every
    /// slot number.
    pub fn withdraw_cspace(&self) {
        self.cspace_len.store(0, Ordering::Relaxed);
        self.cspace_base.store(no_slot(), Ordering::Release);
    }
}
