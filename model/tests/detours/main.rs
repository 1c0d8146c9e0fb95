//! Searches for detours: sequences of operations by which a process gets a right that no process
//! gave it. In many small worlds of two processes the search plays every operation with every
//! argument on the model, breadth-first over states that a hash distinguishes. A rule of the book's
//! list must allow each change of each step.
//!
//! `just detours --help` says how to run it.

#![allow(clippy::disallowed_types, reason = "what threads of a search share is not the kernel's")]

mod changes;
mod report;
mod rules;
mod search;
mod state;

use std::process::ExitCode;

fn main() -> ExitCode {
    report::run(std::env::args().skip(1))
}
