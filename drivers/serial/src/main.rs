//! The driver of a serial line (16550): the first of the devices in its description, with its
//! interrupt and its ports. Serves [`protocols::console`] to the group in which it is exposed.
//!
//! ```text
//!   main ── clients    calls that wait: those that read, and those whose bytes have no room yet
//!     └──── line       the device, and the bytes on their way in both directions
//! ```
//!
//! A call that cannot be answered yet waits in a Reply object, so the driver never waits for a
//! client. Readers get bytes in turn. Bytes that were meant for a reader that is not there any more
//! are the next one's.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod clients;
mod line;

use mmio::Ports;
use protocols::console::{self, BYTES_MAX, Refusal, Server, answer, request};
use user_rt::cap::Notification;
use user_rt::devices::{self, Interrupt};
use user_rt::info;
use user_rt::ipc::{Message, Received, reply};
use user_rt::spawn::{Nursery, own};
use user_rt::talk::{put, with_bytes};

use clients::Clients;
use line::Line;

user_rt::program!(begin);

/// The place of the line among the devices of the description.
const DEVICE: u16 = 0;
/// Bit of the Notification: the device wants something.
const INTERRUPTED: u64 = 1;

struct Driver {
    line: Line<Ports>,
    interrupt: Interrupt,
    clients: Clients,
    /// Whether the call that is served waits for its answer.
    waits: bool,
}

fn begin(_: u64) -> ! {
    let mut driver = Driver::new();
    info!("begins");
    loop {
        let turn = driver.interrupt.turn().expect("calls and interrupts");
        if let Some(call) = turn.call {
            driver.serve(&call);
        }
        driver.work();
    }
}

impl Driver {
    /// Takes the device over.
    ///
    /// # Panics
    /// The description gives the process no serial line, or no memory, or nothing is at the ports.
    fn new() -> Driver {
        let mut nursery = Nursery::of_program(0);
        let slot = |nursery: &mut Nursery| nursery.take_slot().expect("a slot");
        let (ports, first, _) =
            devices::ports(DEVICE, 0, slot(&mut nursery)).expect("the ports of a serial line");
        let wakes: Notification = nursery.make(0).expect("a Notification");
        wakes.bind(&own::task()).expect("a Notification of the first task");
        let interrupt = Interrupt::of(DEVICE, slot(&mut nursery), &wakes, INTERRUPTED);
        let interrupt = interrupt.expect("the interrupt of a serial line");
        let line = Line::new(Ports::new(ports, first)).expect("a serial line at the ports");
        let clients = Clients::new(&mut nursery).expect("Reply objects");
        Driver { line, interrupt, clients, waits: false }
    }

    /// Serves the device, and the calls that wait, until neither can go on.
    fn work(&mut self) {
        loop {
            let is_busy = self.line.work();
            if !self.clients.settle(&mut self.line) {
                // One that keeps wanting something is looked at when it interrupts, or soon.
                if is_busy {
                    self.interrupt.soon();
                }
                return;
            }
        }
    }

    fn serve(&mut self, call: &Received) {
        self.waits = false;
        let message: Message = with_bytes(&call.message, |bytes| {
            console::serve(self, call, call.message.label, bytes, |answer| put(console::ANSWER, answer))
        });
        if !self.waits {
            // The caller may be gone.
            _ = reply(&message);
        }
    }
}

impl Server<Received> for Driver {
    fn write(&mut self, _: &Received, asked: request::write::Reader<'_>) -> Result<(), Refusal> {
        let bytes = asked.get_bytes()?;
        if bytes.is_empty() || bytes.len() > usize::from(BYTES_MAX) {
            return Err(Refusal::BadRequest);
        }
        if self.clients.writes() || self.line.room() < bytes.len() {
            self.clients.write_later(bytes)?;
            self.waits = true;
        } else {
            self.line.write(bytes);
        }
        Ok(())
    }

    fn read(
        &mut self,
        _: &Received,
        asked: request::read::Reader<'_>,
        _: answer::read::Builder<'_>,
    ) -> Result<(), Refusal> {
        let most = asked.get_most().min(BYTES_MAX);
        if most == 0 {
            return Err(Refusal::BadRequest);
        }
        self.clients.read_later(most)?;
        self.waits = true;
        Ok(())
    }
}
