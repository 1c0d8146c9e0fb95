//! System calls that take several entries: those that end objects (delete, revoke, reset, kill,
//! withdraw), that give a process a label, and the reply to a kept call.
//!
//! Each entry finds the capability by the number of its slot. Between two entries another task may
//! empty the slot and fill it again. The caller did not ask to end the slot's new contents. So from
//! the second entry on, a register holds the identity ([`Header::identity`]) of the object with
//! which the call began. If the slot holds another object by then, the call ends nothing. So a
//! program that forges the register gains nothing.
//!
//! [`Header::identity`]: kern_base::header::Header::identity

use core::cell::Cell;

use abi::MsgInfo;
use kern_base::flags::FLAG_AGAIN;
use kern_base::machine::Machine;
use kern_base::reply::Reply;
use kern_base::task::TaskHot;
use smp::door::Ref;

use crate::{Cx, OpenTask};

/// Stands for an identity if the slot was empty.
const NOTHING: u64 = 0;

/// Returns whether a task's system call was restarted, so that this is not its first entry. User
/// level may forge the flag: the forger's own call may then do less than it reports, and nothing
/// else.
#[inline(always)]
pub fn is_again(hot: &TaskHot) -> bool {
    MsgInfo(hot.regs.rax.get()).has(FLAG_AGAIN)
}

/// Marks the system call, so that its later entries know that they are not the first one.
#[inline(always)]
pub fn mark_again(hot: &TaskHot) {
    hot.regs.rax.set(hot.regs.rax.get() | FLAG_AGAIN);
}

/// Lets the next entry of the system call be as the first one.
pub fn mark_first(hot: &TaskHot) {
    hot.regs.rax.set(hot.regs.rax.get() & !FLAG_AGAIN);
}

/// Returns whether the system call began with `value`, which its first entry stored in the register
/// `kept`. The first entry stores it and returns true.
#[inline(always)]
pub fn began_with(hot: &TaskHot, kept: &Cell<u64>, value: u64) -> bool {
    if is_again(hot) {
        return kept.get() == value;
    }
    mark_again(hot);
    kept.set(value);
    true
}

impl<'k, M: Machine> Cx<'k, M> {
    /// Returns whether a restarted system call of the running task still finds the object in the
    /// slot that it began with; `identity` is that of the object there now, `None` if the slot is
    /// empty. The first entry notes the identity and returns true. With the flag of a restart set,
    /// the call does not take the fast path, which would not check this.
    pub fn goes_on_with(self, me: OpenTask<'k>, identity: Option<u64>) -> bool {
        began_with(me.part(), &me.regs.rdx, identity.unwrap_or(NOTHING))
    }

    /// Returns whether a restarted system call still finds `one` object in the `other` with which
    /// it began, as [`goes_on_with`](Cx::goes_on_with) does for one object. The first entry notes
    /// both.
    pub fn goes_on_with_both(self, me: OpenTask<'k>, one: Option<u64>, other: u64) -> bool {
        let is_again = is_again(me.part());
        if !is_again {
            me.regs.rsi.set(other);
        }
        self.goes_on_with(me, one) && me.regs.rsi.get() == other
    }

    /// Returns whether the call that `reply` keeps is the one that the running task's system call
    /// began to answer. The first entry notes that call and returns true. The call may have ended
    /// meanwhile, and the Reply may keep another one, even of the same caller.
    pub fn still_answers(self, me: OpenTask<'k>, reply: Ref<'k, Reply>) -> bool {
        let number = reply.get().hot.open(self.pin()).map_or(0, |hot| hot.number());
        began_with(me.part(), &me.regs.rsi, number)
    }
}
