//! The turns of a lock: a CPU that has seen another one wait does not get the lock before it.

use crate::common::{Object, model};
use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
use loom::thread;
use smp::host_test::pin;
use smp::lock::{Guard, LeftLock, Lock};

struct Shared {
    lock: Lock<u32>,
    /// How often the CPU that waits has had the lock.
    had: AtomicU32,
}

/// Takes a lock as CPU `at`, which has `others` more to compete with.
type Take = fn(&Lock<u32>, usize) -> Guard<'_, u32>;

fn in_turn(lock: &Lock<u32>, at: usize) -> Guard<'_, u32> {
    lock.lock(pin(at), &"a lock")
}

fn whenever_it_is_free(lock: &Lock<u32>, at: usize) -> Guard<'_, u32> {
    loop {
        if let Some(guard) = lock.try_lock(pin(at)) {
            return guard;
        }
        thread::yield_now();
    }
}

/// CPU 0 takes the lock twice, by `take`. CPU 1 takes it once, in turn.
fn explore(take: Take) {
    model(4, move || {
        let object = Object::new(Shared { lock: Lock::new(0), had: AtomicU32::new(0) });
        let shared = object.get();
        let other = thread::spawn(move || {
            let mut guard = shared.get().lock.lock(pin(1), &"a lock");
            *guard += 1;
            shared.get().had.store(1, Relaxed);
        });
        for _ in 0..2 {
            let one_waits = shared.get().lock.is_awaited();
            let mut guard = take(&shared.get().lock, 0);
            *guard += 1;
            assert!(!one_waits || shared.get().had.load(Relaxed) == 1, "who waited has had no turn");
        }
        other.join().unwrap();
        assert_eq!(*shared.get().lock.lock(pin(0), &"a lock"), 3, "one CPU at a time");
        assert!(!shared.get().lock.is_awaited());
    });
}

/// CPU 0 takes the lock twice. CPU 1 leaves the line if it does not get the lock at its first try,
/// and then comes again: its new turn is after the one that it has left.
#[test]
fn the_line_goes_on_without_a_cpu_that_leaves() {
    model(4, move || {
        let object = Object::new(LeftLock::with_exit(0));
        let lock = object.get();
        let other = thread::spawn(move || {
            let first = lock.get().lock_or_leave(pin(1), &"a lock", |_| true);
            *first.unwrap_or_else(|| lock.get().lock(pin(1), &"a lock")) += 1;
        });
        for _ in 0..2 {
            *lock.get().lock(pin(0), &"a lock") += 1;
        }
        other.join().unwrap();
        assert!(!lock.get().is_awaited());
        assert_eq!(*lock.get().lock(pin(0), &"a lock"), 3, "one CPU at a time");
    });
}

#[test]
fn who_waits_is_next() {
    explore(in_turn);
}

#[test]
#[should_panic(expected = "who waited has had no turn")]
fn caught_a_lock_for_the_fastest() {
    explore(whenever_it_is_free);
}
