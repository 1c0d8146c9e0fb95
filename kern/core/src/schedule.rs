//! Who runs: run queues of SchedContexts, strict priorities, round robin within one.
//!
//! # Invariants, between entries
//! * The running task is that of the running context (`sched.current`), which is not queued. Which contexts
//!   run or are queued: [`crate::time`].
//! * The running context has the highest priority of all queued ones or equals it.
//! * `sched.until` is when the slice of the running context will be over.
//!
//! The timer is programmed lazily: it may fire early (then it is set again), never late.

use abi::Counter;
use kern_base::machine::Machine;
use kern_base::sched_context::{SchedContext, SchedHot};
use kern_base::task::{FLAG_NEVER, FLAG_SUSPENDED, FLAG_VECTOR, PLAIN, State, Task, TaskHot, state_half};
use sched::NEVER;
use smp::door::Ref;

use crate::Cx;

/// The state word's parts.
#[inline(always)]
pub fn state_of(hot: &TaskHot) -> State {
    State::of_word(hot.state.get())
}

#[inline(always)]
pub fn set_state(hot: &TaskHot, state: State) {
    hot.state.set((hot.state.get() & !0xff) | state as u64);
}

pub fn has_flag(hot: &TaskHot, flag: u8) -> bool {
    hot.state.get() & (u64::from(flag) << 8) != 0
}

pub fn set_flag(hot: &TaskHot, flag: u8, on: bool) {
    let bit = u64::from(flag) << 8;
    let word = hot.state.get();
    hot.state.set(if on { word | bit } else { word & !bit });
}

/// Ready and not suspended.
#[inline(always)]
pub fn runnable(hot: &TaskHot) -> bool {
    let word = hot.state.get();
    word as u8 & !PLAIN == State::Ready as u8 && word & (u64::from(FLAG_SUSPENDED) << 8) == 0
}

impl<'k, M: Machine> Cx<'k, M> {
    /// The inside of a context that is on this CPU.
    #[inline(always)]
    pub fn sc_hot(self, sc: Ref<'k, SchedContext>) -> Option<&'k SchedHot> {
        sc.get().hot.open(self.pin)
    }

    /// The inside of a task whose home is this CPU.
    #[inline(always)]
    pub fn task_hot(self, task: Ref<'k, Task>) -> Option<&'k TaskHot> {
        task.get().hot.open(self.pin)
    }

    /// The running context.
    #[inline(always)]
    pub fn running(self) -> Option<(Ref<'k, SchedContext>, &'k SchedHot)> {
        let sc = self.sched.current.get(self.pin)?;
        Some((sc, self.sc_hot(sc)?))
    }

    /// Brings the account of the running context up to date; says what time it is.
    pub fn charge(self) -> u64 {
        let now = self.k.machine.now();
        if let Some((_, hot)) = self.running() {
            let _ = hot.state.stop(self.sched.until.get(), now);
            self.sched.until.set(hot.state.start(now));
        }
        now
    }

    /// Makes `task` the one that runs, on the context that is already running. No accounting: the
    /// time goes on being charged to the same context.
    #[inline(always)]
    pub fn run_task(self, task: Ref<'k, Task>, hot: &TaskHot) {
        self.hot.current.set(Some(task));
        let poisoned = self.hot.recv_half.get() & (u64::from(FLAG_NEVER) << 8) != 0;
        if poisoned != has_flag(hot, FLAG_VECTOR) {
            self.expect(if poisoned { 0 } else { FLAG_NEVER });
        }
        if hot.is_plain() {
            hot.spell_out();
        }
    }

    /// Sets what the fastpath expects of tasks without vector state; `poison`: of none.
    #[cold]
    fn expect(self, poison: u8) {
        self.hot.recv_half.set(u64::from(state_half(State::Recv, poison, self.id())));
        self.hot.await_half.set(u64::from(state_half(State::Await, poison, self.id())));
        self.hot.plain_half.set(u64::from(state_half(State::Ready, poison, self.id()) | u32::from(PLAIN)));
    }

    /// Takes the running context off the CPU without queueing it. The caller dispatches afterwards.
    #[inline]
    pub fn stop_current(self) -> Option<Ref<'k, SchedContext>> {
        self.hot.current.set(None);
        let sc = self.sched.current.take(self.pin)?;
        let now = self.k.machine.now();
        if let Some(hot) = self.sc_hot(sc) {
            let _ = hot.state.stop(self.sched.until.get(), now);
        }
        self.sched.stopped.set(now);
        Some(sc)
    }

    /// Queues a context whose task is runnable, behind others of its priority; runs it where the CPU has
    /// nothing else.
    #[inline]
    pub fn enqueue(self, sc: Ref<'k, SchedContext>) {
        let Some(hot) = self.sc_hot(sc) else { return };
        if self.sched.current.is_null() && self.sched.queue.is_empty() {
            self.run(sc, hot);
            return;
        }
        self.sched.queue.push_back(self.pin, sc, hot.state.priority());
        self.arm_timer_for_slice();
    }

    /// Runs the best queued context if the CPU has none, or if a better one is queued.
    #[inline(always)]
    pub fn dispatch(self) {
        match self.running() {
            Some((_, hot)) if !self.sched.queue.outranks(self.pin, hot.state.priority()) => {}
            Some((sc, hot)) => self.preempt(sc, hot),
            None => self.run_best(),
        }
    }

    /// Somebody outranks the running context, which keeps its turn.
    fn preempt(self, sc: Ref<'k, SchedContext>, hot: &SchedHot) {
        self.stop_current();
        self.sched.queue.push_front(self.pin, sc, hot.state.priority());
        self.run_best();
    }

    /// Runs a context on a CPU that runs none. The clock is read once: it starts when the last one stopped,
    /// unless the CPU idled since.
    #[inline]
    fn run(self, sc: Ref<'k, SchedContext>, sc_hot: &SchedHot) -> bool {
        let Some(task) = sc_hot.task.get(self.pin) else { return false };
        let Some(task_hot) = self.task_hot(task) else { return false };
        let now = if self.sched.idle.take() { self.k.machine.now() } else { self.sched.stopped.get() };
        self.sched.until.set(sc_hot.state.start(now));
        self.sched.current.set(Some(sc));
        self.run_task(task, task_hot);
        true
    }

    /// Takes the best queued context and runs it; idle when there is none.
    fn run_best(self) {
        while let Some(sc) = self.sched.queue.pop_highest(self.pin) {
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
    pub fn rotate(self) {
        if let Some(sc) = self.stop_current() {
            if let Some(hot) = self.sc_hot(sc) {
                hot.state.refill();
            }
            self.enqueue(sc);
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
        if self.sched.queue.has_at_least(self.pin, hot.state.priority()) {
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

    /// The timer fired: expires deadlines, ends the slice if it is over, arms the timer again.
    pub fn timer_fired(self) {
        self.sched.timer.set(NEVER);
        let now = self.k.machine.now();
        self.expire_deadlines(now);
        let now = self.charge();
        if let Some((_, hot)) = self.running().filter(|(_, hot)| hot.state.remaining() == 0 || cfg!(feature = "chaos")) {
            if self.sched.queue.has_at_least(self.pin, hot.state.priority()) {
                self.rotate();
            } else {
                hot.state.refill();
                self.sched.until.set(hot.state.start(now));
            }
        }
        self.dispatch();
        self.arm_timer_for_slice();
        self.arm_timer(self.sched.deadlines.soonest());
    }

    /// Runs `task`, which is queued on `sc`, for the rest of the running context's slice; the running
    /// context goes to the end of its priority. A better queued context still goes first.
    pub fn switch_to(self, sc: Ref<'k, SchedContext>, task: Ref<'k, Task>, hot: &TaskHot) {
        let Some((old, old_hot)) = self.running() else { return };
        let Some(new_hot) = self.sc_hot(sc) else { return };
        let now = self.k.machine.now();
        let _ = old_hot.state.stop(self.sched.until.get(), now);
        old_hot.state.donate_rest(&new_hot.state);
        self.sched.until.set(new_hot.state.start(now));
        self.sched.queue.remove(self.pin, sc);
        self.sched.queue.push_back(self.pin, old, old_hot.state.priority());
        self.sched.current.set(Some(sc));
        self.run_task(task, hot);
        self.arm_timer_for_slice();
        self.dispatch();
    }

    /// Nothing to run: counts it. The caller idles the CPU.
    pub fn note_idle(self) {
        self.sched.idle.set(true);
        self.count(Counter::Idle);
    }
}
