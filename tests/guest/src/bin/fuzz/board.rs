//! The shared memory of a run: totals, the state of every worker, and the record of each cluster.
//!
//! Words are atomics. A worker reserves a place in a record and writes it. The cluster's keeper
//! reads the place after the next barrier, whose atomic additions order the write before the read.

use core::fmt;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use abi::{MsgInfo, Op};
use guest_tests::board::Row;
use guest_tests::run::{Figure, Run};
use guest_tests::{board, words};
use model::linear::CALLS_MAX;
use user_rt::arch::{Answer, Args};
use user_rt::cap::Notification;
use user_rt::report;

use crate::rooms::ROOMERS;

pub const WORKERS_MAX: usize = 29;
/// All tasks that pass barriers: workers, and after them roomers.
pub const TASKS_MAX: usize = WORKERS_MAX + ROOMERS;
pub const PROCESSES: usize = 3;
/// Clusters of a run: one of capabilities and memory for each process, one of a group, and one of
/// messages.
pub const CLUSTERS: usize = PROCESSES + 2;

words! {
    /// Words of the whole run.
    pub enum Total: Sequential {
        Seed,
        Cpus,
        /// All workers; and how many of them, the last ones, are speakers.
        Workers,
        Speakers,
        /// Roomers, which wait at the barriers beside workers. Their numbers follow the workers'.
        Roomers,
        /// Operations to do, and done.
        Goal,
        Ops,
        /// Operations on objects that other workers operated on in the same window; and at the same
        /// time.
        Contended,
        Overlapping,
        Windows,
        /// Histories that were checked, and the most steps that one took.
        Histories,
        Hardest,
        /// Calls of speakers: all, answered ones, and those that ended otherwise after they had
        /// been sent.
        Calls,
        Answered,
        Ended,
        Divergences,
        LeakedPages,
        Escapes,
        /// What a room's tasks should not have been able to do, and did; words that no task sent
        /// there.
        Exceeded,
        LeakedMarks,
        /// Answers that the reference does not document.
        Undocumented,
        Complaints,
        /// Barriers passed, and tasks that wait at the next one.
        Phase,
        Arrived,
        /// Whether the workers have nothing left to do.
        Over,
        /// Whether the watchdog has nothing left to report.
        Silent,
        Life,
        /// The clock of records.
        Clock,
        /// Sizes of objects in bytes, as measured.
        NotificationSize,
        GroupSize,
        /// Whether this is a storm; uses that succeeded, that were refused, and that found no
        /// object.
        Storm,
        Done,
        Refused,
        Stale,
    }

    /// Words of a worker.
    pub enum Of: Published {
        Process,
        Cpu,
        /// The operation that the worker is in.
        Doing,
        First,
        Second,
        /// Operations done.
        Ops,
        Phase,
        /// In a storm: generations of the worker's lane, and its uses.
        Opened,
        Given,
        Closing,
        Closed,
        Uses,
        /// The task's identity, for a speaker and for a roomer.
        Identity,
    }

    /// Words of a cluster.
    pub enum In: Published {
        /// Places taken; the beginning and end of the window.
        Taken,
        First,
        Last,
        /// Number drawn after the window.
        Settled,
    }
}

board! {
    /// The board of a run.
    pub struct Board {
        totals: Row<Total>,
        pub workers: [Row<Of>; TASKS_MAX],
        pub clusters: [Row<In>; CLUSTERS],
        /// The record of each cluster.
        calls: [[Call; CALLS_MAX]; CLUSTERS],
    }

    /// One place in a record.
    struct Call {
        worker: AtomicU64,
        info: AtomicU64,
        args: [AtomicU64; 6],
        found: [AtomicU64; 8],
        began: AtomicU64,
        ended: AtomicU64,
    }
}

pub const PAGES: u32 = board::pages::<Board>();

const STORM_FIGURES: &[Figure<Board>] = &[
    Figure::Total("seed", Total::Seed),
    Figure::Total("cpus", Total::Cpus),
    Figure::Total("rounds", Total::Ops),
    Figure::Total("uses", Total::Done),
    Figure::Total("refused", Total::Refused),
    Figure::Total("stale", Total::Stale),
    Figure::Total("leaked_pages", Total::LeakedPages),
    Figure::Total("escapes", Total::Escapes),
];

const FIGURES: &[Figure<Board>] = &[
    Figure::Total("seed", Total::Seed),
    Figure::Total("cpus", Total::Cpus),
    Figure::Total("ops", Total::Ops),
    Figure::Text("contended", |board, f| write_share(board, Total::Contended, f)),
    Figure::Total("divergences", Total::Divergences),
    Figure::Total("leaked_pages", Total::LeakedPages),
    Figure::Total("escapes", Total::Escapes),
    Figure::Total("exceeded", Total::Exceeded),
    Figure::Total("leaked_marks", Total::LeakedMarks),
    Figure::Total("undocumented", Total::Undocumented),
    Figure::Text("overlapping", |board, f| write_share(board, Total::Overlapping, f)),
    Figure::Total("windows", Total::Windows),
    Figure::Total("histories", Total::Histories),
    Figure::Total("hardest", Total::Hardest),
    Figure::Total("calls", Total::Calls),
    Figure::Total("answered", Total::Answered),
    Figure::Total("ended", Total::Ended),
];

/// Writes the percentage of all operations.
fn write_share(board: &Board, which: Total, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}", board.get(which) * 100 / board.get(Total::Ops).max(1))
}

impl Run for Board {
    type Total = Total;

    const PROGRAM: &'static str = "fuzz";
    const WRONG: &'static [Total] = &[
        Total::Divergences,
        Total::LeakedPages,
        Total::Escapes,
        Total::Exceeded,
        Total::LeakedMarks,
        Total::Undocumented,
        Total::Stale,
    ];
    const STUCK: Total = Total::Divergences;
    const LIFE: Total = Total::Life;
    const OVER: Total = Total::Silent;
    const COMPLAINTS: Total = Total::Complaints;

    fn open() -> &'static Board {
        // SAFETY: the program made `PAGES` pages of shared memory before anything else and maps
        // them in every process it starts.
        unsafe { board::open() }
    }

    fn totals(&self) -> &Row<Total> {
        &self.totals
    }

    fn result(&self) -> (&'static str, &'static [Figure<Board>]) {
        if self.get(Total::Storm) != 0 { ("storm", STORM_FIGURES) } else { (Board::PROGRAM, FIGURES) }
    }

    fn print_state(&self, _: &Notification) {
        (0..self.tasks()).for_each(|worker| self.print_worker(worker));
    }
}

impl Board {
    /// Returns the number of tasks that pass barriers.
    pub fn tasks(&self) -> usize {
        (self.get(Total::Workers) + self.get(Total::Roomers)) as usize
    }

    /// Draws a number greater than all that were drawn earlier.
    pub fn tick(&self) -> u64 {
        self.add(Total::Clock, 1)
    }

    /// Takes a place in a cluster's record, if one below `limit` is free.
    pub fn take(&self, cluster: usize, limit: usize) -> Option<usize> {
        let taken = self.clusters[cluster].word(In::Taken);
        if taken.load(Relaxed) >= limit as u64 {
            return None;
        }
        let number = taken.fetch_add(1, AcqRel) as usize;
        if number < limit {
            return Some(number);
        }
        taken.fetch_sub(1, AcqRel);
        None
    }

    /// Writes the call of a place. Its answer follows.
    pub fn begin_call(&self, cluster: usize, number: usize, worker: usize, args: &Args) {
        let call = &self.calls[cluster][number];
        call.worker.store(worker as u64, Relaxed);
        call.info.store(args.info.0, Relaxed);
        let words = [args.rdi, args.rsi, args.rdx, args.r8, args.r9, args.r10];
        call.args.iter().zip(words).for_each(|(at, word)| at.store(word, Relaxed));
        call.ended.store(u64::MAX, Relaxed);
        call.began.store(self.tick(), Release);
    }

    pub fn end_call(&self, cluster: usize, number: usize, answer: &Answer) {
        let ended = self.tick();
        let call = &self.calls[cluster][number];
        let a = answer;
        let words = [a.info.0, a.rdi, a.rsi, a.rdx, a.r8, a.r9, a.r10, a.r12];
        call.found.iter().zip(words).for_each(|(at, word)| at.store(word, Relaxed));
        call.ended.store(ended, Release);
    }

    pub fn read_call(&self, cluster: usize, number: usize) -> Recorded {
        let call = &self.calls[cluster][number];
        Recorded {
            worker: call.worker.load(Acquire) as usize,
            info: MsgInfo(call.info.load(Acquire)),
            args: call.args.each_ref().map(|word| word.load(Acquire)),
            found: call.found.each_ref().map(|word| word.load(Acquire)),
            began: call.began.load(Acquire),
            ended: call.ended.load(Acquire),
        }
    }

    pub fn print_worker(&self, worker: usize) {
        let of = |which| self.workers[worker].get(which);
        let op = Op::from_raw(of(Of::Doing) as u8);
        report!(
            "state worker={worker} process={} cpu={} ops={} phase={} in {op:?} of {:#x} {:#x}",
            of(Of::Process),
            of(Of::Cpu),
            of(Of::Ops),
            of(Of::Phase),
            of(Of::First),
            of(Of::Second),
        );
    }
}

/// A recorded system call.
#[derive(Clone, Copy)]
pub struct Recorded {
    pub worker: usize,
    pub info: MsgInfo,
    pub args: [u64; 6],
    pub found: [u64; 8],
    pub began: u64,
    pub ended: u64,
}

impl Recorded {
    pub fn op(&self) -> Option<Op> {
        Op::from_raw(self.info.0 as u8)
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{} worker {} ", self.began, self.ended, self.worker)?;
        match self.op() {
            Some(op) => write!(f, "{op:?}")?,
            None => f.write_str("?")?,
        }
        if self.info.0 >> 8 != 0 {
            write!(f, " info {:#x}", self.info.0)?;
        }
        let is_message = matches!(self.op(), Some(Op::Call | Op::Recv | Op::ReplyRecv | Op::Reply));
        let (asked, answered) = if is_message { (6, 8) } else { (5, 5) };
        for arg in &self.args[..asked] {
            write!(f, " {arg:#x}")?;
        }
        match MsgInfo(self.found[0]).status() {
            Ok(()) if is_message => write!(f, " -> {:#x}", self.found[0])?,
            Ok(()) => f.write_str(" ->")?,
            Err(error) => write!(f, " -> {error:?}")?,
        }
        for value in &self.found[1..answered] {
            write!(f, " {value:#x}")?;
        }
        Ok(())
    }
}
