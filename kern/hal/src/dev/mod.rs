//! The few devices that the kernel itself uses: interrupt controller, clocks, serial port, log port.

pub mod acpi;
pub mod clock;
pub mod deflog;
pub mod exit;
pub mod lapic;
pub mod logport;
pub mod port;
pub mod serial;
