//! Devices: their interrupts and their I/O ports. ([`crate::views`] has their memory.)
//!
//! A driver binds an [`IrqHandler`] to a Notification of its own, and asks for the first interrupt
//! by [`IrqHandler::next`]. It waits for the bits, asks for the next interrupt, and then looks what
//! its device wants, until that wants nothing any more. In this order nothing is missed.

use abi::devices::line;
use abi::{Error, Op};

use crate::Result;
use crate::arch::{Args, syscall};
use crate::cap::{Handle, IoPort, IrqHandler, Machine, Notification, SchedControl};

/// How a line signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Signal {
    /// As long as the device wants something, and not by a change only.
    pub level: bool,
    /// By a low voltage.
    pub low: bool,
}

impl Signal {
    /// As old devices do (ISA).
    pub const ISA: Signal = Signal { level: false, low: false };
    /// As devices of a PCI bus do.
    pub const PCI: Signal = Signal { level: true, low: true };

    /// Returns the bits of [`abi::devices::line`].
    pub const fn bits(self) -> u64 {
        (if self.level { line::LEVEL } else { 0 }) | if self.low { line::LOW } else { 0 }
    }
}

impl Machine {
    /// Gives an IrqHandler a line.
    pub fn allow_irq(&self, to: &IrqHandler, line: u32, signal: Signal) -> Result<()> {
        let args = Args::plain(Op::IrqAllow, self.arg(), to.arg(), line.into(), signal.bits());
        syscall(args).done()
    }

    /// Gives an IoPort `count` ports from the first on.
    pub fn allow_ports(&self, to: &IoPort, first: u16, count: u32) -> Result<()> {
        let args = Args::plain(Op::PortAllow, self.arg(), to.arg(), first.into(), count.into());
        syscall(args).done()
    }
}

impl IrqHandler {
    /// Makes interrupts of the device come to a CPU, by the authority of a SchedControl that covers
    /// it, and raise these bits.
    pub fn bind(&self, by: &SchedControl, cpu: u32, to: &Notification, bits: u64) -> Result<()> {
        let args = Args::plain(Op::IrqBind, by.arg(), self.arg(), to.arg(), bits);
        syscall(Args { r9: cpu.into(), ..args }).done()
    }

    /// Makes interrupts of the device go nowhere.
    pub fn unbind(&self, by: &SchedControl) -> Result<()> {
        syscall(Args::plain(Op::IrqBind, by.arg(), self.arg(), 0, 0)).done()
    }

    /// Lets the next interrupt come. Returns `None` if it may, and otherwise when to ask again: the
    /// CPU rests from the interrupts of this device.
    pub fn next(&self) -> Result<Option<u64>> {
        match syscall(Args::plain(Op::IrqAck, self.arg(), 0, 0, 0)).done() {
            Err(refusal) if refusal.error == Error::WouldBlock => Ok(Some(refusal.detail)),
            other => other.map(|()| None),
        }
    }
}

macro_rules! widths {
    ($($read:ident $write:ident $width:ty: $text:literal)*) => {
        impl IoPort {$(
            #[doc = concat!("Reads ", $text, " of a port.")]
            pub fn $read(&self, port: u16) -> Result<$width> {
                let bytes = size_of::<$width>() as u64;
                let args = Args::plain(Op::PortRead, self.arg(), port.into(), bytes, 0);
                Ok(syscall(args).check()?.rdi as $width)
            }

            #[doc = concat!("Writes ", $text, " to a port.")]
            pub fn $write(&self, port: u16, value: $width) -> Result<()> {
                let bytes = size_of::<$width>() as u64;
                syscall(Args::plain(Op::PortWrite, self.arg(), port.into(), bytes, value.into())).done()
            }
        )*}
    };
}

widths! {
    read_u8 write_u8 u8: "a byte"
    read_u16 write_u16 u16: "two bytes"
    read_u32 write_u32 u32: "four bytes"
}
