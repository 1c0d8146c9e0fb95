//! The controllers that take devices' interrupts (IOAPICs).
//!
//! Each controller has some lines, which firmware numbers through all of them, and a register for
//! each line: to which CPU and vector it goes, how it signals, whether it is masked. Memory has a
//! copy of what is written there, so that no register has to be read.
//!
//! # Invariants
//! A line goes to a vector from [`FIRST_DEVICE`] on, and is masked until [`open`]. A controller's
//! registers, and what is kept of them, change under its lock: two registers are written one after
//! the other, of which the first selects what the second is.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use abi::devices::line::{LEVEL, LOW};
use kern_base::irq::{LINES_MAX, Line, Route};
use spin::Once;
use spin::mutex::TicketMutex;

use crate::cpu::percpu;
use crate::mem::kernel;
use crate::mem::table::MapError;
use crate::trap::FIRST_DEVICE;

/// Controllers of a machine.
const MOST: usize = 16;

/// Registers in memory: one selects, the other is what was selected.
const SELECT: u64 = 0;
const WINDOW: u64 = 0x10;
/// Numbers of the registers: version, and the two words of the first line.
const VERSION: u32 = 1;
const FIRST_LINE: u32 = 0x10;

/// Bits of a line's first word.
const IS_LOW: u32 = 1 << 13;
const IS_LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
/// The destination is the topmost byte of the second word.
const DESTINATION_SHIFT: u32 = 24;

/// One controller.
struct IoApic {
    /// The number of its first line.
    first: u32,
    count: u32,
    registers: TicketMutex<Registers>,
}

/// Where a controller's registers are.
struct Registers(u64);

static ALL: Once<heapless::Vec<IoApic, MOST>> = Once::new();

/// The first word of each line without the mask; 0: it goes nowhere. Under the controller's lock.
static WORDS: [AtomicU32; LINES_MAX] = [const { AtomicU32::new(0) }; LINES_MAX];

/// Returns what is kept of a line that a controller has.
fn word(line: u32) -> &'static AtomicU32 {
    &WORDS[line as usize % LINES_MAX]
}

impl Registers {
    /// # Safety
    /// An interrupt goes to a vector that has a handler.
    unsafe fn write(&mut self, register: u32, value: u32) {
        // SAFETY: the registers of a controller, in a page that `init` has mapped for this module
        // alone; the lock is held.
        unsafe {
            ((self.0 + SELECT) as *mut u32).write_volatile(register);
            ((self.0 + WINDOW) as *mut u32).write_volatile(value);
        }
    }

    fn read(&mut self, register: u32) -> u32 {
        // SAFETY: as in `write`; reading changes nothing.
        unsafe {
            ((self.0 + SELECT) as *mut u32).write_volatile(register);
            ((self.0 + WINDOW) as *const u32).read_volatile()
        }
    }

    /// Writes the first word of the line with this index, masked or not.
    fn set(&mut self, index: u32, line: u32, mask: u32) {
        // SAFETY: masked, or to a vector of devices, all of which have handlers.
        unsafe { self.write(FIRST_LINE + 2 * index, word(line).load(Relaxed) | mask) }
    }
}

/// Finds the controllers, at these addresses and with these first lines, and masks all lines.
pub fn init(found: impl Iterator<Item = (u64, u32)>) -> Result<(), MapError> {
    let mut all = heapless::Vec::new();
    for (address, first) in found {
        let mut registers = Registers(kernel::map_device(address, 0x1000, kernel::DEVICE)?);
        let count = ((registers.read(VERSION) >> 16) & 0xff) + 1;
        let count = count.min((LINES_MAX as u32).saturating_sub(first));
        (0..count).for_each(|index| registers.set(index, first + index, MASKED));
        // More than there is room for are left as firmware left them, and nobody gets their lines.
        let _ = all.push(IoApic { first, count, registers: TicketMutex::new(registers) });
    }
    ALL.call_once(|| all);
    Ok(())
}

/// Calls `then` with the registers of the controller that has a line, and the line's index there.
fn with<R>(line: u32, then: impl FnOnce(&mut Registers, u32) -> R) -> Option<R> {
    let mut all = ALL.get()?.iter();
    let apic = all.find(|apic| line.checked_sub(apic.first).is_some_and(|index| index < apic.count))?;
    Some(then(&mut apic.registers.lock(), line - apic.first))
}

/// Returns whether a controller has a line.
pub fn has(line: u32) -> bool {
    with(line, |_, _| ()).is_some()
}

/// Masks a line, and says where it goes: see [`kern_base::machine::Machine::route_line`].
pub fn route(line: Line, to: Option<Route>) -> bool {
    let target = match to {
        None => None,
        Some(Route { cpu, place }) => {
            // A controller knows eight bits of an APIC's number.
            let apic = percpu::of(cpu).and_then(|cpu| u8::try_from(cpu.apic_id).ok());
            let Some(apic) = apic.filter(|apic| *apic != u8::MAX) else { return false };
            Some((apic, FIRST_DEVICE + place))
        }
    };
    with(line.number, |registers, index| {
        let level = if u64::from(line.how) & LEVEL != 0 { IS_LEVEL } else { 0 };
        let low = if u64::from(line.how) & LOW != 0 { IS_LOW } else { 0 };
        word(line.number).store(0, Relaxed);
        // SAFETY: the line is masked. How it signals is set all the same: some controllers forget a
        // level that rises before.
        unsafe { registers.write(FIRST_LINE + 2 * index, MASKED | level | low) };
        let Some((apic, vector)) = target else { return };
        // SAFETY: the line is masked.
        unsafe { registers.write(FIRST_LINE + 2 * index + 1, u32::from(apic) << DESTINATION_SHIFT) };
        word(line.number).store(u32::from(vector) | level | low, Relaxed);
        registers.set(index, line.number, MASKED);
    })
    .is_some()
}

/// Lets the next interrupt of a line come, if it goes somewhere.
pub fn open(line: u32) {
    with(line, |registers, index| {
        if word(line).load(Relaxed) != 0 {
            registers.set(index, line, 0);
        }
    });
}

/// Masks a line.
pub fn mask(line: u32) {
    with(line, |registers, index| registers.set(index, line, MASKED));
}
