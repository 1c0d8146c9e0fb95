//! Tasks: the TCB, the message block that travels with a call, and the UTCB.
//!
//! A task is two pages of its owner's memory: this structure with its vector save area, then the
//! UTCB, which is also mapped in its process.
//!
//! # Owners
//! `hot` belongs to the task's home CPU. `msg` belongs to the CPU that its home word names. That is
//! the task's own CPU while the task is not calling. The sender of a message sets the home word to
//! the callee's CPU just before it pushes the message; the callee's CPU sets it back likewise. So a
//! call across CPUs needs no lock: its data always has exactly one owner.

use core::cell::Cell;
use core::convert::Infallible;
use core::mem::{MaybeUninit, offset_of};

use abi::{MsgInfo, ObjType, TaskId, Utcb};
use sched::{DeadlineLinks, Timed};
use smp::coalesced::CoalescedBits;
use smp::cpu::{CpuId, Pin};
use smp::door::{AtomicLink, Cleared, HasHomed, Homed, Link, Opened, Piece, Ptr, RawBytes, Ref, Sendable};
use smp::mailbox::Node;
use smp::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};
use smp::sync::{AtomicBool, AtomicU32, AtomicU64};

use crate::block::{Block, BlockLink, BlockQueue};
use crate::cpu::Mail;
use crate::flags::{FLAG_EVENT, FLAG_LOCK};
use crate::header::{Header, RootId};
use crate::machine::Machine;
use crate::memory::VSpace;
use crate::methods::methods;
use crate::notification::{Notification, NotificationHot};
use crate::phys::PhysPage;
use crate::process::Process;
use crate::reply::Reply;
use crate::slot::CNode;

mod state;
mod time;

pub use crate::message::{Message, Outcome, RecallRequest, Request, Stage};
pub use state::*;
pub use time::{SearchMarks, TaskTime};

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
///
/// Fields of which one constrains another are private: they change only by the transitions below
/// and in [`mod@state`]. Registers, bases and fault words are plain data: nothing else of the task
/// depends on them.
#[repr(C)]
#[derive(Default)]
pub struct TaskHot {
    word: Cell<u64>,
    /// Non-zero where a receive has something to do besides waiting.
    pending: Cell<u64>,
    process: Link<Process>,
    pub time: TaskTime,
    /// The caller of the call it is serving, not yet replied to nor saved.
    caller: BlockLink,
    /// FS and GS bases that every syscall exit sets.
    pub fs_base: Cell<u64>,
    pub gs_base: Cell<u64>,
    pub regs: RegFrame,
    /// Callers queued at this task.
    callers: BlockQueue,
    /// Senders of events that wait for room in the pool that this task reads.
    pub posters: BlockQueue,
    /// Tasks that wait for locks that this task has.
    pub waiters: BlockQueue,
    /// How often the task has passed a lock on to others. A waiter knows the number with which it
    /// was queued.
    pub passes: Cell<u64>,
    /// The name of the lock that was passed on, and whose waiters are still to wake; 0: none.
    pub passed: Cell<u64>,
    /// First of the Reply objects that hold callers of this task.
    pub(crate) replies: Link<Reply>,
    /// The Notification whose bits Recv returns.
    bound: Link<Notification>,
    /// The Notification it waits for in `WaitBits`.
    waits_for: Link<Notification>,
    pub deadline: DeadlineLinks<Task>,
    /// What ends its wait from outside.
    ending: Cell<Ending>,
    pub search: SearchMarks,
    /// Bit [`LENDS`]: it has lent pages to a message, which may not have gone. Bit [`LENT`]: all of
    /// them, and an earlier entry has seen that. The bits below: how many entries of its present
    /// reply could wait for these pages.
    lends: Cell<u8>,
    /// How many messages it has sent to other CPUs.
    pub(crate) sent: Cell<u32>,
    /// Tasks whose [`Request::Kill`] of this one is not answered yet: their message blocks are
    /// here.
    pub kill_waiters: BlockQueue,
    /// The CPU where it is to run: it moves there when it is first resumed, or as soon as nothing
    /// keeps it here.
    start_on: Cell<CpuId>,
    /// How many task numbers it has visited while it kills its process.
    numbers_visited: Cell<u32>,
    /// The grace epoch for which it waits, or waited last.
    pub wait_epoch: Cell<u64>,
    /// Its last fault: address, and what the third message register says of it.
    pub fault: [Cell<u64>; 2],
    /// Its debug registers: DR0 to DR3, DR7. All zero without [`FLAG_DEBUG`].
    debug: [Cell<u64>; abi::DEBUG_ADDRESSES + 1],
}

/// In `lends`: the task has lent pages.
const LENDS: u8 = 0x80;

/// In `lends`: the task has lent all pages of its message.
const LENT: u8 = 0x40;

/// `pending` bit: callers are queued.
const PENDING_CALLERS: u64 = 1 << 0;
/// `pending` bit: the bound Notification has bits.
const PENDING_BITS: u64 = 1 << 1;
/// `pending` bit: the caller that is being served has faulted, so a reply is more than a message.
/// Here, because the fastpaths of a reply look for nothing else.
pub const PENDING_FAULT: u64 = 1 << 2;
/// `pending` bit: the task is to move to the CPU `start_on`, as soon as nothing keeps it here.
const PENDING_MOVE: u64 = 1 << 3;

methods! { TaskHot:
    // --- what it is part of ----------------------------------------------------------------------

    fn process_if_any<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Process>> = self.process.get(pin);
    /// Returns the task's process.
    /// Requires: the task is configured, as is every task that runs or receives.
    fn process<'k>(self, pin: Pin<'k>) -> Ref<'k, Process> =
        self.process_if_any(pin).expect("a task that makes a system call or receives has a process");
    /// Returns the CPU where the task is to run: it moves there when it is first resumed, or as
    /// soon as nothing keeps it here.
    fn start_on(self) -> CpuId = self.start_on.get();
    /// Changes the CPU on which the task is to run.
    fn set_start_on(self, cpu: CpuId) = self.start_on.set(cpu);
    /// Returns whether the task is to move to the CPU where it is to run, as soon as nothing keeps
    /// it here.
    fn is_to_move(self) -> bool = self.pending.get() & PENDING_MOVE != 0;
    /// Notes that the task does not move any more, or leaves.
    fn end_move(self) = self.set_pending(PENDING_MOVE, false);
    /// Returns the task's debug registers: DR0 to DR3, DR7.
    fn debug(self) -> &[Cell<u64>; abi::DEBUG_ADDRESSES + 1] = &self.debug;

    // --- calls to it -----------------------------------------------------------------------------

    /// Returns whether calls or bits wait to be received, the call that the task serves is a fault,
    /// or the task is to move.
    fn has_pending(self) -> bool = self.pending.get() != 0;
    /// Returns the bits that say what is pending at the task: callers, bits, a fault, a move. For
    /// surveys.
    fn pending(self) -> u64 = self.pending.get();
    /// Returns whether the Notification bound to the task has bits.
    fn has_pending_bits(self) -> bool = self.pending.get() & PENDING_BITS != 0;
    /// Returns whether the call that the task serves is a fault.
    fn serves_fault(self) -> bool = self.pending.get() & PENDING_FAULT != 0;
    /// Returns the queue of calls that wait for the task. Callers of this function only look at it.
    fn callers(self) -> &BlockQueue = &self.callers;
    /// Returns the caller whose call the task serves.
    fn caller<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Task>> = self.caller.get(pin);
    /// Returns whether the task serves the call of `caller`.
    fn serves(self, caller: Ref<'_, Task>) -> bool = self.caller.is(caller);
    /// Makes the task the server of the call in `block`.
    fn serve(self, block: Block<'_>) = self.caller.put(block);
    /// Marks the call that the task serves as a fault: the fast path must not answer it.
    fn serve_fault(self) = self.set_pending(PENDING_FAULT, true);
    /// Returns the first of the Reply objects that hold callers of this task.
    fn first_reply<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Reply>> = self.replies.get(pin);

    // --- bits ------------------------------------------------------------------------------------

    /// Returns the Notification that is bound to the task; the task's receive operations return its
    /// bits.
    fn bound<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Notification>> = self.bound.get(pin);
    /// Notes whether the Notification bound to the task has bits.
    fn set_bits_pending(self, on: bool) = self.set_pending(PENDING_BITS, on);
    /// Returns the Notification for whose bits the task waits.
    fn waits_for<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Notification>> = self.waits_for.get(pin);
    /// Ends the task's wait for the bits of a Notification, because they have come. Returns the
    /// Notification.
    fn end_wait_for_bits<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Notification>> =
        self.waits_for.take(pin);

    // --- pages -----------------------------------------------------------------------------------

    /// Returns whether the task lends pages to a message that may not have gone yet.
    fn lends_pages(self) -> bool = self.lends.get() & LENDS != 0;
    /// Notes whether the task lends pages to a message; false once they have gone or are back.
    fn set_lends_pages(self, on: bool) =
        self.lends.set(if on { self.lends.get() | LENDS } else { 0 });
    /// Returns whether the task had lent all pages of its message when this entry began.
    fn has_lent_pages(self) -> bool = self.lends.get() & LENT != 0;
    /// Notes that all pages of the task's message are lent: the next entry sends them.
    fn note_lent_pages(self) = self.lends.set(self.lends.get() | LENT);
    /// Lets the next entry lend pages again.
    fn forget_lent_pages(self) = self.lends.set(self.lends.get() & !LENT);
    /// Counts an entry of a reply that may wait for the replier's pages. Returns whether it is one
    /// of the first `most`, which is below [`LENT`].
    fn count_reply_wait(self, most: u8) -> bool = {
        let goes_on = self.lends.get() & !(LENDS | LENT) < most;
        self.lends.set(self.lends.get() + u8::from(goes_on));
        goes_on
    };
    /// Ends the count: the reply is over.
    fn end_reply_waits(self) = self.lends.set(self.lends.get() & LENDS);
}

impl TaskHot {
    pub const WORD_OFFSET: usize = offset_of!(TaskHot, word);

    pub const PENDING_OFFSET: usize = offset_of!(TaskHot, pending);

    pub const PROCESS_OFFSET: usize = offset_of!(TaskHot, process);

    pub const CALLER_OFFSET: usize = offset_of!(TaskHot, caller);

    pub const WAITS_FOR_OFFSET: usize = offset_of!(TaskHot, waits_for);

    pub const OWN_TIME_OFFSET: usize = offset_of!(TaskHot, time) + TaskTime::OWN_OFFSET;

    pub const LENDER_OFFSET: usize = offset_of!(TaskHot, time) + TaskTime::LENDER_OFFSET;

    fn new(home: CpuId) -> TaskHot {
        let word = Cell::new(u64::from(state_half(State::Fresh, 0, home)));
        TaskHot { word, start_on: Cell::new(home), ..TaskHot::default() }
    }

    // --- calls to it -----------------------------------------------------------------------------

    fn set_pending(&self, bit: u64, on: bool) {
        self.pending.set(if on { self.pending.get() | bit } else { self.pending.get() & !bit });
    }

    /// Notes that the task is to move, as soon as nothing keeps it here.
    pub fn begin_move(&self) {
        self.set_pending(PENDING_MOVE, true);
        self.note_awaited();
    }

    /// Queues a call that waits for this task to receive, with the caller's priority.
    pub fn queue_call(&self, pin: Pin<'_>, block: Block<'_>, priority: u8) {
        self.callers.put(pin, block, priority);
        self.set_pending(PENDING_CALLERS, true);
    }

    /// Takes the waiting call of the highest priority out of the task's queue.
    pub fn next_call<'k>(&self, pin: Pin<'k>) -> Option<Block<'k>> {
        let block = self.callers.pop(pin);
        self.note_callers();
        block
    }

    /// Takes the call, event or wait for a lock of `caller`, whose message has this `info`, out of
    /// the task's queue of those, if it is there.
    pub fn take_waiting<'k>(&self, pin: Pin<'k>, caller: Ref<'k, Task>, info: MsgInfo) -> Option<Block<'k>> {
        let queue = match (info.has(FLAG_EVENT), info.has(FLAG_LOCK)) {
            (true, _) => &self.posters,
            (_, true) => &self.waiters,
            _ => &self.callers,
        };
        let block = if queue.may_take(pin, caller) { queue.take(pin, caller) } else { None };
        self.note_callers();
        block
    }

    fn note_callers(&self) {
        if self.callers.is_empty() {
            self.set_pending(PENDING_CALLERS, false);
        }
    }

    /// Takes all waiting calls out of the task's queue.
    pub fn take_calls(&self, pin: Pin<'_>) -> BlockQueue {
        self.set_pending(PENDING_CALLERS, false);
        self.callers.take_all(pin)
    }

    /// Takes the call that the task serves, so that it serves none. The call may be a fault.
    pub fn take_caller<'k>(&self, pin: Pin<'k>) -> Option<Block<'k>> {
        let block = self.caller.take(pin)?;
        self.set_pending(PENDING_FAULT, false);
        Some(block)
    }

    /// Takes the call that the task serves.
    /// Requires: the call is no fault, and no call or bit waits for the task.
    pub fn take_only_caller<'k>(&self, pin: Pin<'k>) -> Option<Block<'k>> {
        debug_assert!(!self.has_pending(), "a fault, or what waits, is pending: {}", self.pending.get());
        self.caller.take(pin)
    }

    /// Takes the message block of `caller`, whose call this task is serving, so that the call can
    /// be answered.
    /// Requires: the call is no fault, and no call or bit waits for the task.
    pub fn take_call_of<'k>(&self, caller: Ref<'k, Task>, pin: Pin<'k>) -> Block<'k> {
        debug_assert!(!self.has_pending(), "a fault, or what waits, is pending: {}", self.pending.get());
        self.caller.take_of(caller, pin)
    }

    /// Takes the message block of `faulter`, whose fault this task is handling, so that the fault
    /// can be answered.
    /// Requires: no call or bit waits for the task.
    pub fn take_fault_of<'k>(&self, faulter: Ref<'k, Task>, pin: Pin<'k>) -> Block<'k> {
        debug_assert!(self.pending.get() == PENDING_FAULT, "not a fault alone: {}", self.pending.get());
        self.pending.set(0);
        self.caller.take_of(faulter, pin)
    }

    // --- bits ------------------------------------------------------------------------------------

    /// Binds the Notification `object`, whose state is `note`, to `task`, whose state is `self`.
    pub fn bind(&self, task: Ref<'_, Task>, object: Ref<'_, Notification>, note: &NotificationHot) {
        note.bound.set(Some(task));
        self.bound.set(Some(object));
    }

    /// Ends the binding of the task to its Notification, because the task dies.
    pub fn unbind(&self, pin: Pin<'_>) {
        if let Some(object) = self.bound.take(pin) {
            object.get().hot.here(pin).bound.set(None);
        }
    }

    /// Ends the binding of the task to its Notification, because the Notification dies.
    pub fn lose_notification(&self) {
        self.bound.set(None);
        self.set_bits_pending(false);
    }

    /// Makes `task`, whose state is `self`, wait for the bits of the Notification `object`, whose
    /// state is `note`.
    pub fn wait_for(&self, task: Ref<'_, Task>, object: Ref<'_, Notification>, note: &NotificationHot) {
        note.waiter.set(Some(task));
        self.waits_for.set(Some(object));
    }

    /// Ends the task's wait for the bits of a Notification, which have not come.
    pub fn cancel_wait_for_bits(&self, pin: Pin<'_>) {
        if let Some(object) = self.waits_for.take(pin) {
            object.get().hot.here(pin).waiter.set(None);
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
    id: AtomicU64,
    /// Where its UTCB is mapped in its process.
    utcb_address: AtomicU64,
    /// Which message to another CPU is recalled, and how: a [`RecallRequest`]. The home CPU writes
    /// it; the CPU that has the message reads it.
    recalled: AtomicU64,
    /// Its process, while it is of one, and further down that one's address space: any CPU may want
    /// to know.
    owner: AtomicLink<Process>,
    pub hot: Homed<TaskHot>,
    space: AtomicLink<VSpace>,
    /// So that the message begins a cache line.
    _rest_of_line: MaybeUninit<[u64; 5]>,
    pub(crate) msg: Homed<Message>,
    /// Whether it was last asked to suspend or to resume: control bits have no order.
    to_suspend: AtomicBool,
    /// The handler of its faults: a [`Target`](abi::Target) in its process's CSpace; 0: its
    /// process's handler. Plain data, which any CPU reads and writes.
    pub fault_handler: AtomicU64,
    vector: Ptr<VectorArea>,
    /// Carries `msg` through mailboxes.
    pub msg_node: Node<Mail>,
    /// The bits of [`ctl`], and the node that carries them.
    pub ctl: CoalescedBits<Mail>,
    /// Through the direct map.
    utcb: Ptr<Utcb>,
    /// The first of the CNodes without capabilities that it has to empty. Under the lock of these
    /// lists.
    pub zombies: AtomicLink<CNode>,
    /// When the first of these was ended ([`made_at`](crate::slot::made_at)).
    pub zombies_since: AtomicU32,
    /// The process whose task number it has: from when it is configured until it has ended. Set
    /// under the lock of bindings.
    bound_to: AtomicLink<Process>,
    /// Which of that process's task numbers it has.
    number: AtomicU32,
    /// The [identity](Header::identity) of the process that it belongs to, or belonged to when it
    /// ended; 0: none.
    of_process: AtomicU64,
}

impl Sendable for TaskHot {}

impl Timed for Task {
    fn deadline_links<'a>(&'a self, pin: Pin<'a>) -> &'a DeadlineLinks<Task> {
        &self.hot.here(pin).deadline
    }
}

/// A task whose scheduling and IPC state this CPU has opened.
pub type OpenTask<'k> = Opened<'k, Task, TaskHot>;

impl HasHomed<TaskHot> for Task {
    type Key = Infallible;

    #[inline(always)]
    fn homed(&self) -> &Homed<TaskHot> {
        &self.hot
    }
}

methods! { Task:
    /// Returns the task's id; [`TaskId::NONE`] if it has none yet.
    fn id(self) -> TaskId = TaskId::from_raw(self.id.load(Acquire));
    /// Returns the task's tag, at its place in a state word: the low bits of the id. A task has one
    /// tag from when it is configured on.
    fn tag(self) -> u64 = tag_of(self.id());
    /// Returns which of its process's task numbers the task has, or had last.
    fn number(self) -> usize = self.number.load(Relaxed) as usize;
    /// Returns the process whose task number the task has.
    fn bound_to<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Process>> = self.bound_to.get(pin);
    /// Returns the identity of the process that the task belongs to, or belonged to when it ended.
    fn of_process(self) -> u64 = self.of_process.load(Relaxed);
    /// Returns the process that the task belongs to, if there is one.
    fn owner<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Process>> = self.owner.get(pin);
    /// Returns the address space of the process that the task belongs to, if there is one.
    fn space<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, VSpace>> = self.space.get(pin);
    /// Returns the address at which the task's process has the task's UTCB mapped.
    fn utcb_address(self) -> u64 = self.utcb_address.load(Relaxed);
    /// Notes whether the task was last asked to suspend (`true`) or to resume.
    fn set_to_suspend(self, suspend: bool) = self.to_suspend.store(suspend, Release);
    /// Whether the task was last asked to suspend.
    fn is_to_suspend(self) -> bool = self.to_suspend.load(Acquire);
    /// Returns which message of the task is recalled, and how.
    fn recalled(self) -> RecallRequest = RecallRequest::from_raw(self.recalled.load(Acquire));
    fn utcb<'k>(self, pin: Pin<'k>) -> &'k Utcb = self.utcb.get(pin).get();
    /// Returns the page that holds the task's UTCB, and that the task's process maps.
    fn utcb_page(self, machine: &impl Machine) -> PhysPage =
        PhysPage::trusted(machine.phys(self.utcb.addr()), abi::PAGE_LOG2);
    fn vector<'k>(self, pin: Pin<'k>) -> &'k VectorArea = self.vector.get(pin).get();
}

impl Task {
    /// The offset of the message block, for assembly.
    pub const MESSAGE_OFFSET: usize = offset_of!(Task, msg) + Homed::<Message>::VALUE_OFFSET;

    /// The offset of the UTCB's address, for assembly.
    pub const UTCB_OFFSET: usize = offset_of!(Task, utcb);

    pub const ID_OFFSET: usize = offset_of!(Task, id);

    pub const OWNER_OFFSET: usize = offset_of!(Task, owner);

    /// Gives the task its id, and a task number of a process. The CPU that does so then looks for
    /// marks that another CPU makes before it looks for the id.
    pub fn set_id(&self, id: TaskId, process: Ref<'_, Process>, number: usize) {
        self.bound_to.set(Some(process));
        self.number.store(number as u32, Relaxed);
        self.of_process.store(process.get().header.identity(), Relaxed);
        self.id.store(id.raw(), SeqCst);
    }

    /// Takes the task's id back.
    pub fn clear_id(&self) {
        self.of_process.store(0, Relaxed);
        self.id.store(TaskId::NONE.raw(), SeqCst);
    }

    /// Notes that the task has no task number any more. From then on it does not keep the process.
    pub fn unbind_number(&self) {
        self.bound_to.set(None);
    }

    /// Makes the task one of a process, with its UTCB at address `utcb` of the process's space.
    /// `cpu` is where it is to run.
    pub fn join(
        &self,
        pin: Pin<'_>,
        process: Ref<'_, Process>,
        space: Ref<'_, VSpace>,
        utcb: u64,
        cpu: CpuId,
    ) {
        self.utcb_address.store(utcb, Relaxed);
        self.owner.set(Some(process));
        self.space.set(Some(space));
        self.utcb(pin).task_id.store(self.id().raw(), Relaxed);
        self.utcb(pin).home_cpu.store(cpu.index() as u64, Relaxed);
    }

    /// Tells the task where it is, after it has moved.
    pub fn tell_home(&self, pin: Pin<'_>, cpu: CpuId) {
        self.utcb(pin).home_cpu.store(cpu.index() as u64, Relaxed);
    }

    /// Takes a dead task, whose state is `hot`, out of its process.
    pub fn leave<'k>(&self, pin: Pin<'k>, hot: &TaskHot) -> Option<Ref<'k, Process>> {
        debug_assert!(hot.is_in(State::Dead), "a task in {:?} leaves its process", hot.state());
        let process = hot.process.take(pin)?;
        self.owner.set(None);
        self.space.set(None);
        Some(process)
    }

    /// Recalls the last message of the task, whose state is `hot`, from another CPU. With `leave`,
    /// the time that came with it stays with its holder.
    pub fn recall(&self, hot: &TaskHot, leave: bool) {
        let recall = RecallRequest { number: hot.sent.get(), leave, dying: hot.is_dying() };
        self.recalled.store(recall.raw(), Release);
    }

    /// Makes a task that is not configured yet, in a page-aligned block of [`TASK_BYTES`]. The
    /// first piece is the block's front, for the `Task`.
    pub fn make<'k>(
        (head, mut rest): (Piece, Cleared),
        pin: Pin<'k>,
        root: RootId,
        home: CpuId,
    ) -> Option<Ref<'k, Task>> {
        let area = rest.split(abi::PAGE_SIZE - head.size())?;
        let vector = area.emplace_zeroed::<VectorArea>(pin)?;
        let utcb = rest.emplace_zeroed::<Utcb>(pin)?;
        head.emplace(pin, Task::new(root, home, vector, utcb))
    }

    fn new(root: RootId, home: CpuId, vector: Ref<'_, VectorArea>, utcb: Ref<'_, Utcb>) -> Task {
        Task {
            header: Header::new(ObjType::Task, root),
            id: AtomicU64::new(0),
            utcb_address: AtomicU64::new(0),
            recalled: AtomicU64::new(0),
            owner: AtomicLink::null(),
            hot: Homed::new(home, TaskHot::new(home)),
            space: AtomicLink::null(),
            _rest_of_line: MaybeUninit::uninit(),
            msg: Homed::new(home, Message::default()),
            to_suspend: AtomicBool::new(true),
            fault_handler: AtomicU64::new(0),
            msg_node: Node::new(home),
            ctl: CoalescedBits::new(),
            vector: vector.ptr(),
            utcb: utcb.ptr(),
            zombies: AtomicLink::null(),
            zombies_since: AtomicU32::new(0),
            bound_to: AtomicLink::null(),
            number: AtomicU32::new(0),
            of_process: AtomicU64::new(0),
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
    offset_of!(Task, hot) + Homed::<TaskHot>::VALUE_OFFSET == LINE,
    "what the home CPU writes begins with the second line"
);
const _: () = assert!(
    offset_of!(Task, msg).is_multiple_of(LINE)
        && Homed::<Message>::VALUE_OFFSET + Message::CROSSES <= 2 * LINE
        && offset_of!(Task, msg_node) % LINE + size_of::<Node<Mail>>() <= LINE,
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
    /// To a task that has passed a lock on: wake those that wait for locks of it.
    pub const PASS: u64 = 1 << 13;
}
