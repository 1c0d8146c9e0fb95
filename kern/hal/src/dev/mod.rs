//! The few devices that the kernel itself uses: interrupt controller, clocks, serial port, text
//! screen, log port.

pub mod desk;
pub mod screen;
pub mod shared;

#[cfg(target_os = "none")]
pub mod acpi;
#[cfg(target_os = "none")]
pub mod clock;
#[cfg(target_os = "none")]
pub mod deflog;
#[cfg(target_os = "none")]
pub mod exit;
#[cfg(target_os = "none")]
pub mod faults;
#[cfg(target_os = "none")]
pub mod ioapic;
#[cfg(target_os = "none")]
pub mod lapic;
#[cfg(target_os = "none")]
pub mod log;
#[cfg(target_os = "none")]
pub mod logport;
#[cfg(target_os = "none")]
pub mod msi;
#[cfg(target_os = "none")]
pub mod port;
#[cfg(all(target_os = "none", feature = "trace"))]
pub mod rings;
#[cfg(target_os = "none")]
pub mod serial;
