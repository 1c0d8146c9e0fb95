//! Making tasks and processes.
//!
//! Everything is made in a [`Nursery`]: an Untyped and a range of slots. Giving a process or a task
//! a nursery of its own makes its end simple: [`Nursery::reset`] takes it all back, whatever state
//! it is in.

mod nursery;
mod process;
mod task;

pub use nursery::{Many, Nursery};
pub(crate) use process::Step;
pub use process::{Child, GROUP_SLOTS, ProcessSpec, SpawnError, StartIn, process, unloaded};
pub use task::{Entry, Home, Run, Spawned, TaskSpec, end, task, task_on};

use crate::cap::{CNode, Handle, Machine, Process, Task, VSpace};
use crate::layout::slot;

/// The process's own capabilities, at their well-known slots.
pub mod own {
    use super::*;

    pub fn cnode() -> CNode {
        CNode::at(slot::CNODE)
    }

    pub fn vspace() -> VSpace {
        VSpace::at(slot::VSPACE)
    }

    pub fn process() -> Process {
        Process::at(slot::PROCESS)
    }

    /// Returns the first task.
    pub fn task() -> Task {
        Task::at(slot::TASK)
    }

    pub fn machine() -> Machine {
        Machine::at(slot::MACHINE)
    }
}
