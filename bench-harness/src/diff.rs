//! The differential test: kernels with and without fastpaths, given the same operations, have the
//! same state.
//!
//! Each seed is a game that the guest plays with `run=diff`: random operations of a dozen tasks,
//! and before each of them a report line with the results of the last one and a hash of the
//! kernel's state. Both kernels play it under icount, and their lines must be equal. If they are
//! not, both play again up to that point and show the whole state, and the differences are printed.
//!
//! A game proves something about a fastpath only if that was taken, and about a check only if it
//! failed. Both are counted over all games together.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::{Job, Lab};
use crate::lanes;
use crate::machine::Mode;
use crate::report::Report;
use crate::session::{Event, Session};
use crate::testsum::Tally;
use crate::trouble::Trouble;

/// Builds of the kernel: with fastpaths and without.
pub const WITH: &str = "dump";
const WITHOUT: &str = "nofast-dump";
/// Time limit of one game.
const LIMIT: Duration = Duration::from_secs(600);
/// How often all games together have to take each fastpath, and each of its ways out to the slow
/// path, which is where a check that is missing would be seen. Fewer games than [`ENOUGH`] need
/// not.
const TAKEN: [(&str, u64); 6] = [
    ("fast_call", 100),
    ("fast_reply", 100),
    ("fast_notify", 100),
    ("fast_wait", 30),
    ("fast_yield", 10),
    ("fast_send", 50),
];
const MISSED: u64 = 2;
const ENOUGH: u32 = 8;
/// Lines before a difference that are shown.
const BEFORE: usize = 4;
/// Lines of two states that are shown as different.
const SHOWN: usize = 60;

/// What to play.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub seed: u32,
    pub seeds: u32,
    /// Operations of each game.
    pub steps: u32,
}

impl Wanted {
    /// What CI can afford.
    pub const USUAL: Wanted = Wanted { seed: 1, seeds: ENOUGH, steps: 1000 };
}

/// Plays all games. Every seed is a test, and so is that they took the fastpaths.
pub fn diff(lab: &Lab, wanted: &Wanted) -> Result<Tally> {
    let mut tally = Tally::default();
    let (mut steps, mut taken) = (0, BTreeMap::new());
    for seed in (0..wanted.seeds).map(|n| wanted.seed.wrapping_add(n)) {
        let (with, without) = play_both(lab, seed, wanted.steps)?;
        steps += with.steps.len();
        for (name, count) in &with.taken {
            *taken.entry(name.clone()).or_insert(0) += count;
        }
        let differences = explain(lab, seed, &with, &without)?;
        if let Some(text) = &differences {
            println!("diff: {text}");
        }
        tally += lab.cases.one(&format!("game {seed}"), differences);
    }
    let counts: Vec<String> =
        TAKEN.iter().map(|(name, _)| format!("{name}={}", count(&taken, name))).collect();
    println!(
        "diff: seeds={} operations={} states={steps} {} different={}",
        wanted.seeds,
        u64::from(wanted.seeds) * u64::from(wanted.steps),
        counts.join(" "),
        tally.failed
    );
    if wanted.seeds >= ENOUGH {
        let few = (!enough(lab, &taken)).then(|| "too few fastpaths were taken".to_owned());
        tally += lab.cases.one("fastpaths taken", few);
    }
    Ok(tally)
}

/// Plays one game on both kernels; says what was different, if anything was.
pub fn game(lab: &Lab, seed: u32, steps: u32) -> Result<Option<String>> {
    let (with, without) = play_both(lab, seed, steps)?;
    explain(lab, seed, &with, &without)
}

/// Runs the comparison as a command.
pub fn command(lab: &Lab, wanted: &Wanted) -> Result<()> {
    let tally = diff(lab, wanted)?;
    if tally.failed > 0 {
        return Err(
            Trouble::CheckFailed("the kernels differ, or not all fastpaths were taken".to_owned()).into()
        );
    }
    Ok(())
}

/// One game on one kernel.
#[derive(Default, Debug)]
struct Game {
    steps: Vec<String>,
    taken: BTreeMap<String, u64>,
    /// The state, if it was to be shown.
    state: Vec<String>,
}

fn count(taken: &BTreeMap<String, u64>, name: &str) -> u64 {
    taken.get(name).copied().unwrap_or(0)
}

fn enough(lab: &Lab, taken: &BTreeMap<String, u64>) -> bool {
    let least = |name: &str| TAKEN.iter().find(|(fast, _)| *fast == name).map_or(MISSED, |(_, least)| *least);
    let few = taken.iter().filter(|(name, count)| **count < least(name));
    let few: Vec<String> =
        few.map(|(name, count)| format!("{name} {count} times of {}", least(name))).collect();
    if !few.is_empty() {
        lab.screen.say(&format!("diff: the games do not reach enough to prove anything: {}", few.join(", ")));
    }
    few.is_empty()
}

/// Plays one game on the kernels with and without fastpaths.
fn play_both(lab: &Lab, seed: u32, steps: u32) -> Result<(Game, Game)> {
    let mut games =
        lanes::side_by_side(&[WITH, WITHOUT], |variant| play(lab, variant, seed, steps, None)).into_iter();
    let mut next = || games.next().context("a game of each")?;
    Ok((next()?, next()?))
}

/// Returns the boot for a game.
pub fn job(variant: &str, seed: u32, steps: u32, show: Option<usize>) -> Job {
    Job {
        label: format!("diff-{variant}-{seed}"),
        variant: variant.to_owned(),
        command_line: format!("run=diff seed={seed} steps={steps} show={}", show.unwrap_or(0)),
        mode: Mode::Icount,
        cpus: 1,
        counted: None,
        limit: LIMIT,
    }
}

fn play(lab: &Lab, variant: &str, seed: u32, steps: u32, show: Option<usize>) -> Result<Game> {
    let job = job(variant, seed, steps, show);
    let mut game = Game::default();
    let session = lab.run_with(&job, &mut |event| {
        game.note(event);
        if lab.verbose {
            lab.screen.say(&event.text());
        }
    })?;
    game.check(&session)?;
    Ok(game)
}

impl Game {
    fn note(&mut self, event: &Event) {
        match event {
            Event::State(line) => self.state.push(line.clone()),
            Event::Report { line, report: Report::Other(_) } => {
                if line.starts_with("step ") {
                    self.steps.push(line.clone());
                } else if let Some((name, value)) =
                    line.strip_prefix("taken ").and_then(|rest| rest.split_once('='))
                {
                    self.taken.insert(name.to_owned(), value.parse().unwrap_or(0));
                }
            }
            _ => {}
        }
    }

    fn check(&self, session: &Session) -> Result<(), Trouble> {
        for report in &session.reports {
            if let Report::Test { verdict: crate::report::Verdict::Failed(why), .. } = report {
                return Err(Trouble::CheckFailed(format!("{}: {why}", session.label)));
            }
        }
        session.check_passed()?;
        if self.steps.is_empty() || self.taken.is_empty() {
            return Err(Trouble::GuestDied(format!("{}: no game was played", session.label)));
        }
        Ok(())
    }
}

/// Explains the first difference of two games, if there is one.
fn explain(lab: &Lab, seed: u32, with: &Game, without: &Game) -> Result<Option<String>> {
    let strays: Vec<&str> =
        without.taken.iter().filter(|(_, count)| **count > 0).map(|(name, _)| name.as_str()).collect();
    if !strays.is_empty() {
        return Ok(Some(format!("seed {seed}: the kernel without fastpaths counts {}", strays.join(", "))));
    }
    let Some(at) = first_difference(&with.steps, &without.steps) else { return Ok(None) };
    let mut text = format!("seed {seed}: the kernels differ at line {} of {}", at + 1, with.steps.len());
    for line in &with.steps[at.saturating_sub(BEFORE)..at.min(with.steps.len())] {
        text += &format!("\n  both     {line}");
    }
    for (which, game) in [("fast", with), ("slow", without)] {
        text += &format!("\n  {which}     {}", game.steps.get(at).map_or("(nothing)", String::as_str));
    }
    let number =
        |game: &Game| game.steps.get(at).and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    if let (Some(one), Some(other)) = (number(with), number(without)) {
        let states = [
            play(lab, WITH, seed, one, Some(one as usize))?,
            play(lab, WITHOUT, seed, other, Some(other as usize))?,
        ];
        text += &different_lines(&states[0].state, &states[1].state);
    }
    Ok(Some(text))
}

fn first_difference(one: &[String], other: &[String]) -> Option<usize> {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    (same < one.len().max(other.len())).then_some(same)
}

/// Returns the lines in which two states differ, as text to add.
fn different_lines(fast: &[String], slow: &[String]) -> String {
    let mut text = String::new();
    let differing = fast.iter().zip(slow).filter(|(a, b)| a != b);
    for (a, b) in differing.take(SHOWN) {
        let (a, b) = different_words(a, b);
        text += &format!("\n  fast     {a}\n  slow     {b}");
    }
    if fast.len() != slow.len() {
        text += &format!("\n  and one state has {} lines, the other {}", fast.len(), slow.len());
    } else if fast == slow {
        text += "\n  the states at that step agree: the results of the last operation differ";
    }
    text
}

/// Returns two lines about one object without their common words, except the first word.
fn different_words(a: &str, b: &str) -> (String, String) {
    let (one, other): (Vec<&str>, Vec<&str>) = (a.split(' ').collect(), b.split(' ').collect());
    if one.len() != other.len() || one[0] != other[0] {
        return (a.to_owned(), b.to_owned());
    }
    let keep = |words: &[&str]| -> String {
        let shown = words.iter().enumerate().filter(|(at, _)| *at == 0 || one[*at] != other[*at]);
        shown.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
    };
    (keep(&one), keep(&other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(all: &[&str]) -> Vec<String> {
        all.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn the_first_difference_is_found_and_a_missing_line_is_one() {
        let one = lines(&["a", "b", "c"]);
        assert_eq!(first_difference(&one, &one), None);
        assert_eq!(first_difference(&one, &lines(&["a", "x", "c"])), Some(1));
        assert_eq!(first_difference(&one, &lines(&["a", "b"])), Some(2));
        assert_eq!(first_difference(&[], &one), Some(0));
    }

    #[test]
    fn only_words_that_differ_are_shown() {
        let (a, b) =
            different_words("task1 state=recv caller=- pending=0", "task1 state=recv caller=task2 pending=0");
        assert_eq!((a.as_str(), b.as_str()), ("task1 caller=-", "task1 caller=task2"));
        let (a, _) = different_words("task1 x", "task2 x");
        assert_eq!(a, "task1 x");
    }

    #[test]
    fn a_game_keeps_its_steps_its_counts_and_its_state() {
        let mut game = Game::default();
        let report = |line: &str| Event::Report { report: Report::parse(line), line: line.to_owned() };
        for line in ["step 1 player=0", "taken fast_call=7", "done passed=1 failed=0"] {
            game.note(&report(line));
        }
        game.note(&Event::State("cpu=0".to_owned()));
        assert_eq!(game.steps, ["step 1 player=0"]);
        assert_eq!(count(&game.taken, "fast_call"), 7);
        assert_eq!(game.state, ["cpu=0"]);
    }
}
