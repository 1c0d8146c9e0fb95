//! The slow path of calls. [`crate::ipc::receive`] has receive, and [`crate::ipc::reply`] has reply
//! and forward. The assembly fastpath does the same work in the common case; a differential test
//! compares both.
//!
//! # A call, step by step
//! The caller names `(group capability, exposure index)`. The kernel reads the capability, the
//! member record and the exposure once each. If the exposed task is receiving on this CPU, the
//! message is copied from register frame to register frame, the caller donates its CPU time, and
//! the callee runs immediately. If the callee is busy, the caller queues at the callee, by the
//! priority of the caller's time, and in order within one priority. If the callee's home is another
//! CPU, the message block travels there ([`crate::outbox::mail`]).

use abi::{Error, FLAG_DEADLINE, FLAG_LISTEN, FLAG_NONBLOCK, MSG_UTCB_WORDS, MsgInfo, Target};
use kern_base::machine::Machine;
pub use kern_base::message::{SenderInfo, Words};
use kern_base::task::{FLAG_SUSPENDED, Message, Stage, State, Task, TaskHot};
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;

use crate::args::Args;
use crate::ipc::ends::is_broadcast;
use crate::ipc::ways::{Direct, Queue, Sent, There};
use crate::payload::carry::{PAYLOAD_FLAGS, rights_of, rights_of_words};
use crate::rooms::Ipc;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// Refuses a message of more UTCB words than fit.
const TOO_LONG: Refusal = Refusal::new(Error::TooLong, MSG_UTCB_WORDS as u64);

impl Args {
    /// Returns the words of the system call's message, without the flags of its payload.
    #[inline(always)]
    pub fn words(&self) -> Result<Words> {
        let info = MsgInfo::new(MsgInfo(self.info).label(), MsgInfo(self.info).words() as u8);
        let fits = info.words() <= MSG_UTCB_WORDS;
        fits.then_some(Words { info, regs: self.message() }).ok_or(TOO_LONG)
    }

    /// Returns the message's words, with the flags of the payload that the system call's arguments
    /// name.
    #[inline(always)]
    pub fn with_payload(&self, words: Words) -> Words {
        Words { info: words.info.flag(self.info & PAYLOAD_FLAGS), ..words }
    }

    /// Returns the deadline of the operation, if it has one.
    pub fn deadline(&self) -> Option<u64> {
        MsgInfo(self.info).has(FLAG_DEADLINE).then_some(self.a1)
    }
}

impl<'k, M: Machine> Ipc<'k, M> {
    /// Carries out [`abi::Op::Call`].
    #[inline(always)]
    pub fn call(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let is_rare = MsgInfo(args.info).has(PAYLOAD_FLAGS | FLAG_LISTEN);
        if is_rare { self.call_with_payload(me, *args) } else { self.make_call::<false>(me, args) }
    }

    /// Makes a call whose message has a payload, or whose caller listens.
    #[inline(never)]
    fn call_with_payload(self, me: OpenTask<'k>, args: Args) -> Result<Answer> {
        self.make_call::<true>(me, &args)
    }

    /// Makes a call. If `PAYLOAD`, the message may have pages or capabilities, and the caller may
    /// listen.
    #[inline(always)]
    fn make_call<const PAYLOAD: bool>(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let words = if PAYLOAD { args.with_payload(args.words()?) } else { args.words()? };
        let need = if PAYLOAD { rights_of(words.info) } else { rights_of_words(words.info) };
        let dest = self.caps().resolve_task(me, Target(args.a0), need)?;
        refuse_if(dest.task == me.object(), Refusal::new(Error::SelfCall, 0))?;
        let deadline = args.deadline();
        refuse_if(deadline.is_some_and(|at| at <= self.k.machine.now()), Refusal::new(Error::Timeout, 0))?;
        let from = SenderInfo { sender: me.get().id(), target: Target(args.a0), custom: dest.custom };
        let sent = Sent { callee: dest.task, words, from };
        let nonblock = MsgInfo(args.info).has(FLAG_NONBLOCK);
        let local = self.open(dest.task);
        let receiving = local.is_some_and(|callee| self.is_receiving(callee.part()));
        if local.is_some_and(|callee| !callee.is_meant_by(dest.tag)) {
            return Err(Refusal::dead(dest.task.get().id()));
        }
        if !receiving && nonblock {
            return Err(Refusal::new(Error::WouldBlock, 0));
        }
        if local.is_some_and(|callee| !receiving && callee.is_dying()) {
            return Err(Refusal::dead(dest.task.get().id()));
        }
        if PAYLOAD && MsgInfo(args.info).has(FLAG_LISTEN) {
            self.payload().ready_slots(me)?;
        }
        if PAYLOAD && words.info.has(PAYLOAD_FLAGS) {
            self.payload().send_payload(me, dest.task, words.info, receiving)?;
        }
        match local {
            Some(callee) if receiving => self.begin(me, Direct::<false>(callee), &sent, deadline),
            Some(callee) => self.begin(me, Queue(callee), &sent, deadline),
            None => self.begin(me, There { tag: dest.tag }, &sent, deadline),
        }
        Ok(Answer::Settled)
    }

    /// Copies the UTCB words of a message. The kernel accesses both pages through the direct map.
    /// It reads each word once, and takes their number from the register word.
    #[inline(always)]
    pub fn copy_utcb(self, from: Ref<'k, Task>, to: Ref<'k, Task>, words: usize) {
        if words != 0 {
            self.copy_words(from, to, words);
        }
    }

    #[inline(always)]
    fn copy_words(self, from: Ref<'k, Task>, to: Ref<'k, Task>, words: usize) {
        let (from, to) = (from.get().utcb(self.pin()), to.get().utcb(self.pin()));
        for (source, target) in from.msg.iter().zip(&to.msg).take(words) {
            target.store(source.load(Relaxed), Relaxed);
        }
    }

    /// Whether a task waits for a message and is not suspended.
    pub fn is_receiving(self, hot: &TaskHot) -> bool {
        (hot.is_in(State::Recv) || hot.is_in(State::RecvTimed)) && !hot.has_flag(FLAG_SUSPENDED)
    }

    /// Writes the registers that a receiver gets.
    #[inline(always)]
    pub fn write_message(self, hot: &TaskHot, words: Words, from: SenderInfo) {
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

    /// Whether a task of this CPU waits, in a broadcast, for room in a pool whose reader is on this
    /// CPU.
    pub fn waits_in_broadcast(self, task: Ref<'k, Task>) -> bool {
        let queued = |msg: &&Message| msg.stage() == Stage::Queued && is_broadcast(msg);
        task.get().message(self.pin()).filter(queued).is_some()
    }
}
