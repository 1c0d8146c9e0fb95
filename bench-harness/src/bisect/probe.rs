//! One boot, judged after an event.
//!
//! - *By rules*: after the event the chaos build lets all CPUs finish their kernel entries,
//!   undisturbed, and writes a snapshot of its state, which the host judges as it does every
//!   [snapshot](crate::judge). So an operation in the middle does not count as a fault.
//! - *By the end*: from the event on there are no perturbations, and the run continues to its end.
//! - *By gdb*: the machine stops at the event, and gdb evaluates an expression.

use anyhow::{Context, Result, bail};

use super::search::{Look, Machine};
use super::{PURPOSE, Predicate, Wanted};
use crate::gdb;
use crate::lab::{Job, Lab};
use crate::report::Report;
use crate::session::Ending;
use crate::stress::{self, Run, Stop, Then};
use crate::symptom::Symptom;
use crate::trouble::Trouble;

/// How gdb's helper `until` answers, before yes, no or why not.
const ANSWER: &str = "until: ";

/// Boots a run again and again.
pub struct Probe<'a> {
    lab: &'a Lab,
    wanted: &'a Wanted,
    /// In which way the run fails, if it does.
    symptom: Option<Symptom>,
}

impl Machine for Probe<'_> {
    fn look(&mut self, event: u64) -> Result<Look> {
        self.look_at(Stop { at: event, ..Stop::default() })
    }
}

impl<'a> Probe<'a> {
    pub fn new(lab: &'a Lab, wanted: &'a Wanted, whole: &Run) -> Probe<'a> {
        Probe { lab, wanted, symptom: whole.symptom.clone() }
    }

    /// Runs the seed up to a stop, and looks at the state after that event.
    pub fn look_at(&self, stop: Stop) -> Result<Look> {
        let (place, is_wrong, said) = match &self.wanted.predicate {
            Predicate::Rules(rules) => self.by_rules(stop, rules)?,
            Predicate::Calm => self.by_the_end(stop)?,
            Predicate::Until(expression) => self.by_gdb(stop, expression)?,
        };
        let event = event_of(&place).with_context(|| format!("no event in the kernel's output: {place}"))?;
        Ok(Look { event, place, is_wrong, said })
    }

    fn by_rules(&self, stop: Stop, rules: &[String]) -> Result<(String, bool, Vec<String>)> {
        let job = stress::job(&self.wanted.stopping(stop, Then::Snapshot), self.wanted.seed);
        let session = self.lab.run(&Job { label: format!("{PURPOSE}{}", job.label), ..job })?;
        let place = place_of(session.calm.clone())?;
        let has_ended = session.reports.iter().any(|report| matches!(report, Report::Stress(_)));
        match &session.ending {
            Ending::Pass => {}
            // The run came to its own end first, and took a snapshot there, which is as good.
            Ending::Fail if has_ended => {}
            // The kernel died on the way to where all CPUs stand still, or one of them never came
            // there.
            Ending::Panic | Ending::Silent(_) => {
                let why = session.check_ended().err().map(|trouble| trouble.to_string()).unwrap_or_default();
                return Ok((place, true, why.lines().map(str::to_owned).collect()));
            }
            _ => session.check_passed()?,
        }
        if session.snapshots == 0 {
            bail!(Trouble::CheckFailed(format!("no snapshot came after event {place}")));
        }
        let is_meant = |violation: &&String| {
            rules.is_empty() || rules.iter().any(|rule| violation.split(':').next() == Some(rule.as_str()))
        };
        let said: Vec<String> = session.violations.iter().filter(is_meant).cloned().collect();
        Ok((place, !said.is_empty(), said))
    }

    fn by_the_end(&self, stop: Stop) -> Result<(String, bool, Vec<String>)> {
        let run =
            stress::run_once(self.lab, &self.wanted.stopping(stop, Then::Calm), self.wanted.seed, PURPOSE)?;
        let is_alike = |symptom: &Symptom| self.symptom.as_ref().is_some_and(|whole| whole.is_like(symptom));
        let is_wrong = run.symptom.as_ref().is_some_and(is_alike);
        let said = run.symptom.map_or_else(Vec::new, |symptom| symptom.lines());
        Ok((place_of(run.calm)?, is_wrong, said))
    }

    fn by_gdb(&self, stop: Stop, expression: &str) -> Result<(String, bool, Vec<String>)> {
        let run = self.wanted.stopping(stop, Then::Halt);
        let command = format!("aurora until {expression}");
        let answer = gdb::ask(self.lab, &run, self.wanted.seed, &self.wanted.script, &command)?;
        let (is_so, said) = yes_or_no(&answer.said)?;
        Ok((answer.place, is_so, said))
    }
}

/// Returns where the kernel became calm.
/// Errors: it did not become calm.
fn place_of(calm: Option<String>) -> Result<String> {
    calm.ok_or_else(|| {
        Trouble::CheckFailed("the run ended before that event, or it is no build with chaos".to_owned())
            .into()
    })
}

/// Returns the number with which a place begins.
fn event_of(place: &str) -> Option<u64> {
    place.split(' ').next()?.parse().ok()
}

/// Returns the answer of gdb's helper, and its basis.
fn yes_or_no(said: &[String]) -> Result<(bool, Vec<String>)> {
    let at = said.iter().position(|line| line.starts_with(ANSWER));
    let answer = at.and_then(|at| said[at].strip_prefix(ANSWER));
    let basis = || said[at.map_or(0, |at| at + 1)..].iter().filter_map(|line| line.strip_prefix("  "));
    match answer {
        Some("yes") => Ok((true, basis().map(str::to_owned).collect())),
        Some("no") => Ok((false, basis().map(str::to_owned).collect())),
        Some(why) => bail!(Trouble::Usage(format!("gdb cannot tell: {why}"))),
        None => bail!(Trouble::CheckFailed(format!("gdb did not answer:\n{}", said.join("\n")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn gdb_says_yes_or_no_and_on_what_basis() {
        let (is_so, said) =
            yes_or_no(&lines("noise\nuntil: yes\n  lost: note1\n[detached]")).expect("an answer");
        assert_eq!((is_so, said), (true, lines("lost: note1")));
        assert!(!yes_or_no(&lines("until: no\n  3")).expect("an answer").0);
    }

    #[test]
    fn gdb_may_not_know() {
        let error = yes_or_no(&lines("until: No symbol x in current context.")).expect_err("no answer");
        assert!(matches!(error.downcast_ref(), Some(Trouble::Usage(why)) if why.contains("No symbol x")));
        assert!(yes_or_no(&lines("Connection refused")).is_err());
    }

    #[test]
    fn a_place_begins_with_its_event() {
        assert_eq!(event_of("65798 (PopRead), TSC 194372308"), Some(65798));
        assert_eq!(event_of("?"), None);
        assert!(place_of(None).is_err());
    }
}
