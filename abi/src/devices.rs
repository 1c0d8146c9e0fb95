//! Interrupts of devices.
//!
//! An [`IrqHandler`](crate::ObjType::IrqHandler) is the interrupt of one line of the machine's
//! interrupt controllers. A driver binds it to a Notification, whose bits tell it that its device
//! wants something. The kernel masks the line at each interrupt, until the driver asks for the next
//! one ([`IrqAck`](crate::Op::IrqAck)). So a device interrupts a CPU no more often than its driver
//! runs.
//!
//! A device that can interrupt by a message (MSI) has no line of a controller: it writes some word
//! to some address, where the CPUs' interrupt controllers are. The numbers from [`FIRST_MSI`] on
//! are lines of such devices. They work as other lines do, except that the kernel cannot mask them:
//! a message that comes too early raises its bits, too. A process with the right `DEVICE` learns
//! what the device has to write, and tells the device.

/// How a line signals: bits of an argument of [`IrqAllow`](crate::Op::IrqAllow).
pub mod line {
    /// As long as the device wants something (PCI), and not by a change only (ISA).
    pub const LEVEL: u64 = 1;
    /// By a low voltage (PCI), and not by a high one (ISA).
    pub const LOW: u64 = 2;
    /// All of them.
    pub const ALL: u64 = LEVEL | LOW;
}

/// How pages of device memory are mapped: bits of an argument of
/// [`DeviceFrame`](crate::Op::DeviceFrame).
pub mod device_memory {
    /// Write-combining: the processor may collect writes, and make few of many. For memory such as
    /// a screen's; registers want each write, and in its order.
    pub const WRITE_COMBINING: u64 = 1;
    /// All of them.
    pub const ALL: u64 = WRITE_COMBINING;
}

/// Lines that there can be: those of interrupt controllers, and those of messages.
pub const LINES: u32 = 256;
/// The first line of a device that interrupts by a message.
pub const FIRST_MSI: u32 = 192;

/// Whether a line is that of a device which interrupts by a message.
pub const fn is_msi(line: u32) -> bool {
    line >= FIRST_MSI && line < LINES
}

/// Lines that a CPU can be interrupted by.
pub const CPU_LINES: usize = 48;

/// I/O ports of the machine.
pub const PORTS: u64 = 1 << 16;
