//! The pager's policy, independent of the machine: which client has which memory, where its
//! contents are, and how a fault is served. The process around it is `main.rs`. The book's chapter
//! on the pager explains the whole.
//!
//! # The data
//! ```text
//!   client ── region ──▶ object ── entry ──▶ page ──▶ frame, or a copy in the store, or in a file
//!                          ▲                   ▲
//!          a view is another region of it      a clone is another object with the same pages
//! ```
//! A *page* is contents. It has a frame, or a copy elsewhere, or both, but always at least one of
//! them. An entry without a page stands for the contents of the object's *backing* at that place.
//!
//! # Invariants ([`Pager::audit`])
//! - A page is mapped writable only if one entry has it and there is no copy of it. So a copy is
//!   never out of date, and a write changes only the writer's region and its views.
//! - Each page has the list of its mappings, its *places*. A frame is reused only after the machine
//!   has confirmed for each place that no CPU has a translation any more.
//! - A frame in use is *charged* to the client that brought it in, and to all accounts of which the
//!   client's account is a part ([`tree`]), and no account is charged more than its limit. Frames
//!   of clients that have gone, and that others still use, are charged to no account and are
//!   evicted first.
//! - A pinned page has a frame. Each client that has pinned it pays one frame for that
//!   ([`charges`]).
//! - A region whose pages cannot be unmapped stays, with all records of these pages.
//!
//! # The pager's own memory
//! The records that the pager keeps for a client are bounded by the client's limits ([`heap`]), and
//! [`Pager::register`] refuses limits that would not fit. So clients cannot make the pager run out
//! of memory.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod audit;
mod charges;
mod clients;
mod evict;
mod faults;
mod gone;
mod heap;
mod machine;
mod regions;
mod seal;
mod slab;
mod state;
#[cfg(test)]
mod tests;
mod tree;

pub use machine::{At, Bytes, FrameId, Machine, Stored};
pub use seal::{Seal, Sealer};
pub use state::Pager;

/// The holder of an account: the custom bits of its member record.
pub type Client = u16;

/// Frames that an account needs for an instruction that touches two pages while a third is copied.
pub const FRAMES_MIN: u32 = protocols::clients::FRAMES_MIN;
