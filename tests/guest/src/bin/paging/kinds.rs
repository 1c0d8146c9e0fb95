//! Everything that a pager offers, used once: clones, files, views, pins, limits, a heap.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use abi::PAGE_SIZE;
use user_rt::cap::Access;
use user_rt::paging::{Denial, Pager, Region};

use crate::block::{self, Block, Word};
use crate::worker::{Outcome, check_page, leave, random, write_page};

/// Version that a view finds in a page, and the version that its owner writes then.
const FIRST: u64 = 1;
const SECOND: u64 = 2;
/// Client number of the worker that attaches the view.
pub const VIEWER: u16 = 2;
const PAGES: u64 = 48;

macro_rules! hold {
    ($so:expr, $line:expr) => {
        if !$so {
            leave(Outcome::Wrong, u64::from($line), 0, 0);
            return Ok(());
        }
    };
}

fn denied_with<T>(result: Result<T, Denial>, wanted: Denial) -> bool {
    result.err() == Some(wanted)
}

/// Uses everything once. Leaves the view's key in the block before the owner writes once more.
pub fn all(block: &'static Block) -> Result<(), Denial> {
    let pager = Pager::own();
    let seed = block.get(Word::Seed);
    clones(block, pager, seed)?;
    files(block, pager)?;
    pins_and_limits(block, pager)?;
    // Returned limits are available again.
    hold!(pager.account()?.pages == 0, line!());
    let shared = pager.anonymous(PAGES, Access::Write)?;
    (0..PAGES as usize).for_each(|page| write_page(shared.words(), page, seed, FIRST));
    let key = pager.share(&shared, VIEWER, Access::Read)?;
    hold!(denied_with(pager.attach(key), Denial::NotShared), line!());
    block.set(Word::Key, key);
    while block.get(Word::Progress) == 0 {
        let _ = user_rt::invoke::yield_now();
    }
    (0..PAGES as usize).for_each(|page| write_page(shared.words(), page, seed, SECOND));
    block.set(Word::Progress, 2);
    Ok(())
}

/// Views what the other worker, of block 0, shares: its first writes, and then its later ones.
pub fn view(block: &'static Block) -> Result<(), Denial> {
    let owner = block::of_worker(0);
    while owner.get(Word::Key) == 0 {
        let _ = user_rt::invoke::yield_now();
    }
    let seed = owner.get(Word::Seed);
    let view = Pager::own().attach(owner.get(Word::Key))?;
    hold!(view.pages() == PAGES, line!());
    (0..PAGES as usize).for_each(|page| check_page(block, view.words(), page, seed, FIRST));
    // A clone of a view is this worker's own, and stays unchanged.
    let own = Pager::own().clone_of(&view)?;
    owner.set(Word::Progress, 1);
    while owner.get(Word::Progress) == 1 {
        let _ = user_rt::invoke::yield_now();
    }
    (0..PAGES as usize).for_each(|page| check_page(block, view.words(), page, seed, SECOND));
    (0..PAGES as usize).for_each(|page| check_page(block, own.words(), page, seed, FIRST));
    hold!(denied_with(Pager::own().share(&view, 1, Access::Write), Denial::Access), line!());
    Ok(())
}

/// Checks that a clone has its source's contents, and that later writes to either do not reach the
/// other.
fn clones(block: &'static Block, pager: Pager, seed: u64) -> Result<(), Denial> {
    let source = pager.anonymous(PAGES, Access::Write)?;
    let pages = 0..PAGES as usize;
    pages.clone().for_each(|page| write_page(source.words(), page, seed, FIRST));
    let clone = pager.clone_of(&source)?;
    for page in pages.clone().step_by(2) {
        write_page(source.words(), page, seed, SECOND);
    }
    let second = pager.clone_of(&clone)?;
    for page in pages.clone().step_by(3) {
        write_page(clone.words(), page, seed, SECOND + 1);
    }
    for page in pages.clone() {
        let of_source = if page % 2 == 0 { SECOND } else { FIRST };
        let of_clone = if page % 3 == 0 { SECOND + 1 } else { FIRST };
        check_page(block, source.words(), page, seed, of_source);
        check_page(block, clone.words(), page, seed, of_clone);
        check_page(block, second.words(), page, seed, FIRST);
    }
    pager.give_back(source)?;
    for page in pages {
        let of_clone = if page % 3 == 0 { SECOND + 1 } else { FIRST };
        check_page(block, clone.words(), page, seed, of_clone);
    }
    pager.give_back(second)?;
    pager.give_back(clone)
}

/// The ELF header of every program in the archive.
const ELF: u64 = 0x0001_0102_464c_457f;

fn sum(words: &[AtomicU64]) -> u64 {
    words.iter().fold(0, |sum, word| sum.rotate_left(1) ^ word.load(Relaxed))
}

/// Maps a file read-only, and a private copy of it.
fn files(block: &'static Block, pager: Pager) -> Result<(), Denial> {
    hold!(denied_with(pager.open("no such file"), Denial::NoFile), line!());
    let (file, bytes) = pager.open("pager")?;
    let part = bytes.min(40 * PAGE_SIZE + 1000);
    hold!(denied_with(pager.file(file, bytes, 1, Access::Read), Denial::BadRequest), line!());
    let text = pager.file(file, 0, part, Access::Read)?;
    let own = pager.file(file, 0, part, Access::Write)?;
    hold!(text.words()[0].load(Relaxed) & 0xff_ffff_ffff == ELF & 0xff_ffff_ffff, line!());
    // The same pages to execute: this mapping must survive that a copy is made.
    let code = pager.file(file, 0, part, Access::Execute)?;
    let before = sum(code.words());
    hold!(sum(text.words()) == before, line!());
    hold!(sum(own.words()) == before, line!());
    own.words().iter().step_by(512).for_each(|word| word.store(7, Relaxed));
    hold!(sum(text.words()) == before, line!());
    hold!(own.words().iter().step_by(512).all(|word| word.load(Relaxed) == 7), line!());
    own.words().iter().zip(text.words()).step_by(512).for_each(|(own, text)| {
        own.store(text.load(Relaxed), Relaxed);
    });
    hold!(sum(own.words()) == before, line!());
    let behind = text.pages() * PAGE_SIZE / 8 - 10;
    hold!(text.words()[behind as usize..].iter().all(|word| word.load(Relaxed) == 0), line!());
    hold!(sum(code.words()) == before, line!());
    block.add(Word::Checked, 8 * part / 8);
    pager.give_back(code)?;
    pager.give_back(text)?;
    pager.give_back(own)
}

/// Checks that pinned pages take no fault, and that a client can neither pin nor hold more than its
/// limits.
fn pins_and_limits(block: &'static Block, pager: Pager) -> Result<(), Denial> {
    let region = pager.anonymous(PAGES, Access::Write)?;
    hold!(denied_with(pager.pin(&region, 0, PAGES), Denial::Limit), line!());
    hold!(denied_with(pager.pin(&region, PAGES, 1), Denial::NoRegion), line!());
    pager.pin(&region, 3, 2)?;
    (0..PAGES as usize).for_each(|page| write_page(region.words(), page, 1, FIRST));
    let before = pager.account()?;
    hold!(before.frames <= before.limit, line!());
    write_page(region.words(), 3, 1, FIRST);
    write_page(region.words(), 4, 1, FIRST);
    hold!(pager.account()?.faults == before.faults, line!());
    (0..PAGES as usize).for_each(|page| check_page(block, region.words(), page, 1, FIRST));
    hold!(denied_with(pager.anonymous(1 << 20, Access::Write), Denial::Limit), line!());
    pager.unpin(&region, 3, 2)?;
    pager.give_back(region)
}

/// Uses a heap from the pager, larger than the frames that the worker may hold.
pub fn heap(block: &'static Block) -> Result<(), Denial> {
    let region: Region = Pager::own().anonymous(block.get(Word::Pages), Access::Write)?;
    let words = region.words().len() * 3 / 4 / 512 * 512;
    user_rt::heap::adopt(region).map_err(|_| Denial::BadRequest)?;
    let mut memory = alloc::vec::Vec::new();
    memory.resize_with(words, || AtomicU64::new(0));
    random(block, &memory)
}
