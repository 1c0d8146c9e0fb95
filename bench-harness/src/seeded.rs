//! Programs whose choices come from a seed: their options, their boots, and how their output is
//! judged.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::{cpus, one_or_more};
use crate::lab::Job;
use crate::machine::Mode;
use crate::report::Report;
use crate::session::Session;
use crate::trouble::Trouble;

/// Time limit of one run, and what more it may take for each million operations: on a host with
/// fewer CPUs than the guest they take minutes.
const LIMIT: Duration = Duration::from_secs(600);
const LIMIT_OF_A_MILLION: Duration = Duration::from_secs(600);

/// What to run.
#[derive(Args, Clone, Debug)]
#[group(id = "seeded")]
pub struct Wanted {
    /// First seed (default: random)
    #[arg(long)]
    pub seed: Option<u32>,
    /// How many seeds to run, stopping at the first failure
    #[arg(long, default_value_t = 1, value_parser = one_or_more())]
    pub seeds: u32,
    /// Number of CPUs
    #[arg(long, default_value_t = 4, value_parser = cpus())]
    pub cpus: u32,
    /// System calls in all (of a storm: rounds)
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub ops: u64,
    /// icount runs the chaos build
    #[arg(long, default_value = "tcg")]
    pub mode: Mode,
    /// Bounds of the kernel: as they are, or tiny, so that all of them are reached
    #[arg(long, default_value = "normal", conflicts_with = "variant")]
    pub limits: Limits,
    /// Build of the kernel (default: chaos under icount, else dump)
    #[arg(long)]
    pub variant: Option<String>,
    /// Print how long interrupts were off, by operation, and write that to this file as JSON; more
    /// than 10,000 instructions are an error
    #[arg(long, value_name = "FILE")]
    pub stretches: Option<PathBuf>,
}

/// Bounds of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Limits {
    #[default]
    Normal,
    Small,
}

/// How the name of a build with small limits ends.
const SMALL: &str = "-small";

impl Limits {
    /// Returns the build to run: the named one, or the usual one with these limits.
    pub(crate) fn build(self, variant: Option<String>, mode: Mode) -> Option<String> {
        match self {
            Limits::Normal => variant,
            Limits::Small => Some(usual_variant(mode).to_owned() + SMALL),
        }
    }
}

/// Returns whether a build has the small limits of tests.
fn is_small(variant: &str) -> bool {
    variant.ends_with(SMALL)
}

/// Returns the word that tells a program the limits of its kernel.
pub(crate) fn limits_word(variant: &str) -> &'static str {
    if is_small(variant) { "limits=small " } else { "" }
}

impl Wanted {
    pub(crate) fn seeds(&self) -> Vec<u32> {
        seeds_from(self.seed, self.seeds)
    }

    /// Returns the build that is asked for.
    pub(crate) fn variant(&self) -> Option<String> {
        self.limits.build(self.variant.clone(), self.mode)
    }

    /// Returns the boot for a seed: a program, and words for it.
    pub(crate) fn job(&self, program: &str, words: &str, seed: u32) -> Job {
        let Wanted { cpus, mode, ops, .. } = *self;
        let variant = self.variant().unwrap_or_else(|| usual_variant(mode).to_owned());
        let limits = limits_word(&variant);
        // Under icount the kernel perturbs itself by the seed. Elsewhere idle CPUs leave the host
        // to those that work.
        let how =
            if mode == Mode::Icount { format!("chaos={seed} idle=poll") } else { "idle=halt".to_owned() };
        Job {
            label: format!("{program}-{mode}-{cpus}-{seed}"),
            variant,
            command_line: format!("run={program} seed={seed} ops={ops} {words}{limits}{how}"),
            mode,
            cpus,
            counted: None,
            limit: LIMIT + LIMIT_OF_A_MILLION * (ops / 1_000_000) as u32,
        }
    }
}

/// Returns the build of the kernel to run if the options name none. In a mode that replays, it is
/// the build that perturbs itself. Both builds export the kernel's state.
pub(crate) fn usual_variant(mode: Mode) -> &'static str {
    if mode == Mode::Icount { "chaos" } else { "dump" }
}

/// Checks that a run of the usual build ended with a snapshot of the kernel's state.
pub(crate) fn check_judged(session: &Session, variant: Option<&str>) -> Result<(), Trouble> {
    if variant.is_none_or(is_small) { session.check_judged() } else { Ok(()) }
}

/// Returns `count` seeds, from the first on, or random ones.
pub(crate) fn seeds_from(first: Option<u32>, count: u32) -> Vec<u32> {
    match first {
        Some(first) => (0..count).map(|n| first.wrapping_add(n)).collect(),
        None => {
            let random = RandomState::new();
            (0..count).map(|n| random.hash_one(n) as u32).collect()
        }
    }
}

/// The counts that a guest ended with: none if it did not come to that.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Said(BTreeMap<String, String>);

impl Said {
    /// Returns the last report that `pick` takes.
    pub fn of(session: &Session, pick: impl Fn(&Report) -> Option<&BTreeMap<String, String>>) -> Said {
        Said(session.reports.iter().rev().find_map(pick).cloned().unwrap_or_default())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("?", String::as_str)
    }

    /// Returns the counts that are not zero, or missing.
    pub fn not_zero(&self, keys: &[&str]) -> Vec<String> {
        let bad = keys.iter().filter(|key| self.get(key) != "0");
        bad.map(|key| self.count(key)).collect()
    }

    pub fn count(&self, key: &str) -> String {
        format!("{key}={}", self.get(key))
    }

    pub fn counts(&self, keys: &[&str]) -> String {
        keys.iter().map(|key| self.count(key)).collect::<Vec<_>>().join(" ")
    }

    /// Judges a run: it passes if the guest ended well and nothing in its report is `wrong`.
    pub fn judge(&self, session: &Session, wrong: &[String]) -> Result<(), Trouble> {
        let label = &session.label;
        if !self.is_empty() && !wrong.is_empty() {
            let complaints = complaints(session).map(|line| format!("\n  | {line}"));
            let text = format!("{label}: {}{}", wrong.join(", "), complaints.collect::<String>());
            return Err(Trouble::CheckFailed(text));
        }
        session.check_passed()?;
        if self.is_empty() {
            return Err(Trouble::GuestDied(format!("{label}: the guest ended without a result")));
        }
        Ok(())
    }
}

#[cfg(test)]
impl From<BTreeMap<String, String>> for Said {
    fn from(said: BTreeMap<String, String>) -> Said {
        Said(said)
    }
}

/// Returns what the guest found wrong, in its words, and its notes about that. For a history these
/// are all calls.
fn complaints(session: &Session) -> impl Iterator<Item = &str> {
    session.reports.iter().filter_map(|report| match report {
        Report::Other(line) if ["error ", "note "].iter().any(|word| line.starts_with(word)) => {
            Some(line.as_str())
        }
        _ => None,
    })
}
