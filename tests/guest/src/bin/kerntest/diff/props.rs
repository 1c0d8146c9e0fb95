//! The CSpace of every player's process: equal objects in equal slots.

use abi::Cap;
use user_rt::layout::slot;

use crate::lab::CHILD_FREE;

/// Several objects of a type in consecutive slots, then one capability with fewer rights.
#[derive(Clone, Copy)]
pub struct Set {
    first: u32,
    pub count: u32,
}

impl Set {
    const fn after(before: Set, count: u32) -> Set {
        Set { first: before.first + before.count + 1, count }
    }

    pub const fn nth(self, index: u32) -> Cap {
        Cap(self.first + index)
    }

    /// Returns a capability of the first object with fewer rights.
    pub const fn weak(self) -> Cap {
        Cap(self.first + self.count)
    }
}

/// The two groups. The process is a full member of the first one; in the second one each process
/// has other rights. Weak: without STRING.
pub const GROUPS: Set = Set { first: CHILD_FREE, count: 2 };
/// Notifications that are bound to no task. Weak: LISTEN alone.
pub const NOTES: Set = Set::after(GROUPS, 6);
/// Notifications that are each bound to a task. Weak: NOTIFY alone.
pub const BOUND: Set = Set::after(NOTES, 3);
/// Replies. Weak: no right.
pub const REPLIES: Set = Set::after(BOUND, 4);
/// The players' tasks. Weak: no right.
pub const TASKS: Set = Set::after(REPLIES, super::board::PLAYERS as u32);
/// The players' SchedContexts, without the fixer's: empty for a player without one. Weak: OBSERVE
/// alone.
pub const TIMES: Set = Set::after(TASKS, super::board::PLAYERS as u32 - 1);
/// Empty at first. Weak: receives a membership with fewer rights, if one is given.
pub const SPARE: Set = Set::after(TIMES, 6);
/// Event pools. Weak: no right.
pub const POOLS: Set = Set::after(SPARE, 3);
/// The director's Notification, for the fixer. No random choice reaches it.
pub const DONE: Cap = Cap(500);
/// Outside of every CSpace.
pub const OUTSIDE: Cap = Cap(100_000);

const _: () = assert!(POOLS.weak().0 < DONE.0 && DONE.0 < crate::lab::CHILD_SLOTS);

/// The own CNode.
pub const CNODE: Cap = slot::CNODE;
