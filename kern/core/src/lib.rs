//! The kernel proper: capabilities, objects, IPC, scheduling, reclaim. Safe code, generic over the
//! [`Machine`], so that all of it runs under `cargo test` on the host.
//!
//! # Shape
//! Every entry gets a [`Cx`]: the kernel, the proof of being on one CPU, and that CPU's own state.
//! A system call is decoded without changing anything, then carried out without failing; it answers
//! by writing the caller's register frame. Entries never wait: what must wait for another CPU or a
//! grace period parks the task and starts the system call again later ([`Refusal::Restart`]).
//!
//! # Modules
//! [`sched`](schedule): who runs. [`time`]: on whose CPU time, and `search`: how time is looked for. [`ipc`]: call, reply,
//! receive, forward. [`notify`]: Notifications. `migration`: how a task gets to its CPU.
//! [`membership`]: who is in which groups. [`events`], [`loaded`] and [`broadcast`]: messages into pools.
//! [`caps`]: slots and the derivation tree. [`make`]: retype. [`reclaim`]: delete, revoke, reset; `begun`: of what they began
//! with, and of nothing else; [`grace`]: until nothing uses what they took away.
//! [`at_once`]: the common of these in few steps. [`growth`]: CSpaces of several tables. [`holdings`]: who holds what.
//! [`labels`]: what may be held. [`audit`]: who did what. [`kill`]: how processes end by force. [`groups`], [`tasks`],
//! [`spaces`]: operations on those objects. [`carry`]: what messages carry, [`pages`] and [`grants`].
//! [`faults`]: faults as calls. [`mail`]: what is sent to other CPUs, [`across`]: calls to them, [`arrivals`]: what comes from
//! them, [`express`]: the common of that in few steps.
//! [`syscall`]: the table. [`trace`]: events of tracing builds. `dump`, in test builds: all of the kernel's state as text.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod across;
pub mod answer;
pub mod arrivals;
pub mod at_once;
pub mod audit;
mod begun;
pub mod broadcast;
pub mod caps;
pub mod carry;
pub mod control;
pub mod devices;
#[cfg(feature = "dump")]
mod dump;
pub mod entry;
pub mod events;
pub mod express;
mod faults;
pub mod forget;
pub mod found;
pub mod grace;
pub mod grants;
pub mod graves;
pub mod groups;
pub mod growth;
pub mod holdings;
pub mod ids;
pub mod ipc;
pub mod kill;
mod killed;
pub mod labels;
pub mod loaded;
pub mod mail;
pub mod make;
pub mod membership;
mod migration;
pub mod notify;
pub mod pages;
pub mod reclaim;
pub mod requests;
pub mod schedule;
mod search;
pub mod spaces;
pub mod survey;
pub mod syscall;
pub mod tasks;
pub mod time;
pub mod trace;
pub mod vector;

use core::ops::Deref;
use smp::lock::Lock;
use smp::sync::AtomicBool;

use abi::Counter;
use kern_base::audit::Audit;
use kern_base::cpu::{CpuBlock, CpuBlocks, CpuHere, CpuOwn};
use kern_base::frames::FrameTable;
use kern_base::machine::Machine;
use kern_base::process::Process;
use kern_base::roots::Roots;
use kern_base::task::{Task, TaskHot};
use smp::cpu::{CpuId, Pin};
use smp::door::{AtomicLink, Ref, Table};
use smp::quiesce::Epoch;

pub use answer::{Answer, Refusal, Result};
pub use graves::Graves;
pub use kern_base::objects::MachineObject;
pub use kern_base::roots::{MAX_ROOTS, Root};

/// The kernel: what all CPUs share.
pub struct Kernel<M: Machine> {
    pub machine: M,
    pub cpus: CpuBlocks,
    pub epoch: Epoch,
    pub processes: ids::ProcessIds,
    /// One derivation tree a root, with its lock.
    pub roots: Roots,
    pub frames: FrameTable,
    pub rules: labels::Rules,
    /// Where grants, refusals and kills are recorded, if they are.
    pub audit: AtomicLink<Audit>,
    /// Whether they are, or the log wants to know of them.
    pub told: audit::Told,
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
            rules: labels::Rules::new(),
            audit: AtomicLink::null(),
            told: audit::Told::default(),
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

    /// The running task, opened.
    #[inline(always)]
    pub fn current(self) -> Option<Me<'k>> {
        let task = self.hot.current.get(self.pin())?;
        let hot = task.get().hot.open(self.pin())?;
        Some(Me { task, hot, process: hot.process.get(self.pin())? })
    }
}

/// The task that made the system call.
#[derive(Clone, Copy)]
pub struct Me<'k> {
    pub task: Ref<'k, Task>,
    pub hot: &'k TaskHot,
    pub process: Ref<'k, Process>,
}
