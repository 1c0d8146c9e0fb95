//! State of a restarting system call on pages, in its fourth argument: the last shootdown that the
//! call has begun, and whether the call must only wait for that shootdown or has more work.
//!
//! A long call has several parts, and each may begin a shootdown. The call waits for its own last
//! one, never for those that other tasks begin on its CPU meanwhile. So the call ends, however many
//! shootdowns they begin. All its shootdowns are of one address space, and for an entry of that
//! space a later shootdown covers all earlier ones ([`super::stale`]).
//!
//! The argument belongs to the call, so it is saved and restored with the registers. User level can
//! write it. If a task forges a mark, its own call returns too early, which harms no other task.

use smp::shootdown::{STAMP_BITS, Stamp};

/// The argument is a mark.
const MARK: u64 = 1 << 63;
/// Work is left besides waiting.
const REST: u64 = 1 << 62;
/// Position of the argument's first bit 0.
const GIVEN_SHIFT: u32 = 61;
const FLAGS: u64 = MARK | REST | 1 << GIVEN_SHIFT;

/// The fourth argument: the caller's value, or a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(u64);

impl Mark {
    pub const fn new(argument: u64) -> Mark {
        Mark(argument)
    }

    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Returns whether the argument is a mark: the system call was restarted after it began a
    /// shootdown.
    pub const fn is_set(self) -> bool {
        self.0 & MARK != 0
    }

    /// Returns whether the restarted system call only has to wait for its shootdown.
    pub const fn only_waits(self) -> bool {
        self.0 & (MARK | REST) == MARK
    }

    /// Returns the value that the program passed as the system call's fourth argument. When the
    /// call was restarted after a shootdown, the kernel's mark stands in the argument's place, and
    /// only bit 0 of the program's value is kept.
    pub const fn given(self) -> u64 {
        if self.is_set() { self.0 >> GIVEN_SHIFT & 1 } else { self.0 }
    }

    /// Returns the last shootdown that the restarted system call has begun.
    pub fn stamp(self) -> Option<Stamp> {
        if self.is_set() { Stamp::from_raw(self.0 & !FLAGS) } else { None }
    }

    /// Returns the mark of a system call that has begun a shootdown, and has more to do.
    #[must_use]
    pub const fn with_rest(self, stamp: Stamp) -> Mark {
        Mark(MARK | REST | (self.given() & 1) << GIVEN_SHIFT | stamp.raw())
    }

    /// Returns the mark of a system call that only waits for a shootdown.
    pub const fn waiting(stamp: Stamp) -> Mark {
        Mark(MARK | stamp.raw())
    }
}

const _: () = assert!(STAMP_BITS <= GIVEN_SHIFT);
