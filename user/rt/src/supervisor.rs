//! What a program says to its parent: that it is done, that one of its tasks panicked, that a task which it started is
//! no more.
//!
//! The parent listens at exposure 0 of a group that it made the program a member of
//! ([`crate::layout::slot::SUPERVISOR`]); the member's custom bits tell it which child speaks.

use crate::Result;
use crate::cap::{Exposure, Group, Handle};
use crate::ipc::Message;
use crate::layout::slot;

/// Exposure at which the parent listens.
pub const PARENT: u32 = 0;

/// Labels of the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Label {
    /// Finished; registers: how many things passed, how many failed.
    Done = 1,
    /// A task panicked; register 0: its id.
    Panicked = 2,
    /// Within the parent: a watched task is no more; registers: error, its detail, the task's id.
    Died = 3,
    /// A task of a process that the program started is no more; registers: its id, why (a [`Denial`] or 0), the address.
    ///
    /// [`Denial`]: crate::paging::Denial
    Lost = 4,
}

impl Label {
    pub const fn from_raw(raw: u32) -> Option<Label> {
        match raw {
            1 => Some(Label::Done),
            2 => Some(Label::Panicked),
            3 => Some(Label::Died),
            4 => Some(Label::Lost),
            _ => None,
        }
    }
}

/// TSC ticks that a panicking task waits for its parent to listen: a second or a few.
#[cfg(target_os = "none")]
const PANIC_PATIENCE: u64 = 2_000_000_000;

fn parent() -> Exposure {
    Group::at(slot::SUPERVISOR).exposure(PARENT)
}

/// Tells the parent that the program is done. It may not answer: programs end by being ended.
pub fn say_done(passed: u64, failed: u64) -> Result<()> {
    parent().call(&Message::new(Label::Done as u32, [passed, failed, 0, 0])).map(|_| ())
}

/// Tells the parent that a task of a process which this program started is no more.
pub fn say_lost(task: abi::TaskId, reason: u64, address: u64) -> Result<()> {
    parent().call(&Message::new(Label::Lost as u32, [task.raw(), reason, address, 0])).map(|_| ())
}

#[cfg(target_os = "none")]
pub(crate) fn say_panicked() {
    let id = crate::utcb::current().task_id().raw();
    let patience = crate::ipc::Patience::Until(crate::arch::now().saturating_add(PANIC_PATIENCE));
    // A parent that is gone or never made itself known cannot be told.
    let _ = parent().call_within(&Message::new(Label::Panicked as u32, [id, 0, 0, 0]), patience);
}

/// Tells the parent that the program is done and waits to be ended.
pub fn finish(passed: u64, failed: u64) -> ! {
    let told = say_done(passed, failed);
    panic!("the parent let a finished program go on: {told:?}");
}
