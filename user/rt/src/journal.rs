//! Lines for the system's log (`user/log`), which a person reads at a shell. Each line is an event,
//! so its sender does not wait for the log, except while that is started again.
//!
//! [`crate::log`] is something else: records for the host, which come even if nothing of the system
//! works any more.

use core::fmt::{self, Write};

use abi::level::Level;
use abi::{Cap, Error, MSG_UTCB_WORDS};
use protocols::log::BYTES_MAX;
use protocols::{REGISTERS, Words, words_of};

use core::sync::atomic::Ordering::Relaxed;

use crate::ipc::{Message, Patience};
use crate::names::{NameError, Service, ends_connection};
use crate::utcb;

const WORDS: usize = (BYTES_MAX as usize).div_ceil(8);
const _: () = assert!(WORDS <= REGISTERS + MSG_UTCB_WORDS);

/// What the label of a line's event says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub level: u8,
    /// Bytes of the text.
    pub bytes: u16,
}

impl Header {
    pub const fn label(self) -> u32 {
        self.level as u32 | (self.bytes as u32) << 8
    }

    pub const fn of_label(label: u32) -> Header {
        Header { level: label as u8, bytes: (label >> 8) as u16 }
    }
}

/// A log that a process uses by a name of its description. It is one task's.
#[derive(Debug)]
pub struct Journal {
    service: Service,
    lost: u64,
}

/// A line that is being written; what is too long is cut off.
struct Text {
    words: Words<WORDS>,
    length: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.words.bytes_mut()[..BYTES_MAX.into()][self.length..];
        let count = room.len().min(text.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.length += count;
        Ok(())
    }
}

impl Journal {
    /// Connects to the log that a name means. `slot` is empty.
    pub fn connect(name: &'static str, slot: Cap) -> Result<Journal, NameError> {
        Ok(Journal { service: Service::connect(name, slot)?, lost: 0 })
    }

    /// Returns the connection, of which its reader may ask for lines.
    pub const fn service(&mut self) -> &mut Service {
        &mut self.service
    }

    /// Returns how many lines were lost: the log had no room for them, or was ending.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Writes a line. If the log has ended, waits until it is started again, and connects to it.
    /// Errors: there is no log any more.
    pub fn write(&mut self, level: Level, line: fmt::Arguments<'_>) -> Result<(), NameError> {
        let mut text = Text { words: Words::zeroed(), length: 0 };
        // It takes all.
        _ = text.write_fmt(line);
        for _ in 0..2 {
            let refusal = match self.service.server(0).send_within(&text.put(level), Patience::None) {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            };
            // A log that begins has no pool yet.
            if !ends_connection(&refusal) || refusal.error == Error::WouldBlock {
                break;
            }
            self.service.reconnect(&refusal)?;
        }
        self.lost += 1;
        Ok(())
    }
}

impl Text {
    /// Puts the line into the registers and the UTCB for the next system call.
    fn put(&self, level: Level) -> Message {
        let header = Header { level: level as u8, bytes: self.length as u16 };
        let count = self.length.div_ceil(8);
        let mut words = words_of(self.words.bytes()).take(count);
        let regs = core::array::from_fn::<_, REGISTERS, _>(|_| words.next().unwrap_or(0));
        let rest = count.saturating_sub(REGISTERS);
        for (to, word) in utcb::current().message().iter().zip(words) {
            to.store(word, Relaxed);
        }
        Message::with_words(header.label(), regs, rest as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_level_and_length() {
        for header in [Header { level: 0, bytes: 0 }, Header { level: 5, bytes: BYTES_MAX }] {
            assert_eq!(Header::of_label(header.label()), header);
        }
    }

    #[test]
    fn long_lines_are_cut() {
        let mut text = Text { words: Words::zeroed(), length: 0 };
        write!(text, "{:>1000}", "x").expect("it takes all");
        assert_eq!(text.length, usize::from(BYTES_MAX));
        assert_eq!(&text.words.bytes()[..2], b"  ");
    }
}
