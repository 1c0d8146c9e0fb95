//! Operations on pages of pools.
//!
//! A page of a pool has no capability, only an address. So the words of such pages describe their
//! contents, and the worker itself keeps their frames ([`Origins`]). Only the worker that made a
//! page's frame operates on the page, at its own addresses, in any space. So the worker knows how
//! many pools have the page, and the kernel's right answer.

use abi::{Error, MAP_POOL, Op, PAGE_SIZE, PageMode, PageRange};
use guest_tests::run::Run as _;
use user_rt::arch::{Args, syscall};
use user_rt::cap::{Frame, Handle, VSpace};
use user_rt::invoke::Pins;
use user_rt::pages::Pooled;
use user_rt::spawn::own;
use user_rt::{Refusal, Result};

use crate::board::{LARGE, LARGE_SIZE, PLACES, SMALL_PAGES, SPACES_MAX, Total, address};
use crate::cast::space_slot;
use crate::content::{MARKS_AT, WORDS, is_mark_of};
use crate::objects::{Object, Run};
use crate::ops::{access, pages};
use crate::probe::probe;
use crate::word::{How, Met, Perm, Pool, Thing, Word, passed};
use crate::worker::Worker;

/// Most consecutive places of one operation.
const ROW_MAX: u64 = 12;
/// Tries to find a free place, or a free frame.
const TRIES: u32 = 8;

/// The frame's number and page of each place's pool page.
pub struct Origins([[(u32, u8); PLACES]; SPACES_MAX]);

impl Origins {
    pub const fn new() -> Origins {
        Origins([[(0, 0); PLACES]; SPACES_MAX])
    }
}

/// How many pools have a page: certainly, and perhaps, if spaces are being destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    pub certain: u32,
    pub perhaps: u32,
}

/// Consecutive places of this worker's in a space.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub space: usize,
    pub era: u64,
    pub place: usize,
    pub count: u32,
    pub large: bool,
}

impl Row {
    pub fn places(self) -> core::ops::Range<usize> {
        self.place..self.place + self.count as usize
    }

    pub const fn page_size(self) -> u64 {
        if self.large { LARGE_SIZE } else { PAGE_SIZE }
    }

    pub const fn bytes(self) -> u64 {
        self.count as u64 * self.page_size()
    }

    pub const fn address(self, worker: usize) -> u64 {
        address(worker, self.place)
    }

    pub const fn range(self, worker: usize, mode: PageMode) -> PageRange {
        PageRange { address: self.address(worker), count: self.count as u64, large: self.large, mode }
    }

    const fn pooled(self, worker: usize) -> Pooled {
        Pooled { address: self.address(worker), count: self.count as u64, large: self.large }
    }

    /// Returns the row with that many more places.
    pub const fn and(self, more: u32) -> Row {
        Row { count: self.count + more, ..self }
    }

    pub const fn overlaps(self, other: Row) -> bool {
        self.space == other.space
            && self.place < other.place + other.count as usize
            && other.place < self.place + self.count as usize
    }
}

/// The kernel's right answer, and the address in it.
pub type Due = Option<(Error, u64)>;

// --- the words -----------------------------------------------------------------------------------

impl Worker {
    pub fn word_at(&self, space: usize, era: u64, place: usize) -> Word {
        self.my_word(space, place).in_era(era)
    }

    /// Returns the pool's page at a place of a space.
    fn pooled_at(&self, space: usize, era: u64, place: usize) -> Option<Thing> {
        let word = self.word_at(space, era, place);
        (word.now() != Perm::None && word.thing().is_pooled()).then(|| word.thing())
    }

    fn is_empty(&self, row: Row, place: usize) -> bool {
        place < PLACES && self.word_at(row.space, row.era, place).now() == Perm::None
    }

    pub fn space_of(&self, row: Row) -> VSpace {
        VSpace::at(space_slot(row.space, row.era))
    }

    pub fn is_row_gone(&self, row: Row) -> bool {
        self.is_over(row.space, row.era)
    }

    /// Writes the words of a row, each computed from the current one.
    pub fn write_row(&self, row: Row, next: impl Fn(usize, Word) -> Word) {
        for place in row.places() {
            let word = self.word_at(row.space, row.era, place);
            self.board.set_word(row.space, self.me, place, next(place, word));
        }
    }

    pub fn begin_row(&self, row: Row, next: Perm) {
        self.write_row(row, |_, word| word.change(row.era, word.thing(), next));
    }

    /// Writes that the row is unchanged, after a failed operation.
    pub fn settle_as_it_was(&self, row: Row) {
        self.write_row(row, |_, word| word.settle(row.era, word.thing(), word.now()));
    }

    fn origin(&self, row: Row, place: usize) -> (u32, u32) {
        let (id, page) = self.origins.0[row.space][place];
        (id, u32::from(page))
    }

    fn set_origin(&mut self, space: usize, place: usize, id: u32, page: u32) {
        self.origins.0[space][place] = (id, page as u8);
    }

    /// Counts the pools that have a page of a frame.
    pub fn held(&self, id: u32, page: u32) -> Held {
        let mut held = Held::default();
        for space in 0..self.board.get(Total::Spaces) as usize {
            let era = self.board.era(space);
            let places = self.origins.0[space].iter().enumerate();
            for (place, _) in places.filter(|(_, of)| **of == (id, page as u8)) {
                let word = self.my_word(space, place);
                if word.now() != Perm::None && word.thing().is_pooled() {
                    held.perhaps += 1;
                    held.certain += u32::from(era.is_some_and(|era| word.in_era(era) == word));
                }
            }
        }
        held
    }

    /// Counts the mappings of a page through the frame's capability.
    fn mapped(&self, id: u32, page: u32) -> Held {
        let mut held = Held::default();
        for space in 0..self.board.get(Total::Spaces) as usize {
            let era = self.board.era(space);
            for place in 0..PLACES {
                let word = self.my_word(space, place);
                let thing = word.thing();
                let is_it = !thing.is_pooled() && thing.id == id && thing.page == page;
                if is_it && word.either() != [Perm::None; 2] {
                    let certain = word.now() != Perm::None && era.is_some_and(|era| word.in_era(era) == word);
                    held.perhaps += 1;
                    held.certain += u32::from(certain);
                }
            }
        }
        held
    }

    /// Notes that a page that no pool has any more is the frame's again.
    fn note_left(&mut self, id: u32, page: u32) {
        if self.held(id, page).perhaps == 0 {
            self.objects.leave_pools(id, page);
        }
    }

    /// Returns a frame's current state: spaces with pages of it in their pools may have ended.
    pub fn refresh(&mut self, object: Object) -> Object {
        for page in (0..object.pages).filter(|page| object.may_be_pooled(*page)) {
            self.note_left(object.id, page);
        }
        self.objects.find(object.id).unwrap_or(object)
    }

    /// Picks consecutive pages of a pool, or fewer.
    pub fn pick_pooled(&mut self) -> Option<Row> {
        let stared = if self.random.chance(60) { self.pick_stared_at() } else { None };
        let (space, era, start) = stared.unwrap_or_else(|| {
            let (space, era) = self.pick_space();
            (space, era, self.pick_place())
        });
        self.pick_pooled_from(space, era, start)
    }

    pub fn pick_pooled_in(&mut self, space: usize, era: u64) -> Option<Row> {
        let start = self.pick_place();
        self.pick_pooled_from(space, era, start)
    }

    fn pick_pooled_from(&mut self, space: usize, era: u64, start: usize) -> Option<Row> {
        let has = |place: usize| self.pooled_at(space, era, place);
        let place = (start..PLACES).chain(0..start).find(|place| has(*place).is_some())?;
        let large = has(place)?.large;
        // With small bounds a message has room for few pages.
        let row_max = if self.has_small_limits() { 1 } else { ROW_MAX as usize };
        let end = if place == LARGE { PLACES } else { SMALL_PAGES.min(place + row_max) };
        let most = (place..end).take_while(|place| has(*place).is_some()).count() as u64;
        let count = 1 + self.random.below(most) as u32;
        Some(Row { space, era, place, count, large })
    }

    /// Picks empty places for the pages of a row.
    pub fn pick_gap(&mut self, like: Row, count: u32, space: usize, era: u64) -> Option<Row> {
        for _ in 0..TRIES {
            let place = if like.large { LARGE } else { self.pick_place() % SMALL_PAGES };
            let gap = Row { space, era, place, count, large: like.large };
            let fits = like.large || place + count as usize <= SMALL_PAGES;
            if fits && gap.places().all(|place| self.is_empty(gap, place)) {
                return Some(gap);
            }
        }
        None
    }

    /// Picks a target for the pages of a row, mostly an empty one.
    pub fn pick_target(&mut self, like: Row, space: usize, era: u64) -> Option<Row> {
        if like.large || self.random.chance(85) {
            return self.pick_gap(like, like.count, space, era);
        }
        let place = self.random.below((SMALL_PAGES + 1) as u64 - u64::from(like.count)) as usize;
        Some(Row { space, era, place, count: like.count, large: false })
    }

    /// Returns the kernel's answer if the target is not empty.
    pub fn in_the_way(&self, target: Row) -> Due {
        let taken = target.places().find(|place| !self.is_empty(target, *place))?;
        Some((Error::NoRoom, address(self.me, taken)))
    }

    /// Sometimes adds a missing page to the row. Returns the row, and the right answer then.
    pub fn and_one_that_is_not(&mut self, row: Row, percent: u64) -> (Row, Due) {
        let next = row.place + row.count as usize;
        if row.large || next >= SMALL_PAGES || !self.random.chance(percent) {
            return (row, None);
        }
        if self.pooled_at(row.space, row.era, next).is_some() {
            return (row, None);
        }
        (row.and(1), Some((Error::NoPage, address(self.me, next))))
    }

    /// Whether an answer is the expected one. If a space ends meanwhile, every answer is.
    pub fn judge(&self, what: &str, row: Row, answer: Result<()>, due: Due, gone: bool) -> bool {
        let got = answer.err().map(|refusal| (refusal.error, refusal.detail));
        // A page table that replaces a large page may be all that is there.
        let no_place = row.large && got.is_some_and(|(error, _)| error == Error::NoRoom);
        let full = got.is_some_and(|(error, _)| self.may_be_full(error));
        if got == due || gone || no_place || full {
            return got.is_none();
        }
        let at = row.address(self.me);
        self.wrong(Total::Refused, format_args!("{what} at {at:#x}, {row:?}: {answer:?}, due {due:x?}"));
        false
    }
}

// --- operations ----------------------------------------------------------------------------------

impl Worker {
    /// Picks a frame to put into a pool, an unused one if possible.
    fn pick_unused(&mut self) -> Option<Object> {
        let mut found = None;
        for _ in 0..TRIES / 2 {
            let object = self.pick_object().filter(|object| !object.is_global());
            found = object.or(found);
            let object = object?;
            if (0..object.pages).all(|page| self.is_unused(&object, page)) {
                break;
            }
        }
        found.or_else(|| self.make())
    }

    fn is_unused(&self, object: &Object, page: u32) -> bool {
        !object.may_be_pooled(page) && self.mapped(object.id, page).perhaps == 0
    }

    pub fn map_pool(&mut self) {
        let Some(object) = self.pick_unused() else { return };
        let Some(run) = self.pick_empty_for(object) else { return };
        let run = Run { pool: Pool::Has, ..run };
        let perm = if self.random.chance(85) { Perm::Write } else { Perm::Read };
        // Pages that others may have mapped, by number in the run.
        let in_use = |worker: &Worker| {
            let used = |n: &u32| !worker.is_unused(&run.object, run.first + n);
            (0..run.count).filter(used).fold(0u32, |mask, n| mask | 1 << n)
        };
        let before = in_use(self);
        self.begin(&run, perm);
        let answer =
            map_into_pool(&self.vspace(&run), &Frame::at(object.cap), self.address(&run), perm, &run);
        self.count();
        let done = self.pooled_outcome(&run, answer, before | in_use(self));
        self.settle(&run, done, perm);
        if answer.is_err() && self.is_gone(&run) {
            run.pages().for_each(|(_, thing)| self.objects.doubt(thing.id, thing.page));
        }
        for page in run.first..run.first + done {
            if run.object.may_be_pooled(page) {
                self.objects.leave_pools(object.id, page);
            }
            self.objects.enter_pool(object.id, page);
            self.set_origin(run.space, run.place + (page - run.first) as usize, object.id, page);
        }
        if run.space == self.space {
            (0..done).for_each(|page| self.look_after_pooled(&run.sub(page, 1), perm));
        }
    }

    /// Returns how many pages came into the pool: those before the first that is mapped elsewhere.
    fn pooled_outcome(&self, run: &Run, answer: Result<()>, in_use: u32) -> u32 {
        let at = self.address(run);
        let wrong = |answer: &dyn core::fmt::Display| {
            self.wrong(Total::Refused, format_args!("into the pool at {at:#x}, {run:?}: {answer}"));
        };
        let Err(refusal) = answer else {
            let certain = |n: u32| {
                let (id, page) = (run.object.id, run.first + n);
                self.mapped(id, page).certain + self.held(id, page).certain > 0
            };
            if (0..run.count).any(certain) {
                wrong(&"pages that are mapped elsewhere");
            }
            return run.count;
        };
        match (refusal.error, self.pages_before(run, refusal.detail)) {
            _ if self.is_gone(run) => 0,
            (Error::InUse, Some(done)) if in_use & 1 << done != 0 => done,
            (Error::NoTables, _) if run.place == LARGE => 0,
            (error, Some(done)) if self.may_be_full(error) => done,
            _ => {
                wrong(&refusal);
                0
            }
        }
    }

    /// Checks a page that has just come into this space's pool.
    fn look_after_pooled(&mut self, run: &Run, perm: Perm) {
        if !self.word_at(run.space, run.era, run.place).thing().filled {
            let object = self.objects.find(run.object.id).unwrap_or(run.object);
            self.expect_clear(&Run { object, ..*run });
            if perm == Perm::Write && self.random.chance(90) {
                self.fill(run.place);
            }
        }
    }

    pub fn drop_pooled(&mut self) {
        let Some(row) = self.pick_pooled() else { return self.map_pool() };
        let (asked, due) = self.and_one_that_is_not(row, 10);
        self.begin_row(row, Perm::None);
        let answer = self.space_of(row).drop_pages(asked.pooled(self.me));
        self.count();
        let gone = self.is_row_gone(row);
        let went = self.judge("unmap of the pool", row, answer, due, gone) || due.is_some() && !gone;
        if !went {
            return self.settle_as_it_was(row);
        }
        self.settle_nothing(row);
        if row.space == self.space {
            self.look(self.me, row.place, None);
        }
    }

    /// Writes that no page of a row is there any more.
    fn settle_nothing(&mut self, row: Row) {
        self.write_row(row, |_, word| word.settle(row.era, Thing::NOTHING, Perm::None));
        for place in row.places() {
            let (id, page) = self.origin(row, place);
            self.note_left(id, page);
        }
    }

    pub fn protect_pooled(&mut self) {
        let Some(row) = self.pick_pooled() else { return self.map_pool() };
        let perm = if self.random.chance(65) { Perm::Write } else { Perm::Read };
        // The first page that others see, too: perhaps before, certainly afterwards.
        let shared = |worker: &Worker, place: usize, certainly: bool| {
            let (id, page) = worker.origin(row, place);
            let held = worker.held(id, page);
            perm == Perm::Write && (if certainly { held.certain } else { held.perhaps }) > 1
        };
        let perhaps: u64 =
            row.places().filter(|place| shared(self, *place, false)).fold(0, |m, p| m | 1 << p);
        self.begin_row(row, perm);
        let answer = self.space_of(row).protect_pooled(row.pooled(self.me), access(perm));
        self.count();
        let stays = row.places().find(|place| shared(self, *place, true));
        let first = match answer {
            Ok(()) if stays.is_none() || self.is_row_gone(row) => row.places().end,
            Err(_) if self.is_row_gone(row) => row.place,
            Err(Refusal { error: Error::InUse, detail, .. }) => row
                .places()
                .find(|place| address(self.me, *place) == detail && perhaps & 1 << place != 0)
                .unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        if first == usize::MAX {
            let at = row.address(self.me);
            self.wrong(Total::Refused, format_args!("protect {at:#x} {perm:?}, {row:?}: {answer:?}"));
            return self.settle_as_it_was(row);
        }
        self.write_row(row, |place, word| {
            let thing = word.thing();
            match perm {
                _ if place >= first => word.settle(row.era, thing, word.now()),
                Perm::Write => word.settle(row.era, Thing { pool: Pool::Has, ..thing }, perm),
                _ => word.settle(row.era, thing, perm),
            }
        });
        if row.space == self.space && first > row.place {
            self.fill_what_can_be(Row { count: (first - row.place) as u32, ..row });
        }
    }

    /// Fills pages that were never filled and can be written now.
    fn fill_what_can_be(&mut self, row: Row) {
        for place in row.places() {
            let word = self.word_at(row.space, row.era, place);
            if word.now() == Perm::Write && !word.thing().filled && !self.fill(place) {
                return;
            }
        }
        self.look(self.me, row.place, None);
    }

    pub fn pick_mode(&mut self) -> PageMode {
        match self.random.below(100) {
            0..50 => PageMode::Move,
            50..70 => PageMode::Share,
            _ => PageMode::Copy,
        }
    }

    /// Writes the words before pages move from one row to another.
    pub fn begin_passing(&self, from: Row, to: Row, mode: PageMode, due: Due) {
        self.begin_row(from, if mode == PageMode::Move { Perm::None } else { Perm::Read });
        if due.is_some() {
            return;
        }
        for (source, target) in from.places().zip(to.places()) {
            let given = self.word_at(from.space, from.era, source);
            let word = self.word_at(to.space, to.era, target);
            // Its state before the change.
            let perm = if mode == PageMode::Move { given.now() } else { Perm::Read };
            self.board.set_word(to.space, self.me, target, word.change(to.era, given.thing(), perm));
        }
    }

    /// Writes the words after pages were sent, or were not.
    pub fn settle_passing(&mut self, from: Row, to: Row, mode: PageMode, due: Due, went: bool) {
        self.board.add(if went { Total::Passed } else { Total::Stayed }, 1);
        if !went {
            self.settle_as_it_was(from);
            if due.is_none() {
                self.settle_as_it_was(to);
            }
            return;
        }
        // The receiving places describe what arrived, since the call began: the sending space may
        // have ended since then, and the words of its places have been cleared.
        for (source, target) in from.places().zip(to.places()) {
            let (id, page) = self.origin(from, source);
            self.set_origin(to.space, target, id, page);
            let given = self.word_at(from.space, from.era, source);
            let word = self.word_at(to.space, to.era, target);
            let (arrived, left) = passed(given, word, from.era, mode);
            self.board.set_word(to.space, self.me, target, word.settle(to.era, arrived, word.next()));
            self.board.set_word(from.space, self.me, source, left);
        }
    }

    pub fn transfer(&mut self) {
        let Some(from) = self.pick_pooled() else { return self.map_pool() };
        let (space, era) = self.pick_space();
        let (asked, missing) = self.and_one_that_is_not(from, 8);
        let to = match missing {
            None => self.pick_target(from, space, era),
            Some(_) => self.pick_gap(asked, asked.count, space, era),
        };
        let Some(to) = to else { return };
        let due = missing.or_else(|| self.in_the_way(to));
        let mode = self.pick_mode();
        self.begin_passing(from, to, mode, due);
        let answer =
            self.space_of(from).transfer(asked.range(self.me, mode), &self.space_of(to), to.address(self.me));
        self.count();
        let gone = self.is_row_gone(from) || self.is_row_gone(to);
        let went = self.judge("transfer", from, answer, due, gone);
        self.settle_passing(from, to, mode, due, went);
        self.look_after_passing(from, to);
    }

    /// Checks this space's places of pages that were sent, or were to be sent.
    pub fn look_after_passing(&mut self, from: Row, to: Row) {
        let here = self.space;
        for row in [from, to].into_iter().filter(|row| row.space == here) {
            let place = row.place + self.random.below(u64::from(row.count)) as usize;
            self.look(self.me, place, None);
            self.look(self.me, place, Some(How::Write));
        }
    }

    pub fn copy_page(&mut self) {
        let Some(found) = self.pick_pooled() else { return self.map_pool() };
        let (board, me) = (self.board, self.me);
        let is_copied = |place: &usize| {
            let word = board.word(found.space, me, *place).in_era(found.era);
            word.now() != Perm::None && word.thing().pool == Pool::CopyOnWrite
        };
        let copied = (found.place..PLACES).chain(0..found.place).find(is_copied);
        let place = if self.random.chance(92) { copied } else { Some(found.place) };
        let Some(place) = place else { return };
        let Some(thing) = self.pooled_at(found.space, found.era, place) else { return };
        let Some((object, page)) = self.pick_copy(thing.large) else { return };
        // The picked page may have gone in a reset of all memory.
        if self.pooled_at(found.space, found.era, place) != Some(thing) {
            return;
        }
        let row = Row { place, count: 1, large: thing.large, ..found };
        self.copy_to(row, thing, &object, page);
    }

    /// Picks a page for a copy, mostly an unused one.
    fn pick_copy(&mut self, large: bool) -> Option<(Object, u32)> {
        let mut found = None;
        for _ in 0..TRIES {
            let object = self.pick_object().filter(|object| !object.is_global() && object.large == large);
            let Some(object) = object else { continue };
            let page = self.random.below(u64::from(object.pages)) as u32;
            if self.is_unused(&object, page) {
                return Some((object, page));
            }
            found = found.or(Some((object, page)));
        }
        if self.random.chance(15) { found } else { None }
    }

    fn copy_to(&mut self, row: Row, thing: Thing, object: &Object, page: u32) {
        let (id, old_page) = self.origin(row, row.place);
        let at = row.address(self.me);
        let here = row.space == self.space && !row.large;
        let has_to_be = self.held(id, old_page);
        let in_use = |worker: &Worker| !worker.is_unused(object, page);
        let (used_before, copied) = (in_use(self), thing.pool == Pool::CopyOnWrite);
        let before = if here && copied && self.random.chance(30) { self.sum(row, true) } else { None };
        self.write_row(
            row,
            |_, word| {
                if copied { word.change_in_transit(row.era, thing, Perm::Write) } else { word }
            },
        );
        let answer = self.space_of(row).copy_page(&Frame::at(object.cap), at, u64::from(page));
        self.count();
        let held = self.held(id, old_page);
        let fine = match &answer {
            _ if self.is_row_gone(row) => true,
            Err(refusal) if self.may_be_full(refusal.error) => true,
            Ok(true) => copied && has_to_be.perhaps > 1,
            Ok(false) => copied && held.certain <= 1,
            Err(refusal) if !copied => (refusal.error, refusal.detail) == (Error::NoPage, at),
            Err(refusal) => refusal.error == Error::InUse && (used_before || in_use(self)),
        };
        if !fine {
            let what = format_args!("copying {at:#x}, {row:?}, {thing:?}, held {has_to_be:?}: {answer:?}");
            self.wrong(Total::Refused, what);
        }
        let Ok(used) = answer else {
            if copied {
                self.settle_as_it_was(row);
            }
            if self.is_row_gone(row) {
                self.objects.doubt(object.id, page);
                self.objects.doubt(id, old_page);
            }
            return;
        };
        self.board.add(Total::Copies, u64::from(used));
        let own = Thing { pool: Pool::Has, ..thing };
        self.write_row(row, |_, word| word.settle(row.era, own, Perm::Write));
        if used {
            if object.may_be_pooled(page) {
                self.objects.leave_pools(object.id, page);
            }
            self.objects.enter_pool(object.id, page);
            self.set_origin(row.space, row.place, object.id, page);
            self.note_left(id, old_page);
        }
        self.compare(row, before);
        if row.space == self.space {
            self.look(self.me, row.place, Some(How::Write));
        }
    }

    /// Checks that operations on a frame's capability do not affect its pages in a pool.
    pub fn use_by_frame(&mut self) {
        let Some(row) = self.pick_pooled() else { return self.map_pool() };
        let (id, page) = self.origin(row, row.place);
        let Some(object) = self.objects.find(id) else { return };
        let at = row.address(self.me);
        let run = Run {
            space: row.space,
            era: row.era,
            place: row.place,
            object,
            first: page,
            count: 1,
            pool: Pool::No,
        };
        let (space, frame) = (self.vspace(&run), Frame::at(object.cap));
        let (answer, due) = match self.random.below(4) {
            0 => (space.unmap_pages(&frame, at, pages(&run)), Error::BadAddress),
            1 => (space.protect_pages(&frame, at, access(Perm::Read), pages(&run)), Error::BadAddress),
            2 => (space.map_pages(&frame, at, access(Perm::Read), pages(&run)), Error::Mapped),
            _ => return self.map_elsewhere(row, &run, &frame),
        };
        self.count();
        self.judge("by a frame, of the pool", row, answer, Some((due, at)), self.is_row_gone(row));
        if row.space == self.space {
            self.look(self.me, row.place, None);
        }
    }

    /// Checks that a page of a pool cannot be mapped elsewhere.
    fn map_elsewhere(&mut self, row: Row, run: &Run, frame: &Frame) {
        let Some(gap) = self.pick_gap(row, 1, self.space, self.era) else { return };
        let run = Run { space: gap.space, era: gap.era, place: gap.place, ..*run };
        let at = gap.address(self.me);
        self.begin(&run, Perm::Read);
        let mapped = own::vspace().map_pages(frame, at, access(Perm::Read), pages(&run));
        self.count();
        // Its last pool may have ended with its space, or no table may be left for it.
        let excused = self.is_row_gone(row)
            || row.large && mapped.is_err_and(|refusal| refusal.error == Error::NoTables);
        if self.judge("map of a pooled page", gap, mapped, Some((Error::InUse, at)), excused) {
            let _ = own::vspace().unmap_pages(frame, at, pages(&run));
        }
        self.settle(&run, 1, Perm::None);
    }

    /// Checks that a read-only page of a pool does not change, wherever others write.
    pub fn watch(&mut self) {
        let Some(row) = self.pick_pooled_in(self.space, self.era) else { return self.map_pool() };
        let row = Row { count: 1, ..row };
        if self.word_at(row.space, row.era, row.place).now() != Perm::Read {
            return;
        }
        let before = self.sum(row, false);
        for _ in 0..=self.random.below(6) {
            self.look_around();
        }
        let after = self.sum(row, false);
        if before != after {
            let at = row.address(self.me);
            self.wrong(Total::Stale, format_args!("{at:#x}, {row:?}, changed: {before:x?} to {after:x?}"));
        }
    }

    /// Checks that a pinned frame cannot enter a pool, and stays.
    pub fn pin(&mut self) {
        let Some(object) = self.pick_object().filter(|object| !object.is_global()) else { return };
        let frame = Frame::at(object.cap);
        let pinned = frame.pin(&own::machine());
        self.count();
        let pooled = |held: fn(Held) -> u32, worker: &Worker| {
            (0..object.pages).any(|page| held(worker.held(object.id, page)) > 0)
        };
        let fine = match &pinned {
            Ok(_) => !pooled(|held| held.certain, self),
            Err(refusal) => {
                refusal.error == Error::InUse && (0..object.pages).any(|page| object.may_be_pooled(page))
            }
        };
        if !fine {
            self.wrong(Total::Refused, format_args!("pinning {object:?}: {pinned:x?}"));
        }
        if pinned.is_err() {
            return;
        }
        self.use_pinned(&object, &frame);
        if self.random.chance(5) {
            self.reset_with(Pins::Ignore);
            return;
        }
        let unpinned = [frame.unpin(&own::machine()), frame.unpin(&own::machine())]
            .map(|left| left.map_err(|refusal| refusal.error));
        self.count();
        if unpinned != [Ok(0), Err(Error::BadState)] {
            self.wrong(Total::Refused, format_args!("unpinning {object:?}: {unpinned:?}"));
        }
    }

    fn use_pinned(&mut self, object: &Object, frame: &Frame) {
        let deleted = own::cnode().delete(object.cap).map_err(|refusal| refusal.error);
        self.count();
        if deleted != Err(Error::InUse) {
            self.wrong(Total::Refused, format_args!("deleting {object:?}, which is pinned: {deleted:?}"));
        }
        let Some(run) = self.pick_empty_for(*object) else { return };
        let pooled = map_into_pool(&self.vspace(&run), frame, self.address(&run), Perm::Write, &run);
        self.count();
        let error = pooled.map_err(|refusal| refusal.error);
        let no_tables = run.place == LARGE && error == Err(Error::NoTables);
        let full = error.is_err_and(|error| self.may_be_full(error));
        if error != Err(Error::InUse) && !self.is_gone(&run) && !no_tables && !full {
            self.wrong(Total::Refused, format_args!("{run:?}, which is pinned, into the pool: {error:?}"));
        }
    }
}

// --- contents ------------------------------------------------------------------------------------

/// Contents of a page: a sum of the words before the marks, and the marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sum {
    words: u64,
    marks: [u64; (WORDS - MARKS_AT) as usize],
}

impl Worker {
    /// Sums the page at a place of this space; of a large page the first 4 KiB. Without `all`, only
    /// some words.
    fn sum(&mut self, row: Row, all: bool) -> Option<Sum> {
        let mut sum = Sum { words: 0, marks: [0; (WORDS - MARKS_AT) as usize] };
        let base = row.address(self.me);
        let step = if all { 1 } else { 7 };
        for word in (0..MARKS_AT).step_by(step).chain(MARKS_AT..WORDS) {
            let Met::Value(value) = probe(How::Read, base + word * 8, 0) else {
                self.wrong(Total::Lost, format_args!("a fault at {:#x}, {row:?}", base + word * 8));
                return None;
            };
            match word.checked_sub(MARKS_AT) {
                Some(mark) => sum.marks[mark as usize] = value,
                None => sum.words = sum.words.rotate_left(5) ^ value,
            }
        }
        self.accesses += WORDS / step as u64;
        Some(sum)
    }

    /// Checks that a copy has the page's contents, except marks that were made since.
    fn compare(&mut self, row: Row, before: Option<Sum>) {
        let Some(before) = before else { return };
        let Some(after) = self.sum(row, true) else { return };
        let me = self.me as u64;
        let same = |(was, is): (u64, u64)| was == is || is != 0 && is_mark_of(me, is);
        if before.words != after.words || !before.marks.into_iter().zip(after.marks).all(same) {
            let at = row.address(self.me);
            self.wrong(Total::Stale, format_args!("the copy at {at:#x}: {before:x?} is now {after:x?}"));
        }
    }
}

fn map_into_pool(space: &VSpace, frame: &Frame, at: u64, perm: Perm, run: &Run) -> Result<()> {
    let how = MAP_POOL | u64::from(perm == Perm::Write);
    let mut args = Args::plain(Op::Map, space.arg(), frame.arg(), at, how);
    let pages = pages(run);
    (args.r9, args.r10) = (pages.first, pages.count);
    syscall(args).done()
}
