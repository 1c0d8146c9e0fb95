//! State that moves to another home together with state that it refers to. A CPU that can open the
//! referred state can also open the referring state. So it can take the reference out before it
//! uses the referred state alone.

use std::cell::Cell;

use crate::common::{Object, model};
use loom::thread;
use smp::door::{Homed, Ref};
use smp::host_test::{cpu, pin};

type State = Homed<Cell<u64>>;

/// CPU 0 hands both to CPU 1, which looks for what is referred to at any time: it is bound to a
/// task there.
fn explore(hand: fn(Ref<'static, State>, Ref<'static, State>)) {
    model(4, move || {
        let referring = Object::new(Homed::new(cpu(0), Cell::new(1)));
        let referred = Object::new(Homed::new(cpu(0), Cell::new(2)));
        let (from, to) = (referring.get(), referred.get());
        let receiver = thread::spawn(move || {
            if to.open(pin(1)).is_some() {
                let Some(holder) = from.open(pin(1)) else { panic!("the reference cannot be taken out") };
                assert_eq!(holder.replace(0), 1, "what was written before");
            }
        });
        hand(from, to);
        receiver.join().unwrap();
        assert!(referring.get().open(pin(1)).is_some() && referred.get().open(pin(1)).is_some());
    });
}

/// Hands `first` over, and then `second`.
fn hand(first: &Homed<Cell<u64>>, second: &Homed<Cell<u64>>) {
    first.hold_here(pin(0)).hand_to_with(Some(second.hold_here(pin(0))), cpu(1));
}

#[test]
fn the_referring_one_first() {
    explore(|from, to| hand(from.get(), to.get()));
}

#[test]
#[should_panic(expected = "the reference cannot be taken out")]
fn caught_the_other_way_round() {
    explore(|from, to| hand(to.get(), from.get()));
}
