//! Kernel entries that stop half-way.
//!
//! A [`Part`] is one kernel entry of one CPU, on a stack of its own. It stops at the points that
//! the test selects, and when it needs a lock that another CPU holds. Meanwhile the test lets other
//! CPUs act. If one of them needs a lock that the stopped entry holds, the entry continues until
//! the lock is free ([`Part::beside`]).

use std::cell::RefCell;
use std::panic::Location;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use smp::chaos::Point;
use smp::host_test::{self, Hooks};

use super::gate::{Gate, Why};

/// Where an entry stands.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// At a point, and where that is in the source.
    At(Point, &'static Location<'static>),
    /// Before a lock that is taken.
    Blocked,
}

/// Whether a kernel entry goes on at a point, or stops there.
type Wanted = Box<dyn FnMut(Point) -> bool>;

/// A kernel entry that can be stopped.
pub struct Part {
    coroutine: Option<Coroutine<(), Stop, (), DefaultStack>>,
    hooks: Hooks,
    gate: Gate,
    n: usize,
    /// Where it stands; `None` when it is over.
    stop: Option<Stop>,
}

std::thread_local! {
    /// Stacks that no entry uses.
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

/// What runs on the entry's stack.
fn run(yielder: &Yielder<(), Stop>, gate: &Gate, n: usize, why: Why, mut wanted: Wanted) {
    let mut at_point = |point| {
        if wanted(point)
            && let Some(place) = host_test::place()
        {
            yielder.suspend(Stop::At(point, place));
            gate.turn(n);
        }
    };
    let mut at_lock = |is_free: &dyn Fn() -> bool| {
        while !is_free() {
            yielder.suspend(Stop::Blocked);
            gate.turn(n);
        }
    };
    host_test::at_points(&mut at_point, || host_test::at_locks(&mut at_lock, || gate.pass(n, why)));
}

impl Part {
    /// A kernel entry of CPU `n` that stops at the points that are `wanted`, and now stands at the
    /// first of them.
    pub fn begin(gate: &Gate, n: usize, why: Why, wanted: impl FnMut(Point) -> bool + 'static) -> Part {
        let stack = STACKS.with_borrow_mut(Vec::pop).unwrap_or_default();
        let (inside, wanted) = (gate.clone(), Box::new(wanted));
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), Stop>, ()| {
            run(yielder, &inside, n, why, wanted);
        });
        let hooks = Hooks::default();
        let mut part = Part { coroutine: Some(coroutine), hooks, gate: gate.clone(), n, stop: None };
        part.go_on();
        part
    }

    /// Where it stands; `None` when it is over.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Lets it go on to its next stop.
    pub fn go_on(&mut self) {
        let Some(coroutine) = &mut self.coroutine else { return };
        let before = self.gate.k.machine.cpu.load(std::sync::atomic::Ordering::Relaxed);
        self.hooks.exchange();
        self.gate.turn(self.n);
        let result = coroutine.resume(());
        self.hooks.exchange();
        self.gate.turn(before);
        self.stop = match result {
            CoroutineResult::Yield(stop) => Some(stop),
            CoroutineResult::Return(()) => {
                if let Some(coroutine) = self.coroutine.take() {
                    STACKS.with_borrow_mut(|stacks| stacks.push(coroutine.into_stack()));
                }
                None
            }
        };
    }

    /// Lets it come to its end. Panics where it waits for a lock that nobody else holds.
    pub fn finish(&mut self) {
        while let Some(stop) = self.stop {
            self.go_on();
            let still = matches!((stop, self.stop), (Stop::Blocked, Some(Stop::Blocked)));
            assert!(!still, "cpu{} waits for a lock that nobody lets go of", self.n);
        }
    }

    /// Runs `others` while this stands. Where they meet a lock that this holds, this goes on until
    /// that is free.
    pub fn beside<R>(&mut self, others: impl FnOnce() -> R) -> R {
        let mut at_lock = |is_free: &dyn Fn() -> bool| {
            while !is_free() {
                if self.stop.is_none() {
                    assert!(is_free(), "a CPU waits for a lock that nobody holds any more");
                    return;
                }
                self.go_on();
                let both = matches!(self.stop, Some(Stop::Blocked)) && !is_free();
                assert!(!both, "cpu{} and another CPU wait for each other's locks", self.n);
            }
        };
        host_test::at_locks(&mut at_lock, others)
    }
}

impl Drop for Part {
    /// A test that fails leaves an entry half-way: what stands on its stack is not used any more.
    fn drop(&mut self) {
        self.hooks.exchange();
        self.coroutine = None;
        self.hooks.exchange();
    }
}
