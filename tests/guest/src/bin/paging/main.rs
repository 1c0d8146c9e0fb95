//! Programs whose memory a pager serves: larger than their limits, with a store that fails, with
//! pagers and programs that are killed in the middle of a fault. Workers compare every word that
//! they read with the word that they wrote.
//!
//! [`stage`] makes processes: pagers, a store, a policy, workers. [`worker`], [`kinds`], [`parts`]
//! and [`hostile`] are the work of workers. [`scenarios`] are the events, and the expected results.
//! [`block`] has the words that workers share with this program.
//!
//! Options: `only=` a part of a scenario's name; `seed=`; `rounds=` how often all of them run, each
//! time with the next seed.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod block;
mod hostile;
mod kinds;
mod parts;
mod scenarios;
mod stage;
mod worker;

use alloc::vec::Vec;

use guest_tests::expect;
use guest_tests::verdict::Tally;
use user_rt::spawn::{Nursery, own};
use user_rt::{boot, heap, report, supervisor};

use stage::Stage;

user_rt::program!(begin);

const HEAP_PAGES: u32 = 16;

fn begin(_: u64) -> ! {
    let mut nursery = Nursery::of_program(0);
    let tally = match prepare(&mut nursery) {
        Ok(mut stage) => run(&mut stage),
        Err(failure) => {
            report!("error paging: {failure}");
            Tally { passed: 0, failed: 1 }
        }
    };
    supervisor::finish(tally.passed, tally.failed)
}

fn prepare<'a>(nursery: &mut Nursery) -> stage::Result<Stage<'a>> {
    // First: large memory has to begin at a multiple of its size.
    let scenarios = nursery.split(stage::SCENARIO_LOG2, stage::SCENARIO_SLOTS)?;
    heap::add(&own::vspace(), nursery, HEAP_PAGES)?;
    Stage::new(nursery, scenarios, boot::facts().cpus.max(1) as u32)
}

fn run(stage: &mut Stage<'_>) -> Tally {
    let options = boot::options();
    let wanted = options.value("only").unwrap_or("");
    let number = |key, default| options.number(key, default).unwrap_or(default);
    let mut tally = Tally::default();
    let chosen = || scenarios::ALL.iter().filter(|(name, _)| name.contains(wanted));
    if chosen().next().is_none() {
        let names: Vec<&str> = scenarios::ALL.iter().map(|(name, _)| *name).collect();
        report!(
            "error paging: only={wanted}: is part of no scenario's name; the scenarios are {}",
            names.join(", ")
        );
        return Tally { passed: 0, failed: 1 };
    }
    for (round, (name, scenario)) in
        (0..number("rounds", 1)).flat_map(|round| chosen().map(move |it| (round, it)))
    {
        stage.seed = number("seed", 1) + round;
        let outcome = scenario(stage).and_then(|()| stage.reset());
        let failed = outcome.is_err();
        tally.add("paging", name, &outcome.into());
        if failed && stage.reset().is_err() {
            break;
        }
    }
    tally
}
