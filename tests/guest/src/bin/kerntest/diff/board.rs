//! What the players share: the source of chance, the count of steps, and where everybody is exposed.
//!
//! One page, mapped in all their processes. They run on one CPU and are never preempted in the middle of a
//! step, so loads and stores need no order among them.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use crate::block::BLOCK_WORDS;
use crate::lab::PUPPETS_MAX;
use crate::quiet;

/// Pages of shared memory, behind the idlers'.
pub const PAGES: u32 = 1;
/// Players, the fixer included.
pub const PLAYERS: usize = 11;
/// Exposed tasks and Notifications that are kept on the board.
const PLACES: usize = 48;

/// Single words.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Word {
    Random = 0,
    /// Steps begun.
    Step,
    /// After so many it is over.
    Steps,
    /// The step at which the whole state is exported as text; 0: none.
    Shown,
    /// Places filled so far.
    Tasks,
    Notes,
    /// Tasks that may still be killed.
    Victims,
}

const PLAYERS_AT: usize = 16;
const PLAYER_WORDS: usize = 8;
const TASKS_AT: usize = PLAYERS_AT + PLAYERS * PLAYER_WORDS;
const NOTES_AT: usize = TASKS_AT + PLACES;
const _: () = assert!(NOTES_AT + PLACES <= BLOCK_WORDS);

/// Words of one player.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Of {
    /// [`crate::diff::choice::Role`].
    Role = 0,
    Vector,
}

/// Where something is exposed: of which group, at which index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Where {
    pub second: bool,
    pub index: u32,
}

#[derive(Clone, Copy)]
pub struct Board {
    words: &'static [AtomicU64],
}

impl Board {
    pub fn open() -> Board {
        let first = (PUPPETS_MAX + quiet::PAGES) as usize * BLOCK_WORDS;
        // SAFETY: the lab makes the page and maps it in every process that it starts.
        Board { words: unsafe { user_rt::arch::shared::words(first, BLOCK_WORDS) } }
    }

    pub fn clear(self) {
        for word in self.words {
            word.store(0, Relaxed);
        }
    }

    pub fn get(self, word: Word) -> u64 {
        self.words[word as usize].load(Relaxed)
    }

    pub fn set(self, word: Word, value: u64) {
        self.words[word as usize].store(value, Relaxed);
    }

    fn player(self, player: usize, of: Of) -> &'static AtomicU64 {
        &self.words[PLAYERS_AT + player * PLAYER_WORDS + of as usize]
    }

    pub fn of(self, player: usize, of: Of) -> u64 {
        self.player(player, of).load(Relaxed)
    }

    pub fn set_of(self, player: usize, of: Of, value: u64) {
        self.player(player, of).store(value, Relaxed);
    }

    // --- chance ------------------------------------------------------------------------------------

    /// The next random number (splitmix64).
    pub fn random(self) -> u64 {
        let state = self.get(Word::Random).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.set(Word::Random, state);
        let a = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ (b >> 31)
    }

    /// Below `limit`, which is not 0.
    pub fn below(self, limit: u64) -> u64 {
        (self.random() >> 11) % limit
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(self, percent: u64) -> bool {
        self.below(100) < percent
    }

    // --- exposures -----------------------------------------------------------------------------------

    /// `serves`: it is a server, with vector state or without.
    pub fn add_task(self, place: Where, serves: Option<bool>) {
        self.add(Word::Tasks, TASKS_AT, place, serves.map_or(0, |vector| 1 + u64::from(vector)));
    }

    pub fn add_note(self, place: Where) {
        self.add(Word::Notes, NOTES_AT, place, 0);
    }

    fn add(self, count: Word, at: usize, place: Where, kind: u64) {
        let used = self.get(count);
        assert!((used as usize) < PLACES, "more exposures than the board has room for");
        let word = kind << 33 | u64::from(place.second) << 32 | u64::from(place.index);
        self.words[at + used as usize].store(word, Relaxed);
        self.set(count, used + 1);
    }

    /// One of the places where a task is exposed, or was; mostly a server with vector state or without.
    pub fn some_task(self, vector: bool) -> Where {
        self.some(Word::Tasks, TASKS_AT, 1 + u64::from(vector))
    }

    pub fn some_note(self) -> Where {
        self.some(Word::Notes, NOTES_AT, 0)
    }

    fn some(self, count: Word, at: usize, kind: u64) -> Where {
        let mut place = 0;
        for _ in 0..6 {
            place = self.words[at + self.below(self.get(count).max(1)) as usize].load(Relaxed);
            if place >> 33 == kind {
                break;
            }
        }
        Where { second: place >> 32 & 1 != 0, index: place as u32 }
    }
}
