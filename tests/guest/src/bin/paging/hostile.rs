//! A client that tries to exhaust the pager.

use core::sync::atomic::Ordering::Relaxed;

use abi::{MSG_UTCB_WORDS, PAGE_SIZE};
use protocols::pager;
use user_rt::cap::{Access, Group, Handle};
use user_rt::ipc::Message;
use user_rt::layout::slot;
use user_rt::paging::{Denial, Pager, REGIONS_VA, SERVER};
use user_rt::utcb;

use crate::block::{Block, Word};
use crate::worker::{Outcome, leave};

/// Kinds of requests, and one number without a kind.
const KINDS: u64 = 20;
/// The client that it shares everything with.
const OTHER: u16 = 1;

pub fn all(block: &'static Block) -> Result<(), Denial> {
    smallest_pieces(block)?;
    nonsense(block);
    Ok(())
}

/// Makes regions of one page, each of other bytes of a file, and touches and shares each: the most
/// expensive requests for the pager. The result is their number.
fn smallest_pieces(block: &'static Block) -> Result<(), Denial> {
    let pager = Pager::own();
    let (file, bytes) = pager.open("pager")?;
    for first in (0..bytes - 8).step_by(8) {
        let access = if first % 16 == 0 { Access::Read } else { Access::Write };
        let region = match pager.file(file, first, 8, access) {
            Ok(region) => region,
            Err(Denial::Limit) => break,
            Err(denial) => return Err(denial),
        };
        let word = &region.words()[0];
        let found = word.load(Relaxed);
        if access == Access::Write {
            word.store(!found, Relaxed);
        }
        pager.share(&region, OTHER, Access::Read)?;
        block.add(Word::Result, 1);
        block.add(Word::Checked, 1);
    }
    Ok(())
}

/// Makes requests with random contents. The pager must answer all of them.
fn nonsense(block: &'static Block) {
    let mut random = oorandom::Rand64::new(block.get(Word::Seed).into());
    let group = Group::at(slot::PAGER);
    for _ in 0..block.get(Word::Amount) {
        let label = match random.rand_range(0..10) {
            0 => random.rand_u64() as u32,
            _ => pager::LABEL,
        };
        let mut regs: [u64; 4] = core::array::from_fn(|_| value(&mut random));
        if random.rand_range(0..4) > 0 {
            // A struct of two words and a pointer, as in all requests, of some kind, with numbers
            // that may be valid.
            let mut small = |least: u64, most| random.rand_range(least..most);
            let (kind, who, how) = (small(0, KINDS), small(0, 70), small(0, 4));
            let pointer = [1 | 2 << 32 | small(0, 20) << 35, 2 << 32 | 1 << 48, 3 << 32, regs[3]];
            let pointer = pointer[small(0, 4) as usize];
            let about = if small(0, 2) == 0 { regs[1] } else { regs[1] & 0xffff_ffff | how << 32 };
            regs = [2 << 32 | 1 << 48, about, kind | who << 16 | how << 32, pointer];
        }
        let words = utcb::current().message();
        words.iter().take(8).for_each(|word| word.store(value(&mut random), Relaxed));
        let count = [0, 2, 4, 8, MSG_UTCB_WORDS as u64][random.rand_range(0..5) as usize];
        let message = Message::with_words(label, regs, count as u8);
        if let Err(refusal) = group.exposure(SERVER).call(&message) {
            return leave(Outcome::Wrong, refusal.error as u64, label.into(), refusal.detail);
        }
        block.add(Word::Progress, 1);
    }
}

/// Returns a number, sometimes a valid one.
fn value(random: &mut oorandom::Rand64) -> u64 {
    let page = |number| REGIONS_VA + number * PAGE_SIZE;
    match random.rand_range(0..8) {
        0 => random.rand_u64(),
        1 => u64::MAX - random.rand_range(0..PAGE_SIZE),
        2 => 1 << random.rand_range(0..64),
        3 => random.rand_range(0..4) << 32 | random.rand_range(0..4),
        4 => page(2 * random.rand_range(0..1000)),
        5 => page(random.rand_range(0..2000)),
        _ => random.rand_range(0..70),
    }
}
