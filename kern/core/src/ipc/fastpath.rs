//! The fast path of calls across CPUs, for the common case: the message is in registers, the
//! receiver waits, the receiving CPU is idle or has less urgent work, and the caller's time travels
//! with the message.
//!
//! There are four steps, two on each CPU. Each step first makes all checks, and changes nothing if
//! one fails. Otherwise [`crate::ipc::call`], [`crate::ipc::ways`] and [`crate::door::arrivals`]
//! take over, which handle every case.
//!
//! 1. [`Ipc::fast_call`]: the fastpath has resolved a callee of another CPU, and left the
//!    message in the caller's message block. The block goes to that CPU with the caller's time.
//! 2. [`Ipc::fast_delivery`], on the other CPU: the callee receives the call and runs.
//! 3. [`Ipc::fast_reply`]: the fastpath has found a caller of another CPU, and left the answer
//!    in the caller's message block. The block goes back.
//! 4. [`Ipc::fast_return`]: the caller continues.
//!
//! Ownership, ordering and recall are those of [`crate::outbox::mail`].
//!
//! [`Ipc::fast_answer`] is the fast path for the answer to a fault on the same CPU.

use abi::{FaultAnswer, MsgInfo};
use kern_base::block::Block;
use kern_base::cpu::{CpuBlock, IDLE, Mail};
use kern_base::machine::Machine;
use kern_base::message::Words;
use kern_base::sched_context::{SchedContext, SchedHot};
use kern_base::task::{
    Ending, FLAG_IN_FAULT, FLAG_VECTOR, LABEL_MASK, Message, OpenTask, Outcome, State, Task, TaskHot,
    state_half,
};
use smp::cpu::CpuId;
use smp::door::{Held, Ref};
use test_abi::trace::{Event, How, Path};

use crate::outbox::mail::rank_with;
use crate::rooms::Ipc;

/// The answers to a fault that the fast path handles.
const RESUME: u32 = FaultAnswer::Resume.label();
const RESUME_AT: u32 = FaultAnswer::ResumeAt.label();
/// Parts of the state word that may have any value for a task on this fast path: vector flag and
/// security label.
const ANY: u64 = (FLAG_VECTOR as u64) << 8 | LABEL_MASK as u64;

impl<'k, M: Machine> Ipc<'k, M> {
    /// Returns the low half of the state word that a task of this CPU has in `state` if it is not
    /// suspended; without the label and the vector flag.
    #[inline(always)]
    fn expected(self, state: State) -> u64 {
        u64::from(state_half(state, 0, self.id()))
    }

    /// Returns the CPU block of `task`'s home, which the fast path found to be another CPU. If the
    /// home is this CPU by now, the message goes through this CPU's own mailbox.
    #[inline(always)]
    fn way_to(self, task: Ref<'k, Task>) -> Option<Ref<'k, CpuBlock>> {
        task.get().hot.at_home(self.pin(), &self.k.cpus)
    }

    /// Pushes a message block, with the time in it, into another CPU's mailbox.
    #[inline(always)]
    fn fast_send_block(self, block: Block<'k>, sc: Held<'k, SchedHot>, there: Ref<'k, CpuBlock>, to: CpuId) {
        let node = block.task().map(|t| &t.msg_node);
        node.get().set_rank(rank_with(&sc));
        self.outbox().push(there.get(), node, Mail::Message(block.seal(Some(sc), to)));
    }

    /// Answers a fault of a task on this CPU, on the fast path: the faulter continues, at the same
    /// or another address, and the running task receives. Returns whether the fault was answered.
    /// Requires: the running task has the faulter's time, and nothing waits to be received.
    #[inline(always)]
    pub fn fast_answer(self, me: Ref<'k, Task>, faulter: Ref<'k, Task>) -> bool {
        let Some((me, faulter)) = self.open(me).zip(self.open(faulter)) else { return false };
        let Some(msg) = faulter.get().message(self.pin()) else { return false };
        let Some(sc) = self.running() else { return false };
        let word = faulter.word();
        let waits = u64::from(state_half(State::Await, FLAG_IN_FAULT, self.id()));
        if (word & !ANY) as u32 != waits as u32 {
            return false;
        }
        let rip = msg.words().regs[1];
        match msg.info().label() {
            RESUME => {}
            RESUME_AT if rip < abi::USER_TOP => faulter.regs.rip.set(rip),
            _ => return false,
        }
        let block = me.take_fault_of(faulter.object(), self.pin());
        self.trace().note_reply(faulter.object(), me.object(), Path::Express, How::Delivered, 0);
        block.rest();
        me.time.owe_none();
        me.change(me.word(), State::Ready, State::Recv);
        sc.task.set(Some(faulter.object()));
        faulter.end_awaited_fault(word);
        self.time().run_task(faulter);
        true
    }

    /// Sends the call of the running task to another CPU, on the fast path. Returns whether the
    /// call was sent.
    #[inline(always)]
    pub fn fast_call(self, me: Ref<'k, Task>, callee: Ref<'k, Task>, tag: u64) -> bool {
        let Some(me) = self.open(me) else { return false };
        let Some((sc, sc_hot)) = self.running_held() else { return false };
        let Some(way) = self.way_to(callee) else { return false };
        let to = way.get().id();
        if !sc_hot.state.may_run_on(to) {
            return false;
        }
        let block = Block::take(me.object(), self.pin());
        self.trace().event(|| {
            let (caller, callee) = (me.get().id(), callee.get().id());
            Event::Call { caller, callee, path: Path::Express, how: How::Sent }
        });
        self.time().halt(&sc_hot);
        me.change(me.word(), State::Ready, State::AwaitRemote);
        block.take_number_of(me.part());
        block.set_time(Some(sc));
        block.set_sender(me.get().id());
        block.goes_out(callee, tag);
        self.fast_send_block(block, sc_hot, way, to);
        true
    }

    /// Delivers a call from another CPU on the fast path, if the callee can run immediately.
    /// Returns the callee if so: the caller of this function then links the block to the callee.
    #[inline(always)]
    pub fn fast_delivery(self, block: &Block<'k>) -> Option<OpenTask<'k>> {
        let caller = block.task();
        let callee = block.callee(self.pin())?;
        let open = OpenTask::open(callee, self.pin())?;
        let hot = open.part();
        let sc = self.open_time(block.time(self.pin())?)?;
        let word = hot.word();
        let receiving = word & !ANY == block.tag() | self.expected(State::Recv);
        if !receiving || block.info().words() != 0 || self.open(caller).is_some() {
            return None;
        }
        let (time, idle) = (self.time(), self.sched.idle.get() == IDLE);
        let now = if idle { time.end_idling() } else { time.preempt_for(sc)? };
        self.trace().note_received(caller, callee);
        block.mark_received();
        block.set_time(None);
        hot.time.owe(caller);
        sc.task.set(Some(callee));
        hot.change(word, State::Recv, State::Ready);
        self.time().take_over(sc, now, callee, word);
        self.write_registers(hot, block);
        let from = block.sender();
        hot.regs.rdi.set(u64::from(from.target.index()));
        hot.regs.rsi.set(from.sender.raw());
        hot.regs.r12.set(u64::from(from.custom));
        Some(open)
    }

    /// Sends the reply of the running task to another CPU, on the fast path; the task then
    /// receives. Returns whether the reply was sent.
    /// Requires: the running task has its caller's time, and nothing waits to be received.
    #[inline(always)]
    pub fn fast_reply(self, me: Ref<'k, Task>, caller: Ref<'k, Task>) -> bool {
        let Some(me) = self.open(me) else { return false };
        let Some((sc, sc_hot)) = self.running_held() else { return false };
        let Some(way) = self.way_to(caller) else { return false };
        let block = me.take_call_of(caller, self.pin());
        self.trace().note_reply(caller, me.object(), Path::Express, How::Sent, 0);
        self.time().halt(&sc_hot);
        me.change(me.word(), State::Ready, State::Recv);
        me.time.owe_none();
        sc_hot.task.set(Some(caller));
        block.set_time(Some(sc));
        block.goes_back(Outcome::Replied);
        self.fast_send_block(block, sc_hot, way, way.get().id());
        true
    }

    /// Ends a call with a reply from another CPU, on the fast path, if the caller can run
    /// immediately. Returns the caller if so: the caller of this function then puts the block back
    /// ([`Block::rest`]).
    #[inline(always)]
    pub fn fast_return(self, block: &Block<'k>) -> Option<OpenTask<'k>> {
        let task = block.task();
        let open = OpenTask::open(task, self.pin())?;
        let hot = open.part();
        let sc = self.open_time(block.time(self.pin())?)?;
        let word = hot.word();
        let waiting = (word & !ANY) as u32 == self.expected(State::AwaitRemote) as u32;
        if !waiting
            || hot.deadline.is_queued()
            || hot.ending() != Ending::None
            || block.outcome() != Outcome::Replied
            || !hot.time.borrows_none()
        {
            return None;
        }
        let (time, idle) = (self.time(), self.sched.idle.get() == IDLE);
        let now = if idle { time.end_idling() } else { time.preempt_for(sc)? };
        self.trace().event(|| Event::CallOver { caller: task.get().id(), error: 0 });
        block.set_time(None);
        hot.change(word, State::AwaitRemote, State::Ready);
        self.time().take_over(sc, now, task, word);
        self.write_registers(hot, block);
        hot.regs.rdi.set(0);
        hot.regs.rsi.set(0);
        hot.regs.r12.set(0);
        Some(open)
    }

    /// Copies the info word and the four message words of a message block into a frame. The sender
    /// is not copied.
    /// Requires: the frame's `full` is 0.
    #[inline(always)]
    pub fn write_registers(self, hot: &TaskHot, msg: &Message) {
        let Words { info: MsgInfo(info), regs: [mr0, mr1, mr2, mr3] } = msg.words();
        let regs = &hot.regs;
        regs.rax.set(info);
        regs.rdx.set(mr0);
        regs.r8.set(mr1);
        regs.r9.set(mr2);
        regs.r10.set(mr3);
    }

    /// Returns the running SchedContext, opened so that it can be sent to another CPU.
    #[inline(always)]
    fn running_held(self) -> Option<(Ref<'k, SchedContext>, Held<'k, SchedHot>)> {
        let sc = self.sched.current.get(self.pin())?;
        Some((sc, sc.get().hot.hold(self.pin())?))
    }
}
