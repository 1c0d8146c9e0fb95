//! The driver of *edu*, a device that QEMU has for teaching (QEMU's documentation:
//! `docs/specs/edu`). It computes factorials, and interrupts when one is ready: by a message, or by
//! a line if the description names one. Serves [`protocols::edu`] to the group in which it is
//! exposed.
//!
//! The device does one thing at a time, so the driver waits for it while a client waits for the
//! driver. A device that does not answer in time is an error for that client.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use protocols::edu::{self, NUMBER_MAX, Refusal, Server, answer, request};
use user_rt::arch::now;
use user_rt::cap::Notification;
use user_rt::devices::{self, Interrupt};
use user_rt::ipc::{Event, Message, Received, recv, reply};
use user_rt::spawn::Nursery;
use user_rt::talk::{put, with_bytes};
use user_rt::{boot, info, layout};

user_rt::program!(begin);

/// The place of the device in the description.
const DEVICE: u16 = 0;
/// Bit of the Notification: the device wants something.
const INTERRUPTED: u64 = 1;
/// Registers of 32 bits, by their places.
const FACTORIAL: usize = 0x08 / 4;
const STATUS: usize = 0x20 / 4;
const CAUSE: usize = 0x24 / 4;
const ACKNOWLEDGE: usize = 0x64 / 4;
/// Bits of the status: one is being computed; interrupt when it is ready. And of the cause.
const COMPUTES: u32 = 0x01;
const TELL: u32 = 0x80;
const READY: u32 = 1;
/// Microseconds that the device may take, and between looks at what it did for others.
const PATIENCE: u64 = 1_000_000;
const LOOK: u64 = 100;

struct Driver {
    registers: &'static [AtomicU32],
    interrupt: Interrupt,
    wakes: Notification,
}

fn begin(_: u64) -> ! {
    let mut driver = Driver::new();
    info!("begins");
    loop {
        let call = match recv() {
            Ok(Event::Call(call)) => call,
            Ok(_) => continue,
            Err(refusal) => panic!("cannot receive: {refusal}"),
        };
        let message: Message = with_bytes(&call.message, |bytes| {
            edu::serve(&mut driver, &call, call.message.label, bytes, |answer| put(edu::ANSWER, answer))
        });
        // The caller may be gone.
        _ = reply(&message);
    }
}

impl Driver {
    /// Takes the device over.
    ///
    /// # Panics
    /// The description gives the process no such device, or no memory.
    fn new() -> Driver {
        let mut nursery = Nursery::of_program(0);
        let registers = devices::map(DEVICE, 0, 1, &mut nursery, layout::DEVICES_VA);
        let registers = registers.expect("the registers of the device on the bus");
        let wakes: Notification = nursery.make(0).expect("a Notification");
        let slot = nursery.take_slot().expect("a slot");
        let interrupt = Interrupt::of(DEVICE, slot, &wakes, INTERRUPTED);
        let driver = Driver { registers, interrupt: interrupt.expect("its interrupt"), wakes };
        driver.write(STATUS, TELL);
        driver
    }

    fn write(&self, register: usize, value: u32) {
        self.registers[register].store(value, Relaxed);
    }

    fn read(&self, register: usize) -> u32 {
        self.registers[register].load(Relaxed)
    }

    /// Lets the device compute. Returns `None` if it has not interrupted in time.
    fn factorial(&mut self, number: u32) -> Option<u32> {
        let until = now() + boot::ticks(PATIENCE);
        // What an earlier driver asked for, or somebody who did not wait for it: the device takes
        // no other number meanwhile.
        while self.read(STATUS) & COMPUTES != 0 {
            self.pause(now() + boot::ticks(LOOK))?;
            if now() >= until {
                return None;
            }
        }
        self.write(ACKNOWLEDGE, READY);
        self.write(FACTORIAL, number);
        loop {
            self.interrupt.rearm().expect("its interrupt");
            if self.read(STATUS) & COMPUTES == 0 && self.read(CAUSE) & READY != 0 {
                self.write(ACKNOWLEDGE, READY);
                return Some(self.read(FACTORIAL));
            }
            if now() >= until {
                return None;
            }
            self.pause(self.interrupt.again().map_or(until, |again| again.min(until)))?;
        }
    }

    /// Waits for an interrupt, until a time at most.
    fn pause(&self, until: u64) -> Option<()> {
        match self.wakes.wait_until(until) {
            Err(refusal) if refusal.error != abi::Error::Timeout => None,
            _ => Some(()),
        }
    }
}

impl Server<Received> for Driver {
    fn factorial(
        &mut self,
        _: &Received,
        asked: request::Reader<'_>,
        mut answer: answer::factorial::Builder<'_>,
    ) -> Result<(), Refusal> {
        let number = asked.get_number();
        if number > NUMBER_MAX {
            return Err(Refusal::TooLarge);
        }
        let begun = now();
        answer.set_value(self.factorial(number).ok_or(Refusal::NoAnswer)?);
        answer.set_micros(boot::micros(now() - begun));
        Ok(())
    }
}
