//! The tasks of a CPU that wait for the grace epoch.

use core::cell::Cell;

use smp::cpu::Pin;
use smp::door::{Link, Ref};

use crate::methods::methods;
use crate::task::{OpenTask, Task};

/// A task's place in [`GraceWaiters`].
#[derive(Default)]
pub struct GraceLinks {
    next: Link<Task>,
    epoch: Cell<u64>,
}

methods! { GraceLinks:
    /// Returns the next task of the list.
    fn next<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Task>> = self.next.get(pin);
    /// Returns the epoch for which the task waits, or waited last.
    fn epoch(self) -> u64 = self.epoch.get();
}

/// Tasks of one CPU that wait for the grace epoch, in no order.
#[derive(Default)]
pub struct GraceWaiters(Link<Task>);

methods! { GraceWaiters:
    /// Returns the first task.
    fn first<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Task>> = self.0.get(pin);
}

impl GraceWaiters {
    /// Queues a task until `epoch` has come.
    pub fn put(&self, pin: Pin<'_>, task: OpenTask<'_>, epoch: u64) {
        task.grace.epoch.set(epoch);
        task.grace.next.set(self.0.get(pin));
        self.0.set(Some(task.object()));
    }

    /// Takes out the tasks whose epoch is at most `now`, and passes each to `wake`.
    pub fn wake<'k>(&self, pin: Pin<'k>, now: u64, wake: impl Fn(OpenTask<'k>)) {
        let mut next = self.0.take(pin);
        while let Some(task) = next {
            let task = OpenTask::here(task, pin);
            next = task.grace.next.take(pin);
            if task.grace.epoch() <= now {
                wake(task);
            } else {
                self.put(pin, task, task.grace.epoch());
            }
        }
    }

    /// Takes a task out, if it is in the list.
    pub fn remove<'k>(&self, pin: Pin<'k>, task: OpenTask<'k>) {
        let next = task.grace.next.take(pin);
        let mut link = &self.0;
        while let Some(other) = link.get(pin) {
            if other == task.object() {
                return link.set(next);
            }
            link = &other.get().hot.here(pin).grace.next;
        }
    }
}
