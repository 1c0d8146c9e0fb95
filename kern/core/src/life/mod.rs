//! Objects are made, and end: the room [`Life`](crate::rooms::Life).

pub mod at_once;
pub mod control;
pub mod devices;
pub mod grace;
pub mod graves;
pub mod groups;
pub mod kill;
pub(crate) mod killed;
pub mod make;
pub mod membership;
pub(crate) mod migration;
pub mod reclaim;
pub(crate) mod relabel;
pub mod stop;
pub mod tasks;
pub mod vector;
