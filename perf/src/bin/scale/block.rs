//! One client's block of shared memory: its instructions and its results.

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
    /// Object of the operation: a target or a capability, as the system call takes it.
    Target = 0,
    Operations,
    /// Number of clients that meet before they begin; in block 0 also how many have arrived, and
    /// how many are done.
    Parties,
    Arrived,
    Finished,
    /// Slot of the group.
    Group,
    /// The CPUs whose counters the client reads: the first, and how many.
    FirstCounted,
    CountedCpus,
    /// Operations with a wrong answer.
    Wrong,
}

/// Exposure at which the program listens for the end of clients.
pub const EXPOSURE_DONE: u32 = 0;

#[derive(Clone, Copy)]
pub struct Block {
    words: &'static [AtomicU64],
}

impl Block {
    /// Returns block number `index`, in any process of the program.
    pub fn at(index: u64) -> Block {
        // SAFETY: every CPU has a block, every process that is started maps all blocks, and clients
        // are numbered by CPU.
        Block { words: unsafe { shared::words(index as usize * BLOCK_WORDS, BLOCK_WORDS) } }
    }

    pub fn get(self, word: Word) -> u64 {
        self.words[word as usize].load(Relaxed)
    }

    pub fn set(self, word: Word, value: u64) {
        self.words[word as usize].store(value, Relaxed);
    }

    /// Returns the atomic that holds a word of the block, for words that several tasks change.
    pub fn word(self, word: Word) -> &'static AtomicU64 {
        &self.words[word as usize]
    }

    pub fn clear(self) {
        self.words.iter().for_each(|word| word.store(0, Relaxed));
    }

    /// Returns the word with a counter's earlier value.
    pub fn counter(self, counter: Counter) -> &'static AtomicU64 {
        &self.words[COUNTERS_AT + counter as usize]
    }
}
