//! The terminal: text for the person, collected before it is sent, and bytes from there.

use core::fmt::{self, Write};

use heapless::{Deque, Vec};
use protocols::console::BYTES_MAX;
use user_rt::console::{Console, ConsoleError};

const ROOM: usize = BYTES_MAX as usize;

pub struct Terminal {
    console: Console,
    output: Vec<u8, ROOM>,
    input: Deque<u8, ROOM>,
    /// Why nothing more can be written or read.
    pub broken: Option<ConsoleError>,
}

impl Terminal {
    pub const fn new(console: Console) -> Terminal {
        Terminal { console, output: Vec::new(), input: Deque::new(), broken: None }
    }

    /// Sends the text that was collected.
    pub fn flush(&mut self) -> fmt::Result {
        let sent = self.console.write(&self.output);
        self.output.clear();
        self.note(sent)
    }

    fn note<T>(&mut self, result: Result<T, ConsoleError>) -> Result<T, fmt::Error> {
        result.map_err(|error| {
            self.broken = Some(error);
            fmt::Error
        })
    }

    /// Returns the next byte. Waits for it.
    pub fn next(&mut self) -> Result<u8, fmt::Error> {
        loop {
            if let Some(byte) = self.input.pop_front() {
                return Ok(byte);
            }
            self.flush()?;
            let mut bytes = [0; ROOM];
            let read = self.console.read(&mut bytes);
            let count = self.note(read)?;
            self.input.extend(bytes[..count].iter().copied());
        }
    }

    fn push(&mut self, byte: u8) -> fmt::Result {
        if self.output.is_full() {
            self.flush()?;
        }
        self.output.push(byte).map_err(|_| fmt::Error)
    }
}

impl Write for Terminal {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.push(b'\r')?;
            }
            self.push(byte)?;
        }
        Ok(())
    }
}
