//! Room for budgets: how much CPU time all contexts together may have that one authority has set.
//!
//! A context with a budget takes a *share* of the room: the budget divided by the length of its
//! windows. Both are in ten-thousandths of a CPU ([`abi::time::WHOLE_CPU`]), and a share is rounded
//! up.
//!
//! What a context gives back may have been used already in its present window. If it were free
//! immediately, the next context could use it again in the same time: ten contexts that each get
//! the whole room after the last one has used it up would have ten times the room. So it is *owed*
//! until the window ends. A room keeps one sum of what is owed, and the latest of these ends: it may
//! have less to give than it could, never more.
//!
//! # Invariants
//! - The shares of all contexts and what is owed are at most the size of the room.

use abi::time::WHOLE_CPU;

use crate::context::Budget;

/// A part of a CPU's time, in ten-thousandths; also the sum of parts of several CPUs.
pub type Share = u32;

/// Returns the share of a CPU's time that a budget is, rounded up.
/// Requires: the budget is at most as long as its windows, which are not empty.
pub fn share_of(budget: Budget) -> Share {
    let parts = u128::from(budget.ticks) * u128::from(WHOLE_CPU);
    parts.div_ceil(u128::from(budget.period)) as Share
}

/// What a context gives back: its share, and when the window ends in which it may have used it.
#[derive(Clone, Copy, Default)]
pub struct Return {
    /// What it had.
    pub share: Share,
    /// The time at which its present window ends.
    pub until: u64,
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

    /// Returns how much of it is free at the time `now`.
    pub fn free(&self, now: u64) -> Share {
        self.size - self.used - self.owed_at(now)
    }

    fn owed_at(&self, now: u64) -> Share {
        if now < self.owed_until { self.owed } else { 0 }
    }

    /// Returns whether nothing of it is used or owed at the time `now`.
    pub fn is_unused(&self, now: u64) -> bool {
        self.used == 0 && self.owed_at(now) == 0
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

    /// Gives a share back at the time `now`.
    pub fn give_back(&mut self, back: Return, now: u64) {
        self.used -= back.share;
        let owed = self.owed_at(now);
        if back.share != 0 && back.until > now {
            self.owed = owed + back.share;
            self.owed_until = if owed == 0 { back.until } else { self.owed_until.max(back.until) };
        } else {
            self.owed = owed;
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

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
    fn what_was_given_back_is_free_when_its_window_ends() {
        let mut room = Room::new(100);
        assert_eq!(room.take(60, 0), Ok(()));
        assert_eq!(room.take(41, 0), Err(40));
        room.give_back(Return { share: 60, until: 1_000 }, 10);
        assert_eq!((room.free(999), room.free(1_000)), (40, 100));
        assert_eq!(room.take(40, 999), Ok(()));
        room.give_back(Return { share: 40, until: 900 }, 999);
        assert_eq!(room.free(999), 40, "its window was over");
        room.give_back(Return::default(), 999);
        assert_eq!(room.free(1_000), 100);
        // What is owed at the same time is owed until the later end.
        room.take(100, 1_000).expect("it is free");
        room.give_back(Return { share: 50, until: 3_000 }, 1_500);
        room.give_back(Return { share: 50, until: 2_000 }, 1_500);
        assert_eq!((room.free(2_999), room.free(3_000)), (0, 100));
        // And an end that is long past does not count.
        room.take(10, 5_000).expect("it is free");
        room.give_back(Return { share: 10, until: 6_000 }, 5_000);
        assert_eq!((room.free(5_999), room.free(6_000)), (90, 100));
    }

    proptest! {
        /// Contexts come and go; each uses its whole share in the window in which it has it. In no
        /// window do all of them together use more than twice the room: as one context may, at the
        /// end of one window and again at the beginning of the next.
        #[test]
        fn contexts_that_come_and_go_use_no_more_than_the_room(
            steps in proptest::collection::vec((1u32..60, 0u64..30, any::<bool>()), 1..200),
        ) {
            const PERIOD: u64 = 100;
            let (mut room, mut now) = (Room::new(100), 0);
            let mut has = std::vec::Vec::new();
            let mut used: std::vec::Vec<(u64, Share)> = std::vec::Vec::new();
            for (share, ticks, goes) in steps {
                now += ticks;
                if goes && !has.is_empty() {
                    let (share, since) = has.remove(share as usize % has.len());
                    let until = since + ((now - since) / PERIOD + 1) * PERIOD;
                    room.give_back(Return { share, until }, now);
                } else if room.take(share, now).is_ok() {
                    has.push((share, now));
                    used.push((now, share));
                }
                let began = now.saturating_sub(PERIOD - 1);
                let lately: Share = used.iter().filter(|(at, _)| *at >= began).map(|(_, share)| share).sum();
                prop_assert!(lately <= 100, "{lately} began in one window");
                prop_assert!(has.iter().map(|(share, _)| share).sum::<Share>() == room.used());
            }
        }
    }
}
