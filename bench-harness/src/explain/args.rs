//! The options of `explain`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{Wanted, shares, steps};
use crate::cli::cpus;
use crate::lab::Lab;

/// One row, or all that the book shows.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The row, as `bench` calls it
    #[arg(required_unless_present = "shown")]
    row: Option<String>,
    /// List the functions of the kernel that one operation visits, in order, in place of its
    /// instructions
    #[arg(long, conflicts_with = "diff")]
    functions: bool,
    /// Take the phases (with --functions: the functions) of all rows that the book shows; with
    /// --check or --update
    #[arg(long, conflicts_with_all = ["row", "cpus", "diff", "json"])]
    shown: bool,
    /// Compare these phases with perf/phases.json, or these functions with perf/steps.json
    #[arg(long, requires = "shown", required_unless_present_any = ["row", "update"])]
    check: bool,
    /// Write these phases, or these functions, into that file
    #[arg(long, requires = "shown", conflicts_with = "check")]
    update: bool,
    /// Number of CPUs (default: as few as the row takes)
    #[arg(long, value_parser = cpus())]
    cpus: Option<u32>,
    /// Show what was added and removed since this git revision, or against `kernel:VARIANT`
    /// (nofast, ordinary)
    #[arg(long, value_name = "BASE")]
    diff: Option<String>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// The committed figures
    #[arg(long, default_value = "perf/baseline.json", value_name = "FILE")]
    baseline: PathBuf,
    /// Program that builds a revision
    #[arg(long, default_value = "just", value_name = "PROGRAM", hide = true)]
    just: OsString,
}

impl ExplainArgs {
    fn wanted(&self, row: &str) -> Wanted {
        Wanted {
            row: row.to_owned(),
            cpus: self.cpus,
            diff: self.diff.clone(),
            json: self.json,
            baseline: self.baseline.clone(),
            just: self.just.clone(),
        }
    }
}

/// Explains what the options name.
pub fn run(lab: &Lab, args: &ExplainArgs) -> Result<()> {
    let what = if args.update { shares::What::Update } else { shares::What::Check };
    match (args.row.as_deref(), args.functions) {
        (None, false) => shares::command(lab, what),
        (None, true) => steps::shown(lab, what),
        (Some(row), false) => super::command(lab, &args.wanted(row)),
        (Some(row), true) => steps::command(lab, &args.wanted(row)),
    }
}
