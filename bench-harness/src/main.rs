//! `aurora-bench`: see `--help`.
#![forbid(unsafe_code)]

use std::io::{self, Write};
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
            if let Some(advice) = trouble::advice(&error) {
                eprintln!("{advice}");
            }
            ExitCode::from(trouble::status_of(&error))
        }
    }
}

/// Ends the program without a backtrace for `… | head` and for a full disk: Rust ignores SIGPIPE,
/// and `println!` panics.
fn end_with_the_reader() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or_default();
        match text.strip_prefix("failed printing to std") {
            Some(why) if why.contains("Broken pipe") => process::exit(READER_GONE),
            Some(why) => {
                // Standard error may be what is full.
                let _ = writeln!(io::stderr(), "aurora-bench: cannot write to std{why}");
                process::exit(trouble::status::HOST.into());
            }
            None => usual(info),
        }
    }));
}
