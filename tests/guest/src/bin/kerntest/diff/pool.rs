//! The event pools of a game: their owners, and what a player does in memory with its own process's
//! pool, without the kernel. The comparison covers everything that the kernel wrote into the pools.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use abi::events::{CELL_WORDS, EventControl, EventState, INFO, cells_of, pool_pages};
use abi::{MsgInfo, Op, PAGE_SIZE};
use user_rt::arch::{Args, syscall};
use user_rt::cap::{EventPool, Handle};
use user_rt::layout::SHARED_VA;

use super::board::Board;
use super::props::POOLS;
use super::{Game, HOMES};
use crate::lab::Lab;
use crate::suite::Outcome;

/// The readers of the pools: each has a Notification bound to it.
pub const READERS: [usize; 3] = [1, 4, 7];
const CELLS_LOG2: u8 = 6;
const CELLS: usize = 1 << CELLS_LOG2;
const ADDRESS: u64 = SHARED_VA + 0x3000_0000;
/// Bits that a reader's Notification gets.
const BITS: u64 = 1 << 63;

/// Words of the mapped pool.
const HEAD: usize = core::mem::offset_of!(EventControl, head) / 8;
const ARMED: usize = core::mem::offset_of!(EventControl, armed) / 8;
const STATE: usize = (EventControl::PAGES * PAGE_SIZE) as usize / 8;
const STAMPS: usize = STATE + size_of::<EventState>() / 8;
const FIRST_CELL: usize = STATE + (EventState::pages(CELLS_LOG2) * PAGE_SIZE) as usize / 8;
const WORDS: usize = (pool_pages(CELLS_LOG2) * PAGE_SIZE) as usize / 8;

/// Whether the process of a player has a pool.
pub fn has_one(player: usize) -> bool {
    READERS.iter().any(|reader| HOMES[*reader] == HOMES[player])
}

impl Game {
    /// Makes the pools, and gives all processes capabilities of them.
    pub fn give_pools(&self, lab: &mut Lab<'_>) -> Outcome {
        for (index, reader) in (0..).zip(READERS) {
            let pool: EventPool = lab.nursery.make(u64::from(CELLS_LOG2))?;
            let process = lab.child(self.places[HOMES[reader]])?.process.arg();
            let bind = Args::plain(Op::PoolBind, pool.arg(), process, self.made[reader].task.arg(), ADDRESS);
            syscall(Args { r9: BITS, ..bind }).done()?;
            self.hand_out(lab, pool, POOLS, index, abi::Rights::NONE)?;
        }
        Ok(())
    }
}

/// The own process's pool.
#[derive(Clone, Copy)]
pub struct OwnPool(&'static [AtomicU64]);

impl OwnPool {
    /// Opens the pool of a process that [`has_one`].
    pub fn open() -> OwnPool {
        // SAFETY: the director bound the pool there before the game began, and no game ends it; all
        // of it is accessed as atomics.
        OwnPool(unsafe { core::slice::from_raw_parts(ADDRESS as *const AtomicU64, WORDS) })
    }

    fn word(self, at: usize) -> u64 {
        self.0[at].load(Relaxed)
    }

    /// Returns the stamp of a cell.
    fn stamp(self, cell: usize) -> u64 {
        self.word(STAMPS + cell / 2) >> (cell % 2 * 32) & u64::from(u32::MAX)
    }

    /// Returns the position after all events.
    fn end(self) -> u64 {
        let rounds = (0..CELLS).map(|cell| (self.stamp(cell), cell));
        let (round, last) = rounds.max().unwrap_or_default();
        if round == 0 {
            return 0;
        }
        let info = MsgInfo(self.word(FIRST_CELL + last * CELL_WORDS + INFO));
        (round - 1) * CELLS as u64 + last as u64 + cells_of(info)
    }

    /// Sometimes reads all events, arms the pool, or writes nonsense.
    pub fn tend(self, board: &'static Board) {
        match board.below(100) {
            0..=14 => self.0[HEAD].store(self.end(), Relaxed),
            15..=18 => self.0[HEAD].store(self.end().saturating_sub(board.below(CELLS as u64)), Relaxed),
            19 => self.0[HEAD].store(board.below(500), Relaxed),
            20 => self.0[HEAD].store(board.random(), Relaxed),
            21..=32 => self.0[ARMED].store(1 + board.below(2) * (1 << 40), Relaxed),
            _ => {}
        }
    }

    /// Returns a hash of the whole pool.
    pub fn hash(self) -> u64 {
        let all = self.0[..2].iter().chain(&self.0[STATE..]);
        all.fold(0, |hash, word| super::player::fold(&[hash, word.load(Relaxed)]))
    }
}
