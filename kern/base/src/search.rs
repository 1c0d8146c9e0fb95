//! The position of a search for CPU time, between two entries of the kernel.
//!
//! A search goes up from caller to caller until it finds time, and then down from call to call to
//! the task that will spend the time. Each step depends only on the present calls. So a search that
//! returned to an earlier position and step would never end; a [`Trail`] detects that.

use abi::TaskId;
use smp::door::{Ptr, Ref};

use crate::sched_context::SchedContext;
use crate::task::Task;

/// A search for CPU time, in the message block of the task that has none.
#[derive(Clone, Copy)]
pub struct Search {
    /// The caller at which the search is. Alive when the search was sent to where it is.
    pub at: Ptr<Task>,
    pub step: Step,
    trail: Trail,
}

/// What a search does next with the caller that it is at.
#[derive(Clone, Copy)]
pub enum Step {
    /// Checks whether the caller's time is here, where its call is. If not, checks the caller's own
    /// callers.
    Scan,
    /// Looks for the caller's time at the caller's home, then at the caller's own callers.
    Enter,
    /// Goes on to the caller's own callers: its time may not run everywhere.
    Beyond,
    /// Returns from a caller without time to the next callers.
    Leave,
    /// Gets the caller's own time from wherever it is.
    Fetch(Ptr<SchedContext>),
    /// Takes other time from the caller, which lends its own.
    Part,
    /// Brings the time that was found down the caller's call.
    Carry,
    /// The calls have changed meanwhile: the search has to begin again.
    Lost,
}

impl Step {
    /// Returns a number that tells steps at one task apart.
    const fn number(self) -> u8 {
        match self {
            Step::Scan => 0,
            Step::Enter => 1,
            Step::Leave => 2,
            Step::Fetch(_) => 3,
            Step::Carry => 4,
            Step::Lost => 5,
            Step::Beyond => 6,
            Step::Part => 7,
        }
    }
}

/// Notices that a walk goes round in a circle, without marks on the way (Brent's algorithm):
/// remembers one step, and after twice as many steps as the last time another one.
#[derive(Clone, Copy)]
struct Trail {
    seen: (TaskId, u8),
    steps: u32,
    until: u32,
}

impl Trail {
    const NEW: Trail = Trail { seen: (TaskId::NONE, 0), steps: 0, until: 1 };

    /// Notes a step of the walk. Returns whether it is the remembered one: then the walk goes in a
    /// circle.
    fn note(&mut self, step: (TaskId, u8)) -> bool {
        if step == self.seen {
            return true;
        }
        self.steps += 1;
        if self.steps == self.until {
            *self = Trail { seen: step, steps: 0, until: self.until.saturating_mul(2) };
        }
        false
    }
}

impl Search {
    /// Makes a search that begins with the first caller of a task.
    pub fn new(first: Ref<'_, Task>) -> Search {
        Search { at: first.ptr(), step: Step::Scan, trail: Trail::NEW }
    }

    /// Returns the search moved on to task `at`, with `step` as the next step there. A search that
    /// has gone in a circle is marked to begin again.
    pub fn moved(mut self, at: Ref<'_, Task>, step: Step) -> Search {
        let goes_round = self.trail.note((at.get().id(), step.number()));
        Search { at: at.ptr(), step: if goes_round { Step::Lost } else { step }, trail: self.trail }
    }

    /// Returns the search marked to begin again.
    pub fn lost(self) -> Search {
        Search { step: Step::Lost, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many steps a walk over `next` takes until the trail notices a circle.
    fn walk(next: impl Fn(u64) -> u64, patience: usize) -> Option<usize> {
        let (mut at, mut trail) = (1, Trail::NEW);
        (0..patience).find(|_| {
            at = next(at);
            trail.note((TaskId::from_raw(at), 0))
        })
    }

    #[test]
    fn a_walk_that_ends_never_goes_round() {
        assert_eq!(walk(|at| at + 1, 100_000), None);
    }

    #[test]
    fn a_walk_in_a_circle_is_noticed_soon() {
        for (tail, circle) in (0..40).flat_map(|tail| (1..40).map(move |circle| (tail, circle))) {
            let next = |at: u64| if at == tail + circle { tail + 1 } else { at + 1 };
            let steps = walk(next, 10_000);
            assert!(
                steps.is_some_and(|steps| steps as u64 <= 4 * (tail + circle + 1)),
                "{tail} {circle}: {steps:?}"
            );
        }
    }
}
