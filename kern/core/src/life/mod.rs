//! Objects end: the room [`Life`](crate::rooms::Life).

pub mod control;
pub mod followers;
pub mod kill;
pub(crate) mod killed;
pub(crate) mod migration;
pub mod reclaim;
pub(crate) mod relabel;
mod remove;
mod reset;
pub mod stop;
pub mod zombies;
