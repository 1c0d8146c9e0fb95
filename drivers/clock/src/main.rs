//! The driver of a PC's clocks. Serves [`protocols::clock`] to the group in which it is exposed.
//!
//! ```text
//!   main ── rtc     the time of day, in seconds: the first device of the description
//!     └──── hpet    a counter of a known rate: the second one, if there is one
//! ```
//!
//! The time of day comes in seconds, and the clock interrupts when one begins. Between two seconds
//! the CPU's counter tells how much has passed. So the driver waits for the beginning of a second
//! before it serves, if one begins in time: in an emulator this clock may run slower than the CPU's
//! counter. While the driver runs, the time never goes back.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod hpet;
mod rtc;

use mmio::Ports;
use protocols::clock::{self, Refusal, Server, answer};
use user_rt::arch::now;
use user_rt::cap::Notification;
use user_rt::devices::{self, Interrupt};
use user_rt::ipc::{Message, Received, reply};
use user_rt::spawn::{Nursery, own};
use user_rt::talk::{put, with_bytes};
use user_rt::{boot, info, layout};

use hpet::Hpet;
use rtc::Rtc;

user_rt::program!(begin);

/// The places of the clocks among the devices of the description.
const RTC: u16 = 0;
const HPET: u16 = 1;
/// Bit of the Notification: a second has begun.
const INTERRUPTED: u64 = 1;
const MICROS: u64 = 1_000_000;
/// The longest time that the driver waits for the beginning of a second, in microseconds.
const BEGIN: u64 = 1_100_000;

/// A time of day, and the CPU's counter at that time.
#[derive(Clone, Copy)]
struct Known {
    micros: u64,
    ticks: u64,
}

struct Driver {
    rtc: Rtc<Ports>,
    hpet: Option<Hpet>,
    interrupt: Interrupt,
    known: Option<Known>,
    /// The last answer.
    told: u64,
}

fn begin(_: u64) -> ! {
    let mut driver = Driver::new();
    info!("begins");
    loop {
        let turn = driver.interrupt.turn().expect("calls and interrupts");
        if turn.looks {
            driver.note_second();
        }
        if let Some(call) = turn.call {
            driver.serve(&call);
        }
    }
}

impl Driver {
    /// Takes the clocks over.
    ///
    /// # Panics
    /// The description gives the process no clock with ports and an interrupt, or no memory.
    fn new() -> Driver {
        let mut nursery = Nursery::of_program(0);
        let slot = |nursery: &mut Nursery| nursery.take_slot().expect("a slot");
        let (ports, first, _) = devices::ports(RTC, 0, slot(&mut nursery)).expect("the ports of a clock");
        let wakes: Notification = nursery.make(0).expect("a Notification");
        let interrupt = Interrupt::of(RTC, slot(&mut nursery), &wakes, INTERRUPTED);
        let interrupt = interrupt.expect("the interrupt of a clock");
        let rtc = Rtc::begin(Ports::new(ports, first));
        let hpet = hpet(&mut nursery);
        let mut driver = Driver { rtc, hpet, interrupt, known: None, told: 0 };
        let until = now() + boot::ticks(BEGIN);
        while driver.known.is_none() && now() < until {
            let next = driver.interrupt.again().map_or(until, |again| again.min(until));
            // A timeout is no error.
            _ = wakes.wait_until(next);
            driver.interrupt.rearm().expect("the interrupt of a clock");
            driver.note_second();
        }
        if driver.known.is_none() {
            driver.note_time(now());
        }
        wakes.bind(&own::task()).expect("a Notification of the first task");
        driver
    }

    /// Looks at the clock after an interrupt.
    fn note_second(&mut self) {
        let ticks = now();
        if self.rtc.take_change() {
            self.note_time(ticks);
        }
        if let Some(hpet) = &mut self.hpet {
            hpet.look(now);
        }
    }

    /// Notes the time that the clock shows, if it shows one, as that of these ticks.
    fn note_time(&mut self, ticks: u64) {
        if let Some(seconds) = self.rtc.seconds() {
            self.known = Some(Known { micros: seconds * MICROS, ticks });
        }
    }

    fn serve(&mut self, call: &Received) {
        let message: Message = with_bytes(&call.message, |bytes| {
            clock::serve(self, call, call.message.label, bytes, |answer| put(clock::ANSWER, answer))
        });
        // The caller may be gone.
        _ = reply(&message);
    }
}

/// Finds the clock of a known rate, if the description gives the process one.
fn hpet(nursery: &mut Nursery) -> Option<Hpet> {
    let registers = devices::map(HPET, 0, 1, nursery, layout::DEVICES_VA).ok()?;
    Hpet::begin(registers, now)
}

impl Server<Received> for Driver {
    fn now(&mut self, _: &Received, mut answer: answer::now::Builder<'_>) -> Result<(), Refusal> {
        let known = self.known.ok_or(Refusal::NotSet)?;
        let since = boot::micros(now().saturating_sub(known.ticks));
        self.told = self.told.max(known.micros + since);
        answer.set_micros(self.told);
        Ok(())
    }

    fn rate(&mut self, _: &Received, mut answer: answer::rate::Builder<'_>) -> Result<(), Refusal> {
        let hpet = self.hpet.as_mut().ok_or(Refusal::NoOther)?;
        hpet.look(now);
        let (hz, micros) = hpet.rate().ok_or(Refusal::NoOther)?;
        answer.set_hz(hz);
        answer.set_micros(micros);
        Ok(())
    }
}
