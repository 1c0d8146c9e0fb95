//! The result file, and comparing two of them.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::files;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::settings::Settings;

/// One figure: instructions, without the empty measurement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    /// What is between the time stamps.
    pub what: String,
    pub scope: String,
    pub n: u64,
    pub min: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// What was measured on one kernel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub name: String,
    pub cpus: u32,
    pub settings: Settings,
    pub rows: Vec<Row>,
}

/// What figures depend on beside the source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Host {
    pub qemu: String,
    pub compiler: String,
    pub guest_cpu: String,
}

/// A result file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Results {
    pub name: String,
    pub version: String,
    pub commit: String,
    pub host: Host,
    pub configurations: Vec<Measured>,
}

/// The result of comparing a run with a result file.
#[derive(PartialEq, Eq, Debug)]
pub enum Comparison {
    /// All of so many rows are as they were.
    Equal(usize),
    /// The two say different things; one line each.
    Different(Vec<String>),
    /// The two cannot be compared, and why.
    Skipped(String),
}

impl Results {
    pub fn read(file: &Path) -> Result<Results> {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is no result file of `peers`", file.display()))
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        files::make_dir_of(file)?;
        files::write(file, self.text()?)
    }

    /// Returns the file's text: one row a line, so that a difference of two files names the rows.
    pub fn text(&self) -> Result<String> {
        let mut text = format!(
            "{{\"name\":{},\"version\":{},\"commit\":{},\n \"host\":{},\n \"configurations\":[\n",
            json!(self.name),
            json!(self.version),
            json!(self.commit),
            serde_json::to_string(&self.host)?
        );
        for (place, measured) in self.configurations.iter().enumerate() {
            let (name, settings) = (json!(measured.name), serde_json::to_string(&measured.settings)?);
            let _ = writeln!(
                text,
                "{{\"name\":{name},\"cpus\":{},\n \"settings\":{settings},\n \"rows\":[",
                measured.cpus
            );
            let rows: Result<Vec<String>, _> = measured.rows.iter().map(serde_json::to_string).collect();
            text += &rows?.join(",\n");
            text += if place + 1 < self.configurations.len() { "\n]},\n" } else { "\n]}\n" };
        }
        Ok(text + "]}\n")
    }

    pub fn rows(&self) -> usize {
        self.configurations.iter().map(|measured| measured.rows.len()).sum()
    }

    /// Compares this run with the recorded one. Figures must be equal; the words of explanations
    /// may differ.
    pub fn compare(&self, recorded: &Results) -> Comparison {
        if let Some(why) = self.incomparable(recorded) {
            return Comparison::Skipped(why);
        }
        let mut lines = Vec::new();
        for was in &recorded.configurations {
            match self.configurations.iter().find(|now| now.name == was.name) {
                Some(now) => compare_rows(now, was, &mut lines),
                None => lines.push(format!("{}: not measured any more", was.name)),
            }
        }
        let is_new = |now: &&Measured| recorded.configurations.iter().all(|was| was.name != now.name);
        lines.extend(
            self.configurations.iter().filter(is_new).map(|now| format!("{}: not recorded", now.name)),
        );
        if lines.is_empty() { Comparison::Equal(self.rows()) } else { Comparison::Different(lines) }
    }

    fn incomparable(&self, recorded: &Results) -> Option<String> {
        let pairs = [
            ("commit", &self.commit, &recorded.commit),
            ("compiler", &self.host.compiler, &recorded.host.compiler),
            ("QEMU", &self.host.qemu, &recorded.host.qemu),
            ("guest CPU", &self.host.guest_cpu, &recorded.host.guest_cpu),
        ];
        for (what, now, was) in pairs {
            if now != was {
                return Some(format!("{what} is {now}, and the recorded figures are of {was}"));
            }
        }
        let settings = self.configurations.iter().find_map(|now| {
            let was = recorded.configurations.iter().find(|was| was.name == now.name)?;
            let differs = |(name, value): (&String, &String)| was.settings.get(name) != Some(value);
            now.settings.iter().any(differs).then_some(&now.name)
        });
        settings.map(|name| format!("the settings of {name} are others than those recorded"))
    }
}

fn compare_rows(now: &Measured, was: &Measured, lines: &mut Vec<String>) {
    let of = |row: &Row| [row.n, row.min, row.p50, row.p99, row.max];
    for row in &was.rows {
        match now.rows.iter().find(|other| other.name == row.name) {
            Some(other) if of(other) == of(row) => {}
            Some(other) => lines.push(format!(
                "{} {}: n, min, p50, p99, max are {:?}, recorded {:?}",
                was.name,
                row.name,
                of(other),
                of(row)
            )),
            None => lines.push(format!("{} {}: not measured any more", was.name, row.name)),
        }
    }
    let is_new = |row: &&Row| was.rows.iter().all(|other| other.name != row.name);
    lines
        .extend(now.rows.iter().filter(is_new).map(|row| format!("{} {}: not recorded", now.name, row.name)));
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn row(name: &str, p50: u64) -> Row {
        let (what, scope) = ("a \"thing\" | more".to_owned(), "operation".to_owned());
        Row { name: name.to_owned(), what, scope, n: 10, min: p50, p50, p99: p50, max: p50 }
    }

    pub fn results() -> Results {
        let measured = |name: &str, cpus, rows: Vec<Row>| Measured {
            name: name.to_owned(),
            cpus,
            settings: Settings::from([("KernelFastpath".to_owned(), "ON".to_owned())]),
            rows,
        };
        Results {
            name: "seL4".into(),
            version: "16".into(),
            commit: "0123".into(),
            host: Host { qemu: "7.2".into(), compiler: "gcc 12".into(), guest_cpu: "max".into() },
            configurations: vec![
                measured("uniprocessor", 1, vec![row("call", 1414), row("yield", 280)]),
                measured("smp", 2, vec![row("call", 583), row("cross", 2775)]),
            ],
        }
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let text = results().text().expect("text");
        let read: Results = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read, results());
        assert_eq!(read.text().expect("text"), text);
        let rows = text.lines().filter(|line| line.starts_with("{\"name\":\"") && line.contains("\"p50\":"));
        assert_eq!(rows.count(), 4, "{text}");
    }

    #[test]
    fn equal_runs_are_equal_whatever_the_wording() {
        let mut now = results();
        now.configurations[0].rows[0].what = "put in other words".into();
        assert_eq!(now.compare(&results()), Comparison::Equal(4));
    }

    #[test]
    fn each_difference_is_named() {
        let mut now = results();
        now.configurations[0].rows[1].max += 1;
        now.configurations[1].rows[1] = row("other", 1);
        let Comparison::Different(lines) = now.compare(&results()) else { panic!("they differ") };
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains("uniprocessor yield: n, min, p50, p99, max are [10, 280, 280, 280, 281]"));
        assert_eq!(lines[1..], ["smp cross: not measured any more", "smp other: not recorded"]);
        now.configurations.pop();
        let Comparison::Different(lines) = now.compare(&results()) else { panic!("they differ") };
        assert!(lines.contains(&"smp: not measured any more".to_owned()), "{lines:?}");
    }

    #[test]
    fn another_compiler_qemu_commit_or_setting_is_not_compared() {
        let change: [fn(&mut Results); 4] = [
            |now| now.host.compiler = "gcc 13".into(),
            |now| now.host.qemu = "9.0".into(),
            |now| now.commit = "4567".into(),
            |now| drop(now.configurations[0].settings.insert("KernelFastpath".into(), "OFF".into())),
        ];
        for (change, word) in change.into_iter().zip(["compiler", "QEMU", "commit", "settings"]) {
            let mut now = results();
            change(&mut now);
            let Comparison::Skipped(why) = now.compare(&results()) else { panic!("{word}") };
            assert!(why.contains(word), "{why}");
        }
    }
}
