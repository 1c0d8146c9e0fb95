//! How many tasks a CPU has, and whether it takes more: one word for each CPU.
//!
//! A task takes a place on a CPU before it goes there, and leaves its place after it has gone. A
//! CPU closes only while nobody has a place, and then gives none until it is open again. So no task
//! is on its way to a closed CPU.
//!
//! # Memory ordering
//! The places and the closing are one word, so no fence orders them. Leaving is a `Release`, and
//! closing an `Acquire`: a CPU that closes another one sees everything that its tasks did there.

use crate::planted::{Fault, planted};
use crate::sync::{AtomicU64, Ordering};

/// In the word: the CPU is closed. The rest is how many places are taken.
const CLOSED: u64 = 1 << 63;

/// The number of tasks that have places on a CPU, which may be closed.
#[derive(Default)]
pub struct Residents(AtomicU64);

/// So many have places: the CPU cannot be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken(pub u64);

impl Residents {
    /// Takes a place. Returns whether there was one: a closed CPU has none.
    #[must_use]
    #[inline(always)]
    pub fn admit(&self) -> bool {
        if planted(Fault::ClosedMeanwhile) {
            // The planted bug: the CPU may close between the two.
            let is_open = self.0.load(Ordering::Acquire) & CLOSED == 0;
            if is_open {
                self.0.fetch_add(1, Ordering::AcqRel);
            }
            return is_open;
        }
        let mut word = self.0.load(Ordering::Relaxed);
        while word & CLOSED == 0 {
            match self.0.compare_exchange(word, word + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Gives a place back.
    #[inline(always)]
    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Closes the CPU, if nobody has a place. Returns whether it was closed before.
    pub fn close(&self) -> Result<bool, Taken> {
        match self.0.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(false),
            Err(CLOSED) => Ok(true),
            Err(word) => Err(Taken(word & !CLOSED)),
        }
    }

    /// Opens the CPU. Returns whether it was closed.
    pub fn open(&self) -> bool {
        self.0.fetch_and(!CLOSED, Ordering::AcqRel) & CLOSED != 0
    }

    /// Returns how many have places, and whether the CPU is closed, at this moment.
    pub fn glance(&self) -> (u64, bool) {
        let word = self.0.load(Ordering::Acquire);
        (word & !CLOSED, word & CLOSED != 0)
    }

    /// Returns whether the CPU is closed, at this moment.
    pub fn is_closed(&self) -> bool {
        self.glance().1
    }
}
