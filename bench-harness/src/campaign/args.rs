//! The command line of campaigns.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::campaign::plan::{Kind, Plan, Shard};
use crate::cli::{cpus, one_or_more};
use crate::machine::Mode;
use crate::stress::Idle;

pub const EXAMPLES: &str = "\
Examples:
  aurora-bench campaign stress --seeds 1000 --out target/campaign/a
  aurora-bench campaign stress --seeds 1000 --shard 2/8 --out /shared/a --cpus 4 --messages 1000000
  aurora-bench campaign stress --seeds 20 --variant planted-lost-wake --out target/campaign/lost
  aurora-bench campaign test --seeds 200 --out target/campaign/t
  aurora-bench campaign merge /shared/a /other/a --out all

A campaign that was killed continues where it stopped when it is started again.";

/// A campaign, or the rest of one.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run stress (see `stress --help`)
    Stress(StressArgs),
    /// Run games of the differential test and random system calls
    Test(TestArgs),
    /// Merge several directories into one and sum them up; a single directory is only summed up
    Merge(MergeArgs),
}

#[derive(Args, Debug)]
pub struct SeedArgs {
    /// How many seeds in all, whatever the shard
    #[arg(long, default_value_t = 1000, value_parser = one_or_more())]
    seeds: u32,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Run part i of n
    #[arg(long, default_value_t = Shard::WHOLE, value_name = "I/N")]
    shard: Shard,
    /// Directory of the results
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Args, Debug)]
pub struct StressArgs {
    #[command(flatten)]
    seeds: SeedArgs,
    /// icount runs the chaos build and replays exactly
    #[arg(long, default_value = "icount")]
    mode: Mode,
    /// Number of CPUs
    #[arg(long, default_value_t = 4, value_parser = cpus())]
    cpus: u32,
    /// Messages of each seed
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// How idle CPUs wait (default: as `stress` has it)
    #[arg(long)]
    idle: Option<Idle>,
    /// Run every seed twice and compare the hashes (icount)
    #[arg(long)]
    replay: bool,
    /// Build of the kernel, as planted-lost-wake (default: as `stress` has it)
    #[arg(long)]
    variant: Option<String>,
}

#[derive(Args, Debug)]
pub struct TestArgs {
    #[command(flatten)]
    seeds: SeedArgs,
    /// Number of CPUs for the system calls; games are played on one
    #[arg(long, default_value_t = 2, value_parser = cpus())]
    cpus: u32,
    /// Operations of each game
    #[arg(long, default_value_t = 1000, value_parser = one_or_more())]
    steps: u32,
}

#[derive(Args, Debug)]
pub struct MergeArgs {
    /// Directories of one campaign
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// Directory to make of them
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What a command line asks for.
pub enum Wanted {
    Run { plan: Plan, shard: Shard, out: PathBuf },
    Merge { dirs: Vec<PathBuf>, out: Option<PathBuf> },
}

impl Command {
    /// Returns what the arguments ask for. `timeout` is for each boot.
    pub fn wanted(self, timeout: Option<u64>) -> Result<Wanted> {
        let (kind, seeds) = match self {
            Command::Stress(args) => {
                let StressArgs { seeds, mode, cpus, messages, idle, replay, variant } = args;
                (Kind::Stress { mode, cpus, messages, idle, replay, variant }, seeds)
            }
            Command::Test(TestArgs { seeds, cpus, steps }) => (Kind::Test { cpus, steps }, seeds),
            Command::Merge(MergeArgs { dirs, out }) => return Ok(Wanted::Merge { dirs, out }),
        };
        let plan = Plan::new(kind, seeds.seed, seeds.seeds, timeout)?;
        Ok(Wanted::Run { plan, shard: seeds.shard, out: seeds.out })
    }
}
