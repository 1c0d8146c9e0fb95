//! Confinement: processes with few capabilities do whatever they like, at random and in histories
//! that others have come upon, and the [oracle](confine) judges each operation by pictures of the
//! moments before and after it.
//!
//! [`cast`]: what a case begins with. [`pick`]: which operation is next. [`acts`]: its arguments.
//! [`suits`]: which objects suit it. [`play`]: an operation, from the picture before to the
//! verdict. [`rounds`]: pairs of operations. [`scan`]: where marks turn up. [`report`]: many cases.
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
