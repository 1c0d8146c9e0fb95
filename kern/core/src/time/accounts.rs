//! Room for budgets: what SchedControls may give of it, and what SchedContexts have
//! ([`kern_base::accounts`]).
//!
//! A SchedControl with an account gives CPU time with a budget only, and all SchedContexts that
//! have the account have at most its room. A SchedContext keeps its share until it is set from
//! another account, or without one, or ends. What it gives back is owed until it has paid for what
//! was used ([`sched::room`]).

use abi::Error;
use abi::time::{WHOLE_CPU, room_left};
use kern_base::accounts::AccountId;
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::sched_context::{OpenTime, Settings};
use kern_base::sched_control::SchedControl;
use sched::{Budget, Share, Used};
use smp::cpu::MAX_CPUS;

use crate::rooms::Time;
use crate::{Refusal, Result, refuse_if};

/// The account that a SchedControl gets when it is extended.
pub struct Opening {
    pub account: Option<AccountId>,
    /// The account counts it already.
    is_reserved: bool,
}

impl<'k, M: Machine> Time<'k, M> {
    /// Returns the account for a SchedControl that is extended by another one: that of the other
    /// one; or if that has none, one with this room, in ten-thousandths of a CPU; 0: none.
    /// Errors: BadArgument, BadState (it has other room), Full (there are too many accounts),
    /// Dying.
    pub fn account_for(self, by: &SchedControl, to: &SchedControl, room: u64) -> Result<Opening> {
        let has = to.bound();
        if let Some(account) = by.bound().and_then(|bound| bound.account) {
            refuse_if(room != 0, Refusal::argument(5))?;
            let is_reserved = has.is_none();
            if is_reserved {
                self.join(account, by)?;
            }
            return Ok(Opening { account: Some(account), is_reserved });
        }
        if room == 0 {
            return Ok(Opening { account: None, is_reserved: false });
        }
        let size = Share::try_from(room).ok().filter(|_| room <= WHOLE_CPU * MAX_CPUS as u64);
        let size = size.ok_or(Refusal::argument(5))?;
        let Some(has) = has else {
            let opened = self.k.accounts.open(size, self.cpu).ok_or(Error::Full)?;
            return Ok(Opening { account: Some(opened), is_reserved: true });
        };
        let same = has.account.filter(|account| self.k.accounts.size(*account, self.cpu) == size);
        match same {
            Some(account) => Ok(Opening { account: Some(account), is_reserved: false }),
            None => Err(Refusal::new(Error::BadState, u64::from(has.ceiling))),
        }
    }

    /// Counts one more SchedControl in the account of another one.
    /// Errors: Dying: the account may be another one by now.
    fn join(self, account: AccountId, by: &SchedControl) -> Result<()> {
        let joined = self.k.accounts.join(account, self.cpu, || by.header.has_flag(FLAG_DYING));
        refuse_if(!joined, Error::Dying)
    }

    /// Ends what [`Time::account_for`] began: the SchedControl is extended for the first time, or
    /// it is not.
    pub fn is_extended(self, opening: Opening, to: &SchedControl, is_first: bool) {
        let Some(account) = opening.account.filter(|_| opening.is_reserved) else { return };
        if !is_first {
            return self.k.accounts.leave(account, self.cpu);
        }
        if to.set_counted() {
            self.end_control(to);
        }
    }

    /// Ends the part of a dying SchedControl in its account.
    pub fn end_control(self, control: &SchedControl) {
        if let Some(account) = control.leave_account() {
            self.k.accounts.leave(account, self.cpu);
        }
    }

    /// Takes from the account of a SchedControl what the new budget of a SchedContext needs, and
    /// gives back what the context had.
    /// Errors: OverLimit (there is less room, or no budget), Dying.
    pub fn pay(self, sc: OpenTime<'k>, by: &SchedControl, settings: Settings) -> Result<()> {
        let Some(account) = by.bound().and_then(|bound| bound.account) else {
            self.give_share_back(sc);
            return Ok(());
        };
        // So that what runs has used what it has.
        self.charge();
        let budget = Budget { ticks: settings.budget, period: settings.period };
        let paid = &sc.paid;
        let is_same = paid.account.get() == Some(account);
        let has = if is_same { paid.share.get() } else { 0 };
        let used = sc.state.used_at(self.k.machine.now());
        let share = self.k.accounts.change(account, self.cpu, |room| {
            let is_dying = by.header.has_flag(FLAG_DYING) || sc.get().header.has_flag(FLAG_DYING);
            refuse_if(is_dying, Error::Dying)?;
            let now = self.k.machine.now();
            refuse_if(budget.ticks == 0, no_room(room.free(now)))?;
            room.change(&sc.state, has, budget, now).map_err(no_room)
        })?;
        if !is_same {
            self.owe_share(sc, used);
        }
        paid.account.set(Some(account));
        paid.share.set(share);
        Ok(())
    }

    /// Gives back what a SchedContext has of an account.
    pub fn give_share_back(self, sc: OpenTime<'k>) {
        if sc.paid.account.get().is_some() {
            self.charge();
            self.owe_share(sc, sc.state.used_at(self.k.machine.now()));
        }
    }

    /// Gives back what a SchedContext has of an account, and has used.
    #[cold]
    #[inline(never)]
    fn owe_share(self, sc: OpenTime<'k>, used: Used) {
        let Some(account) = sc.paid.account.take() else { return };
        let share = sc.paid.share.take();
        self.k.accounts.change(account, self.cpu, |room| room.give_back(share, used, self.k.machine.now()));
    }
}

/// Returns the refusal of a budget that needs more room than there is.
fn no_room(free: Share) -> Refusal {
    Refusal::new(Error::OverLimit, room_left(free.into()))
}
