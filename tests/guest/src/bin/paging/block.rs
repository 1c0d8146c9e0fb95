//! What a worker is told, and what it leaves: a page of shared words for each.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Release};

use user_rt::arch::shared;

pub const BLOCKS: u32 = 8;
const WORDS: usize = 512;

/// Words of a block.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Word {
    /// A [`Job`](crate::worker::Job).
    Job = 0,
    Seed,
    /// Pages of its region, and how much it is to do.
    Pages,
    Amount,
    /// What it is given besides: a key, say.
    Key,
    /// Goes up while it works.
    Progress,
    /// An [`Outcome`](crate::worker::Outcome).
    Outcome,
    /// What the outcome is about: why, where, what was there.
    Why,
    Where,
    Found,
    /// Words that it compared with what they should be.
    Checked,
    /// What it worked out.
    Result,
    /// What it may go on with: a number that goes up.
    Command,
}

#[derive(Clone, Copy)]
pub struct Block(&'static [AtomicU64]);

impl Block {
    pub fn at(number: u32) -> Block {
        assert!(number < BLOCKS, "block {number}");
        // SAFETY: the program's first process makes `BLOCKS` pages before it uses any block, and maps them in each
        // worker before that runs.
        Block(unsafe { shared::words(number as usize * WORDS, WORDS) })
    }

    pub fn clear(self) {
        self.0.iter().for_each(|word| word.store(0, Release));
    }

    pub fn get(self, word: Word) -> u64 {
        self.0[word as usize].load(Acquire)
    }

    pub fn set(self, word: Word, value: u64) {
        self.0[word as usize].store(value, Release);
    }

    pub fn add(self, word: Word, more: u64) {
        self.0[word as usize].fetch_add(more, core::sync::atomic::Ordering::AcqRel);
    }
}
