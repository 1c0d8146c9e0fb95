//! System calls that take several entries, and end what a capability names (delete, revoke, reset, kill) or answer a kept
//! call.
//!
//! Each entry finds the capability by the number of its slot. Between two of them another task may empty the slot, by the
//! same call or another, and fill it again; what it has then, nobody wanted to end. So from the second entry on a
//! register says by its identity ([`Header::identity`]) what the call began with. User level may forge that, as it
//! may ask for anything: then the call ends nothing.
//!
//! [`Header::identity`]: kern_base::header::Header::identity

use core::cell::Cell;

use abi::{FLAG_AGAIN, MsgInfo};
use kern_base::machine::Machine;
use kern_base::reply::Reply;
use kern_base::task::TaskHot;
use smp::door::Ref;

use crate::{Cx, Me};

/// In place of an identity: the slot was empty.
const NOTHING: u64 = 0;

/// Whether this is not the first entry of a task's system call. User level may forge that: a forger's own call may
/// then do less than it says, and nothing else.
#[inline(always)]
pub fn is_again(hot: &TaskHot) -> bool {
    MsgInfo(hot.regs.rax.get()).has(FLAG_AGAIN)
}

/// Marks the system call, so that its later entries know that they are not the first.
#[inline(always)]
pub fn mark_again(hot: &TaskHot) {
    hot.regs.rax.set(hot.regs.rax.get() | FLAG_AGAIN);
}

/// Whether the system call began with this value, which the register `kept` holds, or begins with it now.
#[inline(always)]
fn began_with(hot: &TaskHot, kept: &Cell<u64>, value: u64) -> bool {
    if is_again(hot) {
        return kept.get() == value;
    }
    mark_again(hot);
    kept.set(value);
    true
}

impl<'k, M: Machine> Cx<'k, M> {
    /// Whether the system call of the running task began with what its slot has now, or begins with it. With the flag
    /// it takes no shorter way, which would not look here.
    pub fn goes_on_with(self, me: Me<'k>, identity: Option<u64>) -> bool {
        began_with(me.hot, &me.hot.regs.rdx, identity.unwrap_or(NOTHING))
    }

    /// Whether the answer that the running task gives is for the call that it was for when it began, or it begins now. A kept
    /// call may be over meanwhile, and its Reply have another one, of the same caller too.
    pub fn still_answers(self, me: Me<'k>, reply: Ref<'k, Reply>) -> bool {
        let number = reply.get().hot.open(self.pin()).map_or(0, |hot| hot.number.get());
        began_with(me.hot, &me.hot.regs.rsi, number)
    }
}
