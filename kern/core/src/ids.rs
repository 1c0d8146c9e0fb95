//! Process identities: numbers with generations, none given twice.

use abi::{Error, ProcessKey};
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;
use smp::cpu::Pin;
use smp::door::Table;

/// The numbers of all processes. The table is made at boot; number 0 is never given.
pub struct ProcessIds {
    table: spin::Mutex<Numbers>,
}

/// Each slot: bit 31 = in use, below it the generations given so far.
struct Numbers {
    slots: Table<AtomicU32>,
    /// Where the last search ended.
    cursor: usize,
}

/// Generations a number can have.
const GENERATIONS: u32 = 1 << 12;
const USED: u32 = 1 << 31;

impl ProcessIds {
    pub fn new(slots: Table<AtomicU32>) -> ProcessIds {
        ProcessIds { table: spin::Mutex::new(Numbers { slots, cursor: 0 }) }
    }

    /// A key that was never given before.
    pub fn allocate(&self, pin: Pin<'_>) -> Result<ProcessKey, Error> {
        let mut numbers = self.table.lock();
        let len = numbers.slots.len();
        for step in 1..=len {
            let at = (numbers.cursor + step) % len;
            let Some(slot) = numbers.slots.get(pin, at) else { continue };
            let value = slot.load(Relaxed);
            if at == 0 || value & USED != 0 || value >= GENERATIONS {
                continue;
            }
            slot.store(USED | (value + 1), Relaxed);
            numbers.cursor = at;
            return Ok(ProcessKey::new(at as u32, value as u16));
        }
        Err(Error::Retired)
    }

    /// Gives a number back; it will be used again with the next generation, or retired.
    pub fn release(&self, pin: Pin<'_>, key: ProcessKey) {
        let numbers = self.table.lock();
        if let Some(slot) = numbers.slots.get(pin, key.number() as usize) {
            slot.store(slot.load(Relaxed) & !USED, Relaxed);
        }
    }
}
