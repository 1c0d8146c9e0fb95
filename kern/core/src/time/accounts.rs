//! Room for budgets: what SchedControls may give of it, and what SchedContexts have
//! ([`kern_base::accounts`]).
//!
//! A SchedControl with an account gives CPU time with a budget only, and all SchedContexts that
//! have the account have at most its room. A SchedContext keeps its share until it is set by
//! another SchedControl, or ends. What it gives back in the middle of a window is free when the
//! window ends ([`sched::room`]).

use abi::Error;
use abi::time::{WHOLE_CPU, room_left};
use kern_base::accounts::AccountId;
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::sched_context::{OpenTime, Settings};
use kern_base::sched_control::{Bound, SchedControl};
use sched::{Budget, Return, Share, share_of};
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
    /// Errors: BadArgument, BadState (it has other room), Full (there are too many accounts).
    pub fn account_for(self, by: Bound, to: &SchedControl, room: u64) -> Result<Opening> {
        let has = to.bound();
        if let Some(account) = by.account {
            refuse_if(room != 0, Refusal::argument(5))?;
            let is_reserved = has.is_none();
            if is_reserved {
                self.k.accounts.join(account);
            }
            return Ok(Opening { account: Some(account), is_reserved });
        }
        if room == 0 {
            return Ok(Opening { account: None, is_reserved: false });
        }
        let size = Share::try_from(room).ok().filter(|_| room <= WHOLE_CPU * MAX_CPUS as u64);
        let size = size.ok_or(Refusal::argument(5))?;
        let Some(has) = has else {
            let opened = self.k.accounts.open(size, self.cpu, self.k.machine.now());
            return Ok(Opening { account: Some(opened.ok_or(Error::Full)?), is_reserved: true });
        };
        let same = has.account.filter(|account| self.k.accounts.room(*account, self.cpu).size() == size);
        match same {
            Some(account) => Ok(Opening { account: Some(account), is_reserved: false }),
            None => Err(Refusal::new(Error::BadState, u64::from(has.ceiling))),
        }
    }

    /// Ends what [`Time::account_for`] began: the SchedControl is extended for the first time, or
    /// it is not.
    pub fn is_extended(self, opening: Opening, to: &SchedControl, is_first: bool) {
        let Some(account) = opening.account.filter(|_| opening.is_reserved) else { return };
        if !is_first {
            return self.k.accounts.leave(account);
        }
        if to.set_counted() {
            self.end_control(to);
        }
    }

    /// Ends the part of a dying SchedControl in its account.
    pub fn end_control(self, control: &SchedControl) {
        if let Some(account) = control.leave_account() {
            self.k.accounts.leave(account);
        }
    }

    /// Takes from the account of a SchedControl what the new budget of a SchedContext needs, and
    /// gives back what the context had.
    /// Errors: OverLimit (there is less room, or no budget), Dying.
    #[inline(always)]
    pub fn pay(self, sc: OpenTime<'k>, by: &SchedControl, bound: Bound, settings: Settings) -> Result<()> {
        if bound.account.is_none() && sc.paid.account.get().is_none() {
            return Ok(());
        }
        self.pay_from(sc, by, bound.account, settings)
    }

    #[cold]
    #[inline(never)]
    fn pay_from(
        self,
        sc: OpenTime<'k>,
        by: &SchedControl,
        account: Option<AccountId>,
        settings: Settings,
    ) -> Result<()> {
        let Some(account) = account else {
            self.give_share_back(sc);
            return Ok(());
        };
        let now = self.k.machine.now();
        let budget = Budget { ticks: settings.budget, period: settings.period };
        let paid = &sc.paid;
        let is_same = paid.account.get() == Some(account);
        let mut locked = self.k.accounts.room(account, self.cpu);
        refuse_if(by.header.has_flag(FLAG_DYING), Error::Dying)?;
        let mut room = *locked;
        let limit = |free: Share| Refusal::new(Error::OverLimit, room_left(free.into()));
        refuse_if(budget.ticks == 0, limit(room.free(now)))?;
        let share = share_of(budget);
        if is_same {
            // The present window goes on if the next ones are as long. If not, another one begins:
            // then nothing is kept of what was taken for this one.
            let kept = if sc.state.period() == budget.period { paid.share.get().min(share) } else { 0 };
            room.give_back(Return { share: paid.share.get() - kept, until: sc.state.window_ends() }, now);
            room.take(share - kept, now).map_err(limit)?;
        } else {
            room.take(share, now).map_err(limit)?;
        }
        *locked = room;
        drop(locked);
        if !is_same {
            self.give_share_back(sc);
        }
        paid.account.set(Some(account));
        paid.share.set(share);
        Ok(())
    }

    /// Gives back what a SchedContext has of an account.
    #[cold]
    #[inline(never)]
    pub fn give_share_back(self, sc: OpenTime<'k>) {
        let Some(account) = sc.paid.account.take() else { return };
        let back = Return { share: sc.paid.share.take(), until: sc.state.window_ends() };
        self.k.accounts.room(account, self.cpu).give_back(back, self.k.machine.now());
    }
}
