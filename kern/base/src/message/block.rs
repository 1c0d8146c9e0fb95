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

use abi::{Error, MsgInfo, TaskId};
use sched::PrioList;
use smp::cpu::{CpuId, Pin};
use smp::door::{Duty, HasHomed, Held, HeldOf, Homed, Link, Ptr, Ref};

use super::{Message, Outcome, Request, SenderInfo, Stage, Words};
use crate::methods::methods;
use crate::reply::Reply;
use crate::sched_context::SchedHot;
use crate::task::{Ending, Task, TaskHot};

/// A task's message block, in the hands of the code that is about to pass it on. The block is on
/// this CPU.
#[must_use = "a message block must be passed on"]
pub struct Block<'k> {
    msg: HeldOf<'k, Task, Message>,
    duty: Duty,
}

/// What only this module has: a [`Block`] is the only way to send a message block.
pub struct HolderKey(());

impl HasHomed<Message> for Task {
    type Key = HolderKey;

    #[inline(always)]
    fn homed(&self) -> &Homed<Message> {
        &self.msg
    }
}

impl Deref for Block<'_> {
    type Target = Message;
    fn deref(&self) -> &Message {
        &self.msg
    }
}

methods! { Block<'_>:
    // --- what it says ----------------------------------------------------------------------------

    /// Names the sender of a message that the fast path has written.
    fn set_sender(self, sender: TaskId) = self.sender.set(sender);
    /// Names the group to which the message is broadcast.
    fn set_group(self, identity: u64) = self.group.set(identity);

    // --- where it stands -------------------------------------------------------------------------

    /// Names the callee that will get the message.
    fn address_to(self, callee: Ref<'_, Task>) = self.callee.set(Some(callee));
    /// Notes that the callee has received the message.
    fn mark_received(self) = self.stage.set(Stage::Owed);

    // --- requests --------------------------------------------------------------------------------

    /// Notes what a wait for a lock is about, before the block goes to the lock's owner.
    fn note_lock(self, lock: Request) = self.request.set(Some(lock));
    /// Notes that this CPU keeps the request that the block carries.
    fn mark_kept(self) = self.stage.set(Stage::Kept);
    /// Notes that the request that the block carries was served.
    fn mark_served(self) = self.stage.set(Stage::AskDone);
    /// Takes the request out of the block.
    fn take_request(self) -> Option<Request> = self.request.take();
}

impl<'k> Block<'k> {
    #[inline(always)]
    fn of(task: Ref<'k, Task>, pin: Pin<'k>) -> Block<'k> {
        Block { msg: HeldOf::here(task, pin, HolderKey(())), duty: Duty::new() }
    }

    /// Takes the message block of a task into this CPU's hands, to send a message with it.
    /// Requires: the task is of this CPU, and no earlier message of it is still on its way: the
    /// task runs, is ready, or waits for a shootdown or for CPU time.
    #[inline(always)]
    pub fn take(task: Ref<'k, Task>, pin: Pin<'k>) -> Block<'k> {
        let block = Block::of(task, pin);
        debug_assert!(!block.stage().is_under_way(), "a block in {:?} is not its task's", block.stage());
        block
    }

    /// Returns the task whose block it is.
    pub fn task(&self) -> Ref<'k, Task> {
        self.msg.object()
    }

    /// Puts the block back to its task, and unlinks the callee: the call, event or request is over.
    #[inline(always)]
    pub fn rest(self) {
        self.callee.set(None);
        self.rest_unlinked();
    }

    /// Gives the message block back to its task, whose call, event or request is over.
    /// Requires: the block names no callee.
    pub fn rest_unlinked(self) {
        debug_assert!(self.held.is_null(), "a block in {:?} rests, and a Reply has it", self.stage());
        self.stage.set(Stage::Home);
        self.duty.done();
    }

    // --- what it says ----------------------------------------------------------------------------

    /// Writes a message into the block.
    #[inline(always)]
    pub fn write(&self, words: Words, from: SenderInfo) {
        self.info.set(words.info);
        for (cell, value) in self.regs.iter().zip(words.regs) {
            cell.set(value);
        }
        self.target.set(from.target);
        self.custom.set(from.custom);
        self.sender.set(from.sender);
    }

    // --- where it stands -------------------------------------------------------------------------

    /// Notes that the message waits in the callee's queue.
    pub fn queue_at(&self, callee: Ref<'_, Task>) {
        self.address_to(callee);
        self.stage.set(Stage::Queued);
    }

    /// Notes which Reply object holds the block, or that none does.
    pub(crate) fn set_held(&self, reply: Option<Ref<'_, Reply>>) {
        self.held.set(reply);
    }

    /// Makes the block ready to travel to `callee`'s CPU. `tag` has the generation half of the
    /// callee's state word.
    #[inline(always)]
    pub fn goes_out(&self, callee: Ref<'_, Task>, tag: u64) {
        debug_assert!(self.held.is_null(), "a block in {:?} leaves, and a Reply has it", self.stage());
        self.tag.set(tag);
        self.address_to(callee);
        self.stage.set(Stage::Out);
    }

    /// Makes the block ready to travel back to its task's CPU, with the outcome of the call.
    #[inline(always)]
    pub fn goes_back(&self, outcome: Outcome) {
        debug_assert!(self.held.is_null(), "a block in {:?} goes back, and a Reply has it", self.stage());
        self.outcome.set(outcome);
        self.callee.set(None);
        self.stage.set(Stage::Back);
    }

    /// Gives the block a number: it is the next block that leaves the CPU of its task, whose state
    /// is `hot`.
    #[inline(always)]
    pub fn take_number_of(&self, hot: &TaskHot) {
        debug_assert!(hot.ending() == Ending::None || self.stage() == Stage::Ask, "a recall is not over");
        hot.sent.set(hot.sent.get().wrapping_add(1));
        self.number.set(hot.sent.get());
    }

    // --- requests --------------------------------------------------------------------------------

    /// Makes the block carry a request to another CPU. No CPU time travels with the block. If
    /// nothing answers the request, its task makes the system call again.
    pub fn asks(&self, request: Request) {
        self.request.set(Some(request));
        self.time.set(None);
        self.callee.set(None);
        self.outcome.set(Outcome::Retry);
        self.stage.set(Stage::Ask);
    }

    /// Answers the request that the block carries: the values of the system call that made it.
    pub fn answers(&self, values: [u64; 4]) {
        self.write(Words { info: MsgInfo(0), regs: values }, SenderInfo::NONE);
        self.outcome.set(Outcome::Replied);
    }

    /// Answers the request that the block carries with an error and its detail.
    pub fn refuses(&self, error: Error, detail: u64) {
        self.answers([detail, 0, 0, 0]);
        self.outcome.set(Outcome::Failed(error));
    }

    // --- to another CPU --------------------------------------------------------------------------

    /// Seals the block for a mailbox: makes `to` the home of the block, and then of `time`, which
    /// is the time in the block.
    #[inline(always)]
    pub fn seal(self, time: Option<Held<'_, SchedHot>>, to: CpuId) -> Parcel {
        let task = self.task().ptr();
        self.msg.held().hand_to_with(time, to);
        Parcel { task, duty: self.duty }
    }

    /// Makes the block of a task that moves to CPU `to` travel with the task.
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

methods! { Parcel:
    /// Returns the address of the task whose block it is.
    fn addr(self) -> u64 = self.task.addr();
    /// Returns the id of the task whose block it is.
    fn task_id(self, pin: Pin<'_>) -> TaskId = self.task.get(pin).get().id();
    /// Returns what is in the block, on the CPU to which it was sent.
    fn message<'k>(self, pin: Pin<'k>) -> Option<&'k Message> = self.task.get(pin).get().message(pin);
}

impl Parcel {
    /// Opens the parcel, on the CPU to which it was sent. Returns its message block.
    #[inline(always)]
    pub fn open<'k>(self, pin: Pin<'k>) -> Block<'k> {
        Block { msg: HeldOf::here(self.task.get(pin), pin, HolderKey(())), duty: self.duty }
    }
}

/// A link that can have a message block. It names the block's task.
#[repr(transparent)]
#[derive(Default)]
pub struct BlockLink(Link<Task>);

methods! { BlockLink:
    /// Empties the link. Returns its message block, if it had one.
    fn take<'k>(self, pin: Pin<'k>) -> Option<Block<'k>> =
        self.0.take(pin).map(|task| Block::of(task, pin));
    /// Returns the task whose message block the link has.
    fn get<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Task>> = self.0.get(pin);
    /// Returns whether the link has the message block of `task`.
    fn is(self, task: Ref<'_, Task>) -> bool = self.0.is(task);
}

impl BlockLink {
    /// Empties the link. Returns its message block.
    /// Requires: that is the block of `task`.
    pub fn take_of<'k>(&self, task: Ref<'k, Task>, pin: Pin<'k>) -> Block<'k> {
        debug_assert!(self.is(task), "the link has this task's block");
        self.0.set(None);
        Block::of(task, pin)
    }

    /// Puts a message block into the link.
    ///
    /// Requires: the link is empty.
    pub fn put(&self, block: Block<'_>) {
        debug_assert!(self.0.is_null(), "a link has one block");
        self.0.set(Some(block.task()));
        block.duty.done();
    }
}

/// A queue of message blocks, by priority, and in order of arrival within one priority.
#[repr(transparent)]
#[derive(Default)]
pub struct BlockQueue(PrioList<Task>);

methods! { BlockQueue:
    /// Takes the block of the highest priority out of the queue.
    fn pop<'k>(self, pin: Pin<'k>) -> Option<Block<'k>> =
        self.0.pop_highest(pin).map(|task| Block::of(task, pin));
    /// Takes the block of `task` out, if the queue has it.
    fn take<'k>(self, pin: Pin<'k>, task: Ref<'k, Task>) -> Option<Block<'k>> =
        self.0.remove(pin, task).then(|| Block::of(task, pin));
    /// Moves all blocks into a queue of their own.
    fn take_all(self, pin: Pin<'_>) -> BlockQueue = BlockQueue(self.0.take_all(pin));
    /// Moves all blocks of `other` into this queue.
    fn append(self, pin: Pin<'_>, other: &BlockQueue) = self.0.append(pin, &other.0);
    /// Returns whether [`BlockQueue::take`] may take the block of `task`, which is in this queue or
    /// in another one, out of this one.
    fn may_take(self, pin: Pin<'_>, task: Ref<'_, Task>) -> bool = self.0.is_removable(pin, task);
    /// Returns the queue as a list of the tasks whose blocks wait: only to look.
    fn tasks(self) -> &PrioList<Task> = &self.0;
    fn is_empty(self) -> bool = self.0.is_empty();
}

impl BlockQueue {
    /// Queues a block.
    pub fn put(&self, pin: Pin<'_>, block: Block<'_>, priority: u8) {
        self.0.insert(pin, block.task(), priority);
        block.duty.done();
    }
}

methods! { Task:
    /// Makes this CPU the home of a task and of its message block, both of which are on the way to
    /// this CPU. Returns whether both were.
    fn arrive(self, pin: Pin<'_>) -> bool = self.hot.arrive(pin) & self.msg.arrive(pin);
    /// Returns the task's message block, with the CPU that has the block: to find that CPU, and for
    /// surveys.
    fn message_state(self) -> &Homed<Message> = &self.msg;
}

impl Task {
    /// Returns the task's message block to look at, if the block is on this CPU.
    pub fn message<'k>(&'k self, pin: Pin<'k>) -> Option<&'k Message> {
        self.msg.open(pin)
    }
}
