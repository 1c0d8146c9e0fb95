//! Tests of tracing: the trace of a kernel must be complete, its picture must follow the schema,
//! and it must break no rule. If a bug is planted, the check must find it.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::events::check::{Findings, check};
use crate::events::rings::Trace;
use crate::events::story::Story;
use crate::events::turns::shares;
use crate::events::{SCHEMA, chrome, command};
use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::session::{Ending, Session};
use crate::stress;
use crate::suite::GUEST_LIMIT;
use crate::testsum::Tally;

const TRACED: &str = "trace";
const PLANTED: &str = "trace-planted-lost-wake";
/// What the planted bug breaks.
const RULE: &str = "lost-bits";
/// Runs that must break no rule, and their CPUs.
const RUNS: [(&str, u32); 4] = [
    ("run=test only=notify", 2),
    ("run=stress seed=1 messages=1000 idle=halt", 4),
    // Settings and moves at random.
    ("run=policies policy=static lie=1 jobs=10 seed=5 exact=1 idle=halt", 2),
    ("run=policies policy=balance seed=5 exact=1 idle=halt", 4),
];
/// Tasks of one priority that take turns for 1,000 slices each, and their CPUs.
const EQUALS: (&str, u32) = ("run=policies policy=static seed=5 exact=1 idle=halt", 2);
const EQUALS_PRIORITY: u8 = 60;
const EQUALS_ON_A_CPU: usize = 3;
/// Thousandths by which their shares may differ.
const UNEQUAL: u64 = 20;
/// Each CPU keeps all of its events.
const EVENTS: u32 = 1 << 17;
/// Fewer say nothing.
const ENOUGH: usize = 10_000;
/// Seeds that the planted bug may take to show. Most of the bits that it loses are control bits, of
/// which no event speaks.
const SEEDS: u32 = 40;
const MESSAGES: u64 = 4000;
const CPUS: u32 = 4;

pub fn run(lab: &Lab) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut count = |name: &str, wrong: Option<String>| tally += lab.judged("trace", name, wrong);
    for (number, (command_line, cpus)) in RUNS.into_iter().enumerate() {
        let Traced { session, trace, found } = traced(lab, plain(&number.to_string(), command_line, cpus))?;
        let ended = session.check_passed().err().map(|trouble| trouble.to_string());
        count(&format!("the run of {command_line}"), ended.or_else(|| too_little(&trace, &found)));
        count(&format!("the rules in {command_line}"), first(&found));
        let picture = chrome::render(&trace, &Story::of(&trace), &found.violations);
        count(&format!("the picture of {command_line}"), malformed(&picture)?);
    }
    count("equal shares", unequal(lab)?);
    count("a planted bug", planted(lab)?);
    Ok(tally)
}

struct Traced {
    session: Session,
    trace: Trace,
    found: Findings,
}

fn traced(lab: &Lab, job: Job) -> Result<Traced> {
    let (session, log) = command::record(lab, job, EVENTS)?;
    let trace = Trace::read(&log)?;
    let found = check(&trace);
    Ok(Traced { session, trace, found })
}

/// Returns how the turns or the shares of equals are not as they should be.
fn unequal(lab: &Lab) -> Result<Option<String>> {
    let Traced { session, trace, found } = traced(lab, plain("equals", EQUALS.0, EQUALS.1))?;
    if let Err(trouble) = session.check_passed() {
        return Ok(Some(trouble.to_string()));
    }
    let all = shares(&trace, EQUALS_PRIORITY);
    let full = all.iter().filter(|shares| shares.ticks.len() == EQUALS_ON_A_CPU).count();
    if full != EQUALS.1 as usize {
        return Ok(Some(format!("who takes turns: {all:?}")));
    }
    Ok(first(&found).or_else(|| all.iter().flat_map(|shares| shares.unequal(UNEQUAL)).next()))
}

fn plain(name: &str, command_line: &str, cpus: u32) -> Job {
    Job {
        label: format!("test-trace-{name}"),
        variant: TRACED.to_owned(),
        command_line: command_line.to_owned(),
        mode: Mode::Icount,
        cpus,
        counted: None,
        limit: GUEST_LIMIT,
    }
}

fn too_little(trace: &Trace, found: &Findings) -> Option<String> {
    let whole = trace.is_complete() && found.events >= ENOUGH;
    (!whole).then(|| format!("{} events of {}", found.events, trace.describe().join("; ")))
}

fn first(found: &Findings) -> Option<String> {
    found.violations.first().map(ToString::to_string)
}

/// Returns how a picture breaks the schema.
fn malformed(picture: &str) -> Result<Option<String>> {
    let schema: Value = serde_json::from_str(SCHEMA).context("reading the schema")?;
    let validator = jsonschema::validator_for(&schema).context("the schema")?;
    let picture: Value = serde_json::from_str(picture).context("reading the picture")?;
    Ok(validator.iter_errors(&picture).next().map(|error| format!("{}: {error}", error.instance_path())))
}

/// Checks that the trace of a seed breaks the rule that the bug is about, and that of none before
/// it another one. A seed that passes may break it, too: the next notification makes up for a lost
/// one.
fn planted(lab: &Lab) -> Result<Option<String>> {
    let mut unseen = 0;
    for seed in 1..=SEEDS {
        let wanted = stress::Wanted {
            seed: Some(seed),
            seeds: 1,
            cpus: CPUS,
            messages: MESSAGES,
            mode: Mode::Icount,
            replay: false,
            idle: None,
            variant: Some(PLANTED.to_owned()),
            stop: stress::Stop::default(),
        };
        let job = Job { label: "test-trace-planted".to_owned(), ..stress::job(&wanted, seed) };
        let Traced { session, found, .. } = traced(lab, job)?;
        if let Some(other) = found.violations.iter().find(|violation| violation.rule != RULE) {
            return Ok(Some(format!("seed {seed}: {other}")));
        }
        match session.ending {
            _ if !found.violations.is_empty() => return Ok(None),
            Ending::Pass => {}
            Ending::Fail => unseen += 1,
            _ => return Ok(session.check_ended().err().map(|trouble| trouble.to_string())),
        }
    }
    Ok(Some(format!("of {SEEDS} seeds {unseen} have failed, and the trace of none breaks the rule")))
}
