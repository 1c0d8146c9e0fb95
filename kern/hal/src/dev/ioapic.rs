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

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU8, AtomicU32};

use abi::devices::FIRST_MSI;
use abi::devices::line::{LEVEL, LOW};
use kern_base::irq::{LINES_MAX, Line, Route};
use spin::Once;
use spin::mutex::TicketMutex;

use crate::dev::msi;
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

/// Bits of a line's first word, and all that it has.
const VECTOR: u32 = 0xff;
const IS_LOW: u32 = 1 << 13;
const IS_LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const FIRST_WORD: u32 = (1 << 17) - 1;
/// The destination is the topmost byte of the second word; in memory, of the first one.
const DESTINATION_SHIFT: u32 = 24;
/// In memory: the line is not masked.
const OPEN: u32 = 1 << 20;

/// One controller.
struct IoApic {
    /// The number of its first line.
    first: u32,
    registers: TicketMutex<Registers>,
}

/// Where a controller's registers are.
struct Registers(u64);

static ALL: [Once<IoApic>; MOST] = [const { Once::new() }; MOST];

/// The first word of each line without the mask, its destination, and [`OPEN`]; 0: it goes nowhere.
/// Changed under the controller's lock. A CPU that only looks reads what was true a moment ago.
static WORDS: [AtomicU32; LINES_MAX] = [const { AtomicU32::new(0) }; LINES_MAX];

/// The number of the controller that has a line, or [`NONE`].
static OF: [AtomicU8; LINES_MAX] = [const { AtomicU8::new(NONE) }; LINES_MAX];
const NONE: u8 = u8::MAX;
const _: () = assert!(MOST <= NONE as usize);

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

    /// Keeps a line's word, and writes its part in the register of the line with this index.
    fn set(&mut self, index: u32, line: u32, kept: u32) {
        word(line).store(kept, Relaxed);
        let mask = if kept & OPEN == 0 { MASKED } else { 0 };
        // SAFETY: masked, or to a vector of devices, all of which have handlers.
        unsafe { self.write(FIRST_LINE + 2 * index, kept & FIRST_WORD | mask) }
    }
}

/// Finds the controllers, at these addresses and with these first lines, and masks all lines.
pub fn init(found: impl Iterator<Item = (u64, u32)>) -> Result<(), MapError> {
    for ((address, first), number) in found.zip(0..) {
        let mut registers = Registers(kernel::map_device(address, 0x1000, kernel::DEVICE)?);
        let all = ((registers.read(VERSION) >> 16) & 0xff) + 1;
        // Numbers from there on are those of messages: nobody gets such a line.
        let count = all.min(FIRST_MSI.saturating_sub(first));
        // SAFETY: masked.
        (count..all).for_each(|index| unsafe { registers.write(FIRST_LINE + 2 * index, MASKED) });
        (0..count).for_each(|index| registers.set(index, first + index, 0));
        // More than there is room for are left as firmware left them, and nobody gets their lines.
        let Some(place) = ALL.get(usize::from(number)) else { continue };
        place.call_once(|| IoApic { first, registers: TicketMutex::new(registers) });
        OF.iter().skip(first as usize).take(count as usize).for_each(|of| of.store(number, Relaxed));
    }
    Ok(())
}

/// Returns the controller that has a line, one of those of [`has`].
fn of(line: u32) -> Option<&'static IoApic> {
    let number = OF[line as usize % LINES_MAX].load(Relaxed);
    ALL.get(usize::from(number))?.get()
}

/// Returns whether a controller has a line.
pub fn has(line: u32) -> bool {
    (line as usize) < LINES_MAX && of(line).is_some()
}

/// Masks a line, and says where it goes: see [`kern_base::machine::Machine::route_line`].
pub fn route(line: Line, to: Option<Route>) -> bool {
    let target = match to {
        None => None,
        Some(to) => {
            let Some(apic) = msi::short_apic_id(to) else { return false };
            Some((u32::from(apic) << DESTINATION_SHIFT, FIRST_DEVICE + to.place))
        }
    };
    let Some(apic) = of(line.number) else { return false };
    let (mut registers, index) = (apic.registers.lock(), line.number - apic.first);
    let level = if u64::from(line.how) & LEVEL != 0 { IS_LEVEL } else { 0 };
    let low = if u64::from(line.how) & LOW != 0 { IS_LOW } else { 0 };
    // An interrupt of its level that a CPU has not acknowledged yet would leave the line deaf: that
    // CPU acknowledges the earlier vector. A line that signals by a change forgets it.
    registers.set(index, line.number, 0);
    // SAFETY: the line is masked. How it signals is set all the same: some controllers forget a
    // level that rises before.
    unsafe { registers.write(FIRST_LINE + 2 * index, MASKED | level | low) };
    if let Some((destination, vector)) = target {
        // SAFETY: the line is masked.
        unsafe { registers.write(FIRST_LINE + 2 * index + 1, destination) };
        registers.set(index, line.number, destination | u32::from(vector) | level | low);
    }
    true
}

/// Lets the next interrupt of a line come, if it goes somewhere.
pub fn open(line: u32) {
    // A driver that asks twice does not wait for the lock.
    if word(line).load(Relaxed) & OPEN != 0 {
        return;
    }
    change(line, |kept| kept != 0 && kept & OPEN == 0);
}

/// Masks a line.
pub fn mask(line: u32) {
    change(line, |kept| kept & OPEN != 0);
}

/// Opens a line that is masked, or masks one that is open, if `is_other` says so of what is kept.
fn change(line: u32, is_other: impl Fn(u32) -> bool) {
    let Some(apic) = of(line) else { return };
    let mut registers = apic.registers.lock();
    let kept = word(line).load(Relaxed);
    if is_other(kept) {
        registers.set(line - apic.first, line, kept ^ OPEN);
    }
}

/// Masks all lines that interrupt the CPU with this APIC at a place of its table.
#[cold]
pub fn mask_place(apic_id: u32, place: u8) {
    let goes_there =
        |kept: u32| kept & VECTOR == u32::from(FIRST_DEVICE + place) && kept >> DESTINATION_SHIFT == apic_id;
    for (line, kept) in (0..).zip(&WORDS) {
        if goes_there(kept.load(Relaxed)) {
            mask(line);
        }
    }
}
