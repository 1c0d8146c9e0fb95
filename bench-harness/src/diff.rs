//! The differential test: kernels with and without fastpaths must reach the same state by the same
//! operations.
//!
//! Each seed is a game that the guest plays with `run=diff`: random operations of a dozen tasks,
//! and before most of them a snapshot of the kernel's state and a report line with the results of
//! the last operation. Both kernels play it under icount. Their lines and the
//! [texts](crate::state) of their states must be equal; if they are not, the first difference is
//! printed.
//!
//! A game tests a fastpath only if the fastpath was taken, and a check only if the check failed.
//! Both are counted over all games together.

use std::collections::BTreeMap;
use std::mem::take;
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

/// Plays all games. Each seed is a test, and one more is that the games took the fast paths.
pub fn diff(lab: &Lab, wanted: &Wanted) -> Result<Tally> {
    let mut tally = Tally::default();
    let (mut steps, mut taken) = (0, BTreeMap::new());
    for seed in (0..wanted.seeds).map(|n| wanted.seed.wrapping_add(n)) {
        let (with, without) = play_both(lab, seed, wanted.steps)?;
        steps += with.steps.len();
        for (name, count) in &with.taken {
            *taken.entry(name.clone()).or_insert(0) += count;
        }
        let differences = explain(seed, &with, &without);
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

/// Plays one game on both kernels. Returns what was different, if anything was.
pub fn game(lab: &Lab, seed: u32, steps: u32) -> Result<Option<String>> {
    let (with, without) = play_both(lab, seed, steps)?;
    Ok(explain(seed, &with, &without))
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
    steps: Vec<Step>,
    taken: BTreeMap<String, u64>,
    /// The last state, which belongs to the next step.
    state: Vec<String>,
}

/// A report of a step, and the state before it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Step {
    line: String,
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
        lanes::side_by_side(&[WITH, WITHOUT], |variant| play(lab, variant, seed, steps)).into_iter();
    let mut next = || games.next().context("a game of each")?;
    Ok((next()?, next()?))
}

/// Returns the boot for a game.
pub fn job(variant: &str, seed: u32, steps: u32) -> Job {
    Job {
        // Not the seed: a game's output has tens of megabytes.
        label: format!("diff-{variant}"),
        variant: variant.to_owned(),
        command_line: format!("run=diff seed={seed} steps={steps}"),
        mode: Mode::Icount,
        cpus: 1,
        counted: None,
        limit: LIMIT,
    }
}

fn play(lab: &Lab, variant: &str, seed: u32, steps: u32) -> Result<Game> {
    let job = job(variant, seed, steps);
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
            Event::State(lines) => self.state.clone_from(lines),
            Event::Report { line, report: Report::Other(_) } => {
                if line.starts_with("step ") {
                    self.steps.push(Step { line: line.clone(), state: take(&mut self.state) });
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
        if let Some(step) = self.steps.iter().find(|step| step.state.is_empty()) {
            let text = format!("{}: the state is missing before: {}", session.label, step.line);
            return Err(Trouble::CheckFailed(text));
        }
        Ok(())
    }
}

/// Explains the first difference of two games, if there is one.
fn explain(seed: u32, with: &Game, without: &Game) -> Option<String> {
    let strays: Vec<&str> =
        without.taken.iter().filter(|(_, count)| **count > 0).map(|(name, _)| name.as_str()).collect();
    if !strays.is_empty() {
        return Some(format!("seed {seed}: the kernel without fastpaths counts {}", strays.join(", ")));
    }
    let at = first_difference(&with.steps, &without.steps)?;
    let mut text = format!("seed {seed}: the kernels differ at line {} of {}", at + 1, with.steps.len());
    for step in &with.steps[at.saturating_sub(BEFORE)..at.min(with.steps.len())] {
        text += &format!("\n  both     {}", step.line);
    }
    for (which, game) in [("fast", with), ("slow", without)] {
        text += &format!("\n  {which}     {}", game.steps.get(at).map_or("(nothing)", |step| &step.line));
    }
    if let (Some(fast), Some(slow)) = (with.steps.get(at), without.steps.get(at)) {
        text += &different_lines(&fast.state, &slow.state);
    }
    Some(text)
}

fn first_difference(one: &[Step], other: &[Step]) -> Option<usize> {
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

/// States to which the guest has given names: `state NAME`, behind each. Equal names are of equal
/// states, and all others differ.
#[derive(Default, Debug)]
pub struct Named {
    states: Vec<(String, Vec<String>)>,
    last: Vec<String>,
}

impl Named {
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::State(lines) => self.last.clone_from(lines),
            Event::Report { line, .. } => {
                if let Some(name) = line.strip_prefix("state ") {
                    self.states.push((name.to_owned(), take(&mut self.last)));
                }
            }
            _ => {}
        }
    }

    /// Returns which states are not as their names say, if there are such.
    pub fn disagree(&self) -> Option<String> {
        if self.states.is_empty() {
            return Some("the guest named no state".to_owned());
        }
        for (at, (name, state)) in self.states.iter().enumerate() {
            if state.is_empty() {
                return Some(format!("{name} has no state"));
            }
            for (other, before) in &self.states[..at] {
                if (name == other) != (state == before) {
                    let what = if name == other { "twice, and not the same" } else { "the same" };
                    return Some(format!("{other} and {name}: {what}{}", different_lines(before, state)));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(all: &[&str]) -> Vec<String> {
        all.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn the_first_difference_is_found_and_a_missing_step_is_one() {
        let steps = |all: &[(&str, &str)]| -> Vec<Step> {
            let step =
                |(line, state): &(&str, &str)| Step { line: (*line).to_owned(), state: lines(&[state]) };
            all.iter().map(step).collect()
        };
        let one = steps(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(first_difference(&one, &one), None);
        assert_eq!(first_difference(&one, &steps(&[("a", "1"), ("x", "2"), ("c", "3")])), Some(1));
        assert_eq!(first_difference(&one, &steps(&[("a", "1"), ("b", "x"), ("c", "3")])), Some(1));
        assert_eq!(first_difference(&one, &one[..2]), Some(2));
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
    fn states_are_as_their_names_say() {
        let named = |all: &[(&str, &str)]| {
            let mut named = Named::default();
            for (name, state) in all {
                named.note(&Event::State(lines(&[state])));
                let line = format!("state {name}");
                named.note(&Event::Report { report: Report::parse(&line), line });
            }
            named.disagree()
        };
        assert_eq!(named(&[("a", "1"), ("b", "2"), ("a", "1")]), None);
        assert!(named(&[]).is_some());
        assert!(named(&[("a", "1"), ("b", "1")]).is_some_and(|why| why.starts_with("a and b: the same")));
        assert!(named(&[("a", "1"), ("a", "2")]).is_some_and(|why| why.contains("not the same")));
    }

    #[test]
    fn a_game_keeps_its_steps_with_their_states_and_its_counts() {
        let mut game = Game::default();
        let report = |line: &str| Event::Report { report: Report::parse(line), line: line.to_owned() };
        game.note(&Event::State(lines(&["cpu=0"])));
        for line in ["step 1 player=0", "step 2 player=1", "taken fast_call=7", "done passed=1 failed=0"] {
            game.note(&report(line));
        }
        let step = |line: &str, state: &[&str]| Step { line: line.to_owned(), state: lines(state) };
        assert_eq!(game.steps, [step("step 1 player=0", &["cpu=0"]), step("step 2 player=1", &[])]);
        assert_eq!(count(&game.taken, "fast_call"), 7);
    }
}
