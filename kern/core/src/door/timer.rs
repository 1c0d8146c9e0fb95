//! The timer's everyday interrupt: one deadline has passed, or a slice is over.
//!
//! All checks come first, and change nothing. One test shows that nothing else waits for this CPU's
//! attention: no mail has come, none is deferred, and no task rests ([`Door::is_at_ease`]). Then at
//! most one deadline has passed, of a task that waits for bits or for a call and has its own time;
//! and the interrupted program's slice goes on, or is over and there is neither budget nor grace.
//! What fails a check is served by the general way, [`Door::on_interrupt`]. After the checks
//! nothing can fail.
//!
//! The short way does what the general one does in these cases:
//!
//! * A task whose deadline has passed wakes with [`Error::Timeout`]. If it outranks the program, it
//!   runs in place of it, without being queued, and otherwise waits for its turn.
//! * A slice that is over ends the program's turn if others of its priority wait, or begins a grace
//!   ([`crate::door::yielding`]).
//! * The timer is set for the next deadline, and for the end of the slice that matters.
//!
//! Tasks that wait for grace periods and shootdowns are not looked at: the CPU comes to them when
//! their waits are over ([`crate::door::wake`]).

use abi::{Counter, Error, TaskId};
use kern_base::cpu::{BUSY, IDLE_TOLD};
use kern_base::machine::Machine;
use kern_base::sched_context::OpenTime;
use kern_base::task::{Ending, FLAG_AWAITED, FLAG_IN_FAULT, FLAG_SUSPENDED, FLAG_VECTOR, OpenTask, State};
use sched::{Expired, NEVER};
use test_abi::trace::Why;

use crate::answer::write_error;
use crate::door::entry::Interrupt;
use crate::rooms::Door;

/// What an entry by a short way leads to.
pub enum ShortEnd<'k> {
    /// The program that runs goes on.
    Continues,
    /// This task runs now. Its context is not loaded.
    Runs(OpenTask<'k>),
    /// Nothing has changed: the general way has to serve the entry.
    General,
}

/// A task whose deadline has passed, and that can wake by a few writes.
#[derive(Clone, Copy)]
struct Due<'k> {
    task: OpenTask<'k>,
    /// Its own time, which rests.
    time: OpenTime<'k>,
}

/// The check that failed: the general way has to serve the interrupt.
struct NotSimple;

impl<'k, M: Machine> Door<'k, M> {
    /// Serves the timer's interrupt of a program, if it is an everyday one.
    #[inline(always)]
    pub fn on_timer(self) -> ShortEnd<'k> {
        let Some(time) = self.running() else { return ShortEnd::General };
        let now = self.k.machine.now();
        if !self.is_at_ease() {
            return ShortEnd::General;
        }
        let due = match self.due(now) {
            Ok(Some(due)) if due.time.state.rank() > time.state.rank() => {
                self.begin_timer();
                self.wake_due(due);
                self.save_vector_state();
                self.time().preempt(time, due.time, now, due.task);
                // It outranks all others.
                self.set_next_timer(due.time, false);
                return ShortEnd::Runs(due.task);
            }
            Ok(due) => due,
            Err(NotSimple) => return ShortEnd::General,
        };
        self.go_on_or_rotate(time, due, now)
    }

    /// Serves the timer's interrupt of a program that no task outranks: a task whose deadline has
    /// passed waits for its turn, and a slice that is over ends the program's turn.
    #[inline(never)]
    fn go_on_or_rotate(self, time: OpenTime<'k>, due: Option<Due<'k>>, now: u64) -> ShortEnd<'k> {
        let is_over = now >= self.sched.until.get() || cfg!(feature = "chaos");
        if is_over && (time.state.has_budget() || time.state.is_in_grace()) {
            return ShortEnd::General;
        }
        self.begin_timer();
        self.time().begin_interrupt(now);
        if let Some(due) = due {
            self.wake_due(due);
            self.time().queue_behind(due.time);
        }
        let has_equals = self.sched.queue.has_at_least(self.pin(), time.state.priority());
        if !is_over {
            self.time().excuse();
            self.set_next_timer(time, has_equals);
            return ShortEnd::Continues;
        }
        if !has_equals {
            self.time().begin_slice(time, now);
            self.set_next_timer(time, false);
            return ShortEnd::Continues;
        }
        if self.time().gives_notice(time, now) {
            self.set_next_timer(time, true);
            return ShortEnd::Continues;
        }
        self.save_vector_state();
        let Some((task, time)) = self.time().end_slice(time, now, Why::SliceOver) else {
            return ShortEnd::Continues;
        };
        let has_equals = self.sched.queue.has_at_least(self.pin(), time.state.priority());
        self.set_next_timer(time, has_equals);
        ShortEnd::Runs(task)
    }

    /// Serves the timer's interrupt of a CPU that idled, if it is an everyday one: one task wakes,
    /// and runs.
    #[inline(always)]
    pub fn on_idle_timer(self) -> ShortEnd<'k> {
        let now = self.k.machine.now();
        let is_idle = self.sched.current.is_null() && self.sched.queue.is_empty();
        if !(is_idle && self.is_at_ease()) {
            return ShortEnd::General;
        }
        let Ok(Some(due)) = self.due(now) else { return ShortEnd::General };
        self.begin_timer();
        self.wake_due(due);
        if self.sched.idle.get() == IDLE_TOLD {
            let _ = self.time().end_told_idling();
        }
        self.sched.idle.set(BUSY);
        self.time().take_over(due.time, now, due.task.object(), due.task.word());
        self.set_next_timer(due.time, false);
        ShortEnd::Runs(due.task)
    }

    /// Returns whether nothing but the timer wants this CPU's attention. `more_mail` is set while
    /// the CPU defers its mail, has left some, or lets tasks rest.
    #[inline(always)]
    pub(super) fn is_at_ease(self) -> bool {
        debug_assert!(!self.cpu.grace().is_unsettled(), "a program runs, and a grace round is not settled");
        // Read as one word where the two are next to each other.
        let wants = [self.sched.more_mail.get() as u8, self.sched.wakes_waiters.get() as u8];
        u16::from_le_bytes(wants) == 0 && !self.cpu.inbox().has_queued()
    }

    /// Returns the task whose deadline has passed, if there is one.
    #[inline(always)]
    fn due(self, now: u64) -> Result<Option<Due<'k>>, NotSimple> {
        let deadlines = &self.sched.deadlines;
        if now < deadlines.bound() {
            return Ok(None);
        }
        let task = match deadlines.expired(self.pin(), now) {
            Expired::None => return Ok(None),
            Expired::Several => return Err(NotSimple),
            Expired::Next(task) => self.open(task).ok_or(NotSimple)?,
        };
        let flags = u64::from(FLAG_SUSPENDED | FLAG_AWAITED | FLAG_IN_FAULT) << 8;
        let waits = match task.word() & (flags | u64::from(u8::MAX)) {
            state if state == State::WaitBits as u64 => true,
            state => state == State::RecvTimed as u64 && !task.lends_pages(),
        };
        if !waits || self.security().is_told() || !task.time.borrows_none() {
            return Err(NotSimple);
        }
        Ok(Some(Due { task, time: self.own_time_at_rest(task).ok_or(NotSimple)? }))
    }

    /// Returns a task's own time, if the task has it, and something of it is left.
    #[inline(always)]
    pub(super) fn own_time_at_rest(self, task: OpenTask<'k>) -> Option<OpenTime<'k>> {
        let time = task.time.own(self.pin()).and_then(|own| self.open_time(own))?;
        let is_spent = || time.state.has_budget() && self.time().is_exhausted(time);
        let is_left = time.task.is(task.object()) && time.state.remaining() != 0 && !is_spent();
        is_left.then_some(time)
    }

    /// Begins to serve the interrupt: from here on nothing can fail.
    #[inline(always)]
    fn begin_timer(self) {
        self.count(Counter::Interrupt);
        self.note_interrupt(Interrupt::Timer);
        self.sched.timer.set(NEVER);
    }

    /// Ends the wait of a task whose deadline has passed. The task is ready then, and its time
    /// neither runs nor is queued.
    #[inline(always)]
    fn wake_due(self, Due { task, .. }: Due<'k>) {
        let pin = self.pin();
        debug_assert!(
            task.ending() == Ending::None,
            "a wait that ends by {:?} has a deadline",
            task.ending()
        );
        self.sched.deadlines.take_next(pin, task.object());
        task.cancel_wait_for_bits(pin);
        write_error(&task.regs, Error::Timeout, 0, TaskId::NONE);
        task.time.owe_none();
        task.enter(State::Ready);
    }

    /// Sets the timer, which is off, for the next deadline, and for when the time that runs has to
    /// be looked at: at the end of its budget, or of its slice if others of its priority wait.
    #[inline(always)]
    pub(super) fn set_next_timer(self, time: OpenTime<'k>, has_equals: bool) {
        let until = if has_equals || time.state.has_budget() { self.sched.until.get() } else { NEVER };
        self.time().arm_timer(self.sched.deadlines.bound().min(until));
    }

    /// Saves the vector state of the interrupted program's task, if it has some: another task runs
    /// next.
    #[inline(always)]
    pub(super) fn save_vector_state(self) {
        if self.hot.special_on.get() & u32::from(FLAG_VECTOR) << 8 != 0 {
            self.save_live_vector_state();
        }
    }

    #[cold]
    #[inline(never)]
    fn save_live_vector_state(self) {
        if let Some(task) = self.hot.current.get(self.pin()) {
            self.k.machine.save_vector(task.get().vector(self.pin()));
        }
    }
}
