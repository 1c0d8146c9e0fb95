//! Serial numbers: the ids of tasks, never given twice.
//!
//! A CPU takes a block of [`SERIAL_BLOCK`] numbers from the machine's counter, and gives them out
//! one by one. So CPUs meet at the counter once in a block, and the order of two ids says nothing
//! about the order in which two CPUs gave them out. A number that was given out is used up, also if
//! the operation then fails.

use abi::{Error, TaskId};
use kern_base::limits::SERIAL_BLOCK;
use kern_base::machine::Machine;
use smp::sync::AtomicU64;
use smp::sync::Ordering::Relaxed;

use crate::Cx;

/// The numbers that no CPU has taken yet.
pub struct Serials {
    next: AtomicU64,
}

impl Serials {
    /// Returns all numbers from `first` on.
    pub const fn from(first: TaskId) -> Serials {
        Serials { next: AtomicU64::new(first.raw()) }
    }

    /// Takes a block of numbers. Returns the first one, and the number after the last one.
    /// Errors: [`Error::Retired`] if there is no whole block any more.
    fn take_block(&self) -> Result<(u64, u64), Error> {
        let mut first = self.next.load(Relaxed);
        loop {
            let end = first.checked_add(SERIAL_BLOCK).ok_or(Error::Retired)?;
            match self.next.compare_exchange(first, end, Relaxed, Relaxed) {
                Ok(_) => return Ok((first, end)),
                Err(now) => first = now,
            }
        }
    }
}

impl<M: Machine> Cx<'_, M> {
    /// Gives out an id that no task ever had.
    /// Errors: [`Error::Retired`] if all are used up.
    pub fn next_id(self) -> Result<TaskId, Error> {
        let (next, end) = match self.sched.serials.get() {
            (next, end) if next < end => (next, end),
            _ => self.k.serials.take_block()?,
        };
        self.sched.serials.set((next + 1, end));
        Ok(TaskId::from_raw(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_numbers_are_given_once_and_then_none() {
        let last = u64::MAX - SERIAL_BLOCK;
        let serials = Serials::from(TaskId::from_raw(last - SERIAL_BLOCK));
        assert_eq!(serials.take_block(), Ok((last - SERIAL_BLOCK, last)));
        assert_eq!(serials.take_block(), Ok((last, last + SERIAL_BLOCK)));
        for _ in 0..3 {
            assert_eq!(serials.take_block(), Err(Error::Retired));
        }
    }
}
