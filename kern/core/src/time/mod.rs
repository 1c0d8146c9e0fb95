//! The scheduler, and the donation of CPU time: the room [`Time`](crate::rooms::Time).

pub mod account;
pub mod accounts;
pub mod budget;
pub mod leave;
pub mod lend;
pub mod schedule;
pub(crate) mod search;
pub mod watch;
