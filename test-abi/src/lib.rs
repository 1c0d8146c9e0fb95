//! Definitions that test and tracing builds of the kernel share with the tools that inspect them.
//! Ordinary programs need none of them.
//!
//! - [`trace`]: the events that a tracing kernel writes;
//! - [`Attempt`]: an operation that the protections of the kernel forbid, and that a test build
//!   tries.
//!
//! The system calls for them have their numbers in [`abi::Op`], as all others. A kernel that was
//! built without one of them refuses it.
#![no_std]
#![forbid(unsafe_code)]

mod attempt;
pub mod trace;

pub use attempt::Attempt;
