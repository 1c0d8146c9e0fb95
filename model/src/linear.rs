//! Whether a history of system calls of several CPUs can have come about: whether there is an order of their
//! [parts](crate::parts) in which each answers what was found, and in which no call begins before another has begun that
//! was over by then.
//!
//! The search goes depth first, in the order of the stamps as long as that fits; else what the next call to end depends
//! on goes before it. States that led nowhere are remembered. Most histories fit at once. For others much depends on
//! which choice is the first, so that it begins anew with other choices, each time with more patience, and gives up after
//! a number of steps. First it leaves out what is seldom so: that a call has tried a short way in vain.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use abi::{Error, Op};

use crate::parts::{Part, Progress, Running, System};
use crate::{Args, Id};

/// Calls of one history, at most: one bit each.
pub const CALLS_MAX: usize = 128;

/// Steps of the first attempts.
const PATIENCE: u64 = 1_000;

/// States with something left to try, at most: memory is bounded.
const OPEN_MAX: usize = 400;

/// A system call that was made, and what was found.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub me: Id,
    pub op: Op,
    pub args: Args,
    /// rax, rdi, rsi, rdx, r8, r9, r10, r12 after it.
    pub found: [u64; 8],
    /// Numbers drawn right before and right after it: each greater than those drawn earlier.
    pub began: u64,
    pub ended: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Fits,
    /// There is no such order. At most so many calls fit together, and the first to end of the others is this one.
    Diverges {
        fit: usize,
        stuck: usize,
    },
    /// The search has given up.
    Undecided,
}

/// A history, and what there was before it.
pub struct History<'a> {
    pub before: &'a System,
    pub calls: &'a [Call],
    /// Bits that were on their way have arrived before calls that began after this.
    pub settled: u64,
}

#[derive(Clone)]
struct State {
    system: System,
    /// Calls that have begun and are not over.
    active: Vec<(usize, Running)>,
    done: u128,
}

/// One try.
#[derive(Clone, Copy)]
struct Attempt {
    /// Which choices go first.
    number: u64,
    /// Calls may have tried a short way in vain.
    lenient: bool,
    steps: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Move {
    Part(usize, Part),
    Arrive(usize),
}

impl Move {
    /// A number that says nothing, another one for each `salt`.
    fn shuffled(&self, salt: u64) -> u64 {
        let number = match self {
            Move::Arrive(nth) => *nth as u64,
            Move::Part(call, Part::Pick(place)) => 1000 + *call as u64 + (u64::from(place.index()) << 8),
            Move::Part(call, _) => 500 + *call as u64,
        };
        (number ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .wrapping_mul(0xd134_2543_de82_ef95)
            .rotate_left(29)
    }
}

impl History<'_> {
    /// Looks for an order, in so many steps at most.
    pub fn check(&self, limit: u64) -> Verdict {
        self.search(limit, || ()).0
    }

    /// The same, and how many steps it took. Tells before each attempt that it is still at it.
    pub fn search(&self, limit: u64, mut alive: impl FnMut()) -> (Verdict, u64) {
        assert!(self.calls.len() <= CALLS_MAX, "{} calls", self.calls.len());
        let (mut sum, mut is_strict_over) = (0, false);
        for number in 0.. {
            let lenient = number % 2 == 1;
            if is_strict_over && !lenient {
                continue;
            }
            alive();
            let steps = PATIENCE << (number / 4).min(32);
            let (verdict, steps) = self.attempt(Attempt { number, lenient, steps: steps.min(limit - sum) });
            sum += steps;
            match verdict {
                Verdict::Fits => return (verdict, sum),
                Verdict::Diverges { .. } if lenient => return (verdict, sum),
                Verdict::Diverges { .. } => is_strict_over = true,
                Verdict::Undecided if sum >= limit => return (verdict, sum),
                Verdict::Undecided => {}
            }
        }
        (Verdict::Undecided, sum)
    }

    fn attempt(&self, attempt: Attempt) -> (Verdict, u64) {
        let all = if self.calls.len() == CALLS_MAX { u128::MAX } else { (1 << self.calls.len()) - 1 };
        let mut by_end: Vec<usize> = (0..self.calls.len()).collect();
        by_end.sort_unstable_by_key(|call| self.calls[*call].ended);
        let mut state = State { system: self.before.clone(), active: Vec::new(), done: 0 };
        let mut open: Vec<(State, Vec<Move>)> = Vec::new();
        let mut seen = BTreeSet::new();
        let (mut steps, mut fit, mut stuck) = (0, 0, 0);
        loop {
            if state.done == all {
                return (Verdict::Fits, steps);
            }
            let count = state.done.count_ones() as usize;
            if count >= fit {
                fit = count;
                stuck = by_end.iter().copied().find(|call| state.done >> call & 1 == 0).unwrap_or(0);
            }
            let mut moves = self.moves(&state, &by_end, attempt);
            // Most histories need no second try; only then is it worth knowing where one has been.
            if !open.is_empty() && !seen.insert(state.digest()) {
                moves.clear();
            }
            loop {
                let Some(next) = moves.pop() else {
                    match open.pop() {
                        Some((earlier, left)) => (state, moves) = (earlier, left),
                        None => return (Verdict::Diverges { fit, stuck }, steps),
                    }
                    continue;
                };
                if steps == attempt.steps || open.len() == OPEN_MAX {
                    return (Verdict::Undecided, steps);
                }
                steps += 1;
                if !moves.is_empty() {
                    open.push((state.clone(), core::mem::take(&mut moves)));
                }
                if self.make(&mut state, next, attempt.lenient) {
                    break;
                }
                moves.clear();
            }
        }
    }

    /// What can happen next: the most likely last.
    fn moves(&self, state: &State, by_end: &[usize], attempt: Attempt) -> Vec<Move> {
        let mut moves = Vec::new();
        let arrivals = || (0..state.system.on_their_way()).map(Move::Arrive);
        let left = || by_end.iter().copied().filter(|call| state.done >> call & 1 == 0);
        // Nothing that began later than this can go before what ended then.
        let Some(bound) = left().next().map(|call| self.calls[call].ended) else { return moves };
        let on_their_way = state.system.on_their_way() > 0;
        let mut parts = Vec::new();
        let mut of = |call: usize, moves: &mut Vec<Move>| {
            parts.clear();
            match state.active.iter().find(|(it, _)| *it == call) {
                Some((_, running)) => state.system.parts(running, &mut parts),
                None if self.calls[call].began > self.settled && on_their_way => {}
                None => parts.push(Part::Next),
            }
            let is_late = self.calls[call].status() == Some(Error::Timeout);
            parts.retain(|part| match part {
                Part::Timeout => is_late,
                Part::Again => attempt.lenient,
                _ => true,
            });
            moves.extend(parts.iter().rev().map(|part| Move::Part(call, *part)));
        };
        // What is next by the stamps is tried first, be it a begin or an end; then what is under way, then what
        // could begin. The last that is pushed goes first.
        let is_active = |call: &usize| state.active.iter().any(|(it, _)| it == call);
        let end = left().next();
        let begin = left().filter(|call| !is_active(call) && self.calls[*call].began < bound);
        let begin = begin.min_by_key(|call| self.calls[*call].began).filter(|call| Some(*call) != end);
        let is_other = |call: &usize| Some(*call) != end && Some(*call) != begin;
        let others = || left().filter(|call| self.calls[*call].began < bound && is_other(call)).rev();
        others().filter(|call| !is_active(call)).for_each(|call| of(call, &mut moves));
        others().filter(is_active).for_each(|call| of(call, &mut moves));
        moves.extend(arrivals());
        let concerns = |it: &Move| match (it, end) {
            (Move::Part(call, part), Some(end)) => {
                let Call { me, op, args, .. } = &self.calls[end];
                let running = state.active.iter().find(|(it, _)| it == call);
                let places = state.system.named(*me, *op, args);
                running.is_some_and(|(_, running)| state.system.concerns(running, *part, &places))
            }
            _ => false,
        };
        // What the next to end depends on goes before the rest.
        let count = state.done.count_ones() as u64;
        let at_random =
            |it: &Move| if attempt.number < 2 { 0 } else { it.shuffled(attempt.number << 8 | count) };
        moves.sort_by_cached_key(|it| (concerns(it), at_random(it)));
        let mut next = [end, begin];
        if attempt.number % 4 > 1 {
            next.reverse();
        }
        next.into_iter().flatten().for_each(|call| of(call, &mut moves));
        moves
    }

    /// Makes a move; whether what was found agrees with it.
    fn make(&self, state: &mut State, next: Move, lenient: bool) -> bool {
        self.advance(state, next, lenient) && {
            let fits = |(call, running): &(usize, Running)| {
                state.system.answered(running).is_none_or(|answer| answer.allow(self.calls[*call].found))
            };
            state.active.iter().all(fits)
        }
    }

    fn advance(&self, state: &mut State, next: Move, lenient: bool) -> bool {
        let (call, part) = match next {
            Move::Arrive(nth) => {
                state.system.arrive(nth);
                return true;
            }
            Move::Part(call, part) => (call, part),
        };
        let it = &self.calls[call];
        let at = match state.active.iter().position(|(active, _)| *active == call) {
            Some(at) => at,
            None => {
                state.active.push((call, Running::new(it.me, it.op, it.args)));
                state.active.len() - 1
            }
        };
        let running = &mut state.active[at].1;
        let inspected = if it.op == Op::CapInspect { state.system.inspected(running) } else { None };
        match state.system.advance(running, part) {
            Progress::Going => running.can_answer(it.status(), lenient),
            Progress::Done(answer) => {
                state.active.swap_remove(at);
                state.done |= 1 << call;
                let called = inspected.is_none_or(|place| state.system.is_called(place, it.found[4]));
                answer.allow(it.found) && called
            }
        }
    }
}

impl Call {
    pub fn status(&self) -> Option<Error> {
        abi::MsgInfo(self.found[0]).status().err()
    }
}

impl State {
    fn digest(&self) -> (u64, u128) {
        let mut all = self.system.digest();
        for (call, running) in &self.active {
            all = all.wrapping_add(running.digest(*call));
        }
        (all, self.done)
    }
}
