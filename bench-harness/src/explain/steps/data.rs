//! The functions of the operations that the book shows, as they are committed: `perf/steps.json`.
//!
//! It has no line numbers, since every change above a function moves them. So the file changes only
//! if a function is added or removed, moves to another file, or executes another number of
//! instructions.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::walk::{Part, Stretch, Visit, Walk};

/// From the project's root.
pub const COMMITTED: &str = "perf/steps.json";
/// What writes it.
pub const RECIPE: &str = "./justw explain --shown --functions --update";

/// Functions that one part of an operation may visit at most: by row, then by part.
pub type Limits = BTreeMap<String, BTreeMap<String, usize>>;

/// The whole file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Steps {
    /// Compiler, QEMU and guest CPU, as in the baseline.
    pub key: String,
    /// An update lowers them, and fails where one would have to rise.
    pub limits: Limits,
    pub rows: BTreeMap<String, Row>,
}

/// An operation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Row {
    pub cpus: u32,
    /// Instructions of programs, and of entry slots.
    pub user: u64,
    pub slots: u64,
    pub parts: Vec<Named>,
}

/// A part of an operation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Named {
    pub name: String,
    /// Functions visited, each counted once.
    pub visited: usize,
    pub on: Vec<OnCpu>,
}

/// What one CPU does in a part.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct OnCpu {
    pub cpu: u8,
    pub functions: Vec<Step>,
}

/// A visited function: in the file one string, "depth instructions name file".
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(into = "String", try_from = "String")]
pub struct Step {
    pub depth: usize,
    pub instructions: u64,
    pub name: String,
    pub file: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.depth, self.instructions, self.name, self.file)
    }
}

impl From<Step> for String {
    fn from(step: Step) -> String {
        step.to_string()
    }
}

impl FromStr for Step {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Step> {
        let words: Vec<&str> = text.split(' ').collect();
        let [depth, instructions, name, file] = words[..] else {
            bail!("'{text}' is no step: expected depth, instructions, name and file")
        };
        let (name, file) = (name.to_owned(), file.to_owned());
        Ok(Step { depth: depth.parse()?, instructions: instructions.parse()?, name, file })
    }
}

impl TryFrom<String> for Step {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Step> {
        text.parse()
    }
}

impl From<&Visit> for Step {
    fn from(visit: &Visit) -> Step {
        let (name, file) = (visit.function.name.clone(), visit.function.file.clone());
        Step { depth: visit.depth, instructions: visit.instructions, name, file }
    }
}

impl From<&Stretch> for OnCpu {
    fn from(stretch: &Stretch) -> OnCpu {
        OnCpu { cpu: stretch.cpu, functions: stretch.visits.iter().map(Step::from).collect() }
    }
}

impl Named {
    fn new(name: &str, part: &Part) -> Named {
        let on = part.stretches.iter().map(OnCpu::from).collect();
        Named { name: name.to_owned(), visited: part.visited(), on }
    }
}

impl Row {
    /// Makes the committed form of an operation. `names` are the names of its parts.
    pub fn new(cpus: u32, walk: &Walk, names: &[String]) -> Row {
        let parts = names.iter().zip(&walk.parts).map(|(name, part)| Named::new(name, part));
        Row { cpus, user: walk.user, slots: walk.slots, parts: parts.collect() }
    }

    pub fn part(&self, name: &str) -> Option<&Named> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// Sums up the instructions of the operation.
    pub fn total(&self) -> u64 {
        let steps = self.parts.iter().flat_map(|part| &part.on).flat_map(|on| &on.functions);
        self.user + self.slots + steps.map(|step| step.instructions).sum::<u64>()
    }

    /// Names the first thing in which `now` differs.
    fn difference(&self, now: &Row) -> Option<String> {
        if self == now {
            return None;
        }
        for (was, is) in self.parts.iter().zip(&now.parts) {
            let (old, new) = (was.lines(), is.lines());
            let lines = old.len().max(new.len());
            let line =
                |lines: &[String], at: usize| lines.get(at).map_or("nothing more".to_owned(), Clone::clone);
            let first = (0..lines).find(|&at| old.get(at) != new.get(at));
            if let Some(at) = first {
                let (old, new) = (line(&old, at), line(&new, at));
                return Some(format!("{}: '{new}' stands where '{old}' is committed", is.name));
            }
        }
        Some("its parts, or the instructions of programs, are not those that are committed".to_owned())
    }
}

impl Named {
    fn lines(&self) -> Vec<String> {
        let of_cpu = |on: &OnCpu| {
            let cpu = on.cpu;
            on.functions.iter().map(move |step| format!("CPU {cpu}: {step}")).collect::<Vec<_>>()
        };
        self.on.iter().flat_map(of_cpu).collect()
    }
}

impl Steps {
    pub fn read(path: &Path) -> Result<Steps> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} has no functions of rows", path.display()))
    }

    /// Returns how many functions a part of a row visits, by "ROW.PART".
    pub fn visited(&self, name: &str) -> Option<u64> {
        let (row, part) = name.split_once('.')?;
        u64::try_from(self.rows.get(row)?.part(part)?.visited).ok()
    }

    /// Returns how these steps, which are those of today, differ from the committed ones: one line
    /// for each row.
    pub fn moved(&self, committed: &Steps) -> Vec<String> {
        let of_row = |(row, now): (&String, &Row)| match committed.rows.get(row) {
            None => Some(format!("{row} is not committed")),
            Some(was) => was.difference(now).map(|what| format!("{row}: {what}")),
        };
        let mut lines: Vec<String> = self.rows.iter().filter_map(of_row).collect();
        let gone = committed.rows.keys().filter(|row| !self.rows.contains_key(*row));
        lines.extend(gone.map(|row| format!("{row} is committed and no longer shown")));
        lines
    }

    /// Returns the parts that visit more functions than the limits allow.
    pub fn beyond(&self, limits: &Limits) -> Vec<String> {
        let mut lines = Vec::new();
        for (row, of_row) in limits {
            for (part, limit) in of_row {
                let visited = self.rows.get(row).and_then(|row| row.part(part)).map(|part| part.visited);
                let wrong = match visited {
                    Some(visited) if visited <= *limit => continue,
                    Some(visited) => format!("visits {visited} functions, and its limit is {limit}"),
                    None => format!("has a limit of {limit}, but the row has no such part"),
                };
                lines.push(format!("{row}: {part} {wrong}"));
            }
        }
        lines
    }

    /// Returns the limits, lowered to how many functions are visited now.
    pub fn lowered(&self, limits: &Limits) -> Limits {
        let mut lowered = limits.clone();
        for (row, of_row) in &mut lowered {
            for (part, limit) in of_row {
                let visited = self.rows.get(row).and_then(|row| row.part(part)).map(|part| part.visited);
                *limit = visited.map_or(*limit, |visited| visited.min(*limit));
            }
        }
        lowered
    }

    pub fn json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self)?;
        let _ = writeln!(text);
        Ok(text)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Makes one row with one part that visits these functions.
    pub fn steps(functions: &[&str]) -> Steps {
        let functions: Vec<Step> = functions.iter().map(|text| text.parse().expect("a step")).collect();
        let visited = functions.len();
        let part = Named { name: "call".to_owned(), visited, on: vec![OnCpu { cpu: 0, functions }] };
        let row = Row { cpus: 1, user: 20, slots: 4, parts: vec![part] };
        Steps { key: "k".to_owned(), limits: limits(2), rows: BTreeMap::from([("r".to_owned(), row)]) }
    }

    fn limits(most: usize) -> Limits {
        BTreeMap::from([("r".to_owned(), BTreeMap::from([("call".to_owned(), most)]))])
    }

    const TWO: &[&str] = &["0 3 enter a.s", "1 8 Ipc::call kern/a.rs"];

    #[test]
    fn the_file_comes_back_as_it_was() {
        let json = steps(TWO).json().expect("written");
        assert!(json.contains(r#""1 8 Ipc::call kern/a.rs""#), "{json}");
        let read: Steps = serde_json::from_str(&json).expect("read");
        assert_eq!((&read, read.rows["r"].total(), read.visited("r.call")), (&steps(TWO), 35, Some(2)));
        assert!("1 8 Ipc::call".parse::<Step>().is_err() && "x 8 a b".parse::<Step>().is_err());
    }

    #[test]
    fn what_moved_is_named() {
        let was = steps(TWO);
        assert_eq!(was.moved(&was), [""; 0]);
        let said = |functions: &[&str]| steps(functions).moved(&was).join("\n");
        assert_eq!(
            said(&["0 3 enter a.s", "1 9 Ipc::call kern/a.rs"]),
            "r: call: 'CPU 0: 1 9 Ipc::call kern/a.rs' stands where 'CPU 0: 1 8 Ipc::call kern/a.rs' is committed"
        );
        assert!(said(&TWO[..1]).contains("'nothing more' stands where 'CPU 0: 1 8"), "{}", said(&TWO[..1]));
        let mut other = steps(TWO);
        other.rows.get_mut("r").expect("it").user = 21;
        assert_eq!(other.moved(&was).len(), 1);
        let none = Steps { rows: BTreeMap::new(), ..steps(TWO) };
        assert_eq!((none.moved(&was).len(), was.moved(&none).len()), (1, 1));
    }

    #[test]
    fn limits_hold_and_only_fall() {
        let now = steps(TWO);
        assert_eq!(now.beyond(&limits(2)), [""; 0]);
        assert_eq!(now.beyond(&limits(1)), ["r: call visits 2 functions, and its limit is 1"]);
        assert_eq!((now.lowered(&limits(9)), now.lowered(&limits(1))), (limits(2), limits(1)));
        let other = BTreeMap::from([("r".to_owned(), BTreeMap::from([("reply".to_owned(), 9)]))]);
        assert_eq!(now.beyond(&other).len(), 1, "a limit for nothing is noticed");
    }
}
