//! Scheduling mechanism: what each CPU keeps in order, and the right to its time.
//!
//! * [`context`]: `ScState`, the state of a SchedContext: priority, slice, CPU time.
//! * [`run_queue`]: the SchedContexts that want this CPU, strict priorities, round robin within
//!   one.
//! * [`prio_list`]: waiters by priority and in order within one (queued senders).
//! * [`deadlines`]: the tasks to wake by deadline, soonest first.
//!
//! All queues are intrusive: the links are part of the queued object, so nothing is ever allocated
//! and an object is taken out in place. A queue is generic over the object through a trait that
//! shows the object's links; `kern/base` implements it.
//!
//! # Ownership
//! Queues are plain cells that only their own CPU writes (they are not `Sync`). That CPU is the
//! home of the objects in them. Code that moves an object to another CPU takes it out of the queue
//! first. Everything here is safe code: a wrong call may lose a turn or panic, never more.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod context;
pub mod deadlines;
pub mod prio_list;
pub mod run_queue;

pub use context::{ENDLESS, NEVER, ScState};
pub use deadlines::{DeadlineLinks, DeadlineQueue, Timed};
pub use prio_list::{PrioLinks, PrioList, PrioQueued};
pub use run_queue::{QueueLinks, Queued, RunQueue};
