//! Which CPUs take tasks: all that are managed, but those that are parked or are to be.

use crate::CPUS_MAX;

/// The CPUs that a policy manages: a bit each, so there are 64 at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpus {
    count: u32,
    closed: u64,
}

const _: () = assert!(CPUS_MAX <= u64::BITS as usize);

impl Cpus {
    /// Makes a set of CPUs that all take tasks.
    pub fn new(count: u32) -> Cpus {
        Cpus { count: count.clamp(1, CPUS_MAX as u32), closed: 0 }
    }

    /// Returns how many are managed.
    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn is_open(&self, cpu: u32) -> bool {
        cpu < self.count && self.closed & 1 << cpu == 0
    }

    /// Lets a CPU take tasks or not.
    pub fn set_open(&mut self, cpu: u32, open: bool) {
        if cpu < self.count {
            self.closed = self.closed & !(1 << cpu) | u64::from(!open) << cpu;
        }
    }

    /// Returns those that take tasks.
    pub fn open(self) -> impl Iterator<Item = u32> + Clone {
        (0..self.count).filter(move |cpu| self.is_open(*cpu))
    }

    /// Returns the CPU on which a number puts a task, whatever else there is. `None`: no CPU takes
    /// tasks.
    pub fn of_number(self, number: u32) -> Option<u32> {
        let place = number.checked_rem(self.open().count() as u32)?;
        self.open().nth(place as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_cpus_get_nothing() {
        let mut cpus = Cpus::new(4);
        cpus.set_open(1, false);
        cpus.set_open(4, false);
        assert!(cpus.open().eq([0, 2, 3]));
        assert_eq!([0, 1, 2, 3].map(|number| cpus.of_number(number)), [Some(0), Some(2), Some(3), Some(0)]);
        cpus.set_open(1, true);
        assert!(cpus.open().eq(0..4) && cpus.is_open(1) && !cpus.is_open(4));
        (0..4).for_each(|cpu| cpus.set_open(cpu, false));
        assert_eq!(cpus.of_number(7), None);
        assert_eq!((Cpus::new(0).count(), Cpus::new(1_000).count()), (1, 64));
    }
}
