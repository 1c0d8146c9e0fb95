//! The per-CPU block: the state that entry code, fastpath and scheduler of one CPU use, and the
//! mailbox that other CPUs write.

use core::cell::Cell;
use smp::sync::{AtomicU64, Ordering};

use abi::Counter;
use abi::status::Status;
use sched::{Deadlines, NEVER, PrioList, RunQueue};
use smp::coalesced::CoalescedBits;
use smp::cpu::CpuId;
use smp::door::{AtomicLink, Link, Ptr, Table};
use smp::percpu::{self, All, Here, LocalEntry, PerCpu};
use smp::quiesce::GraceMail;
use smp::residents::Residents;
use smp::shootdown::{ShootMail, What};
use test_abi::kills::Kill;

use crate::audit::Actor;
use crate::block::{BlockQueue, Parcel};
use crate::events::EventPool;
use crate::followers::Followers;
use crate::irq::CpuLines;
use crate::memory::VSpace;
use crate::methods::methods;
use crate::notification::Notification;
use crate::sched_context::SchedContext;
use crate::task::{FLAG_NEVER, FLAG_VECTOR, PLAIN, State, Task, state_half};

/// What a mailbox carries: two words. It cannot be copied, since a message block cannot.
#[repr(u64)]
pub enum Mail {
    /// A task's message block: a call out or a reply back, as its stage says.
    Message(Parcel),
    /// Control bits were set on a task.
    Control(Ptr<Task>),
    /// A task that is to run here, with all that is bound to it.
    Arrival(Ptr<Task>),
    /// Bits were raised on a Notification.
    Bits(Ptr<Notification>),
    /// A grace period passes.
    Grace(GraceMail),
    /// A shootdown, of the space that the CPU is in.
    Shoot(ShootMail),
    /// One of everything.
    ShootAll(ShootMail),
    /// Another CPU asks for a sign of life.
    Sign,
}

/// What assembly reads. One CPU's own.
#[repr(C)]
#[derive(Default)]
pub struct CpuHot {
    /// The running task; null while idle.
    pub current: Link<Task>,
    /// Low half of the state word of a task that is receiving here, without vector state, with the
    /// security label of the task that runs or ran last; poisoned ([`crate::task::POISON_SHIFT`])
    /// while the running task has vector state or debug registers.
    pub recv_half: Cell<u64>,
    /// The low half of the state word of a task that awaits a reply here.
    pub await_half: Cell<u64>,
    /// The low half of the state word of a ready and plain task ([`crate::task::PLAIN`]), which can
    /// run next. It matches no task while this CPU defers its mail.
    pub plain_half: Cell<u64>,
    /// The low half of the state word of a plain task without vector state that waits for bits;
    /// never poisoned.
    pub wait_half: Cell<u64>,
    /// The first two for tasks with vector state; poisoned while the running task has debug
    /// registers.
    pub recv_vector_half: Cell<u64>,
    pub await_vector_half: Cell<u64>,
    /// 0, for conditional moves: the index for one that a table does not have.
    pub zero: u64,
    /// Top of this CPU's kernel stack.
    pub kernel_stack: Cell<u64>,
    /// Where assembly spills a word.
    pub scratch: Cell<u64>,
    /// CPU state for user code: which of [`crate::task::FLAGS_SPECIAL`] are on (vector
    /// instructions: CR0.TS is clear; debug registers), with [`crate::task::FLAGS_ON`]; and the
    /// label of the tasks that trained its branch predictors. Laid out as [`crate::task::SPECIAL`].
    /// A task with the same value in its state word runs without a change of CPU state.
    pub special_on: Cell<u32>,
    /// State word of the task for which the halves are set, as far as [`crate::task::SPECIAL`].
    pub expects: Cell<u32>,
    /// Where assembly keeps registers while it writes an event.
    #[cfg(feature = "trace")]
    pub spilled: [Cell<u64>; 3],
}

/// In [`CpuSched::interrupted`]: the interrupted program's task has moved to another CPU. No task
/// has this address.
pub const MOVED: u64 = 1;

/// In [`CpuSched::idle`]: the CPU does not idle.
pub const BUSY: u8 = 0;
/// It idles.
pub const IDLE: u8 = 1;
/// It idles, and a scheduling policy was told so.
pub const IDLE_TOLD: u8 = 2;

/// Scheduler state of one CPU.
#[derive(Default)]
pub struct CpuSched {
    pub queue: RunQueue<SchedContext>,
    /// The context that the running task spends; null while idle.
    pub current: Link<SchedContext>,
    /// When the slice of `current` will be over.
    pub until: Cell<u64>,
    /// When the last context stopped, while none runs.
    pub stopped: Cell<u64>,
    /// Whether the CPU has idled since then, so that `stopped` says nothing: [`BUSY`], [`IDLE`] or
    /// [`IDLE_TOLD`].
    pub idle: Cell<u8>,
    /// What `idle` becomes when it idles.
    pub idle_as: Cell<u8>,
    /// When the timer will fire; [`NEVER`] = off.
    pub timer: Cell<u64>,
    pub deadlines: Deadlines<Task>,
    /// Before this time, deadlines of the priorities below `resting` wait, although they have
    /// passed, unless their tasks outrank the program. If `resting` is not 0, a task waits so whose
    /// priority is just below it.
    pub expire_at: Cell<u64>,
    pub resting: Cell<u32>,
    /// Deadlines of the priorities below this have waited so since none was left.
    pub rested: Cell<u32>,
    /// Like `resting`, for tasks in the next three lists whose waits are over.
    pub waiters_resting: Cell<u32>,
    /// Tasks of this CPU that wait for the grace epoch; like the next two by priority.
    pub grace_waiters: PrioList<Task>,
    /// Requests that wait here for the end of shootdowns that this CPU began.
    pub forgetful: BlockQueue,
    /// Requests that this CPU has kept until a death which has come: they are to be answered.
    pub unanswered: BlockQueue,
    /// The next shootdown of this entry makes all CPUs forget everything.
    pub shoot_wide: Cell<bool>,
    /// The mailbox may still hold messages: the drain stopped at its bound, or this CPU defers its
    /// mail. Or tasks rest that have to wake: see `resting`.
    pub more_mail: Cell<bool>,
    /// The timer is set for tasks that wait no more, and have still to wake
    /// (`kern_core::door::wake`).
    pub wakes_waiters: Cell<bool>,
    /// The rank of the program for which the CPU attended to that before it went on with it; 0: it
    /// has to before it goes on with any. Programs of this rank and above need no more of it.
    pub attended: Cell<u32>,
    /// When this CPU looks into its mailbox, while it defers its mail.
    pub look_at: Cell<u64>,
    /// When the last interrupt of a program began.
    pub began: Cell<u64>,
    /// For the accounts of CPU time it is still that moment.
    pub clock_stands: Cell<bool>,
    /// The address of the task whose program this entry has interrupted, and whose vector registers
    /// are live; 0: there is none; [`MOVED`]: the task has moved to another CPU in this entry. It
    /// may be back by now, with other registers.
    pub interrupted: Cell<u64>,
    /// The rank of the mail that this entry serves; 0: the entry works for the running task.
    pub works_for: Cell<u32>,
    /// The highest rank of the mail that this look has served.
    pub best_rank: Cell<u32>,
    /// The work that this entry may still do, in instructions.
    pub work: Cell<u64>,
    /// Serial numbers that this CPU has taken and not given out: the next one, and the end.
    pub serials: Cell<(u64, u64)>,
    /// How this CPU waits for work: a number of the machine layer's.
    pub waits_by: Cell<u8>,
    /// Before this CPU idles, it prints reports of faults, wakes tasks that rest, tells a
    /// scheduling policy, and looks whether it is parked.
    pub before_idle: Cell<bool>,
    /// The task that ended the CNode that this CPU is emptying: the audit records it as the actor.
    /// `None`: the CPU empties no CNode, or there is no audit.
    pub ender: Cell<Option<Actor>>,
    /// The last interrupt of the timer has left a message with pages, because it had other work.
    /// The next one takes it before it does anything else.
    pub pages_wait: Cell<bool>,
    /// Until when this CPU rests from interrupts of devices, of all lines together.
    pub devices_rest: Cell<u64>,
    /// How many calls were kept in Reply objects.
    pub kept: Cell<u64>,
    /// The task that ends objects in the entry with this number: it may lose the CPU by that,
    /// before the audit has recorded everything.
    pub acts: Cell<Option<(u64, Actor)>>,
    /// Calls and events whose receivers have moved to other CPUs, and which still have to follow.
    pub followers: Followers,
    /// What was told last of this CPU, while it reports to a pool.
    pub told: Cell<Status>,
    /// How many SchedContexts that the policy `counts_for` watches are ready here.
    pub ready: Cell<u16>,
    pub counts_for: Cell<u64>,
    /// The number of this count: another one for each policy, from 1.
    pub count_number: Cell<u64>,
    /// For the trace: the task that was stopped in this entry, and the reason
    /// (`test_abi::trace::Why`).
    #[cfg(feature = "trace")]
    pub stopped_task: Link<Task>,
    #[cfg(feature = "trace")]
    pub stopped_why: Cell<u8>,
}

/// What a CPU has for itself.
#[repr(C)]
pub struct CpuOwn {
    pub hot: CpuHot,
    pub sched: CpuSched,
}

/// Counters of a CPU: those that programs read, and, in test builds, those of kills.
pub const COUNTERS: usize = Counter::ALL.len() + if cfg!(feature = "kills") { Kill::ALL.len() } else { 0 };

/// What all CPUs see of a CPU.
#[repr(C)]
pub struct CpuShared {
    /// The address space that CR3 has, or is about to have. Written by its CPU, before CR3. In a
    /// line with counters that the CPU writes as often.
    pub vspace: AtomicLink<VSpace>,
    pub counters: [Count; COUNTERS],
    /// The pool to which the CPU reports. Changed under the kernel's lock `watching`, read by any
    /// CPU.
    pub watch: AtomicLink<EventPool>,
    /// The number of the CPU's status word there.
    pub watch_word: AtomicU64,
    /// The tasks whose place this CPU is.
    pub residents: Residents,
    /// [`SIGN`] while the CPU is asked for a sign of life.
    pub sign: CoalescedBits<Mail>,
    /// When it was asked.
    pub asked_at: AtomicU64,
    /// When it gave its last sign.
    pub answered_at: AtomicU64,
    /// The interrupts of devices that arrive here.
    pub lines: CpuLines,
}

/// The bit of [`CpuShared::sign`].
pub const SIGN: u64 = 1;

/// The per-CPU block.
pub type CpuBlock = PerCpu<CpuOwn, CpuShared, Mail>;

/// What one CPU needs to ask another.
pub type CpuPair = percpu::Pair<Mail>;

/// The blocks of all CPUs.
pub type CpuBlocks = All<CpuOwn, CpuShared, Mail>;

/// A kernel entry on the CPU of a block.
pub type CpuEntry = LocalEntry<CpuOwn, CpuShared, Mail>;

/// The per-CPU block of the CPU that runs this.
pub type CpuHere<'k> = Here<'k, CpuOwn, CpuShared, Mail>;

/// A counter that one CPU bumps and any may read.
#[repr(transparent)]
#[derive(Default)]
pub struct Count(AtomicU64);

methods! { Count:
    /// Adds one to the counter, by a plain load and store.
    /// Requires: this CPU owns the counter.
    fn bump(self) = self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    /// Adds `more` to the counter.
    /// Requires: this CPU owns the counter.
    fn add(self, more: u64) =
        self.0.store(self.0.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    /// Returns the counter's value, which the owning CPU may be changing.
    fn racy(self) -> u64 = self.0.load(Ordering::Relaxed);
}

impl From<GraceMail> for Mail {
    fn from(mail: GraceMail) -> Mail {
        Mail::Grace(mail)
    }
}

impl From<(ShootMail, What)> for Mail {
    fn from((mail, what): (ShootMail, What)) -> Mail {
        match what {
            What::Space => Mail::Shoot(mail),
            What::Everything => Mail::ShootAll(mail),
        }
    }
}

/// Makes the block of a CPU that has come up and runs nothing yet. `pairs` has an element for each
/// CPU.
pub fn new_block(id: CpuId, pairs: Table<CpuPair>) -> CpuBlock {
    let hot = CpuHot {
        recv_half: Cell::new(u64::from(state_half(State::Recv, FLAG_NEVER, id))),
        await_half: Cell::new(u64::from(state_half(State::Await, FLAG_NEVER, id))),
        plain_half: Cell::new(u64::from(state_half(State::Ready, FLAG_NEVER, id) | u32::from(PLAIN))),
        wait_half: Cell::new(u64::from(state_half(State::WaitBits, 0, id) | u32::from(PLAIN))),
        recv_vector_half: Cell::new(u64::from(state_half(State::Recv, FLAG_VECTOR, id))),
        await_vector_half: Cell::new(u64::from(state_half(State::Await, FLAG_VECTOR, id))),
        expects: Cell::new(u32::from(FLAG_VECTOR) << 8),
        ..CpuHot::default()
    };
    let sched = CpuSched {
        idle: Cell::new(IDLE),
        idle_as: Cell::new(IDLE),
        timer: Cell::new(NEVER),
        ..CpuSched::default()
    };
    let shared = CpuShared {
        vspace: AtomicLink::null(),
        counters: [const { Count(AtomicU64::new(0)) }; COUNTERS],
        watch: AtomicLink::null(),
        watch_word: AtomicU64::new(0),
        residents: Residents::default(),
        sign: CoalescedBits::new(),
        asked_at: AtomicU64::new(0),
        answered_at: AtomicU64::new(0),
        lines: CpuLines::default(),
    };
    PerCpu::new(id, CpuOwn { hot, sched }, shared, pairs)
}
