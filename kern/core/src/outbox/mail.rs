//! What one CPU sends to others: message blocks with calls, replies and [requests](Request);
//! control bits; Notification bits.
//!
//! # Ownership
//! A task's message block belongs to the CPU that its home word names. The sender changes the home
//! word last, before the push that hands the block over. So a CPU that can open a block owns it,
//! unless the block is still in that CPU's own mailbox: the stages
//! [`Stage::Out`](kern_base::task::Stage) and `Ask` say so.
//!
//! # Recall
//! A task whose block is on another CPU may be killed or cancelled, or its deadline may pass. Then
//! its home CPU recalls the block: it notes the block's number and the reason ([`Task::recalled`]),
//! and sends RECALL, among the task's control bits, to the CPU that has the block. The block comes
//! back as a reply with an error. If it had been replied to before, the reply comes first, and the
//! RECALL that arrives later finds no block of that number. The kill, cancellation or timeout is
//! carried out when the block is back: [`crate::door::arrivals`].

use abi::{Counter, Error};
use kern_base::cpu::{CpuBlock, Mail};
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::task::{Ending, Message, Request, Stage, Task, TaskHot, ctl};
use smp::coalesced::CoalescedBits;
use smp::cpu::CpuId;
use smp::door::Ref;
use smp::mailbox::{Node, Wake};
use smp::sync::Ordering::{Acquire, Release};

use crate::rooms::Outbox;
use crate::state::is_dying;
use crate::{Me, Refusal};

/// Where a request goes after this CPU has served it.
pub enum Next {
    /// Back to the task that asked.
    Done,
    /// To another CPU, or through this CPU's mailbox once more.
    Go(CpuId),
    /// Nowhere: this CPU keeps it until the event that it waits for.
    Stay,
}

impl<'k, M: Machine> Outbox<'k, M> {
    /// Pushes a node into a CPU's mailbox and interrupts it where its wake rule asks for that.
    fn post(self, to: CpuId, node: Ref<'k, Node<Mail>>, mail: Mail) {
        let Some(there) = self.k.cpus.get(self.pin(), to.index()) else { return };
        self.push(there, node, mail);
    }

    /// Pushes a node into the mailbox of a CPU, and interrupts the CPU where its wake rule asks for
    /// that.
    #[inline(always)]
    pub fn push(self, there: Ref<'k, CpuBlock>, node: Ref<'k, Node<Mail>>, mail: Mail) {
        let wake = there.get().mailbox().push(self.pin(), node, mail);
        self.interrupt(there.get().id(), wake);
    }

    /// Interrupts a CPU if a push asks for that.
    #[inline(always)]
    pub fn interrupt(self, to: CpuId, wake: Wake) {
        if wake.is_needed() {
            self.send_interrupt(to);
        }
    }

    #[inline(always)]
    fn send_interrupt(self, to: CpuId) {
        self.count(Counter::IpiSent);
        self.k.machine.wake(to);
    }

    /// Raises bits. Sends their node to `to` if no bit was up before.
    fn raise_bits(self, to: CpuId, bits: Ref<'k, CoalescedBits<Mail>>, value: u64, mail: Mail) {
        let Some(cpu) = self.k.cpus.get(self.pin(), to.index()) else { return };
        let wake = cpu.get().mailbox().raise(self.pin(), bits, value, mail);
        self.interrupt(to, wake);
    }

    /// Sends control bits to the CPU that has a task's message block.
    pub fn raise_with_message(self, task: Ref<'k, Task>, bits: u64) {
        self.raise_bits(task.get().msg.home(), task.map(|t| &t.ctl), bits, Mail::Control(task.ptr()));
    }

    /// Sends control bits to a task's home CPU, through the mailbox even if that is this CPU.
    pub fn raise_control(self, task: Ref<'k, Task>, bits: u64) {
        let to = task.get().hot.mail_target(self.pin());
        self.raise_bits(to, task.map(|t| &t.ctl), bits, Mail::Control(task.ptr()));
    }

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

    /// Sends a message block, and the time in it, to another CPU.
    pub fn send_block(self, task: Ref<'k, Task>, msg: &Message, to: CpuId) {
        self.hand_block(task, msg, to);
        self.post(to, task.map(|t| &t.msg_node), Mail::Message(task.ptr()));
    }

    /// Makes another CPU the home of a message block and of the time in it. The caller of this
    /// function then sends the message.
    pub fn hand_block(self, task: Ref<'k, Task>, msg: &Message, to: CpuId) {
        let sc = msg.sc.get(self.pin()).map(|sc| sc.get().hot.hold_here(self.pin()));
        task.get().msg.hold_here(self.pin()).hand_to_with(sc, to);
    }

    /// Gives a new number to the message block of a task of this CPU, which is about to leave.
    /// Requires: no recall is pending.
    #[inline(always)]
    pub fn number_block(self, hot: &TaskHot, msg: &Message) {
        debug_assert_eq!(hot.ending.get(), Ending::None, "a recall is over before the next message leaves");
        hot.sent.set(hot.sent.get().wrapping_add(1));
        msg.number.set(hot.sent.get());
    }

    /// Asks another CPU to do something with an object of its own. The system call restarts when
    /// the answer is back.
    pub fn ask(self, me: Me<'k>, to: CpuId, request: Request) -> Refusal {
        let Some(msg) = me.task.get().msg.open(self.pin()) else { return Error::BadState.into() };
        self.send_request(me.task, msg, to, request);
        Refusal::Again
    }

    /// Sends a request in a task's message block, which is at home. No time travels with it.
    pub fn send_request(self, task: Ref<'k, Task>, msg: &Message, to: CpuId, request: Request) {
        self.write_request(task, msg, request);
        self.send_block(task, msg, to);
    }

    /// Writes a request into a task's message block, and gives the block a new number.
    pub fn write_request(self, task: Ref<'k, Task>, msg: &Message, request: Request) {
        msg.request.set(Some(request));
        msg.sc.set(None);
        msg.callee.set(None);
        msg.stage.set(Stage::Ask);
        if let Some(hot) = self.task_hot(task) {
            hot.sent.set(hot.sent.get().wrapping_add(1));
            msg.number.set(hot.sent.get());
        }
    }

    /// Sends a block back to its task after its request was served.
    pub fn answer_request(self, task: Ref<'k, Task>, msg: &Message) {
        msg.stage.set(Stage::AskDone);
        self.send_block(task, msg, task.get().hot.home());
    }

    /// Asks the CPU that has a task's message block to send it back; `hot.ending` has the reason.
    /// With `leave`, the time stays with the task there that holds it.
    pub fn recall(self, task: Ref<'k, Task>, hot: &TaskHot, leave: bool) {
        let wanted = RecallRequest { number: hot.sent.get(), leave, dying: is_dying(hot) };
        task.get().recalled.store(wanted.raw(), Release);
        self.raise_with_message(task, ctl::RECALL);
    }

    /// Whether a block with a request was recalled after it left.
    pub fn is_asked_back(self, task: Ref<'k, Task>, msg: &Message) -> bool {
        RecallRequest::from_raw(task.get().recalled.load(Acquire)).number == msg.number.get()
    }
}

/// The contents of [`Task::recalled`].
#[derive(Clone, Copy)]
pub struct RecallRequest {
    /// The number of the block: a task's messages to other CPUs are numbered.
    pub number: u32,
    /// The time that came with the block stays with its holder.
    pub leave: bool,
    /// The task is being killed.
    pub dying: bool,
}

impl RecallRequest {
    const fn raw(self) -> u64 {
        (self.number as u64) << 2 | (self.dying as u64) << 1 | self.leave as u64
    }

    pub const fn from_raw(raw: u64) -> RecallRequest {
        RecallRequest { number: (raw >> 2) as u32, leave: raw & 1 != 0, dying: raw & 2 != 0 }
    }
}
