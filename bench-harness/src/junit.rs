//! Writes the results of tests as JUnit XML, for tools that collect such results.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::files;
use crate::report::Verdict;
use crate::testsum::Case;

/// One suite for each step.
pub struct Junit(Report);

impl Junit {
    pub fn new() -> Junit {
        Junit(Report::new("aurora"))
    }

    /// Adds a step: its tests, how long it took, and its output if tests failed.
    pub fn step(&mut self, name: &str, cases: &[Case], elapsed: Duration, said: &[String]) {
        let mut suite = TestSuite::new(name);
        suite.set_time(elapsed);
        suite.add_test_cases(cases.iter().map(|case| test(name, case)));
        if !said.is_empty() {
            suite.set_system_out(said.join("\n"));
        }
        self.0.add_test_suite(suite);
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        files::make_dir_of(path)?;
        let text = self.0.to_string().context("writing XML")?;
        files::write(path, text)
    }
}

impl Default for Junit {
    fn default() -> Junit {
        Junit::new()
    }
}

fn test(step: &str, case: &Case) -> TestCase {
    let status = match &case.verdict {
        Verdict::Ok => TestCaseStatus::success(),
        Verdict::Failed(why) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(why.lines().next().unwrap_or_default());
            status.set_description(why.as_str());
            status
        }
        Verdict::Skipped(why) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(why.as_str());
            status
        }
    };
    let mut test = TestCase::new(case.name.as_str(), status);
    test.set_classname(if case.group.is_empty() {
        step.to_owned()
    } else {
        format!("{step}.{}", case.group)
    });
    test
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_test_is_there_with_what_came_of_it() {
        let case = |name: &str, verdict| Case { group: "boot".to_owned(), name: name.to_owned(), verdict };
        let cases = [
            case("a", Verdict::Ok),
            case("b", Verdict::Failed("1 < 2 & \"so\"\nmore".to_owned())),
            case("c", Verdict::Skipped("no PCID".to_owned())),
        ];
        let mut junit = Junit::new();
        junit.step("guest", &cases, Duration::from_secs(3), &["said".to_owned()]);
        let text = junit.0.to_string().expect("XML");
        let read = Report::deserialize_from_str(&text).expect("what was written can be read");
        assert_eq!((read.tests, read.failures), (3, 1));
        let suite = &read.test_suites[0];
        assert_eq!(suite.name.as_str(), "guest");
        assert!(matches!(suite.test_cases[2].status, TestCaseStatus::Skipped { .. }));
        let names: Vec<_> = suite.test_cases.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let failed = &suite.test_cases[1];
        assert_eq!(failed.classname.as_ref().map(|name| name.as_str()), Some("guest.boot"));
        assert!(matches!(&failed.status, TestCaseStatus::NonSuccess { message: Some(why), .. }
            if why.as_str() == "1 < 2 & \"so\""));
        assert!(text.contains("said"));
    }
}
