//! Chooses a roomer's next operation: any operation, with capabilities that the roomer may or may
//! not have.

use abi::{
    Cap, Check, FLAG_CAPS, FLAG_DEADLINE, FLAG_NONBLOCK, FLAG_PAGES, Grant, LockWord, MAP_POOL,
    MEMBER_RIGHTS, MsgInfo, ObjType, Op, PAGE_SIZE, PageMode, PageRange, Rights, Target, TaskId,
};
use guest_tests::random::Random;
use user_rt::arch::{self, Args};
use user_rt::boot;
use user_rt::layout::slot;

use super::marks::{self, For};
use super::{
    LETTERS, MATE_CNODE, PAGE, PLAYED, ROOM, ROOM_PROCESSES, ROOMERS, SHOW, TALKING, TOYS, mate, seeds,
};

/// The toys, in the order of their slots.
pub const KINDS: [(ObjType, u64); 16] = [
    (ObjType::CNode, 8),
    (ObjType::VSpace, 4),
    (ObjType::Process, 2),
    (ObjType::Task, 0),
    (ObjType::SchedContext, 0),
    (ObjType::SchedControl, 0),
    (ObjType::IrqHandler, 0),
    (ObjType::Group, 3 | 4 << 16),
    (ObjType::Notification, 0),
    (ObjType::Notification, 0),
    (ObjType::Reply, 0),
    (ObjType::Reply, 0),
    (ObjType::Frame, 12),
    (ObjType::Frame, 12),
    (ObjType::Frame, 12),
    (ObjType::Untyped, 13),
];
/// Address of mapped pages; after them, the window for pages of messages.
pub const PAGES_AT: u64 = 0x3000_0000;
const PAGES: u64 = 8;
pub const WINDOW_AT: u64 = PAGES_AT + PAGES * PAGE_SIZE;
pub const WINDOW_PAGES: u64 = 8;
/// Longest wait, in ticks; the longer one is for runs that replay, in which waiting CPUs count as
/// busy.
const PATIENCE: u64 = 2_000_000;
const PATIENCE_OF_POLLERS: u64 = 60_000;

/// Operations that are drawn more often than others.
const OFTEN: [Op; 15] = [
    Op::CapCopy,
    Op::CapCopy,
    Op::CapMove,
    Op::CapDelete,
    Op::Map,
    Op::Map,
    Op::PageTransfer,
    Op::GroupAdd,
    Op::ProcessAccept,
    Op::Expose,
    Op::Withdraw,
    Op::Wait,
    Op::LockWait,
    Op::LockWait,
    Op::LockPass,
];
/// Words of a page that roomers use as locks.
const LOCKS: u64 = 3;

/// A system call, with its payload.
pub struct Act {
    pub args: Args,
    /// Number of arguments that it takes; the registers after those are free.
    pub used: usize,
    /// Whether the registers from rdx on are a message.
    pub is_message: bool,
    /// Readers of the words that it sends.
    pub whom: For,
    pub grants: [Grant; 2],
    pub ranges: [PageRange; 1],
}

/// Returns the longest wait of a roomer, in ticks.
pub fn patience() -> u64 {
    if boot::options().value("idle") == Some("poll") { PATIENCE_OF_POLLERS } else { PATIENCE }
}

pub struct Chooser<'a> {
    pub number: usize,
    /// Its longest wait, in ticks.
    pub patience: u64,
    pub random: &'a mut Random,
    /// The ids of the room's tasks, in the order of their exposures.
    pub ids: [u64; ROOM_PROCESSES],
}

impl Chooser<'_> {
    pub fn act(&mut self) -> Act {
        match self.random.below(100) {
            0..14 => self.message(Op::Call),
            14..20 => self.message(Op::Send),
            20..22 => self.message(Op::Broadcast),
            22..36 => self.answer(Op::Recv),
            36..48 => self.answer(Op::ReplyRecv),
            48..52 => self.answer(Op::Reply),
            52..60 => self.message(Op::Forward),
            60..84 => {
                let op = OFTEN[self.random.below(OFTEN.len() as u64) as usize];
                self.plain(op)
            }
            _ => {
                let op = Op::ALL[self.random.below(Op::COUNT as u64) as usize];
                match op {
                    // The roomer needs its own bases.
                    Op::SetBases => self.plain(Op::CapInspect),
                    Op::Call | Op::Send | Op::Broadcast | Op::Forward => self.message(op),
                    Op::Recv | Op::Reply | Op::ReplyRecv => self.answer(op),
                    _ => self.plain(op),
                }
            }
        }
    }

    fn room(&self) -> usize {
        marks::room_of(self.number)
    }

    // --- messages --------------------------------------------------------------------------------

    /// Picks a message to a task of the room, or of a room that it talks to.
    fn message(&mut self, op: Op) -> Act {
        let to_room = self.room() >= TALKING || self.random.chance(50);
        let any = self.random.below(ROOMERS as u64) as usize;
        let (target, whom) = match self.random.below(20) {
            0 => (Target::new(self.cap(&[ObjType::Group]), any as u32), For::Peers),
            1 if op == Op::Broadcast => (Target::new(LETTERS, 0), For::Peers),
            _ if op == Op::Broadcast => (Target::new(ROOM, 0), For::Room),
            _ if to_room => (Target::new(ROOM, mate(self.number) as u32 & 1), For::Room),
            _ => (Target::new(LETTERS, (self.number ^ 2 ^ (any & 1)) as u32), For::Peers),
        };
        // The words of a forwarded call come through its caller's UTCB.
        let whom = if op == Op::Forward { For::Peers } else { whom };
        self.with_load(op, target.0, whom)
    }

    /// Picks a receive, or an answer to the current caller.
    fn answer(&mut self, op: Op) -> Act {
        let kept = op == Op::Reply && self.random.chance(30);
        let cap = if kept { self.cap(&[ObjType::Reply]).arg() } else { 0 };
        self.with_load(op, cap, For::Peers)
    }

    fn with_load(&mut self, op: Op, rdi: u64, whom: For) -> Act {
        let words = [0, 0, 1, 3, 8, 64][self.random.below(6) as usize];
        let mut info = MsgInfo::new(0, words).op(op);
        let mut rsi = 0;
        let waits = !matches!(op, Op::Reply | Op::Forward);
        // A call that does not wait for its receiver still waits for the answer, which may never
        // come.
        if waits && op != Op::Call && self.random.chance(30) {
            info = info.flag(FLAG_NONBLOCK);
        } else if waits {
            rsi = arch::now() + self.random.below(self.patience);
            info = info.flag(FLAG_DEADLINE);
        }
        if op != Op::Forward && self.random.chance(25) {
            info = info.flag(FLAG_CAPS);
        }
        if op != Op::Forward && self.random.chance(15) {
            info = info.flag(FLAG_PAGES);
        }
        let grants = [self.grant(), self.grant()];
        let mode = PageMode::ALL[self.random.below(3) as usize];
        let ranges = [PageRange::new(mode, self.address(), 1)];
        let args = Args { info, rdi, rsi, ..Args::new(op) };
        Act { args, used: 2, is_message: true, whom, grants, ranges }
    }

    fn grant(&mut self) -> Grant {
        if self.random.chance(30) {
            return Grant::Move { cap: self.toy() };
        }
        let (cap, rights) = self.source();
        Grant::Copy { cap, rights, badge: 0 }
    }

    // --- other operations ------------------------------------------------------------------------

    fn plain(&mut self, op: Op) -> Act {
        let mut words: [u64; 6] = core::array::from_fn(|_| self.odd());
        let forms = op.forms();
        let form = &forms[self.random.below(forms.len() as u64) as usize];
        for operand in form.operands {
            words[operand.position] = match operand.check {
                Check::Slot => self.place(),
                _ => Target::new(self.cap(operand.types), self.random.below(6) as u32).0,
            };
        }
        let used = self.arguments(op, &mut words);
        let mut info = MsgInfo(op as u64);
        if matches!(op, Op::Wait | Op::LockWait) {
            words[1] = arch::now() + self.random.below(self.patience);
            info = info.flag(if self.random.chance(50) { FLAG_NONBLOCK } else { FLAG_DEADLINE });
        }
        let [rdi, rsi, rdx, r8, r9, r10] = words;
        let args = Args { info, rdi, rsi, rdx, r8, r9, r10 };
        let grants = [Grant::Move { cap: Cap::NULL }; 2];
        let ranges = [PageRange::new(PageMode::Copy, 0, 0)];
        Act { args, used, is_message: false, whom: For::Nobody, grants, ranges }
    }

    /// Replaces arguments that would almost never be right, or that must not be arbitrary. Returns
    /// how many the operation takes.
    fn arguments(&mut self, op: Op, words: &mut [u64; 6]) -> usize {
        match op {
            Op::CapCopy => {
                let (cap, rights) = self.source();
                (words[0], words[2], words[3]) = (cap.arg(), u64::from(rights.0), 0);
                4
            }
            // The roomer keeps what it was given at the start.
            Op::CapMove => {
                words[0] = self.toy().arg();
                2
            }
            Op::Retype => {
                let (what, size) = KINDS[self.random.below(KINDS.len() as u64) as usize];
                let from = if self.random.chance(60) { PLAYED } else { self.cap(&[ObjType::Untyped]) };
                (words[0], words[1], words[3]) = (Target::new(from, what as u32).0, size, 1);
                4
            }
            Op::Map | Op::Protect | Op::Unmap => {
                words[2] = self.address();
                words[3] = self.random.below(8);
                // The page that a room shows is lost to all other rooms once a pool has it.
                if words[1] >> 32 == u64::from(PAGE.0) {
                    words[3] &= !MAP_POOL;
                }
                (words[4], words[5]) = (0, 1);
                6
            }
            Op::PageCopy => {
                (words[2], words[3], words[4]) = (self.address(), 0, 0);
                5
            }
            Op::PageTransfer => {
                let mode = PageMode::ALL[self.random.below(3) as usize];
                let [first, count] = PageRange::new(mode, self.address(), 1).words();
                (words[2], words[3], words[4]) = (first, self.address(), count);
                5
            }
            Op::GroupAdd => {
                let rights = if self.random.chance(50) { MEMBER_RIGHTS.0 } else { self.random.next() as u32 };
                (words[2], words[3]) = (u64::from(rights), self.random.below(8));
                4
            }
            Op::ProcessAccept => {
                words[0] = slot::PROCESS.arg();
                words[1] = u64::from(self.toy().0);
                3
            }
            // The roomer needs its own exposures, to know that no other task has withdrawn them.
            Op::Expose | Op::Withdraw => {
                words[0] = self.others_exposure();
                words[2] = 0;
                3
            }
            Op::Notify => {
                words[1] = 1 << self.random.below(40);
                2
            }
            Op::LockWait | Op::LockPass => self.lock_arguments(op, words),
            Op::Wait | Op::WhoAmI | Op::Yield | Op::Null | Op::SaveReply | Op::YieldTo => 2,
            _ => 6,
        }
    }

    fn lock_arguments(&mut self, op: Op, words: &mut [u64; 6]) -> usize {
        let place = Target::new(self.cap(&[ObjType::Frame]), self.random.below(LOCKS) as u32).0;
        if op == Op::LockPass {
            words[0] = place;
            return 1;
        }
        words[2] = place;
        if self.random.chance(90) {
            words[3] = self.lock_word().0;
        }
        if self.random.chance(70) {
            words[0] = ROOM.arg();
        }
        4
    }

    /// Draws the word of a lock: mostly that of a task of the room.
    fn lock_word(&mut self) -> LockWord {
        let index = self.random.below(ROOM_PROCESSES as u64) as usize;
        let id = if self.random.chance(90) { self.ids[index] } else { self.random.next() };
        let index = if self.random.chance(90) { index as u32 } else { self.random.below(5) as u32 };
        LockWord::of(TaskId::from_raw(id), index).with_waits()
    }

    fn others_exposure(&mut self) -> u64 {
        let other = (self.number + 1 + self.random.below(ROOMERS as u64 - 1) as usize) % ROOMERS;
        match self.random.below(3) {
            0 => Target::new(SHOW, other as u32).0,
            1 => Target::new(ROOM, 2 + self.random.below(2) as u32).0,
            _ => Target::new(self.toy(), self.random.below(4) as u32).0,
        }
    }

    // --- what it has -----------------------------------------------------------------------------

    fn toy(&mut self) -> Cap {
        Cap(TOYS.start + self.random.below(u64::from(TOYS.end - TOYS.start)) as u32)
    }

    /// Picks a capability, mostly of a type that fits, that was given at the start or made since.
    fn cap(&mut self, types: &[ObjType]) -> Cap {
        let which = self.random.below(10);
        let seeds = || seeds(marks::room_of(self.number)).filter(|(_, what, _)| types.contains(what));
        let own = [(slot::VSPACE, ObjType::VSpace), (slot::SCHED_CONTROL, ObjType::SchedControl)];
        let given = own.into_iter().filter(|(_, what)| types.contains(what));
        let count = seeds().count() + given.clone().count();
        if which < 5 && count > 0 {
            let chosen = self.random.below(count as u64) as usize;
            let all = seeds().map(|(cap, ..)| cap).chain(given.map(|(cap, _)| cap));
            return all.into_iter().nth(chosen).unwrap_or(Cap::NULL);
        }
        let first = self.random.below(KINDS.len() as u64) as usize;
        let fits = |n: &usize| types.contains(&KINDS[*n % KINDS.len()].0);
        match (first..first + KINDS.len()).find(fits) {
            Some(n) if which < 9 => Cap(TOYS.start + (n % KINDS.len()) as u32),
            _ => self.toy(),
        }
    }

    /// Picks a capability to copy, and rights, often more than it has.
    fn source(&mut self) -> (Cap, Rights) {
        let count = seeds(self.room()).count() as u64;
        let chosen = self.random.below(2 * count);
        let given = seeds(self.room()).nth(chosen as usize);
        let (cap, most) = match given {
            Some((cap, _, rights)) => (cap, rights),
            None => (self.toy(), Rights::ALL),
        };
        match self.random.below(4) {
            0 => (cap, Rights::ALL),
            1 => (cap, Rights(self.random.next() as u32 & Rights::ALL.0)),
            2 => (cap, most),
            _ => (cap, Rights(self.random.next() as u32).and(most)),
        }
    }

    /// Picks a slot among its own toys or its mate's, or in a toy CNode.
    fn place(&mut self) -> u64 {
        match self.random.below(10) {
            0..6 => Target::new(slot::CNODE, self.toy().0).0,
            6..9 => Target::new(MATE_CNODE, self.toy().0).0,
            _ => Target::new(Cap(TOYS.start), self.random.below(10) as u32).0,
        }
    }

    fn address(&mut self) -> u64 {
        PAGES_AT + PAGE_SIZE * self.random.below(PAGES + WINDOW_PAGES)
    }

    /// Draws a plain argument: a small number, an address, bits, or any word.
    fn odd(&mut self) -> u64 {
        match self.random.below(12) {
            0..5 => self.random.below(6),
            5..8 => self.address(),
            8 => 1 << self.random.below(40),
            9 => u64::from(Rights::ALL.0),
            10 => u64::MAX,
            _ => marks::unmarked(self.random.next()),
        }
    }
}
