//! Calls, replies and faults: the room [`Ipc`](crate::rooms::Ipc).

pub mod across;
pub mod call;
pub mod fastpath;
pub mod faults;
pub mod receive;
pub mod reply;
