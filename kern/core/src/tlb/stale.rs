//! Translations that CPUs may remember.
//!
//! Only CPUs where a task of the VSpace's process has its home can. Where that is this one alone, a translation is
//! forgotten on the spot: dropped, where the CPU is in the space, else by the space's generation, which the CPU
//! compares when it enters. Otherwise a [shootdown](crate::tlb::shootdown) begins before the entry ends. Until it is over, page
//! and entry have its stamp: the page is *stale*, the entry *gone*.
//!
//! Of an entry, a later shootdown covers all earlier ones, whoever began them, since CPUs forget all that is behind
//! its space's generation. Of a page it does not where that was mapped in several VSpaces: who finds the stamp of another
//! CPU's that is not over makes the own one a shootdown of everything, everywhere ([`Tlb::widen`]).

use smp::sync::Ordering::{Relaxed, Release};

use kern_base::frames::{FrameInfo, LockedFrame};
use kern_base::machine::Machine;
use kern_base::memory::VSpace;
use kern_base::paging::Pte;
use smp::shootdown::{self, Stamp};

use crate::rooms::Tlb;
use crate::tlb::mark::Mark;
use crate::{Me, Refusal, Result};

impl<'k, M: Machine> Tlb<'k, M> {
    /// An entry of a VSpace has changed: this CPU forgets what it said. Whether others may remember it. The VSpace's
    /// lock is held, so a CPU that becomes a home of it later finds the entry as it is now.
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

    /// Translations of a space go. Where this CPU has dropped them already, it need not when it enters next.
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

    /// A page of a frame went so: its stamp is that of the shootdown with which this entry ends. The frame's lock is
    /// held.
    pub fn stamp_frame(self, frame: &LockedFrame<'_>) {
        let stamp = self.next_stamp();
        if frame.stamp().is_some_and(|old| old.by() != stamp.by() && !self.is_over(old)) {
            self.widen();
        }
        frame.set_stamp(Some(stamp));
    }

    /// Whether something may be mapped where an entry is so: no CPU remembers what was there.
    #[inline(always)]
    pub fn is_free(self, entry: Pte) -> bool {
        entry == Pte::EMPTY || entry.shootdown().is_some_and(|stamp| self.is_over(stamp))
    }

    /// Waits until such an entry, where something went, is free. Without a task it can't.
    #[cold]
    pub fn wait_free(self, me: Option<Me<'k>>, stamp: Stamp) -> Refusal {
        me.and_then(|me| self.wait_over(me, stamp).err()).unwrap_or(Refusal::More)
    }

    /// Waits until no CPU remembers another mapping of a page than there are now.
    #[inline(always)]
    pub fn settle(self, me: Me<'k>, info: &FrameInfo) -> Result<()> {
        info.stamp().map_or(Ok(()), |stamp| self.settle_stale(me, info, stamp))
    }

    #[inline(never)]
    fn settle_stale(self, me: Me<'k>, info: &FrameInfo, stamp: Stamp) -> Result<()> {
        self.wait_over(me, stamp)?;
        let locked = info.lock(self.cpu);
        if info.stamp() == Some(stamp) {
            locked.set_stamp(None);
        }
        Ok(())
    }

    /// The shootdown that a system call has begun last; `None` where nobody has begun what its mark says.
    pub fn begun_by(self, mark: Mark) -> Option<Stamp> {
        mark.stamp().filter(|stamp| shootdown::has_begun(self.k, self.pin(), *stamp))
    }

    /// Waits for what a system call has begun before it started again.
    pub fn wait_marked(self, me: Me<'k>, mark: Mark) -> Result<()> {
        self.begun_by(mark).map_or(Ok(()), |stamp| self.wait_over(me, stamp))
    }

    /// Waits for the last shootdown that a system call has begun, if any. When the call starts again, only that is left.
    pub fn note_and_wait(self, me: Me<'k>, begun: Option<Stamp>) -> Result<()> {
        let Some(stamp) = begun else { return Ok(()) };
        me.hot.regs.r8.set(Mark::waiting(stamp).raw());
        self.wait_over(me, stamp)
    }

    /// Notes the shootdown that this entry of a system call has begun, if any. Returns: the last that the call has begun, in
    /// this entry or before.
    pub fn keep_begun(self, me: Me<'k>, mark: Mark, begun: Option<Stamp>) -> Option<Stamp> {
        if let Some(stamp) = begun {
            me.hot.regs.r8.set(mark.with_rest(stamp).raw());
        }
        begun.or_else(|| self.begun_by(mark))
    }
}
