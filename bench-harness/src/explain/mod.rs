//! `./justw explain ROW`: explains the cost of an operation, instruction by instruction.
//!
//! ```text
//!   rows ── which boot, which plugin arguments          base ── another revision, built
//!     │                                                   │
//!   record ── every instruction of some operations      (the same again)
//!     │
//!   sample ── one of them, less the empty measurement
//!     │
//!   decode, symbols (listing, phase) ── story           what each is, where it comes from, what it is for
//!     │
//!   cycles, compare, show                              shares: the phases that the book shows
//!                                                      steps: the functions that the book shows
//! ```
//!
//! No instruction is dropped: the command lists an instruction that is in no phase, and fails. It
//! also fails if the sum differs from the row's figure.

pub mod args;
mod base;
mod checkout;
mod compare;
mod cycles;
pub mod decode;
mod fold;
pub mod listing;
pub mod phase;
pub mod record;
mod rows;
pub mod sample;
pub mod shares;
mod show;
pub mod steps;
pub mod story;
pub mod symbols;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::baseline::Baseline;
use crate::host::Host;
use crate::lab::{Job, Lab};
use crate::machine::{GUEST_CPU, Mode};
use crate::report::{Report, Row};
use crate::trouble::Trouble;
use base::{Base, Tree};
use compare::Difference;
use cycles::Estimate;
use record::Recording;
use rows::Target;
use sample::Cut;
use story::{Line, Uncounted};
use symbols::Symbols;

const LIMIT: Duration = Duration::from_secs(180);

/// What to explain, and how.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub row: String,
    pub cpus: Option<u32>,
    pub diff: Option<String>,
    pub json: bool,
    pub baseline: PathBuf,
    /// Builds what `--diff` names.
    pub just: OsString,
}

/// One operation of one build, explained.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    pub row: String,
    pub cpus: u32,
    /// What the bench reports for the row: for one operation, the empty measurement subtracted.
    pub figure: u64,
    /// Operations in what was recorded.
    pub operations: u64,
    /// Instructions of the empty measurement.
    pub overhead: u64,
    pub lines: Vec<Line>,
}

impl Explained {
    /// Returns the instructions that count for the figure.
    pub fn counted(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| line.counts())
    }

    /// Returns the number of instructions that count for the figure, for one operation.
    pub fn total(&self) -> u64 {
        (self.counted().count() as u64 + self.operations / 2) / self.operations
    }

    /// Returns how many instructions do not count for this reason.
    pub fn uncounted(&self, why: Uncounted) -> u64 {
        self.lines.iter().filter(|line| line.uncounted == Some(why)).count() as u64
    }

    pub fn without_phase(&self) -> impl Iterator<Item = &Line> {
        self.counted().filter(|line| line.phase.is_none())
    }

    /// Checks that the instructions explain the figure: each has a phase, and together they are the
    /// figure.
    pub fn check(&self) -> Result<(), Trouble> {
        let lost = self.without_phase().count();
        if let Some(first) = self.without_phase().next() {
            let of = first.inlined.as_ref().unwrap_or(&first.symbol);
            let text = format!(
                "{}: {lost} instructions are in no phase, the first of them in {of}: put what they are of in \
                 explain::phase",
                self.row
            );
            return Err(Trouble::CheckFailed(text));
        }
        let measuring = self.uncounted(Uncounted::Measurement);
        let recorded = self.counted().count() as u64 + measuring;
        let reported = self.figure * self.operations + self.overhead;
        // The figure is rounded.
        if recorded.abs_diff(reported) >= self.operations {
            let text = format!(
                "{}: {reported} instructions with those that measure, and {recorded} were recorded",
                self.row
            );
            return Err(Trouble::CheckFailed(text));
        }
        Ok(())
    }
}

/// Everything that is said.
#[derive(Debug)]
pub struct Answer {
    pub now: Explained,
    /// The committed figure, where there is one for this machine.
    pub committed: Option<u64>,
    pub estimate: Result<Vec<Estimate>, String>,
    /// The estimates of the revision that it is compared with.
    pub base_estimate: Vec<Estimate>,
    /// What it is compared with: its name, itself, and what differs.
    pub base: Option<(String, Explained, Difference)>,
}

/// Runs the command: records an operation, explains it, and prints the explanation.
pub fn command(lab: &Lab, wanted: &Wanted) -> Result<()> {
    let target = rows::find(&wanted.row, wanted.cpus)?;
    let root = std::env::current_dir().context("finding the tree")?;
    let tree = Tree { root: root.clone(), artifacts: lab.artifacts.clone(), _checkout: None };
    let now = explain(lab, &tree, &target)?;
    let base = match wanted.diff.as_deref().map(Base::parse) {
        None => None,
        Some(base) => {
            let other = explain_base(lab, wanted, &tree, &target, &base)?;
            let difference = Difference::new(&other.lines, &now.lines);
            Some((base.name(), other, difference))
        }
    };
    let host = Host::look(&lab.qemu.version, GUEST_CPU);
    let baseline = Baseline::read(&wanted.baseline)?;
    let answer = Answer {
        committed: baseline.committed(&host, target.cpus, &target.row),
        estimate: cycles::estimate(&now.lines).map_err(|error| format!("{error:#}")),
        base_estimate: base
            .as_ref()
            .and_then(|(_, base, _)| cycles::estimate(&base.lines).ok())
            .unwrap_or_default(),
        now,
        base,
    };
    print!("{}", if wanted.json { show::json(&answer)? } else { show::text(&answer) });
    answer.now.check()?;
    if let Some((_, base, _)) = &answer.base {
        base.check()?;
    }
    Ok(())
}

fn explain_base(lab: &Lab, wanted: &Wanted, tree: &Tree, target: &Target, base: &Base) -> Result<Explained> {
    match base {
        Base::Kernel(variant) => explain(lab, tree, &Target { variant: variant.clone(), ..target.clone() }),
        Base::Revision(revision) => {
            let other = base::build(lab, &wanted.just, &tree.root, revision, target)?;
            explain(lab, &other, target).with_context(|| format!("explaining {revision}"))
        }
    }
}

/// Boots, and explains the typical one of the operations recorded.
fn explain(lab: &Lab, tree: &Tree, target: &Target) -> Result<Explained> {
    let output = lab.artifacts.boot_dir().join(format!("explain-{}.rec", target.row));
    let row = boot(lab, tree, target, &output)?;
    let recording = Recording::read(&output)?;
    if recording.operations.is_empty() {
        bail!("no operation was recorded: the programs of this build do not mark their samples");
    }
    let programs: Vec<(String, PathBuf)> =
        tree.artifacts.programs()?.into_iter().map(|program| (program.name, program.elf)).collect();
    let symbols = Symbols::new(&tree.artifacts.kernel(&target.variant)?, &programs, &tree.root)?;
    let decoded: Vec<_> = recording.codes.iter().map(|code| decode::decode(code.pc, &code.bytes)).collect();
    let origins = origins(&symbols, &recording);
    let samples = recording
        .operations
        .iter()
        .map(|operation| sample::cut(&recording, &decoded, operation, target.cut))
        .collect::<Result<Vec<_>>>()?;
    let lengths: Vec<u64> = samples.iter().map(sample::Sample::executed).collect();
    let (operations, overhead) = row.as_ref().map_or((1, 0), |row| (row.operations, row.overhead));
    let reported = row.as_ref().map(|row| row.p50 * operations + overhead);
    let typical = sample::typical(&lengths, reported).context("no operation was recorded")?;
    Ok(Explained {
        row: target.row.clone(),
        cpus: target.cpus,
        figure: row.map_or(lengths[typical], |row| row.p50),
        operations,
        overhead,
        lines: story::lines(&recording, &decoded, &origins, &samples[typical]),
    })
}

/// Finds the origins of the executed code. Other code is not needed, and there is much of it.
fn origins(symbols: &Symbols, recording: &Recording) -> Vec<symbols::Origin> {
    let mut needed = vec![false; recording.codes.len()];
    for step in recording.operations.iter().flat_map(|operation| &operation.steps) {
        needed[step.code as usize] = true;
    }
    let codes = recording.codes.iter().zip(needed);
    codes
        .map(|(code, needed)| if needed { symbols.origin(code) } else { symbols::Origin::unneeded() })
        .collect()
}

/// Boots with the plugin that records. Returns the row's figures, if the guest measures them
/// itself.
fn boot(lab: &Lab, tree: &Tree, target: &Target, output: &Path) -> Result<Option<Row>> {
    let job = Job {
        label: format!("explain-{}", target.row),
        variant: target.variant.clone(),
        command_line: target.command_line.clone(),
        mode: Mode::Icount,
        cpus: target.cpus,
        counted: None,
        limit: LIMIT,
    };
    let session = lab.record(&job, &tree.artifacts, output, target.plugin_arguments())?;
    session.check_passed()?;
    let row = session.reports.into_iter().find_map(|report| match report {
        Report::Row(row) if row.name == target.guest_row => Some(row),
        _ => None,
    });
    match (target.cut, row) {
        (Cut::Stamps, None) => {
            Err(Trouble::GuestDied(format!("{}: the guest did not report {}", job.label, target.guest_row))
                .into())
        }
        (_, row) => Ok(row.map(|row| *row)),
    }
}

#[cfg(test)]
mod tests {
    use super::phase::Phase;
    use super::story::examples::line;
    use super::*;

    fn explained() -> Explained {
        let mut lines: Vec<Line> = (0..10).map(|at| line(0, at, &[0x90], Phase::Checks)).collect();
        lines[0].uncounted = Some(Uncounted::Measurement);
        Explained { row: "r".to_owned(), cpus: 1, figure: 9, operations: 1, overhead: 1, lines }
    }

    #[test]
    fn the_sum_has_to_be_the_figure() {
        assert!(explained().check().is_ok());
        let wrong = Explained { figure: 10, ..explained() };
        assert!(matches!(wrong.check(), Err(Trouble::CheckFailed(_))));
        let wrong = Explained { overhead: 2, ..explained() };
        assert!(matches!(wrong.check(), Err(Trouble::CheckFailed(_))));
    }

    #[test]
    fn an_instruction_in_no_phase_is_reported_and_counted() {
        let mut lost = explained();
        lost.lines[3].phase = None;
        assert_eq!(lost.total(), 9);
        let Err(Trouble::CheckFailed(text)) = lost.check() else { panic!("not reported") };
        assert!(text.contains("1 instructions are in no phase"), "{text}");
        let answer = Answer {
            now: lost,
            committed: None,
            estimate: Err("none".to_owned()),
            base_estimate: Vec::new(),
            base: None,
        };
        let text = show::text(&answer);
        assert!(text.contains("in no phase") && text.ends_with("total: 9 instructions\n"), "{text}");
    }

    #[test]
    fn two_operations_in_a_sample_are_halved() {
        let two = Explained { figure: 5, operations: 2, ..explained() };
        assert_eq!(two.total(), 5);
        assert!(two.check().is_ok());
    }
}
