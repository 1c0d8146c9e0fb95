//! The kernel and its [`model`], side by side. Several tasks in several processes make random
//! system calls on both. Each call runs until it ends or waits. After each call, every task's state
//! and every answered register must be equal on both sides; at the end, every capability, member,
//! exposure and byte.
//!
//! `MODEL_CASES` sets the number of sequences, `MODEL_SEED` selects them. If a sequence diverges,
//! it is made shorter by leaving steps out, and printed; [`again`] plays it again.
//!
//! [`pair`]: both sides and their comparison. [`cast`]: the initial state. [`pick`]: the choice of
//! the next system call. [`clear`]: which ones the model determines. [`locks`]: locks, and what
//! waits for them come to. [`audit`]: the comparison of the whole state. [`pools`]: the comparison
//! of event pools.

mod audit;
mod cast;
mod clear;
mod locks;
pub mod pair;
mod pick;
mod pools;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use abi::Op;
use pair::{Pair, Tally};

use crate::world::dice::Dice;

/// Sequences in a normal test run.
const CASES: u64 = 16_000;
/// Steps of the longest.
const STEPS: usize = 120;

/// A sequence: its beginning, and its steps, each of which chooses by its number and the current
/// state.
#[derive(Clone)]
struct Sequence {
    seed: u64,
    steps: Vec<u64>,
}

impl Sequence {
    fn new(seed: u64) -> Sequence {
        let mut dice = Dice::new(seed);
        let count = 1 + dice.below(STEPS);
        Sequence { seed, steps: (0..count).map(|_| dice.word() >> 32).collect() }
    }

    /// That of a number, in this run.
    fn nth(case: u64) -> Sequence {
        Sequence::new(number("MODEL_SEED", 1).wrapping_mul(1 << 32).wrapping_add(case))
    }

    /// Plays it: what diverged, if anything. The kernel's panics count.
    fn play(&self, tell: bool) -> Result<Tally, String> {
        let played = catch_unwind(AssertUnwindSafe(|| {
            let mut pair = Pair::new(self.seed, tell)?;
            for step in &self.steps {
                pair.play(*step)?;
            }
            pair.end()?;
            Ok(std::mem::take(&mut pair.tally))
        }));
        played.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned())
        })
    }

    /// As few of the steps as still diverge.
    fn shorter(&self) -> Sequence {
        let mut least = self.clone();
        let mut size = least.steps.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < least.steps.len() {
                let mut less = least.clone();
                less.steps.drain(at..(at + size).min(less.steps.len()));
                if less.play(false).is_err() { least = less } else { at += size }
            }
            if size == 1 {
                return least;
            }
            size = size.div_ceil(2);
        }
    }

    fn describe(&self) -> String {
        let steps: Vec<String> = self.steps.iter().map(u64::to_string).collect();
        format!("MODEL_AGAIN=\"{} {}\"", self.seed, steps.join(" "))
    }
}

fn number(name: &str, normal: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(normal)
}

/// A sequence that diverges, made short.
struct Divergence {
    /// After how many.
    count: u64,
    sequence: Sequence,
    why: String,
}

/// Plays so many sequences, on all of the host's CPUs: how often they did what, or the first that
/// diverges.
fn play(cases: u64) -> Result<Tally, Divergence> {
    let lanes = thread::available_parallelism().map_or(1, |count| count.get()) as u64;
    // Of those that diverge, the first; nobody need play what comes behind it.
    let first = &AtomicU64::new(cases);
    let tally = thread::scope(|scope| {
        let lane = |lane: u64| scope.spawn(move || play_some((lane..cases).step_by(lanes as usize), first));
        let lanes: Vec<_> = (0..lanes).map(lane).collect();
        let tallies = lanes.into_iter().map(|lane| lane.join().unwrap_or_else(|panic| resume_unwind(panic)));
        tallies.fold(Tally::default(), sum)
    });
    let diverged = first.load(Relaxed);
    if diverged == cases {
        return Ok(tally);
    }
    let sequence = Sequence::nth(diverged).shorter();
    let why = sequence.play(false).err().unwrap_or_else(|| "not every time".to_owned());
    Err(Divergence { count: diverged + 1, sequence, why })
}

/// What some did until one of them, or an earlier one, diverges.
fn play_some(cases: impl Iterator<Item = u64>, first: &AtomicU64) -> Tally {
    let mut tally = Tally::default();
    for case in cases.take_while(|case| *case < first.load(Relaxed)) {
        match Sequence::nth(case).play(false) {
            Ok(played) => tally = sum(tally, played),
            Err(_) => _ = first.fetch_min(case, Relaxed),
        }
    }
    tally
}

fn sum(mut all: Tally, more: Tally) -> Tally {
    for (op, [done, refused]) in more.ops {
        let of = all.ops.entry(op).or_default();
        *of = [of[0] + done, of[1] + refused];
    }
    for (seen, count) in more.waits {
        *all.waits.entry(seen).or_default() += count;
    }
    all
}

/// What no sequence gets done: the tests' kernel has no such thing.
const NEVER: [Op; 3] = [Op::MachineTrace, Op::MachineDump, Op::MachineAttempt];

#[test]
fn the_kernel_does_what_the_model_says() {
    let cases = number("MODEL_CASES", CASES);
    let tally = play(cases).unwrap_or_else(|Divergence { count, sequence, why }| {
        let _ = sequence.play(true);
        panic!("sequence {count} diverges: {why}\n{}", sequence.describe());
    });
    let (done, refused) =
        tally.ops.values().fold((0, 0), |all, [done, refused]| (all.0 + done, all.1 + refused));
    let seed = number("MODEL_SEED", 1);
    println!("model: seed={seed} sequences={cases} done={done} refused={refused} divergences=0");
    // Sequences that are refused everything would show nothing.
    let of = |op: &Op| tally.ops.get(&(*op as u8)).copied().unwrap_or_default();
    let known = Op::ALL.iter().filter(|op| model::Model::knows(**op));
    for op in known.filter(|_| cases >= CASES) {
        let ([done, refused], can) = (of(op), !NEVER.contains(op));
        println!("  {op:?}: {done} done, {refused} refused");
        assert!(
            (done > 0) == can && done + refused > 0,
            "{op:?} was done {done} times: add it to pick.rs, or leave it out in Model::knows"
        );
    }
    assert!(cases < CASES || done > refused, "most are refused");
    for ((what, how), count) in &tally.waits {
        println!("  a wait for a lock {what} {how}: {count}");
    }
    let missed = locks::REACHED.into_iter().find(|seen| !tally.waits.contains_key(seen));
    assert!(cases < CASES || missed.is_none(), "no wait for a lock came to this: {missed:?}");
}

/// One sequence, told step by step: `MODEL_AGAIN="seed step step …"`.
#[test]
fn again() {
    let Ok(text) = std::env::var("MODEL_AGAIN") else { return };
    let mut words = text.split_whitespace().map(|word| word.parse().expect("a number"));
    let seed = words.next().expect("a seed");
    if let Err(why) = (Sequence { seed, steps: words.collect() }).play(true) {
        panic!("{why}");
    }
}
