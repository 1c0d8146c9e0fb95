//! Stacks that grow, and stacks in pieces.
//!
//! Without a keeper, a task's stack has the pages that its maker mapped, and an unmapped page
//! below: the guard. An access to the guard ends the process. A [`Keeper`] does more. It is the
//! fault handler of a process, and a task of that process or of another one. A keeper
//!
//! * **lets stacks grow**: a stack has a *reserve* of address space, and gets each page of memory
//!   when its task first touches the page. If a task touches an address below the reserve, the
//!   keeper kills the process, with a report that names the stack;
//! * **gives stacklets**: if a task is about to need more than the rest of its stack, it runs the
//!   next call on another piece of stack ([`Segments::call`]), which it gives back after the call.
//!   No reserve bounds such a stack, and it need not be contiguous in the address space.
//!
//! ```text
//! let mut keeper: Keeper<32, 256> = Keeper::new(vspace, nursery);
//! let mut event = recv();
//! loop {
//!     let Ok(Event::Call(call)) = event else { … };
//!     event = match Fault::of(&call) {
//!         Some(fault) => keeper.judge(&fault, call.sender).unwrap_or(Verdict::TearDown).reply_recv(),
//!         None => reply_recv(&keeper.serve(&call).unwrap_or(NOT_UNDERSTOOD)),
//!     };
//! }
//! ```

pub mod area;
mod keeper;

pub use keeper::{Keeper, Overflow, Use, Why};

use abi::{Error, INIT_STACK_SIZE, INIT_STACK_TOP};

use crate::arch;
use crate::cap::Exposure;
use crate::ipc::Message;
use crate::utcb::{self, Local};
use crate::{Refusal, Result};

/// The address space of a stack: from its lowest address to its top.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub low: u64,
    pub top: u64,
}

/// Labels of the messages to a keeper. Its answers have the label 0, or an [`Error`]'s number with
/// the detail in the first register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Label {
    /// A stack of so many bytes at least; answered by its lowest address and its top.
    Take = 0x5301,
    /// The stack with this lowest address goes back.
    Give = 0x5302,
}

impl Label {
    pub const fn from_raw(raw: u32) -> Option<Label> {
        match raw {
            0x5301 => Some(Label::Take),
            0x5302 => Some(Label::Give),
            _ => None,
        }
    }
}

/// Returns how many bytes this task's stack has left, including pages by which it can still grow.
pub fn room() -> u64 {
    let low = match utcb::current().local(Local::StackLow) {
        0 => INIT_STACK_TOP - INIT_STACK_SIZE,
        low => low,
    };
    arch::stack::pointer().saturating_sub(low)
}

/// Least reserve of a stacklet.
pub const STACKLET_MIN: u64 = 0x4000;
/// What changing over takes, on either stack.
const CHANGE: u64 = 512;

/// Stacks in pieces, by a keeper of this process's stacks.
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    keeper: Exposure,
}

impl Segments {
    /// Makes segments, whose stacklets a [`Keeper`] of this address space gives; `keeper` is where
    /// it is called.
    pub const fn new(keeper: Exposure) -> Segments {
        Segments { keeper }
    }

    /// Calls `work`, which takes no more than `bytes` of stack: on this stack if that has enough
    /// room, otherwise on a stacklet. An error says that there is no stacklet; `work` was not
    /// called then.
    ///
    /// The last stacklet that came back is kept for the next call. So a loop of calls around the
    /// end of a stack does not ask the keeper twice in each turn.
    pub fn call<R>(&self, bytes: u64, work: impl FnOnce() -> R) -> Result<R> {
        let bytes = bytes.saturating_add(CHANGE);
        if room() >= bytes {
            return Ok(work());
        }
        let stacklet = self.take(bytes)?;
        let utcb = utcb::current();
        let low = utcb.local(Local::StackLow);
        utcb.set_local(Local::StackLow, stacklet.low);
        let result = arch::stack::call_on(&stacklet, work);
        utcb.set_local(Local::StackLow, low);
        self.give(stacklet);
        Ok(result)
    }

    /// Returns the spare stacklet if it is large enough, or asks the keeper for one.
    fn take(&self, bytes: u64) -> Result<arch::stack::Piece> {
        let utcb = utcb::current();
        let (low, top) = (utcb.local(Local::SpareLow), utcb.local(Local::SpareTop));
        if top - low >= bytes {
            utcb.set_local(Local::SpareLow, 0);
            utcb.set_local(Local::SpareTop, 0);
            return Ok(arch::stack::Piece::new(low, top));
        }
        let [low, top] = self.ask(Label::Take, bytes.max(STACKLET_MIN))?;
        Ok(arch::stack::Piece::new(low, top))
    }

    /// Keeps a stacklet as the spare one; if there is one already, gives it back to the keeper.
    fn give(&self, stacklet: arch::stack::Piece) {
        let utcb = utcb::current();
        if utcb.local(Local::SpareTop) == 0 {
            utcb.set_local(Local::SpareLow, stacklet.low);
            utcb.set_local(Local::SpareTop, stacklet.top);
            return;
        }
        // A keeper that is gone has no use for it.
        let _ = self.ask(Label::Give, stacklet.low);
    }

    /// Gives the spare stacklet back to the keeper.
    pub fn trim(&self) -> Result<()> {
        let utcb = utcb::current();
        if utcb.local(Local::SpareTop) == 0 {
            return Ok(());
        }
        utcb.set_local(Local::SpareTop, 0);
        let low = utcb.local(Local::SpareLow);
        utcb.set_local(Local::SpareLow, 0);
        self.ask(Label::Give, low).map(|_| ())
    }

    fn ask(&self, label: Label, word: u64) -> Result<[u64; 2]> {
        let answer = self.keeper.call(&Message::new(label as u32, [word, 0, 0, 0]))?;
        let [first, second, ..] = answer.regs;
        match answer.label {
            0 => Ok([first, second]),
            // Another process's exposure may answer anything.
            other => Err(Refusal::local(Error::from_raw(other as u8).unwrap_or(Error::BadArgument), first)),
        }
    }
}
