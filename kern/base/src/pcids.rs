//! Shares of the machine's PCIDs: how many address spaces made of an Untyped may keep their
//! translations across switches.
//!
//! PCIDs are few, and every address space that is made wants one. If the first programs to ask got
//! them, one with some memory could take all, and each switch to an address space that others make
//! later would flush. So PCIDs are shared as memory is: a boot Untyped has its part of them, and an
//! Untyped that is made of another takes its part from that one. It gives them back when it ends.
//!
//! # Invariant
//! The shares of all Untypeds, and the PCIDs that address spaces took from them, are together as
//! many as programs can have in all. So only a program that has an Untyped, or one of which that
//! was made, can use up the Untyped's share.
//!
//! # Memory ordering
//! A share is only a number, and the root's lock serialises all that take from it. It is given back
//! without that lock. A CPU that finds a PCID in a share may not find the PCID itself yet, which
//! is given back at about the same time; then an address space has none.

use smp::sync::{AtomicU32, Ordering::Relaxed};

/// An Untyped gets a PCID for each 256 KiB, up to [`SMALL_SHARE`], also if its part of its
/// parent's is smaller: then little memory suffices for a few address spaces on a large machine.
const BYTES_EACH_LOG2: u32 = 18;
const SMALL_SHARE: u32 = 16;

/// The PCIDs of an Untyped.
pub struct PcidShare {
    /// What it got.
    all: u32,
    /// What it has left.
    left: AtomicU32,
}

impl PcidShare {
    pub const fn new(all: u32) -> PcidShare {
        PcidShare { all, left: AtomicU32::new(all) }
    }

    /// Returns how many it got, and how many are left.
    #[cfg(test)]
    fn count(&self) -> (u32, u32) {
        (self.all, self.left.load(Relaxed))
    }

    /// Takes one. Returns `false` if none is left.
    /// Requires: the lock of the Untyped's root is held.
    pub fn take(&self) -> bool {
        self.take_some(1) != 0
    }

    fn take_some(&self, wanted: u32) -> u32 {
        let taken = self.left.load(Relaxed).min(wanted);
        if taken != 0 {
            // Others only add meanwhile.
            self.left.fetch_sub(taken, Relaxed);
        }
        taken
    }

    /// Gives one back.
    pub fn give(&self) {
        self.left.fetch_add(1, Relaxed);
    }

    /// Takes the share of an Untyped of 2^`part` bytes, which is made of this one of 2^`whole`
    /// bytes.
    /// Requires: the lock of the Untyped's root is held.
    pub fn divide(&self, part: u8, whole: u8) -> PcidShare {
        let smaller = u32::from(whole.saturating_sub(part)).min(31);
        let by_size = ((u64::from(self.all) + (1 << smaller) - 1) >> smaller) as u32;
        let wanted = by_size.max((1 << u32::from(part).min(31) >> BYTES_EACH_LOG2).min(SMALL_SHARE));
        PcidShare::new(self.take_some(wanted))
    }

    /// Gives back the share of an Untyped that was made of this one and has ended, as have all
    /// address spaces and Untypeds that were made of that one.
    pub fn unite(&self, part: &PcidShare) {
        self.left.fetch_add(part.all, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_large_as_the_memory() {
        let whole = PcidShare::new(4000);
        let half = whole.divide(29, 30);
        assert_eq!((half.count(), whole.count()), ((2000, 2000), (4000, 2000)));
        let quarter = half.divide(28, 29);
        assert_eq!((quarter.count(), half.count()), ((1000, 1000), (2000, 1000)));
        half.unite(&quarter);
        whole.unite(&half);
        assert_eq!(whole.count(), (4000, 4000));
    }

    #[test]
    fn a_small_part_has_some_and_none_gets_more_than_there_are() {
        let whole = PcidShare::new(40);
        let parts = [22, 20, 23, 18, 26, 20].map(|log2| whole.divide(log2, 40).count().0);
        assert_eq!(parts, [16, 4, 16, 1, 3, 0]);
        assert!(!whole.take(), "none is left");
    }

    #[test]
    fn one_is_taken_as_often_as_there_are() {
        let share = PcidShare::new(2);
        assert_eq!([(); 3].map(|()| share.take()), [true, true, false]);
        share.give();
        assert!(share.take() && !share.take());
    }
}
