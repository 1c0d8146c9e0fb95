//! Turns: work that tasks of one process do one at a time.
//!
//! A task that waits for its turn gives up the CPU. So use turns for setup, not for frequent or
//! urgent work. If a task of high priority waits while a task of lower priority on the same CPU has
//! the turn, it would wait for ever. So a task gives up after [`PATIENCE`] tries. If a task ends in
//! the middle of its turn, no other task gets one.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch;
use crate::invoke::yield_now;

/// Tries to have a turn before giving up.
pub const PATIENCE: u32 = 1_000_000;

#[derive(Debug, Default)]
pub struct Turns {
    taken: AtomicBool,
}

/// A task's turn, which ends with this.
#[derive(Debug)]
pub struct Turn<'a>(&'a Turns);

impl Turns {
    pub const fn new() -> Turns {
        Turns { taken: AtomicBool::new(false) }
    }

    /// Waits until it is the caller's turn. Returns `None` if the holder of the turn does not run.
    pub fn wait(&self) -> Option<Turn<'_>> {
        for _ in 0..PATIENCE {
            if !self.taken.swap(true, Ordering::Acquire) {
                return Some(Turn(self));
            }
            arch::pause();
            // Refused or not: it was only to let the other run.
            let _ = yield_now();
        }
        None
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
    }
}
