//! What workers check: random pages of their space, of every owner, against the model.

use abi::PAGE_SIZE;
use guest_tests::random::Random;
use guest_tests::run::Run as _;

use crate::board::{LIKED, Of, PLACES, Total, address};
use crate::content::{self, CODE_AT, MARKS_AT, Page, could_be, is_filled, large_page};
use crate::probe::probe;
use crate::word::{How, Met, Perm, Thing, Word, Wrong, judge};
use crate::worker::Worker;

/// Pages tried for one that is mapped.
const TRIES: u64 = 6;
/// Most accesses to one page, and accesses after it has changed.
const STARES: u64 = 1000;
const AFTERWARDS: u32 = 3;

/// A word of a page, and the access.
#[derive(Clone, Copy, Debug)]
struct Aim {
    owner: usize,
    place: usize,
    how: How,
    /// Page of a large place.
    page: u64,
    word: u64,
}

impl Worker {
    /// Makes a few accesses to random pages.
    pub fn look_around(&mut self) {
        for _ in 0..=self.random.below(2) {
            let (owner, place) = self.pick_page();
            self.look(owner, place, None);
        }
        if self.random.chance(20) {
            self.stare();
        }
    }

    /// Picks a page of this space, mapped more often than not.
    fn pick_page(&mut self) -> (usize, usize) {
        let workers = self.board.get(Total::Workers);
        let mut found = (0, 0);
        for _ in 0..=self.random.below(TRIES) {
            found = (self.random.below(workers) as usize, self.pick_place());
            if self.word_here(found.0, found.1).now() != Perm::None {
                break;
            }
        }
        found
    }

    /// Picks any place, or one of those that all workers prefer.
    pub fn pick_place(&mut self) -> usize {
        let liked = self.random.chance(40);
        self.random.below(if liked { LIKED } else { PLACES } as u64) as usize
    }

    fn word_here(&self, owner: usize, place: usize) -> Word {
        self.board.word(self.space, owner, place).in_era(self.era)
    }

    /// Accesses a mapped page until its owner changes it, and then immediately a few times more: a
    /// translation that this CPU has not flushed is still in its TLB. Owners prefer to change pages
    /// that another worker accesses so. Later accesses would not help, because other work flushes
    /// the TLB.
    fn stare(&mut self) {
        let (owner, place) = self.pick_page();
        let first = self.word_here(owner, place);
        if first.now() == Perm::None {
            return;
        }
        let aim = self.aim(owner, place, first, None);
        let mut afterwards = AFTERWARDS;
        self.board.workers[self.me].set(Of::Staring, staring(owner, place));
        for _ in 0..self.random.below(STARES) {
            self.look_at(aim);
            if self.word_here(owner, place) != first {
                afterwards -= 1;
            }
            if afterwards == 0 {
                break;
            }
        }
        self.board.workers[self.me].set(Of::Staring, 0);
    }

    /// Picks a page of this worker's that another worker accesses all the time: space, era and
    /// place.
    pub fn pick_stared_at(&mut self) -> Option<(usize, u64, usize)> {
        let workers = self.board.get(Total::Workers) as usize;
        let start = self.random.below(workers as u64) as usize;
        (start..workers).chain(0..start).find_map(|other| {
            let (owner, place) = stared_at(self.board.workers[other].get(Of::Staring))?;
            let space = self.board.workers[other].get(Of::Space) as usize;
            let era = self.board.era(space).filter(|_| owner == self.me)?;
            (self.my_word(space, place).in_era(era).now() != Perm::None).then_some((space, era, place))
        })
    }

    /// Makes one access to a page.
    pub fn look(&mut self, owner: usize, place: usize, how: Option<How>) {
        let word = self.word_here(owner, place);
        let aim = self.aim(owner, place, word, how);
        self.look_at(aim);
    }

    fn aim(&mut self, owner: usize, place: usize, word: Word, how: Option<How>) -> Aim {
        let thing = word.thing();
        let how = how.unwrap_or_else(|| choose(&mut self.random, word));
        // The page may change. Of a large page only the first 4 KiB are executed: when QEMU's TCG
        // drops a large page, it flushes all its translations except the addresses that it last
        // jumped to; of these it flushes only those near the address that INVLPG names.
        let page = match place == crate::board::LARGE && (thing.large || word.now() == Perm::None) {
            true if how != How::Execute => large_page(self.random.next()),
            _ => 0,
        };
        let word = match how {
            How::Execute => CODE_AT,
            How::Write => MARKS_AT + self.random.below(content::WORDS - MARKS_AT),
            How::Read if self.random.chance(70) => {
                Page::of(owner as u64, thing, page).place(self.random.next())
            }
            How::Read => self.random.below(MARKS_AT),
        };
        Aim { owner, place, how, page, word }
    }

    fn look_at(&mut self, aim: Aim) {
        let Aim { owner, place, how, page, word } = aim;
        let at = address(owner, place) + page * PAGE_SIZE + word * 8;
        let life = self.board.life(owner);
        let before = self.word_here(owner, place);
        if how == How::Execute && !may_execute(before) {
            return;
        }
        let met = probe(how, at, content::mark(owner as u64, before.thing(), word));
        let after = self.word_here(owner, place);
        let same_life = life.is_some() && self.board.life(owner) == life;
        self.accesses += 1;
        self.faults += u64::from(met == Met::Fault);
        // If the owner has ended, the kernel takes its frames away at any time.
        if !same_life {
            return;
        }
        // By now a small page may have replaced a large one.
        let small = |word: Word| word.now() != Perm::None && !word.thing().large;
        if page > 0 && (small(before) || small(after)) {
            return;
        }
        let whose = owner as u64;
        let fits = |thing: Option<Thing>, value: u64| match thing {
            Some(thing) => fits(whose, thing, aim, value),
            None => could_be(whose, word, value) || how == How::Execute && could_be(whose, CODE_AT, value),
        };
        if let Some(wrong) = judge(before, after, how, met, fits) {
            self.tell(wrong, aim, met, [before, after]);
        }
    }

    fn tell(&self, wrong: Wrong, aim: Aim, met: Met, words: [Word; 2]) {
        let total = match wrong {
            Wrong::Stale => Total::Stale,
            Wrong::Lost => Total::Lost,
        };
        let Aim { owner, place, how, page, word } = aim;
        let at = address(owner, place) + page * PAGE_SIZE + word * 8;
        let [before, after] = words;
        self.wrong(
            total,
            format_args!(
                "{how:?} {at:#x} (worker {owner} of space {}, place {place}, word {word}) met {met:x?}; \
                 before {before:?}, after {after:?}",
                self.board.workers[owner].get(Of::Space),
            ),
        );
    }

    /// Checks all pages of this space while no worker changes any.
    pub fn look_at_all(&mut self) {
        for owner in 0..self.board.get(Total::Workers) as usize {
            self.board.doing(self.me, crate::ops::CHECKING, owner as u64);
            for place in 0..PLACES {
                let word = self.word_here(owner, place);
                if word.changing() && self.board.life(owner).is_some() {
                    self.wrong(Total::Stuck, format_args!("worker {owner} left {word:?} at place {place}"));
                }
                if word.now() != Perm::None || owner == self.me || self.random.chance(20) {
                    self.look(owner, place, None);
                }
            }
        }
    }
}

/// Encodes [`Of::Staring`].
const fn staring(owner: usize, place: usize) -> u64 {
    1 << 16 | (owner as u64) << 8 | place as u64
}

fn stared_at(word: u64) -> Option<(usize, usize)> {
    (word != 0).then_some((word as usize >> 8 & 0xff, (word as usize & 0xff) % PLACES))
}

/// Picks an access for a page, mostly one that the page allows.
fn choose(random: &mut Random, word: Word) -> How {
    let pick = random.below(100);
    match word.now() {
        Perm::None => [How::Read, How::Write, How::Execute][pick as usize % 3],
        Perm::Read if pick < 85 => How::Read,
        Perm::Write if pick < 50 => How::Read,
        Perm::Write if pick < 95 => How::Write,
        Perm::Execute if pick < 55 => How::Execute,
        Perm::Execute if pick < 90 => How::Read,
        Perm::Execute => How::Write,
        Perm::Read | Perm::Write => [How::Write, How::Execute][pick as usize % 2],
    }
}

/// Whether a page may be executed: it has its function, or the attempt must fault.
fn may_execute(word: Word) -> bool {
    !word.either().contains(&Perm::Execute) || word.thing().filled
}

/// Whether a value can come from a page of `owner`'s.
fn fits(owner: u64, thing: Thing, aim: Aim, value: u64) -> bool {
    let page = Page::of(owner, thing, aim.page);
    let expected = match aim.how {
        How::Execute => page.returns(),
        _ if is_filled(thing.large, aim.page) => page.word(aim.word),
        _ => 0,
    };
    // A page that is being filled has some of its words.
    value == expected || (!thing.filled && value == 0)
}
