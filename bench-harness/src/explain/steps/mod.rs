//! `./justw explain ROW --functions`: which functions of the kernel an operation visits, in order.
//!
//! ```text
//!   source ── functions of the source files: names, lines, doc comments
//!   walk   ── the instructions of an operation, followed from function to function
//!   data   ── what is committed: perf/steps.json, with limits
//!   show   ── text, JSON, and the lists in the book
//! ```
//!
//! If a row's figure changes, the committed file is out of date, which a host test detects without
//! a boot. The suite's step `bench` compares the functions themselves.

pub mod data;
mod show;
pub mod source;
pub mod walk;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::base::Tree;
use super::{Explained, Wanted, explain, rows, shares};
use crate::baseline;
use crate::files;
use crate::host::Host;
use crate::lab::Lab;
use crate::lanes;
use crate::machine::GUEST_CPU;
use crate::scale::Verdict;
use crate::trouble::Trouble;
use data::{COMMITTED, Limits, RECIPE, Row, Steps};
use source::Sources;
use walk::Walk;

pub use show::lists;

/// The operations that the book shows, and what their parts are called.
const SHOWN: &[(&str, &[&str])] = &[
    ("call_reply_cross_as", &["call", "reply"]),
    ("call_reply_cross_as_nofast", &["call", "reply"]),
    ("remap_move_1p", &["call", "reply"]),
    ("fault_roundtrip", &["fault", "map", "answer"]),
    ("task_kill", &["kill"]),
    ("call_reply_cross_cpu_polled", &["call", "reply"]),
];

/// An operation, with the names of its parts.
#[derive(Debug)]
pub struct Visited {
    row: String,
    cpus: u32,
    operations: u64,
    names: Vec<String>,
    walk: Walk,
}

impl Visited {
    /// Reads the functions that an explained operation visits.
    /// Errors: it enters the kernel more or less often than its parts have names, or instructions
    /// are missing.
    fn new(explained: &Explained, root: &Path) -> Result<Visited> {
        explained.check()?;
        let walk = walk::walk(&explained.lines, &mut Sources::new(root));
        let names = names(&explained.row, walk.parts.len())?;
        let row = explained.row.clone();
        let recorded = explained.counted().count() as u64;
        if walk.total() != recorded {
            let text = format!("{row}: functions have {} of {recorded} instructions", walk.total());
            return Err(Trouble::CheckFailed(text).into());
        }
        Ok(Visited { row, cpus: explained.cpus, operations: explained.operations, names, walk })
    }
}

/// Names the parts of a row.
fn names(row: &str, parts: usize) -> Result<Vec<String>> {
    let known = SHOWN.iter().find(|(shown, _)| *shown == row).map(|(_, names)| *names);
    let names: Vec<String> = match known {
        Some(names) => names.iter().map(|name| (*name).to_owned()).collect(),
        None if parts == 2 && row.contains("call_") => vec!["call".to_owned(), "reply".to_owned()],
        None => (1..=parts).map(|number| format!("entry{number}")).collect(),
    };
    if names.len() != parts {
        let text =
            format!("{row} enters the kernel {parts} times, expected {}: {}", names.len(), names.join(", "));
        return Err(Trouble::CheckFailed(text).into());
    }
    Ok(names)
}

/// Prints the functions of one row.
pub fn command(lab: &Lab, wanted: &Wanted) -> Result<()> {
    let tree = tree(lab)?;
    let explained = explain(lab, &tree, &rows::find(&wanted.row, wanted.cpus)?)?;
    let visited = Visited::new(&explained, &tree.root)?;
    print!("{}", if wanted.json { show::json(&visited)? } else { show::text(&visited) });
    Ok(())
}

/// Compares the functions of all rows that the book shows with what is committed, or commits them.
pub fn shown(lab: &Lab, what: shares::What) -> Result<()> {
    if what == shares::What::Update {
        return update(lab);
    }
    match held(lab)? {
        Verdict::Held(rows) => {
            lab.screen.say(&format!("check: the functions of {rows} rows are as committed"))
        }
        Verdict::Skipped(why) => lab.screen.say(&format!("check: skipped, {why}")),
        Verdict::Moved(lines) => {
            let text = format!("{}\n`{RECIPE}` and `./justw figures` write them anew", lines.join("\n"));
            return Err(Trouble::CheckFailed(text).into());
        }
    }
    Ok(())
}

/// Commits the functions that rows visit. Limits stay or fall; a limit has to be raised by hand,
/// where a reader of the change sees it.
fn update(lab: &Lab) -> Result<()> {
    let path = Path::new(COMMITTED);
    let limits = if path.exists() { Steps::read(path)?.limits } else { Limits::new() };
    let mut now = measure(lab)?;
    let beyond = now.beyond(&limits);
    if !beyond.is_empty() {
        return Err(Trouble::CheckFailed(format!(
            "{}\nmake that path shorter, or raise the limit in {COMMITTED} by hand",
            beyond.join("\n")
        ))
        .into());
    }
    now.limits = now.lowered(&limits);
    files::write(path, now.json()?)
}

/// Compares the committed lists of functions with boots of today.
pub fn held(lab: &Lab) -> Result<Verdict> {
    let committed = Steps::read(Path::new(COMMITTED))?;
    let key = key(lab);
    if committed.key != key {
        return Ok(Verdict::Skipped(format!("no functions are committed for: {key}")));
    }
    let now = measure(lab)?;
    let mut lines = now.moved(&committed);
    lines.extend(now.beyond(&committed.limits));
    Ok(if lines.is_empty() { Verdict::Held(now.rows.len()) } else { Verdict::Moved(lines) })
}

/// Boots for each row that the book shows, and returns the functions that it visits.
fn measure(lab: &Lab) -> Result<Steps> {
    let tree = tree(lab)?;
    let of_row = |(row, _): &(&str, &[&str])| -> Result<(String, Row)> {
        let explained = explain(lab, &tree, &rows::find(row, None)?)?;
        let visited = Visited::new(&explained, &tree.root)?;
        Ok(((*row).to_owned(), Row::new(visited.cpus, &visited.walk, &visited.names)))
    };
    let rows: BTreeMap<String, Row> =
        lanes::side_by_side(SHOWN, of_row).into_iter().collect::<Result<_>>()?;
    Ok(Steps { key: key(lab), limits: Limits::new(), rows })
}

fn tree(lab: &Lab) -> Result<Tree> {
    let root = std::env::current_dir().context("finding the tree")?;
    Ok(Tree { root, artifacts: lab.artifacts.clone(), _checkout: None })
}

fn key(lab: &Lab) -> String {
    baseline::key(&Host::look(&lab.qemu.version, GUEST_CPU))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Baseline;

    fn root() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    fn committed() -> Steps {
        Steps::read(&root().join(COMMITTED)).expect("the committed functions")
    }

    #[test]
    fn functions_sum_up_to_the_figures_of_the_baseline() {
        let (steps, baseline) =
            (committed(), Baseline::read(&root().join("perf/baseline.json")).expect("the baseline"));
        assert_eq!(steps.key, baseline.shown_key());
        assert_eq!(steps.rows.len(), SHOWN.len());
        for (name, names) in SHOWN {
            let row = &steps.rows[*name];
            let figures = baseline.shown(row.cpus).expect("figures of so many CPUs");
            assert_eq!(row.total(), figures[*name].p50, "{name}: run `{RECIPE}`, then `./justw figures`");
            assert!(row.parts.iter().map(|part| part.name.as_str()).eq(names.iter().copied()), "{name}");
        }
    }

    #[test]
    fn the_ways_that_matter_have_limits_that_hold() {
        let steps = committed();
        for row in ["call_reply_cross_cpu_polled", "call_reply_cross_as_nofast"] {
            assert!(steps.limits.get(row).is_some_and(|of_row| of_row.contains_key("call")), "{row}");
        }
        assert_eq!(steps.beyond(&steps.limits), [""; 0]);
        assert_eq!(steps.lowered(&steps.limits), steps.limits, "limits are at today's figures");
    }

    #[test]
    fn parts_have_names() {
        assert_eq!(names("fault_roundtrip", 3).expect("three"), ["fault", "map", "answer"]);
        assert_eq!(names("call_reply_64w", 2).expect("two"), ["call", "reply"]);
        assert_eq!(names("cap_copy", 1).expect("one"), ["entry1"]);
        let error = names("task_kill", 2).expect_err("one too many").to_string();
        assert!(error.contains("enters the kernel 2 times, expected 1: kill"), "{error}");
    }
}
