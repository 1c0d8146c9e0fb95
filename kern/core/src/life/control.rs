//! Ending what a task waits for: deadlines, cancel, suspend, resume, kill. All on the task's home CPU;
//! other CPUs set bits in [`Task::ctl`](kern_base::task::Task) and send its node.
//!
//! A blocked task is linked in one place, which its state names. [`Life::unwait`] takes it out of there;
//! where its message is on another CPU it asks for it back first (recall), and what was asked is done
//! when the message comes home: [`crate::outbox::mail`].

use abi::{Error, FLAG_EVENT, TaskId};
use kern_base::header::FLAG_DEAD;
use kern_base::limits::{CLIENT_STEPS, TEARDOWN_STEPS};
use kern_base::machine::Machine;
use kern_base::process::Process;
use kern_base::task::{
    FLAG_IN_FAULT, FLAG_SUSPENDED, PENDING_SENDERS, Request, Stage, State, Task, TaskHot, ctl,
};
use smp::door::Ref;
use smp::sync::Ordering::{Acquire, Relaxed};
use test_abi::trace::Event;

use crate::Refusal;
use crate::answer::write_error;
use crate::events::broadcast::progress_of;
use crate::rooms::Life;
use crate::state::{has_flag, is_dying, runnable, set_flag, set_state, state_of};

/// Whether a task was taken out of what it waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unwait {
    /// It waits for nothing now.
    Done,
    /// Its message is elsewhere and has been asked back.
    Recalled,
}

impl<'k, M: Machine> Life<'k, M> {
    /// Ends a wait with an error: the task goes on, with its time back. Nothing for a task that does not wait.
    pub fn fail_wait(self, task: Ref<'k, Task>, hot: &'k TaskHot, error: Error) {
        let waits = !matches!(
            state_of(hot),
            State::Fresh | State::Ready | State::Faulted | State::Dead | State::Restart
        );
        if !waits || is_dying(hot) || error == Error::Cancelled && has_flag(hot, FLAG_IN_FAULT) {
            return;
        }
        let detail = if self.ipc().waits_in_broadcast(task) { progress_of(hot) } else { 0 };
        hot.recall.set(error as u8);
        if self.unwait(task, hot, false) == Unwait::Recalled {
            return;
        }
        hot.recall.set(0);
        if matches!(state_of(hot), State::Sending | State::Await | State::AwaitTimed) {
            self.trace().event(|| Event::CallOver { caller: task.get().id(), error: error as u8 });
        }
        if has_flag(hot, FLAG_IN_FAULT) {
            return self.ipc().fault_failed(task, hot, error);
        }
        self.payload().take_pages_back(task, hot);
        write_error(&hot.regs, error, detail, TaskId::NONE);
        self.time().make_ready(task, hot);
    }

    /// Takes a task out of what it waits for. It is left in its state, linked nowhere. With `leave`, the time
    /// that its call lent stays with whoever has it.
    fn unwait(self, task: Ref<'k, Task>, hot: &'k TaskHot, leave: bool) -> Unwait {
        if hot.deadline.is_queued() {
            self.time().clear_deadline(task);
        }
        match state_of(hot) {
            State::Sending | State::Await | State::AwaitTimed => self.unlink_call(task, leave),
            State::WaitBits => {
                if let Some(n) = hot.waits_for.take(self.pin()).and_then(|n| n.get().hot.open(self.pin())) {
                    n.waiter.set(None);
                }
            }
            State::Restart if self.has_block(task) => self.grace().unlink_grace_waiter(task, hot),
            State::AwaitRemote | State::Restart => {
                self.outbox().recall(task, hot, leave);
                return Unwait::Recalled;
            }
            _ => {}
        }
        Unwait::Done
    }

    /// Whether a task of this CPU has its message block: not with a call that is elsewhere, nor with a request.
    fn has_block(self, task: Ref<'k, Task>) -> bool {
        let under_way =
            |stage| matches!(stage, Stage::Ask | Stage::AskDone | Stage::Mourning | Stage::Out | Stage::Back);
        task.get().msg.open(self.pin()).is_some_and(|msg| !under_way(msg.stage.get()))
    }

    /// Takes a call that is on this CPU away from its callee. Its time comes back, or with `leave` stays.
    pub fn unlink_call(self, caller: Ref<'k, Task>, leave: bool) {
        let Some(msg) = caller.get().msg.open(self.pin()) else { return };
        let callee = msg.callee.take(self.pin()).and_then(|t| Some((t, self.task_hot(t)?)));
        msg.stage.set(Stage::Home);
        if let Some(reply) = msg.held.take(self.pin()) {
            self.ipc().unlink_reply(reply);
        }
        let Some((callee, hot)) = callee else { return };
        if hot.caller.is(caller) {
            self.ipc().take_caller(hot);
        } else if msg.info.get().has(FLAG_EVENT) {
            hot.posters.remove(self.pin(), caller);
        } else if hot.senders.remove(self.pin(), caller) && hot.senders.is_empty() {
            hot.pending.set(hot.pending.get() & !PENDING_SENDERS);
        }
        if leave {
            self.time().bequeath(caller, hot);
        } else {
            self.time().recover(caller, callee, hot);
        }
    }

    /// Sets control bits on a task, wherever it lives.
    pub fn send_control(self, task: Ref<'k, Task>, bits: u64) {
        if self.task_hot(task).is_some() {
            self.control(task, bits);
            return;
        }
        self.outbox().raise_control(task, bits);
    }

    /// Does what the bits in a task's control word ask. On its home CPU.
    pub fn control(self, task: Ref<'k, Task>, bits: u64) {
        let Some(hot) = self.task_hot(task) else { return };
        if bits & ctl::TEAR_DOWN != 0 {
            self.tear_down(task, hot);
        }
        if bits & ctl::KILL != 0 {
            self.kill(task, hot);
            return;
        }
        if is_dying(hot) {
            return;
        }
        if bits & ctl::LABEL != 0 {
            self.take_label(task, hot);
        }
        if bits & (ctl::SUSPEND | ctl::RESUME) != 0 {
            if task.get().to_suspend.load(Acquire) {
                self.suspend(task, hot)
            } else {
                self.resume(task, hot)
            }
            if self.task_hot(task).is_none() {
                return self.send_bits_after(task, bits);
            }
        }
        if bits & ctl::CANCEL != 0 {
            self.fail_wait(task, hot, Error::Cancelled);
        }
        if bits & ctl::SEEK != 0 {
            self.time().look_for_time(task, hot);
        }
        if bits & ctl::EVENT != 0 {
            self.events().tell_reader(hot);
        }
        if bits & ctl::ROOM != 0 {
            self.events().let_posters_in(task, hot);
        }
        if bits & ctl::RECEIVE != 0 {
            self.ipc().receive_pending(task, hot);
        }
    }

    /// Sends the other control bits after a task that its first resume has just sent to another CPU.
    #[cold]
    fn send_bits_after(self, task: Ref<'k, Task>, bits: u64) {
        let rest = bits & !(ctl::SUSPEND | ctl::RESUME | ctl::LABEL);
        if rest != 0 {
            self.outbox().raise_control(task, rest);
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

    /// Lets a suspended task go on. The first time, it moves to the CPU where it is to run.
    pub fn resume(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        if !has_flag(hot, FLAG_SUSPENDED) || self.move_to_start(task, hot) {
            return;
        }
        set_flag(hot, FLAG_SUSPENDED, false);
        match state_of(hot) {
            State::Ready => self.time().start(task, hot),
            _ if hot.pending.get() != 0 => self.ipc().receive_pending(task, hot),
            _ => {}
        }
    }

    /// Takes a ready task's context off the CPU or out of the queue; the context stays the task's.
    fn stop_running(self, task: Ref<'k, Task>, hot: &TaskHot) {
        if !runnable(hot) {
            return;
        }
        if let Some(sc) = self.time().time_of(task, hot) {
            self.time().withdraw(sc);
        }
    }

    /// Ends a task: out of what it waits for, everybody who waits for it told, never to run again.
    pub fn kill(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        if !is_dying(hot) {
            self.count_kill(task, hot);
            self.stop_running(task, hot);
            set_flag(hot, FLAG_SUSPENDED, true);
            hot.recall.set(Error::Dying as u8);
            // Time that is its own stays with whom it called; a lender's goes back.
            let leave = hot.lender.is_null();
            let _ = self.unwait(task, hot, leave);
        }
        self.go_on_dying(task, hot);
    }

    /// Ends a killed task as far as that goes now: it may have to wait for its message block, and tells its
    /// callers a bounded number at a time.
    pub fn go_on_dying(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        if matches!(state_of(hot), State::Dead | State::Faulted) {
            return;
        }
        if !self.fail_clients(task, hot) {
            self.outbox().raise_control(task, ctl::KILL);
            return;
        }
        if !self.has_block(task) || self.disowns(task, hot) {
            return;
        }
        if let Some(n) = hot.bound.take(self.pin()).and_then(|n| n.get().hot.open(self.pin())) {
            n.bound.set(None);
        }
        self.payload().take_pages_back(task, hot);
        hot.recall.set(0);
        set_state(hot, State::Dead);
        self.trace().event(|| Event::TaskDead { task: task.get().id() });
        self.security().audit_death(task);
        self.leave_process(task, hot);
        task.get().header.set_flag(FLAG_DEAD);
        self.tell_mourners(hot);
    }

    /// A task has faulted and nobody handles that: its process ends, the task itself last. Until then it
    /// carries the work on, a bounded part of it an entry, by sending itself control bits.
    pub fn begin_teardown(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        self.ipc().prepare_teardown(hot);
        self.tear_down(task, hot);
    }

    /// The next part of that. `wait_epoch` counts the task numbers that were looked at.
    fn tear_down(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        let Some(process) = hot.process.get(self.pin()).filter(|_| state_of(hot) == State::Faulted) else {
            return;
        };
        for _ in 0..TEARDOWN_STEPS {
            let at = hot.wait_epoch.get();
            let Some(number) = process.get().tasks.get(self.pin(), at as usize) else {
                if self.groups().leave_groups(process, Some(task)).is_err() {
                    break;
                }
                set_state(hot, State::Ready);
                return self.go_on_dying(task, hot);
            };
            if let Some(other) = number.get().task.get(self.pin()).filter(|other| *other != task) {
                if !other.get().owner.is(process) {
                    // Another CPU is just about to bind it, and may see that the process is dying: it is nobody's then.
                    break;
                }
                self.send_control(other, ctl::KILL);
            }
            hot.wait_epoch.set(at + 1);
        }
        self.outbox().raise_control(task, ctl::TEAR_DOWN);
    }

    /// A dying task parts with CPU time. Whether it has to wait for that, since its own is on another CPU.
    fn disowns(self, task: Ref<'k, Task>, hot: &'k TaskHot) -> bool {
        self.time().give_back(task, hot);
        let Some(own) = hot.own_sc.take(self.pin()) else { return false };
        let Some(own_hot) = self.sc_hot(own) else {
            if let Some(msg) = task.get().msg.open(self.pin()) {
                let to = own.get().hot.mail_target(self.pin());
                self.outbox().send_request(task, msg, to, Request::Disown(own.ptr()));
            }
            return true;
        };
        if own_hot.task.is(task) {
            self.time().withdraw(own);
            own_hot.task.set(None);
        }
        own_hot.owner.set(None);
        false
    }

    /// A dead task's UTCB is unmapped and its number is free for the next generation.
    fn leave_process(self, task: Ref<'k, Task>, hot: &TaskHot) {
        let Some(process) = hot.process.take(self.pin()) else { return };
        task.get().owner.set(None);
        task.get().space.set(None);
        if let Some(vspace) = process.get().vspace.get(self.pin()) {
            let _guard = vspace.get().lock(self.cpu);
            self.mem().unmap_plain(vspace, task.get().utcb_address.load(Relaxed), 1);
        }
        self.drop_number(process, task.get().id().task());
    }

    /// Callers of a dying task wake with [`Error::Dead`], its name, and their time back: whether that were all.
    fn fail_clients(self, task: Ref<'k, Task>, hot: &'k TaskHot) -> bool {
        let dead = Refusal::dead(task.get().id());
        if let Some(caller) = self.ipc().take_caller(hot) {
            self.ipc().refuse_caller(task, hot, caller, dead);
        }
        for _ in 0..CLIENT_STEPS {
            let queued = hot.senders.pop_highest(self.pin()).or_else(|| hot.posters.pop_highest(self.pin()));
            if let Some(caller) = queued {
                self.ipc().refuse_caller(task, hot, caller, dead);
            } else if let Some(reply) = hot.replies.get(self.pin()) {
                let caller = reply.get().hot.open(self.pin()).and_then(|r| r.caller.get(self.pin()));
                self.ipc().unlink_reply(reply);
                if let Some(caller) = caller {
                    self.ipc().refuse_caller(task, hot, caller, dead);
                }
            } else {
                hot.pending.set(hot.pending.get() & !PENDING_SENDERS);
                return true;
            }
        }
        false
    }

    /// Gives a task number back.
    pub fn drop_number(self, process: Ref<'k, Process>, number: u16) {
        if let Some(entry) = process.get().tasks.get(self.pin(), usize::from(number)) {
            let _lock = process.get().memberships.lock(self.cpu, &process.get().header);
            entry.get().task.set(None);
            process.get().free_number.fetch_min(number, Relaxed);
        }
    }
}
