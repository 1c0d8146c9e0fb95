//! An executable model of what the kernel does, but not how: capabilities, groups, messages, memory
//! accounting and reclaim, as plain data.
//!
//! [`Model::step`] is one system call of one task, from its argument registers to the registers of
//! all tasks that it affects. The kernel's own locks, concurrent CPUs, grace periods and restarts
//! are left out: a step is indivisible. The model describes CPUs only as far as programs see them:
//! an operation on an object with a home answers [`WrongCpu`](abi::Error::WrongCpu) on other CPUs,
//! and an exposure can have a task for each CPU.
//!
//! # Reading it
//! [`object`]: the objects. [`caps`]: slots, rights, the derivation tree. [`memory`]: Retype,
//! byte by byte.
//! [`reclaim`]: delete, revoke, reset. [`groups`]: members and exposures. [`tasks`]: processes,
//! tasks, CPU time. [`accounts`]: room for budgets. [`ipc`] and [`notify`]: messages and bits.
//! [`locks`]: locks that processes share. [`spaces`]: mappings. [`devices`]: interrupts and ports.
//! [`step`]: the table of operations.
//!
//! # Adding an operation
//! A function `fn operation(&mut self, me: Id, args: &Args) -> Result` beside similar ones, which
//! first checks everything and then makes its changes; a line in [`step`]'s table.
//!
//! # What it leaves open
//! It does not say which task runs: any ready task may make the next step. It does not say which
//! numbers new tasks and processes get, only that no identity is given twice ([`Model::named`]).
//! Results such as used time and counters may have any value ([`Regs::free`]).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod accounts;
pub mod caps;
pub mod detours;
pub mod devices;
pub mod events;
pub mod groups;
pub mod growth;
pub mod ipc;
pub mod labels;
pub mod linear;
pub mod locks;
pub mod memory;
pub mod notify;
pub mod object;
pub mod parts;
pub mod reclaim;
pub mod spaces;
pub mod step;
pub mod tasks;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use abi::{Error, TaskId};

pub use caps::{Capability, Place};
pub use object::{Id, Kind, Object, Sizes};
pub use step::{Args, Regs};

/// The whole system.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Every object that was ever made; an [`Id`] is its place here. None is ever taken out.
    pub objects: Vec<Object>,
    /// The capabilities: what is in every full slot.
    pub slots: BTreeMap<Place, Capability>,
    /// CNodes without capability that are not empty yet, because a slot of theirs keeps what can't
    /// end now. Last first.
    pub zombies: Vec<Id>,
    pub sizes: Sizes,
    pub cpus: usize,
    /// What subjects of a label may not do with objects of another.
    pub rules: BTreeMap<(u32, u32), u8>,
    pub limits: Limits,
    /// The time in ticks: it passes only when somebody says so.
    pub now: u64,
    /// Every identity that a task ever had.
    pub ids_given: Vec<TaskId>,
    /// The pools that CPUs report to.
    pub watch: BTreeMap<usize, Id>,
    /// The CPUs that are parked.
    pub parked: BTreeSet<usize>,
    /// The room of each account of CPU time that was ever opened, in ten-thousandths of a CPU. What
    /// is used of it is the sum of the shares of all SchedContexts.
    pub accounts: Vec<u64>,
}

/// Bounds of the kernel that programs see, in one way or another, although `abi` does not say them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Slots of a CSpace that one listing looks at.
    pub slots_listed: u32,
    /// Accounts of CPU time.
    pub accounts: usize,
    /// Interrupt lines of the machine.
    pub lines: u64,
    /// The I/O ports that the kernel uses itself.
    pub ports: core::ops::Range<u64>,
    /// Locks that a wait follows; a longer chain counts as a cycle.
    pub lock_chain: u64,
}

impl Default for Limits {
    /// Returns the limits of a kernel that is not built for tests.
    fn default() -> Limits {
        Limits { slots_listed: 256, accounts: 256, lines: 24, ports: 0x70..0x72, lock_chain: 64 }
    }
}

/// Why an operation was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub error: Error,
    /// `None`: it means nothing.
    pub detail: Option<u64>,
    /// Whom it is about.
    pub who: TaskId,
}

impl Refusal {
    pub const fn new(error: Error, detail: u64) -> Refusal {
        Refusal { error, detail: Some(detail), who: TaskId::NONE }
    }

    /// Returns the refusal for an argument out of range, by its position.
    pub fn argument(position: u64) -> Refusal {
        Refusal::new(Error::BadArgument, position)
    }

    pub fn dead(who: TaskId) -> Refusal {
        Refusal { error: Error::Dead, detail: Some(0), who }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::new(error, 0)
    }
}

/// What a step answers: up to four values, or nothing, since registers are written or the task
/// waits.
pub type Result<T = Answer> = core::result::Result<T, Refusal>;

/// How a step ended that was not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Values([u64; 4]),
    /// Values of which some, a bit each, are not the model's to say.
    Free([u64; 4], u8),
    /// The caller's registers are written, or it waits.
    Settled,
}

impl Answer {
    pub const DONE: Answer = Answer::Values([0; 4]);

    pub fn one(value: u64) -> Answer {
        Answer::Values([value, 0, 0, 0])
    }
}
