//! Budgets of CPU time: when one is used up, and when its next window begins.
//!
//! [`sched::ScState`] counts. Here is what follows for tasks. When the budget of the running time
//! is used up, its task goes on with the time of a caller that waits for it, or else with its own.
//! If there is none, or its budget is used up, too, the task *rests* ([`State::Exhausted`]) until
//! the next window of the time that it has. That is a wait with a deadline: the deadlines' order
//! and bounds hold for it ([`crate::door::deadlines`]).
//!
//! # Invariants, between entries
//! * A context whose budget is used up is queued only if it ran until then: it was preempted, or
//!   its task yielded to another one. Its next run ends immediately, by the timer.
//! * While a context with a budget runs, the timer fires when it has to be looked at, or earlier,
//!   and the fast path does not end its run ([`Time::expect`]).
//! * A task with the plain bit has no time with a budget, in a grace ([`crate::door::yielding`]),
//!   nor time that is watched ([`crate::time::watch`]): the fast path starts such a task's time
//!   without [`ScState::start`](sched::ScState::start).

use abi::status::Doing;
use kern_base::machine::Machine;
use kern_base::sched_context::OpenTime;
use kern_base::task::{OpenTask, State, Task};
use smp::door::Ref;
use test_abi::trace::Why;

use crate::rooms::Time;

impl<'k, M: Machine> Time<'k, M> {
    /// Returns whether CPU time, which does not run, has used up the budget of this window.
    pub fn is_exhausted(self, sc: OpenTime<'k>) -> bool {
        sc.state.has_budget() && sc.state.rests_until(self.k.machine.now()).is_some()
    }

    /// Starts a context that needs care, or has just been set to need it or not. It is the CPU's
    /// running context already.
    #[cold]
    #[inline(never)]
    pub fn charge_with_care(self, sc: OpenTime<'k>, now: u64) {
        self.sched.until.set(sc.state.start(now));
        self.expect_with_care(u64::from(self.hot.expects.get()));
        self.arm_timer_for_budget();
        self.tell_if_watched(sc, Doing::Runs);
    }

    /// Looks after a context from now on that has just been set to need care or not.
    pub fn care_from_now(self, sc: OpenTime<'k>) {
        if self.sched.current.is(sc.object()) {
            return self.expect_with_care(u64::from(self.hot.expects.get()));
        }
        // The fast path starts the time of a task with the plain bit, and takes no care.
        if let Some(holder) = sc.task.get(self.pin()).and_then(|holder| self.open(holder)) {
            holder.materialise_frame();
        }
    }

    /// Sets the timer if the running context has a budget.
    pub fn arm_timer_for_budget(self) {
        if self.running().is_some_and(|sc| sc.state.has_budget()) {
            self.arm_timer(self.sched.until.get());
        }
    }

    /// Returns whether the budget of this time of a caller is used up, and the receiver of the call
    /// has time of its own, which it spends instead.
    pub fn is_worse_than_own(self, sc: OpenTime<'k>, task: OpenTask<'k>) -> bool {
        self.is_exhausted(sc) && self.own_at_rest(task).is_some()
    }

    /// Queues a context that needs care.
    #[cold]
    #[inline(never)]
    pub fn enqueue_with_care(self, sc: OpenTime<'k>) {
        if sc.state.has_budget() {
            return self.enqueue_or_rest(sc);
        }
        self.enqueue_and_tell(sc);
    }

    /// Queues a context, and tells so if it is watched.
    fn enqueue_and_tell(self, sc: OpenTime<'k>) {
        self.enqueue_free(sc);
        if sc.state.links.is_queued() {
            self.tell_if_watched(sc, Doing::Ready);
        }
    }

    /// Queues a context with a budget. If that is used up, its task, which is ready, goes on with
    /// other time, or rests.
    fn enqueue_or_rest(self, sc: OpenTime<'k>) {
        let Some(window) = sc.state.rests_until(self.k.machine.now()) else {
            return self.enqueue_and_tell(sc);
        };
        self.tell_exhausted(sc, window);
        // Impossible: time of a ready task has a holder, on its CPU.
        let Some(task) = sc.task.get(self.pin()).and_then(|task| self.open(task)) else { return };
        self.take_best(task);
        if self.time_of(task).is_some_and(|sc| self.is_active(sc)) {
            return;
        }
        let own = self.own_at_rest(task).and_then(|own| self.open_time(own));
        let begins = |sc: OpenTime<'k>| sc.state.rests_until(self.k.machine.now()).unwrap_or(0);
        let mut waits_for = sc;
        if let Some(borrowed) = self.borrowed_by(task)
            && let Some(own) = own.filter(|own| begins(*own) < begins(sc))
        {
            self.give_back_borrowed(task.part(), borrowed);
            waits_for = own;
        }
        match waits_for.state.rests_until(self.k.machine.now()) {
            Some(at) => self.rest_until(task, at, waits_for.state.priority()),
            None => self.enqueue_and_tell(waits_for),
        }
    }

    /// Lets a ready task, which does not run, rest.
    fn rest_until(self, task: OpenTask<'k>, at: u64, priority: u8) {
        task.materialise_frame();
        self.clear_deadline(task);
        task.enter(State::Exhausted);
        self.set_deadline_at(task.object(), at, priority);
    }

    /// Takes the running context off the CPU, since its budget is used up. Its task goes on with
    /// other time, or rests.
    #[cold]
    #[inline(never)]
    pub fn exhaust(self, sc: OpenTime<'k>) {
        self.keep_time(sc);
        self.halt_at(&sc, self.clock_of(sc));
        self.leave_grace(sc);
        self.trace().note_why(Why::Exhausted);
        self.enqueue_or_rest(sc);
        self.dispatch();
    }

    /// Ends the rest of a task: its next window has begun, or it may have got other time. Without
    /// any, it rests again. The caller of this function dispatches afterwards.
    #[cold]
    #[inline(never)]
    pub fn end_rest(self, task: OpenTask<'k>) {
        self.stop_rest(task);
        self.start(task);
        self.mind_less_time();
    }

    /// Ends the rest of a task at which a call has queued. It goes on with that caller's time, if
    /// that has something left, however many callers without wait before it.
    #[cold]
    #[inline(never)]
    pub fn end_rest_by(self, task: OpenTask<'k>, caller: Ref<'k, Task>) {
        self.stop_rest(task);
        if let Some(sc) = self.resting_time(caller).filter(|sc| !self.is_exhausted(*sc)) {
            if let Some(borrowed) = self.borrowed_by(task) {
                self.give_back_borrowed(task.part(), borrowed);
            }
            self.lend(sc, caller, task);
        }
        self.start(task);
        self.mind_less_time();
    }

    /// Ends the rest of a task whose next window has begun.
    #[cold]
    #[inline(never)]
    pub fn rest_is_over(self, task: OpenTask<'k>) {
        self.end_rest(task);
        self.dispatch();
    }

    /// Makes a task that rests ready, without letting it run.
    #[cold]
    #[inline(never)]
    pub fn stop_rest(self, task: OpenTask<'k>) {
        self.clear_deadline(task);
        task.enter(State::Ready);
    }

    /// Does what [`Time::stop_rest`] does for the task that is in the middle of its own system
    /// call, if it rests because the call has taken its time away. It is about to wait.
    #[inline(always)]
    pub fn leave_rest(self, task: OpenTask<'k>) {
        if task.state() == State::Exhausted {
            self.stop_rest(task);
        }
    }
}
