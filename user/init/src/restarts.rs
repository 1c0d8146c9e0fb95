//! When a process that has ended is started again. Times are in microseconds.
//!
//! A process waits longer before each restart, up to a limit. One that ends too often stays ended.
//! Ends are counted in windows: the first end after a window begins the next one, in which the
//! process is as good as one that never ended.

use protocols::system::When;

/// What a description says of restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    pub when: When,
    /// Before the first restart of a window.
    pub wait: u64,
    /// The longest wait.
    pub most: u64,
    /// Ends in one window after which there is a restart.
    pub limit: u32,
    /// The length of a window.
    pub within: u64,
}

/// What happens to a process that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is started again at this time.
    Again(u64),
    /// It stays ended: nobody asked for a restart.
    Ended,
    /// It stays ended, because it has ended too often.
    GivenUp,
}

/// The restarts of one process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restarts {
    rule: Rule,
    window: u64,
    ends: u32,
    wait: u64,
}

impl Restarts {
    pub const fn new(rule: Rule) -> Restarts {
        Restarts { rule, window: 0, ends: 0, wait: rule.wait }
    }

    /// Notes an end of the process, and decides its fate.
    pub fn ended(&mut self, now: u64, failed: bool) -> Fate {
        match self.rule.when {
            When::Always => {}
            When::Failure if failed => {}
            When::Failure | When::Never => return Fate::Ended,
        }
        if self.ends == 0 || now.saturating_sub(self.window) > self.rule.within {
            (self.window, self.ends, self.wait) = (now, 0, self.rule.wait);
        }
        self.ends += 1;
        if self.ends > self.rule.limit {
            return Fate::GivenUp;
        }
        let at = now.saturating_add(self.wait);
        self.wait = self.wait.saturating_mul(2).min(self.rule.most);
        Fate::Again(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { when: When::Always, wait: 10, most: 35, limit: 4, within: 1_000 };

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut restarts = Restarts::new(RULE);
        let fates = [0, 100, 200, 300, 400].map(|now| restarts.ended(now, true));
        let again = [10, 120, 235, 335].map(Fate::Again);
        assert_eq!(fates[..4], again);
        assert_eq!(fates[4], Fate::GivenUp, "the fifth end of a window");
    }

    #[test]
    fn a_new_window_begins_with_the_first_end_after_the_last_one() {
        let mut restarts = Restarts::new(RULE);
        for now in [0, 1, 2, 1_000] {
            assert!(matches!(restarts.ended(now, false), Fate::Again(_)));
        }
        assert_eq!(restarts.ended(1_001, false), Fate::Again(1_011), "as if it had never ended");
    }

    #[test]
    fn ends_that_nobody_restarts() {
        let fate = |when, failed| Restarts::new(Rule { when, ..RULE }).ended(5, failed);
        assert_eq!(fate(When::Never, true), Fate::Ended);
        assert_eq!(fate(When::Failure, false), Fate::Ended);
        assert_eq!(fate(When::Failure, true), Fate::Again(15));
        assert_eq!(fate(When::Always, false), Fate::Again(15));
    }

    #[test]
    fn no_number_is_too_large() {
        let rule = Rule { wait: u64::MAX, most: u64::MAX, within: u64::MAX, limit: u32::MAX, ..RULE };
        let mut restarts = Restarts::new(rule);
        assert_eq!(restarts.ended(7, true), Fate::Again(u64::MAX));
        assert_eq!(restarts.ended(u64::MAX, true), Fate::Again(u64::MAX));
        let mut none = Restarts::new(Rule { limit: 0, ..RULE });
        assert_eq!(none.ended(7, true), Fate::GivenUp);
    }
}
