//! The mailbox against other queues on the cores of this machine: runs `smp`'s criterion bench as often as
//! wanted, puts the runs together, ranks the queues and draws a picture.
//!
//! A queue is ahead of another where all its runs were faster than all of the other's; those of which
//! neither is ahead share a place. Jobs of several threads are ranked only where each thread has a core of
//! its own: beyond that the scheduler is measured as much as the queue.

mod markdown;
mod plot;
pub mod read;
mod table;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::files;
use crate::screen::Screen;
use crate::{figures, host};
use read::{Figure, Group};

/// The queue that this is about, as the bench calls it.
const OURS: &str = "mailbox";
/// What makes the figures in the book.
const RECIPE: &str = "./justw mailbox --update";
/// With more processes than this ready to run beside it, a measurement is disturbed.
const QUIET: f64 = 0.5;

/// What to measure and where it goes.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub runs: u32,
    /// Only put together what runs have left in `output`.
    pub again: bool,
    /// A page of the book that gets the figures.
    pub update: Option<PathBuf>,
    /// `None`: as many as this process may use.
    pub cores: Option<u32>,
    /// For `mailbox.json`, `mailbox.svg`, and a directory for each run.
    pub output: PathBuf,
}

#[derive(Serialize, Debug)]
struct Results<'a> {
    schema: u32,
    cpu: String,
    os: String,
    rustc: String,
    cores: u32,
    runs: usize,
    figures: &'a [Figure],
}

/// Measures, prints, and writes the results.
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
        figures: &figures,
    };
    println!("{}", results.machine());
    print!("{}", table::render(&figures, cores));
    let picture = plot::svg(&figures, cores)?;
    files::write(&wanted.output.join("mailbox.json"), serde_json::to_string_pretty(&results)? + "\n")?;
    files::write(&wanted.output.join("mailbox.svg"), &picture)?;
    println!("{}: mailbox.json, mailbox.svg", wanted.output.display());
    if let Some(page) = &wanted.update {
        let text = format!("{}.\n\n{}", results.machine(), markdown::render(&figures, cores));
        figures::update(page, RECIPE, &text)?;
        let text = fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
        files::write(&page.with_extension("svg"), picture_of(&text)?)?;
    }
    Ok(())
}

/// The book's picture, from the tables of its page.
pub fn picture_of(page: &str) -> Result<String> {
    let cores = page.lines().find_map(|line| {
        let (before, _) = line.split_once(" cores; ")?;
        before.rsplit(' ').next()?.parse().ok()
    });
    plot::svg(&markdown::read(page)?, cores.context("the page does not say how many cores were there")?)
}

impl Results<'_> {
    /// What was measured on, and how often.
    fn machine(&self) -> String {
        let Results { cpu, os, rustc, cores, runs, .. } = self;
        let s = if *runs == 1 { "" } else { "s" };
        format!("{cpu}, {cores} cores; {os}; {rustc}; {runs} run{s}")
    }
}

fn run_dir(output: &Path, run: u32) -> PathBuf {
    output.join(format!("run-{run}"))
}

/// Runs the bench; what earlier runs have left goes.
fn measure(wanted: &Wanted) -> Result<()> {
    for old in runs(&wanted.output).unwrap_or_default() {
        fs::remove_dir_all(&old).with_context(|| format!("removing {}", old.display()))?;
    }
    let screen = Screen::new();
    let load = load();
    if load > QUIET {
        screen.say(&format!(
            "the load of this machine is {load:.2}: with something else running the figures tell less"
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
        // Criterion says what it is about to do; whatever else there is matters only if something fails.
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

/// The directories of the runs, in order.
fn runs(output: &Path) -> Result<Vec<PathBuf>> {
    let runs: Vec<PathBuf> = (1..).map(|run| run_dir(output, run)).take_while(|run| run.is_dir()).collect();
    if runs.is_empty() {
        bail!("{} has no runs: `./justw mailbox` makes them", output.display());
    }
    Ok(runs)
}

/// Processes ready to run, over the last minute.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

/// Whether each thread of a job has a core of its own.
fn is_ranked(group: Group, parameter: u32, cores: u32) -> bool {
    match group {
        Group::Latency | Group::Throughput => parameter < cores,
        // One thread.
        Group::Wake | Group::Alone => true,
    }
}

/// The place of a figure among those of the same job: one more than there are queues ahead of it.
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
