//! Free slots of a CSpace: hands out ranges of slots from one range.

use core::ops::Range;

use abi::{Cap, Error};

use crate::{Refusal, Result};

/// A range of slots that nobody else uses; hands out from its front.
#[derive(Debug, PartialEq, Eq)]
pub struct Slots {
    whole: Range<u32>,
    next: u32,
}

impl Slots {
    pub const fn new(whole: Range<u32>) -> Slots {
        Slots { next: whole.start, whole }
    }

    pub const fn left(&self) -> u32 {
        self.whole.end - self.next
    }

    /// Takes `count` consecutive slots.
    /// Errors: [`Error::NoCapability`] with the number of free slots, if there are fewer.
    pub fn take(&mut self, count: u32) -> Result<Cap> {
        if count > self.left() {
            return Err(Refusal::local(Error::NoCapability, u64::from(self.left())));
        }
        let first = self.next;
        self.next += count;
        Ok(Cap(first))
    }

    /// Gives back the slots taken last. The kernel says whether they are empty when they are used.
    pub fn give_back(&mut self, count: u32) {
        self.next -= count.min(self.next - self.whole.start);
    }

    /// Splits off a range of slots for another owner.
    pub fn split(&mut self, count: u32) -> Result<Slots> {
        let first = self.take(count)?;
        Ok(Slots::new(first.0..first.0 + count))
    }

    /// Frees all slots that were taken.
    pub fn restart(&mut self) {
        self.next = self.whole.start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_run_out() {
        let mut slots = Slots::new(80..100);
        assert_eq!(slots.take(5), Ok(Cap(80)));
        let mut part = slots.split(10).unwrap();
        assert_eq!(part.take(10), Ok(Cap(85)));
        assert!(part.take(1).is_err());
        assert_eq!(slots.take(5), Ok(Cap(95)));
        assert_eq!(slots.take(1).unwrap_err().detail, 0);
        slots.give_back(2);
        assert_eq!(slots.take(2), Ok(Cap(98)));
        part.restart();
        assert_eq!(part.left(), 10);
    }
}
