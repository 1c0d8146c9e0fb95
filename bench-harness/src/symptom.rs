//! The way in which a run has failed, to compare it with other runs.
//!
//! A symptom is a set of lines: errors that the guest reports, broken rules of the kernel's state,
//! or the way in which the guest died. Numbers are removed from the lines, since seats, times and
//! addresses differ from run to run. Two runs fail in the same way if their symptoms have a line in
//! common; one line is enough, since one bug can show in several ways.

use std::collections::BTreeSet;
use std::fmt;

use crate::report::Report;
use crate::session::{Ending, Session};
use crate::trouble::{Trouble, first_line};

/// How complaints of the programs start.
const ERROR: &str = "error ";
/// How the kernel's panic starts on the serial line.
const PANIC: &str = "aurora: kernel panic on ";

/// In which way a run has failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Symptom(BTreeSet<String>);

impl Symptom {
    /// Returns what a failed run shows. `trouble` is the reason for the failure.
    pub fn of(session: &Session, trouble: &Trouble) -> Symptom {
        let complaints = session.reports.iter().filter_map(|report| match report {
            Report::Other(line) => line.strip_prefix(ERROR),
            _ => None,
        });
        let rules = session.violations.iter().filter_map(|violation| violation.split(':').next());
        let rules = rules.map(|rule| format!("the rule {rule} does not hold"));
        let panics = session.last_words.iter().filter_map(|line| line.strip_prefix(PANIC));
        let panics =
            panics.filter(|_| session.ending == Ending::Panic).map(|line| format!("panic on {line}"));
        let lines: BTreeSet<String> = complaints
            .map(str::to_owned)
            .chain(rules)
            .chain(panics)
            .map(|line| without_numbers(&line))
            .collect();
        if lines.is_empty() {
            let text = trouble.to_string();
            let why = first_line(&text).split_once(": ").map_or(text.as_str(), |(_, why)| why);
            return Symptom(BTreeSet::from([without_numbers(first_line(why))]));
        }
        Symptom(lines)
    }

    /// Returns whether two runs have failed in the same way: their symptoms have a line in common.
    pub fn is_like(&self, other: &Symptom) -> bool {
        !self.0.is_disjoint(&other.0)
    }

    /// Returns the symptom, line by line.
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }

    #[cfg(test)]
    pub fn from_lines(lines: &[&str]) -> Symptom {
        Symptom(lines.iter().map(|line| without_numbers(line)).collect())
    }
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("; "))
    }
}

/// Returns a line with `N` in place of each number, also within words.
fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(at);
        let is_hex = number.starts_with("0x");
        let digits = if is_hex { &number[2..] } else { number };
        let end = digits.find(|c: char| !(c.is_ascii_digit() || is_hex && c.is_ascii_hexdigit()));
        text.push_str(before);
        text.push('N');
        rest = end.map_or("", |end| &digits[end..]);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_out() {
        let line = "stress: Lost at 452477866: seat 7 heard 0 of 1 notifications of seat 12";
        assert_eq!(without_numbers(line), "stress: Lost at N: seat N heard N of N notifications of seat N");
        assert_eq!(without_numbers("cpu3 at 0xffff80ab, then"), "cpuN at N, then");
        assert_eq!(without_numbers("none"), "none");
    }

    #[test]
    fn one_line_in_common_is_the_same_way() {
        let lost = Symptom::from_lines(&["Lost: seat 7 of 2", "Unanswered: seat 3"]);
        assert!(lost.is_like(&Symptom::from_lines(&["Lost: seat 11 of 10"])));
        assert!(!lost.is_like(&Symptom::from_lines(&["Corrupted: seat 7"])));
        assert_eq!(lost.to_string(), "Lost: seat N of N; Unanswered: seat N");
    }
}
