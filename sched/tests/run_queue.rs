//! `RunQueue` against a plain vector that is searched.

mod common;

use common::{Thing, things};
use proptest::prelude::*;
use sched::run_queue::{Queued, RunQueue};
use smp::door::Ref;
use smp::host_test::pin;

const THINGS: usize = 24;

#[derive(Debug, Clone)]
enum Op {
    PushBack(usize, u8),
    PushFront(usize, u8),
    Remove(usize),
    ChangePriority(usize, u8),
    Pop,
}

/// Returns few priorities, so that classes fill, including the ends and the borders of the bitmap's
/// words.
fn priority() -> impl Strategy<Value = u8> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(63),
        Just(64),
        Just(127),
        Just(128),
        Just(191),
        Just(192),
        Just(255),
        any::<u8>()
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let thing = 0..THINGS;
    prop_oneof![
        4 => (thing.clone(), priority()).prop_map(|(t, p)| Op::PushBack(t, p)),
        2 => (thing.clone(), priority()).prop_map(|(t, p)| Op::PushFront(t, p)),
        2 => thing.clone().prop_map(Op::Remove),
        1 => (thing, priority()).prop_map(|(t, p)| Op::ChangePriority(t, p)),
        3 => Just(Op::Pop),
    ]
}

/// In the order in which they would run.
#[derive(Default)]
struct Model(Vec<(u8, usize)>);

impl Model {
    fn holds(&self, thing: usize) -> bool {
        self.0.iter().any(|(_, t)| *t == thing)
    }

    fn push_back(&mut self, thing: usize, priority: u8) {
        let at = self.0.iter().position(|(p, _)| *p < priority).unwrap_or(self.0.len());
        self.0.insert(at, (priority, thing));
    }

    fn push_front(&mut self, thing: usize, priority: u8) {
        let at = self.0.iter().position(|(p, _)| *p <= priority).unwrap_or(self.0.len());
        self.0.insert(at, (priority, thing));
    }

    fn remove(&mut self, thing: usize) -> bool {
        let held = self.holds(thing);
        self.0.retain(|(_, t)| *t != thing);
        held
    }

    fn pop(&mut self) -> Option<usize> {
        (!self.0.is_empty()).then(|| self.0.remove(0).1)
    }
}

/// Returns the priorities and numbers of all queued things, in the order in which they would run:
/// the front, then each class by its links.
fn order(queue: &RunQueue<Thing>, things: &[Ref<'static, Thing>]) -> Vec<(u8, usize)> {
    let at = |addr| things.iter().find(|thing| thing.addr() == addr);
    let next = |thing: &&Ref<'static, Thing>| at(thing.run_links(pin(0)).survey().0);
    let front = at(queue.survey().0).map(|thing| (thing.run_links(pin(0)).priority(), thing));
    let classes = (0..=u8::MAX).rev().flat_map(|priority| {
        std::iter::successors(at(queue.ends(priority)[0]), next).map(move |thing| (Some(priority), thing))
    });
    let all = front.into_iter().chain(classes);
    all.map(|(priority, thing)| (priority.expect("it is queued"), thing.number)).collect()
}

fn check(queue: &RunQueue<Thing>, things: &[Ref<'static, Thing>], model: &Model) {
    let k = pin(0);
    assert_eq!(order(queue, things), model.0);
    let top = model.0.first().map(|(p, _)| *p);
    assert_eq!(queue.is_empty(), top.is_none());
    for p in [0, 1, 63, 64, 128, 254, 255] {
        assert_eq!(queue.outranks(k, p), top.is_some_and(|top| top > p));
        assert_eq!(queue.has_at_least(k, p), top.is_some_and(|top| top >= p));
    }
}

proptest! {
    #[test]
    fn behaves_as_the_model(ops in prop::collection::vec(op(), 0..200)) {
        let (k, things) = (pin(0), things(THINGS));
        let (queue, mut model) = (RunQueue::default(), Model::default());
        for op in ops {
            match op {
                Op::PushBack(t, p) if !model.holds(t) => {
                    queue.push_back(k, things[t], p);
                    model.push_back(t, p);
                }
                Op::PushFront(t, p) if !model.holds(t) => {
                    queue.push_front(k, things[t], p);
                    model.push_front(t, p);
                }
                Op::PushBack(t, _) | Op::PushFront(t, _) => prop_assert!(queue.contains(k, things[t])),
                Op::Remove(t) => prop_assert_eq!(queue.remove(k, things[t]), model.remove(t)),
                Op::ChangePriority(t, p) => {
                    let held = model.remove(t);
                    if held {
                        model.push_back(t, p);
                    }
                    prop_assert_eq!(queue.change_priority(k, things[t], p), held);
                }
                Op::Pop => prop_assert_eq!(queue.pop_highest(k).map(|t| t.number), model.pop()),
            }
            check(&queue, &things, &model);
            for thing in &things {
                let place = model.0.iter().find(|(_, t)| *t == thing.number).map(|(p, _)| *p);
                prop_assert_eq!(thing.run_links(k).priority(), place);
                prop_assert_eq!(queue.contains(k, *thing), place.is_some());
            }
        }
    }
}

#[test]
fn every_priority_is_found() {
    let (k, things) = (pin(0), things(256));
    let queue = RunQueue::default();
    for thing in &things {
        queue.push_back(k, *thing, thing.number as u8);
    }
    for number in (0..256).rev() {
        assert_eq!(queue.pop_highest(k).map(|t| t.number), Some(number));
    }
    assert!(queue.is_empty() && queue.pop_highest(k).is_none());
}

#[test]
#[should_panic(expected = "queued for priority 9 while it waits at priority 3")]
fn queueing_twice_is_refused() {
    let (k, thing) = (pin(0), things(1)[0]);
    let queue = RunQueue::default();
    queue.push_back(k, thing, 3);
    queue.push_front(k, thing, 9);
}
