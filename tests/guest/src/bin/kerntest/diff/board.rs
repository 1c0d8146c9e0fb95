//! Shared state of the players: the random numbers, the count of steps, and the exposures.
//!
//! All their processes map the board. The players run on one CPU and are never preempted in the
//! middle of a step, so loads and stores need no order.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use guest_tests::board::Row;
use guest_tests::random::{mix, next_state};
use guest_tests::{board, words};

use crate::block;

/// Players, the fixer included.
pub const PLAYERS: usize = 11;
/// Most exposed tasks and Notifications on the board.
const PLACES: usize = 48;

words! {
    /// Single words.
    pub enum Word: Relaxed {
        Random,
        /// Steps begun.
        Step,
        /// Number of steps of the game.
        Steps,
        /// Step at which the whole state is exported as text; 0: none.
        Shown,
        /// Places filled so far.
        Tasks,
        Notes,
        /// Tasks that may still be killed.
        Victims,
    }

    /// Words of one player.
    pub enum Of: Relaxed {
        /// [`crate::diff::choice::Role`].
        Role,
        Vector,
    }
}

/// An exposure: its group and its index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Where {
    pub second: bool,
    pub index: u32,
}

board! {
    /// The players' board.
    pub struct Board {
        words: Row<Word>,
        pub players: [Row<Of>; PLAYERS],
        tasks: [AtomicU64; PLACES],
        notes: [AtomicU64; PLACES],
    }
}

impl Board {
    pub fn open() -> &'static Board {
        &block::Board::open().diff
    }

    pub fn get(&self, word: Word) -> u64 {
        self.words.get(word)
    }

    pub fn set(&self, word: Word, value: u64) {
        self.words.set(word, value);
    }

    // --- chance ----------------------------------------------------------------------------------

    /// Returns the next random number.
    pub fn random(&self) -> u64 {
        let state = self.get(Word::Random);
        self.set(Word::Random, next_state(state));
        mix(state)
    }

    /// Returns a random number below `limit`, which is not 0.
    pub fn below(&self, limit: u64) -> u64 {
        (self.random() >> 11) % limit
    }

    /// Returns true in `percent` of a hundred cases.
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    // --- exposures -------------------------------------------------------------------------------

    /// Adds the exposure of a task. `serves`: the task is a server, with or without vector state.
    pub fn add_task(&self, place: Where, serves: Option<bool>) {
        self.add(Word::Tasks, place, serves.map_or(0, |vector| 1 + u64::from(vector)));
    }

    pub fn add_note(&self, place: Where) {
        self.add(Word::Notes, place, 0);
    }

    fn places(&self, count: Word) -> &[AtomicU64; PLACES] {
        if count == Word::Tasks { &self.tasks } else { &self.notes }
    }

    fn add(&self, count: Word, place: Where, kind: u64) {
        let used = self.get(count);
        assert!((used as usize) < PLACES, "more exposures than the board has room for");
        let word = kind << 33 | u64::from(place.second) << 32 | u64::from(place.index);
        self.places(count)[used as usize].store(word, Relaxed);
        self.set(count, used + 1);
    }

    /// Returns an exposure that has or had a task, mostly a server with or without vector state.
    pub fn some_task(&self, vector: bool) -> Where {
        self.some(Word::Tasks, 1 + u64::from(vector))
    }

    pub fn some_note(&self) -> Where {
        self.some(Word::Notes, 0)
    }

    fn some(&self, count: Word, kind: u64) -> Where {
        let mut place = 0;
        for _ in 0..6 {
            place = self.places(count)[self.below(self.get(count).max(1)) as usize].load(Relaxed);
            if place >> 33 == kind {
                break;
            }
        }
        Where { second: place >> 32 & 1 != 0, index: place as u32 }
    }
}
