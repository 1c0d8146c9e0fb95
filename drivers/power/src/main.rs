//! Switches the machine off, and resets it, as firmware's tables say (ACPI 6.5, 4.8). Serves
//! [`protocols::power`] to the group in which it is exposed.
//!
//! The tables name ports (`power` of the boot page), and `methods` finds the values that switch the
//! machine off. The process drives one device, whose description has `power = true`.
//!
//! When this process is asked, it does it: processes that have something to keep have to be asked
//! before. It answers only if the machine goes on all the same.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod methods;

use core::sync::atomic::Ordering::Relaxed;

use abi::{PAGE_SIZE, PortWrite, Power};
use heapless::Vec;
use methods::LONGEST;
use protocols::Failure;
use protocols::devices::Refusal as Denial;
use protocols::power::{self, Refusal, Server};
use user_rt::arch::now;
use user_rt::cap::{IoPort, Notification};
use user_rt::ipc::{Event, Message, Received, recv, reply};
use user_rt::spawn::Nursery;
use user_rt::talk::{put, with_bytes};
use user_rt::{boot, devices, info, layout, report, warn};

user_rt::program!(begin);

/// The place of the switch among the devices of the description.
const DEVICE: u16 = 0;
/// Ranges of ports: both sleep registers, the reset, and the hand-over.
const PORTS_MAX: usize = 4;
/// Bytes of the table of methods that are looked at together. Blocks overlap by [`LONGEST`] bytes,
/// so one of them holds the whole definition.
const BLOCK: usize = 512;

/// Bits of a sleep register: the operating system has the registers; the value; now.
const IS_OURS: u16 = 1 << 0;
const VALUE_SHIFT: u32 = 10;
const VALUE: u16 = 7 << VALUE_SHIFT;
const NOW: u16 = 1 << 13;

/// How long firmware may take to hand over the registers, in looks of a millisecond each.
const LOOKS: u32 = 3_000;
/// How long the machine may take to go off, in the same.
const LAST: u32 = 1_000;

struct Driver {
    power: Power,
    /// The capabilities of all ports, with the first and the last one of each.
    ports: Vec<(IoPort, u16, u16), PORTS_MAX>,
    /// What both sleep registers take to switch the machine off.
    off: Option<[u8; 2]>,
    /// On which nobody rings: to wait for a time.
    bell: Notification,
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
            power::serve(&mut driver, &call, call.message.label, bytes, |answer| put(power::ANSWER, answer))
        });
        // The caller may be gone.
        _ = reply(&message);
    }
}

impl Driver {
    /// Takes the ports, and looks for the values.
    ///
    /// # Panics
    /// The process has no memory or no slots.
    fn new() -> Driver {
        let mut nursery = Nursery::of_program(0);
        let power = boot::facts().power;
        let mut ports = Vec::new();
        for range in 0..PORTS_MAX as u16 {
            let slot = nursery.take_slot().expect("a slot");
            match devices::ports(DEVICE, range, slot) {
                Ok(given) => _ = ports.push(given),
                // There are no more.
                Err(Failure::Refused(Denial::NotAllowed)) => break,
                Err(error) => report!("note power: range {range} of the ports is missing: {error:?}"),
            }
        }
        let off = off_values(&mut nursery, &power);
        if off.is_none() {
            warn!("firmware does not say how the machine is switched off");
        }
        let bell = nursery.make(0).expect("a Notification");
        Driver { power, ports, off, bell }
    }

    /// Returns the capability of a port; nothing where firmware names none.
    fn port(&self, port: u16) -> Option<&IoPort> {
        let found = self.ports.iter().find(|(_, first, last)| port != 0 && (*first..=*last).contains(&port));
        found.map(|(ports, ..)| ports)
    }

    fn write(&self, write: PortWrite) -> Result<(), Refusal> {
        let port = self.port(write.port).ok_or(Refusal::NoWay)?;
        port.write_u8(write.port, write.value as u8).map_err(|_| Refusal::NoWay)
    }

    fn wait(&self, looks: u32, until: impl Fn() -> bool) -> bool {
        let look = boot::facts().tsc_hz / 1_000;
        for _ in 0..looks {
            if until() || self.bell.sleep_until(now() + look).is_err() {
                break;
            }
        }
        until()
    }

    /// Waits for the end, and answers if that does not come.
    fn still_on(&self) -> Result<(), Refusal> {
        self.wait(LAST, || false);
        report!("power on");
        Err(Refusal::StillOn)
    }

    /// Makes sure that firmware has handed over the sleep registers.
    fn take_over(&self) -> Result<(), Refusal> {
        let first = self.power.sleep[0];
        let register = self.port(first).ok_or(Refusal::NoWay)?;
        let is_ours = || register.read_u16(first).is_ok_and(|value| value & IS_OURS != 0);
        // A machine that has no hand-over has only this mode.
        if is_ours() || self.power.hand_over.port == 0 {
            return Ok(());
        }
        self.write(self.power.hand_over)?;
        if self.wait(LOOKS, is_ours) { Ok(()) } else { Err(Refusal::NotHandedOver) }
    }
}

/// Returns what switches the machine off, from the table of firmware's methods.
fn off_values(nursery: &mut Nursery, power: &Power) -> Option<[u8; 2]> {
    let words = devices::map(DEVICE, 0, u32::MAX, nursery, layout::DEVICES_VA).ok()?;
    let byte = |at: usize| words.get(at / 4).map(|word| word.load(Relaxed).to_le_bytes()[at % 4]);
    let first = (power.methods % PAGE_SIZE) as usize;
    let end = first + power.methods_len as usize;
    (first..end).step_by(BLOCK - LONGEST).find_map(|from| {
        let block: Vec<u8, BLOCK> = (from..end.min(from + BLOCK)).filter_map(byte).collect();
        methods::off_values(&block)
    })
}

impl Server<Received> for Driver {
    fn off(&mut self, _: &Received) -> Result<(), Refusal> {
        let values = self.off.ok_or(Refusal::NoWay)?;
        self.take_over()?;
        report!("power off");
        // Both have their values before the first one acts.
        for extra in [0, NOW] {
            for (first, value) in self.power.sleep.into_iter().zip(values) {
                // A register that cannot be accessed changes nothing: the machine stays on.
                let Some(register) = self.port(first) else { continue };
                let Ok(before) = register.read_u16(first) else { continue };
                _ = register.write_u16(first, before & !VALUE | u16::from(value) << VALUE_SHIFT | extra);
            }
        }
        self.still_on()
    }

    fn reset(&mut self, _: &Received) -> Result<(), Refusal> {
        if self.port(self.power.reset.port).is_none() {
            return Err(Refusal::NoWay);
        }
        report!("power reset");
        _ = self.write(self.power.reset);
        self.still_on()
    }
}
