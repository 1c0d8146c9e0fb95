//! Semaphores.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;

use abi::Error;

use super::{Condition, Mutex, User};
use crate::cap::Notification;
use crate::ipc::Patience;
use crate::{Refusal, Result};

/// A number of permits, in a word of shared memory. Taking one that is there, and giving one back
/// that nobody waits for, needs no kernel.
#[derive(Clone, Copy, Debug)]
pub struct Semaphore<'a> {
    permits: &'a AtomicU64,
    /// How many tasks wait, or are about to.
    waiting: &'a AtomicU64,
    mutex: Mutex<'a>,
    condition: Condition<'a>,
}

impl<'a> Semaphore<'a> {
    /// Describes a semaphore: the words with its permits and its number of waiters, and the mutex
    /// and the condition that only it uses.
    pub const fn new(
        permits: &'a AtomicU64,
        waiting: &'a AtomicU64,
        mutex: Mutex<'a>,
        condition: Condition<'a>,
    ) -> Semaphore<'a> {
        Semaphore { permits, waiting, mutex, condition }
    }

    /// Takes a permit if there is one.
    #[inline]
    pub fn try_take(&self) -> bool {
        let less = |permits: u64| permits.checked_sub(1);
        self.permits.fetch_update(SeqCst, SeqCst, less).is_ok()
    }

    /// Takes a permit, and waits for one as long as `patience` says. `number` and `bell` are as for
    /// [`Condition::wait`].
    pub fn take(&self, user: User, number: u32, bell: &Notification, patience: Patience) -> Result<()> {
        if self.try_take() {
            return Ok(());
        }
        let mut held = self.mutex.lock_within(user, patience)?;
        self.waiting.fetch_add(1, SeqCst);
        let outcome = loop {
            if self.try_take() {
                break Ok(());
            }
            match self.condition.wait(held, number, bell, patience) {
                Ok(again) => held = again,
                Err(refusal) => break Err(refusal),
            }
        };
        self.waiting.fetch_sub(1, SeqCst);
        outcome
    }

    /// Gives a permit back, or adds one. Wakes a task that waits for it.
    pub fn give(&self, user: User) -> Result<()> {
        self.permits.fetch_add(1, SeqCst);
        if self.waiting.load(SeqCst) != 0 {
            // A waiter that looked before the permit was there is in the set by now. All of them
            // look: one that has died may still be in the set, and would take the signal along.
            let held = loop {
                match self.mutex.lock(user) {
                    // The permit is there: somebody has to be told.
                    Err(Refusal { error: Error::Cancelled, .. }) => {}
                    other => break other,
                }
            };
            self.condition.broadcast();
            return held.map(drop);
        }
        Ok(())
    }
}
