//! Room for budgets: what the SchedContexts together may have that SchedControls with an account
//! have set.

use abi::time::{WHOLE_CPU, room_left};
use abi::Error;

use crate::object::CPUS_MAX;
use crate::{Id, Kind, Model, Refusal, Result};

/// An account. What is used of it is the sum of the shares of all SchedContexts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    /// In ten-thousandths of a CPU, as all shares.
    pub size: u64,
    /// What was given back in the middle of a window.
    pub owed: u64,
    /// When the last of these windows ends.
    pub owed_until: u64,
}

/// A budget as a part of a CPU's time.
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

    fn owed(&self, account: usize) -> u64 {
        let it = &self.accounts[account];
        if self.now < it.owed_until { it.owed } else { 0 }
    }

    fn free_room(&self, account: usize) -> u64 {
        self.accounts[account].size - self.used(account) - self.owed(account)
    }

    /// Returns the account for the SchedControl `to`, which `by` extends with this room.
    pub(crate) fn account_for(&mut self, by: Id, to: Id, room: u64) -> Result<Option<usize>> {
        let has = self.sched_control(to).clone();
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
            let same = has.account.filter(|account| self.accounts[*account].size == room);
            return same.map(Some).ok_or(Refusal::new(Error::BadState, ceiling.into()));
        }
        let unused = |n: &usize| !self.has_controls(*n) && self.used(*n) == 0 && self.owed(*n) == 0;
        let free = (0..self.accounts.len()).find(unused);
        let account = match free {
            Some(account) => account,
            None if self.accounts.len() < self.limits.accounts => {
                self.accounts.push(Account::default());
                self.accounts.len() - 1
            }
            None => return Err(Error::Full.into()),
        };
        self.accounts[account] = Account { size: room, ..Account::default() };
        Ok(Some(account))
    }

    /// Takes from an account what a budget needs, and gives back what the SchedContext had.
    pub(crate) fn pay(&mut self, time: Id, account: Option<usize>, budget: u64, period: u64) -> Result<()> {
        let Some(account) = account else {
            self.give_share_back(time);
            return Ok(());
        };
        let it = self.sched_context(time).clone();
        let limit = |free| Refusal::new(Error::OverLimit, room_left(free));
        let free = self.free_room(account);
        if budget == 0 {
            return Err(limit(free));
        }
        let share = share_of(budget, period);
        let is_same = it.account == Some(account);
        // A window goes on if the next ones are as long, and ends if they are not.
        let kept = if is_same && it.period == period { it.share.min(share) } else { 0 };
        let back = if is_same && it.window_ends <= self.now { it.share - kept } else { 0 };
        if share - kept > free + back {
            return Err(limit(free + back));
        }
        if is_same {
            self.owe(account, it.share - kept, it.window_ends);
        } else {
            self.give_share_back(time);
        }
        let it = self.sched_context_mut(time);
        (it.account, it.share) = (Some(account), share);
        Ok(())
    }

    /// Gives back what a SchedContext has of an account.
    pub(crate) fn give_share_back(&mut self, time: Id) {
        let it = self.sched_context_mut(time);
        let (account, share, until) = (it.account.take(), core::mem::take(&mut it.share), it.window_ends);
        if let Some(account) = account {
            self.owe(account, share, until);
        }
    }

    fn owe(&mut self, account: usize, share: u64, until: u64) {
        let owed = self.owed(account);
        let (now, it) = (self.now, &mut self.accounts[account]);
        if share != 0 && until > now {
            it.owed_until = if owed == 0 { until } else { it.owed_until.max(until) };
            it.owed = owed + share;
        }
    }
}
