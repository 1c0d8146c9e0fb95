//! `DeadlineQueue` against a plain vector that is searched, and its bound on steps.

mod common;

use std::cell::Cell;

use common::{Thing, things};
use proptest::prelude::*;
use sched::deadlines::{DeadlineLinks, DeadlineQueue, Deadlines, Expired, PRIORITIES, Timed};
use smp::cpu::Pin;
use smp::door::Ref;
use smp::host_test::{leak, pin};

const THINGS: usize = 40;

#[derive(Debug, Clone)]
enum Op {
    Insert(usize, u64),
    Remove(usize),
    Expire(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (thing, time) = (0..THINGS, prop_oneof![0..20u64, 0..1000u64, any::<u64>()]);
    prop_oneof![
        5 => (thing.clone(), time.clone()).prop_map(|(t, at)| Op::Insert(t, at)),
        3 => thing.prop_map(Op::Remove),
        1 => time.prop_map(Op::Expire),
    ]
}

/// Returns the deadlines and numbers of the things in a subtree, by its links.
fn tree(root: u64, things: &[Ref<'static, Thing>]) -> Vec<(u64, usize)> {
    let Some(thing) = things.iter().find(|thing| thing.addr() == root) else { return Vec::new() };
    let ([_, left, right], deadline, _) = thing.deadline_links(pin(0)).survey();
    [vec![(deadline, thing.number)], tree(left, things), tree(right, things)].concat()
}

fn check(queue: &DeadlineQueue<Thing>, things: &[Ref<'static, Thing>], model: &[(u64, usize)]) {
    let k = pin(0);
    let mut all = tree(queue.root_addr(), things);
    let mut expected = model.to_vec();
    all.sort();
    expected.sort();
    assert_eq!(all, expected);
    assert_eq!(queue.soonest(k), expected.first().map_or(u64::MAX, |(at, _)| *at));
    assert_eq!(queue.is_empty(), expected.is_empty());
    let first = queue.first(k).and_then(|t| t.deadline_links(k).deadline());
    assert_eq!(first, expected.first().map(|(at, _)| *at));
}

proptest! {
    #[test]
    fn behaves_as_the_model(ops in prop::collection::vec(op(), 0..300)) {
        let (k, things) = (pin(0), things(THINGS));
        let queue: DeadlineQueue<Thing> = DeadlineQueue::default();
        let mut model: Vec<(u64, usize)> = Vec::new();
        for op in ops {
            match op {
                Op::Insert(t, at) if model.iter().all(|(_, other)| *other != t) => {
                    queue.insert(k, things[t], at);
                    model.push((at, t));
                }
                Op::Insert(t, _) => prop_assert!(things[t].deadline_links(k).is_queued()),
                Op::Remove(t) => {
                    let held = model.iter().any(|(_, other)| *other == t);
                    model.retain(|(_, other)| *other != t);
                    prop_assert_eq!(queue.remove(k, things[t]), held);
                }
                Op::Expire(now) => {
                    let mut last = 0;
                    while let Some(t) = queue.pop_expired(k, now) {
                        let i = model.iter().position(|(_, other)| *other == t.number).expect("queued");
                        let (at, _) = model.remove(i);
                        prop_assert!(last <= at && at <= now, "expired out of turn");
                        last = at;
                    }
                    prop_assert!(model.iter().all(|(at, _)| *at > now), "some are overdue");
                }
            }
            check(&queue, &things, &model);
        }
    }
}

/// Counts how often its links are looked at: the steps of an operation.
struct Counted {
    links: DeadlineLinks<Counted>,
}

thread_local!(static LOOKS: Cell<usize> = const { Cell::new(0) });

impl Timed for Counted {
    fn deadline_links<'a>(&'a self, _pin: Pin<'a>) -> &'a DeadlineLinks<Self> {
        LOOKS.set(LOOKS.get() + 1);
        &self.links
    }
}

/// At most this many looks for 2^12 deadlines: 2 × 13 steps down, as many up, six looks a step.
const BOUND: usize = 4 * 13 * 6;

fn looks(what: &str, f: impl FnOnce()) {
    LOOKS.set(0);
    f();
    assert!(LOOKS.get() <= BOUND, "{} looks to {what}", LOOKS.get());
}

#[test]
fn every_single_operation_is_bounded() {
    type Order = fn(u64) -> u64;
    let orders: [Order; 4] = [|n| n, |n| u64::MAX - n, |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15), |n| n % 3];
    for order in orders {
        let (k, queue) = (pin(0), DeadlineQueue::default());
        let items: Vec<_> = (0..4096).map(|_| leak(Counted { links: DeadlineLinks::default() })).collect();
        for (n, item) in items.iter().enumerate() {
            looks("insert", || queue.insert(k, *item, order(n as u64)));
        }
        for item in items.iter().skip(5).step_by(3) {
            looks("remove", || assert!(queue.remove(k, *item)));
        }
        let mut last = 0;
        while let Some(first) = queue.first(k) {
            let at = first.deadline_links(k).deadline().expect("queued");
            assert!(last <= at);
            last = at;
            looks("expire", || assert!(queue.pop_expired(k, u64::MAX) == Some(first)));
        }
        assert!(queue.is_empty() && queue.soonest(k) == u64::MAX);
    }
}

#[test]
#[should_panic(expected = "deadline 8 set while deadline 4 stands")]
fn two_deadlines_are_refused() {
    let (k, thing) = (pin(0), things(1)[0]);
    let queue = DeadlineQueue::default();
    queue.insert(k, thing, 4);
    queue.insert(k, thing, 8);
}

#[test]
fn high_priorities_come_first() {
    let (k, things) = (pin(0), things(THINGS));
    let deadlines: Deadlines<Thing> = Deadlines::default();
    let soonest = |priorities| deadlines.soonest(k, priorities);
    assert_eq!(soonest(0..PRIORITIES), u64::MAX);
    // Pairs of neighbours, in all bands. The lower the priority, the sooner.
    let priority = |n: usize| (n / 2 * 255 / (THINGS / 2 - 1)) as u8;
    for (n, thing) in things.iter().enumerate() {
        deadlines.insert(k, *thing, n as u64, priority(n));
    }
    assert_eq!(soonest(0..PRIORITIES), 0);
    assert!(deadlines.remove(k, things[7]) && !deadlines.remove(k, things[7]));
    let middle = usize::from(priority(31));
    assert_eq!((soonest(0..middle), soonest(middle..PRIORITIES)), (0, 30));
    let now = THINGS as u64 - 2;
    let expired: Vec<usize> =
        std::iter::from_fn(|| deadlines.pop_expired(k, now, 0..PRIORITIES).map(|it| it.0))
            .map(|thing| thing.number)
            .collect();
    let pairs = (0..THINGS / 2).rev().flat_map(|pair| [2 * pair, 2 * pair + 1]);
    assert_eq!(expired, pairs.filter(|n| *n != 7 && *n as u64 <= now).collect::<Vec<_>>());
    assert_eq!(soonest(0..PRIORITIES), THINGS as u64 - 1);
}

proptest! {
    /// All priorities against a plain vector that is searched.
    #[test]
    fn priorities_behave_as_the_model(
        ops in prop::collection::vec(
            (op(), any::<u8>(), 0..=PRIORITIES, 0..=PRIORITIES, any::<bool>()),
            0..300,
        ),
    ) {
        let (k, things) = (pin(0), things(THINGS));
        let deadlines: Deadlines<Thing> = Deadlines::default();
        let mut model: Vec<(usize, u64, usize)> = Vec::new();
        for (op, priority, one, other, asks) in ops {
            let range = one.min(other)..one.max(other);
            match op {
                Op::Insert(t, at) if model.iter().all(|(_, _, other)| *other != t) => {
                    deadlines.insert(k, things[t], at, priority);
                    model.push((usize::from(priority), at, t));
                }
                Op::Insert(..) => {}
                Op::Remove(t) => {
                    let held = model.iter().any(|(_, _, other)| *other == t);
                    model.retain(|(_, _, other)| *other != t);
                    prop_assert_eq!(deadlines.remove(k, things[t]), held);
                }
                Op::Expire(now) if asks && deadlines.bound() <= now => {
                    let due: Vec<_> = model.iter().filter(|(_, at, _)| *at <= now).copied().collect();
                    match (deadlines.expired(k, now), due.as_slice()) {
                        (Expired::None, []) => prop_assert!(deadlines.bound() > now),
                        (Expired::Next(next), [(p, at, t)]) => {
                            prop_assert_eq!(next.number, *t);
                            deadlines.take_next(k, next);
                            model.retain(|it| it != &(*p, *at, *t));
                            prop_assert!(deadlines.bound() > now);
                        }
                        (Expired::Several, [_, _, ..]) => {}
                        _ => prop_assert!(false, "{} have passed", due.len()),
                    }
                }
                Op::Expire(now) => loop {
                    let due = model.iter().filter(|(p, at, _)| range.contains(p) && *at <= now);
                    let best = due.map(|(p, at, _)| (*p, std::cmp::Reverse(*at))).max();
                    prop_assert_eq!(deadlines.best_expired(k, now, range.clone()), best.map(|(p, _)| p));
                    let Some((t, _)) = deadlines.pop_expired(k, now, range.clone()) else { break };
                    let i = model.iter().position(|(_, _, other)| *other == t.number).expect("set");
                    let (p, at, _) = model.remove(i);
                    prop_assert_eq!(Some((p, std::cmp::Reverse(at))), best);
                },
            }
            if let Op::Expire(now) = op && deadlines.best_expired(k, now, 0..PRIORITIES).is_none() {
                prop_assert!(deadlines.bound() > now, "the timer would fire forever");
            }
            let soonest = |range: &std::ops::Range<usize>| {
                let its = model.iter().filter(|(p, ..)| range.contains(p));
                its.map(|(_, at, _)| *at).min().unwrap_or(u64::MAX)
            };
            prop_assert!(deadlines.bound() <= soonest(&(0..PRIORITIES)));
            // A question for all priorities corrects what the bands say: not always.
            if asks {
                prop_assert_eq!(deadlines.soonest(k, range.clone()), soonest(&range));
                prop_assert_eq!(deadlines.soonest(k, 0..PRIORITIES), soonest(&(0..PRIORITIES)));
            }
        }
    }
}
