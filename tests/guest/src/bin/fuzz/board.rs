//! The shared memory of a run: totals, what every worker does, and the record of each cluster.
//!
//! Words are atomics. A place in a record is written by the worker that took it, and read by the cluster's keeper behind
//! the next barrier, whose atomic additions order the two.

use core::fmt;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use abi::{MsgInfo, Op, PAGE_SIZE};
use guest_tests::run::Run;
use model::linear::CALLS_MAX;
use user_rt::arch::shared;
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

const TOTAL_WORDS: usize = 128;
const WORKER_WORDS: usize = 16;
const WORKERS_AT: usize = TOTAL_WORDS;
const CALL_WORDS: usize = 18;
const CLUSTERS_AT: usize = WORKERS_AT + TASKS_MAX * WORKER_WORDS;
const CLUSTER_WORDS: usize = 8 + CALLS_MAX * CALL_WORDS;
const WORDS: usize = CLUSTERS_AT + CLUSTERS * CLUSTER_WORDS;
pub const PAGES: u32 = (WORDS * 8).div_ceil(PAGE_SIZE as usize) as u32;

/// Words of the whole run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Total {
    Seed = 0,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Of {
    Process = 0,
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

/// Words of a cluster, before its record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum In {
    /// Places taken, and where the window begins and ends.
    Taken = 0,
    First,
    Last,
    /// The number drawn after the window.
    Settled,
}

#[derive(Clone, Copy)]
pub struct Board {
    words: &'static [AtomicU64],
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

    /// The board, in any process of the run.
    fn open() -> Board {
        // SAFETY: the program made `PAGES` pages of shared memory before anything else and maps them
        // in every process it starts.
        Board { words: unsafe { shared::words(0, WORDS) } }
    }

    fn total(self, which: Total) -> &'static AtomicU64 {
        &self.words[which as usize]
    }

    fn print(self) {
        let get = |which| self.get(which);
        if get(Total::Storm) != 0 {
            report!(
                "storm seed={} cpus={} rounds={} uses={} refused={} stale={} leaked_pages={} escapes={}",
                get(Total::Seed),
                get(Total::Cpus),
                get(Total::Ops),
                get(Total::Done),
                get(Total::Refused),
                get(Total::Stale),
                get(Total::LeakedPages),
                get(Total::Escapes),
            );
            return;
        }
        let (ops, contended) = (get(Total::Ops), get(Total::Contended));
        report!(
            "fuzz seed={} cpus={} ops={ops} contended={} divergences={} leaked_pages={} escapes={} \
             exceeded={} leaked_marks={} undocumented={} overlapping={} windows={} histories={} hardest={} calls={} answered={} ended={}",
            get(Total::Seed),
            get(Total::Cpus),
            contended * 100 / ops.max(1),
            get(Total::Divergences),
            get(Total::LeakedPages),
            get(Total::Escapes),
            get(Total::Exceeded),
            get(Total::LeakedMarks),
            get(Total::Undocumented),
            get(Total::Overlapping) * 100 / ops.max(1),
            get(Total::Windows),
            get(Total::Histories),
            get(Total::Hardest),
            get(Total::Calls),
            get(Total::Answered),
            get(Total::Ended),
        );
    }

    fn print_state(self, _: &Notification) {
        (0..self.tasks()).for_each(|worker| self.print_worker(worker));
    }
}

impl Board {
    /// How many pass barriers.
    pub fn tasks(self) -> usize {
        (self.get(Total::Workers) + self.get(Total::Roomers)) as usize
    }

    pub fn worker(self, worker: usize, which: Of) -> &'static AtomicU64 {
        &self.words[WORKERS_AT + worker * WORKER_WORDS + which as usize]
    }

    pub fn of(self, worker: usize, which: Of) -> u64 {
        self.worker(worker, which).load(Acquire)
    }

    pub fn set_of(self, worker: usize, which: Of, value: u64) {
        self.worker(worker, which).store(value, Release);
    }

    pub fn cluster(self, cluster: usize, which: In) -> &'static AtomicU64 {
        &self.words[CLUSTERS_AT + cluster * CLUSTER_WORDS + which as usize]
    }

    fn call(self, cluster: usize, number: usize) -> &'static [AtomicU64] {
        let at = CLUSTERS_AT + cluster * CLUSTER_WORDS + 8 + number * CALL_WORDS;
        &self.words[at..at + CALL_WORDS]
    }

    /// A number greater than all that were drawn earlier.
    pub fn tick(self) -> u64 {
        self.total(Total::Clock).fetch_add(1, SeqCst)
    }

    /// A place in a cluster's record, if there is one below `limit`.
    pub fn take(self, cluster: usize, limit: usize) -> Option<usize> {
        let taken = self.cluster(cluster, In::Taken);
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
    pub fn begin_call(self, cluster: usize, number: usize, worker: usize, args: &Args) {
        let call = self.call(cluster, number);
        let words = [worker as u64, args.info.0, args.rdi, args.rsi, args.rdx, args.r8, args.r9, args.r10];
        for (at, word) in call.iter().zip(words) {
            at.store(word, Relaxed);
        }
        call[17].store(u64::MAX, Relaxed);
        call[16].store(self.tick(), Release);
    }

    pub fn end_call(self, cluster: usize, number: usize, answer: &Answer) {
        let ended = self.tick();
        let call = self.call(cluster, number);
        let a = answer;
        let words = [a.info.0, a.rdi, a.rsi, a.rdx, a.r8, a.r9, a.r10, a.r12];
        for (at, word) in call[8..].iter().zip(words) {
            at.store(word, Relaxed);
        }
        call[17].store(ended, Release);
    }

    pub fn read_call(self, cluster: usize, number: usize) -> Recorded {
        let call = self.call(cluster, number);
        let word = |at: usize| call[at].load(Acquire);
        Recorded {
            worker: word(0) as usize,
            info: MsgInfo(word(1)),
            args: core::array::from_fn(|n| word(2 + n)),
            found: core::array::from_fn(|n| word(8 + n)),
            began: word(16),
            ended: word(17),
        }
    }

    pub fn print_worker(self, worker: usize) {
        let of = |which| self.of(worker, which);
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
