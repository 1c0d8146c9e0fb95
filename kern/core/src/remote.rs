//! What crosses CPUs: calls, replies, control bits and Notification bits in mailboxes. Requests about
//! objects of other CPUs: [`crate::requests`].
//!
//! # Ownership
//! A task's message block belongs to the CPU its home word names; the word is changed last, before the
//! push that hands it over. So a CPU that opens it owns it, except while the block is still in its own
//! mailbox: stages [`Stage::Out`] and [`Stage::Ask`] say so.
//!
//! # Recall
//! A task whose block is on another CPU and that is killed, cancelled or out of time asks for it back:
//! it notes the block's number and why ([`Task::recalled`]), and sends RECALL in its control word to
//! where the block is. The block comes back as a reply with an error; if it had been replied to already,
//! the reply comes first, and a RECALL that arrives later finds no block of that number. What was asked
//! is carried out when the block is home.

use abi::trace::{Event, How, Path};
use abi::{Cap, Counter, Error, FLAG_EVENT, FLAG_FAULT, MsgInfo, Target, TaskId};
use kern_base::cpu::Mail;
use kern_base::header::{FLAG_DEAD, FLAG_DYING};
use kern_base::limits::DRAIN_STEPS;
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::sched_context::SchedContext;
use kern_base::task::{FLAG_IN_FAULT, Message, Stage, State, Task, TaskHot, ctl};
use smp::coalesced::CoalescedBits;
use smp::cpu::CpuId;
use smp::door::Ref;
use smp::mailbox::{Batch, Drained, Node, Wake};
use smp::shootdown::What;
use smp::sync::Ordering::{AcqRel, Acquire, Release};

use crate::answer::{write_error, write_values};
use crate::broadcast::{is_broadcast, progress_of};
use crate::carry::CARRIES;
use crate::faults::{not_express, take_registers_along};
use crate::ipc::{From, Words};
use crate::schedule::{Running, has_flag, set_state, state_of};
use crate::{Answer, Cx, Me, Refusal, Result};

/// Flags of messages that are more than a call's registers and words.
pub const SPECIAL: u64 = FLAG_FAULT | CARRIES | FLAG_EVENT;
impl<'k, M: Machine> Cx<'k, M> {
    /// Pushes a node into a CPU's mailbox and interrupts it where its wake rule asks for that.
    pub fn post(self, to: CpuId, node: Ref<'k, Node<Mail>>, mail: Mail) {
        let Some(cpu) = self.k.cpus.get(self.pin(), to.index()) else { return };
        let wake = cpu.get().mailbox().push(self.pin(), node, mail);
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
        let Some(cpu) = self.k.cpus.get(self.pin(), to.index()) else { return };
        let wake = cpu.get().mailbox().raise(self.pin(), bits, value, mail);
        self.interrupt(to, wake);
    }

    /// Takes messages from this CPU's mailbox, a bounded number, and lets the best task run. Where all that
    /// happened is that one message let one task run at once: that task, which ends its system call.
    #[inline(always)]
    pub fn take_mail(self) -> Option<Running<'k>> {
        match self.cpu.inbox().pop_only() {
            Some(mail) => self.receive_mail(mail),
            None => {
                self.drain();
                None
            }
        }
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
        self.note_mail(mail);
        match mail {
            Mail::Message(task) => {
                let task = task.get(self.pin());
                let runs = self.express(task);
                if runs.is_none() {
                    self.message_arrived(task);
                }
                return runs;
            }
            Mail::Control(task) => self.control_arrived(task.get(self.pin())),
            Mail::Arrival(task) => self.task_arrived(task.get(self.pin())),
            Mail::Bits(object) => self.bits_arrived(object.get(self.pin())),
            Mail::Grace(mail) => self.grace_arrived(mail),
            Mail::Shoot(mail) => self.shoot_arrived(mail, What::Space),
            Mail::ShootAll(mail) => self.shoot_arrived(mail, What::Everything),
        }
        None
    }

    /// The common calls and replies in few steps.
    #[inline(always)]
    fn express(self, task: Ref<'k, Task>) -> Option<Running<'k>> {
        let msg = task.get().msg.open(self.pin())?;
        match msg.stage.get() {
            Stage::Out => self.express_delivery(task, msg),
            Stage::Back => self.express_return(task, msg),
            _ => None,
        }
    }

    #[inline(never)]
    fn message_arrived(self, task: Ref<'k, Task>) {
        let Some(msg) = task.get().msg.open(self.pin()) else { return };
        match msg.stage.get() {
            Stage::Out => self.call_arrived(task, msg),
            Stage::Ask => self.request_arrived(task, msg),
            _ => self.block_is_home(task, msg),
        }
        self.dispatch();
    }

    /// Hands a message block, and the time in it, to another CPU.
    pub fn send_block(self, task: Ref<'k, Task>, msg: &Message, to: CpuId) {
        self.hand_block(task, msg, to);
        self.post(to, task.map(|t| &t.msg_node), Mail::Message(task.ptr()));
    }

    /// Makes another CPU the home of a message block and of the time in it. The caller then sends the message.
    fn hand_block(self, task: Ref<'k, Task>, msg: &Message, to: CpuId) {
        let sc = msg.sc.get(self.pin());
        task.get().msg.set_home_with(self.pin(), sc.map(|sc| &sc.get().hot), to);
    }

    /// A block of this CPU's own task leaves: it gets a new number. Nobody has asked it back.
    #[inline(always)]
    pub fn number_block(self, hot: &TaskHot, msg: &Message) {
        debug_assert_eq!(hot.recall.get(), 0, "a recall is over before the next message leaves");
        hot.sent.set(hot.sent.get().wrapping_add(1));
        msg.number.set(hot.sent.get());
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
        let Some(msg) = me.task.get().msg.open(self.pin()) else { return Err(Error::BadState.into()) };
        if let Some(at) = deadline {
            self.set_deadline(me.task, at);
        }
        self.event(|| {
            let (caller, callee) = (me.task.get().id(), callee.get().id());
            Event::Call { caller, callee, path: Path::Slow, how: How::Sent }
        });
        set_state(me.hot, State::AwaitRemote);
        self.take_running_along(msg, callee.get().hot.mail_target(self.pin()));
        self.number_block(me.hot, msg);
        self.send_call(me.task, msg, callee, tag, words, from);
        self.dispatch();
        Ok(Answer::Settled)
    }

    /// The fault of the running task goes to a handler of another CPU. (A function of its own: the one above is
    /// part of the general path of a call.)
    #[inline(never)]
    pub fn fault_remote(
        self,
        me: Me<'k>,
        msg: &Message,
        callee: Ref<'k, Task>,
        tag: u64,
        words: Words,
        from: From,
    ) {
        self.event(|| {
            let (caller, callee) = (me.task.get().id(), callee.get().id());
            Event::Call { caller, callee, path: Path::Slow, how: How::Sent }
        });
        set_state(me.hot, State::AwaitRemote);
        self.take_running_along(msg, callee.get().hot.mail_target(self.pin()));
        take_registers_along(me.hot, msg);
        self.number_block(me.hot, msg);
        self.send_call(me.task, msg, callee, tag, words, from);
        self.dispatch();
    }

    /// The running task stops. Its time goes into its message block, if it may run there.
    #[inline(always)]
    fn take_running_along(self, msg: &Message, to: CpuId) {
        match self.running().filter(|(_, sc_hot)| sc_hot.state.may_run_on(to)) {
            Some((sc, sc_hot)) => {
                self.stop(sc_hot);
                msg.sc.set(Some(sc));
            }
            None => {
                self.stop_current();
                msg.sc.set(None);
            }
        }
    }

    /// A caller's resting time goes into its message block, if it may run there.
    fn take_time_along(self, caller: Ref<'k, Task>, hot: &TaskHot, msg: &Message, to: CpuId) {
        let fits = |sc: &Ref<'k, SchedContext>| self.sc_hot(*sc).is_some_and(|h| h.state.may_run_on(to));
        let sc = self.time_of(caller, hot).filter(fits);
        if sc.is_some_and(|sc| hot.borrowed.is(sc)) {
            hot.borrowed.set(None);
        }
        msg.sc.set(sc);
    }

    /// Sends a call on to another CPU, with the time that `msg` has.
    fn send_call(
        self,
        caller: Ref<'k, Task>,
        msg: &Message,
        callee: Ref<'k, Task>,
        tag: u64,
        words: Words,
        from: From,
    ) {
        write_block(msg, words, from);
        msg.tag.set(if words.info.has(SPECIAL) { not_express(tag) } else { tag });
        msg.callee.set(Some(callee));
        msg.held.set(None);
        msg.stage.set(Stage::Out);
        self.send_block(caller, msg, callee.get().hot.mail_target(self.pin()));
    }

    /// A forwarded call, whose caller's time rests, to a callee of another CPU.
    pub fn forward_remote(
        self,
        caller: Ref<'k, Task>,
        callee: Ref<'k, Task>,
        tag: u64,
        words: Words,
        from: From,
    ) {
        let Some(msg) = caller.get().msg.open(self.pin()) else { return };
        if let Some(hot) = self.task_hot(caller) {
            set_state(hot, State::AwaitRemote);
            self.take_time_along(caller, hot, msg, callee.get().hot.mail_target(self.pin()));
            take_registers_along(hot, msg);
            self.number_block(hot, msg);
        }
        self.send_call(caller, msg, callee, tag, words, from);
    }

    /// Adds a queued call to the batch with which its callee moves to another CPU. `word` is the callee's state word.
    pub fn send_along(self, caller: Ref<'k, Task>, to: CpuId, word: u64, batch: &mut Batch<'k, Mail>) {
        let Some(msg) = caller.get().msg.open(self.pin()) else { return };
        if let Some(hot) = self.task_hot(caller) {
            set_state(hot, State::AwaitRemote);
            self.take_time_along(caller, hot, msg, to);
            take_registers_along(hot, msg);
            self.number_block(hot, msg);
        }
        let tag = word & !u64::from(u32::MAX);
        msg.tag.set(if msg.info.get().has(SPECIAL) { not_express(tag) } else { tag });
        msg.stage.set(Stage::Out);
        self.hand_block(caller, msg, to);
        batch.add(caller.map(|t| &t.msg_node), Mail::Message(caller.ptr()));
    }

    /// A call from elsewhere: delivered, queued, or sent on to where its callee lives now.
    fn call_arrived(self, caller: Ref<'k, Task>, msg: &Message) {
        let Some(callee) = msg.callee.get(self.pin()) else {
            return self.fail_remote(caller, Error::Gone, TaskId::NONE);
        };
        let words = Words { info: msg.info.get(), regs: core::array::from_fn(|i| msg.regs[i].get()) };
        let from = From { sender: msg.sender.get(), target: msg.target.get(), custom: msg.custom.get() };
        let who = callee.get().id();
        if callee.get().header.has_flag(FLAG_DEAD) {
            return self.fail_remote(caller, Error::Dead, who);
        }
        let Some(hot) = self.task_hot(callee) else {
            return self.send_call(caller, msg, callee, msg.tag.get(), words, from);
        };
        if hot.state.get() >> 32 != msg.tag.get() >> 32 || is_dying(hot) {
            return self.fail_remote(caller, Error::Dead, who);
        }
        if let Some(caller_hot) = self.task_hot(caller) {
            // Forwarded back to its caller's own CPU: it was home again, unless it is wanted there.
            if self.is_wanted_back(caller_hot, msg) {
                return self.send_back(caller, msg, RECALLED);
            }
            self.time_is_home(caller, caller_hot, msg);
        }
        if words.info.has(FLAG_EVENT) {
            return self.event_arrived(caller, msg, callee, hot);
        }
        if self.lacks_time(caller, hot) {
            return self.fail_remote(caller, Error::NoTime, TaskId::NONE);
        }
        if let Some(caller_hot) = self.task_hot(caller) {
            set_state(caller_hot, State::Sending);
        }
        self.pass_on(caller, msg, callee, hot, words, from);
    }

    /// A block of this CPU's own task is home, and the time in it with the task.
    fn time_is_home(self, task: Ref<'k, Task>, hot: &TaskHot, msg: &Message) {
        if let Some(sc) = msg.sc.take(self.pin())
            && let Some(sc_hot) = self.sc_hot(sc)
        {
            self.hold(task, hot, sc, sc_hot);
        }
    }

    // --- replies back ----------------------------------------------------------------------------

    /// The reply of `me`, which is running, to a caller of another CPU. Time that came with the call goes
    /// back with it.
    pub fn reply_remote(self, me: Me<'k>, caller: Ref<'k, Task>, words: Words) {
        let Some(msg) = caller.get().msg.open(self.pin()) else { return };
        write_block(msg, words, From { sender: TaskId::NONE, target: Target(0), custom: 0 });
        self.note_reply(caller, me.task, Path::Slow, How::Sent, 0);
        if me.hot.lender.is(caller) {
            self.give_back(me.task, me.hot);
        }
        self.send_back(caller, msg, 0);
    }

    /// Ends the call of a caller on another CPU with an error.
    pub fn fail_remote(self, caller: Ref<'k, Task>, error: Error, who: TaskId) {
        self.refuse_remote(caller, Refusal::Error { error, detail: 0, who });
    }

    /// The same with a detail, which the first word of the block carries; or it is to be made again.
    pub fn refuse_remote(self, caller: Ref<'k, Task>, why: Refusal) {
        let Some(msg) = caller.get().msg.open(self.pin()) else { return };
        match why {
            Refusal::Error { error, detail, who } if !is_broadcast(msg) => {
                self.fail_remote_with(caller, msg, error as u8, detail, who);
            }
            _ => self.fail_remote_with(caller, msg, AGAIN, 0, TaskId::NONE),
        }
    }

    fn fail_remote_with(self, caller: Ref<'k, Task>, msg: &Message, error: u8, detail: u64, who: TaskId) {
        // Whether it was a broadcast is still to be seen.
        let (kind, target) = (msg.info.get().flags() & FLAG_EVENT, msg.target.get());
        write_block(
            msg,
            Words { info: MsgInfo(kind), regs: [detail, 0, 0, 0] },
            From { sender: who, target, custom: 0 },
        );
        let callee = msg.callee.take(self.pin());
        if let Some((callee, hot)) = callee.and_then(|t| Some((t, self.task_hot(t)?))) {
            self.recover(caller, callee, hot);
        }
        self.send_back(caller, msg, error);
    }

    pub fn send_back(self, caller: Ref<'k, Task>, msg: &Message, error: u8) {
        msg.error.set(error);
        msg.callee.set(None);
        msg.held.set(None);
        msg.stage.set(Stage::Back);
        self.send_block(caller, msg, caller.get().hot.home());
    }

    /// The block is home: the call is over, by reply, error or recall; or what was asked is done.
    fn block_is_home(self, task: Ref<'k, Task>, msg: &Message) {
        let Some(hot) = self.task_hot(task) else { return };
        let stage = msg.stage.replace(Stage::Home);
        let timed = hot.deadline.is_queued();
        if timed {
            self.clear_deadline(task);
        }
        if stage == Stage::AskDone {
            return self.request_done(task, hot, msg);
        }
        self.time_is_home(task, hot, msg);
        if is_dying(hot) {
            return self.go_on_dying(task, hot);
        }
        if has_flag(hot, FLAG_IN_FAULT) {
            self.event(|| Event::CallOver { caller: task.get().id(), error: msg.error.get() });
            self.fault_is_over(task, hot, msg, Error::from_raw(msg.error.get()));
            return self.dispatch();
        }
        let progress = if is_broadcast(msg) { progress_of(hot) } else { 0 };
        let (error, detail, who) = match (msg.error.get(), hot.recall.take()) {
            (RECALLED, REWOUND) => return self.call_unmade(task, hot, msg, timed),
            (SENT, _) => {
                self.event(|| Event::CallOver { caller: task.get().id(), error: 0 });
                self.go_on_behind(hot);
                self.make_ready(task, hot);
                return self.dispatch();
            }
            // Asked back by this side: nobody over there is to blame.
            (RECALLED, why) => (why, progress, TaskId::NONE),
            (AGAIN, 0 | REWOUND) => {
                self.event(|| Event::CallOver { caller: task.get().id(), error: 0 });
                self.rewind(hot);
                self.make_ready(task, hot);
                return self.dispatch();
            }
            (AGAIN, why) => (why, progress, TaskId::NONE),
            (error, _) => (error, msg.regs[0].get(), msg.sender.get()),
        };
        self.event(|| Event::CallOver { caller: task.get().id(), error });
        match Error::from_raw(error) {
            Some(error) => {
                self.audit_refusal(task, None, error, detail, 0);
                self.take_pages_back(task, hot);
                write_error(&hot.regs, error, detail, who);
            }
            None => {
                let regs = &hot.regs;
                write_values(regs, msg.info.get(), [0, 0, msg.regs[0].get(), msg.regs[1].get()]);
                regs.r9.set(msg.regs[2].get());
                regs.r10.set(msg.regs[3].get());
            }
        }
        self.make_ready(task, hot);
        self.dispatch();
    }

    // --- recall and control ----------------------------------------------------------------------

    /// Asks for a task's message block back from wherever it is; `hot.recall` says why. With `leave`, its
    /// time stays with whoever has it there.
    pub fn recall(self, task: Ref<'k, Task>, hot: &TaskHot, leave: bool) {
        self.recall_so(task, hot, if leave { Wish::Leave } else { Wish::Back });
    }

    /// The same as `wish` says.
    pub fn recall_so(self, task: Ref<'k, Task>, hot: &TaskHot, wish: Wish) {
        let wanted = Wanted { number: hot.sent.get(), wish, dying: is_dying(hot) };
        task.get().recalled.store(wanted.raw(), Release);
        self.raise_with_message(task, ctl::RECALL);
    }

    /// Whether [`Wish::Unreceived`] of the last block that left found it received.
    pub fn is_received_there(self, task: Ref<'k, Task>, hot: &TaskHot) -> bool {
        let received = Wanted { number: hot.sent.get(), wish: Wish::Received, dying: false };
        task.get().recalled.load(Acquire) == received.raw()
    }

    /// Whether a block that is with a request was asked back since it left.
    pub fn is_asked_back(self, task: Ref<'k, Task>, msg: &Message) -> bool {
        Wanted::from_raw(task.get().recalled.load(Acquire)).number == msg.number.get()
    }

    /// Whether a block that comes by its home is wanted there. A call that somebody has received is not withdrawn.
    fn is_wanted_back(self, hot: &TaskHot, msg: &Message) -> bool {
        if hot.recall.get() == REWOUND && msg.target.get().cap() == Cap::NULL {
            hot.recall.set(0);
        }
        hot.recall.get() != 0
    }

    /// Sends control bits to where a task's message block is.
    pub fn raise_with_message(self, task: Ref<'k, Task>, bits: u64) {
        self.raise_bits(task.get().msg.home(), task.map(|t| &t.ctl), bits, Mail::Control(task.ptr()));
    }

    /// Sets control bits on a task, wherever it lives.
    pub fn send_control(self, task: Ref<'k, Task>, bits: u64) {
        if self.task_hot(task).is_some() {
            self.control(task, bits);
            return;
        }
        self.raise_control(task, bits);
    }

    /// The same by mail in any case.
    pub fn raise_control(self, task: Ref<'k, Task>, bits: u64) {
        let to = task.get().hot.mail_target(self.pin());
        self.raise_bits(to, task.map(|t| &t.ctl), bits, Mail::Control(task.ptr()));
    }

    #[inline(never)]
    fn control_arrived(self, task: Ref<'k, Task>) {
        let bits = task.get().ctl.take(self.pin());
        if task.get().header.has_flag(FLAG_DEAD) {
            if bits & ctl::RECALL != 0 && Wanted::from_raw(task.get().recalled.load(Acquire)).dying {
                self.count_recall(None);
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
            self.time_arrived(task);
        }
        if bits & ctl::UNLEND != 0 {
            self.unlend_arrived(task);
        }
        let rest = bits & !(ctl::RECALL | ctl::TIME | ctl::UNLEND);
        if rest != 0 {
            self.send_control(task, rest);
        }
        self.dispatch();
    }

    /// Somebody wants the block of his task back, which is here, or was.
    fn recall_arrived(self, task: Ref<'k, Task>) {
        if self.task_hot(task).is_some_and(|hot| hot.recall.get() == 0) {
            return;
        }
        let Some(msg) = self.follow_message(task, ctl::RECALL) else { return };
        let wanted = Wanted::from_raw(task.get().recalled.load(Acquire));
        let stage = Some(msg.stage.get()).filter(|_| msg.number.get() == wanted.number);
        if wanted.dying {
            self.count_recall(stage);
        }
        if stage.is_none() {
            return;
        }
        match msg.stage.get() {
            // Still in this CPU's own mailbox: look again behind it.
            Stage::Out | Stage::Ask => self.raise_with_message(task, ctl::RECALL),
            Stage::Queued | Stage::Owed if wanted.wish == Wish::Unreceived && was_received(msg) => {
                // Where something else is wanted by now, that comes behind this.
                let received = Wanted { wish: Wish::Received, ..wanted };
                let _ = task.get().recalled.compare_exchange(wanted.raw(), received.raw(), AcqRel, Acquire);
            }
            Stage::Queued | Stage::Owed => {
                self.unlink_call(task, wanted.wish == Wish::Leave);
                self.send_back(task, msg, RECALLED);
            }
            Stage::Mourning => self.stop_mourning(task, msg),
            Stage::Home | Stage::Back | Stage::AskDone => {}
        }
    }

    /// A task's message block, which control bits were sent after: they go on if it was sent on, and not if it
    /// is on its way home.
    fn follow_message(self, task: Ref<'k, Task>, bits: u64) -> Option<&'k Message> {
        let msg = task.get().msg.open(self.pin());
        if msg.is_none() && task.get().msg.home() != task.get().hot.home() {
            self.raise_with_message(task, bits);
        }
        msg
    }

    // --- Notifications ---------------------------------------------------------------------------

    /// Raises bits of a Notification of another CPU.
    pub fn raise_remote(self, object: Ref<'k, Notification>, bits: u64) {
        if bits != 0 {
            self.raise_bits(
                object.get().hot.mail_target(self.pin()),
                object.map(|n| &n.remote),
                bits,
                Mail::Bits(object.ptr()),
            );
        }
    }

    #[inline(never)]
    fn bits_arrived(self, object: Ref<'k, Notification>) {
        let bits = object.get().remote.take(self.pin());
        match object.get().hot.open(self.pin()) {
            Some(hot) => self.raise(hot, bits),
            None if object.get().header.has_flag(FLAG_DYING) => {}
            None => self.raise_remote(object, bits),
        }
        self.dispatch();
    }
}

/// What [`Task::recalled`] says.
#[derive(Clone, Copy)]
struct Wanted {
    /// Which block: the task's messages to other CPUs are numbered.
    number: u32,
    wish: Wish,
    /// The task is being killed.
    dying: bool,
}

/// How a message block is wanted back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Wish {
    /// With the time that came with it.
    Back = 0,
    /// The time stays.
    Leave,
    /// With its time, if nobody has received the call.
    Unreceived,
    /// The answer to that, if somebody has.
    Received,
}

impl Wanted {
    const fn raw(self) -> u64 {
        (self.number as u64) << 3 | (self.dying as u64) << 2 | self.wish as u64
    }

    const fn from_raw(raw: u64) -> Wanted {
        let wish = match raw & 3 {
            0 => Wish::Back,
            1 => Wish::Leave,
            2 => Wish::Unreceived,
            _ => Wish::Received,
        };
        Wanted { number: (raw >> 3) as u32, wish, dying: raw & 4 != 0 }
    }
}

/// Whether somebody has received the call in a block: who has it now, or who sent it on.
pub fn was_received(msg: &Message) -> bool {
    msg.stage.get() != Stage::Queued || msg.target.get().cap() == Cap::NULL
}

/// `Message::error` of a block that came back because it was recalled.
const RECALLED: u8 = u8::MAX;
/// That of a call which could not be received just now: its caller makes it again.
const AGAIN: u8 = u8::MAX - 1;
/// That of a broadcast which waited for room, and has been sent to that member.
pub const SENT: u8 = u8::MAX - 2;
/// `TaskHot::recall` of a task whose call is to be as if it had not been made.
pub const REWOUND: u8 = u8::MAX - 3;

/// Being killed, with something left to wait for.
pub fn is_dying(hot: &TaskHot) -> bool {
    hot.recall.get() == Error::Dying as u8 || state_of(hot) == State::Dead
}

pub fn write_block(msg: &Message, words: Words, from: From) {
    msg.info.set(words.info);
    for (cell, value) in msg.regs.iter().zip(words.regs) {
        cell.set(value);
    }
    msg.target.set(from.target);
    msg.custom.set(from.custom);
    msg.sender.set(from.sender);
}
