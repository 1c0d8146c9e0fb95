//! One client's block of shared memory: its instructions and its results.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::{Counter, PAGE_SIZE};
use user_rt::arch::shared;

/// Pages of one block.
pub const BLOCK_PAGES: u32 = 4;
const BLOCK_WORDS: usize = BLOCK_PAGES as usize * PAGE_SIZE as usize / 8;
const COUNTERS_AT: usize = 32;
const SAMPLES_AT: usize = 256;
/// Samples that a block holds.
pub const SAMPLES_MAX: usize = BLOCK_WORDS - SAMPLES_AT;

/// Single words of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Word {
    /// Samples to take; at the end, samples taken.
    Samples = 0,
    Warmup,
    /// Whether to run loops without time stamps.
    Trace,
    /// Slot of the group.
    Group,
    /// Exposure of the server.
    Server,
    /// Bit that the client raises in the Notification at [`EXPOSURE_DONE`] at its end.
    DoneBit,
    /// Slots of Notifications, for rows within the bench's own process.
    NoteServer,
    NoteClient,
    TaskServer,
    TaskClient,
    /// Slot of the SchedContext of the background task, or else of the server.
    Time,
    /// Slot of the background task.
    Background,
    /// When that ran last.
    Ran,
    /// An Untyped from which the server makes its own Notification.
    Untyped,
    /// The first of the empty slots that the client may fill.
    Slots,
    /// Slot of the client's frame.
    Frame,
    /// Payload of the messages: [`crate::carry::Carried`].
    Carried,
    /// How many processes listen in the group.
    Listeners,
    ClientCpu,
    ServerCpu,
    /// Number of tasks that meet before measuring; in the first block also how many have arrived.
    Parties,
    Arrived,
    /// Cost of measuring nothing.
    Overhead,
    /// The first operation with a wrong answer: 1 + its number, and that answer.
    Wrong,
    WrongInfo,
    /// What a task beside the client does.
    Beside,
    /// How often the client has let the background task stop.
    Stopped,
}

/// Exposure at which the bench listens for the end of clients.
pub const EXPOSURE_DONE: u32 = 0;

/// CPUs whose counters a client reads: its own and its server's.
pub const COUNTED_CPUS: usize = 2;
const COUNTERS: usize = Counter::ALL.len();
const _: () = assert!(COUNTERS_AT + 2 * COUNTED_CPUS * COUNTERS <= SAMPLES_AT);

/// When a client reads counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    Before = 0,
    After = 1,
}

#[derive(Clone, Copy)]
pub struct Block {
    words: &'static [AtomicU64],
}

impl Block {
    /// Returns block number `index`, in any process of the bench.
    pub fn at(index: u64) -> Block {
        // SAFETY: the bench made a block for every CPU, maps all of them in every process it
        // starts, and numbers its clients below that.
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
        for word in self.words {
            word.store(0, Relaxed);
        }
    }

    #[inline(always)]
    pub fn set_sample(self, index: usize, sample: u64) {
        self.words[SAMPLES_AT + index].store(sample, Relaxed);
    }

    /// Returns the samples that the client took.
    pub fn samples(self) -> impl Iterator<Item = u64> {
        let count = (self.get(Word::Samples) as usize).min(SAMPLES_MAX);
        self.words[SAMPLES_AT..SAMPLES_AT + count].iter().map(|sample| sample.load(Relaxed))
    }

    pub fn counter(self, when: When, cpu: usize, counter: Counter) -> &'static AtomicU64 {
        let row = when as usize * COUNTED_CPUS + cpu;
        &self.words[COUNTERS_AT + row * COUNTERS + counter as usize]
    }
}
