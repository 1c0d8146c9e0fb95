//! Code that needs machine instructions: system calls, time stamps, program entry, memory by
//! address, and memory that a program shares with its processes.

mod buffer;
mod cpu;
pub mod fast;
pub mod memory;
pub mod shared;
pub mod stack;
#[cfg(target_os = "none")]
mod start;
mod syscall;

pub use buffer::{Buffer, View};
pub(crate) use buffer::{moved_here, shared_here};
pub use cpu::*;
pub use syscall::{Answer, Args, syscall};

/// Returns the address at which every task of this image starts.
#[cfg(target_os = "none")]
pub fn start_address() -> u64 {
    start::_start as *const () as u64
}

#[cfg(target_os = "none")]
pub use start::program_name;

/// Returns 0: programs have no entry on the host.
#[cfg(not(target_os = "none"))]
pub fn start_address() -> u64 {
    0
}
