//! From the boot loader to the kernel's main function.
//!
//! Order, on the boot CPU: serial → required features → early IDT → loader's information copied →
//! free memory → final page tables. Then control registers and tables → own window and stack → ACPI
//! → clocks → other CPUs, which wait → `Kernel::main`, which [seals](crate::mem::kernel::seal) the
//! kernel and [releases](crate::cpu::start::release) the other CPUs.

pub mod info;
pub mod madt;

#[cfg(all(target_os = "none", feature = "faults"))]
pub(crate) mod faults;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
pub use machine::*;
