//! Room for budgets: what the SchedContexts together may have that SchedControls with an account
//! have set.
//!
//! The model does not know what a SchedContext has used. So it does not say what is owed after a
//! share was given back: it may be compared only where no budget was used.

use abi::Error;
use abi::time::{WHOLE_CPU, room_left};

use crate::object::CPUS_MAX;
use crate::{Id, Kind, Model, Refusal, Result};

/// Returns which part of a CPU's time a budget is.
fn share_of(budget: u64, period: u64) -> u64 {
    (u128::from(budget) * u128::from(WHOLE_CPU)).div_ceil(u128::from(period)) as u64
}

impl Model {
    fn used(&self, account: usize) -> u64 {
        let shares = self.objects.iter().map(|object| match &object.kind {
            Kind::SchedContext(time) if time.account == Some(account) => time.share,
            _ => 0,
        });
        shares.sum()
    }

    fn has_controls(&self, account: usize) -> bool {
        self.objects.iter().any(|object| {
            matches!(&object.kind, Kind::SchedControl(it) if it.account == Some(account) && !object.ended)
        })
    }

    fn free_room(&self, account: usize) -> u64 {
        self.accounts[account] - self.used(account)
    }

    /// Returns the account for the SchedControl `to`, which `by` extends with this room.
    pub(crate) fn account_for(&mut self, by: Id, to: Id, room: u64) -> Result<Option<usize>> {
        let has = *self.sched_control(to);
        if let Some(account) = self.sched_control(by).account {
            return if room == 0 { Ok(Some(account)) } else { Err(Refusal::argument(5)) };
        }
        if room == 0 {
            return Ok(None);
        }
        if room > WHOLE_CPU * CPUS_MAX as u64 {
            return Err(Refusal::argument(5));
        }
        if let Some(ceiling) = has.ceiling {
            let same = has.account.filter(|account| self.accounts[*account] == room);
            return same.map(Some).ok_or(Refusal::new(Error::BadState, ceiling.into()));
        }
        let unused = |n: &usize| !self.has_controls(*n) && self.used(*n) == 0;
        let free = (0..self.accounts.len()).find(unused);
        let account = match free {
            Some(account) => account,
            None if self.accounts.len() < self.limits.accounts => {
                self.accounts.push(0);
                self.accounts.len() - 1
            }
            None => return Err(Error::Full.into()),
        };
        self.accounts[account] = room;
        Ok(Some(account))
    }

    /// Takes from an account what a budget needs, and gives back what the SchedContext had.
    pub(crate) fn pay(&mut self, time: Id, account: Option<usize>, budget: u64, period: u64) -> Result<()> {
        let Some(account) = account else {
            self.give_share_back(time);
            return Ok(());
        };
        let it = self.sched_context(time);
        let limit = |free| Refusal::new(Error::OverLimit, room_left(free));
        let free = self.free_room(account);
        if self.is_dying(time) {
            return Err(Error::Dying.into());
        }
        if budget == 0 {
            return Err(limit(free));
        }
        let share = share_of(budget, period);
        let had = if it.account == Some(account) { it.share } else { 0 };
        if share > free + had {
            return Err(limit(free + had));
        }
        let it = self.sched_context_mut(time);
        (it.account, it.share) = (Some(account), share);
        Ok(())
    }

    /// Gives back what a SchedContext has of an account.
    pub(crate) fn give_share_back(&mut self, time: Id) {
        let it = self.sched_context_mut(time);
        (it.account, it.share) = (None, 0);
    }
}
