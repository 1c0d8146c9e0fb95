//! The invariants of the kernel's state, judged from a [snapshot](Snapshot) of it.
//!
//! A snapshot is a list of plain [records](snapshot) for each kind of thing. It comes from the
//! simulated machine of the kernel's host tests, or as [text](Snapshot::read) from a guest whose
//! CPUs were stopped. Each rule ([`RULES`]) is a function that reads the snapshot alone. All
//! references are judged by one table ([`references`]).
//!
//! # When a rule does not judge
//! Rules are strict while no kernel entry is under way; mail may be in flight. The survey notes
//! half-done changes:
//!
//! * A CPU is *busy* while an entry is under way there ([`snapshot::Cpu::busy`]). Rules then skip
//!   what that CPU owns: its tasks, SchedContexts, Notifications, Replies and queues, and the
//!   message blocks that it has. Rules about the contents of mailboxes, and about reference counts,
//!   do not judge while any CPU is busy.
//! * A lock is held. Rules then skip what the lock guards: a root's derivation tree and memory, a
//!   VSpace's page tables, the counts of a page, a process's lists.
//!
//! Everything else is still judged: references between objects of other CPUs, memory,
//! authority.
//!
//! # Cost
//! A [`Checker`] keeps its memory between snapshots. It visits each record a few times, and no page
//! without a record.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[macro_use]
mod report;
mod facts;
mod gather;
mod index;
mod lists;
pub mod pte;
pub mod references;
mod rules;

pub use facts::Facts;
pub use gather::{Snapshot, TextError};
pub use report::{Findings, Violation};
pub use rules::{RULES, Rule};

use index::Index;
use lists::Linked;
use references::{REFERENCES, Reference};

/// The name of the rule that lists of tasks are well-formed, which is applied before all others.
pub const LISTS: &str = "lists";

/// Judges snapshots, one after the other.
#[derive(Default)]
pub struct Checker {
    index: Index,
    linked: Linked,
    findings: Findings,
}

impl Checker {
    /// Applies all rules to a snapshot, and returns the violations that they find.
    pub fn check(&mut self, snapshot: &Snapshot) -> &[Violation] {
        self.findings.clear();
        self.index.build(snapshot);
        let facts = Facts::new(snapshot, &self.index);
        self.linked.walk(&facts, &mut self.findings);
        let facts = facts.with_lists(&self.linked);
        for rule in RULES {
            self.findings.begin(rule.name);
            (rule.check)(&facts, &mut self.findings);
        }
        self.findings.all()
    }

    /// Returns each row of the table of references, with the number of the first record whose field
    /// the row requires to name an object. For tests.
    pub fn references(&mut self, snapshot: &Snapshot) -> Vec<(&'static Reference, Option<usize>)> {
        self.index.build(snapshot);
        let facts = Facts::new(snapshot, &self.index);
        self.linked.walk(&facts, &mut self.findings);
        let facts = facts.with_lists(&self.linked);
        REFERENCES.iter().map(|reference| (reference, (reference.first)(&facts))).collect()
    }
}
