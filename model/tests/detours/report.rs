//! The command line, the threads, and the report.

use std::panic::resume_unwind;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};

use model::detours::worlds::World;

use crate::rules::RULES;
use crate::search::{Finding, Seen, Way, search};

/// What `./justw` prints, too.
const HELP: &str = include_str!("../../../docs/help/detours.txt");

/// One in this many worlds of a sample is searched to depth two.
const SAMPLE: usize = 9;

/// Worlds that a sample searches to depth three: a rule, or a finding, needs as many moves.
const DEEP: [&str; 3] =
    ["victim:400 memory:1ffff", "own-process:400 new-task:800 time:400", "frame:820 own-space:20 labels"];

/// Findings that are not fixed yet.
const OPEN: &[(&str, &str)] = &[];

/// The book's list of rules.
const BOOK: &str = include_str!("../../../docs/src/detours.md");

/// Returns the rules' names in the book: the first column of its tables of rules.
fn in_book() -> Vec<&'static str> {
    let rows_of = |table: &'static str| table.lines().skip(2).take_while(|line| line.starts_with("| "));
    let rows = BOOK.split("| rule |").skip(1).flat_map(rows_of);
    rows.filter_map(|row| row.strip_prefix("| ")?.split(" | ").next()).collect()
}

struct Options {
    depth: Option<usize>,
    minutes: Option<u64>,
    world: Option<World>,
    threads: usize,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { depth: None, minutes: None, world: None, threads: 2 };
    while let Some(word) = words.next() {
        if word == "--help" || word == "-h" {
            return Err(HELP.to_owned());
        }
        let value = words.next().ok_or_else(|| format!("{word} wants a value\n\n{HELP}"))?;
        let number = value.parse::<u64>().map_err(|_| format!("{word} wants a number, not {value}"));
        match word.as_str() {
            "--depth" => options.depth = Some(number? as usize),
            "--minutes" => options.minutes = Some(number?),
            "--threads" => options.threads = number? as usize,
            "--world" => {
                let world = World::parse(&value).ok_or_else(|| format!("{value} is no world"))?;
                options.world = Some(world);
            }
            _ => return Err(format!("{word} is no option\n\n{HELP}")),
        }
    }
    Ok(options)
}

pub fn run(words: impl Iterator<Item = String>) -> ExitCode {
    let options = match parse(words) {
        Ok(options) => options,
        Err(text) => {
            println!("{text}");
            return ExitCode::from(u8::from(text != HELP));
        }
    };
    let names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(in_book(), names, "the book's rules are others than rules.rs has");
    let began = Instant::now();
    let threads = options.threads.max(1);
    let worlds = options.world.clone().map_or_else(World::all, |world| vec![world]);
    let mut all = Seen::default();
    let mut whole = 0;
    for depth in 1..=options.depth.unwrap_or(2) {
        let is_sample = options.depth.is_none() && depth > 1;
        let some: Vec<&World> = worlds.iter().step_by(if is_sample { SAMPLE } else { 1 }).collect();
        let end = options.minutes.map(|minutes| began + Duration::from_secs(60 * minutes));
        let (seen, count) = search_all(&some, depth, end, threads);
        println!(
            "depth {depth}: {count} of {} worlds whole, {} states, {} steps, {} s",
            some.len(),
            seen.states,
            seen.steps,
            began.elapsed().as_secs()
        );
        let states = seen.states.max(all.states);
        all.add(seen);
        all.states = states;
        if count < worlds.len() {
            break;
        }
        whole = depth;
    }
    if options.depth.is_none() && options.world.is_none() {
        let deep = DEEP.map(|text| World::parse(text).expect("a world"));
        all.add(search_all(&deep.iter().collect::<Vec<_>>(), 3, None, threads).0);
    }
    let is_good = tell(&all, options.world.is_none());
    println!(
        "detours: worlds={} states={} depth={whole} seconds={} findings={}",
        worlds.len(),
        all.states,
        began.elapsed().as_secs(),
        all.findings.len()
    );
    ExitCode::from(u8::from(!is_good))
}

/// Searches all worlds to a depth. Returns what was seen, and how many worlds were searched
/// completely.
fn search_all(worlds: &[&World], depth: usize, end: Option<Instant>, threads: usize) -> (Seen, usize) {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (all, whole) = (Mutex::new(Seen::default()), AtomicUsize::new(0));
    let is_over = AtomicBool::new(false);
    // Worlds that are alike stand side by side: where time does not last, some of all kinds are
    // searched.
    let stride = (worlds.len() * 5 / 13..).find(|n| is_prime_to(*n, worlds.len())).unwrap_or(1);
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Relaxed);
                        if n >= worlds.len() || stop.load(Relaxed) {
                            return;
                        }
                        let seen = search(worlds[n * stride % worlds.len()], depth, &stop);
                        whole.fetch_add(usize::from(seen.is_whole), Relaxed);
                        all.lock().expect("no thread panicked").add(seen);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                stop.store(end.is_some_and(|end| Instant::now() >= end), Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        });
        let ends: Vec<_> = lanes.into_iter().map(|lane| lane.join()).collect();
        is_over.store(true, Relaxed);
        ends.into_iter().for_each(|end| end.unwrap_or_else(|panic| resume_unwind(panic)));
    });
    (all.into_inner().expect("no thread panicked"), whole.into_inner())
}

fn is_prime_to(a: usize, b: usize) -> bool {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

/// Whether nothing is found but what is known to be open, and all of that.
fn tell(all: &Seen, is_all: bool) -> bool {
    for (rule, count) in &all.used {
        println!("rule {rule}: {count}");
    }
    let is_open = |finding: &Finding| OPEN.contains(&(finding.0.as_str(), finding.1.as_str()));
    let mut is_good = true;
    for (finding, Way { world, moves, change }) in &all.findings {
        let open = if is_open(finding) { " (open)" } else { "" };
        println!("finding {} {}{open}\n# {change}\nworld {}", finding.0, finding.1, world.text());
        moves.iter().for_each(|it| println!("{}", it.text()));
        is_good &= is_open(finding);
    }
    for (op, change) in OPEN.iter().filter(|_| is_all) {
        if !all.findings.contains_key(&(op.to_string(), change.to_string())) {
            println!("{op} {change} is not found any more: take it off the list of what is open");
            is_good = false;
        }
    }
    is_good
}
