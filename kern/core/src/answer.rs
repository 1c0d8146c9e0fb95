//! How a system call ends: values, an error with its detail, or "the task is not running any more".

use abi::{Error, MsgInfo, TaskId};
use kern_base::task::RegFrame;

/// What a system call did when it did not fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Success, with up to four results.
    Values([u64; 4]),
    /// The caller's registers are already written, or it is blocked: leave them alone.
    Settled,
}

impl Answer {
    pub const DONE: Answer = Answer::Values([0; 4]);

    pub const fn one(value: u64) -> Answer {
        Answer::Values([value, 0, 0, 0])
    }
}

/// Why a system call did not do what was asked. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    Error {
        error: Error,
        /// For `rdi`: see each [`Error`].
        detail: u64,
        /// For `rsi`: whom it is about, if anybody.
        who: TaskId,
    },
    /// Not yet: park the task until the grace epoch reaches this value, then start the call again.
    Restart { epoch: u64 },
    /// Not yet: a bounded part is done; the call starts again at once, after pending interrupts.
    More,
    /// Not yet: park the task until another CPU's answer wakes it, then start the call again.
    Again,
    /// Not yet: what the message's list disposes of is deleted first, then the call starts again.
    Dispose,
}

pub type Result<T> = core::result::Result<T, Refusal>;

impl Refusal {
    pub const fn new(error: Error, detail: u64) -> Refusal {
        Refusal::Error { error, detail, who: TaskId::NONE }
    }

    /// The callee is dead.
    pub const fn dead(who: TaskId) -> Refusal {
        Refusal::Error { error: Error::Dead, detail: 0, who }
    }

    /// The argument at this position (0 = rdi) is out of range.
    pub const fn argument(position: u64) -> Refusal {
        Refusal::new(Error::BadArgument, position)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::new(error, 0)
    }
}

/// Writes what a syscall exit defines: results, all other message registers zero.
#[inline(always)]
pub fn write_values(regs: &RegFrame, info: MsgInfo, values: [u64; 4]) {
    regs.rax.set(info.0);
    regs.rdi.set(values[0]);
    regs.rsi.set(values[1]);
    regs.rdx.set(values[2]);
    regs.r8.set(values[3]);
    regs.r9.set(0);
    regs.r10.set(0);
    regs.r12.set(0);
    regs.full.set(0);
}

/// Writes an error answer.
pub fn write_error(regs: &RegFrame, error: Error, detail: u64, who: TaskId) {
    write_values(regs, MsgInfo::error(error), [detail, who.raw(), 0, 0]);
}
