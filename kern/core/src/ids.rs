//! Process identities: numbers with generations, none given twice; and which process has a number.

use abi::{Error, ProcessKey};
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use kern_base::process::Process;
use smp::cpu::Pin;
use smp::door::{AtomicLink, Ref, Table};

/// The numbers of all processes. The table is made at boot; number 0 is never given.
pub struct ProcessIds {
    numbers: Table<ProcessNumber>,
    /// Where the last search ended. Who gives a number out, or takes it back, holds this.
    cursor: spin::Mutex<usize>,
}

/// A number.
#[derive(Default)]
pub struct ProcessNumber {
    /// Bit 31: in use; below it the generations given so far.
    given: AtomicU32,
    /// Whose it is, while that one lives.
    process: AtomicLink<Process>,
}

/// Generations a number can have.
const GENERATIONS: u32 = 1 << 12;
const USED: u32 = 1 << 31;

impl ProcessIds {
    pub fn new(numbers: Table<ProcessNumber>) -> ProcessIds {
        ProcessIds { numbers, cursor: spin::Mutex::new(0) }
    }

    /// A key that was never given before.
    pub fn allocate(&self, pin: Pin<'_>) -> Result<ProcessKey, Error> {
        let mut cursor = self.cursor.lock();
        let len = self.numbers.len();
        for step in 1..=len {
            let at = (*cursor + step) % len;
            let Some(number) = self.numbers.get(pin, at) else { continue };
            let value = number.given.load(Relaxed);
            if at == 0 || value & USED != 0 || value >= GENERATIONS {
                continue;
            }
            number.given.store(USED | (value + 1), Relaxed);
            *cursor = at;
            return Ok(ProcessKey::new(at as u32, value as u16));
        }
        Err(Error::Retired)
    }

    /// A process that nobody can reach yet is found by its number from here on.
    pub fn enter(&self, pin: Pin<'_>, process: Ref<'_, Process>) {
        if let Some(number) = self.numbers.get(pin, process.get().key().number() as usize) {
            number.get().process.set(Some(process));
        }
    }

    /// The process that has a key, if it lives: one compares its key.
    #[inline(always)]
    pub fn process<'k>(&self, pin: Pin<'k>, key: ProcessKey) -> Option<Ref<'k, Process>> {
        self.numbers.get(pin, key.number() as usize)?.get().process.get(pin)
    }

    /// Gives a number back; it will be used again with the next generation, or retired.
    pub fn release(&self, pin: Pin<'_>, key: ProcessKey) {
        let _cursor = self.cursor.lock();
        if let Some(number) = self.numbers.get(pin, key.number() as usize) {
            number.get().process.set(None);
            number.given.store(number.given.load(Relaxed) & !USED, Relaxed);
        }
    }
}
