//! `./justw trace`: boots the tracing kernel with a workload, stores its events, draws the picture,
//! checks the rules and answers questions.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use console::style;
use test_abi::trace::{RING_EVENTS, RING_EVENTS_MAX};

use super::check::{self, Findings};
use super::chrome;
use super::query::{self, Query};
use super::rings::Trace;
use super::story::Story;
use crate::cli::{StressArgs, cpus};
use crate::files;
use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::planted;
use crate::probe;
use crate::report::Report;
use crate::seeded::seeds_from;
use crate::session::Session;
use crate::stress;
use crate::trouble::Trouble;

/// Time limit of one run.
const LIMIT: Duration = Duration::from_secs(900);
/// Build of the kernel that traces.
const VARIANT: &str = "trace";
/// Violations and waiting things that are printed.
const SHOWN: usize = 20;

pub const EXAMPLES: &str = "\
Examples:
  aurora-bench trace bench call_reply_cross_as          one row of the bench
  aurora-bench trace stress --seed 7 --cpus 4 --check   stress, and the invariants
  aurora-bench trace test ipc --cpus 2                  kernel tests of a module, or single ones
  aurora-bench trace run --cpus 2 run=test idle=poll    any boot
  aurora-bench trace --check                            the invariants, in the last trace
  aurora-bench trace --query longest-wait,busy          questions to the last trace
Open the JSON file at https://ui.perfetto.dev or chrome://tracing.";

#[derive(Args, Debug)]
pub struct TraceArgs {
    /// Verify scheduling invariants
    #[arg(long, global = true)]
    check: bool,
    /// Answer these questions
    #[arg(long, global = true, value_delimiter = ',', value_name = "QUERY,…")]
    query: Vec<Query>,
    /// Events that each CPU's ring keeps, rounded up to a power of two
    #[arg(long, global = true, default_value_t = RING_EVENTS,
        value_parser = clap::value_parser!(u32).range(2..=i64::from(RING_EVENTS_MAX)))]
    events: u32,
    /// The JSON file to write; the events themselves go beside it, as .bin
    #[arg(long, global = true, default_value = "target/trace/latest.json", value_name = "FILE")]
    output: PathBuf,
    #[command(subcommand)]
    workload: Option<Workload>,
}

#[derive(Subcommand, Debug)]
enum Workload {
    /// Random IPC across CPUs
    Stress(StressArgs),
    /// Rows of the bench
    Bench {
        #[command(flatten)]
        machine: MachineArgs,
        /// Samples of each row
        #[arg(long, default_value_t = 100)]
        samples: u32,
        /// Rows
        #[arg(required = true)]
        rows: Vec<String>,
    },
    /// Kernel tests
    Test {
        #[command(flatten)]
        machine: MachineArgs,
        /// Modules or single tests (default: all)
        names: Vec<String>,
    },
    /// Trace a plain boot
    Run {
        #[command(flatten)]
        machine: MachineArgs,
        /// Words for the kernel's command line
        words: Vec<String>,
    },
}

#[derive(Args, Debug)]
struct MachineArgs {
    /// How QEMU executes the guest
    #[arg(long, default_value = "icount")]
    mode: Mode,
    /// Number of CPUs
    #[arg(long, default_value_t = 2, value_parser = cpus())]
    cpus: u32,
}

impl Workload {
    fn job(&self) -> Result<Job, Trouble> {
        let job = |label: &str, machine: &MachineArgs, command_line: String| Job {
            label: format!("trace-{label}"),
            variant: VARIANT.to_owned(),
            command_line,
            mode: machine.mode,
            cpus: machine.cpus,
            counted: None,
            limit: LIMIT,
        };
        Ok(match self {
            Workload::Stress(args) => {
                let wanted = args.wanted();
                let [seed] = seeds_from(wanted.seed, wanted.seeds)[..] else {
                    return Err(Trouble::Usage("a trace is of one seed: leave --seeds out".to_owned()));
                };
                if wanted.replay {
                    return Err(Trouble::Usage("a trace is of one run: leave --replay out".to_owned()));
                }
                let job = stress::job(&wanted, seed);
                let variant = wanted.variant.unwrap_or_else(|| VARIANT.to_owned());
                Job { variant, label: "trace-stress".to_owned(), limit: LIMIT, ..job }
            }
            Workload::Bench { machine, samples, rows } => {
                let rows = rows.join(",");
                job("bench", machine, format!("run=bench idle=halt n={samples} rows={rows}"))
            }
            Workload::Test { machine, names } => {
                let only =
                    if names.is_empty() { String::new() } else { format!(" only={}", names.join(",")) };
                job("test", machine, format!("run=test{only}"))
            }
            Workload::Run { machine, words } => job("run", machine, words.join(" ")),
        })
    }

    /// Whether the guest did what it was asked for: it leaves out rows and tests that it does not
    /// know.
    fn check_done(&self, session: &Session) -> Result<(), Trouble> {
        let rows = match self {
            Workload::Bench { rows, .. } => rows,
            Workload::Test { .. } => return session.check_tested(),
            Workload::Stress(_) | Workload::Run { .. } => return Ok(()),
        };
        let measured = |row: &String| {
            session.reports.iter().any(|report| matches!(report, Report::Row(known) if known.name == *row))
        };
        match rows.iter().find(|row| !measured(row)) {
            Some(row) => Err(Trouble::CheckFailed(format!(
                "the guest measured no row {row} on so many CPUs; `./justw bench` shows which there are"
            ))),
            None => Ok(()),
        }
    }
}

/// Traces the workload, or reads the last trace; draws, checks, answers. A check of a kernel with a
/// planted bug must find the bug.
pub fn command(lab: &Lab, args: &TraceArgs) -> Result<()> {
    let Some(workload) = &args.workload else { return trace(lab, args) };
    let job = workload.job()?;
    probe::check_mode(lab, job.mode)?;
    let variant = if args.check { job.variant.as_str() } else { "" };
    planted::judge(variant, trace(lab, args))
}

/// Traces the workload, or reads the last trace; draws, checks, answers.
fn trace(lab: &Lab, args: &TraceArgs) -> Result<()> {
    let raw = events_file(&args.output)?;
    let session = args.workload.as_ref().map(|workload| boot(lab, args, workload, &raw)).transpose()?;
    let log = std::fs::read(&raw).with_context(|| {
        format!(
            "reading {}: nothing was traced yet; `./justw trace bench call_reply_cross_as` does",
            raw.display()
        )
    })?;
    let trace = with_session(Trace::read(&log), session.as_ref())?;
    let story = Story::of(&trace);
    let found = check::check(&trace);
    trace.describe().iter().for_each(|line| println!("{line}"));
    if session.is_some() {
        files::write(&args.output, chrome::render(&trace, &story, &found.violations).as_bytes())?;
        println!("{}: open it at https://ui.perfetto.dev", args.output.display());
    }
    for &query in &args.query {
        query::answer(&trace, &story, query).iter().for_each(|line| println!("{line}"));
    }
    let checked = if args.check { judge(&found) } else { Ok(()) };
    if let Some(session) = session {
        with_session(checked.map_err(Into::into), Some(&session))?;
        session.check_passed()?;
        return Ok(args.workload.as_ref().map_or(Ok(()), |workload| workload.check_done(&session))?);
    }
    Ok(checked?)
}

/// Returns the file for the events themselves: beside the JSON file.
fn events_file(output: &Path) -> Result<PathBuf, Trouble> {
    let file = output.with_extension("bin");
    if file == output || output.is_dir() {
        let text = format!("--output {}: name the JSON file, as target/trace/mine.json", output.display());
        return Err(Trouble::Usage(text));
    }
    Ok(file)
}

/// Adds to an error how the run ended, because that is often the cause.
fn with_session<T>(result: Result<T>, session: Option<&Session>) -> Result<T> {
    match session.map(Session::check_passed) {
        Some(Err(trouble)) if trouble.is_of_the_host() => Err(trouble.into()),
        Some(Err(trouble)) => result.with_context(|| format!("the run did not pass, either: {trouble}")),
        _ => result,
    }
}

/// Boots the workload and keeps what it wrote to its log port.
fn boot(lab: &Lab, args: &TraceArgs, workload: &Workload, raw: &Path) -> Result<Session> {
    let job = workload.job()?;
    // Before the run, which may take long.
    files::make_dir_of(raw)?;
    let (session, log) = record(lab, job, args.events)?;
    files::write(raw, &log)?;
    Ok(session)
}

/// Boots a tracing kernel with rings of so many events; what it wrote to its log port.
pub fn record(lab: &Lab, mut job: Job, events: u32) -> Result<(Session, Vec<u8>)> {
    job.command_line = format!("{} trace_events={events}", job.command_line).trim_start().to_owned();
    let session = lab.run(&job)?;
    let log = lab.artifacts.run_path(&job.label).join("log.bin");
    let bytes = std::fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
    Ok((session, bytes))
}

/// Prints what a check found.
fn judge(found: &Findings) -> Result<(), Trouble> {
    if !found.waiting.is_empty() {
        println!("still waiting at the end: {}", found.waiting.len());
        found.waiting.iter().take(SHOWN).for_each(|line| println!("  {line}"));
    }
    for violation in found.violations.iter().take(SHOWN) {
        println!("{} {violation}", style("broken:").red());
    }
    let count = found.violations.len();
    let summary = format!("check: {} events, {count} violations", found.events);
    if found.events == 0 {
        return Err(Trouble::CheckFailed("there is nothing to check: the trace has no events".to_owned()));
    }
    if count == 0 {
        println!("{}", style(summary).green());
        return Ok(());
    }
    println!("{summary}");
    Err(Trouble::CheckFailed(format!("the trace breaks {count} rules, the first: {}", found.violations[0])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: TraceArgs,
    }

    fn job(words: &[&str]) -> Job {
        let all = std::iter::once("trace").chain(words.iter().copied());
        Cli::parse_from(all).args.workload.expect("a workload").job().expect("a job")
    }

    #[test]
    fn workloads_are_boots() {
        let bench = job(&["bench", "--cpus", "1", "call_reply_cross_as", "yield_to"]);
        assert_eq!(bench.command_line, "run=bench idle=halt n=100 rows=call_reply_cross_as,yield_to");
        assert_eq!((bench.cpus, bench.variant.as_str()), (1, "trace"));
        assert_eq!(job(&["test", "ipc", "ends"]).command_line, "run=test only=ipc,ends");
        assert_eq!(job(&["test"]).command_line, "run=test");
        assert_eq!(job(&["run", "run=test", "idle=poll"]).command_line, "run=test idle=poll");
        let stress = job(&["stress", "--seed", "7", "--cpus", "3", "--variant", "trace-planted-x"]);
        assert!(stress.command_line.contains("run=stress seed=7"), "{}", stress.command_line);
        assert_eq!((stress.cpus, stress.variant.as_str()), (3, "trace-planted-x"));
    }

    #[test]
    fn a_trace_is_of_one_run() {
        for words in [["stress", "--seeds", "2"].as_slice(), &["stress", "--replay"]] {
            let all = std::iter::once("trace").chain(words.iter().copied());
            let job = Cli::parse_from(all).args.workload.expect("a workload").job();
            assert!(matches!(job, Err(Trouble::Usage(_))), "{words:?}");
        }
    }

    #[test]
    fn nothing_to_check_is_no_success() {
        assert!(judge(&Findings::default()).is_err());
        assert!(judge(&Findings { events: 1, ..Findings::default() }).is_ok());
    }

    #[test]
    fn the_events_do_not_write_over_the_picture() {
        assert_eq!(events_file(Path::new("a/b.json")).ok(), Some("a/b.bin".into()));
        assert_eq!(events_file(Path::new("a/b")).ok(), Some("a/b.bin".into()));
        for wrong in ["a/b.bin", "."] {
            assert!(events_file(Path::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_stand_before_or_behind_the_workload() {
        for words in [["trace", "--check", "test"], ["trace", "test", "--check"]] {
            assert!(Cli::parse_from(words).args.check);
        }
    }
}
