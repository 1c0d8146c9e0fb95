//! What can go wrong in a run, and the exit status for each case.

use std::fmt;

/// Exit statuses, as documented by `--help`.
pub mod status {
    pub const PASS: u8 = 0;
    pub const CHECK_FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    pub const GUEST_DIED: u8 = 3;
    pub const TIMED_OUT: u8 = 4;
    pub const NO_MACHINE: u8 = 5;
    pub const NO_ACCELERATOR: u8 = 6;
    pub const HOST: u8 = 7;
}

/// The table in `--help`.
pub const STATUS_HELP: &str = "\
Exit status:
  0  everything passed
  1  the guest reported a failure, a figure or count was not as demanded,
     or a description has a mistake
  2  the command line was wrong
  3  the guest panicked, reset itself, lost process 1, or ended without a verdict
  4  a time-out: the guest's last words are printed
  5  QEMU (or Bochs, where asked for) is missing or does not start
  6  the accelerator asked for cannot be used
  7  something on the host: a file missing, nothing built yet, a full disk, …";

/// A failure with an exit status of its own. Everything else is [`status::HOST`].
#[derive(Debug)]
pub enum Trouble {
    /// The command line asks for something that does not exist.
    Usage(String),
    CheckFailed(String),
    GuestDied(String),
    TimedOut(String),
    NoMachine(String),
    NoAccelerator(String),
    /// A disk is full.
    NoRoom(String),
}

impl Trouble {
    pub fn status(&self) -> u8 {
        match self {
            Trouble::Usage(_) => status::USAGE,
            Trouble::CheckFailed(_) => status::CHECK_FAILED,
            Trouble::GuestDied(_) => status::GUEST_DIED,
            Trouble::TimedOut(_) => status::TIMED_OUT,
            Trouble::NoMachine(_) => status::NO_MACHINE,
            Trouble::NoAccelerator(_) => status::NO_ACCELERATOR,
            Trouble::NoRoom(_) => status::HOST,
        }
    }

    /// Returns whether the host could not run the guest, so that there is no result at all.
    pub fn is_of_the_host(&self) -> bool {
        matches!(self, Trouble::NoMachine(_) | Trouble::NoRoom(_))
    }
}

/// Announces, at the end of an error's first line, what a guest said last.
pub const ANNOUNCEMENT: &str = "; its last words:";

/// Returns the first line of an error, without the words that announce further lines.
pub fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.strip_suffix(ANNOUNCEMENT).unwrap_or(line)
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Usage(text)
            | Trouble::CheckFailed(text)
            | Trouble::GuestDied(text)
            | Trouble::TimedOut(text)
            | Trouble::NoMachine(text)
            | Trouble::NoAccelerator(text)
            | Trouble::NoRoom(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Trouble {}

/// Returns the exit status of an error.
pub fn status_of(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|cause| cause.downcast_ref::<Trouble>()).map_or(status::HOST, Trouble::status)
}

/// What to do where a disk is full.
pub const MAKE_ROOM: &str = "make room on that disk, then start this again";

/// Returns what to do about an error, where its text does not say that already.
pub fn advice(error: &anyhow::Error) -> Option<&'static str> {
    let is_full = |kind| {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(kind, StorageFull | QuotaExceeded | FileTooLarge)
    };
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(|cause| is_full(cause.kind())).then_some(MAKE_ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_first_line_announces_nothing() {
        let text = format!("calibrate-kvm: no end after 20 s{ANNOUNCEMENT}\n  | aurora: boot");
        assert_eq!(first_line(&text), "calibrate-kvm: no end after 20 s");
        assert_eq!(first_line("disk full"), "disk full");
        assert_eq!(first_line(""), "");
    }

    #[test]
    fn context_does_not_hide_the_status() {
        let error = Err::<(), _>(Trouble::TimedOut("slow".into())).context("boot nofast").unwrap_err();
        assert_eq!(status_of(&error), status::TIMED_OUT);
        assert_eq!(status_of(&anyhow::anyhow!("disk full")), status::HOST);
    }
}
