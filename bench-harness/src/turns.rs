//! Turns on the host's CPUs, for jobs that run side by side.
//!
//! A job takes as many CPUs as it keeps busy: a boot under icount or with one CPU takes one; a boot
//! whose CPUs are host threads takes all, so that nothing else delays one of its CPUs.

use std::num::NonZero;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The CPUs of the host. Jobs get theirs in the order in which they ask.
#[derive(Debug)]
pub struct Turns {
    queue: Mutex<Queue>,
    changed: Condvar,
    cpus: usize,
}

#[derive(Debug)]
struct Queue {
    /// Numbers of the next job that asks, and of the next that gets its CPUs.
    next: u64,
    served: u64,
    free: usize,
}

/// CPUs that a job has until this is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    cpus: usize,
}

impl Turns {
    /// Returns the turns on all CPUs of this host.
    pub fn of_host() -> Turns {
        Turns::new(thread::available_parallelism().map_or(1, NonZero::get))
    }

    fn new(cpus: usize) -> Turns {
        let queue = Queue { next: 0, served: 0, free: cpus };
        Turns { queue: Mutex::new(queue), changed: Condvar::new(), cpus }
    }

    /// Waits for one of the host's CPUs.
    pub fn one(&self) -> Turn<'_> {
        self.take(1)
    }

    /// Waits for all CPUs of the host.
    pub fn all(&self) -> Turn<'_> {
        self.take(self.cpus)
    }

    fn take(&self, cpus: usize) -> Turn<'_> {
        let mut queue = self.lock();
        let number = queue.next;
        queue.next += 1;
        let mut queue = self
            .changed
            .wait_while(queue, |queue| queue.served != number || queue.free < cpus)
            .unwrap_or_else(PoisonError::into_inner);
        queue.served += 1;
        queue.free -= cpus;
        // The next job may find enough, too.
        self.changed.notify_all();
        Turn { turns: self, cpus }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().free += self.cpus;
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_cpus_are_taken_than_there_are() {
        let (turns, busy) = (Turns::new(2), AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..40 {
                let (turns, busy) = (&turns, &busy);
                scope.spawn(move || {
                    let cpus = if number % 4 == 0 { 2 } else { 1 };
                    let turn = turns.take(cpus);
                    assert!(busy.fetch_add(cpus, Ordering::SeqCst) + cpus <= 2);
                    thread::yield_now();
                    busy.fetch_sub(cpus, Ordering::SeqCst);
                    drop(turn);
                });
            }
        });
        assert_eq!(turns.lock().free, 2);
    }

    #[test]
    fn a_job_that_wants_all_is_not_overtaken() {
        let turns = Turns::new(2);
        let first = turns.one();
        let order = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let waits = |asked: u64| {
                while turns.lock().next < asked {
                    thread::yield_now();
                }
            };
            let (turns, order) = (&turns, &order);
            scope.spawn(move || {
                let _turn = turns.all();
                order.lock().expect("not poisoned").push("all");
            });
            waits(2);
            scope.spawn(move || {
                let _turn = turns.one();
                order.lock().expect("not poisoned").push("one");
            });
            waits(3);
            drop(first);
        });
        assert_eq!(order.into_inner().expect("not poisoned"), ["all", "one"]);
    }
}
