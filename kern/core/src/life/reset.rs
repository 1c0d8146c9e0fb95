//! Reset: how the memory of objects is reused.
//!
//! A reset revokes all capabilities of objects in the memory, and makes every CPU flush
//! translations and leave dying address spaces. It then waits for a quiet period, after which no
//! entry and no message refers to the objects ([`smp::quiesce`]). Then it starts the region again.
//! It is a long operation, as a delete is ([`crate::life::reclaim`]).

use core::cell::Cell;

use abi::audit::AuditEvent;
use abi::{Cap, Error, Op};
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::memory::{Inside, Reset, Untyped, UntypedGuard};
use kern_base::roots::RootGuard;
use kern_base::sweep::Pass;
use smp::door::Ref;
use smp::sync::Ordering::{Relaxed, SeqCst};

use crate::begun::is_again;
use crate::caps::slots::UntypedCap;
use crate::life::reclaim::Pins;
use crate::rooms::Life;
use crate::{Answer, MachineObject, OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Life<'k, M> {
    /// Carries out [`abi::Op::UntypedReset`].
    pub fn untyped_reset(self, me: OpenTask<'k>, cap: Cap, pins: u64, machine: Cap) -> Result<Answer> {
        self.begin_zombies(me);
        let is_first = !is_again(me.part());
        let found = self.to_reset(me, cap)?;
        let untyped = found.untyped;
        let has_begun = Cell::new(!is_first);
        let revoked = self.may_reset(me, untyped, pins, machine).and_then(|pins| {
            if is_first || !untyped.get().resetting.load(SeqCst) {
                self.begin_reset(found)?;
                has_begun.set(true);
            }
            self.revoke_slot(me, found.slot, pins, &Cell::new(false))?;
            self.empty_own_zombies(me)?;
            self.empty_zombies_of(me, untyped)
        });
        if let Err(Refusal::Error { .. }) = revoked
            && has_begun.get()
        {
            // The caller may have lost a right since then.
            self.empty_own_zombies(me)?;
            self.end_reset(untyped.get(), &self.caps().open(untyped));
        }
        revoked?;
        self.security().end_audit(untyped.get());
        self.finish_reset(me, found)
    }

    /// Checks whether the caller may reset an Untyped. Returns what happens to pins.
    #[inline(always)]
    fn may_reset(self, me: OpenTask<'k>, untyped: Ref<'k, Untyped>, pins: u64, machine: Cap) -> Result<Pins> {
        let pins = match pins {
            0 => Pins::Hold,
            1 => {
                self.caps().operand::<MachineObject, { Op::UntypedReset as u8 }, 3>(me, machine)?;
                Pins::Go
            }
            _ => return Err(Refusal::argument(1)),
        };
        refuse_if(self.lives_in(me, untyped.get()), Error::InUse)?;
        Ok(pins)
    }

    /// Returns the capability of the Untyped to be reset.
    #[inline(always)]
    fn to_reset(self, me: OpenTask<'k>, cap: Cap) -> Result<UntypedCap<'k>> {
        let found = self.caps().find_untyped(me, cap)?;
        refuse_if(
            !self.goes_on_with(me, Some(found.untyped.get().header.identity())),
            Refusal::new(Error::NoCapability, u64::from(cap.0)),
        )?;
        Ok(found)
    }

    /// Closes an Untyped that is to be reset. From then on its capability stays in its slot, so
    /// that every task that resets it finds it there. If another task resets it already, or was
    /// killed while it did, each of its zombies is tried again: the other task could not end
    /// objects of its own.
    #[inline(never)]
    fn begin_reset(self, found: UntypedCap<'k>) -> Result<()> {
        let untyped = found.untyped.get();
        // Who makes objects of the Untyped now completes that first.
        let _guard = self.caps().open(found.untyped);
        let root = self.caps().lock_root(&untyped.header);
        refuse_if(!found.is_there(self.pin()), Refusal::More)?;
        self.begin_pass(&root, untyped);
        untyped.retried.store(false, Relaxed);
        if !untyped.resetting.load(SeqCst) {
            untyped.resetting.store(true, SeqCst);
            self.security().audit_object(AuditEvent::Reset, Op::UntypedReset, &untyped.header, 0);
        }
        Ok(())
    }

    /// Opens an Untyped that is being reset. Checks that nothing is derived from it, and that no
    /// CNode of its memory must still be emptied. The progress of a reset counts only as long as
    /// both hold.
    fn open_revoked(self, found: UntypedCap<'k>) -> Result<(UntypedGuard<'k>, RootGuard<'k>)> {
        let untyped = found.untyped.get();
        let guard = self.caps().open(found.untyped);
        let root = self.caps().lock_root(&untyped.header);
        let is_revoked = found.is_there(self.pin())
            && self.caps().child_of(found.slot).is_none()
            && untyped.zombies.is_null();
        if is_revoked && untyped.resetting.load(SeqCst) {
            return Ok((guard, root));
        }
        // Another task has deleted the Untyped's capability, or has ended its own reset.
        self.end_reset(untyped, &guard);
        Err(Refusal::More)
    }

    /// Makes an Untyped usable again after its reset. If a task was deleting the Untyped, it may
    /// have been killed before the end. If not, it finds that the Untyped is open again.
    fn complete_reset(self, untyped: &Untyped, inside: &Inside) -> Answer {
        untyped.header.clear_flag(FLAG_DYING);
        Answer::one(self.end_reset(untyped, inside))
    }

    /// Ends an Untyped's reset, whether it is complete or not. Returns: the free bytes.
    fn end_reset(self, untyped: &Untyped, inside: &Inside) -> u64 {
        inside.reset.set(Reset::No);
        inside.region.give_up_reset();
        untyped.resetting.store(false, SeqCst);
        inside.region.free()
    }

    /// Completes a reset after everything was revoked: waits until no pool has a page of the
    /// memory, and nothing refers to objects that were made of it. Then starts the region again.
    fn finish_reset(self, me: OpenTask<'k>, found: UntypedCap<'k>) -> Result<Answer> {
        let untyped = found.untyped.get();
        let (mut inside, mut root) = self.open_revoked(found)?;
        if inside.region.is_unused() {
            return Ok(self.complete_reset(untyped, &inside));
        }
        if inside.reset.get() == Reset::No {
            inside.reset.set(Reset::Sweep(inside.sweep.pass_from_now()));
        }
        if let Reset::Sweep(pass) = inside.reset.get()
            && !self.is_swept(untyped, &inside, pass)
        {
            drop(root);
            drop(inside);
            self.mem().sweep_until(found.untyped, pass)?;
            (inside, root) = self.open_revoked(found)?;
        }
        if let Reset::Sweep(pass) = inside.reset.get()
            && self.is_swept(untyped, &inside, pass)
        {
            inside.reset.set(Reset::Forget(self.tlb().shoot_everything(None)));
        }
        match inside.reset.get() {
            // Another task's reset was refused meanwhile, and new objects were made.
            Reset::No | Reset::Sweep(_) => Err(Refusal::More),
            Reset::Forget(stamp) if !self.tlb().is_over(stamp) => {
                drop(root);
                drop(inside);
                self.tlb().wait_over(me, stamp)?;
                Err(Refusal::More)
            }
            Reset::Forget(_) => {
                inside.region.begin_reset(self.k, self.pin());
                inside.reset.set(Reset::Quiet);
                Err(Refusal::Restart { epoch: self.k.cpus.epoch.now() + 1 })
            }
            Reset::Quiet if inside.region.end_reset(self.k, self.pin()) => {
                Ok(self.complete_reset(untyped, &inside))
            }
            // The period may be another CPU's. A round of this CPU brings the task back here.
            Reset::Quiet => Err(Refusal::Restart { epoch: self.k.cpus.epoch.now() + 1 }),
        }
    }

    /// Whether no pool has a page of an Untyped's memory, provided that none got one since the pass
    /// was requested.
    fn is_swept(self, untyped: &Untyped, inside: &Inside, pass: Pass) -> bool {
        inside.sweep.is_over(pass) || !self.mem().may_be_pooled(untyped)
    }
}
