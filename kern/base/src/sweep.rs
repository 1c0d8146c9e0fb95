//! Sweeps: how a revoke or a reset of an Untyped takes its pages out of pools. A sweep looks at
//! every page of the Untyped's memory, and takes the page out of all pools that have it.
//!
//! # Passes
//! One look at every page is a *pass*. Passes of an Untyped are numbered and follow each other. All
//! tasks that sweep an Untyped at the same time work on one pass, and each continues where the last
//! one stopped. So if a sweep is given up, the next sweep continues its pass.
//!
//! A sweep waits for a [`Pass`] that had not begun when the sweep did. A pass that was already
//! under way proves nothing: its first pages may have entered pools after the pass looked at them.
//!
//! A task reports a stretch of pages when it has looked at all of them, and the report counts only
//! for the pass in which it was made. So a slow task cannot advance a later pass.
//!
//! # Shootdowns
//! CPUs may have translations of a page that has left its pools until a shootdown is over. A sweep
//! records the last shootdown that it found or began at its pages, which covers all earlier ones.
//! The task that completes the sweep waits for that shootdown.

use core::cell::Cell;

use smp::shootdown::Stamp;

/// How far the passes over an Untyped's pages have come. Guarded by the Untyped's lock.
#[derive(Default)]
pub struct Sweep {
    /// The number of the pass that began last.
    begun: Cell<u64>,
    /// The number of the pass that ended last.
    over: Cell<u64>,
    /// The first page at which the pass under way has not looked.
    next: Cell<u64>,
    /// The shootdown after which no CPU has a translation of the pages checked so far; `None` if no
    /// CPU ever had. Each one that is set covers the one before.
    pub shootdown: Cell<Option<Stamp>>,
}

/// The number of a pass that a task waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pass(u64);

impl Pass {
    pub const fn raw(self) -> u64 {
        self.0
    }
}

/// The place where the current pass continues.
#[derive(Clone, Copy)]
pub struct Stretch {
    pass: u64,
    /// The first page to check.
    pub first: u64,
}

impl Sweep {
    /// Returns the first pass that begins after this call.
    pub fn pass_from_now(&self) -> Pass {
        Pass(self.begun.get() + 1)
    }

    /// Returns the pass with a number; `None` for a number that no task was given to wait for.
    pub fn pass(&self, raw: u64) -> Option<Pass> {
        (1..=self.begun.get() + 1).contains(&raw).then_some(Pass(raw))
    }

    /// Returns whether this pass has ended.
    pub fn is_over(&self, pass: Pass) -> bool {
        self.over.get() >= pass.0
    }

    /// Continues the pass under way, or begins one if none is. Returns the pages that have to be
    /// checked next.
    pub fn go_on(&self) -> Stretch {
        if self.begun.get() == self.over.get() {
            self.begun.set(self.begun.get() + 1);
            self.next.set(0);
        }
        Stretch { pass: self.begun.get(), first: self.next.get() }
    }

    /// Notes that all pages of a stretch before the page `end` were checked. The Untyped has
    /// `pages` pages.
    pub fn note(&self, stretch: Stretch, end: u64, pages: u64) {
        if stretch.pass <= self.over.get() {
            // Others have ended that pass, and may have begun another one.
            return;
        }
        self.next.set(self.next.get().max(end));
        if self.next.get() >= pages {
            self.over.set(stretch.pass);
        }
    }
}
