//! Pages of the pool: the pages of a space that messages can carry.
//!
//! `Map` puts a Frame's page into a pool, if the page is not mapped. From then on no capability can
//! map the page, only pools. Either one pool has it, or several pools have it read-only. When the
//! last pool drops the page, the Frame's capability can map it again, and the kernel clears it
//! before that.
//!
//! If the Frame's last capability is deleted meanwhile, its pages stay in their pools. A revoke or
//! reset of the Untyped takes them out ([`kern_base::sweep`]).

use abi::{Error, PAGE_SIZE, PageMode, PageRange, Rights, Target};
use kern_base::frames::{FrameInfo, WhyNot};
use kern_base::limits::{LOCK_WORK, PAGE_STEPS, POOL_PAGE_WORK, SEND_WORK, SHARED_PAGE_WORK, UNMAP_WORK};
use kern_base::machine::{Access, Machine};
use kern_base::memory::{Frame, Untyped, VSpace};
use kern_base::objects::header_of;
use kern_base::paging::Pte;
use kern_base::phys::{Phys, PhysPage};
use kern_base::sweep::Pass;
use smp::door::Ref;
use smp::door::masked::mask_index;
use smp::shootdown::Stamp;
use smp::sync::Ordering::Relaxed;

use super::map::{LARGE, Page, SMALL, TO_WRITE, check_user_range};
use crate::args::Args;
use crate::rooms::Mem;
use crate::tables::walk::Spot;
use crate::tlb::mark::Mark;
use crate::work::LOOK_WORK;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// Returns the refusal for a page that does not exist.
pub fn no_page(address: u64) -> Refusal {
    Refusal::new(Error::NoPage, address)
}

impl<'k, M: Machine> Mem<'k, M> {
    /// Decodes a system call's arguments that name pages of a pool: rdi = VSpace, rdx = address, r9
    /// = 1 for pages of 2 MiB, r10 = how many.
    fn pool_run(self, me: OpenTask<'k>) -> Result<(Ref<'k, VSpace>, PageRange)> {
        let regs = &me.regs;
        let vspace = self.caps().find::<VSpace>(me, Target(regs.rdi.get()).cap(), Rights::MAP)?.object;
        let (address, size, count) = (regs.rdx.get(), regs.r9.get(), regs.r10.get());
        let large = match size {
            0 => false,
            1 => true,
            _ => return Err(Refusal::argument(4)),
        };
        refuse_if(count == 0 || count > abi::USER_TOP / PAGE_SIZE, Refusal::argument(5))?;
        let range = PageRange { address, count, large, mode: PageMode::Move };
        check_user_range(address, range.bytes(), range.page_size())?;
        Ok((vspace, range))
    }

    /// Returns the entry for a page of a space.
    #[inline(always)]
    pub fn spot_of(self, vspace: Ref<'k, VSpace>, address: u64, large: bool) -> Option<Spot<'k>> {
        if large {
            return self.tables().spot::<LARGE>(vspace, address);
        }
        self.tables().spot::<SMALL>(vspace, address)
    }

    /// Applies a function to each page of a run, as far as the entry's work suffices and up to a
    /// bounded number; the rest is a system call of its own. `work` returns whether CPUs may still
    /// have the earlier translation: they must flush it.
    fn each_pooled(
        self,
        me: OpenTask<'k>,
        (vspace, range): (Ref<'k, VSpace>, PageRange),
        mark: Mark,
        mut work: impl FnMut(Spot<'k>, Pte, &'k FrameInfo, u64) -> Result<bool>,
    ) -> Result<()> {
        self.begin_work();
        let guard = vspace.get().lock(self.cpu);
        let mut stale = false;
        let outcome = (0..range.count.min(PAGE_STEPS)).try_for_each(|number| {
            self.afford(POOL_PAGE_WORK)?;
            let address = range.address + number * range.page_size();
            let (spot, entry, info) = self.pooled_at(vspace, address, range.large)?;
            stale |= work(spot, entry, info, address)?;
            me.regs.rdx.set(address + range.page_size());
            me.regs.r10.set(range.count - number - 1);
            Ok(())
        });
        let rest = if range.count > PAGE_STEPS { Err(Refusal::More) } else { Ok(()) };
        self.flush_and_wait(me, (vspace, guard), mark, stale, outcome.and(rest))
    }

    fn pooled_at(
        self,
        vspace: Ref<'k, VSpace>,
        address: u64,
        large: bool,
    ) -> Result<(Spot<'k>, Pte, &'k FrameInfo)> {
        let spot = self.spot_of(vspace, address, large).ok_or(no_page(address))?;
        let entry = spot.load();
        refuse_if(!entry.is_pooled(), no_page(address))?;
        Ok((spot, entry, self.info(entry.at())?))
    }

    /// Carries out `Unmap` of pages of the pool.
    pub fn drop_pages(self, me: OpenTask<'k>, mark: Mark) -> Result<()> {
        let run = self.pool_run(me)?;
        self.each_pooled(me, run, mark, |spot, entry, info, address| {
            Ok(self.drop_pooled(spot, entry, info, address))
        })
    }

    /// Takes a page out of a space's pool. Returns whether CPUs may still have its translation.
    /// Requires: the VSpace's lock is held.
    fn drop_pooled(self, spot: Spot<'k>, entry: Pte, info: &FrameInfo, address: u64) -> bool {
        let (access, stale, lent) = if entry.is_present() {
            (entry.pool_access(), self.clear(spot, address), false)
        } else {
            let remembered = info.stamp().filter(|stamp| !self.tlb().is_over(*stamp));
            spot.store(remembered.map_or(Pte::EMPTY, Pte::gone));
            (entry.pool_access(), false, remembered.is_some())
        };
        let locked = info.lock(self.cpu);
        if locked.counts.get().mapped() > 1 {
            self.note_work(SHARED_PAGE_WORK);
        }
        self.tables().unlink(&locked, spot);
        self.tables().leave_pool(info, &locked, access);
        if stale {
            self.tlb().stamp_frame(&locked);
        }
        // A shootdown of a lent page may be under way, for which another task waits.
        stale || lent
    }

    /// Carries out `Protect` of pages of the pool. Pages in transit come back.
    pub fn protect_pages(self, me: OpenTask<'k>) -> Result<()> {
        let mark = Mark::new(me.regs.r8.get());
        if mark.only_waits() {
            return self.tlb().wait_marked(me, mark);
        }
        let run = self.pool_run(me)?;
        let access = match mark.given() {
            0 => Access::Read,
            1 => Access::Write,
            2 | 3 => return Err(Error::WriteExecute.into()),
            _ => return Err(Refusal::argument(3)),
        };
        self.each_pooled(me, run, mark, |spot, entry, info, address| {
            // CPUs may have the translation of a returned page from before it was lent. This call
            // waits for the flush first; the lending call waits for the same one, so both end.
            self.tlb().settle(me, info)?;
            self.protect_pooled(spot, entry, info, address, access)
        })
    }

    /// Changes the access of a page. Returns whether CPUs may still have the earlier access. Only a
    /// page in a single pool can be writable.
    fn protect_pooled(
        self,
        spot: Spot<'k>,
        entry: Pte,
        info: &FrameInfo,
        address: u64,
        access: Access,
    ) -> Result<bool> {
        if !spot.vspace.get().is_plain() {
            self.security().may_see(spot.vspace.get(), info, access)?;
        }
        let locked = info.lock(self.cpu);
        let counts = locked.counts.get();
        refuse_if(access == Access::Write && counts.mapped() > 1, Refusal::new(Error::InUse, address))?;
        locked.counts.set(counts.without(entry.pool_access()).with(access));
        let entry = entry.arrived(access).given();
        let old = spot.load();
        spot.store(if access == Access::Write { entry.unshared() } else { entry });
        let stale =
            old.is_present() && old.pool_access() != access && self.tlb().forget(spot.vspace.get(), address);
        if stale {
            self.tlb().stamp_frame(&locked);
        }
        Ok(stale)
    }

    /// Carries out [`abi::Op::PageCopy`].
    pub fn page_copy(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let vspace = self.caps().find::<VSpace>(me, Target(args.a0).cap(), Rights::MAP)?.object;
        let address = args.a2;
        let mark = Mark::new(args.a3);
        self.tlb().wait_marked(me, mark)?;
        if mark.is_set()
            && let Some(entry) = self.end_copy(vspace, address)?
        {
            let is_copy = || self.page_for_copy(me, args).is_ok_and(|(_, page)| page.at() == entry.at());
            return Ok(Answer::one(u64::from(entry.is_in_transit() || is_copy())));
        }
        let (frame, page) = self.page_for_copy(me, args)?;
        let log2 = frame.get().log2();
        check_user_range(address, 1 << log2, 1 << log2)?;
        if !vspace.get().is_plain() {
            self.security().may_map(vspace.get(), &frame.get().header, Access::Write)?;
        }
        let _guard = vspace.get().lock(self.cpu);
        let spot = self.spot_of(vspace, address, log2 != abi::PAGE_LOG2).ok_or(no_page(address))?;
        let entry = spot.load();
        refuse_if(!entry.is_pooled() || !entry.is_copied_on_write(), no_page(address))?;
        let info = self.info(entry.at())?;
        if entry.at() == page.at() {
            // A page cannot be copied to itself.
            return Err(Refusal::new(Error::InUse, address));
        }
        if info.glance(self.cpu).mapped() == 1 {
            // Another space may just have dropped the page, and its CPUs still have the
            // translation.
            self.tlb().settle(me, info)?;
            if self.protect_pooled(spot, entry, info, address, Access::Write)? {
                let stamp = self.tlb().shoot_space(vspace);
                self.tlb().note_and_wait(me, Some(stamp))?;
            }
            return Ok(Answer::one(0));
        }
        if let Some(owner) = header_of(info.owner(self.pin())) {
            self.security().may_copy(owner, &frame.get().header)?;
        }
        self.replace_page(me, frame, page, spot, address)?;
        Ok(Answer::one(1))
    }

    /// Returns the frame that the arguments of a page copy name, and its page that is to become the
    /// copy.
    fn page_for_copy(self, me: OpenTask<'k>, args: &Args) -> Result<(Ref<'k, Frame>, PhysPage)> {
        let frame = self.caps().find::<Frame>(me, Target(args.a1).cap(), TO_WRITE)?.object;
        refuse_if(frame.get().is_device(), Refusal::argument(1))?;
        let (number, pages) = (args.a4, u64::from(frame.get().pages()));
        refuse_if(number >= pages, Refusal::argument(4))?;
        let number = mask_index(number as usize, pages as usize) as u64;
        let page = frame.get().memory(number).ok_or(Refusal::argument(4))?;
        Ok((frame, page))
    }

    /// Ends a copy that waited for a shootdown: makes the page usable. Does not check the
    /// capability of the frame, which may be gone, because no other task would end this copy.
    /// Returns the entry as it was, or `None` if no copy waits there.
    fn end_copy(self, vspace: Ref<'k, VSpace>, address: u64) -> Result<Option<Pte>> {
        check_user_range(address, abi::PAGE_SIZE, abi::PAGE_SIZE)?;
        let _guard = vspace.get().lock(self.cpu);
        let spot = [false, true].into_iter().find_map(|large| self.spot_of(vspace, address, large));
        let Some(spot) = spot else { return Ok(None) };
        let entry = spot.load();
        if !entry.is_pooled() || entry.is_copied_on_write() || entry.pool_access() != Access::Write {
            return Ok(None);
        }
        if entry.is_in_transit() {
            self.protect_pooled(spot, entry, self.info(entry.at())?, address, Access::Write)?;
        }
        Ok(Some(entry))
    }

    /// Replaces a page that other spaces map, too, by a page of a frame with equal contents.
    /// Requires: the VSpace's lock is held.
    fn replace_page(
        self,
        me: OpenTask<'k>,
        frame: Ref<'k, Frame>,
        page: PhysPage,
        spot: Spot<'k>,
        address: u64,
    ) -> Result<()> {
        let old = spot.load();
        let seen = old.memory(spot.level).ok_or(Error::BadState)?;
        let (old_info, info) = (self.info(old.at())?, self.info(page.at())?);
        let is_large = page.parts() > 1;
        if is_large {
            self.copy_ahead(me, frame, page, spot, address)?;
        }
        {
            let locked = info.lock(self.cpu);
            match self.why_not_pool(frame, &locked) {
                WhyNot::ItMay | WhyNot::Unclean => {}
                why_not => {
                    drop(locked);
                    return Err(self.refusal_of(me, Page { info, memory: page, address }, why_not));
                }
            }
            refuse_if(is_large && !self.is_copied(spot.vspace, frame, &locked), Refusal::More)?;
            self.note_pooled(frame, &locked);
            locked.counts.set(locked.counts.get().with(Access::Write));
        }
        if !is_large {
            self.k.machine.copy(seen, page);
        }
        let new = Pte::page(page, Access::Write).pooled();
        spot.store(new.in_transit());
        let stale = self.tlb().forget(spot.vspace.get(), address);
        {
            let locked = old_info.lock(self.cpu);
            self.tables().unlink(&locked, spot);
            // The other spaces may have dropped it meanwhile: then this one is the last.
            self.tables().leave_pool(old_info, &locked, old.pool_access());
            if stale {
                self.tlb().stamp_frame(&locked);
            }
        }
        let locked = info.lock(self.cpu);
        self.tables().link(&locked, spot);
        if !stale {
            spot.store(new);
            return Ok(());
        }
        self.tlb().stamp_frame(&locked);
        drop(locked);
        let stamp = self.tlb().shoot_space(spot.vspace);
        self.tlb().note_and_wait(me, Some(stamp))?;
        // The shootdown was over immediately: the second half follows now.
        Err(Refusal::More)
    }

    /// Whether a page of an Untyped's memory may be in a pool: whether a page of its root's memory
    /// ever was.
    pub fn may_be_pooled(self, untyped: &Untyped) -> bool {
        self.k.pooled[untyped.header.root().index()].load(Relaxed)
    }

    /// Takes the pages of an Untyped's memory out of all pools for a revoke: later accesses fault.
    /// The fourth argument of the system call is the pass that it waits for, then a [`Mark`]; 0 at
    /// first, and when it has found something to revoke. A wrong value ends this revoke too early,
    /// and has no other effect: a reset keeps its own state.
    pub fn revoke_pages(self, me: OpenTask<'k>, untyped: Ref<'k, Untyped>) -> Result<()> {
        if !self.may_be_pooled(untyped.get()) {
            return Ok(());
        }
        let pass = {
            let guard = self.caps().open(untyped);
            guard.sweep.pass(me.regs.r8.get()).unwrap_or_else(|| guard.sweep.pass_from_now())
        };
        me.regs.r8.set(pass.raw());
        self.sweep_until(untyped, pass)?;
        let begun = self.caps().open(untyped).sweep.shootdown.get();
        self.tlb().note_and_wait(me, begun)
    }

    /// Continues the passes over an Untyped's pages until one is over, as far as the entry's work
    /// suffices.
    pub fn sweep_until(self, untyped: Ref<'k, Untyped>, pass: Pass) -> Result<()> {
        let base = self.k.machine.phys(untyped.get().base());
        let pages = untyped.get().size() / PAGE_SIZE;
        let shoot = (UNMAP_WORK + SEND_WORK * self.k.cpu_count() as u64) as i64;
        let mut guard = self.caps().open(untyped);
        while !guard.sweep.is_over(pass) {
            self.afford(LOCK_WORK)?;
            let stretch = guard.sweep.go_on();
            drop(guard);
            let (mut begun, mut number, mut left) = (None, stretch.first, LOCK_WORK as i64);
            while number < pages && left > 0 {
                if self.sweep_page(Phys(base.0 + number * PAGE_SIZE), &mut begun) {
                    left -= shoot;
                } else {
                    left -= 3 * LOOK_WORK as i64;
                    number += 1;
                }
            }
            guard = self.caps().open(untyped);
            if let Some(stamp) = begun {
                let covering = self.covering(guard.sweep.shootdown.get(), stamp);
                guard.sweep.shootdown.set(Some(covering));
            }
            guard.sweep.note(stretch, number, pages);
            self.bound_work();
        }
        Ok(())
    }

    /// Takes a page out of one pool. Returns whether another pool may have it. No message sends
    /// such a page any further, so each call leaves it in fewer pools, whatever other CPUs do.
    #[inline(always)]
    fn sweep_page(self, at: Phys, begun: &mut Option<Stamp>) -> bool {
        let Some(info) = self.k.frames.get(self.pin(), at).map(Ref::get) else { return false };
        let locked = info.lock(self.cpu);
        let (counts, first) = (locked.counts.get(), locked.first());
        if !counts.is_pooled() {
            // The task that took it out of the last pool may still be waiting, or wait for nothing.
            let stamp = locked.stamp().filter(|stamp| counts.is_stale() && !self.tlb().is_over(*stamp));
            if let Some(stamp) = stamp {
                *begun = Some(self.covering(*begun, stamp));
            }
            return false;
        }
        locked.set_leaving();
        drop(locked);
        if first.is_none() {
            // `PageCopy` is about to put it where another page was.
            return counts.mapped() != 0;
        }
        let Some(spot) = self.tables().named(first) else { return true };
        let _guard = spot.vspace.get().lock(self.cpu);
        let entry = spot.load();
        if entry.is_pooled()
            && entry.at() == at
            && self.drop_pooled(spot, entry, info, self.tables().address_of(spot))
        {
            let stamp = self.tlb().shoot_space(spot.vspace);
            *begun = Some(self.covering(*begun, stamp));
        }
        true
    }

    /// Returns a shootdown whose end implies the end of two others that have begun.
    fn covering(self, one: Option<Stamp>, other: Stamp) -> Stamp {
        match one.filter(|one| !self.tlb().is_over(*one)) {
            None => other,
            Some(one) if one.by() == other.by() => one.later(other),
            Some(_) => self.tlb().shoot_everything(None),
        }
    }
}
