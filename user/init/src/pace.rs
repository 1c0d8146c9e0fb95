//! How many calls process 1 serves. It serves them with its own time, above all others, so a flood
//! of calls must not take its CPU. Times are in microseconds.

/// Calls that are served in a period.
const CALLS: u32 = 100;
const PERIOD: u64 = 10_000;

/// The calls of the present period.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pace {
    end: u64,
    served: u32,
}

impl Pace {
    /// Returns until when no call is served, if there were enough. A period begins with the first
    /// call after the last one.
    pub const fn pause(&mut self, now: u64) -> Option<u64> {
        if now >= self.end {
            (self.end, self.served) = (now.saturating_add(PERIOD), 0);
        }
        if self.served < CALLS { None } else { Some(self.end) }
    }

    /// Counts a call that is served.
    pub const fn count(&mut self) {
        self.served += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_so_many_calls() {
        let mut pace = Pace::default();
        for now in 0..u64::from(CALLS) {
            assert_eq!(pace.pause(now), None);
            pace.count();
        }
        assert_eq!(pace.pause(500), Some(PERIOD));
        assert_eq!(pace.pause(PERIOD - 1), Some(PERIOD));
        assert_eq!(pace.pause(PERIOD), None, "the next period");
        pace.count();
        assert_eq!(pace.pause(PERIOD + 1), None);
    }
}
