//! The frame table: what the kernel knows about every 4 KiB of memory. It is made at boot and has
//! one [`FrameInfo`] per page, so that a physical address alone leads to it.
//!
//! Device memory is not in the table, because there are far more device addresses than are ever
//! used. The infos of its pages are in the Untyped of the [`Frame`] that a process made of them.
//! The table has a list of those frames, and searches it only for pages that it does not contain
//! itself. Each page is in at most one of those frames.
//!
//! # Memory ordering
//! A frame's lock is a bit of its `state` word. Its holder may change the list of mappings, and the
//! counts, which are in the same word and are stored with the unlocking. Lock order: a VSpace's
//! lock, then a frame's; a root's, then a frame's.
//!
//! The kernel also takes that lock when the use of a page changes. A revoke looks at every page of
//! an Untyped, whatever its use, and stores back the word that it read. Without the lock, that
//! store could overwrite the word of a page that becomes part of a frame at that moment.

use core::cell::Cell;
use smp::lock::{self, Holder, Lock};
use smp::sync::{AtomicU64, Ordering};

use smp::cpu::Pin;
use smp::door::{AtomicLink, KernelObject, Ref, Table};
use smp::shootdown::Stamp;

use crate::limits::MAPPED_MAX;
use crate::machine::Access;
use crate::memory::Frame;
use crate::objects::{ObjWord, Objects, RawWord};
use crate::paging::{EntryName, Pte};
use crate::phys::Phys;
use crate::protection::Protection;

/// What is known of 4 KiB of memory; for a large frame, its first page's stands for all.
#[repr(C, align(32))]
#[derive(Default)]
pub struct FrameInfo {
    /// The lock, and how often it is mapped.
    state: AtomicU64,
    /// A frame's first entry in the list of page-table entries that map it. Under its lock.
    first: AtomicU64,
    /// What the memory is: a Frame's, or a page table of a VSpace. Changed under the lock.
    owner: ObjWord,
    /// For a page table, what it is for. For a frame, the stamp of the last shootdown of a
    /// translation of it; 0 = none that matters. Changed under the lock.
    note: AtomicU64,
}

smp::zeroed! { FrameInfo { state, first, owner, note } }

/// A CPU holds the lock, and the counts. The word then holds only the holder ([`Holder`]).
const LOCKED: u64 = lock::HELD;
/// CPUs may remember other mappings of the page than there are, until the shootdown that `note` has
/// is over.
const STALE: u64 = 1 << 1;
/// Its frame is being destroyed, and what mapped the page is gone.
const DYING: u64 = 1 << 2;
/// Spaces have it in their pools: no capability maps it.
const POOLED: u64 = 1 << 3;
/// The page was in a pool: it is cleared before it is mapped again.
const UNCLEAN: u64 = 1 << 4;
/// The memory of a pooled page is being given back, and a sweep takes the page out of its pools. It
/// can go to no other place.
const LEAVING: u64 = 1 << 5;
/// The number of parts of 4 KiB that are cleared so far, less than all, of a page that must be
/// cleared.
const CLEARED_SHIFT: u32 = 6;
const CLEARED: u64 = 0x1ff << CLEARED_SHIFT;
/// Nothing but the copy of a page was written to this large page since that copy began. The page
/// must be cleared.
const COPYING: u64 = 1 << 15;
const MAPPED_SHIFT: u32 = 16;
const WRITABLE_SHIFT: u32 = 32;
const EXECUTABLE_SHIFT: u32 = 48;
const COUNT: u64 = 0xffff;

/// How often a page is mapped at all, to be written, and to be executed; and whether it may be
/// mapped just now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts(u64);

/// For each way to map a page (by [`Access`]): what it counts, and what must not be in the way.
const ONE: [u64; 3] =
    [1 << MAPPED_SHIFT, 1 << MAPPED_SHIFT | 1 << WRITABLE_SHIFT, 1 << MAPPED_SHIFT | 1 << EXECUTABLE_SHIFT];
/// One mapping, indexed by [`Pte::access_bits`].
const ONE_BY_BITS: [u64; Pte::ACCESS_BITS] = {
    let mut ones = [ONE[Access::Execute as usize]; Pte::ACCESS_BITS];
    ones[Pte::of_access(Access::Read).access_bits()] = ONE[Access::Read as usize];
    ones[Pte::of_access(Access::Write).access_bits()] = ONE[Access::Write as usize];
    ones
};
const NOT_NOW: u64 = STALE | DYING | POOLED | UNCLEAN | MAPPED_MAX << MAPPED_SHIFT;
const IN_THE_WAY: [u64; 3] =
    [NOT_NOW, NOT_NOW | COUNT << EXECUTABLE_SHIFT, NOT_NOW | COUNT << WRITABLE_SHIFT];

impl Counts {
    pub const fn mapped(self) -> u64 {
        self.0 >> MAPPED_SHIFT & COUNT
    }

    pub const fn writable(self) -> u64 {
        self.0 >> WRITABLE_SHIFT & COUNT
    }

    pub const fn executable(self) -> u64 {
        self.0 >> EXECUTABLE_SHIFT
    }

    #[must_use]
    #[inline(always)]
    pub const fn with(self, access: Access) -> Counts {
        Counts(self.0 + ONE[access as usize])
    }

    #[must_use]
    #[inline(always)]
    pub const fn without(self, access: Access) -> Counts {
        Counts(self.0 - ONE[access as usize])
    }

    /// Returns the counts without one mapping, whose access is that of the page-table entry
    /// `entry`.
    #[must_use]
    #[inline(always)]
    pub const fn without_entry(self, entry: Pte) -> Counts {
        Counts(self.0 - ONE_BY_BITS[entry.access_bits()])
    }

    /// Returns whether the page may get one more mapping with this access now. A page never has
    /// writable and executable mappings together.
    #[inline(always)]
    pub fn allow(self, access: Access) -> bool {
        let in_the_way =
            if Protection::WriteXorExecute.is_off() { NOT_NOW } else { IN_THE_WAY[access as usize] };
        self.0 & in_the_way == 0
    }

    /// Returns the counts after the page-table entry `entry` of a pool page has become read-only.
    #[must_use]
    #[inline(always)]
    pub const fn read_only(self, entry: Pte) -> Counts {
        Counts(self.0 - ((entry.is_writable() as u64) << WRITABLE_SHIFT))
    }

    /// Returns these counts for a page of which CPUs may remember other mappings.
    #[must_use]
    #[inline(always)]
    pub const fn stale(self) -> Counts {
        Counts(self.0 | STALE)
    }

    /// Returns why the page cannot become a page of a pool: there only the pool's space may map it.
    pub fn why_not_pool(self) -> WhyNot {
        match self.why_not(Access::Read) {
            WhyNot::ItMay if self.mapped() != 0 => WhyNot::Pooled,
            why_not => why_not,
        }
    }

    pub const fn is_pooled(self) -> bool {
        self.0 & POOLED != 0
    }

    pub const fn is_dying(self) -> bool {
        self.0 & DYING != 0
    }

    pub const fn is_stale(self) -> bool {
        self.0 & STALE != 0
    }

    pub const fn is_unclean(self) -> bool {
        self.0 & UNCLEAN != 0
    }

    /// Returns how many parts of 4 KiB of a page are cleared, if the page must be cleared.
    pub const fn cleared(self) -> u64 {
        (self.0 & CLEARED) >> CLEARED_SHIFT
    }

    /// Returns whether the page is being overwritten with a copy, and may still become it.
    pub const fn is_copying(self) -> bool {
        self.0 & (UNCLEAN | COPYING | POOLED | STALE | DYING | COUNT << MAPPED_SHIFT) == UNCLEAN | COPYING
    }

    pub const fn is_leaving(self) -> bool {
        self.0 & LEAVING != 0
    }

    /// Returns whether a message may map the page, which is in pools, in one more space, wherever
    /// it comes from. One test covers all obstacles: the page leaves its pools, or has half of the
    /// most mappings, or all.
    pub const fn takes_view(self) -> bool {
        self.0 & (LEAVING | (MAPPED_MAX | (MAPPED_MAX / 2)) << MAPPED_SHIFT) == 0
    }

    /// Returns whether the page has so many mappings that it cannot be shared once more: the last
    /// half is for the space where the page first was. So those who got a view of it cannot keep
    /// it from others.
    pub const fn is_full_for(self, view: bool) -> bool {
        self.mapped() >= if view { MAPPED_MAX / 2 } else { MAPPED_MAX }
    }

    /// Returns why the page may not get another mapping with this access.
    pub fn why_not(self, access: Access) -> WhyNot {
        if self.0 & DYING != 0 {
            WhyNot::Dying
        } else if self.0 & STALE != 0 {
            WhyNot::Stale
        } else if self.0 & POOLED != 0 {
            WhyNot::Pooled
        } else if self.0 & UNCLEAN != 0 {
            WhyNot::Unclean
        } else if self.mapped() >= MAPPED_MAX {
            WhyNot::Full
        } else if !self.allow(access) {
            WhyNot::WriteExecute
        } else {
            WhyNot::ItMay
        }
    }
}

/// Why a page can't be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhyNot {
    ItMay,
    Dying,
    /// Not before CPUs have forgotten what they may remember.
    Stale,
    Full,
    WriteExecute,
    /// Pools have it.
    Pooled,
    /// Not before it is cleared.
    Unclean,
}

/// A frame whose lock is held.
pub struct LockedFrame<'a> {
    info: &'a FrameInfo,
    pub counts: Cell<Counts>,
}

impl FrameInfo {
    /// Locks the page's record, and waits until no other CPU holds it. A holder does little, and
    /// waits for nothing. The guard keeps the counts, and writes them back when it is dropped.
    #[inline(always)]
    #[track_caller]
    pub fn lock(&self, by: impl Into<Holder>) -> LockedFrame<'_> {
        let by = by.into();
        let mut state = self.state.swap(by.word(), Ordering::Acquire);
        if state & LOCKED != 0 {
            let mut turns = 0;
            while state & LOCKED != 0 {
                lock::waiting(&|| self.state.load(Ordering::Relaxed) & LOCKED == 0);
                turns += 1;
                if turns == lock::PATIENCE {
                    lock::never_free(by, state, &"what is known of a page");
                }
                // A waiting CPU names itself in the word, so the first value found there names the
                // holder.
                if self.state.load(Ordering::Relaxed) & LOCKED == 0 {
                    state = self.state.swap(by.word(), Ordering::Acquire);
                }
            }
        }
        LockedFrame { info: self, counts: Cell::new(Counts(state)) }
    }

    /// Returns the counts of a page that is in a single pool, with no operation under way; `access`
    /// is that of the only entry.
    pub const fn exclusive(access: Access) -> Counts {
        Counts(POOLED | ONE[access as usize])
    }

    /// Returns whether the page's counts are these, from [`FrameInfo::exclusive`], or those of a
    /// stale page. While the caller holds the lock of the page's space, they stay so.
    #[inline(always)]
    pub fn is(&self, exclusive: Counts) -> bool {
        self.state.load(Ordering::Relaxed) == exclusive.0
    }

    /// Replaces the only page-table entry that maps the page. Code that looks for it under the
    /// page's lock finds the old or the new entry, and then checks under the lock of that space.
    #[inline(always)]
    pub fn move_to(&self, to: EntryName) {
        self.first.store(to.0, Ordering::Relaxed);
    }

    /// Returns whether the record says nothing about the page: no count, entry, note or owner. For
    /// surveys, which look at many records.
    #[inline(always)]
    pub fn is_blank(&self) -> bool {
        let (state, first) = (self.state.load(Ordering::Relaxed), self.first.load(Ordering::Relaxed));
        state | first | self.note.load(Ordering::Relaxed) == 0 && self.owner.is_empty_below(u64::MAX)
    }

    /// Returns the page's counts, its first page-table entry, and its note, without the lock: for
    /// surveys, while nothing changes. The counts are `None` if a CPU holds the lock.
    pub fn survey(&self) -> (Option<Counts>, EntryName, u64) {
        let state = self.state.load(Ordering::Relaxed);
        let counts = if state & LOCKED == 0 { Some(Counts(state)) } else { None };
        let first = EntryName(self.first.load(Ordering::Relaxed));
        (counts, first, self.note.load(Ordering::Relaxed))
    }

    /// Returns the page's present counts, for which it takes the lock once.
    pub fn glance(&self, by: impl Into<Holder>) -> Counts {
        self.lock(by).counts.get()
    }

    /// Makes `owner`, a frame or the VSpace of a page table, the owner of the page, which is mapped
    /// nowhere.
    pub fn give<T: KernelObject<Set = Objects>>(&self, by: impl Into<Holder>, owner: Ref<'_, T>, note: u64) {
        let _locked = self.blank(by, note);
        self.owner.set(owner, 0);
    }

    /// Forgets the page's earlier use. Nothing maps the page, and it has no owner yet.
    pub fn forget_use(&self, by: impl Into<Holder>) {
        let _locked = self.blank(by, 0);
        self.owner.set_empty(0);
    }

    /// Makes `frame` the owner of a page whose earlier use is forgotten.
    #[inline(always)]
    pub fn set_owner(&self, frame: Ref<'_, Frame>) {
        self.owner.set(frame, 0);
    }

    #[inline(always)]
    fn blank(&self, by: impl Into<Holder>, note: u64) -> LockedFrame<'_> {
        let locked = self.lock(by);
        self.note.store(note, Ordering::Relaxed);
        locked.set_first(EntryName::NONE);
        locked.counts.set(Counts::default());
        locked
    }

    /// Returns the page's owner, for surveys: the read is no point at which a test switches CPUs.
    pub fn glance_owner<'k>(&self, pin: Pin<'k>) -> RawWord<'k> {
        self.owner.glance(pin)
    }

    /// Returns the page's owner: the frame that it belongs to, or the VSpace whose page table it
    /// is.
    #[inline(always)]
    pub fn owner<'k>(&self, pin: Pin<'k>) -> RawWord<'k> {
        self.owner.load(pin)
    }

    /// Returns the page's note: what a page table is for, or the stamp of a frame's last shootdown.
    #[inline(always)]
    pub fn note(&self) -> u64 {
        self.note.load(Ordering::Relaxed)
    }

    /// Returns the stamp of the last shootdown of a translation of this page.
    pub fn stamp(&self) -> Option<Stamp> {
        Stamp::from_raw(self.note.load(Ordering::Relaxed))
    }
}

impl LockedFrame<'_> {
    #[inline(always)]
    pub fn first(&self) -> EntryName {
        EntryName(self.info.first.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub fn set_first(&self, to: EntryName) {
        self.info.first.store(to.0, Ordering::Relaxed);
    }

    /// Sets the stamp of a shootdown of the page. Until that ends, CPUs may have translations of
    /// earlier mappings. `None`: no CPU has one.
    pub fn set_stamp(&self, stamp: Option<Stamp>) {
        self.info.note.store(stamp.map_or(0, Stamp::raw), Ordering::Relaxed);
        let counts = self.counts.get().0 & !STALE;
        self.counts.set(Counts(if stamp.is_some() { counts | STALE } else { counts }));
    }

    /// Marks that the page is in pools, or in none any more. In the second case the kernel clears
    /// the page before it maps it again.
    pub fn set_pooled(&self, pooled: bool) {
        let counts = self.counts.get().0 & !(POOLED | UNCLEAN | CLEARED | COPYING | LEAVING);
        self.counts.set(Counts(counts | if pooled { POOLED } else { UNCLEAN }));
    }

    /// Marks a page of pools so that it can be sent nowhere until the last pool has dropped it.
    pub fn set_leaving(&self) {
        self.counts.set(Counts(self.counts.get().0 | LEAVING));
    }

    pub fn set_clean(&self) {
        self.counts.set(Counts(self.counts.get().0 & !(UNCLEAN | CLEARED | COPYING)));
    }

    /// Notes how many parts of a large page are cleared, less than all.
    pub fn set_cleared(&self, parts: u64) {
        debug_assert!(parts <= CLEARED >> CLEARED_SHIFT, "{parts} parts of a page are cleared");
        let counts = self.counts.get().0 & !(CLEARED | COPYING);
        self.counts.set(Counts(counts | parts << CLEARED_SHIFT & CLEARED));
    }

    /// Marks that the page is being overwritten with the copy of another one. If the copy is given
    /// up, the page must be cleared.
    pub fn set_copying(&self) {
        self.counts.set(Counts(self.counts.get().0 & !CLEARED | UNCLEAN | COPYING));
    }

    /// Returns the stamp of the page's last shootdown: see [`FrameInfo::stamp`].
    pub fn stamp(&self) -> Option<Stamp> {
        self.info.stamp()
    }

    /// Takes the memory from its owner. A dying frame's pages stay dying until the memory is given
    /// again.
    pub fn take_back(&self) {
        self.info.owner.set_empty(0);
    }

    /// Marks that the page cannot be mapped any more.
    pub fn set_dying(&self) {
        self.counts.set(Counts(self.counts.get().0 | DYING));
    }
}

impl Drop for LockedFrame<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.info.state.store(self.counts.get().0, Ordering::Release);
    }
}

/// The infos of a range of memory.
pub struct FrameRange {
    first: u64,
    infos: Table<FrameInfo>,
}

impl FrameRange {
    /// Makes the range of the memory from `at` on, which is the start of a page.
    pub const fn new(at: Phys, infos: Table<FrameInfo>) -> FrameRange {
        FrameRange { first: at.0 >> abi::PAGE_LOG2, infos }
    }

    #[inline(always)]
    fn get<'k>(&self, pin: Pin<'k>, at: Phys) -> Option<Ref<'k, FrameInfo>> {
        self.infos.get(pin, (at.0 >> abi::PAGE_LOG2).wrapping_sub(self.first) as usize)
    }

    fn row<'k>(&self, pin: Pin<'k>, at: Phys, count: usize) -> Option<&'k [FrameInfo]> {
        self.infos.row(pin, (at.0 >> abi::PAGE_LOG2).wrapping_sub(self.first) as usize, count)
    }
}

/// Ranges of memory that a machine can have.
pub const RANGES_MAX: usize = 16;

/// Frames of device memory that there can be at a time.
pub const DEVICES_MAX: usize = 64;

/// All of them, and the frames of device memory.
pub struct FrameTable([FrameRange; RANGES_MAX], Devices);

struct Devices {
    /// Held while the list changes. Lock order: a root's, then this one.
    lock: Lock<()>,
    frames: [AtomicLink<Frame>; DEVICES_MAX],
}

/// What is known of the pages of the first range, where nearly all memory is.
#[derive(Clone, Copy)]
pub struct MainInfos<'k> {
    /// The first page's number.
    first: u64,
    infos: &'k [FrameInfo],
}

impl<'k> MainInfos<'k> {
    #[inline(always)]
    pub fn at(self, at: Phys) -> Option<&'k FrameInfo> {
        self.infos.get((at.0 >> abi::PAGE_LOG2).wrapping_sub(self.first) as usize)
    }
}

/// Why there can't be a frame of some device memory.
pub enum NoFrame {
    /// Another one has a part of it.
    Taken,
    /// There are [`DEVICES_MAX`].
    Full,
    /// It could not be made.
    NoMemory,
}

impl FrameTable {
    /// Makes a table of these ranges, and searches them in this order. Ranges after the first
    /// [`RANGES_MAX`] are left out.
    pub fn new(ranges: impl IntoIterator<Item = FrameRange>) -> FrameTable {
        let devices = Devices { lock: Lock::new(()), frames: [const { AtomicLink::null() }; DEVICES_MAX] };
        let mut table = FrameTable([const { FrameRange::new(Phys(0), Table::empty()) }; RANGES_MAX], devices);
        table.0.iter_mut().zip(ranges).for_each(|(to, range)| *to = range);
        table
    }

    /// Returns the record of the page at a physical address; `None` for memory that the machine
    /// does not have, and for device memory without a frame.
    #[inline(always)]
    pub fn get<'k>(&self, pin: Pin<'k>, at: Phys) -> Option<Ref<'k, FrameInfo>> {
        match self.0[0].get(pin, at) {
            Some(info) => Some(info),
            None => self.search(pin, at),
        }
    }

    /// Returns the records of `count` pages from a physical address on. They are in one range, as
    /// the memory of every Untyped is; otherwise returns none.
    pub fn row<'k>(&self, pin: Pin<'k>, at: Phys, count: usize) -> &'k [FrameInfo] {
        self.0.iter().find_map(|range| range.row(pin, at, count)).unwrap_or(&[])
    }

    /// Returns the start of each range of memory, and the records of its pages. For surveys.
    pub fn ranges<'k>(&'k self, pin: Pin<'k>) -> impl Iterator<Item = (Phys, &'k [FrameInfo])> + 'k {
        self.0.iter().filter_map(move |range| {
            let infos = range.infos.row(pin, 0, range.infos.len())?;
            Some((Phys(range.first << abi::PAGE_LOG2), infos))
        })
    }

    /// Returns the frames of device memory. For surveys.
    pub fn devices<'k>(&'k self, pin: Pin<'k>) -> impl Iterator<Item = Ref<'k, Frame>> + 'k {
        self.1.frames.iter().filter_map(move |link| link.get(pin))
    }

    /// Returns the first range, for callers that read many pages.
    #[inline(always)]
    pub fn main<'k>(&self, pin: Pin<'k>) -> MainInfos<'k> {
        let range = &self.0[0];
        let infos = range.infos.row(pin, 0, range.infos.len()).unwrap_or(&[]);
        MainInfos { first: range.first, infos }
    }

    /// Makes a frame of a range of device memory with `make`.
    /// Errors: a part of the range has a frame, the list of such frames is full, or `make` made
    /// none.
    pub fn add_device<'k>(
        &self,
        pin: Pin<'k>,
        (at, bytes): (Phys, u64),
        make: impl FnOnce() -> Option<Ref<'k, Frame>>,
    ) -> Result<(), NoFrame> {
        let _guard = self.1.lock.lock(pin, &"the frames of device memory");
        let meets =
            |link: &AtomicLink<Frame>| link.get(pin).is_some_and(|frame| frame.get().meets(at, bytes));
        if self.1.frames.iter().any(meets) {
            return Err(NoFrame::Taken);
        }
        let free = self.1.frames.iter().find(|link| link.is_null()).ok_or(NoFrame::Full)?;
        free.set(Some(make().ok_or(NoFrame::NoMemory)?));
        Ok(())
    }

    /// Removes a frame of device memory.
    /// Requires: it has no mapping, and no CPU has a translation of it.
    pub fn remove_device(&self, pin: Pin<'_>, frame: Ref<'_, Frame>) {
        let _guard = self.1.lock.lock(pin, &"the frames of device memory");
        if let Some(link) = self.1.frames.iter().find(|link| link.is(frame)) {
            link.set(None);
        }
    }

    #[cold]
    fn search<'k>(&self, pin: Pin<'k>, at: Phys) -> Option<Ref<'k, FrameInfo>> {
        let of_device = |link: &AtomicLink<Frame>| link.get(pin)?.get().info(pin, at);
        let of_memory = self.0.iter().find_map(|range| range.get(pin, at));
        of_memory.or_else(|| self.1.frames.iter().find_map(of_device))
    }
}

const _: () = assert!(size_of::<FrameInfo>() == 32);
