//! What a system call on pages keeps in its fourth argument while it starts again: which shootdown it has begun last, and
//! whether it has more to do than to wait for that.
//!
//! A long call has several parts, and each may begin a shootdown. The call waits for its own last one, never for what others
//! begin on its CPU meanwhile: so it ends however busy they are. All its shootdowns are of one address space, and of an
//! entry of that a later shootdown covers all earlier ones ([`super::stale`]).
//!
//! The argument belongs to the call, so it goes with the registers wherever these are taken. User level can write it; who makes up a mark is answered too soon, which harms nobody else.

use smp::shootdown::{STAMP_BITS, Stamp};

/// The argument is a mark.
const MARK: u64 = 1 << 63;
/// Something is left to do besides waiting.
const REST: u64 = 1 << 62;
/// What bit 0 of the argument was at first.
const GIVEN_SHIFT: u32 = 61;
const FLAGS: u64 = MARK | REST | 1 << GIVEN_SHIFT;

/// The fourth argument: as the caller gave it, or a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(u64);

impl Mark {
    pub const fn new(argument: u64) -> Mark {
        Mark(argument)
    }

    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Whether the call has begun a shootdown, and starts again.
    pub const fn is_set(self) -> bool {
        self.0 & MARK != 0
    }

    /// Whether nothing is left to do but to wait.
    pub const fn only_waits(self) -> bool {
        self.0 & (MARK | REST) == MARK
    }

    /// What the caller gave; in a mark, bit 0 of that.
    pub const fn given(self) -> u64 {
        if self.is_set() { self.0 >> GIVEN_SHIFT & 1 } else { self.0 }
    }

    /// The shootdown that the call has begun last.
    pub fn stamp(self) -> Option<Stamp> {
        if self.is_set() { Stamp::from_raw(self.0 & !FLAGS) } else { None }
    }

    /// The mark of a call that has begun a shootdown, and has more to do.
    #[must_use]
    pub const fn with_rest(self, stamp: Stamp) -> Mark {
        Mark(MARK | REST | (self.given() & 1) << GIVEN_SHIFT | stamp.raw())
    }

    /// The mark of a call that waits for a shootdown, and has nothing else to do.
    pub const fn waiting(stamp: Stamp) -> Mark {
        Mark(MARK | stamp.raw())
    }
}

const _: () = assert!(STAMP_BITS <= GIVEN_SHIFT);
