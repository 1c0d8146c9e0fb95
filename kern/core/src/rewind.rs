//! Taking back what a suspended task waits in, so that its registers say all of it: whoever has them, the task itself or
//! a fresh one that they are written to, makes the system call again and goes on as if nothing had happened.
//!
//! # What there is to take back
//! A system call that waits for another CPU or for a grace period was set back already, and starts again by itself. One
//! that waits for a message, for bits, for a receiver or for room is unlinked here, and its arguments are in the
//! frame: the slow path left them there, and where a fastpath entered the kernel they follow from what the task waits in.
//! What a `ReplyRecv` has left to do is a `Recv`.
//!
//! A call whose message is on another CPU is asked back: [`crate::remote`]. One that somebody has received can't be
//! unmade; its answer becomes part of the task's state when it comes. So does that of a fault, which meanwhile has all of
//! the task's registers in its frame.

use abi::{Cap, Error, FLAG_DEADLINE, MsgInfo, Op, Rewound, Rights, task_rights};
use kern_base::limits::HOLDING_LOOKS;
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::task::{FLAG_IN_FAULT, Message, State, Task, TaskHot};
use smp::door::Ref;

use crate::remote::{REWOUND, SPECIAL, Wish, was_received};
use crate::schedule::{has_flag, state_of};
use crate::syscall::Args;
use crate::{Answer, Cx, Me, Refusal, Result};

impl<'k, M: Machine> Cx<'k, M> {
    /// [`abi::Op::TaskRewind`]. The second argument is where the search for a capability goes on when it starts again.
    pub fn task_rewind(self, me: Me<'k>, args: &Args) -> Result<Answer> {
        let task = self.find::<Task>(me, args.cap(), task_rights::REGISTERS)?.object;
        let hot = self.suspended(task)?;
        let rewound = match state_of(hot) {
            _ if has_flag(hot, FLAG_IN_FAULT) => Rewound::Received,
            State::Recv | State::RecvTimed => self.rewind_receive(task, hot),
            State::WaitBits => self.rewind_wait(me, task, hot, args.a1)?,
            State::Sending => self.rewind_call(task, hot),
            State::Await | State::AwaitTimed => Rewound::Received,
            State::AwaitRemote => self.ask_back(task, hot),
            _ => Rewound::Done,
        };
        Ok(Answer::one(rewound as u64))
    }

    fn rewind_receive(self, task: Ref<'k, Task>, hot: &'k TaskHot) -> Rewound {
        let deadline = hot.deadline.deadline();
        let _ = self.unwait(task, hot, false);
        let info = MsgInfo(0).op(Op::Recv);
        let info = if deadline.is_some() { info.flag(FLAG_DEADLINE) } else { info };
        write_arguments(hot, info, [0, deadline.unwrap_or(0), 0, 0, 0, 0]);
        self.make_again(task, hot);
        Rewound::Done
    }

    fn rewind_wait(self, me: Me<'k>, task: Ref<'k, Task>, hot: &'k TaskHot, first: u64) -> Result<Rewound> {
        // By the slow path its arguments are there; by the fastpath not, whether or not the frame was spelled out since.
        let is_there = !hot.is_plain() && Op::from_raw(hot.regs.rax.get() as u8) == Some(Op::Wait);
        let cap = if is_there { None } else { Some(self.waited_cap(me, hot, first)?) };
        let _ = self.unwait(task, hot, false);
        if let Some(cap) = cap {
            hot.spell_out();
            write_arguments(hot, MsgInfo(0).op(Op::Wait), [cap.arg(), 0, 0, 0, 0, 0]);
        }
        self.make_again(task, hot);
        Ok(Rewound::Done)
    }

    /// A capability by which a task's process may wait for what the task waits for. A bounded number of slots is looked at in
    /// one entry.
    fn waited_cap(self, me: Me<'k>, hot: &TaskHot, first: u64) -> Result<Cap> {
        let process = hot.process.get(self.pin()).ok_or(Error::BadState)?;
        let object = hot.waits_for.get(self.pin()).ok_or(Error::BadState)?;
        let reach = self.cspace_of(process)?;
        let slots = self.slots_in(reach);
        let first = usize::try_from(first).map_err(|_| Refusal::argument(1))?;
        let end = slots.min(first.saturating_add(HOLDING_LOOKS));
        for at in first.max(1)..end {
            let Some(place) = self.slot_in(reach, at) else { continue };
            let word = place.slot.get().word.load(self.pin());
            let same = word.get::<Notification>().is_some_and(|other| other == object);
            if same && Rights(word.rights()).contains(Rights::LISTEN) {
                return Ok(Cap(at as u32));
            }
        }
        if end < slots {
            me.hot.regs.rsi.set(end as u64);
            return Err(Refusal::More);
        }
        Err(Error::NoCapability.into())
    }

    /// A call, or a send, that waits on this CPU.
    fn rewind_call(self, task: Ref<'k, Task>, hot: &'k TaskHot) -> Rewound {
        let Some(msg) = task.get().msg.open(self.pin()).filter(|msg| !was_received(msg)) else {
            return Rewound::Received;
        };
        let timed = hot.deadline.is_queued();
        let _ = self.unwait(task, hot, false);
        self.call_unmade(task, hot, msg, timed);
        Rewound::Done
    }

    /// The same where its message is on another CPU, or on the way there.
    fn ask_back(self, task: Ref<'k, Task>, hot: &TaskHot) -> Rewound {
        if self.is_received_there(task, hot) {
            if hot.recall.get() == REWOUND {
                hot.recall.set(0);
            }
            return Rewound::Received;
        }
        if hot.recall.get() == 0 {
            hot.recall.set(REWOUND);
            self.recall_so(task, hot, Wish::Unreceived);
        }
        Rewound::Asked
    }

    /// A call that is linked nowhere any more, and whose message is home, was not made.
    pub fn call_unmade(self, task: Ref<'k, Task>, hot: &'k TaskHot, msg: &Message, timed: bool) {
        let info = msg.info.get();
        // Of a plain call, which may have come by the fastpath, the message block has all.
        if !timed && !info.has(SPECIAL) {
            let [first, second, third, fourth] = [0, 1, 2, 3].map(|n: usize| msg.regs[n].get());
            write_arguments(hot, info.op(Op::Call), [msg.target.get().0, 0, first, second, third, fourth]);
        }
        self.event(|| abi::trace::Event::CallOver { caller: task.get().id(), error: 0 });
        self.take_pages_back(task, hot);
        self.make_again(task, hot);
        self.dispatch();
    }

    /// A task that is taken out of a system call makes it again when it goes on.
    fn make_again(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        self.rewind(hot);
        self.make_ready(task, hot);
    }
}

/// The registers with which a system call is made: the message word, then the others in their order.
fn write_arguments(hot: &TaskHot, info: MsgInfo, [rdi, rsi, rdx, r8, r9, r10]: [u64; 6]) {
    let regs = &hot.regs;
    for (register, value) in
        [(&regs.rax, info.0), (&regs.rdi, rdi), (&regs.rsi, rsi), (&regs.rdx, rdx), (&regs.r8, r8)]
    {
        register.set(value);
    }
    regs.r9.set(r9);
    regs.r10.set(r10);
    regs.r12.set(0);
    regs.full.set(0);
}
