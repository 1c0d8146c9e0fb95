//! Searches the states of one world, breadth-first.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use abi::Op;
use model::Id;
use model::detours::moves::{Move, moves};
use model::detours::worlds::{Cast, World};

use crate::changes::{changes, step};
use crate::rules::RULES;
use crate::state::{State, begin};

/// A change that no rule allows: which operation makes it, and what it is.
pub type Finding = (String, String);

/// The shortest way there.
#[derive(Clone, Debug)]
pub struct Way {
    pub world: World,
    pub moves: Vec<Move>,
    /// The last move's change, in full.
    pub change: String,
}

/// What a search has seen.
#[derive(Default)]
pub struct Seen {
    pub states: u64,
    pub steps: u64,
    pub findings: BTreeMap<Finding, Way>,
    /// How many changes each rule allowed that no earlier one does.
    pub used: BTreeMap<&'static str, u64>,
    /// No state is left out up to the depth.
    pub is_whole: bool,
}

impl Seen {
    pub fn add(&mut self, other: Seen) {
        self.states += other.states;
        self.steps += other.steps;
        for (finding, way) in other.findings {
            let known = self.findings.get(&finding);
            if known.is_none_or(|known| way.moves.len() < known.moves.len()) {
                self.findings.insert(finding, way);
            }
        }
        for (rule, count) in other.used {
            *self.used.entry(rule).or_default() += count;
        }
    }
}

/// A state by the way there.
struct Node {
    parent: usize,
    last: Option<Move>,
    depth: usize,
}

struct Search<'a> {
    world: &'a World,
    cast: Cast,
    start: State,
    nodes: Vec<Node>,
    digests: HashSet<u64>,
    seen: Seen,
}

/// Searches every state of a world that `depth` moves lead to. `stop`: no time is left.
pub fn search(world: &World, depth: usize, stop: &AtomicBool) -> Seen {
    let (start, cast) = begin(world);
    let digests = [start.digest()].into();
    let nodes = vec![Node { parent: 0, last: None, depth: 0 }];
    let mut it = Search { world, cast, start, nodes, digests, seen: Seen::default() };
    let mut at = 0;
    while at < it.nodes.len() && it.nodes[at].depth < depth && !stop.load(Relaxed) {
        it.expand(at, depth);
        at += 1;
    }
    it.seen.states = it.digests.len() as u64;
    it.seen.is_whole = at == it.nodes.len() || it.nodes[at].depth == depth;
    it.seen
}

/// Operations that change nothing.
fn is_look(op: Op) -> bool {
    let slots = matches!(op, Op::CapInspect | Op::CapList | Op::CapVerify);
    let others = matches!(op, Op::GroupMember | Op::SchedInfo);
    slots || others || matches!(op, Op::TaskReadRegs | Op::TaskWriteRegs | Op::TaskDebug)
}

/// Operations that may have done something where they are refused.
fn changes_in_part(op: Op) -> bool {
    let ends =
        matches!(op, Op::CapDelete | Op::CapRevoke | Op::UntypedReset | Op::ProcessKill | Op::Withdraw);
    let makes = matches!(op, Op::Retype | Op::Expose | Op::GroupAdd);
    ends || makes || matches!(op, Op::Map | Op::Protect | Op::Unmap | Op::PoolBind | Op::TaskConfigure)
}

impl Search<'_> {
    fn way(&self, mut at: usize) -> Vec<Move> {
        let mut way = Vec::new();
        while let Some(last) = self.nodes[at].last {
            way.push(last);
            at = self.nodes[at].parent;
        }
        way.reverse();
        way
    }

    /// Does every step from a state.
    fn expand(&mut self, at: usize, depth: usize) {
        let way = self.way(at);
        let mut state = self.start.clone();
        for it in &way {
            let _ = state.play(&self.cast, it);
        }
        let digest = state.digest();
        let mut next = state.clone();
        for who in 0..self.cast.tasks.len() {
            for it in moves(&state.model, &self.cast, who) {
                self.seen.steps += 1;
                let answer = next.play(&self.cast, &it);
                let is_known_to_stay = if answer.is_ok() { is_look(it.op) } else { !changes_in_part(it.op) };
                let now = if is_known_to_stay { digest } else { next.digest() };
                // The start of each world shows that what is said to change nothing does so.
                debug_assert!(!way.is_empty() || now == next.digest(), "{it:?} changes something");
                if answer.is_err() && now == digest {
                    continue;
                }
                self.judge(&state, &next, &it, &answer, &way);
                // What is as deep as the search goes need not be gone on from.
                if now != digest && self.digests.insert(now) && way.len() + 1 < depth {
                    self.nodes.push(Node { parent: at, last: Some(it), depth: way.len() + 1 });
                }
                // States that count as one may differ, as in the number of a slot.
                if !is_known_to_stay {
                    next.clone_from(&state);
                }
            }
        }
    }

    /// Whether a rule allows each change of a step.
    fn judge(&mut self, before: &State, after: &State, it: &Move, answer: &model::Result, way: &[Move]) {
        let me: Id = self.cast.tasks[it.who];
        let step = step(before, after, me, it);
        for change in changes(&step, answer) {
            if let Some(rule) = RULES.iter().find(|rule| (rule.allows)(&step, &change)) {
                *self.seen.used.entry(rule.name).or_default() += 1;
                continue;
            }
            let finding = (format!("{:?}", it.op), change.name());
            let known = self.seen.findings.get(&finding);
            if known.is_none_or(|known| known.moves.len() > way.len() + 1) {
                let moves = [way, &[*it]].concat();
                let found = Way { world: self.world.clone(), moves, change: change.to_string() };
                self.seen.findings.insert(finding, found);
            }
        }
    }
}
