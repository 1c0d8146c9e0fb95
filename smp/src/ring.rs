//! Rings of fixed-size events: one writer, which never waits, and readers at any time.
//!
//! The writer is one CPU with interrupts off; it overwrites the oldest event once the ring is full.
//! A reader on another CPU, or a later reader, gets each event whole and once, in order, and learns
//! how many events were overwritten before it read them.
//!
//! # Memory ordering
//! Event number `n` is at place `n % places`. The writer stores `n`'s words and then publishes
//! `head = n + 1` with `Release`: a reader that loads it with `Acquire` sees the words. Before the
//! writer overwrites an old event it executes a `Release` fence; a reader executes an `Acquire`
//! fence after it has copied an event. So if the reader's copy of event `n` contains a word of
//! event `n + places`, the reader then sees `head` at `n + places` or more, and knows that the copy
//! may be torn. Both fences are free on x86.

use test_abi::trace::EVENT_WORDS;

use crate::sync::{AtomicU64, Ordering, fence};

/// An event, the time first: a power of two of words.
pub type Entry<const WORDS: usize = EVENT_WORDS> = [u64; WORDS];

/// Writes an event into a ring. `words` has room for a power of two of events; `head` counts those
/// written.
/// Requires: only one CPU writes this ring.
#[inline(always)]
pub fn write<const WORDS: usize>(words: &[AtomicU64], head: &AtomicU64, event: Entry<WORDS>) {
    let number = head.load(Ordering::Relaxed);
    let place = (number as usize * WORDS) & (words.len() - 1);
    fence(Ordering::Release);
    for (word, value) in words[place..place + WORDS].iter().zip(event) {
        word.store(value, Ordering::Relaxed);
    }
    head.store(number + 1, Ordering::Release);
}

/// What a reader found next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read<const WORDS: usize = EVENT_WORDS> {
    Event(Entry<WORDS>),
    /// So many were written over before they could be read.
    Lost(u64),
}

/// A way through a ring, from its oldest event to its newest.
#[derive(Default)]
pub struct Reader {
    /// Number of the next event.
    next: u64,
}

impl Reader {
    /// Makes a reader that begins with event number `next`: earlier events were read before.
    pub const fn at(next: u64) -> Reader {
        Reader { next }
    }

    /// Returns the number of the next event, if it is still there.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Reads the next event of the ring; `None` after the newest event.
    pub fn read<const WORDS: usize>(&mut self, words: &[AtomicU64], head: &AtomicU64) -> Option<Read<WORDS>> {
        let places = (words.len() / WORDS) as u64;
        let published = head.load(Ordering::Acquire);
        if self.next >= published {
            return None;
        }
        let place = (self.next as usize * WORDS) & (words.len() - 1);
        let event: Entry<WORDS> = core::array::from_fn(|i| words[place + i].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        // While event `head` is being written, the one in its place is not whole.
        let oldest = (head.load(Ordering::Relaxed) + 1).saturating_sub(places);
        if self.next < oldest {
            let lost = oldest - self.next;
            self.next = oldest;
            return Some(Read::Lost(lost));
        }
        self.next += 1;
        Some(Read::Event(event))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
