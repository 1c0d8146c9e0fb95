//! The kernel proper: capabilities, objects, IPC, scheduling, reclaim. Safe code, generic over the
//! [`Machine`], so that all of it runs under `cargo test` on the host.
//!
//! # Shape
//! Every entry gets a [`Cx`]: the kernel, a proof of the CPU on which the entry runs, and that
//! CPU's own state. Most system calls check everything first, without changing anything, and
//! then make changes that cannot fail. Operations on many items may stop in the middle; the
//! reference says which. The answer is written to the caller's register
//! frame. Entries never wait. If a system call must wait for another CPU or a grace period, it
//! parks its task and restarts later ([`Refusal::Restart`]).
//!
//! # Rooms
//! All code of an entry is in a [room](rooms): a folder of modules with its own context, which
//! leads only to the rooms below it. This crate's root has what all rooms need: the running task,
//! an object's CPU-local state, the answer to a system call ([`answer`]), the work that an entry
//! may still do ([`work`]), events of tracing builds ([`trace`]). Here is also the check that a
//! restarted call continues with its own object (`begun`).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod answer;
pub mod args;
mod begun;
pub mod caps;
pub mod door;
pub mod events;
pub mod grace;
pub mod groups;
pub mod ids;
pub mod ipc;
pub mod life;
pub mod make;
pub mod mem;
pub mod outbox;
pub mod payload;
pub mod registers;
pub mod rooms;
pub mod security;
pub mod tables;
pub mod time;
pub mod tlb;
pub mod trace;
pub mod work;

use core::ops::Deref;

use abi::{Counter, Error, TaskId};
use kern_base::accounts::Accounts;
use kern_base::audit::Audit;
use kern_base::cpu::{CpuBlock, CpuBlocks, CpuHere, CpuOwn};
use kern_base::frames::FrameTable;
use kern_base::irq::Lines;
use kern_base::machine::Machine;
use kern_base::process::Process;
use kern_base::roots::Roots;
use kern_base::sched_context::SchedContext;
use kern_base::task::{Task, TaskHot};
use smp::cpu::{CpuId, Pin};
use smp::door::{AtomicLink, Homed, Ref};
use smp::lock::Lock;
use smp::sync::AtomicBool;

pub use answer::{Answer, NOT_COVERED, Refusal, Result, refuse_if};
pub use kern_base::objects::MachineObject;
pub use kern_base::roots::{MAX_ROOTS, Root};
pub use kern_base::sched_context::OpenTime;
pub use kern_base::task::OpenTask;

/// The kernel: the state that all CPUs share.
pub struct Kernel<M: Machine> {
    pub machine: M,
    pub cpus: CpuBlocks,
    /// The ids that no CPU has for itself.
    pub serials: ids::Serials,
    /// Process 1: the machine ends when it is killed.
    pub first: AtomicLink<Process>,
    /// For each root its derivation tree's lock.
    pub roots: Roots,
    pub frames: FrameTable,
    pub accounts: &'static Accounts,
    pub lines: &'static Lines,
    pub rules: security::labels::Rules,
    /// The audit that records grants, refusals and kills, if there is one.
    pub audit: AtomicLink<Audit>,
    /// Whether an audit or the log wants these events.
    pub told: security::records::Told,
    /// For each root: whether a page of its memory was ever in a pool.
    pub pooled: [AtomicBool; MAX_ROOTS],
    /// Held while the list changes that a task has of CNodes without capabilities. Lock order: a
    /// root's, then this one. A CPU takes no other lock meanwhile.
    pub zombies: Lock<()>,
    /// Held while the CNodes or the address space of a process change. Lock order: a root's, then
    /// this one. A CPU takes no other lock meanwhile.
    pub binding_lock: Lock<()>,
    /// Held while it changes to which pool a CPU reports. A pool's placement comes before it. A CPU
    /// takes no other lock meanwhile. In it: how many policies there were ([`time::watch`]).
    pub watching: Lock<core::cell::Cell<u64>>,
}

/// Tables that are too large for a kernel stack.
#[derive(Clone, Copy)]
pub struct StaticTables {
    pub accounts: &'static Accounts,
    pub lines: &'static Lines,
}

impl<M: Machine> Kernel<M> {
    /// Makes a kernel that has not run yet.
    pub fn new(machine: M, cpus: CpuBlocks, frames: FrameTable, shared: StaticTables) -> Kernel<M> {
        Kernel {
            machine,
            cpus,
            serials: ids::Serials::from(TaskId::FIRST),
            first: AtomicLink::null(),
            roots: Roots::new(),
            frames,
            accounts: shared.accounts,
            lines: shared.lines,
            rules: security::labels::Rules::new(),
            audit: AtomicLink::null(),
            told: security::records::Told::default(),
            pooled: [const { AtomicBool::new(false) }; MAX_ROOTS],
            zombies: Lock::new(()),
            binding_lock: Lock::new(()),
            watching: Lock::new(core::cell::Cell::new(0)),
        }
    }

    /// Makes the machine's log receive grants, refusals and kills from now on: [`Machine::tell`].
    pub fn log_events(&self) {
        self.told.add_log();
    }

    /// Returns how many CPUs are up.
    pub fn cpu_count(&self) -> usize {
        self.cpus.len()
    }

    /// Returns the block of a CPU, or of the boot CPU if that CPU does not exist.
    pub fn block<'a>(&'a self, pin: Pin<'a>, cpu: CpuId) -> &'a CpuBlock {
        self.cpus.block(pin, cpu)
    }
}

/// One kernel entry on one CPU: two words, so that it is passed in registers. Dereferences to the
/// CPU's own state.
pub struct Cx<'k, M: Machine> {
    pub k: &'k Kernel<M>,
    pub cpu: CpuHere<'k>,
}

impl<M: Machine> Clone for Cx<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: Machine> Copy for Cx<'_, M> {}

impl<M: Machine> Deref for Cx<'_, M> {
    type Target = CpuOwn;
    #[inline(always)]
    fn deref(&self) -> &CpuOwn {
        self.cpu.own()
    }
}

/// Length of the instruction that makes a system call.
const SYSCALL_INSTRUCTION: u64 = 2;

impl<'k, M: Machine> Cx<'k, M> {
    #[inline(always)]
    pub fn pin(self) -> Pin<'k> {
        self.cpu.pin()
    }

    #[inline(always)]
    pub fn id(self) -> CpuId {
        self.pin().cpu()
    }

    #[inline(always)]
    pub fn count(self, counter: Counter) {
        self.cpu.counters[counter as usize].bump();
    }

    pub fn add(self, counter: Counter, more: u64) {
        self.cpu.counters[counter as usize].add(more);
    }

    /// Opens a SchedContext, if it is on this CPU.
    #[inline(always)]
    pub fn open_time(self, sc: Ref<'k, SchedContext>) -> Option<OpenTime<'k>> {
        OpenTime::open(sc, self.pin())
    }

    /// Opens the CPU-local state of a task, if its home is this CPU.
    #[inline(always)]
    pub fn open(self, task: Ref<'k, Task>) -> Option<OpenTask<'k>> {
        OpenTask::open(task, self.pin())
    }

    /// Returns the running SchedContext.
    #[inline(always)]
    pub fn running(self) -> Option<OpenTime<'k>> {
        self.open_time(self.sched.current.get(self.pin())?)
    }

    /// Returns the running SchedContext, for an entry by the task that runs on it.
    #[inline(always)]
    pub fn running_now(self) -> OpenTime<'k> {
        self.running().expect("a task entered the kernel, and no SchedContext runs")
    }

    /// Opens the CPU-local state of an object whose home is this CPU. Otherwise refuses as
    /// [`Cx::elsewhere`] does.
    #[inline(always)]
    pub fn here<T>(self, object: &'k Homed<T>) -> Result<&'k T> {
        object.open(self.pin()).ok_or_else(|| self.elsewhere(object))
    }

    /// Opens the CPU-local state of a task, or refuses as [`Cx::elsewhere`] does.
    #[inline(always)]
    pub fn open_here(self, task: Ref<'k, Task>) -> Result<OpenTask<'k>> {
        self.open(task).ok_or_else(|| self.elsewhere(&task.get().hot))
    }

    /// Makes the task restart its system call: the arguments are still in the frame.
    pub fn rewind(self, hot: &TaskHot) {
        hot.regs.rip.set(hot.regs.rip.get() - SYSCALL_INSTRUCTION);
    }

    /// Moves a task past the system call that [`Cx::rewind`] made it restart.
    pub fn unwind(self, hot: &TaskHot) {
        hot.regs.rip.set(hot.regs.rip.get() + SYSCALL_INSTRUCTION);
    }

    /// Refuses an operation on an object whose home is another CPU, and names that CPU. Restarts
    /// the operation if the object is under way to this CPU: its message is in the mailbox, or is
    /// just being sent.
    #[cold]
    pub fn elsewhere<T>(self, object: &Homed<T>) -> Refusal {
        match object.destination() {
            to if to == self.id() => Refusal::More,
            to => Refusal::new(Error::WrongCpu, to.index() as u64),
        }
    }

    /// Ends the machine if a dying process is process 1. Called when a process is killed, when no
    /// task handles a fault of it, and when its first task is killed; deleting does not end the
    /// process that deletes.
    #[cold]
    #[inline(never)]
    pub fn end_with_first(self, process: Ref<'k, Process>) {
        if self.k.first.is(process) {
            self.k.machine.first_process_dies();
        }
    }

    /// Returns the task that entered the kernel, opened.
    #[inline(always)]
    pub fn entrant(self) -> OpenTask<'k> {
        self.current().expect("a task entered the kernel, and no SchedContext runs")
    }

    /// Returns the running task, opened.
    #[inline(always)]
    pub fn current(self) -> Option<OpenTask<'k>> {
        self.open(self.hot.current.get(self.pin())?)
    }
}
