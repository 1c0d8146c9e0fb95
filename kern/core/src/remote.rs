//! What crosses CPUs: messages in mailboxes.
//!
//! # Ownership
//! A task's message block belongs to the CPU its home word names; the word is changed last, before the
//! push that hands it over. So a CPU that opens it owns it, except while the block is still in its own
//! mailbox: stage [`Stage::Out`] says so.
//!
//! # Recall
//! A task whose call is on another CPU and that is killed, cancelled or out of time asks for its block
//! back: RECALL in its control word, sent to where the block is. The block comes back as a reply with
//! an error; if it had been replied to already, the reply comes first, since one producer's messages
//! stay in order. What was asked is carried out when the block is home.
//!
//! A recall may find the block gone, because the reply was quicker; by then the task may have sent
//! its next call to the same CPU. `Task::wanted_back` tells the two apart: set by the home CPU before
//! it asks, cleared when the block is home, so before the next call is sent.

use abi::{Counter, Error, MsgInfo, TaskId};
use core::sync::atomic::Ordering::{Acquire, Release};
use kern_base::cpu::Mail;
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::reply::Reply;
use kern_base::sched_context::SchedContext;
use kern_base::task::{Message, Request, Stage, State, Task, TaskHot, ctl};
use smp::cpu::CpuId;
use smp::door::Ref;
use smp::coalesced::CoalescedBits;
use smp::mailbox::{Node, Popped, Wake};

use crate::answer::write_error;
use crate::control::Unwait;
use crate::ipc::{From, Words};
use crate::schedule::{set_state, state_of};
use crate::{Answer, Cx, Me, Refusal, Result};

/// Most messages that one entry takes from the mailbox.
const DRAIN_BOUND: usize = 32;

impl<'k, M: Machine> Cx<'k, M> {
    /// Pushes a node into a CPU's mailbox and interrupts it where its wake rule asks for that.
    pub fn post(self, to: CpuId, node: Ref<'k, Node<Mail>>, mail: Mail) {
        let Some(cpu) = self.k.cpus.get(self.pin, to.index()) else { return };
        let wake = cpu.get().mailbox.push(self.pin, node, mail);
        self.interrupt(to, wake);
    }

    /// Does what a push asked for.
    pub fn interrupt(self, to: CpuId, wake: Wake) {
        if wake.is_needed() {
            self.count(Counter::IpiSent);
            self.k.machine.wake(to);
        }
    }

    /// Raises bits and, where none was up, sends their node to `to`.
    fn raise_bits(self, to: CpuId, bits: Ref<'k, CoalescedBits<Mail>>, value: u64, mail: Mail) {
        let Some(cpu) = self.k.cpus.get(self.pin, to.index()) else { return };
        let wake = cpu.get().mailbox.raise(self.pin, bits, value, mail);
        self.interrupt(to, wake);
    }

    /// Takes messages from this CPU's mailbox, a bounded number; whether there are more.
    pub fn drain(self) -> bool {
        for _ in 0..DRAIN_BOUND {
            match self.cpu.mailbox.pop(self.pin) {
                Popped::Mail(mail) => {
                    self.count(Counter::MailTaken);
                    self.receive_mail(mail);
                }
                Popped::Empty => return false,
                // A producer stands between exchange and link: give it a moment.
                Popped::Between => core::hint::spin_loop(),
            }
        }
        true
    }

    fn receive_mail(self, mail: Mail) {
        match mail {
            Mail::Message(task) => self.message_arrived(task.get(self.pin)),
            Mail::Control(task) => self.control_arrived(task.get(self.pin)),
            Mail::Bits(object) => self.bits_arrived(object.get(self.pin)),
            Mail::Time(sc) => self.time_arrived(sc.get(self.pin)),
            Mail::Grace(mail) => self.grace_arrived(mail),
        }
    }

    fn message_arrived(self, task: Ref<'k, Task>) {
        let Some(msg) = task.get().msg.open(self.pin) else { return };
        match msg.stage.get() {
            Stage::Out => self.call_arrived(task, msg),
            Stage::Ask => self.serve_request(task, msg),
            _ => self.reply_arrived(task, msg),
        }
    }

    // --- calls out -------------------------------------------------------------------------------

    /// A call to a task of another CPU: message block and time travel there.
    pub fn call_remote(
        self,
        me: Me<'k>,
        callee: Ref<'k, Task>,
        tag: u64,
        words: Words,
        from: From,
        deadline: Option<u64>,
    ) -> Result<Answer> {
        let Some(msg) = me.task.get().msg.open(self.pin) else { return Err(Error::BadState.into()) };
        if let Some(at) = deadline {
            self.set_deadline(me.task, at);
        }
        let time = self.stop_current();
        set_state(me.hot, State::AwaitRemote);
        me.hot.recall.set(0);
        msg.sc.set(time);
        self.send_call(me.task, msg, callee, tag, words, from);
        self.dispatch();
        Ok(Answer::Settled)
    }

    /// Sends a call on to another CPU; `msg.sc` says what time goes along.
    fn send_call(self, caller: Ref<'k, Task>, msg: &Message, callee: Ref<'k, Task>, tag: u64, words: Words, from: From) {
        let to = callee.get().hot.home();
        write_block(msg, words, from);
        msg.tag.set(tag);
        msg.callee.set(Some(callee));
        msg.held.set(None);
        msg.stage.set(Stage::Out);
        if let Some(sc) = msg.sc.get(self.pin) {
            match self.sc_hot(sc) {
                Some(hot) => {
                    msg.priority.set(hot.state.priority());
                    self.move_time(sc, to);
                }
                None => msg.sc.set(None),
            }
        }
        caller.get().msg.set_home(self.pin, to);
        self.post(to, caller.map(|t| &t.msg_node), Mail::Message(caller.ptr()));
    }

    /// A forwarded call whose new callee is on another CPU.
    pub fn forward_remote(self, caller: Ref<'k, Task>, callee: Ref<'k, Task>, tag: u64, words: Words, from: From) {
        let Some(msg) = caller.get().msg.open(self.pin) else { return };
        let time = self.callers_time(caller).filter(|sc| self.sc_hot(*sc).is_some_and(|h| h.task.is(caller)));
        msg.sc.set(time);
        if let Some(hot) = self.task_hot(caller) {
            set_state(hot, State::AwaitRemote);
            hot.recall.set(0);
        }
        self.send_call(caller, msg, callee, tag, words, from);
    }

    /// A call from elsewhere: delivered, queued, or sent on to where its callee lives now.
    fn call_arrived(self, caller: Ref<'k, Task>, msg: &Message) {
        if self.task_hot(caller).is_some_and(|hot| hot.recall.get() != 0) {
            // It was asked back while it came home by itself, forwarded to a task of its caller's CPU.
            msg.callee.set(None);
            msg.error.set(RECALLED);
            self.reply_arrived(caller, msg);
            return;
        }
        let Some(callee) = msg.callee.get(self.pin) else {
            self.fail_remote(caller, Error::Gone, TaskId::NONE);
            return;
        };
        let words = Words { info: msg.info.get(), regs: core::array::from_fn(|i| msg.regs[i].get()) };
        let from = From { sender: msg.sender.get(), exposure: msg.exposure.get(), custom: msg.custom.get() };
        let Some(hot) = self.task_hot(callee) else {
            self.send_call(caller, msg, callee, msg.tag.get(), words, from);
            return;
        };
        if hot.state.get() >> 32 != msg.tag.get() >> 32 || state_of(hot) == State::Dead || hot.recall.get() == Error::Dying as u8 {
            self.fail_remote(caller, Error::Dead, callee.get().id());
            return;
        }
        if let Some(caller_hot) = self.task_hot(caller) {
            // A forwarded call that came back to its caller's own CPU is a local call from here on.
            set_state(caller_hot, State::Sending);
        }
        self.pass_on(caller, msg, callee, hot, words, from);
    }

    // --- replies back ----------------------------------------------------------------------------

    /// A reply to a caller of another CPU. Time that came with the call goes back with it.
    pub fn reply_remote(self, me: Me<'k>, caller: Ref<'k, Task>, words: Words) {
        let Some(msg) = caller.get().msg.open(self.pin) else { return };
        write_block(msg, words, From { sender: TaskId::NONE, exposure: 0, custom: 0 });
        self.collect_time(caller, msg, Some(me.task));
        self.send_back(caller, msg, 0);
    }

    /// Ends the call of a caller on another CPU with an error.
    pub fn fail_remote(self, caller: Ref<'k, Task>, error: Error, who: TaskId) {
        let Some(msg) = caller.get().msg.open(self.pin) else { return };
        write_block(msg, Words { info: MsgInfo(0), regs: [0; 4] }, From { sender: who, exposure: 0, custom: 0 });
        let holder = msg.callee.get(self.pin);
        self.collect_time(caller, msg, holder);
        self.send_back(caller, msg, error as u8);
    }

    /// Takes the caller's time out of the hands of `holder`, if it is here and has not been passed on.
    fn collect_time(self, caller: Ref<'k, Task>, msg: &Message, holder: Option<Ref<'k, Task>>) {
        let Some(sc) = msg.sc.get(self.pin) else { return };
        let Some(sc_hot) = self.sc_hot(sc) else {
            msg.sc.set(None);
            return;
        };
        let holding = sc_hot.task.get(self.pin);
        if holding != Some(caller) && holding != holder {
            msg.sc.set(None);
            return;
        }
        if let Some(hot) = holding.filter(|t| *t != caller).and_then(|t| self.task_hot(t)) {
            if hot.sc.is(sc) {
                hot.sc.set(hot.own_sc.get(self.pin));
            }
        }
        self.withdraw(sc);
        sc_hot.task.set(Some(caller));
    }

    fn send_back(self, caller: Ref<'k, Task>, msg: &Message, error: u8) {
        let home = caller.get().hot.home();
        msg.error.set(error);
        msg.callee.set(None);
        msg.held.set(None);
        msg.stage.set(Stage::Back);
        if let Some(sc) = msg.sc.get(self.pin) {
            self.move_time(sc, home);
        }
        caller.get().msg.set_home(self.pin, home);
        self.post(home, caller.map(|t| &t.msg_node), Mail::Message(caller.ptr()));
    }

    /// The block is home: the call is over, by reply, error or recall.
    fn reply_arrived(self, task: Ref<'k, Task>, msg: &Message) {
        let Some(hot) = self.task_hot(task) else { return };
        let asked = msg.stage.get() == Stage::AskDone;
        msg.stage.set(Stage::Home);
        task.get().wanted_back.store(false, Release);
        if hot.deadline.is_queued() {
            self.clear_deadline(task);
        }
        if hot.recall.get() == Error::Dying as u8 {
            self.finish_kill(task, hot);
            return;
        }
        if asked {
            hot.answered.set(true);
            self.restart_now(task, hot);
            return;
        }
        let (error, who) = match (msg.error.get(), hot.recall.take()) {
            // Asked back by this side: nobody over there is to blame.
            (RECALLED, why) => (why, TaskId::NONE),
            (error, _) => (error, msg.sender.get()),
        };
        match Error::from_raw(error) {
            Some(error) => write_error(&hot.regs, error, 0, who),
            None => {
                let regs = &hot.regs;
                crate::answer::write_values(regs, msg.info.get(), [0, 0, msg.regs[0].get(), msg.regs[1].get()]);
                regs.r9.set(msg.regs[2].get());
                regs.r10.set(msg.regs[3].get());
            }
        }
        self.make_ready(task, hot);
        self.dispatch();
    }

    // --- recall and control ----------------------------------------------------------------------

    /// Asks for a task's message block back from wherever it is.
    pub fn recall(self, task: Ref<'k, Task>) {
        task.get().wanted_back.store(true, Release);
        self.raise_bits(task.get().msg.home(), task.map(|t| &t.ctl), ctl::RECALL, Mail::Control(task.ptr()));
    }

    /// Sets control bits on a task, wherever it lives.
    pub fn send_control(self, task: Ref<'k, Task>, bits: u64) {
        if let Some(_hot) = self.task_hot(task) {
            self.control(task, bits);
            return;
        }
        self.raise_bits(task.get().hot.home(), task.map(|t| &t.ctl), bits, Mail::Control(task.ptr()));
    }

    fn control_arrived(self, task: Ref<'k, Task>) {
        let bits = task.get().ctl.take(self.pin);
        if let Some(hot) = self.task_hot(task) {
            self.control(task, bits & !ctl::RECALL);
            if bits & ctl::RECALL != 0 && state_of(hot) == State::AwaitRemote && hot.recall.get() != 0 {
                self.recall(task);
            }
            self.dispatch();
            return;
        }
        let mut rest = bits & !ctl::RECALL;
        let mut to = task.get().hot.home();
        // A recall that the reply overtook must not take the next call away.
        if bits & ctl::RECALL != 0 && task.get().wanted_back.load(Acquire) {
            match task.get().msg.open(self.pin) {
                Some(msg) if msg.stage.get() == Stage::Out => {
                    // Still in this CPU's own mailbox: look again behind it.
                    rest = bits;
                    to = self.id();
                }
                Some(msg) => self.give_up(task, msg),
                None if task.get().msg.home() != to => {
                    // It was forwarded: follow it.
                    rest = bits;
                    to = task.get().msg.home();
                }
                None => {}
            }
        }
        if rest != 0 {
            self.raise_bits(to, task.map(|t| &t.ctl), rest, Mail::Control(task.ptr()));
        }
    }

    /// The callee's CPU lets a recalled call go.
    fn give_up(self, caller: Ref<'k, Task>, msg: &Message) {
        let holder = msg.callee.get(self.pin);
        self.unlink_call(caller);
        self.collect_time(caller, msg, holder);
        self.send_back(caller, msg, RECALLED);
        if let Some((callee, hot)) = holder.and_then(|t| Some((t, self.task_hot(t)?))) {
            if crate::schedule::runnable(hot) && !self.hot.current.is(callee) {
                self.start(callee, hot);
            }
        }
        self.dispatch();
    }

    /// Makes `to` the home of a context; what travels there tells it so.
    fn move_time(self, sc: Ref<'k, SchedContext>, to: CpuId) {
        sc.get().node.hand_to(self.pin, to);
        sc.get().hot.set_home(self.pin, to);
    }

    /// A context came home, or to whom it is to serve next.
    fn time_arrived(self, sc: Ref<'k, SchedContext>) {
        sc.get().hot.set_home(self.pin, self.id());
        self.settle(sc);
        self.dispatch();
    }

    /// Sends a context, which is neither running nor queued, to another CPU. Nobody uses it before it is
    /// taken from the mailbox there: its node is not free sooner.
    pub fn send_time(self, sc: Ref<'k, SchedContext>, to: CpuId) {
        sc.get().hot.send_to(self.pin, to);
        self.post(to, sc.map(|s| &s.node), Mail::Time(sc.ptr()));
    }

    // --- Notifications ---------------------------------------------------------------------------

    /// Raises bits of a Notification of another CPU.
    pub fn raise_remote(self, object: Ref<'k, Notification>, bits: u64) {
        if bits != 0 {
            self.raise_bits(object.get().hot.home(), object.map(|n| &n.remote), bits, Mail::Bits(object.ptr()));
        }
    }

    fn bits_arrived(self, object: Ref<'k, Notification>) {
        let bits = object.get().remote.take(self.pin);
        match object.get().hot.open(self.pin) {
            Some(hot) => self.raise(hot, bits),
            None => self.raise_remote(object, bits),
        }
    }

    // --- requests --------------------------------------------------------------------------------

    /// Asks another CPU to do something with an object of its own; the system call starts again when
    /// the answer is back.
    pub fn ask(self, me: Me<'k>, to: CpuId, request: Request) -> Refusal {
        let Some(msg) = me.task.get().msg.open(self.pin) else { return Error::BadState.into() };
        msg.request.set(Some(request));
        msg.sc.set(None);
        msg.stage.set(Stage::Ask);
        me.task.get().msg.set_home(self.pin, to);
        self.post(to, me.task.map(|t| &t.msg_node), Mail::Message(me.task.ptr()));
        Refusal::Again
    }

    fn serve_request(self, task: Ref<'k, Task>, msg: &Message) {
        let again = match msg.request.get() {
            Some(Request::Kill(victim)) => self.serve(victim.get(self.pin).get().hot.home(), || {
                self.send_control(victim.get(self.pin), ctl::KILL);
            }),
            Some(Request::StopTime(sc)) => {
                let sc = sc.get(self.pin);
                self.serve(sc.get().hot.home(), || self.stop_time(sc)).or_else(|| self.look_again_for(sc))
            }
            Some(Request::StopBits(object)) => {
                self.serve(object.get(self.pin).get().hot.home(), || self.stop_bits(object.get(self.pin)))
            }
            Some(Request::StopReply(reply)) => {
                self.serve(reply.get(self.pin).get().hot.home(), || self.stop_reply(reply.get(self.pin)))
            }
            Some(Request::Forget) => {
                self.forget_here();
                CpuId::new(self.id().index() + 1).filter(|next| next.index() < self.k.cpu_count())
            }
            None => None,
        };
        let to = match again {
            Some(to) => to,
            None => {
                msg.stage.set(Stage::AskDone);
                msg.request.set(None);
                task.get().hot.home()
            }
        };
        task.get().msg.set_home(self.pin, to);
        self.post(to, task.map(|t| &t.msg_node), Mail::Message(task.ptr()));
        self.dispatch();
    }

    /// Serves a request here, or says where its object has gone.
    fn serve(self, home: CpuId, work: impl FnOnce()) -> Option<CpuId> {
        if home != self.id() {
            return Some(home);
        }
        work();
        None
    }

    /// A context on its way here has its message in this CPU's mailbox, or nearly: look behind it.
    fn look_again_for(self, sc: Ref<'k, SchedContext>) -> Option<CpuId> {
        let home = sc.get().hot.home();
        let missed = sc.get().hot.is_under_way() || home != self.id();
        core::hint::spin_loop();
        missed.then_some(home)
    }

    /// Makes a context of this CPU inert: its owner and whoever runs on it lose it.
    pub fn stop_time(self, sc: Ref<'k, SchedContext>) {
        let Some(hot) = self.sc_hot(sc) else { return };
        self.withdraw(sc);
        for task in [hot.owner.take(self.pin), hot.task.take(self.pin)].into_iter().flatten() {
            if let Some(task_hot) = self.task_hot(task) {
                if task_hot.own_sc.is(sc) {
                    task_hot.own_sc.set(None);
                }
                if task_hot.sc.is(sc) {
                    task_hot.sc.set(None);
                    if crate::schedule::runnable(task_hot) {
                        // It only had it lent: it goes on with what it has.
                        self.start(task, task_hot);
                    }
                }
            }
        }
        self.dispatch();
    }

    /// Makes a Notification of this CPU inert: who waits for it is told.
    pub fn stop_bits(self, object: Ref<'k, Notification>) {
        let Some(hot) = object.get().hot.open(self.pin) else { return };
        if let Some((waiter, task)) = hot.waiter.get(self.pin).and_then(|t| Some((t, self.task_hot(t)?))) {
            self.fail_wait(waiter, task, Error::Gone);
        }
        if let Some(task) = hot.bound.take(self.pin).and_then(|t| self.task_hot(t)) {
            task.bound.set(None);
        }
    }

    /// Empties a Reply of this CPU: the caller it holds is told that no answer will come.
    pub fn stop_reply(self, reply: Ref<'k, Reply>) {
        let Some(hot) = reply.get().hot.open(self.pin) else { return };
        let Some(caller) = hot.caller.get(self.pin) else { return };
        match self.task_hot(caller) {
            Some(task) => self.fail_wait(caller, task, Error::Gone),
            None => {
                self.unlink_reply(reply);
                self.fail_remote(caller, Error::Gone, TaskId::NONE);
            }
        }
    }

    /// Takes a task out of a wait for a grace period or a request.
    pub fn unwait_restart(self, task: Ref<'k, Task>, hot: &TaskHot) -> Unwait {
        // Not "is home": the fastpath leaves the stage of a call that is over as it was.
        let under_way = |msg: &Message| matches!(msg.stage.get(), Stage::Out | Stage::Back | Stage::Ask | Stage::AskDone);
        if task.get().msg.open(self.pin).is_none_or(under_way) {
            return Unwait::Recalled;
        }
        self.unlink_grace_waiter(task, hot);
        Unwait::Done
    }
}

/// `Message::error` of a block that came back because it was recalled.
const RECALLED: u8 = u8::MAX;

fn write_block(msg: &Message, words: Words, from: From) {
    msg.info.set(words.info);
    for (cell, value) in msg.regs.iter().zip(words.regs) {
        cell.set(value);
    }
    msg.exposure.set(from.exposure);
    msg.custom.set(from.custom);
    msg.sender.set(from.sender);
}
