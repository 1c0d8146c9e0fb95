//! Registers of devices, for drivers that forbid unsafe code.
//!
//! Crates that know a kind of device take its registers by functions that are unsafe, because most
//! machines could do anything there. Here each access is a system call on a capability, which can
//! harm nobody but the device and its driver. Devices that write memory by themselves (DMA) do not
//! belong here.
#![cfg_attr(not(test), no_std)]

pub use uart_16550;

use uart_16550::Uart16550;
use uart_16550::backend::Backend;
use user_rt::cap::IoPort;

/// Byte-wide registers of a device.
pub trait Registers {
    fn read(&mut self, register: u8) -> u8;
    fn write(&mut self, register: u8, value: u8);
}

/// Registers at consecutive I/O ports.
#[derive(Debug)]
pub struct Ports {
    ports: IoPort,
    first: u16,
}

impl Ports {
    /// Makes registers of the ports from `first` on.
    pub const fn new(ports: IoPort, first: u16) -> Ports {
        Ports { ports, first }
    }
}

impl Registers for Ports {
    /// Reads a register. One that may not be read has all bits set, like one that is not there.
    fn read(&mut self, register: u8) -> u8 {
        let port = self.first.checked_add(register.into());
        port.and_then(|port| self.ports.read_u8(port).ok()).unwrap_or(u8::MAX)
    }

    /// Writes a register. Nothing happens to one that may not be written.
    fn write(&mut self, register: u8, value: u8) {
        if let Some(port) = self.first.checked_add(register.into()) {
            _ = self.ports.write_u8(port, value);
        }
    }
}

/// Registers as `uart_16550` takes them.
#[derive(Debug)]
pub struct Behind<R>(pub R);

impl<R: Registers> Backend for Behind<R> {
    unsafe fn read(&mut self, register: u8) -> u8 {
        self.0.read(register)
    }

    unsafe fn write(&mut self, register: u8, value: u8) {
        self.0.write(register, value);
    }
}

/// A serial line of a PC.
pub type Uart<R> = Uart16550<Behind<R>>;

/// Returns the serial line with these registers.
pub const fn uart<R: Registers>(registers: R) -> Uart<R> {
    // SAFETY: it takes valid registers, and nobody else who uses them. An access by `Registers` is
    // safe whatever is there, so neither can do worse than a line that does not work.
    unsafe { Uart16550::new_with_backend(Behind(registers)) }
}
