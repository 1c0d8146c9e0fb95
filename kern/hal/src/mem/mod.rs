//! Memory: what is free at boot, the kernel's half of the address space, page tables.

pub mod pcids;
pub mod ranges;
pub mod table;

#[cfg(target_os = "none")]
pub mod kernel;
#[cfg(target_os = "none")]
pub mod tlb;
