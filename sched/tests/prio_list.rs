//! `PrioList` against a plain vector that is searched, and its bound on steps.

mod common;

use std::cell::Cell;

use common::{Thing, things};
use proptest::prelude::*;
use sched::prio_list::{PrioLinks, PrioList, PrioQueued};
use smp::cpu::Pin;
use smp::host_test::{leak, pin};

const THINGS: usize = 24;

#[derive(Debug, Clone)]
enum Op {
    Insert(usize, u8),
    Remove(usize),
    ChangePriority(usize, u8),
    Pop,
    TakeAll,
}

fn op() -> impl Strategy<Value = Op> {
    let (thing, priority) = (0..THINGS, prop_oneof![0..6u8, any::<u8>(), Just(255)]);
    prop_oneof![
        4 => (thing.clone(), priority.clone()).prop_map(|(t, p)| Op::Insert(t, p)),
        2 => thing.clone().prop_map(Op::Remove),
        2 => (thing, priority).prop_map(|(t, p)| Op::ChangePriority(t, p)),
        2 => Just(Op::Pop),
        1 => Just(Op::TakeAll),
    ]
}

/// Next first.
#[derive(Default)]
struct Model(Vec<(u8, usize)>);

impl Model {
    fn place(&self, thing: usize) -> Option<u8> {
        self.0.iter().find(|(_, t)| *t == thing).map(|(p, _)| *p)
    }

    fn insert(&mut self, thing: usize, priority: u8) {
        let at = self.0.iter().position(|(p, _)| *p < priority).unwrap_or(self.0.len());
        self.0.insert(at, (priority, thing));
    }

    fn remove(&mut self, thing: usize) -> bool {
        let held = self.place(thing).is_some();
        self.0.retain(|(_, t)| *t != thing);
        held
    }
}

fn check(list: &PrioList<Thing>, model: &Model) {
    let k = pin(0);
    let all = std::iter::successors(list.first(k), |thing| list.after(k, *thing));
    let order: Vec<_> = all.map(|t| (t.prio_links(k).priority().unwrap(), t.number)).collect();
    assert_eq!(order, model.0);
    assert_eq!(list.first(k).map(|t| t.number), model.0.first().map(|(_, t)| *t));
    assert_eq!(list.is_empty(), model.0.is_empty());
}

proptest! {
    #[test]
    fn behaves_as_the_model(ops in prop::collection::vec(op(), 0..200)) {
        let (k, things) = (pin(0), things(THINGS));
        let (mut list, mut model) = (PrioList::default(), Model::default());
        for op in ops {
            match op {
                Op::Insert(t, p) if model.place(t).is_none() => {
                    list.insert(k, things[t], p);
                    model.insert(t, p);
                }
                Op::Insert(t, _) => prop_assert!(things[t].prio_links(k).is_waiting()),
                Op::Remove(t) => prop_assert_eq!(list.remove(k, things[t]), model.remove(t)),
                Op::ChangePriority(t, p) => {
                    let old = model.place(t);
                    if old.is_some_and(|old| old != p) {
                        model.remove(t);
                        model.insert(t, p);
                    }
                    prop_assert_eq!(list.change_priority(k, things[t], p), old.is_some());
                }
                Op::Pop => {
                    let next = model.0.first().map(|(_, t)| *t);
                    if let Some(t) = next {
                        model.remove(t);
                    }
                    prop_assert_eq!(list.pop_highest(k).map(|t| t.number), next);
                }
                Op::TakeAll => {
                    let taken = list.take_all(k);
                    check(&list, &Model::default());
                    list = taken;
                }
            }
            check(&list, &model);
            for thing in &things {
                prop_assert_eq!(thing.prio_links(k).priority(), model.place(thing.number));
            }
        }
    }
}

proptest! {
    /// Things wait in two lists. Those that may leave by the wrong one do, and then the lists join.
    #[test]
    fn two_lists_join(
        puts in prop::collection::vec((0..THINGS, 0..6u8, any::<bool>()), 0..60),
        leaves in prop::collection::vec(0..THINGS, 0..8),
        later in prop::collection::vec((0..THINGS, 0..6u8), 0..12),
    ) {
        let (k, things) = (pin(0), things(THINGS));
        let lists = [PrioList::default(), PrioList::default()];
        let mut models = [Model::default(), Model::default()];
        for (t, p, second) in puts {
            if models.iter().all(|model| model.place(t).is_none()) {
                lists[usize::from(second)].insert(k, things[t], p);
                models[usize::from(second)].insert(t, p);
            }
        }
        for t in leaves {
            let ends = |model: &Model| [model.0.first(), model.0.last()].into_iter().flatten().any(|(_, e)| *e == t);
            if models.iter().any(|model| model.place(t).is_some()) {
                let may = lists[0].is_removable(k, things[t]);
                prop_assert_eq!(may, !ends(&models[1]));
                if may {
                    prop_assert!(lists[0].remove(k, things[t]));
                    models.iter_mut().for_each(|model| _ = model.remove(t));
                }
            }
            lists.iter().zip(&models).for_each(|(list, model)| check(list, model));
        }
        let [list, other] = &lists;
        list.append(k, other);
        let [mut model, more] = models;
        more.0.iter().for_each(|(p, t)| model.insert(*t, *p));
        check(list, &model);
        check(other, &Model::default());
        for (t, p) in later {
            if model.place(t).is_some() {
                list.remove(k, things[t]);
                model.remove(t);
            } else {
                list.insert(k, things[t], p);
                model.insert(t, p);
            }
            check(list, &model);
        }
    }

    #[test]
    fn the_first_that_is_wanted_is_found(
        puts in prop::collection::vec((0..THINGS, 0..6u8), 0..40),
        looks in 0..8usize,
    ) {
        let (k, things, list) = (pin(0), things(THINGS), PrioList::default());
        let mut model = Model::default();
        for (t, p) in puts {
            if model.place(t).is_none() {
                list.insert(k, things[t], p);
                model.insert(t, p);
            }
        }
        let wanted = |t: usize| t.is_multiple_of(3);
        model.0.dedup_by_key(|(p, _)| *p);
        let found = list.find_first(k, looks, |thing| wanted(thing.number));
        let expected = model.0.iter().take(looks).map(|(_, t)| *t).find(|t| wanted(*t));
        prop_assert_eq!(found.map(|thing| thing.number), expected);
    }
}

/// Counts how often its links are looked at: the steps of an operation.
struct Counted {
    links: PrioLinks<Counted>,
}

thread_local!(static LOOKS: Cell<usize> = const { Cell::new(0) });

impl PrioQueued for Counted {
    fn prio_links<'a>(&'a self, _pin: Pin<'a>) -> &'a PrioLinks<Self> {
        LOOKS.set(LOOKS.get() + 1);
        &self.links
    }
}

#[test]
fn steps_depend_on_the_priorities_not_on_the_length() {
    let (k, list) = (pin(0), PrioList::default());
    let mut all = Vec::new();
    for n in 0..5000usize {
        let item = leak(Counted { links: PrioLinks::default() });
        LOOKS.set(0);
        list.insert(k, item, (n * 7 % 256) as u8);
        assert!(LOOKS.get() <= 2 * 256 + 8, "{} looks to insert the {n}th", LOOKS.get());
        all.push(item);
    }
    for item in all.iter().skip(1).step_by(3) {
        LOOKS.set(0);
        assert!(list.remove(k, *item));
        assert!(LOOKS.get() <= 8, "{} looks to remove", LOOKS.get());
    }
    let other = PrioList::default();
    (0..600u32).for_each(|n| other.insert(k, leak(Counted { links: PrioLinks::default() }), (n % 8) as u8));
    LOOKS.set(0);
    list.append(k, &other);
    assert!(LOOKS.get() <= 8 * 16 + 2 * 256, "{} looks to append", LOOKS.get());
    (0..600u32).for_each(|n| other.insert(k, leak(Counted { links: PrioLinks::default() }), n as u8));
    LOOKS.set(0);
    list.append(k, &other);
    assert!(LOOKS.get() <= 256 * 16 + 2 * 256, "{} looks to append all priorities", LOOKS.get());
    while !list.is_empty() {
        LOOKS.set(0);
        list.pop_highest(k);
        assert!(LOOKS.get() <= 8, "{} looks to pop", LOOKS.get());
    }
}

#[test]
#[should_panic(expected = "inserted with priority 2 while it waits with priority 1")]
fn waiting_twice_is_refused() {
    let (k, thing) = (pin(0), things(1)[0]);
    let list = PrioList::default();
    list.insert(k, thing, 1);
    list.insert(k, thing, 2);
}
