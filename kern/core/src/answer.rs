//! Results of a system call: values, an error with its detail, or the fact that the task is not
//! running any more.

use abi::{Error, MsgInfo, TaskId};
use kern_base::task::RegFrame;

/// The result of a system call that did not fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Success, with up to four results.
    Values([u64; 4]),
    /// The caller's registers are already written, or the caller is blocked: do not write them.
    Settled,
}

impl Answer {
    pub const DONE: Answer = Answer::Values([0; 4]);

    pub const fn one(value: u64) -> Answer {
        Answer::Values([value, 0, 0, 0])
    }
}

/// The reason why a system call has not done all its work. With `Error`, nothing was changed,
/// except where the reference says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    Error {
        error: Error,
        /// For `rdi`: see each [`Error`].
        detail: u64,
        /// For `rsi`: the task that the error is about, if there is one.
        who: TaskId,
    },
    /// Not yet: park the task until the grace epoch reaches this value, then restart the call. With
    /// 0 the call restarts immediately ([`Refusal::AT_ONCE`]).
    Restart { epoch: u64 },
    /// Not yet: what the receiver of a message offers for its payload cannot be used before the
    /// grace epoch reaches this value; 0: before another CPU has acted. The message waits, or
    /// restarts as with `Restart`. A reply does neither: it goes without that payload.
    NotReady { epoch: u64 },
    /// Not yet: a bounded part is done. The call restarts immediately, after pending interrupts.
    More,
    /// Not yet: park the task until another CPU's answer wakes it, then restart the call.
    Again,
    /// Not yet: delete what the message's list disposes of first, then restart the call.
    Dispose,
}

pub type Result<T> = core::result::Result<T, Refusal>;

impl Refusal {
    /// A bounded part of the checks of a message's pages is done. The call restarts immediately,
    /// and not to lend the pages, which `More` means there.
    pub const AT_ONCE: Refusal = Refusal::Restart { epoch: 0 };

    pub const fn new(error: Error, detail: u64) -> Refusal {
        Refusal::Error { error, detail, who: TaskId::NONE }
    }

    /// Returns the refusal for a dead callee.
    pub const fn dead(who: TaskId) -> Refusal {
        Refusal::Error { error: Error::Dead, detail: 0, who }
    }

    /// Returns whether a payload was refused because of its receiver, which has no room, or not
    /// yet, or is ending, or whose label forbids the payload.
    pub const fn is_of_receiver(self) -> bool {
        use Error::{Dying, Forbidden, NoRoom};
        matches!(self, Refusal::NotReady { .. } | Refusal::Error { error: NoRoom | Dying | Forbidden, .. })
    }

    /// Returns the labels of which a rule forbids what was asked for, if that is the reason.
    pub const fn labels(self) -> Option<u64> {
        match self {
            Refusal::Error { error: Error::Forbidden, detail, .. } => Some(detail),
            _ => None,
        }
    }

    /// Returns the refusal for a system call's argument that is out of range; `position` is its
    /// place among the arguments (0 = rdi).
    pub const fn argument(position: u64) -> Refusal {
        Refusal::new(Error::BadArgument, position)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::new(error, 0)
    }
}

/// The refusal where a SchedControl does not cover a CPU, or CPU time may not run there.
pub const NOT_COVERED: Refusal = Refusal::new(Error::OverLimit, u64::MAX);

/// Returns the refusal `why` if a system call breaks a rule.
#[inline(always)]
pub fn refuse_if(breaks_rule: bool, why: impl Into<Refusal>) -> Result<()> {
    if breaks_rule { Err(why.into()) } else { Ok(()) }
}

/// Writes the registers that a system call's exit defines: results, and zero in all other message
/// registers.
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

/// Writes an error as a system call's answer: the error, its detail, and the task that it names.
pub fn write_error(regs: &RegFrame, error: Error, detail: u64, who: TaskId) {
    write_values(regs, MsgInfo::error(error), [detail, who.raw(), 0, 0]);
}
