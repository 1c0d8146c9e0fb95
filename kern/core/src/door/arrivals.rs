//! Mail that this CPU receives: serves calls and replies of other CPUs, control bits and
//! Notification bits, and passes all other mail to the room that handles it.
//! [`crate::outbox::mail`] explains what is sent, and which CPU owns a message block meanwhile.

use abi::{Counter, Error};
use kern_base::block::Block;
use kern_base::cpu::{IDLE, Mail};
use kern_base::flags::{FLAG_EVENT, FLAG_LOCK};
use kern_base::header::{FLAG_DEAD, FLAG_DYING};
use kern_base::limits::MAIL_WORK;
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::task::{Ending, Message, OpenTask, Outcome, Stage, Task, ctl};
use smp::door::Ref;
use smp::mailbox::Drained;
use smp::shootdown::What;
use smp::sync::Ordering::Relaxed;

use crate::Refusal;
use crate::door::listener::Listener;
use crate::ipc::ends::no_callee;
use crate::ipc::ways::{Sent, There};
use crate::outbox::mail::LOWEST_RANK;
use crate::rooms::Door;

impl<'k, M: Machine> Door<'k, M> {
    /// Takes a bounded number of messages from this CPU's mailbox, and lets the best task run. If
    /// there was only one message, and it let one task run on the fast path, returns that task: the
    /// machine layer then ends the task's system call.
    #[inline(always)]
    pub fn take_mail(self) -> Option<OpenTask<'k>> {
        let Some(only) = self.cpu.inbox().pop_only() else { return self.take_several() };
        self.receive_mail(only.open())
    }

    /// Receives more than one message, or none.
    #[inline(always)]
    fn take_several(self) -> Option<OpenTask<'k>> {
        self.take_mail_left();
        None
    }

    /// Takes a bounded number of messages, on a CPU that runs no program and may have left some. If
    /// that was all, the CPU defers its mail no more: it would not look for what comes while the
    /// task runs that the last message has woken.
    #[inline(never)]
    pub fn take_mail_left(self) {
        let (drained, _) = self.drain_some(usize::MAX);
        if drained != Drained::Empty || !self.end_deferral() {
            self.time().mind_mail();
        }
    }

    /// Receives at most `most` messages, as far as the entry's work suffices, and the first in any
    /// case. A message with pages is the first one. Returns also how many it were.
    pub fn drain_some(self, most: usize) -> (Drained, usize) {
        let mut taken = 0;
        loop {
            let before = taken;
            let drained = self.cpu.inbox().drain(1, |mail| {
                taken += 1;
                let _ = self.receive_mail(mail);
            });
            let is_done = drained == Drained::Empty || taken == before || taken >= most;
            if is_done || self.next_has_pages() || !self.spend(MAIL_WORK) {
                return (drained, taken);
            }
        }
    }

    /// Serves a message. Returns the task that runs now because of it, if it carried a call or
    /// reply that the fast path serves.
    #[inline(always)]
    pub fn receive_mail(self, mail: Mail) -> Option<OpenTask<'k>> {
        self.receive(mail, || ())
    }

    /// Serves the first message of an interrupt, as [`Door::receive_mail`] does.
    #[inline(always)]
    pub fn receive_first(self, mail: Mail) -> Option<OpenTask<'k>> {
        self.receive(mail, || self.time().stop_clock())
    }

    /// Serves a message. Does `before` first, if no short way serves it.
    #[inline(always)]
    fn receive(self, mail: Mail, before: impl FnOnce()) -> Option<OpenTask<'k>> {
        self.count(Counter::MailTaken);
        self.trace().note_mail(&mail);
        if let Mail::Message(parcel) = mail {
            return match self.message_arrived(parcel.open(self.pin())) {
                Ok(task) => Some(task),
                Err(block) => {
                    before();
                    if block.stage() == Stage::AskDone {
                        return self.answer_arrived(block);
                    }
                    self.serve_message(block);
                    None
                }
            };
        }
        if let Mail::Bits(object) = &mail
            && let Some(task) = self.bits_delivered(object.get(self.pin()))
        {
            return Some(task);
        }
        before();
        match mail {
            Mail::Message(_) => {}
            Mail::Control(task) => self.control_arrived(task.get(self.pin())),
            Mail::Arrival(task) => self.life().task_arrived(task.get(self.pin())),
            Mail::Bits(object) => self.bits_arrived(object.get(self.pin())),
            Mail::Grace(mail) => self.grace().grace_arrived(mail),
            Mail::Shoot(mail) => self.shoot_arrived(mail, What::Space),
            Mail::ShootAll(mail) => self.shoot_arrived(mail, What::Everything),
            Mail::Sign => self.sign_arrived(),
        }
        self.sched.works_for.set(0);
        None
    }

    /// Serves a message block that came here, if its call or reply is one that the fast path
    /// serves. Returns the task that runs now because of it, or the block.
    #[inline(always)]
    fn message_arrived(self, block: Block<'k>) -> core::result::Result<OpenTask<'k>, Block<'k>> {
        let stage = block.stage();
        if stage == Stage::Out
            && let Some(callee) = self.ipc().fast_delivery(&block)
        {
            callee.serve(block);
            return Ok(callee);
        }
        if stage == Stage::Back
            && let Some(caller) = self.ipc().fast_return(&block)
        {
            block.rest_unlinked();
            return Ok(caller);
        }
        Err(block)
    }

    /// Gives the bits of a Notification to the task that listens to it here, if that runs now:
    /// this CPU idles, or the task outranks the program. Returns the task.
    #[inline(always)]
    fn bits_delivered(self, object: Ref<'k, Notification>) -> Option<OpenTask<'k>> {
        let listener = self.listener_of(object.get().hot.open(self.pin())?)?;
        if self.sched.idle.get() != IDLE {
            return self.bits_preempt(listener, object);
        }
        let now = self.time().end_idling();
        Some(self.run_listener(listener, object, now))
    }

    /// Does what [`Door::bits_delivered`] does, on a CPU that runs a program.
    #[cold]
    #[inline(never)]
    fn bits_preempt(self, listener: Listener<'k>, object: Ref<'k, Notification>) -> Option<OpenTask<'k>> {
        let now = self.time().preempt_for(listener.time)?;
        Some(self.run_listener(listener, object, now))
    }

    #[inline(always)]
    fn run_listener(self, listener: Listener<'k>, object: Ref<'k, Notification>, now: u64) -> OpenTask<'k> {
        self.give_bits(listener, object.get().remote.take(self.pin()));
        self.time().take_over(listener.time, now, listener.task.object(), listener.task.word());
        listener.task
    }

    /// Notes that this entry works for the task for which the mail in a node was sent.
    fn work_for(self, rank: u32) {
        // Never 0, which would mean the running task.
        self.sched.works_for.set(rank.max(LOWEST_RANK));
        self.sched.best_rank.set(self.sched.best_rank.get().max(rank));
    }

    /// Ends a request whose answer is back. Returns its task, if that runs now.
    #[inline(never)]
    fn answer_arrived(self, block: Block<'k>) -> Option<OpenTask<'k>> {
        if let Some(asker) = self.answer_delivered(&block) {
            block.rest_unlinked();
            return Some(asker);
        }
        self.serve_message(block);
        None
    }

    #[inline(never)]
    fn serve_message(self, block: Block<'k>) {
        // Also what a call that fails sets going, as the end of a process.
        self.work_for(block.task().get().msg_node.rank());
        self.care_for_time(&block);
        match block.stage() {
            Stage::Out => self.call_arrived(block),
            Stage::Ask => self.request_arrived(block),
            _ => self.block_is_home(block),
        }
        self.sched.works_for.set(0);
        self.time().dispatch();
    }

    /// Does for CPU time that has come with a message, and needs care, what a stop would have done:
    /// it runs only if it is the best.
    #[inline(always)]
    fn care_for_time(self, block: &Block<'k>) {
        let sc = block.time(self.pin()).and_then(|sc| self.open_time(sc));
        if let Some(sc) = sc.filter(|sc| sc.state.needs_care()) {
            self.time().came_with_care(sc);
        }
    }

    /// Serves a call or event from another CPU: delivers it, queues it, sends it on to the CPU
    /// where its callee is now, or fails it.
    fn call_arrived(self, block: Block<'k>) {
        if self.sched.followers.has_come(block.task()) {
            self.life().send_follower();
        }
        let Some(callee) = block.callee(self.pin()) else { no_callee(block.task().get().id()) };
        let sent = Sent { callee, words: block.words(), from: block.sender() };
        let dead = Refusal::dead(callee.get().id());
        if let Some(caller) = self.open(block.task()) {
            // A receiver forwarded the call to the caller's own CPU. Here the block is back, so a
            // pending recall takes effect, and the time in the block returns to the caller.
            if caller.ending() != Ending::None {
                return self.ipc().send_back(block, Outcome::Recalled);
            }
            self.time_is_home(&block, caller);
        }
        let is_special = sent.words.info.has(FLAG_EVENT | FLAG_LOCK);
        if is_special && sent.words.info.has(FLAG_LOCK) {
            return self.events().lock_wait_arrived(block, &sent);
        }
        if callee.get().header.has_flag(FLAG_DEAD) {
            return self.ipc().refuse(block, dead);
        }
        let Some(callee) = self.open(callee) else {
            let tag = block.tag();
            return self.ipc().pass(block, There { tag }, &sent);
        };
        if !callee.is_meant_by(block.tag()) || callee.is_dying() {
            return self.ipc().refuse(block, dead);
        }
        if is_special {
            return self.events().event_arrived(block, callee, &sent);
        }
        if self.time().lacks_time(block.task(), callee) {
            return self.ipc().refuse(block, Error::NoTime.into());
        }
        self.ipc().pass_on(block, callee, &sent);
    }

    /// Makes a task of this CPU the holder of the CPU time in its message block, which is back on
    /// this CPU.
    fn time_is_home(self, block: &Block<'k>, task: OpenTask<'k>) {
        if let Some(sc) = block.take_time(self.pin()).and_then(|sc| self.open_time(sc)) {
            self.time().hold(task, sc);
        }
    }

    /// Ends the call or request of a task whose message block is back: by reply, error or recall,
    /// or because the request was served.
    fn block_is_home(self, block: Block<'k>) {
        let task = OpenTask::here(block.task(), self.pin());
        self.time().clear_deadline(task);
        if block.stage() == Stage::AskDone {
            return self.request_done(block, task);
        }
        self.time_is_home(&block, task);
        if task.is_dying() {
            block.rest();
            return self.life().go_on_dying(task);
        }
        self.ipc().came_home(block, task);
        self.time().dispatch();
    }

    /// Gives the sign of life that other CPUs have asked for. Before this CPU idles again, it looks
    /// whether it is parked.
    #[cold]
    #[inline(never)]
    fn sign_arrived(self) {
        // Before the bit is taken: a CPU that sees the next question sees this.
        self.cpu.answered_at.store(self.k.machine.now(), Relaxed);
        self.cpu.sign.take(self.pin());
        self.sched.before_idle.set(true);
    }

    #[cold]
    #[inline(never)]
    fn control_arrived(self, task: Ref<'k, Task>) {
        self.work_for(task.get().ctl.rank());
        let bits = task.get().ctl.take(self.pin());
        if task.get().header.has_flag(FLAG_DEAD) {
            if bits & ctl::RECALL != 0 {
                self.life().count_recall(task, None);
            }
            return;
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

    /// Sends a task's message block back to the task's CPU, if this CPU has the block and its
    /// number is the recalled one.
    fn recall_arrived(self, task: Ref<'k, Task>) {
        if self.open(task).is_some_and(|task| task.ending() == Ending::None) {
            return;
        }
        let Some(msg) = self.follow_message(task, ctl::RECALL) else { return };
        let wanted = task.get().recalled();
        let stage = Some(msg.stage()).filter(|_| msg.number() == wanted.number);
        self.life().count_recall(task, stage);
        if stage.is_none() {
            return;
        }
        match msg.stage() {
            // The block is still in this CPU's own mailbox. Look again after it was taken out.
            Stage::Out | Stage::Ask => self.outbox().raise_with_message(task, ctl::RECALL),
            Stage::Queued | Stage::Owed => {
                let block = self.life().unlink_call(task, wanted.leave);
                self.ipc().send_back(block, Outcome::Recalled);
            }
            Stage::Kept => self.life().drop_kept(task, msg),
            Stage::Home | Stage::Back | Stage::AskDone => {}
        }
    }

    /// Returns a task's message block if it is on this CPU. Otherwise sends the control bits after
    /// the block, except for a recall of a block that is at home or on its way there. News of time
    /// goes there, too: the task may have begun another call, which wants the time.
    fn follow_message(self, task: Ref<'k, Task>, bits: u64) -> Option<&'k Message> {
        let msg = task.get().message(self.pin());
        let is_over = bits == ctl::RECALL && task.get().message_state().home() == task.get().hot.home();
        if msg.is_none() && !is_over {
            self.outbox().raise_with_message(task, bits);
        }
        msg
    }

    #[cold]
    #[inline(never)]
    fn bits_arrived(self, object: Ref<'k, Notification>) {
        self.work_for(object.get().remote.rank());
        let bits = object.get().remote.take(self.pin());
        match object.get().hot.open(self.pin()) {
            Some(hot) => self.events().raise(hot, bits),
            None if object.get().header.has_flag(FLAG_DYING) => {}
            None => self.outbox().raise_remote(object, bits),
        }
        self.time().dispatch();
    }
}
