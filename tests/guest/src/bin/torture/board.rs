//! The shared memory of a run: the [word](crate::word) of every page of every address space, what
//! all tasks do, and failures.
//!
//! Address spaces have numbers, and so have workers. Each worker *owns* the same range of addresses
//! in every space. Only the owner changes mappings there, in its own space and in all others; all
//! tasks of a space access the pages in it.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use abi::PAGE_SIZE;
use guest_tests::board::Row;
use guest_tests::run::{Figure, Run};
use guest_tests::{board, words};
use user_rt::cap::Notification;
use user_rt::layout::SHARED_VA;
use user_rt::report;

use crate::word::{Perm, Thing, Word};

pub const SPACES_MAX: usize = 8;
pub const WORKERS_MAX: usize = 40;
/// Pages that a worker owns: consecutive, and after them the place of a large one.
pub const SMALL_PAGES: usize = 48;
pub const LARGE: usize = SMALL_PAGES;
pub const PLACES: usize = SMALL_PAGES + 1;

/// The first few of those, which all workers prefer for changes and accesses, so that pages change
/// while others use them.
pub const LIKED: usize = 3;

const SMALL_VA: u64 = SHARED_VA + 0x1000_0000;
const LARGE_VA: u64 = SHARED_VA + 0x2000_0000;
pub const LARGE_SIZE: u64 = 2 << 20;

/// Returns the address of a worker's place, in every space.
pub const fn address(worker: usize, place: usize) -> u64 {
    if place == LARGE {
        return LARGE_VA + worker as u64 * LARGE_SIZE;
    }
    SMALL_VA + (worker * SMALL_PAGES + place) as u64 * PAGE_SIZE
}

/// Locks that all workers share.
pub const LOCKS: usize = 3;

/// Porters of a space.
pub const PORTERS: usize = 2;
/// Kinds of operations that are counted.
const KINDS_MAX: usize = 64;

words! {
    /// Words of the whole run.
    pub enum Total: Sequential {
        Seed,
        Cpus,
        Spaces,
        Workers,
        /// System calls on memory of all workers.
        Ops,
        /// Accesses that were checked, and those that faulted as expected.
        Accesses,
        Faults,
        /// A [`Stage`].
        Stage,
        /// Increases with every action of any task.
        Life,
        /// Whether the director is done.
        Over,
        Director,
        Resets,
        Remade,
        /// Rows of pages that went from one pool to another, and expected refusals; late calls with
        /// pages; copies made.
        Passed,
        Stayed,
        Late,
        Copies,
        /// Locks that were taken, and those of them that were taken over from a dead owner.
        Locked,
        Inherited,
        /// Whether the kernel's bounds are small: a page can be mapped a few times only.
        SmallLimits,
        Complaints,
        /// An access saw a page that is not mapped any more, or the wrong page.
        Stale,
        /// An access faulted that should not have.
        Lost,
        /// New memory was not clear, or a new object was not empty.
        Dirty,
        /// A system call was refused, or was not, against the rules.
        Refused,
        /// Two workers had a lock at a time.
        Doubled,
        /// A fault without a probe.
        Strange,
        /// A task did not end.
        Stuck,
        LeakedPages,
    }

    /// Words of an address space.
    pub enum OfSpace: Sequential {
        /// How often the space was made.
        Era,
        /// Whether the space is being destroyed.
        Dying,
    }

    /// Words of a worker.
    pub enum Of: Sequential {
        Space,
        Cpu,
        /// Even while the worker exists; odd from before its end until its successor is ready.
        Life,
        /// Number of its next frame.
        NextId,
        /// The last [`Stage`] that it has completed.
        Done,
        /// Its action, an argument of [`crate::ops::name`], and the place: for the report of a run
        /// that stalls.
        Doing,
        Where,
        Task,
        /// Owner and place of the page that it accesses all the time; 0 for none.
        Staring,
    }
}

/// The work of the workers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u64)]
pub enum Stage {
    Work = 0,
    /// Make no more operations.
    Rest,
    /// No worker changes anything: check every page.
    Check,
}

board! {
    /// The board of a run.
    pub struct Board {
        totals: Row<Total>,
        /// How often each kind of operation was done.
        kinds: [AtomicU64; KINDS_MAX],
        pub spaces: [Row<OfSpace>; SPACES_MAX],
        /// For each space's porters: the worker that has taken the porter, plus one.
        porters: [[AtomicU64; PORTERS]; SPACES_MAX],
        /// For each lock: the worker that works under it, and the era of the worker's space.
        pub holders: [AtomicU64; LOCKS],
        pub workers: [Row<Of>; WORKERS_MAX],
        /// The words of all pages: by space, by owner, by place.
        pages: [[[AtomicU64; PLACES]; WORKERS_MAX]; SPACES_MAX],
    }
}

/// Pages of the board.
const PAGES: u32 = board::pages::<Board>();

/// Pages that all processes share: those of the board, and the page of locks after them.
pub const SHARED_PAGES: u32 = PAGES + 1;
pub const LOCKS_VA: u64 = SHARED_VA + PAGES as u64 * PAGE_SIZE;

const FIGURES: &[Figure<Board>] = &[
    Figure::Total("seed", Total::Seed),
    Figure::Total("cpus", Total::Cpus),
    Figure::Total("ops", Total::Ops),
    Figure::Total("stale", Total::Stale),
    Figure::Total("lost", Total::Lost),
    Figure::Total("dirty", Total::Dirty),
    Figure::Total("refused", Total::Refused),
    Figure::Total("doubled", Total::Doubled),
    Figure::Total("strange", Total::Strange),
    Figure::Total("stuck", Total::Stuck),
    Figure::Total("leaked_pages", Total::LeakedPages),
    Figure::Total("accesses", Total::Accesses),
    Figure::Total("faults", Total::Faults),
    Figure::Total("resets", Total::Resets),
    Figure::Total("remade", Total::Remade),
];

impl Run for Board {
    type Total = Total;

    const PROGRAM: &'static str = "torture";
    const WRONG: &'static [Total] = &[
        Total::Stale,
        Total::Lost,
        Total::Dirty,
        Total::Refused,
        Total::Doubled,
        Total::Strange,
        Total::Stuck,
        Total::LeakedPages,
    ];
    const STUCK: Total = Total::Stuck;
    const LIFE: Total = Total::Life;
    const OVER: Total = Total::Over;
    const COMPLAINTS: Total = Total::Complaints;

    fn open() -> &'static Board {
        // SAFETY: the program made `SHARED_PAGES` pages of shared memory before anything else and
        // maps them in every process it starts.
        unsafe { board::open() }
    }

    fn totals(&self) -> &Row<Total> {
        &self.totals
    }

    fn result(&self) -> (&'static str, &'static [Figure<Board>]) {
        (Board::PROGRAM, FIGURES)
    }

    fn print_state(&self, _: &Notification) {
        report!("state director: {}", crate::director::step_name(self.get(Total::Director)));
        for worker in 0..self.get(Total::Workers) as usize {
            self.print_worker(worker, crate::ops::name(self.workers[worker].get(Of::Doing)));
        }
    }
}

impl Board {
    pub fn kind(&self, kind: usize) -> &AtomicU64 {
        &self.kinds[kind % KINDS_MAX]
    }

    /// Returns how often the space was made; `None` while it is being destroyed.
    pub fn era(&self, space: usize) -> Option<u64> {
        let space = &self.spaces[space];
        let era = space.get(OfSpace::Era);
        (space.get(OfSpace::Dying) == 0).then_some(era)
    }

    /// Takes a porter, if no other worker has it.
    pub fn take_porter(&self, worker: usize, space: usize, number: usize) -> bool {
        self.porters[space][number].compare_exchange(0, worker as u64 + 1, SeqCst, SeqCst).is_ok()
    }

    pub fn leave_porter(&self, worker: usize, space: usize, number: usize) {
        let _ = self.porters[space][number].compare_exchange(worker as u64 + 1, 0, SeqCst, SeqCst);
    }

    /// Returns the worker's life, if the worker exists.
    pub fn life(&self, worker: usize) -> Option<u64> {
        Some(self.workers[worker].get(Of::Life)).filter(|life| life.is_multiple_of(2))
    }

    fn page(&self, space: usize, worker: usize, place: usize) -> &AtomicU64 {
        &self.pages[space][worker][place]
    }

    pub fn word(&self, space: usize, worker: usize, place: usize) -> Word {
        Word(self.page(space, worker, place).load(SeqCst))
    }

    pub fn set_word(&self, space: usize, worker: usize, place: usize, word: Word) {
        self.page(space, worker, place).store(word.0, SeqCst);
    }

    /// Clears the words of a worker that has ended with its frames, and that calls no porter.
    pub fn clear_worker(&self, worker: usize) {
        for space in 0..SPACES_MAX {
            (0..PORTERS).for_each(|number| self.leave_porter(worker, space, number));
            for place in 0..PLACES {
                let word = self.word(space, worker, place);
                self.set_word(space, worker, place, word.settle(word.era(), Thing::NOTHING, Perm::None));
            }
        }
    }

    /// Clears the words of a space that was made again, before their eras come round. An owner that
    /// is about to write a word writes it all the same.
    pub fn clear_space(&self, space: usize, era: u64) {
        for worker in 0..WORKERS_MAX {
            for place in 0..PLACES {
                let cell = self.page(space, worker, place);
                let old = Word(cell.load(SeqCst));
                let new = old.settle(era, Thing::NOTHING, Perm::None);
                let _ = cell.compare_exchange(old.0, new.0, SeqCst, SeqCst);
            }
        }
    }

    pub fn stage(&self) -> Stage {
        match self.get(Total::Stage) {
            0 => Stage::Work,
            1 => Stage::Rest,
            _ => Stage::Check,
        }
    }

    /// Notes what a worker does now.
    pub fn doing(&self, worker: usize, what: usize, place: u64) {
        let of = &self.workers[worker];
        of.word(Of::Doing).store(what as u64, Relaxed);
        of.word(Of::Where).store(place, Relaxed);
        self.totals.word(Total::Life).fetch_add(1, Relaxed);
    }

    /// Prints how many pages were passed, how many were refused, and how many locks were taken.
    pub fn print_passed(&self) {
        let [passed, stayed, late, copies] =
            [Total::Passed, Total::Stayed, Total::Late, Total::Copies].map(|which| self.get(which));
        report!(
            "note torture: rows of pages: {passed} went, {stayed} could not; {late} calls were late; {copies} copies"
        );
        let [locked, inherited] = [Total::Locked, Total::Inherited].map(|which| self.get(which));
        report!("note torture: {locked} locks taken, {inherited} of them from dead owners");
    }

    /// Prints what a worker does, for the report of a run that stalls.
    pub fn print_worker(&self, worker: usize, what: &str) {
        let of = |which| self.workers[worker].get(which);
        report!(
            "state worker={worker} task={:#x} space={} cpu={} life={} done={} doing: {what} {:#x}",
            of(Of::Task),
            of(Of::Space),
            of(Of::Cpu),
            of(Of::Life),
            of(Of::Done),
            of(Of::Where),
        );
    }
}
