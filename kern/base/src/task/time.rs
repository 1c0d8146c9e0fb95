//! The CPU time of a task, and what searches for time note at the task. The rules that hold between
//! the fields and the SchedContexts are those of `kern_core::time::lend`.

use core::cell::Cell;
use core::mem::offset_of;

use smp::cpu::Pin;
use smp::door::{Link, Ref};

use super::Task;
use crate::methods::methods;
use crate::sched_context::SchedContext;

/// The CPU time of a task.
#[repr(C)]
#[derive(Default)]
pub struct TaskTime {
    /// CPU time of others that the task has while it does not run. Null while it runs, receives or
    /// has lent the time on: the fastpaths rely on it.
    borrowed: Link<SchedContext>,
    /// The CPU time bound to it.
    own: Link<SchedContext>,
    /// The caller whose time the task has, or has lent on. Null for own time, and while it
    /// receives.
    lender: Link<Task>,
}

methods! { TaskTime:
    /// Returns the CPU time bound to the task.
    fn own<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, SchedContext>> = self.own.get(pin);
    /// Returns whether CPU time is bound to the task.
    fn has_own(self) -> bool = !self.own.is_null();
    /// Returns whether this CPU time is bound to the task.
    fn owns(self, sc: Ref<'_, SchedContext>) -> bool = self.own.is(sc);
    /// Returns the borrowed CPU time that the task has while it does not run.
    fn borrowed<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, SchedContext>> = self.borrowed.get(pin);
    /// Returns whether the task has this CPU time as borrowed while it does not run.
    fn borrows(self, sc: Ref<'_, SchedContext>) -> bool = self.borrowed.is(sc);
    /// Returns whether the task has no borrowed CPU time, or runs on it.
    fn borrows_none(self) -> bool = self.borrowed.is_null();
    /// Returns the caller whose CPU time the task has, or has lent on.
    fn lender<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Task>> = self.lender.get(pin);
    /// Returns whether the task has, or has lent on, the CPU time of this caller.
    fn is_lent_by(self, caller: Ref<'_, Task>) -> bool = self.lender.is(caller);
    /// Unbinds the task's own CPU time, and returns it.
    fn unbind<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, SchedContext>> = self.own.take(pin);
    /// Gives borrowed CPU time to the task, which does not run.
    fn borrow(self, sc: Ref<'_, SchedContext>) = self.borrowed.set(Some(sc));
    /// Takes the borrowed CPU time from the task, which begins to run on it, or loses it.
    fn put_down(self) = self.borrowed.set(None);
    /// Notes the caller whose CPU time the task has and has to return.
    fn owe(self, lender: Ref<'_, Task>) = self.lender.set(Some(lender));
    /// Forgets the lender: the task has no borrowed CPU time any more, or has to return none.
    fn owe_none(self) = self.lender.set(None);
    /// Forgets the lender, and returns it. The caller of this function gives the time back to the
    /// lender.
    fn take_lender<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Task>> = self.lender.take(pin);
}

impl TaskTime {
    pub const OWN_OFFSET: usize = offset_of!(TaskTime, own);

    pub const LENDER_OFFSET: usize = offset_of!(TaskTime, lender);

    /// Binds CPU time to the task, which has none of its own.
    pub fn bind(&self, sc: Ref<'_, SchedContext>) {
        debug_assert!(self.own.is_null(), "a task has one time of its own");
        self.own.set(Some(sc));
    }

    /// Notes that the task passes CPU time on and waits. If the time is the task's own, its lender
    /// gets no time back.
    pub fn pass_on(&self, sc: Ref<'_, SchedContext>) {
        if self.borrowed.is(sc) {
            self.put_down();
        } else {
            self.lender.set(None);
        }
    }

    /// Forgets the lender if that is `caller`. Returns whether it was.
    pub fn end_loan_of(&self, caller: Ref<'_, Task>) -> bool {
        let ends = self.lender.is(caller);
        if ends {
            self.lender.set(None);
        }
        ends
    }

    /// Returns the CPU time on which a ready task continues: the borrowed time, or else its own,
    /// for which it owes nothing to a lender.
    pub fn to_spend<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, SchedContext>> {
        match self.borrowed.get(pin) {
            None => {
                self.lender.set(None);
                self.own.get(pin)
            }
            borrowed => borrowed,
        }
    }
}

/// What searches for CPU time note at a task.
#[derive(Default)]
pub struct SearchMarks {
    /// While the task waits in a call: the task at the end of its calls looked for CPU time here,
    /// and found none.
    wanted: Cell<bool>,
    /// Set during the task's own search: time may have come to a caller that the search has passed.
    look_again: Cell<bool>,
}

methods! { SearchMarks:
    /// Marks the task as one where the task at the end of its calls has looked for CPU time.
    fn enter(self) = self.wanted.set(true);
    /// Removes the mark of [`SearchMarks::enter`], because CPU time has come. Returns whether it
    /// was set.
    fn leave(self) -> bool = self.wanted.take();
    /// Notes that the task's own search for CPU time begins.
    fn begin(self) = self.look_again.set(false);
    /// Notes that CPU time may have come to a caller that the task's search has already passed.
    fn time_came(self) = self.look_again.set(true);
    /// Ends the task's own search. Returns whether time may have come to a caller that it had
    /// already passed.
    fn end(self) -> bool = self.look_again.take();
}
