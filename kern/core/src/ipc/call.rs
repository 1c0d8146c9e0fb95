//! Call, reply, receive, forward: the slow path. The assembly fastpath does the same for the common
//! case; the differential test holds the two together.
//!
//! # A call, step by step
//! The caller names `(group capability, exposure index)`. Capability, member record and exposure are
//! read once each. If the task exposed there is receiving on this CPU, the message goes from register
//! frame to register frame, the caller's CPU time goes along, and the callee runs at once. Otherwise
//! the caller queues at the callee, by the priority of its time and in order within one. If the
//! callee's home is another CPU, the message block travels there ([`crate::outbox::mail`]).

use abi::audit::may;
use abi::{
    Cap, Error, FLAG_CAPS, FLAG_DEADLINE, FLAG_FAULT, FLAG_FORWARDED, FLAG_NONBLOCK, FLAG_NOTIFICATION,
    FLAG_PAGES, MSG_UTCB_WORDS, MsgInfo, Rights, Target, TaskId,
};
use kern_base::header::FLAG_DYING;
use kern_base::limits::REFUSED_STEPS;
use kern_base::machine::Machine;
use kern_base::reply::Reply;
use kern_base::sched_context::SchedContext;
use kern_base::task::{
    FLAG_IN_FAULT, FLAG_SUSPENDED, Message, PENDING_BITS, PENDING_FAULT, PENDING_SENDERS, Stage, State, Task,
    TaskHot, ctl,
};
use smp::cpu::MAX_CPUS;
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;
use test_abi::trace::{Event, How, Path};

use crate::answer::{write_error, write_values};
use crate::args::Args;
use crate::ipc::carry::{CARRIES, rights_of, rights_of_words};
use crate::rooms::Ipc;
use crate::state::{has_flag, is_dying, runnable, set_state, state_of};
use crate::{Answer, Me, Refusal, Result};

/// A message on its way between register frames.
#[derive(Clone, Copy)]
pub struct Words {
    /// Label and UTCB words; no operation, of flags [`FLAG_FAULT`], [`FLAG_FORWARDED`] and [those of what it carries](CARRIES) only.
    pub info: MsgInfo,
    pub regs: [u64; 4],
}

/// What the receiver learns of the sender.
#[derive(Clone, Copy)]
pub struct From {
    pub sender: TaskId,
    pub target: Target,
    pub custom: u16,
}

impl Words {
    /// The message that a system call's arguments carry.
    #[inline(always)]
    pub fn new(args: &Args) -> Result<Words> {
        let info = MsgInfo::new(MsgInfo(args.info).label(), MsgInfo(args.info).words() as u8);
        if info.words() > MSG_UTCB_WORDS {
            return Err(Refusal::new(Error::TooLong, MSG_UTCB_WORDS as u64));
        }
        Ok(Words { info, regs: args.message() })
    }

    /// The same as an event; for a broadcast with the identity of the group.
    #[inline(always)]
    pub fn as_event(self, from: From, group: u64) -> abi::events::Event {
        let From { sender, target, custom } = from;
        let info = MsgInfo::new(self.info.label(), self.info.words() as u8);
        abi::events::Event { info, sender, exposure: target.index(), custom, group, regs: self.regs }
    }

    /// The same with what the arguments say that it carries.
    pub fn carrying(self, args: &Args) -> Words {
        Words { info: self.info.flag(args.info & CARRIES), ..self }
    }
}

/// The deadline an operation asked for.
fn deadline_of(args: &Args) -> Option<u64> {
    MsgInfo(args.info).has(FLAG_DEADLINE).then_some(args.a1)
}

impl<'k, M: Machine> Ipc<'k, M> {
    /// [`abi::Op::Call`].
    pub fn call(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        if MsgInfo(args.info).has(CARRIES) {
            return self.call_with_load(me, args);
        }
        self.make_call::<false>(me, args, Words::new(args)?)
    }

    #[inline(never)]
    fn call_with_load(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        self.make_call::<true>(me, args, Words::new(args)?.carrying(args))
    }

    #[inline(always)]
    fn make_call<const LOAD: bool>(self, me: Me<'k>, args: &Args, words: Words) -> Result<Answer> {
        let need = if LOAD { rights_of(words.info) } else { rights_of_words(words.info) };
        let dest = self.caps().resolve_task(me, Target(args.a0), need)?;
        if dest.task == me.task {
            return Err(Refusal::new(Error::SelfCall, 0));
        }
        let deadline = deadline_of(args);
        if deadline.is_some_and(|at| at <= self.k.machine.now()) {
            return Err(Refusal::new(Error::Timeout, 0));
        }
        let from = From { sender: me.task.get().id(), target: Target(args.a0), custom: dest.custom };
        let nonblock = MsgInfo(args.info).has(FLAG_NONBLOCK);
        let Some(callee) = self.task_hot(dest.task) else {
            if nonblock {
                return Err(Refusal::new(Error::WouldBlock, 0));
            }
            if LOAD {
                self.send_load(me, dest.task, words.info, false)?;
            }
            return self.call_remote(me, dest.task, dest.tag, words, from, deadline);
        };
        if callee.state.get() >> 32 != dest.tag >> 32 {
            return Err(Refusal::dead(dest.task.get().id()));
        }
        let receiving = self.is_receiving(callee);
        if !receiving && nonblock {
            return Err(Refusal::new(Error::WouldBlock, 0));
        }
        if !receiving && is_dying(callee) {
            return Err(Refusal::dead(dest.task.get().id()));
        }
        if LOAD {
            self.send_load(me, dest.task, words.info, receiving)?;
        }
        let Some(msg) = me.task.get().msg.open(self.pin()) else { return Err(Error::BadState.into()) };
        if let Some(at) = deadline {
            self.time().set_deadline(me.task, at);
        }
        msg.callee.set(Some(dest.task));
        let how = if receiving { How::Delivered } else { How::Queued };
        self.event(|| {
            let (caller, callee) = (me.task.get().id(), dest.task.get().id());
            Event::Call { caller, callee, path: Path::Slow, how }
        });
        if receiving {
            set_state(me.hot, if deadline.is_some() { State::AwaitTimed } else { State::Await });
            self.deliver(dest.task, callee, me.task, words, from);
            self.pass_time(me.task, dest.task, callee);
        } else {
            set_state(me.hot, State::Sending);
            self.time().stop_current();
            self.queue_call(me.task, msg, dest.task, callee, words, from);
            self.time().dispatch();
        }
        Ok(Answer::Settled)
    }

    /// Copies the UTCB part of a message. Both pages are reached through the direct map; each word is
    /// read once, the count comes from the register word.
    #[inline]
    fn copy_utcb(self, from: Ref<'k, Task>, to: Ref<'k, Task>, words: usize) {
        if words == 0 {
            return;
        }
        let (from, to) = (from.get().utcb(self.pin()), to.get().utcb(self.pin()));
        for (source, target) in from.msg.iter().zip(&to.msg).take(words) {
            target.store(source.load(Relaxed), Relaxed);
        }
    }

    pub fn is_receiving(self, hot: &TaskHot) -> bool {
        matches!(state_of(hot), State::Recv | State::RecvTimed) && !has_flag(hot, FLAG_SUSPENDED)
    }

    /// Gives a call to a receiving task: message, reply link, ready.
    #[inline(always)]
    pub fn deliver(
        self,
        callee: Ref<'k, Task>,
        hot: &'k TaskHot,
        caller: Ref<'k, Task>,
        words: Words,
        from: From,
    ) {
        if state_of(hot) == State::RecvTimed {
            self.time().clear_deadline(callee);
        }
        self.copy_utcb(caller, callee, words.info.words());
        self.write_message(hot, words, from);
        hot.caller.set(Some(caller));
        set_state(hot, State::Ready);
    }

    /// The running context goes with the call: the callee runs at once. No accounting: the time goes on
    /// being charged to the same context.
    #[inline(always)]
    pub fn pass_time(self, me: Ref<'k, Task>, callee: Ref<'k, Task>, hot: &'k TaskHot) {
        let Some((_, sc_hot)) = self.running() else { return };
        hot.lender.set(Some(me));
        sc_hot.task.set(Some(callee));
        self.time().run_task(callee, hot);
    }

    /// Queues a call, whose caller's time rests, at a task that is not receiving. A callee without time goes
    /// on with it.
    pub fn queue_call(
        self,
        caller: Ref<'k, Task>,
        msg: &Message,
        callee: Ref<'k, Task>,
        hot: &'k TaskHot,
        words: Words,
        from: From,
    ) {
        msg.info.set(words.info);
        for (cell, value) in msg.regs.iter().zip(words.regs) {
            cell.set(value);
        }
        msg.target.set(from.target);
        msg.custom.set(from.custom);
        msg.sender.set(from.sender);
        let priority = self.time().resting_time(caller).map_or(0, |(_, sc)| sc.state.priority());
        msg.stage.set(Stage::Queued);
        msg.callee.set(Some(callee));
        hot.senders.insert(self.pin(), caller, priority);
        hot.pending.set(hot.pending.get() | PENDING_SENDERS);
        if !runnable(hot) || self.time().time_of(callee, hot).is_none() {
            self.time().time_came(callee, hot);
        }
    }

    /// What a receiver finds in its registers.
    #[inline(always)]
    fn write_message(self, hot: &TaskHot, words: Words, from: From) {
        let regs = &hot.regs;
        regs.rax.set(words.info.0);
        regs.rdi.set(u64::from(from.target.index()));
        regs.rsi.set(from.sender.raw());
        regs.rdx.set(words.regs[0]);
        regs.r8.set(words.regs[1]);
        regs.r9.set(words.regs[2]);
        regs.r10.set(words.regs[3]);
        regs.r12.set(u64::from(from.custom));
        regs.full.set(0);
    }

    /// [`abi::Op::Recv`].
    pub fn recv(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        self.drop_unanswered(me);
        self.receive(me, args)
    }

    /// A task that receives again without having answered: its caller is told.
    fn drop_unanswered(self, me: Me<'k>) {
        if let Some(caller) = self.take_caller(me.hot) {
            self.fail_call(me, caller, Error::Gone);
        }
    }

    /// Takes the current call away from a task that serves it.
    pub fn take_caller(self, hot: &TaskHot) -> Option<Ref<'k, Task>> {
        let caller = hot.caller.take(self.pin())?;
        hot.pending.set(hot.pending.get() & !PENDING_FAULT);
        Some(caller)
    }

    /// The receive half: bits, then queued callers, else wait. The task may have no time any more.
    fn receive(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        if me.hot.pending.get() != 0 && self.take_pending(me) {
            return Ok(Answer::Settled);
        }
        self.await_call(me, args)
    }

    /// The same where nothing is there.
    #[inline(always)]
    fn await_call(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        if MsgInfo(args.info).flags() != 0 {
            return self.receive_bounded(me, args);
        }
        set_state(me.hot, State::Recv);
        self.rest(me);
        Ok(Answer::Settled)
    }

    /// Takes bits or a queued call, if the task may have them now.
    fn take_pending(self, me: Me<'k>) -> bool {
        // On a waiting caller's time it takes the call.
        let own_time = self.time().own_at_rest(me.task, me.hot).is_some();
        if me.hot.pending.get() & PENDING_BITS != 0 && own_time {
            self.take_bound_bits(me);
            self.time().make_ready(me.task, me.hot);
            self.time().dispatch();
            return true;
        }
        self.accept_next(me)
    }

    /// Waits for a call as long as the flags say, or not at all.
    #[cold]
    fn receive_bounded(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        let deadline = deadline_of(args);
        if MsgInfo(args.info).has(FLAG_NONBLOCK) || deadline.is_some_and(|at| at <= self.k.machine.now()) {
            let error = if deadline.is_some() { Error::Timeout } else { Error::WouldBlock };
            write_error(&me.hot.regs, error, 0, TaskId::NONE);
            self.time().make_ready(me.task, me.hot);
            self.time().dispatch();
            return Ok(Answer::Settled);
        }
        set_state(me.hot, if deadline.is_some() { State::RecvTimed } else { State::Recv });
        if let Some(at) = deadline {
            self.time().set_deadline(me.task, at);
        }
        self.rest(me);
        Ok(Answer::Settled)
    }

    /// A receiving task that was suspended takes what came meanwhile.
    pub fn receive_pending(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        if !self.is_receiving(hot) {
            return;
        }
        let me = Me { task, hot };
        let bits = hot.pending.get() & PENDING_BITS != 0 && self.time().own_at_rest(task, hot).is_some();
        if !bits && hot.senders.is_empty() {
            return;
        }
        let received = if bits {
            self.take_bound_bits(me);
            self.time().make_ready(task, hot);
            true
        } else {
            self.accept_next(me)
        };
        // It goes on waiting, as long as it wanted to, where none of the calls could be received.
        if received && hot.deadline.is_queued() {
            self.time().clear_deadline(task);
        }
    }

    /// The task blocks otherwise than by calling: time that is not its own goes back.
    #[inline(always)]
    pub fn rest(self, me: Me<'k>) {
        self.time().give_back(me.task, me.hot);
        self.park(me);
    }

    /// The task goes on no more for now, running or not.
    #[inline(always)]
    pub fn park(self, me: Me<'k>) {
        if self.hot.current.is(me.task) {
            self.time().block_current();
            return;
        }
        if let Some(sc) = self.time().time_of(me.task, me.hot)
            && self.time().is_active(sc)
        {
            self.time().withdraw(sc);
        }
        self.time().dispatch();
    }

    /// The bits of the bound Notification, as a receive answers them.
    fn take_bound_bits(self, me: Me<'k>) {
        let bits = me
            .hot
            .bound
            .get(self.pin())
            .and_then(|n| n.get().hot.open(self.pin()))
            .map_or(0, |n| n.bits.take());
        if let Some(object) = me.hot.bound.get(self.pin()) {
            self.note_bits(me.task, object);
        }
        me.hot.pending.set(me.hot.pending.get() & !PENDING_BITS);
        write_values(&me.hot.regs, MsgInfo(FLAG_NOTIFICATION), [0, 0, bits, 0]);
    }

    /// Takes the best queued call that can be received, if there is one. After so many that can't, it goes on with the rest
    /// by mail: until then the task waits.
    fn accept_next(self, me: Me<'k>) -> bool {
        for _ in 0..REFUSED_STEPS {
            let Some(caller) = me.hot.senders.pop_highest(self.pin()) else { return false };
            if me.hot.senders.is_empty() {
                me.hot.pending.set(me.hot.pending.get() & !PENDING_SENDERS);
            }
            if self.brings_load(caller, me.task, me.hot) {
                self.accept(me, caller);
                return true;
            }
        }
        if !me.hot.senders.is_empty() {
            self.outbox().raise_control(me.task, ctl::RECEIVE);
        }
        false
    }

    /// Takes what a call that is about to be received carries, if anything. Where that can't be, the call fails, or is
    /// made again.
    #[inline(always)]
    fn brings_load(self, caller: Ref<'k, Task>, to: Ref<'k, Task>, hot: &'k TaskHot) -> bool {
        let info = caller.get().msg.open(self.pin()).map_or(MsgInfo(0), |msg| msg.info.get());
        !info.has(CARRIES) || self.take_load(caller, to, hot, info)
    }

    #[inline(never)]
    fn take_load(self, caller: Ref<'k, Task>, to: Ref<'k, Task>, hot: &'k TaskHot, info: MsgInfo) -> bool {
        let Err(refusal) = self.pass_waiting_load(caller, to, info) else { return true };
        self.refuse_caller(to, hot, caller, refusal);
        false
    }

    /// Takes a queued call: the receiver goes on with the caller's time.
    fn accept(self, me: Me<'k>, caller: Ref<'k, Task>) {
        let Some(msg) = caller.get().msg.open(self.pin()) else { return };
        let words = Words { info: msg.info.get(), regs: core::array::from_fn(|i| msg.regs[i].get()) };
        let from = From { sender: msg.sender.get(), target: msg.target.get(), custom: msg.custom.get() };
        self.note_received(caller, me.task);
        self.copy_utcb(caller, me.task, words.info.words());
        self.write_message(me.hot, words, from);
        me.hot.caller.set(Some(caller));
        if words.info.has(FLAG_FAULT) {
            self.show_fault(caller, me.task, me.hot);
        }
        msg.stage.set(Stage::Owed);
        if let Some(hot) = self.task_hot(caller) {
            set_state(hot, if hot.deadline.is_queued() { State::AwaitTimed } else { State::Await });
        }
        set_state(me.hot, State::Ready);
        if !me.hot.lender.is(caller) {
            self.take_up(me, caller);
        }
        if !self.hot.current.is(me.task) {
            self.time().start(me.task, me.hot);
        }
        self.time().dispatch();
    }

    /// The receiver of a call goes on with its caller's time; what it had of others goes back, its own rests.
    fn take_up(self, me: Me<'k>, caller: Ref<'k, Task>) {
        self.time().give_back(me.task, me.hot);
        let Some((sc, sc_hot)) = self.time().resting_time(caller) else { return };
        if self.hot.current.is(me.task) {
            self.time().stop_current();
        }
        self.time().lend(sc, sc_hot, caller, me.task, me.hot);
    }

    /// A call that was taken out of a task's queue is not received: its caller wakes with the error, or to make the call
    /// again.
    pub fn refuse_caller(
        self,
        callee: Ref<'k, Task>,
        callee_hot: &'k TaskHot,
        caller: Ref<'k, Task>,
        why: Refusal,
    ) {
        let Some(hot) = self.task_hot(caller) else {
            self.refuse_remote(caller, why);
            return;
        };
        // A member that is gone does not end a broadcast, which looks at it once more.
        let why = if self.waits_in_broadcast(caller) { Refusal::More } else { why };
        let error = if let Refusal::Error { error, .. } = why { error as u8 } else { 0 };
        if hot.deadline.is_queued() {
            self.time().clear_deadline(caller);
        }
        if let Some(msg) = caller.get().msg.open(self.pin()) {
            msg.callee.set(None);
            msg.held.set(None);
            msg.stage.set(Stage::Home);
        }
        self.event(|| Event::CallOver { caller: caller.get().id(), error });
        self.time().recover(caller, callee, callee_hot);
        match why {
            Refusal::Error { error, .. } if has_flag(hot, FLAG_IN_FAULT) => {
                return self.fault_failed(caller, hot, error);
            }
            Refusal::Error { error, detail, who } => {
                self.caps().audit_refusal(caller, None, error, detail, 0);
                self.take_pages_back(caller, hot);
                write_error(&hot.regs, error, detail, who);
            }
            _ => self.rewind(hot),
        }
        self.time().make_ready(caller, hot);
    }

    /// [`abi::Op::ReplyRecv`].
    pub fn reply_recv(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        if me.hot.pending.get() != 0 {
            return self.reply_recv_pending(me, args);
        }
        let words = Words::new(args)?;
        if MsgInfo(args.info).has(CARRIES) {
            return self.reply_recv_load(me, args, words);
        }
        if let Some(caller) = me.hot.caller.take(self.pin()) {
            self.answer_call(me, caller, words);
        }
        self.await_call(me, args)
    }

    #[inline(never)]
    fn reply_recv_load(self, me: Me<'k>, args: &Args, words: Words) -> Result<Answer> {
        if let Some(caller) = me.hot.caller.get(self.pin()) {
            let words = words.carrying(args);
            self.give_load(me, caller, words.info)?;
            self.take_caller(me.hot);
            self.answer_call(me, caller, words);
        } else {
            self.take_pages_back(me.task, me.hot);
        }
        self.receive(me, args)
    }

    /// The same where something waits to be received, or the call is a fault.
    #[inline(never)]
    fn reply_recv_pending(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        let words = Words::new(args)?.carrying(args);
        if let Some(caller) = me.hot.caller.get(self.pin()) {
            let fault = me.hot.pending.get() & PENDING_FAULT != 0;
            let answer = if fault { Some(self.check_answer(me, caller, &words)?) } else { None };
            if words.info.has(CARRIES) {
                self.give_load(me, caller, words.info)?;
            }
            if let Some(answer) = answer {
                self.take_caller(me.hot);
                self.answer_fault(me, caller, answer, words);
            } else {
                self.take_caller(me.hot);
                self.answer_call(me, caller, words);
            }
        } else {
            self.take_pages_back(me.task, me.hot);
        }
        self.receive(me, args)
    }

    /// [`abi::Op::Reply`].
    pub fn reply(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        let words = Words::new(args)?.carrying(args);
        let saved = match args.a0 {
            0 => None,
            cap => Some(self.caps().find::<Reply>(me, Target(cap).cap(), Rights::SEND)?.object),
        };
        let caller = match saved {
            None => me.hot.caller.get(self.pin()),
            Some(reply) => self.saved_caller(reply)?,
        };
        let Some(caller) = caller else { return Err(Error::Gone.into()) };
        let answer = if self.is_fault(caller) { Some(self.check_answer(me, caller, &words)?) } else { None };
        if words.info.has(CARRIES) {
            if saved.is_some_and(|reply| !self.still_answers(me, reply)) {
                return Err(Error::Gone.into());
            }
            self.give_load(me, caller, words.info)?;
        }
        match saved {
            None => drop(self.take_caller(me.hot)),
            Some(reply) => self.take_saved(me, reply, caller),
        }
        write_values(&me.hot.regs, MsgInfo(0), [0; 4]);
        match answer {
            Some(answer) => self.answer_fault(me, caller, answer, words),
            None => self.answer_call(me, caller, words),
        }
        if !self.hot.current.is(me.task) {
            self.time().make_ready(me.task, me.hot);
        }
        self.time().dispatch();
        Ok(Answer::Settled)
    }

    /// Sends the reply. If the task runs on this caller's time, the time goes back with it and the
    /// caller runs; the task is then off the CPU.
    #[inline(always)]
    fn answer_call(self, me: Me<'k>, caller: Ref<'k, Task>, words: Words) {
        let Some(hot) = self.task_hot(caller) else {
            self.copy_utcb(me.task, caller, words.info.words());
            self.reply_remote(me, caller, words);
            return;
        };
        self.copy_utcb(me.task, caller, words.info.words());
        let from = From { sender: TaskId::NONE, target: Target(0), custom: 0 };
        self.write_message(hot, words, from);
        self.note_reply(caller, me.task, Path::Slow, How::Delivered, 0);
        self.end_call(me, caller, hot);
    }

    /// Ends a local call with an error.
    #[cold]
    fn fail_call(self, me: Me<'k>, caller: Ref<'k, Task>, error: Error) {
        let Some(hot) = self.task_hot(caller) else {
            if me.hot.lender.is(caller) {
                self.time().give_back(me.task, me.hot);
            }
            self.fail_remote(caller, error, me.task.get().id());
            return;
        };
        self.note_reply(caller, me.task, Path::Slow, How::Delivered, error as u8);
        if has_flag(hot, FLAG_IN_FAULT) {
            return self.drop_fault(me, caller, hot, error);
        }
        write_error(&hot.regs, error, 0, me.task.get().id());
        self.end_call(me, caller, hot);
    }

    /// The caller's registers hold the outcome: give its time back and let it run.
    #[inline(always)]
    pub fn end_call(self, me: Me<'k>, caller: Ref<'k, Task>, hot: &'k TaskHot) {
        if state_of(hot) == State::AwaitTimed {
            self.time().clear_deadline(caller);
        }
        if let Some(msg) = caller.get().msg.open(self.pin()) {
            msg.callee.set(None);
            msg.held.set(None);
            msg.stage.set(Stage::Home);
        }
        set_state(hot, State::Ready);
        match self.time().return_time(me.task, me.hot, caller, hot) {
            Some(sc) if self.sched.current.is(sc) => self.goes_on(caller, hot, sc),
            _ => self.time().make_ready(caller, hot),
        }
    }

    /// `caller`, which is ready, goes on with the running context, which is its time. Where it is suspended, that rests.
    #[inline(always)]
    fn goes_on(self, caller: Ref<'k, Task>, hot: &'k TaskHot, sc: Ref<'k, SchedContext>) {
        if !has_flag(hot, FLAG_SUSPENDED) {
            return self.time().run_task(caller, hot);
        }
        if let Some(sc_hot) = self.sc_hot(sc) {
            self.time().stop(sc_hot);
            self.time().hold(caller, hot, sc, sc_hot);
        }
    }

    /// [`abi::Op::SaveReply`].
    pub fn save_reply(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        let found = self.caps().find::<Reply>(me, Target(args.a0).cap(), Rights::SEND)?;
        let Some(reply) = found.object.get().hot.open(self.pin()) else {
            return Err(self.elsewhere(&found.object.get().hot));
        };
        if !reply.caller.is_null() {
            return Err(Error::InUse.into());
        }
        if found.object.get().header.has_flag(FLAG_DYING) {
            return Err(Error::Dying.into());
        }
        let Some(caller) = me.hot.caller.get(self.pin()) else { return Err(Error::Gone.into()) };
        // Whoever gets the Reply object can answer: for the caller that object is as a group.
        self.caps().may(&caller.get().header, &found.object.get().header, may::JOIN)?;
        self.take_caller(me.hot);
        reply.caller.set(Some(caller));
        self.sched.kept.set(self.sched.kept.get() + 1);
        reply.number.set(self.sched.kept.get() * MAX_CPUS as u64 + self.id().index() as u64);
        reply.server.set(Some(me.task));
        let first = me.hot.replies.get(self.pin());
        reply.prev.set(None);
        reply.next.set(first);
        if let Some(hot) = first.and_then(|r| r.get().hot.open(self.pin())) {
            hot.prev.set(Some(found.object));
        }
        me.hot.replies.set(Some(found.object));
        if let Some(msg) = caller.get().msg.open(self.pin()) {
            msg.held.set(Some(found.object));
        }
        Ok(Answer::DONE)
    }

    /// The caller that a Reply object holds; `None` where it is empty.
    fn saved_caller(self, reply: Ref<'k, Reply>) -> Result<Option<Ref<'k, Task>>> {
        match reply.get().hot.open(self.pin()) {
            Some(hot) => Ok(hot.caller.get(self.pin())),
            None => Err(self.elsewhere(&reply.get().hot)),
        }
    }

    /// Takes `caller`'s call out of a Reply object. If another task saved it, that one loses the caller's time.
    fn take_saved(self, me: Me<'k>, reply: Ref<'k, Reply>, caller: Ref<'k, Task>) {
        let Some(hot) = reply.get().hot.open(self.pin()) else { return };
        let server = hot.server.get(self.pin()).filter(|server| *server != me.task);
        self.unlink_reply(reply);
        if let Some(msg) = caller.get().msg.open(self.pin()) {
            msg.held.set(None);
        }
        if let Some((server, server_hot)) = server.and_then(|t| Some((t, self.task_hot(t)?))) {
            self.time().recover(caller, server, server_hot);
        }
    }

    /// Empties a Reply object and takes it out of its server's list.
    pub fn unlink_reply(self, reply: Ref<'k, Reply>) {
        let Some(hot) = reply.get().hot.open(self.pin()) else { return };
        let (next, prev) = (hot.next.take(self.pin()), hot.prev.take(self.pin()));
        if let Some(next_hot) = next.and_then(|r| r.get().hot.open(self.pin())) {
            next_hot.prev.set(prev);
        }
        match prev.and_then(|r| r.get().hot.open(self.pin())) {
            Some(prev_hot) => prev_hot.next.set(next),
            None => {
                if let Some(server) = hot.server.get(self.pin()).and_then(|t| self.task_hot(t)) {
                    server.replies.set(next);
                }
            }
        }
        hot.caller.set(None);
        hot.server.set(None);
    }

    /// [`abi::Op::Forward`]: the call goes on as its caller's, with the forwarder's words and the forwarder's standing in the
    /// group, and says so. A fault stays one.
    ///
    /// A message's UTCB words are in its caller's UTCB until they are received. So the forwarder's come to be there: those that
    /// the caller has there besides, it never sent. It learns of them; a reply would tell it as much.
    pub fn forward(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        let mut words = Words::new(args)?;
        if MsgInfo(args.info).has(FLAG_PAGES) {
            return Err(Refusal::new(Error::NoPage, 0));
        }
        if MsgInfo(args.info).has(FLAG_CAPS) {
            return Err(Refusal::new(Error::NoCapability, 0));
        }
        let fault = me.hot.pending.get() & PENDING_FAULT != 0;
        if fault {
            words.info = MsgInfo::new(words.info.label(), 0).flag(FLAG_FAULT);
        }
        words.info = words.info.flag(FLAG_FORWARDED);
        let need = if words.info.words() > 0 || fault { Rights::SEND | Rights::STRING } else { Rights::SEND };
        let found = self.caps().find_group(me, Target(args.a0).cap(), need)?;
        let dest = self.caps().task_in(found, Target(args.a0).index())?;
        let Some(caller) = me.hot.caller.get(self.pin()) else { return Err(Error::Gone.into()) };
        if dest.task == me.task || dest.task == caller {
            return Err(Error::SelfCall.into());
        }
        // It is the caller who comes to talk in that group.
        self.caps().may(&caller.get().header, &found.group.get().header, may::JOIN)?;
        let Some(msg) = caller.get().msg.open(self.pin()) else { return Err(Error::Gone.into()) };
        let sender = caller.get().id();
        let target = Target::new(Cap::NULL, Target(args.a0).index());
        let from = From { sender, target, custom: dest.custom };
        let local = self.task_hot(dest.task);
        if let Some(callee) = local {
            if callee.state.get() >> 32 != dest.tag >> 32 || is_dying(callee) {
                return Err(Refusal::dead(dest.task.get().id()));
            }
            if !me.hot.lender.is(caller) && self.time().lacks_time(caller, callee) {
                return Err(Error::NoTime.into());
            }
        }
        self.copy_utcb(me.task, caller, words.info.words());
        self.take_caller(me.hot);
        write_values(&me.hot.regs, MsgInfo(0), [0; 4]);
        if me.hot.lender.is(caller) {
            self.time().give_back(me.task, me.hot);
        }
        self.event(|| Event::Forward { caller: sender, callee: dest.task.get().id() });
        match local {
            Some(callee) => self.pass_on(caller, msg, dest.task, callee, words, from),
            None => self.forward_remote(caller, dest.task, dest.tag, words, from),
        }
        if !self.hot.current.is(me.task) {
            self.time().make_ready(me.task, me.hot);
        }
        self.time().dispatch();
        Ok(Answer::Settled)
    }

    /// Delivers or queues a call whose caller is already waiting, and whose time rests.
    pub fn pass_on(
        self,
        caller: Ref<'k, Task>,
        msg: &Message,
        callee: Ref<'k, Task>,
        hot: &'k TaskHot,
        words: Words,
        from: From,
    ) {
        msg.callee.set(Some(callee));
        if !self.is_receiving(hot) {
            if let Some(caller_hot) = self.task_hot(caller) {
                set_state(caller_hot, State::Sending);
            }
            self.queue_call(caller, msg, callee, hot, words, from);
            return;
        }
        if words.info.has(CARRIES) && !self.take_load(caller, callee, hot, words.info) {
            return;
        }
        self.note_received(caller, callee);
        msg.stage.set(Stage::Owed);
        if let Some(caller_hot) = self.task_hot(caller) {
            let timed = caller_hot.deadline.is_queued();
            set_state(caller_hot, if timed { State::AwaitTimed } else { State::Await });
        }
        self.deliver(callee, hot, caller, words, from);
        if words.info.has(FLAG_FAULT) {
            self.show_fault(caller, callee, hot);
        }
        match self.time().resting_time(caller) {
            Some((sc, sc_hot)) => {
                self.time().lend(sc, sc_hot, caller, callee, hot);
                self.time().enqueue_open(sc, sc_hot);
            }
            None => self.time().start(callee, hot),
        }
    }
}
