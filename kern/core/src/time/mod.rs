//! Who runs, and on whose time: the room [`Time`](crate::rooms::Time).

pub mod lend;
pub mod schedule;
pub(crate) mod search;
