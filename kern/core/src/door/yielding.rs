//! The short way of [`Op::Yield`](abi::Op::Yield), and the notice that a task gets before its slice
//! is taken away.
//!
//! # Notice
//! A task that is preempted is saved with all its registers, whatever it is in the middle of. A
//! task that yields has chosen the place: the kernel keeps where it goes on and its stack pointer.
//! So a task may ask for a notice ([`abi::Utcb::wants_notice`]). When its slice is over and others
//! of its priority wait, the kernel writes into the task's UTCB until when it may run on
//! ([`abi::Utcb::preempt_pending`]), and lengthens the slice by a *grace*
//! ([`ScState::begin_grace`](sched::ScState::begin_grace)). The task sees that with a load, and
//! yields where it has little to lose.
//!
//! * Only tasks of the same priority wait meanwhile. What outranks the task preempts it as ever.
//! * The timer ends the grace, and what was used of it comes off the next slice.
//! * A grace goes on while its time is spent. If the time stops, because the task waits or is
//!   preempted, the grace is over, and so is the slice. (Time that a message has brought to another
//!   CPU may go on there if it runs immediately.)
//! * The grace belongs to the CPU time. If the task calls a server, the server works in the rest of
//!   it. No system call makes a grace longer, and nobody can give one away: YieldTo is a Yield
//!   then.
//! * Each grace is counted when it begins, and when it ends: the task yielded
//!   ([`Counter::GraceYielded`]), the timer ended it ([`Counter::GraceExpired`]), or something else
//!   did ([`Counter::GraceRevoked`]). A grace may end on another CPU than it began.
//!
//! # Short way
//! As with the timer's everyday interrupt ([`crate::door::timer`]), all checks come first: the task
//! runs on its own time, without a budget, nobody watches that, and no mail waits. Then the first
//! of those that wait runs, and the timer is set. What fails a check is served by the general way.
//!
//! If the first of those that wait was left by a system call, too, and neither task has vector
//! state, the assembly fast path switches the tasks, and only the grace is ended here
//! ([`Door::yielded_in_grace`]).
//!
//! The idea is known from the delayed preemption of L4 X.2 and from Solaris's schedctl. There a
//! task delays its preemption for a while; here it is also told, and its share stays as it was.

use abi::Counter;
use abi::time::GRACE_MAX;
use kern_base::machine::Machine;
use kern_base::sched_context::OpenTime;
use kern_base::task::{State, Task};
use sched::NEVER;
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;
use test_abi::trace::Why;

use crate::door::timer::ShortEnd;
use crate::rooms::{Door, Time};

impl<'k, M: Machine> Door<'k, M> {
    /// Carries out Yield for the running task, if that is simple.
    #[inline(always)]
    pub fn on_yield(self, me: Ref<'k, Task>) -> ShortEnd<'k> {
        let Some((me, time)) = self.open(me).zip(self.running()) else { return ShortEnd::General };
        let is_own = time.owner.is(me.object());
        if !is_own || time.state.has_budget() || time.state.is_watched() || !self.is_at_ease() {
            return ShortEnd::General;
        }
        let now = self.k.machine.now();
        if !self.sched.queue.has_at_least(self.pin(), time.state.priority()) {
            if time.state.is_in_grace() {
                return ShortEnd::General;
            }
            self.count(Counter::FastYield);
            self.time().begin_slice(time, now);
            return ShortEnd::Continues;
        }
        self.count(Counter::FastYield);
        if time.state.is_in_grace() {
            self.time().end_grace(time, Counter::GraceYielded);
            // It is set for the end of the grace, and would fire for nothing.
            self.sched.timer.set(NEVER);
        }
        me.regs.rdx.set(0);
        me.enter_plain(State::Ready);
        let Some((task, time)) = self.time().end_slice(time, now, Why::Yielded) else {
            return ShortEnd::Continues;
        };
        // The task that yields is one of its equals, or better.
        self.set_next_timer(time, true);
        ShortEnd::Runs(task)
    }
}

impl<'k, M: Machine> Door<'k, M> {
    /// Ends the grace of `old`, in which its task has yielded, and starts `next`. The fast path has
    /// let them change places: `next` runs.
    /// Requires: nothing except the grace needs care, no mail is left, and no task rests.
    #[inline(always)]
    pub fn yielded_in_grace(self, old: OpenTime<'k>, next: OpenTime<'k>) {
        let now = self.k.machine.now();
        old.state.stop(self.sched.until.get(), now);
        self.count(Counter::GraceYielded);
        self.time().take_notice_back(old);
        old.state.refill_after_grace();
        self.time().expect_without_care();
        self.sched.until.set(next.state.start_free(now));
        if !self.sched.wakes_waiters.get() {
            // It is set for the end of the grace, and would fire for nothing.
            self.sched.timer.set(NEVER);
        }
        self.set_next_timer(next, true);
    }
}

impl<'k, M: Machine> Time<'k, M> {
    /// Gives the running task a notice, instead of ending its slice, if it wants one, runs on its
    /// own time, and only equals wait. Returns whether it did: then the slice goes on for a grace.
    /// The caller sets the timer.
    #[inline(always)]
    pub fn gives_notice(self, sc: OpenTime<'k>, now: u64) -> bool {
        let Some(me) = self.hot.current.get(self.pin()) else { return false };
        let wants = me.get().utcb(self.pin()).wants_notice.load(Relaxed) != 0;
        let is_equal = || self.sched.queue.first_rank(self.pin()) == sc.state.rank();
        let may_have = sc.owner.is(me) && !sc.state.is_in_grace();
        wants && may_have && is_equal() && self.give_notice(sc, me, now)
    }

    #[cold]
    #[inline(never)]
    fn give_notice(self, sc: OpenTime<'k>, me: Ref<'k, Task>, now: u64) -> bool {
        sc.state.stop(self.sched.until.get(), now);
        if !sc.state.begin_grace(GRACE_MAX) {
            self.sched.until.set(sc.state.start(now));
            return false;
        }
        self.charge_with_care(sc, now);
        self.count(Counter::GraceGranted);
        me.get().utcb(self.pin()).preempt_pending.store(self.sched.until.get(), Relaxed);
        true
    }

    /// Counts how the grace ends of a context that is in one, and takes the notice back. The slice
    /// is about to be refilled.
    #[cold]
    #[inline(never)]
    pub fn end_grace(self, sc: OpenTime<'k>, how: Counter) {
        self.count(how);
        self.take_notice_back(sc);
    }

    /// Takes the notice back from the owner of a context, even if another task spends the time. The
    /// owner would heed it in a later slice. (The link to the owner goes before that task dies.)
    pub fn take_notice_back(self, sc: OpenTime<'k>) {
        if let Some(owner) = sc.owner.get(self.pin()) {
            owner.get().utcb(self.pin()).preempt_pending.store(0, Relaxed);
        }
    }

    /// Ends the grace of a context that has stopped before it was over, if it is in one: it has a
    /// new slice.
    pub fn leave_grace(self, sc: OpenTime<'k>) {
        if sc.state.is_in_grace() {
            self.end_grace(sc, Counter::GraceRevoked);
            sc.state.refill();
        }
    }

    /// Gives the running context, whose slice is over while no equal waits, a fresh one.
    pub fn renew_slice(self, sc: OpenTime<'k>, now: u64) {
        let was_in_grace = sc.state.is_in_grace();
        if was_in_grace {
            let is_own = sc.owner.addr() == self.hot.current.addr();
            self.end_grace(sc, if is_own { Counter::GraceExpired } else { Counter::GraceRevoked });
        }
        sc.state.refill();
        self.sched.until.set(sc.state.start(now));
        if was_in_grace {
            self.care_from_now(sc);
        }
    }
}
