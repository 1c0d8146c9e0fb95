//! The error of a refused system call.

use core::fmt;

use abi::{Error, TaskId};

/// A system call's refusal: the error and what the kernel said about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub error: Error,
    /// Its meaning is the error's (`rdi`): an argument's position, missing rights, a slot.
    pub detail: u64,
    /// The task that [`Error::Dead`] and similar errors name (`rsi`).
    pub who: TaskId,
}

pub type Result<T> = core::result::Result<T, Refusal>;

impl Refusal {
    /// Makes a refusal that comes from the runtime, not from a system call.
    pub const fn local(error: Error, detail: u64) -> Refusal {
        Refusal { error, detail, who: TaskId::NONE }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (detail {:#x}", self.error, self.detail)?;
        if self.who != TaskId::NONE {
            write!(f, ", task {:#x}", self.who.raw())?;
        }
        f.write_str(")")
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Refusal {}
