//! Messages: call, reply, receive, forward, and how calls end.
//!
//! A call under way is in one place, which its [`Call`] names: in the queue of a task, served by a
//! task, or kept in a Reply object. All links between tasks follow from that.

use alloc::vec::Vec;

use abi::{
    Error, FLAG_DEADLINE, FLAG_FORWARDED, FLAG_NONBLOCK, FLAG_NOTIFICATION, FLAG_PAGES, MSG_UTCB_WORDS,
    MsgInfo,
};
use abi::{ObjType, Rights, Target, TaskId};

use crate::object::{Call, CallAt, State, Words};
use crate::{Answer, Args, Id, Kind, Model, Refusal, Regs, Result};

/// A message and its receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub words: Words,
    pub exposure: u32,
    pub custom: u16,
    pub callee: Id,
}

impl Words {
    pub(crate) fn new(args: &Args) -> Result<Words> {
        let Args([_, _, regs @ ..], info) = *args;
        let words = Words { label: info.label(), count: info.words(), regs, flags: 0 };
        if words.count > MSG_UTCB_WORDS {
            return Err(Refusal::new(Error::TooLong, MSG_UTCB_WORDS as u64));
        }
        Ok(words)
    }

    /// Returns the rights that sending these words needs, in the capability and in the member
    /// record.
    pub(crate) fn need(&self) -> Rights {
        if self.count > 0 { Rights::SEND | Rights::STRING } else { Rights::SEND }
    }
}

impl Model {
    // --- operations ------------------------------------------------------------------------------

    pub fn call(&mut self, me: Id, args: &Args) -> Result {
        let sent = self.look_call(me, args)?;
        if self.task(sent.callee).state == State::Dead {
            return Err(Refusal::dead(self.task(sent.callee).id));
        }
        self.begin_calling(me, args);
        self.arrive(me, sent);
        Ok(Answer::Settled)
    }

    /// Checks a call. Returns message and receiver, if the caller may send, and has to wait only if
    /// its flags allow that.
    pub(crate) fn look_call(&self, me: Id, args: &Args) -> Result<Sent> {
        let words = Words::new(args)?;
        let (callee, custom) = self.resolve_task(me, args.target(0), words.need())?;
        if callee == me {
            return Err(Error::SelfCall.into());
        }
        self.check_deadline(args)?;
        let here = self.task(callee).home == self.task(me).home;
        if args.1.has(FLAG_NONBLOCK) && !(here && self.is_receiving(callee)) {
            return Err(Error::WouldBlock.into());
        }
        Ok(Sent { words, exposure: args.target(0).index(), custom, callee })
    }

    pub(crate) fn begin_calling(&mut self, me: Id, args: &Args) {
        let deadline = args.deadline();
        let it = self.task_mut(me);
        (it.state, it.deadline) = (State::Calling, deadline);
    }

    pub fn recv(&mut self, me: Id, args: &Args) -> Result {
        // A caller that gets no answer gets an error.
        if let Some(caller) = self.task(me).caller {
            let who = self.task(me).id;
            self.fail(caller, Refusal { who, ..Error::Gone.into() });
        }
        self.receive(me, args)
    }

    pub fn reply_recv(&mut self, me: Id, args: &Args) -> Result {
        let words = Words::new(args)?;
        if let Some(caller) = self.task(me).caller {
            self.answer(me, caller, words);
        }
        self.receive(me, args)
    }

    pub fn reply(&mut self, me: Id, args: &Args) -> Result {
        let words = Words::new(args)?;
        let caller = match args.0[0] {
            0 => self.task(me).caller,
            cap => {
                let reply = self.find(me, Target(cap).cap(), ObjType::Reply, Rights::SEND)?.object;
                self.saved_caller(me, reply)?
            }
        };
        let caller = caller.ok_or(Error::Gone)?;
        self.answer(me, caller, words);
        Ok(Answer::DONE)
    }

    pub fn forward(&mut self, me: Id, args: &Args) -> Result {
        let words = Words::new(args)?;
        if args.1.has(FLAG_PAGES) {
            return Err(Refusal::new(Error::NoPage, 0));
        }
        let (callee, custom) = self.resolve_task(me, args.target(0), words.need())?;
        let caller = self.task(me).caller.ok_or(Error::Gone)?;
        if callee == me || callee == caller {
            return Err(Error::SelfCall.into());
        }
        let group = self.find_group(me, args.cap(0), words.need())?.0;
        self.may_join(caller, group)?;
        let dead = Refusal::dead(self.task(callee).id);
        if self.task(callee).state == State::Dead {
            if self.task(callee).home == self.task(me).home {
                return Err(dead);
            }
            // Of another CPU the forwarder does not know: its caller is told.
            self.fail(caller, dead);
            return Ok(Answer::DONE);
        }
        self.copy_words(me, caller, words.count);
        self.unlink_call(caller);
        let exposure = args.target(0).index();
        let words = Words { flags: FLAG_FORWARDED, ..words };
        self.arrive(caller, Sent { words, exposure, custom, callee });
        Ok(Answer::DONE)
    }

    pub fn save_reply(&mut self, me: Id, args: &Args) -> Result {
        let reply = self.find(me, args.cap(0), ObjType::Reply, Rights::SEND)?.object;
        if self.is_dying(reply) {
            return Err(Error::Dying.into());
        }
        if self.reply_object(reply).caller.is_some() {
            return Err(Error::InUse.into());
        }
        let caller = self.task(me).caller.ok_or(Error::Gone)?;
        self.may_join(caller, reply)?;
        self.task_mut(me).caller = None;
        let home = self.task(me).home;
        let it = self.reply_object_mut(reply);
        (it.caller, it.server, it.home) = (Some(caller), Some(me), home);
        self.call_mut(caller).at = CallAt::Kept(reply);
        Ok(Answer::DONE)
    }

    /// Returns the caller whose call a Reply object keeps. An empty one belongs to no CPU.
    fn saved_caller(&self, me: Id, reply: Id) -> Result<Option<Id>> {
        let it = self.reply_object(reply);
        match it.caller {
            Some(_) if it.home == self.task(me).home => Ok(it.caller),
            Some(_) if !self.is_dying(reply) => Err(Refusal::new(Error::WrongCpu, it.home as u64)),
            _ => Ok(None),
        }
    }

    pub fn check_deadline(&self, args: &Args) -> Result<()> {
        match args.deadline() {
            Some(at) if at <= self.now => Err(Error::Timeout.into()),
            _ => Ok(()),
        }
    }

    // --- calls under way -------------------------------------------------------------------------

    fn call_mut(&mut self, caller: Id) -> &mut Call {
        self.task_mut(caller).call.as_mut().expect("a call under way")
    }

    pub fn is_receiving(&self, task: Id) -> bool {
        self.task(task).state == State::Receiving && !self.task(task).suspended
    }

    /// Delivers a call that arrives at a task, or queues it.
    pub(crate) fn arrive(&mut self, caller: Id, sent: Sent) {
        let Sent { words, exposure, custom, callee } = sent;
        let timed = self.task(caller).time.is_some();
        let call = Call { words, exposure, custom, at: CallAt::Queued(callee), timed };
        self.task_mut(caller).call = Some(call);
        if self.is_receiving(callee) {
            self.deliver(caller, callee);
        } else {
            self.task_mut(callee).senders.push_back(caller);
        }
    }

    /// Delivers a call to a task. UTCB words are read now.
    fn deliver(&mut self, caller: Id, callee: Id) {
        let sender = self.task(caller).id;
        let call = self.call_mut(caller);
        call.at = CallAt::Served(callee);
        let Call { words, exposure, custom, .. } = *call;
        self.copy_words(caller, callee, words.count);
        let it = self.task_mut(callee);
        it.regs = Regs::message(words, u64::from(exposure), sender, u64::from(custom));
        (it.state, it.deadline, it.caller) = (State::Ready, None, Some(caller));
    }

    fn copy_words(&mut self, from: Id, to: Id, count: usize) {
        let words = self.task(from).utcb[..count].to_vec();
        self.task_mut(to).utcb[..count].copy_from_slice(&words);
    }

    /// Ends a call: the caller gets the answer.
    fn answer(&mut self, me: Id, caller: Id, words: Words) {
        self.unlink_call(caller);
        self.copy_words(me, caller, words.count);
        let it = self.task_mut(caller);
        it.regs = Regs::message(words, 0, TaskId::NONE, 0);
        (it.state, it.deadline) = (State::Ready, None);
    }

    /// Removes a call from the queue, the server or the Reply object that has it.
    fn unlink_call(&mut self, caller: Id) {
        match self.task_mut(caller).call.take().map(|call| call.at) {
            Some(CallAt::Queued(callee)) => self.task_mut(callee).senders.retain(|it| *it != caller),
            Some(CallAt::Served(callee)) => self.task_mut(callee).caller = None,
            Some(CallAt::Kept(reply)) => {
                let it = self.reply_object_mut(reply);
                (it.caller, it.server) = (None, None);
            }
            None => {}
        }
    }

    // --- receiving -------------------------------------------------------------------------------

    /// Receives for a task: returns bits, else the first queued call, else lets the task wait.
    fn receive(&mut self, me: Id, args: &Args) -> Result {
        // One that is to move does so between two calls.
        self.let_leave();
        if self.take_something(me) {
            return Ok(Answer::Settled);
        }
        if args.1.has(FLAG_NONBLOCK) || self.check_deadline(args).is_err() {
            return Err(if args.1.has(FLAG_DEADLINE) { Error::Timeout } else { Error::WouldBlock }.into());
        }
        let deadline = args.deadline();
        let it = self.task_mut(me);
        (it.state, it.deadline) = (State::Receiving, deadline);
        Ok(Answer::Settled)
    }

    fn take_something(&mut self, me: Id) -> bool {
        if let Some(bits) = self.take_bound_bits(me) {
            let it = self.task_mut(me);
            it.regs = Regs::values(MsgInfo(FLAG_NOTIFICATION), [0, 0, bits, 0]);
            (it.state, it.deadline) = (State::Ready, None);
            return true;
        }
        let caller = self.task_mut(me).senders.pop_front();
        if let Some(caller) = caller {
            self.deliver(caller, me);
        }
        caller.is_some()
    }

    /// Takes the bits of a task's bound Notification, if the task has CPU time of its own.
    fn take_bound_bits(&mut self, task: Id) -> Option<u64> {
        let it = self.task(task);
        let bound = it.bound.filter(|_| it.time.is_some())?;
        let bits = core::mem::take(&mut self.notification_mut(bound).bits);
        (bits != 0).then_some(bits)
    }

    /// Lets a task that can receive again take the bits or calls that arrived meanwhile.
    pub fn receive_what_came(&mut self, task: Id) {
        if self.is_receiving(task) {
            self.take_something(task);
        }
    }

    // --- how waiting ends ------------------------------------------------------------------------

    /// Ends a task's wait with an error.
    pub fn fail(&mut self, task: Id, why: Refusal) {
        self.unwait(task);
        let it = self.task_mut(task);
        it.regs = Regs::error(why);
        it.state = State::Ready;
    }

    /// Ends a task's wait, whatever it waits for, without an answer.
    pub fn unwait(&mut self, task: Id) {
        self.task_mut(task).deadline = None;
        match self.task(task).state {
            State::Calling => self.unlink_call(task),
            State::Waiting(object) => self.notification_mut(object).waiter = None,
            _ => {}
        }
    }

    /// Moves the model's time on, and ends waits that are too late.
    pub fn pass_time(&mut self, now: u64) {
        self.now = now;
        let is_late = |id: &Id| {
            let Kind::Task(it) = &self.objects[id.0].kind else { return false };
            it.deadline.is_some_and(|at| at <= now)
        };
        for task in self.ids().filter(is_late).collect::<Vec<_>>() {
            self.fail(task, Error::Timeout.into());
        }
        self.let_leave();
    }
}
