//! The process-context identifiers in use. Each belongs to one VSpace, on all CPUs, from the
//! VSpace's creation until no CPU holds a translation of it any more.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Number of PCIDs. No address space has 0.
pub const PCIDS: usize = 4096;

pub struct Pcids([AtomicU64; PCIDS / 64]);

impl Pcids {
    pub const fn new() -> Pcids {
        Pcids([const { AtomicU64::new(0) }; PCIDS / 64])
    }

    /// Takes the lowest free PCID; 0 if all are taken.
    pub fn take(&self) -> u16 {
        for (i, word) in self.0.iter().enumerate() {
            let reserved = u64::from(i == 0);
            let taken = word.fetch_update(Relaxed, Relaxed, |bits| {
                let free = !(bits | reserved);
                (free != 0).then(|| bits | (1 << free.trailing_zeros()))
            });
            if let Ok(before) = taken {
                return (i * 64) as u16 + (!(before | reserved)).trailing_zeros() as u16;
            }
        }
        0
    }

    /// Gives a PCID back.
    /// Requires: no CPU has a translation with it.
    pub fn give(&self, pcid: u16) {
        let pcid = usize::from(pcid);
        if pcid != 0 && pcid < PCIDS {
            self.0[pcid / 64].fetch_and(!(1 << (pcid % 64)), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_and_again_when_it_was_given_back() {
        let pcids = Pcids::new();
        for expected in 1..PCIDS as u16 {
            assert_eq!(pcids.take(), expected);
        }
        assert_eq!(pcids.take(), 0, "none is left");
        for pcid in [4095, 64, 1] {
            pcids.give(pcid);
            assert_eq!(pcids.take(), pcid);
        }
        pcids.give(0);
        assert_eq!(pcids.take(), 0, "0 is never free");
    }
}
