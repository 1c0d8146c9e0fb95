//! The ways into the kernel: the room [`Door`](crate::rooms::Door).

pub mod arrivals;
pub mod deadlines;
pub mod device;
pub mod entry;
mod listener;
mod look;
mod order;
pub mod requests;
pub mod syscall;
pub mod timer;
pub mod wake;
pub mod yielding;
