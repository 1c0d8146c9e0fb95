//! IoPorts: ranges of I/O ports.
//!
//! # Invariants
//! The range is set once, by one store, and has no port that the kernel uses itself. Nothing refers
//! to an IoPort but capabilities.

use abi::ObjType;
use abi::devices::PORTS;
use smp::sync::AtomicU64;
use smp::sync::Ordering::{Acquire, Release};

use crate::header::{Header, RootId};

/// A range of I/O ports.
#[repr(C, align(64))]
pub struct IoPort {
    pub header: Header,
    /// The first port, and above that how many; 0: none.
    range: AtomicU64,
}

/// The number of ports is above their first in the word of a range.
const COUNT_SHIFT: u32 = 32;

impl IoPort {
    /// Makes an IoPort without a range.
    pub fn new(root: RootId) -> IoPort {
        IoPort { header: Header::new(ObjType::IoPort, root), range: AtomicU64::new(0) }
    }

    /// Sets the range, which is not empty. Returns whether it had none.
    pub fn give(&self, first: u16, count: u64) -> bool {
        let raw = count << COUNT_SHIFT | u64::from(first);
        self.range.compare_exchange(0, raw, Release, Acquire).is_ok()
    }

    /// Returns its first port and how many there are, 0 before that is set.
    pub fn range(&self) -> (u64, u64) {
        let raw = self.range.load(Acquire);
        (raw & (PORTS - 1), raw >> COUNT_SHIFT)
    }

    /// Returns the port with this number, if it and those behind it, `bytes` in all, are in the
    /// range.
    pub fn port(&self, number: u64, bytes: u64) -> Option<u16> {
        let (first, count) = self.range();
        let offset = number.checked_sub(first).filter(|offset| *offset < count)?;
        let port = u16::try_from(number).ok()?;
        (bytes <= count - offset).then_some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ports_of_the_range_are_found() {
        let ports = IoPort::new(RootId(0));
        assert_eq!(ports.port(0, 1), None, "it has none yet");
        assert!(ports.give(0xfff8, 8) && !ports.give(0, 1));
        let found = [(0xfff7, 1), (0xfff8, 4), (0xfffc, 4), (0xfffd, 4), (0xffff, 1), (0x1_0000, 1)];
        let found = found.map(|(port, bytes)| ports.port(port, bytes));
        assert_eq!(found, [None, Some(0xfff8), Some(0xfffc), None, Some(0xffff), None]);
        assert_eq!(ports.port(u64::MAX, 4), None);
    }
}
