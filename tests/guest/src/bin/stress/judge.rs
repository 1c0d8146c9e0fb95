//! Judges refusals: each must have a cause in what the director, the sender or the target did.

use abi::Error;
use guest_tests::run::Run as _;
use user_rt::{Refusal, arch};

use crate::board::{Board, Of, Total};

/// The state when a seat made a request.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Tasks made at the target seat.
    births: u64,
    /// Kills of the whole run.
    kills: u64,
    /// The seat of the sender, and the target.
    me: usize,
    to: usize,
    pub deadline: Option<u64>,
    pub nonblock: bool,
    /// Whether the capability is the one that is deleted and filled again all the time.
    pub churned: bool,
}

impl Standing {
    pub fn new(board: &'static Board, me: usize, to: usize) -> Standing {
        Standing {
            births: board.seats[to].get(Of::Births),
            kills: board.get(Total::Kills),
            me,
            to,
            deadline: None,
            nonblock: false,
            churned: false,
        }
    }

    /// Reports a refusal without a cause.
    pub fn judge(&self, board: &'static Board, refusal: &Refusal) {
        let (may_be, count) = match refusal.error {
            Error::Dead => (!is_well(board, refusal.who.raw()), Total::Unanswered),
            Error::Gone => (board.get(Total::Kills) != self.kills, Total::Unanswered),
            Error::NoExposure => (board.seats[self.to].get(Of::Kills) > self.births, Total::Unanswered),
            Error::Timeout => (self.deadline.is_some_and(|at| arch::now() >= at), Total::Unanswered),
            Error::WouldBlock => (self.nonblock, Total::Unanswered),
            Error::Cancelled => (self.was_cancelled(board), Total::Unanswered),
            Error::NoCapability => (self.churned, Total::Corrupted),
            _ => (false, Total::Corrupted),
        };
        if !may_be {
            board.complain(
                count,
                format_args!("seat {} asking {}: {refusal} without a cause", self.me, self.to),
            );
        }
    }

    /// Whether a cancel of this task was requested since the last look. Marks it as seen.
    fn was_cancelled(&self, board: &'static Board) -> bool {
        let seen = board.seats[self.me].get(Of::CancelsSeen) + 1;
        board.seats[self.me].set(Of::CancelsSeen, seen);
        seen <= board.seats[self.me].get(Of::CancelsAsked)
    }
}

/// Whether the task is in one of the seats and no kill of it has begun.
fn is_well(board: &'static Board, task: u64) -> bool {
    let seats = 0..board.seat_count();
    task == 0
        || seats
            .into_iter()
            .any(|s| board.seats[s].get(Of::Id) == task && board.seats[s].get(Of::Doomed) != task)
}
