//! Tasks: the TCB, the message block that travels with a call, and the UTCB.
//!
//! A task is two pages of its owner's memory: this structure with its vector save area, then the
//! UTCB, which is also mapped in its process.
//!
//! # Owners
//! `hot` belongs to the task's home CPU. `msg` belongs to the CPU that its home word names. That is
//! the task's own CPU while the task is not calling, and the callee's CPU from the moment at which
//! it dequeues the message until it sends the reply. So a call across CPUs needs no lock: its data
//! always has exactly one owner.
//!
//! # The state word
//! ```text
//!  63                    32 31  30      26 25       16 15      8 7       0
//! +------------------------+---+----------+-----------+---------+---------+
//! | generation of the id   | 0 |  label   | home CPU  |  flags  |  state  |
//! +------------------------+---+----------+-----------+---------+---------+
//! ```
//! One comparison of the whole word with an expected value checks liveness, generation, label,
//! home, flags and state together. The label is the security label of the task's process: a CPU
//! expects the label of the running task, so the fastpath switches only between tasks with equal
//! labels. [`State::Recv`] and [`State::Await`] mean *without deadline*, so the fastpath never has
//! a timer to cancel.
//!
//! # The plain bit
//! Bit 7 of the state, [`PLAIN`], marks the common case of a task that waits for bits or yields.
//! Such a task can be made to run with few checks and stores:
//!
//! * with [`State::WaitBits`]: the wait has no deadline, and the task's own time is not lent. So
//!   queueing `own_sc` is enough to let the task run;
//! * with [`State::Ready`]: the task's own context is queued, unless the task is suspended. The
//!   system call that it is in answers with `rdx` of the frame, and with zero in all other message
//!   registers, whatever the frame has there.
//!
//! A running task never has this bit, and code that sets another state clears it.

use core::cell::Cell;
use smp::sync::{AtomicBool, AtomicU64, Ordering};

use abi::audit::LABELS;
use abi::{Error, MsgInfo, ObjType, Target, TaskId, Utcb};
use sched::{DeadlineLinks, PrioLinks, PrioQueued, Timed};
use smp::coalesced::CoalescedBits;
use smp::cpu::{CpuId, MAX_CPUS, Pin};
use smp::door::{AtomicLink, HasHomed, Homed, Link, Opened, Piece, Ptr, RawBytes, Ref};
use smp::mailbox::Node;
use smp::shootdown::Stamp;

use crate::block::{BlockLink, BlockQueue};
use crate::cpu::Mail;
use crate::header::{Header, RootId};
use crate::machine::Machine;
use crate::memory::VSpace;
use crate::notification::Notification;
use crate::phys::PhysPage;
use crate::process::Process;
use crate::reply::Reply;
use crate::sched_context::SchedContext;
use crate::search::Search;

/// What a task is doing. `Recv` to `WaitBits` block it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// Made, not yet configured.
    Fresh = 0,
    /// Has all it needs but CPU time; or has it and is queued or running.
    Ready = 1,
    /// Receiving, no deadline, no message yet.
    Recv = 2,
    /// Receiving with a deadline.
    RecvTimed = 3,
    /// Its call waits in the callee's sender queue.
    Sending = 4,
    /// Its call was received here; waiting for the reply, no deadline.
    Await = 5,
    /// Waiting for a reply, with a deadline.
    AwaitTimed = 6,
    /// Its call went to another CPU; `msg` is there or on the way.
    AwaitRemote = 7,
    /// Waiting for Notification bits.
    WaitBits = 8,
    /// Waits for a grace period or another CPU's answer. Then the task continues at its instruction
    /// pointer, which was set back to the system call that it must restart, unless it waits for CPU
    /// time.
    Restart = 9,
    /// Stopped by a fault that no handler has received yet.
    Faulted = 10,
    /// Ended. Never leaves this state.
    Dead = 11,
}

/// Bit of the state byte: see the module's documentation.
pub const PLAIN: u8 = 1 << 7;

impl State {
    pub const ALL: [State; 12] = [
        State::Fresh,
        State::Ready,
        State::Recv,
        State::RecvTimed,
        State::Sending,
        State::Await,
        State::AwaitTimed,
        State::AwaitRemote,
        State::WaitBits,
        State::Restart,
        State::Faulted,
        State::Dead,
    ];

    /// Returns the state in a state word.
    #[inline(always)]
    pub const fn of_word(word: u64) -> State {
        match word as u8 & !PLAIN {
            0 => State::Fresh,
            1 => State::Ready,
            2 => State::Recv,
            3 => State::RecvTimed,
            4 => State::Sending,
            5 => State::Await,
            6 => State::AwaitTimed,
            7 => State::AwaitRemote,
            8 => State::WaitBits,
            9 => State::Restart,
            10 => State::Faulted,
            _ => State::Dead,
        }
    }
}

const _: () = {
    let mut i = 0;
    while i < State::ALL.len() {
        assert!(State::of_word(i as u64) as usize == i && State::ALL[i] as usize == i);
        i += 1;
    }
};

/// Flag in the state word: the process has vector state.
pub const FLAG_VECTOR: u8 = 1 << 0;
/// Flag in the state word: suspended; not run until resumed, whatever else happens.
pub const FLAG_SUSPENDED: u8 = 1 << 1;
/// Flag in the state word: debug registers are to be loaded when it runs.
pub const FLAG_DEBUG: u8 = 1 << 3;
/// Flag in the state word: what it waits for, in a call's states, is the answer to its fault. Its
/// frame has all its registers meanwhile.
pub const FLAG_IN_FAULT: u8 = 1 << 5;
/// First bit of the home CPU in a state word.
pub const HOME_SHIFT: u32 = 16;
/// First bit of the security label in a state word.
pub const LABEL_SHIFT: u32 = 26;
/// The home CPU in a state word.
pub const HOME_MASK: u32 = (1 << LABEL_SHIFT) - (1 << HOME_SHIFT);
/// The security label in a state word.
pub const LABEL_MASK: u32 = (LABELS - 1) << LABEL_SHIFT;
/// The parts of a state word that a CPU has to compare when it switches to another task:
/// [`FLAGS_SPECIAL`] and label.
pub const SPECIAL: u32 = (FLAGS_SPECIAL as u32) << 8 | LABEL_MASK;
/// In no state word. In [`CpuHot::special_on`](crate::cpu::CpuHot) it says that some of
/// [`FLAGS_SPECIAL`] are on, so that every switch has work to do.
pub const FLAGS_ON: u32 = 1 << 31;

const _: () = {
    assert!(LABELS.is_power_of_two() && LABEL_MASK & FLAGS_ON == 0);
    assert!(MAX_CPUS as u32 - 1 <= HOME_MASK >> HOME_SHIFT);
};

/// The flags of a task that needs care before it runs, and for which the fastpath leaves all work
/// to the slow path.
pub const FLAGS_SPECIAL: u8 = FLAG_VECTOR | FLAG_DEBUG;
/// From such a flag to one that no task has: in what a CPU expects of others while a task with the
/// flag runs.
pub const POISON_SHIFT: u32 = 4;
/// Flag in expected values only, for the first of them: never matches.
pub const FLAG_NEVER: u8 = FLAG_VECTOR << POISON_SHIFT;

const _: () = {
    let real = FLAGS_SPECIAL | FLAG_SUSPENDED | FLAG_IN_FAULT;
    assert!(real & FLAGS_SPECIAL << POISON_SHIFT == 0 && FLAGS_SPECIAL >> (8 - POISON_SHIFT) == 0);
};

/// Returns the low half of the state word of a task without a label.
pub const fn state_half(state: State, flags: u8, home: CpuId) -> u32 {
    (state as u32) | ((flags as u32) << 8) | (home.raw() << HOME_SHIFT)
}

/// Returns a security label at its place in a state word.
pub const fn label_part(label: u32) -> u32 {
    label << LABEL_SHIFT & LABEL_MASK
}

/// A task's stored registers. After a system call only those that a syscall exit defines matter
/// (`full` is 0). After an interrupt or fault, and when another task wrote them, all do (`full` is
/// 1).
#[repr(C)]
#[derive(Default)]
pub struct RegFrame {
    pub rax: Cell<u64>,
    pub rbx: Cell<u64>,
    pub rcx: Cell<u64>,
    pub rdx: Cell<u64>,
    pub rsi: Cell<u64>,
    pub rdi: Cell<u64>,
    pub rbp: Cell<u64>,
    pub r8: Cell<u64>,
    pub r9: Cell<u64>,
    pub r10: Cell<u64>,
    pub r11: Cell<u64>,
    pub r12: Cell<u64>,
    pub r13: Cell<u64>,
    pub r14: Cell<u64>,
    pub r15: Cell<u64>,
    pub rip: Cell<u64>,
    pub rsp: Cell<u64>,
    pub rflags: Cell<u64>,
    /// FS and GS bases as an interrupted task left them.
    pub fs: Cell<u64>,
    pub gs: Cell<u64>,
    /// 0: leave by SYSRET with the message registers; 1: leave by IRET with the whole frame.
    pub full: Cell<u64>,
}

/// The part of a task that its home CPU owns. Order by use on the fastpath.
#[repr(C)]
pub struct TaskHot {
    pub state: Cell<u64>,
    /// Non-zero where a receive has something to do besides waiting: queued senders (bit 0), bits
    /// of the bound Notification (bit 1).
    pub pending: Cell<u64>,
    pub process: Link<Process>,
    /// CPU time of others that the task has while it does not run. Null while it runs, receives or
    /// has lent the time on: the fastpaths rely on it.
    pub borrowed: Link<SchedContext>,
    /// The CPU time bound to it.
    pub own_sc: Link<SchedContext>,
    /// The caller of the call it is serving, not yet replied to nor saved.
    pub caller: BlockLink,
    /// The caller whose time the task has, or has lent on. Null for own time, and while it
    /// receives.
    pub lender: Link<Task>,
    /// FS and GS bases that every syscall exit sets.
    pub fs_base: Cell<u64>,
    pub gs_base: Cell<u64>,
    pub regs: RegFrame,
    /// Callers queued at this task.
    pub senders: BlockQueue,
    /// Senders of events that wait for room in the pool that this task reads.
    pub posters: BlockQueue,
    /// First of the Reply objects that hold callers of this task.
    pub replies: Link<Reply>,
    /// The Notification whose bits Recv returns.
    pub bound: Link<Notification>,
    /// The Notification it waits for in `WaitBits`.
    pub waits_for: Link<Notification>,
    pub deadline: DeadlineLinks<Task>,
    /// What ends its wait from outside.
    pub ending: Cell<Ending>,
    /// While it waits in a call: the task at the end of its calls looked for CPU time here, and
    /// found none.
    pub wanted: Cell<bool>,
    /// Set during its own search for CPU time: time may have come to a caller that the search has
    /// passed.
    pub look_again: Cell<bool>,
    /// It has lent pages to a message, which may not have gone.
    pub lends: Cell<bool>,
    /// How many messages it has sent to other CPUs.
    pub sent: Cell<u32>,
    /// Tasks whose [`Request::Kill`] of this one is not answered yet: their message blocks are
    /// here.
    pub kill_waiters: BlockQueue,
    /// The CPU that it moves to when it is first resumed.
    pub start_on: Cell<CpuId>,
    /// How many task numbers it has visited while it kills its process.
    pub numbers_visited: Cell<u32>,
    /// Next in the home CPU's list of grace waiters.
    pub wait_next: Link<Task>,
    /// The grace epoch it waits for.
    pub wait_epoch: Cell<u64>,
    /// Its last fault: address, and what the third message register says of it.
    pub fault: [Cell<u64>; 2],
    /// Its debug registers: DR0 to DR3, DR7. All zero without [`FLAG_DEBUG`].
    pub debug: [Cell<u64>; abi::DEBUG_ADDRESSES + 1],
}

impl TaskHot {
    /// Whether it has the plain bit.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.state.get() & u64::from(PLAIN) != 0
    }

    /// Gives it a state with the plain bit.
    #[inline(always)]
    pub fn set_plain(&self, state: State) {
        self.state.set((self.state.get() & !0xff) | u64::from(state as u8 | PLAIN));
    }

    /// Whether its state is this one.
    #[inline(always)]
    pub fn is_in(&self, state: State) -> bool {
        self.state.get() as u8 & !PLAIN == state as u8
    }

    /// Writes the zeros that the plain bit stands for into the frame, and clears the bit.
    #[inline(always)]
    pub fn materialise_frame(&self) {
        if self.is_plain() {
            self.write_plain_frame();
        }
    }

    #[inline(never)]
    fn write_plain_frame(&self) {
        self.state.set(self.state.get() & !u64::from(PLAIN));
        let regs = &self.regs;
        for register in [&regs.rax, &regs.rdi, &regs.rsi, &regs.r8, &regs.r9, &regs.r10, &regs.r12] {
            register.set(0);
        }
    }
}

/// `pending` bit: senders are queued.
pub const PENDING_SENDERS: u64 = 1 << 0;
/// `pending` bit: the bound Notification has bits.
pub const PENDING_BITS: u64 = 1 << 1;
/// `pending` bit: the caller that is being served has faulted, so a reply is more than a message.
/// Here, because the fastpaths of a reply look for nothing else.
pub const PENDING_FAULT: u64 = 1 << 2;

/// Where a call stands, seen from its message block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stage {
    /// At home, not in use.
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
    /// Whether the block is in a mailbox, or a CPU keeps its request.
    pub const fn is_under_way(self) -> bool {
        matches!(self, Stage::Ask | Stage::AskDone | Stage::Kept | Stage::Out | Stage::Back)
    }
}

/// How a call, an event or a fault that went to another CPU ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The callee replied.
    Replied,
    Failed(Error),
    /// The home CPU recalled the block.
    Recalled,
    /// The callee could not receive it at that moment. Its caller makes it again.
    Retry,
    /// One member of a broadcast's group, for which the broadcast waited, has the event now.
    Posted,
}

/// What ends a task's wait from outside. If the task's message block is on another CPU, the block
/// is recalled, and the task is ended when the block is back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ending {
    #[default]
    None,
    /// The wait fails with this error, and the task continues.
    Fail(Error),
    /// The task is being killed.
    Kill,
}

impl Ending {
    /// Returns a number for it: an [`Error`]'s, or 0.
    pub const fn number(self) -> u32 {
        match self {
            Ending::None => 0,
            Ending::Fail(error) => error as u32,
            Ending::Kill => Error::Dying as u32,
        }
    }
}

impl Outcome {
    /// Returns a number for it: an [`Error`]'s, 0 for a reply, or 256 and more.
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

const _: () = assert!(size_of::<Outcome>() == 1 && size_of::<Ending>() == 1);

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
}

/// The message block of a task: its call, then its reply.
///
/// What a call and its reply across CPUs need comes first, in two cache lines, of which each moves
/// to the other CPU and back.
#[repr(C)]
pub struct Message {
    /// The task that has the message, or will get it.
    pub callee: Link<Task>,
    pub stage: Cell<Stage>,
    /// How the call ended, for a block on its way back.
    pub outcome: Cell<Outcome>,
    /// As the receiver sees them: sender, custom bits.
    pub custom: Cell<u16>,
    /// Which of the caller's messages to other CPUs this is.
    pub number: Cell<u32>,
    pub info: Cell<MsgInfo>,
    pub regs: [Cell<u64>; 4],
    /// The target of the message: the receiver sees the exposure's index. Its capability is the
    /// caller's, or null if a receiver of the call forwarded it.
    pub target: Cell<Target>,
    pub sender: Cell<TaskId>,
    /// The CPU time that travels along, while the callee does not have it.
    pub sc: Link<SchedContext>,
    /// The generation half of the callee's state word, for the callee's CPU to check.
    pub tag: Cell<u64>,
    pub priority: Cell<u8>,
    /// The Reply object that holds it, if it was saved.
    pub held: Link<Reply>,
    /// The identity of a waiting broadcast's group.
    pub group: Cell<u64>,
    pub request: Cell<Option<Request>>,
    /// A faulter's registers, while its message is on another CPU than its frame; by
    /// [`abi::RegIndex`].
    pub frame: [Cell<u64>; abi::REG_COUNT],
    pub queue: PrioLinks<Task>,
}

impl Message {
    fn new() -> Message {
        Message {
            callee: Link::null(),
            stage: Cell::new(Stage::Home),
            outcome: Cell::new(Outcome::Replied),
            custom: Cell::new(0),
            number: Cell::new(0),
            info: Cell::new(MsgInfo(0)),
            regs: Default::default(),
            target: Cell::new(Target(0)),
            sender: Cell::new(TaskId::NONE),
            sc: Link::null(),
            tag: Cell::new(0),
            priority: Cell::new(0),
            held: Link::null(),
            group: Cell::new(0),
            request: Cell::new(None),
            frame: [const { Cell::new(0) }; abi::REG_COUNT],
            queue: PrioLinks::new(),
        }
    }
}

/// Bytes for XSAVE state: x87, SSE, AVX and AVX-512 in the standard format (2,696), rounded up.
pub const VECTOR_AREA: usize = 2752;

/// MXCSR after reset: all exceptions masked.
pub const INITIAL_MXCSR: u32 = 0x1f80;

/// Where a preempted task's vector state rests.
pub type VectorArea = RawBytes<VECTOR_AREA>;

/// Bytes of a task's memory: this structure, the vector area after it, then the UTCB's page.
pub const TASK_BYTES: u64 = 2 * abi::PAGE_SIZE;

/// A task.
///
/// The first cache line is what other CPUs read of it, which changes seldom. What the home CPU
/// writes begins with the second one: it stays where it is while others look where the task is.
#[repr(C, align(64))]
pub struct Task {
    pub header: Header,
    /// Its [`TaskId`]; 0 until it is configured. Any CPU reads it.
    pub id: AtomicU64,
    /// Where its UTCB is mapped in its process.
    pub utcb_address: AtomicU64,
    /// Which message to another CPU is recalled, and how. The home CPU writes it; the CPU that has
    /// the message reads it.
    pub recalled: AtomicU64,
    /// Its process, while it is of one, and further down that one's address space: any CPU may want
    /// to know.
    pub owner: AtomicLink<Process>,
    pub hot: Homed<TaskHot>,
    pub space: AtomicLink<VSpace>,
    pub(crate) msg: Homed<Message>,
    /// Whether it was last asked to suspend or to resume: control bits have no order.
    pub to_suspend: AtomicBool,
    /// The handler of its faults: a [`Target`] in its process's CSpace; 0: its process's handler.
    pub fault_handler: AtomicU64,
    /// Carries `msg` through mailboxes.
    pub msg_node: Node<Mail>,
    /// The bits of [`ctl`], and the node that carries them.
    pub ctl: CoalescedBits<Mail>,
    vector: Ptr<VectorArea>,
    /// Through the direct map.
    utcb: Ptr<Utcb>,
}

impl PrioQueued for Task {
    fn prio_links<'a>(&'a self, pin: Pin<'a>) -> &'a PrioLinks<Task> {
        &self.msg.here(pin).queue
    }
}

impl Timed for Task {
    fn deadline_links<'a>(&'a self, pin: Pin<'a>) -> &'a DeadlineLinks<Task> {
        &self.hot.here(pin).deadline
    }
}

/// A task whose scheduling and IPC state this CPU has opened.
pub type OpenTask<'k> = Opened<'k, Task, TaskHot>;

impl HasHomed<TaskHot> for Task {
    #[inline(always)]
    fn homed(&self) -> &Homed<TaskHot> {
        &self.hot
    }
}

impl Task {
    /// The offset of the message block, for assembly.
    pub const MESSAGE_OFFSET: usize = core::mem::offset_of!(Task, msg) + Homed::<Message>::VALUE_OFFSET;
    /// The offset of the UTCB's address, for assembly.
    pub const UTCB_OFFSET: usize = core::mem::offset_of!(Task, utcb);

    pub fn id(&self) -> TaskId {
        TaskId::from_raw(self.id.load(Ordering::Acquire))
    }

    pub fn utcb<'k>(&self, pin: Pin<'k>) -> &'k Utcb {
        self.utcb.get(pin).get()
    }

    /// Returns the page of its UTCB, which its process sees.
    pub fn utcb_page(&self, machine: &impl Machine) -> PhysPage {
        PhysPage::trusted(machine.phys(self.utcb.addr()), abi::PAGE_LOG2)
    }

    pub fn vector<'k>(&self, pin: Pin<'k>) -> &'k VectorArea {
        self.vector.get(pin).get()
    }

    /// Makes a task that is not configured yet in a page-aligned piece of [`TASK_BYTES`].
    pub fn make<'k>(mut piece: Piece, pin: Pin<'k>, root: RootId, home: CpuId) -> Option<Ref<'k, Task>> {
        let head = piece.split(core::mem::size_of::<Task>() as u64)?;
        let area = piece.split(abi::PAGE_SIZE - head.size())?;
        let vector = area.emplace_zeroed::<VectorArea>(pin)?;
        let utcb = piece.emplace_zeroed::<Utcb>(pin)?;
        head.emplace(pin, Task::new(root, home, vector, utcb))
    }

    fn new(root: RootId, home: CpuId, vector: Ref<'_, VectorArea>, utcb: Ref<'_, Utcb>) -> Task {
        let hot = TaskHot {
            state: Cell::new(u64::from(state_half(State::Fresh, 0, home))),
            pending: Cell::new(0),
            process: Link::null(),
            borrowed: Link::null(),
            own_sc: Link::null(),
            caller: BlockLink::null(),
            lender: Link::null(),
            fs_base: Cell::new(0),
            gs_base: Cell::new(0),
            regs: RegFrame::default(),
            senders: BlockQueue::new(),
            posters: BlockQueue::new(),
            replies: Link::null(),
            bound: Link::null(),
            waits_for: Link::null(),
            deadline: DeadlineLinks::new(),
            ending: Cell::new(Ending::None),
            wanted: Cell::new(false),
            look_again: Cell::new(false),
            lends: Cell::new(false),
            sent: Cell::new(0),
            kill_waiters: BlockQueue::new(),
            start_on: Cell::new(home),
            wait_next: Link::null(),
            wait_epoch: Cell::new(0),
            numbers_visited: Cell::new(0),
            fault: Default::default(),
            debug: Default::default(),
        };
        Task {
            header: Header::new(ObjType::Task, root),
            id: AtomicU64::new(0),
            utcb_address: AtomicU64::new(0),
            recalled: AtomicU64::new(0),
            owner: AtomicLink::null(),
            hot: Homed::new(home, hot),
            space: AtomicLink::null(),
            msg: Homed::new(home, Message::new()),
            to_suspend: AtomicBool::new(false),
            fault_handler: AtomicU64::new(0),
            msg_node: Node::new(home),
            ctl: CoalescedBits::new(),
            vector: vector.ptr(),
            utcb: utcb.ptr(),
        }
    }
}

const _: () = assert!(
    core::mem::size_of::<Task>() + VECTOR_AREA <= abi::PAGE_SIZE as usize,
    "a task and its vector area fill one page at most"
);

/// Bytes of a cache line.
const LINE: usize = 64;
const _: () = assert!(
    core::mem::offset_of!(Task, hot) + Homed::<TaskHot>::VALUE_OFFSET == LINE,
    "what the home CPU writes begins with the second line"
);
const _: () = assert!(
    core::mem::offset_of!(Task, msg).is_multiple_of(LINE)
        && Homed::<Message>::VALUE_OFFSET + core::mem::offset_of!(Message, priority) < 2 * LINE,
    "what crosses CPUs of a message is in two lines"
);

/// Control bits in [`Task::ctl`].
pub mod ctl {
    pub const KILL: u64 = 1 << 0;
    pub const SUSPEND: u64 = 1 << 1;
    pub const RESUME: u64 = 1 << 2;
    pub const CANCEL: u64 = 1 << 3;
    /// To the CPU that has the task's message: send it back.
    pub const RECALL: u64 = 1 << 4;
    /// To a task that faulted: end more of its process.
    pub const TEAR_DOWN: u64 = 1 << 5;
    /// To the CPU that has the task's message: the task was given time, which the end of its calls
    /// may want.
    pub const TIME: u64 = 1 << 6;
    /// To a task that is ready and has no time: look for some at its callers.
    pub const SEEK: u64 = 1 << 7;
    /// To the reader of an event pool that was armed: there is an event.
    pub const EVENT: u64 = 1 << 8;
    /// To the reader of an event pool: there may be room for senders that wait.
    pub const ROOM: u64 = 1 << 9;
    /// To a task that waits for calls, after many that could not be received: there are more.
    pub const RECEIVE: u64 = 1 << 10;
    /// To the CPU that has the task's message: the time that the task has lent on is not its to
    /// lend any more.
    pub const UNLEND: u64 = 1 << 11;
    /// To a task: its process has another security label.
    pub const LABEL: u64 = 1 << 12;
}
