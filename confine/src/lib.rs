//! The confinement oracle: what each process may come to hold, read, write and learn.
//!
//! Its only inputs are [snapshots](snapshot) of the kernel's state, and the playing program's
//! reports of its own operations. It uses no code of the kernel or of the model: it states which
//! processes *may* cause a change, not how operations work.
//!
//! * [`Judge`] compares two pictures, of the moments before and after an operation: for each new
//!   thing, an acting process must have been able to give it to a process that could take it.
//! * [`Bound`] computes from one picture the most that each process may ever come to hold, whatever
//!   all processes do: the closure of taking and granting. No later picture exceeds it.
//! * [`Ledger`] knows for each written word which processes may see it.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bound;
mod caps;
mod change;
mod devices;
mod groups;
mod marks;
mod memory;
mod picture;
mod tasks;

pub use bound::Bound;
pub use change::{Change, Offer, OfferKind};
pub use marks::{Ledger, Mark};
pub use picture::{Picture, Says, Thing, View};

/// Something that nobody could bring about by right.
#[derive(Clone, Debug)]
pub struct Excess {
    /// The rule that is broken.
    pub rule: &'static str,
    /// What is wrong, for people.
    pub what: String,
}

/// Judges one operation after the other.
#[derive(Default)]
pub struct Judge {
    /// Bits that event pools raise in the Notifications of their readers.
    pool_bits: u64,
    found: Vec<Excess>,
}

impl Judge {
    /// Makes a judge that allows event pools to raise `pool_bits` in the Notifications of their
    /// readers.
    pub fn new(pool_bits: u64) -> Judge {
        Judge { pool_bits, ..Judge::default() }
    }

    /// Judges an operation, and returns its violations of the rules. `acts` are the processes that
    /// may have acted, first the one that made the system call.
    pub fn judge(&mut self, before: &Picture, after: &Picture, acts: &[u64], offers: &[Offer]) -> &[Excess] {
        self.found.clear();
        let mut change = Change::new(before, after, acts, offers, &mut self.found);
        change.capabilities();
        change.members();
        change.exposures();
        change.bits(self.pool_bits);
        change.calls();
        change.views();
        change.pins();
        change.labels();
        change.tasks();
        change.processes();
        change.others();
        change.devices();
        &self.found
    }

    /// Judges the bits that a task got from a Notification, and returns violations. Bits that the
    /// Notification had before are no violation.
    pub fn raised(
        &self,
        before: &Picture,
        after: &Picture,
        acts: &[u64],
        notification: u64,
        bits: u64,
    ) -> Vec<Excess> {
        let mut found = Vec::new();
        let mut change = Change::new(before, after, acts, &[], &mut found);
        let had = before.notification(notification).map_or(0, |it| it.bits | it.remote);
        let new = bits & !had & !self.pool_bits & !change.told_of_groups(notification);
        if new != 0 && !change.may_notify(notification) {
            let (who, what) = (change.actors(), change.object(notification));
            change.excess("bits", format!("a task was told {new:#x} of {what}, which {who} could not raise"));
        }
        found
    }
}
