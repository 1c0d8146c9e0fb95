//! Locks that processes share: the word of a lock.
//!
//! A lock is a word of a Frame that several processes map. The tasks that may take it are exposed
//! in a group, which its users call it by. The word says who has the lock:
//!
//! ```text
//!  63                           13 12              1   0
//! +-------------------------------+-----------------+-----+
//! | the owner's id, its low bits  | exposure's index|waits|
//! +-------------------------------+-----------------+-----+
//! ```
//! 0: nobody has it. A task takes a free lock by an exchange of 0 for its own word, and gives it
//! back by an exchange of that word for 0. A task that finds the word of another one sets the bit
//! *waits* and calls [`LockWait`](crate::Op::LockWait). An owner that finds the bit set in its own
//! word calls [`LockPass`](crate::Op::LockPass) after it has given the lock back.

use crate::TaskId;

/// Bits of an exposure's index in a lock's word.
pub const LOCK_INDEX_BITS: u32 = 12;

/// Where the owner's id begins.
const ID_SHIFT: u32 = LOCK_INDEX_BITS + 1;

/// The word of a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct LockWord(pub u64);

impl LockWord {
    /// Nobody has the lock.
    pub const FREE: LockWord = LockWord(0);

    /// The bit that says that somebody waits.
    pub const WAITS: u64 = 1;

    /// Returns the word of a lock that a task has for which nobody waits. The task is exposed at
    /// `index` of the lock's group, below 2^[`LOCK_INDEX_BITS`]; other bits of the index are lost.
    pub const fn of(id: TaskId, index: u32) -> LockWord {
        LockWord(id.raw() << ID_SHIFT | (index as u64 & ((1 << LOCK_INDEX_BITS) - 1)) << 1)
    }

    /// Returns whether nobody has the lock.
    pub const fn is_free(self) -> bool {
        self.0 == 0
    }

    /// Returns whether somebody waits.
    pub const fn waits(self) -> bool {
        self.0 & Self::WAITS != 0
    }

    /// Returns the word with the bit that says that somebody waits.
    pub const fn with_waits(self) -> LockWord {
        LockWord(self.0 | Self::WAITS)
    }

    /// Returns the index at which the owner is exposed.
    pub const fn index(self) -> u32 {
        (self.0 >> 1) as u32 & ((1 << LOCK_INDEX_BITS) - 1)
    }

    /// Returns whether the word names the task with this id, at whatever index. The word has 51
    /// bits of the id: with a million new tasks in each second, they repeat after 71 years.
    pub const fn names(self, id: TaskId) -> bool {
        self.0 >> ID_SHIFT == id.raw() << ID_SHIFT >> ID_SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_names_its_owner_and_no_other_task() {
        let (id, other) = (TaskId::from_raw(0x7_ffff_ffff_fffe), TaskId::from_raw(5));
        let word = LockWord::of(id, 4095);
        assert_eq!((word.index(), word.waits(), word.is_free()), (4095, false, false));
        assert!(word.names(id) && word.with_waits().names(id) && !word.names(other));
        assert!(word.with_waits().waits() && word.with_waits() != word);
        assert_eq!(LockWord::of(other, 4096 + 3).index(), 3);
        assert!(LockWord::FREE.is_free() && !LockWord::FREE.names(other));
    }
}
