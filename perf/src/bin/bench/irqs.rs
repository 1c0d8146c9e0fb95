//! Interrupts of a device to its driver. The device is QEMU's *edu*, a device for teaching: a
//! write to one of its registers raises its interrupt, immediately. (QEMU's documentation:
//! `specs/edu.txt`.)
//!
//! The client raises, on CPU 0, and the driver waits on CPU 1, so a sample is the time from one to
//! the other. Under icount the clock also counts what the client's CPU executes meanwhile. So there
//! the plugin counts, from the interrupt on: the driver marks where it waits and where it is back,
//! and the client marks where an interrupt may come to its own CPU.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use abi::{Cap, PAGE_SIZE};
use perf::mark::{GATE, OP, REGION_IRQ, REGION_IRQ_CROSS, REGION_IRQ_PREEMPT, mark};
use user_rt::arch::timestamp;
use user_rt::cap::{Access, Handle, IrqHandler, Notification, Untyped};
use user_rt::layout::DEVICES_VA;
use user_rt::spawn::{Nursery, own};
use user_rt::views::{Range, Wanted};
use user_rt::{devices, supervisor};

use crate::block::{Block, Word};
use crate::life::named;
use crate::measure::{measure_between, park, trace};
use crate::roles::say_ready;

/// The place of the device in the bench's description, and of its registers among its memory.
const DEVICE: u16 = 0;
const REGISTERS: u16 = 0;
/// The registers that raise an interrupt, and that take it back.
const RAISE: u64 = 0x60;
const ACKNOWLEDGE: u64 = 0x64;
const CAUSE: u32 = 1;

/// How long the client lets the driver's CPU become idle, in ticks.
const A_WHILE: u64 = 50_000;
/// Bits of the client's Notification: the driver is about to wait; it has run.
const WAITS: u64 = 1;
const RAN: u64 = 2;
/// The bit of the driver's.
const INTERRUPTED: u64 = 1;

/// The slot of the interrupt's capability, for the tasks of rows; 0 without the device.
static HANDLER: AtomicU32 = AtomicU32::new(0);

/// Takes the device, if the machine has it. Returns whether it has.
pub fn take_device(nursery: &mut Nursery) -> user_rt::Result<bool> {
    let Ok(there) = devices::memory(DEVICE, REGISTERS) else { return Ok(false) };
    let (slot, frame) = (nursery.take_slot()?, nursery.take_slot()?);
    let Ok(handler) = devices::interrupt(DEVICE, slot) else { return Ok(false) };
    let page = Range { pages: 1, ..there.range };
    let Ok(frame) = supervisor::view(Wanted { range: page, ..there }, frame) else { return Ok(false) };
    own::vspace().map(&frame, DEVICES_VA, Access::Write)?;
    HANDLER.store(handler.cap().0, Relaxed);
    Ok(true)
}

fn handler() -> IrqHandler {
    IrqHandler::at(Cap(HANDLER.load(Relaxed)))
}

/// Writes a register.
fn write(register: u64, value: u32) {
    const { assert!(RAISE < PAGE_SIZE && ACKNOWLEDGE < PAGE_SIZE) };
    // SAFETY: the rows run only if `take_device` has mapped the page of registers, which stays
    // mapped. A register is accessed by whole words. The device writes no memory.
    let register = unsafe { &*((DEVICES_VA + register) as *const AtomicU32) };
    register.store(value, Relaxed);
}

/// Raises the device's interrupt, when the driver waits.
pub extern "C" fn raise_client(index: u64) -> ! {
    raise(Block::at(index), || ())
}

/// Does the same, and the interrupt comes to its own CPU.
pub extern "C" fn raise_here_client(index: u64) -> ! {
    raise(Block::at(index), mark::<GATE, REGION_IRQ_CROSS>)
}

#[inline(always)]
fn raise(block: Block, before: impl Fn()) -> ! {
    let note = Notification::at(named(block, Word::NoteClient));
    let mut waits = false;
    let raise = || {
        while !waits {
            waits = note.wait().is_ok_and(|bits| bits & WAITS != 0);
        }
        // Nobody rings meanwhile.
        let _ = note.wait_until(timestamp() + A_WHILE);
        before();
        let start = timestamp();
        write(RAISE, CAUSE);
        let bits = note.wait().unwrap_or(0);
        waits = bits & WAITS != 0;
        (start, block.get(Word::Ran), bits & RAN != 0)
    };
    if block.get(Word::Trace) != 0 {
        // The driver's marks count.
        let mut raise = raise;
        trace(block, || (), move || raise().2, || (), || ())
    }
    measure_between(block, raise, || true)
}

/// Drives the device, whose interrupts come to its own CPU.
pub extern "C" fn driver(index: u64) -> ! {
    drive::<REGION_IRQ>(Block::at(index), Word::ServerCpu)
}

/// Does the same for another row.
pub extern "C" fn preempting_driver(index: u64) -> ! {
    drive::<REGION_IRQ_PREEMPT>(Block::at(index), Word::ServerCpu)
}

/// Drives the device, whose interrupts come to the client's CPU.
pub extern "C" fn far_driver(index: u64) -> ! {
    drive::<REGION_IRQ_CROSS>(Block::at(index), Word::ClientCpu)
}

fn drive<const REGION: u8>(block: Block, cpu: Word) -> ! {
    let wakes = Notification::at(named(block, Word::NoteServer));
    let client = Notification::at(named(block, Word::NoteClient));
    let memory = Untyped::at(named(block, Word::Untyped));
    let (irq, control, cpu) = (handler(), own::sched_control(), block.get(cpu) as u32);
    // The driver of an earlier row may have bound it.
    let _ = irq.unbind(&control);
    let made = memory.retype::<Notification>(0, own::cnode().slot(wakes.cap()), 1);
    if made.is_err() || irq.bind(&control, cpu, &wakes, INTERRUPTED).is_err() {
        park();
    }
    say_ready(block);
    loop {
        loop {
            match irq.next() {
                Ok(None) => break,
                // The CPU rests from the last interrupt.
                Ok(Some(time)) => _ = wakes.wait_until(time),
                Err(_) => park(),
            }
        }
        let _ = client.notify(WAITS);
        mark::<GATE, REGION>();
        let woken = wakes.wait();
        mark::<OP, REGION>();
        let now = timestamp();
        write(ACKNOWLEDGE, CAUSE);
        if woken.is_err() {
            park();
        }
        block.set(Word::Ran, now);
        let _ = client.notify(RAN);
    }
}
