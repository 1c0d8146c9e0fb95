//! Capabilities, their slots and tables: the room [`Caps`](crate::rooms::Caps).

pub mod ahead;
pub mod growth;
pub mod holdings;
pub mod slots;
mod watch;
