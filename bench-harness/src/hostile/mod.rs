//! The red team as a suite: boots the guest program `hostile` once for each attack and place, and
//! shows what the attacks cost others.
//!
//! Attackers on other CPUs than the victims' run under TCG with a host thread for each CPU, so that
//! they act at the same time. Attackers on the victims' CPU run under icount, where lateness is
//! exact, on a machine with one CPU: there CPUs take turns, and another CPU's answer would take a
//! whole turn. The figures are instructions that the TCG plugin counts for each CPU: no clock is
//! read.

mod attacks;
mod measure;
mod table;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use crate::files;
use crate::lab::{Job, Lab};
use crate::lanes;
use crate::machine::Mode;
use crate::stretches::{self, LONGEST_OFF, Stretches};
use crate::testsum::Tally;
use crate::trouble::Trouble;

use attacks::Attack;
use measure::{Measured, Place};
use table::Totals;

/// The most CPUs: as many as the plugin distinguishes.
const CPUS_MAX: i64 = 64;
/// Host time that a boot may take, and what more it may take for each second of the attack.
const LIMIT: Duration = Duration::from_secs(300);
const LIMIT_OF_A_SECOND: u32 = 120;

/// The most instructions that a task of priority 200 may wake late beside attackers of its own CPU.
const LATEST: u64 = 10_000;
/// The most that it may wake late beside attackers of other CPUs.
const LATEST_BY_MAIL: u64 = 20_000;

pub const EXAMPLES: &str = "\
Examples:
  aurora-bench hostile                                        all attacks on 2 CPUs: about an hour
  aurora-bench hostile --cpus 4 --only notify-flood,priority  some attacks, three attackers
  aurora-bench hostile --only equal-deadlines --seconds 0.5   a quick look
  aurora-bench hostile --list                                 what each attack does
";

/// What to run and where the results go.
#[derive(Args, Clone, Debug)]
pub struct Wanted {
    /// Number of CPUs: one is the victims', and the attackers have the others, or the victims'
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=CPUS_MAX))]
    pub cpus: u32,
    /// Make only these attacks, with commas between them
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub only: Vec<String>,
    /// Guest seconds that each attack lasts, from each place
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub seconds: f64,
    /// List all attacks; make none
    #[arg(long)]
    pub list: bool,
    /// Print JSON instead of the tables
    #[arg(long, conflicts_with = "list")]
    pub json: bool,
    /// Where the results go
    #[arg(long, default_value = "target/hostile/latest.json", value_name = "FILE")]
    pub output: PathBuf,
}

/// Parses a time that is long enough for every victim to have a turn.
fn seconds(text: &str) -> Result<f64, String> {
    const LEAST: f64 = 0.1;
    const MOST: f64 = 1000.0;
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds, such as 5 or 0.5".to_owned())?;
    if (LEAST..=MOST).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("from {LEAST} to {MOST} seconds"))
    }
}

/// One boot.
#[derive(Clone, Copy, Debug)]
struct Run {
    attack: Attack,
    place: Place,
}

/// What is written as JSON.
#[derive(Serialize, Debug)]
struct Results<'a> {
    schema: u32,
    cpus: u32,
    seconds: f64,
    attacks: &'a [Measured],
    /// The longest stretches of all attacks.
    stretches: Vec<Stretches>,
    line: String,
}

/// Makes the attacks, prints the tables and the line, and writes the results.
pub fn command(lab: &Lab, wanted: &Wanted) -> Result<()> {
    files::make_dir_of(&wanted.output)?;
    files::demand_room_for(&wanted.output)?;
    let (all, failed) = make(lab, wanted)?;
    let totals = Totals::of(&all);
    let results = Results {
        schema: 1,
        cpus: wanted.cpus,
        seconds: wanted.seconds,
        attacks: &all,
        stretches: table::operations(&all),
        line: totals.line(wanted.cpus),
    };
    let json = serde_json::to_string_pretty(&results)? + "\n";
    files::write(&wanted.output, &json)?;
    if wanted.json {
        print!("{json}");
    } else {
        print!("{}\n{}\n{}\n", table::render(&all), table::render_operations(&all), results.line);
    }
    judge(&totals, &failed)
}

/// Prints what each attack does.
pub fn list() {
    print!("{}", attacks::list());
}

/// Fails if an attack has no result, somebody was stuck, an attacker got what it must not, an entry
/// took too long, or a task woke too late.
fn judge(totals: &Totals, failed: &[String]) -> Result<()> {
    if let Some(first) = failed.first() {
        let text = format!(
            "{} attacks have no result; the first: {first}\n`./justw hostile --verbose --only NAME` shows all that \
             the guest says",
            failed.len()
        );
        return Err(Trouble::CheckFailed(text).into());
    }
    if totals.stuck > 0 || totals.escapes > 0 {
        let text = format!(
            "{} victims were stuck and {} attacks got what should be refused: the columns `stuck` and `escapes` say \
             which, docs/src/hostile.md what they mean",
            totals.stuck, totals.escapes
        );
        return Err(Trouble::CheckFailed(text).into());
    }
    if totals.longest_off > LONGEST_OFF {
        let text = format!(
            "an entry into the kernel took {} instructions, and {LONGEST_OFF} are allowed: the column `longest off` \
             says which",
            totals.longest_off
        );
        return Err(Trouble::CheckFailed(text).into());
    }
    let late = [(totals.late_own, LATEST, "its own CPU"), (totals.late_max, LATEST_BY_MAIL, "other CPUs")];
    if let Some((late, most, of)) = late.into_iter().find(|(late, most, _)| late > most) {
        let text = format!(
            "a task of priority 200 woke {late} instructions late beside attackers of {of}, and {most} are allowed: \
             the column `late` says which",
        );
        return Err(Trouble::CheckFailed(text).into());
    }
    Ok(())
}

/// Makes the attacks. Returns their results, and why some have none.
fn make(lab: &Lab, wanted: &Wanted) -> Result<(Vec<Measured>, Vec<String>)> {
    let runs = runs(wanted)?;
    let done = AtomicUsize::new(0);
    // Lanes begin with the last.
    let mut order: Vec<Run> = runs.clone();
    order.reverse();
    let outcomes = lanes::side_by_side(&order, |run| {
        let outcome = boot(&lab.beside(), wanted, run);
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        let (name, place) = (run.attack.name, run.place.name());
        let how = if outcome.is_ok() { "over" } else { "no result" };
        lab.screen.say(&format!("{name}, {place}: {how}, {done} of {} boots", order.len()));
        outcome
    });
    let (mut all, mut failed) = (Vec::new(), Vec::new());
    for outcome in outcomes.into_iter().rev() {
        match outcome {
            Ok(measured) => all.push(measured),
            Err(error) if error.downcast_ref::<Trouble>().is_some_and(Trouble::is_of_the_host) => {
                return Err(error);
            }
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    Ok((all, failed))
}

/// Returns all boots, in the order of the table.
fn runs(wanted: &Wanted) -> Result<Vec<Run>> {
    let attacks = attacks::named(&wanted.only).map_err(|name| {
        Trouble::Usage(format!("there is no attack {name}; `./justw hostile --list` shows all of them"))
    })?;
    let places: &[Place] = if wanted.cpus > 1 { &[Place::Other, Place::Own] } else { &[Place::Own] };
    Ok(attacks.iter().flat_map(|&attack| places.iter().map(move |&place| Run { attack, place })).collect())
}

fn boot(lab: &Lab, wanted: &Wanted, run: &Run) -> Result<Measured> {
    let job = job(wanted, run);
    let (session, watched) = stretches::watch(lab, &job)?;
    session.check_passed()?;
    let measured = Measured::of(run.attack.name, run.place, &session.reports, &watched)
        .map_err(|missing| Trouble::CheckFailed(format!("{}: {missing}", job.label)))?;
    if measured.alive == 0 {
        let text = format!("{}: the attackers made no round, so the figures mean nothing", job.label);
        return Err(Trouble::CheckFailed(text)).context("give it more `--seconds`");
    }
    Ok(measured)
}

fn job(wanted: &Wanted, run: &Run) -> Job {
    let (name, place) = (run.attack.name, run.place.name());
    let milliseconds = (wanted.seconds * 1000.0) as u64;
    let (mode, cpus) = match run.place {
        Place::Other => (Mode::Tcg, wanted.cpus),
        Place::Own => (Mode::Icount, 1),
    };
    Job {
        label: format!("hostile-{name}-{place}-{cpus}"),
        variant: String::new(),
        command_line: format!("run=hostile attack={name} place={place} ms={milliseconds} idle=halt"),
        mode,
        cpus,
        counted: None,
        limit: LIMIT + Duration::from_secs_f64(wanted.seconds) * LIMIT_OF_A_SECOND,
    }
}

/// Attacks of the suite on two CPUs: the figures of the first two show that everything works, from
/// the marker to the line. The others made entries too long there.
const SAMPLE: [&str; 5] = ["notify-flood", "priority", "pages-both-ways", "pool-stall", "shared-in-vain"];
/// Attacks whose entries were too long once, or beside which a task woke too late. On one CPU,
/// where instructions are counted exactly.
const LONG: [&str; 12] = [
    "broadcasts",
    "deadline-chains",
    "dying-process",
    "far-slots",
    "full-messages",
    "large-frames",
    "large-over-small",
    "large-pool",
    "lent-deadlines",
    "lock-chain",
    "pages-both-ways",
    "pool-stall",
];
const SAMPLE_SECONDS: f64 = 0.1;

/// Makes short attacks, and checks that they were seen: a flood steals from somebody, and nobody
/// gets a priority that was not allowed. No entry is too long.
pub fn sample(lab: &Lab) -> Result<Tally> {
    let wanted = |cpus: u32, only: &[&str]| Wanted {
        cpus,
        only: only.iter().map(|&name| name.to_owned()).collect(),
        seconds: SAMPLE_SECONDS,
        list: false,
        json: false,
        output: PathBuf::new(),
    };
    let (all, failed) = make(lab, &wanted(2, &SAMPLE))?;
    let mut sum = lab.judged("hostile", "every attack has a result", failed.into_iter().next());
    sum += lab.judged("hostile", "attackers escape nowhere", escaped(&all));
    sum += lab.judged("hostile", "stretches have operations", unnamed(&all));
    let judged = |all: &[Measured], failed: &[String]| {
        judge(&Totals::of(all), failed).err().map(|error| format!("{error:#}"))
    };
    sum += lab.judged("hostile", "no entry is too long on two CPUs", judged(&all, &[]));
    let (all, failed) = make(lab, &wanted(1, &LONG))?;
    let judged = judged(&all, &failed);
    sum += lab.judged("hostile", "no entry is too long, and no task wakes too late", judged);
    Ok(sum)
}

fn escaped(all: &[Measured]) -> Option<String> {
    let totals = Totals::of(all);
    (totals.escapes > 0).then(|| totals.line(2))
}

/// Says which attack's own system call is not among the stretches.
fn unnamed(all: &[Measured]) -> Option<String> {
    let made = |measured: &&Measured| {
        let operation = match measured.attack.as_str() {
            "priority" => "SchedConfigure",
            "notify-flood" => "Notify",
            _ => return false,
        };
        let entries = |row: &Stretches| row.operation == operation && row.entries > measured.alive;
        !measured.stretches.iter().any(entries) && measured.place == Place::Own
    };
    all.iter().find(made).map(|measured| format!("{}: its system calls were not counted", measured.attack))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        wanted: Wanted,
    }

    fn wanted(words: &str) -> Wanted {
        Cli::parse_from(["hostile"].into_iter().chain(words.split_whitespace())).wanted
    }

    #[test]
    fn a_single_cpu_has_no_attackers_elsewhere() {
        let places = |words| -> Vec<Place> {
            runs(&wanted(words)).expect("known").iter().map(|run| run.place).collect()
        };
        assert_eq!(places("--cpus 1 --only priority"), [Place::Own]);
        assert_eq!(places("--cpus 4 --only priority"), [Place::Other, Place::Own]);
        assert_eq!(runs(&wanted("")).expect("all").len(), 2 * attacks::ATTACKS.len());
    }

    #[test]
    fn an_unknown_attack_is_refused_with_what_to_do() {
        let error = runs(&wanted("--only nothing")).expect_err("unknown").to_string();
        assert!(error.contains("no attack nothing") && error.contains("--list"), "{error}");
    }

    #[test]
    fn the_mode_fits_the_place() {
        let wanted = wanted("--cpus 3 --only priority --seconds 0.5");
        let jobs: Vec<Job> = runs(&wanted).expect("known").iter().map(|run| job(&wanted, run)).collect();
        let machines = [&jobs[0], &jobs[1]].map(|job| (job.mode, job.cpus));
        assert_eq!(machines, [(Mode::Tcg, 3), (Mode::Icount, 1)]);
        assert_eq!(jobs[1].command_line, "run=hostile attack=priority place=own ms=500 idle=halt");
        assert!(jobs[0].limit >= Duration::from_secs(300));
    }

    #[test]
    fn times_have_bounds() {
        assert_eq!((seconds("0.5"), seconds("5")), (Ok(0.5), Ok(5.0)));
        assert!(seconds("0").is_err() && seconds("x").is_err() && seconds("1e9").is_err());
    }

    #[test]
    fn a_result_that_is_missing_fails_before_figures_do() {
        let totals = Totals { stuck: 2, escapes: 1, ..Totals::default() };
        let missing = judge(&totals, &["why".to_owned()]).expect_err("missing").to_string();
        assert!(missing.contains("1 attacks have no result; the first: why"), "{missing}");
        let bad = judge(&totals, &[]).expect_err("bad").to_string();
        assert!(bad.contains("2 victims were stuck and 1 attacks got"), "{bad}");
        let long = Totals { longest_off: LONGEST_OFF + 1, ..Totals::default() };
        let long = judge(&long, &[]).expect_err("long").to_string();
        assert!(long.contains("took 10001 instructions, and 10000 are allowed"), "{long}");
        let late = Totals { late_max: LATEST + 1, late_own: LATEST + 1, ..Totals::default() };
        let late = judge(&late, &[]).expect_err("late").to_string();
        assert!(late.contains("woke 10001 instructions late"), "{late}");
        let late = Totals { late_max: LATEST_BY_MAIL + 1, late_own: LATEST, ..Totals::default() };
        let late = judge(&late, &[]).expect_err("late").to_string();
        assert!(late.contains("woke 20001 instructions late beside attackers of other CPUs"), "{late}");
        let fine = Totals { stolen_max: 99, longest_off: LONGEST_OFF, late_max: 20_000, ..Totals::default() };
        assert!(judge(&fine, &[]).is_ok());
    }
}
