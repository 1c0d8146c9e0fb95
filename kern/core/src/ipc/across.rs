//! Calls and replies between CPUs, on the sending side. The message block goes to the callee's CPU
//! with the time that the caller lends, and comes back with the reply or an error. Who owns it
//! meanwhile: [`crate::outbox::mail`]. The receiving side: [`crate::door::arrivals`]. The fast path
//! for the common case: [`crate::ipc::fastpath`].

use abi::{Error, FLAG_EVENT, FLAG_FAULT, MsgInfo, Target, TaskId};
use kern_base::cpu::Mail;
use kern_base::machine::Machine;
use kern_base::task::{Message, Outcome, Stage, State, Task, TaskHot};
use smp::cpu::CpuId;
use smp::door::Ref;
use smp::mailbox::Batch;
use test_abi::trace::{Event, How, Path};

use crate::ipc::call::is_broadcast;
use crate::ipc::call::{SenderInfo, Words};
use crate::ipc::faults::{force_slow_path, take_registers_along};
use crate::payload::carry::PAYLOAD_FLAGS;
use crate::rooms::Ipc;
use crate::state::set_state;
use crate::{Answer, Me, Refusal, Result};

/// Flags of messages that are more than a call's registers and words.
pub const SPECIAL: u64 = FLAG_FAULT | PAYLOAD_FLAGS | FLAG_EVENT;

impl<'k, M: Machine> Ipc<'k, M> {
    /// Makes a call to a task of another CPU. The message block and the time travel there.
    pub fn call_remote(
        self,
        me: Me<'k>,
        callee: Ref<'k, Task>,
        tag: u64,
        words: Words,
        from: SenderInfo,
        deadline: Option<u64>,
    ) -> Result<Answer> {
        let Some(msg) = me.task.get().msg.open(self.pin()) else { return Err(Error::BadState.into()) };
        if let Some(at) = deadline {
            self.time().set_deadline(me.task, at);
        }
        self.trace().event(|| {
            let (caller, callee) = (me.task.get().id(), callee.get().id());
            Event::Call { caller, callee, path: Path::Slow, how: How::Sent }
        });
        set_state(me.hot, State::AwaitRemote);
        self.take_running_along(msg);
        self.outbox().number_block(me.hot, msg);
        self.send_call(me.task, msg, callee, tag, words, from);
        self.time().dispatch();
        Ok(Answer::Settled)
    }

    /// Sends the fault of the running task to a handler on another CPU. (A function of its own,
    /// because [`Ipc::call_remote`] is part of the slow path of every call.)
    #[inline(never)]
    pub fn fault_remote(
        self,
        me: Me<'k>,
        msg: &Message,
        callee: Ref<'k, Task>,
        tag: u64,
        words: Words,
        from: SenderInfo,
    ) {
        self.trace().event(|| {
            let (caller, callee) = (me.task.get().id(), callee.get().id());
            Event::Call { caller, callee, path: Path::Slow, how: How::Sent }
        });
        set_state(me.hot, State::AwaitRemote);
        self.take_running_along(msg);
        take_registers_along(me.hot, msg);
        self.outbox().number_block(me.hot, msg);
        self.send_call(me.task, msg, callee, tag, words, from);
        self.time().dispatch();
    }

    /// Forwards a call to a callee of another CPU. The caller's time rests with the caller, and
    /// goes along.
    pub fn forward_remote(
        self,
        caller: Ref<'k, Task>,
        callee: Ref<'k, Task>,
        tag: u64,
        words: Words,
        from: SenderInfo,
    ) {
        let msg = caller.get().msg.here(self.pin());
        if let Some(hot) = self.task_hot(caller) {
            set_state(hot, State::AwaitRemote);
            self.take_time_along(caller, hot, msg);
            take_registers_along(hot, msg);
            self.outbox().number_block(hot, msg);
        }
        self.send_call(caller, msg, callee, tag, words, from);
    }

    /// Adds a queued call or event, with its sender's time, to the batch in which its receiver
    /// moves to another CPU. `word` is the receiver's state word.
    pub fn send_along(self, caller: Ref<'k, Task>, to: CpuId, word: u64, batch: &mut Batch<'k, Mail>) {
        let msg = caller.get().msg.here(self.pin());
        if let Some(hot) = self.task_hot(caller) {
            set_state(hot, State::AwaitRemote);
            self.take_time_along(caller, hot, msg);
            take_registers_along(hot, msg);
            self.outbox().number_block(hot, msg);
        }
        let tag = word & !u64::from(u32::MAX);
        msg.tag.set(if msg.info.get().has(SPECIAL) { force_slow_path(tag) } else { tag });
        msg.stage.set(Stage::Out);
        self.outbox().hand_block(caller, msg, to);
        batch.add(caller.map(|t| &t.msg_node), Mail::Message(caller.ptr()));
    }

    /// Sends a call to the callee's CPU, with the time that `msg` has.
    pub fn send_call(
        self,
        caller: Ref<'k, Task>,
        msg: &Message,
        callee: Ref<'k, Task>,
        tag: u64,
        words: Words,
        from: SenderInfo,
    ) {
        write_block(msg, words, from);
        msg.tag.set(if words.info.has(SPECIAL) { force_slow_path(tag) } else { tag });
        msg.callee.set(Some(callee));
        msg.held.set(None);
        msg.stage.set(Stage::Out);
        self.outbox().send_block(caller, msg, callee.get().hot.mail_target(self.pin()));
    }

    /// Stops the running task, and puts its time into its message block.
    #[inline(always)]
    fn take_running_along(self, msg: &Message) {
        let (sc, sc_hot) = self.running_now();
        self.time().stop(sc_hot);
        msg.sc.set(Some(sc));
    }

    /// Puts a caller's resting time into its message block.
    fn take_time_along(self, caller: Ref<'k, Task>, hot: &TaskHot, msg: &Message) {
        let sc = self.time().time_of(caller, hot).filter(|sc| self.sc_hot(*sc).is_some());
        if sc.is_some_and(|sc| hot.borrowed.is(sc)) {
            hot.borrowed.set(None);
        }
        msg.sc.set(sc);
    }

    /// Sends the reply of `me`, which is running, to a caller of another CPU. Time that came with
    /// the call goes back with it.
    pub fn reply_remote(self, me: Me<'k>, caller: Ref<'k, Task>, words: Words) {
        let msg = caller.get().msg.here(self.pin());
        write_block(msg, words, SenderInfo { sender: TaskId::NONE, target: Target(0), custom: 0 });
        self.trace().note_reply(caller, me.task, Path::Slow, How::Sent, 0);
        if me.hot.lender.is(caller) {
            self.time().give_back(me.task, me.hot);
        }
        self.send_back(caller, msg, Outcome::Replied);
    }

    /// Ends the call of a caller on another CPU with an error.
    pub fn fail_remote(self, caller: Ref<'k, Task>, error: Error, who: TaskId) {
        self.refuse_remote(caller, Refusal::Error { error, detail: 0, who });
    }

    /// Ends the call of a caller on another CPU with an error and its detail, which the first word
    /// of the block carries. Any other refusal makes the caller call again; so does any refusal of
    /// a broadcast.
    pub fn refuse_remote(self, caller: Ref<'k, Task>, why: Refusal) {
        let msg = caller.get().msg.here(self.pin());
        match why {
            Refusal::Error { error, detail, who } if !is_broadcast(msg) => {
                self.fail_remote_with(caller, msg, Outcome::Failed(error), detail, who);
            }
            _ => self.fail_remote_with(caller, msg, Outcome::Retry, 0, TaskId::NONE),
        }
    }

    /// Ends the call of a caller on another CPU: returns the caller's time to it, and the block
    /// with an error.
    fn fail_remote_with(
        self,
        caller: Ref<'k, Task>,
        msg: &Message,
        outcome: Outcome,
        detail: u64,
        who: TaskId,
    ) {
        // The caller's CPU must still see whether the message was a broadcast.
        let (kind, target) = (msg.info.get().flags() & FLAG_EVENT, msg.target.get());
        write_block(
            msg,
            Words { info: MsgInfo(kind), regs: [detail, 0, 0, 0] },
            SenderInfo { sender: who, target, custom: 0 },
        );
        let callee = msg.callee.take(self.pin());
        if let Some((callee, hot)) = callee.and_then(|t| Some((t, self.task_hot(t)?))) {
            self.time().recover(caller, callee, hot);
        }
        self.send_back(caller, msg, outcome);
    }

    /// Sends a message block back to its task's home CPU.
    pub fn send_back(self, caller: Ref<'k, Task>, msg: &Message, outcome: Outcome) {
        msg.outcome.set(outcome);
        msg.callee.set(None);
        msg.held.set(None);
        msg.stage.set(Stage::Back);
        self.outbox().send_block(caller, msg, caller.get().hot.home());
    }
}

/// Writes a message into a message block.
pub fn write_block(msg: &Message, words: Words, from: SenderInfo) {
    msg.info.set(words.info);
    for (cell, value) in msg.regs.iter().zip(words.regs) {
        cell.set(value);
    }
    msg.target.set(from.target);
    msg.custom.set(from.custom);
    msg.sender.set(from.sender);
}
