//! `stress --shrink`: searches for a smaller run that fails in the same way, because a smaller run
//! is easier to read and faster to search.
//!
//! It tries runs with fewer messages and with fewer CPUs, of the same seed and then of seeds near
//! it, and continues from the first that fails in the same way ([`Symptom`]). With fewer messages
//! or CPUs the same seed gives a different run. So a try may pass, or fail in another way, and the
//! result is a small run, not necessarily the smallest one.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::cli::one_or_more;
use crate::lab::Lab;
use crate::machine::Mode;
use crate::stress::{self, Wanted};
use crate::symptom::Symptom;
use crate::trouble::{Trouble, first_line};

/// What stands before the labels of the runs that are tried.
const PURPOSE: &str = "shrink-";
/// So many seeds after the one that fails are tried, too.
const SEEDS: u32 = 3;

/// The options of `stress` that are about it.
#[derive(Args, Clone, Copy, Debug)]
pub struct ShrinkArgs {
    /// Look for a smaller run that fails in the same way as this seed's (icount)
    #[arg(long, requires = "seed", conflicts_with_all = ["seeds", "replay"])]
    pub shrink: bool,
    /// How many smaller runs to try
    #[arg(long, default_value_t = 30, requires = "shrink", value_parser = one_or_more())]
    pub tries: u32,
}

/// A run: what decides how large it is, and its seed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Size {
    cpus: u32,
    messages: u64,
    seed: u32,
}

/// How a try ended.
#[derive(Clone, PartialEq, Eq, Debug)]
enum End {
    Passed,
    /// In the way that is looked for; with how it shows.
    Alike(String),
    Otherwise(String),
}

/// Searches for a smaller run that fails as that of the seed does, and prints the command that runs
/// it.
/// Errors: the seed does not fail.
pub fn shrink(lab: &Lab, wanted: &Wanted, seed: u32, tries: u32) -> Result<()> {
    if wanted.mode != Mode::Icount {
        let text = format!("--shrink takes --mode icount: a run in mode {} does not replay", wanted.mode);
        return Err(Trouble::Usage(text).into());
    }
    let start = Size { cpus: wanted.cpus, messages: wanted.messages, seed };
    let first = run(lab, wanted, start)?;
    let Some((symptom, why)) = first else {
        let text =
            format!("seed {seed} does not fail, so there is nothing to shrink: {}", command(wanted, start));
        return Err(Trouble::CheckFailed(text).into());
    };
    lab.screen.say(&format!("seed {seed} fails: {symptom}"));
    let mut try_one = |size| {
        Ok(match run(lab, wanted, size)? {
            None => End::Passed,
            Some((other, why)) if other.is_like(&symptom) => End::Alike(why),
            Some((_, why)) => End::Otherwise(why),
        })
    };
    let (best, done) = smaller(start, tries, &mut try_one, &mut |line| lab.screen.say(line))?;
    let last = best.as_ref().map_or(&why, |(_, why)| why);
    let size = best.as_ref().map_or(start, |(size, _)| *size);
    match best {
        Some(_) => println!("the smallest of {done} tries that fails in the same way: {last}"),
        None => println!("none of {done} smaller runs fails in the same way: {last}"),
    }
    println!("  {}", command(wanted, size));
    println!("to find the event after which something is wrong:");
    println!("  {}", stress::gdb_command(&sized(wanted, size), size.seed, "--bisect"));
    Ok(())
}

fn sized(wanted: &Wanted, Size { cpus, messages, .. }: Size) -> Wanted {
    Wanted { cpus, messages, ..wanted.clone() }
}

fn command(wanted: &Wanted, size: Size) -> String {
    stress::command(&sized(wanted, size), size.seed)
}

/// Runs the stress test at a size. Returns how it failed and the words that say so, or `None` if it
/// passed.
fn run(lab: &Lab, wanted: &Wanted, size: Size) -> Result<Option<(Symptom, String)>> {
    let run = stress::run_once(lab, &sized(wanted, size), size.seed, PURPOSE)?;
    Ok(run.symptom.zip(run.trouble).map(|(symptom, trouble)| (symptom, in_short(&trouble.to_string()))))
}

/// Returns the first line of a failure's text, without the run's label; of a list, its first item.
fn in_short(trouble: &str) -> String {
    let line = first_line(trouble);
    let item = trouble.lines().nth(1).and_then(|item| item.trim_start().strip_prefix("| "));
    match (line.ends_with(':'), item) {
        (true, Some(item)) => item.to_owned(),
        _ => line.split_once(": ").map_or(line, |(_, why)| why).to_owned(),
    }
}

/// Goes down from `start`, as long as there are tries left: the smallest size that failed in the
/// same way, if any did, with how that shows, and how many tries it took.
fn smaller(
    start: Size,
    tries: u32,
    try_one: &mut dyn FnMut(Size) -> Result<End>,
    tell: &mut dyn FnMut(&str),
) -> Result<(Option<(Size, String)>, u32)> {
    let (mut best, mut done) = (None, 0);
    let mut tried = BTreeSet::from([start]);
    let mut size = start;
    while done < tries
        && let Some(next) = candidates(size).into_iter().find(|next| !tried.contains(next))
    {
        tried.insert(next);
        done += 1;
        let started = Instant::now();
        let end = try_one(next)?;
        let how = match &end {
            End::Passed => "passes".to_owned(),
            End::Alike(why) => format!("fails in the same way: {why}"),
            End::Otherwise(why) => format!("fails in another way: {why}"),
        };
        let Size { cpus, messages, seed } = next;
        let seconds = started.elapsed().as_secs();
        tell(&format!(
            "try {done} of {tries}: --seed {seed} --cpus {cpus} --messages {messages}: {how} ({seconds} s)"
        ));
        if let End::Alike(why) = end {
            (size, best) = (next, Some((next, why)));
        }
    }
    Ok((best, done))
}

/// Returns the sizes to try after `size` has failed, in this order: fewer messages, fewer CPUs;
/// first with its seed, then with others.
fn candidates(size: Size) -> Vec<Size> {
    let Size { cpus, messages, seed } = size;
    let sizes = [
        (cpus, messages / 2),
        (cpus / 2, messages),
        (cpus - 1, messages),
        // As long as that is much fewer: a run that is a tenth smaller is not read sooner.
        (cpus, messages / 4 * 3),
    ];
    let seeds = (0..=SEEDS).map(|further| seed.wrapping_add(further));
    let all = seeds.flat_map(|seed| sizes.map(|(cpus, messages)| Size { cpus, messages, seed }));
    all.filter(|size| size.cpus > 0 && size.messages > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Size = Size { cpus: 4, messages: 4000, seed: 7 };

    /// Shrinks where just the runs that `fails` names do so, and checks that nothing is tried
    /// twice.
    fn shrunk(tries: u32, fails: impl Fn(Size) -> End) -> (Option<Size>, u32) {
        let mut tried = Vec::new();
        let mut try_one = |size| {
            tried.push(size);
            Ok(fails(size))
        };
        let (best, done) = smaller(START, tries, &mut try_one, &mut |_| ()).expect("no run is refused");
        let different: BTreeSet<Size> = tried.iter().copied().collect();
        assert_eq!((tried.len(), different.len()), (done as usize, done as usize));
        assert!(!different.contains(&START), "how that ends is known");
        (best.map(|(size, _)| size), done)
    }

    fn if_so(is_alike: bool) -> End {
        if is_alike { End::Alike("lost=1".to_owned()) } else { End::Passed }
    }

    #[test]
    fn it_goes_down_to_what_still_fails() {
        let (best, _) = shrunk(100, |size| if_so(size.cpus >= 2 && size.messages >= 300));
        let best = best.expect("there are smaller ones");
        assert_eq!((best.cpus, best.seed), (2, 7));
        assert!((300..400).contains(&best.messages), "{best:?}");
    }

    #[test]
    fn it_goes_down_to_nothing_if_everything_fails() {
        assert_eq!(shrunk(100, |_| if_so(true)).0, Some(Size { cpus: 1, messages: 1, seed: 7 }));
    }

    #[test]
    fn seeds_near_it_are_tried_too() {
        let (best, _) = shrunk(100, |size| if_so(size.seed == 9 && size.messages >= 2000 && size.cpus == 4));
        assert_eq!(best, Some(Size { messages: 2000, seed: 9, ..START }));
    }

    #[test]
    fn fewer_messages_of_the_same_seed_come_first() {
        let first = candidates(START);
        assert_eq!(first[0], Size { messages: 2000, ..START });
        assert_eq!(first[1], Size { cpus: 2, ..START });
        assert!(candidates(Size { cpus: 1, messages: 1, seed: u32::MAX }).is_empty());
    }

    #[test]
    fn tries_are_bounded_and_another_way_does_not_count() {
        let (best, done) = shrunk(100, |_| End::Otherwise("corrupted=1".to_owned()));
        assert_eq!((best, done), (None, 16));
        assert_eq!(shrunk(5, |_| if_so(false)), (None, 5));
        assert_eq!(shrunk(0, |_| if_so(true)), (None, 0));
    }

    #[test]
    fn a_run_that_cannot_be_made_ends_it() {
        let mut try_one = |_| Err(Trouble::NoMachine("no QEMU".to_owned()).into());
        assert!(smaller(START, 9, &mut try_one, &mut |_| ()).is_err());
    }

    #[test]
    fn why_is_said_in_short() {
        assert_eq!(in_short("stress-icount-4-1: lost=4\n  | error …"), "lost=4");
        assert_eq!(
            in_short("stress-icount-4-1: invariants do not hold:\n  | steps: 9 of 8\n  | …"),
            "steps: 9 of 8"
        );
        assert_eq!(in_short("odd"), "odd");
    }
}
