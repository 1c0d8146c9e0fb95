//! Translations that CPUs may remember.
//!
//! Only CPUs where a task of the VSpace's process has its home can. Where that is this one alone, a translation is
//! forgotten on the spot: dropped, where the CPU is in the space, else by the space's generation, which the CPU
//! compares when it enters. Otherwise a [tour](crate::forget) has to go round.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use abi::Error;
use kern_base::frames::FrameInfo;
use kern_base::machine::Machine;
use kern_base::memory::{DYING, VSpace};

use crate::{Cx, Me, Refusal, Result};

impl<'k, M: Machine> Cx<'k, M> {
    /// An entry of a VSpace has changed: this CPU forgets what it said. Whether others may remember it. The VSpace's
    /// lock is held, so a CPU that becomes a home of it later finds the entry as it is now.
    #[inline(always)]
    pub fn forget(self, vspace: &VSpace, address: u64) -> bool {
        let here =
            self.hot.vspace.get(self.pin()).is_some_and(|current| core::ptr::eq(current.get(), vspace));
        if here {
            self.k.machine.forget_page(address);
        }
        let alone = vspace.is_alone(self.id());
        if !(here && alone) {
            vspace.generation.store(vspace.generation.load(Relaxed) + 1, Release);
        }
        !alone
    }

    /// Something went from a VSpace's tables that CPUs may remember: nothing is mapped there until they have
    /// forgotten it. When that was. The lock is held.
    pub fn note_stale(self, vspace: &VSpace) -> u64 {
        let stamp = self.k.tours.stamp();
        if vspace.stale.load(Relaxed) != DYING {
            vspace.stale.store(stamp + 1, Release);
        }
        stamp
    }

    /// Whether a CPU may remember such a thing.
    pub fn is_stale(self, vspace: &VSpace) -> bool {
        let stale = vspace.stale.load(Acquire);
        stale != 0 && stale != DYING && !self.k.tours.have_forgotten(stale - 1)
    }

    /// Waits until no CPU does.
    pub fn forget_stale(self, me: Me<'k>, vspace: &VSpace) -> Result<()> {
        match vspace.stale.load(Acquire) {
            0 => Ok(()),
            DYING => Err(Error::Dying.into()),
            stale => self.forget_everywhere(me, stale - 1),
        }
    }

    /// Why nothing may be mapped in a space, or not yet: then the system call begins again. The lock is not held.
    pub fn not_yet(self, me: Me<'k>, vspace: &VSpace) -> Refusal {
        if let Err(refusal) = self.forget_stale(me, vspace) {
            return refusal;
        }
        let _guard = vspace.lock.lock();
        let stale = vspace.stale.load(Relaxed);
        if stale != DYING && !self.is_stale(vspace) {
            vspace.stale.store(0, Relaxed);
        }
        Refusal::More
    }

    /// Waits until no CPU remembers another mapping of a page than there are now.
    pub fn settle(self, me: Me<'k>, info: &FrameInfo) -> Result<()> {
        let Some(stamp) = info.stamp() else { return Ok(()) };
        self.forget_everywhere(me, stamp)?;
        let locked = info.lock();
        if info.stamp() == Some(stamp) {
            locked.set_stamp(None);
        }
        Ok(())
    }

    /// Waits for what a system call has begun to forget before it was started again; its argument is one more than
    /// the stamp. Nothing to wait for is what nobody has stamped.
    pub fn wait_forgotten(self, me: Me<'k>, mark: u64) -> Result<()> {
        if mark <= self.k.tours.stamp() + 1 { self.forget_everywhere(me, mark - 1) } else { Ok(()) }
    }
}
