//! Mail that this CPU receives: serves calls and replies of other CPUs, control bits and
//! Notification bits, and passes all other mail to the room that handles it. What is sent, and who
//! owns a message block meanwhile: [`crate::outbox::mail`].

use abi::{Counter, Error, FLAG_EVENT, TaskId};
use kern_base::cpu::Mail;
use kern_base::header::{FLAG_DEAD, FLAG_DYING};
use kern_base::limits::DRAIN_STEPS;
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::task::{Ending, FLAG_IN_FAULT, Message, Outcome, Stage, State, Task, TaskHot, ctl};
use smp::door::Ref;
use smp::mailbox::Drained;
use smp::shootdown::What;
use smp::sync::Ordering::Acquire;
use test_abi::trace::Event;

use crate::answer::{write_error, write_values};
use crate::events::broadcast::progress_of;
use crate::ipc::call::is_broadcast;
use crate::ipc::call::{SenderInfo, Words};
use crate::outbox::mail::RecallRequest;
use crate::rooms::Door;
use crate::state::{has_flag, is_dying, set_state};
use crate::time::schedule::Running;

impl<'k, M: Machine> Door<'k, M> {
    /// Takes a bounded number of messages from this CPU's mailbox, and lets the best task run. If
    /// there was only one message, and it let one task run on the fast path, returns that task: the
    /// machine layer then ends the task's system call.
    #[inline(always)]
    pub fn take_mail(self) -> Option<Running<'k>> {
        let Some(mail) = self.cpu.inbox().pop_only() else { return self.take_several() };
        self.receive_mail(mail)
    }

    /// Receives more than one message, or none.
    #[inline(always)]
    fn take_several(self) -> Option<Running<'k>> {
        self.drain();
        None
    }

    #[inline(never)]
    fn drain(self) {
        let drained = self.cpu.inbox().drain(DRAIN_STEPS, |mail| {
            let _ = self.receive_mail(mail);
        });
        self.sched.more_mail.set(drained == Drained::More);
    }

    #[inline(always)]
    fn receive_mail(self, mail: Mail) -> Option<Running<'k>> {
        self.count(Counter::MailTaken);
        self.trace().note_mail(mail);
        match mail {
            Mail::Message(task) => return self.message_arrived(task.get(self.pin())),
            Mail::Control(task) => self.control_arrived(task.get(self.pin())),
            Mail::Arrival(task) => self.life().task_arrived(task.get(self.pin())),
            Mail::Bits(object) => self.bits_arrived(object.get(self.pin())),
            Mail::Grace(mail) => self.grace().grace_arrived(mail),
            Mail::Shoot(mail) => self.shoot_arrived(mail, What::Space),
            Mail::ShootAll(mail) => self.shoot_arrived(mail, What::Everything),
        }
        None
    }

    /// Serves a message block that came here. Returns the task that runs now because of it, if the
    /// block's call or reply is one that the fast path serves.
    #[inline(always)]
    fn message_arrived(self, task: Ref<'k, Task>) -> Option<Running<'k>> {
        let Some(msg) = task.get().msg.open(self.pin()) else { not_here(task.get().id()) };
        let runs = match msg.stage.get() {
            Stage::Out => self.ipc().fast_delivery(task, msg),
            Stage::Back => self.ipc().fast_return(task, msg),
            _ => None,
        };
        if runs.is_none() {
            self.serve_message(task);
        }
        runs
    }

    #[inline(never)]
    fn serve_message(self, task: Ref<'k, Task>) {
        let msg = task.get().msg.here(self.pin());
        match msg.stage.get() {
            Stage::Out => self.call_arrived(task, msg),
            Stage::Ask => self.request_arrived(task, msg),
            _ => self.block_is_home(task, msg),
        }
        self.time().dispatch();
    }

    /// Serves a call or event from another CPU: delivers it, queues it, sends it on to the CPU
    /// where its callee is now, or fails it.
    fn call_arrived(self, caller: Ref<'k, Task>, msg: &Message) {
        let Some(callee) = msg.callee.get(self.pin()) else {
            return self.ipc().fail_remote(caller, Error::Gone, TaskId::NONE);
        };
        let words = Words { info: msg.info.get(), regs: core::array::from_fn(|i| msg.regs[i].get()) };
        let from =
            SenderInfo { sender: msg.sender.get(), target: msg.target.get(), custom: msg.custom.get() };
        let who = callee.get().id();
        if callee.get().header.has_flag(FLAG_DEAD) {
            return self.ipc().fail_remote(caller, Error::Dead, who);
        }
        let Some(hot) = self.task_hot(callee) else {
            return self.ipc().send_call(caller, msg, callee, msg.tag.get(), words, from);
        };
        if hot.state.get() >> 32 != msg.tag.get() >> 32 || is_dying(hot) {
            return self.ipc().fail_remote(caller, Error::Dead, who);
        }
        if let Some(caller_hot) = self.task_hot(caller) {
            // A receiver forwarded the call to the caller's own CPU. Here the block is back, so a
            // pending recall takes effect, and the time in the block returns to the caller.
            if caller_hot.ending.get() != Ending::None {
                return self.ipc().send_back(caller, msg, Outcome::Recalled);
            }
            self.time_is_home(caller, caller_hot, msg);
        }
        if words.info.has(FLAG_EVENT) {
            return self.events().event_arrived(caller, msg, callee, hot);
        }
        if self.time().lacks_time(caller, hot) {
            return self.ipc().fail_remote(caller, Error::NoTime, TaskId::NONE);
        }
        if let Some(caller_hot) = self.task_hot(caller) {
            set_state(caller_hot, State::Sending);
        }
        self.ipc().pass_on(caller, msg, callee, hot, words, from);
    }

    /// Makes a task of this CPU hold the time in its message block, which is back.
    fn time_is_home(self, task: Ref<'k, Task>, hot: &TaskHot, msg: &Message) {
        if let Some(sc) = msg.sc.take(self.pin())
            && let Some(sc_hot) = self.sc_hot(sc)
        {
            self.time().hold(task, hot, sc, sc_hot);
        }
    }

    /// Ends the call or request of a task whose message block is back: by reply, error or recall,
    /// or because the request was served.
    fn block_is_home(self, task: Ref<'k, Task>, msg: &Message) {
        let Some(hot) = self.task_hot(task) else { return };
        let stage = msg.stage.replace(Stage::Home);
        if hot.deadline.is_queued() {
            self.time().clear_deadline(task);
        }
        if stage == Stage::AskDone {
            return self.request_done(task, hot, msg);
        }
        self.time_is_home(task, hot, msg);
        if is_dying(hot) {
            return self.life().go_on_dying(task, hot);
        }
        let failed = match msg.outcome.get() {
            Outcome::Failed(error) => Some(error),
            _ => None,
        };
        if has_flag(hot, FLAG_IN_FAULT) {
            self.note_over(task, failed);
            self.ipc().fault_is_over(task, hot, msg, failed);
            return self.time().dispatch();
        }
        let progress = if is_broadcast(msg) { progress_of(hot) } else { 0 };
        let failed = match (msg.outcome.get(), hot.ending.take()) {
            (Outcome::Replied, _) => None,
            (Outcome::Failed(error), _) => Some((error, msg.regs[0].get(), msg.sender.get())),
            // This CPU ends the wait, so no task of the other CPU is to blame.
            (Outcome::Recalled | Outcome::Retry, Ending::Fail(error)) => {
                Some((error, progress, TaskId::NONE))
            }
            (outcome, _) => {
                self.note_over(task, None);
                match outcome {
                    Outcome::Posted => self.events().go_on_behind(hot),
                    _ => self.rewind(hot),
                }
                self.time().make_ready(task, hot);
                return self.time().dispatch();
            }
        };
        self.note_over(task, failed.map(|(error, ..)| error));
        match failed {
            Some((error, detail, who)) => {
                self.security().audit_refusal(task, None, error, detail, 0);
                self.payload().take_pages_back(task, hot);
                write_error(&hot.regs, error, detail, who);
            }
            None => {
                let regs = &hot.regs;
                write_values(regs, msg.info.get(), [0, 0, msg.regs[0].get(), msg.regs[1].get()]);
                regs.r9.set(msg.regs[2].get());
                regs.r10.set(msg.regs[3].get());
            }
        }
        self.time().make_ready(task, hot);
        self.time().dispatch();
    }

    /// Notes in the trace that a call from this CPU is over.
    fn note_over(self, task: Ref<'k, Task>, error: Option<Error>) {
        let error = error.map_or(0, |error| error as u8);
        self.trace().event(|| Event::CallOver { caller: task.get().id(), error });
    }

    #[inline(never)]
    fn control_arrived(self, task: Ref<'k, Task>) {
        let bits = task.get().ctl.take(self.pin());
        if task.get().header.has_flag(FLAG_DEAD) {
            if bits & ctl::RECALL != 0 && RecallRequest::from_raw(task.get().recalled.load(Acquire)).dying {
                self.life().count_recall(None);
            }
            return;
        }
        if bits & ctl::KILL != 0 && self.task_hot(task).is_some_and(|hot| !is_dying(hot)) {
            self.count(Counter::KillMailed);
        }
        if bits & ctl::RECALL != 0 {
            self.recall_arrived(task);
        }
        if bits & ctl::TIME != 0 && self.follow_message(task, ctl::TIME).is_some() {
            self.time().time_arrived(task);
        }
        if bits & ctl::UNLEND != 0 {
            self.time().unlend_arrived(task);
        }
        let rest = bits & !(ctl::RECALL | ctl::TIME | ctl::UNLEND);
        if rest != 0 {
            self.life().send_control(task, rest);
        }
        self.time().dispatch();
    }

    /// Sends a task's message block back, if it is here and its number is the recalled one.
    fn recall_arrived(self, task: Ref<'k, Task>) {
        if self.task_hot(task).is_some_and(|hot| hot.ending.get() == Ending::None) {
            return;
        }
        let Some(msg) = self.follow_message(task, ctl::RECALL) else { return };
        let wanted = RecallRequest::from_raw(task.get().recalled.load(Acquire));
        let stage = Some(msg.stage.get()).filter(|_| msg.number.get() == wanted.number);
        if wanted.dying {
            self.life().count_recall(stage);
        }
        if stage.is_none() {
            return;
        }
        match msg.stage.get() {
            // The block is still in this CPU's own mailbox. Look again after it was taken out.
            Stage::Out | Stage::Ask => self.outbox().raise_with_message(task, ctl::RECALL),
            Stage::Queued | Stage::Owed => {
                self.life().unlink_call(task, wanted.leave);
                self.ipc().send_back(task, msg, Outcome::Recalled);
            }
            Stage::Kept => self.life().drop_kill_waiter(task, msg),
            Stage::Home | Stage::Back | Stage::AskDone => {}
        }
    }

    /// Returns a task's message block if it is on this CPU. Otherwise sends the control bits after
    /// the block, unless the block is on its way home.
    fn follow_message(self, task: Ref<'k, Task>, bits: u64) -> Option<&'k Message> {
        let msg = task.get().msg.open(self.pin());
        if msg.is_none() && task.get().msg.home() != task.get().hot.home() {
            self.outbox().raise_with_message(task, bits);
        }
        msg
    }

    #[inline(never)]
    fn bits_arrived(self, object: Ref<'k, Notification>) {
        let bits = object.get().remote.take(self.pin());
        match object.get().hot.open(self.pin()) {
            Some(hot) => self.events().raise(hot, bits),
            None if object.get().header.has_flag(FLAG_DYING) => {}
            None => self.outbox().raise_remote(object, bits),
        }
        self.time().dispatch();
    }
}

#[cold]
#[inline(never)]
fn not_here(task: TaskId) -> ! {
    panic!("the message block of task {task:?} came by mail, and is another CPU's");
}
