//! Adds up the results of tests: those that cargo prints, and those that guests report.

use std::ops::AddAssign;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

    /// Counts a check as one test.
    pub fn one(passed: bool) -> Tally {
        if passed { Tally::ONE_PASSED } else { Tally::ONE_FAILED }
    }

    /// Counts one test with this verdict.
    fn of(verdict: &Verdict) -> Tally {
        match verdict {
            Verdict::Ok => Tally::ONE_PASSED,
            Verdict::Failed(_) => Tally::ONE_FAILED,
            Verdict::Skipped(_) => Tally::ONE_SKIPPED,
        }
    }

    /// Returns the tests that a line of `cargo test` counts:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub fn of_cargo_line(line: &str) -> Tally {
        let Some(counts) = line.trim().strip_prefix("test result: ") else { return Tally::default() };
        let count = |what: &str| {
            // "ok. 3 passed" or " 0 failed": the number stands before the word.
            let clause = counts.split(';').find_map(|clause| clause.trim().strip_suffix(what));
            clause.and_then(|before| before.split_whitespace().last()?.parse().ok()).unwrap_or(0)
        };
        Tally { passed: count("passed"), failed: count("failed"), skipped: count("ignored") }
    }

    /// Counts what a guest reported, test by test.
    pub fn of_reports(reports: &[Report]) -> Tally {
        let mut tally = Tally::default();
        for report in reports {
            if let Report::Test { verdict, .. } = report {
                tally += Tally::of(verdict);
            }
        }
        tally
    }
}

/// A named test and its result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// What it was part of: a boot, or a call of cargo. Empty: nothing but its step.
    pub group: String,
    pub name: String,
    pub verdict: Verdict,
}

impl Case {
    fn tally(&self) -> Tally {
        Tally::of(&self.verdict)
    }

    /// Returns what a line of `cargo test` says about one test: `test queue::is_fair ... ok`.
    pub fn of_cargo_line(group: &str, line: &str) -> Option<Case> {
        let (name, verdict) = line.trim().strip_prefix("test ")?.rsplit_once(" ... ")?;
        let verdict = match verdict.split(',').next()? {
            "ok" => Verdict::Ok,
            "FAILED" => Verdict::Failed(String::new()),
            "ignored" => Verdict::Skipped(String::new()),
            _ => return None,
        };
        Some(Case { group: group.to_owned(), name: name.to_owned(), verdict })
    }
}

/// The tests that have said their names since somebody took them.
#[derive(Default, Debug)]
pub struct Cases(Mutex<Vec<Case>>);

impl Cases {
    pub fn note(&self, case: Case) {
        self.lock().push(case);
    }

    /// Records a check that is one test, and counts it.
    pub fn one(&self, name: &str, wrong: Option<String>) -> Tally {
        let verdict = wrong.map_or(Verdict::Ok, Verdict::Failed);
        let case = Case { group: String::new(), name: name.to_owned(), verdict };
        let tally = case.tally();
        self.note(case);
        tally
    }

    pub fn take(&self) -> Vec<Case> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Case>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the tests of a step: those with names, and as many unnamed ones as it has counted
/// besides.
pub fn complete(mut cases: Vec<Case>, counted: Tally) -> Vec<Case> {
    let mut named = Tally::default();
    cases.iter().for_each(|case| named += case.tally());
    let unnamed = [
        (counted.passed.saturating_sub(named.passed), Verdict::Ok),
        (counted.failed.saturating_sub(named.failed), Verdict::Failed(String::new())),
        (counted.skipped.saturating_sub(named.skipped), Verdict::Skipped(String::new())),
    ];
    for (count, verdict) in unnamed {
        cases.extend((1..=count).map(|number| Case {
            group: String::new(),
            name: format!("unnamed {number}"),
            verdict: verdict.clone(),
        }));
    }
    cases
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
    fn cargo_names_its_tests() {
        let case = |line| Case::of_cargo_line("host", line);
        let named = case("test queue::is_fair ... ok").expect("a test");
        assert_eq!((named.group.as_str(), named.name.as_str()), ("host", "queue::is_fair"));
        assert!(case("test a ... FAILED").is_some_and(|case| matches!(case.verdict, Verdict::Failed(_))));
        assert!(
            case("test a ... ignored, too slow").is_some_and(|c| matches!(c.verdict, Verdict::Skipped(_)))
        );
        assert_eq!(case("test result: ok. 12 passed; 2 failed"), None);
    }

    #[test]
    fn what_has_no_name_is_there_all_the_same() {
        let cases = Cases::default();
        let mut sum = cases.one("a", None);
        sum += cases.one("b", Some("it is not so".to_owned()));
        assert_eq!(sum, Tally { passed: 1, failed: 1, skipped: 0 });
        let all = complete(cases.take(), Tally { passed: 3, failed: 1, skipped: 1 });
        let names: Vec<&str> = all.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "unnamed 1", "unnamed 2", "unnamed 1"]);
        assert!(cases.take().is_empty());
    }

    #[test]
    fn guest_tests_are_counted_one_by_one() {
        let lines = ["test name=a ok", "test name=b FAILED no", "test name=c skipped no PCID", "progress x"];
        let reports: Vec<Report> = lines.iter().map(|line| Report::parse(line)).collect();
        assert_eq!(Tally::of_reports(&reports), Tally { passed: 1, failed: 1, skipped: 1 });
    }
}
