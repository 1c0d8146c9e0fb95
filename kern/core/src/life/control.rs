//! Ends what a task waits for: deadlines, cancel, suspend, resume, kill. All of it runs on the
//! task's home CPU. Other CPUs set bits in [`Task::ctl`](kern_base::task::Task) and send its node.
//!
//! A blocked task is linked in one place, which its state names. [`Life::unwait`] unlinks it there.
//! If the task's message block is on another CPU, [`Life::unwait`] recalls it, and the operation
//! continues when the block is back: [`crate::outbox::mail`].

use abi::status::SchedEvent;
use abi::{Error, TaskId};
use kern_base::block::Block;
use kern_base::flags::FLAG_LOCK;
use kern_base::header::FLAG_DEAD;
use kern_base::limits::WAKE_WORK;
use kern_base::machine::Machine;
use kern_base::process::Process;
use kern_base::reply::Reply;
use kern_base::task::{Ending, FLAG_IN_FAULT, FLAG_SUSPENDED, OpenTask, Request, State, Task, ctl};
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;
use test_abi::trace::Event;

use crate::Refusal;
use crate::events::locks::owner_died;
use crate::ipc::ends::{End, no_callee, progress_of};
use crate::rooms::Life;
use crate::work::LOOK_WORK;

/// Whether a task was unlinked from what it waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unwait {
    /// It waits for nothing now.
    Done,
    /// Its message block is on another CPU, or on its way, and was recalled.
    Recalled,
}

/// How far the clients of a dying task were told in an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clients {
    /// It had none.
    None,
    /// All were told.
    Told,
    /// Some were told, and others are left.
    Left,
}

impl<'k, M: Machine> Life<'k, M> {
    /// Ends a wait with an error: the task continues, with its time back. Does nothing to a task
    /// that does not wait or is being killed, or whose wait has ended already and which only waits
    /// for its message. Does not cancel a task that waits for its fault handler.
    #[inline(never)]
    pub fn fail_wait(self, task: OpenTask<'k>, error: Error) {
        let waits = !matches!(
            task.state(),
            State::Fresh | State::Ready | State::Faulted | State::Exhausted | State::Dead | State::Restart
        );
        if !waits
            || task.ending() != Ending::None
            || error == Error::Cancelled && task.has_flag(FLAG_IN_FAULT)
        {
            return;
        }
        let detail = if self.ipc().waits_in_broadcast(task.object()) { progress_of(task.part()) } else { 0 };
        task.fail_wait_with(error);
        if self.unwait(task, false) == Unwait::Recalled {
            return;
        }
        task.end_wait();
        if matches!(task.state(), State::Sending | State::Await | State::AwaitTimed) {
            self.ipc().note_over(task.object(), Some(error));
        }
        self.ipc().wake_with(task, End::Failed { error, detail, who: TaskId::NONE });
    }

    /// Unlinks a task from what it waits for, without changing its state. With `leave`, the CPU
    /// time that its call lent stays with the holder of that time.
    fn unwait(self, task: OpenTask<'k>, leave: bool) -> Unwait {
        self.time().clear_deadline(task);
        match task.state() {
            State::Sending | State::Await | State::AwaitTimed => {
                self.unlink_call(task.object(), leave).rest()
            }
            State::WaitBits => task.cancel_wait_for_bits(self.pin()),
            State::Restart if self.time().has_block(task.object()) => {
                self.sched.grace_waiters.remove(self.pin(), task.object());
            }
            State::AwaitRemote | State::Restart => {
                self.outbox().recall(task, leave);
                return Unwait::Recalled;
            }
            _ => {}
        }
        Unwait::Done
    }

    /// Takes a call or event whose message block is on this CPU away from its callee. The caller
    /// gets the time back that it lent; with `leave`, the holder keeps it, unless that is the owner
    /// of a lock.
    pub fn unlink_call(self, caller: Ref<'k, Task>, mut leave: bool) -> Block<'k> {
        let msg = caller.get().message(self.pin());
        let callee = msg.and_then(|msg| msg.callee(self.pin()));
        let Some((msg, callee)) = msg.zip(callee) else { no_callee(caller.get().id()) };
        let Some(callee) = self.open(callee) else { return self.unlink_follower(caller) };
        let block = if let Some(reply) = msg.held(self.pin()) {
            Reply::release(reply, self.pin())
        } else if callee.serves(caller) {
            callee.take_caller(self.pin())
        } else {
            leave &= !msg.info().has(FLAG_LOCK);
            match callee.take_waiting(self.pin(), caller, msg.info()) {
                // The callee has left this CPU, and is back before the call could follow it.
                None => return self.unlink_follower(caller),
                block => block,
            }
        };
        let Some(block) = block else { no_callee(caller.get().id()) };
        if leave {
            callee.time.end_loan_of(caller);
        } else {
            self.time().recover(caller, callee);
        }
        if callee.is_to_move() {
            self.time().leave_if_free(callee);
        }
        block
    }

    /// Carries out control bits at a task of this CPU, or sends them to the task's home CPU.
    pub fn send_control(self, task: Ref<'k, Task>, bits: u64) {
        match self.open(task) {
            Some(task) => self.control(task, bits),
            None => self.outbox().raise_control(task, bits),
        }
    }

    /// Carries out the bits of a task's control word, on the task's home CPU.
    pub fn control(self, task: OpenTask<'k>, bits: u64) {
        if bits & ctl::TEAR_DOWN != 0 {
            self.tear_down(task);
        }
        if bits & ctl::KILL != 0 {
            self.kill(task);
            return;
        }
        if task.is_dying() {
            return;
        }
        if bits & ctl::LABEL != 0 {
            self.take_label(task);
        }
        if bits & (ctl::SUSPEND | ctl::RESUME) != 0 {
            if !task.get().is_to_suspend() {
                self.resume(task);
            } else {
                self.suspend(task);
                if task.is_to_move() {
                    self.leave_for(task, task.start_on());
                }
            }
            if self.open(task.object()).is_none() {
                return self.send_bits_after(task.object(), bits);
            }
        }
        if bits & ctl::CANCEL != 0 {
            self.fail_wait(task, Error::Cancelled);
        }
        if bits & ctl::SEEK != 0 {
            self.time().look_for_time(task);
        }
        if bits & ctl::EVENT != 0 {
            self.events().tell_reader(task.part());
        }
        if bits & (ctl::ROOM | ctl::PASS) != 0 {
            self.let_go_on(task, bits);
        }
        if bits & ctl::RECEIVE != 0 {
            self.ipc().receive_pending(task);
        }
    }

    /// Lets tasks go on that wait for room in a task's pool, or for its locks.
    #[cold]
    #[inline(never)]
    fn let_go_on(self, task: OpenTask<'k>, bits: u64) {
        if bits & ctl::ROOM != 0 {
            self.events().let_posters_in(task);
        }
        if bits & ctl::PASS != 0 {
            self.events().wake_lock_waiters(task);
        }
    }

    /// Sends the remaining control bits after a task that has just left for another CPU.
    #[cold]
    fn send_bits_after(self, task: Ref<'k, Task>, bits: u64) {
        let rest = bits & !(ctl::SUSPEND | ctl::RESUME | ctl::LABEL);
        if rest != 0 {
            self.outbox().raise_control(task, rest);
        }
    }

    /// Suspends a task. A wait of the task continues, and the task keeps its CPU time.
    pub fn suspend(self, task: OpenTask<'k>) {
        if task.has_flag(FLAG_SUSPENDED) {
            return;
        }
        self.time().stop_running(task);
        task.suspend();
    }

    /// Lets a suspended task continue. If it is to run on another CPU, and nothing keeps it here,
    /// it goes there.
    #[inline(always)]
    pub fn resume(self, task: OpenTask<'k>) {
        if !task.has_flag(FLAG_SUSPENDED) || self.move_to_start(task) {
            return;
        }
        task.resume();
        match task.state() {
            State::Ready => {
                task.end_awaited();
                self.time().start(task);
                self.time().take_better(task);
            }
            _ if task.has_pending() => self.ipc().receive_pending(task),
            _ => {}
        }
    }

    /// Kills a task, which never runs again: unlinks it from what it waits for, and fails the calls
    /// of its clients. The end may come later, in another entry.
    pub fn kill(self, task: OpenTask<'k>) {
        if !task.is_dying() {
            self.count_kill(task);
            self.time().stop_running(task);
            task.mark_killed();
            // The task's own time stays with the callee that holds it. A lender's time goes back.
            let leave = task.time.lender(self.pin()).is_none();
            let _ = self.unwait(task, leave);
        }
        self.go_on_dying(task);
    }

    /// Continues the end of a killed task as far as possible now. The task may have to wait for its
    /// message block or for its own time. A bounded number of clients is served in one entry.
    pub fn go_on_dying(self, task: OpenTask<'k>) {
        if matches!(task.state(), State::Dead | State::Faulted) {
            return;
        }
        let clients = self.fail_clients(task);
        // Pages that the task itself has lent come back in an entry that tells no clients.
        if clients == Clients::Left || clients == Clients::Told && task.lends_pages() {
            self.outbox().raise_control(task.object(), ctl::KILL);
            return;
        }
        if !self.time().has_block(task.object()) || self.disowns(task) {
            return;
        }
        task.unbind(self.pin());
        self.payload().take_pages_back(task);
        self.drop_zombies(task.object());
        task.die();
        self.trace().event(|| Event::TaskDead { task: task.get().id() });
        self.security().audit_death(task.object());
        self.leave_process(task);
        task.get().header.set_flag(FLAG_DEAD);
        self.answer_kill_waiters(task.part());
    }

    /// Begins to end the process of a task that faulted without a handler, or that kills its own
    /// process. The task itself dies last. Until then it does the work, a bounded part in each
    /// entry, by sending itself control bits.
    pub fn begin_teardown(self, task: OpenTask<'k>) {
        self.ipc().prepare_teardown(task.part());
        self.tear_down(task);
    }

    /// Does the next part of the end of a task's process ([`Life::begin_teardown`]). The task's
    /// `numbers_visited` counts the task numbers that were visited so far.
    fn tear_down(self, task: OpenTask<'k>) {
        let Some(process) = task.process_if_any(self.pin()).filter(|_| task.state() == State::Faulted) else {
            return;
        };
        let number_at = |at| process.get().tasks.get(self.pin(), at);
        // Not behind other work of the same entry.
        let leaves_first = number_at(task.numbers_visited()).is_none();
        loop {
            let Some(number) = number_at(task.numbers_visited()) else {
                if self.groups().leave_groups(process, Some(task.object()), leaves_first).is_err() {
                    break;
                }
                task.end_visits();
                return self.go_on_dying(task);
            };
            if let Some(other) = number.get().task.get(self.pin()).filter(|other| *other != task.object()) {
                if other.get().owner(self.pin()) != Some(process) {
                    // Another CPU is just binding this task, and may see that the process is dying.
                    // Then the task belongs to no process.
                    break;
                }
                self.send_control(other, ctl::KILL);
                self.note_work(WAKE_WORK);
            }
            task.visit_number();
            if !self.spend(LOOK_WORK) {
                break;
            }
        }
        self.outbox().raise_control(task.object(), ctl::TEAR_DOWN);
    }

    /// Takes CPU time away from a dying task. Returns whether the task must wait for its own time,
    /// which is on another CPU.
    fn disowns(self, task: OpenTask<'k>) -> bool {
        self.time().give_back(task);
        let Some(own) = task.time.unbind(self.pin()) else { return false };
        let Some(own) = self.open_time(own) else {
            let to = own.get().hot.mail_target(self.pin());
            self.outbox().send_request(task, to, Request::Disown(own.ptr()));
            return true;
        };
        if own.task.is(task.object()) {
            self.time().withdraw(own.object());
            own.task.set(None);
        }
        self.time().tell_event(own, SchedEvent::Died, 0);
        own.owner.set(None);
        false
    }

    /// Unmaps a dead task's UTCB, and frees its number for another task.
    fn leave_process(self, task: OpenTask<'k>) {
        // A task that was never configured has no process.
        let Some(process) = task.get().leave(self.pin(), task.part()) else { return };
        if let Some(vspace) = process.get().vspace.get(self.pin()) {
            let _guard = vspace.get().lock(self.cpu);
            self.mem().unmap_plain(vspace, task.get().utcb_address(), 1);
        }
        self.drop_number(process, task.object());
        self.time().leave_place(task.start_on());
        if task.is_to_move() {
            self.time().leave_place(self.id());
        }
    }

    /// Wakes the clients of a dying task, as many as this entry may, with [`Error::Dead`], the
    /// task's name, and their time back. The first is told without asking for work.
    fn fail_clients(self, task: OpenTask<'k>) -> Clients {
        let dead = Refusal::dead(task.get().id());
        let mut clients = Clients::None;
        loop {
            if clients == Clients::Told && !self.has_work(WAKE_WORK) {
                return Clients::Left;
            }
            let waiting = task.take_caller(self.pin()).or_else(|| task.next_call(self.pin()));
            let waiting = waiting.or_else(|| task.posters.pop(self.pin()));
            let block = match (waiting, task.first_reply(self.pin())) {
                (Some(block), _) => Some(block),
                (None, Some(reply)) => Reply::release(reply, self.pin()),
                (None, None) if task.waiters.is_empty() => return clients,
                (None, None) => return self.fail_lock_waiters(task, clients),
            };
            clients = Clients::Told;
            if let Some(block) = block {
                self.ipc().refuse(block, dead);
            }
            self.note_work(WAKE_WORK);
        }
    }

    /// Wakes the tasks that wait for locks of a dying task, as many as this entry may, with
    /// [`Error::OwnerDied`], the task's name, and their time back. `clients` says how far others
    /// were told in this entry.
    #[cold]
    #[inline(never)]
    fn fail_lock_waiters(self, task: OpenTask<'k>, clients: Clients) -> Clients {
        let mut clients = clients;
        while clients == Clients::None || self.has_work(WAKE_WORK) {
            let Some(block) = task.waiters.pop(self.pin()) else { return clients };
            clients = Clients::Told;
            self.ipc().refuse(block, owner_died(task.get().id()));
            self.note_work(WAKE_WORK);
        }
        Clients::Left
    }

    /// Frees the number that a task has in its process, for another task. The process may end after
    /// that, so the task must not lead to the process any more.
    pub fn drop_number(self, process: Ref<'k, Process>, task: Ref<'k, Task>) {
        let number = task.get().number();
        task.get().unbind_number();
        if let Some(entry) = process.get().tasks.get(self.pin(), number) {
            let _lock = process.get().memberships.lock(self.cpu, &process.get().header);
            entry.get().task.set(None);
            process.get().free_number.fetch_min(number as u16, Relaxed);
        }
    }
}
