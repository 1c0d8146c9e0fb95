//! Torture runs: seeds, and the summary line of a run.

use anyhow::Result;

use crate::lab::Lab;
use crate::planted;
use crate::probe;
use crate::report::Report;
use crate::seeded::{self, Said, Wanted};
use crate::session::Session;
use crate::stretches::Collector;
use crate::trouble::Trouble;

/// Counts that must be zero.
const WRONG: &[&str] = &["stale", "lost", "dirty", "refused", "doubled", "strange", "stuck", "leaked_pages"];
/// The counts that show a translation that should be gone.
const STALE: &[&str] = &["stale", "lost", "dirty"];

/// Runs every seed, printing a line for each, until one fails: of a kernel with a planted bug, one
/// has to.
pub fn run(lab: &Lab, wanted: &Wanted) -> Result<()> {
    probe::check_mode(lab, wanted.mode)?;
    planted::judge(&wanted.variant().unwrap_or_default(), torture(lab, wanted))
}

/// Runs every seed, printing a line for each.
pub fn torture(lab: &Lab, wanted: &Wanted) -> Result<()> {
    let mut collector = Collector::new(wanted.stretches.as_deref())?;
    for seed in wanted.seeds() {
        let session = collector.run(lab, &wanted.job("torture", "", seed))?;
        let outcome = judge(&session, wanted, seed)?;
        println!("{}", outcome.line());
        outcome.trouble.map_or(Ok(()), Err)?;
    }
    collector.finish()
}

/// The result of one seed.
#[derive(Debug)]
pub struct Outcome {
    seed: u32,
    cpus: u32,
    /// The kernel panicked, or one of its invariants did not hold.
    panicked: bool,
    said: Said,
    /// Why the seed has failed, if it has.
    pub trouble: Option<Trouble>,
}

/// Runs a seed.
/// Errors: it could not be run.
pub fn run_seed(lab: &Lab, wanted: &Wanted, seed: u32) -> Result<Outcome> {
    judge(&lab.run(&wanted.job("torture", "", seed))?, wanted, seed)
}

fn judge(session: &Session, wanted: &Wanted, seed: u32) -> Result<Outcome> {
    let mut outcome = Outcome::of(session, wanted.cpus, seed);
    let judged = seeded::check_judged(session, wanted.variant().as_deref());
    outcome.trouble = outcome.trouble.or(judged.err());
    match outcome.trouble {
        Some(trouble) if trouble.is_of_the_host() => Err(trouble.into()),
        _ => Ok(outcome),
    }
}

impl Outcome {
    fn of(session: &Session, cpus: u32, seed: u32) -> Outcome {
        let said = Said::of(session, |report| match report {
            Report::Torture(fields) => Some(fields),
            _ => None,
        });
        let panicked = session.has_broken_kernel();
        let trouble = said.judge(session, &said.not_zero(WRONG)).err();
        Outcome { seed, cpus, panicked, said, trouble }
    }

    /// Returns whether an access saw memory that was unmapped: the effect of a planted missing
    /// flush.
    pub fn saw_stale(&self) -> bool {
        STALE.iter().any(|key| self.said.get(key).parse::<u64>().is_ok_and(|count| count > 0))
    }

    /// Writes the result line.
    pub fn line(&self) -> String {
        let Outcome { seed, cpus, panicked, said, .. } = self;
        let panics = u32::from(*panicked);
        format!(
            "torture: seed={seed} cpus={cpus} {} {} panics={panics}",
            said.count("ops"),
            said.counts(WRONG)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(line: &str) -> Outcome {
        let Report::Torture(said) = Report::parse(line) else { panic!("not a torture line") };
        Outcome { seed: 7, cpus: 4, panicked: false, said: said.into(), trouble: None }
    }

    const GOOD: &str = "torture seed=7 cpus=4 ops=1003 stale=0 lost=0 dirty=0 refused=0 doubled=0 strange=0 stuck=0 leaked_pages=0 accesses=9";

    #[test]
    fn the_line_is_the_documented_one() {
        let outcome = outcome(GOOD);
        assert_eq!(
            outcome.line(),
            "torture: seed=7 cpus=4 ops=1003 stale=0 lost=0 dirty=0 refused=0 doubled=0 strange=0 \
             stuck=0 leaked_pages=0 panics=0"
        );
        assert!(outcome.said.not_zero(WRONG).is_empty() && !outcome.saw_stale());
    }

    #[test]
    fn what_is_wrong_or_missing_is_named() {
        let outcome = outcome(&GOOD.replace("stale=0", "stale=2").replace("stuck=0 ", ""));
        assert_eq!(outcome.said.not_zero(WRONG), ["stale=2", "stuck=?"]);
        assert!(outcome.saw_stale());
    }

    #[test]
    fn a_leak_is_no_stale_translation() {
        let outcome = outcome(&GOOD.replace("leaked_pages=0", "leaked_pages=1"));
        assert!(!outcome.said.not_zero(WRONG).is_empty() && !outcome.saw_stale());
    }
}
