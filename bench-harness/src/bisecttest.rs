//! Tests of [`crate::bisect`] with real boots: its criteria work, and it finds the expected event.
//!
//! A whole search by rules takes some twenty boots. So for a planted bug the test examines only the
//! two ends of the search. It runs a whole search only for a known event, in a small range.

use anyhow::Result;

use crate::bisect::{self, Look, Machine, Predicate, Wanted};
use crate::gdb;
use crate::host::find_program;
use crate::lab::Lab;
use crate::machine::Mode;
use crate::stress::{self, Stop};
use crate::testsum::Tally;
use crate::trouble::{status, status_of};

const PLANTED: &str = "trace-planted-lost-wake";
/// The rule that does not hold where it lost something.
const RULE: &str = "mail-nodes: ";
/// Seeds that the planted bug may take to show, and messages in which it does with one of five.
const SEEDS: u32 = 30;
const PLANTED_MESSAGES: u64 = 1500;
/// The event to find in a short run, and the ends between which it is looked for.
const EVENT: u64 = 2003;
const ENDS: [u64; 2] = [2001, 2004];
const MESSAGES: u64 = 300;

pub fn run(lab: &Lab) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut count = |name: &str, wrong: Option<String>| tally += lab.judged("bisect", name, wrong);
    count("a planted lost wake-up breaks a rule", planted(lab)?);
    if find_program("gdb").is_some() {
        count("an event is found by gdb", by_gdb(lab)?);
    } else {
        lab.screen.say("bisect: left out what takes gdb, which is missing: apt-get install gdb");
        tally += Tally::ONE_SKIPPED;
    }
    Ok(tally)
}

fn wanted(predicate: Predicate, seed: u32, cpus: u32, messages: u64, variant: Option<&str>) -> Wanted {
    let run = stress::Wanted {
        seed: Some(seed),
        seeds: 1,
        cpus,
        messages,
        mode: Mode::Icount,
        replay: false,
        idle: None,
        variant: variant.map(str::to_owned),
        stop: Stop::default(),
    };
    Wanted { run, seed, predicate, from: None, to: None, script: gdb::SCRIPT.into() }
}

/// Checks that in the first failing seed no rule is broken after the first event, and that one is
/// broken where the search would end, each time.
fn planted(lab: &Lab) -> Result<Option<String>> {
    for seed in 1..=SEEDS {
        let wanted = wanted(Predicate::Rules(Vec::new()), seed, 4, PLANTED_MESSAGES, Some(PLANTED));
        let (mut probe, end) = match bisect::begin(lab, &wanted) {
            Ok(begun) => begun,
            // The seed does not fail, or the run hangs and does not say how many events it has.
            Err(error) if [status::CHECK_FAILED, status::USAGE].contains(&status_of(&error)) => continue,
            Err(error) => return Err(error),
        };
        let first = probe.look(1)?;
        let again = probe.look(end.event)?;
        return Ok(misjudged(&first, &end, &again));
    }
    Ok(Some(format!("none of {SEEDS} seeds fails and breaks a rule")))
}

fn misjudged(first: &Look, end: &Look, again: &Look) -> Option<String> {
    if first.is_wrong {
        return Some(format!("at event {}: {}", first.place, first.said.join("; ")));
    }
    if !end.is_wrong || !end.said.iter().any(|line| line.starts_with(RULE)) {
        return Some(format!("at event {}: no violation of {RULE}{}", end.place, end.said.join("; ")));
    }
    (end != again).then(|| format!("event {} is {} the next time", end.place, again.place))
}

/// Searches for the event at which gdb has counted that many events.
fn by_gdb(lab: &Lab) -> Result<Option<String>> {
    let counted = Predicate::Until(format!("smp::chaos::hook::EVENTS.v.value >= {EVENT}"));
    let [from, to] = ENDS.map(Some);
    let found = bisect::find(lab, &Wanted { from, to, ..wanted(counted, 1, 1, MESSAGES, None) })?;
    let events = [found.well.event, found.wrong.event];
    Ok((events != [EVENT - 1, EVENT]).then(|| format!("it found events {events:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_right_or_not() {
        let look = |event: u64, said: &[&str]| Look {
            event,
            place: format!("{event} (PopRead), TSC 5"),
            is_wrong: !said.is_empty(),
            said: said.iter().map(|line| (*line).to_owned()).collect(),
        };
        let (first, end) = (look(1, &[]), look(9, &["mail-nodes: the bits of …"]));
        assert_eq!(misjudged(&first, &end, &end), None);
        assert!(misjudged(&end, &end, &end).is_some(), "wrong from the beginning");
        assert!(misjudged(&first, &look(9, &[]), &end).is_some(), "nothing is wrong");
        assert!(misjudged(&first, &look(9, &["steps: 9 of 8"]), &end).is_some(), "something else is");
        assert!(misjudged(&first, &end, &look(9, &["mail-nodes: others"])).is_some(), "not the same again");
    }
}
