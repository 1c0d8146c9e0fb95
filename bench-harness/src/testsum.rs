//! Adding up tests of every kind: what cargo prints, and what guests report.

use std::ops::AddAssign;

use crate::report::{Report, Verdict};

/// How many tests did what.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Tally {
    pub const ONE_PASSED: Tally = Tally { passed: 1, failed: 0, skipped: 0 };
    pub const ONE_FAILED: Tally = Tally { passed: 0, failed: 1, skipped: 0 };
    pub const ONE_SKIPPED: Tally = Tally { passed: 0, failed: 0, skipped: 1 };

    /// A check that is one test.
    pub fn one(passed: bool) -> Tally {
        if passed { Tally::ONE_PASSED } else { Tally::ONE_FAILED }
    }

    /// What a line of `cargo test` adds: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub fn of_cargo_line(line: &str) -> Tally {
        let Some(counts) = line.trim().strip_prefix("test result: ") else { return Tally::default() };
        let count = |what: &str| {
            // "ok. 3 passed" or " 0 failed": the number stands before the word.
            let clause = counts.split(';').find_map(|clause| clause.trim().strip_suffix(what));
            clause.and_then(|before| before.split_whitespace().last()?.parse().ok()).unwrap_or(0)
        };
        Tally { passed: count("passed"), failed: count("failed"), skipped: count("ignored") }
    }

    /// What a guest reported, test by test.
    pub fn of_reports(reports: &[Report]) -> Tally {
        let mut tally = Tally::default();
        for report in reports {
            if let Report::Test { verdict, .. } = report {
                tally += match verdict {
                    Verdict::Ok => Tally::ONE_PASSED,
                    Verdict::Failed(_) => Tally::ONE_FAILED,
                    Verdict::Skipped(_) => Tally::ONE_SKIPPED,
                };
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_lines_are_read() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(Tally::of_cargo_line(line), Tally { passed: 12, failed: 2, skipped: 1 });
        assert_eq!(Tally::of_cargo_line("test foo ... ok"), Tally::default());
    }

    #[test]
    fn guest_tests_are_counted_one_by_one() {
        let lines = ["test name=a ok", "test name=b FAILED no", "test name=c skipped no PCID", "progress x"];
        let reports: Vec<Report> = lines.iter().map(|line| Report::parse(line)).collect();
        assert_eq!(Tally::of_reports(&reports), Tally { passed: 1, failed: 1, skipped: 1 });
    }
}
