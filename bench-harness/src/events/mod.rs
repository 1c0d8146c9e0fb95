//! `./justw trace`: makes pictures, checks rules and answers questions from the rings of a tracing
//! kernel.
//!
//! ```text
//!   command ── chrome   JSON for Perfetto and chrome://tracing
//!      │   ├── check    scheduling invariants, each by its name (bits: the one about raised bits; turns:
//!      │   │            the one about whose turn it is, and shares of the CPU)
//!      │   └── query    the longest waits, calls, runs; who is busy
//!    story             spans, calls, waits, wakes: what events mean together
//!      │
//!    rings ── names    records of the log port to events in order; programs of processes
//! ```
//!
//! The events themselves are defined in `test_abi::trace`, once for kernel and host.

mod bits;
pub mod check;
pub mod chrome;
pub mod command;
mod names;
pub mod query;
pub mod rings;
pub mod story;
pub mod turns;

#[cfg(test)]
mod tests;

/// What is written of Chrome's Trace Event Format, as a JSON schema.
pub const SCHEMA: &str = include_str!("schema.json");
