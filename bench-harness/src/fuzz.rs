//! Fuzz runs: seeds, and the line that sums a run up.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::report::Report;
use crate::session::{Ending, Session};
use crate::stress::{self, seeds_from};
use crate::trouble::Trouble;

/// Time limit of one run, and what more it may take for each million operations.
const LIMIT: Duration = Duration::from_secs(600);
const LIMIT_OF_A_MILLION: Duration = Duration::from_secs(600);

/// Counts that must be zero. Panics are the harness's own.
const WRONG: &[&str] = &["divergences", "leaked_pages", "escapes", "undocumented"];
const WRONG_IN_STORM: &[&str] = &["stale", "leaked_pages", "escapes"];
/// Operations on contended objects, of a hundred, at least.
const CONTENDED: u64 = 20;

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
    /// A storm of so many rounds, instead.
    pub storm: Option<Storm>,
}

/// What is done over and over in a storm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Storm {
    /// Capabilities are revoked while others use them, and the memory is used again at once
    Revoke,
}

/// Runs every seed, printing a line for each.
pub fn fuzz(lab: &Lab, wanted: &Wanted) -> Result<()> {
    for seed in seeds_from(wanted.seed, wanted.seeds) {
        let session = lab.run(&job(wanted, seed))?;
        let outcome = Outcome::of(&session, wanted, seed);
        let verdict = outcome.judge(&session);
        if let Err(Trouble::NoMachine(why)) = verdict {
            return Err(Trouble::NoMachine(why).into());
        }
        println!("{}", outcome.line());
        verdict?;
    }
    Ok(())
}

fn job(wanted: &Wanted, seed: u32) -> Job {
    let Wanted { cpus, mode, ops, storm, .. } = *wanted;
    let usual = if mode == Mode::Icount { "chaos" } else { "" };
    // Under icount the kernel perturbs itself by the seed. Elsewhere idle CPUs leave the host to those that work.
    let how = if mode == Mode::Icount { format!("chaos={seed} idle=poll") } else { "idle=halt".to_owned() };
    let storm = storm.map_or("", |Storm::Revoke| "storm=revoke ");
    Job {
        label: format!("fuzz-{mode}-{cpus}-{seed}"),
        variant: wanted.variant.clone().unwrap_or_else(|| usual.to_owned()),
        command_line: format!("run=fuzz seed={seed} ops={ops} {storm}{how}"),
        mode,
        cpus,
        counted: None,
        limit: LIMIT + LIMIT_OF_A_MILLION * (ops / 1_000_000) as u32,
    }
}

/// What came of one seed.
#[derive(Debug)]
struct Outcome {
    seed: u32,
    cpus: u32,
    /// The kernel panicked.
    panicked: bool,
    storm: Option<Storm>,
    /// What the guest said, if it came to that.
    said: BTreeMap<String, String>,
}

impl Outcome {
    fn of(session: &Session, wanted: &Wanted, seed: u32) -> Outcome {
        let said = session.reports.iter().rev().find_map(|report| match report {
            Report::Fuzz(fields) => Some(fields.clone()),
            _ => None,
        });
        let panicked = matches!(session.ending, Ending::Panic);
        Outcome { seed, cpus: wanted.cpus, storm: wanted.storm, panicked, said: said.unwrap_or_default() }
    }

    /// A run passes if the guest ended well, every count that must be zero is there and zero, and enough was contended.
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

    /// What is not as it must be.
    fn wrong(&self) -> Vec<String> {
        if self.storm.is_some() {
            let bad = WRONG_IN_STORM.iter().filter(|key| self.said(key) != "0");
            return bad.map(|key| format!("{key}={}", self.said(key))).collect();
        }
        let bad = WRONG.iter().filter(|key| self.said(key) != "0").copied();
        let busy = self.said("contended").parse().is_ok_and(|share: u64| share >= CONTENDED);
        let bad = bad.chain((!busy).then_some("contended"));
        bad.map(|key| format!("{key}={}", self.said(key))).collect()
    }

    /// The result line.
    fn line(&self) -> String {
        let said = |key| self.said(key);
        let panics = u32::from(self.panicked);
        if self.storm.is_some() {
            return format!(
                "revoke-storm: seed={} cpus={} rounds={} uses={} refused={} stale={} panics={panics} leaked_pages={} \
                 escapes={}",
                self.seed,
                self.cpus,
                said("rounds"),
                said("uses"),
                said("refused"),
                said("stale"),
                said("leaked_pages"),
                said("escapes"),
            );
        }
        let line = format!(
            "fuzz: seed={} cpus={} ops={} contended={}% divergences={} panics={panics} leaked_pages={} escapes={}",
            self.seed,
            self.cpus,
            said("ops"),
            said("contended"),
            said("divergences"),
            said("leaked_pages"),
            said("escapes"),
        );
        // Only where there are some: the line is otherwise the documented one.
        match said("undocumented") {
            "0" => line,
            count => format!("{line} undocumented={count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "fuzz seed=7 cpus=4 ops=1003 contended=24 divergences=0 leaked_pages=0 escapes=0 undocumented=0 windows=3";

    fn outcome(line: &str) -> Outcome {
        let Report::Fuzz(said) = Report::parse(line) else { panic!("not a fuzz line") };
        Outcome { seed: 7, cpus: 4, panicked: false, storm: None, said }
    }

    #[test]
    fn the_line_is_the_documented_one() {
        let outcome = outcome(GOOD);
        assert_eq!(
            outcome.line(),
            "fuzz: seed=7 cpus=4 ops=1003 contended=24% divergences=0 panics=0 leaked_pages=0 escapes=0"
        );
        assert!(outcome.wrong().is_empty());
    }

    #[test]
    fn what_is_wrong_or_missing_is_named() {
        let outcome = outcome(&GOOD.replace("divergences=0", "divergences=2").replace("escapes=0 ", ""));
        assert_eq!(outcome.wrong(), ["divergences=2", "escapes=?"]);
    }

    #[test]
    fn a_storm_has_a_line_of_its_own() {
        let said = "storm seed=7 cpus=4 rounds=9 uses=20 refused=3 stale=0 leaked_pages=0 escapes=0";
        let Report::Fuzz(said) = Report::parse(said) else { panic!("not a storm line") };
        let outcome = Outcome { seed: 7, cpus: 4, panicked: false, storm: Some(Storm::Revoke), said };
        assert_eq!(
            outcome.line(),
            "revoke-storm: seed=7 cpus=4 rounds=9 uses=20 refused=3 stale=0 panics=0 leaked_pages=0 escapes=0"
        );
        assert!(outcome.wrong().is_empty());
    }

    #[test]
    fn too_little_contention_is_a_failure() {
        assert_eq!(outcome(&GOOD.replace("contended=24", "contended=19")).wrong(), ["contended=19"]);
    }
}
