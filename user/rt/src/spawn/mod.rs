//! Makes tasks and processes.
//!
//! Everything is made in a [`Nursery`]: an Untyped and a range of slots. If a process or a task has
//! a nursery of its own, it is easy to end: [`Nursery::reset`] takes back everything, whatever its
//! state.

mod nursery;
mod process;
mod task;

pub use nursery::{Many, Nursery};
pub(crate) use process::Step;
pub use process::{Child, GROUP_SLOTS, ProcessSpec, SpawnError, StartIn, process, unloaded};
pub use task::{Entry, Home, Run, Spawned, TaskSpec, end, task, task_on};

use crate::cap::{CNode, Handle, Machine, Process, SchedControl, Task, VSpace};
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

    /// Returns the capability of this process's first task.
    pub fn task() -> Task {
        Task::at(slot::TASK)
    }

    pub fn sched_control() -> SchedControl {
        SchedControl::at(slot::SCHED_CONTROL)
    }

    pub fn machine() -> Machine {
        Machine::at(slot::MACHINE)
    }
}
