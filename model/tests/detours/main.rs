//! Detours: do operations of a process let it do what nobody with the right to it gave it? In many
//! small worlds of two processes, every operation with every argument is played on the model,
//! breadth-first over states that are told apart by a hash. Each change of each step must be
//! allowed by a rule of the book's list.
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
