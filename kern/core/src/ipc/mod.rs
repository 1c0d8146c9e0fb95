//! Messages of every kind, and what they carry: the room [`Ipc`](crate::rooms::Ipc).

pub mod across;
pub mod broadcast;
pub mod call;
pub mod carry;
pub mod events;
pub mod express;
pub mod faults;
pub mod grants;
pub mod loaded;
pub mod notify;
pub mod pages;
