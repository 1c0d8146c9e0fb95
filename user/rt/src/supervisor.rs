//! A program's messages to its parent, by the protocol of `schema/supervisor.capnp`. They report
//! that the program is done, that one of its tasks panicked, or that a task which it started has
//! ended. Others ask for views of sensitive memory ([`crate::views`]).
//!
//! The parent receives at exposure 0 of a group, of which it has made the program a member
//! ([`crate::layout::slot::SUPERVISOR`]). The member's custom bits tell the parent which child
//! sends. All these messages fit in registers.

use abi::{Cap, Error, TaskId};
use protocols::supervisor::{Client, Refusal as No, request};
use protocols::{Failure, supervisor};

use crate::cap::{Frame, Group, Handle};
use crate::layout::slot;
use crate::talk::Line;
use crate::views::{Allows, Grant, Keeper, Range, ViewDenial, Views, Wanted};
use crate::{Refusal, Result, report};

/// Exposure at which the parent listens.
pub const PARENT: u32 = 0;

/// TSC ticks that a panicking task waits for its parent to listen: a second or a few.
#[cfg(target_os = "none")]
const PANIC_PATIENCE: u64 = 2_000_000_000;

fn parent() -> Client<Line> {
    Client(to_parent())
}

/// Returns the line to the parent.
pub fn to_parent() -> Line {
    Line::to(Group::at(slot::SUPERVISOR).exposure(PARENT))
}

/// Returns the outcome of a message to the parent that has no answer except success.
fn told(answer: core::result::Result<(), Failure<No, Refusal>>) -> Result<()> {
    answer.map_err(|failure| match failure {
        Failure::Transport(refusal) => refusal,
        Failure::Refused(_) | Failure::Malformed => Refusal::local(Error::BadArgument, 0),
    })
}

/// Tells the parent that the program is done. It may not answer: programs end by being ended.
pub fn say_done(passed: u64, failed: u64) -> Result<()> {
    told(parent().done(|mut done| {
        done.set_passed(passed);
        done.set_failed(failed);
    }))
}

/// Gives the parent a sign of life. A program whose description has a `heartbeat` gives one at
/// least so often, where it sees that its work goes on.
pub fn say_alive() -> Result<()> {
    told(parent().alive())
}

/// Tells the parent that a task of a process which this program started is no more, and why: a
/// [`Denial`](crate::paging::Denial), or 0.
pub fn say_lost(task: TaskId, reason: u64, address: u64) -> Result<()> {
    told(parent().lost(|mut lost| {
        lost.set_task(task.raw());
        lost.set_reason(reason as u16);
        lost.set_address(address);
    }))
}

/// Asks the parent for a view of physical memory. Its frame's capability is then in `slot` of this
/// process, which was empty.
pub fn view(wanted: Wanted, slot: Cap) -> core::result::Result<Frame, ViewDenial> {
    parent().view(|mut view| {
        view.set_first(wanted.range.first);
        view.set_pages(wanted.range.pages);
        view.set_slot(slot.0);
        view.set_write(wanted.allows.write);
        view.set_dma(wanted.allows.dma);
        view.set_shared(wanted.shared);
    })?;
    Ok(Frame::at(slot))
}

/// Gives a view back to the parent. When this returns, every mapping and every copy of it is gone,
/// also the one that was given.
pub fn give_back(range: Range) -> core::result::Result<(), ViewDenial> {
    Ok(parent().view_back(|mut view| {
        view.set_first(range.first);
        view.set_pages(range.pages);
    })?)
}

/// Serves [`view`] in the parent, for a holder that may have what it was granted. `slot_of` returns
/// the place of a holder's slot.
pub fn lend<K: Keeper>(
    views: &mut Views<K>,
    holder: u16,
    asked: request::view::Reader<'_>,
    granted: &[Grant],
    slot_of: impl FnOnce(Cap) -> K::Place,
) -> core::result::Result<(), No> {
    let range = Range { first: asked.get_first(), pages: asked.get_pages() };
    let allows = Allows { write: asked.get_write(), dma: asked.get_dma() };
    let wanted = Wanted { range, allows, shared: asked.get_shared() }.sound()?;
    Ok(views.lend(holder, &wanted, granted, slot_of(Cap(asked.get_slot())))?)
}

/// Serves [`give_back`] in the parent: takes back a holder's view.
pub fn take_back<K: Keeper>(
    views: &mut Views<K>,
    holder: u16,
    asked: request::view_back::Reader<'_>,
) -> core::result::Result<(), No> {
    let range = Range { first: asked.get_first(), pages: asked.get_pages() };
    let wanted = Wanted::new(range, Allows::READ).sound()?;
    Ok(views.give_back(holder, wanted.range)?)
}

macro_rules! denials {
    ($($name:ident)*) => {
        impl From<ViewDenial> for No {
            fn from(denial: ViewDenial) -> No {
                match denial { $(ViewDenial::$name => No::$name,)* }
            }
        }

        impl From<Failure<No, Refusal>> for ViewDenial {
            fn from(failure: Failure<No, Refusal>) -> ViewDenial {
                match failure {
                    $(Failure::Refused(supervisor::Refusal::$name) => ViewDenial::$name,)*
                    Failure::Malformed | Failure::Transport(_) => ViewDenial::NoKeeper,
                }
            }
        }
    };
}

denials! { BadRequest NotAllowed InUse NoDevice Full BadSlot Pinned NotHeld NoKeeper Refused }

#[cfg(target_os = "none")]
pub(crate) fn say_panicked() {
    let id = crate::utcb::current().task_id().raw();
    let patience = crate::ipc::Patience::Until(crate::arch::now().saturating_add(PANIC_PATIENCE));
    let parent = Client(to_parent().within(patience));
    // A parent that is gone or never made itself known cannot be told.
    let _ = parent.panicked(|mut panicked| panicked.set_task(id));
}

/// Reports to the reader of report lines, and to the parent, that the program is done, and waits to
/// be ended.
pub fn finish(passed: u64, failed: u64) -> ! {
    crate::info!("done: {} passed, {} failed", passed, failed);
    report!("done passed={passed} failed={failed}");
    let told = say_done(passed, failed);
    panic!("the parent let a finished program continue: {told:?}");
}
