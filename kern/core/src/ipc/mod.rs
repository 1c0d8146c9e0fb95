//! Calls, replies and faults: the room [`Ipc`](crate::rooms::Ipc).

pub mod call;
pub mod ends;
pub mod fastpath;
pub mod faults;
pub mod receive;
pub mod reply;
pub mod ways;
