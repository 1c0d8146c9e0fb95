//! The scheduler: run queues of SchedContexts, strict priorities, round robin within one.
//!
//! # Invariants, between entries
//! * The running task is the task of the running context (`sched.current`). That context is not
//!   queued. [`crate::time::lend`] says which contexts run or are queued.
//! * The running context's priority is at least that of every queued one.
//! * `sched.until` is the end of the running context's slice, or of what its budget allows, if it
//!   has one ([`crate::time::budget`]).
//! * `sched.idle` is set only while no context runs and none is queued.
//!
//! The timer is programmed lazily: it may fire early (then it is set again), never late.

use abi::Counter;
use abi::status::Doing;
use kern_base::cpu::{BUSY, IDLE};
use kern_base::machine::Machine;
use kern_base::sched_context::{OpenTime, SchedContext, SchedHot};
use kern_base::task::{
    FLAG_AWAITED, FLAG_DEBUG, FLAG_SUSPENDED, FLAG_VECTOR, FLAGS_SPECIAL, LABEL_MASK, NONE_READY, OpenTask,
    PLAIN, POISON_SHIFT, SPECIAL, State, Task, state_half,
};
use sched::PRIORITIES;
use smp::door::Ref;
use test_abi::trace::Why;

use crate::outbox::mail::rank_with;
use crate::rooms::Time;

/// In no state word. In [`CpuHot::expects`](kern_base::cpu::CpuHot) it says that the running
/// context needs care, so that the next switch has to set again what the fast path accepts.
const CARE_RUNS: u32 = 1 << 31;

/// How much longer a CPU leaves its program alone than work for others of no higher priority took.
pub const REST_FACTOR: u64 = 50;
/// How much longer a CPU leaves its program alone than a look into its mailbox took. What such a
/// look sets going, as timers and interrupts of other CPUs, takes nearly as long again after the
/// time is read.
pub const MAIL_REST_FACTOR: u64 = 2 * REST_FACTOR;
/// Most ticks for which it does.
pub const REST_MAX: u64 = 1 << 24;

impl<'k, M: Machine> Time<'k, M> {
    /// Brings the running context's account up to date. Returns the current time.
    pub fn charge(self) -> u64 {
        let Some(sc) = self.running() else { return self.k.machine.now() };
        let now = self.clock_of(sc);
        sc.state.stop(self.sched.until.get(), now);
        self.sched.until.set(sc.state.start(now));
        now
    }

    /// Makes `task`, which holds only its own time, the running one, on the running context. Time
    /// is charged to that context as before.
    #[inline(always)]
    pub fn run_task(self, task: OpenTask<'k>) {
        debug_assert!(task.time.borrows_none(), "the running context is the time of the task that runs");
        self.switch_task(task.object(), task.word());
        task.materialise_frame();
    }

    #[inline(always)]
    fn switch_task(self, task: Ref<'k, Task>, word: u64) {
        self.trace().note_run(task);
        self.hot.current.set(Some(task));
        self.expect_for(word);
    }

    /// Makes the fast path accept the tasks that may follow the task with this state word, which
    /// runs now: see [`Time::expect`].
    #[inline(always)]
    fn expect_for(self, word: u64) {
        if (self.hot.expects.get() ^ word as u32) & (SPECIAL | CARE_RUNS) != 0 {
            self.expect(word);
        }
    }

    /// Does what [`Time::expect`] does, and begins or ends what a running context that needs care
    /// changes.
    #[cold]
    #[inline(never)]
    pub fn expect_with_care(self, word: u64) {
        let word = word & !u64::from(CARE_RUNS);
        self.hot.expects.set(0);
        self.expect(word);
        let needs_care = self.running().is_some_and(|sc| sc.state.needs_care());
        if needs_care {
            self.hot.expects.set(word as u32 | CARE_RUNS);
        }
        if needs_care || self.sched.more_mail.get() {
            self.expect_none_ready();
        }
    }

    /// Sets which state words of other tasks the fast path accepts while a task with this state
    /// word runs: those with the task's label. It accepts no task without vector state while the
    /// running task is special, and none with vector state while the running task has debug
    /// registers.
    ///
    /// While the running context needs care, it accepts no other ready task: only Rust looks after
    /// budgets, and tells what contexts do.
    #[inline(always)]
    pub fn expect(self, word: u64) {
        if self.hot.expects.get() & CARE_RUNS != 0 {
            return self.expect_with_care(word);
        }
        self.hot.expects.set(word as u32);
        let flags = (word >> 8) as u8;
        let half = |state, flags| u64::from(state_half(state, flags, self.id()) | word as u32 & LABEL_MASK);
        let poison = (flags & FLAGS_SPECIAL) << POISON_SHIFT;
        self.hot.recv_half.set(half(State::Recv, poison));
        self.hot.await_half.set(half(State::Await, poison));
        self.hot.plain_half.set(half(State::Ready, poison) | u64::from(PLAIN));
        self.hot.wait_half.set(half(State::WaitBits, 0) | u64::from(PLAIN));
        let poison = FLAG_VECTOR | (flags & FLAG_DEBUG) << POISON_SHIFT;
        self.hot.recv_vector_half.set(half(State::Recv, poison));
        self.hot.await_vector_half.set(half(State::Await, poison));
    }

    /// Makes each exit to another program attend to mail that is left and to tasks that rest
    /// (`Door::attends_to_mail`), and lets the fast path go on with no other ready task.
    pub fn mind_mail(self) {
        self.sched.more_mail.set(true);
        self.sched.attended.set(0);
        self.expect_none_ready();
    }

    /// Lets the fast path go on with no other ready task until [`Time::expect`], since that task
    /// may be one that waiting mail outranks (the module `door::look`).
    pub fn expect_none_ready(self) {
        self.hot.plain_half.set(self.hot.plain_half.get() | u64::from(NONE_READY));
    }

    /// Lets the fast path go on with another ready task again, after a context that needed care has
    /// given way to one that does not.
    /// Requires: no mail is left and no task rests; and the running task is like the one before,
    /// without vector state.
    #[inline(always)]
    pub fn expect_without_care(self) {
        self.hot.expects.set(self.hot.expects.get() & !CARE_RUNS);
        self.hot.plain_half.set(self.hot.plain_half.get() & !u64::from(NONE_READY));
    }

    /// Notes that no mail waits. If no task rests either, the fast path may go on with another
    /// ready task.
    pub fn note_no_mail(self) {
        if self.sched.more_mail.take() {
            self.expect(u64::from(self.hot.expects.get()));
            self.mind_rest();
        }
    }

    /// Makes this CPU look at the tasks that rest, if there are some ([`Time::end_rest_above`]):
    /// before it idles, and before it goes on with another program.
    #[cold]
    #[inline(never)]
    pub fn mind_rest(self) {
        if (self.sched.resting.get() | self.sched.waiters_resting.get()) != 0 {
            self.sched.before_idle.set(true);
            self.mind_mail();
        }
    }

    /// Ends the rest of tasks, if one of them outranks the program that runs or if none runs: the
    /// timer fires immediately. Otherwise they rest for this program's sake, too.
    #[cold]
    #[inline(never)]
    pub fn end_rest_above(self) {
        let resting = self.sched.resting.get().max(self.sched.waiters_resting.get());
        if resting as usize > self.lowest_above() {
            self.sched.resting.set(0);
            self.sched.waiters_resting.set(0);
            let soonest = self.sched.deadlines.soonest(self.pin(), 0..PRIORITIES);
            self.arm_timer_for_waiters(soonest.min(self.k.machine.now()));
        }
    }

    /// Takes the running context off the CPU without queueing it. The stopped task keeps the
    /// context. The caller dispatches afterwards.
    #[inline]
    pub fn stop_current(self) -> Option<Ref<'k, SchedContext>> {
        let sc = self.running()?;
        self.keep_time(sc);
        self.stop(sc);
        Some(sc.object())
    }

    /// Leaves the running context with the running task, which is about to stop.
    #[inline(always)]
    pub fn keep_time(self, sc: OpenTime<'k>) {
        if sc.owner.addr() != self.hot.current.addr() {
            self.keep_borrowed(sc.object());
        }
    }

    #[inline(never)]
    fn keep_borrowed(self, sc: Ref<'k, SchedContext>) {
        if let Some(task) = self.hot.current.get(self.pin()).and_then(|task| self.open(task)) {
            task.time.borrow(sc);
        }
    }

    /// Takes the running context, whose task waits from now on, off the CPU. The caller sets its
    /// next holder.
    #[inline(always)]
    pub fn stop(self, sc: OpenTime<'k>) {
        self.halt(&sc);
        if sc.state.needs_care() {
            self.stop_with_care(sc);
        }
    }

    #[cold]
    #[inline(never)]
    fn stop_with_care(self, sc: OpenTime<'k>) {
        self.leave_grace(sc);
        self.tell_if_watched(sc, Doing::Rests);
    }

    /// Ends the grace of a context that needs care, and that a message has brought, and tells that
    /// it has come.
    #[cold]
    #[inline(never)]
    pub fn came_with_care(self, sc: OpenTime<'k>) {
        self.leave_grace(sc);
        self.tell_if_watched(sc, Doing::Waits);
    }

    /// Takes the running context off the CPU, without telling anybody. It is queued, or goes to
    /// another CPU with a message, which tells what it does there.
    #[inline(always)]
    pub fn halt(self, hot: &SchedHot) {
        self.halt_at(hot, self.k.machine.now());
    }

    #[inline(always)]
    pub fn halt_at(self, hot: &SchedHot, now: u64) {
        self.trace().note_stop();
        self.hot.current.set(None);
        self.sched.current.set(None);
        hot.state.stop(self.sched.until.get(), now);
        self.sched.stopped.set(now);
    }

    /// Notes that this CPU, where nothing runs and nothing is queued, has work. Returns the current
    /// time.
    #[inline(always)]
    pub fn end_idling(self) -> u64 {
        self.sched.idle.set(BUSY);
        self.k.machine.now()
    }

    /// Preempts the running context, which keeps its turn, if a context that comes to this CPU in
    /// an interrupt outranks it. Returns when the interrupt began, until which the running context
    /// is charged, or `None` if the context that comes must wait.
    #[cold]
    #[inline(never)]
    pub fn preempt_for(self, sc: OpenTime<'k>) -> Option<u64> {
        let Some(old) = self.running() else { return self.end_told_idling() };
        if old.state.priority() >= sc.state.priority() {
            return None;
        }
        // On a CPU that idled when the mail came, the running context has just started.
        let now = self.since(old);
        self.keep_time(old);
        self.halt_at(&old, now);
        self.queue_preempted(old);
        Some(now)
    }

    /// Takes the running SchedContext off the CPU, and queues it before others of its priority.
    #[inline(always)]
    fn set_aside(self, sc: OpenTime<'k>) {
        self.keep_time(sc);
        self.halt_at(&sc, self.clock_of(sc));
        self.queue_preempted(sc);
    }

    #[inline(always)]
    fn queue_preempted(self, sc: OpenTime<'k>) {
        self.trace().note_why(Why::Preempted);
        if sc.state.needs_care() {
            return self.queue_with_care(sc);
        }
        self.sched.queue.push_front(self.pin(), sc.object(), sc.state.priority());
    }

    /// Queues a context that was preempted, and needs care: before its equals, unless it was in a
    /// grace.
    #[cold]
    #[inline(never)]
    fn queue_with_care(self, sc: OpenTime<'k>) {
        if sc.state.is_in_grace() {
            self.leave_grace(sc);
            return self.queue_behind(sc);
        }
        self.sched.queue.push_front(self.pin(), sc.object(), sc.state.priority());
        self.tell_if_watched(sc, Doing::Ready);
    }

    /// Runs `task` on its time `sc`, which is not queued, in place of the running context `old`,
    /// which it outranks. `old` keeps its turn, unless its slice is over.
    #[inline(always)]
    pub fn preempt(self, old: OpenTime<'k>, sc: OpenTime<'k>, now: u64, task: OpenTask<'k>) {
        self.keep_time(old);
        self.trace().note_stop();
        self.trace().note_why(Why::Preempted);
        old.state.stop(self.sched.until.get(), now);
        if old.state.needs_care() {
            self.preempt_with_care(old);
        } else if old.state.remaining() == 0 {
            self.queue_with_fresh_slice(old);
        } else {
            let (links, rank) = (&old.state.links, old.state.rank());
            self.sched.queue.push_preempted(self.pin(), old.object(), links, rank);
        }
        self.take_over(sc, now, task.object(), task.word());
    }

    /// Queues a context that needs care, and that [`Time::preempt`] has stopped.
    #[cold]
    #[inline(never)]
    fn preempt_with_care(self, sc: OpenTime<'k>) {
        if sc.state.remaining() == 0 && !sc.state.has_budget() && !sc.state.is_in_grace() {
            return self.queue_with_fresh_slice(sc);
        }
        self.queue_with_care(sc);
    }

    #[cold]
    #[inline(never)]
    fn queue_with_fresh_slice(self, sc: OpenTime<'k>) {
        sc.state.refill();
        self.queue_behind(sc);
    }

    /// Queues a SchedContext, which the running one outranks or equals, after others of its
    /// priority. The caller sets the timer.
    #[inline]
    pub fn queue_behind(self, sc: OpenTime<'k>) {
        self.sched.queue.push_back(self.pin(), sc.object(), sc.state.priority());
        self.tell_if_watched(sc, Doing::Ready);
    }

    /// Puts a queued context before its equals.
    pub fn put_first(self, sc: OpenTime<'k>) {
        self.sched.queue.remove(self.pin(), sc.object());
        self.sched.queue.push_front(self.pin(), sc.object(), sc.state.priority());
    }

    /// Gives the running context, whose slice is over, a fresh one. It has no budget.
    #[inline(always)]
    pub fn begin_slice(self, sc: OpenTime<'k>, now: u64) {
        sc.state.stop(self.sched.until.get(), now);
        sc.state.refill();
        self.sched.until.set(sc.state.start_free(now));
    }

    /// Ends the slice of the running context, which has no budget. The best queued context, of the
    /// same priority, runs next. Returns the task that runs then, and its time.
    #[inline(always)]
    pub fn end_slice(self, sc: OpenTime<'k>, now: u64, why: Why) -> Option<(OpenTask<'k>, OpenTime<'k>)> {
        self.keep_time(sc);
        self.trace().note_stop();
        self.trace().note_why(why);
        sc.state.stop(self.sched.until.get(), now);
        sc.state.refill();
        let next = self.open_time(self.sched.queue.pop_highest(self.pin())?)?;
        self.queue_behind(sc);
        // What is queued has a holder, on its CPU.
        let task = self.open(next.task.get(self.pin())?)?;
        self.charge_to(next, now);
        task.time.put_down();
        self.run_task(task);
        Some((task, next))
    }

    /// Runs `task`, with the flags in `word`, on a context on a CPU that runs none.
    #[inline(always)]
    pub fn take_over(self, sc: OpenTime<'k>, now: u64, task: Ref<'k, Task>, word: u64) {
        self.charge_to(sc, now);
        self.switch_task(task, word);
    }

    /// Queues a SchedContext whose task is runnable, after others of its priority. Runs it
    /// immediately if none runs on the CPU. If its budget is used up, its task rests.
    #[inline]
    pub fn enqueue(self, sc: OpenTime<'k>) {
        if sc.state.needs_care() {
            return self.enqueue_with_care(sc);
        }
        self.enqueue_free(sc);
    }

    /// Does what [`Time::enqueue`] does, for time whose budget, if it has one, is not used up.
    #[inline(always)]
    pub fn enqueue_free(self, sc: OpenTime<'k>) {
        if self.sched.current.is_null() && self.sched.queue.is_empty() {
            self.run(sc);
            return;
        }
        self.sched.queue.push_back(self.pin(), sc.object(), sc.state.priority());
        // A better one runs soon, and the slice of the running one may be over long since.
        if self.running().is_some_and(|runs| runs.state.rank() == sc.state.rank()) {
            self.arm_timer(self.sched.until.get());
        }
    }

    /// Runs the best queued context if the CPU has none, or if a better one is queued.
    #[inline(always)]
    pub fn dispatch(self) {
        match self.running() {
            Some(sc) if self.sched.queue.first_rank(self.pin()) > sc.state.rank() => self.run_better(sc),
            None if !self.sched.queue.is_empty() => self.run_best(),
            _ => {}
        }
    }

    /// Runs the best queued context in place of this one. Out of line, so that the usual case needs
    /// no registers that a call preserves.
    #[inline(never)]
    fn run_better(self, sc: OpenTime<'k>) {
        self.set_aside(sc);
        self.run_best();
    }

    /// Runs a context on a CPU that runs none. The clock is read once: the context starts when the
    /// last one stopped, unless the CPU was idle since.
    #[inline(always)]
    fn run(self, sc: OpenTime<'k>) -> bool {
        // Both impossible: queued time has a holder, on its CPU. Assertions would cost each switch.
        let Some(task) = sc.task.get(self.pin()) else { return false };
        let Some(task) = self.open(task) else { return false };
        let now = match self.sched.idle.get() {
            BUSY => self.sched.stopped.get(),
            IDLE => self.end_idling(),
            _ => self.end_told_idling().unwrap_or_default(),
        };
        self.charge_to(sc, now);
        task.time.put_down();
        self.run_task(task);
        true
    }

    /// Looks into the mailbox immediately after this entry, if the running program has less time
    /// than when the CPU began to defer its mail. Called where a task may go on with other time:
    /// the exit to the task that was running looks at no mail.
    #[inline(always)]
    pub fn mind_less_time(self) {
        if self.sched.more_mail.get() {
            self.look_with_less_time();
        }
    }

    #[cold]
    #[inline(never)]
    fn look_with_less_time(self) {
        let rank = self.running().map_or(0, |sc| rank_with(&sc));
        if self.cpu.inbox().deferred_for().is_some_and(|deferred_for| rank < deferred_for) {
            let now = self.k.machine.now();
            self.sched.look_at.set(now);
            self.arm_timer(now);
        }
    }

    #[inline(always)]
    fn charge_to(self, sc: OpenTime<'k>, now: u64) {
        self.sched.current.set(Some(sc.object()));
        if sc.state.needs_care() {
            return self.charge_with_care(sc, now);
        }
        self.sched.until.set(sc.state.start_free(now));
    }

    /// Runs `server`, which is ready and waits for its turn, in place of the task that it has just
    /// answered, if both have the same priority. The answered task keeps the rest of its slice, and
    /// waits after others of its priority.
    ///
    /// So a server works off its queue before those who were in it call again. If it did not, each
    /// of them would find the server busy again, and queue again: a convoy that does not end.
    pub fn go_before_equal(self, server: OpenTask<'k>) {
        let (Some(runs), Some(sc)) = (self.running(), self.time_of(server)) else { return };
        let Some(sc) = self.open_time(sc).filter(|sc| sc.state.links.is_queued()) else { return };
        let priority = runs.state.priority();
        if sc.state.priority() != priority {
            return;
        }
        self.sched.queue.remove(self.pin(), sc.object());
        self.keep_time(runs);
        self.halt(&runs);
        self.leave_grace(runs);
        self.trace().note_why(Why::Preempted);
        self.sched.queue.push_back(self.pin(), runs.object(), priority);
        self.tell_if_watched(runs, Doing::Ready);
        self.run(sc);
        self.arm_timer_for_slice();
    }

    /// Runs the best queued context, or makes the CPU idle if none is queued.
    fn run_best(self) {
        while let Some(sc) = self.sched.queue.pop_highest(self.pin()) {
            if self.open_time(sc).is_some_and(|sc| self.run(sc)) {
                self.arm_timer_for_slice();
                return;
            }
        }
    }

    /// Stops the running task, which has blocked. Its context stays with its holder, and the CPU
    /// runs something else.
    #[inline]
    pub fn block_current(self) {
        self.stop_current();
        self.dispatch();
    }

    /// Queues the running SchedContext after others of its priority, with a fresh slice.
    pub fn rotate(self, why: Why) {
        if let Some(sc) = self.running() {
            let is_own = sc.owner.addr() == self.hot.current.addr();
            if !is_own && self.keep_or_give_back(sc, why) {
                return;
            }
            if sc.state.is_in_grace() {
                self.end_grace(sc, if is_own { how_grace_ends(why) } else { Counter::GraceRevoked });
            }
            self.halt_at(&sc, self.clock_of(sc));
            self.trace().note_why(why);
            sc.state.refill();
            self.enqueue(sc);
        }
        self.dispatch();
    }

    /// Leaves borrowed time, which is about to stop, with the running task. If the task yields, and
    /// a waiting caller helps it, the task goes on with its own time instead. Returns whether it
    /// does.
    #[inline(never)]
    fn keep_or_give_back(self, sc: OpenTime<'k>, why: Why) -> bool {
        let task = self.hot.current.get(self.pin()).and_then(|task| self.open(task));
        let Some(task) = task else { return false };
        let gives_back = matches!(why, Why::Yielded) && self.end_help(task);
        if gives_back {
            self.dispatch();
        } else {
            task.time.borrow(sc.object());
        }
        gives_back
    }

    /// Makes `task` ready. It runs as soon as it is the best, unless it is suspended. If a better
    /// task has queued at it meanwhile, it runs on that one's time.
    #[inline(always)]
    pub fn make_ready(self, task: OpenTask<'k>) {
        task.enter(State::Ready);
        if task.has_flag(FLAG_SUSPENDED | FLAG_AWAITED) {
            return self.make_ready_with_care(task);
        }
        self.start(task);
    }

    #[cold]
    #[inline(never)]
    fn make_ready_with_care(self, task: OpenTask<'k>) {
        if !task.has_flag(FLAG_SUSPENDED) {
            self.start(task);
        }
        self.attend(task);
    }

    /// Sets the timer if the slice of the running context must be enforced because equals wait.
    #[inline]
    pub fn arm_timer_for_slice(self) {
        // An idle CPU has no slice to enforce.
        let Some(sc) = self.running() else { return };
        if self.sched.queue.has_at_least(self.pin(), sc.state.priority()) {
            self.arm_timer(self.sched.until.get());
        }
    }

    /// Makes the timer fire at `at` or earlier.
    #[inline]
    pub fn arm_timer(self, at: u64) {
        if at < self.sched.timer.get() {
            self.sched.timer.set(at);
            self.k.machine.set_timer(Some(at));
        }
    }

    /// Makes the timer fire at `at` or earlier for tasks whose waits are over, and that have still
    /// to wake.
    #[cold]
    #[inline(never)]
    pub fn arm_timer_for_waiters(self, at: u64) {
        self.sched.wakes_waiters.set(true);
        self.arm_timer(at);
    }

    /// Returns whether an interrupt waits until this entry ends: the timer has fired, or mail has
    /// come that interrupts the program.
    #[cold]
    #[inline(never)]
    pub fn is_wanted(self) -> bool {
        let inbox = self.cpu.inbox();
        let interrupts = match inbox.deferred_for() {
            Some(rank) => inbox.has_urgent() && rank >= self.running().map_or(0, |sc| rank_with(&sc)),
            None => inbox.has_mail(),
        };
        interrupts || self.sched.timer.get() <= self.k.machine.now()
    }

    /// Returns until when this CPU leaves the program alone after work that began at `began`: for
    /// `factor` times what the work took.
    pub fn end_of_rest(self, began: u64, factor: u64) -> u64 {
        let now = self.k.machine.now();
        now.saturating_add(rest_after(now.wrapping_sub(began), factor))
    }

    /// Returns the lowest priority whose tasks outrank the running program.
    pub fn lowest_above(self) -> usize {
        self.running().map_or(0, |sc| usize::from(sc.state.priority()) + 1)
    }

    /// Sets a deadline for a task of this CPU, for a wait that it begins at the present priority.
    pub fn set_deadline(self, task: Ref<'k, Task>, at: u64) {
        self.set_deadline_at(task, at, self.running().map_or(0, |sc| sc.state.priority()));
    }

    /// Sets a deadline for a task of this CPU that waits at a priority.
    pub fn set_deadline_at(self, task: Ref<'k, Task>, at: u64, priority: u8) {
        self.sched.deadlines.insert(self.pin(), task, at, priority);
        self.arm_timer(at);
    }

    /// Takes a task off this CPU's deadline queues, if it is there.
    #[inline(always)]
    pub fn clear_deadline(self, task: OpenTask<'k>) {
        if task.deadline.is_queued() {
            self.sched.deadlines.remove(self.pin(), task.object());
        }
    }

    /// Runs `task`, which is queued on `sc`, for the rest of the running context's slice. The
    /// running context goes to the end of its priority. A better queued context still goes first.
    pub fn switch_to(self, sc: OpenTime<'k>, task: OpenTask<'k>) {
        let old = self.running_now();
        let now = self.k.machine.now();
        old.state.stop(self.sched.until.get(), now);
        self.keep_time(old);
        if sc.state.is_in_grace() {
            // It pays for what it has used of that with what it gets.
            self.end_grace(sc, Counter::GraceRevoked);
        }
        old.state.donate_rest(&sc.state);
        self.sched.queue.remove(self.pin(), sc.object());
        self.sched.queue.push_back(self.pin(), old.object(), old.state.priority());
        self.tell_if_watched(old, Doing::Ready);
        self.charge_to(sc, now);
        self.trace().note_stop();
        self.trace().note_why(Why::Yielded);
        task.time.put_down();
        self.run_task(task);
        self.arm_timer_for_slice();
        self.dispatch();
    }

    /// Counts that nothing can run. The caller makes the CPU idle.
    pub fn note_idle(self) {
        self.trace().note_nobody();
        self.sched.idle.set(self.sched.idle_as.get());
        self.count(Counter::Idle);
    }
}

/// Returns for how long a CPU leaves its program alone after work that took so many ticks.
#[inline(always)]
pub fn rest_after(took: u64, factor: u64) -> u64 {
    // The first limit keeps the product from overflowing.
    (took.min(REST_MAX) * factor).min(REST_MAX)
}

/// Returns as what the grace of a slice counts that is taken off the CPU for this reason.
const fn how_grace_ends(why: Why) -> Counter {
    match why {
        Why::Yielded => Counter::GraceYielded,
        Why::SliceOver => Counter::GraceExpired,
        _ => Counter::GraceRevoked,
    }
}
