//! Stress runs: seeds, replays, and the summary line of a run.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::planted;
use crate::probe;
use crate::report::Report;
use crate::seeded::{Said, check_judged, seeds_from, usual_variant};
use crate::session::Session;
use crate::symptom::Symptom;
use crate::trouble::Trouble;

/// Time limit of one run: a million messages under icount with chaos take minutes.
const LIMIT: Duration = Duration::from_secs(1800);

/// Counts that must be zero.
const WRONG: &[&str] = &["lost", "duplicated", "reordered", "corrupted", "unanswered", "leaked_pages"];

/// What to run.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The first seed; random if not given.
    pub seed: Option<u32>,
    /// How many seeds, one after the other; the first failure ends it.
    pub seeds: u32,
    pub cpus: u32,
    pub messages: u64,
    pub mode: Mode,
    /// Run each seed twice and compare the hashes.
    pub replay: bool,
    /// How idle CPUs wait; by default as the seed says under icount, and halted elsewhere.
    pub idle: Option<Idle>,
    /// Build of the kernel; by default the chaos build under icount and the dump build elsewhere.
    pub variant: Option<String>,
    /// Where to stop the machine, for a debugger.
    pub stop: Stop,
}

/// Where a chaos build stops: at an event, or at the first one at or after a time; 0 is never.
/// Written with as many digits whatever the numbers, because what the kernel does until then must
/// not depend on them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Stop {
    pub at: u64,
    pub time: u64,
    pub then: Then,
}

/// What the chaos build does where it is to stop: the numbers that the kernel knows.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Then {
    /// Halts all CPUs at the event, for a debugger.
    #[default]
    Halt = 0,
    /// Lets all CPUs finish their kernel entries, writes a snapshot of the kernel's state, and
    /// ends.
    Snapshot = 1,
    /// Perturbs nothing any more, and goes on.
    Calm = 2,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stop { at, time, then } = *self;
        write!(f, "stop_at={at:016} stop_time={time:016} stop_then={}", then as u8)
    }
}

/// Runs every seed, printing a line for each, until one fails: of a kernel with a planted bug, one
/// has to.
pub fn run(lab: &Lab, wanted: &Wanted) -> Result<()> {
    probe::check_mode(lab, wanted.mode)?;
    planted::judge(wanted.variant(), stress(lab, wanted))
}

/// Runs every seed, printing a line for each.
pub fn stress(lab: &Lab, wanted: &Wanted) -> Result<()> {
    wanted.check()?;
    for seed in seeds_from(wanted.seed, wanted.seeds) {
        let run = run_seed(lab, wanted, seed)?;
        if let Some(outcome) = &run.outcome {
            println!("{}", outcome.line());
        }
        if let Some(events) = run.events.filter(|_| wanted.mode == Mode::Icount) {
            let stop = gdb_command(wanted, seed, "--stress");
            lab.screen.say(&format!("seed {seed} has {events} events; to stop at one: {stop} --stop-at N"));
            if run.trouble.is_some() {
                let bisect = gdb_command(wanted, seed, "--bisect");
                lab.screen.say(&format!("to find the first one after which something is wrong: {bisect}"));
            }
        }
        run.trouble.map_or(Ok(()), Err)?;
    }
    Ok(())
}

/// The result of one seed. [`run_seed`] gives an error only where the seed could not be run.
#[derive(Debug)]
pub struct Run {
    /// What the guest said, if it came to that.
    pub outcome: Option<Outcome>,
    /// Why the seed has failed, if it has.
    pub trouble: Option<Trouble>,
    /// In which way.
    pub symptom: Option<Symptom>,
    /// When the guest complained first, by its TSC.
    pub complained_at: Option<u64>,
    /// How many events a chaos build counted.
    pub events: Option<u64>,
    /// The event from which on the guest perturbed nothing, if the options asked for that.
    pub calm: Option<String>,
}

/// Runs a seed; twice, comparing the hashes, if that is wanted.
pub fn run_seed(lab: &Lab, wanted: &Wanted, seed: u32) -> Result<Run> {
    let first = run_once(lab, wanted, seed, "")?;
    if !wanted.replay || wanted.mode != Mode::Icount || first.trouble.is_some() {
        return Ok(first);
    }
    let second = run_once(lab, wanted, seed, "")?;
    match (&first.outcome, &second.outcome) {
        (Some(one), Some(other)) => Ok(Run { trouble: one.same_as(other).err(), ..first }),
        _ => Ok(second),
    }
}

/// Returns the boot for a seed.
pub fn job(wanted: &Wanted, seed: u32) -> Job {
    let Wanted { cpus, mode, .. } = *wanted;
    Job {
        label: format!("stress-{mode}-{cpus}-{seed}"),
        variant: wanted.variant().to_owned(),
        command_line: command_line(wanted, seed),
        mode,
        cpus,
        counted: None,
        limit: LIMIT,
    }
}

/// Runs a seed once. Its files are kept under the usual label, with `purpose` before it.
pub fn run_once(lab: &Lab, wanted: &Wanted, seed: u32, purpose: &str) -> Result<Run> {
    let job = job(wanted, seed);
    let session = lab.run(&Job { label: format!("{purpose}{}", job.label), ..job.clone() })?;
    let outcome = Outcome::of(&session, &job, seed, wanted.messages);
    let trouble = match outcome.said.judge(&session, &outcome.said.not_zero(WRONG)) {
        Err(trouble) if trouble.is_of_the_host() => return Err(trouble.into()),
        verdict => verdict.and_then(|()| check_judged(&session, wanted.variant.as_deref())).err(),
    };
    let outcome = (!outcome.said.is_empty()).then_some(outcome);
    let symptom = trouble.as_ref().map(|trouble| Symptom::of(&session, trouble));
    let complained_at = complained_at(&session.reports);
    Ok(Run { outcome, trouble, symptom, complained_at, events: session.events, calm: session.calm })
}

/// Returns the time of the guest's first complaint: `error stress: Lost at 452477866: seat 7 …`.
fn complained_at(reports: &[Report]) -> Option<u64> {
    reports.iter().find_map(|report| {
        let Report::Other(line) = report else { return None };
        let complaint = line.strip_prefix("error stress: ")?.split(':').next()?;
        complaint.split_once(" at ")?.1.parse().ok()
    })
}

/// Returns the shell command that runs a seed with the options of `wanted`.
pub fn command(wanted: &Wanted, seed: u32) -> String {
    let Wanted { cpus, messages, mode, .. } = wanted;
    let planted = wanted.variant.as_deref().and_then(|variant| variant.strip_prefix("planted-"));
    let recipe = planted.map_or("stress".to_owned(), |bug| format!("planted {bug}"));
    let mut line =
        format!("./justw {recipe} --mode {mode} --seed {seed} --cpus {cpus} --messages {messages}");
    if let Some(idle) = wanted.idle {
        line += &format!(" --idle {idle}");
    }
    if let (Some(variant), None) = (&wanted.variant, planted) {
        line += &format!(" --variant '{variant}'");
    }
    if wanted.replay { line + " --replay" } else { line }
}

/// Returns the command that looks into the middle of a run: `what` is --stress or --bisect.
pub fn gdb_command(wanted: &Wanted, seed: u32, what: &str) -> String {
    let line = command(&Wanted { replay: false, mode: Mode::Icount, ..wanted.clone() }, seed);
    let options = line.split_once("--seed").map_or("", |(_, rest)| rest);
    let variant = wanted.variant.as_deref().map(|variant| format!(" --variant '{variant}'"));
    let options = options.split(" --variant").next().unwrap_or_default();
    format!("./justw gdb {what} --seed{options}{}", variant.unwrap_or_default())
}

/// Returns the guest's command line. Under icount the seed decides what happens: the chaos build's
/// disturbances, and how idle CPUs wait, because each way wakes up on another path. CPUs do not
/// halt unless that is asked for: while all CPUs halt, another of QEMU's threads moves the clock,
/// and the host decides which CPU continues first. With a host thread for each CPU the host decides
/// everything. There, ticks would only hide a missing interrupt, and polling CPUs take the host's
/// CPUs from those that work.
fn command_line(wanted: &Wanted, seed: u32) -> String {
    let run = format!("run=stress seed={seed} messages={}", wanted.messages);
    let by_seed = if seed.is_multiple_of(2) { Idle::Poll } else { Idle::Mwait };
    match wanted.mode {
        Mode::Icount => {
            format!("{run} chaos={seed} idle={} {}", wanted.idle.unwrap_or(by_seed), wanted.stop)
        }
        _ => format!("{run} idle={}", wanted.idle.unwrap_or(Idle::Halt)),
    }
}

/// How idle CPUs wait: the kernel's boot option.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    Halt,
    Poll,
    Mwait,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Idle::Halt => "halt",
            Idle::Poll => "poll",
            Idle::Mwait => "mwait",
        })
    }
}

impl Wanted {
    /// Checks that the options can be used together.
    pub fn check(&self) -> Result<(), Trouble> {
        if self.replay && self.mode != Mode::Icount {
            let text = "only --mode icount replays: leave --replay out, or choose that";
            return Err(Trouble::Usage(text.to_owned()));
        }
        Ok(())
    }

    /// Returns the build of the kernel to run.
    pub fn variant(&self) -> &str {
        self.variant.as_deref().unwrap_or(usual_variant(self.mode))
    }
}

/// What the guest said of a run, under the harness's own names for what was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    mode: Mode,
    seed: u32,
    cpus: u32,
    messages: u64,
    said: Said,
}

impl Outcome {
    fn of(session: &Session, job: &Job, seed: u32, messages: u64) -> Outcome {
        let said = Said::of(session, |report| match report {
            Report::Stress(fields) => Some(fields),
            _ => None,
        });
        Outcome { mode: job.mode, seed, cpus: job.cpus, messages, said }
    }

    /// Returns the hash of the events, if there is one: only icount repeats their order.
    pub fn hash(&self) -> &str {
        if self.mode == Mode::Icount { self.said.get("hash") } else { "-" }
    }

    fn line(&self) -> String {
        let Outcome { seed, cpus, messages, said, .. } = self;
        let counts = format!("{} {}", said.count("kills"), said.counts(WRONG));
        format!("stress: seed={seed} cpus={cpus} messages={messages} {counts} hash={}", self.hash())
    }

    fn same_as(&self, again: &Outcome) -> Result<(), Trouble> {
        if self.hash() == again.hash() && self.hash() != "?" {
            return Ok(());
        }
        let text =
            format!("seed {} does not replay: hash {} and then {}", self.seed, self.hash(), again.hash());
        Err(Trouble::CheckFailed(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(mode: Mode, line: &str) -> Outcome {
        let Report::Stress(said) = Report::parse(line) else { panic!("not a stress line") };
        Outcome { mode, seed: 7, cpus: 4, messages: 1000, said: said.into() }
    }

    const GOOD: &str = "stress kills=3 lost=0 duplicated=0 reordered=0 corrupted=0 unanswered=0 leaked_pages=0 hash=0123abcd";

    #[test]
    fn the_line_is_the_documented_one() {
        let outcome = outcome(Mode::Icount, GOOD);
        assert_eq!(
            outcome.line(),
            "stress: seed=7 cpus=4 messages=1000 kills=3 lost=0 duplicated=0 reordered=0 corrupted=0 \
             unanswered=0 leaked_pages=0 hash=0123abcd"
        );
        assert!(outcome.said.not_zero(WRONG).is_empty());
    }

    #[test]
    fn only_icount_has_a_hash() {
        assert!(outcome(Mode::Tcg, GOOD).line().ends_with("hash=-"));
    }

    #[test]
    fn what_is_wrong_or_missing_is_named() {
        let outcome = outcome(Mode::Tcg, &GOOD.replace("lost=0", "lost=2").replace("corrupted=0 ", ""));
        assert_eq!(outcome.said.not_zero(WRONG), ["lost=2", "corrupted=?"]);
    }

    fn wanted(variant: Option<&str>, stop: Stop) -> Wanted {
        Wanted {
            seed: Some(7),
            seeds: 1,
            cpus: 4,
            messages: 1000,
            mode: Mode::Icount,
            replay: false,
            idle: None,
            variant: variant.map(str::to_owned),
            stop,
        }
    }

    #[test]
    fn where_it_stops_does_not_change_the_length_of_the_line() {
        let line = |at, time, then| command_line(&wanted(None, Stop { at, time, then }), 7);
        let never = line(0, 0, Then::Halt);
        assert!(
            never.ends_with("idle=mwait stop_at=0000000000000000 stop_time=0000000000000000 stop_then=0")
        );
        assert_eq!(never.len(), line(1_234_567, 9_999_999_999_999_999, Then::Calm).len());
    }

    #[test]
    fn it_says_how_to_stop() {
        let text = gdb_command(&wanted(Some("planted-lost-wake"), Stop::default()), 7, "--bisect");
        let command = "./justw gdb --bisect --seed 7 --cpus 4 --messages 1000 --variant 'planted-lost-wake'";
        assert_eq!(text, command);
        let usual = gdb_command(&wanted(None, Stop::default()), 7, "--stress");
        assert!(
            usual.starts_with("./justw gdb --stress --seed 7") && usual.ends_with("--messages 1000"),
            "{usual}"
        );
    }

    #[test]
    fn the_first_complaint_says_when() {
        let of =
            |lines: &[&str]| complained_at(&lines.iter().map(|line| Report::parse(line)).collect::<Vec<_>>());
        let lost = "error stress: Lost at 452477866: seat 7 heard 0 of 1 notifications of seat 2";
        assert_eq!(of(&["note stress: x at 3: y", lost, &lost.replace("452", "999")]), Some(452_477_866));
        assert_eq!(of(&["error stress: nothing has moved for 4 seconds"]), None);
        assert_eq!(of(&["error stress: a failure at the start: why", lost]), Some(452_477_866));
    }

    #[test]
    fn replays_are_compared_by_hash() {
        let first = outcome(Mode::Icount, GOOD);
        let other = outcome(Mode::Icount, &GOOD.replace("0123", "9999"));
        assert!(first.same_as(&first).is_ok());
        assert!(first.same_as(&other).is_err());
    }
}
