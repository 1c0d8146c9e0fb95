//! Kills random processes of the system `restarts` under load, and sees that they come back, that
//! each request is done once or fails with an error that its client saw, and that nothing leaks.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::cli::cpus;
use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::report::Report;
use crate::session::{Ending, Event, Session};
use crate::terminal::Input;
use crate::testsum::Tally;
use crate::trouble::Trouble;

pub const EXAMPLES: &str = "\
Examples:
  aurora-bench restarts                              200 kills on 2 CPUs
  aurora-bench restarts --count 2000 --seed 7 --cpus 4
  aurora-bench restarts --mode icount --cpus 1       the same each time; exact figures

The last line is for programs:
  restarts: seed=1 killed=200 recovered=200 lost_requests=0 stuck=0 kernel_panics=0 leaked_pages=0";

/// How many kills, and where.
#[derive(Args, Clone, Debug)]
pub struct Wanted {
    /// Seed of what is drawn at random: which process, and when
    #[arg(long, default_value_t = 1)]
    pub seed: u32,
    /// Processes to kill
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
    /// Number of CPUs
    #[arg(long, default_value_t = 2, value_parser = cpus())]
    pub cpus: u32,
    /// How QEMU executes the guest
    #[arg(long, default_value = "tcg")]
    pub mode: Mode,
}

/// Longest that a boot, and a kill, may take.
const BOOT: Duration = Duration::from_secs(60);
const KILL: Duration = Duration::from_millis(500);
/// How the report of a program's panic begins, and what it says of one that waits in vain.
const PANIC: &str = "panic task=";
const STUCK: &str = "stuck: ";

/// What a run found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Found {
    killed: u64,
    recovered: u64,
    /// Kills of servers, and how many were in the middle of a request.
    servers: u64,
    middle: u64,
    /// Objects that process 1 has made and keeps.
    leaked: u64,
    lost: usize,
    stuck: usize,
    panics: usize,
    /// Ticks from a kill to the next request that was answered: median, 99 %, longest; of the
    /// driver, of other processes.
    driver: [u64; 3],
    others: [u64; 3],
}

/// Runs the command.
pub fn command(lab: &Lab, wanted: &Wanted) -> Result<()> {
    let (found, session) = run(lab, wanted)?;
    let Found { killed, recovered, leaked, lost, stuck, panics, .. } = &found;
    if wanted.mode == Mode::Icount {
        for (name, [median, most, longest]) in [("driver", found.driver), ("others", found.others)] {
            println!(
                "{name}_restart: median={median} p99={most} max={longest} instructions of all CPUs, \
                 from a kill to the first answered request"
            );
        }
    }
    println!(
        "restarts: seed={} killed={killed} recovered={recovered} lost_requests={lost} stuck={stuck} \
         kernel_panics={panics} leaked_pages={leaked}",
        wanted.seed
    );
    judge(wanted, &found, &session)
}

fn run(lab: &Lab, wanted: &Wanted) -> Result<(Found, Session)> {
    // The driver of the serial line takes a line that nobody types at.
    let input = Input::Script { lines: Vec::new(), is_shown: false };
    let lab = Lab { input, ..lab.beside() };
    let Wanted { seed, count, cpus, mode } = *wanted;
    let system = if cpus == 1 { "restarts" } else { "restarts-cross" };
    let job = Job {
        label: format!("restarts-{mode}-{cpus}-{seed}"),
        variant: String::new(),
        command_line: format!("run={system} level=warn seed={seed} count={count}"),
        mode,
        cpus,
        counted: None,
        limit: BOOT + KILL * u32::try_from(count).unwrap_or(u32::MAX),
    };
    let mut panics = Vec::new();
    let session = lab.run_with(&job, &mut |event| {
        lab.show(event);
        let text = event.text();
        if matches!(event, Event::Report { line, .. } if line.starts_with(PANIC)) {
            panics.push(text);
        }
    })?;
    let says = |what: &str| panics.iter().filter(|line| line.contains(what)).count();
    let mut found = read(&session).unwrap_or_default();
    found.stuck = says(STUCK);
    // No process has a reason to panic.
    found.lost = panics.len() - found.stuck;
    found.stuck += usize::from(matches!(session.ending, Ending::TimedOut(_) | Ending::Silent(_)));
    found.panics = usize::from(session.has_broken_kernel());
    panics.iter().for_each(|line| lab.screen.say(line));
    Ok((found, session))
}

/// Reads what the killer reported.
fn read(session: &Session) -> Option<Found> {
    let fields = session.reports.iter().rev().find_map(|report| match report {
        Report::Restarts(fields) => Some(fields),
        _ => None,
    })?;
    let number = |key: &str| -> Option<u64> { fields.get(key)?.parse().ok() };
    Some(Found {
        killed: number("killed")?,
        recovered: number("recovered")?,
        servers: number("servers")?,
        middle: number("middle")?,
        leaked: number("leaked")?,
        driver: [number("d50")?, number("d99")?, number("dmax")?],
        others: [number("p50")?, number("p99")?, number("max")?],
        ..Found::default()
    })
}

fn judge(wanted: &Wanted, found: &Found, session: &Session) -> Result<()> {
    session.check_ended().context("killing processes")?;
    let wrong = found.lost + found.stuck + found.panics;
    let all_back = found.killed == wanted.count && found.recovered == wanted.count;
    let all_back = all_back && found.middle == found.servers;
    if wrong > 0 || !all_back || found.leaked > 0 || session.ending != Ending::Pass {
        let text = format!("not all processes came back as they should: {found:?}");
        return Err(Trouble::CheckFailed(text).into());
    }
    Ok(())
}

/// Runs a test: a few kills.
pub fn test(lab: &Lab, wanted: &Wanted) -> Result<Tally> {
    let (found, session) = run(lab, wanted)?;
    let wrong = judge(wanted, &found, &session).err().map(|error| format!("{error:#}"));
    Ok(lab.judged(
        "restarts",
        &format!("{} kills, {} on {} CPUs", wanted.count, wanted.mode, wanted.cpus),
        wrong,
    ))
}
