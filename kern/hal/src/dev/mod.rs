//! The few devices that the kernel itself uses: interrupt controller, clocks, serial port, log port.

pub mod acpi;
pub mod clock;
pub mod deflog;
pub mod exit;
pub mod lapic;
pub mod logport;
pub mod port;
#[cfg(feature = "trace")]
pub mod rings;
pub mod serial;
