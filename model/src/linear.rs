//! Whether a history of system calls of several CPUs can have come about: whether there is an order of their
//! [parts](crate::parts) in which each answers what was found, and in which no call begins before another has begun that
//! was over by then.
//!
//! The search goes depth first, in the order of the stamps as long as that fits; else what the next call to end depends
//! on goes before it. What ends a call and changes nothing is done at once, and nothing else is tried there. States that
//! led nowhere are remembered. Most histories fit at once. For others much depends on which choice is the first, so that it begins anew with other choices, each time with more patience, and gives up after
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
/// How often that is doubled at most, since what is remembered needs memory.
const LONGEST: u64 = 5;

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
    active: Vec<Active>,
    done: u128,
}

/// A call that has begun and is not over.
#[derive(Clone)]
struct Active {
    call: usize,
    running: Running,
    /// Parts of it that were made.
    parts: u64,
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
    /// So many of the bits on their way to a Notification arrive.
    Arrive(Id, usize),
    /// The message of a caller arrives.
    Message(Id),
    /// The cancellation of a task arrives.
    Cancel(Id),
}

impl Move {
    /// A number that says nothing, another one for each `salt`.
    fn shuffled(&self, salt: u64) -> u64 {
        let number = match self {
            Move::Arrive(object, count) => 500_000 + object.0 as u64 + ((*count as u64) << 10),
            Move::Message(caller) => 700_000 + caller.0 as u64,
            Move::Cancel(task) => 800_000 + task.0 as u64,
            Move::Part(call, Part::Pick(place)) => 1000 + *call as u64 + (u64::from(place.index()) << 8),
            Move::Part(call, _) => 500 + *call as u64,
        };
        shuffle(number ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

impl Attempt {
    /// Whether a call that has begun goes on before others do anything. What removes many is an entry to the kernel soon
    /// after its stamp; others do what they do once, at any time before they end. After the first attempts it is by
    /// chance: for each call how likely it is that a wait of its is over soon, and, of others, whether they hurry.
    fn is_eager(&self, call: usize, op: Op, parts: u64, done: u64, midway: bool) -> bool {
        let removes = matches!(op, Op::CapDelete | Op::CapRevoke | Op::UntypedReset);
        if self.number < 4 {
            return self.number > 1 && midway && removes;
        }
        let nature = shuffle(self.number << 8 | call as u64);
        let chance = shuffle(nature ^ done << 16 ^ parts) >> 60;
        if midway {
            return chance < 14 && (removes || nature >> 62 & 1 == 0);
        }
        chance < [0, 2, 6, 14][(nature >> 60 & 3) as usize]
    }
}

/// A number that says nothing.
fn shuffle(number: u64) -> u64 {
    (number ^ number >> 29)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xd134_2543_de82_ef95)
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
            let steps = PATIENCE << (number / 10).min(LONGEST);
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
        let left = || by_end.iter().copied().filter(|call| state.done >> call & 1 == 0);
        // Nothing that began later than this can go before what ended then.
        let Some(bound) = left().next().map(|call| self.calls[call].ended) else { return moves };
        let end = left().next();
        // All that was on its way has arrived before what comes in the end: in which order does not matter then.
        if end.is_some_and(|call| self.calls[call].began > self.settled)
            && let Some((object, count)) = state.system.on_their_way().next()
        {
            return [Move::Arrive(object, count)].into();
        }
        let candidates = || left().filter(|call| self.calls[*call].began < bound);
        if let Some(call) = candidates().find(|call| self.is_harmless(state, *call, attempt.lenient)) {
            return [Move::Part(call, Part::Next)].into();
        }
        let is_active = |call: &usize| state.under_way(*call).is_some();
        let begin = candidates().filter(|call| !is_active(call));
        let begin = begin.min_by_key(|call| self.calls[*call].began);
        for call in candidates() {
            self.parts_of(state, call, attempt, &mut moves);
        }
        self.arrivals(state, candidates(), &mut moves);
        let places = end.map_or([None; 2], |end| {
            let Call { me, op, args, .. } = &self.calls[end];
            state.system.named(*me, *op, args)
        });
        let concerns = |call: usize, part: Part| {
            state.under_way(call).is_some_and(|it| state.system.concerns(&it.running, part, &places))
        };
        let count = u64::from(state.done.count_ones());
        let is_eager = |call: usize| match state.under_way(call) {
            Some(it) => {
                attempt.is_eager(call, it.running.op, it.parts, count, state.system.is_midway(&it.running))
            }
            None => attempt.is_eager(call, self.calls[call].op, 0, count, false),
        };
        let ends = end.map(|end| self.calls[end].me);
        let rank = |it: &Move| match *it {
            Move::Arrive(..) => 1,
            Move::Message(caller) if Some(caller) == ends || state.system.sent_to(caller) == ends => 5,
            Move::Cancel(task) if Some(task) == ends => 5,
            Move::Message(..) | Move::Cancel(..) => 1,
            Move::Part(call, Part::Timeout | Part::Cancelled) if self.is_with(state, call, ends) => 3,
            Move::Part(call, _) if is_eager(call) => 6,
            Move::Part(call, _) if Some(call) == end => 5 - attempt.number / 2 % 2,
            Move::Part(call, _) if Some(call) == begin => 4 + attempt.number / 2 % 2,
            // What the next to end depends on goes before the rest; what is under way before what is not.
            Move::Part(call, part) if concerns(call, part) => 3,
            Move::Part(call, _) if is_active(&call) => 2,
            Move::Part(..) => 0,
        };
        let salt = attempt.number << 8 | count;
        let at_random = |it: &Move| if attempt.number < 2 { 0 } else { it.shuffled(salt) };
        // The last is tried first.
        moves.reverse();
        moves.sort_by_cached_key(|it| (rank(it), at_random(it)));
        moves
    }

    /// The parts that a call can do next.
    fn parts_of(&self, state: &State, call: usize, attempt: Attempt, moves: &mut Vec<Move>) {
        let mut parts = Vec::new();
        match state.under_way(call) {
            Some(it) => state.system.parts(&it.running, &mut parts),
            None => self.with(state, call, |system, running| system.parts(running, &mut parts)),
        }
        let status = self.calls[call].status();
        parts.retain(|part| match part {
            Part::Timeout => status == Some(Error::Timeout),
            Part::Cancelled => status == Some(Error::Cancelled),
            Part::Again => attempt.lenient,
            _ => true,
        });
        moves.extend(parts.into_iter().map(|part| Move::Part(call, part)));
    }

    /// What arrives matters only where somebody takes it next, or waits for it.
    fn arrivals(&self, state: &State, candidates: impl Iterator<Item = usize>, moves: &mut Vec<Move>) {
        let takes: Vec<Id> =
            candidates.filter_map(|call| self.with(state, call, System::takes_from)).collect();
        for (object, count) in state.system.on_their_way().filter(|(object, _)| takes.contains(object)) {
            moves.extend((1..=count).map(|count| Move::Arrive(object, count)));
        }
        moves.extend(state.system.next_to_arrive().map(|(caller, _)| Move::Message(caller)));
        for it in &state.active {
            let cancelled = self.calls[it.call].status() == Some(Error::Cancelled);
            let me = it.running.me;
            if cancelled && state.system.waits(&it.running) && state.system.to_be_cancelled().contains(&me) {
                moves.push(Move::Cancel(me));
            }
        }
    }

    /// Whether a call's message is with the one whose call is the next to end.
    fn is_with(&self, state: &State, call: usize, ends: Option<Id>) -> bool {
        ends.is_some_and(|ends| state.system.is_with(self.calls[call].me, ends))
    }

    /// Asks about a call, be it under way or not.
    fn with<T>(&self, state: &State, call: usize, ask: impl FnOnce(&System, &Running) -> T) -> T {
        match state.under_way(call) {
            Some(it) => ask(&state.system, &it.running),
            None => {
                let Call { me, op, args, .. } = self.calls[call];
                ask(&state.system, &Running::new(me, op, args))
            }
        }
    }

    /// Whether a call can end now as it was found to, and change nothing by that. Then it may as well do so at once: what
    /// could have come before it can come behind it.
    fn is_harmless(&self, state: &State, call: usize, lenient: bool) -> bool {
        let it = &self.calls[call];
        let Some(answer) = self.with(state, call, |system, running| system.harmless(running, lenient)) else {
            return false;
        };
        let is_known = |place| state.system.is_known_as(place, it.found[4]);
        let place = match it.op {
            Op::CapInspect if it.status().is_none() => self.with(state, call, System::inspected),
            _ => None,
        };
        answer.allow(it.found) && place.is_none_or(is_known)
    }

    /// Makes a move; whether what was found agrees with it.
    fn make(&self, state: &mut State, next: Move, lenient: bool) -> bool {
        self.advance(state, next, lenient) && {
            let fits = |it: &Active| {
                let answer = state.system.answered(&it.running);
                answer.is_none_or(|answer| answer.allow(self.calls[it.call].found))
            };
            state.active.iter().all(fits)
        }
    }

    fn advance(&self, state: &mut State, next: Move, lenient: bool) -> bool {
        let (call, part) = match next {
            Move::Arrive(object, count) => {
                state.system.arrive(object, count);
                return true;
            }
            Move::Message(caller) => {
                state.system.deliver(caller);
                return true;
            }
            Move::Cancel(task) => {
                state.system.arrive_cancel(task);
                return true;
            }
            Move::Part(call, part) => (call, part),
        };
        let it = &self.calls[call];
        let at = match state.active.iter().position(|active| active.call == call) {
            Some(at) => at,
            None => {
                let running = Running::new(it.me, it.op, it.args);
                state.active.push(Active { call, running, parts: 0 });
                state.active.len() - 1
            }
        };
        state.active[at].parts += 1;
        let running = &mut state.active[at].running;
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
    fn under_way(&self, call: usize) -> Option<&Active> {
        self.active.iter().find(|it| it.call == call)
    }

    fn digest(&self) -> (u64, u128) {
        let mut all = self.system.digest();
        for it in &self.active {
            all = all.wrapping_add(it.running.digest(it.call));
        }
        (all, self.done)
    }
}
