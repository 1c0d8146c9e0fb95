//! A client that splits parts off its account for others, and closes one.

use core::sync::atomic::AtomicU64;

use user_rt::paging::{CLIENTS_MAX, Denial, Limits, Pager};

use crate::block::{Block, Word};
use crate::worker::{Outcome, leave, random, wait_for};

/// Frames and pages of each part.
pub const PART: Limits = Limits { frames: 10, pinned: 1, pages: 96 };
/// Number of parts.
pub const PARTS: u32 = 2;

/// Splits the parts off. Their numbers are in the block's key, one after the other.
pub fn whole(block: &'static Block, words: &[AtomicU64]) -> Result<(), Denial> {
    let pager = Pager::own();
    let limit = pager.account()?.limit as u32;
    let too_much = [
        (Limits { frames: limit + 1, ..PART }, Denial::Limit),
        (Limits { pages: 1 << 20, ..PART }, Denial::Limit),
        (Limits { frames: 3, pinned: 0, pages: 1 }, Denial::BadRequest),
    ];
    for (limits, why) in too_much {
        if pager.split(limits) != Err(why) {
            leave(Outcome::Wrong, why as u64, 0, 0);
        }
    }
    let parts: [u16; PARTS as usize] = [pager.split(PART)?, pager.split(PART)?];
    for number in 0..=CLIENTS_MAX {
        if !parts.contains(&number) && pager.close(number) != Err(Denial::NotYou) {
            leave(Outcome::Wrong, Denial::NotYou as u64, number.into(), 0);
        }
    }
    block.set(Word::Key, u64::from(parts[0]) | u64::from(parts[1]) << 16);
    random(block, words)?;
    wait_for(block, 1);
    pager.close(parts[1])?;
    block.set(Word::Found, pager.account()?.frames);
    wait_for(block, 2);
    Ok(())
}
