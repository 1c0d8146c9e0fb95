//! A counter in the charge of a pager: at each call it takes a page that it has not used before,
//! and when its region is full, it sees that all is there, and gets a new one.

use core::sync::atomic::Ordering::Relaxed;

use abi::PAGE_SIZE;
use user_rt::cap::Access;
use user_rt::paging::{Denial, Pager, Region};
use user_rt::spawn::own;

use crate::servers::{GREEDY, HELD, of, serve};

/// Pages of a region, and more than a hoard may have by its description.
const PAGES: u64 = 16;
const TOO_MANY: u64 = 33;
const PAGE_WORDS: usize = PAGE_SIZE as usize / 8;

/// A region that is being filled.
struct Hoard {
    region: Region,
    used: usize,
    /// The first number that it was given.
    first: u64,
}

impl Hoard {
    fn new(first: u64) -> Hoard {
        let region = Pager::own().anonymous(PAGES, Access::Write);
        let region = region.unwrap_or_else(|denial| give_up("no memory", denial));
        Hoard { region, used: 0, first }
    }

    /// Keeps a number in the next page.
    ///
    /// # Panics
    /// A new page is not empty, or what was kept is lost.
    fn keep(&mut self, number: u64) {
        if self.used == PAGES as usize {
            for (page, expected) in (0..self.used).zip(self.first..) {
                let kept = self.region.words()[page * PAGE_WORDS].load(Relaxed);
                assert_eq!(kept, expected, "lost: page {page} of a hoard");
            }
            let full = core::mem::replace(self, Hoard::new(number)).region;
            Pager::own().give_back(full).unwrap_or_else(|denial| give_up("it is kept", denial));
        }
        let words = &self.region.words()[self.used * PAGE_WORDS..][..PAGE_WORDS];
        assert!(words.iter().all(|word| word.load(Relaxed) == 0), "a new page of somebody else's");
        words[0].store(number, Relaxed);
        words[PAGE_WORDS - 1].store(number, Relaxed);
        self.used += 1;
    }
}

/// Ends the process, whose pager denies something: quietly if that has ended, because its clients
/// end with it.
fn give_up(what: &str, denial: Denial) -> ! {
    if denial == Denial::NoPager {
        let lives = own::process().kill();
        panic!("it lives: {lives:?}");
    }
    panic!("{what}: {denial}")
}

pub fn count() -> ! {
    let (mut count, mut kept) = (0, 0);
    let mut hoard = Hoard::new(1);
    serve(|call| {
        if call.message.label == GREEDY {
            let denied = Pager::own().anonymous(TOO_MANY, Access::Write).err();
            return of(denied.map_or(0, |denial: Denial| denial as u64));
        }
        loop {
            kept += 1;
            hoard.keep(kept);
            if call.message.label != HELD {
                break;
            }
        }
        count += 1;
        of(count)
    })
}
