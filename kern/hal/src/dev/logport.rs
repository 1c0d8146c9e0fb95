//! The log port: binary records for the host (defmt frames, report lines).
//!
//! Record: 0xA5, channel, length (u16, little-endian), payload. A record is written whole under
//! one lock, so records of different CPUs never mix. Logging only; no hot path comes here.
//!
//! `log=text` is for machines at whose other end no host tool listens: report lines go to COM1 and the screen as lines of
//! text, each behind [`TEXT_MARK`], so that no program can say what the kernel says. Other records are left out: they are
//! no text.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Mutex;

use super::{port, serial};

/// First byte of each record.
const MARK: u8 = 0xa5;
/// Channel of the kernel's own defmt frames; programs have 1..=0x7f.
pub const KERNEL_CHANNEL: u8 = 0;
/// Channel of report lines (text).
pub const REPORT_CHANNEL: u8 = 0x80;
/// Begins a report line among the kernel's own lines.
const TEXT_MARK: &str = "| ";
/// Longest report line of the kernel itself.
const REPORT_LINE: usize = 160;
/// QEMU's isa-debugcon, and Bochs's port E9 hack.
const DEBUG_CONSOLE: u16 = 0xe9;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    Off,
    DebugConsole,
    SecondSerial,
    Text,
}

static SINK: Mutex<Sink> = Mutex::new(Sink::Off);
static TOO_LONG: AtomicU32 = AtomicU32::new(0);

/// Chooses where records go; `choice` is the value of the boot option `log`.
/// Gives back whether it knows that choice.
pub fn choose(choice: Option<&str>) -> bool {
    let sink = match choice {
        None | Some("off") => Sink::Off,
        Some("e9") => Sink::DebugConsole,
        Some("com2") => Sink::SecondSerial,
        Some("text") => Sink::Text,
        Some(_) => return false,
    };
    if sink == Sink::SecondSerial {
        serial::init_second();
    }
    *SINK.lock() = sink;
    true
}

/// Writes one record. Returns false where the payload is longer than a record can be.
pub fn record(channel: u8, payload: &[u8]) -> bool {
    let Ok(len) = u16::try_from(payload.len()) else {
        TOO_LONG.fetch_add(1, Ordering::Relaxed);
        return false;
    };
    let [low, high] = len.to_le_bytes();
    let head = [MARK, channel, low, high];
    let sink = SINK.lock();
    match *sink {
        Sink::Off => (),
        Sink::DebugConsole => {
            // SAFETY: the debug console port takes bytes and touches no memory.
            unsafe {
                port::write_all(DEBUG_CONSOLE, &head);
                port::write_all(DEBUG_CONSOLE, payload);
            }
        }
        Sink::SecondSerial => {
            let mut uart = serial::second();
            for &byte in head.iter().chain(payload) {
                uart.send(byte);
            }
        }
        Sink::Text if channel == REPORT_CHANNEL => {
            serial::print(format_args!("{TEXT_MARK}{}\n", Printable(payload)));
        }
        Sink::Text => (),
    }
    true
}

/// Bytes as text of one line: what is no letter of ASCII is a question mark.
struct Printable<'b>(&'b [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_letter = |byte: &u8| matches!(byte, b' '..=b'~');
        self.0.iter().try_for_each(|byte| f.write_char(if is_letter(byte) { char::from(*byte) } else { '?' }))
    }
}

/// As [`record`], by a CPU that ends the machine: whoever holds the log port may have been stopped for good.
#[cfg(feature = "trace")]
pub fn last_record(channel: u8, payload: &[u8]) -> bool {
    const PATIENCE: u32 = 1_000_000;
    let free = (0..PATIENCE).any(|_| {
        core::hint::spin_loop();
        !SINK.is_locked()
    });
    if !free {
        // SAFETY: what it protects is a plain value, chosen at boot; the port takes bytes from anybody.
        unsafe { SINK.force_unlock() };
    }
    record(channel, payload)
}

/// Writes one report line (no newline) for the host's results.
pub fn report(line: fmt::Arguments<'_>) {
    let mut text = heapless::String::<REPORT_LINE>::new();
    // A line that is too long is cut.
    let _ = text.write_fmt(line);
    record(REPORT_CHANNEL, text.as_bytes());
}

/// Records that were refused as too long.
pub fn refused() -> u32 {
    TOO_LONG.load(Ordering::Relaxed)
}
