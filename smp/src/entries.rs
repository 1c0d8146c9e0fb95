//! Entries of a table that live as long as they have users.
//!
//! An entry is opened for one user. Others may join that have the entry from one of its users. When
//! the last user has left, the entry is free, and may be opened for others. While its value is
//! [in use](Value::is_used), an entry has one more user.
//!
//! A user that ends is marked as ending first, and then leaves.
//!
//! # Invariants
//! - A user that has joined an entry has the one that the other user had, until it leaves.
//! - No CPU changes the value of an entry for a user that the entry does not have.
//! - A user leaves once, whichever CPU ends it.
//!
//! # Memory ordering
//! - The count of users goes from 0 to 1 by an acquiring exchange, and down by a releasing one. So
//!   the CPU that opens an entry has it for itself.
//! - A user that joins is counted first. Then its CPU looks whether the other user is ending, from
//!   which it has the entry. Either the count was there before the other one left, or the count
//!   acquires what that one released when it left: the mark.
//! - A CPU that changes a value looks under the lock whether the user is ending for which it does
//!   so, and a user leaves under the lock. So a change before that is counted when the user leaves,
//!   and a CPU that comes later sees the mark.
//! - The sign that a user is counted changes by exchanges, which acquire and release it. Either the
//!   CPU that ends the user finds the sign, or the CPU that sets the sign finds the mark.

use crate::lock::{Guard, Holder, Lock};
use crate::planted::{Fault, planted};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::{AtomicBool, AtomicU32, const_unless_loom};

/// What an entry has.
pub trait Value {
    /// Returns whether the value keeps its entry from being free.
    fn is_used(&self) -> bool;
}

/// An entry of a table.
pub struct Entry<T> {
    /// 0: it is free.
    users: AtomicU32,
    value: Lock<T>,
}

impl<T> Entry<T> {
    const_unless_loom! {
        /// Makes a free entry. The value of a free entry means nothing.
        pub fn new(value: T) -> Entry<T> {
            Entry { users: AtomicU32::new(0), value: Lock::new(value) }
        }
    }
}

/// A table of entries.
pub struct Entries<T, const N: usize> {
    entries: [Entry<T>; N],
    /// For reports about a lock that is never released.
    name: &'static str,
}

impl<T: Value, const N: usize> Entries<T, N> {
    /// Makes a table. `name` is what one of its entries is.
    pub const fn new(entries: [Entry<T>; N], name: &'static str) -> Entries<T, N> {
        Entries { entries, name }
    }

    fn entry(&self, at: usize) -> &Entry<T> {
        // Only `open` returns places.
        &self.entries[at % N]
    }

    fn lock(&self, at: usize, by: impl Into<Holder>) -> Guard<'_, T> {
        self.entry(at).value.lock(by, &self.name)
    }

    /// Opens an entry for one user. Returns its place; nothing, if all are in use.
    pub fn open(&self, value: T, by: impl Into<Holder>) -> Option<usize> {
        let is_opened = |entry: &Entry<T>| {
            entry.users.load(Relaxed) == 0 && entry.users.compare_exchange(0, 1, Acquire, Relaxed).is_ok()
        };
        let at = self.entries.iter().position(is_opened)?;
        *self.lock(at, by) = value;
        Some(at)
    }

    /// Counts one more user, that has the entry from another one. Returns whether it is counted:
    /// not if the other one is ending, because the entry may be another one by now.
    #[must_use]
    pub fn join(&self, at: usize, by: impl Into<Holder>, is_ending: impl FnOnce() -> bool) -> bool {
        self.entry(at).users.fetch_add(1, AcqRel);
        if !planted(Fault::JoinedUnseen) && is_ending() {
            self.leave(at, by);
            return false;
        }
        true
    }

    /// Counts one user less, which is marked as ending or was never counted for long.
    pub fn leave(&self, at: usize, by: impl Into<Holder>) {
        let users = &self.entry(at).users;
        if planted(Fault::LeftUnlocked) {
            users.fetch_sub(1, AcqRel);
            return;
        }
        let _value = self.lock(at, by);
        users.fetch_sub(1, AcqRel);
    }

    /// Changes the value of an entry, under its lock. `change` looks whether the user is ending for
    /// which it changes something, and then changes nothing.
    pub fn change<R>(&self, at: usize, by: impl Into<Holder>, change: impl FnOnce(&mut T) -> R) -> R {
        let users = &self.entry(at).users;
        let mut value = self.lock(at, by);
        let was_used = value.is_used();
        let result = change(&mut value);
        match (was_used, value.is_used()) {
            (false, true) => _ = users.fetch_add(1, Relaxed),
            (true, false) => _ = users.fetch_sub(1, Release),
            _ => {}
        }
        result
    }

    /// Returns what `look` finds in the value of an entry, under its lock.
    pub fn look<R>(&self, at: usize, by: impl Into<Holder>, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock(at, by))
    }

    /// Returns how many users each entry has, and its value: for surveys.
    pub fn survey<'a>(&'a self, by: impl Into<Holder> + Copy + 'a) -> impl Iterator<Item = (u32, T)> + 'a
    where
        T: Copy,
    {
        (0..N).map(move |at| (self.entry(at).users.load(Relaxed), self.look(at, by, |value| *value)))
    }
}

/// The sign of a user that an entry counts it.
#[derive(Default)]
pub struct Counted(AtomicBool);

impl Counted {
    /// Notes that the entry counts the user from here on. Returns whether the user is ending: then
    /// its end may not have seen this, and the caller [ends](Counted::end) the part of the user.
    #[must_use]
    pub fn begin(&self, is_ending: impl FnOnce() -> bool) -> bool {
        self.0.swap(true, AcqRel);
        !planted(Fault::CountedUnseen) && is_ending()
    }

    /// Returns whether the entry counts the user, which is ending. If so, the caller lets it leave.
    #[must_use]
    pub fn end(&self) -> bool {
        self.0.swap(false, AcqRel)
    }
}
