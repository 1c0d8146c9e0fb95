//! The shared memory of a run: totals, what every worker does, and the record of each cluster.
//!
//! Words are atomics. A place in a record is written by the worker that took it, and read by the cluster's keeper behind
//! the next barrier, whose atomic additions order the two.

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
/// All that pass barriers: workers, and behind them roomers.
pub const TASKS_MAX: usize = WORKERS_MAX + ROOMERS;
pub const PROCESSES: usize = 3;
/// One of capabilities and memory for each process, one of a group, and one of messages.
pub const CLUSTERS: usize = PROCESSES + 2;

words! {
    /// Words of the whole run.
    pub enum Total: Sequential {
        Seed,
        Cpus,
        /// All; and how many of them, the last, are speakers.
        Workers,
        Speakers,
        /// Who stands before the barriers beside workers: their numbers are the next ones.
        Roomers,
        /// Operations to do, and done.
        Goal,
        Ops,
        /// Of those, on objects that other workers operated on in the same window; and while another of them did.
        Contended,
        Overlapping,
        Windows,
        /// Those that were checked, and the most steps that one took.
        Histories,
        Hardest,
        /// Calls of speakers: all, those that were answered, and those that ended otherwise once they had been sent.
        Calls,
        Answered,
        Ended,
        Divergences,
        LeakedPages,
        Escapes,
        /// What somebody in a room could not do, and did; and words that nobody sent there.
        Exceeded,
        LeakedMarks,
        /// Answers that no reference has.
        Undocumented,
        Complaints,
        /// Barriers passed, and who stands before the next.
        Phase,
        Arrived,
        /// The workers have nothing to do any more.
        Over,
        /// The watchdog has nothing to say any more.
        Silent,
        Life,
        /// The clock of records.
        Clock,
        /// Bytes of objects, as measured.
        NotificationSize,
        GroupSize,
        /// This is a storm: uses that were done, refused, and of what was no more.
        Storm,
        Done,
        Refused,
        Stale,
    }

    /// Words of a worker.
    pub enum Of: Published {
        Process,
        Cpu,
        /// The operation it is in.
        Doing,
        First,
        Second,
        /// Operations done.
        Ops,
        Phase,
        /// In a storm: generations of the worker's lane, and how often it was used.
        Opened,
        Given,
        Closing,
        Closed,
        Uses,
        /// Of a speaker, the task.
        Identity,
    }

    /// Words of a cluster.
    pub enum In: Published {
        /// Places taken, and where the window begins and ends.
        Taken,
        First,
        Last,
        /// The number drawn after the window.
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

    /// A place in a record.
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

/// Writes how many in a hundred of all operations these are.
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
        // SAFETY: the program made `PAGES` pages of shared memory before anything else and maps them in every process
        // it starts.
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
    /// How many pass barriers.
    pub fn tasks(&self) -> usize {
        (self.get(Total::Workers) + self.get(Total::Roomers)) as usize
    }

    /// A number greater than all that were drawn earlier.
    pub fn tick(&self) -> u64 {
        self.add(Total::Clock, 1)
    }

    /// A place in a cluster's record, if there is one below `limit`.
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

    /// Writes what was called. The answer follows.
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

/// A system call of a record.
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
