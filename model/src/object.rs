//! The objects, and the state of each.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use abi::events::PoolSize;
use abi::{Cap, ObjType, Rights, TaskId};

use crate::{Args, Model, Regs};

/// An object: its place in [`Model::objects`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Id(pub usize);

/// Bytes that the kernel's own part of each object takes. Its entries' sizes are documented; these
/// are not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    pub untyped: u64,
    pub cnode: u64,
    pub vspace: u64,
    pub frame: u64,
    pub process: u64,
    pub sched_context: u64,
    pub sched_control: u64,
    pub group: u64,
    pub notification: u64,
    pub reply: u64,
    pub event_pool: u64,
    pub irq_handler: u64,
    pub io_port: u64,
}

#[derive(Clone, Debug)]
pub struct Object {
    /// Where it is.
    pub at: u64,
    /// The Untyped that it was made of; none made what was there at boot.
    pub made_of: Option<Id>,
    pub kind: Kind,
    /// Its end was begun and could not go on, or its process has come to an end: nothing new refers
    /// to it.
    pub dying: bool,
    /// Security label; 0: none.
    pub label: u32,
    /// It has no capability any more, and is nothing but the memory it takes.
    pub ended: bool,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Untyped(Untyped),
    CNode(CNode),
    VSpace(VSpace),
    Frame(Frame),
    Process(Process),
    Task(Box<Task>),
    SchedContext(SchedContext),
    SchedControl(SchedControl),
    Group(Group),
    Notification(Notification),
    Reply(Reply),
    EventPool(EventPool),
    IrqHandler(IrqHandler),
    IoPort(IoPort),
    Machine,
}

/// A block of memory: carved from the bottom up to `low`, and from the top down to `high`.
#[derive(Clone, Debug)]
pub struct Untyped {
    pub base: u64,
    pub size: u64,
    pub low: u64,
    pub high: u64,
}

#[derive(Clone, Debug)]
pub struct CNode {
    pub slots: u32,
    pub process: Option<Id>,
}

#[derive(Clone, Debug)]
pub struct VSpace {
    pub process: Option<Id>,
    /// Page tables that it can have, its root table not counted, and those that it has: level and
    /// which.
    pub tables: u64,
    pub used: BTreeSet<(u32, u64)>,
    /// Pages by address.
    pub pages: BTreeMap<u64, Mapping>,
}

/// What a page of an address space is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    Utcb(Id),
    Pool(Id),
    Page { frame: Id, number: u64, access: Access },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    Write,
    Execute,
}

#[derive(Clone, Debug)]
pub struct Frame {
    pub base: u64,
    pub log2: u8,
    pub pages: u64,
    pub pins: u64,
    /// The words that somebody has written, by their numbers; all others are 0. Only the kernel's
    /// reads of locks need them.
    pub words: BTreeMap<u32, u64>,
}

/// A slot that a process offers for a membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    pub slot: Cap,
    /// The group, or the process that adds.
    pub from: Id,
}

#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The first table of its CSpace, and those that were added.
    pub cnode: Option<Id>,
    pub more: Vec<Id>,
    pub vspace: Option<Id>,
    /// Task numbers that are in use.
    pub tasks: Vec<Option<Id>>,
    /// What it offers for the next membership.
    pub offer: Option<Offer>,
    pub pool: Option<Id>,
}

#[derive(Clone, Debug, Default)]
pub struct Task {
    pub id: TaskId,
    pub process: Option<Id>,
    /// Whose it is or was.
    pub born_in: Option<Id>,
    pub home: usize,
    /// Where it will run from its first resume on, or when it moves.
    pub start_on: usize,
    /// It is to move there, as soon as nothing keeps it.
    pub is_to_move: bool,
    pub state: State,
    pub suspended: bool,
    /// What its last system call answered.
    pub regs: Regs,
    /// Message words of its UTCB.
    pub utcb: Vec<u64>,
    pub utcb_address: u64,
    /// CPU time of its own.
    pub time: Option<Id>,
    /// The priority of that time, where messages to other CPUs may overtake each other.
    pub rank: u8,
    /// The Notification that is bound to it.
    pub bound: Option<Id>,
    /// Callers that it has not taken yet: first the first.
    pub senders: VecDeque<Id>,
    /// The call that it serves.
    pub caller: Option<Id>,
    /// Its own call, while it is under way.
    pub call: Option<Call>,
    /// When what it waits for ends with Timeout.
    pub deadline: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// Made, not configured.
    #[default]
    Fresh,
    Ready,
    Receiving,
    /// Its call is under way.
    Calling,
    /// It waits for the bits of a Notification.
    Waiting(Id),
    /// It waits for room in a pool. How that goes on the model does not say.
    Posting,
    /// It waits for a lock.
    InLock(LockWait),
    Dead,
}

/// A wait for a lock. No task receives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockWait {
    /// The task that has the lock. The wait is queued there.
    pub owner: Id,
    /// The address of the lock's word. A later Frame of the same memory has the same addresses.
    pub word: u64,
    /// The arguments of the system call. They say where the wait leads as long as it lasts.
    pub args: Args,
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub words: Words,
    pub exposure: u32,
    pub custom: u16,
    pub at: CallAt,
    /// Its caller had CPU time of its own when it came. Callers without wait behind those with
    /// time, also when they get some later.
    pub timed: bool,
}

/// What a message says.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    pub label: u32,
    /// How many UTCB words.
    pub count: usize,
    pub regs: [u64; 4],
    /// The flag of those that were forwarded.
    pub flags: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallAt {
    /// Among the callers that a task has not taken yet.
    Queued(Id),
    /// Served by a task.
    Served(Id),
    /// Kept in a Reply object.
    Kept(Id),
}

/// CPUs that a machine can have.
pub const CPUS_MAX: usize = 1024;

/// A set of CPUs, 64 in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuBits(pub [u64; CPUS_MAX / 64]);

impl CpuBits {
    pub fn contains(&self, cpu: usize) -> bool {
        self.0[cpu / 64] >> (cpu % 64) & 1 != 0
    }

    /// Returns whether every member is one of `all`.
    pub fn is_within(&self, all: &CpuBits) -> bool {
        self.0.iter().zip(all.0).all(|(own, all)| own & !all == 0)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct SchedControl {
    /// Nothing is allowed without one.
    pub ceiling: Option<u8>,
    pub cpus: CpuBits,
    /// `None`: it gives CPU time without limit.
    pub account: Option<usize>,
}

impl SchedControl {
    /// What process 1 starts with.
    pub const WHOLE: SchedControl =
        SchedControl { ceiling: Some(u8::MAX), cpus: CpuBits([u64::MAX; CPUS_MAX / 64]), account: None };
}

#[derive(Clone, Debug)]
pub struct SchedContext {
    pub priority: u8,
    /// 0: it was never set.
    pub slice: u64,
    /// 0: it has none.
    pub budget: u64,
    /// 0: it has no budget.
    pub period: u64,
    /// The account in which its budget has a share, and the share.
    pub account: Option<usize>,
    pub share: u64,
    /// Where it may run.
    pub cpus: CpuBits,
    pub owner: Option<Id>,
    /// Its owner died in a call: who had the call keeps the time, for how long the model does not
    /// say.
    pub left: bool,
}

#[derive(Clone, Debug)]
pub struct Group {
    pub members: Vec<Option<Member>>,
    pub exposures: Vec<Exposure>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    pub process: Id,
    pub rights: Rights,
    pub custom: u16,
}

/// An index of a group. What is exposed there is a capability ([`crate::Place::Exposure`]).
#[derive(Clone, Copy, Default, Debug)]
pub struct Exposure {
    /// For a task per CPU: where the entries start.
    pub per_cpu: Option<u32>,
    /// For a Notification that watches the group: the shift of its bits.
    pub watch: Option<u32>,
    /// The process that has exposed this, or has made it one task per CPU.
    pub owner: Option<Id>,
}

#[derive(Clone, Debug)]
pub struct Notification {
    pub home: usize,
    pub bits: u64,
    pub waiter: Option<Id>,
    pub bound: Option<Id>,
}

/// What a process is sent. Its reader is a capability ([`crate::Place::Reader`]).
#[derive(Clone, Debug)]
pub struct EventPool {
    pub size: PoolSize,
    pub process: Option<Id>,
    /// Those that were not read yet.
    pub events: Vec<Event>,
    /// Cells before these that its process has not given back.
    pub kept: u64,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub words: Words,
    pub sender: TaskId,
    pub exposure: u32,
    pub custom: u16,
    /// The group of a broadcast.
    pub group: Option<Id>,
    /// Its UTCB words.
    pub text: Vec<u64>,
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub home: usize,
    pub caller: Option<Id>,
    /// The task that keeps the call here.
    pub server: Option<Id>,
}

/// The interrupt of a device. Its Notification is a capability ([`crate::Place::Target`]).
#[derive(Clone, Debug, Default)]
pub struct IrqHandler {
    pub line: Option<u64>,
    /// The CPU that it interrupts, or that it interrupted last.
    pub cpu: Option<usize>,
    pub bits: u64,
}

/// A range of I/O ports; without any it is empty.
#[derive(Clone, Debug, Default)]
pub struct IoPort {
    pub first: u64,
    pub count: u64,
}

impl Kind {
    pub fn object_type(&self) -> ObjType {
        match self {
            Kind::Untyped(_) => ObjType::Untyped,
            Kind::CNode(_) => ObjType::CNode,
            Kind::VSpace(_) => ObjType::VSpace,
            Kind::Frame(_) => ObjType::Frame,
            Kind::Process(_) => ObjType::Process,
            Kind::Task(_) => ObjType::Task,
            Kind::SchedContext(_) => ObjType::SchedContext,
            Kind::SchedControl(_) => ObjType::SchedControl,
            Kind::Group(_) => ObjType::Group,
            Kind::Notification(_) => ObjType::Notification,
            Kind::Reply(_) => ObjType::Reply,
            Kind::EventPool(_) => ObjType::EventPool,
            Kind::IrqHandler(_) => ObjType::IrqHandler,
            Kind::IoPort(_) => ObjType::IoPort,
            Kind::Machine => ObjType::Machine,
        }
    }
}

/// Defines accessors for the state of an object whose type was checked.
macro_rules! views {
    ($($kind:ident: $get:ident, $change:ident;)*) => {
        impl Model {
            $(
                pub fn $get(&self, id: Id) -> &$kind {
                    match &self.objects[id.0].kind {
                        Kind::$kind(it) => it,
                        other => panic!("{id:?} is no {}: {other:?}", stringify!($kind)),
                    }
                }

                pub fn $change(&mut self, id: Id) -> &mut $kind {
                    match &mut self.objects[id.0].kind {
                        Kind::$kind(it) => it,
                        other => panic!("{id:?} is no {}: {other:?}", stringify!($kind)),
                    }
                }
            )*
        }
    };
}

views! {
    Untyped: untyped, untyped_mut;
    CNode: cnode, cnode_mut;
    VSpace: vspace, vspace_mut;
    Frame: frame, frame_mut;
    Process: process, process_mut;
    Task: task, task_mut;
    SchedContext: sched_context, sched_context_mut;
    SchedControl: sched_control, sched_control_mut;
    Group: group, group_mut;
    Notification: notification, notification_mut;
    Reply: reply_object, reply_object_mut;
    EventPool: event_pool, event_pool_mut;
    IrqHandler: irq_handler, irq_handler_mut;
    IoPort: io_port, io_port_mut;
}

impl Model {
    pub fn object_type(&self, id: Id) -> ObjType {
        self.objects[id.0].kind.object_type()
    }

    pub fn is_dying(&self, id: Id) -> bool {
        self.objects[id.0].dying || self.objects[id.0].ended
    }

    pub fn add(&mut self, at: u64, made_of: Option<Id>, kind: Kind) -> Id {
        self.objects.push(Object { at, made_of, kind, dying: false, label: 0, ended: false });
        Id(self.objects.len() - 1)
    }

    /// Adds an object that is made of nothing, at an address of its own: for the beginning of a
    /// history.
    pub fn put(&mut self, kind: Kind) -> Id {
        self.add((self.objects.len() as u64) << 20, None, kind)
    }

    /// Returns all objects that were ever made.
    pub fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        (0..self.objects.len()).map(Id)
    }
}
