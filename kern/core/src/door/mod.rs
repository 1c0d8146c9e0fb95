//! The ways into the kernel: the room [`Door`](crate::rooms::Door).

pub mod arrivals;
pub mod entry;
pub mod requests;
pub mod syscall;
