//! `aurora-bench peers`: the command line, and the order of the steps.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};

use super::results::{Comparison, Host, Measured, Results};
use super::settings::{CONFIGURATIONS, Settings, changes};
use super::source::Source;
use super::tools::Tools;
use super::{boot, build, page, report};
use crate::figures;
use crate::machine::{GUEST_CPU, Qemu};
use crate::trouble::Trouble;

/// The committed figures.
const RECORDED: &str = "peers/sel4/results.json";
/// Where builds and new results go.
const BUILDS: &str = "target/peers/sel4";

pub const EXAMPLES: &str = "\
Examples:
  aurora-bench peers sel4 --source ../seL4                     three kernels built, booted, measured
  aurora-bench peers sel4 --source ../seL4 --check             the same figures as those committed?
  aurora-bench peers sel4 --source ../seL4 --output peers/sel4/results.json
  aurora-bench peers table --update docs/src/peers.md          the book's table";

pub const SEL4_EXAMPLES: &str = "\
Examples:
  git clone <seL4's repository> ../seL4
  git -C ../seL4 checkout 1326364bc9135d9445d936ebc01e38a402c1f4c6
  aurora-bench peers sel4 --source ../seL4                     into target/peers/sel4/results.json
  aurora-bench peers sel4 --source ../seL4 --check             exact, if compiler and QEMU are those recorded
  aurora-bench peers sel4 --source ../seL4 --only uniprocessor --define KernelOptimisation=-O3
  aurora-bench peers sel4 --source ../seL4 --any-commit        another commit, which the result names";

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Build seL4 and a root task, boot them under icount, measure
    #[command(after_help = SEL4_EXAMPLES)]
    Sel4(Sel4Args),
    /// Print the table of a result file, or put it into a page of the book
    #[command(after_help = "Example:\n  aurora-bench peers table --update docs/src/peers.md")]
    Table(TableArgs),
}

#[derive(Args, Debug)]
pub struct Sel4Args {
    /// A checkout of seL4
    #[arg(long, value_name = "DIR")]
    source: PathBuf,
    /// Where the results go
    #[arg(long, default_value = "target/peers/sel4/results.json", value_name = "FILE")]
    output: PathBuf,
    /// Compare with the committed results; fail if a figure differs
    #[arg(long)]
    check: bool,
    /// Measure a checkout that is not the pinned commit
    #[arg(long)]
    any_commit: bool,
    /// Only this configuration: uniprocessor, smp, mcs
    #[arg(long, value_name = "NAME", conflicts_with = "check", value_parser = names())]
    only: Option<String>,
    /// Another CMake setting of the kernel; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    define: Vec<String>,
}

#[derive(Args, Debug)]
pub struct TableArgs {
    /// The result file
    #[arg(long, default_value = RECORDED, value_name = "FILE")]
    input: PathBuf,
    /// The page whose table is replaced
    #[arg(long, value_name = "PAGE")]
    update: Option<PathBuf>,
}

fn names() -> clap::builder::PossibleValuesParser {
    CONFIGURATIONS.iter().map(|configuration| configuration.name).collect::<Vec<_>>().into()
}

pub fn run(command: &Command, limit: Option<u64>) -> Result<()> {
    match command {
        Command::Sel4(args) => sel4(args, limit),
        Command::Table(args) => table(args),
    }
}

fn table(args: &TableArgs) -> Result<()> {
    let table = page::render(&Results::read(&args.input)?);
    match &args.update {
        Some(page) => figures::update(page, page::RECIPE, &table),
        None => {
            print!("{table}");
            Ok(())
        }
    }
}

fn sel4(args: &Sel4Args, limit: Option<u64>) -> Result<()> {
    let changes = changes(&args.define)?;
    // Read first: a file that is not there should not be noticed after the run.
    let recorded = args.check.then(|| Results::read(Path::new(RECORDED))).transpose()?;
    let source = Source::look(&args.source, args.any_commit)?;
    let tools = Tools::find()?;
    let qemu = Qemu::find()?;
    let results = Results {
        name: "seL4".to_owned(),
        version: source.version,
        commit: source.commit,
        host: Host {
            qemu: qemu.version.clone(),
            compiler: tools.compiler.clone(),
            guest_cpu: GUEST_CPU.to_owned(),
        },
        configurations: measure(args, &source.dir, &tools, &qemu, &changes, limit)?,
    };
    results.write(&args.output)?;
    println!("{}: {} rows", args.output.display(), results.rows());
    recorded.map_or(Ok(()), |recorded| judge(&results.compare(&recorded)))
}

fn measure(
    args: &Sel4Args,
    source: &Path,
    tools: &Tools,
    qemu: &Qemu,
    changes: &Settings,
    limit: Option<u64>,
) -> Result<Vec<Measured>> {
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| only == name);
    let mut all = Vec::new();
    for configuration in CONFIGURATIONS.iter().filter(|configuration| wanted(configuration.name)) {
        let (name, cpus) = (configuration.name, configuration.cpus);
        let settings = configuration.settings(changes);
        let dir = Path::new(BUILDS).join(name);
        eprintln!("{name}: building in {}", dir.display());
        let images = build::build(tools, source, &dir, &settings)?;
        eprintln!("{name}: measuring");
        let serial = boot::boot(qemu, &images, &dir, cpus, limit)?;
        let rows = report::read(&serial).map_err(|error| error.context(format!("configuration {name}")))?;
        all.push(Measured { name: name.to_owned(), cpus, settings, rows });
    }
    Ok(all)
}

fn judge(comparison: &Comparison) -> Result<()> {
    match comparison {
        Comparison::Equal(rows) => {
            println!("check: all {rows} rows are exactly as in {RECORDED}");
            Ok(())
        }
        Comparison::Skipped(why) => {
            println!("check skipped: {why}");
            Ok(())
        }
        Comparison::Different(lines) => {
            let text = format!(
                "not as in {RECORDED}, in {} places:\n  {}\nIf the root task was changed on purpose: \
                 `just peers sel4 --source DIR --output {RECORDED}`, then `just peers table --update \
                 docs/src/peers.md`, and commit both",
                lines.len(),
                lines.join("\n  ")
            );
            Err(Trouble::CheckFailed(text).into())
        }
    }
}
