//! Pairs: an operation is stopped at each of its points, and every other one that has to do with the same things, or
//! with related ones, runs on another CPU, from start to end or some kernel entries; then the first goes on, and then
//! everything is destroyed. A run plays a sample of these cases, or the whole.
//!
//! The order of what CPUs do is sequentially consistent here; the memory model is loom's business.
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
mod report;
mod states;
mod waits;
mod words;

use std::path::Path;
use std::process::ExitCode;

const HELP: &str = "\
Stops operations at each of their points and runs each other one beside them

Usage: pairs [OPTIONS]

Options:
      --whole          All pairs at all points, and not a sample
      --first          Stop at the first violation
      --seed N         Which sample (default: 1)
      --cases N        How many cases a sample has (default: 70000)
      --chains N       How many of them, in hundredths, let a third operation run behind the second (default: 40)
      --only A[/B[/C]] Only operations with these names, or whose names contain these words
      --at N           Only where the first operation stops at its point N
      --entries N      Only N kernel entries of the second operation, before the first goes on
      --state NAME     Only where a case begins so: Quiet, Served, Queued, Kept, Deep, Large,
                       LargeSent, Waiting, Faulted, or Wide, of which a run has none else
      --limits small   With the kernel's smallest bounds
      --alone FILE     Write what each operation changes that is done alone, and play no cases
      --list FILE      Write what was reached of each triple, or why not
      --threads N      How many run side by side (default: 2)

Examples:
  ./justw pairs
  ./justw pairs --seed 7 --cases 200000
  ./justw pairs --limits small --whole --list target/pairs.txt
  ./justw pairs --only 'CapDelete mapped/Unmap mapped' --at 17 --state Quiet
";

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
