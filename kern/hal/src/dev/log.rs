//! The kernel's log: `info!("{} CPUs", count)` writes a record, if its level is selected.
//!
//! Each record goes to one place: as a defmt frame if a host tool decodes frames (`log=e9`,
//! `log=com2`), otherwise as a line of text to COM1 and the screen. So format strings must be valid
//! for both defmt and `core::fmt`: `{}`, `{:x}`, `{:#x}` and similar, with arguments after the
//! text. Values that are only [`fmt::Display`] are passed as [`Shown`].
//!
//! The boot option `level` selects records ([`abi::level`]). A record whose level is not selected
//! costs a load and a branch. Records that `DEFMT_LOG` left out when the kernel was built have no
//! frames, whatever the option says.
//!
//! Frames may be written in any context. Text may not: code that interrupts other code of the
//! kernel prints with [`eprintln`](crate::eprintln), and then [`frame`](crate::frame)s.

use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

use abi::Level;

use super::serial;

/// The name by which the boot option calls the kernel.
const PART: &str = "kernel";

static LEVEL: AtomicU8 = AtomicU8::new(Level::DEFAULT as u8);

/// Sets the level that a command line asks for.
pub fn choose(line: &str) {
    LEVEL.store(Level::on(line, PART) as u8, Ordering::Relaxed);
}

/// Whether records of a level are logged.
pub fn is_on(level: Level) -> bool {
    LEVEL.load(Ordering::Relaxed) >= level as u8
}

/// Prints a record as text.
#[cold]
#[inline(never)]
pub fn print(record: fmt::Arguments<'_>) {
    serial::print(format_args!("aurora: {record}\n"));
}

/// What `core::fmt` shows, in a record.
pub struct Shown<T>(pub T);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Display> defmt::Format for Shown<T> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{}", defmt::Display2Format(&self.0));
    }
}

/// A record of a level, which stands twice: as [`abi::Level`] and as defmt calls it.
#[doc(hidden)]
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! tell {
    ($level:ident, $defmt:ident, $($record:tt)*) => {{
        if $crate::dev::log::is_on(::abi::Level::$level) {
            if $crate::dev::logport::takes_records() {
                ::defmt::$defmt!($($record)*);
            } else {
                $crate::dev::log::print(::core::format_args!($($record)*));
            }
        }
    }};
}

/// Logs a record of a level, from any context, if a host tool decodes it. Its text is logged
/// otherwise.
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! frame {
    ($level:ident, $defmt:ident, $($record:tt)*) => {
        if $crate::dev::log::is_on(::abi::Level::$level) && $crate::dev::logport::takes_records() {
            ::defmt::$defmt!($($record)*);
        }
    };
}

/// Logs a problem after which the machine continues.
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! warn {
    ($($record:tt)*) => { $crate::tell!(Warn, warn, $($record)*) };
}

/// What a run consists of.
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! info {
    ($($record:tt)*) => { $crate::tell!(Info, info, $($record)*) };
}

/// Logs refusals, and ends of tasks and processes.
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! debug {
    ($($record:tt)*) => { $crate::tell!(Debug, debug, $($record)*) };
}

/// Everything else.
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! trace {
    ($($record:tt)*) => { $crate::tell!(Trace, trace, $($record)*) };
}
