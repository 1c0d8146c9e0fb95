//! What a scheduling policy decides, independent of the machine, and what its managers ask of it.
//! The process around it is `main.rs`. The book's chapter on CPU time explains how it works.
//!
//! A *manager* is a process that makes tasks, and wants the policy to place them. It gives the
//! policy the capabilities of each task and of its SchedContext, and calls it with an [`orders`]
//! word. The policy has a SchedControl, and can give no task more than that allows.
//!
//! - [`deadlines`]: earliest deadline first, with admission control.
//! - [`balance`]: tasks go from CPUs where many wait to CPUs where few do.
//! - [`cpus`]: which CPUs take tasks.
//! - Static: a task stays on the CPU on which its number puts it. There is nothing to decide.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod balance;
pub mod cpus;
pub mod deadlines;
pub mod orders;

/// Most CPUs that a policy manages.
pub const CPUS_MAX: usize = 64;
/// Most tasks that a policy manages.
pub const TASKS_MAX: usize = 128;
