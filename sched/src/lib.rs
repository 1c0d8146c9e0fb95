//! Scheduling mechanism: the ordered queues of each CPU, and the state of SchedContexts.
//!
//! * [`context`]: `ScState`, the state of a SchedContext: priority, slice, CPU time.
//! * [`run_queue`]: the ready SchedContexts of a CPU, with strict priorities and round robin within
//!   one.
//! * [`prio_list`]: waiters by priority and in order within one (queued senders).
//! * [`room`]: how much CPU time the contexts together may have that one authority has set.
//! * [`deadlines`]: the tasks that wait with a deadline, ordered by time.
//!
//! All queues are intrusive: the links are part of the queued object, so no queue allocates, and an
//! object can be removed wherever it is in the queue. A queue is generic over the object, through a
//! trait that gives access to the object's links; `kern/base` implements it.
//!
//! # Ownership
//! Queues are plain cells that only their own CPU writes (they are not `Sync`). That CPU is the
//! home of the objects in them. Code that moves an object to another CPU takes it out of the queue
//! first. All code here is safe: a wrong call may change the order of tasks or panic, but cannot
//! corrupt memory.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod context;
pub mod deadlines;
pub mod prio_list;
pub mod room;
pub mod run_queue;

pub use context::{Budget, ENDLESS, NEVER, ScState, Used};
pub use deadlines::{DeadlineLinks, DeadlineQueue, Deadlines, Expired, PRIORITIES, Timed};
pub use prio_list::{PrioLinks, PrioList, PrioQueued};
pub use room::{Room, Share, share_of};
pub use run_queue::{QueueLinks, Queued, RunQueue};
