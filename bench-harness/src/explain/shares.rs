//! The rows whose phases the book shows: `perf/phases.json`, made by `explain --shown --update`.
//!
//! The phases of a row sum up to its figure in the baseline. So if a row's figure changes, this
//! file is out of date, which a host test detects without a boot; `explain --shown --check`
//! compares the phases themselves.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::base::Tree;
use super::phase::Phase;
use super::{Explained, explain, rows};
use crate::baseline;
use crate::files;
use crate::host::Host;
use crate::lab::Lab;
use crate::machine::GUEST_CPU;
use crate::trouble::Trouble;

/// From the project's root.
pub const COMMITTED: &str = "perf/phases.json";

/// In the order of the book's table.
const ROWS: [&str; 10] = [
    "call_reply_cross_as",
    "call_reply_64w",
    "notify_no_waiter",
    "notify_wait_same_cpu",
    "yield_to",
    "send_event",
    "cap_copy",
    "cap_delete",
    "retype_notification",
    "map_unmap_1p",
];

/// What is done with the phases of today.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    Check,
    Update,
}

/// Instructions of each phase of each row.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Shares {
    /// Compiler, QEMU and guest CPU, as in the baseline.
    pub key: String,
    pub rows: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Shares {
    pub fn read(path: &Path) -> Result<Shares> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} has no phases of rows", path.display()))
    }

    /// Returns the instructions of a row.
    #[cfg(test)]
    pub fn total(&self, row: &str) -> u64 {
        self.rows.get(row).map_or(0, |phases| phases.values().sum())
    }

    /// Makes the book's table, with a column for each phase that any row has.
    pub fn table(&self) -> String {
        let of = |row: &str, phase: &str| self.rows.get(row).and_then(|phases| phases.get(phase)).copied();
        let phases: Vec<&str> = Phase::ALL.iter().map(|phase| phase.name()).collect();
        let shown: Vec<&str> =
            phases.into_iter().filter(|phase| ROWS.iter().any(|row| of(row, phase).is_some())).collect();
        let mut text =
            format!("| row | {} | all |\n|---|{}---:|\n", shown.join(" | "), "---:|".repeat(shown.len()));
        for row in ROWS {
            let _ = write!(text, "| `{row}` |");
            for phase in &shown {
                let _ = write!(
                    text,
                    " {} |",
                    of(row, phase).map_or_else(|| "–".to_owned(), |count| count.to_string())
                );
            }
            let all: u64 = shown.iter().filter_map(|phase| of(row, phase)).sum();
            let _ = writeln!(text, " **{all}** |");
        }
        text
    }
}

/// Explains every row that the book shows, and compares with what is committed, or commits it.
pub fn command(lab: &Lab, what: What) -> Result<()> {
    let root = std::env::current_dir().context("finding the tree")?;
    let tree = Tree { root, artifacts: lab.artifacts.clone(), _checkout: None };
    let key = baseline::key(&Host::look(&lab.qemu.version, GUEST_CPU));
    let mut now = Shares { key, rows: BTreeMap::new() };
    for row in ROWS {
        lab.screen.say(row);
        let explained = explain(lab, &tree, &rows::find(row, None)?)?;
        explained.check()?;
        now.rows.insert(row.to_owned(), phases(&explained));
    }
    if what == What::Update {
        let text = serde_json::to_string_pretty(&now)? + "\n";
        return files::write(Path::new(COMMITTED), text);
    }
    let committed = Shares::read(Path::new(COMMITTED))?;
    if committed.key != now.key {
        lab.screen.say(&format!("check: skipped, no phases are committed for: {}", now.key));
        return Ok(());
    }
    let moved: Vec<&str> =
        ROWS.into_iter().filter(|row| committed.rows.get(*row) != now.rows.get(*row)).collect();
    if moved.is_empty() {
        lab.screen.say(&format!("check: the phases of {} rows are as committed", ROWS.len()));
        return Ok(());
    }
    Err(Trouble::CheckFailed(format!("the phases of {} are not those of {COMMITTED}", moved.join(", ")))
        .into())
}

/// Returns the instructions of one operation, by phase.
fn phases(explained: &Explained) -> BTreeMap<String, u64> {
    let mut phases = BTreeMap::new();
    for phase in explained.counted().filter_map(|line| line.phase) {
        *phases.entry(phase.name().to_owned()).or_insert(0) += 1;
    }
    phases.values_mut().for_each(|count| *count /= explained.operations);
    phases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Baseline;

    #[test]
    fn phases_sum_up_to_the_figures_of_the_baseline() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let shares = Shares::read(&root.join(COMMITTED)).expect("the committed phases");
        let baseline = Baseline::read(&root.join("perf/baseline.json")).expect("the baseline");
        assert_eq!(shares.key, baseline.shown_key());
        let figures = baseline.shown(1).expect("figures of one CPU");
        for row in ROWS {
            let stale = "run `./justw explain --shown --update`, then `./justw figures`";
            assert_eq!(shares.total(row), figures[row].p50, "{row}: {stale}");
        }
    }

    #[test]
    fn a_table_has_the_phases_that_there_are() {
        let row = |phases: &[(&str, u64)]| {
            phases.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let shares = Shares {
            key: "k".to_owned(),
            rows: BTreeMap::from([
                ("cap_copy".to_owned(), row(&[("entry", 31), ("exit", 17)])),
                ("send_event".to_owned(), row(&[("entry", 16), ("checks", 55)])),
            ]),
        };
        let table = shares.table();
        assert!(table.starts_with("| row | entry | checks | exit | all |\n"), "{table}");
        assert!(table.contains("| `cap_copy` | 31 | – | 17 | **48** |"), "{table}");
    }
}
