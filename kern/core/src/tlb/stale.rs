//! Stale translations: old translations that CPUs may still have after a change of the page tables.
//!
//! Only the home CPUs of the tasks of a VSpace's process can have its translations. If this CPU is
//! the only one, no shootdown is needed. It drops the translation by an instruction if it has the
//! space loaded. If not, it advances the space's generation, which it compares when it loads the
//! space. In all other cases a [shootdown](crate::tlb::shootdown) begins before the entry ends.
//! Until it is over, page and entry have its stamp: the page is *stale*, the entry *gone*.
//!
//! For an entry, a later shootdown covers all earlier ones, whichever CPU began them, since a CPU
//! flushes all translations that are older than the space's generation. For pages that several
//! VSpaces share, a later shootdown does not cover an earlier one. If a CPU finds the stamp of
//! another CPU's unfinished shootdown at a page, it makes its own shootdown flush everything on all
//! CPUs ([`Tlb::widen`]).

use smp::sync::Ordering::{Relaxed, Release};

use kern_base::frames::{FrameInfo, LockedFrame};
use kern_base::machine::Machine;
use kern_base::memory::VSpace;
use kern_base::paging::Pte;
use smp::shootdown::{self, Stamp};

use crate::rooms::Tlb;
use crate::tlb::mark::Mark;
use crate::{OpenTask, Refusal, Result};

impl<'k, M: Machine> Tlb<'k, M> {
    /// Drops this CPU's translation of an address whose entry has changed. Returns whether other
    /// CPUs may still have it.
    /// Requires: the VSpace's lock is held, so that a CPU that becomes a home of the space later
    /// finds the new entry.
    #[inline(always)]
    pub fn forget(self, vspace: &VSpace, address: u64) -> bool {
        let here = self.cpu.vspace.get(self.pin()).is_some_and(|at| core::ptr::eq(at.get(), vspace));
        if here {
            self.k.machine.forget_page(address);
        }
        let alone = vspace.is_alone(self.id());
        if !(here && alone) {
            self.bump(vspace, here);
        }
        !alone
    }

    /// Increases a space's generation, so that its translations are dropped. If this CPU has
    /// dropped them already, its next load of the space does not flush.
    #[inline(always)]
    pub fn bump(self, vspace: &VSpace, dropped: bool) {
        let old = vspace.generation.load(Relaxed);
        vspace.generation.store(old + 1, Release);
        if let Some(seen) = vspace.seen.get(self.pin(), self.id().index()).filter(|_| dropped)
            && seen.get().load(Relaxed) == old
        {
            seen.get().store(old + 1, Relaxed);
        }
    }

    /// Stamps a page of a frame whose translation goes, with the shootdown that ends this entry.
    /// Requires: the frame's lock is held.
    pub fn stamp_frame(self, frame: &LockedFrame<'_>) {
        self.stamp_with(frame, self.next_stamp());
    }

    /// Stamps a page as [`Tlb::stamp_frame`] does. `stamp` is [`Tlb::next_stamp`], for loops over
    /// pages.
    #[inline(always)]
    pub fn stamp_with(self, frame: &LockedFrame<'_>, stamp: Stamp) {
        if frame.stamp().is_some_and(|old| old.by() != stamp.by() && !self.is_over(old)) {
            self.widen();
        }
        frame.set_stamp(Some(stamp));
    }

    /// Returns whether a page may be mapped at an entry: the entry is empty, and no CPU has a
    /// translation of its earlier page.
    #[inline(always)]
    pub fn is_free(self, entry: Pte) -> bool {
        entry == Pte::EMPTY || entry.shootdown().is_some_and(|stamp| self.is_over(stamp))
    }

    /// Waits until the shootdown of an entry's earlier page is over. Without a task, no wait is
    /// possible: returns the refusal that means a restart.
    #[cold]
    pub fn wait_free(self, me: Option<OpenTask<'k>>, stamp: Stamp) -> Refusal {
        me.and_then(|me| self.wait_over(me, stamp).err()).unwrap_or(Refusal::More)
    }

    /// Waits until no CPU has a translation of a page that differs from its present mappings.
    #[inline(always)]
    pub fn settle(self, me: OpenTask<'k>, info: &FrameInfo) -> Result<()> {
        info.stamp().map_or(Ok(()), |stamp| self.settle_stale(me, info, stamp))
    }

    #[inline(never)]
    fn settle_stale(self, me: OpenTask<'k>, info: &FrameInfo, stamp: Stamp) -> Result<()> {
        self.wait_over(me, stamp)?;
        let locked = info.lock(self.cpu);
        if info.stamp() == Some(stamp) {
            locked.set_stamp(None);
        }
        Ok(())
    }

    /// Returns the last shootdown that a system call has begun; `None` if the mark names one that
    /// no CPU has begun.
    fn begun_by(self, mark: Mark) -> Option<Stamp> {
        mark.stamp().filter(|stamp| shootdown::has_begun(self.k, self.pin(), *stamp))
    }

    /// Waits for the shootdown that a system call began before it restarted.
    pub fn wait_marked(self, me: OpenTask<'k>, mark: Mark) -> Result<()> {
        self.begun_by(mark).map_or(Ok(()), |stamp| self.wait_over(me, stamp))
    }

    /// Waits for the last shootdown that a system call has begun, if there is one. When the call
    /// restarts, only that wait is left.
    pub fn note_and_wait(self, me: OpenTask<'k>, begun: Option<Stamp>) -> Result<()> {
        let Some(stamp) = begun else { return Ok(()) };
        me.regs.r8.set(Mark::waiting(stamp).raw());
        self.wait_over(me, stamp)
    }

    /// Notes the shootdown that this entry of a system call has begun, if there is one.
    /// Returns: the last one that the call has begun, in this entry or before.
    pub fn keep_begun(self, me: OpenTask<'k>, mark: Mark, begun: Option<Stamp>) -> Option<Stamp> {
        if let Some(stamp) = begun {
            me.regs.r8.set(mark.with_rest(stamp).raw());
        }
        begun.or_else(|| self.begun_by(mark))
    }
}
