//! Message blocks as values that must be passed on.
//!
//! A task's message block ([`Message`]) is part of the task. The CPU that owns the block is the
//! block's home. The *code* that owns it holds a value, a [`Block`], which can be neither copied
//! nor dropped. Code that takes a block from one place must put it into another:
//!
//! | a block is taken by | and put there by | where the block is |
//! |---|---|---|
//! | [`Block::take`] | [`Block::rest`] | at its task |
//! | [`BlockLink::take`] | [`BlockLink::put`] | at the server or the Reply that has the call |
//! | [`BlockQueue::pop`] | [`BlockQueue::put`] | in a queue of waiting callers or senders, or of kept requests |
//! | [`Parcel::open`] | [`Block::seal`] | in mail to a CPU |
//!
//! So no path of the kernel loses a call, answers it twice, or queues it in two places. Only code
//! that holds the block can change the block's home.
//!
//! Between tasks of one CPU the fastpath writes the links itself. A link has the layout of a plain
//! reference, so the fastpath's stores have the effect of [`BlockLink::put`] and
//! [`BlockLink::take`].

use core::ops::Deref;

use abi::TaskId;
use sched::PrioList;
use smp::cpu::{CpuId, Pin};
use smp::door::{Duty, HasHomed, Held, HeldOf, Homed, Link, Ptr, Ref};

use crate::sched_context::SchedHot;
use crate::task::{Message, Outcome, Request, Stage, Task};

/// A task's message block, in the hands of the code that is about to pass it on. The block is on
/// this CPU.
#[must_use = "a message block must be passed on"]
pub struct Block<'k> {
    msg: HeldOf<'k, Task, Message>,
    duty: Duty,
}

impl HasHomed<Message> for Task {
    #[inline(always)]
    fn homed(&self) -> &Homed<Message> {
        &self.msg
    }
}

impl Deref for Block<'_> {
    type Target = Message;
    #[inline(always)]
    fn deref(&self) -> &Message {
        &self.msg
    }
}

impl<'k> Block<'k> {
    #[inline(always)]
    fn of(task: Ref<'k, Task>, pin: Pin<'k>) -> Block<'k> {
        Block { msg: HeldOf::here(task, pin), duty: Duty::new() }
    }

    /// Takes the block of a task of this CPU that does not wait for a message of its own: the task
    /// runs, is ready, or waits for a shootdown or for CPU time.
    #[inline(always)]
    pub fn take(task: Ref<'k, Task>, pin: Pin<'k>) -> Block<'k> {
        let block = Block::of(task, pin);
        debug_assert!(!block.stage.get().is_under_way(), "the block rests with its task");
        block
    }

    /// Returns the task whose block it is.
    #[inline(always)]
    pub fn task(&self) -> Ref<'k, Task> {
        self.msg.object()
    }

    /// Puts the block back to its task: the call, event or request is over.
    #[inline(always)]
    pub fn rest(self) {
        self.callee.set(None);
        self.held.set(None);
        self.rest_unlinked();
    }

    /// Does [`Block::rest`] for a block that names neither a callee nor a Reply object.
    #[inline(always)]
    pub fn rest_unlinked(self) {
        self.stage.set(Stage::Home);
        self.duty.done();
    }

    /// Notes that the callee has received the message, or has it in its queue.
    #[inline(always)]
    pub fn is_at(&self, callee: Ref<'_, Task>, stage: Stage) {
        self.callee.set(Some(callee));
        self.stage.set(stage);
    }

    /// Makes the block ready to travel to `callee`'s CPU. `tag` has the generation half of the
    /// callee's state word.
    #[inline(always)]
    pub fn goes_out(&self, callee: Ref<'_, Task>, tag: u64) {
        self.tag.set(tag);
        self.held.set(None);
        self.is_at(callee, Stage::Out);
    }

    /// Makes the block ready to travel home.
    #[inline(always)]
    pub fn goes_back(&self, outcome: Outcome) {
        self.outcome.set(outcome);
        self.callee.set(None);
        self.held.set(None);
        self.stage.set(Stage::Back);
    }

    /// Makes the block carry a request. No time travels with it.
    pub fn asks(&self, request: Request) {
        self.request.set(Some(request));
        self.sc.set(None);
        self.callee.set(None);
        self.stage.set(Stage::Ask);
    }

    /// Seals the block for a mailbox: makes `to` the home of the block, and then of `time`, which
    /// is the time in the block.
    #[inline(always)]
    pub fn seal(self, time: Option<Held<'_, SchedHot>>, to: CpuId) -> Parcel {
        let task = self.task().ptr();
        self.msg.held().hand_to_with(time, to);
        Parcel { task, duty: self.duty }
    }

    /// Lets the block of a task that moves to another CPU be under way with the task.
    pub fn leave_with_task(self, to: CpuId) {
        self.msg.held().leave_for(to);
        self.duty.done();
    }
}

/// A message block in a mailbox.
#[must_use = "a message block must be passed on"]
pub struct Parcel {
    task: Ptr<Task>,
    duty: Duty,
}

impl Parcel {
    /// Returns the address of the task whose block it is.
    pub fn addr(&self) -> u64 {
        self.task.addr()
    }

    /// Returns the id of the task whose block it is.
    pub fn task_id(&self, pin: Pin<'_>) -> TaskId {
        self.task.get(pin).get().id()
    }

    /// Takes the block out, on the CPU to which it was sent.
    #[inline(always)]
    pub fn open<'k>(self, pin: Pin<'k>) -> Block<'k> {
        Block { msg: HeldOf::here(self.task.get(pin), pin), duty: self.duty }
    }
}

/// A link that can have a message block. It names the block's task.
#[repr(transparent)]
pub struct BlockLink(Link<Task>);

impl BlockLink {
    pub const fn null() -> BlockLink {
        BlockLink(Link::null())
    }

    /// Takes the block out.
    #[inline(always)]
    pub fn take<'k>(&self, pin: Pin<'k>) -> Option<Block<'k>> {
        self.0.take(pin).map(|task| Block::of(task, pin))
    }

    /// Takes out the block of `task`, which the link has.
    #[inline(always)]
    pub fn take_of<'k>(&self, task: Ref<'k, Task>, pin: Pin<'k>) -> Block<'k> {
        debug_assert!(self.is(task), "the link has this task's block");
        self.0.set(None);
        Block::of(task, pin)
    }

    /// Puts a block in.
    ///
    /// Requires: the link is empty.
    #[inline(always)]
    pub fn put(&self, block: Block<'_>) {
        debug_assert!(self.0.is_null(), "a link has one block");
        self.0.set(Some(block.task()));
        block.duty.done();
    }

    /// Returns the task whose block it has.
    #[inline(always)]
    pub fn get<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, Task>> {
        self.0.get(pin)
    }

    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Whether it has the block of `task`.
    pub fn is(&self, task: Ref<'_, Task>) -> bool {
        self.0.is(task)
    }

    /// Returns the address of the task, or 0: for dumps.
    pub fn addr(&self) -> u64 {
        self.0.addr()
    }
}

/// A queue of message blocks, by priority, and in order of arrival within one priority.
#[repr(transparent)]
pub struct BlockQueue(PrioList<Task>);

impl Default for BlockQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl BlockQueue {
    pub const fn new() -> BlockQueue {
        BlockQueue(PrioList::new())
    }

    /// Queues a block.
    pub fn put(&self, pin: Pin<'_>, block: Block<'_>, priority: u8) {
        self.0.insert(pin, block.task(), priority);
        block.duty.done();
    }

    /// Takes the next block.
    #[inline]
    pub fn pop<'k>(&self, pin: Pin<'k>) -> Option<Block<'k>> {
        self.0.pop_highest(pin).map(|task| Block::of(task, pin))
    }

    /// Takes the block of `task` out, if the queue has it.
    pub fn take<'k>(&self, pin: Pin<'k>, task: Ref<'k, Task>) -> Option<Block<'k>> {
        self.0.remove(pin, task).then(|| Block::of(task, pin))
    }

    /// Moves all blocks into a queue of their own.
    pub fn take_all(&self, pin: Pin<'_>) -> BlockQueue {
        BlockQueue(self.0.take_all(pin))
    }

    /// Returns the queue as a list of the tasks whose blocks wait: only to look.
    #[inline(always)]
    pub fn tasks(&self) -> &PrioList<Task> {
        &self.0
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Task {
    /// Returns the task's message block to look at, if the block is on this CPU.
    #[inline(always)]
    pub fn message<'k>(&'k self, pin: Pin<'k>) -> Option<&'k Message> {
        self.msg.open(pin)
    }

    /// Makes this CPU the home of a task, and of its message block, that are under way to it.
    /// Returns: whether they were.
    pub fn arrive(&self, pin: Pin<'_>) -> bool {
        self.hot.arrive(pin) & self.msg.arrive(pin)
    }

    /// Returns the message block with the CPU that has it: for surveys, and to find that CPU.
    pub fn message_state(&self) -> &Homed<Message> {
        &self.msg
    }
}
