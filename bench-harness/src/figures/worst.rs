//! The longest stretches with interrupts off that long runs met, by operation, and what the attacks
//! of `hostile` cost: read from the results of runs, committed, and shown in the book.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::grouped;
use crate::files;
use crate::stretches::Stretches;

/// Where the data is, from the root of the project.
pub const COMMITTED: &str = "perf/worst.json";
/// How to measure it again.
pub const RECIPE: &str = "./justw figures --keep RUN=FILE";

/// What each run met.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct Worst {
    /// By the name of the run.
    runs: BTreeMap<String, Run>,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
struct Run {
    /// The longest stretch of each operation.
    longest: BTreeMap<String, u64>,
    /// The attacks, if the run was one of `hostile`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attacks: Vec<Attack>,
}

/// The figures of one attack from one place.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
struct Attack {
    attack: String,
    place: String,
    /// Percent of the victim's CPU.
    stolen: f64,
    victim: String,
    /// Percent of the time of the victims' CPU, by the kernel's account.
    interrupts: f64,
    longest: u64,
    operation: String,
    late: u64,
}

/// What `hostile` writes, as far as it is kept.
#[derive(Deserialize)]
struct Hostile {
    attacks: Vec<Made>,
    stretches: Vec<Stretches>,
}

#[derive(Deserialize)]
struct Made {
    attack: String,
    place: String,
    late: u64,
    interrupts: f64,
    victims: Vec<Victim>,
    stretches: Vec<Stretches>,
}

#[derive(Deserialize)]
struct Victim {
    name: String,
    stolen: f64,
}

impl Worst {
    pub fn read(path: &Path) -> Result<Worst> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Puts the results of a run, from the file that it wrote, in the place of an earlier one.
    pub fn keep(&mut self, name: &str, path: &Path) -> Result<()> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let run = Run::parse(&text).with_context(|| format!("{} has no stretches", path.display()))?;
        self.runs.insert(name.to_owned(), run);
        Ok(())
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        files::write(path, serde_json::to_string_pretty(self)? + "\n")
    }

    /// Makes the table of operations, the longest first: one column for each run.
    pub fn operations(&self) -> String {
        let mut text =
            format!("| operation | longest |{}\n|---|---:|", self.cells(|name, _| name.to_owned()));
        text += &"---:|".repeat(self.runs.len());
        text.push('\n');
        let names: BTreeSet<&String> = self.runs.values().flat_map(|run| run.longest.keys()).collect();
        let longest_of =
            |name: &str| self.runs.values().filter_map(|run| run.longest.get(name)).max().copied();
        let mut names: Vec<(u64, &String)> =
            names.into_iter().map(|name| (longest_of(name).unwrap_or(0), name)).collect();
        names.sort_by_key(|(longest, _)| std::cmp::Reverse(*longest));
        for (longest, name) in names {
            let cells = self.cells(|_, run| run.longest.get(name).map_or("–".to_owned(), |n| grouped(*n)));
            let _ = writeln!(text, "| {name} | {} |{cells}", grouped(longest));
        }
        text
    }

    fn cells(&self, cell: impl Fn(&str, &Run) -> String) -> String {
        self.runs.iter().map(|(name, run)| format!(" {} |", cell(name, run))).collect()
    }

    /// Makes the tables of attacks, one for each run of `hostile`.
    pub fn attacks(&self) -> String {
        let mut text = String::new();
        for (name, run) in self.runs.iter().filter(|(_, run)| !run.attacks.is_empty()) {
            let _ = writeln!(
                text,
                "### {name}\n\n| attack | CPUs | stolen | from | interrupts | longest off | in | late |"
            );
            text += "|---|---|---:|---|---:|---:|---|---:|\n";
            for Attack { attack, place, stolen, victim, interrupts, longest, operation, late } in &run.attacks
            {
                let (longest, late) = (grouped(*longest), grouped(*late));
                let _ = writeln!(
                    text,
                    "| `{attack}` | {place} | {stolen:.1} % | `{victim}` | {interrupts:.1} % | {longest} | {operation} \
                     | {late} |"
                );
            }
            text.push('\n');
        }
        text
    }
}

impl Run {
    fn parse(text: &str) -> Result<Run> {
        if let Ok(stretches) = serde_json::from_str::<Vec<Stretches>>(text) {
            return Ok(Run { longest: longest(stretches), attacks: Vec::new() });
        }
        let hostile: Hostile = serde_json::from_str(text)?;
        let attacks = hostile.attacks.iter().filter_map(Made::shown).collect();
        Ok(Run { longest: longest(hostile.stretches), attacks })
    }
}

fn longest(rows: Vec<Stretches>) -> BTreeMap<String, u64> {
    rows.into_iter().map(|row| (row.operation, row.longest)).collect()
}

/// Rounds to a tenth, as it is shown.
fn tenths(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}

impl Made {
    fn shown(&self) -> Option<Attack> {
        let victim = self.victims.iter().max_by(|a, b| a.stolen.total_cmp(&b.stolen))?;
        let longest = self.stretches.iter().max_by_key(|row| row.longest)?;
        Some(Attack {
            attack: self.attack.clone(),
            place: self.place.clone(),
            stolen: tenths(victim.stolen),
            victim: victim.name.clone(),
            interrupts: tenths(self.interrupts),
            longest: longest.longest,
            operation: longest.operation.clone(),
            late: self.late,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUZZ: &str = r#"[{"operation":"Map","longest":1500,"entries":1,"total":1,"spun":0,
        "longest_with_spinning":1}]"#;
    const HOSTILE: &str = r#"{"attacks":[{"attack":"flood","place":"own","late":42,"alive":9,"interrupts":2.52,
        "victims":[{"name":"loop","stolen":1.0},{"name":"map","stolen":3.04}],
        "stretches":[{"operation":"Notify","longest":70,"entries":1,"total":1,"spun":0,"longest_with_spinning":1},
                     {"operation":"Map","longest":900,"entries":1,"total":1,"spun":0,"longest_with_spinning":1}]}],
        "stretches":[{"operation":"Notify","longest":70,"entries":1,"total":1,"spun":0,"longest_with_spinning":1},
                     {"operation":"Map","longest":900,"entries":1,"total":1,"spun":0,"longest_with_spinning":1}]}"#;

    fn kept() -> Worst {
        let runs = [("fuzz", FUZZ), ("hostile", HOSTILE)];
        let runs = runs.map(|(name, text)| (name.to_owned(), Run::parse(text).expect("it parses")));
        Worst { runs: runs.into() }
    }

    #[test]
    fn operations_have_a_column_for_each_run() {
        let table = kept().operations();
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows[0], "| operation | longest | fuzz | hostile |");
        assert_eq!(rows[2..], ["| Map | 1,500 | 1,500 | 900 |", "| Notify | 70 | – | 70 |"]);
    }

    #[test]
    fn attacks_show_their_worst_victim() {
        let text = kept().attacks();
        assert!(text.contains("\n| `flood` | own | 3.0 % | `map` | 2.5 % | 900 | Map | 42 |\n"), "{text}");
        assert!(!text.contains("fuzz"), "{text}");
    }

    #[test]
    fn what_has_no_stretches_is_refused() {
        assert!(Run::parse("{\"rows\":[]}").is_err());
    }
}
