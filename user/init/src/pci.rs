//! Finds devices on the PCI bus by their numbers, and where their memory and ports are: as firmware
//! has placed them. Uses configuration mechanism 1 of the PCI Local Bus Specification 3.0
//! (3.2.2.3), which is two I/O ports.

use user_rt::cap::IoPort;
use user_rt::spawn::{Nursery, own};
use user_rt::views::{Allows, Grant, Range};

use crate::devices::{Behind, RANGES_MAX};

/// The port that takes an address, and the one behind which its register is.
const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const PORTS: u32 = 8;

/// Registers of a function.
const NUMBERS: u8 = 0x00;
const COMMAND: u8 = 0x04;
const HEADER: u8 = 0x0c;
const FIRST_BAR: u8 = 0x10;
/// In a base address register: reads have no effect on the device, and writes may be combined.
const PREFETCHABLE: u32 = 1 << 3;
const BUSES: u8 = 0x18;
const CAPABILITIES: u8 = 0x34;
/// Bits of the command register: to answer at ports, at memory addresses; to write to memory; not
/// to interrupt by a line.
const ANSWERS_PORTS: u32 = 1 << 0;
const ANSWERS_MEMORY: u32 = 1 << 1;
const IS_MASTER: u32 = 1 << 2;
const NO_LINE: u32 = 1 << 10;
/// Status bits in the upper half of that register are cleared by writing ones.
const COMMAND_BITS: u32 = 0xffff;
/// A status bit: there is a list of capabilities.
const HAS_CAPABILITIES: u32 = 1 << 20;

/// The capability to interrupt by messages: its number; bits of its first register; the places of
/// the others, of which the word is behind an address of 32 or of 64 bits.
const MSI: u32 = 0x05;
const MSI_IS_ON: u32 = 1 << 16;
const MSI_COUNT: u32 = 0b111 << 20;
const MSI_IS_WIDE: u32 = 1 << 23;
/// Behind the word is a register that masks messages.
const MSI_HAS_MASK: u32 = 1 << 24;
/// The capability to interrupt by a table of messages, which nobody here fills.
const MSI_X: u32 = 0x11;
const MSI_X_IS_ON: u32 = 1 << 31;
const MSI_ADDRESS: u8 = 4;
const MSI_UPPER_ADDRESS: u8 = 8;
/// Capabilities that are looked at: a list may be a circle. And where they may be: behind the
/// header, and so that the last register of the longest one is there, too.
const CAPABILITIES_MAX: usize = 48;
const CAPABILITIES_FIRST: u8 = 0x40;
const CAPABILITIES_LAST: u8 = 0xec;

/// Base address registers of an ordinary function.
const BARS: u8 = RANGES_MAX as u8;
/// Buses behind bridges that are looked at.
const DEPTH: u32 = 8;

/// Reads and writes registers of functions.
trait Config {
    fn read(&mut self, of: Function, register: u8) -> u32;
    fn write(&mut self, of: Function, register: u8, value: u32);
}

/// A function of a device: bus, device and function, as mechanism 1 has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Function(u32);

impl Function {
    const fn new(bus: u8, device: u8, function: u8) -> Function {
        Function((bus as u32) << 16 | (device as u32) << 11 | (function as u32) << 8)
    }

    const fn address(self, register: u8) -> u32 {
        1 << 31 | self.0 | register as u32 & 0xfc
    }
}

/// How a device is made to interrupt by messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Messages {
    of: Function,
    /// The first register of its capability.
    at: u8,
}

/// The machine's bus.
pub struct Bus(IoPort);

impl Bus {
    /// Takes the ports of the bus.
    pub fn begin(nursery: &mut Nursery) -> user_rt::Result<Bus> {
        let ports: IoPort = nursery.make(0)?;
        own::machine().allow_ports(&ports, ADDRESS, PORTS)?;
        Ok(Bus(ports))
    }

    /// Makes a device interrupt by this message alone, which it is to begin with.
    pub fn send(&mut self, by: Messages, address: u64, word: u32) {
        send(self, by, address, word);
    }

    /// Makes a device send no messages, and write nothing else to memory.
    pub fn stop(&mut self, by: Messages) {
        stop(self, by);
    }

    /// Finds the first device with these numbers, and lets it answer at its addresses. Memory that
    /// may be mapped write-combining is so in what is returned.
    pub fn find(&mut self, vendor: u16, device: u16) -> Option<Behind> {
        find(self, vendor, device)
    }
}

impl Config for Bus {
    /// Reads a register; all ones where there is nothing.
    fn read(&mut self, of: Function, register: u8) -> u32 {
        let selected = self.0.write_u32(ADDRESS, of.address(register));
        selected.and_then(|()| self.0.read_u32(DATA)).unwrap_or(u32::MAX)
    }

    fn write(&mut self, of: Function, register: u8, value: u32) {
        if self.0.write_u32(ADDRESS, of.address(register)).is_ok() {
            _ = self.0.write_u32(DATA, value);
        }
    }
}

fn find(config: &mut impl Config, vendor: u16, device: u16) -> Option<Behind> {
    let numbers = u32::from(vendor) | u32::from(device) << 16;
    let found = search(config, numbers, 0, DEPTH)?;
    let command = config.read(found, COMMAND) & COMMAND_BITS;
    // It answers nowhere while its addresses are being found out.
    config.write(found, COMMAND, command & !(ANSWERS_MEMORY | ANSWERS_PORTS));
    let behind = Behind { messages: messages(config, found), ..behind(config, found) };
    config.write(found, COMMAND, (command | ANSWERS_MEMORY | ANSWERS_PORTS) & !NO_LINE);
    Some(behind)
}

/// Finds a function's capability to interrupt by messages. Switches off what firmware has left on.
fn messages(config: &mut impl Config, of: Function) -> Option<Messages> {
    if config.read(of, COMMAND) & HAS_CAPABILITIES == 0 {
        return None;
    }
    let mut found = None;
    let mut at = config.read(of, CAPABILITIES) as u8 & !3;
    for _ in 0..CAPABILITIES_MAX {
        if !(CAPABILITIES_FIRST..=CAPABILITIES_LAST).contains(&at) {
            break;
        }
        let first = config.read(of, at);
        match first & 0xff {
            MSI => {
                config.write(of, at, first & !MSI_IS_ON);
                found = found.or(Some(Messages { of, at }));
            }
            MSI_X => config.write(of, at, first & !MSI_X_IS_ON),
            _ => {}
        }
        at = (first >> 8) as u8 & !3;
    }
    found
}

fn send(config: &mut impl Config, Messages { of, at }: Messages, address: u64, word: u32) {
    let first = config.read(of, at) & !(MSI_COUNT | MSI_IS_ON);
    config.write(of, at, first);
    let (low, high) = (address as u32, (address >> 32) as u32);
    config.write(of, at + MSI_ADDRESS, low);
    let data = match first & MSI_IS_WIDE != 0 {
        true => {
            config.write(of, at + MSI_UPPER_ADDRESS, high);
            MSI_UPPER_ADDRESS + 4
        }
        false => MSI_UPPER_ADDRESS,
    };
    config.write(of, at + data, word);
    if first & MSI_HAS_MASK != 0 {
        config.write(of, at + data + 4, 0);
    }
    let command = config.read(of, COMMAND) & COMMAND_BITS;
    // A message is a write to memory.
    config.write(of, COMMAND, command | IS_MASTER | NO_LINE);
    config.write(of, at, first | MSI_IS_ON);
}

fn stop(config: &mut impl Config, Messages { of, at }: Messages) {
    let command = config.read(of, COMMAND) & COMMAND_BITS;
    config.write(of, COMMAND, command & !IS_MASTER);
    let first = config.read(of, at);
    config.write(of, at, first & !MSI_IS_ON);
}

/// Searches a bus, and those behind its bridges.
fn search(config: &mut impl Config, numbers: u32, bus: u8, depth: u32) -> Option<Function> {
    for device in 0..32 {
        let has_several = config.read(Function::new(bus, device, 0), HEADER) >> 16 & 0x80 != 0;
        for function in 0..if has_several { 8 } else { 1 } {
            let of = Function::new(bus, device, function);
            let found = config.read(of, NUMBERS);
            if found == numbers {
                return Some(of);
            }
            let is_bridge = found != u32::MAX && config.read(of, HEADER) >> 16 & 0x7f == 1;
            let behind = (config.read(of, BUSES) >> 8) as u8;
            // A bridge leads to later buses only, or nobody has numbered them.
            if is_bridge
                && depth > 0
                && behind > bus
                && let Some(found) = search(config, numbers, behind, depth - 1)
            {
                // What the device writes to memory has to pass.
                let command = config.read(of, COMMAND) & COMMAND_BITS;
                config.write(of, COMMAND, command | IS_MASTER);
                return Some(found);
            }
        }
    }
    None
}

/// Returns what is behind the base address registers of a function.
fn behind(config: &mut impl Config, of: Function) -> Behind {
    let mut found = Behind::default();
    let mut number = 0;
    while number < BARS {
        let (register, value) = (FIRST_BAR + 4 * number, config.read(of, FIRST_BAR + 4 * number));
        number += 1;
        // An I/O range has bit 0 set.
        if value & 1 != 0 {
            let mask = size_mask(config, of, register, value, None) as u32 & 0xfffc;
            let first = value & 0xfffc;
            if first != 0 && mask != 0 {
                _ = found.ports.push((first as u16, (first + (0xffff & !mask)) as u16));
            }
            continue;
        }
        let is_wide = value & 0b110 == 0b100 && number < BARS;
        number += u8::from(is_wide);
        let upper = if is_wide { config.read(of, register + 4) } else { 0 };
        let mask = size_mask(config, of, register, value, is_wide.then_some(upper));
        let at = u64::from(upper) << 32 | u64::from(value & !0xf);
        let bytes = (!mask).wrapping_add(1);
        // A device has whole pages, or others would be in them.
        if at != 0 && bytes >= abi::PAGE_SIZE && at % abi::PAGE_SIZE == 0 {
            let pages = u32::try_from(bytes / abi::PAGE_SIZE).unwrap_or(u32::MAX);
            let combining = value & PREFETCHABLE != 0;
            _ = found.memory.push(Grant { combining, ..Grant::new(Range::at(at, pages), Allows::WRITE) });
        }
    }
    found
}

/// Finds which bits of an address a register can have, and writes its value back.
fn size_mask(config: &mut impl Config, of: Function, register: u8, value: u32, upper: Option<u32>) -> u64 {
    config.write(of, register, u32::MAX);
    let low = config.read(of, register) & !0xf;
    config.write(of, register, value);
    let Some(upper) = upper else { return u64::from(low) | u64::from(u32::MAX) << 32 };
    config.write(of, register + 4, u32::MAX);
    let high = config.read(of, register + 4);
    config.write(of, register + 4, upper);
    u64::from(low) | u64::from(high) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Functions, by their registers; and which bits of base address registers can be written.
    #[derive(Default)]
    struct Fake {
        registers: HashMap<(u32, u8), u32>,
        writable: HashMap<(u32, u8), u32>,
    }

    impl Fake {
        fn add(&mut self, of: Function, registers: &[(u8, u32)]) {
            self.registers.extend(registers.iter().map(|(register, value)| ((of.0, *register), *value)));
        }
    }

    impl Config for Fake {
        fn read(&mut self, of: Function, register: u8) -> u32 {
            let there = self.registers.contains_key(&(of.0, NUMBERS));
            let absent = if there { 0 } else { u32::MAX };
            self.registers.get(&(of.0, register)).copied().unwrap_or(absent)
        }

        fn write(&mut self, of: Function, register: u8, value: u32) {
            let mask = self.writable.get(&(of.0, register)).copied().unwrap_or(0);
            let place = self.registers.entry((of.0, register)).or_default();
            *place = *place & !mask | value & mask;
        }
    }

    const EDU: u32 = 0x11e8_1234;

    /// Makes a bus with a bridge, behind which a device with several functions is.
    fn machine() -> (Fake, Function) {
        let mut fake = Fake::default();
        fake.add(Function::new(0, 0, 0), &[(NUMBERS, 0x29c0_8086)]);
        fake.add(
            Function::new(0, 3, 0),
            &[(NUMBERS, 0x1111_1b36), (HEADER, 0x01 << 16), (BUSES, 0x0002_0200)],
        );
        fake.add(Function::new(2, 5, 0), &[(NUMBERS, 0x2222_1b36), (HEADER, 0x80 << 16)]);
        let edu = Function::new(2, 5, 3);
        fake.add(
            edu,
            &[
                (NUMBERS, EDU),
                (COMMAND, 0x0010_0400),
                (CAPABILITIES, 0x40),
                // Another capability, and behind it that of messages, for addresses of 64 bits.
                (0x40, 0x0000_5001),
                (0x50, 0x0181_0005),
                (FIRST_BAR, 0xc041),
                (FIRST_BAR + 4, 0xfea0_0000),
                (FIRST_BAR + 8, 0x4000_000c),
                (FIRST_BAR + 12, 0x2),
                (FIRST_BAR + 16, 0xfeb0_0000),
            ],
        );
        fake.writable.insert((edu.0, COMMAND), 0xffff);
        fake.writable.insert((edu.0, 0x50), 0x0071_0000);
        for register in [0x54, 0x58, 0x5c, 0x60] {
            fake.writable.insert((edu.0, register), u32::MAX);
        }
        fake.writable.insert((edu.0, FIRST_BAR), 0xffe0);
        fake.writable.insert((edu.0, FIRST_BAR + 4), 0xfff0_0000);
        fake.writable.insert((edu.0, FIRST_BAR + 8), 0xfff0_0000);
        fake.writable.insert((edu.0, FIRST_BAR + 12), u32::MAX);
        fake.writable.insert((edu.0, FIRST_BAR + 16), 0xffff_ff00);
        (fake, edu)
    }

    #[test]
    fn a_device_is_found_behind_a_bridge() {
        let (mut fake, edu) = machine();
        let before = fake.registers.clone();
        let Behind { memory, ports, messages, .. } = find(&mut fake, 0x1234, 0x11e8).expect("it is there");
        assert_eq!(ports[..], [(0xc040, 0xc05f)]);
        assert_eq!(messages, Some(Messages { of: edu, at: 0x50 }));
        let memory: Vec<_> = memory.iter().map(|grant| (grant.range, grant.combining)).collect();
        let found = [(0xfea0_0000, false), (0x2_4000_0000, true)];
        let found = found.map(|(at, combining)| (Range::at(at, 256), combining));
        assert_eq!(memory, found);
        assert_eq!(fake.registers[&(edu.0, COMMAND)] & 0xffff, 3, "it answers, and interrupts by its line");
        for number in 0..5 {
            let register = (edu.0, FIRST_BAR + 4 * number);
            assert_eq!(fake.registers[&register], before[&register], "its addresses are as before");
        }
    }

    #[test]
    fn a_device_sends_messages_until_it_is_stopped() {
        let (mut fake, edu) = machine();
        fake.add(edu, &[(0x60, u32::MAX)]);
        let by = find(&mut fake, 0x1234, 0x11e8).expect("it is there").messages.expect("it can");
        assert_eq!(fake.registers[&(edu.0, 0x50)] & MSI_IS_ON, 0, "firmware has left it on");
        send(&mut fake, by, 0xfee0_1000, 0x31);
        let of = |fake: &Fake, register: u8| fake.registers[&(edu.0, register)];
        assert_eq!([0x54, 0x58, 0x5c, 0x60].map(|at| of(&fake, at)), [0xfee0_1000, 0, 0x31, 0]);
        assert_eq!(of(&fake, 0x50) & 0x0071_0000, MSI_IS_ON, "one message");
        assert_eq!(of(&fake, COMMAND) & 0xffff, 0b111 | NO_LINE);
        stop(&mut fake, by);
        assert_eq!((of(&fake, 0x50) & MSI_IS_ON, of(&fake, COMMAND) & IS_MASTER), (0, 0));
        // An address of 32 bits: the word comes earlier.
        fake.add(edu, &[(0x50, 0x0000_0005)]);
        send(&mut fake, by, 0xfee0_2000, 0x32);
        assert_eq!([0x54, 0x58].map(|at| of(&fake, at)), [0xfee0_2000, 0x32]);
    }

    #[test]
    fn a_list_of_capabilities_may_be_a_circle() {
        let (mut fake, edu) = machine();
        for next in [0x40, 0x00, 0x10, 0xf0, 0xfc] {
            fake.add(edu, &[(0x40, next << 8 | 0x01)]);
            fake.add(edu, &[(0x10, MSI), (0xf0, MSI), (0xfc, MSI)]);
            assert_eq!(find(&mut fake, 0x1234, 0x11e8).expect("it is there").messages, None, "{next:#x}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let (mut fake, _) = machine();
        assert_eq!(find(&mut fake, 0x1234, 0x11e9), None);
        // A bridge to its own bus does not go round in circles.
        fake.add(Function::new(0, 4, 0), &[(NUMBERS, 1), (HEADER, 1 << 16), (BUSES, 0)]);
        assert_eq!(find(&mut fake, 0x1234, 0x11e9), None);
    }
}
