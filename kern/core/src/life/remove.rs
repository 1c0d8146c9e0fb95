//! Removes a member from a group, and withdraws an exposure, which may end an object.

use abi::audit::AuditEvent;
use abi::membership::WITHDRAWN;
use abi::{Error, Op, Rights, Target};
use kern_base::group::Group;
use kern_base::header::Header;
use kern_base::machine::Machine;
use kern_base::objects::header_of;
use smp::sync::Ordering::Acquire;

use crate::begun::is_again;
use crate::groups::exposures::not_own;
use crate::life::reclaim::{Emptied, Pins};
use crate::rooms::Life;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Life<'k, M> {
    /// Carries out [`abi::Op::GroupRemove`].
    pub fn group_remove(self, me: OpenTask<'k>, target: Target) -> Result<Answer> {
        // The first entry removes the member. The later ones, on any CPU, only wait: by then the
        // record may belong to another process.
        if !is_again(me.part()) {
            self.remove_member(me, target)?;
        }
        // A CPU that has read the record before may still do what it allowed.
        self.grace().wait_quiet(me)?;
        Ok(Answer::DONE)
    }

    /// Empties a member record, and informs the watchers of the group.
    fn remove_member(self, me: OpenTask<'k>, target: Target) -> Result<()> {
        let (slot, word) = self.caps().look(me, target.cap())?;
        let group = self.caps().typed::<Group>(word, target.cap(), Rights::REMOVE)?;
        let may_remove = || match Rights(word.rights()).contains(Rights::DELETE) {
            true => Ok(()),
            false => self.caps().group_in(me, slot, word, target.cap(), Rights::REMOVE).map(drop),
        };
        may_remove()?;
        let index = group.get().members.masked(target.index() as usize).ok_or(Refusal::argument(0))?;
        let guard = self.caps().lock_root(&group.get().header);
        let gone = slot.get().word.load(self.pin()) != word;
        // Check again under the lock: the caller may not be a member any more.
        let still = if gone { Err(Error::Dying.into()) } else { may_remove() };
        let told = still.map(|()| self.groups().leave_group(group, index));
        drop(guard);
        let bits = told?.ok_or(Refusal::new(Error::NotMember, u64::from(target.index())))?;
        self.groups().tell_watchers(group.get(), bits);
        let (header, index) = (&group.get().header, u64::from(target.index()));
        self.security().audit_object(AuditEvent::Leave, Op::GroupRemove, header, index);
        Ok(())
    }

    /// Carries out [`abi::Op::Withdraw`].
    pub fn withdraw_exposure(self, me: OpenTask<'k>, target: Target) -> Result<Answer> {
        let (_, word) = self.caps().look(me, target.cap())?;
        self.caps().typed::<Group>(word, target.cap(), Rights::NONE)?;
        let need =
            if Rights(word.rights()).contains(Rights::REMOVE) { Rights::REMOVE } else { Rights::LISTEN };
        let group = self.groups().group_for(me, target.cap(), need)?;
        let index = target.index();
        let missing = Refusal::new(Error::NoExposure, u64::from(index));
        let entry = self.groups().entry(group.get(), u64::from(index))?;
        let word = entry.get().slot.word.load(self.pin());
        let per_cpu = entry.get().per_cpu.load(Acquire);
        refuse_if(word.object_type() == 0 && per_cpu == 0, missing)?;
        let goes_on = || {
            let identity = header_of(word).map(Header::identity);
            self.goes_on_with_both(me, identity, group.get().header.identity())
        };
        refuse_if(is_again(me.part()) && !goes_on(), missing)?;
        let of_all = need == Rights::REMOVE;
        let taken = match word.object_type() {
            0 => self.groups().end_per_cpu(me, group.get(), entry.get(), word, of_all)?,
            // Nothing is derived from an exposure, so it leaves the tree in one step.
            _ if of_all || self.groups().owns(me, entry.get(), word) => {
                let emptied = self.empty_slot(me, entry.map(|e| &e.slot), Pins::Hold);
                emptied.inspect_err(|_| _ = goes_on())? == Emptied::Now
            }
            _ => return Err(not_own()),
        };
        if !taken {
            // Another task has just withdrawn it, and something else may be exposed there.
            let _ = goes_on();
            return Err(Refusal::More);
        }
        self.groups().tell_watchers(group.get(), WITHDRAWN);
        let header = &group.get().header;
        self.security().audit_object(AuditEvent::Withdraw, Op::Withdraw, header, u64::from(index));
        Ok(Answer::DONE)
    }
}
