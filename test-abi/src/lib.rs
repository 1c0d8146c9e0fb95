//! What test and tracing builds of the kernel share with the tools that look into them, and no program of a system needs.
//!
//! - [`trace`]: the events that a tracing kernel writes;
//! - [`Attempt`]: what a test build tries that its protections forbid.
//!
//! The system calls for it have their numbers in [`abi::Op`], as all others: every kernel refuses those that it was not
//! built with.
#![no_std]
#![forbid(unsafe_code)]

mod attempt;
pub mod trace;

pub use attempt::Attempt;
