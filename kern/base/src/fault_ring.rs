//! Reports of faults that no handler received, one ring for each CPU.
//!
//! A program faults as often as it likes. So a fault only leaves a report in its CPU's ring, which
//! takes a few stores, and a CPU without work prints the reports. The ring overwrites the oldest
//! report when it is full, and counts those that nobody printed.
//!
//! # Memory ordering
//! That of [`smp::ring`]. `printed` is the number of the next report to print. A CPU that has read
//! a report claims it by a compare-and-exchange of `printed`, so no report is printed twice.

use abi::{Error, TaskId};
use smp::ring::{Read, Reader, write};
use smp::sync::AtomicU64;
use smp::sync::Ordering::Relaxed;

use crate::machine::FaultEnd;

/// Words of a report.
const WORDS: usize = 8;
/// Reports that a ring holds. The one that is being written over is not whole.
pub const PLACES: usize = 16;
/// Stands for "there is no handler" among the numbers of errors, none of which is 0.
const NO_HANDLER: u64 = 0;

/// The reports of one CPU.
pub struct FaultRing {
    words: [AtomicU64; PLACES * WORDS],
    head: AtomicU64,
    printed: AtomicU64,
}

/// What is to be printed next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    Fault(FaultEnd),
    /// So many reports were overwritten.
    Lost(u64),
}

impl Default for FaultRing {
    fn default() -> FaultRing {
        FaultRing {
            words: core::array::from_fn(|_| AtomicU64::new(0)),
            head: AtomicU64::new(0),
            printed: AtomicU64::new(0),
        }
    }
}

impl FaultRing {
    /// Adds a report.
    /// Requires: only the ring's CPU calls this, with interrupts off.
    pub fn put(&self, end: &FaultEnd) {
        let why = end.why.map_or(NO_HANDLER, |error| error as u64);
        let about = u64::from(end.vector) << 32 | u64::from(end.error);
        write(&self.words, &self.head, [end.task.raw(), about, end.address, end.rip, why, 0, 0, 0]);
    }

    /// Takes the oldest report; `None` if there is none.
    pub fn take(&self) -> Option<Report> {
        loop {
            let next = self.printed.load(Relaxed);
            let mut reader = Reader::at(next);
            let read = reader.read(&self.words, &self.head)?;
            if self.printed.compare_exchange(next, reader.position(), Relaxed, Relaxed).is_ok() {
                return Some(report(read));
            }
        }
    }
}

fn report(read: Read<WORDS>) -> Report {
    match read {
        Read::Lost(count) => Report::Lost(count),
        Read::Event([task, about, address, rip, why, ..]) => Report::Fault(FaultEnd {
            task: TaskId::from_raw(task),
            vector: (about >> 32) as u8,
            error: about as u32,
            address,
            rip,
            why: Error::from_raw(why as u8),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(n: u64) -> FaultEnd {
        let why = if n.is_multiple_of(2) { None } else { Some(Error::Timeout) };
        FaultEnd { task: TaskId::from_raw(n), vector: 14, error: 6, address: n << 12, rip: n + 1, why }
    }

    #[test]
    fn reports_come_out_whole_once_and_in_order() {
        let ring = FaultRing::default();
        assert_eq!(ring.take(), None);
        for round in 0..5 {
            let all = || round * 10..round * 10 + 10;
            all().for_each(|n| ring.put(&end(n)));
            all().for_each(|n| assert_eq!(ring.take(), Some(Report::Fault(end(n)))));
            assert_eq!(ring.take(), None);
        }
    }

    #[test]
    fn reports_that_were_overwritten_are_counted() {
        let (ring, many) = (FaultRing::default(), 1000);
        (0..many).for_each(|n| ring.put(&end(n)));
        let kept = PLACES as u64 - 1;
        assert_eq!(ring.take(), Some(Report::Lost(many - kept)));
        (many - kept..many).for_each(|n| assert_eq!(ring.take(), Some(Report::Fault(end(n)))));
        assert_eq!(ring.take(), None);
    }
}
