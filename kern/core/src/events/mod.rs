//! Events, broadcasts and notifications: the room [`Events`](crate::rooms::Events).

pub mod binding;
pub mod broadcast;
pub mod interrupts;
pub mod locks;
pub mod notify;
pub mod payloads;
pub mod pools;
