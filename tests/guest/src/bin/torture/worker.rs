//! A worker: makes operations on its own addresses in all spaces, and checks all pages of its own
//! space.

use abi::PAGE_SIZE;
use core::sync::atomic::Ordering::AcqRel;
use guest_tests::random::Random;
use guest_tests::run::Run as _;
use user_rt::ipc::{Patience, recv_within};
use user_rt::{arch, boot};

use crate::board::{Board, Of, PLACES, Stage, Total, address};
use crate::cast::space_slot;
use crate::objects::{Object, Objects, Run};
use crate::ops;
use crate::pool::Origins;
use crate::word::{Perm, Pool, Thing, Word};
use user_rt::cap::{Handle, VSpace};

/// Operations after which the counts are stored.
const TELL_EVERY: u32 = 16;

pub struct Worker {
    pub board: &'static Board,
    pub me: usize,
    /// Number among the workers of its process.
    pub local: u32,
    pub space: usize,
    pub era: u64,
    pub random: Random,
    pub objects: Objects,
    pub origins: Origins,
    /// Bytes that a reset frees, once known.
    pub bytes: Option<u64>,
    pub accesses: u64,
    pub faults: u64,
    /// How many locks it has.
    pub locks: u32,
    ops: u64,
}

/// Entry of every worker's task; the argument is its number, its number in the process, and the era
/// of its space.
pub extern "C" fn worker(argument: u64) -> ! {
    let board = Board::open();
    let me = argument as usize & 0xff;
    let local = (argument >> 8 & 0xff) as u32;
    let mut worker = Worker {
        board,
        me,
        local,
        space: board.workers[me].get(Of::Space) as usize,
        era: argument >> 16,
        random: Random::new(board.get(Total::Seed), argument),
        objects: Objects::new(local),
        origins: Origins::new(),
        bytes: None,
        accesses: 0,
        faults: 0,
        locks: 0,
        ops: 0,
    };
    worker.live()
}

impl Worker {
    fn live(&mut self) -> ! {
        let mut steps = 0u32;
        while self.board.stage() == Stage::Work && self.board.get(Total::Complaints) == 0 {
            self.operate();
            self.board.doing(self.me, ops::LOOKING, 0);
            self.look_around();
            steps += 1;
            if steps.is_multiple_of(TELL_EVERY) {
                self.tell_counts();
            }
        }
        self.tell_counts();
        self.wait_for(Stage::Rest);
        self.board.workers[self.me].set(Of::Done, Stage::Rest as u64);
        self.wait_for(Stage::Check);
        if self.board.get(Total::Complaints) == 0 {
            self.look_at_all();
        }
        self.tell_counts();
        self.board.workers[self.me].set(Of::Done, Stage::Check as u64);
        loop {
            let _ = recv_within(Patience::Forever);
        }
    }

    /// Makes one operation of a random kind.
    pub fn operate(&mut self) {
        let kind = ops::pick(&mut self.random);
        self.board.doing(self.me, kind, self.objects.pick(0).map_or(0, |object| u64::from(object.id)));
        self.board.kind(kind).fetch_add(1, AcqRel);
        (ops::KINDS[kind].run)(self);
    }

    fn wait_for(&self, stage: Stage) {
        while self.board.stage() < stage {
            let _ = recv_within(Patience::Until(arch::now() + boot::facts().tsc_hz / 2000));
        }
    }

    fn tell_counts(&mut self) {
        self.board.add(Total::Ops, core::mem::take(&mut self.ops));
        self.board.add(Total::Accesses, core::mem::take(&mut self.accesses));
        self.board.add(Total::Faults, core::mem::take(&mut self.faults));
    }

    /// Counts a system call on memory.
    pub fn count(&mut self) {
        self.ops += 1;
    }

    /// Whether this worker's space is being or has been destroyed.
    fn dying(&self) -> bool {
        self.board.era(self.space) != Some(self.era)
    }

    /// Reports a failure, unless the task's own space is being destroyed.
    pub fn wrong(&self, which: Total, what: core::fmt::Arguments<'_>) {
        if !self.dying() {
            let Worker { me, space, .. } = self;
            let cpu = self.board.workers[*me].get(Of::Cpu);
            self.board.complain(which, format_args!("worker {me} of space {space} on CPU {cpu}: {what}"));
        }
    }

    /// Picks a space for an operation, mostly the own one, and returns its era.
    pub fn pick_space(&mut self) -> (usize, u64) {
        if self.random.chance(45) {
            let space = self.random.below(self.board.get(Total::Spaces)) as usize;
            if let Some(era) = self.board.era(space) {
                return (space, era);
            }
        }
        (self.space, self.era)
    }

    /// Whether the space of a run was destroyed since: then the kernel may refuse anything there.
    pub fn is_gone(&self, run: &Run) -> bool {
        self.is_over(run.space, run.era)
    }

    pub fn is_over(&self, space: usize, era: u64) -> bool {
        self.board.era(space) != Some(era)
    }

    pub fn my_word(&self, space: usize, place: usize) -> Word {
        self.board.word(space, self.me, place)
    }

    pub fn vspace(&self, run: &Run) -> VSpace {
        VSpace::at(space_slot(run.space, run.era))
    }

    pub fn address(&self, run: &Run) -> u64 {
        address(self.me, run.place)
    }

    /// Writes the words before a system call that makes all pages of a run `next`.
    pub fn begin(&self, run: &Run, next: Perm) {
        for (place, thing) in run.pages() {
            let word = self.my_word(run.space, place).in_era(run.era);
            self.board.set_word(run.space, self.me, place, word.change(run.era, thing, next));
        }
    }

    /// Writes the words after it: the first `done` pages have changed, the others have not.
    pub fn settle(&self, run: &Run, done: u32, is: Perm) {
        for (number, (place, thing)) in (0..).zip(run.pages()) {
            let word = self.my_word(run.space, place).in_era(run.era);
            let now = if number < done { is } else { word.now() };
            self.board.set_word(run.space, self.me, place, word.settle(run.era, thing, now));
        }
    }

    /// Writes the words before some things end, wherever they are mapped.
    pub fn begin_end(&self, whose: impl Fn(Thing) -> bool) {
        self.each_mapped(&whose, |word| word.change(word.era(), word.thing(), Perm::None));
    }

    pub fn settle_end(&self, whose: impl Fn(Thing) -> bool) {
        self.each_mapped(&whose, |word| word.settle(word.era(), word.thing(), Perm::None));
    }

    fn each_mapped(&self, whose: &impl Fn(Thing) -> bool, then: impl Fn(Word) -> Word) {
        for space in 0..self.board.get(Total::Spaces) as usize {
            for place in 0..PLACES {
                let word = self.my_word(space, place);
                if word.now() != Perm::None && whose(word.thing()) {
                    self.board.set_word(space, self.me, place, then(word));
                }
            }
        }
    }

    /// Picks consecutive mapped pages of this worker's that are not in the pool, or fewer.
    pub fn pick_mapped(&mut self) -> Option<Run> {
        let stared = if self.random.chance(60) { self.pick_stared_at() } else { None };
        let (space, era, start) = stared.unwrap_or_else(|| {
            let (space, era) = self.pick_space();
            (space, era, self.pick_place())
        });
        let mapped = |place: usize| {
            let word = self.my_word(space, place).in_era(era);
            let thing = word.thing();
            (word.now() != Perm::None && !thing.is_pooled()).then_some(thing)
        };
        let place = (start..PLACES).chain(0..start).find(|place| mapped(*place).is_some())?;
        let thing = mapped(place)?;
        let object: Object = self.objects.find(thing.id)?;
        let mut run = Run { space, era, place, object, first: thing.page, count: 1, pool: Pool::No };
        while place != crate::board::LARGE
            && place + (run.count as usize) < crate::board::SMALL_PAGES
            && mapped(place + run.count as usize)
                .is_some_and(|next| next.id == thing.id && next.page == thing.page + run.count)
        {
            run.count += 1;
        }
        let count = 1 + self.random.below(u64::from(run.count)) as u32;
        let first = self.random.below(u64::from(run.count - count + 1)) as u32;
        Some(run.sub(first, count))
    }

    /// Whether a page of a frame mapped like that here would break write xor execute: certainly,
    /// and perhaps (if a mapping is in a space that is being destroyed, and may be gone).
    pub fn conflicts(&self, run: &Run, number: u32, perm: Perm) -> (bool, bool) {
        let (id, page) = (run.object.id, run.first + number);
        let mut found = (false, run.object.is_global() && perm != Perm::Read);
        for space in 0..self.board.get(Total::Spaces) as usize {
            let era = self.board.era(space);
            for place in 0..PLACES {
                let word = self.my_word(space, place);
                let thing = word.thing();
                let itself = space == run.space && place == run.place + number as usize;
                let same = thing.id == id && thing.page == page && !thing.is_pooled();
                if itself || !same || !word.either().iter().any(|either| either.excludes(perm)) {
                    continue;
                }
                found.1 = true;
                found.0 |= word.now().excludes(perm) && era.is_some_and(|era| word.in_era(era) == word);
            }
        }
        found
    }

    /// Returns how many pages of the run are before an address, from a refusal's detail.
    pub fn pages_before(&self, run: &Run, detail: u64) -> Option<u32> {
        let offset = detail.checked_sub(self.address(run))?;
        let pages = (offset / PAGE_SIZE) as u32;
        (offset.is_multiple_of(PAGE_SIZE) && pages < run.count).then_some(pages)
    }
}
