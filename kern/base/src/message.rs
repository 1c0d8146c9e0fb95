//! The message block of a task: its call, event or request, then the answer.
//!
//! Anyone on the CPU that has a block may read it. Who passes it on, and may change what it says
//! and where it stands, is the holder of a [`Block`](block::Block).

use core::cell::Cell;
use core::mem::offset_of;

use abi::{Error, MsgInfo, Target, TaskId};
use sched::{PrioLinks, PrioQueued};
use smp::cpu::Pin;
use smp::door::{Link, Ptr, Ref};
use smp::shootdown::Stamp;

use crate::memory::Frame;
use crate::methods::methods;
use crate::notification::Notification;
use crate::reply::Reply;
use crate::sched_context::SchedContext;
use crate::sched_control::SchedControl;
use crate::search::Search;
use crate::task::Task;

pub mod block;

/// Where a call stands, seen from its message block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Stage {
    /// At home, not in use.
    #[default]
    Home = 0,
    /// Queued at the callee.
    Queued = 1,
    /// Received; the callee, or a Reply object, owes the reply.
    Owed = 2,
    /// In a mailbox, as a call.
    Out = 3,
    /// In a mailbox, on its way back.
    Back = 4,
    /// On its way to have a [`Request`] served.
    Ask = 5,
    /// On its way back from that.
    AskDone = 6,
    /// Kept until what its request waits for has happened: a death, the end of a shootdown.
    Kept = 7,
}

impl Stage {
    /// Returns whether a block in this stage is in a mailbox, or a CPU keeps its request.
    pub const fn is_under_way(self) -> bool {
        matches!(self, Stage::Ask | Stage::AskDone | Stage::Kept | Stage::Out | Stage::Back)
    }
}

/// How a call, an event or a fault that went to another CPU ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Outcome {
    /// The callee replied.
    #[default]
    Replied,
    Failed(Error),
    /// The home CPU recalled the block.
    Recalled,
    /// The callee could not receive it at that moment. Its caller makes it again.
    Retry,
    /// One member of a broadcast's group, for which the broadcast waited, has the event now.
    Posted,
}

impl Outcome {
    /// Returns a number for the outcome: an [`Error`]'s, 0 for a reply, or 256 and more.
    pub const fn number(self) -> u32 {
        match self {
            Outcome::Replied => 0,
            Outcome::Failed(error) => error as u32,
            Outcome::Recalled => 256,
            Outcome::Retry => 257,
            Outcome::Posted => 258,
        }
    }
}

const _: () = assert!(size_of::<Outcome>() == 1);

/// What one CPU asks another to do with an object of the other's own.
#[derive(Clone, Copy)]
pub enum Request {
    Kill(Ptr<Task>),
    StopTime(Ptr<SchedContext>),
    StopBits(Ptr<Notification>),
    StopReply(Ptr<Reply>),
    /// Keep this until a shootdown of the other's is over.
    Forgotten(Stamp),
    /// The owner of this time is dying.
    Disown(Ptr<SchedContext>),
    /// The asking task wants its own time back.
    Fetch(Ptr<SchedContext>),
    /// The asking task looks for CPU time at those that wait for it.
    Seek(Search),
    /// Set this time, by the authority of a SchedControl. The words of the message are the
    /// [`Settings`](crate::sched_context::Settings).
    Configure {
        sc: Ptr<SchedContext>,
        control: Ptr<SchedControl>,
    },
    /// Tell what this time has used, and how it is set.
    Account(Ptr<SchedContext>),
    /// Give the task this time as its own. The time travels to the task's CPU, in the block.
    Bind {
        sc: Ptr<SchedContext>,
        task: Ptr<Task>,
    },
    /// Send this task, which was not configured, to the CPU of the asking task.
    Bring(Ptr<Task>),
    /// Send this task to another CPU. The first word of the message says to which.
    Move(Ptr<Task>),
    /// Tell what this time does from now on. The words of the message say where.
    Watch(Ptr<SchedContext>),
    /// Tell what the CPU does, to the pool that it reports to from now on.
    TellCpu,
    /// Run this task before its equals.
    YieldTo(Ptr<Task>),
    /// In a wait for a lock that is on its way to the lock's owner: the Frame that has the lock's
    /// word, and the owner.
    Lock {
        frame: Ptr<Frame>,
        owner: Ptr<Task>,
    },
}

/// Which message of a task is recalled from another CPU, and how.
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
    pub(crate) const fn raw(self) -> u64 {
        (self.number as u64) << 2 | (self.dying as u64) << 1 | self.leave as u64
    }

    pub(crate) const fn from_raw(raw: u64) -> RecallRequest {
        RecallRequest { number: (raw >> 2) as u32, leave: raw & 1 != 0, dying: raw & 2 != 0 }
    }
}

/// A message on its way between register frames.
#[derive(Clone, Copy)]
pub struct Words {
    /// Label and number of UTCB words, without an operation. The only flags are
    /// [`abi::FLAG_FAULT`], [`abi::FLAG_FORWARDED`], [`FLAG_EVENT`](crate::flags::FLAG_EVENT) and
    /// those of a payload.
    pub info: MsgInfo,
    pub regs: [u64; 4],
}

impl Words {
    /// A message without words.
    pub const NONE: Words = Words { info: MsgInfo(0), regs: [0; 4] };

    /// Makes an event of the message's words, which `from` sent. `group` is the group's identity
    /// for a broadcast, and else 0.
    pub fn as_event(self, from: SenderInfo, group: u64) -> abi::events::Event {
        let SenderInfo { sender, target, custom } = from;
        let info = MsgInfo::new(self.info.label(), self.info.words() as u8);
        abi::events::Event { info, sender, exposure: target.index(), custom, group, regs: self.regs }
    }
}

/// What the receiver learns about the sender.
#[derive(Clone, Copy)]
pub struct SenderInfo {
    pub sender: TaskId,
    /// The receiver sees the exposure's index. The capability is the caller's, or null if a
    /// receiver of the call forwarded it.
    pub target: Target,
    pub custom: u16,
}

impl SenderInfo {
    /// The kernel, or nobody in particular.
    pub const NONE: SenderInfo = SenderInfo { sender: TaskId::NONE, target: Target(0), custom: 0 };
}

/// The message block of a task: its call, then its reply.
///
/// What a call and its reply across CPUs need comes first, in two cache lines, of which each moves
/// to the other CPU and back.
#[repr(C)]
#[derive(Default)]
pub struct Message {
    /// The task that has the message, or will get it.
    callee: Link<Task>,
    stage: Cell<Stage>,
    /// How the call ended, for a block on its way back.
    outcome: Cell<Outcome>,
    custom: Cell<u16>,
    /// Which of the caller's messages to other CPUs this is.
    number: Cell<u32>,
    info: Cell<MsgInfo>,
    regs: [Cell<u64>; 4],
    target: Cell<Target>,
    sender: Cell<TaskId>,
    /// The CPU time that travels along, while the callee does not have it.
    time: Link<SchedContext>,
    /// The generation half of the callee's state word, for the callee's CPU to check.
    tag: Cell<u64>,
    /// The Reply object that holds it, if it was saved.
    held: Link<Reply>,
    /// The identity of a waiting broadcast's group.
    group: Cell<u64>,
    request: Cell<Option<Request>>,
    /// A faulter's registers, while its message is on another CPU than its frame; by
    /// [`abi::RegIndex`]. Plain data: nothing else of the block depends on it.
    pub frame: [Cell<u64>; abi::REG_COUNT],
    queue: PrioLinks<Task>,
}

methods! { Message:
    fn callee<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Task>> = self.callee.get(pin);
    fn stage(self) -> Stage = self.stage.get();
    /// Returns how the call ended, for a block that goes back to its task.
    fn outcome(self) -> Outcome = self.outcome.get();
    fn number(self) -> u32 = self.number.get();
    fn info(self) -> MsgInfo = self.info.get();
    /// Returns the message, as its sender or replier wrote it.
    fn words(self) -> Words =
        Words { info: self.info.get(), regs: core::array::from_fn(|i| self.regs[i].get()) };
    /// Returns what the message says about its sender.
    fn sender(self) -> SenderInfo =
        SenderInfo { sender: self.sender.get(), target: self.target.get(), custom: self.custom.get() };
    /// Returns the generation of the callee's task, in the position that it has in the callee's
    /// state word.
    fn tag(self) -> u64 = self.tag.get();
    /// Returns the Reply object that holds the block.
    fn held<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Reply>> = self.held.get(pin);
    /// Returns the identity of the group of a broadcast that waits for time.
    fn group(self) -> u64 = self.group.get();
    fn request(self) -> Option<Request> = self.request.get();
    /// Returns the block's links in a queue of waiting blocks.
    fn queue(self) -> &PrioLinks<Task> = &self.queue;

    // --- CPU time, which rests in a block wherever the block waits -------------------------------

    /// Returns the CPU time in the block.
    fn time<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, SchedContext>> = self.time.get(pin);
    /// Whether the block has this CPU time.
    fn has_time(self, sc: Ref<'_, SchedContext>) -> bool = self.time.is(sc);
    /// Puts CPU time into the block, or empties the block of time (`None`).
    fn set_time(self, sc: Option<Ref<'_, SchedContext>>) = self.time.set(sc);
    /// Takes the CPU time out of the block.
    fn take_time<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, SchedContext>> = self.time.take(pin);
}

impl Message {
    pub const CALLEE_OFFSET: usize = offset_of!(Message, callee);

    pub const INFO_OFFSET: usize = offset_of!(Message, info);

    pub const REGS_OFFSET: usize = offset_of!(Message, regs);

    pub const TARGET_OFFSET: usize = offset_of!(Message, target);

    pub const CUSTOM_OFFSET: usize = offset_of!(Message, custom);

    /// Where what crosses CPUs ends.
    pub const CROSSES: usize = offset_of!(Message, held);

    // --- CPU time, which rests in a block wherever the block waits -------------------------------

    /// Notes where a search for CPU time has come. The block is that of the searching task.
    pub fn note_search(&self, search: Search) {
        debug_assert!(self.stage.get() == Stage::Ask, "a block in {:?} does not search", self.stage.get());
        self.request.set(Some(Request::Seek(search)));
    }
}

impl PrioQueued for Task {
    fn prio_links<'a>(&'a self, pin: Pin<'a>) -> &'a PrioLinks<Task> {
        &self.msg.here(pin).queue
    }
}
