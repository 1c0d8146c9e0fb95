//! Torture runs: seeds, and the line that sums a run up.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::report::Report;
use crate::session::{Ending, Session};
use crate::stress::{self, seeds_from};
use crate::trouble::Trouble;

/// Time limit of one run, and what more it may take for each million operations: on a host with fewer CPUs than the
/// guest they take minutes.
const LIMIT: Duration = Duration::from_secs(600);
const LIMIT_OF_A_MILLION: Duration = Duration::from_secs(600);

/// Counts that must be zero.
const WRONG: &[&str] = &["stale", "lost", "dirty", "refused", "strange", "stuck", "leaked_pages"];
/// Of those, the ones that show a translation that should be no more.
const STALE: &[&str] = &["stale", "lost", "dirty"];

/// What to run.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The first seed; random if not given.
    pub seed: Option<u32>,
    /// How many seeds, one after the other; the first failure ends it.
    pub seeds: u32,
    pub cpus: u32,
    pub ops: u64,
    pub mode: Mode,
    /// Build of the kernel; by default the chaos build under icount and the ordinary one elsewhere.
    pub variant: Option<String>,
}

/// Runs every seed, printing a line for each.
pub fn torture(lab: &Lab, wanted: &Wanted) -> Result<()> {
    for seed in seeds_from(wanted.seed, wanted.seeds) {
        let outcome = run_seed(lab, wanted, seed)?;
        println!("{}", outcome.line());
        outcome.trouble.map_or(Ok(()), Err)?;
    }
    Ok(())
}

/// What came of one seed.
#[derive(Debug)]
pub struct Outcome {
    seed: u32,
    cpus: u32,
    /// The kernel panicked.
    panicked: bool,
    /// What the guest said, if it came to that.
    said: BTreeMap<String, String>,
    /// Why the seed has failed, if it has.
    pub trouble: Option<Trouble>,
}

/// Runs a seed. Gives an error only where it could not be run.
pub fn run_seed(lab: &Lab, wanted: &Wanted, seed: u32) -> Result<Outcome> {
    let session = lab.run(&job(wanted, seed))?;
    let outcome = Outcome::of(&session, wanted.cpus, seed);
    match outcome.trouble {
        Some(Trouble::NoMachine(why)) => Err(Trouble::NoMachine(why).into()),
        _ => Ok(outcome),
    }
}

fn job(wanted: &Wanted, seed: u32) -> Job {
    let Wanted { cpus, mode, ops, .. } = *wanted;
    let usual = if mode == Mode::Icount { "chaos" } else { "" };
    // Under icount the kernel perturbs itself by the seed. Elsewhere idle CPUs leave the host to those that work.
    let how = if mode == Mode::Icount { format!("chaos={seed} idle=poll") } else { "idle=halt".to_owned() };
    Job {
        label: format!("torture-{mode}-{cpus}-{seed}"),
        variant: wanted.variant.clone().unwrap_or_else(|| usual.to_owned()),
        command_line: format!("run=torture seed={seed} ops={ops} {how}"),
        mode,
        cpus,
        counted: None,
        limit: LIMIT + LIMIT_OF_A_MILLION * (ops / 1_000_000) as u32,
    }
}

impl Outcome {
    fn of(session: &Session, cpus: u32, seed: u32) -> Outcome {
        let said = session.reports.iter().rev().find_map(|report| match report {
            Report::Torture(fields) => Some(fields.clone()),
            _ => None,
        });
        let panicked = matches!(session.ending, Ending::Panic);
        let mut outcome = Outcome { seed, cpus, panicked, said: said.unwrap_or_default(), trouble: None };
        outcome.trouble = outcome.judge(session).err();
        outcome
    }

    /// A run passes if the guest ended well and every count that must be zero is there and zero.
    fn judge(&self, session: &Session) -> Result<(), Trouble> {
        let label = &session.label;
        let wrong = self.wrong();
        if !self.said.is_empty() && !wrong.is_empty() {
            let complaints = stress::complaints(session).map(|line| format!("\n  | {line}"));
            let text = format!("{label}: {}{}", wrong.join(", "), complaints.collect::<String>());
            return Err(Trouble::CheckFailed(text));
        }
        session.check_passed()?;
        if self.said.is_empty() {
            return Err(Trouble::GuestDied(format!("{label}: the guest ended without a result")));
        }
        Ok(())
    }

    fn said(&self, key: &str) -> &str {
        self.said.get(key).map_or("?", String::as_str)
    }

    /// The counts that are not zero, or not there.
    fn wrong(&self) -> Vec<String> {
        let bad = WRONG.iter().filter(|key| self.said(key) != "0");
        bad.map(|key| format!("{key}={}", self.said(key))).collect()
    }

    /// Whether an access saw what it should not have: what a planted missing flush leads to.
    pub fn saw_stale(&self) -> bool {
        STALE.iter().any(|key| self.said(key).parse::<u64>().is_ok_and(|count| count > 0))
    }

    /// The result line.
    pub fn line(&self) -> String {
        let counts: Vec<String> = WRONG.iter().map(|key| format!("{key}={}", self.said(key))).collect();
        format!(
            "torture: seed={} cpus={} ops={} {} panics={}",
            self.seed,
            self.cpus,
            self.said("ops"),
            counts.join(" "),
            u32::from(self.panicked)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(line: &str) -> Outcome {
        let Report::Torture(said) = Report::parse(line) else { panic!("not a torture line") };
        Outcome { seed: 7, cpus: 4, panicked: false, said, trouble: None }
    }

    const GOOD: &str = "torture seed=7 cpus=4 ops=1003 stale=0 lost=0 dirty=0 refused=0 strange=0 stuck=0 leaked_pages=0 accesses=9";

    #[test]
    fn the_line_is_the_documented_one() {
        let outcome = outcome(GOOD);
        assert_eq!(
            outcome.line(),
            "torture: seed=7 cpus=4 ops=1003 stale=0 lost=0 dirty=0 refused=0 strange=0 stuck=0 \
             leaked_pages=0 panics=0"
        );
        assert!(outcome.wrong().is_empty() && !outcome.saw_stale());
    }

    #[test]
    fn what_is_wrong_or_missing_is_named() {
        let outcome = outcome(&GOOD.replace("stale=0", "stale=2").replace("stuck=0 ", ""));
        assert_eq!(outcome.wrong(), ["stale=2", "stuck=?"]);
        assert!(outcome.saw_stale());
    }

    #[test]
    fn a_leak_is_no_stale_translation() {
        let outcome = outcome(&GOOD.replace("leaked_pages=0", "leaked_pages=1"));
        assert!(!outcome.wrong().is_empty() && !outcome.saw_stale());
    }
}
