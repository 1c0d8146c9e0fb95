//! The options of `gdb`.

use std::path::PathBuf;

use clap::Args;

use super::{SCRIPT, Wanted, What};
use crate::bisect;
use crate::cli::cpus;
use crate::lab::{Job, words_stand_once};
use crate::machine::Mode;
use crate::session::SILENCE;
use crate::stress;
use crate::trouble::Trouble;

pub const EXAMPLES: &str = "\
Examples:
  aurora-bench gdb run=test                                   stopped before the first instruction
  aurora-bench gdb --stress --seed 7 --stop-at 5000           all CPUs stopped at event 5000 of seed 7
  aurora-bench gdb --stress --seed 7 --stop-time 812345678    at its first event from that TSC on
  aurora-bench gdb --record run=test only=ipc                 recorded, then replayed: reverse-stepi works
  aurora-bench gdb --stress --seed 7 --stop-at 5000 --batch --ex 'aurora cpus'
  aurora-bench gdb --bisect --seed 7                          the first event after which a rule does not hold
  aurora-bench gdb --bisect --seed 7 --calm                   the first that decides that the run fails
  aurora-bench gdb --bisect --seed 7 --until 'check ~ ^lost'  the first at which a helper says that

In gdb: `aurora help`.";

/// What to debug, or what to search for.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("seeded_run").args(["stress", "bisect"]).multiple(true))]
pub struct GdbArgs {
    /// Run stress under icount, instead of words for the command line
    #[arg(long, conflicts_with = "words", requires = "seed")]
    stress: bool,
    #[command(flatten)]
    pub bisect: bisect::args::BisectArgs,
    /// Seed of the stress run
    #[arg(long, requires = "seeded_run")]
    pub seed: Option<u32>,
    /// Messages of the stress run: the number of the run to look at, since another number is
    /// another run
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// How idle CPUs wait in the stress run (default: as `stress` has it)
    #[arg(long)]
    idle: Option<stress::Idle>,
    /// Stop at event N of the seed; stress says how many there are
    #[arg(long, default_value_t = 0, value_name = "N", requires = "stress", hide_default_value = true)]
    stop_at: u64,
    /// Stop at the first event at or after this TSC, which stall reports name
    #[arg(long, default_value_t = 0, value_name = "TSC", requires = "stress", hide_default_value = true)]
    stop_time: u64,
    /// Record the run first, then replay it (one CPU): gdb can go backwards
    #[arg(long)]
    record: bool,
    /// How QEMU executes the guest
    #[arg(long, default_value = "icount")]
    mode: Mode,
    /// Number of CPUs (default: 4 for stress, else 1)
    #[arg(long, value_parser = cpus())]
    cpus: Option<u32>,
    /// Build of the kernel (default: chaos for stress, else the ordinary one)
    #[arg(long)]
    variant: Option<String>,
    /// A command for gdb, once it has attached; may be given several times
    #[arg(long = "ex", value_name = "COMMAND")]
    commands: Vec<String>,
    /// End gdb after these commands
    #[arg(long)]
    batch: bool,
    /// The helper commands
    #[arg(long, default_value = SCRIPT, value_name = "FILE")]
    script: PathBuf,
    /// Words for the kernel's command line
    words: Vec<String>,
}

impl GdbArgs {
    fn stress(&self, seed: u32) -> stress::Wanted {
        stress::Wanted {
            seed: Some(seed),
            seeds: 1,
            cpus: self.cpus.unwrap_or(4),
            messages: self.messages,
            mode: self.mode,
            replay: false,
            idle: self.idle,
            variant: self.variant.clone(),
            stop: stress::Stop { at: self.stop_at, time: self.stop_time, then: stress::Then::Halt },
        }
    }

    /// Returns what `--bisect` needs.
    pub fn bisected(self, seed: u32) -> bisect::Wanted {
        bisect::Wanted {
            run: self.stress(seed),
            seed,
            predicate: self.bisect.predicate(),
            from: self.bisect.from,
            to: self.bisect.to,
            script: self.script,
        }
    }

    /// Returns what to debug.
    /// Errors: the options do not fit together.
    pub fn wanted(self) -> Result<Wanted, Trouble> {
        words_stand_once(&self.words.join(" "))?;
        let what = match self.seed.filter(|_| self.stress) {
            Some(_) if self.mode != Mode::Icount => {
                let text = format!("a stress run in mode {} has no events: leave --mode out", self.mode);
                return Err(Trouble::Usage(text));
            }
            Some(seed) => What::Stress { wanted: self.stress(seed), seed },
            None => What::Boot(Job {
                label: "run".to_owned(),
                variant: self.variant.unwrap_or_default(),
                command_line: self.words.join(" "),
                mode: self.mode,
                cpus: self.cpus.unwrap_or(1),
                counted: None,
                limit: SILENCE * 10,
            }),
        };
        Ok(Wanted {
            what,
            record: self.record,
            commands: self.commands,
            batch: self.batch,
            script: self.script,
        })
    }
}
