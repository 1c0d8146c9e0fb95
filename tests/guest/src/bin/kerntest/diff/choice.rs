//! What a player does next: an operation with its arguments, mostly valid ones.

use abi::{Cap, FLAG_DEADLINE, FLAG_NONBLOCK, MsgInfo, Op, Rights, Target};
use user_rt::arch::Args;
use user_rt::layout::slot;

use super::board::{Board, PLAYERS, Where, Word};
use super::props::{BOUND, CNODE, GROUPS, NOTES, OUTSIDE, POOLS, REPLIES, SPARE, Set, TASKS, TIMES};

/// What a player mostly does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Role {
    Client = 0,
    Server,
    /// Alternates with others: notify, wait, yield_to.
    Turns,
    /// Runs when all others are blocked, and unblocks some; never blocks.
    Fixer,
}

impl Role {
    pub fn from_raw(raw: u64) -> Role {
        [Role::Client, Role::Server, Role::Turns, Role::Fixer][raw as usize & 3]
    }
}

/// Unit of deadlines and slices. A dump can tell the multiples apart, and no run lasts that long.
pub const AGE: u64 = 1 << 40;
/// The first deadline that lies ahead.
const FAR: u64 = 1 << 50;

/// Players that alternate, if their role is that.
const PAIRS: [[u32; 2]; 2] = [[0, 3], [4, 5]];

/// State on which a choice depends.
#[derive(Clone, Copy)]
pub struct Choice {
    pub board: &'static Board,
    /// Number of the player.
    pub player: u32,
    pub vector: bool,
    pub role: Role,
    /// Whether it has received a call and not answered it, as far as it knows.
    pub serving: bool,
    /// Whether it has waited for bits meanwhile: if it blocked, it continues with its own time.
    pub rested: bool,
}

/// Operations with their weights.
type Weights = &'static [(Op, u64)];

const SERVING: Weights = &[
    (Op::ReplyRecv, 55),
    (Op::Reply, 7),
    (Op::Forward, 6),
    (Op::SaveReply, 6),
    (Op::Call, 12),
    (Op::Send, 16),
    (Op::Recv, 2),
    (Op::Notify, 4),
    (Op::Wait, 20),
    (Op::YieldTo, 2),
    (Op::Null, 6),
];
const SERVER: Weights = &[
    (Op::Recv, 40),
    (Op::ReplyRecv, 14),
    (Op::Reply, 8),
    (Op::Call, 8),
    (Op::Send, 16),
    (Op::Notify, 8),
    (Op::Wait, 4),
    (Op::YieldTo, 6),
    (Op::Null, 12),
];
const CLIENT: Weights = &[
    (Op::Call, 60),
    (Op::Send, 40),
    (Op::Notify, 10),
    (Op::Wait, 4),
    (Op::YieldTo, 4),
    (Op::Reply, 3),
    (Op::Recv, 5),
    (Op::Yield, 2),
    (Op::Null, 12),
];
const TURNS: Weights = &[
    (Op::Notify, 36),
    (Op::Wait, 26),
    (Op::YieldTo, 24),
    (Op::Call, 5),
    (Op::Send, 24),
    (Op::Recv, 3),
    (Op::Yield, 2),
    (Op::Null, 10),
];
const FIXER: Weights = &[
    (Op::TaskCancel, 40),
    (Op::Notify, 34),
    (Op::TaskResume, 14),
    (Op::YieldTo, 4),
    (Op::CapRevoke, 4),
    (Op::CapDelete, 5),
    (Op::Null, 8),
];
/// Steps for which the fixer destroys the same object.
const DOOM: u64 = 250;
/// Operations that stand for [`Op::Null`].
const RARE: Weights = &[
    (Op::Null, 6),
    (Op::WhoAmI, 2),
    (Op::SetBases, 8),
    (Op::TaskSuspend, 8),
    (Op::TaskResume, 14),
    (Op::TaskCancel, 10),
    (Op::TaskReadRegs, 8),
    (Op::TaskKill, 2),
    (Op::SchedConfigure, 8),
    (Op::SchedBind, 4),
    (Op::SchedInfo, 2),
    (Op::NotificationBind, 4),
    (Op::Expose, 6),
    (Op::Withdraw, 4),
    (Op::GroupRemove, 2),
    (Op::CapCopy, 6),
    (Op::CapMove, 2),
    (Op::CapDelete, 5),
    (Op::CapRevoke, 2),
    (Op::PoolRoom, 12),
];

impl Choice {
    /// Draws the next operation, and how many random words go into the UTCB before it.
    pub fn next(&self) -> (Args, usize) {
        let weights = match self.role {
            _ if self.serving => SERVING,
            Role::Server => SERVER,
            Role::Client => CLIENT,
            Role::Turns => TURNS,
            Role::Fixer => FIXER,
        };
        let mut op = self.weighed(weights);
        if self.rested && self.board.chance(70) {
            op = Op::ReplyRecv;
        }
        if op == Op::Null && self.board.chance(60) {
            op = self.weighed(RARE);
        }
        let mut args = self.arguments(op);
        args.info = args.info.op(op);
        if self.board.chance(1) {
            // A number without an operation.
            args.info = MsgInfo(args.info.0 & !0xff | (Op::COUNT as u64 + self.board.below(100)));
        }
        (args, args.info.words().min(abi::MSG_UTCB_WORDS))
    }

    fn weighed(&self, weights: Weights) -> Op {
        let mut at = self.board.below(weights.iter().map(|(_, weight)| weight).sum());
        for (op, weight) in weights {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *op,
            }
        }
        Op::Null
    }

    fn arguments(&self, op: Op) -> Args {
        match op {
            Op::Call | Op::Forward | Op::Send => self.message(self.callee()),
            Op::ReplyRecv | Op::Recv => self.message(0),
            Op::Reply => {
                let saved = self.board.chance(if self.serving { 20 } else { 85 });
                self.message(if saved { self.one_of(REPLIES).arg() } else { 0 })
            }
            Op::SaveReply => self.on(self.one_of(REPLIES)),
            Op::Notify => self.notify(),
            Op::Wait => self.wait(),
            Op::YieldTo => Args { rdi: self.yield_target(), ..Args::default() },
            Op::SetBases => self.bases(),
            _ => self.rare(op),
        }
    }

    fn on(&self, cap: Cap) -> Args {
        Args { rdi: cap.arg(), ..Args::default() }
    }

    /// Picks a capability of a set, mostly one with all rights.
    fn one_of(&self, set: Set) -> Cap {
        match self.board.below(40) {
            0 => set.weak(),
            1 => self.stray(),
            _ => set.nth(self.board.below(u64::from(set.count)) as u32),
        }
    }

    /// Picks a capability of any type, or none.
    fn stray(&self) -> Cap {
        match self.board.below(4) {
            0 => Cap::NULL,
            1 => OUTSIDE,
            2 => SPARE.nth(self.board.below(u64::from(SPARE.count)) as u32),
            _ => Cap(GROUPS.nth(0).0 + self.board.below(60) as u32),
        }
    }

    // --- messages --------------------------------------------------------------------------------

    fn through_group(&self, place: Where) -> Target {
        let group = match self.board.below(30) {
            0 => GROUPS.weak(),
            1 => self.stray(),
            _ => GROUPS.nth(u32::from(place.second)),
        };
        let index = if self.board.chance(4) { self.board.below(70) as u32 } else { place.index };
        Target::new(group, index)
    }

    fn callee(&self) -> u64 {
        self.through_group(self.board.some_task(self.vector)).0
    }

    fn message(&self, rdi: u64) -> Args {
        let random = || self.board.random();
        // Some paths of the kernel have an empty label only by accident, so labels are often not
        // empty.
        let label = if self.board.chance(50) { 0 } else { random() as u32 };
        let words = match self.board.below(20) {
            0 => 65 + self.board.below(191) as u8,
            1 => 64,
            2..=6 => 1 + self.board.below(64) as u8,
            _ => 0,
        };
        let info = MsgInfo::new(label, words);
        let plain = Args { info, rdi, rsi: 0, rdx: random(), r8: random(), r9: random(), r10: random() };
        self.waiting(plain)
    }

    /// Makes an operation wait, mostly without a deadline. The fixer never waits.
    fn waiting(&self, mut args: Args) -> Args {
        match self.board.below(24) {
            0 => args.info = args.info.flag(FLAG_NONBLOCK),
            1 | 2 => {
                args.info = args.info.flag(FLAG_DEADLINE);
                args.rsi = FAR + AGE * self.board.below(64);
            }
            3 => {
                args.info = args.info.flag(FLAG_DEADLINE);
                args.rsi = self.board.below(2);
            }
            // Flags that no operation needs.
            4 => args.info = args.info.flag(1 << (18 + self.board.below(14))),
            _ => {}
        }
        args
    }

    // --- bits and turns --------------------------------------------------------------------------

    fn note(&self) -> Cap {
        if self.board.chance(12) { self.one_of(BOUND) } else { self.one_of(NOTES) }
    }

    /// Returns the Notification of a player that alternates with another.
    fn note_of(&self, player: u32) -> Cap {
        let at = PAIRS.iter().flatten().position(|one| *one == player).unwrap_or(0);
        NOTES.nth(at as u32 % NOTES.count)
    }

    fn partner(&self) -> Option<u32> {
        let [a, b] = PAIRS.into_iter().find(|pair| pair.contains(&self.player))?;
        (self.role == Role::Turns && self.board.chance(70)).then_some(if a == self.player { b } else { a })
    }

    fn wait(&self) -> Args {
        let own = self.partner().map(|_| self.note_of(self.player));
        self.waiting(Args { rdi: own.unwrap_or_else(|| self.note()).arg(), ..Args::default() })
    }

    fn notify(&self) -> Args {
        let rdi = match self.partner() {
            Some(partner) => self.note_of(partner).arg(),
            None if self.board.chance(40) => self.through_group(self.board.some_note()).0,
            None => self.note().arg(),
        };
        let rsi = if self.board.chance(5) { 0 } else { 1 << self.board.below(64) };
        Args { rdi, rsi, ..Args::default() }
    }

    fn yield_target(&self) -> u64 {
        match self.partner() {
            Some(partner) => TASKS.nth(partner).arg(),
            None if self.board.chance(30) => self.callee(),
            None => self.one_of(TASKS).arg(),
        }
    }

    /// Returns a call with the runtime's own FS base.
    fn bases(&self) -> Args {
        let gs = if self.board.chance(15) { self.board.random() } else { self.board.random() >> 20 };
        Args { rdi: user_rt::arch::fs_base(), rsi: gs, ..Args::default() }
    }

    // --- the rest --------------------------------------------------------------------------------

    fn rare(&self, op: Op) -> Args {
        let board = self.board;
        match op {
            Op::TaskKill => self.on(self.victim()),
            Op::TaskSuspend | Op::TaskResume | Op::TaskCancel | Op::TaskReadRegs => self.on(self.player()),
            Op::SchedConfigure => {
                let slice = if board.chance(30) { u64::MAX } else { AGE * (1 + board.below(15)) };
                let priority = if board.chance(4) { 256 } else { 20 + 10 * board.below(3) };
                let time = self.one_of(TIMES).arg();
                // No budget is used up, as no slice ends.
                let budget = if board.chance(20) { AGE * (1 + board.below(3)) } else { 0 };
                let r10 = if board.chance(95) { 2 * budget } else { AGE };
                Args { rsi: time, rdx: priority, r8: slice, r9: budget, r10, ..self.on(slot::SCHED_CONTROL) }
            }
            Op::PoolRoom => self.on(self.one_of(POOLS)),
            Op::SchedInfo => self.on(self.one_of(TIMES)),
            Op::SchedBind => Args { rsi: self.player().arg(), ..self.on(self.one_of(TIMES)) },
            Op::NotificationBind => Args { rsi: self.player().arg(), ..self.on(self.note()) },
            Op::Expose => {
                let object = if board.chance(60) { self.player() } else { self.note() };
                let place = Where { second: board.chance(50), index: board.below(40) as u32 };
                Args { rdi: self.through_group(place).0, rsi: object.arg(), ..Args::default() }
            }
            Op::Withdraw | Op::GroupRemove => {
                let index = if op == Op::Withdraw { board.below(40) } else { board.below(7) } as u32;
                Args { rdi: Target::new(GROUPS.nth(1), index).0, ..Args::default() }
            }
            _ => self.on_capabilities(op),
        }
    }

    /// Picks a player other than the fixer: without the fixer the game would stop.
    fn player(&self) -> Cap {
        match self.board.below(30) {
            0 => TASKS.weak(),
            _ => TASKS.nth(self.board.below(PLAYERS as u64 - 1) as u32),
        }
    }

    fn victim(&self) -> Cap {
        match self.board.get(Word::Victims).checked_sub(1) {
            Some(left) => {
                self.board.set(Word::Victims, left);
                self.player()
            }
            None => TASKS.weak(),
        }
    }

    fn on_capabilities(&self, op: Op) -> Args {
        let board = self.board;
        let spare = SPARE.nth(board.below(u64::from(SPARE.count)) as u32);
        let place = Target::new(CNODE, spare.0).0;
        let source = match board.below(4) {
            0 => self.note(),
            1 => self.one_of(REPLIES),
            2 => self.one_of(TASKS),
            _ => self.one_of(GROUPS),
        };
        match op {
            Op::CapCopy => {
                let rights = if board.chance(50) { Rights::ALL.0.into() } else { board.below(1 << 17) };
                Args { rdi: source.arg(), rsi: place, rdx: rights, ..Args::default() }
            }
            Op::CapMove => {
                let to = SPARE.nth(board.below(u64::from(SPARE.count)) as u32);
                Args { rdi: spare.arg(), rsi: Target::new(CNODE, to.0).0, ..Args::default() }
            }
            // The fixer has the first capabilities of Replies and Notifications. It revokes all
            // other capabilities of one object at a time, and then deletes its own.
            Op::CapDelete | Op::CapRevoke if self.role == Role::Fixer => {
                let doomed = [REPLIES.nth(0), NOTES.nth(5), BOUND.nth(2), REPLIES.nth(3), NOTES.nth(2)];
                let now = (board.get(Word::Step) / DOOM) as usize % doomed.len();
                Args { rdi: Target::new(CNODE, doomed[now].0).0, ..Args::default() }
            }
            _ => Args { rdi: place, ..Args::default() },
        }
    }
}
