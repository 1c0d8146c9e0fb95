//! A serial line (16550) with room for bytes in both directions, which nobody has to wait for.
//!
//! The device interrupts while it has bytes, and there is room for them; and when it can send, if
//! there is something to send. Bytes that there is no room for stay in the device, which makes a
//! sender with flow control wait.

use heapless::Deque;
use mmio::uart_16550::spec::registers::{IER, LSR};
use mmio::uart_16550::{BaudRate, Config, InitError};
use mmio::{Registers, Uart, uart};

/// Bytes that came and that nobody has read yet.
pub const INPUT: usize = 1024;
/// Bytes that are to be sent.
pub const OUTPUT: usize = 2048;
/// Bytes that the device takes at a time.
const AT_ONCE: usize = 16;
/// Turns in which the device is looked at: more than a device takes that works.
const TURNS: u32 = 256;

pub struct Line<R: Registers> {
    uart: Uart<R>,
    input: Deque<u8, INPUT>,
    output: Deque<u8, OUTPUT>,
    /// What the device interrupts for.
    enabled: IER,
    lost: u32,
}

impl<R: Registers> Line<R> {
    /// Sets the device up: 115200 baud, 8 bits, no parity. What came before is lost.
    pub fn new(registers: R) -> Result<Line<R>, InitError> {
        let mut uart = uart(registers);
        uart.init(Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT })?;
        let mut line =
            Line { uart, input: Deque::new(), output: Deque::new(), enabled: IER::empty(), lost: 0 };
        line.work();
        Ok(line)
    }

    /// Moves bytes both ways until the device wants nothing. Called after each interrupt, once the
    /// next one may come. Returns whether the device still wants something.
    pub fn work(&mut self) -> bool {
        for _ in 0..TURNS {
            self.receive();
            self.send();
            self.enable();
            // Signals by a change come only if the device wants nothing in between.
            if !self.uart.isr().has_pending_interrupt() {
                return false;
            }
        }
        true
    }

    fn receive(&mut self) {
        while !self.input.is_full() {
            let Ok(byte) = self.uart.try_receive_byte() else { break };
            _ = self.input.push_back(byte);
        }
        if self.uart.lsr().contains(LSR::OVERRUN_ERROR) {
            self.lost = self.lost.saturating_add(1);
        }
    }

    fn send(&mut self) {
        let mut bytes = [0; AT_ONCE];
        let count = self.output.iter().zip(&mut bytes).map(|(byte, to)| *to = *byte).count();
        for _ in 0..self.uart.send_bytes(&bytes[..count]) {
            self.output.pop_front();
        }
    }

    fn enable(&mut self) {
        let mut wanted = IER::empty();
        wanted.set(IER::DATA_READY, !self.input.is_full());
        wanted.set(IER::THR_EMPTY, !self.output.is_empty());
        if wanted == self.enabled {
            return;
        }
        self.uart.disable_interrupts(self.enabled - wanted);
        self.uart.enable_interrupts(wanted - self.enabled);
        self.enabled = wanted;
    }

    /// Returns how many more bytes there is room for.
    pub fn room(&self) -> usize {
        OUTPUT - self.output.len()
    }

    /// Takes bytes to be sent, for which there is room.
    pub fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| _ = self.output.push_back(*byte));
    }

    /// Copies the first bytes that came, and returns how many. They stay until they are
    /// [dropped](Line::drop_first).
    pub fn peek(&self, into: &mut [u8]) -> usize {
        self.input.iter().zip(into).map(|(byte, to)| *to = *byte).count()
    }

    /// Forgets the first bytes that came, which somebody has got.
    pub fn drop_first(&mut self, count: usize) {
        for _ in 0..count {
            self.input.pop_front();
        }
        self.lost = 0;
    }

    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Returns how often bytes were lost before the first ones that came.
    pub const fn lost(&self) -> u32 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    /// A 16550, as its data sheet says, of which a test holds the other end.
    #[derive(Default)]
    struct Device {
        came: VecDeque<u8>,
        fifo: VecDeque<u8>,
        sent: Vec<u8>,
        scratch: u8,
        ier: u8,
        lcr: u8,
        mcr: u8,
        /// A byte was sent since the interrupt for an empty transmitter was looked at.
        empty: bool,
        stuck: bool,
    }

    impl Device {
        /// The identification of the interrupt that is pending; bit 0: none.
        fn pending(&self) -> u8 {
            match self.ier {
                ier if ier & 1 != 0 && !self.came.is_empty() => 0b0100,
                ier if ier & 2 != 0 && self.empty => 0b0010,
                _ => 0b0001,
            }
        }

        /// The wire takes what the device has.
        fn transmit(&mut self) {
            self.sent.extend(self.fifo.drain(..));
            self.empty = true;
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Device>>);

    impl Registers for Shared {
        fn read(&mut self, register: u8) -> u8 {
            let mut it = self.0.borrow_mut();
            match register {
                0 if it.lcr & 0x80 != 0 => 1,
                0 => it.came.pop_front().unwrap_or(0),
                1 if it.lcr & 0x80 != 0 => 0,
                1 => it.ier,
                2 => {
                    let pending = it.pending();
                    if pending == 0b0010 && !it.stuck {
                        it.empty = false;
                    }
                    pending | 0xc0
                }
                3 => it.lcr,
                4 => it.mcr,
                5 => u8::from(!it.came.is_empty()) | if it.fifo.is_empty() { 0x60 } else { 0 },
                6 => 0xb0,
                _ => it.scratch,
            }
        }

        fn write(&mut self, register: u8, value: u8) {
            let mut it = self.0.borrow_mut();
            match register {
                0 if it.lcr & 0x80 == 0 => {
                    assert!(it.fifo.len() < 16, "a byte is lost");
                    it.fifo.push_back(value);
                    it.empty = false;
                }
                1 if it.lcr & 0x80 == 0 => {
                    // To enable the interrupt of an empty transmitter raises it.
                    it.empty |= value & 2 != 0 && it.ier & 2 == 0 && it.fifo.is_empty();
                    it.ier = value;
                }
                3 => it.lcr = value,
                4 => it.mcr = value,
                7 => it.scratch = value,
                _ => {}
            }
        }
    }

    fn line() -> (Line<Shared>, Shared) {
        let device = Shared::default();
        (Line::new(device.clone()).expect("a device"), device)
    }

    fn read(line: &mut Line<Shared>) -> Vec<u8> {
        let mut bytes = [0; 64];
        let count = line.peek(&mut bytes);
        line.drop_first(count);
        bytes[..count].to_vec()
    }

    #[test]
    fn bytes_come_and_go() {
        let (mut line, device) = line();
        device.0.borrow_mut().came.extend(*b"hello");
        assert_eq!(device.0.borrow().pending(), 0b0100, "it interrupts");
        assert!(!line.work());
        assert_eq!(device.0.borrow().pending(), 1, "nothing is pending, so the next change interrupts");
        assert_eq!(read(&mut line), b"hello");
        line.write(b"a longer text than the device takes at a time");
        assert!(!line.work());
        let mut interrupts = 0;
        while !device.0.borrow().fifo.is_empty() {
            device.0.borrow_mut().transmit();
            interrupts += u32::from(device.0.borrow().pending() == 0b0010);
            assert!(!line.work());
        }
        assert_eq!(device.0.borrow().sent, b"a longer text than the device takes at a time");
        assert_eq!(interrupts, 2, "none for the last bytes: there is nothing more to send");
        assert_eq!(device.0.borrow().ier, 1, "it waits for bytes only");
    }

    #[test]
    fn what_there_is_no_room_for_stays_in_the_device() {
        let (mut line, device) = line();
        let all: Vec<u8> = (0..3_000u32).map(|n| n as u8).collect();
        device.0.borrow_mut().came.extend(&all);
        assert!(!line.work());
        assert_eq!(device.0.borrow().came.len(), 3_000 - INPUT);
        assert_eq!(device.0.borrow().pending(), 1, "it does not interrupt for what cannot be taken");
        let mut got = Vec::new();
        while line.has_input() {
            got.extend(read(&mut line));
            assert!(!line.work());
        }
        assert_eq!(got, all);
        assert_eq!(line.lost(), 0);
    }

    #[test]
    fn output_is_taken_as_long_as_there_is_room() {
        let (mut line, device) = line();
        device.0.borrow_mut().fifo.push_back(0);
        assert_eq!(line.room(), OUTPUT);
        line.write(&[b'x'; OUTPUT]);
        assert_eq!(line.room(), 0);
        line.work();
        assert_eq!(line.room(), 0, "the device is busy");
        device.0.borrow_mut().transmit();
        line.work();
        assert_eq!(line.room(), 16);
    }

    #[test]
    fn a_device_that_always_wants_something_is_left() {
        let (mut line, device) = line();
        device.0.borrow_mut().stuck = true;
        device.0.borrow_mut().fifo.push_back(0);
        line.write(b"x");
        line.enable();
        device.0.borrow_mut().empty = true;
        assert!(line.work());
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        struct Nothing;
        impl Registers for Nothing {
            fn read(&mut self, _: u8) -> u8 {
                u8::MAX
            }
            fn write(&mut self, _: u8, _: u8) {}
        }
        assert!(Line::new(Nothing).is_err());
    }
}
