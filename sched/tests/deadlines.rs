//! `DeadlineQueue` against a plain vector that is searched, and its bound on steps.

mod common;

use std::cell::Cell;

use common::{Thing, things};
use proptest::prelude::*;
use sched::deadlines::{BANDS, DeadlineBands, DeadlineLinks, DeadlineQueue, Timed, band_of};
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
    assert_eq!(queue.soonest(), expected.first().map_or(u64::MAX, |(at, _)| *at));
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
        assert!(queue.is_empty() && queue.soonest() == u64::MAX);
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
fn bands_of_high_priority_come_first() {
    let (k, things) = (pin(0), things(THINGS));
    let bands: DeadlineBands<Thing> = DeadlineBands::default();
    assert_eq!(bands.soonest(0..BANDS), u64::MAX);
    let priority = |n: usize| (n * 255 / (THINGS - 1)) as u8;
    // The lower the priority, the sooner.
    for (n, thing) in things.iter().enumerate() {
        bands.insert(k, *thing, n as u64, priority(n));
    }
    assert_eq!(bands.soonest(0..BANDS), 0);
    assert!(bands.remove(k, things[7]) && !bands.remove(k, things[7]));
    let (high, now) = (band_of(200), THINGS as u64 - 2);
    assert!(bands.soonest(high..BANDS) > bands.soonest(0..high));
    let mut last = (BANDS, 0);
    let mut count = 0;
    while let Some(thing) = bands.pop_expired(k, now, 0..BANDS) {
        let at = (band_of(priority(thing.number)), thing.number);
        assert!(at.0 < last.0 || at.0 == last.0 && at.1 > last.1, "{at:?} after {last:?}");
        (last, count) = (at, count + 1);
    }
    assert_eq!((count, bands.soonest(0..BANDS)), (THINGS - 2, THINGS as u64 - 1));
}
