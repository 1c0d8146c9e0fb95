//! What a program says: defmt frames on its log channel, report lines for the harness.
//!
//! Both are put together in the UTCB's bulk area and sent as one record by one system call, so a
//! record is never mixed with another task's and no lock is needed: each task has its own UTCB.
//! Nothing is said in a region that is being measured.

use core::fmt::{self, Write};

use abi::Error;

use crate::cap::{Handle, Machine};
use crate::invoke::Channel;
use crate::layout::slot;
use crate::utcb;

/// Sends one report line: `report!("row name={name} …")`.
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

/// Sends one report line. Whoever may log and not report says it in its log; a program without the right to log is silent.
pub fn report_line(text: fmt::Arguments<'_>) {
    let mut line = Line { length: 0 };
    // Writing to the line never fails; a `Display` that does leaves a shorter line.
    let _ = line.write_fmt(text);
    let sent = Machine::at(slot::MACHINE).log(line.length, Channel::Report);
    if sent.is_err_and(|refusal| refusal.error == Error::NoRight) {
        defmt::warn!("{}", defmt::Display2Format(&text));
    }
}
