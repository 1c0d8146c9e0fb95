//! Who runs: run queues of SchedContexts, strict priorities, round robin within one.
//!
//! # Invariants, between entries
//! * The running task is that of the running context (`sched.current`), which is not queued. Which contexts
//!   run or are queued: [`crate::time::lend`].
//! * The running context has the highest priority of all queued ones or equals it.
//! * `sched.until` is when the slice of the running context will be over.
//! * `sched.idle` is set only while no context runs and none is queued.
//!
//! The timer is programmed lazily: it may fire early (then it is set again), never late.

use abi::Counter;
use kern_base::machine::Machine;
use kern_base::sched_context::{SchedContext, SchedHot};
use kern_base::task::{
    FLAG_DEBUG, FLAG_SUSPENDED, FLAG_VECTOR, FLAGS_SPECIAL, LABEL_MASK, PLAIN, POISON_SHIFT, SPECIAL, State,
    Task, TaskHot, state_half,
};
use smp::door::Ref;
use test_abi::trace::Why;

use crate::rooms::Time;
use crate::state::{has_flag, set_state};

/// The task that runs on this CPU, opened.
#[derive(Clone, Copy)]
pub struct Running<'k> {
    pub task: Ref<'k, Task>,
    pub hot: &'k TaskHot,
}

impl<'k, M: Machine> Time<'k, M> {
    /// Brings the account of the running context up to date; says what time it is.
    pub fn charge(self) -> u64 {
        let now = self.k.machine.now();
        if let Some((_, hot)) = self.running() {
            let _ = hot.state.stop(self.sched.until.get(), now);
            self.sched.until.set(hot.state.start(now));
        }
        now
    }

    /// Makes `task`, which holds no other time but its own, the one that runs, on the context that is already
    /// running. No accounting: the time goes on being charged to the same context.
    #[inline(always)]
    pub fn run_task(self, task: Ref<'k, Task>, hot: &TaskHot) {
        debug_assert!(hot.borrowed.is_null(), "the running context is the time of the task that runs");
        self.switch_task(task, hot.state.get());
        if hot.is_plain() {
            hot.spell_out();
        }
    }

    #[inline(always)]
    fn switch_task(self, task: Ref<'k, Task>, word: u64) {
        self.trace().note_run(task);
        self.hot.current.set(Some(task));
        if (self.hot.expects.get() ^ word as u32) & SPECIAL != 0 {
            self.expect(word);
        }
    }

    /// Sets what the fastpath expects of others while a task with this state word runs: the label of that task; without
    /// vector state nothing can be while a special task runs, with it nothing while one with debug registers does.
    #[inline(always)]
    pub fn expect(self, word: u64) {
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

    /// Takes the running context off the CPU without queueing it. The context stays with the task that ran.
    /// The caller dispatches afterwards.
    #[inline]
    pub fn stop_current(self) -> Option<Ref<'k, SchedContext>> {
        let (sc, hot) = self.running()?;
        self.keep_time(sc, hot);
        self.stop(hot);
        Some(sc)
    }

    /// The running task, which is about to stop, keeps the context that it runs on.
    #[inline(always)]
    fn keep_time(self, sc: Ref<'k, SchedContext>, hot: &SchedHot) {
        if hot.owner.addr() != self.hot.current.addr() {
            self.keep_borrowed(sc);
        }
    }

    #[inline(never)]
    fn keep_borrowed(self, sc: Ref<'k, SchedContext>) {
        if let Some(hot) = self.hot.current.get(self.pin()).and_then(|task| self.task_hot(task)) {
            hot.borrowed.set(Some(sc));
        }
    }

    /// Takes the running context, which is open, off the CPU. The caller says whose it is from here on.
    #[inline(always)]
    pub fn stop(self, hot: &SchedHot) {
        self.trace().note_stop();
        self.hot.current.set(None);
        self.sched.current.set(None);
        let now = self.k.machine.now();
        let _ = hot.state.stop(self.sched.until.get(), now);
        self.sched.stopped.set(now);
    }

    /// Preempts the running task, which keeps its turn, if a context that comes to this CPU outranks it.
    ///
    /// Returns: the time of the preemption; `None` if there was none.
    #[inline(always)]
    pub fn make_way(self, hot: &SchedHot) -> Option<u64> {
        // Idle: nothing runs, nothing is queued.
        if self.sched.idle.get() {
            self.sched.idle.set(false);
            return Some(self.k.machine.now());
        }
        if self.preempt_for(hot.state.priority()) { Some(self.sched.stopped.get()) } else { None }
    }

    #[cold]
    #[inline(never)]
    fn preempt_for(self, priority: u8) -> bool {
        let Some((old, hot)) = self.running().filter(|(_, hot)| hot.state.priority() < priority) else {
            return false;
        };
        self.set_aside(old, hot);
        true
    }

    /// Takes the running context off the CPU, which keeps its turn.
    #[inline(always)]
    fn set_aside(self, sc: Ref<'k, SchedContext>, hot: &SchedHot) {
        self.keep_time(sc, hot);
        self.stop(hot);
        self.trace().note_why(Why::Preempted);
        self.sched.queue.push_front(self.pin(), sc, hot.state.priority());
    }

    /// Runs `task`, whose flags `word` has, on a context that [`Time::make_way`] was called for.
    #[inline(always)]
    pub fn take_over(
        self,
        sc: Ref<'k, SchedContext>,
        hot: &SchedHot,
        now: u64,
        task: Ref<'k, Task>,
        word: u64,
    ) {
        self.charge_to(sc, hot, now);
        self.switch_task(task, word);
    }

    /// Queues a context whose task is runnable, behind others of its priority; runs it where the CPU has
    /// nothing else.
    #[inline]
    pub fn enqueue(self, sc: Ref<'k, SchedContext>) {
        if let Some(hot) = self.sc_hot(sc) {
            self.enqueue_open(sc, hot);
        }
    }

    /// [`Time::enqueue`] for a context that is open.
    #[inline]
    pub fn enqueue_open(self, sc: Ref<'k, SchedContext>, hot: &SchedHot) {
        if self.sched.current.is_null() && self.sched.queue.is_empty() {
            self.run(sc, hot);
            return;
        }
        self.sched.queue.push_back(self.pin(), sc, hot.state.priority());
        self.arm_timer_for_slice();
    }

    /// Runs the best queued context if the CPU has none, or if a better one is queued.
    #[inline(always)]
    pub fn dispatch(self) {
        match self.running() {
            Some((_, hot)) if !self.sched.queue.outranks(self.pin(), hot.state.priority()) => {}
            Some((sc, hot)) => {
                self.set_aside(sc, hot);
                self.run_best();
            }
            None => self.run_best(),
        }
    }

    /// Runs a context on a CPU that runs none. The clock is read once: it starts when the last one stopped,
    /// unless the CPU idled since.
    #[inline]
    fn run(self, sc: Ref<'k, SchedContext>, sc_hot: &SchedHot) -> bool {
        let Some(task) = sc_hot.task.get(self.pin()) else { return false };
        let Some(task_hot) = self.task_hot(task) else { return false };
        let now = if self.sched.idle.take() { self.k.machine.now() } else { self.sched.stopped.get() };
        self.charge_to(sc, sc_hot, now);
        task_hot.borrowed.set(None);
        self.run_task(task, task_hot);
        true
    }

    #[inline(always)]
    fn charge_to(self, sc: Ref<'k, SchedContext>, sc_hot: &SchedHot, now: u64) {
        self.sched.until.set(sc_hot.state.start(now));
        self.sched.current.set(Some(sc));
    }

    /// Takes the best queued context and runs it; idle when there is none.
    fn run_best(self) {
        while let Some(sc) = self.sched.queue.pop_highest(self.pin()) {
            if self.sc_hot(sc).is_some_and(|hot| self.run(sc, hot)) {
                self.arm_timer_for_slice();
                return;
            }
        }
    }

    /// The running task blocked: its context rests where it is, and the CPU runs something else.
    #[inline]
    pub fn block_current(self) {
        self.stop_current();
        self.dispatch();
    }

    /// The running context goes behind its equals with a fresh slice.
    pub fn rotate(self, why: Why) {
        if let Some((sc, hot)) = self.running() {
            self.keep_time(sc, hot);
            self.stop(hot);
            self.trace().note_why(why);
            hot.state.refill();
            self.enqueue_open(sc, hot);
        }
        self.dispatch();
    }

    /// `task` became ready, and runs as soon as it is the best unless it is suspended.
    #[inline]
    pub fn make_ready(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        set_state(hot, State::Ready);
        if has_flag(hot, FLAG_SUSPENDED) {
            return;
        }
        self.start(task, hot);
    }

    /// Sets the timer if the slice of the running context has to be enforced: equals are waiting.
    #[inline]
    pub fn arm_timer_for_slice(self) {
        let Some((_, hot)) = self.running() else { return };
        if self.sched.queue.has_at_least(self.pin(), hot.state.priority()) {
            self.arm_timer(self.sched.until.get());
        }
    }

    /// The timer has to fire at `at` or earlier.
    #[inline]
    pub fn arm_timer(self, at: u64) {
        if at < self.sched.timer.get() {
            self.sched.timer.set(at);
            self.k.machine.set_timer(Some(at));
        }
    }

    /// Puts a task on this CPU's deadline queue.
    pub fn set_deadline(self, task: Ref<'k, Task>, at: u64) {
        self.sched.deadlines.insert(self.pin(), task, at);
        self.arm_timer(at);
    }

    /// Takes it off.
    pub fn clear_deadline(self, task: Ref<'k, Task>) {
        self.sched.deadlines.remove(self.pin(), task);
    }

    /// Runs `task`, which is queued on `sc`, for the rest of the running context's slice; the running
    /// context goes to the end of its priority. A better queued context still goes first.
    pub fn switch_to(
        self,
        (sc, new_hot): (Ref<'k, SchedContext>, &SchedHot),
        task: Ref<'k, Task>,
        hot: &TaskHot,
    ) {
        let Some((old, old_hot)) = self.running() else { return };
        let now = self.k.machine.now();
        let _ = old_hot.state.stop(self.sched.until.get(), now);
        self.keep_time(old, old_hot);
        old_hot.state.donate_rest(&new_hot.state);
        self.sched.until.set(new_hot.state.start(now));
        self.sched.queue.remove(self.pin(), sc);
        self.sched.queue.push_back(self.pin(), old, old_hot.state.priority());
        self.sched.current.set(Some(sc));
        self.trace().note_stop();
        self.trace().note_why(Why::Yielded);
        hot.borrowed.set(None);
        self.run_task(task, hot);
        self.arm_timer_for_slice();
        self.dispatch();
    }

    /// Nothing to run: counts it. The caller idles the CPU.
    pub fn note_idle(self) {
        self.trace().note_nobody();
        self.sched.idle.set(true);
        self.count(Counter::Idle);
    }
}
