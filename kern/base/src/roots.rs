//! Roots of derivation, and their locks.
//!
//! A root's lock guards the derivation tree of all objects in the root's memory. How much of each
//! [`Untyped`](crate::memory::Untyped) is carved has a lock of its own, which is taken before.

use core::cell::Cell;

use smp::cpu::Pin;
use smp::door::{AtomicLink, Ref};
use smp::lock::{Holder, LeftGuard, LeftLock};

use crate::header::{Header, RootId, SERIAL_BITS};
use crate::process::Process;

/// Roots of derivation that a machine can have: one lock each.
pub const MAX_ROOTS: usize = abi::BOOT_UNTYPED_MAX + 1;
const _: () = assert!(MAX_ROOTS <= 1 << (u64::BITS - SERIAL_BITS), "a root has its place in identities");

/// The state of a derivation tree besides its slots.
#[derive(Default)]
pub struct Root {
    /// How many objects were ever made of its memory.
    made: Cell<u64>,
    /// How many passes over rings of zombies have begun.
    passes: Cell<u32>,
}

impl Root {
    const fn new() -> Root {
        Root { made: Cell::new(0), passes: Cell::new(0) }
    }

    /// Gives a new object of this root's memory its number, before its first capability exists.
    #[inline(always)]
    pub fn number(&self, object: &Header) {
        let serial = self.made.get() + 1;
        self.made.set(serial);
        object.number(serial);
    }

    /// Returns the number of a new pass over an Untyped's ring of zombies, which no other pass over
    /// a ring of this root has.
    pub fn next_pass(&self) -> u32 {
        self.passes.set(self.passes.get().wrapping_add(1).max(1));
        self.passes.get()
    }
}

/// A root whose lock is held.
pub type RootGuard<'a> = LeftGuard<'a, Root>;

/// A lock with its root, in a cache line of their own: CPUs that work under different roots share
/// nothing.
#[repr(align(64))]
struct Line {
    root: LeftLock<Root>,
    /// The first of the processes that were made of the root's memory and have not ended: a list,
    /// which changes under the lock. A survey reads it without the lock.
    processes: AtomicLink<Process>,
}

/// The derivation trees of a machine, each behind its lock. A CPU never holds two of the locks
/// together.
pub struct Roots([Line; MAX_ROOTS]);

impl Roots {
    pub const fn new() -> Roots {
        Roots(
            [const { Line { root: LeftLock::with_exit(Root::new()), processes: AtomicLink::null() } };
                MAX_ROOTS],
        )
    }

    /// Locks the root from which an object descends. Panics where there is no such root.
    #[track_caller]
    pub fn lock(&self, by: impl Into<Holder>, of: &Header) -> RootGuard<'_> {
        self.0[of.root().index()].root.lock(by, of)
    }

    /// Locks a root as [`Roots::lock`] does, but leaves the line when `leaves` says so
    /// ([`LeftLock::lock_or_leave`]).
    #[inline(always)]
    pub fn lock_or_leave(
        &self,
        by: impl Into<Holder>,
        of: &Header,
        leaves: impl Fn(u64) -> bool,
    ) -> Option<RootGuard<'_>> {
        self.0[of.root().index()].root.lock_or_leave(by, of, leaves)
    }

    /// Returns all roots, each in its lock.
    pub fn iter(&self) -> impl Iterator<Item = &LeftLock<Root>> {
        self.0.iter().map(|line| &line.root)
    }

    /// Returns the processes that were made of a root's memory and have not ended, for surveys.
    pub fn processes<'k>(
        &'k self,
        pin: Pin<'k>,
        root: RootId,
    ) -> impl Iterator<Item = Ref<'k, Process>> + 'k {
        let first = self.0.get(root.index()).and_then(|line| line.processes.get(pin));
        core::iter::successors(first, move |process| process.get().next.get(pin))
    }

    /// Lists a new process, so that surveys find it. `_root` is its root, locked.
    pub fn list(&self, _root: &Root, pin: Pin<'_>, process: Ref<'_, Process>) {
        let first = &self.0[process.get().header.root().index()].processes;
        let next = first.get(pin);
        process.get().next.set(next);
        if let Some(next) = next {
            next.get().prev.set(Some(process));
        }
        first.set(Some(process));
    }

    /// Takes a process that ends out of the list. `_root` is its root, locked.
    pub fn unlist(&self, _root: &Root, pin: Pin<'_>, process: Ref<'_, Process>) {
        let (next, prev) = (process.get().next.get(pin), process.get().prev.get(pin));
        match prev {
            Some(prev) => prev.get().next.set(next),
            None => self.0[process.get().header.root().index()].processes.set(next),
        }
        if let Some(next) = next {
            next.get().prev.set(prev);
        }
    }
}
