//! The pager's policy, without a machine: which client has which memory, where its contents are,
//! and what a fault needs. The process around it is `main.rs`. The book's chapter on the pager
//! explains the whole.
//!
//! # The data
//! ```text
//!   client ── region ──▶ object ── entry ──▶ page ──▶ frame, or a copy in the store, or in a file
//!                          ▲                   ▲
//!          a view is another region of it      a clone is another object with the same pages
//! ```
//! A *page* is contents. It has a frame, or a copy elsewhere, or both; never neither. An entry
//! without a page stands for what the object's *backing* has there.
//!
//! # What always holds ([`Pager::audit`])
//! - A page is mapped writable only if one entry has it and there is no copy of it: so a copy is
//!   never out of date, and a writer writes only for itself and its views.
//! - Every mapping is known by its page, as a *place*. A frame is used for something else only
//!   after the machine has confirmed for each of its places that no CPU sees it there any more.
//! - A frame in use is *charged* to the client that brought it in and to all accounts that its own
//!   is a part of ([`tree`]), and no account is charged more than its limit. Frames of clients that
//!   have gone, and that others still use, are charged to no account and are evicted first.
//! - A pinned page has a frame. Each client that has pinned it pays one frame for that
//!   ([`charges`]).
//! - A region whose pages cannot be unmapped stays, with all that leads to them.
//!
//! # Memory of its own
//! What a client can make the pager remember is bounded by its limits ([`heap`]), and
//! [`Pager::register`] refuses limits that would not fit. So the pager cannot be made to run out of
//! memory itself.
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
pub const FRAMES_MIN: u32 = 4;
