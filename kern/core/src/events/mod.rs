//! Events, broadcasts and notifications: the room [`Events`](crate::rooms::Events).

pub mod broadcast;
pub mod loaded;
pub mod notify;
pub mod pools;
