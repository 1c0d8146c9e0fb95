//! What a program says to its parent: that it is done, that one of its tasks panicked, that a task which it started is
//! no more; and what it asks for: views of sensitive memory ([`crate::views`]).
//!
//! The parent listens at exposure 0 of a group that it made the program a member of
//! ([`crate::layout::slot::SUPERVISOR`]); the member's custom bits tell it which child speaks.

use crate::Result;
use crate::cap::{Exposure, Frame, Group, Handle};
use crate::ipc::{Message, Received};
use crate::layout::slot;
use crate::views::{Grant, Keeper, Range, ViewDenial, Views, Wanted};

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
    /// Lend a view; registers: as [`Wanted::regs`], then an empty slot of the program's for the frame. The answer's label is
    /// 0, or a [`ViewDenial`].
    View = 5,
    /// Take it back; registers: first page, how many. The answer is as above.
    ViewBack = 6,
}

impl Label {
    pub const fn from_raw(raw: u32) -> Option<Label> {
        match raw {
            1 => Some(Label::Done),
            2 => Some(Label::Panicked),
            3 => Some(Label::Died),
            4 => Some(Label::Lost),
            5 => Some(Label::View),
            6 => Some(Label::ViewBack),
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

/// Asks the parent for a view, which then is in an empty slot of this process.
pub fn view(wanted: Wanted, slot: abi::Cap) -> core::result::Result<Frame, ViewDenial> {
    let [first, pages, how] = wanted.regs();
    ask(Label::View, [first, pages, how, u64::from(slot.0)])?;
    Ok(Frame::at(slot))
}

/// Gives it back. Every mapping of it is gone then, and every copy, the one that was given included.
pub fn give_back(range: Range) -> core::result::Result<(), ViewDenial> {
    ask(Label::ViewBack, [range.first, u64::from(range.pages), 0, 0])
}

fn ask(what: Label, regs: [u64; 4]) -> core::result::Result<(), ViewDenial> {
    let answer = parent().call(&Message::new(what as u32, regs)).map_err(|_| ViewDenial::NoKeeper)?;
    match answer.label {
        0 => Ok(()),
        label => Err(ViewDenial::from_raw(label).unwrap_or(ViewDenial::NoKeeper)),
    }
}

/// The parent's side of the two requests: the answer for a holder that may have what it was granted, and whose slots are
/// at the places that `slot_of` says. `None` where the call is something else.
pub fn serve_views<K: Keeper>(
    views: &mut Views<K>,
    call: &Received,
    granted: &[Grant],
    slot_of: impl FnOnce(abi::Cap) -> K::Place,
) -> Option<Message> {
    let [first, pages, how, slot] = call.message.regs;
    let done = match Label::from_raw(call.message.label)? {
        Label::View => {
            let slot = u32::try_from(slot).map_err(|_| ViewDenial::BadSlot).map(abi::Cap);
            let wanted = Wanted::of_regs([first, pages, how]);
            wanted.and_then(|wanted| views.lend(call.custom, &wanted, granted, slot_of(slot?)))
        }
        Label::ViewBack => {
            let wanted = Wanted::of_regs([first, pages, 0]);
            wanted.and_then(|wanted| views.give_back(call.custom, wanted.range))
        }
        _ => return None,
    };
    Some(Message::new(done.map_or_else(|denial| denial as u32, |()| 0), [0; 4]))
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
