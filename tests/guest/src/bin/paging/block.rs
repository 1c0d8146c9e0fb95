//! A worker's instructions and results: a block of shared words for each worker.

use guest_tests::board::Row;
use guest_tests::{board, words};

/// Most workers of a scenario.
pub const BLOCKS: u32 = 8;

words! {
    /// Words of a block.
    pub enum Word: Published {
        /// A [`Job`](crate::worker::Job).
        Job,
        Seed,
        /// Pages of its region, and its amount of work.
        Pages,
        Amount,
        /// Another argument, such as a key.
        Key,
        /// Increases while it works.
        Progress,
        /// An [`Outcome`](crate::worker::Outcome).
        Outcome,
        /// Details of the outcome: why, where, what was there.
        Why,
        Where,
        Found,
        /// Words that it compared with the expected ones.
        Checked,
        /// Its result.
        Result,
        /// Its permission to continue: a number that increases.
        Command,
    }
}

board! {
    struct Board {
        blocks: [Block; BLOCKS as usize],
    }
}

/// Pages of all blocks.
pub const PAGES: u32 = board::pages::<Board>();

/// The block of one worker.
pub type Block = Row<Word>;

/// Returns the block of a worker, in any process of the program.
pub fn of_worker(number: u32) -> &'static Block {
    // SAFETY: the program's first process makes `PAGES` pages before it uses any block, and maps
    // them in each worker before the worker runs.
    let board: &Board = unsafe { board::open() };
    &board.blocks[number as usize]
}
