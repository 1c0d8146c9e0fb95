//! `aurora-bench`: see `--help`.
#![forbid(unsafe_code)]

use std::panic;
use std::process::{self, ExitCode};

use bench_harness::{cli, trouble};

/// What a shell says of a process that SIGPIPE has ended, as it ends others whose reader has gone.
const READER_GONE: i32 = 128 + 13;

fn main() -> ExitCode {
    end_with_the_reader();
    match cli::main() {
        Ok(()) => ExitCode::from(trouble::status::PASS),
        Err(error) => {
            eprintln!("{}: {error:#}", console::style("aurora-bench").red().for_stderr());
            ExitCode::from(trouble::status_of(&error))
        }
    }
}

/// `… | head` is no reason for a backtrace: Rust ignores SIGPIPE, and `println!` panics.
fn end_with_the_reader() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or_default();
        if text.starts_with("failed printing to std") && text.contains("Broken pipe") {
            process::exit(READER_GONE);
        }
        usual(info);
    }));
}
