//! Unclaimed state, as a Reply that keeps no call: two CPUs want it at the same time.

use crate::common::{Object, model};
use loom::cell::Cell;
use loom::thread;
use smp::door::Homed;
use smp::host_test::{cpu, pin};

/// Which rule is broken.
#[derive(Clone, Copy, PartialEq)]
enum Broken {
    Nothing,
    /// A home still writes when it has given the state up.
    WritesLate,
}

/// CPUs 0 and 1 each claim the state, count, and give it up. A third CPU made it.
fn explore(broken: Broken) {
    model(4, move || {
        let state = Object::new(Homed::unclaimed(cpu(2), Cell::new(0)));
        let shared = state.get();
        let count = move |number: usize| {
            let (pin, state) = (pin(number), shared.get());
            assert!(state.open(pin).is_none(), "nobody opens unclaimed state");
            let Some(value) = state.claim(pin) else { return 0 };
            let held = state.hold_here(pin);
            assert!(state.claim(pin).is_none(), "it has a home");
            if broken == Broken::Nothing {
                value.set(value.get() + 1);
            }
            held.unclaim();
            if broken == Broken::WritesLate {
                value.set(value.get() + 1);
            }
            1
        };
        let other = thread::spawn(move || count(1));
        let counts = count(0) + other.join().unwrap();
        assert!(counts > 0, "one of them succeeds");
        let state = shared.get();
        assert!(state.is_unclaimed() && state.claim(pin(3)).is_some());
        assert_eq!(state.here(pin(3)).get(), counts);
    });
}

#[test]
fn one_cpu_has_it_and_sees_what_was_written() {
    explore(Broken::Nothing);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn caught_a_write_after_it_is_given_up() {
    explore(Broken::WritesLate);
}
