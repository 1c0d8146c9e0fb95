//! The ways into the kernel: the room [`Door`](crate::rooms::Door).

pub mod arrivals;
#[cfg(feature = "dump")]
pub(crate) mod dump;
pub mod entry;
pub mod requests;
pub mod syscall;
