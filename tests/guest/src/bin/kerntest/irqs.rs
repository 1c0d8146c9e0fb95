//! Interrupts of a real device, and I/O ports.
//!
//! The device is the timer that every PC has (HPET). The tests switch its first comparator on, and
//! off again. The ports are those of the clock that keeps the time of day.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use abi::{Error, Op, PAGE_SIZE};
use user_rt::arch::{Args, now, syscall};
use user_rt::boot;
use user_rt::cap::{Access, Frame, Handle, IoPort, IrqHandler, Notification};
use user_rt::devices::Signal;
use user_rt::layout::SHARED_VA;
use user_rt::spawn::own;

use crate::lab::Lab;
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    a_timer_interrupts_every_cpu a_line_that_stays_up_interrupts_again what_comes_while_it_is_masked_is_told
    a_line_has_one_holder the_end_of_a_handler_masks_its_line ports_are_read_in_their_range
}

const HPET: u64 = 0xfed0_0000;
const HOLE: u64 = SHARED_VA + 0x1000_0000;

/// Registers of the HPET, as indices of words of 32 bits.
const PERIOD: usize = 1;
const CONFIG: usize = 4;
const STATUS: usize = 8;
const COUNTER: usize = 60;
const TIMER: usize = 64;
const LINES: usize = 65;
const COMPARATOR: usize = 66;
/// Bits of [`CONFIG`] and [`TIMER`].
const COUNTS: u32 = 1;
const LEVEL: u32 = 1 << 1;
const ENABLED: u32 = 1 << 2;
const SHORT: u32 = 1 << 8;
const LINE_SHIFT: u32 = 9;

/// What an interrupt raises.
const BIT: u64 = 1 << 5;
/// Parts of a second: the distance to an interrupt, and how long a test waits for one.
const SOON: u64 = 5_000;
const PATIENCE: u64 = 2;

/// The timer, and the line of its interrupt.
struct Timer {
    registers: &'static [AtomicU32],
    line: u32,
    /// Its ticks in a 5,000th of a second.
    soon: u32,
}

impl Timer {
    /// Finds the timer, and lets it count.
    fn new(lab: &mut Lab<'_>) -> Result<Timer, Failure> {
        let place = lab.nursery.take_slot()?;
        own::machine().device_frame(lab.nursery.untyped(), HPET, 12, 0, own::cnode().slot(place))?;
        own::vspace().map(&Frame::at(place), HOLE, Access::Write)?;
        // SAFETY: a page of registers was just mapped there. It is unmapped at the end of the test,
        // after the last use.
        let registers =
            unsafe { core::slice::from_raw_parts(HOLE as *const AtomicU32, (PAGE_SIZE / 4) as usize) };
        let period = registers[PERIOD].load(Relaxed);
        if !(1..=100_000_000).contains(&period) {
            return Err(Failure::Lacks("the machine has no HPET where PCs have it"));
        }
        // Lines that no old device has.
        let lines = registers[LINES].load(Relaxed) & 0x00ff_0000;
        if lines == 0 {
            return Err(Failure::Lacks("the HPET has no line of its own"));
        }
        registers[CONFIG].store(registers[CONFIG].load(Relaxed) | COUNTS, Relaxed);
        let soon = (1_000_000_000_000_000 / SOON / u64::from(period)) as u32;
        Ok(Timer { registers, line: lines.trailing_zeros(), soon })
    }

    /// Lets it interrupt soon, by a level or a change of its line.
    fn start(&self, level: bool) {
        let at = self.registers[COUNTER].load(Relaxed).wrapping_add(self.soon);
        self.registers[COMPARATOR].store(at, Relaxed);
        let how = if level { LEVEL } else { 0 };
        self.registers[TIMER].store(how | ENABLED | SHORT | self.line << LINE_SHIFT, Relaxed);
    }

    /// Takes its signal back, and lets it interrupt no more.
    fn stop(&self) {
        // It takes its signal back from the line that it has now.
        self.registers[STATUS].store(1, Relaxed);
        self.registers[TIMER].store(SHORT | self.line << LINE_SHIFT, Relaxed);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn handler(lab: &mut Lab<'_>, timer: &Timer, level: bool) -> Result<IrqHandler, Failure> {
    let irq: IrqHandler = lab.nursery.make(0)?;
    own::machine().allow_irq(&irq, timer.line, Signal { level, low: false })?;
    Ok(irq)
}

/// Waits for the interrupt.
fn came(note: &Notification) -> user_rt::Result<u64> {
    note.wait_until(now() + boot::facts().tsc_hz / PATIENCE)
}

/// Fails if an interrupt comes.
fn comes_not(note: &Notification, when: &str) -> Outcome {
    let came = note.wait_until(now() + boot::facts().tsc_hz / (SOON / 10)).map_err(|r| r.error);
    expect_eq!(came, Err(Error::Timeout), "an interrupt {when}");
    Ok(())
}

/// Lets the next interrupt come, when the CPU has rested.
fn next(irq: &IrqHandler) -> Outcome {
    while let Some(at) = irq.next()? {
        expect!(at < now() + boot::facts().tsc_hz, "the CPU rests for more than a second");
        user_rt::arch::pause();
    }
    Ok(())
}

fn a_timer_interrupts_every_cpu(lab: &mut Lab<'_>) -> Outcome {
    let timer = Timer::new(lab)?;
    let note: Notification = lab.nursery.make(0)?;
    for level in [false, true] {
        let irq = handler(lab, &timer, level)?;
        for cpu in 0..lab.cpus {
            irq.bind(&own::sched_control(), cpu, &note, BIT)?;
            for turn in 0..3 {
                next(&irq)?;
                timer.start(level);
                expect_eq!(came(&note), Ok(BIT), "turn {turn} on CPU {cpu}, level {level}");
                timer.stop();
            }
            // The short way: a wait without a deadline.
            for _ in 0..3 {
                next(&irq)?;
                timer.start(level);
                expect_eq!(note.wait(), Ok(BIT), "without a deadline, on CPU {cpu}, level {level}");
                timer.stop();
            }
            irq.unbind(&own::sched_control())?;
        }
        own::cnode().delete(irq.cap())?;
    }
    Ok(())
}

fn a_line_that_stays_up_interrupts_again(lab: &mut Lab<'_>) -> Outcome {
    let timer = Timer::new(lab)?;
    let note: Notification = lab.nursery.make(0)?;
    let irq = handler(lab, &timer, true)?;
    irq.bind(&own::sched_control(), 0, &note, BIT)?;
    next(&irq)?;
    timer.start(true);
    for turn in 0..5 {
        expect_eq!(came(&note), Ok(BIT), "turn {turn}");
        comes_not(&note, "while the line is masked")?;
        next(&irq)?;
    }
    expect_eq!(came(&note), Ok(BIT), "the line is still up");
    timer.stop();
    next(&irq)?;
    comes_not(&note, "after the device wants nothing any more")
}

fn what_comes_while_it_is_masked_is_told(lab: &mut Lab<'_>) -> Outcome {
    let timer = Timer::new(lab)?;
    let note: Notification = lab.nursery.make(0)?;
    let irq = handler(lab, &timer, true)?;
    irq.bind(&own::sched_control(), 0, &note, BIT)?;
    timer.start(true);
    comes_not(&note, "before the driver has asked for one")?;
    next(&irq)?;
    expect_eq!(came(&note), Ok(BIT), "the line was up before");
    Ok(())
}

fn a_line_has_one_holder(lab: &mut Lab<'_>) -> Outcome {
    let timer = Timer::new(lab)?;
    let irq = handler(lab, &timer, true)?;
    let other: IrqHandler = lab.nursery.make(0)?;
    let give = |line: u64| {
        let args = Args::plain(Op::IrqAllow, own::machine().arg(), other.arg(), line, 0);
        syscall(args).done().map_err(|refusal| (refusal.error, refusal.detail))
    };
    expect_eq!(give(timer.line.into()), Err((Error::InUse, 0)), "a line that another one has");
    expect_eq!(give(1 << 20), Err((Error::BadArgument, 2)), "a line that the machine does not have");
    own::cnode().delete(irq.cap())?;
    expect_eq!(give(timer.line.into()), Ok(()), "a line that was given back");
    Ok(())
}

fn the_end_of_a_handler_masks_its_line(lab: &mut Lab<'_>) -> Outcome {
    let timer = Timer::new(lab)?;
    let note: Notification = lab.nursery.make(0)?;
    let irq = handler(lab, &timer, true)?;
    irq.bind(&own::sched_control(), 0, &note, BIT)?;
    next(&irq)?;
    own::cnode().delete(irq.cap())?;
    timer.start(true);
    comes_not(&note, "of a handler that has ended")?;
    // The line is still up: the next holder is told.
    let irq = handler(lab, &timer, true)?;
    irq.bind(&own::sched_control(), lab.cpus - 1, &note, BIT << 1)?;
    next(&irq)?;
    expect_eq!(came(&note), Ok(BIT << 1), "the next holder of the line");
    timer.stop();
    Ok(())
}

fn ports_are_read_in_their_range(lab: &mut Lab<'_>) -> Outcome {
    const INDEX: u16 = 0x70;
    const DATA: u16 = 0x71;
    let ports: IoPort = lab.nursery.make(0)?;
    let give = |first: u16, count: u32| {
        own::machine().allow_ports(&ports, first, count).map_err(|refusal| (refusal.error, refusal.detail))
    };
    // A serial line, the interrupt controllers, the end of the run: the kernel's.
    for (first, used) in [(0x2f0, 0x2f8), (0x20, 0x20), (0xa1, 0xa1), (0xf0, 0xf4)] {
        expect_eq!(give(first, 16), Err((Error::BadAddress, used)), "ports from {first:#x} on");
    }
    expect_eq!(give(INDEX, 2), Ok(()), "the ports of the clock");
    let register = |number: u8| -> user_rt::Result<u8> {
        ports.write_u8(INDEX, number)?;
        ports.read_u8(DATA)
    };
    let (minutes, valid) = (register(2)?, register(13)?);
    expect!(valid & 0x80 != 0, "the clock has lost its time: {valid:#x}");
    expect!(minutes & 0x7f < 0x60, "{minutes:#x} minutes");
    let refused = ports.read_u8(DATA + 1).map_err(|refusal| (refusal.error, refusal.detail));
    expect_eq!(refused, Err((Error::BadArgument, 1)), "a port behind the range");
    let refused = ports.read_u16(DATA).map_err(|refusal| (refusal.error, refusal.detail));
    expect_eq!(refused, Err((Error::BadArgument, 1)), "two bytes, of which one is behind it");
    Ok(())
}
