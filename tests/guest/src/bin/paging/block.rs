//! What a worker is told, and what it leaves: a block of shared words for each.

use guest_tests::board::Row;
use guest_tests::{board, words};

/// Workers of a scenario at most.
pub const BLOCKS: u32 = 8;

words! {
    /// Words of a block.
    pub enum Word: Published {
        /// A [`Job`](crate::worker::Job).
        Job,
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
    // SAFETY: the program's first process makes `PAGES` pages before it uses any block, and maps them in each worker
    // before that runs.
    let board: &Board = unsafe { board::open() };
    &board.blocks[number as usize]
}
