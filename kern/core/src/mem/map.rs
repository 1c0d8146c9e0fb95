//! Address spaces: maps, unmaps and protects the pages of frames.
//!
//! [`walk`](crate::tables::walk) finds and writes entries. [`rmap`](crate::tables::rmap) keeps for
//! each frame the list of entries that map it. [`stale`](crate::tlb::stale) knows which
//! translations CPUs may have. This module has the operations, and what happens when a frame or a
//! space ends. [`mark`](crate::tlb::mark) is the state that the operations keep while they restart.
//! [`fastpath`](super::fastpath) has fast paths for single pages. [`pool`](super::pool) has pages
//! that messages carry, and [`transfer`](super::transfer) moves them from one space to another.
//!
//! # Order of the steps
//! The kernel empties an entry first. Then, under the frame's lock, it removes the entry from the
//! frame's list and adjusts the counts. Then it makes CPUs flush the translation. Until they have
//! done so, the page is *stale* and the entry *gone*, and neither is used for another mapping. So a
//! frame is never writable on one CPU while it is executable on another, and no CPU sees an
//! address's earlier page.
//!
//! The CPU that destroys a frame or a VSpace marks it and then visits its mappings under their
//! locks. The CPU that maps checks for the mark under the same locks. One of the two sees the
//! other.

use abi::{Error, PAGE_SIZE, Rights, Target, USER_TOP, frame_rights};
use kern_base::frames::{FrameInfo, LockedFrame, WhyNot};
use kern_base::limits::{CLEAR_PARTS, LOCK_WORK, PAGE_STEPS, SEND_WORK, UNMAP_WORK};
use kern_base::machine::{Access, Machine};
use kern_base::memory::{Frame, NO_LEAF, VSpace};
use kern_base::paging::{ENTRIES, FramePte, Pte};
use kern_base::phys::{Phys, PhysPage};
use smp::door::Ref;
use smp::door::masked::mask_index;
use smp::lock::Guard;
use smp::shootdown::Stamp;
use smp::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};

use crate::rooms::Mem;
use crate::tables::walk::Spot;
use crate::tlb::mark::Mark;
use crate::work::LOOK_WORK;
use crate::{OpenTask, Refusal, Result, refuse_if};

/// Checks that user level may map a page-aligned range: one that has neither page 0 nor the last
/// page of the lower half.
pub fn check_user_range(address: u64, size: u64, align: u64) -> Result<()> {
    let end = address.checked_add(size);
    let inside = address >= PAGE_SIZE && end.is_some_and(|end| end <= USER_TOP);
    if inside && address.is_multiple_of(align) {
        Ok(())
    } else {
        Err(Refusal::new(Error::BadAddress, address))
    }
}

/// Some pages of a frame, and their present or future addresses in an address space.
#[derive(Clone, Copy)]
pub struct Run<'k> {
    pub vspace: Ref<'k, VSpace>,
    pub frame: Ref<'k, Frame>,
    pub address: u64,
    pub first: u64,
    pub count: u64,
}

/// One page of a run.
#[derive(Clone, Copy)]
pub struct Page<'k> {
    pub info: &'k FrameInfo,
    pub memory: PhysPage,
    pub address: u64,
}

/// Rights of a frame that allow to map it writable.
pub const TO_WRITE: Rights = Rights::MAP.union(frame_rights::WRITE.rights());

/// Work of a page of a dying frame, besides its mappings.
const PAGE_WORK: u64 = 4 * LOOK_WORK;

/// The levels of tables whose entries map pages.
pub const SMALL: u32 = 1;
pub const LARGE: u32 = 2;

impl<'k, M: Machine> Mem<'k, M> {
    /// Carries out [`abi::Op::Map`].
    pub fn map(self, me: OpenTask<'k>) -> Result<()> {
        let run = self.run_of(me, rights_for(me))?;
        let (access, pool) = kind_of(me, run.frame.get())?;
        let _guard = run.vspace.get().lock(self.cpu);
        if !run.vspace.get().is_plain() {
            self.may_still_map(run, access)?;
        }
        if pool {
            return self.map_pooled(me, run, access);
        }
        let form = FramePte::new(run.frame.get().log2(), access, run.frame.get().caching());
        self.each_of(me, run, true, |spot, page| {
            let was = spot.load();
            if !self.tlb().is_free(was) {
                return Err(self.make_room(me, spot, was, page.address));
            }
            let locked = page.info.lock(self.cpu);
            let counts = locked.counts.get();
            if !counts.allow(access) {
                drop(locked);
                return Err(self.refusal_of(me, page, counts.why_not(access)));
            }
            self.add_mapping(&locked, spot, form.of(page.memory), access);
            Ok(())
        })
    }

    /// Checks that mapping a run of pages is still allowed, after the lock of their space was
    /// taken: the space may be dying or have a label.
    #[cold]
    fn may_still_map(self, run: Run<'k>, access: Access) -> Result<()> {
        refuse_if(run.vspace.get().is_dying(), Error::Dying)?;
        self.security().may_map(run.vspace.get(), &run.frame.get().header, access)
    }

    /// Maps a frame's pages, and makes them pages of the pool of the space.
    #[inline(never)]
    fn map_pooled(self, me: OpenTask<'k>, run: Run<'k>, access: Access) -> Result<()> {
        self.each_of(me, run, true, |spot, page| {
            let was = spot.load();
            if !self.tlb().is_free(was) {
                return Err(self.make_room(me, spot, was, page.address));
            }
            let locked = page.info.lock(self.cpu);
            let why_not = self.why_not_pool(run.frame, &locked);
            if why_not != WhyNot::ItMay {
                drop(locked);
                return Err(self.refusal_of(me, page, why_not));
            }
            self.note_pooled(run.frame, &locked);
            self.add_mapping(&locked, spot, Pte::page(page.memory, access).pooled(), access);
            Ok(())
        })
    }

    /// Returns why a page of a frame cannot come into a pool. A device may use the pages of a
    /// pinned frame. The CPU that pins a frame counts the pin and then checks each page under its
    /// lock, so one of the two sees the other.
    pub fn why_not_pool(self, frame: Ref<'k, Frame>, locked: &LockedFrame<'_>) -> WhyNot {
        match locked.counts.get().why_not_pool() {
            WhyNot::ItMay | WhyNot::Unclean if frame.get().pins() != 0 => WhyNot::Pooled,
            why_not => why_not,
        }
    }

    #[inline(always)]
    pub fn add_mapping(self, locked: &LockedFrame<'_>, spot: Spot<'k>, entry: Pte, access: Access) {
        self.tables().link(locked, spot);
        locked.counts.set(locked.counts.get().with(access));
        spot.store(entry);
    }

    /// Notes that a page of a frame is in a pool from now on.
    pub fn note_pooled(self, frame: Ref<'k, Frame>, locked: &LockedFrame<'_>) {
        locked.set_pooled(true);
        let pooled = &self.k.pooled[frame.get().header.root().index()];
        if !pooled.load(Relaxed) {
            pooled.store(true, SeqCst);
        }
    }

    /// Carries out [`abi::Op::Unmap`].
    pub fn unmap(self, me: OpenTask<'k>) -> Result<()> {
        // After all pages are unmapped, the capabilities are not checked again: they may be gone by
        // now.
        let mark = Mark::new(me.regs.r8.get());
        if mark.only_waits() {
            return self.tlb().wait_marked(me, mark);
        }
        if me.regs.rsi.get() == 0 {
            return self.drop_pages(me, mark);
        }
        let run = self.run_of(me, Rights::MAP)?;
        let guard = run.vspace.get().lock(self.cpu);
        let mut stale = false;
        let taken = if run.count == 1 {
            self.unmap_single(run).map(|is_stale| stale = is_stale)
        } else {
            self.each_of(me, run, false, |spot, page| {
                stale |= self.take_away(spot, mapping(spot, page)?, page.info, page.address);
                Ok(())
            })
        };
        self.flush_and_wait(me, (run.vspace, guard), mark, stale, taken)
    }

    /// Unmaps the only page of a run. Returns whether CPUs may still have its translation.
    #[inline(never)]
    fn unmap_single(self, run: Run<'k>) -> Result<bool> {
        let address = run.address;
        let spot = self.spot_on(None, run, address)?;
        let memory = run.frame.get().memory(run.first).ok_or(Error::BadState)?;
        let page = Page { info: self.info(memory.at())?, memory, address };
        Ok(self.take_away(spot, mapping(spot, page)?, page.info, address))
    }

    /// Begins the shootdown of an entry of a system call, if CPUs must flush what the entry has
    /// changed, and releases the VSpace's lock. A call without further work waits. So does one with
    /// an error about a page, which is reported when the earlier pages are flushed: the call
    /// restarts with that page.
    #[inline(always)]
    pub fn flush_and_wait(
        self,
        me: OpenTask<'k>,
        (vspace, guard): (Ref<'k, VSpace>, Guard<'_, ()>),
        mark: Mark,
        stale: bool,
        outcome: Result<()>,
    ) -> Result<()> {
        let begun = stale.then(|| self.tlb().shoot_space(vspace));
        drop(guard);
        let begun = self.tlb().keep_begun(me, mark, begun);
        match outcome {
            Ok(()) => self.tlb().note_and_wait(me, begun),
            Err(Refusal::Error { .. }) => {
                begun.map_or(Ok(()), |stamp| self.tlb().wait_over(me, stamp)).and(outcome)
            }
            wait => wait,
        }
    }

    /// Carries out [`abi::Op::Protect`]. When the call restarts, it skips the pages that are
    /// already right.
    pub fn protect(self, me: OpenTask<'k>) -> Result<()> {
        if me.regs.rsi.get() == 0 {
            return self.protect_pages(me);
        }
        let run = self.run_of(me, rights_for(me))?;
        let access = access_of(me, run.frame.get())?;
        if !run.vspace.get().is_plain() {
            self.security().may_map(run.vspace.get(), &run.frame.get().header, access)?;
        }
        let guard = run.vspace.get().lock(self.cpu);
        let (mut stale, mut behind) = (false, false);
        let changed = self.each_of(me, run, false, |spot, page| {
            stale |= self.protect_page(me, spot, page, access, behind)?;
            behind |= stale && mapping(spot, page)?.access() != access;
            Ok(())
        });
        let stamp = stale.then(|| self.tlb().shoot_space(run.vspace));
        drop(guard);
        match (stamp, changed) {
            // When the pages of this entry are flushed, the call visits them again. An error, too,
            // is reported only then.
            (Some(stamp), Ok(()) | Err(Refusal::More | Refusal::Error { .. })) => {
                go_on(me, run, run.first, Refusal::More);
                self.tlb().wait_over(me, stamp).and(Err(Refusal::More))
            }
            // The call waits already.
            (Some(_), waits) => waits.map_err(|refusal| go_on(me, run, run.first, refusal)),
            (None, changed) => changed,
        }
    }

    /// Finds the objects that the arguments name: rdi = VSpace, rsi = frame, rdx = address, r9 =
    /// first page, r10 = how many. The frame's capability must have the rights.
    pub fn run_of(self, me: OpenTask<'k>, of_frame: Rights) -> Result<Run<'k>> {
        let regs = &me.regs;
        let vspace = self.caps().find::<VSpace>(me, Target(regs.rdi.get()).cap(), Rights::MAP)?.object;
        let frame = self.caps().find::<Frame>(me, Target(regs.rsi.get()).cap(), of_frame)?.object;
        let (address, first, count) = (regs.rdx.get(), regs.r9.get(), regs.r10.get());
        let (log2, pages) = (frame.get().log2(), frame.get().pages());
        let rest =
            u64::from(pages).checked_sub(first).filter(|rest| *rest > 0).ok_or(Refusal::argument(4))?;
        let first = mask_index(first as usize, pages as usize) as u64;
        let count = if count == 0 { rest } else { count };
        refuse_if(count > rest, Refusal::argument(5))?;
        check_user_range(address, count << log2, 1 << log2)?;
        Ok(Run { vspace, frame, address, first, count })
    }

    /// Applies a function to each page of a run, up to a bounded number; the rest is a system call
    /// of its own. With `make`, missing page tables are made.
    /// Requires: the VSpace's lock is held.
    #[inline(always)]
    pub fn each_of(
        self,
        me: OpenTask<'k>,
        run: Run<'k>,
        make: bool,
        mut work: impl FnMut(Spot<'k>, Page<'k>) -> Result<()>,
    ) -> Result<()> {
        let log2 = run.frame.get().log2();
        let step = if log2 == abi::PAGE_LOG2 { PAGE_SIZE } else { abi::LARGE_PAGE_SIZE };
        let end = run.first + run.count.min(PAGE_STEPS);
        let (mut number, mut address) = (run.first, run.address);
        while number < end {
            let first = self.spot_on(make.then_some(me), run, address);
            let first = first.map_err(|refusal| go_on(me, run, number, refusal))?;
            let entries = self.tables().row_from(first, (end - number) as usize);
            let (before, count) = (number, entries.len() as u64);
            let spots =
                run.frame.get().memory_beside(before, first.each_of(entries)).ok_or(Error::BadState)?;
            for (spot, memory) in spots {
                let page = Page { info: self.info(memory.at())?, memory, address };
                if let Err(refusal) = work(spot, page) {
                    let number = before + (spot.index - first.index) as u64;
                    return Err(go_on(me, run, number, refusal));
                }
                address += step;
            }
            number += count;
        }
        if number == run.first + run.count { Ok(()) } else { Err(go_on(me, run, number, Refusal::More)) }
    }

    /// Returns the entry for an address of a run. For a task that maps, missing tables are made.
    #[inline(always)]
    fn spot_on(self, maps: Option<OpenTask<'k>>, run: Run<'k>, address: u64) -> Result<Spot<'k>> {
        let make = maps.map(Some);
        match run.frame.get().log2() {
            abi::PAGE_LOG2 => self.spot_for::<SMALL>(make, run.vspace, address),
            _ => self.spot_for::<LARGE>(make, run.vspace, address),
        }
    }

    /// Returns the entry for an address. With `make`, missing tables are made.
    #[inline(always)]
    fn spot_for<const LEVEL: u32>(
        self,
        make: Option<Option<OpenTask<'k>>>,
        vspace: Ref<'k, VSpace>,
        address: u64,
    ) -> Result<Spot<'k>> {
        match (self.tables().spot::<LEVEL>(vspace, address), make) {
            (Some(spot), _) => Ok(spot),
            (None, Some(me)) => self.tables().grow(me, vspace, address, LEVEL),
            (None, None) => Err(not_mapped(address)),
        }
    }

    #[inline(always)]
    pub fn info(self, at: Phys) -> Result<&'k FrameInfo> {
        self.k.frames.get(self.pin(), at).map(Ref::get).ok_or(Error::BadState.into())
    }

    #[cold]
    pub fn refusal_of(self, me: OpenTask<'k>, page: Page<'k>, why_not: WhyNot) -> Refusal {
        match why_not {
            WhyNot::ItMay => Refusal::More,
            WhyNot::Pooled => Refusal::new(Error::InUse, page.address),
            WhyNot::Unclean => self.clean(page),
            WhyNot::Dying => Error::Dying.into(),
            WhyNot::Stale => self.tlb().settle(me, page.info).err().unwrap_or(Refusal::More),
            WhyNot::Full => Refusal::new(Error::Full, page.address),
            WhyNot::WriteExecute => Refusal::new(Error::WriteExecute, page.address),
        }
    }

    /// Clears a page that was in a pool, because no other process may see its contents. A large
    /// page is cleared in parts. Its record counts them, so a call that is given up leaves the rest
    /// to the next one. Returns the refusal that restarts the system call.
    fn clean(self, page: Page<'k>) -> Refusal {
        let locked = page.info.lock(self.cpu);
        let counts = locked.counts.get();
        if counts.why_not(Access::Read) == WhyNot::Unclean {
            let end = counts.cleared() + CLEAR_PARTS;
            page.memory.parts_in(counts.cleared()..end).for_each(|part| self.k.machine.clear(part));
            if end < page.memory.parts() {
                locked.set_cleared(end);
            } else {
                locked.set_clean();
            }
        }
        Refusal::More
    }

    /// Handles an entry that is not free where a page is to be mapped: waits for a shootdown of its
    /// earlier page, or unlinks an empty table to make room for a large page. Returns the refusal.
    #[cold]
    pub fn make_room(self, me: OpenTask<'k>, spot: Spot<'k>, was: Pte, address: u64) -> Refusal {
        if let Some(stamp) = was.shootdown() {
            return self.tlb().wait_free(Some(me), stamp);
        }
        if was.is_page(spot.level) {
            return Refusal::new(Error::Mapped, address);
        }
        match self.tables().first_taken(spot.vspace, was) {
            Err(refusal) => refusal,
            Ok(Some(entry)) => match entry.shootdown() {
                Some(stamp) => self.tlb().wait_free(Some(me), stamp),
                None => Refusal::new(Error::Mapped, address),
            },
            Ok(None) => {
                spot.vspace.get().last_leaf.store(NO_LEAF, Relaxed);
                if self.clear(spot, address) {
                    self.tlb().shoot_space(spot.vspace);
                }
                Refusal::More
            }
        }
    }

    /// Empties a page-table entry. Returns whether CPUs may still have its translation; then the
    /// caller must make them flush it.
    #[inline(always)]
    pub fn clear(self, spot: Spot<'k>, address: u64) -> bool {
        spot.store(Pte::EMPTY);
        let stale = self.tlb().forget(spot.vspace.get(), address);
        if stale {
            spot.store(Pte::gone(self.tlb().next_stamp()));
        }
        stale
    }

    /// Takes an entry out of its table and off its frame's list. Returns whether CPUs may still
    /// have its translation.
    /// Requires: the VSpace's lock is held.
    #[inline(always)]
    pub fn take_away(self, spot: Spot<'k>, entry: Pte, info: &FrameInfo, address: u64) -> bool {
        if !self.clear(spot, address) {
            self.leave_frame(spot, entry, info);
            return false;
        }
        let locked = self.leave_frame(spot, entry, info);
        self.tlb().stamp_frame(&locked);
        true
    }

    /// Takes an entry that maps nothing any more off its frame's list.
    #[inline(always)]
    fn leave_frame<'f>(self, spot: Spot<'k>, entry: Pte, info: &'f FrameInfo) -> LockedFrame<'f> {
        let locked = info.lock(self.cpu);
        self.tables().unlink(&locked, spot);
        locked.counts.set(locked.counts.get().without_entry(entry));
        locked
    }

    /// Changes the access of a page. Returns whether CPUs may still have the earlier access. The
    /// change from writable to executable, or back, takes two steps: no CPU may write any more
    /// before any CPU executes. When the access grows, a CPU with the old translation could fault.
    /// With `behind`, an earlier page of the call waits and may still be refused: then this page
    /// only loses access, and gains none before its turn.
    fn protect_page(
        self,
        me: OpenTask<'k>,
        spot: Spot<'k>,
        page: Page<'k>,
        access: Access,
        behind: bool,
    ) -> Result<bool> {
        let old = mapping(spot, page)?.access();
        self.tlb().settle(me, page.info)?;
        if old == access {
            return Ok(false);
        }
        let locked = page.info.lock(self.cpu);
        let counts = locked.counts.get().without(old);
        match counts.why_not(access) {
            WhyNot::ItMay => {}
            why_not => {
                drop(locked);
                return Err(self.refusal_of(me, page, why_not));
            }
        }
        let less = old.and(access);
        let steps = if behind { &[less][..] } else { &[less, access] };
        for &next in steps.iter().skip(usize::from(less == old)) {
            locked.counts.set(counts.with(next));
            spot.allow(next);
            if self.tlb().forget(spot.vspace.get(), page.address) {
                self.tlb().stamp_frame(&locked);
                return Ok(true);
            }
        }
        Ok(false)
    }

    // --- memory that no Frame stands for ---------------------------------------------------------

    /// Maps a page that the kernel provides: a UTCB, or a part of process 1's image.
    /// Requires: the lock is held.
    pub fn map_plain(
        self,
        me: Option<OpenTask<'k>>,
        vspace: Ref<'k, VSpace>,
        address: u64,
        page: PhysPage,
        access: Access,
    ) -> Result<()> {
        let spot = self.spot_for::<SMALL>(Some(me), vspace, address)?;
        if !self.tlb().is_free(spot.load()) {
            return Err(match spot.load().shootdown() {
                Some(stamp) => self.tlb().wait_free(me, stamp),
                None => Refusal::new(Error::Mapped, address),
            });
        }
        spot.store(Pte::page(page, access).plain());
        Ok(())
    }

    /// Unmaps `pages` pages of a UTCB or an event pool, which the kernel maps for a process, from
    /// `address` on. No task waits until CPUs have flushed them.
    /// Returns: the stamp of the shootdown, if there must be one.
    /// Requires: the lock of the space is held.
    pub fn unmap_plain(self, vspace: Ref<'k, VSpace>, address: u64, pages: u64) -> Option<Stamp> {
        let mut stale = false;
        for address in (0..pages).map(|number| address + number * PAGE_SIZE) {
            if let Some(spot) =
                self.tables().spot::<SMALL>(vspace, address).filter(|spot| spot.load().is_plain())
            {
                stale |= self.clear(spot, address);
            }
        }
        stale.then(|| self.tlb().shoot_space(vspace))
    }

    // --- what ends -------------------------------------------------------------------------------

    /// Ends a dying frame: removes all its mappings, then waits until no CPU has a translation. Its
    /// header counts the pages without mappings, and after those the pages that CPUs have flushed.
    pub fn end_frame(self, me: OpenTask<'k>, frame: Ref<'k, Frame>) -> Result<()> {
        let (header, pages) = (&frame.get().header, frame.get().pages());
        loop {
            let number = header.swept();
            if number >= pages as usize {
                return self.forget_frame(me, frame);
            }
            self.afford(PAGE_WORK)?;
            let at = frame.get().page(number as u64);
            let Some(info) = self.k.frames.get(self.pin(), at) else { return Ok(()) };
            let Some(spot) = self.tables().first_spot(info.get()) else {
                header.sweep(number);
                self.bound_work();
                continue;
            };
            self.afford(UNMAP_WORK)?;
            let _guard = spot.vspace.get().lock(self.cpu);
            let entry = spot.load();
            if entry.maps(at, spot.level)
                && self.take_away(spot, entry, info.get(), self.tables().address_of(spot))
            {
                self.tlb().shoot_space(spot.vspace);
                self.note_work(SEND_WORK * self.k.cpu_count() as u64);
            }
            self.bound_work();
        }
    }

    /// Waits until no CPU has a translation of a dying frame's pages, which have no mappings left.
    /// The last page comes first: the shootdowns of one CPU end in order, so a task that has waited
    /// for the last page rarely waits again.
    ///
    /// Each page is checked, since the stamp of one page says nothing about a page that another CPU
    /// unmapped. No CPU maps these pages any more, so a stamp stays until the page has another
    /// owner.
    fn forget_frame(self, me: OpenTask<'k>, frame: Ref<'k, Frame>) -> Result<()> {
        let (header, pages) = (&frame.get().header, frame.get().pages());
        loop {
            self.afford(PAGE_WORK)?;
            let number = header.swept();
            let Some(left) = (2 * pages as usize).checked_sub(number + 1) else { return Ok(()) };
            let at = frame.get().page(left as u64);
            let Some(info) = self.k.frames.get(self.pin(), at).map(Ref::get) else { return Ok(()) };
            self.forget_last_page(me, info)?;
            header.sweep(number);
            self.bound_work();
        }
    }

    /// Frees a page of a dying frame, once no CPU has a translation of the page. Pages in pools
    /// stay the frame's, so that they keep its label, until the last pool drops them
    /// ([`Tables::leave_pool`](crate::rooms::Tables::leave_pool)).
    fn forget_last_page(self, me: OpenTask<'k>, info: &FrameInfo) -> Result<()> {
        let locked = info.lock(self.cpu);
        if locked.counts.get().is_pooled() {
            return Ok(());
        }
        match locked.stamp().filter(|stamp| !self.tlb().is_over(*stamp)) {
            None => {
                locked.take_back();
                Ok(())
            }
            Some(stamp) => {
                drop(locked);
                self.tlb().wait_over(me, stamp).and(Err(Refusal::More))
            }
        }
    }

    /// Ends the mappings of a dying VSpace, in which no CPU maps any more: all CPUs leave it, then
    /// its frames are released. Its header counts the entries of its tables that are done.
    pub fn end_mappings(self, me: OpenTask<'k>, vspace: Ref<'k, VSpace>) -> Result<()> {
        let VSpace { ref header, ref leave, ref used, .. } = *vspace.get();
        {
            let _guard = vspace.get().lock(self.cpu);
            vspace.get().begin_dying();
            if leave.load(Relaxed) == 0 {
                leave.store(self.tlb().shoot_everything(Some(vspace)).raw(), Release);
            }
        }
        Stamp::from_raw(leave.load(Acquire)).map_or(Ok(()), |stamp| self.tlb().wait_over(me, stamp))?;
        while header.swept() < used.load(Relaxed) as usize * ENTRIES {
            self.afford(LOCK_WORK)?;
            let _guard = vspace.get().lock(self.cpu);
            header.sweep_below(self.tables().let_go(vspace, header.swept()));
            self.bound_work();
        }
        Ok(())
    }
}

/// Returns the page-table entry at `spot`, if it maps `page`.
pub fn mapping(spot: Spot<'_>, page: Page<'_>) -> Result<Pte> {
    let entry = spot.load();
    if entry.maps(page.memory.at(), spot.level) { Ok(entry) } else { Err(not_mapped(page.address)) }
}

/// Notes that the pages of a run before `number` are done, so that a restarted call continues with
/// the rest.
#[cold]
fn go_on(me: OpenTask<'_>, run: Run<'_>, number: u64, refusal: Refusal) -> Refusal {
    let (regs, done) = (&me.regs, number - run.first);
    regs.rdx.set(run.address + (done << run.frame.get().log2()));
    regs.r9.set(number);
    regs.r10.set(run.count - done);
    refusal
}

#[cold]
fn not_mapped(address: u64) -> Refusal {
    Refusal::new(Error::BadAddress, address)
}

/// Returns the rights that `Map` and `Protect` need in a frame's capability, which the running
/// call's fourth argument says. A page in a pool may become writable.
fn rights_for(me: OpenTask<'_>) -> Rights {
    if me.regs.r8.get() & (1 | abi::MAP_POOL) == 0 { Rights::MAP } else { TO_WRITE }
}

/// Decodes the fourth argument of `Map`: the access, and whether the page goes into the pool, where
/// device memory cannot go.
fn kind_of(me: OpenTask<'_>, frame: &Frame) -> Result<(Access, bool)> {
    let raw = me.regs.r8.get();
    if raw & !1 == abi::MAP_POOL && !frame.is_device() {
        return Ok((if raw & 1 == 0 { Access::Read } else { Access::Write }, true));
    }
    access_of(me, frame).map(|access| (access, false))
}

/// Decodes the access in the running call's fourth argument. Device memory cannot be executed.
fn access_of(me: OpenTask<'_>, frame: &Frame) -> Result<Access> {
    let raw = me.regs.r8.get();
    let refusal = if raw == 3 { Error::WriteExecute.into() } else { Refusal::argument(3) };
    let executes = |access: &Access| *access == Access::Execute && frame.is_device();
    Access::from_raw(raw).filter(|access| !executes(access)).ok_or(refusal)
}
