//! Scheduling policies at work: seeds, and the summary line of a run.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::cli::{cpus, one_or_more};
use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::probe;
use crate::report::Report;
use crate::seeded::{Said, check_judged, seeds_from};
use crate::trouble::Trouble;

/// Counts that must be zero.
const WRONG: &[&str] = &["missed", "overrun", "lost", "stuck"];
/// The build that exports the kernel's state at the end.
const VARIANT: &str = "dump";
/// The build whose kernel stops a CPU when it is asked to.
const STOPPING: &str = "faults";
const LIMIT: Duration = Duration::from_secs(900);
/// Thousandths of each CPU that are promised where the clock counts instructions, and where a host
/// with fewer CPUs runs the guest's in turn: then only little of the time is the guest's.
const LOAD_ICOUNT: u32 = 950;
const LOAD_TCG: u32 = 300;
/// Most CPUs whose tasks a policy manages, and with five workers each.
const CPUS_MAX: u32 = 64;
const CPUS_MAX_EDF: u32 = 16;

/// A policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Policy {
    /// Each task has its CPU: equal shares
    Static,
    /// Tasks go where fewest wait; the policy is killed half-way
    Balance,
    /// Earliest deadline first, with admission
    Edf,
}

/// What to run.
#[derive(Args, Clone, Debug)]
#[group(id = "scheduling")]
pub struct Wanted {
    /// What the policy process does
    #[arg(long, default_value = "balance")]
    pub policy: Policy,
    /// First seed (default: random)
    #[arg(long)]
    pub seed: Option<u32>,
    /// How many seeds to run, stopping at the first failure
    #[arg(long, default_value_t = 1, value_parser = one_or_more())]
    pub seeds: u32,
    /// Number of CPUs. Under icount one clock counts the instructions of all CPUs, so deadlines
    /// mean something there on one CPU
    #[arg(long, default_value_t = 1, value_parser = cpus())]
    pub cpus: u32,
    #[arg(long, default_value = "icount")]
    pub mode: Mode,
    /// Thousandths of each CPU that the policy promises (default: 950, and 300 under TCG)
    #[arg(long, value_parser = clap::value_parser!(u32).range(200..=1000))]
    pub load: Option<u32>,
    /// Jobs of each worker, or pieces of its work
    #[arg(long, value_parser = one_or_more())]
    pub jobs: Option<u32>,
    /// Stop the last CPU in the kernel for ever: the watchdog has to report it, and the other CPUs
    /// have to go on
    #[arg(long)]
    pub hang: bool,
    /// In place of the policy, let a task make wrong settings at random, and then hang: nobody may
    /// get more than its budget
    #[arg(long, conflicts_with = "hang")]
    pub lie: bool,
}

/// Runs every seed, printing a line for each, until one fails.
pub fn run(lab: &Lab, wanted: &Wanted) -> Result<()> {
    probe::check_mode(lab, wanted.mode)?;
    wanted.check()?;
    schedule(lab, wanted)
}

/// Runs every seed, printing a line for each.
pub fn schedule(lab: &Lab, wanted: &Wanted) -> Result<()> {
    for seed in seeds_from(wanted.seed, wanted.seeds) {
        let session = lab.run(&wanted.job(seed))?;
        let said = Said::of(&session, |report| match report {
            Report::Policy(fields) => Some(fields),
            _ => None,
        });
        println!("{}", line(&said));
        said.judge(&session, &said.not_zero(WRONG))?;
        // Its state cannot be exported: that CPU would have to stand still for it.
        if !wanted.hang {
            check_judged(&session, None)?;
        }
    }
    Ok(())
}

impl Policy {
    const fn name(self) -> &'static str {
        match self {
            Policy::Static => "static",
            Policy::Balance => "balance",
            Policy::Edf => "edf",
        }
    }
}

impl Wanted {
    /// Refuses what says nothing.
    fn check(&self) -> Result<(), Trouble> {
        let most = if self.policy == Policy::Edf { CPUS_MAX_EDF } else { CPUS_MAX };
        if self.cpus > most {
            let name = self.policy.name();
            return Err(Trouble::Usage(format!("{name} runs on at most {most} CPUs: take `--cpus {most}`")));
        }
        if self.hang && (self.cpus < 2 || self.policy != Policy::Static) {
            let usage = "a CPU stops, and others go on by the static policy: take `--policy static --cpus 2`";
            return Err(Trouble::Usage(usage.to_owned()));
        }
        if self.lie && self.policy != Policy::Static {
            let usage = "a task lies in place of the static policy: take `--policy static`";
            return Err(Trouble::Usage(usage.to_owned()));
        }
        let takes_turns = self.mode == Mode::Icount && self.cpus > 1;
        if self.policy != Policy::Edf || !takes_turns {
            return Ok(());
        }
        Err(Trouble::Usage(
            "under icount one clock counts the instructions of all CPUs, so deadlines mean nothing on several: \
             take `--cpus 1`, or `--mode tcg`"
                .to_owned(),
        ))
    }

    /// Returns the boot for a seed.
    fn job(&self, seed: u32) -> Job {
        let Wanted { policy, cpus, mode, .. } = *self;
        let usual = if mode == Mode::Icount { LOAD_ICOUNT } else { LOAD_TCG };
        let load = self.load.unwrap_or(usual);
        let exact = u32::from(mode == Mode::Icount);
        let jobs = self.jobs.map(|jobs| format!(" jobs={jobs}")).unwrap_or_default();
        let name = policy.name();
        let (trick, variant) = match self {
            Wanted { hang: true, .. } => ("hang", STOPPING),
            Wanted { lie: true, .. } => ("lie", VARIANT),
            _ => ("", VARIANT),
        };
        let (mark, word) = match trick {
            "" => (String::new(), String::new()),
            trick => (format!("-{trick}"), format!(" {trick}=1")),
        };
        Job {
            label: format!("policy-{name}-{mode}-{cpus}-{seed}{mark}"),
            variant: variant.to_owned(),
            command_line: format!(
                "run=policies policy={name} seed={seed} load={load} exact={exact}{jobs}{word} idle=halt"
            ),
            mode,
            cpus,
            counted: None,
            limit: LIMIT,
        }
    }
}

/// Writes the result line.
fn line(said: &Said) -> String {
    format!(
        "policy: {} {} {} {} {} {}",
        said.count("name"),
        said.count("seed"),
        said.count("cpus"),
        said.count("tasks"),
        said.count("migrations"),
        said.counts(WRONG)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Said {
        let Report::Policy(said) = Report::parse(line) else { panic!("not a line of a policy") };
        said.into()
    }

    const GOOD: &str =
        "policy name=edf seed=7 cpus=1 tasks=6 migrations=0 missed=0 overrun=0 lost=0 stuck=0 settings=90";

    #[test]
    fn the_line_is_the_documented_one() {
        let said = said(GOOD);
        let wanted = "policy: name=edf seed=7 cpus=1 tasks=6 migrations=0 missed=0 overrun=0 lost=0 stuck=0";
        assert_eq!(line(&said), wanted);
        assert!(said.not_zero(WRONG).is_empty());
    }

    #[test]
    fn what_is_wrong_or_missing_is_named() {
        let said = said(&GOOD.replace("missed=0", "missed=2").replace("stuck=0 ", ""));
        assert_eq!(said.not_zero(WRONG), ["missed=2", "stuck=?"]);
    }
}
