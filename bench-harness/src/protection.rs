//! Tests of the machine's protections: a kernel with all of them on must pass. A kernel with one of
//! them off must fail exactly the tests of that protection. This proves what each test detects.

use anyhow::Result;

use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::report::{Report, Verdict};
use crate::session::Session;
use crate::suite::{self, GUEST_LIMIT};
use crate::testsum::Tally;

/// A protection by its name in the boot option `off=`, and the tests that fail without it.
const CONTROLS: [(&str, &[&str]); 7] = [
    ("smap", &["the_kernel_reaches_no_user_data"]),
    ("smep", &["the_kernel_executes_no_user_text"]),
    ("wp", &["the_kernel_writes_nothing_read_only", "the_kernel_forgets_what_it_could_write"]),
    ("nx", &["the_kernel_executes_no_data", "programs_execute_no_data"]),
    ("wx", &["nothing_is_written_and_executed"]),
    ("umip", &["tables_are_not_shown"]),
    ("inherit", &["a_hog_delays_no_better_caller"]),
];
const MODULE: &str = "protection::";
const CPUS: u32 = 2;

/// Runs the tests with all protections, then without each: one test for each protection.
pub fn run(lab: &Lab) -> Result<Tally> {
    let mut sum = suite::judge(lab, &lab.run(&job(""))?);
    for (name, wanted) in CONTROLS {
        let session = lab.run(&job(name))?;
        let failed = failures(&session.reports);
        let as_wanted = session.check_ended().is_ok() && failed == wanted;
        let text = failed.join(", ");
        lab.screen.say(&if as_wanted {
            format!("{}: as it should be, what fails is {text}", session.label)
        } else {
            format!(
                "{}: {} should fail, and it is: {text}\n{}",
                session.label,
                wanted.join(", "),
                said(&session)
            )
        });
        let wrong = (!as_wanted).then(|| format!("what fails is {text}"));
        sum += lab.cases.one(&session.label, wrong);
    }
    Ok(sum)
}

fn job(off: &str) -> Job {
    let (label, option) = match off {
        "" => ("test-protection".to_owned(), String::new()),
        name => (format!("test-without-{name}"), format!(" off={name}")),
    };
    Job {
        label,
        variant: "faults".to_owned(),
        command_line: format!("run=test only=protection{option}"),
        mode: Mode::Icount,
        cpus: CPUS,
        counted: None,
        limit: GUEST_LIMIT,
    }
}

/// Returns the names of the tests that failed, in the order in which they ran.
fn failures(reports: &[Report]) -> Vec<&str> {
    let failed = |report| match report {
        &Report::Test { ref name, verdict: Verdict::Failed(_) } => {
            Some(name.strip_prefix(MODULE).unwrap_or(name))
        }
        _ => None,
    };
    reports.iter().filter_map(failed).collect()
}

/// Describes how a run ended, unless it ended as a run with failures does, and why tests failed.
fn said(session: &Session) -> String {
    let mut lines: Vec<String> = session.check_ended().err().iter().map(ToString::to_string).collect();
    for report in &session.reports {
        if let Report::Test { name, verdict: Verdict::Failed(why) } = report {
            lines.push(format!("  {name}: {why}"));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_told_from_what_did_not() {
        let lines = [
            "test name=protection::a ok",
            "test name=protection::b FAILED it went through",
            "test name=protection::c skipped no SMEP",
        ];
        let reports: Vec<Report> = lines.iter().map(|line| Report::parse(line)).collect();
        assert_eq!(failures(&reports), ["b"]);
    }
}
