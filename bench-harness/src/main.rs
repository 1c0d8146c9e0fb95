//! `aurora-bench`: see `--help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bench_harness::{cli, trouble};

fn main() -> ExitCode {
    match cli::main() {
        Ok(()) => ExitCode::from(trouble::status::PASS),
        Err(error) => {
            eprintln!("{}: {error:#}", console::style("aurora-bench").red().for_stderr());
            ExitCode::from(trouble::status_of(&error))
        }
    }
}
