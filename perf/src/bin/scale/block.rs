//! One client's block of shared memory: what it is told, what it found.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::Counter;
use user_rt::arch::shared;

const COUNTERS: usize = Counter::ALL.len();
const COUNTERS_AT: usize = 16;
/// Words of a block.
pub const BLOCK_WORDS: usize = 128;
const _: () = assert!(COUNTERS_AT + COUNTERS <= BLOCK_WORDS);

/// Single words of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Word {
    /// What the client does it to: a target or a capability, as the system call takes it.
    Target = 0,
    Operations,
    /// Clients that meet before they begin, and (in block 0) how many did, and how many are through.
    Parties,
    Arrived,
    Finished,
    /// Slot of the group.
    Group,
    /// The CPUs whose counters it reads: so many, from this one on.
    FirstCounted,
    CountedCpus,
    /// Operations that did not answer as they should.
    Wrong,
}

/// Exposure at which the program listens for the end of clients.
pub const EXPOSURE_DONE: u32 = 0;

#[derive(Clone, Copy)]
pub struct Block {
    words: &'static [AtomicU64],
}

impl Block {
    /// Block number `index`, in any process of the program.
    pub fn at(index: u64) -> Block {
        // SAFETY: there is a block for every CPU, mapped in every process that is started, and clients are
        // numbered by CPU.
        Block { words: unsafe { shared::words(index as usize * BLOCK_WORDS, BLOCK_WORDS) } }
    }

    pub fn get(self, word: Word) -> u64 {
        self.words[word as usize].load(Relaxed)
    }

    pub fn set(self, word: Word, value: u64) {
        self.words[word as usize].store(value, Relaxed);
    }

    /// The word itself, for what several tasks change.
    pub fn word(self, word: Word) -> &'static AtomicU64 {
        &self.words[word as usize]
    }

    pub fn clear(self) {
        self.words.iter().for_each(|word| word.store(0, Relaxed));
    }

    /// What a counter showed before.
    pub fn counter(self, counter: Counter) -> &'static AtomicU64 {
        &self.words[COUNTERS_AT + counter as usize]
    }
}
