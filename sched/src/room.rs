//! Room for budgets: how much CPU time all contexts together may have that one authority has set.
//!
//! A context with a budget takes a *share* of the room: the budget divided by the length of its
//! windows. Both are in ten-thousandths of a CPU ([`abi::time::WHOLE_CPU`]), and a share is rounded
//! up.
//!
//! A context may use its whole budget at the beginning of a window, and give its share back then.
//! If the share were free immediately, the next context could do the same, and all of them together
//! would have many times the room. So a share is *owed* for as long as the budget takes to pay for
//! what was used ([`ScState::paid_until`]): what was not used costs nothing, and what was used
//! beyond the budget costs more. For the same reason a window starts again when its budget is
//! raised: who raises it at the end of a window would get for a moment what is a budget for a
//! period.
//!
//! A room keeps one sum of what is owed, and the latest of these ends: it may have less to give
//! than it could, never more.
//!
//! # Invariants
//! - The shares of all contexts and what is owed are at most the size of the room.

use abi::time::WHOLE_CPU;

use crate::context::{Budget, ScState};

/// A part of a CPU's time, in ten-thousandths; also the sum of parts of several CPUs.
pub type Share = u32;

/// Returns the share of a CPU's time that a budget is, rounded up.
/// Requires: the budget is at most as long as its windows, which are not empty.
pub fn share_of(budget: Budget) -> Share {
    let parts = u128::from(budget.ticks) * u128::from(WHOLE_CPU);
    parts.div_ceil(u128::from(budget.period)) as Share
}

/// Room for budgets.
#[derive(Clone, Copy, Default, Debug)]
pub struct Room {
    size: Share,
    used: Share,
    owed: Share,
    owed_until: u64,
}

impl Room {
    /// Makes room of which nothing is used.
    pub const fn new(size: Share) -> Room {
        Room { size, used: 0, owed: 0, owed_until: 0 }
    }

    /// Returns how large it is.
    pub fn size(&self) -> Share {
        self.size
    }

    /// Returns how much of it contexts have.
    pub fn used(&self) -> Share {
        self.used
    }

    /// Returns how much of it is used or owed.
    pub fn taken(&self) -> Share {
        self.used + self.owed
    }

    /// Returns how much of it is free at the time `now`.
    pub fn free(&mut self, now: u64) -> Share {
        if now >= self.owed_until {
            self.owed = 0;
        }
        self.size.saturating_sub(self.used + self.owed)
    }

    /// Takes a share at the time `now`. Returns the room that is free, if that is less.
    pub fn take(&mut self, share: Share, now: u64) -> Result<(), Share> {
        let free = self.free(now);
        if share > free {
            return Err(free);
        }
        self.used += share;
        Ok(())
    }

    /// Gives a share back at the time `now`, which is owed until then.
    pub fn give_back(&mut self, share: Share, until: u64, now: u64) {
        self.free(now);
        self.used -= share;
        if share != 0 && until > now {
            self.owed_until = if self.owed == 0 { until } else { self.owed_until.max(until) };
            self.owed += share;
        }
    }

    /// Changes the share that a context `has` of the room to that of a budget, at the time `now`.
    /// The budget itself is set afterwards. Returns the share, or the greatest one that it could
    /// have now, if the budget needs more; then nothing has changed.
    /// Requires: the context does not run.
    pub fn change<T>(
        &mut self,
        sc: &ScState<T>,
        has: Share,
        budget: Budget,
        now: u64,
    ) -> Result<Share, Share> {
        let share = share_of(budget);
        let window_goes_on = sc.has_budget() && sc.period() == budget.period;
        let kept = if window_goes_on { has.min(share) } else { 0 };
        let paid = if kept == 0 { 0 } else { budget.ticks };
        let mut room = *self;
        room.give_back(has - kept, sc.paid_until(paid, now), now);
        room.take(share - kept, now).map_err(|free| free + kept)?;
        *self = room;
        if window_goes_on && share > kept {
            sc.restart_window(now);
        }
        Ok(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn budget(ticks: u64, period: u64) -> Budget {
        Budget { ticks, period }
    }

    #[test]
    fn shares_are_rounded_up() {
        assert_eq!(share_of(budget(50, 100)), 5_000);
        assert_eq!(share_of(budget(1, 1 << 55)), 1);
        assert_eq!(share_of(budget(1 << 55, 1 << 55)), WHOLE_CPU as Share);
        assert_eq!(share_of(budget((1 << 55) - 1, 1 << 55)), WHOLE_CPU as Share);
        assert_eq!(share_of(budget(10_001, 100_000_000)), 2);
    }

    #[test]
    fn what_was_given_back_is_free_when_it_is_paid_for() {
        let mut room = Room::new(100);
        assert_eq!(room.take(60, 0), Ok(()));
        assert_eq!(room.take(41, 0), Err(40));
        room.give_back(60, 1_000, 10);
        assert_eq!((room.free(999), room.take(40, 999)), (40, Ok(())));
        room.give_back(40, 900, 999);
        assert_eq!(room.free(999), 40, "that was paid for");
        room.give_back(0, 5_000, 999);
        assert_eq!(room.free(1_000), 100);
        // What is owed at the same time is owed until the later end.
        room.take(100, 1_000).expect("it is free");
        room.give_back(50, 3_000, 1_500);
        room.give_back(50, 2_000, 1_500);
        assert_eq!((room.free(2_999), room.free(3_000)), (0, 100));
        // And an end that is long past does not count.
        room.take(10, 5_000).expect("it is free");
        room.give_back(10, 6_000, 5_000);
        assert_eq!((room.free(5_999), room.free(6_000)), (90, 100));
    }

    #[test]
    fn an_older_time_changes_nothing_back() {
        let mut room = Room::new(100);
        room.take(60, 0).expect("it is free");
        room.give_back(60, 1_000, 0);
        assert_eq!(room.take(100, 1_000), Ok(()));
        assert_eq!(room.free(999), 0);
        room.give_back(10, 3_000, 999);
        assert_eq!((room.free(2_000), room.free(3_000)), (0, 10));
    }
}
