//! `just trace`: what a tracing kernel wrote into its rings, as pictures, checks and answers.
//!
//! ```text
//!   command ── chrome   JSON for Perfetto and chrome://tracing
//!      │   ├── check    scheduling invariants, each by its name (bits: the one about raised bits)
//!      │   └── query    the longest waits, calls, runs; who is busy
//!    story             spans, calls, waits, wakes: what events mean together
//!      │
//!    rings             records of the log port to events in order
//! ```
//!
//! The events themselves are defined in `abi::trace`, once for kernel and host.

mod bits;
pub mod check;
pub mod chrome;
pub mod command;
pub mod query;
pub mod rings;
pub mod story;

#[cfg(test)]
mod tests;

use abi::TaskId;

/// What is written of Chrome's Trace Event Format, as a JSON schema.
pub const SCHEMA: &str = include_str!("schema.json");

/// A task as a person reads it: process and number, and the generations if it is not the first of that name.
pub fn task_name(task: TaskId) -> String {
    let name = format!("p{}.{}", task.process().number(), task.task());
    if task.generation() == 0 { name } else { format!("{name}#{:x}", task.generation()) }
}
