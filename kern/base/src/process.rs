//! Processes: the CSpace and the VSpace of their tasks, and their identity.

use smp::lock::Lock;
use smp::sync::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

use abi::ObjType;
use smp::cpu::Pin;
use smp::door::masked::FilledTable;
use smp::door::{AtomicLink, Piece, Ref, Table};

use crate::events::EventPool;
use crate::group::{MEMBER_KEY_SHIFT, Membership};
use crate::header::{Header, RootId};
use crate::memory::VSpace;
use crate::slot::{CNode, Slot};
use crate::task::Task;

/// A process's key: the number by which member records name it.
///
/// The key is the process's place in memory, in units of [`PROCESS_ALIGN`] bytes. So keys need no
/// table and no memory of the kernel, and no program can use up the keys of others. A process that
/// is made at the place of an earlier one has the key of the earlier one. That is safe because
/// nothing names the earlier process any more:
///
/// * its end takes it out of all groups, before its last capability goes;
/// * the memory is used again only after a quiet period, so the kernel entries that had read one of
///   its records have ended;
/// * what may outlive a process names it by its [identity](Header::identity), never by its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct ProcessKey(u64);

/// Alignment of a process in memory.
pub const PROCESS_ALIGN: u64 = 256;

impl ProcessKey {
    pub const BITS: u32 = 38;

    /// Bits of an address that a key distinguishes: all bits of an address of RAM.
    pub const PLACE_BITS: u32 = Self::BITS + PROCESS_ALIGN.ilog2();

    /// Returns the key of the process at an address.
    const fn of_place(addr: u64) -> ProcessKey {
        ProcessKey::from_raw(addr / PROCESS_ALIGN)
    }

    /// Returns the key that a number says.
    pub const fn from_raw(raw: u64) -> ProcessKey {
        ProcessKey(raw & ((1 << Self::BITS) - 1))
    }

    pub const fn raw(self) -> u64 {
        self.0
    }
}

/// One task number of a process: the task that has it.
#[derive(Default)]
pub struct TaskNumber {
    pub task: AtomicLink<Task>,
}

smp::zeroed! { TaskNumber { task } }

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

/// A name of a kill's look at all groups: the [identity](Header::identity) of the process, and how
/// often looks at its groups had begun.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KillName {
    process: u64,
    number: u64,
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
    /// The pool that is mapped in its address space, wholly or in part.
    pub placed_pool: AtomicLink<EventPool>,
    pub vector: AtomicBool,
    /// All task numbers below this one are in use. Under the lock of [`Process::memberships`].
    pub free_number: AtomicU16,
    /// Which membership the process accepts next.
    pub offer: Offer,
    /// The handler of its tasks' faults: a [`Target`](abi::Target) in its CSpace; 0: none.
    pub fault_handler: AtomicU64,
    /// How far the killed process has parted with groups: the slot of its CSpace in the upper half,
    /// the exposure there in the lower.
    pub left: AtomicU64,
    /// How often a kill has begun with the first slot.
    pub kills: AtomicU64,
    /// Task numbers that know the label of the process, or are being told: all below this one.
    /// Under the lock of [`Process::vspace`] and [`Process::cnode`].
    pub label_told: AtomicU32,
    pub tasks: Table<TaskNumber>,
    /// The first of its memberships: a list. Lock order: a group's root, then this one.
    pub memberships: Lock<AtomicLink<Membership>>,
    /// Its neighbours in the list of its root's processes. Under the root lock.
    pub next: AtomicLink<Process>,
    pub prev: AtomicLink<Process>,
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

    /// Makes a process in a piece of memory, which is aligned to [`PROCESS_ALIGN`].
    #[inline(always)]
    pub fn make<'k>(
        piece: Piece,
        pin: Pin<'k>,
        root: RootId,
        tasks: Table<TaskNumber>,
    ) -> Option<Ref<'k, Process>> {
        let process = piece.emplace(pin, Process::new(root, tasks))?;
        let key = ProcessKey::of_place(process.addr());
        process.get().key_word.store(key.raw() << MEMBER_KEY_SHIFT, Ordering::Relaxed);
        Some(process)
    }

    fn new(root: RootId, tasks: Table<TaskNumber>) -> Process {
        Process {
            header: Header::new(ObjType::Process, root),
            key_word: AtomicU64::new(0),
            cspace_base: AtomicU64::new(no_slot()),
            cspace_len: AtomicU64::new(0),
            vspace: AtomicLink::null(),
            cnode: AtomicLink::null(),
            pool: AtomicLink::null(),
            placed_pool: AtomicLink::null(),
            vector: AtomicBool::new(false),
            free_number: AtomicU16::new(0),
            offer: Offer::default(),
            fault_handler: AtomicU64::new(0),
            left: AtomicU64::new(0),
            kills: AtomicU64::new(0),
            label_told: AtomicU32::new(tasks.len() as u32),
            tasks,
            memberships: Lock::new(AtomicLink::null()),
            next: AtomicLink::null(),
            prev: AtomicLink::null(),
        }
    }

    pub fn key(&self) -> ProcessKey {
        ProcessKey::from_raw(self.key_word() >> MEMBER_KEY_SHIFT)
    }

    /// Returns the process's key, shifted to its position in a group's member record.
    pub fn key_word(&self) -> u64 {
        self.key_word.load(Ordering::Relaxed)
    }

    /// Returns the name of the process's kill that is under way, or comes next. No other kill has
    /// that name.
    pub fn kill(&self) -> KillName {
        KillName { process: self.header.identity(), number: self.kills.load(Ordering::Relaxed) }
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
