//! Ends calls: a server replies, keeps a call to reply later, or forwards it to another task.

use abi::audit::may;
use abi::{
    Cap, Error, FLAG_CAPS, FLAG_FAULT, FLAG_FORWARDED, FLAG_PAGES, FaultAnswer, MsgInfo, Op, Rights,
    SEND_WORDS, Target,
};
use kern_base::block::Block;
use kern_base::header::{FLAG_DYING, Header};
use kern_base::machine::Machine;
use kern_base::reply::Reply;
use kern_base::sched_context::OpenTime;
use kern_base::task::{FLAG_AWAITED, FLAG_SUSPENDED, Outcome, State, Task};
use smp::cpu::MAX_CPUS;
use smp::door::Ref;
use test_abi::trace::{Event, How, Path};

use crate::answer::write_values;
use crate::args::Args;
use crate::ipc::call::{SenderInfo, Words};
use crate::ipc::ways::{Sent, There};
use crate::payload::carry::PAYLOAD_FLAGS;
use crate::rooms::Ipc;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Ipc<'k, M> {
    /// Carries out [`abi::Op::ReplyRecv`].
    #[inline(always)]
    pub fn reply_recv(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        if me.has_pending() {
            return self.reply_recv_pending(me, *args);
        }
        let words = args.words()?;
        if MsgInfo(args.info).has(PAYLOAD_FLAGS) {
            return self.reply_recv_payload(me, *args);
        }
        if let Some(block) = me.take_only_caller(self.pin()) {
            self.answer_call(me, block, words);
        }
        self.await_call(me, args)
    }

    /// Carries out a ReplyRecv whose reply has a payload.
    #[inline(never)]
    fn reply_recv_payload(self, me: OpenTask<'k>, args: Args) -> Result<Answer> {
        self.begin_work();
        if let Some(caller) = me.caller(self.pin()) {
            let words = self.payload().give_reply(me, caller, args.with_payload(args.words()?))?;
            if let Some(block) = me.take_caller(self.pin()) {
                self.answer_call(me, block, words);
            }
        } else {
            self.payload().keep_load(me, args.info)?;
        }
        self.receive(me, &args)
    }

    /// Carries out a ReplyRecv if bits or calls are pending, or the current call is a fault.
    #[inline(never)]
    fn reply_recv_pending(self, me: OpenTask<'k>, args: Args) -> Result<Answer> {
        self.begin_work();
        let mut words = args.with_payload(args.words()?);
        let caller = me.caller(self.pin());
        if let Some(caller) = caller {
            let fault = me.serves_fault();
            let answer = if fault { Some(self.check_answer(me, caller, &words)?) } else { None };
            if words.info.has(PAYLOAD_FLAGS) {
                words = self.payload().give_reply(me, caller, words)?;
            }
            if let Some(block) = me.take_caller(self.pin()) {
                self.answer(me, block, answer, words);
            }
        } else {
            self.payload().keep_load(me, args.info)?;
        }
        if let Some(caller) = caller
            && self.hot.current.is(caller)
            && me.has_pending()
        {
            return self.receive_before(me, args, caller);
        }
        self.receive(me, &args)
    }

    /// Receives what is pending, after a reply that lets `caller` go on: see
    /// [`Time::go_before_equal`].
    ///
    /// [`Time::go_before_equal`]: crate::rooms::Time::go_before_equal
    #[cold]
    #[inline(never)]
    fn receive_before(self, me: OpenTask<'k>, args: Args, caller: Ref<'k, Task>) -> Result<Answer> {
        let answer = self.receive(me, &args)?;
        if self.hot.current.is(caller) {
            self.time().go_before_equal(me);
        }
        Ok(answer)
    }

    /// Carries out [`abi::Op::Reply`].
    pub fn reply(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let mut words = args.with_payload(args.words()?);
        let saved = match args.a0 {
            0 => None,
            cap => Some(self.caps().operand::<Reply, { Op::Reply as u8 }, 0>(me, Target(cap).cap())?),
        };
        let caller = match saved {
            None => me.caller(self.pin()),
            Some(reply) => self.saved_caller(reply)?,
        };
        let Some(caller) = caller else { return Err(Error::Gone.into()) };
        let answer = if self.is_fault(caller) { Some(self.check_answer(me, caller, &words)?) } else { None };
        if words.info.has(PAYLOAD_FLAGS) {
            refuse_if(saved.is_some_and(|reply| !self.still_answers(me, reply)), Error::Gone)?;
            words = self.payload().give_reply(me, caller, words)?;
        }
        let block = match saved {
            None => me.take_caller(self.pin()),
            Some(reply) => self.take_saved(me, reply),
        };
        write_values(&me.regs, MsgInfo(0), [0; 4]);
        if let Some(block) = block {
            self.answer(me, block, answer, words);
        }
        self.go_on(me);
        Ok(Answer::Settled)
    }

    /// Lets a server go on after it has ended a call, on its own time or that of a better caller;
    /// or lets it leave, if it was told to move.
    #[inline(always)]
    pub fn go_on(self, me: OpenTask<'k>) {
        if me.is_to_move() {
            return self.leave_or_go_on(me);
        }
        self.go_on_here(me);
    }

    #[cold]
    #[inline(never)]
    fn leave_or_go_on(self, me: OpenTask<'k>) {
        if self.time().leave_if_free(me) {
            return self.time().dispatch();
        }
        self.go_on_here(me);
    }

    #[inline(always)]
    fn go_on_here(self, me: OpenTask<'k>) {
        if !self.hot.current.is(me.object()) {
            self.time().leave_rest(me);
            self.time().make_ready(me);
            self.time().take_better(me);
            self.time().mind_less_time();
        }
        self.time().dispatch();
    }

    /// Sends the answer to a call, or a checked answer to a fault.
    #[inline(always)]
    fn answer(self, me: OpenTask<'k>, block: Block<'k>, answer: Option<FaultAnswer>, words: Words) {
        match answer {
            Some(answer) => self.answer_fault(me, block, answer, words),
            None => self.answer_call(me, block, words),
        }
    }

    /// Sends the reply to a caller. If the replier runs on that caller's time, the caller continues
    /// on it immediately, and the replier is off the CPU.
    #[inline(always)]
    fn answer_call(self, me: OpenTask<'k>, block: Block<'k>, words: Words) {
        let caller = block.task();
        self.copy_utcb(me.object(), caller, words.info.words());
        let Some(caller) = self.open(caller) else { return self.answer_elsewhere(me, block, words) };
        self.write_message(caller.part(), words, SenderInfo::NONE);
        self.trace().note_reply(caller.object(), me.object(), Path::Slow, How::Delivered, 0);
        self.end_call(me, block, caller);
    }

    /// Sends the reply to a caller on another CPU. Time that came with the call goes back with it.
    pub fn answer_elsewhere(self, me: OpenTask<'k>, block: Block<'k>, words: Words) {
        block.write(words, SenderInfo::NONE);
        self.trace().note_reply(block.task(), me.object(), Path::Slow, How::Sent, 0);
        if me.time.is_lent_by(block.task()) {
            self.time().give_back(me);
        }
        self.send_back(block, Outcome::Replied);
    }

    /// Ends a call whose outcome is in the caller's registers: returns the caller's time, and lets
    /// the caller run.
    #[inline(always)]
    pub fn end_call(self, me: OpenTask<'k>, block: Block<'k>, caller: OpenTask<'k>) {
        if caller.state() == State::AwaitTimed {
            self.time().clear_deadline(caller);
        }
        block.rest();
        caller.enter(State::Ready);
        match self.time().return_time(me, caller) {
            Some(sc) if self.sched.current.is(sc.object()) => self.goes_on(caller, sc),
            _ => self.time().make_ready(caller),
        }
    }

    /// Runs `caller`, which is ready, on the running context, which is its time. If the caller is
    /// suspended, the time stops and stays with the caller.
    #[inline(always)]
    pub fn goes_on(self, caller: OpenTask<'k>, sc: OpenTime<'k>) {
        if !caller.has_flag(FLAG_SUSPENDED | FLAG_AWAITED) {
            return self.time().run_task(caller);
        }
        self.goes_on_with_care(caller, sc);
    }

    #[cold]
    #[inline(never)]
    fn goes_on_with_care(self, caller: OpenTask<'k>, sc: OpenTime<'k>) {
        if caller.has_flag(FLAG_SUSPENDED) {
            self.time().stop(sc);
            self.time().hold(caller, sc);
        } else {
            self.time().run_task(caller);
        }
        self.time().attend(caller);
    }

    /// Carries out [`abi::Op::SaveReply`].
    pub fn save_reply(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let object = self.caps().operand::<Reply, { Op::SaveReply as u8 }, 0>(me, args.cap())?;
        let Reply { header, hot } = object.get();
        refuse_if(header.has_flag(FLAG_DYING), Error::Dying)?;
        if !hot.is_unclaimed() {
            return Err(self.why_claimed(header));
        }
        let Some(caller) = me.caller(self.pin()) else { return Err(Error::Gone.into()) };
        // Any holder of the Reply object can answer. So for the caller the object is like a group.
        self.security().may(&caller.get().header, header, may::JOIN)?;
        let Some(reply) = hot.claim(self.pin()) else { return Err(self.why_claimed(header)) };
        let Some(block) = me.take_caller(self.pin()) else { return Err(Error::Gone.into()) };
        self.sched.kept.set(self.sched.kept.get() + 1);
        let number = self.sched.kept.get() * MAX_CPUS as u64 + self.id().index() as u64;
        reply.keep(object, self.pin(), block, number, me);
        Ok(Answer::DONE)
    }

    /// Returns why a Reply object has a home: it keeps a call, or its end has begun meanwhile.
    #[cold]
    fn why_claimed(self, header: &Header) -> Refusal {
        if header.has_flag(FLAG_DYING) { Error::Dying.into() } else { Error::InUse.into() }
    }

    /// Returns the caller whose call a Reply object keeps, or `None` if it is empty or ends.
    fn saved_caller(self, reply: Ref<'k, Reply>) -> Result<Option<Ref<'k, Task>>> {
        let Reply { header, hot } = reply.get();
        match hot.open(self.pin()) {
            Some(hot) => Ok(hot.caller(self.pin())),
            None if hot.is_unclaimed() || header.has_flag(FLAG_DYING) => Ok(None),
            None => Err(self.elsewhere(hot)),
        }
    }

    /// Takes the call out of a Reply object. If another task saved the call, that task loses the
    /// caller's time.
    fn take_saved(self, me: OpenTask<'k>, reply: Ref<'k, Reply>) -> Option<Block<'k>> {
        let hot = reply.get().hot.here(self.pin());
        let server = hot.server(self.pin()).filter(|server| *server != me.object());
        let block = Reply::release(reply, self.pin())?;
        if let Some(server) = server.and_then(|server| self.open(server)) {
            self.time().recover(block.task(), server);
            if server.is_to_move() {
                self.time().leave_if_free(server);
            }
        }
        Some(block)
    }

    /// Carries out [`abi::Op::Forward`]: sends the current call on in its caller's name, marked as
    /// forwarded, with the forwarder's words, rights and custom bits in the group. A forwarded
    /// fault stays a fault.
    ///
    /// The UTCB words of a message stay in its caller's UTCB until the message is received. So the
    /// forwarder's words are copied there. The caller can read them; a reply could tell it as much.
    pub fn forward(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let mut words = args.words()?;
        refuse_if(MsgInfo(args.info).has(FLAG_PAGES), Refusal::new(Error::NoPage, 0))?;
        refuse_if(MsgInfo(args.info).has(FLAG_CAPS), Refusal::new(Error::NoCapability, 0))?;
        let fault = me.serves_fault();
        if fault {
            words.info = MsgInfo::new(words.info.label(), 0).flag(FLAG_FAULT);
        }
        words.info = words.info.flag(FLAG_FORWARDED);
        let need = if words.info.words() > 0 || fault { SEND_WORDS } else { Rights::SEND };
        let found = self.caps().find_group(me, Target(args.a0).cap(), need)?;
        let dest = self.caps().task_in(found, Target(args.a0).index())?;
        let Some(caller) = me.caller(self.pin()) else { return Err(Error::Gone.into()) };
        refuse_if(dest.task == me.object() || dest.task == caller, Error::SelfCall)?;
        // The message enters that group in the caller's name.
        self.security().may(&caller.get().header, &found.group.get().header, may::JOIN)?;
        let sender = caller.get().id();
        let target = Target::new(Cap::NULL, Target(args.a0).index());
        let from = SenderInfo { sender, target, custom: dest.custom };
        let local = self.open(dest.task);
        if let Some(callee) = local {
            if !callee.is_meant_by(dest.tag) || callee.is_dying() {
                return Err(Refusal::dead(dest.task.get().id()));
            }
            if !me.time.is_lent_by(caller) && self.time().lacks_time(caller, callee) {
                return Err(Error::NoTime.into());
            }
        }
        self.copy_utcb(me.object(), caller, words.info.words());
        let Some(block) = me.take_caller(self.pin()) else { return Err(Error::Gone.into()) };
        write_values(&me.regs, MsgInfo(0), [0; 4]);
        if me.time.is_lent_by(caller) {
            self.time().give_back(me);
        }
        self.trace().event(|| Event::Forward { caller: sender, callee: dest.task.get().id() });
        let sent = Sent { callee: dest.task, words, from };
        match local {
            Some(callee) => self.pass_on(block, callee, &sent),
            None => self.pass(block, There { tag: dest.tag }, &sent),
        }
        self.go_on(me);
        Ok(Answer::Settled)
    }
}
