//! The committed figures, `perf/scale.json`. Page and picture are made from them, and
//! `scale --check` compares a run with them.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Point, Wanted};
use crate::baseline;
use crate::files;
use crate::host::Host;
use crate::stress::Idle;

/// How far instructions may be from the committed ones, in percent, and lines and interrupts: CPUs
/// that halt need not replay, since while all of them halt the host decides when the clock goes on.
const INSTRUCTIONS: f64 = 1.0;
const LINES: f64 = 1.0;
const INTERRUPTS: f64 = 0.1;

/// A result file.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Results {
    schema: u32,
    /// Compiler, QEMU and guest CPU, as in the baseline.
    pub key: String,
    pub idle: Idle,
    /// The operations of each client.
    pub operations: u32,
    pub points: Vec<Point>,
}

/// The result of holding a run against committed figures.
#[derive(PartialEq, Eq, Debug)]
pub enum Verdict {
    /// So many points are as they were.
    Held(usize),
    /// One line for each that is not.
    Moved(Vec<String>),
    /// The two cannot be compared, and why.
    Skipped(String),
}

impl Results {
    pub fn new(host: &Host, wanted: &Wanted, points: Vec<Point>) -> Results {
        let Wanted { idle, operations, .. } = *wanted;
        Results { schema: 1, key: baseline::key(host), idle, operations, points }
    }

    pub fn read(path: &Path) -> Result<Results> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is no result file of `scale`", path.display()))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        files::write(path, self.text()?)
    }

    /// Writes the file's text: a line for each point, so that a difference of two files reads well.
    fn text(&self) -> Result<String> {
        let points: Result<Vec<String>, _> = self.points.iter().map(serde_json::to_string).collect();
        Ok(format!(
            "{{\"schema\":{},\"key\":{},\"idle\":{},\"operations\":{},\"points\":[\n{}\n]}}\n",
            self.schema,
            json!(self.key),
            json!(self.idle),
            self.operations,
            points?.join(",\n")
        ))
    }

    /// Returns what was counted, and how.
    pub fn conditions(&self) -> String {
        let Results { idle, operations, .. } = self;
        format!("icount, idle={idle}, {operations} operations a client; per operation, all CPUs together")
    }

    /// Returns the instructions, lines or interrupts of one operation of a load, rounded.
    pub fn figure(&self, load: &str, cpus: u32, field: &str) -> Option<u64> {
        let point = self.find(load, cpus)?;
        let figure = match field {
            "instructions" => point.instructions,
            "lines" => point.lines,
            "interrupts" => point.interrupts(),
            _ => return None,
        };
        Some(figure.round() as u64)
    }

    fn find(&self, load: &str, cpus: u32) -> Option<&Point> {
        self.points.iter().find(|point| point.load == load && point.cpus == cpus)
    }

    /// Compares this run with the committed figures of the same numbers of CPUs.
    pub fn compare(&self, committed: &Results) -> Verdict {
        if self.key != committed.key {
            return Verdict::Skipped(format!("no figures are committed for: {}", self.key));
        }
        if (self.idle, self.operations) != (committed.idle, committed.operations) {
            return Verdict::Skipped(format!("the committed figures are of: {}", committed.conditions()));
        }
        let mut moved = Vec::new();
        for now in &self.points {
            let name = format!("{} on {} CPUs", now.load, now.cpus);
            let Some(was) = committed.find(&now.load, now.cpus) else {
                moved.push(format!("{name}: not committed"));
                continue;
            };
            for (what, now, was, most) in [
                ("instructions", now.instructions, was.instructions, was.instructions * INSTRUCTIONS / 100.0),
                ("lines", now.lines, was.lines, LINES),
                ("interrupts", now.interrupts(), was.interrupts(), INTERRUPTS),
            ] {
                if (now - was).abs() > most {
                    moved.push(format!("{name}: {what} {was:.2} → {now:.2}"));
                }
            }
        }
        if moved.is_empty() { Verdict::Held(self.points.len()) } else { Verdict::Moved(moved) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn point(cpus: u32) -> Point {
        let counted = BTreeMap::from([("interrupt".to_owned(), 1.0)]);
        let load = "pairs_crossing".to_owned();
        Point { load, cpus, clients: cpus, operations: 99, instructions: 1000.0, lines: 36.5, counted }
    }

    fn results() -> Results {
        let points = vec![point(1), point(2)];
        Results { schema: 1, key: "rustc 1".to_owned(), idle: Idle::Halt, operations: 500, points }
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let text = results().text().expect("text");
        assert_eq!(serde_json::from_str::<Results>(&text).expect("JSON"), results());
        assert_eq!(text.lines().filter(|line| line.contains("pairs_crossing")).count(), 2, "{text}");
    }

    #[test]
    fn small_differences_are_held_and_others_named() {
        let mut now = results();
        now.points.remove(0);
        now.points[0].instructions = 1009.0;
        now.points[0].lines = 37.4;
        assert_eq!(now.compare(&results()), Verdict::Held(1));
        now.points[0].lines = 42.5;
        now.points[0].instructions = 989.0;
        let Verdict::Moved(lines) = now.compare(&results()) else { panic!("it moved") };
        let name = "pairs_crossing on 2 CPUs";
        assert_eq!(
            lines,
            [format!("{name}: instructions 1000.00 → 989.00"), format!("{name}: lines 36.50 → 42.50")]
        );
        now.points.push(point(3));
        let Verdict::Moved(lines) = now.compare(&results()) else { panic!("it moved") };
        assert!(lines.contains(&"pairs_crossing on 3 CPUs: not committed".to_owned()), "{lines:?}");
    }

    #[test]
    fn another_compiler_or_load_is_not_compared() {
        let other = Results { key: "rustc 2".to_owned(), ..results() };
        assert!(matches!(other.compare(&results()), Verdict::Skipped(why) if why.contains("rustc 2")));
        let other = Results { operations: 200, ..results() };
        assert!(matches!(other.compare(&results()), Verdict::Skipped(why) if why.contains("500 operations")));
    }

    #[test]
    fn figures_are_found_by_load_and_cpus() {
        let results = results();
        assert_eq!(results.figure("pairs_crossing", 2, "instructions"), Some(1000));
        assert_eq!(results.figure("pairs_crossing", 2, "lines"), Some(37));
        assert_eq!(results.figure("pairs_crossing", 2, "interrupts"), Some(1));
        assert_eq!(results.figure("pairs_crossing", 3, "lines"), None);
        assert_eq!(results.figure("pairs_crossing", 2, "cycles"), None);
    }
}
