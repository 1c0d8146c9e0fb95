//! `./justw gdb --bisect`: finds the event of a stress run after which something is wrong, and
//! prints the command that stops there.
//!
//! Under icount a seed of the chaos build is the same run every time, and each of its events can be
//! named (see [`crate::stress::Stop`]). So a run can be judged after any event, by booting it once
//! more. [`mod@search`] halves the range of events; [`probe`] judges the state after an event, by
//! one of three [predicates](Predicate).
//!
//! # Where it searches
//! It searches from the first event to the event at which the guest first reports an error, or to
//! the last event. A wrong state may be gone at the end, because stress destroys its objects
//! between rounds.

pub mod args;
mod probe;
mod search;

use std::path::PathBuf;

use anyhow::Result;

use crate::lab::Lab;
use crate::machine::Mode;
use crate::stress::{self, Run, Stop, Then};
use crate::trouble::{Trouble, status, status_of};

pub(crate) use probe::Probe;
use search::search;
pub use search::{Found, Look, Machine};

/// What stands before the labels of the runs.
const PURPOSE: &str = "bisect-";

/// How far from the last event it looks for one that can be looked at: 2 to the power of this less
/// one, in events.
const CUT_OFF: u32 = 8;

/// What is to be found.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub run: stress::Wanted,
    pub seed: u32,
    pub predicate: Predicate,
    /// The events to search between.
    pub from: Option<u64>,
    pub to: Option<u64>,
    /// gdb's helpers.
    pub script: PathBuf,
}

/// What is wrong after an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Predicate {
    /// A rule of the invariants does not hold, once all CPUs have finished what they are about:
    /// any, or one of these.
    Rules(Vec<String>),
    /// The run fails in the same way, although nothing is perturbed from the event on.
    Calm,
    /// What gdb evaluates on the machine that was stopped at the event: see its helper `until`.
    Until(String),
}

/// Runs the search as a command, and prints what was found.
pub fn command(lab: &Lab, wanted: &Wanted) -> Result<()> {
    let found = find(lab, wanted)?;
    print!("{}", report(wanted, &found));
    Ok(())
}

/// Searches a run for the first event after which something is wrong.
pub fn find(lab: &Lab, wanted: &Wanted) -> Result<Found> {
    let (mut probe, to) = begin(lab, wanted)?;
    let from = wanted.from.unwrap_or(1);
    lab.screen.say(&format!("event {}: {}; searches from event {from} on", to.place, verdict(&to, wanted)));
    search(&mut probe, wanted.predicate.words(), from, to, &mut |line| lab.screen.say(line))
}

/// Runs the seed to its end, and looks at the event at which the search is to end.
pub(crate) fn begin<'a>(lab: &'a Lab, wanted: &'a Wanted) -> Result<(Probe<'a>, Look)> {
    wanted.check()?;
    lab.screen.say(&format!("seed {}: runs it to its end", wanted.seed));
    let whole = stress::run_once(lab, &wanted.run, wanted.seed, PURPOSE)?;
    wanted.check_run(&whole)?;
    let mut probe = Probe::new(lab, wanted, &whole);
    let to = end(lab, &mut probe, wanted, &whole)?;
    Ok((probe, to))
}

/// Returns the look at which the search ends: where the guest complains first, or after the last
/// event.
fn end(lab: &Lab, probe: &mut Probe<'_>, wanted: &Wanted, whole: &Run) -> Result<Look> {
    if let Some(to) = wanted.to {
        return probe.look(to);
    }
    let look_at_last = |probe: &mut Probe<'_>| last(probe, whole.events.ok_or_else(|| unknown_end(wanted))?);
    let Some(time) = whole.complained_at else { return look_at_last(probe) };
    let look = match probe.look_at(Stop { time, ..Stop::default() }) {
        // There is no event after the complaint.
        Err(error) if status_of(&error) == status::CHECK_FAILED => return look_at_last(probe),
        look => look?,
    };
    if look.is_wrong {
        return Ok(look);
    }
    lab.screen.say(&format!("event {}, where the guest complains: {}", look.place, verdict(&look, wanted)));
    let last = look_at_last(probe)?;
    if last.is_wrong { Ok(last) } else { Err(nothing_to_find(wanted, &look, &last)) }
}

/// Returns the look after the last event that can be looked at: other CPUs come to further events
/// while one ends the run, and those may be cut off.
fn last(machine: &mut dyn Machine, events: u64) -> Result<Look> {
    let steps = std::iter::once(0).chain((0..CUT_OFF).map(|power| 1 << power));
    let mut error = None;
    for event in steps.filter_map(|step| events.checked_sub(step)).filter(|event| *event > 0) {
        match machine.look(event) {
            Err(why) if status_of(&why) == status::CHECK_FAILED => error = error.or(Some(why)),
            look => return look,
        }
    }
    Err(error.unwrap_or_else(|| Trouble::CheckFailed("the run has no event".to_owned()).into()))
}

fn verdict(look: &Look, wanted: &Wanted) -> &'static str {
    let words = wanted.predicate.words();
    if look.is_wrong { words.wrong } else { words.well }
}

/// Returns the trouble of a run that did not say how many events it has.
fn unknown_end(wanted: &Wanted) -> Trouble {
    let build = wanted.run.variant();
    Trouble::Usage(format!(
        "the run does not say how many events it has: give --to N if it hangs, or --variant if {build} is no build with chaos"
    ))
}

/// Returns the error of a predicate that is true at both ends of a failing run.
fn nothing_to_find(wanted: &Wanted, complaint: &Look, last: &Look) -> anyhow::Error {
    let stop = wanted.stop_command(complaint.event);
    let well = wanted.predicate.words().well;
    let else_ = match wanted.predicate {
        Predicate::Calm => "",
        _ => "\n  an event that decides that the run fails, whatever is wrong then: --calm",
    };
    let text = format!(
        "{well} both where the guest complains first and after event {}: there is nothing to search for by that\n  \
         to look at where it complains: {stop}{else_}",
        last.place
    );
    Trouble::CheckFailed(text).into()
}

/// Prints what was found, and the commands to look at it.
fn report(wanted: &Wanted, found: &Found) -> String {
    let words = wanted.predicate.words();
    let said = |look: &Look| look.said.iter().map(|line| format!("  {line}\n")).collect::<String>();
    format!(
        "event {}: {}\n{}event {}: {}\n{}to stop there, and just before:\n  {}\n  {}\n",
        found.wrong.place,
        words.wrong,
        said(&found.wrong),
        found.well.place,
        words.well,
        said(&found.well),
        wanted.stop_command(found.wrong.event),
        wanted.stop_command(found.well.event),
    )
}

impl Wanted {
    /// Checks that the search can be done: the run can be replayed, and its rules exist.
    fn check(&self) -> Result<(), Trouble> {
        if self.run.mode != Mode::Icount {
            let text =
                format!("a run in mode {} has no events that come again: leave --mode out", self.run.mode);
            return Err(Trouble::Usage(text));
        }
        if let Predicate::Rules(rules) = &self.predicate
            && let Some(unknown) =
                rules.iter().find(|rule| !known_rules().any(|known| known == rule.as_str()))
        {
            let known: Vec<&str> = known_rules().collect();
            let text = format!("there is no rule {unknown}; known are {}", known.join(", "));
            return Err(Trouble::Usage(text));
        }
        match (self.from.unwrap_or(1), self.to) {
            (from, Some(to)) if from >= to => {
                Err(Trouble::Usage(format!("--from {from} has to be less than --to {to}")))
            }
            _ => Ok(()),
        }
    }

    /// Checks that there may be something to find in the run: it fails, and has the events that the
    /// options name.
    fn check_run(&self, whole: &Run) -> Result<(), Trouble> {
        if whole.trouble.is_none() && !matches!(self.predicate, Predicate::Until(_)) {
            let text = format!(
                "seed {} does not fail, so there is nothing to find: {}",
                self.seed,
                stress::command(&self.run, self.seed)
            );
            return Err(Trouble::CheckFailed(text));
        }
        let Some(events) = whole.events else { return Ok(()) };
        for (option, event) in [("--from", self.from), ("--to", self.to)] {
            if let Some(event) = event.filter(|event| *event > events) {
                return Err(Trouble::Usage(format!("{option} {event}: the run has only {events} events")));
            }
        }
        Ok(())
    }

    fn stop_command(&self, event: u64) -> String {
        format!("{} --stop-at {event}", stress::gdb_command(&self.run, self.seed, "--stress"))
    }

    /// Returns the run with a stop at an event, and what is to happen there.
    fn stopping(&self, stop: Stop, then: Then) -> stress::Wanted {
        stress::Wanted { stop: Stop { then, ..stop }, ..self.run.clone() }
    }
}

/// Returns the names of the rules, each once.
fn known_rules() -> impl Iterator<Item = &'static str> {
    std::iter::once(invariants::LISTS).chain(invariants::RULES.iter().map(|rule| rule.name))
}

impl Predicate {
    fn words(&self) -> search::Words {
        let (well, wrong) = match self {
            Predicate::Rules(rules) if rules.is_empty() => ("all rules hold", "a rule does not hold"),
            Predicate::Rules(_) => ("the rule holds", "the rule does not hold"),
            Predicate::Calm => {
                ("calm from there on, the run does not fail so", "calm from there on, the run fails")
            }
            Predicate::Until(_) => ("it is not so yet", "it is so"),
        };
        search::Words { well, wrong }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(predicate: Predicate) -> Wanted {
        let run = stress::Wanted {
            seed: Some(7),
            seeds: 1,
            cpus: 4,
            messages: 1000,
            mode: Mode::Icount,
            replay: false,
            idle: None,
            variant: None,
            stop: Stop::default(),
        };
        Wanted { run, seed: 7, predicate, from: None, to: None, script: "s.py".into() }
    }

    fn any_rule() -> Wanted {
        wanted(Predicate::Rules(Vec::new()))
    }

    fn run(has_failed: bool, events: Option<u64>) -> Run {
        let trouble = has_failed.then(|| Trouble::CheckFailed("lost=1".to_owned()));
        Run { outcome: None, trouble, symptom: None, complained_at: None, events, calm: None }
    }

    fn refused(result: Result<(), Trouble>) -> String {
        result.expect_err("it cannot be").to_string()
    }

    #[test]
    fn what_does_not_replay_is_refused() {
        let mut tcg = any_rule();
        tcg.run.mode = Mode::Tcg;
        assert!(refused(tcg.check()).starts_with("a run in mode tcg has no events that come again"));
        assert!(any_rule().check().is_ok());
    }

    #[test]
    fn unknown_rules_are_refused_by_name() {
        let rules = |name: &str| wanted(Predicate::Rules(vec!["wake-ups".to_owned(), name.to_owned()]));
        let text = refused(rules("mail-node").check());
        assert!(text.starts_with("there is no rule mail-node; known are lists, references,"), "{text}");
        assert!(rules("mail-nodes").check().is_ok() && rules("lists").check().is_ok());
    }

    #[test]
    fn ends_are_events_of_the_run_and_in_order() {
        let between = |from, to| Wanted { from, to, ..any_rule() };
        assert_eq!(refused(between(Some(9), Some(9)).check()), "--from 9 has to be less than --to 9");
        assert!(between(None, Some(1)).check().is_err() && between(Some(8), Some(9)).check().is_ok());
        let beyond = between(None, Some(1001)).check_run(&run(true, Some(1000)));
        assert_eq!(refused(beyond), "--to 1001: the run has only 1000 events");
        assert!(between(Some(1001), None).check_run(&run(true, Some(1000))).is_err());
        assert!(between(None, Some(1000)).check_run(&run(true, Some(1000))).is_ok());
    }

    #[test]
    fn a_seed_that_does_not_fail_is_refused() {
        let text = refused(any_rule().check_run(&run(false, Some(1000))));
        assert!(
            text.starts_with("seed 7 does not fail, so there is nothing to find: ./justw stress "),
            "{text}"
        );
        assert!(wanted(Predicate::Calm).check_run(&run(false, Some(1000))).is_err());
        assert!(any_rule().check_run(&run(true, Some(1000))).is_ok());
        let until = wanted(Predicate::Until("x > 3".to_owned()));
        assert!(until.check_run(&run(false, Some(1000))).is_ok(), "something may come to be so in any run");
    }

    /// A machine that can look at its first events only.
    struct CutOff(u64);

    impl Machine for CutOff {
        fn look(&mut self, event: u64) -> Result<Look> {
            if event > self.0 {
                return Err(Trouble::CheckFailed(format!("ended before event {event}")).into());
            }
            Ok(Look { event, place: event.to_string(), is_wrong: false, said: Vec::new() })
        }
    }

    #[test]
    fn the_last_event_is_one_that_can_be_looked_at() {
        let last_of = |machine: u64, events| last(&mut CutOff(machine), events).map(|look| look.event);
        assert_eq!(last_of(1000, 1000).expect("the last"), 1000);
        assert_eq!(last_of(999, 1000).expect("the last but one"), 999);
        assert_eq!(last_of(994, 1000).expect("eight before it, since four are too few"), 992);
        assert_eq!(last_of(1, 2).expect("there is one before it"), 1);
        let error = last_of(0, 3).expect_err("there is none");
        assert_eq!(error.to_string(), "ended before event 3", "it says why the last one cannot be");
    }

    #[test]
    fn the_report_ends_with_the_commands_that_stop_there() {
        let look = |event, is_wrong, said: &[&str]| Look {
            event,
            place: format!("{event} (PopRead), TSC 5"),
            is_wrong,
            said: said.iter().map(|line| (*line).to_owned()).collect(),
        };
        let found = Found { well: look(41, false, &[]), wrong: look(42, true, &["wake-ups: cpu0 …"]) };
        let command = "./justw gdb --stress --seed 7 --cpus 4 --messages 1000 --stop-at";
        assert_eq!(
            report(&any_rule(), &found),
            format!(
                "event 42 (PopRead), TSC 5: a rule does not hold\n  wake-ups: cpu0 …\n\
                 event 41 (PopRead), TSC 5: all rules hold\n\
                 to stop there, and just before:\n  {command} 42\n  {command} 41\n"
            )
        );
    }
}
