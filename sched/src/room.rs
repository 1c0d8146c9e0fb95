//! Room for budgets: how much CPU time all contexts together may have that one authority has set.
//!
//! A context with a budget takes a *share* of the room: the budget divided by the length of its
//! windows. Both are in ten-thousandths of a CPU ([`abi::time::WHOLE_CPU`]), and a share is rounded
//! up.
//!
//! A context may use its whole budget at the beginning of a window, and give its share back then.
//! If the share were free immediately, the next context could do the same, and all of them together
//! would have many times the room. So a share is *owed* for as long as it takes to pay for what was
//! used: what was not used costs nothing, and what was used beyond the budget costs more. For the
//! same reason a window starts again when its share is raised: if not, who raises it at the end of
//! a window would get for a moment what is a budget for a period.
//!
//! A room keeps one sum of what is owed, and one time until when. When more comes, the sum is owed
//! for as long as all of it would be in turn. So in the long run the room gives what it has.
//!
//! # Invariants
//! - The shares of all contexts and what is owed are at most the size of the room.

use abi::time::WHOLE_CPU;

use crate::context::{Budget, NEVER, ScState, Used};

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

    /// Gives a share back at the time `now`. It is owed until it has paid for what was used.
    pub fn give_back(&mut self, share: Share, used: Used, now: u64) {
        self.free(now);
        self.used -= share;
        if share == 0 {
            return;
        }
        let lasts = (u128::from(used.ticks) * u128::from(WHOLE_CPU)).div_ceil(u128::from(share));
        let left = (u128::from(used.since) + lasts).saturating_sub(now.into());
        if left != 0 {
            let before = u128::from(self.owed_until.saturating_sub(now)) * u128::from(self.owed);
            let all = left * u128::from(share) + before;
            self.owed += share;
            let until = u128::from(now) + all.div_ceil(u128::from(self.owed));
            self.owed_until = u64::try_from(until).unwrap_or(NEVER);
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
        let mut used = sc.used_at(now);
        used.ticks = used.ticks.saturating_sub(if kept == 0 { 0 } else { budget.ticks });
        let mut room = *self;
        room.give_back(has - kept, used, now);
        room.take(share - kept, now).map_err(|free| free + kept)?;
        *self = room;
        if window_goes_on {
            // What was used before it came here, or is owed, is paid for elsewhere.
            if kept < has || has == 0 {
                sc.take_off(used.ticks);
            }
            if share > kept {
                sc.restart_window(now);
            }
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
        // A hundredth of a CPU pays for one tick in a hundred.
        let used = |ticks, since| Used { ticks, since };
        room.give_back(60, used(6, 0), 10);
        assert_eq!((room.free(999), room.take(40, 999)), (40, Ok(())));
        room.give_back(40, used(3, 200), 999);
        assert_eq!(room.free(999), 40, "that was paid for");
        room.give_back(0, used(50, 900), 999);
        assert_eq!(room.free(1_000), 100);
        // What is owed at the same time is owed until all of it is paid for.
        room.take(100, 1_000).expect("it is free");
        room.give_back(20, used(2, 1_000), 1_000);
        room.give_back(80, used(12, 1_000), 1_000);
        assert_eq!((room.free(2_399), room.free(2_400)), (0, 100));
        // What was not used is free, and what was used for long holds little.
        room.take(100, 5_000).expect("it is free");
        room.give_back(50, used(0, 5_000), 5_000);
        assert_eq!(room.free(5_000), 50);
        room.give_back(1, used(100, 5_000), 5_000);
        assert_eq!((room.free(1_004_999), room.free(1_005_000)), (50, 51));
    }

    #[test]
    fn an_older_time_changes_nothing_back() {
        let mut room = Room::new(100);
        room.take(60, 0).expect("it is free");
        room.give_back(60, Used { ticks: 6, since: 0 }, 0);
        assert_eq!(room.take(100, 1_000), Ok(()));
        assert_eq!(room.free(999), 0);
        room.give_back(10, Used { ticks: 2, since: 999 }, 999);
        assert_eq!((room.free(2_998), room.free(2_999)), (0, 10));
    }
}
