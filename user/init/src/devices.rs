//! What drivers ask for: interrupts, I/O ports and memory of the devices in their descriptions
//! ([`user_rt::devices`]).
//!
//! Process 1 makes the objects of the driver's own memory, and keeps no capability of them. So they
//! end with the driver, and the next one can have the interrupt line and the ports.

use abi::devices::{FIRST_MSI, LINES};
use abi::{Cap, Error, PAGE_SIZE, Rights};
use heapless::Vec;
use protocols::capnp::{self, struct_list};
use protocols::devices::{Refusal, Server, answer, request};
use protocols::system::device::{bus, interrupt};
use protocols::system::{DEVICES_MAX, device, text};
use user_rt::cap::{Handle, IoPort, IrqHandler};
use user_rt::devices::Signal;
use user_rt::invoke::{copy, transfer};
use user_rt::ipc::Received;
use user_rt::spawn::{Nursery, own};
use user_rt::views::{Allows, Grant, Range, VIEWS_MAX};
use user_rt::{boot, report};

use crate::connect::is_of_slot;
use crate::launch::{LaunchError, at};
use crate::pci::{Bus, Messages};
use crate::supervise::Parent;
use crate::world::World;

type Done = Result<(), Refusal>;

/// Views of the memory of a process's devices. The host tool allows no more of those that it knows.
pub type Views = Vec<Grant, VIEWS_MAX>;

/// What was found of each device of the description that does not say where it is.
pub type Found = Vec<Behind, { DEVICES_MAX as usize }>;

/// What a device has, in the order in which it was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Behind {
    pub memory: Vec<Grant, RANGES_MAX>,
    /// First and last port of each range.
    pub ports: Vec<(u16, u16), RANGES_MAX>,
    /// How it is made to interrupt by messages, if it can; and those that it sends.
    pub messages: Option<Messages>,
    pub sends: Option<(u64, u32)>,
}

impl Behind {
    /// Returns the same with all memory mapped uncached.
    fn uncached(mut self) -> Behind {
        self.memory.iter_mut().for_each(|grant| grant.combining = false);
        self
    }
}

/// Ranges of a device that is found.
pub const RANGES_MAX: usize = 6;

/// Finds the devices of a description that do not say where they are. Returns the bus, too, if any
/// of them is on it.
pub fn find(
    devices: struct_list::Reader<'_, device::Owned>,
    nursery: &mut Nursery,
) -> Result<(Found, Option<Bus>), LaunchError> {
    let mut bus = None;
    let mut found = Found::new();
    for device in devices {
        let there = match device.get_bus().which().map_err(capnp::Error::from)? {
            bus::Fixed(()) => Some(Behind::default()),
            bus::Power(()) => power(&boot::facts().power),
            bus::Pci(numbers) => {
                let bus = match &mut bus {
                    Some(bus) => bus,
                    None => bus.insert(at("taking the bus", Bus::begin(nursery))?),
                };
                let found = bus.find(numbers.get_vendor(), numbers.get_device());
                found.map(|found| if numbers.get_write_combining() { found } else { found.uncached() })
            }
        };
        if there.is_none() {
            report!("note init: the machine has no device {}", text(device.get_name()));
        }
        _ = found.push(there.unwrap_or_default());
    }
    Ok((found, bus))
}

/// Returns the line of a device that interrupts by messages, by its place in the description.
fn line_of_messages(device: u16) -> u32 {
    const { assert!(DEVICES_MAX as u32 <= LINES - FIRST_MSI) };
    FIRST_MSI + u32::from(device)
}

/// Returns what controls the machine's power, if firmware tells: ports, and the table of methods.
fn power(facts: &abi::Power) -> Option<Behind> {
    let mut behind = Behind { ports: facts.ports().collect(), ..Behind::default() };
    if facts.methods != 0 {
        let (first, last) = (facts.methods, facts.methods + u64::from(facts.methods_len).max(1) - 1);
        let pages = (last / PAGE_SIZE + 1 - first / PAGE_SIZE) as u32;
        let range = Range::at(first - first % PAGE_SIZE, pages);
        _ = behind.memory.push(Grant::new(range, Allows::READ));
    }
    (!behind.ports.is_empty()).then_some(behind)
}

impl World<'_> {
    /// Adds views of all memory of a device, by its place in the description.
    fn add_memory(&self, device: u16, views: &mut Views) -> capnp::Result<()> {
        for range in self.system.get_devices()?.get(device.into()).get_memory()? {
            let allows = if range.get_write() { Allows::WRITE } else { Allows::READ };
            let (combining, range) =
                (range.get_write_combining(), Range::at(range.get_at(), range.get_pages()));
            _ = views.push(Grant { range, allows, combining });
        }
        // The host tool knows nothing of these ranges: more than there is room for are left out.
        for grant in self.found.get(usize::from(device)).into_iter().flat_map(|found| &found.memory) {
            _ = views.push(*grant);
        }
        Ok(())
    }

    /// Returns how a device is made to interrupt by messages, if it can.
    fn messages(&self, device: u16) -> Option<Messages> {
        self.found.get(usize::from(device))?.messages
    }

    /// Makes the devices of a process that has ended send no messages: nobody takes them, and they
    /// would be taken for those of another device later.
    pub fn stop_messages(&mut self, number: usize) {
        for device in self.places[number].is.get_devices().into_iter().flatten() {
            let (Some(found), Some(bus)) = (self.found.get_mut(usize::from(device)), &mut self.bus) else {
                continue;
            };
            if let Some(by) = found.messages {
                bus.stop(by);
                found.sends = None;
                // Nobody writes to its place any more. It is empty if the driver has not asked.
                _ = own::cnode().delete(self.handler(device));
            }
        }
    }

    /// Returns the slot in which process 1 keeps the handler of a device that interrupts by
    /// messages, so that it lasts as long as the device may send some.
    fn handler(&self, device: u16) -> Cap {
        Cap(self.handlers.0 + u32::from(device))
    }

    /// Returns the views that a process may have: of the memory of its devices.
    pub fn views_of(&self, number: usize) -> capnp::Result<Views> {
        let mut views = Views::new();
        for device in self.places[number].is.get_devices()? {
            self.add_memory(device, &mut views)?;
        }
        Ok(views)
    }
}

impl<'a> Parent<'_, 'a> {
    /// Returns the number of the process that calls, and the place of one of the devices that it
    /// drives in the description's list.
    fn driven(&self, place: u16) -> Result<(usize, u16), Refusal> {
        let number = self.caller.ok_or(Refusal::NotAllowed)?;
        let driven = self.world.places[number].is.get_devices()?;
        Ok((number, driven.iter().nth(place.into()).ok_or(Refusal::NotAllowed)?))
    }

    fn described(&self, device: u16) -> capnp::Result<device::Reader<'a>> {
        Ok(self.world.system.get_devices()?.get(device.into()))
    }

    /// Makes an object of a process's memory, and lets `prepare` give it what it is to have. Its
    /// capability then is in a slot of the process; and in `keep`, if process 1 needs it, too.
    fn give<T: Handle>(
        &self,
        number: usize,
        slot: u32,
        keep: Option<Cap>,
        prepare: impl FnOnce(&T) -> user_rt::Result<()>,
    ) -> Done {
        let place = &self.world.places[number];
        let child = place.child().ok_or(Refusal::NotAllowed)?;
        let scratch = self.world.scratch;
        let made = place.building.untyped().retype::<T>(0, own::cnode().slot(scratch), 1);
        made.map_err(refused)?;
        let object = T::at(scratch);
        let prepared = prepare(&object).and_then(|()| match keep {
            Some(keep) => copy(&object, own::cnode().slot(keep), Rights::ALL, 0),
            None => Ok(()),
        });
        let given = prepared.map_err(refused).and_then(|()| {
            let moved = transfer(object, child.cnode.slot(Cap(slot)));
            moved.map_err(|refusal| {
                // It was empty before.
                keep.into_iter().for_each(|keep| _ = own::cnode().delete(keep));
                if is_of_slot(refusal) { Refusal::BadSlot } else { Refusal::Refused }
            })
        });
        if given.is_err() {
            _ = own::cnode().delete(scratch);
        }
        given
    }
}

fn refused(refusal: user_rt::Refusal) -> Refusal {
    match refusal.error {
        Error::NoMemory => Refusal::Full,
        Error::InUse => Refusal::InUse,
        _ => Refusal::Refused,
    }
}

impl Server<Received> for Parent<'_, '_> {
    fn interrupt(&mut self, _: &Received, asked: request::interrupt::Reader<'_>) -> Done {
        let (number, device) = self.driven(asked.get_device())?;
        let (line, signal, keep) = match self.described(device)?.get_interrupt().which()? {
            interrupt::None(()) => return Err(Refusal::NotAllowed),
            interrupt::Line(line) => {
                let signal = Signal { level: line.get_level(), low: line.get_low() };
                (line.get_number().into(), signal, None)
            }
            interrupt::Msi(()) => {
                self.world.messages(device).ok_or(Refusal::NotAllowed)?;
                (line_of_messages(device), Signal::default(), Some(self.world.handler(device)))
            }
        };
        self.give(number, asked.get_slot(), keep, |handler: &IrqHandler| {
            own::machine().allow_irq(handler, line, signal)
        })
    }

    fn send(&mut self, _: &Received, asked: request::send::Reader<'_>) -> Done {
        let (_, device) = self.driven(asked.get_device())?;
        if !matches!(self.described(device)?.get_interrupt().which()?, interrupt::Msi(())) {
            return Ok(());
        }
        let by = self.world.messages(device).ok_or(Refusal::NotAllowed)?;
        let message = own::machine().message_of(line_of_messages(device));
        let (address, word) = message.map_err(|refusal| match refusal.error {
            Error::BadState => Refusal::NotBound,
            _ => Refusal::Refused,
        })?;
        let World { bus: Some(bus), found, .. } = &mut *self.world else { return Err(Refusal::NotAllowed) };
        let sends = found.get_mut(usize::from(device)).map(|found| &mut found.sends);
        if let Some(sends) = sends.filter(|sends| **sends != Some((address, word))) {
            bus.send(by, address, word);
            *sends = Some((address, word));
        }
        Ok(())
    }

    fn ports(
        &mut self,
        _: &Received,
        asked: request::ports::Reader<'_>,
        mut answer: answer::ports::Builder<'_>,
    ) -> Done {
        let (number, device) = self.driven(asked.get_device())?;
        let described = self.described(device)?.get_ports()?;
        let described = described.iter().map(|range| (range.get_first(), range.get_last()));
        let found = self.world.found.get(usize::from(device)).into_iter().flat_map(|found| &found.ports);
        let range = described.chain(found.copied()).nth(asked.get_range().into());
        let (first, last) = range.ok_or(Refusal::NotAllowed)?;
        answer.set_first(first);
        answer.set_last(last);
        self.give(number, asked.get_slot(), None, |ports: &IoPort| {
            own::machine().allow_ports(ports, first, u32::from(last) + 1 - u32::from(first))
        })
    }

    fn memory(
        &mut self,
        _: &Received,
        asked: request::memory::Reader<'_>,
        mut answer: answer::memory::Builder<'_>,
    ) -> Done {
        let (_, device) = self.driven(asked.get_device())?;
        let mut views = Views::new();
        self.world.add_memory(device, &mut views)?;
        let view = views.get(usize::from(asked.get_range())).ok_or(Refusal::NotAllowed)?;
        answer.set_first(view.range.first);
        answer.set_pages(view.range.pages);
        answer.set_write(view.allows.write);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_methods_is_whole_pages_that_are_read() {
        let facts =
            abi::Power { methods: 0x7fe0_0ff0, methods_len: 0x11, sleep: [0x604, 0], ..Default::default() };
        let found = power(&facts).expect("ports");
        assert_eq!(found.ports[..], [(0x604, 0x605)]);
        let [grant] = found.memory[..] else { panic!("one range") };
        assert_eq!((grant.range, grant.allows.write), (Range::at(0x7fe0_0000, 2), false));
        let whole = abi::Power { methods: 0x7fe0_0000, methods_len: 0x1000, ..facts };
        assert_eq!(power(&whole).expect("ports").memory[0].range, Range::at(0x7fe0_0000, 1));
        assert!(power(&abi::Power::default()).is_none(), "nothing");
    }
}
