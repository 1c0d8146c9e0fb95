//! Plays the cases of a plan, and reports violations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::deeds::{By, Deed};
use crate::orders::Orders;
use crate::plan::{LIMITS, Options, Pair, Plan, Triple};
use crate::play::{Case, Outcome, play};

/// Violations of one pair that are told; more are only counted.
const TOLD: usize = 2;
/// A case that takes longer never ends.
const ENDLESS: Duration = Duration::from_secs(20);
/// Cases that a worker plays one behind the other: those of a pair are compared with the same
/// orders.
const TOGETHER: usize = 12;
/// Most stops of one pair in a row of a sample.
const STOPS: usize = 6;
/// The case of a worker that has none yet.
const IDLE: usize = usize::MAX - 1;

/// What a run has come to.
#[derive(Default)]
struct Found {
    counted: u64,
    played: u64,
    reached: BTreeMap<Triple, u64>,
    violations: usize,
    /// How many of each pair.
    violated: BTreeMap<usize, usize>,
    /// Why the last case of a triple did not count.
    idle: BTreeMap<Triple, String>,
}

/// One case of a plan, by numbers: the pair, the place of the point, the kernel entries of the
/// second operation, and the third one.
#[derive(Clone, Copy)]
struct Number {
    pair: usize,
    at: usize,
    entries: Option<usize>,
    third: Option<usize>,
}

impl Number {
    fn new(pair: usize, at: usize) -> Number {
        Number { pair, at, entries: None, third: None }
    }
}

/// A small generator of numbers: `xorshift64*`.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % below.max(1)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(self.roll(all.len())).copied()
    }
}

/// Percentage of a sample's chains that are about one object, and begin between two entries of the
/// first operation.
const CLOSE: usize = 80;

/// Percentage of a sample's pairs in which a second operation of several kernel entries does only
/// some of them before the first continues.
const PARTS: usize = 40;

/// The cases of a run: what `--only` and `--at` name, or the whole, or a sample.
fn numbers(plan: &Plan, options: &Options) -> Vec<Number> {
    let mut dice = Dice(options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    if options.whole || options.at.is_some() || !options.only.is_empty() {
        let all = plan.pairs.iter().enumerate();
        let of = |(number, pair): (usize, &Pair)| {
            let points = options.at.map_or(pair.points.clone(), |at| vec![at]).into_iter();
            let thirds: Vec<Option<usize>> = match options.only.len() {
                3 => thirds(plan, pair, |deed| options.takes(2, deed)).into_iter().map(Some).collect(),
                _ => vec![None],
            };
            let entries = options.entries;
            let with = |at: usize| {
                thirds.iter().map(move |third| Number { pair: number, at, entries, third: *third })
            };
            points.flat_map(with).collect::<Vec<_>>()
        };
        return all.flat_map(of).collect();
    }
    sample(plan, options, &mut dice)
}

/// A sample. Of its chains most are close. Of the other cases a third each is about one thing and a
/// word that both use, about any word that both use, and of any kind, so that each pair has the
/// same chance, however many points it has.
fn sample(plan: &Plan, options: &Options, dice: &mut Dice) -> Vec<Number> {
    let (close, conflicts) = (close_chains(plan), conflicts(plan));
    let is_about_one = |number: &&Number| !plan.pairs[number.pair].both.is_empty();
    let about_one: Vec<Number> = conflicts.iter().filter(is_about_one).copied().collect();
    let (chains, all, one) = (close.len(), conflicts.len(), about_one.len());
    println!("there are {chains} close chains and {all} conflicts, {one} of them about one thing");
    let mut row = |chain: bool| {
        if chain && dice.roll(100) < CLOSE {
            return dice.one_of(&close).into_iter().collect();
        }
        let (number, conflict) = match dice.roll(3) {
            0 => (dice.one_of(&about_one), true),
            1 => (dice.one_of(&conflicts), true),
            _ => (Some(Number::new(dice.roll(plan.pairs.len()), 0)), false),
        };
        let Some(number) = number else { return Vec::new() };
        let pair = &plan.pairs[number.pair];
        let points = if conflict { &pair.conflicts } else { &pair.points };
        if chain {
            let third = dice.one_of(&thirds(plan, pair, |_| true));
            return dice.one_of(points).map(|at| Number { at, third, ..number }).into_iter().collect();
        }
        let some = pair.entries > 1 && dice.roll(100) < PARTS;
        let entries = some.then(|| 1 + dice.roll(pair.entries - 1));
        let mut stops: Vec<usize> = (0..STOPS).filter_map(|_| dice.one_of(points)).collect();
        stops.sort();
        stops.dedup();
        stops.into_iter().map(|at| Number { at, entries, ..number }).collect()
    };
    let (mut all, mut chains) = (Vec::new(), 0);
    // Each row adds at least one case, unless there is nothing to choose from.
    for _ in 0..options.cases {
        if all.len() >= options.cases {
            break;
        }
        let row = row(chains * 100 < options.chains * all.len() as u64);
        chains += row.iter().filter(|number| number.third.is_some()).count() as u64;
        all.extend(row);
    }
    all
}

/// All pairs at each point where one of the two changes a word that the other one uses.
fn conflicts(plan: &Plan) -> Vec<Number> {
    let of = |(pair, it): (usize, &Pair)| {
        it.conflicts.iter().map(move |at| Number::new(pair, *at)).collect::<Vec<_>>()
    };
    plan.pairs.iter().enumerate().flat_map(of).collect()
}

/// What can run behind the second operation of a pair.
fn thirds(plan: &Plan, pair: &Pair, wanted: impl Fn(&Deed) -> bool) -> Vec<usize> {
    let fits = |n: &usize| {
        let deed = &plan.deeds[*n];
        deed.by == By::Hand && deed.can(pair.state) && *n != pair.second && wanted(deed)
    };
    (0..plan.deeds.len()).filter(fits).collect()
}

/// All chains of three operations that have to do with one thing, where the first stops between two
/// of its entries: there it holds nothing, and what it found may be different when it goes on.
fn close_chains(plan: &Plan) -> Vec<Number> {
    let of = |(pair, it): (usize, &Pair)| {
        let thirds = thirds(plan, it, |deed| deed.names(&it.both)).into_iter();
        let all = thirds.flat_map(|third| it.breaks.iter().map(move |at| (third, *at)));
        all.map(|(third, at)| Number { third: Some(third), ..Number::new(pair, at) }).collect::<Vec<_>>()
    };
    plan.pairs.iter().enumerate().filter(|(_, pair)| !pair.both.is_empty()).flat_map(of).collect()
}

pub fn run(options: &Options) -> ExitCode {
    // A violation is a panic: it is told once, with what plays its case.
    std::panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    let plan = match Plan::make(options) {
        Ok(plan) => plan,
        Err(wrong) => {
            println!("{wrong}");
            println!("pairs: triples=0 reached=0 cases=0 violations=1");
            return ExitCode::FAILURE;
        }
    };
    let numbers = numbers(&plan, options);
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Found::default()));
    std::thread::scope(|scope| {
        let workers: Vec<AtomicUsize> = (0..options.threads).map(|_| AtomicUsize::new(IDLE)).collect();
        let workers: &'static [AtomicUsize] = Box::leak(workers.into_boxed_slice());
        for at in workers {
            let (plan, numbers, next, found) = (&plan, &numbers, &next, &found);
            scope.spawn(move || work(plan, numbers, options.first, next, found, at));
        }
        scope.spawn(|| progress(&plan, options, &numbers, &found, workers));
    });
    let found = found.into_inner().unwrap_or_else(|broken| broken.into_inner());
    finish(&plan, options, &found, start.elapsed())
}

/// Tells how far the workers are. A case that never ends is a violation, too, and the last one of
/// the run.
fn progress(
    plan: &Plan,
    options: &Options,
    numbers: &[Number],
    found: &Mutex<Found>,
    workers: &[AtomicUsize],
) {
    let start = Instant::now();
    let (mut told, mut moved) = (start, start);
    let mut before = Vec::new();
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let now: Vec<usize> = workers.iter().map(|at| at.load(Relaxed)).collect();
        if now.iter().all(|at| *at != IDLE && *at >= numbers.len()) {
            return;
        }
        if before != now {
            (before, moved) = (now, Instant::now());
        } else if moved.elapsed() > ENDLESS {
            let mut found = found.lock().unwrap_or_else(|broken| broken.into_inner());
            for at in before.iter().filter(|at| **at < numbers.len()) {
                let text = format!(
                    "it never ends, or another that runs beside it\n    {}",
                    command(plan, &numbers[*at])
                );
                found.tell(numbers[*at].pair, *at, &text);
            }
            let _ = finish(plan, options, &found, start.elapsed());
            std::process::exit(1);
        }
        if told.elapsed() > Duration::from_secs(20) {
            told = Instant::now();
            let at = before.iter().filter(|at| **at != IDLE).max().copied().unwrap_or(0);
            eprintln!("pairs: {at} of {} cases", numbers.len());
        }
    }
}

fn case_of<'a>(plan: &'a Plan, number: &Number) -> Case<'a> {
    let pair = &plan.pairs[number.pair];
    Case {
        state: pair.state,
        first: &plan.deeds[pair.first],
        second: Some(&plan.deeds[pair.second]),
        third: number.third.map(|third| &plan.deeds[third]),
        at: Some(number.at),
        entries: number.entries,
        usual: plan.usual(pair),
    }
}

/// What plays a case again.
fn command(plan: &Plan, number: &Number) -> String {
    let case = case_of(plan, number);
    let names = [Some(case.first), case.second, case.third].into_iter().flatten().map(|deed| deed.name);
    let names: Vec<&str> = names.collect();
    let limits = if LIMITS == "small" { " --limits small" } else { "" };
    let entries = number.entries.map_or(String::new(), |entries| format!(" --entries {entries}"));
    let names = names.join("/");
    format!("./justw pairs{limits} --state {:?} --at {}{entries} --only '{names}'", case.state, number.at)
}

fn work(
    plan: &Plan,
    numbers: &[Number],
    only_first: bool,
    next: &AtomicUsize,
    found: &Mutex<Found>,
    at: &AtomicUsize,
) {
    let mut orders: Option<(usize, Orders<'_>)> = None;
    loop {
        let start = next.fetch_add(TOGETHER, Relaxed);
        for here in start..start + TOGETHER {
            at.store(here, Relaxed);
            let Some(number) = numbers.get(here) else { return };
            let case = case_of(plan, number);
            let orders = match orders.take() {
                Some((pair, known)) if pair == number.pair => orders.insert((pair, known)),
                _ => orders.insert((number.pair, Orders::new(&case))),
            };
            let outcome = play(&case).and_then(|outcome| {
                if outcome.counts() && number.third.is_none() {
                    orders.1.judge(&outcome)?;
                }
                Ok(outcome)
            });
            let mut found = found.lock().unwrap_or_else(|broken| broken.into_inner());
            found.played += 1;
            match outcome {
                Ok(outcome) => note(&mut found, &plan.pairs[number.pair], &case, &outcome),
                Err(wrong) => {
                    found.tell(number.pair, here, &format!("{wrong}\n    {}", command(plan, number)))
                }
            }
            if only_first && found.violations > 0 {
                next.store(numbers.len(), Relaxed);
            }
        }
    }
}

impl Found {
    /// Reports a violation by a case of a pair immediately: a run may be stopped before its end.
    fn tell(&mut self, pair: usize, case: usize, what: &str) {
        self.violations += 1;
        let of_pair = self.violated.entry(pair).or_default();
        *of_pair += 1;
        if *of_pair <= TOLD {
            println!("violation, case {}: {what}", case + 1);
        }
    }
}

fn note(found: &mut Found, pair: &Pair, case: &Case<'_>, outcome: &Outcome) {
    let second = case.second.map_or("", |deed| deed.name);
    found.counted += u64::from(outcome.counts());
    for relation in &pair.relations {
        let triple = (case.first.name, second, *relation);
        if outcome.counts() {
            *found.reached.entry(triple).or_default() += 1;
        } else {
            let _ = found.idle.insert(triple, outcome.idle());
        }
    }
}

fn finish(plan: &Plan, options: &Options, found: &Found, took: Duration) -> ExitCode {
    let triples = plan.triples();
    if let Some(file) = &options.list
        && let Err(wrong) = std::fs::write(file, list(plan, found))
    {
        println!("cannot write {file}: {wrong}");
    }
    println!("{} cases played in {:.1} s, with {LIMITS} limits", found.played, took.as_secs_f64());
    if found.counted == 0 && found.violations == 0 {
        let why = found.idle.values().next().map_or("there is none", String::as_str);
        println!("nothing is shown, since no case counts: {why}");
    }
    let (reached, violations) = (found.reached.len(), found.violations);
    println!(
        "pairs: triples={} reached={reached} cases={} violations={violations}",
        triples.len(),
        found.counted
    );
    if violations == 0 && found.counted > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was reached of each triple.
fn list(plan: &Plan, found: &Found) -> String {
    let mut text = String::new();
    for triple in plan.triples() {
        let cases = found.reached.get(&triple).copied().unwrap_or(0);
        let why = match found.idle.get(&triple) {
            _ if cases > 0 => String::new(),
            Some(why) => format!("  ({why})"),
            None => String::from("  (no case was played)"),
        };
        let _ = writeln!(text, "{cases:7}  {} | {} | {}{why}", triple.0, triple.1, triple.2);
    }
    for (state, name, answer) in &plan.idle {
        let _ = writeln!(text, "      -  {name} in {state:?} has no point: {answer:?}");
    }
    text
}
