//! Compares the mailbox with other queues on the cores of this machine: runs `smp`'s criterion
//! bench several times, combines the runs, ranks the queues and draws a picture.
//!
//! A queue is ahead of another if all its runs were faster than all runs of the other; if neither
//! is ahead, they share a place. Jobs of several threads are ranked only if each thread has a core
//! of its own; otherwise the figures would also measure the scheduler.

mod data;
mod markdown;
mod plot;
pub mod read;
mod table;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cli::one_or_more;
use crate::files;
use crate::screen::Screen;
use crate::{figures, host};
use read::{Figure, Group};

pub use data::Results;

/// The queue that this is about, as the bench calls it.
const OURS: &str = "mailbox";
/// The committed figures, from the root of the project, and what makes them.
pub const COMMITTED: &str = "perf/mailbox.json";
pub const RECIPE: &str = "./justw mailbox --update";
/// With more processes than this ready to run beside it, a measurement is disturbed.
const QUIET: f64 = 0.5;

/// What to measure and where it goes.
#[derive(Args, Clone, Debug)]
pub struct Wanted {
    /// How often to measure everything
    #[arg(long, default_value_t = 5, value_parser = one_or_more())]
    runs: u32,
    /// Measure nothing: combine the results of the last runs
    #[arg(long, conflicts_with = "runs")]
    again: bool,
    /// Write the figures into perf/mailbox.json
    #[arg(long)]
    update: bool,
    /// Cores of the machine that was measured (default: those that this process may use)
    #[arg(long, value_parser = one_or_more())]
    cores: Option<u32>,
    /// Directory for mailbox.json, mailbox.svg and criterion's files of each run
    #[arg(long, default_value = "target/mailbox", value_name = "DIR")]
    output: PathBuf,
}

/// Runs the mailbox bench: measures, prints, and writes the results.
pub fn command(wanted: &Wanted) -> Result<()> {
    if !wanted.again {
        measure(wanted)?;
    }
    let runs = runs(&wanted.output)?;
    let figures = read::figures(&runs)?;
    let cores = match wanted.cores {
        Some(cores) => cores,
        None => std::thread::available_parallelism().context("counting cores")?.get() as u32,
    };
    let results = Results {
        schema: 1,
        cpu: host::cpu_model(),
        os: host::os(),
        rustc: host::rustc_version(),
        cores,
        runs: runs.len(),
        figures,
    };
    println!("{}", results.machine());
    print!("{}", table::render(&results.figures, cores));
    results.write(&wanted.output.join("mailbox.json"))?;
    files::write(&wanted.output.join("mailbox.svg"), results.picture()?)?;
    println!("{}: mailbox.json, mailbox.svg", wanted.output.display());
    if wanted.update {
        results.write(Path::new(COMMITTED))?;
        println!("{COMMITTED}: written; `{}` puts it into the book", figures::RECIPE);
    }
    Ok(())
}

fn run_dir(output: &Path, run: u32) -> PathBuf {
    output.join(format!("run-{run}"))
}

/// Runs the bench, and removes the files of earlier runs before.
fn measure(wanted: &Wanted) -> Result<()> {
    for old in runs(&wanted.output).unwrap_or_default() {
        fs::remove_dir_all(&old).with_context(|| format!("removing {}", old.display()))?;
    }
    let screen = Screen::new();
    let load = load();
    if load > QUIET {
        screen.say(&format!(
            "the load of this machine is {load:.2}: other programs are running, so the figures are less reliable"
        ));
    }
    for run in 1..=wanted.runs {
        screen.step(&format!("run {run} of {}", wanted.runs));
        run_bench(&screen, &run_dir(&wanted.output, run)).with_context(|| format!("run {run}"))?;
    }
    Ok(())
}

/// Runs the bench with `home` for criterion's files.
fn run_bench(screen: &Screen, home: &Path) -> Result<()> {
    fs::create_dir_all(home).with_context(|| format!("making {}", home.display()))?;
    let home = home.canonicalize().with_context(|| format!("finding {}", home.display()))?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut child = Command::new(cargo)
        .args(["bench", "--quiet", "--package", "smp", "--bench", "mailbox", "--", "--quiet"])
        .env("CRITERION_HOME", home)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting cargo bench")?;
    let mut said = Vec::new();
    for line in BufReader::new(child.stderr.take().context("cargo's output")?).lines() {
        let line = line.context("cargo's output")?;
        // Criterion says what it is about to do; whatever else there is matters only if something
        // fails.
        match line.strip_prefix("Benchmarking ") {
            Some(step) => screen.progress(step),
            None => said.push(line),
        }
    }
    if !child.wait().context("cargo bench")?.success() {
        said.iter().for_each(|line| screen.say(line));
        bail!("the bench failed");
    }
    Ok(())
}

/// Returns the directories of the runs, in order.
fn runs(output: &Path) -> Result<Vec<PathBuf>> {
    let runs: Vec<PathBuf> = (1..).map(|run| run_dir(output, run)).take_while(|run| run.is_dir()).collect();
    if runs.is_empty() {
        bail!("{} has no runs: `./justw mailbox` makes them", output.display());
    }
    Ok(runs)
}

/// Returns how many processes were ready to run, over the last minute.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

/// Returns whether a job is ranked: each of its threads has a core of its own.
fn is_ranked(group: Group, parameter: u32, cores: u32) -> bool {
    match group {
        Group::Latency | Group::Throughput => parameter < cores,
        // One thread.
        Group::Wake | Group::Alone => true,
    }
}

/// Returns the place of a figure among those of the same job: one more than the number of queues
/// ahead of it.
fn place(figure: &Figure, of: &[Figure]) -> usize {
    1 + of.iter().filter(|other| other.high < figure.low).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn figure(
        group: Group,
        parameter: u32,
        queue: &str,
        (low, median, high): (f64, f64, f64),
    ) -> Figure {
        Figure {
            group,
            parameter,
            queue: queue.to_owned(),
            median,
            low,
            high,
            best: low,
            runs: vec![low, median, high],
        }
    }

    #[test]
    fn places_are_shared_where_nobody_is_ahead() {
        let of = |queue: &str, range| figure(Group::Latency, 1, queue, range);
        let all = [of("a", (1.0, 2.0, 3.0)), of("b", (2.5, 3.0, 4.0)), of("c", (3.5, 4.0, 5.0))];
        let places: Vec<usize> = all.iter().map(|figure| place(figure, &all)).collect();
        assert_eq!(places, [1, 1, 2]);
    }

    #[test]
    fn threads_without_a_core_are_not_ranked() {
        let ranked = |group, cores| (1..5).map(|n| is_ranked(group, n, cores)).collect::<Vec<_>>();
        assert_eq!(ranked(Group::Latency, 3), [true, true, false, false]);
        assert_eq!(ranked(Group::Throughput, 1), [false; 4]);
        assert_eq!(ranked(Group::Wake, 1), [true; 4]);
    }
}
