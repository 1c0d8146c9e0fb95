//! Storms: random system calls by random tasks on one to four CPUs. Meanwhile mailboxes are drained
//! late, time passes, tasks are killed, cancelled and suspended, and objects that they use are
//! deleted.
//!
//! After every kernel entry the invariants hold ([`crate::world::check`]). A model ([`model`])
//! records for every call which tasks may still answer it, and judges how the call ends: each
//! caller must get exactly one answer, from a task that had its call, or an error with a cause. At
//! the end everything is destroyed, and all memory must be free.
//!
//! `STORM_CASES` sets the number of storms, `STORM_SEED` selects them. `proptest` makes a failing
//! storm smaller and prints it; [`again`] prints it step by step.

mod acts;
mod cast;
mod deeds;
mod model;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use smp::planted::{Fault, Planted};

use acts::Act;
use cast::Cast;

use crate::world::World;

/// Storms in a normal test run.
const CASES: u32 = 1000;

fn number(name: &str, normal: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(normal)
}

fn run(cpus: usize, seed: u64, acts: &[Act]) {
    let mut cast = Cast::new(cpus, seed);
    for act in acts {
        cast.perform(*act);
    }
    cast.end();
}

/// One storm, told step by step: `STORM_AGAIN="cpus seed what,where,a,b what,where,a,b …"`.
#[test]
fn again() {
    let Ok(text) = std::env::var("STORM_AGAIN") else { return };
    let mut words = text.split_whitespace();
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(1);
    let (cpus, seed) = (number() as usize, number());
    let acts: Vec<Act> = words
        .map(|word| {
            let mut parts = word.split(',').map(|part| part.parse().unwrap_or(0));
            Act(core::array::from_fn(|_| parts.next().unwrap_or(0)))
        })
        .collect();
    let mut cast = Cast::new(cpus, seed);
    cast.world.trace = true;
    for act in acts {
        println!("{act:?}");
        cast.perform(act);
    }
    cast.end();
}

/// A storm of random acts, after each of which `look` is shown the world.
pub fn watched(cpus: usize, seed: u64, acts: usize, mut look: impl FnMut(&World)) {
    let mut cast = Cast::new(cpus, seed);
    cast.world.checked = false;
    let mut dice = seed | 1;
    for _ in 0..acts {
        // xorshift64.
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        cast.perform(Act(core::array::from_fn(|at| (dice >> (8 * at + 16)) as u8)));
        look(&cast.world);
    }
}

/// Runs so many storms; what is wrong with the first that fails.
fn outcome(config: Config) -> Result<(), String> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("STORM_SEED", 1).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let act = any::<[u8; 4]>().prop_map(Act);
    let storm = (1usize..=4, any::<u64>(), prop::collection::vec(act, 1..400));
    let outcome = runner.run(&storm, |(cpus, seed, acts)| {
        run(cpus, seed, &acts);
        Ok(())
    });
    outcome.map_err(|failure| failure.to_string())
}

#[test]
fn storms() {
    let config = Config {
        cases: number("STORM_CASES", u64::from(CASES)) as u32,
        failure_persistence: None,
        max_shrink_iters: 4000,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    if let Err(failure) = outcome(config) {
        panic!("{failure}");
    }
}

/// A storm that ended an object on its own CPU while another CPU's request to end it was in that
/// CPU's mailbox: with small limits.
#[test]
fn an_object_ends_beside_a_request_to_end_it() {
    let acts = [
        [18, 22, 0, 13],
        [14, 0, 200, 202],
        [18, 0, 0, 0],
        [18, 130, 0, 78],
        [173, 0, 53, 0],
        [0, 0, 0, 147],
        [189, 0, 160, 0],
        [137, 29, 0, 0],
        [217, 109, 0, 0],
        [130, 133, 0, 14],
        [13, 0, 0, 0],
        [130, 90, 0, 8],
    ];
    run(4, 7_380_369_552_022_961_131, &acts.map(Act));
}

/// A storm that forwards a call to a dead task of the caller's own CPU.
#[test]
fn a_call_comes_back_for_a_dead_task() {
    let acts = [
        [0, 0, 190, 128],
        [0, 0, 36, 153],
        [0, 0, 0, 0],
        [96, 0, 0, 0],
        [142, 0, 57, 8],
        [8, 0, 0, 0],
        [112, 0, 181, 128],
    ];
    run(4, 6_991_496_900_436_729_469, &acts.map(Act));
}

/// Storms find planted bugs of which the simulated TLBs know.
fn is_found(fault: Fault) {
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    let _planted = Planted::new(fault);
    let Err(failure) = outcome(config) else { panic!("no storm found {fault:?}") };
    assert!(failure.contains("remembers"), "{failure}");
}

#[test]
fn storms_find_a_missing_flush() {
    is_found(Fault::MissingFlush);
}

#[test]
fn storms_find_a_missing_pcid_flush() {
    is_found(Fault::MissingPcidFlush);
}
