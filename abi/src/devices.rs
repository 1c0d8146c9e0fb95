//! Interrupts of devices.
//!
//! An [`IrqHandler`](crate::ObjType::IrqHandler) is the interrupt of one line of the machine's
//! interrupt controllers. A driver binds it to a Notification, whose bits tell it that its device
//! wants something. The kernel masks the line at each interrupt, until the driver asks for the next
//! one ([`IrqAck`](crate::Op::IrqAck)). So a device interrupts a CPU no more often than its driver
//! runs.

/// How a line signals: bits of an argument of [`IrqAllow`](crate::Op::IrqAllow).
pub mod line {
    /// As long as the device wants something (PCI), and not by a change only (ISA).
    pub const LEVEL: u64 = 1;
    /// By a low voltage (PCI), and not by a high one (ISA).
    pub const LOW: u64 = 2;
    /// All of them.
    pub const ALL: u64 = LEVEL | LOW;
}

/// Lines that a CPU can be interrupted by.
pub const CPU_LINES: usize = 48;

/// I/O ports of the machine.
pub const PORTS: u64 = 1 << 16;
