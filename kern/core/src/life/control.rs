//! Ends what a task waits for: deadlines, cancel, suspend, resume, kill. All of it runs on the
//! task's home CPU. Other CPUs set bits in [`Task::ctl`](kern_base::task::Task) and send its node.
//!
//! A blocked task is linked in one place, which its state names. [`Life::unwait`] unlinks it there.
//! If the task's message block is on another CPU, [`Life::unwait`] recalls it, and the operation
//! continues when the block is back: [`crate::outbox::mail`].

use abi::{Error, TaskId};
use kern_base::block::Block;
use kern_base::flags::FLAG_EVENT;
use kern_base::header::FLAG_DEAD;
use kern_base::limits::{CLIENT_STEPS, TEARDOWN_STEPS};
use kern_base::machine::Machine;
use kern_base::process::Process;
use kern_base::task::{
    Ending, FLAG_IN_FAULT, FLAG_SUSPENDED, PENDING_SENDERS, Request, State, Task, TaskHot, ctl,
};
use smp::door::Ref;
use smp::sync::Ordering::{Acquire, Relaxed};
use test_abi::trace::Event;

use crate::Refusal;
use crate::ipc::ends::{End, progress_of};
use crate::rooms::Life;
use crate::state::{has_flag, is_dying, runnable, set_flag, set_state, state_of};

/// Whether a task was unlinked from what it waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unwait {
    /// It waits for nothing now.
    Done,
    /// Its message block is on another CPU, or on its way, and was recalled.
    Recalled,
}

impl<'k, M: Machine> Life<'k, M> {
    /// Ends a wait with an error: the task continues, with its time back. Does nothing to a task
    /// that does not wait or is being killed. Does not cancel a task that waits for its fault
    /// handler.
    pub fn fail_wait(self, task: Ref<'k, Task>, hot: &'k TaskHot, error: Error) {
        let waits = !matches!(
            state_of(hot),
            State::Fresh | State::Ready | State::Faulted | State::Dead | State::Restart
        );
        if !waits || is_dying(hot) || error == Error::Cancelled && has_flag(hot, FLAG_IN_FAULT) {
            return;
        }
        let detail = if self.ipc().waits_in_broadcast(task) { progress_of(hot) } else { 0 };
        hot.ending.set(Ending::Fail(error));
        if self.unwait(task, hot, false) == Unwait::Recalled {
            return;
        }
        hot.ending.set(Ending::None);
        if matches!(state_of(hot), State::Sending | State::Await | State::AwaitTimed) {
            self.ipc().note_over(task, Some(error));
        }
        self.ipc().wake_with(task, hot, End::Failed { error, detail, who: TaskId::NONE });
    }

    /// Unlinks a task from what it waits for. Its state stays. With `leave`, the time that its call
    /// lent stays with its holder.
    fn unwait(self, task: Ref<'k, Task>, hot: &'k TaskHot, leave: bool) -> Unwait {
        if hot.deadline.is_queued() {
            self.time().clear_deadline(task);
        }
        match state_of(hot) {
            State::Sending | State::Await | State::AwaitTimed => self.unlink_call(task, leave).rest(),
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

    /// Whether a task of this CPU has its message block, and the block is not under way with a call
    /// or a request.
    fn has_block(self, task: Ref<'k, Task>) -> bool {
        task.get().message(self.pin()).is_some_and(|msg| !msg.stage.get().is_under_way())
    }

    /// Takes a call or event whose message block is on this CPU away from its callee. The caller
    /// gets the time back that it lent; with `leave`, the holder keeps it.
    pub fn unlink_call(self, caller: Ref<'k, Task>, leave: bool) -> Block<'k> {
        let msg = caller.get().message(self.pin());
        let callee = msg.and_then(|msg| msg.callee.get(self.pin()));
        let found = callee.and_then(|callee| Some((callee, self.task_hot(callee)?)));
        let Some((msg, (callee, hot))) = msg.zip(found) else { no_callee(caller.get().id()) };
        let block = if let Some(reply) = msg.held.get(self.pin()) {
            self.ipc().unlink_reply(reply)
        } else if hot.caller.is(caller) {
            self.ipc().take_caller(hot)
        } else if msg.info.get().has(FLAG_EVENT) {
            hot.posters.take(self.pin(), caller)
        } else {
            hot.senders.take(self.pin(), caller)
        };
        let Some(block) = block else { no_callee(caller.get().id()) };
        if hot.senders.is_empty() {
            hot.pending.set(hot.pending.get() & !PENDING_SENDERS);
        }
        if leave {
            self.time().bequeath(caller, hot);
        } else {
            self.time().recover(caller, callee, hot);
        }
        block
    }

    /// Carries out control bits at a task of this CPU, or sends them to the task's home CPU.
    pub fn send_control(self, task: Ref<'k, Task>, bits: u64) {
        if self.task_hot(task).is_some() {
            self.control(task, bits);
            return;
        }
        self.outbox().raise_control(task, bits);
    }

    /// Carries out the bits of a task's control word, on the task's home CPU.
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

    /// Sends the remaining control bits after a task that its first resume has just sent to another
    /// CPU.
    #[cold]
    fn send_bits_after(self, task: Ref<'k, Task>, bits: u64) {
        let rest = bits & !(ctl::SUSPEND | ctl::RESUME | ctl::LABEL);
        if rest != 0 {
            self.outbox().raise_control(task, rest);
        }
    }

    /// Suspends a task. What it waits for continues, and its time stays with it.
    pub fn suspend(self, task: Ref<'k, Task>, hot: &TaskHot) {
        if has_flag(hot, FLAG_SUSPENDED) {
            return;
        }
        self.stop_running(task, hot);
        set_flag(hot, FLAG_SUSPENDED, true);
    }

    /// Lets a suspended task continue. Its first resume moves it to the CPU where it is to run.
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

    /// Takes a runnable task's context off the CPU or out of the run queue. The task keeps the
    /// context.
    fn stop_running(self, task: Ref<'k, Task>, hot: &TaskHot) {
        if !runnable(hot) {
            return;
        }
        if let Some(sc) = self.time().time_of(task, hot) {
            self.time().withdraw(sc);
        }
    }

    /// Kills a task: unlinks it from what it waits for, and fails the calls of its clients. It
    /// never runs again. The end may come later, in another entry.
    pub fn kill(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        if !is_dying(hot) {
            self.count_kill(task, hot);
            self.stop_running(task, hot);
            set_flag(hot, FLAG_SUSPENDED, true);
            hot.ending.set(Ending::Kill);
            // The task's own time stays with the callee that holds it. A lender's time goes back.
            let leave = hot.lender.is_null();
            let _ = self.unwait(task, hot, leave);
        }
        self.go_on_dying(task, hot);
    }

    /// Continues the end of a killed task as far as possible now. The task may have to wait for its
    /// message block or for its own time. A bounded number of clients is served in one entry.
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
        hot.ending.set(Ending::None);
        set_state(hot, State::Dead);
        self.trace().event(|| Event::TaskDead { task: task.get().id() });
        self.security().audit_death(task);
        self.leave_process(task, hot);
        task.get().header.set_flag(FLAG_DEAD);
        self.wake_kill_waiters(hot);
    }

    /// Begins to end the process of a task that faulted without a handler, or that kills its own
    /// process. The task itself dies last. Until then it does the work, a bounded part in each
    /// entry, by sending itself control bits.
    pub fn begin_teardown(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        self.ipc().prepare_teardown(hot);
        self.tear_down(task, hot);
    }

    /// Does the next part of the end of a task's process. `numbers_visited`
    /// counts the task numbers so far.
    fn tear_down(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        let Some(process) = hot.process.get(self.pin()).filter(|_| state_of(hot) == State::Faulted) else {
            return;
        };
        for _ in 0..TEARDOWN_STEPS {
            let at = hot.numbers_visited.get();
            let Some(number) = process.get().tasks.get(self.pin(), at as usize) else {
                if self.groups().leave_groups(process, Some(task)).is_err() {
                    break;
                }
                set_state(hot, State::Ready);
                return self.go_on_dying(task, hot);
            };
            if let Some(other) = number.get().task.get(self.pin()).filter(|other| *other != task) {
                if !other.get().owner.is(process) {
                    // Another CPU is just binding this task, and may see that the process is dying.
                    // Then the task belongs to no process.
                    break;
                }
                self.send_control(other, ctl::KILL);
            }
            hot.numbers_visited.set(at + 1);
        }
        self.outbox().raise_control(task, ctl::TEAR_DOWN);
    }

    /// Takes CPU time away from a dying task. Returns whether the task must wait, because its own
    /// time is on another CPU.
    fn disowns(self, task: Ref<'k, Task>, hot: &'k TaskHot) -> bool {
        self.time().give_back(task, hot);
        let Some(own) = hot.own_sc.take(self.pin()) else { return false };
        let Some(own_hot) = self.sc_hot(own) else {
            let to = own.get().hot.mail_target(self.pin());
            self.outbox().send_request(task, hot, to, Request::Disown(own.ptr()));
            return true;
        };
        if own_hot.task.is(task) {
            self.time().withdraw(own);
            own_hot.task.set(None);
        }
        own_hot.owner.set(None);
        false
    }

    /// Unmaps a dead task's UTCB, and frees its number for the next generation.
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

    /// Wakes the clients of a dying task, at most a bounded number, with [`Error::Dead`], the
    /// task's name, and their time back. Returns whether those were all.
    fn fail_clients(self, task: Ref<'k, Task>, hot: &'k TaskHot) -> bool {
        let dead = Refusal::dead(task.get().id());
        if let Some(block) = self.ipc().take_caller(hot) {
            self.ipc().refuse(block, dead);
        }
        for _ in 0..CLIENT_STEPS {
            let waiting = hot.senders.pop(self.pin()).or_else(|| hot.posters.pop(self.pin()));
            let block = match (waiting, hot.replies.get(self.pin())) {
                (Some(block), _) => block,
                (None, Some(reply)) => {
                    let Some(block) = self.ipc().unlink_reply(reply) else { continue };
                    block
                }
                (None, None) => {
                    hot.pending.set(hot.pending.get() & !PENDING_SENDERS);
                    return true;
                }
            };
            self.ipc().refuse(block, dead);
        }
        false
    }

    /// Frees a task number.
    pub fn drop_number(self, process: Ref<'k, Process>, number: u16) {
        if let Some(entry) = process.get().tasks.get(self.pin(), usize::from(number)) {
            let _lock = process.get().memberships.lock(self.cpu, &process.get().header);
            entry.get().task.set(None);
            process.get().free_number.fetch_min(number, Relaxed);
        }
    }
}

#[cold]
#[inline(never)]
fn no_callee(caller: TaskId) -> ! {
    panic!("the message block of task {caller:?} is on this CPU, and no callee has it");
}
