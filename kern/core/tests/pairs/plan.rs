//! Lists all cases, and selects those that a run plays.

use std::collections::{BTreeMap, BTreeSet};

use abi::Error;

use crate::cast::{Role, relation};
use crate::deeds::{self, BYS, By, Deed, What};
use crate::orders::Said;
use crate::play::{Outcome, alone, missing, uses_of, usual};
use crate::states::{STATES, State};
use crate::words::{Names, Touched, Words};

/// What the command line says.
#[derive(Clone)]
pub struct Options {
    pub whole: bool,
    /// Stop at the first violation.
    pub first: bool,
    pub seed: u64,
    pub cases: usize,
    pub chains: u64,
    pub only: Vec<Wanted>,
    pub at: Option<usize>,
    pub entries: Option<usize>,
    pub state: Option<State>,
    pub list: Option<String>,
    pub alone: Option<String>,
    pub threads: usize,
}

impl Options {
    pub fn parse(words: &[String]) -> Result<Options, String> {
        let mut options = Options {
            whole: false,
            first: false,
            seed: 1,
            cases: 70_000,
            chains: 40,
            only: Vec::new(),
            at: None,
            entries: None,
            state: None,
            list: None,
            alone: None,
            threads: 2,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if let Some(flag) = options.flag(word) {
                *flag = true;
                continue;
            }
            let value = words.next().ok_or(format!("{word} wants a value, or is no option"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{word} wants a number, not {value}"));
            match word.as_str() {
                "--seed" => options.seed = number()?,
                "--cases" => options.cases = number()? as usize,
                "--chains" => options.chains = number()?.min(100),
                "--at" => options.at = Some(number()? as usize),
                "--entries" => options.entries = Some((number()? as usize).max(1)),
                "--threads" => options.threads = (number()? as usize).max(1),
                "--alone" => options.alone = Some(value.clone()),
                "--list" => options.list = Some(value.clone()),
                "--only" => options.only = value.split('/').map(Wanted::parse).collect::<Result<_, _>>()?,
                "--limits" => check_limits(value)?,
                "--state" => {
                    let state = STATES.into_iter().find(|state| format!("{state:?}") == *value);
                    options.state = Some(state.ok_or(format!("there is no state {value}"))?);
                }
                _ => return Err(format!("there is no option {word}")),
            }
        }
        Ok(options)
    }

    /// What an option without a value sets.
    fn flag(&mut self, word: &str) -> Option<&mut bool> {
        match word {
            "--whole" => Some(&mut self.whole),
            "--first" => Some(&mut self.first),
            _ => None,
        }
    }

    /// Whether an operation in this place of a case is asked for: by its name, or by a part of it
    /// where none has that name.
    pub fn takes(&self, place: usize, deed: &Deed) -> bool {
        self.only.get(place).is_none_or(|wanted| wanted.takes(deed))
    }
}

/// An operation that is asked for.
#[derive(Clone)]
pub struct Wanted {
    words: String,
    /// That is the name of one, and not a part of names.
    is_name: bool,
}

impl Wanted {
    fn parse(words: &str) -> Result<Wanted, String> {
        let wanted =
            Wanted { words: words.into(), is_name: deeds::all().iter().any(|deed| deed.name == words) };
        match deeds::all().iter().any(|deed| wanted.takes(deed)) {
            true => Ok(wanted),
            false => Err(format!("no operation's name contains \"{words}\"; deeds.rs has them all")),
        }
    }

    fn takes(&self, deed: &Deed) -> bool {
        if self.is_name { deed.name == self.words } else { deed.name.contains(&self.words) }
    }
}

/// Which bounds the kernel of this build has.
pub const LIMITS: &str = if cfg!(feature = "small-limits") { "small" } else { "normal" };

/// Checks the value of `--limits`.
fn check_limits(value: &str) -> Result<(), String> {
    match value {
        _ if value == LIMITS => Ok(()),
        "small" | "normal" => Err(format!("this build has {LIMITS} limits: `./justw pairs` makes the other")),
        _ => Err(format!("--limits wants small or normal, not {value}")),
    }
}

/// Two operations and one of the relations of what they have to do with.
pub type Triple = (&'static str, &'static str, &'static str);

/// A pair of operations in a state, and the points of the first at which it can stop.
pub struct Pair {
    pub state: State,
    pub first: usize,
    pub second: usize,
    pub points: Vec<usize>,
    /// Those of them between two of its kernel entries.
    pub breaks: Vec<usize>,
    /// Points before the use of a word that the second changes, or before the change of one that it
    /// uses.
    pub conflicts: Vec<usize>,
    /// Kernel entries of the second, where it is alone.
    pub entries: usize,
    /// What both have to do with.
    pub both: Vec<Role>,
    pub relations: BTreeSet<&'static str>,
}

pub struct Plan {
    pub deeds: Vec<Deed>,
    pub pairs: Vec<Pair>,
    /// Operations that reach no point in a state, and why.
    pub idle: Vec<(State, &'static str, Said)>,
    /// The words that an entry writes whatever it does, by who does it.
    usual: BTreeMap<(State, By), Words>,
    /// What operations are refused with alone, the last time; `None`: they are not always.
    refused: BTreeMap<&'static str, Option<Error>>,
}

/// The relations of what two operations have to do with.
fn relations(first: &Deed, second: &Deed) -> BTreeSet<&'static str> {
    let same = first.of.iter().flat_map(|one| second.of.iter().filter_map(|other| relation(*one, *other)));
    let by_hand = first.by == By::Hand && second.of.contains(&Role::FirstHand);
    same.chain(by_hand.then_some("whoever does it")).collect()
}

/// What each operation does to shared words, when a case begins so, and how many kernel entries it
/// takes.
fn touched(state: State, deeds: &[Deed], names: &mut Names) -> Result<Vec<(Touched, usize)>, String> {
    let of = |deed: &Deed| {
        if !deed.can(state) {
            return Ok(Default::default());
        }
        let (uses, entries) = uses_of(state, deed, names).map_err(|why| wrong_alone(state, deed, &why))?;
        Ok((Touched::new(&uses), entries))
    };
    deeds.iter().map(of).collect()
}

fn wrong_alone(state: State, deed: &Deed, why: &str) -> String {
    format!("{} alone, in {state:?}: {why}", deed.name)
}

impl Plan {
    /// Plays each operation alone to learn its points. `Err`: one that goes wrong by itself.
    pub fn make(options: &Options) -> Result<Plan, String> {
        let mut plan = Plan {
            deeds: deeds::all(),
            pairs: Vec::new(),
            idle: Vec::new(),
            usual: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        let mut names = Names::default();
        let asked = |state: &State| options.state.map_or(state.is_usual(), |only| only == *state);
        for state in STATES.into_iter().filter(asked) {
            let touched = touched(state, &plan.deeds, &mut names)?;
            for by in BYS.into_iter().filter(|by| by.can(state)) {
                plan.usual.insert((state, by), usual(state, by)?);
            }
            for first in 0..plan.deeds.len() {
                let deed = plan.deeds[first];
                if !options.takes(0, &deed) || !deed.can(state) {
                    continue;
                }
                let outcome =
                    alone(state, &deed, &mut names).map_err(|why| wrong_alone(state, &deed, &why))?;
                plan.note_answer(&deed, outcome.said[0]);
                if outcome.points.is_empty() {
                    plan.idle.push((state, deed.name, outcome.said[0]));
                    continue;
                }
                let others = (0..plan.deeds.len()).filter(|second| options.takes(1, &plan.deeds[*second]));
                let with = |second: usize| plan.pair(state, (first, second), &outcome, &touched[second]);
                let pairs: Vec<Pair> = others.filter_map(with).collect();
                plan.pairs.extend(pairs);
            }
        }
        if options.state.is_none() && options.only.is_empty() {
            plan.sense()?;
        }
        Ok(plan)
    }

    fn note_answer(&mut self, deed: &Deed, answer: Said) {
        let refused = if let Said::Refused(error) = answer { Some(error) } else { None };
        let before = self.refused.entry(deed.name).or_insert(refused);
        *before = before.and(refused);
    }

    /// Whether operations do what they are there for: each operation of the kernel is among them,
    /// and what is always refused is known to be.
    fn sense(&self) -> Result<(), String> {
        let missing = missing();
        if !missing.is_empty() {
            return Err(format!("no operation does {missing:?}"));
        }
        let known = |name: &&str| {
            deeds::REFUSED.contains(name)
                || cfg!(feature = "small-limits") && deeds::REFUSED_SMALL.contains(name)
        };
        for (name, refused) in &self.refused {
            match refused {
                Some(error) if !known(name) => {
                    return Err(format!("{name} alone is refused in all states: {error:?}"));
                }
                None if known(name) => return Err(format!("{name} alone is not refused")),
                _ => {}
            }
        }
        Ok(())
    }

    /// Two operations as a pair; `None` where they cannot be done at the same time, or have nothing
    /// to do with each other. `outcome` is of the first alone, `touched` and the number of entries
    /// of the second.
    fn pair(
        &self,
        state: State,
        (first, second): (usize, usize),
        outcome: &Outcome,
        (touched, entries): &(Touched, usize),
    ) -> Option<Pair> {
        let (deed, other) = (&self.deeds[first], &self.deeds[second]);
        let relations = relations(deed, other);
        if !fits(state, deed, other) || relations.is_empty() {
            return None;
        }
        let both = deed.of.iter().filter(|role| other.of.contains(role)).copied().collect();
        let (points, breaks) = (outcome.points.clone(), outcome.breaks.clone());
        let mut conflicts = touched.conflicts(&outcome.uses);
        if matches!(other.what, What::Mail | What::Timer) {
            // What these do depends on how far the first has come.
            conflicts.extend(&breaks);
        }
        Some(Pair { state, first, second, points, breaks, conflicts, entries: *entries, both, relations })
    }

    /// What the second operation of a pair writes whatever it does.
    pub fn usual(&self, pair: &Pair) -> &Words {
        &self.usual[&(pair.state, self.deeds[pair.second].by)]
    }

    /// All triples that the pairs have.
    pub fn triples(&self) -> BTreeSet<Triple> {
        let of = |pair: &Pair| {
            let names = (self.deeds[pair.first].name, self.deeds[pair.second].name);
            pair.relations.iter().map(move |relation| (names.0, names.1, *relation)).collect::<Vec<_>>()
        };
        self.pairs.iter().flat_map(of).collect()
    }
}

/// Whether two operations can be done at the same time: by different tasks, on different CPUs.
fn fits(state: State, first: &Deed, second: &Deed) -> bool {
    let cpu = first.by.cpu().unwrap_or(0);
    let about = !state.has_large() || first.names(&[Role::Large]) || second.names(&[Role::Large]);
    about && second.can(state) && second.by.cpu().is_none_or(|other| other != cpu)
}
