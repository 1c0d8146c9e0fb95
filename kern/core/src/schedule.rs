//! Who runs: run queues of SchedContexts, strict priorities, round robin within one.
//!
//! # Invariants, between entries, for every SchedContext `s` homed here
//! * `s.task` is the task that `s` belongs to now: its owner, or whoever a chain of calls handed it to.
//! * `s` is running (`sched.current`), queued, or neither; queued or running exactly when `s.task` is
//!   ready, not suspended, and `s` is that task's `sc`.
//! * The running context has the highest priority of all queued ones or equals it.
//! * `sched.until` is when the slice of the running context will be over.
//!
//! The timer is programmed lazily: it may fire early (then it is set again), never late.

use abi::Counter;
use kern_base::machine::Machine;
use kern_base::sched_context::{SchedContext, SchedHot};
use kern_base::task::{FLAG_NEVER, FLAG_SUSPENDED, FLAG_VECTOR, State, Task, TaskHot, state_half};
use sched::NEVER;
use smp::door::Ref;

use crate::Cx;

/// Longest chain of calls that CPU time is followed along in one entry.
const CHAIN_LIMIT: usize = 32;

/// The state word's parts.
#[inline(always)]
pub fn state_of(hot: &TaskHot) -> State {
    State::ALL[(hot.state.get() as u8 as usize).min(State::ALL.len() - 1)]
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
    word as u8 == State::Ready as u8 && word & (u64::from(FLAG_SUSPENDED) << 8) == 0
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
        let vector = if has_flag(hot, FLAG_VECTOR) { FLAG_NEVER } else { 0 };
        self.hot.recv_half.set(u64::from(state_half(State::Recv, vector, self.id())));
        self.hot.await_half.set(u64::from(state_half(State::Await, vector, self.id())));
    }

    /// Hands the running context to `task`, which becomes ready and runs.
    #[inline(always)]
    pub fn hand_over(self, sc: Ref<'k, SchedContext>, sc_hot: &SchedHot, task: Ref<'k, Task>, hot: &TaskHot) {
        hot.sc.set(Some(sc));
        sc_hot.task.set(Some(task));
        self.run_task(task, hot);
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
    #[inline]
    pub fn dispatch(self) {
        if let Some((sc, hot)) = self.running() {
            let priority = hot.state.priority();
            if !self.sched.queue.outranks(self.pin, priority) {
                return;
            }
            self.stop_current();
            self.sched.queue.push_front(self.pin, sc, priority);
        }
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
        if let Some(sc) = self.stop_current() {
            self.settle(sc);
        }
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

    /// Finds who should run on a context that is neither running nor queued: its owner, or along the
    /// owner's calls whoever serves them and has no time of its own. Queues it if that task can run.
    pub fn settle(self, sc: Ref<'k, SchedContext>) {
        let Some(sc_hot) = self.sc_hot(sc) else { return };
        let Some(mut task) = sc_hot.task.get(self.pin) else { return };
        for _ in 0..CHAIN_LIMIT {
            let Some(hot) = self.task_hot(task) else {
                // It serves, or belongs to, a task of another CPU: it goes there.
                sc_hot.task.set(Some(task));
                self.send_time(sc, task.get().hot.home());
                return;
            };
            if runnable(hot) {
                if hot.sc.is_null() || hot.sc.is(sc) {
                    hot.sc.set(Some(sc));
                    sc_hot.task.set(Some(task));
                    self.enqueue(sc);
                    return;
                }
                break;
            }
            match self.serving(task, hot) {
                Some(callee) => task = callee,
                None => break,
            }
        }
        // Nobody can use it now: it rests with its holder.
    }

    /// Who serves the call that `task` waits in, on this CPU.
    fn serving(self, task: Ref<'k, Task>, hot: &TaskHot) -> Option<Ref<'k, Task>> {
        match state_of(hot) {
            State::Sending | State::Await | State::AwaitTimed => task.get().msg.open(self.pin)?.callee.get(self.pin),
            _ => None,
        }
    }

    /// `task` gives up a context that is not its own: back to the owner, who passes it on as `settle` says.
    pub fn give_back(self, task: Ref<'k, Task>, hot: &TaskHot) {
        let Some(sc) = hot.sc.get(self.pin) else { return };
        if hot.own_sc.is(sc) {
            return;
        }
        hot.sc.set(hot.own_sc.get(self.pin));
        let Some(sc_hot) = self.sc_hot(sc) else { return };
        if !sc_hot.task.is(task) {
            return;
        }
        self.withdraw(sc);
        sc_hot.task.set(sc_hot.owner.get(self.pin));
        self.settle(sc);
    }

    /// Takes a context off the CPU or out of the queue, wherever it is here.
    pub fn withdraw(self, sc: Ref<'k, SchedContext>) {
        if self.sched.current.is(sc) {
            self.stop_current();
        } else {
            self.sched.queue.remove(self.pin, sc);
        }
    }

    /// `task` became runnable: queues its context, or borrows its highest waiting caller's.
    pub fn make_ready(self, task: Ref<'k, Task>, hot: &TaskHot) {
        set_state(hot, State::Ready);
        if has_flag(hot, FLAG_SUSPENDED) {
            return;
        }
        self.start(task, hot);
    }

    /// Queues the context that a runnable task may use: the one it last had, its own, or its best
    /// waiting caller's. Without one it stays ready until somebody calls it or gives it time.
    pub fn start(self, task: Ref<'k, Task>, hot: &TaskHot) {
        let mine = |sc: &Ref<'k, SchedContext>| self.sc_hot(*sc).is_some_and(|h| h.task.is(task));
        let sc = hot.sc.get(self.pin).filter(mine).or_else(|| hot.own_sc.get(self.pin).filter(mine));
        let Some(sc) = sc.or_else(|| self.borrowable(hot)) else {
            hot.sc.set(None);
            return;
        };
        let Some(sc_hot) = self.sc_hot(sc) else { return };
        hot.sc.set(Some(sc));
        sc_hot.task.set(Some(task));
        if !self.sched.current.is(sc) && !self.sched.queue.contains(self.pin, sc) {
            self.enqueue(sc);
        }
    }

    /// The context of the best caller that waits for `hot`'s task: one it serves, or one queued.
    fn borrowable(self, hot: &TaskHot) -> Option<Ref<'k, SchedContext>> {
        let caller = hot.caller.get(self.pin).or_else(|| hot.senders.first(self.pin))?;
        let sc = self.callers_time(caller)?;
        self.sc_hot(sc)?.task.is(caller).then_some(sc)
    }

    /// The context that came with a call which is on this CPU.
    pub fn callers_time(self, caller: Ref<'k, Task>) -> Option<Ref<'k, SchedContext>> {
        match self.task_hot(caller) {
            Some(hot) => hot.sc.get(self.pin),
            None => caller.get().msg.open(self.pin)?.sc.get(self.pin),
        }
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
