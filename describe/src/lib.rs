//! Descriptions of systems: one readable file `systems/NAME.toml` says which processes run, what
//! they may do, and which processes may call which. The book's page *Systems* has the language.
//!
//! ```text
//! file ── read ── Written ── check ── resolve ── System ── compile ── message for process 1
//!          │                   │                    └───── draw ───── picture
//!          └───── Report ──────┘
//! ```
//!
//! [`load`] reads, checks and resolves. It reports as many mistakes as can be told apart, each with
//! file, line, column, what is wrong and what would be right.
#![forbid(unsafe_code)]

mod check;
pub mod compile;
pub mod draw;
pub mod keys;
mod near;
mod problem;
mod read;
mod resolve;
pub mod system;
mod units;
mod values;
mod written;

use std::path::Path;

pub use compile::compile;
pub use problem::Report;
pub use system::System;

use check::Known;
use problem::{Problem, Problems};

/// Bytes of the longest description.
const LONGEST: usize = 256 << 10;

/// Reads a description, and checks it.
///
/// `programs` are the programs of the boot image, where they are known. The system has the name of
/// the file without its ending.
pub fn load(file: &str, bytes: &[u8], programs: Option<&[String]>) -> Result<System, Report> {
    let mut problems = Problems::new();
    let text = text_of(bytes, &mut problems);
    if !problems.is_empty() {
        return Err(Report::new(file, &text, problems));
    }
    let written = read::read(&text, &mut problems);
    if written == written::Written::default() && !problems.is_empty() {
        return Err(Report::new(file, &text, problems));
    }
    let needs = check::check(&written, Known { text: &text, programs }, &mut problems);
    match needs {
        Some(needs) if problems.is_empty() => {
            let name = Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
            Ok(resolve::resolve(&name, &written, &needs))
        }
        _ => Err(Report::new(file, &text, problems)),
    }
}

/// Returns the text of a file, and reports a file that has none.
fn text_of(bytes: &[u8], problems: &mut Problems) -> String {
    if bytes.len() > LONGEST {
        let title = format!("a description of {} bytes is too long", bytes.len());
        let fix = format!("write at most {LONGEST} bytes");
        problems.push(Problem::new(0..0, title, "this file", fix));
        return String::new();
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(error) => {
            let at = error.valid_up_to();
            let title = format!("the file is no UTF-8 text: byte {:#04x}", bytes[at]);
            let fix = "save the file as UTF-8";
            problems.push(Problem::new(at..at + 1, title, "not a character", fix));
            return String::from_utf8_lossy(bytes).into_owned();
        }
    };
    if text.trim().is_empty() {
        let fix = "begin with `about = \"…\"` and a section `[processes.NAME]`";
        problems.push(Problem::new(0..0, "the file is empty", "no text", fix));
    }
    text
}
