//! Runs many cases on several threads, and reports the results.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use abi::Op;

use crate::play::{Outcome, Play};
use crate::rounds::Pairs;

/// What a run plays.
#[derive(Clone)]
pub struct Options {
    pub seed: u64,
    pub cases: u64,
    pub again: Option<u64>,
    pub threads: u64,
    pub all: bool,
    pub without: Vec<String>,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options =
            Options { seed: 1, cases: 1500, again: None, threads: 2, all: false, without: Vec::new() };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if word == "--limits" {
                check_limits(words.next().ok_or("--limits wants small or normal")?)?;
                continue;
            }
            if word == "--without" {
                let rules = words.next().ok_or("--without wants rules")?;
                options.without.extend(rules.split(',').map(str::to_owned));
                continue;
            }
            let mut number = || -> Result<u64, String> {
                let value = words.next().ok_or(format!("{word} wants a number"))?;
                value.parse().map_err(|_| format!("{word} wants a number, not {value:?}"))
            };
            match word.as_str() {
                "--seed" => options.seed = number()?,
                "--cases" => options.cases = number()?,
                "--again" => options.again = Some(number()?),
                "--threads" => options.threads = number()?.max(1),
                "--all" => options.all = true,
                other => return Err(format!("there is no option {other:?}")),
            }
        }
        Ok(options)
    }
}

/// How large the bounds of the kernel are in this build.
const LIMITS: &str = if cfg!(feature = "small-limits") { "small" } else { "normal" };

/// Checks the value of `--limits`.
fn check_limits(value: &str) -> Result<(), String> {
    match value {
        _ if value == LIMITS => Ok(()),
        "small" | "normal" => {
            Err(format!("this build has {LIMITS} limits: `./justw confine` makes the other"))
        }
        _ => Err(format!("--limits wants small or normal, not {value}")),
    }
}

/// Plays one case. A panic of the kernel counts as something that is wrong.
fn case(options: &Options, number: u64, tell: bool) -> Outcome {
    let seed = options.seed.wrapping_mul(1 << 32).wrapping_add(number);
    let played = catch_unwind(AssertUnwindSafe(|| {
        // Every second case plays pairs.
        let pairs = number % 2 == 1;
        let mut play = Play::new(seed, tell, pairs, &options.without);
        if pairs {
            play.run_pairs(options.seed.wrapping_mul(1_000_003).wrapping_add(number / 2));
        } else {
            play.run();
        }
        play.outcome.clone()
    }));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let what = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned();
        let excess = confine::Excess { rule: "panic", what };
        Outcome { exceeded: vec![excess], ..Outcome::default() }
    })
}

/// What all cases together have come to.
#[derive(Default)]
struct Sum {
    operations: u64,
    done: u64,
    exceeded: u64,
    leaked: u64,
    tried: BTreeMap<u8, (u32, u32)>,
    refused: BTreeMap<(u8, String), u32>,
    pairs: Pairs,
    /// By rule: how often, the first case, and what it says.
    rules: BTreeMap<&'static str, (u64, u64, String)>,
}

impl Sum {
    fn add(&mut self, number: u64, outcome: Outcome) {
        self.operations += outcome.operations;
        self.done += outcome.done;
        self.exceeded += outcome.exceeded.len() as u64;
        self.leaked += outcome.leaked.len() as u64;
        self.pairs.add(&outcome.pairs);
        for (error, count) in outcome.refused {
            *self.refused.entry(error).or_default() += count;
        }
        for (op, (tried, done)) in outcome.tried {
            let of = self.tried.entry(op).or_default();
            *of = (of.0 + tried, of.1 + done);
        }
        let leaks = outcome.leaked.into_iter().map(|what| ("marks", what));
        let excesses = outcome.exceeded.into_iter().map(|excess| (excess.rule, excess.what));
        for (rule, what) in excesses.chain(leaks) {
            let of = self.rules.entry(rule).or_insert((0, number, what.clone()));
            of.0 += 1;
            if number < of.1 {
                (of.1, of.2) = (number, what);
            }
        }
    }
}

impl Sum {
    /// How often each operation was done, and which pairs never were.
    fn tell(&self) {
        for (number, (tried, done)) in &self.tried {
            let op = Op::from_raw(*number).unwrap_or(Op::Null);
            let of_op = |((op, error), count): (&(u8, String), &u32)| {
                (op == number).then(|| format!("{error} {count}"))
            };
            let refused: Vec<String> = self.refused.iter().filter_map(of_op).collect();
            println!("  {op:?}: {done} done of {tried}; {}", refused.join(", "));
        }
        let missing: Vec<String> =
            self.pairs.missing().map(|(one, other)| format!("{one:?}/{other:?}")).collect();
        println!(
            "  pairs that were not done: {} {}",
            missing.len(),
            missing[..missing.len().min(40)].join(" ")
        );
    }
}

pub fn run(options: &Options) -> ExitCode {
    if let Some(number) = options.again {
        let outcome = case(options, number, true);
        let clean = outcome.exceeded.is_empty() && outcome.leaked.is_empty();
        outcome.exceeded.iter().for_each(|excess| println!("{}: {}", excess.rule, excess.what));
        return if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let sum = Mutex::new(Sum::default());
    let lane = || loop {
        let number = next.fetch_add(1, Relaxed);
        if number >= options.cases || !options.all && number > failed.load(Relaxed) {
            return;
        }
        let outcome = case(options, number, false);
        if !outcome.exceeded.is_empty() || !outcome.leaked.is_empty() {
            failed.fetch_min(number, Relaxed);
        }
        sum.lock().unwrap_or_else(|broken| broken.into_inner()).add(number, outcome);
    };
    thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(lane);
        }
    });
    let sum = sum.into_inner().unwrap_or_else(|broken| broken.into_inner());
    for (rule, (count, first, what)) in &sum.rules {
        println!("  {rule}: {count}, first in case {first}: {what}");
    }
    if let Some(number) = Some(failed.load(Relaxed)).filter(|number| *number != u64::MAX) {
        let limits = if LIMITS == "small" { " --limits small" } else { "" };
        println!("Once more: ./justw confine{limits} --seed {} --again {number}", options.seed);
    }
    if options.all {
        sum.tell();
    }
    println!("  {}", sum.pairs.text());
    let Sum { operations, done, exceeded, leaked, .. } = sum;
    println!("  {done} of them done");
    let (seed, cases) = (options.seed, options.cases);
    println!(
        "confine: seed={seed} cases={cases} operations={operations} exceeded={exceeded} leaked_marks={leaked}"
    );
    if exceeded + leaked == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
