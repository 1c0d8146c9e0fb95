//! Ending what a task waits for: deadlines, cancel, suspend, resume, kill. All on the task's home CPU;
//! other CPUs set bits in [`Task::ctl`](kern_base::task::Task) and send its node.
//!
//! A blocked task is linked in one place, which its state names. [`Cx::unwait`] takes it out of there;
//! where its message is on another CPU it asks for it back first (recall), and what was asked is done
//! when the message comes home: [`crate::remote`].

use abi::{Error, TaskId};
use core::sync::atomic::Ordering::Relaxed;
use kern_base::header::FLAG_DEAD;
use kern_base::machine::Machine;
use kern_base::task::{FLAG_SUSPENDED, PENDING_SENDERS, Stage, State, Task, TaskHot, ctl};
use smp::door::Ref;

use crate::answer::write_error;
use crate::schedule::{has_flag, runnable, set_flag, set_state, state_of};
use crate::Cx;

/// Whether a task was taken out of what it waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unwait {
    /// It waits for nothing now.
    Done,
    /// Its message is elsewhere and has been asked back.
    Recalled,
}

impl<'k, M: Machine> Cx<'k, M> {
    /// Puts a task on this CPU's deadline queue.
    pub fn set_deadline(self, task: Ref<'k, Task>, at: u64) {
        self.sched.deadlines.insert(self.pin, task, at);
        self.arm_timer(at);
    }

    /// Takes it off.
    pub fn clear_deadline(self, task: Ref<'k, Task>) {
        self.sched.deadlines.remove(self.pin, task);
    }

    /// Ends with [`Error::Timeout`] every wait whose deadline has passed.
    pub fn expire_deadlines(self, now: u64) {
        while let Some(task) = self.sched.deadlines.pop_expired(self.pin, now) {
            if let Some(hot) = self.task_hot(task) {
                self.fail_wait(task, hot, Error::Timeout);
            }
        }
    }

    /// Ends a wait with an error: the task goes on, with its time back. Nothing for a task that does not wait.
    pub fn fail_wait(self, task: Ref<'k, Task>, hot: &TaskHot, error: Error) {
        if matches!(state_of(hot), State::Fresh | State::Ready | State::Faulted | State::Dead | State::Restart) {
            return;
        }
        hot.recall.set(error as u8);
        if self.unwait(task, hot) == Unwait::Recalled {
            return;
        }
        hot.recall.set(0);
        self.take_back(task, hot);
        write_error(&hot.regs, error, 0, TaskId::NONE);
        self.make_ready(task, hot);
    }

    /// Takes a task out of what it waits for. It is left in its state, linked nowhere.
    pub fn unwait(self, task: Ref<'k, Task>, hot: &TaskHot) -> Unwait {
        if hot.deadline.is_queued() {
            self.clear_deadline(task);
        }
        match state_of(hot) {
            State::Sending | State::Await | State::AwaitTimed => self.unlink_call(task),
            State::AwaitRemote => {
                self.recall(task);
                return Unwait::Recalled;
            }
            State::WaitBits => {
                if let Some(n) = hot.waits_for.take(self.pin).and_then(|n| n.get().hot.open(self.pin)) {
                    n.waiter.set(None);
                }
            }
            State::Restart => return self.unwait_restart(task, hot),
            _ => {}
        }
        Unwait::Done
    }

    /// Takes a call that is on this CPU away from its callee.
    pub fn unlink_call(self, caller: Ref<'k, Task>) {
        let Some(msg) = caller.get().msg.open(self.pin) else { return };
        if let Some(reply) = msg.held.take(self.pin) {
            self.unlink_reply(reply);
        } else if let Some((callee, hot)) = msg.callee.get(self.pin).and_then(|t| Some((t, self.task_hot(t)?))) {
            let _ = callee;
            if hot.caller.is(caller) {
                hot.caller.set(None);
            } else if msg.stage.get() == Stage::Queued {
                hot.senders.remove(self.pin, caller);
                if hot.senders.is_empty() {
                    hot.pending.set(hot.pending.get() & !PENDING_SENDERS);
                }
            }
        }
        msg.callee.set(None);
        msg.stage.set(Stage::Home);
    }

    /// A task that goes on without its call being answered takes its time back from whoever has it.
    fn take_back(self, task: Ref<'k, Task>, hot: &TaskHot) {
        let Some(sc) = hot.sc.get(self.pin) else { return };
        let Some(sc_hot) = self.sc_hot(sc) else { return };
        let Some(holder) = sc_hot.task.get(self.pin) else { return };
        if holder == task || !hot.own_sc.is(sc) {
            return;
        }
        let Some(holder_hot) = self.task_hot(holder) else { return };
        self.withdraw(sc);
        sc_hot.task.set(Some(task));
        holder_hot.sc.set(holder_hot.own_sc.get(self.pin));
        if runnable(holder_hot) {
            self.start(holder, holder_hot);
        }
    }

    /// Does what the bits in a task's control word ask. On its home CPU.
    pub fn control(self, task: Ref<'k, Task>, bits: u64) {
        let Some(hot) = self.task_hot(task) else { return };
        if state_of(hot) == State::Dead {
            return;
        }
        if bits & ctl::KILL != 0 {
            self.kill(task, hot);
            return;
        }
        if bits & ctl::SUSPEND != 0 {
            self.suspend(task, hot);
        }
        if bits & ctl::RESUME != 0 {
            self.resume(task, hot);
        }
        if bits & ctl::CANCEL != 0 {
            self.fail_wait(task, hot, Error::Cancelled);
        }
    }

    /// Stops a task where it is. What it waits for goes on; its time rests with it.
    pub fn suspend(self, task: Ref<'k, Task>, hot: &TaskHot) {
        if has_flag(hot, FLAG_SUSPENDED) {
            return;
        }
        self.stop_running(task, hot);
        set_flag(hot, FLAG_SUSPENDED, true);
    }

    pub fn resume(self, task: Ref<'k, Task>, hot: &TaskHot) {
        if !has_flag(hot, FLAG_SUSPENDED) {
            return;
        }
        set_flag(hot, FLAG_SUSPENDED, false);
        match state_of(hot) {
            State::Ready => self.start(task, hot),
            State::Recv | State::RecvTimed if hot.pending.get() != 0 => self.receive_pending(task, hot),
            _ => {}
        }
    }

    /// Takes a ready task's context off the CPU or out of the queue; the context stays the task's.
    fn stop_running(self, task: Ref<'k, Task>, hot: &TaskHot) {
        if !runnable(hot) {
            return;
        }
        if let Some(sc) = hot.sc.get(self.pin) {
            if self.sc_hot(sc).is_some_and(|h| h.task.is(task)) {
                self.withdraw(sc);
            }
        }
        if self.hot.current.is(task) {
            self.stop_current();
        }
    }

    /// Ends a task: out of what it waits for, everybody who waits for it told, never to run again.
    pub fn kill(self, task: Ref<'k, Task>, hot: &TaskHot) {
        if state_of(hot) == State::Dead {
            return;
        }
        hot.recall.set(Error::Dying as u8);
        if runnable(hot) {
            self.stop_running(task, hot);
        }
        set_flag(hot, FLAG_SUSPENDED, true);
        self.fail_clients(task, hot);
        if self.unwait(task, hot) == Unwait::Recalled {
            return;
        }
        self.finish_kill(task, hot);
    }

    /// The second half of a kill, when the task's message is home.
    pub fn finish_kill(self, task: Ref<'k, Task>, hot: &TaskHot) {
        self.fail_clients(task, hot);
        self.give_back(task, hot);
        if let Some(own) = hot.own_sc.take(self.pin) {
            if let Some(sc) = self.sc_hot(own) {
                sc.owner.set(None);
                if sc.task.is(task) {
                    self.withdraw(own);
                    sc.task.set(None);
                }
            }
        }
        hot.sc.set(None);
        if let Some(n) = hot.bound.take(self.pin).and_then(|n| n.get().hot.open(self.pin)) {
            n.bound.set(None);
        }
        hot.recall.set(0);
        set_state(hot, State::Dead);
        self.leave_process(task, hot);
        task.get().header.set_flag(FLAG_DEAD);
    }

    /// A dead task's UTCB is unmapped and its number is free for the next generation.
    fn leave_process(self, task: Ref<'k, Task>, hot: &TaskHot) {
        let Some(process) = hot.process.take(self.pin) else { return };
        if let Some(vspace) = process.get().vspace.get(self.pin) {
            let _guard = vspace.get().lock.lock();
            self.k.machine.unmap(vspace.get(), task.get().utcb_address.load(Relaxed), 12);
        }
        self.drop_number(process, task.get().id().task());
    }

    /// Everybody who waits for a dying task's answer is told, with its name.
    fn fail_clients(self, task: Ref<'k, Task>, hot: &TaskHot) {
        let who = task.get().id();
        while let Some(caller) = hot.senders.pop_highest(self.pin) {
            self.fail_caller(task, caller, who);
        }
        hot.pending.set(hot.pending.get() & !PENDING_SENDERS);
        if let Some(caller) = hot.caller.take(self.pin) {
            self.fail_caller(task, caller, who);
        }
        while let Some(reply) = hot.replies.get(self.pin) {
            let caller = reply.get().hot.open(self.pin).and_then(|r| r.caller.get(self.pin));
            self.unlink_reply(reply);
            if let Some(caller) = caller {
                self.fail_caller(task, caller, who);
            }
        }
    }

    /// One caller of a task that died: wakes with [`Error::Dead`] and the name of the dead, its time back.
    fn fail_caller(self, dead: Ref<'k, Task>, caller: Ref<'k, Task>, who: TaskId) {
        let Some(hot) = self.task_hot(caller) else {
            self.fail_remote(caller, Error::Dead, who);
            return;
        };
        if hot.deadline.is_queued() {
            self.clear_deadline(caller);
        }
        if let Some(msg) = caller.get().msg.open(self.pin) {
            msg.callee.set(None);
            msg.held.set(None);
            msg.stage.set(Stage::Home);
        }
        if let Some(sc) = hot.sc.get(self.pin) {
            if let Some(sc_hot) = self.sc_hot(sc).filter(|h| h.task.is(dead)) {
                self.withdraw(sc);
                sc_hot.task.set(Some(caller));
                if let Some(dead_hot) = self.task_hot(dead).filter(|h| h.sc.is(sc)) {
                    dead_hot.sc.set(dead_hot.own_sc.get(self.pin));
                }
            }
        }
        write_error(&hot.regs, Error::Dead, 0, who);
        self.make_ready(caller, hot);
    }
}
