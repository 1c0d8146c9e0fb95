//! Locks that processes share.
//!
//! A page of locks is a Frame that all users map, and a group in which the tasks that take locks
//! are exposed ([`abi::LockWord`]). An uncontended lock is taken and given back by one exchange
//! each, without the kernel. A contended one is an implicit call to its owner
//! ([`abi::Op::LockWait`]): the owner goes on with the waiter's CPU time if that outranks its own.
//!
//! ```text
//!   let page = LockPage::new(&group, &frame, words);
//!   let me = User::new(own_id, exposure_index);
//!   let held = page.mutex(0).lock(me)?;
//!   …
//!   drop(held);
//! ```
//!
//! The words are in memory that every user of the page may write. So a page of locks is for
//! programs that trust each other with what the locks protect. A user that writes nonsense there
//! takes away the locks' order, but nobody's CPU time, memory or priority.
//!
//! [`Condition`], [`Semaphore`] and [`SharedLock`] are made of mutexes and of Notifications.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use abi::{Cap, Error, LockWord, Op, Target, TaskId};

use crate::arch::{Args, syscall};
use crate::cap::{Frame, Group, Handle};
use crate::ipc::Patience;
use crate::{Refusal, Result};

mod condition;
mod semaphore;
mod shared;

pub use condition::Condition;
pub use semaphore::Semaphore;
pub use shared::{Reading, SharedLock, Writing};

/// A page of locks, as a process has it.
#[derive(Clone, Copy, Debug)]
pub struct LockPage<'a> {
    group: Cap,
    frame: Cap,
    words: &'a [AtomicU64],
}

/// A task that takes locks. It is exposed in the group of the locks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct User(LockWord);

impl User {
    /// Describes the calling task, whose id is `id`, and which is exposed at `index`: below
    /// 2^[`abi::LOCK_INDEX_BITS`].
    pub const fn new(id: TaskId, index: u32) -> User {
        assert!(index < 1 << abi::LOCK_INDEX_BITS, "users of locks are exposed at lower indices");
        User(LockWord::of(id, index))
    }
}

impl<'a> LockPage<'a> {
    /// Describes a page of locks: the group in which its users are exposed, the Frame, and the
    /// words of the Frame where this process has it mapped.
    pub fn new(group: &Group, frame: &Frame, words: &'a [AtomicU64]) -> LockPage<'a> {
        LockPage { group: group.cap(), frame: frame.cap(), words }
    }

    /// Returns the mutex in a word of the page.
    pub fn mutex(&self, number: u32) -> Mutex<'a> {
        let LockPage { group, frame, words } = *self;
        Mutex { word: &words[number as usize], place: Target::new(frame, number), group }
    }

    /// Returns a word of the page that is no lock, for what locks are part of.
    pub fn word(&self, number: u32) -> &'a AtomicU64 {
        &self.words[number as usize]
    }
}

/// One lock.
#[derive(Clone, Copy, Debug)]
pub struct Mutex<'a> {
    word: &'a AtomicU64,
    place: Target,
    group: Cap,
}

/// A lock that the calling task has, until this is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub struct Held<'a> {
    mutex: Mutex<'a>,
    user: User,
    abandoned: bool,
}

impl Held<'_> {
    /// Returns whether the last owner died with the lock: what the lock protects may be half done.
    pub const fn is_abandoned(&self) -> bool {
        self.abandoned
    }
}

impl Drop for Held<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.mutex.unlock(self.user);
    }
}

impl<'a> Mutex<'a> {
    /// Takes the lock, and waits for it as long as it takes.
    /// Errors: Deadlock, if the calling task has the lock, or its owner waits for a lock of the
    /// calling task; Cancelled.
    #[inline(always)]
    pub fn lock(&self, user: User) -> Result<Held<'a>> {
        self.lock_within(user, Patience::Forever)
    }

    /// Takes the lock if nobody has it.
    #[inline(always)]
    pub fn try_lock(&self, user: User) -> Option<Held<'a>> {
        self.take(user).then(|| self.held(user, false))
    }

    /// Takes the lock, and waits for it as long as `patience` says.
    /// Errors: as for [`Mutex::lock`]; Timeout, WouldBlock.
    #[inline(always)]
    pub fn lock_within(&self, user: User, patience: Patience) -> Result<Held<'a>> {
        if self.take(user) {
            return Ok(self.held(user, false));
        }
        let abandoned = self.contend(user, patience)?;
        Ok(self.held(user, abandoned))
    }

    fn held(&self, user: User, abandoned: bool) -> Held<'a> {
        Held { mutex: *self, user, abandoned }
    }

    #[inline(always)]
    fn take(&self, user: User) -> bool {
        self.word.compare_exchange(0, user.0.0, Acquire, Relaxed).is_ok()
    }

    /// Gives the lock back. If somebody waits, wakes who does.
    #[inline(always)]
    fn unlock(&self, user: User) {
        if self.word.compare_exchange(user.0.0, 0, Release, Relaxed).is_err() {
            self.pass(user);
        }
    }

    /// Waits for the lock, and takes it. Returns whether its last owner died with it.
    #[cold]
    fn contend(&self, user: User, patience: Patience) -> Result<bool> {
        loop {
            let found = LockWord(self.word.load(Relaxed));
            if found.is_free() {
                if self.take(user) {
                    return Ok(false);
                }
                continue;
            }
            let marked = found.with_waits();
            if marked == user.0.with_waits() {
                return Err(Refusal::local(Error::Deadlock, 0));
            }
            let is_marked =
                found == marked || self.word.compare_exchange(found.0, marked.0, Relaxed, Relaxed).is_ok();
            if !is_marked {
                continue;
            }
            match self.wait(marked, patience) {
                Ok(()) => {}
                // Who takes the lock over is the first to find the dead owner's word.
                Err(Refusal { error: Error::OwnerDied, .. }) => {
                    if self.word.compare_exchange(marked.0, user.0.0, Acquire, Relaxed).is_ok() {
                        return Ok(true);
                    }
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// Waits until the lock may have changed.
    fn wait(&self, word: LockWord, patience: Patience) -> Result<()> {
        let mut args = Args::plain(Op::LockWait, self.group.arg(), 0, self.place.0, word.0);
        patience.apply(&mut args);
        syscall(args).done()
    }

    /// Gives a lock back for which somebody waits, and wakes who does: also if the word is another
    /// one, because then those that wait for the caller wait in vain.
    #[cold]
    fn pass(&self, user: User) {
        self.give_back(user);
        let _ = syscall(Args::plain(Op::LockPass, self.place.0, 0, 0, 0));
    }

    /// Gives a lock back for which somebody waits. If the word is not the caller's any more, leaves
    /// it: others have taken the lock over, or have written there that should not.
    fn give_back(&self, user: User) {
        let _ = self.word.compare_exchange(user.0.with_waits().0, 0, Release, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(words: &[AtomicU64]) -> LockPage<'_> {
        LockPage::new(&Group::at(Cap(5)), &Frame::at(Cap(6)), words)
    }

    #[test]
    fn a_lock_is_taken_once_and_given_back() {
        let words = [const { AtomicU64::new(0) }; 2];
        let (one, two) = (User::new(TaskId::from_raw(7), 1), User::new(TaskId::from_raw(8), 2));
        let mutex = page(&words).mutex(1);
        let held = mutex.try_lock(one).expect("nobody has it");
        assert!(!held.is_abandoned() && mutex.try_lock(two).is_none());
        assert_eq!(mutex.lock(one).err().map(|refusal| refusal.error), Some(Error::Deadlock));
        // Nobody has noted that it waits: that would need the kernel.
        words[1].fetch_and(!LockWord::WAITS, Relaxed);
        drop(held);
        assert!(mutex.lock(two).is_ok());
        assert_eq!(words[1].load(Relaxed), 0);
    }

    #[test]
    fn a_word_that_others_have_overwritten_stays() {
        let words = [const { AtomicU64::new(0) }; 1];
        let one = User::new(TaskId::from_raw(7), 1);
        let mutex = page(&words).mutex(0);
        assert!(mutex.take(one));
        words[0].store(99, Relaxed);
        mutex.give_back(one);
        assert_eq!(words[0].load(Relaxed), 99);
    }
}
