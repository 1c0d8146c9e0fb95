//! Runs the remaining seeds of one shard.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use console::style;

use crate::campaign::gather;
use crate::campaign::log::{Failure, Log, Record};
use crate::campaign::plan::{Build, Charter, Kind, Part, Place, Plan, Shard, kernel_test};
use crate::diff;
use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::probe;
use crate::stress;
use crate::trouble::{Trouble, status, status_of};

/// How often progress is told where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// Time limit of a boot with kernel tests.
const TEST_LIMIT: Duration = Duration::from_secs(300);
/// A command line that is worth its place in the log, in characters.
const WHY_MAX: usize = 6000;

/// Runs the rest of a shard. Errors: one of its seeds has failed, now or before.
pub fn run(lab: Lab, plan: &Plan, shard: Shard, out: &Path) -> Result<()> {
    if let Kind::Stress { mode, .. } = plan.kind {
        probe::check_mode(&lab, mode)?;
    }
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let build = Build::look(&lab, plan)?;
    let short = build.short();
    Charter::new(plan.clone(), vec![build]).settle(out)?;
    let mut log = Log::open(&out.join(shard.file_name()))?;
    let seeds: Vec<u32> = shard.seeds(plan).collect();
    if log.dropped > 0 {
        lab.screen.say("campaign: the last result was cut off in the middle: its seed is run again");
    }
    if !log.records.is_empty() {
        lab.screen.say(&format!("campaign: continues after {} of {} seeds", log.records.len(), seeds.len()));
    }
    let done: BTreeSet<u32> = log.records.iter().map(|record| record.seed).collect();
    let mut runner = Runner { lab, plan, out, build: short };
    let mut pace = Pace::new(seeds.len(), log.records.len());
    for seed in seeds.iter().copied().filter(|seed| !done.contains(seed)) {
        runner.lab.screen.headline(&pace.text(failures(&log)));
        let record = runner.seed(seed)?;
        if let Some(failure) = &record.failure {
            let why = failure.why.lines().next().unwrap_or_default();
            let failed = style("failed").red().for_stderr();
            runner.lab.screen.say(&format!("seed {seed} {failed}: {why}\n  {}", failure.replay));
        }
        log.append(record)?;
        if pace.one_more() && !runner.lab.screen.is_drawn() {
            runner.lab.screen.say(&format!("campaign {shard}: {}", pace.text(failures(&log))));
        }
    }
    drop(runner);
    finish(&log, shard, out)
}

fn failures(log: &Log) -> usize {
    log.records.iter().filter(|record| !record.passed()).count()
}

fn finish(log: &Log, shard: Shard, out: &Path) -> Result<()> {
    let (failed, all) = (failures(log), log.records.len());
    let page = gather::write_page(out)?;
    println!(
        "campaign: shard {shard}: {all} seeds, {} passed, {failed} failed; {}",
        all - failed,
        page.display()
    );
    if failed > 0 {
        return Err(Trouble::CheckFailed(format!("{failed} of {all} seeds failed")).into());
    }
    Ok(())
}

struct Runner<'a> {
    lab: Lab,
    plan: &'a Plan,
    out: &'a Path,
    /// Its short name.
    build: String,
}

/// The result of a seed: in which part it failed, and why.
struct Outcome {
    failure: Option<(Part, String)>,
    hash: Option<String>,
    place: Place,
}

impl Runner<'_> {
    /// Runs a seed. Keeps the guests' output if it fails.
    fn seed(&mut self, seed: u32) -> Result<Record> {
        let kept = format!("runs/{seed}");
        let dir = self.out.join(&kept);
        self.lab.artifacts = self.lab.artifacts.with_runs(&dir);
        let started = Instant::now();
        let outcome = match &self.plan.kind {
            Kind::Stress { .. } => self.stress(seed)?,
            Kind::Test { cpus, steps } => self.test(seed, *cpus, *steps)?,
        };
        if outcome.failure.is_none() {
            remove(&dir)?;
        }
        let failure = outcome.failure.as_ref().map(|(part, why)| Failure {
            why: why.chars().take(WHY_MAX).collect(),
            replay: self.plan.replay(seed, *part),
            gdb: Some(self.plan.gdb(seed, *part, outcome.place)),
            kept,
        });
        let seconds = started.elapsed().as_secs_f64();
        let Outcome { hash, place, .. } = outcome;
        Ok(Record { seed, failure, hash, events: place.events, seconds, build: self.build.clone() })
    }

    fn stress(&self, seed: u32) -> Result<Outcome> {
        let wanted = self.plan.stress(1).context("a plan for stress")?;
        let run = stress::run_seed(&self.lab, &wanted, seed)?;
        let hash = run.outcome.map(|outcome| outcome.hash().to_owned()).filter(|hash| hash.len() > 1);
        Ok(Outcome {
            failure: run.trouble.map(|trouble| (Part::Whole, trouble.to_string())),
            hash,
            place: Place { complained_at: run.complained_at, events: run.events },
        })
    }

    fn test(&self, seed: u32, cpus: u32, steps: u32) -> Result<Outcome> {
        let failure = match found(diff::game(&self.lab, seed, steps))? {
            Some(why) => Some((Part::Game, why)),
            None => self.kernel_test(seed, cpus)?.map(|why| (Part::Whole, why)),
        };
        Ok(Outcome { failure, hash: None, place: Place::default() })
    }

    fn kernel_test(&self, seed: u32, cpus: u32) -> Result<Option<String>> {
        let job = Job {
            label: format!("random-{cpus}-{seed}"),
            variant: String::new(),
            command_line: kernel_test(seed),
            mode: Mode::Icount,
            cpus,
            counted: None,
            limit: TEST_LIMIT,
        };
        let verdict = self.lab.run(&job)?.check_tested();
        found(verdict.map(|()| None).map_err(Into::into))
    }
}

/// Returns what a test found: a failed check, a dead guest or a timeout counts as found.
/// Errors: there was no guest.
fn found(result: Result<Option<String>>) -> Result<Option<String>> {
    match result {
        Ok(found) => Ok(found),
        Err(error) => match status_of(&error) {
            status::CHECK_FAILED | status::GUEST_DIED | status::TIMED_OUT => Ok(Some(format!("{error:#}"))),
            _ => Err(error),
        },
    }
}

fn remove(dir: &PathBuf) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// How far a shard is, and how long the rest will take.
struct Pace {
    all: usize,
    /// How many seeds were done before.
    before: usize,
    done: usize,
    started: Instant,
    told: Instant,
}

impl Pace {
    fn new(all: usize, before: usize) -> Pace {
        let now = Instant::now();
        Pace { all, before, done: before, started: now, told: now }
    }

    /// Counts a seed as done. Returns whether it is time to report that.
    fn one_more(&mut self) -> bool {
        self.done += 1;
        let due = self.told.elapsed() >= TELL_EVERY || self.done == self.all;
        if due {
            self.told = Instant::now();
        }
        due
    }

    fn text(&self, failed: usize) -> String {
        let left = rest(self.started.elapsed(), self.done - self.before, self.all - self.done);
        let left = left.map(|rest| format!(", about {} left", span(rest))).unwrap_or_default();
        format!("{} of {} seeds, {failed} failed{left}", self.done, self.all)
    }
}

/// Returns how long `left` seeds will take, if `done` seeds took `took`.
fn rest(took: Duration, done: usize, left: usize) -> Option<Duration> {
    (done > 0 && left > 0).then(|| took.mul_f64(left as f64 / done as f64))
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds @ 100..=5999 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_judged_by_what_this_process_did() {
        assert_eq!(rest(Duration::from_secs(10), 0, 5), None);
        assert_eq!(rest(Duration::from_secs(10), 5, 0), None);
        assert_eq!(rest(Duration::from_secs(10), 5, 15), Some(Duration::from_secs(30)));
    }

    #[test]
    fn spans_are_rounded_up() {
        let spans = [0, 99, 100, 3600, 6000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["0 s", "99 s", "2 min", "60 min", "2 h"]);
    }

    #[test]
    fn a_dead_guest_is_a_result_and_a_missing_one_is_not() {
        let died = Err(Trouble::GuestDied("why".to_owned()).into());
        assert_eq!(found(died).expect("a result").as_deref(), Some("why"));
        assert!(found(Err(Trouble::NoMachine("why".to_owned()).into())).is_err());
        assert!(found(Err(anyhow::anyhow!("disk full"))).is_err());
        assert_eq!(found(Ok(None)).expect("a result"), None);
    }
}
