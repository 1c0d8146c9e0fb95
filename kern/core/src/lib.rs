//! The kernel proper: capabilities, objects, IPC, scheduling, reclaim. Safe code, generic over the
//! [`Machine`], so that all of it runs under `cargo test` on the host.
//!
//! # Shape
//! Every entry gets a [`Cx`]: the kernel, the proof of being on one CPU, and that CPU's own state.
//! A system call is decoded without changing anything, then carried out without failing; it answers
//! by writing the caller's register frame. Entries never wait: what must wait for another CPU or a
//! grace period parks the task and starts the system call again later ([`Refusal::Restart`]).
//!
//! # Rooms
//! What an entry does, it does in a [room](rooms): a folder of modules with a context of its own, which leads to the rooms below
//! it and to no other. What all rooms need is here: who runs, an object's inside, the answer to a system call
//! ([`answer`]), events of tracing builds ([`trace`]), and whether a call that starts again goes on with what it began
//! (`begun`). Beside the rooms: [`survey`], which looks at all of the kernel's state.
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
pub mod state;
pub mod survey;
pub mod tables;
pub mod time;
pub mod tlb;
pub mod trace;

use core::ops::Deref;
use smp::lock::Lock;
use smp::sync::AtomicBool;

use crate::rooms::Trace;
use abi::{Counter, Error, ProcessKey};
use kern_base::audit::Audit;
use kern_base::cpu::{CpuBlock, CpuBlocks, CpuHere, CpuOwn};
use kern_base::frames::FrameTable;
use kern_base::machine::Machine;
use kern_base::process::Process;
use kern_base::roots::Roots;
use kern_base::sched_context::{SchedContext, SchedHot};
use kern_base::task::{Task, TaskHot};
use smp::cpu::{CpuId, Pin};
use smp::door::{AtomicLink, Homed, Ref, Table};
use smp::quiesce::Epoch;

pub use answer::{Answer, Refusal, Result};
pub use kern_base::objects::MachineObject;
pub use kern_base::roots::{MAX_ROOTS, Root};
pub use life::graves::Graves;

/// The kernel: what all CPUs share.
pub struct Kernel<M: Machine> {
    pub machine: M,
    pub cpus: CpuBlocks,
    pub epoch: Epoch,
    pub processes: ids::ProcessIds,
    /// One derivation tree a root, with its lock.
    pub roots: Roots,
    pub frames: FrameTable,
    pub rules: security::labels::Rules,
    /// Where grants, refusals and kills are recorded, if they are.
    pub audit: AtomicLink<Audit>,
    /// Whether they are, or the log wants to know of them.
    pub told: security::records::Told,
    /// By root: whether a page of its memory was ever in a pool.
    pub pooled: [AtomicBool; MAX_ROOTS],
    /// CNodes that nobody refers to any more and that are being emptied.
    pub graves: Lock<Graves>,
    /// Which process has which CNodes and which address space: held by whoever changes that. Lock order: a root's, then
    /// this one. Nothing else is locked meanwhile.
    pub spaces: Lock<()>,
    /// One CPU looks into what all own.
    #[cfg(feature = "dump")]
    pub standstill: smp::standstill::Standstill,
}

impl<M: Machine> Kernel<M> {
    /// A kernel that has not run yet. `process_numbers` has an element for each process that can exist.
    pub fn new(
        machine: M,
        cpus: CpuBlocks,
        process_numbers: Table<ids::ProcessNumber>,
        frames: FrameTable,
    ) -> Kernel<M> {
        Kernel {
            machine,
            cpus,
            epoch: Epoch::new(),
            processes: ids::ProcessIds::new(process_numbers),
            roots: Roots::new(),
            frames,
            rules: security::labels::Rules::new(),
            audit: AtomicLink::null(),
            told: security::records::Told::default(),
            pooled: [const { AtomicBool::new(false) }; MAX_ROOTS],
            graves: Lock::new(Graves::default()),
            spaces: Lock::new(()),
            #[cfg(feature = "dump")]
            standstill: smp::standstill::Standstill::new(),
        }
    }

    /// From now on the machine's log is told of grants, refusals and kills: [`Machine::tell`].
    pub fn log_events(&self) {
        self.told.add_log();
    }

    /// How many CPUs are up.
    pub fn cpu_count(&self) -> usize {
        self.cpus.len()
    }

    /// The block of a CPU; of the boot CPU where there is no such.
    pub fn block<'a>(&'a self, pin: Pin<'a>, cpu: CpuId) -> &'a CpuBlock {
        self.cpus.block(pin, cpu)
    }
}

/// One kernel entry on one CPU: two words, so that it travels in registers. Dereferences to what the CPU has
/// for itself.
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

    /// The inside of a context that is on this CPU.
    #[inline(always)]
    pub fn sc_hot(self, sc: Ref<'k, SchedContext>) -> Option<&'k SchedHot> {
        sc.get().hot.open(self.pin())
    }

    /// The inside of a task whose home is this CPU.
    #[inline(always)]
    pub fn task_hot(self, task: Ref<'k, Task>) -> Option<&'k TaskHot> {
        task.get().hot.open(self.pin())
    }

    /// The running context.
    #[inline(always)]
    pub fn running(self) -> Option<(Ref<'k, SchedContext>, &'k SchedHot)> {
        let sc = self.sched.current.get(self.pin())?;
        Some((sc, self.sc_hot(sc)?))
    }

    /// The system call will be made again: its arguments are still in the frame.
    pub fn rewind(self, hot: &TaskHot) {
        const SYSCALL_INSTRUCTION: u64 = 2;
        hot.regs.rip.set(hot.regs.rip.get() - SYSCALL_INSTRUCTION);
    }

    /// Refuses an operation on an object whose home is another CPU, and names that CPU. Restarts the operation if the
    /// object is under way to this CPU: its message is in the mailbox, or is just being sent.
    #[cold]
    pub fn elsewhere<T>(self, object: &Homed<T>) -> Refusal {
        match object.destination() {
            to if to == self.id() => Refusal::More,
            to => Refusal::new(Error::WrongCpu, to.index() as u64),
        }
    }

    /// A process is about to die: the machine ends with process 1. Looked at where a process is killed, where nobody
    /// handles a fault of it, and where its first task is killed; deleting does not end the process that deletes.
    #[cold]
    #[inline(never)]
    pub fn end_with_first(self, process: ProcessKey) {
        if process == ProcessKey::FIRST {
            self.k.machine.first_process_dies();
        }
    }

    /// Leads to the trace.
    #[inline(always)]
    pub fn trace(self) -> Trace<'k, M> {
        Trace::of(self)
    }

    /// The running task, opened.
    #[inline(always)]
    pub fn current(self) -> Option<Me<'k>> {
        let task = self.hot.current.get(self.pin())?;
        let hot = task.get().hot.open(self.pin())?;
        Some(Me { task, hot })
    }
}

/// The task that made the system call. Two words, which go in registers where a third would send all of it through
/// memory.
#[derive(Clone, Copy)]
pub struct Me<'k> {
    pub task: Ref<'k, Task>,
    pub hot: &'k TaskHot,
}

impl<'k> Me<'k> {
    /// Returns the process of the task.
    ///
    /// Requires: the task is configured, as each task is that runs or receives.
    #[inline(always)]
    pub fn process(self, pin: Pin<'k>) -> Ref<'k, Process> {
        match self.hot.process.get(pin) {
            Some(process) => process,
            None => no_process(),
        }
    }
}

#[cold]
#[inline(never)]
fn no_process() -> ! {
    panic!("a task that makes a system call or receives has no process");
}
