//! Mail from one CPU to others: message blocks with calls, replies and [requests](Request); control
//! bits; Notification bits.
//!
//! # Ownership
//! A task's message block belongs to the CPU that its home word names. The sender changes the home
//! word last, before the push that hands the block over. So a CPU that can open a block owns it.
//! The exception is a block that is still in that CPU's own mailbox, which the stages
//! [`Stage::Out`](kern_base::task::Stage) and `Ask` indicate.
//!
//! # Rank
//! Control bits, Notification bits and requests have the rank of the task for which they are sent:
//! [`rank_of`] its priority. So do arriving tasks, grace rounds and the questions of shootdowns,
//! whose answers are above every rank. A call or reply has the rank of the CPU time that travels
//! with it; without time, a call has the rank of the task for which it is sent, and a reply or
//! answer that of its call or request. An entry that serves mail works for the task for which the
//! mail was sent. The rank decides whether mail interrupts a program whose CPU defers its mail, and
//! whether that program must wait for more mail: `door/look.rs`.
//!
//! # Recall
//! A task whose block is on another CPU may be killed or cancelled, or its deadline may pass. Then
//! the task's home CPU recalls the block: it records the call's number and the reason
//! ([`Task::recalled`]), and sends RECALL, one of the task's control bits, to the CPU that has the
//! block. The block comes back as a reply with an error. If it had been replied to before, the
//! reply comes first, and the RECALL that arrives later finds no block of that number. The kill,
//! cancellation or timeout is carried out when the block is back: [`crate::door::arrivals`].

use abi::{Counter, MsgInfo};
use kern_base::block::{Block, BlockQueue, Parcel};
use kern_base::cpu::{CpuBlock, Mail, SIGN};
use kern_base::machine::Machine;
use kern_base::message::{SenderInfo, Words};
use kern_base::notification::Notification;
use kern_base::sched_context::SchedHot;
use kern_base::task::{Message, Request, Stage, Task, ctl};
use smp::coalesced::CoalescedBits;
use smp::cpu::CpuId;
use smp::door::Ref;
use smp::mailbox::{Node, Wake};

use crate::rooms::Outbox;
use crate::{Cx, OpenTask, Refusal};

/// Where a request goes after this CPU has served it.
pub enum Next<'k> {
    /// Back to the task that asked.
    Done,
    /// To another CPU, or through this CPU's mailbox once more.
    Go(CpuId),
    /// Into a queue of this CPU, until the event that it waits for.
    Keep(&'k BlockQueue),
}

/// The rank of mail for which no task waits: below that of every priority.
pub const LOWEST_RANK: u32 = 1;

/// Returns the rank of mail that is sent for a task of this priority; `here`: to its own CPU.
pub fn rank_of(priority: u8, here: bool) -> u32 {
    (u32::from(priority) + 1) * 2 + u32::from(here)
}

/// Returns the rank of mail with which this CPU time travels.
#[inline(always)]
pub fn rank_with(time: &SchedHot) -> u32 {
    time.state.rank() * 2
}

impl<M: Machine> Cx<'_, M> {
    /// Returns the rank of what this entry sends to a CPU: the priority of the task for which the
    /// entry works. Between CPUs it counts less than the same priority on one CPU.
    pub fn rank_for(self, to: CpuId) -> u32 {
        match self.sched.works_for.get() {
            0 => self.running().map_or(0, |sc| rank_with(&sc) + u32::from(to == self.id())),
            rank => rank,
        }
    }

    /// Returns the rank of what this entry sends to other CPUs.
    #[inline(always)]
    pub fn rank_out(self) -> u32 {
        match self.sched.works_for.get() {
            0 => self.running().map_or(0, |sc| rank_with(&sc)),
            rank => rank,
        }
    }

    /// Does what this entry does for the running task after that task's time was taken off the CPU:
    /// what it sends has the rank that it would have before.
    pub fn work_without_time(self, stop: impl FnOnce(), work: impl FnOnce()) {
        let before = self.sched.works_for.get();
        let rank = if before == 0 { self.running().map_or(0, |sc| rank_with(&sc)) } else { before };
        stop();
        self.sched.works_for.set(rank);
        work();
        self.sched.works_for.set(before);
    }
}

/// Returns the priority of a task for which mail of this rank is sent: the inverse of [`rank_of`].
fn priority_of(rank: u32) -> u8 {
    (rank / 2).saturating_sub(1) as u8
}

impl<'k, M: Machine> Outbox<'k, M> {
    /// Pushes a node into the mailbox of a CPU, and interrupts the CPU where its wake rule asks for
    /// that.
    #[inline(always)]
    pub fn push(self, there: &CpuBlock, node: Ref<'k, Node<Mail>>, mail: Mail) {
        let wake = there.mailbox().push(self.pin(), node, mail);
        self.interrupt(there.id(), wake);
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
    fn raise_bits(
        self,
        to: CpuId,
        bits: Ref<'k, CoalescedBits<Mail>>,
        value: u64,
        mail: impl FnOnce() -> Mail,
    ) {
        let ranked = || (mail(), self.rank_for(to));
        let mailbox = |cpu| self.k.block(self.pin(), cpu).mailbox();
        let (to, wake) = mailbox(to).raise(self.pin(), bits, value, ranked, mailbox);
        self.interrupt(to, wake);
    }

    /// Sends control bits to the CPU that has a task's message block.
    pub fn raise_with_message(self, task: Ref<'k, Task>, bits: u64) {
        self.raise_task_bits(task.get().message_state().mail_target(self.pin()), task, bits);
    }

    /// Sends control bits to a task's home CPU, through the mailbox even if that is this CPU.
    pub fn raise_control(self, task: Ref<'k, Task>, bits: u64) {
        self.raise_task_bits(task.get().hot.mail_target(self.pin()), task, bits);
    }

    fn raise_task_bits(self, to: CpuId, task: Ref<'k, Task>, bits: u64) {
        self.raise_bits(to, task.map(|t| &t.ctl), bits, || Mail::Control(task.ptr()));
    }

    /// Raises bits of a Notification of another CPU.
    pub fn raise_remote(self, object: Ref<'k, Notification>, bits: u64) {
        if bits != 0 {
            self.raise_bits(
                object.get().hot.mail_target(self.pin()),
                object.map(|n| &n.remote),
                bits,
                || Mail::Bits(object.ptr()),
            );
        }
    }

    /// Asks a CPU for a sign of life.
    pub fn raise_sign(self, cpu: Ref<'k, CpuBlock>) {
        self.raise_bits(cpu.get().id(), cpu.map(|cpu| &cpu.sign), SIGN, || Mail::Sign);
    }

    /// Sends a message block, and the CPU time in it, to a CPU.
    pub fn send_block(self, block: Block<'k>, to: CpuId) {
        let node = block.task().map(|t| &t.msg_node);
        let parcel = self.seal(block, to);
        self.push(self.k.block(self.pin(), to), node, Mail::Message(parcel));
    }

    /// Seals a message block for the mailbox of a CPU, which is then the home of the block and of
    /// the time in it. Time that may not run on that CPU stays here, without holder. A request
    /// takes it along: nobody spends it there, until the owner has it, who runs where it may.
    pub fn seal(self, block: Block<'k>, to: CpuId) -> Parcel {
        let time = block.time(self.pin()).map(|sc| sc.get().hot.hold_here(self.pin()));
        let time = time.filter(|held| {
            let goes = held.state.may_run_on(to) || block.stage() == Stage::Ask;
            if !goes {
                held.task.set(None);
                block.set_time(None);
            }
            goes
        });
        if let Some(held) = &time {
            block.task().get().msg_node.set_rank(rank_with(held));
        }
        block.seal(time, to)
    }

    /// Sends the running task's request to another CPU, which does it to an object of its own.
    /// Returns the refusal that restarts the system call when the answer is back.
    #[inline(always)]
    pub fn ask(self, me: OpenTask<'k>, to: CpuId, request: Request) -> Refusal {
        self.send_request(me, to, request);
        Refusal::Again
    }

    /// Does what [`Outbox::ask`] does, with a request that has arguments.
    #[inline(always)]
    pub fn ask_with(self, me: OpenTask<'k>, to: CpuId, request: Request, words: [u64; 4]) -> Refusal {
        self.send_request_with(me, to, request, words);
        Refusal::Again
    }

    /// Does what [`Outbox::send_request`] does, with a request that has arguments.
    #[cold]
    #[inline(never)]
    fn send_request_with(self, me: OpenTask<'k>, to: CpuId, request: Request, words: [u64; 4]) {
        me.get().msg_node.set_rank(self.rank_for(to));
        let block = self.take_for_request(me, request);
        block.write(Words { info: MsgInfo(0), regs: words }, SenderInfo::NONE);
        self.send_block(block, to);
    }

    /// Sends a request in the message block of a task of this CPU, which is at home. No time
    /// travels with it.
    pub fn send_request(self, task: OpenTask<'k>, to: CpuId, request: Request) {
        task.get().msg_node.set_rank(self.rank_for(to));
        self.send_block(self.take_for_request(task, request), to);
    }

    /// Takes the message block of a task of this CPU, and writes a request into it.
    pub fn take_for_request(self, task: OpenTask<'k>, request: Request) -> Block<'k> {
        let block = Block::take(task.object(), self.pin());
        block.asks(request);
        block.take_number_of(task.part());
        block
    }

    /// Keeps a request on this CPU until the event that it waits for, at the priority of the task
    /// for which it was sent.
    pub fn keep(self, block: Block<'k>, queue: &BlockQueue) {
        block.mark_kept();
        let priority = priority_of(block.task().get().msg_node.rank());
        queue.put(self.pin(), block, priority);
    }

    /// Keeps a request of the running task on this CPU. Returns the refusal that restarts the
    /// system call when the event has come.
    pub fn keep_own(self, me: OpenTask<'k>, request: Request, queue: &BlockQueue) -> Refusal {
        me.get().msg_node.set_rank(self.rank_for(self.id()));
        self.keep(self.take_for_request(me, request), queue);
        Refusal::Again
    }

    /// Sends a block back to its task after its request was served.
    pub fn answer_request(self, block: Block<'k>) {
        block.mark_served();
        let home = block.task().get().hot.home();
        self.send_block(block, home);
    }

    /// Asks the CPU that has a task's message block to send it back; `hot.ending` has the reason.
    /// With `leave`, the time stays with the task there that holds it.
    pub fn recall(self, task: OpenTask<'k>, leave: bool) {
        task.get().recall(task.part(), leave);
        self.raise_with_message(task.object(), ctl::RECALL);
    }

    /// Whether a block with a request was recalled after it left.
    pub fn is_asked_back(self, task: Ref<'k, Task>, msg: &Message) -> bool {
        task.get().recalled().number == msg.number()
    }
}
