//! Capabilities in messages: what is sent, where such may arrive, what became of each.
//!
//! ```text
//! utcb::current().send_grants(&[copied(&note, Rights::NOTIFY, 0)]);
//! exposure.call(&message.with_caps())?;                    // the receiver has a copy now, if it listens
//! ```
//! A receiver offers slots before it receives ([`listen`](crate::utcb::Current::listen)), and finds in
//! [`received`](crate::utcb::Current::received) what came with a message ([`Message::caps`](crate::ipc::Message::caps)).

use abi::{Cap, Grant, Listening};

use crate::cap::Handle;

/// A copy with these rights, of a capability that has GRANT.
pub fn copied<T: Handle>(handle: &T, rights: impl Into<T::Rights>, badge: u64) -> Grant {
    Grant::Copy { cap: handle.cap(), rights: rights.into().into(), badge }
}

/// The capability itself: nothing is left in its slot, wherever it comes to be.
pub fn moved<T: Handle>(handle: T) -> Grant {
    Grant::Move { cap: handle.cap() }
}

/// So many slots from this one on.
pub const fn offer(next: Cap, count: u32) -> Listening {
    Listening { next, count }
}
