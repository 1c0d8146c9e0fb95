//! The storm of revokes: workers revoke capabilities while other CPUs use them, and use the memory
//! again immediately, for another type.
//!
//! Every worker has a *lane*: an Untyped, and a slot in each process. In a round it makes an object
//! there, checks that the object is new, gives each process a capability, lets the others use it,
//! and resets the Untyped. In between it uses the objects of other lanes. A generation is *open*
//! from before its capabilities are given, *closing* from before the reset, and *closed* after it.
//! A use reads these words before and after the call, and so knows which generations it can have
//! reached:
//!
//! - it may act on an object, or learn the object's type, only if a generation of that type was not
//!   closed when the use began;
//! - it may find no capability only if, during the use, a generation was closing or its
//!   capabilities were not given yet.
//!
//! Everything else is a stale use, and so is a new object that is not empty.

use core::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

use abi::{Cap, Error, FLAG_NONBLOCK, ObjType, Op, Rights, Target};
use guest_tests::random::Random;
use guest_tests::run::Run as _;
use user_rt::arch::{Answer, Args, syscall};
use user_rt::cap::{Handle, Untyped};
use user_rt::invoke::{Pins, yield_now};
use user_rt::layout::slot;

use crate::arena;
use crate::board::{Board, Of, PROCESSES, Total};
use crate::clusters::{PEER_CNODES, cnode_rights};

/// Slots of the lanes in each process, by worker.
const LANES: u32 = 450;
pub const SLOTS: core::ops::Range<u32> = LANES..LANES + crate::board::WORKERS_MAX as u32;
/// Types that are made in turn. Each has operations that leave something in the object.
const KINDS: [(ObjType, u64); 6] = [
    (ObjType::Notification, 0),
    (ObjType::Group, 2 | 2 << 16),
    (ObjType::CNode, 4),
    (ObjType::Reply, 0),
    (ObjType::SchedContext, 0),
    (ObjType::Process, 2),
];
/// Uses of other lanes between two rounds of the own lane.
const USES: u64 = 6;
/// Polls for a user of a given capability.
const LOOKS: u32 = 40;
/// Uses that a generation waits for.
const USERS: u64 = 2;

struct Storm<'a> {
    board: &'static Board,
    me: usize,
    process: usize,
    workers: usize,
    random: &'a mut Random,
}

/// Encodes a generation's number and type as one word.
fn word(generation: u64, kind: usize) -> u64 {
    generation << 8 | kind as u64
}

fn lane(worker: usize) -> Cap {
    Cap(LANES + worker as u32)
}

/// Runs a worker until the rounds are done.
pub fn live(board: &'static Board, me: usize, process: usize, random: &mut Random) {
    let workers = board.get(Total::Workers) as usize;
    let mut storm = Storm { board, me, process, workers, random };
    let mut generation = 0;
    while board.get(Total::Over) == 0 {
        generation += 1;
        storm.round(generation);
        for _ in 0..USES {
            storm.use_one();
        }
    }
}

impl Storm<'_> {
    fn set(&self, which: Of, value: u64) {
        self.board.workers[self.me].word(which).store(value, SeqCst);
    }

    /// Makes an object, lets others use it, and takes it back.
    fn round(&mut self, generation: u64) {
        let kind = self.random.below(KINDS.len() as u64) as usize;
        let (what, size) = KINDS[kind];
        let (memory, first) = (arena::memory_played(self.me), arena::played(self.me).start);
        let make = Target::new(memory, what as u32).0;
        let made = syscall(Args::plain(Op::Retype, make, size, at(Cap(first)), 1));
        if let Err(refusal) = made.check() {
            self.complain(format_args!("making generation {generation}, a {what:?}: {refusal}"));
            return;
        }
        self.look_new(what, Cap(first));
        self.set(Of::Opened, word(generation, kind));
        for process in (0..PROCESSES).filter(|it| cnode_rights(*it, self.process).contains(Rights::GRANT)) {
            let to = Target::new(Cap(PEER_CNODES + process as u32), lane(self.me).0).0;
            let given = Args::plain(Op::CapCopy, Cap(first).arg(), to, u64::from(Rights::ALL.0), 0);
            if let Err(refusal) = syscall(given).check() {
                self.complain(format_args!("giving generation {generation}: {refusal}"));
            }
        }
        self.set(Of::Given, generation);
        let uses = self.board.workers[self.me].word(Of::Uses);
        let before = uses.load(Relaxed);
        for _ in 0..LOOKS {
            if uses.load(Relaxed) - before >= USERS {
                break;
            }
            let _ = yield_now();
        }
        self.set(Of::Closing, generation);
        let reset = Untyped::at(memory).reset(Pins::Hold);
        self.set(Of::Closed, generation);
        if reset != Ok(1 << arena::PLAYED_LOG2) {
            self.complain(format_args!("reset of generation {generation}: {reset:?}"));
        }
        self.board.add(Total::Ops, 1);
        self.board.add(Total::Life, 1);
    }

    /// Checks that a new object is unused.
    fn look_new(&self, what: ObjType, cap: Cap) {
        let target = Target::new(cap, 0).0;
        let plain = |op, rdi| syscall(Args::plain(op, rdi, 0, 0, 0));
        let error = |answer: Answer| answer.info.status().err();
        let is_new = match what {
            ObjType::Notification => error(poll(cap)) == Some(Error::WouldBlock),
            ObjType::Group => {
                error(plain(Op::GroupRemove, target)) == Some(Error::NotMember)
                    && error(plain(Op::Withdraw, target)) == Some(Error::NoExposure)
            }
            ObjType::CNode => (1..4).all(|n| plain(Op::CapInspect, Target::new(cap, n).0).rdi == 0),
            ObjType::Reply => error(plain(Op::Reply, cap.arg())) == Some(Error::Gone),
            ObjType::SchedContext => plain(Op::SchedInfo, cap.arg()).rsi == 0,
            _ => true,
        };
        if !is_new {
            self.complain(format_args!("a new {what:?} is not as new"));
        }
    }

    /// Uses an object that another worker gives at the moment.
    fn use_one(&mut self) {
        let Some(other) = self.some_lane() else {
            let _ = yield_now();
            return;
        };
        let board = self.board;
        let words = |which| board.workers[other].word(which).load(SeqCst);
        // Read `closed` first: a generation that is closed now was closed when the call began.
        let closed = words(Of::Closed);
        let before = words(Of::Opened);
        let (given, kind) = (words(Of::Given), (before & 0xff) as usize);
        let wanted = KINDS[if self.random.chance(80) { kind } else { (kind + 1) % KINDS.len() }].0;
        let answer = self.call(wanted, lane(other));
        let (closing, after) = (words(Of::Closing), words(Of::Opened));
        let (first, last) = (before >> 8, after >> 8);
        // Generations that were not closed when the call began and were open before it ended.
        let one = first == last;
        let nothing = one && closed >= last;
        let (status, detail) = (answer.info.status(), answer.rdi);
        let met = KINDS[kind].0;
        let stale = match status {
            Err(Error::NoCapability) => one && given == first && closing < first && self.gets_from(other),
            Err(Error::WrongType) => nothing || one && detail != met as u64,
            // Bits go through a group, too: the kernel reports a group in another way.
            _ if wanted == ObjType::Notification && met == ObjType::Group => nothing,
            _ => nothing || one && wanted != met,
        };
        if stale {
            self.complain(format_args!(
                "use of {wanted:?} in lane {other}: {status:?} {detail:#x}, generations {first} ({met:?}) to {last}, \
                 given {given}, closing {closing}, closed {closed}"
            ));
        }
        self.board.workers[other].word(Of::Uses).fetch_add(1, Relaxed);
        self.board.add(if status.is_ok() { Total::Done } else { Total::Refused }, 1);
    }

    /// Picks a lane, preferably one that has something for this process now.
    fn some_lane(&mut self) -> Option<usize> {
        let first = self.random.below(self.workers as u64) as usize;
        if self.random.chance(5) {
            return Some(first);
        }
        let word = |worker: usize, which| self.board.workers[worker].word(which).load(Relaxed);
        let is_open = |worker: &usize| {
            let (given, closing) = (word(*worker, Of::Given), word(*worker, Of::Closing));
            given > closing && *worker != self.me && self.gets_from(*worker)
        };
        (first..first + self.workers).map(|it| it % self.workers).find(is_open)
    }

    /// Whether the process gets what the worker makes.
    fn gets_from(&self, worker: usize) -> bool {
        let giver = self.board.workers[worker].word(Of::Process).load(Acquire) as usize;
        cnode_rights(self.process, giver).contains(Rights::GRANT)
    }

    /// Makes an operation that leaves something in an object of a type.
    fn call(&mut self, what: ObjType, cap: Cap) -> Answer {
        let (target, bits) = (Target::new(cap, 1).0, 1 << self.random.below(30));
        match what {
            ObjType::Notification if self.random.chance(70) => {
                syscall(Args::plain(Op::Notify, cap.arg(), bits, 0, 0))
            }
            ObjType::Notification => poll(cap),
            ObjType::Group => syscall(Args::plain(Op::Withdraw, target, 0, 0, 0)),
            ObjType::CNode if self.random.chance(50) => {
                let to = Target::new(cap, 1 + self.random.below(3) as u32).0;
                syscall(Args::plain(Op::CapCopy, slot::PROCESS.arg(), to, 0, 0))
            }
            ObjType::CNode => syscall(Args::plain(Op::CapInspect, target, 0, 0, 0)),
            ObjType::Reply => syscall(Args::plain(Op::SaveReply, cap.arg(), 0, 0, 0)),
            ObjType::SchedContext => {
                let by = slot::SCHED_CONTROL.arg();
                syscall(Args::plain(Op::SchedConfigure, by, cap.arg(), bits & 0xff, 1000))
            }
            _ => syscall(Args::plain(Op::ProcessAccept, cap.arg(), 0, 0, 0)),
        }
    }

    fn complain(&self, what: core::fmt::Arguments<'_>) {
        self.board.complain(Total::Stale, format_args!("worker {}: {what}", self.me));
    }
}

fn at(slot: Cap) -> u64 {
    Target::new(slot::CNODE, slot.0).0
}

fn poll(note: Cap) -> Answer {
    let mut args = Args::plain(Op::Wait, note.arg(), 0, 0, 0);
    args.info = args.info.flag(FLAG_NONBLOCK);
    syscall(args)
}
