//! Definitions that test and tracing builds of the kernel share with the tools that inspect them,
//! and those that programs that test or measure share with the harness. Programs of a system need
//! none of them.
//!
//! - [`trace`]: the events that a tracing kernel writes;
//! - [`Attempt`]: an operation that the protections of the kernel forbid, and that a test build
//!   tries;
//! - [`Dump`]: how much of its state a test build exports;
//! - [`kills`]: what a test build counts of kills;
//! - [`build`]: how a program finds out that the kernel is a test build;
//! - [`lines`]: report lines with a checksum;
//! - [`select`]: rows and loads, chosen by name.
//!
//! The system calls for them have their numbers in [`abi::Op`], as all others. A kernel that was
//! built without one of them refuses it.
#![no_std]
#![forbid(unsafe_code)]

mod attempt;
pub mod build;
mod dump;
pub mod kills;
pub mod lines;
pub mod select;
pub mod trace;

pub use attempt::Attempt;
pub use dump::Dump;
