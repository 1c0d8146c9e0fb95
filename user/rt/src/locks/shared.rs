//! Reader-writer locks.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;

use super::{Condition, Held, Mutex, User};
use crate::Result;
use crate::cap::Notification;
use crate::ipc::Patience;

/// A lock that one task has for writing, or several have for reading.
///
/// A writer has the mutex all the time, so that readers and other writers that wait lend it their
/// CPU time. A writer that waits for readers has it, too, so no reader overtakes it for ever. A
/// reader has the mutex only while it is counted. Readers are not known by name: a writer that
/// waits for them lends them nothing, and a reader that dies stays counted until
/// [`SharedLock::forget_readers`].
#[derive(Clone, Copy, Debug)]
pub struct SharedLock<'a> {
    readers: &'a AtomicU64,
    mutex: Mutex<'a>,
    /// That there are no readers.
    idle: Condition<'a>,
}

/// The lock, for reading, until this is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct Reading<'a> {
    lock: SharedLock<'a>,
    abandoned: bool,
}

/// The lock, for writing, until this is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct Writing<'a>(Held<'a>);

impl Writing<'_> {
    /// Returns whether the last writer died with the lock.
    pub const fn is_abandoned(&self) -> bool {
        self.0.is_abandoned()
    }
}

impl Reading<'_> {
    /// Returns whether the last writer died with the lock. Only the first that takes the lock after
    /// that is told.
    pub const fn is_abandoned(&self) -> bool {
        self.abandoned
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if self.lock.readers.fetch_sub(1, SeqCst) == 1 {
            // At most one writer waits that lives. Those that died may still be in the set.
            self.lock.idle.broadcast();
        }
    }
}

impl<'a> SharedLock<'a> {
    /// Describes a lock: the word that counts readers, and the mutex and the condition that only it
    /// uses.
    pub const fn new(readers: &'a AtomicU64, mutex: Mutex<'a>, idle: Condition<'a>) -> SharedLock<'a> {
        SharedLock { readers, mutex, idle }
    }

    /// Takes the lock for reading.
    pub fn read(&self, user: User, patience: Patience) -> Result<Reading<'a>> {
        let held = self.mutex.lock_within(user, patience)?;
        self.readers.fetch_add(1, SeqCst);
        Ok(Reading { lock: *self, abandoned: held.is_abandoned() })
    }

    /// Takes the lock for writing. `number` and `bell` are as for [`Condition::wait`].
    /// Errors: those of [`Condition::wait`].
    pub fn write(
        &self,
        user: User,
        number: u32,
        bell: &Notification,
        patience: Patience,
    ) -> Result<Writing<'a>> {
        let held = self.mutex.lock_within(user, patience)?;
        while self.readers.load(SeqCst) != 0 {
            self.idle.wait_holding(number, bell, patience, || self.readers.load(SeqCst) != 0)?;
        }
        Ok(Writing(held))
    }

    /// Forgets all readers, because some of them have died and no other is there.
    pub fn forget_readers(&self) {
        self.readers.store(0, SeqCst);
        self.idle.broadcast();
    }
}
