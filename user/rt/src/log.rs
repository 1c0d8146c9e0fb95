//! A program's output: defmt frames on its log channel, report lines for the harness.
//!
//! The runtime builds both in the UTCB's bulk area, and sends each as one record by one system
//! call. Each task has its own UTCB, so records of different tasks never mix, and no lock is
//! needed. Programs print nothing in a measured region.
//!
//! # The log
//! `user_rt::info!("{} clients", count)` logs if the boot option `level` allows it for the program
//! ([`abi::level`]), by the name of its file; otherwise it costs a load and a branch. Format
//! strings must be valid for both defmt and `core::fmt`, with arguments after the text. Values that
//! are only [`fmt::Display`] are passed as [`Shown`]. Message words in the bulk area are preserved.
//! Records that `DEFMT_LOG` left out when the program was built do not exist, whatever the option
//! says.

use core::fmt::{self, Write};
#[cfg(target_os = "none")]
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use abi::Error;
#[cfg(target_os = "none")]
use abi::Level;

#[cfg(target_os = "none")]
use crate::boot;
use crate::cap::{Handle, Machine};
use crate::invoke::Channel;
use crate::layout::slot;
use crate::utcb;

/// Sends one report line: `report!("row name={name} …")`.
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! report {
    ($($part:tt)*) => { $crate::log::report_line(::core::format_args!($($part)*)) };
}

/// A text that is being written to the bulk area; what does not fit is cut off.
struct Line {
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = abi::LOG_MAX - self.length;
        let fits = text.floor_char_boundary(room.min(text.len()));
        utcb::current().write_bytes(self.length, &text.as_bytes()[..fits]);
        self.length += fits;
        Ok(())
    }
}

/// The program's level; [`UNKNOWN`] before it is asked for.
#[cfg(target_os = "none")]
static LEVEL: AtomicU8 = AtomicU8::new(UNKNOWN);
#[cfg(target_os = "none")]
const UNKNOWN: u8 = u8::MAX;

/// Whether records of a level are logged.
#[cfg(target_os = "none")]
#[inline(always)]
pub fn is_on(level: Level) -> bool {
    let known = LEVEL.load(Relaxed);
    (if known == UNKNOWN { find_level() } else { known }) >= level as u8
}

#[cfg(target_os = "none")]
#[cold]
#[inline(never)]
fn find_level() -> u8 {
    let level = Level::on(boot::command_line(), crate::arch::program_name()) as u8;
    LEVEL.store(level, Relaxed);
    level
}

/// Calls `log`, and restores the UTCB's bulk area, which may contain a message or a fault's
/// registers.
#[cfg(target_os = "none")]
#[doc(hidden)]
#[cold]
#[inline(never)]
pub fn keeping_bulk(mut log: impl FnMut()) {
    let mut kept = [0; abi::LOG_MAX / size_of::<u64>()];
    utcb::current().read_bulk(&mut kept);
    log();
    utcb::current().write_bulk(&kept);
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

/// Writes a record of a level, which is given twice: as [`abi::Level`] and as defmt calls it.
#[cfg(target_os = "none")]
#[doc(hidden)]
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! tell {
    ($level:ident, $defmt:ident, $($record:tt)*) => {{
        if $crate::log::is_on($crate::abi::Level::$level) {
            $crate::log::keeping_bulk(|| ::defmt::$defmt!($($record)*));
        }
    }};
}

/// Checks a record only: on the host there is no log.
#[cfg(not(target_os = "none"))]
#[doc(hidden)]
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! tell {
    ($level:ident, $defmt:ident, $($record:tt)*) => {{
        let _ = ::core::format_args!($($record)*);
    }};
}

/// Logs something that does not work.
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! error {
    ($($record:tt)*) => { $crate::tell!(Error, error, $($record)*) };
}

/// Logs something that is not as it should be. The program continues.
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! warn {
    ($($record:tt)*) => { $crate::tell!(Warn, warn, $($record)*) };
}

/// Logs the steps of a run.
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! info {
    ($($record:tt)*) => { $crate::tell!(Info, info, $($record)*) };
}

/// Logs a decision of the program.
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! debug {
    ($($record:tt)*) => { $crate::tell!(Debug, debug, $($record)*) };
}

/// Logs everything else.
#[collapse_debuginfo(yes)]
#[macro_export]
macro_rules! trace {
    ($($record:tt)*) => { $crate::tell!(Trace, trace, $($record)*) };
}

/// Sends one report line. A program that may log and not report writes the line to its log; a
/// program without the right to log is silent.
pub fn report_line(text: fmt::Arguments<'_>) {
    let mut line = Line { length: 0 };
    // Writing to the line never fails; a `Display` that does leaves a shorter line.
    let _ = line.write_fmt(text);
    let sent = Machine::at(slot::MACHINE).log(line.length, Channel::Report);
    if sent.is_err_and(|refusal| refusal.error == Error::NoRight) {
        crate::warn!("{}", Shown(text));
    }
}
