//! The doors between safe code and raw kernel memory.
//!
//! # What makes them sound
//! Kernel objects live in memory that user level donated ([`Region`]), so the borrow checker cannot
//! know how long they live. Four rules replace it. For each rule, *Types* says what the types
//! enforce in a crate that forbids unsafe code. *Rules* says what the types do not enforce:
//! `kern/core` must ensure it, and its tests check it.
//!
//! 1. **An object dies only after its links.** Reclaim first cuts every stored [`Link`], [`Ptr`]
//!    and [`ObjWord`] to an object, then waits until every CPU has left the kernel entries that may
//!    have loaded one ([`crate::quiesce`]), then gives the memory back. *Types:* a loaded
//!    [`Ref<'k, T>`] is bound to the entry `'k`, so it ends before that wait does; and no memory is
//!    given back without the wait. *Rules:* every link is cut before the wait begins, mail
//!    included; and a CPU uses nothing while it shows that it idles ([`crate::quiesce::go_idle`]).
//! 2. **Only the home CPU looks inside.** State that one CPU owns is wrapped in [`Homed`], which
//!    opens only to a [`Pin`] of that CPU. Everything else that CPUs share is an atomic, or behind
//!    a lock. *Types:* enforce all of it. The target of a stored reference is `Sync`, whichever CPU
//!    loads it; state that changes under a lock is inside the lock ([`crate::lock::Lock`]).
//! 3. **Memory is carved once.** A [`Region`] hands out disjoint pieces, and starts again only at
//!    the end of a quiet period that it began itself. *Types:* enforce all of it.
//! 4. **The sender lets go.** Once state is on its way to another CPU ([`Held::hand_to_with`],
//!    [`Held::leave_for`], a push of the node that carries it), the entry that sent it no longer
//!    uses what it opened before. *Types:* enforce it for a [`Held`], which is consumed. *Rules:*
//!    for other state that the entry has opened.
//!
//! In addition, the types enforce that a word gives its object only as the type as which it was
//! stored ([`KernelObject`]).
//!
//! The doors of `crate::host_test`, which only tests have, enforce none of this.
//!
//! # Memory ordering
//! [`ObjWord`] stores with `Release` and loads with `Acquire`: a CPU that sees the word also sees
//! the object's initial contents and the slot's other words. `Link` is a plain cell: it belongs to
//! its home CPU.

#[cfg(doc)]
use crate::cpu::Pin;

mod duty;
mod homed;
mod links;
pub mod masked;
mod object;
mod raw;
mod region;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;

pub use duty::Duty;
pub use homed::{HasHomed, Held, HeldOf, Homed, Opened, Sendable};
pub use links::{AtomicLink, Link, Ptr, Ref};
pub use object::{
    ADDR_SHIFT, Holds, KernelObject, Numbered, ObjWord, RIGHTS_BITS, RIGHTS_SHIFT, RawWord, TYPE_MASK,
    number_of,
};
pub use raw::{RawBytes, Vouched, Zeroed, is_zeroed};
pub use region::{Cleared, Piece, Region};
pub use table::Table;

/// Objects start on a cache line; the low bits of their addresses carry tags.
pub const OBJECT_ALIGN: usize = 64;
