//! Condition variables.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;

use abi::Error;

use super::{Held, Mutex, User};
use crate::cap::{Group, Handle, Notification};
use crate::ipc::Patience;
use crate::{Refusal, Result};

/// A condition for which tasks wait that have a mutex.
///
/// Each of up to 64 tasks has a number, and a Notification that only this task waits for, on its
/// CPU. The Notification of number `n` is exposed in the group at index `first + n`, for members
/// with NOTIFY. The condition is a word of shared memory: a bit for each task that waits.
#[derive(Clone, Copy, Debug)]
pub struct Condition<'a> {
    word: &'a AtomicU64,
    group: abi::Cap,
    first: u32,
}

impl<'a> Condition<'a> {
    /// Describes the condition in a word, whose waiters' Notifications are exposed in `group` from
    /// index `first` on.
    pub fn new(word: &'a AtomicU64, group: &Group, first: u32) -> Condition<'a> {
        Condition { word, group: group.cap(), first }
    }

    /// Gives the lock back, waits until somebody signals the condition, and takes the lock again.
    /// It may wake without a signal: the caller checks what it waits for, and waits again.
    ///
    /// `number` is the calling task's, and `bell` its Notification. Bits that were left there by an
    /// earlier wait that was given up end this one.
    /// Errors: Timeout, WouldBlock, Cancelled, and NoTime (the task has no CPU time of its own),
    /// with the lock taken again, which is given back with the error; those of [`Mutex::lock`].
    pub fn wait<'m>(
        &self,
        held: Held<'m>,
        number: u32,
        bell: &Notification,
        patience: Patience,
    ) -> Result<Held<'m>> {
        let bit = 1 << number;
        let (mutex, user): (Mutex<'m>, User) = (held.mutex, held.user);
        self.word.fetch_or(bit, SeqCst);
        drop(held);
        let woken = ring_within(bell, patience);
        let again = mutex.lock(user);
        let was_there = self.word.fetch_and(!bit, SeqCst) & bit != 0;
        let again = again.inspect_err(|_| {
            // The signal was for this task, which cannot follow it.
            if !was_there {
                self.signal();
            }
        })?;
        match woken {
            Ok(_) => Ok(again),
            // Nobody else will be told that the last owner died. The caller looks, and waits again.
            Err(_) if again.is_abandoned() => Ok(again),
            Err(refusal) if was_there => Err(refusal),
            // The signal came at the last moment, and its bit is left in the Notification.
            Err(Refusal { error: Error::Timeout | Error::WouldBlock, .. }) => Ok(again),
            Err(refusal) => {
                self.signal();
                Err(refusal)
            }
        }
    }

    /// Waits for a signal while `is_wanted` holds, without giving a lock back. It may wake without
    /// a signal.
    pub(super) fn wait_holding(
        &self,
        number: u32,
        bell: &Notification,
        patience: Patience,
        is_wanted: impl Fn() -> bool,
    ) -> Result<()> {
        let bit = 1 << number;
        self.word.fetch_or(bit, SeqCst);
        let woken = if is_wanted() { ring_within(bell, patience) } else { Ok(0) };
        self.word.fetch_and(!bit, SeqCst);
        if is_wanted() { woken.map(drop) } else { Ok(()) }
    }

    /// Wakes one task that waits, if any does. A task that has died while it waited, or dies before
    /// it goes on, takes the signal along: where waiters may die, use [`Condition::broadcast`].
    pub fn signal(&self) {
        while let Some(number) = self.choose() {
            if self.ring(number) {
                return;
            }
        }
    }

    /// Wakes all tasks that wait.
    pub fn broadcast(&self) {
        let mut waiting = self.word.swap(0, SeqCst);
        while waiting != 0 {
            let number = waiting.trailing_zeros();
            waiting &= waiting - 1;
            let _ = self.ring(number);
        }
    }

    /// Takes a task out of the set of those that wait.
    fn choose(&self) -> Option<u32> {
        let mut waiting = self.word.load(SeqCst);
        while waiting != 0 {
            match self.word.compare_exchange(waiting, waiting & (waiting - 1), SeqCst, SeqCst) {
                Ok(_) => return Some(waiting.trailing_zeros()),
                Err(now) => waiting = now,
            }
        }
        None
    }

    /// Wakes the task with this number. Returns whether it has a Notification.
    fn ring(&self, number: u32) -> bool {
        Group::at(self.group).exposure(self.first + number).notify(1).is_ok()
    }
}

/// Waits for bits of a Notification as long as `patience` says.
fn ring_within(bell: &Notification, patience: Patience) -> Result<u64> {
    match patience {
        Patience::Forever => bell.wait(),
        Patience::Until(deadline) => bell.wait_until(deadline),
        Patience::None => bell.poll(),
    }
}
