//! The doors between safe code and raw kernel memory.
//!
//! # What makes them sound
//! Kernel objects live in memory that user level donated ([`Region`]), so the borrow checker cannot know how long they
//! live. Four rules take its place. For each: what the types hold in a crate that forbids unsafe code, and what only
//! `kern/core` holds, checked by its tests.
//!
//! 1. **An object dies only after its links.** Reclaim first cuts every stored [`Link`], [`Ptr`] and [`ObjWord`] to an
//!    object, then waits until every CPU has left the kernel entries that may have loaded one ([`crate::quiesce`]), then
//!    hands the memory back.
//!    *Types:* a loaded [`Ref<'k, T>`] is bound to the entry `'k`, so it ends before that wait does; and no memory is
//!    handed back without the wait. *Rules:* that every link is cut before the wait begins, mail included; and that a CPU
//!    uses nothing while it says that it is parked ([`crate::quiesce::park`]).
//! 2. **Only the home CPU looks inside.** State that one CPU owns is wrapped in [`Homed`], which opens only to a [`Pin`] of
//!    that CPU. Everything else that CPUs share is an atomic, or behind a lock.
//!    *Types:* all of it. What a stored reference leads to is `Sync`, whichever CPU loads it; what changes under a lock is
//!    inside the lock ([`crate::lock::Lock`]), or opens with its guard alone ([`crate::lock::Guarded`]).
//! 3. **Memory is carved once.** A [`Region`] hands out disjoint pieces, and starts again only at the end of a quiet period
//!    that it began itself.
//!    *Types:* all of it.
//! 4. **Who sends lets go.** Once state is on its way to another CPU ([`Homed::set_home`], [`Held::leave_for`], a push of
//!    the node that carries it), the entry that sent it no longer uses what it opened before.
//!    *Types:* of a [`Held`], which is used up. *Rules:* of what was opened beside it.
//!
//! A word gives its object as the type that it was stored as ([`KernelObject`]): types hold that, too.
//!
//! The doors of `crate::host_test`, which only tests have, hold none of this.
//!
//! # Memory ordering
//! [`ObjWord`] stores with `Release` and loads with `Acquire`: who sees the word sees the object's
//! initial contents and the slot's other words. `Link` is a plain cell: it belongs to its home CPU.

#[cfg(doc)]
use crate::cpu::Pin;

mod homed;
mod links;
pub mod masked;
mod object;
mod raw;
mod region;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

pub use homed::{Held, Homed};
pub use links::{AtomicLink, Link, Ptr, Ref};
pub use object::{
    ADDR_SHIFT, Holds, KernelObject, Numbered, ObjWord, RIGHTS_BITS, RIGHTS_SHIFT, RawWord, TYPE_MASK,
};
pub use raw::{RawBytes, Vouched, Zeroed};
pub use region::{Piece, Region};
pub use table::Table;

/// Objects start on a cache line; the low bits of their addresses carry tags.
pub const OBJECT_ALIGN: usize = 64;
