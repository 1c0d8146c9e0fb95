//! What workers do: processes whose memory a pager serves. A worker checks all that it reads and
//! leaves its outcome in its block. Then it answers calls, so that a waiting task learns that the
//! worker is alive.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use abi::PAGE_SIZE;
use user_rt::cap::Access;
use user_rt::ipc::{Event, Message, recv, reply_recv};
use user_rt::paging::{Denial, Pager, Region};
use user_rt::utcb::{self, Local};

use crate::block::{self, Block, Word};

const PAGE_WORDS: usize = PAGE_SIZE as usize / 8;
/// Most pages of a region.
const PAGES_MAX: usize = 1024;
/// Words of a page that a partial check compares.
const LOOKED_AT: u64 = 8;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $number:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u64)]
        pub enum $name { $($(#[$value_doc])* $value = $number,)* }

        impl $name {
            pub fn from_raw(raw: u64) -> Option<$name> {
                [$($name::$value,)*].into_iter().find(|one| *one as u64 == raw)
            }
        }
    )*};
}

numbers! {
    /// The job of a worker.
    Job {
        /// Write and read pages at random.
        Random = 1,
        /// Sort all words of the region.
        Sort = 2,
        /// Go through the region forever.
        Churn = 3,
        /// Use everything that a pager offers, once.
        Kinds = 4,
        /// Read a view, by the key in the block.
        View = 5,
        /// As Random, on memory of the heap.
        Heap = 6,
        /// As Random, without an error handler.
        Careless = 7,
        /// Touch all pages once, then wait.
        Hoard = 8,
        /// Use some pages all the time, the others one after the other.
        Favourites = 9,
        /// Request as much as the pager gives, then send nonsense.
        Hostile = 10,
        /// As Random, with parts of the account split off for others.
        Whole = 11,
        /// As Hoard; then wait for a command, and check that everything is still there.
        Keep = 12,
    }

    /// The outcome of a job.
    Outcome {
        Running = 0,
        Right = 1,
        /// A word was wrong.
        Wrong = 2,
        /// A fault could not be served, and the worker's error handler ran.
        Denied = 3,
        /// A request was refused that should not have been.
        Refused = 4,
    }
}

/// Returns the block, by the worker's number in its UTCB.
fn block() -> &'static Block {
    block::of_worker(utcb::current().local(Local::Program) as u32)
}

pub extern "C" fn worker(number: u64) -> ! {
    utcb::current().set_local(Local::Program, number);
    let block = block();
    let done = match Job::from_raw(block.get(Word::Job)) {
        Some(Job::Random) => prepared(|region| random(block, region.words())),
        Some(Job::Careless) => with_region(|region| random(block, region.words())),
        Some(Job::Sort) => prepared(|region| sort(block, region.words())),
        Some(Job::Churn) => prepared(|region| churn(block, region.words())),
        Some(Job::Hoard) => prepared(|region| hoard(block, region.words())),
        Some(Job::Keep) => prepared(|region| keep(block, region.words())),
        Some(Job::Favourites) => prepared(|region| favourites(block, region.words())),
        Some(Job::Whole) => prepared(|region| crate::parts::whole(block, region.words())),
        Some(Job::Hostile) => crate::hostile::all(block),
        Some(Job::Kinds) => crate::kinds::all(block),
        Some(Job::View) => crate::kinds::view(block),
        Some(Job::Heap) => crate::kinds::heap(block),
        None => Err(Denial::BadRequest),
    };
    if let Err(denial) = done {
        leave(Outcome::Refused, denial as u64, 0, 0);
    }
    if block.get(Word::Outcome) == Outcome::Running as u64 {
        block.set(Word::Outcome, Outcome::Right as u64);
    }
    answer_calls()
}

fn answer_calls() -> ! {
    let mut event = recv();
    loop {
        event = match event {
            Ok(Event::Call(_)) => reply_recv(&Message::default()),
            _ => recv(),
        };
    }
}

/// Stores the outcome. The first one stays.
pub fn leave(outcome: Outcome, why: u64, place: u64, found: u64) {
    let block = block();
    if block.get(Word::Outcome) != Outcome::Running as u64 {
        return;
    }
    block.set(Word::Why, why);
    block.set(Word::Where, place);
    block.set(Word::Found, found);
    block.set(Word::Outcome, outcome as u64);
}

/// Handles a fault that could not be served, on the stack of the faulting task.
extern "C" fn denied(denial: u64, address: u64) -> ! {
    leave(Outcome::Denied, denial, address, 0);
    answer_calls()
}

fn with_region(work: impl FnOnce(&Region) -> Result<(), Denial>) -> Result<(), Denial> {
    let region = Pager::own().anonymous(block().get(Word::Pages), Access::Write)?;
    work(&region)
}

/// Runs a job with an error handler.
fn prepared(work: impl FnOnce(&Region) -> Result<(), Denial>) -> Result<(), Denial> {
    Pager::own().on_error(denied)?;
    with_region(work)
}

/// Returns a word of a page after that many writes of the page.
pub fn word_of(seed: u64, page: usize, word: usize, version: u64) -> u64 {
    if version == 0 {
        return 0;
    }
    let mixed = seed ^ (page as u64) << 40 ^ (word as u64) << 24 ^ version;
    let mixed = (mixed ^ mixed >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

pub fn page_of(words: &[AtomicU64], page: usize) -> &[AtomicU64] {
    &words[page * PAGE_WORDS..(page + 1) * PAGE_WORDS]
}

pub fn write_page(words: &[AtomicU64], page: usize, seed: u64, version: u64) {
    for (index, word) in page_of(words, page).iter().enumerate() {
        word.store(word_of(seed, page, index, version), Relaxed);
    }
}

/// Compares one word.
pub fn check_word(
    block: &'static Block,
    words: &[AtomicU64],
    page: usize,
    word: usize,
    seed: u64,
    version: u64,
) {
    let (found, wanted) = (page_of(words, page)[word].load(Relaxed), word_of(seed, page, word, version));
    block.add(Word::Checked, 1);
    if found != wanted {
        leave(Outcome::Wrong, wanted, (page * PAGE_WORDS + word) as u64 * 8, found);
    }
}

/// Compares all words of a page.
pub fn check_page(block: &'static Block, words: &[AtomicU64], page: usize, seed: u64, version: u64) {
    (0..PAGE_WORDS).for_each(|word| check_word(block, words, page, word, seed, version));
}

/// How often each page was written, in memory that is not paged.
static VERSIONS: [AtomicU64; PAGES_MAX] = [const { AtomicU64::new(0) }; PAGES_MAX];

/// Writes and reads pages at random. Each read must return the last write. The result is the sum of
/// all words at the end.
pub fn random(block: &'static Block, words: &[AtomicU64]) -> Result<(), Denial> {
    let pages = words.len() / PAGE_WORDS;
    let (seed, amount) = (block.get(Word::Seed), block.get(Word::Amount));
    let mut random = oorandom::Rand64::new(seed.into());
    VERSIONS.iter().for_each(|version| version.store(0, Relaxed));
    for _ in 0..amount {
        let page = random.rand_range(0..pages as u64) as usize;
        let version = VERSIONS[page].load(Relaxed);
        if random.rand_range(0..3) == 0 {
            check_word(block, words, page, random.rand_range(0..PAGE_WORDS as u64) as usize, seed, version);
            write_page(words, page, seed, version + 1);
            VERSIONS[page].store(version + 1, Relaxed);
        } else {
            for _ in 0..LOOKED_AT {
                let word = random.rand_range(0..PAGE_WORDS as u64) as usize;
                check_word(block, words, page, word, seed, version);
            }
        }
        block.add(Word::Progress, 1);
    }
    (0..pages).for_each(|page| check_page(block, words, page, seed, VERSIONS[page].load(Relaxed)));
    block.set(Word::Result, words.iter().fold(0, |sum, word| sum.wrapping_add(word.load(Relaxed))));
    Ok(())
}

/// Returns the result of [`random`], without the memory.
pub fn random_result(seed: u64, pages: usize, amount: u64) -> u64 {
    let mut random = oorandom::Rand64::new(seed.into());
    let mut versions = [0; PAGES_MAX];
    for _ in 0..amount {
        let page = random.rand_range(0..pages as u64) as usize;
        if random.rand_range(0..3) == 0 {
            random.rand_range(0..PAGE_WORDS as u64);
            versions[page] += 1;
        } else {
            for _ in 0..LOOKED_AT {
                random.rand_range(0..PAGE_WORDS as u64);
            }
        }
    }
    let all = (0..pages).flat_map(|page| (0..PAGE_WORDS).map(move |word| (page, word)));
    all.fold(0, |sum: u64, (page, word)| sum.wrapping_add(word_of(seed, page, word, versions[page])))
}

/// Sorts all words. The result is their sum, which sorting does not change.
fn sort(block: &'static Block, words: &[AtomicU64]) -> Result<(), Denial> {
    let seed = block.get(Word::Seed);
    let mut random = oorandom::Rand64::new(seed.into());
    words.iter().for_each(|word| word.store(random.rand_u64(), Relaxed));
    quicksort(block, words);
    let mut last = 0;
    let mut sum: u64 = 0;
    for (index, word) in words.iter().enumerate() {
        let found = word.load(Relaxed);
        if found < last {
            leave(Outcome::Wrong, last, index as u64 * 8, found);
        }
        (last, sum) = (found, sum.wrapping_add(found));
    }
    block.add(Word::Checked, words.len() as u64);
    block.set(Word::Result, sum);
    Ok(())
}

/// Returns the result of [`sort`].
pub fn sort_result(seed: u64, pages: usize) -> u64 {
    let mut random = oorandom::Rand64::new(seed.into());
    (0..pages * PAGE_WORDS).fold(0, |sum: u64, _| sum.wrapping_add(random.rand_u64()))
}

/// Recurses into the shorter half, so that the stack stays small.
fn quicksort(block: &'static Block, mut words: &[AtomicU64]) {
    while words.len() > 1 {
        let pivot = words[(words.len() - 1) / 2].load(Relaxed);
        let (mut low, mut high) = (0, words.len() - 1);
        loop {
            while words[low].load(Relaxed) < pivot {
                low += 1;
            }
            while words[high].load(Relaxed) > pivot {
                high -= 1;
            }
            if low >= high {
                break;
            }
            let (first, second) = (words[low].load(Relaxed), words[high].load(Relaxed));
            words[low].store(second, Relaxed);
            words[high].store(first, Relaxed);
            (low, high) = (low + 1, high - 1);
        }
        block.add(Word::Progress, 1);
        let (left, right) = words.split_at(high + 1);
        let (shorter, longer) = if left.len() < right.len() { (left, right) } else { (right, left) };
        quicksort(block, shorter);
        words = longer;
    }
}

/// Goes through the region forever, almost always in a fault.
fn churn(block: &'static Block, words: &[AtomicU64]) -> Result<(), Denial> {
    let seed = block.get(Word::Seed);
    let pages = words.len() / PAGE_WORDS;
    for version in 1.. {
        for page in 0..pages {
            check_word(block, words, page, 7, seed, version - 1);
            write_page(words, page, seed, version);
            block.add(Word::Progress, 1);
        }
    }
    Ok(())
}

/// Touches every page once, and keeps them all.
fn hoard(block: &'static Block, words: &[AtomicU64]) -> Result<(), Denial> {
    for page in 0..words.len() / PAGE_WORDS {
        write_page(words, page, block.get(Word::Seed), 1);
        block.add(Word::Progress, 1);
    }
    Ok(())
}

/// Touches every page once, keeps them all, and checks them again on command.
fn keep(block: &'static Block, words: &[AtomicU64]) -> Result<(), Denial> {
    hoard(block, words)?;
    wait_for(block, 1);
    (0..words.len() / PAGE_WORDS).for_each(|page| check_page(block, words, page, block.get(Word::Seed), 1));
    Ok(())
}

/// Waits until the block has this command.
pub fn wait_for(block: &'static Block, command: u64) {
    while block.get(Word::Command) < command {
        let _ = user_rt::invoke::yield_now();
    }
}

/// Pages that [`favourites`] uses all the time.
pub const FAVOURITES: usize = 8;

/// Goes through the region's other pages, and reads its favourites between any two of them. The
/// result is the number of faults.
fn favourites(block: &'static Block, words: &[AtomicU64]) -> Result<(), Denial> {
    let seed = block.get(Word::Seed);
    let pages = words.len() / PAGE_WORDS;
    (0..pages).for_each(|page| write_page(words, page, seed, 1));
    let before = Pager::own().account()?.faults;
    for step in 0..block.get(Word::Amount) as usize {
        let page = FAVOURITES + step % (pages - FAVOURITES);
        check_word(block, words, page, step % PAGE_WORDS, seed, 1);
        (0..FAVOURITES).for_each(|page| check_word(block, words, page, step % PAGE_WORDS, seed, 1));
    }
    block.set(Word::Result, Pager::own().account()?.faults - before);
    Ok(())
}
