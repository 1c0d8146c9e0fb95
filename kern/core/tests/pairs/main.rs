//! Pairs: an operation is stopped at each of its points. There, every other operation on the same
//! objects, or on related ones, runs on another CPU, from start to end or for some kernel entries.
//! Then the first continues, and then everything is destroyed. A run plays a sample of these cases,
//! or all of them.
//!
//! The accesses of the CPUs are sequentially consistent here; loom tests the memory model.
//!
//! `./justw pairs --help` says how to run it.

#![allow(clippy::disallowed_types, reason = "what simulated hardware shares is not the kernel's")]

#[path = "../kernel/world/mod.rs"]
#[allow(dead_code, reason = "the other tests of the kernel use more of it")]
mod world;

mod alone;
mod cast;
mod deeds;
mod facts;
mod members;
mod orders;
mod plan;
mod play;
mod processes;
mod report;
mod states;
mod waits;
mod words;

use std::path::Path;
use std::process::ExitCode;

/// What `./justw` prints, too.
const HELP: &str = include_str!("../../../../docs/help/pairs.txt");

fn main() -> ExitCode {
    // Cargo starts tests in the package's directory; who names a file means the workspace's.
    if let Some(package) = std::env::var_os("CARGO_MANIFEST_DIR") {
        std::env::set_current_dir(Path::new(&package).join("../..")).expect("the workspace is there");
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match plan::Options::parse(&arguments) {
        Ok(options) => match &options.alone {
            Some(file) => alone::write(&options, file),
            None => report::run(&options),
        },
        Err(wrong) => {
            eprintln!("pairs: {wrong}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}
