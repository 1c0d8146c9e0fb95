//! Objects of memory: Untyped, Frame, VSpace.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use abi::ObjType;
use smp::door::{AtomicLink, KernelObject, Region, Table};
use smp::quiesce::Ticket;

use crate::header::{Header, RootId};
use crate::process::Process;

/// A physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct Phys(pub u64);

/// What a reset waits for, once everything is revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reset {
    /// Nothing: there is none, or it is not so far yet.
    No,
    /// That CPUs forget translations: a tour of a higher number than this.
    Forget(u64),
    /// That nothing refers to what was made here: a quiet period.
    Quiet(Ticket),
}

/// A range of physical memory from which objects are made. The region is used under the root lock.
#[repr(C, align(64))]
pub struct Untyped {
    pub header: Header,
    pub log2: u8,
    /// A reset is under way: nothing is carved meanwhile.
    pub resetting: AtomicBool,
    /// How far the reset has come, once everything is revoked. Under the root lock.
    pub reset: Cell<Reset>,
    region: Region,
}

// The region's marks are cells: `Untyped` is only ever opened by the holder of the root lock.
impl KernelObject for Untyped {
    const TYPE: u8 = ObjType::Untyped as u8;
}

impl Untyped {
    pub fn new(root: RootId, log2: u8, region: Region) -> Untyped {
        Untyped {
            header: Header::new(ObjType::Untyped, root),
            log2,
            resetting: AtomicBool::new(false),
            reset: Cell::new(Reset::No),
            region,
        }
    }

    /// The memory. The caller holds the lock of `header.root()`.
    pub fn region(&self) -> &Region {
        &self.region
    }
}

/// What a frame's memory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    Normal = 0,
    Device = 1,
}

/// Memory that can be mapped: 4 KiB or 2 MiB. The descriptor is carved from the top of its Untyped.
#[repr(C, align(64))]
pub struct Frame {
    pub header: Header,
    pub base: Phys,
    pub log2: u8,
    pub kind: AtomicU8,
    /// Mappings that may write, and that may execute: never both.
    pub writable: AtomicU32,
    pub executable: AtomicU32,
    /// Pinned for DMA. Nothing pins yet.
    pub pins: AtomicU32,
    /// Where it is mapped.
    pub mappings: Mappings,
}

/// A frame's mapping records.
pub type Mappings = [Mapping; FRAME_MAPPINGS];

/// Mappings that one frame can have at a time.
pub const FRAME_MAPPINGS: usize = 6;

/// One mapping of a frame. Written under the lock of the VSpace; free while `vspace` is null. When it is
/// taken away, the record stays until no CPU can hold its translation any more.
#[derive(Default)]
pub struct Mapping {
    pub vspace: AtomicLink<VSpace>,
    pub frame: AtomicLink<Frame>,
    /// Neighbours in the list of the VSpace's mappings.
    pub next: AtomicLink<Mapping>,
    pub prev: AtomicLink<Mapping>,
    /// Address; bit 0 = writable, bit 1 = executable, bit 2 = taken away.
    pub address: AtomicU64,
    /// Of one taken away: it is forgotten when a tour of a higher number than this is over.
    pub stamp: AtomicU64,
}

impl KernelObject for Frame {
    const TYPE: u8 = ObjType::Frame as u8;
}

impl Frame {
    pub fn new(root: RootId, base: Phys, log2: u8) -> Frame {
        Frame {
            header: Header::new(ObjType::Frame, root),
            base,
            log2,
            kind: AtomicU8::new(FrameKind::Normal as u8),
            writable: AtomicU32::new(0),
            executable: AtomicU32::new(0),
            pins: AtomicU32::new(0),
            mappings: Default::default(),
        }
    }
}

/// An address space: its root table and the table frames its owner gave it.
#[repr(C, align(64))]
pub struct VSpace {
    pub header: Header,
    /// What CR3 gets: root table, PCID in the low bits where the CPU has it.
    cr3: AtomicU64,
    /// The one process that lives here.
    pub process: AtomicLink<Process>,
    /// Physical base of the table pool, its length in frames, and how many are handed out.
    pub pool: Phys,
    pub pool_len: u32,
    pub pool_used: AtomicU32,
    /// All frames mapped here, and those taken away that are not forgotten yet.
    pub mappings: AtomicLink<Mapping>,
    pub going: AtomicLink<Mapping>,
    /// Of one that is destroyed: CPUs have left it when a tour of at least this number is over; 0 = not so far.
    pub leave: AtomicU64,
    /// Of the last translation that went and nobody waits for (the UTCB of a task that died, a table that made
    /// room): one more than its stamp. Nothing is mapped before all CPUs have forgotten it.
    pub stale: AtomicU64,
    /// Serialises changes of the tables.
    pub lock: spin::Mutex<()>,
    /// Bumped when a translation goes; a switch that finds another value than it saw last flushes.
    pub generation: AtomicU64,
    /// For each CPU, the generation that it last saw. Each written by its CPU.
    pub seen: Table<AtomicU64>,
}

impl KernelObject for VSpace {
    const TYPE: u8 = ObjType::VSpace as u8;
}

impl VSpace {
    pub const CR3_OFFSET: usize = core::mem::offset_of!(VSpace, cr3);
    pub const GENERATION_OFFSET: usize = core::mem::offset_of!(VSpace, generation);
    pub const SEEN_OFFSET: usize = core::mem::offset_of!(VSpace, seen) + Table::<AtomicU64>::BASE_OFFSET;

    /// `seen` has an element for each CPU.
    pub fn new(root: RootId, cr3: u64, pool: Phys, pool_len: u32, seen: Table<AtomicU64>) -> VSpace {
        VSpace {
            header: Header::new(ObjType::VSpace, root),
            cr3: AtomicU64::new(cr3),
            process: AtomicLink::null(),
            pool,
            pool_len,
            pool_used: AtomicU32::new(0),
            mappings: AtomicLink::null(),
            going: AtomicLink::null(),
            leave: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            lock: spin::Mutex::new(()),
            generation: AtomicU64::new(0),
            seen,
        }
    }

    /// What CR3 gets on a switch: root table, PCID, and with a PCID bit 63, which keeps translations.
    pub fn cr3(&self) -> u64 {
        self.cr3.load(Ordering::Relaxed)
    }
}
