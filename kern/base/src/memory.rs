//! Objects of memory: Untyped, Frame, VSpace.

use core::cell::Cell;
use smp::lock::{Guard, Holder, LeftGuard, LeftLock, Lock};
use smp::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use abi::ObjType;
use smp::cpu::{CpuId, Pin};
use smp::cpuset::AtomicCpuSet;
use smp::door::{AtomicLink, Cleared, Ref, Region, Table};
use smp::planted::{Fault, planted};
use smp::shootdown::Stamp;

use crate::frames::FrameInfo;
use crate::header::{Header, RootId};
use crate::machine::Machine;
use crate::paging::{Caching, Entry, EntryName, Links, TABLE_BYTES};
use crate::pcids::PcidShare;
use crate::phys::{Phys, PhysPage, PhysRange};
use crate::process::Process;
use crate::slot::CNode;
use crate::sweep::{Pass, Sweep};

/// What a reset waits for, once everything is revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reset {
    /// Nothing: there is none, or it is not so far yet.
    No,
    /// That no pool has a page of the memory: a pass that began when everything was revoked.
    Sweep(Pass),
    /// That CPUs forget everything.
    Forget(Stamp),
    /// That nothing refers to what was made here: the region's quiet period.
    Quiet,
}

/// A range of physical memory from which objects are made.
///
/// # Its lock
/// What is carved, and how far a reset and a sweep are, changes under the Untyped's own lock. A CPU
/// that also needs the root's lock takes it later: so memory is cleared while nobody waits who has
/// to do with other Untypeds.
#[repr(C, align(64))]
pub struct Untyped {
    pub header: Header,
    pub log2: u8,
    /// A reset is under way: nothing is carved meanwhile.
    pub resetting: AtomicBool,
    /// CNodes that could not be emptied were tried again, by the reset that is under way.
    pub retried: AtomicBool,
    /// The number of the pass over its CNodes without capabilities. Written under the root lock, as
    /// are the next two.
    pub pass: AtomicU32,
    /// The Untyped that it was made of; null: a boot Untyped.
    pub made_of: AtomicLink<Untyped>,
    /// The first of the CNodes without capabilities that were made of it, or of an Untyped that was
    /// made of it and has ended: a ring.
    pub zombies: AtomicLink<CNode>,
    /// PCIDs for address spaces and Untypeds that are made of it.
    pub pcids: PcidShare,
    /// Where the memory is, and its bytes.
    base: u64,
    size: u64,
    inside: LeftLock<Inside>,
}

/// What changes in an Untyped, while its lock is held. A look that outlives the lock does not
/// compile:
/// ```
/// # use kern_base::memory::UntypedGuard;
/// fn free(untyped: UntypedGuard<'_>) -> u64 {
///     let free = untyped.region.free();
///     drop(untyped);
///     free
/// }
/// ```
/// ```compile_fail,E0505
/// # use kern_base::memory::UntypedGuard;
/// fn free(untyped: UntypedGuard<'_>) -> u64 {
///     let region = &untyped.region;
///     drop(untyped);
///     region.free()
/// }
/// ```
pub type UntypedGuard<'a> = LeftGuard<'a, Inside>;

/// The state of an Untyped that its lock guards.
pub struct Inside {
    /// How far the reset has come, once everything is revoked.
    pub reset: Cell<Reset>,
    /// How its pages leave pools.
    pub sweep: Sweep,
    /// The memory, and how much of it is carved.
    pub region: Region,
}

impl Untyped {
    /// Makes an Untyped of the memory of `region`, which descends from the root `root`.
    pub fn new(root: RootId, log2: u8, region: Region, pcids: PcidShare) -> Untyped {
        let (base, size) = (region.base(), region.size());
        let inside = Inside { reset: Cell::new(Reset::No), sweep: Sweep::default(), region };
        Untyped {
            header: Header::new(ObjType::Untyped, root),
            log2,
            resetting: AtomicBool::new(false),
            retried: AtomicBool::new(false),
            pass: AtomicU32::new(0),
            made_of: AtomicLink::null(),
            zombies: AtomicLink::null(),
            pcids,
            base,
            size,
            inside: LeftLock::with_exit(inside),
        }
    }

    /// Returns the address of the memory. It never changes, so no lock is needed.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Returns the number of bytes of the memory. It never changes, so no lock is needed.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether an address lies in the memory.
    pub fn contains(&self, at: u64) -> bool {
        at >= self.base() && at - self.base() < self.size()
    }

    /// Takes the Untyped's lock. Requires: this CPU does not hold the root's.
    #[inline(always)]
    #[track_caller]
    pub fn lock(&self, by: impl Into<Holder>) -> UntypedGuard<'_> {
        self.inside.lock(by, &self.header)
    }

    /// Takes the lock as [`Untyped::lock`] does, but leaves the line when `leaves` says so
    /// ([`LeftLock::lock_or_leave`]).
    #[inline(always)]
    pub fn lock_or_leave(
        &self,
        by: impl Into<Holder>,
        leaves: impl Fn(u64) -> bool,
    ) -> Option<UntypedGuard<'_>> {
        self.inside.lock_or_leave(by, &self.header, leaves)
    }

    /// Returns the Untyped's changing state, for code that knows that no CPU changes anything.
    pub const fn inside(&self) -> &LeftLock<Inside> {
        &self.inside
    }
}

/// Memory that can be mapped: one page of 2 MiB, or a run of pages of 4 KiB. The descriptor is at
/// the top of its Untyped. The [frame table](crate::frames) records the mappings of its pages; for
/// device memory the records follow the descriptor.
#[repr(C, align(64))]
pub struct Frame {
    pub header: Header,
    memory: PhysRange,
    /// The logarithm of one page's size.
    log2: u8,
    pages: u32,
    caching: Caching,
    /// How often it is pinned for DMA. Changed under the root lock.
    pins: AtomicU32,
    /// What is known of its pages, where that is not in the frame table: of device memory.
    infos: Table<FrameInfo>,
    /// The address of the VSpace in which a copy was begun to the frame's page, which is large.
    /// Written under the page's lock.
    pub copied_in: AtomicU64,
}

impl Frame {
    pub fn new(root: RootId, memory: PhysRange, log2: u8) -> Frame {
        Frame {
            header: Header::new(ObjType::Frame, root),
            memory,
            log2,
            pages: (memory.bytes() >> log2) as u32,
            caching: Caching::WriteBack,
            pins: AtomicU32::new(0),
            infos: Table::empty(),
            copied_in: AtomicU64::new(0),
        }
    }

    /// Makes a frame of device memory whose pages have `1 << log2` bytes; `infos` has an element
    /// per page.
    pub fn of_device(
        root: RootId,
        memory: PhysRange,
        log2: u8,
        caching: Caching,
        infos: Table<FrameInfo>,
    ) -> Frame {
        Frame { infos, caching, ..Frame::new(root, memory, log2) }
    }

    pub const fn base(&self) -> Phys {
        self.memory.base()
    }

    /// Returns the size of a page, as a base-2 logarithm.
    pub const fn log2(&self) -> u8 {
        self.log2
    }

    pub const fn pages(&self) -> u32 {
        self.pages
    }

    /// Pairs each item with a page of the frame, from the page `first` on. Returns `None` if the
    /// frame has fewer pages.
    /// Requires: the iterator has as many items as its length says.
    #[inline(always)]
    pub fn memory_beside<T>(
        &self,
        first: u64,
        items: impl ExactSizeIterator<Item = T>,
    ) -> Option<impl Iterator<Item = (T, PhysPage)>> {
        // `pages` says what the memory's bytes say.
        let rest = u64::from(self.pages).checked_sub(first)?;
        if items.len() as u64 > rest {
            return None;
        }
        let (log2, mut next) = (self.log2, self.base().0 + (first << self.log2));
        Some(items.map(move |item| {
            let at = Phys(next);
            next += 1 << log2;
            (item, PhysPage::trusted(at, log2))
        }))
    }

    /// Returns the memory of the frame's page `number`, if the frame has that many pages.
    #[inline(always)]
    pub fn memory(&self, number: u64) -> Option<PhysPage> {
        // `pages` says what the memory's bytes say.
        let is_there = number < u64::from(self.pages);
        is_there.then(|| PhysPage::trusted(Phys(self.base().0 + (number << self.log2)), self.log2))
    }

    /// Returns how its pages are mapped.
    pub const fn caching(&self) -> Caching {
        self.caching
    }

    pub fn is_device(&self) -> bool {
        !self.infos.is_empty()
    }

    /// Returns the record of the frame's page at a physical address. Only frames of device memory
    /// have the records of their pages themselves.
    pub fn info<'k>(&self, pin: Pin<'k>, at: Phys) -> Option<Ref<'k, FrameInfo>> {
        self.infos.get(pin, (at.0.checked_sub(self.base().0)? >> self.log2) as usize)
    }

    /// Returns whether a part of the frame's memory is in the range of `bytes` at `at`.
    pub fn meets(&self, at: Phys, bytes: u64) -> bool {
        let end = self.base().0 + self.memory.bytes();
        at.0 < end && self.base().0 < at.0.saturating_add(bytes)
    }

    pub fn pins(&self) -> u32 {
        self.pins.load(Ordering::Relaxed)
    }

    /// Pins the frame. Returns how often the frame is pinned now.
    /// Requires: the root lock is held.
    pub fn pin(&self) -> Option<u32> {
        let pins = self.pins().checked_add(1)?;
        self.pins.store(pins, Ordering::Relaxed);
        Some(pins)
    }

    /// Unpins the frame once. Returns how often it is still pinned; `None` if it was not pinned.
    /// Requires: the root lock is held.
    pub fn unpin(&self) -> Option<u32> {
        let pins = self.pins().checked_sub(1)?;
        self.pins.store(pins, Ordering::Relaxed);
        Some(pins)
    }

    pub fn unpin_all(&self) {
        self.pins.store(0, Ordering::Relaxed);
    }

    /// Returns the address of the frame's page `number`.
    pub const fn page(&self, number: u64) -> Phys {
        Phys(self.base().0 + (number << self.log2))
    }
}

/// An address space: its root table and the table frames its owner gave it.
#[repr(C, align(64))]
pub struct VSpace {
    pub header: Header,
    /// What CR3 gets: root table, PCID in the low bits if it has one.
    cr3: AtomicU64,
    /// The Untyped from whose share its PCID is; null: it has none, or is process 1's.
    pub pcid_of: AtomicLink<Untyped>,
    /// The one process that lives here.
    pub process: AtomicLink<Process>,
    /// The entries of all its page tables, one table after the other, the root first; the links of
    /// each entry; the address of the first table, and how many tables are in use.
    pub entries: Table<Entry>,
    pub links: Table<Links>,
    tables: PhysRange,
    pub used: AtomicU32,
    /// The shootdown after which CPUs have left a destroyed VSpace; 0 = not begun. Set under the
    /// lock.
    pub leave: AtomicU64,
    /// What Map has to look at: [`SPACE_DYING`], [`SPACE_LABELLED`].
    state: AtomicU8,
    /// Serialises changes of the tables.
    lock: Lock<()>,
    /// Bumped when a translation goes; a switch that finds another value than it saw last flushes.
    pub generation: AtomicU64,
    /// For each CPU, the generation that it last saw. Each written by its CPU.
    pub seen: Table<AtomicU64>,
    /// Only CPUs where a task of its process has, or had, its home can remember translations of it.
    pub homes: AtomicCpuSet,
    /// One more than the only such CPU; 0: there is none; [`MANY`]: several. Under the lock.
    home: AtomicU32,
    /// For the walk of the tables: the last page table that was used. Under the lock.
    pub last_leaf: AtomicU64,
    /// The copy of a large page that was begun last. Under the lock.
    pub copy: Copying,
}

/// How far the copy of a large page is, which takes several entries. All fields are written under
/// the lock of the space.
#[derive(Default)]
pub struct Copying {
    /// The name of the page-table entry whose page is copied; none: no copy has begun.
    from: AtomicU64,
    /// The page that becomes the copy.
    to: AtomicU64,
    /// Parts of 4 KiB that are copied.
    parts: AtomicU64,
}

impl Copying {
    /// Begins a copy, and forgets the one before.
    pub fn begin(&self, from: EntryName, to: Phys) {
        self.from.store(from.0, Ordering::Relaxed);
        self.to.store(to.0, Ordering::Relaxed);
        self.parts.store(0, Ordering::Relaxed);
    }

    /// Returns where the copy comes from, what page it goes to, and how many parts are copied.
    pub fn get(&self) -> (EntryName, Phys, u64) {
        let [from, to, parts] = [&self.from, &self.to, &self.parts].map(|word| word.load(Ordering::Relaxed));
        (EntryName(from), Phys(to), parts)
    }

    pub fn set_parts(&self, parts: u64) {
        self.parts.store(parts, Ordering::Relaxed);
    }
}

/// In [`VSpace`]'s `state`: it is being destroyed; nothing is mapped any more.
const SPACE_DYING: u8 = 1 << 0;
/// It has a security label: what is mapped there is checked.
const SPACE_LABELLED: u8 = 1 << 1;
/// In [`VSpace`]'s `last_leaf`: none.
pub const NO_LEAF: u64 = u64::MAX;
/// In [`VSpace`]'s `home`.
const MANY: u32 = u32::MAX;

impl VSpace {
    pub const CR3_OFFSET: usize = core::mem::offset_of!(VSpace, cr3);
    pub const GENERATION_OFFSET: usize = core::mem::offset_of!(VSpace, generation);
    pub const SEEN_OFFSET: usize = core::mem::offset_of!(VSpace, seen) + Table::<AtomicU64>::BASE_OFFSET;

    /// Makes a VSpace whose tables, with their links, fill a piece of memory that starts with a
    /// page. `seen` has an element for each CPU.
    #[inline(never)]
    pub fn new(
        root: RootId,
        machine: &impl Machine,
        pin: Pin<'_>,
        mut piece: Cleared,
        seen: Table<AtomicU64>,
    ) -> Option<VSpace> {
        let tables = piece.split(piece.size() / TABLE_BYTES * abi::PAGE_SIZE)?;
        let memory = PhysRange::trusted(machine.phys(tables.base()), tables.size());
        let entries = tables.into_table::<Entry>()?;
        let links = piece.into_table()?;
        let cr3 = machine.init_root_table(memory.base(), &mut |index, entry| {
            if let Some(slot) = entries.get(pin, index) {
                slot.get().store(entry);
            }
        });
        Some(VSpace {
            header: Header::new(ObjType::VSpace, root),
            cr3: AtomicU64::new(cr3),
            pcid_of: AtomicLink::null(),
            process: AtomicLink::null(),
            entries,
            links,
            tables: memory,
            used: AtomicU32::new(1),
            leave: AtomicU64::new(0),
            state: AtomicU8::new(0),
            lock: Lock::new(()),
            generation: AtomicU64::new(0),
            seen,
            homes: AtomicCpuSet::default(),
            home: AtomicU32::new(0),
            last_leaf: AtomicU64::new(NO_LEAF),
            copy: Copying::default(),
        })
    }

    /// Gives a new address space a PCID, if the machine has one. It is that of the share of an
    /// Untyped, or of process 1.
    pub fn take_pcid(&self, machine: &impl Machine, of: Option<Ref<'_, Untyped>>) {
        self.cr3.fetch_or(machine.take_pcid(), Ordering::Relaxed);
        self.pcid_of.set(of);
    }

    /// Locks the page tables: only a holder of the guard changes them.
    #[track_caller]
    pub fn lock(&self, by: impl Into<Holder>) -> Guard<'_, ()> {
        self.lock.lock(by, &self.header)
    }

    /// Returns whether a CPU holds the lock of the page tables now: for surveys.
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// Whether a mapping needs no further checks: the space is not dying, and has no label.
    pub fn is_plain(&self) -> bool {
        self.state.load(Ordering::Relaxed) == 0
    }

    pub fn is_dying(&self) -> bool {
        self.state.load(Ordering::Relaxed) & SPACE_DYING != 0
    }

    /// Marks that the space is being destroyed.
    /// Requires: the lock of its page tables is held.
    pub fn begin_dying(&self) {
        self.state.fetch_or(SPACE_DYING, Ordering::Release);
    }

    /// Notes whether the space's header has a security label.
    pub fn set_labelled(&self, labelled: bool) {
        if labelled {
            self.state.fetch_or(SPACE_LABELLED, Ordering::Release);
        } else {
            self.state.fetch_and(!SPACE_LABELLED, Ordering::Release);
        }
    }

    /// Adds a CPU as a home of its process's tasks, before the task runs.
    /// Requires: the lock is held.
    pub fn add_home(&self, cpu: CpuId) {
        self.homes.insert(cpu);
        let (old, new) = (self.home.load(Ordering::Relaxed), cpu.index() as u32 + 1);
        self.home.store(if old == 0 || old == new { new } else { MANY }, Ordering::Relaxed);
    }

    /// Returns whether no CPU except `cpu` can have translations of this space.
    #[inline(always)]
    pub fn is_alone(&self, cpu: CpuId) -> bool {
        let home = self.home.load(Ordering::Relaxed);
        home == cpu.index() as u32 + 1 || home == 0
    }

    /// Notes that this CPU has no translations of the space older than `generation` any more.
    /// Returns whether it may have had some.
    #[inline(always)]
    pub fn see(&self, pin: Pin<'_>, generation: u64) -> bool {
        let Some(seen) = self.seen.get(pin, pin.cpu().index()) else { return true };
        let moved = seen.get().load(Ordering::Relaxed) != generation;
        if moved {
            seen.get().store(generation, Ordering::Relaxed);
        }
        moved
    }

    /// Returns whether the space has changed since this CPU loaded it last, so that the
    /// translations that the CPU has kept may be stale. The CPU has just loaded the space.
    pub fn has_changed(&self, pin: Pin<'_>) -> bool {
        !planted(Fault::MissingPcidFlush) && self.see(pin, self.generation.load(Ordering::Acquire))
    }

    /// Returns the address of the space's first page table, the root table.
    pub const fn base(&self) -> Phys {
        self.tables.base()
    }

    /// Returns the memory of the space's page table `number`, if there is one.
    pub fn table(&self, number: usize) -> Option<PhysPage> {
        self.tables.page(number as u64, abi::PAGE_LOG2)
    }

    /// Returns the address of the space's page table `number`.
    pub const fn place_of(&self, number: usize) -> Phys {
        Phys(self.base().0 + ((number as u64) << abi::PAGE_LOG2))
    }

    /// Returns the index in the space of the page-table entry that is stored at a physical address.
    pub const fn index_at(&self, at: u64) -> usize {
        at.wrapping_sub(self.base().0) as usize / size_of::<Entry>()
    }

    /// Returns the name of the space's page-table entry at an index.
    pub const fn name_of(&self, index: usize) -> EntryName {
        EntryName(self.base().0 + (index * size_of::<Entry>()) as u64)
    }

    /// Returns the value that loads the space into CR3: root table, PCID, and with a PCID bit 63,
    /// which keeps translations.
    pub fn cr3(&self) -> u64 {
        self.cr3.load(Ordering::Relaxed)
    }
}
