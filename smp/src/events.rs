//! The order in which events enter a pool, from any CPU, without a lock.
//!
//! # Protocol
//! Positions count cells and never wrap. A sender **reserves** cells by advancing `reserved`, if
//! the reader's head leaves room, and writes the cells. It **publishes** the event by a stamp on
//! the first cell, which names the round of the ring; only the kernel can write stamps. After a
//! full fence it checks whether the reader wants a wake-up. So readers see only complete events, in
//! the order of reservation. A reader that arms the pool, executes a fence and looks again misses
//! no event.
//!
//! **Full.** The home CPU of the pool's reader queues senders that found no room. While senders
//! wait the ring is *closed*: the bit in `reserved` makes every other reservation fail, so no
//! sender overtakes them. The CPU that closes the ring shows the reader that a sender waits,
//! executes a fence, and looks at the head again. The reader moves its head, executes a fence, and
//! checks whether a sender waits. One of the two sees the other. Only the reader's home CPU opens
//! and closes the ring.
//!
//! # What the reader writes
//! The kernel accepts only a head between the position at which nothing is read and the position at
//! which everything is read. A reader that writes a false head loses its own events.

use crate::sync::{AtomicU64, Ordering, fence_after_exchange};

/// In `reserved`: senders wait, and no other sender may reserve. The sign, for assembly.
pub const CLOSED: u64 = 1 << 63;

/// The pages that the pool's process sees.
pub trait Shown {
    /// Returns the number of cells in the pool.
    fn cells(&self) -> u64;
    /// Returns the position up to which the reader has read (`Acquire`).
    fn head(&self) -> u64;
    /// Puts the stamp on the first cell of the event at `position`, by an atomic exchange:
    /// a CPU that sees it sees everything written before.
    fn stamp(&self, position: u64);
    /// Returns whether the reader waits to be notified, and clears that wish.
    fn disarm(&self) -> bool;
    /// Says in the pool's memory whether senders wait, by an atomic exchange.
    fn show_waiting(&self, waiting: bool);
}

/// There is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The sender that reserves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Anybody: not while others wait.
    Any,
    /// The first waiting sender.
    Waiting,
}

/// How far cells are given to senders.
#[derive(Default, Debug)]
#[repr(transparent)]
pub struct Reserved(AtomicU64);

impl Reserved {
    /// Takes cells for an event. Returns the position of the first one.
    #[inline(always)]
    pub fn reserve(&self, shown: &impl Shown, cells: u64, turn: Turn) -> Result<u64, Full> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if !Self::fits(word, shown, cells, turn) {
                return Err(Full);
            }
            match self.0.compare_exchange(word, word + cells, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(word & !CLOSED),
                Err(now) => word = now,
            }
        }
    }

    /// Returns whether the pool has room for `cells` more cells now.
    pub fn has_room(&self, shown: &impl Shown, cells: u64, turn: Turn) -> bool {
        Self::fits(self.0.load(Ordering::Relaxed), shown, cells, turn)
    }

    /// Returns whether the pool has room for `cells` more cells; `word` says how many were given to
    /// senders.
    #[inline(always)]
    fn fits(word: u64, shown: &impl Shown, cells: u64, turn: Turn) -> bool {
        if word & CLOSED != 0 && turn == Turn::Any {
            return false;
        }
        // A head ahead of all that is there makes a huge number.
        let used = (word & !CLOSED).wrapping_sub(shown.head());
        used <= shown.cells() && shown.cells() - used >= cells
    }

    /// Publishes the event at a position, whose cells are written. Returns whether the reader must
    /// be notified.
    #[inline(always)]
    pub fn publish(&self, shown: &impl Shown, position: u64) -> bool {
        shown.stamp(position);
        fence_after_exchange();
        shown.disarm()
    }

    /// Closes the pool because a sender waits. There may be room by now: the sender must try once
    /// more.
    pub fn close(&self, shown: &impl Shown) {
        self.0.fetch_or(CLOSED, Ordering::AcqRel);
        shown.show_waiting(true);
        fence_after_exchange();
    }

    /// Opens the pool, because no sender waits.
    pub fn open(&self, shown: &impl Shown) {
        shown.show_waiting(false);
        self.0.fetch_and(!CLOSED, Ordering::AcqRel);
    }

    /// Returns the position up to which cells are given to senders.
    pub fn position(&self) -> u64 {
        self.0.load(Ordering::Relaxed) & !CLOSED
    }

    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed) & CLOSED != 0
    }
}
