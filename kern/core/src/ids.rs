//! Process identities: a number and a generation, never given twice; and the table of processes by
//! number.

use abi::{Error, ProcessKey};
use kern_base::limits::PROCESS_GENERATIONS;
use kern_base::process::Process;
use smp::cpu::Pin;
use smp::door::{AtomicLink, Ref, Table};
use smp::lock::Lock;
use smp::sync::AtomicU32;
use smp::sync::Ordering::Relaxed;

/// The numbers of all processes. The table is made at boot; number 0 is never given.
pub struct ProcessIds {
    numbers: Table<ProcessNumber>,
    /// Held while a number is given out or taken back.
    free: Lock<Free>,
}

/// The free numbers: those that were never given, then those that were returned, in order.
struct Free {
    /// The first number that was never given.
    fresh: u32,
    /// The first and the last returned number; 0: none.
    first: u32,
    last: u32,
}

/// A number of a process.
#[derive(Default)]
pub struct ProcessNumber {
    /// The generations given so far.
    given: AtomicU32,
    /// The next returned number; 0: none.
    next: AtomicU32,
    /// The process with this number, while it lives.
    process: AtomicLink<Process>,
}

impl ProcessIds {
    pub fn new(numbers: Table<ProcessNumber>) -> ProcessIds {
        ProcessIds { numbers, free: Lock::new(Free { fresh: 1, first: 0, last: 0 }) }
    }

    /// Gives out a key that was never given before.
    pub fn allocate(&self, pin: Pin<'_>) -> Result<ProcessKey, Error> {
        let mut free = self.free.lock(pin, &"the process numbers");
        let is_fresh = (free.fresh as usize) < self.numbers.len();
        let at = if is_fresh { free.fresh } else { free.first };
        let number = self.numbers.get(pin, at as usize).filter(|_| at != 0).ok_or(Error::Retired)?.get();
        if is_fresh {
            free.fresh += 1;
        } else {
            free.first = number.next.load(Relaxed);
        }
        let generation = number.given.load(Relaxed);
        number.given.store(generation + 1, Relaxed);
        Ok(ProcessKey::new(at, generation as u16))
    }

    /// Makes a process reachable by its number.
    /// Requires: no CPU can reach the process yet.
    pub fn enter(&self, pin: Pin<'_>, process: Ref<'_, Process>) {
        self.given(pin, process.get().key()).process.set(Some(process));
    }

    /// Returns the living process with a key; the caller compares the key.
    #[inline(always)]
    pub fn process<'k>(&self, pin: Pin<'k>, key: ProcessKey) -> Option<Ref<'k, Process>> {
        self.numbers.get(pin, key.number() as usize)?.get().process.get(pin)
    }

    /// Returns the record of the process number in a key that was given out.
    fn given<'k>(&self, pin: Pin<'k>, key: ProcessKey) -> &'k ProcessNumber {
        match self.numbers.get(pin, key.number() as usize) {
            Some(number) => number.get(),
            None => never_given(key),
        }
    }

    /// Returns the numbers of living processes. For surveys.
    pub fn living<'k>(&'k self, pin: Pin<'k>) -> impl Iterator<Item = (u32, Ref<'k, Process>)> + 'k {
        let numbers = self.numbers.iter(pin).enumerate();
        numbers.filter_map(move |(at, number)| Some((at as u32, number.get().process.get(pin)?)))
    }

    /// Takes back the number of a key. The number is given out again with the next generation, or
    /// is retired.
    pub fn release(&self, pin: Pin<'_>, key: ProcessKey) {
        let mut free = self.free.lock(pin, &"the process numbers");
        let number = self.given(pin, key);
        number.process.set(None);
        if number.given.load(Relaxed) >= PROCESS_GENERATIONS {
            return;
        }
        number.next.store(0, Relaxed);
        match self.numbers.get(pin, free.last as usize).filter(|_| free.first != 0) {
            Some(last) => last.get().next.store(key.number(), Relaxed),
            None => free.first = key.number(),
        }
        free.last = key.number();
    }
}

#[cold]
#[inline(never)]
fn never_given(key: ProcessKey) -> ! {
    panic!("{key:?} has a number that was never given to a process");
}
