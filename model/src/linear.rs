//! Decides whether a history of system calls of several CPUs is possible. A history is possible if
//! there is an order of the calls' [parts](crate::parts) in which each call gets its recorded
//! answer, and in which a call that ended before another one began comes before that one.
//!
//! The search goes depth first. It follows the order of the stamps as long as that fits. Otherwise
//! it first tries the parts on which the next call to end depends. If a part ends a call and
//! changes nothing, the search executes it immediately and tries no alternative. The search
//! remembers states that led nowhere. Most histories fit at the first attempt. For others the first
//! choices are decisive. So the search begins again with other choices, each time with more steps,
//! and gives up after a number of steps. The first attempts leave out rare cases: a call that gave
//! its claimed slot back and looked again, or that saw a capability which was deleted afterwards.
//! The search knows beforehand which task received which message ([`letters`]).

mod letters;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use abi::{Error, FLAG_NOTIFICATION, Op};

use crate::parts::{Part, Progress, Running, System, is_of_capability};
use crate::{Args, Id};
use letters::Letters;

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
    /// There is no such order. At most so many calls fit together, and the first to end of the
    /// others is this one.
    Diverges {
        fit: usize,
        stuck: usize,
    },
    /// The search has given up.
    Undecided,
}

/// A history, and the state before it.
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
struct Attempt<'a> {
    /// Which choices go first.
    number: u64,
    /// A call may claim a slot or look at a capability in vain, and then begin again.
    lenient: bool,
    steps: u64,
    letters: &'a Letters,
    /// Some call may change what is in a slot.
    fills: bool,
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
    /// Returns an arbitrary number, a different one for each `salt`.
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

impl Attempt<'_> {
    /// Returns whether a call that has begun continues before other calls do anything. A call that
    /// removes many capabilities enters the kernel soon after its stamp; others do their one part
    /// at any time before they end. After the first attempts chance decides: for each call, how
    /// soon its waits are over, and whether other calls hurry.
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

/// Returns whether an operation may change the contents of a slot.
fn may_fill(op: Op) -> bool {
    use Op::{Call, CapInspect, Notify, Recv, Reply, ReplyRecv, SaveReply, TaskCancel, Wait};
    !matches!(op, Call | CapInspect | Notify | Recv | Reply | ReplyRecv | SaveReply | TaskCancel | Wait)
}

/// Returns an arbitrary number that depends on `number` alone.
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

    /// Searches, and returns the verdict and the number of steps. Calls `alive` before each
    /// attempt.
    pub fn search(&self, limit: u64, mut alive: impl FnMut()) -> (Verdict, u64) {
        assert!(self.calls.len() <= CALLS_MAX, "{} calls", self.calls.len());
        let (mut sum, mut is_strict_over) = (0, false);
        let letters = &Letters::new(self.before, self.calls);
        let fills = self.calls.iter().any(|call| may_fill(call.op));
        for number in 0.. {
            let lenient = number % 2 == 1;
            if is_strict_over && !lenient {
                continue;
            }
            alive();
            let steps = PATIENCE << (number / 10).min(LONGEST);
            let (verdict, steps) =
                self.attempt(Attempt { number, lenient, steps: steps.min(limit - sum), letters, fills });
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

    fn attempt(&self, attempt: Attempt<'_>) -> (Verdict, u64) {
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
            if !open.is_empty() && !seen.insert(state.digest(attempt.fills)) {
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

    /// Returns the moves that can be made next, the most likely last.
    fn moves(&self, state: &State, by_end: &[usize], attempt: Attempt<'_>) -> Vec<Move> {
        let mut moves = Vec::new();
        let left = || by_end.iter().copied().filter(|call| state.done >> call & 1 == 0);
        // Nothing that began later than this can go before what ended then.
        let Some(bound) = left().next().map(|call| self.calls[call].ended) else { return moves };
        let end = left().next();
        // All that was on its way has arrived before what comes in the end: in which order does not
        // matter then.
        if end.is_some_and(|call| self.calls[call].began > self.settled)
            && let Some((object, bits)) = state.system.on_their_way().next()
        {
            return [Move::Arrive(object, bits.len())].into();
        }
        let candidates: Vec<usize> = left().filter(|call| self.calls[*call].began < bound).collect();
        let candidates = || candidates.iter().copied();
        if let Some(call) = candidates().find(|call| self.is_harmless(state, *call, attempt.lenient)) {
            return [Move::Part(call, Part::Next)].into();
        }
        if let Some(next) = self.sure(state, candidates(), attempt.letters) {
            return [next].into();
        }
        let is_active = |call: &usize| state.under_way(*call).is_some();
        let is_nobodys = |call: &usize| attempt.letters.is_nobodys(*call);
        let begin = candidates().filter(|call| !is_active(call) && !is_nobodys(call));
        let begin = begin.min_by_key(|call| self.calls[*call].began);
        for call in candidates() {
            self.parts_of(state, call, attempt, &mut moves);
        }
        self.arrivals(state, candidates(), attempt.letters, &mut moves);
        self.sort(state, &mut moves, [end, begin], attempt);
        moves
    }

    /// Sorts moves, the most likely last, by which call is the next to end and which the next to
    /// begin.
    fn sort(
        &self,
        state: &State,
        moves: &mut [Move],
        [end, begin]: [Option<usize>; 2],
        attempt: Attempt<'_>,
    ) {
        let is_active = |call: &usize| state.under_way(*call).is_some();
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
        let answers = end.is_some_and(|end| matches!(self.calls[end].op, Op::Reply | Op::SaveReply));
        let cancels = end.and_then(|end| self.with(state, end, System::to_cancel));
        let is_to_be_cancelled = |call: usize| {
            cancels == Some(self.calls[call].me) && self.calls[call].status() == Some(Error::Cancelled)
        };
        let rank = |it: &Move| match *it {
            Move::Arrive(..) => 1,
            Move::Message(caller) if Some(caller) == ends || state.system.sent_to(caller) == ends => 5,
            Move::Cancel(task) if Some(task) == ends => 5,
            Move::Message(..) | Move::Cancel(..) => 1,
            Move::Part(_, Part::Look) => 0,
            // Whose answer is found to be in vain waits for this. Others seldom do.
            Move::Part(call, Part::Timeout | Part::Cancelled) if Some(call) != end => {
                if answers && self.is_with(state, call, ends) { 3 } else { 0 }
            }
            Move::Part(call, _) if is_eager(call) => 6,
            Move::Part(call, _) if is_to_be_cancelled(call) => 6,
            Move::Part(call, _) if Some(call) == end => 5 - attempt.number / 2 % 2,
            Move::Part(call, _) if Some(call) == begin => 4 + attempt.number / 2 % 2,
            // What the next to end depends on goes before the rest; what is under way before what
            // is not.
            Move::Part(call, part) if concerns(call, part) => 3,
            Move::Part(call, _) if is_active(&call) => 2,
            Move::Part(..) => 0,
        };
        let salt = attempt.number << 8 | count;
        let at_random = |it: &Move| if attempt.number < 2 { 0 } else { it.shuffled(salt) };
        // The last is tried first.
        moves.reverse();
        moves.sort_by_cached_key(|it| (rank(it), at_random(it)));
    }

    /// Adds the parts that a call can do next.
    fn parts_of(&self, state: &State, call: usize, attempt: Attempt<'_>, moves: &mut Vec<Move>) {
        let mut parts = Vec::new();
        match state.under_way(call) {
            Some(it) => state.system.parts(&it.running, &mut parts),
            None => self.with(state, call, |system, running| system.parts(running, &mut parts)),
        }
        let status = self.calls[call].status();
        let can_end = self.can_end(state, call, attempt.letters);
        let looks_too_early =
            state.under_way(call).is_some_and(|it| state.system.looks_too_early(&it.running));
        parts.retain(|part| match part {
            Part::Timeout => can_end && status == Some(Error::Timeout),
            Part::Cancelled => can_end && status == Some(Error::Cancelled),
            Part::Again => attempt.lenient,
            Part::Look => attempt.lenient && !status.is_some_and(is_of_capability),
            Part::Next => !looks_too_early && self.can_leave(state, call, attempt.letters),
            Part::Pick(_) => true,
        });
        moves.extend(parts.into_iter().map(|part| Move::Part(call, part)));
    }

    /// Adds arrivals of bits. An arrival matters only if a task takes the bits next, or waits for
    /// them.
    fn arrivals(
        &self,
        state: &State,
        candidates: impl Iterator<Item = usize>,
        letters: &Letters,
        moves: &mut Vec<Move>,
    ) {
        let takes = |call: usize| {
            let object = self.with(state, call, System::takes_from)?;
            Some((object, self.calls[call].bits()?))
        };
        let takes: Vec<(Id, u64)> = candidates.filter_map(takes).collect();
        for (object, bits) in state.system.on_their_way() {
            // The task that takes them finds all bits that have arrived.
            let found = takes.iter().filter(|it| it.0 == object).map(|it| it.1);
            let most = found.map(|all| bits.iter().take_while(|it| *it & !all == 0).count()).max();
            moves.extend((1..=most.unwrap_or(0)).map(|count| Move::Arrive(object, count)));
        }
        let messages = state.system.next_to_arrive().map(|(caller, _)| caller);
        moves.extend(messages.filter(|it| self.can_arrive(state, *it, letters)).map(Move::Message));
        for it in &state.active {
            let cancelled = self.calls[it.call].status() == Some(Error::Cancelled);
            let me = it.running.me;
            if cancelled && state.system.waits(&it.running) && state.system.to_be_cancelled().contains(&me) {
                moves.push(Move::Cancel(me));
            }
        }
    }

    // --- what is known of messages ---------------------------------------------------------------

    /// Returns a move that can be made immediately without trying others, because the receiver of
    /// each message is known.
    fn sure(
        &self,
        state: &State,
        mut candidates: impl Iterator<Item = usize>,
        letters: &Letters,
    ) -> Option<Move> {
        let is_awaited = |caller: &Id| {
            let received = state.calling(*caller).and_then(|call| letters.of(call).received);
            received.is_some_and(|receive| state.under_way(receive).is_some())
        };
        let mut arriving = state.system.next_to_arrive().map(|(caller, _)| caller).filter(is_awaited);
        if let Some(caller) = arriving.find(|it| self.can_arrive(state, *it, letters)) {
            return Some(Move::Message(caller));
        }
        // What nobody received and was late has perhaps not been sent. What ends soon is in
        // nobody's way.
        candidates.find_map(|call| {
            if !letters.is_nobodys(call) {
                return None;
            }
            let part = match self.calls[call].status()? {
                Error::Timeout => Part::Timeout,
                Error::Cancelled => Part::Cancelled,
                _ => return None,
            };
            let mut parts = Vec::new();
            self.with(state, call, |system, running| system.parts(running, &mut parts));
            parts.contains(&part).then_some(Move::Part(call, part))
        })
    }

    /// Returns whether a call may end: the task that received its message has already received it.
    fn can_end(&self, state: &State, call: usize, letters: &Letters) -> bool {
        letters.of(call).received.is_none() || state.system.is_taken(self.calls[call].me)
    }

    /// Returns whether a call may begin, so that the receiver gets messages and bits in the order
    /// in which it found them.
    fn can_leave(&self, state: &State, call: usize, letters: &Letters) -> bool {
        if self.calls[call].op == Op::Notify {
            let raised = self.with(state, call, System::raises_for);
            return raised.is_none_or(|(task, bits)| self.can_raise(state, task, bits, letters));
        }
        let letter = letters.of(call);
        let Some(receive) = letter.received.filter(|_| state.under_way(call).is_none()) else { return true };
        if state.system.is_at_home(self.calls[call].me, self.calls[receive].me) {
            return self.is_next(state, call, letters);
        }
        letter.follows.is_none_or(|earlier| state.has_begun(earlier))
    }

    /// Returns whether the next receive of a task has found these bits, so that they may arrive
    /// now.
    fn can_raise(&self, state: &State, task: Id, bits: u64, letters: &Letters) -> bool {
        let next = letters.receives(task).iter().find(|it| !state.has_found(**it));
        next.is_none_or(|it| self.calls[*it].bits().is_some_and(|found| bits & !found == 0))
    }

    /// Returns whether a call's message may arrive at its receiver now: earlier messages have
    /// arrived, and earlier receives that found nothing are done.
    fn is_next(&self, state: &State, call: usize, letters: &Letters) -> bool {
        let letter = letters.of(call);
        let Some(receive) = letter.received else { return true };
        let those = letters.receives(self.calls[receive].me).iter();
        let mut vain =
            those.take_while(|it| **it != receive).filter(|it| self.calls[**it].status().is_some());
        letter.behind.is_none_or(|earlier| self.has_arrived(state, earlier))
            && vain.all(|it| state.has_found(*it))
    }

    fn can_arrive(&self, state: &State, caller: Id, letters: &Letters) -> bool {
        state.calling(caller).is_none_or(|call| self.is_next(state, call, letters))
    }

    fn has_arrived(&self, state: &State, call: usize) -> bool {
        state.has_begun(call)
            && (state.done >> call & 1 != 0 || state.system.sent_to(self.calls[call].me).is_none())
    }

    /// Returns whether a call's message is at the task `ends`, whose call is the next to end.
    fn is_with(&self, state: &State, call: usize, ends: Option<Id>) -> bool {
        ends.is_some_and(|ends| state.system.is_with(self.calls[call].me, ends))
    }

    /// Calls `ask` with the state of a call, whether it has begun or not.
    fn with<T>(&self, state: &State, call: usize, ask: impl FnOnce(&System, &Running) -> T) -> T {
        match state.under_way(call) {
            Some(it) => ask(&state.system, &it.running),
            None => {
                let Call { me, op, args, .. } = self.calls[call];
                ask(&state.system, &Running::new(me, op, args))
            }
        }
    }

    /// Returns whether a call can end now with the answer that it found, and change nothing. Then
    /// it can end immediately: everything that could have come before it can come after it.
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

    /// Makes a move. Returns whether all answers agree with those that the calls found.
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
    /// Returns the bits that a call has found, if it has found any.
    fn bits(&self) -> Option<u64> {
        let has = match self.op {
            Op::Wait => true,
            Op::Recv | Op::ReplyRecv => abi::MsgInfo(self.found[0]).has(FLAG_NOTIFICATION),
            _ => false,
        };
        (has && self.status().is_none()).then_some(self.found[3])
    }

    pub fn status(&self) -> Option<Error> {
        abi::MsgInfo(self.found[0]).status().err()
    }
}

impl State {
    /// Returns whether a call has begun. It may be over.
    fn has_begun(&self, call: usize) -> bool {
        self.done >> call & 1 != 0 || self.under_way(call).is_some()
    }

    /// Returns whether a call is over, or has its answer.
    fn has_found(&self, call: usize) -> bool {
        self.done >> call & 1 != 0
            || self.under_way(call).is_some_and(|it| self.system.answered(&it.running).is_some())
    }

    /// Returns the call that a task is making, if it makes one.
    fn calling(&self, caller: Id) -> Option<usize> {
        self.active.iter().find(|it| it.running.me == caller).map(|it| it.call)
    }

    fn under_way(&self, call: usize) -> Option<&Active> {
        self.active.iter().find(|it| it.call == call)
    }

    fn digest(&self, slots: bool) -> (u64, u128) {
        let mut all = self.system.digest(slots);
        for it in &self.active {
            all = all.wrapping_add(it.running.digest(it.call));
        }
        (all, self.done)
    }
}
