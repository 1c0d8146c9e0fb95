//! Confinement: processes with few capabilities do arbitrary operations, at random and in pairs,
//! and the [oracle](confine) judges each operation by pictures of the states before and after it.
//!
//! [`cast`]: the initial state of a case. [`pick`]: the choice of the next operation. [`acts`]: its
//! arguments. [`suits`]: objects in a state that suits it. [`play`]: an operation, from the picture
//! before it to the verdict. [`rounds`]: pairs of operations. [`scan`]: the places where marks
//! appear. [`report`]: runs of many cases.
//!
//! `./justw confine --help` says how to run it.

#![allow(clippy::disallowed_types, reason = "what simulated hardware shares is not the kernel's")]

#[path = "../kernel/world/mod.rs"]
#[allow(dead_code, reason = "the other tests of the kernel use more of it")]
mod world;

mod acts;
mod cast;
mod pick;
mod play;
mod report;
mod rounds;
mod scan;
mod suits;

use std::process::ExitCode;

/// What `./justw` prints, too.
const HELP: &str = include_str!("../../../../docs/help/confine.txt");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match report::Options::parse(&arguments) {
        Ok(options) => report::run(&options),
        Err(wrong) => {
            eprintln!("confine: {wrong}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}
