//! The command `log`: the last lines of the system's log.

use core::fmt::{self, Write};

use abi::level::Level;
use protocols::Failure;
use protocols::log::{BYTES_MAX, Client, Refusal};
use protocols::names::Refusal as Denial;
use user_rt::names::AskError;

use crate::commands::fail;
use crate::processes::sender_of;
use crate::{Shell, Status};

/// Lines that are shown unless the person says how many, and at most.
const LINES: u32 = 20;
const LINES_MAX: u32 = 500;
/// The group of the log, as the description calls it.
pub const GROUP: &str = "log";

/// A line of the log.
struct Line {
    number: u64,
    time: u64,
    sender: u16,
    level: u8,
    text: heapless::Vec<u8, { BYTES_MAX as usize }>,
}

pub fn show(shell: &mut Shell, words: &[&str]) -> Result<Status, fmt::Error> {
    let last = match words {
        [] => Some(LINES),
        [count] => count.parse().ok().filter(|count| (1..=LINES_MAX).contains(count)),
        _ => None,
    };
    let Some(last) = last else {
        return fail(shell, format_args!("want: log [COUNT], with a count from 1 to {LINES_MAX}"));
    };
    let mut from = 0;
    for _ in 0..last {
        let line = match next(shell, from, last) {
            Ok(Some(line)) => line,
            Ok(None) if from == 0 => {
                writeln!(shell.out, "no lines yet")?;
                return Ok(Status::Done);
            }
            Ok(None) => return Ok(Status::Done),
            Err(why) => return fail(shell, format_args!("{why}")),
        };
        from = line.number + 1;
        let level = Level::ALL.get(usize::from(line.level)).map_or("?", |level| level.name());
        let sender = sender_of(GROUP, line.sender);
        let (seconds, micros) = (line.time / 1_000_000, line.time % 1_000_000);
        write!(shell.out, "{seconds:>6}.{micros:06} {level:<5} {sender}: ")?;
        // A line does nothing to the terminal.
        for letter in line.text.utf8_chunks().flat_map(|part| part.valid().chars()) {
            shell.out.write_char(if letter.is_control() { '?' } else { letter })?;
        }
        writeln!(shell.out)?;
    }
    Ok(Status::Done)
}

/// Returns the next line, or nothing if there is no more. Connects to the log again if it was
/// started again.
fn next(shell: &mut Shell, from: u64, last: u32) -> Result<Option<Line>, &'static str> {
    if shell.journal.is_none() {
        shell.connect_to_log().map_err(|error| match error {
            Failure::Refused(Denial::Unknown) => "this shell has no log: its description does not use one",
            _ => "the log is gone",
        })?;
    }
    let Some(journal) = &mut shell.journal else { return Err("the log is gone") };
    let line = journal.service().ask(|log| {
        Client(log).read(
            |mut read| {
                read.set_from(from);
                read.set_last(last);
                read.set_level(u8::MAX);
            },
            |found| {
                let text = heapless::Vec::from_slice(found.get_text()?).unwrap_or_default();
                Ok(Line {
                    number: found.get_number(),
                    time: found.get_time(),
                    sender: found.get_sender(),
                    level: found.get_level(),
                    text,
                })
            },
        )
    });
    match line {
        Ok(line) => Ok(Some(line)),
        Err(AskError::Refused(Refusal::NoMore)) => Ok(None),
        Err(AskError::Connection(_)) => Err("the log is gone"),
        Err(_) => Err("the log does not answer"),
    }
}
