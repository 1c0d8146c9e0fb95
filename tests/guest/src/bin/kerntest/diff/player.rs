//! What a player runs: one random operation after the other, and a line for each.

use core::sync::atomic::Ordering::Relaxed;

use abi::{FLAG_NOTIFICATION, MEMBER_RIGHTS, MsgInfo, Op, Rights};
use user_rt::arch::{self, Answer, Args};
use user_rt::cap::{Handle, Notification, Task};
use user_rt::invoke::{Dump, copy_raw, yield_now};
use user_rt::spawn::own;
use user_rt::{report, utcb};

use super::board::{Board, Of, Word};
use super::choice::{Choice, Role};
use super::pool::{self, OwnPool};
use super::props::{DONE, GROUPS, TASKS};
use crate::puppet::observed;
use crate::registers::{Kind, Registers, WORDS, hold, peek};

/// In how many of a hundred cases a step is not reported, and how many may follow each other.
const SILENT: u64 = 45;
const SILENT_MAX: u64 = 4;
/// Every so many steps capabilities and memory are looked at, too.
const MEMORY_EVERY: u64 = 16;

/// Entry of a player that waits for its first call before the game begins.
pub extern "C" fn passive(number: u64) -> ! {
    let (first, dirt) = observed(&Args::new(Op::Recv));
    play(number, first, dirt)
}

/// Entry of all others.
pub extern "C" fn player(number: u64) -> ! {
    // The slice that it was made with is a short one; its next one is not.
    let _ = yield_now();
    let _ = Task::at(TASKS.nth(number as u32)).suspend();
    play(number, Answer { info: MsgInfo(0), rdi: 0, rsi: 0, rdx: 0, r8: 0, r9: 0, r10: 0, r12: 0 }, 0)
}

fn play(number: u64, first: Answer, dirt: u64) -> ! {
    let board = Board::open();
    let me = number as usize;
    let role = Role::from_raw(board.players[me].get(Of::Role));
    let kind = Kind::of(board.players[me].get(Of::Vector) != 0);
    // Only it may copy what is in its CSpace; the second of a process finds it done.
    let without_string = MEMBER_RIGHTS.minus(Rights::STRING | Rights::DELETE);
    let _ = copy_raw(GROUPS.nth(0), own::cnode().slot(GROUPS.weak()), without_string, 0);
    let got = Got { answer: first, dirt, vectors: 0, registers: 0 };
    let mut player =
        Player { board, number, role, kind, serving: false, op: Op::Recv, got, silent: 0, trace: 0 };
    loop {
        player.serving = serves(player.serving, player.op, &player.got.answer);
        let step = board.get(Word::Step) + 1;
        if step > board.get(Word::Steps) {
            leave(me, role);
            continue;
        }
        board.set(Word::Step, step);
        player.step(step);
    }
}

/// A player between two steps.
struct Player {
    board: &'static Board,
    number: u64,
    role: Role,
    kind: Kind,
    serving: bool,
    /// The last operation, and what came of it.
    op: Op,
    got: Got,
    /// Operations since the last report, and a hash of them and what came of them.
    silent: u64,
    trace: u64,
}

impl Player {
    fn step(&mut self, step: u64) {
        let Player { board, role, kind, serving, .. } = *self;
        let player = self.number as u32;
        let rested = serving && self.op == Op::Wait && self.got.answer.info.status().is_ok();
        let (args, words) =
            Choice { board, player, vector: kind != Kind::General, role, serving, rested }.next();
        for word in utcb::current().message().iter().take(words) {
            word.store(board.random(), Relaxed);
        }
        let pool = pool::has_one(self.number as usize).then(OwnPool::open);
        if let Some(pool) = pool {
            pool.tend(board);
        }
        // A report is two entries by the slow path. So that fast ones follow each other, too, some steps have none.
        if self.silent < SILENT_MAX && board.chance(SILENT) {
            self.silent += 1;
        } else {
            self.say(step, state(board, step), pool.map_or(0, OwnPool::hash), &args);
            (self.silent, self.trace) = (0, 0);
        }
        self.op = Op::from_raw(args.info.0 as u8).unwrap_or(Op::Null);
        if kind != Kind::General {
            hold(kind, &Registers::random(step), 0);
        }
        let (answer, dirt) = observed(&args);
        // First of all: whatever else is done here has a use for them.
        let vectors = fold(&peek(kind).0[..WORDS]);
        self.got =
            Got { answer: comparable(self.op, answer), dirt, vectors, registers: registers_read(self.op) };
        let Answer { info, rdi, rsi, rdx, r8, r9, r10, r12 } = self.got.answer;
        let results =
            [info.0, rdi, rsi, rdx, r8, r9, r10, r12, dirt, vectors, self.got.registers, self.op as u64];
        self.trace = fold(&[self.trace, fold(&results), message_words(), arch::gs_base()]);
    }

    /// What came of the last operations, and what comes next.
    fn say(&self, step: u64, state: u64, pool: u64, args: &Args) {
        let Player { number, op, silent, trace, .. } = *self;
        let a = &self.got.answer;
        let registers = [a.info.0, a.rdi, a.rsi, a.rdx, a.r8, a.r9, a.r10, a.r12, self.got.dirt];
        let Got { vectors, registers: read, .. } = self.got;
        let (words, gs) = (message_words(), arch::gs_base());
        let next = Op::from_raw(args.info.0 as u8);
        let arguments = [args.info.0, args.rdi, args.rsi, args.rdx, args.r8, args.r9, args.r10];
        report!(
            "step {step} player={number} silent={silent} trace={trace:x} last={op:?} got={registers:x?} gs={gs:x} \
             vectors={vectors:x} words={words:x} read={read:x} pool={pool:x} state={state:x} next={next:?} {arguments:x?}"
        );
    }
}

/// What an operation left.
struct Got {
    answer: Answer,
    dirt: u64,
    /// Of the vector registers, of a player that has them.
    vectors: u64,
    /// Of the registers of another task that were asked for.
    registers: u64,
}

/// The state before a step, which is what the step before has made of it.
fn state(board: &'static Board, step: u64) -> u64 {
    let text = step == board.get(Word::Shown);
    own::machine().dump(Dump { text, memory: text || step.is_multiple_of(MEMORY_EVERY) }).unwrap_or(0)
}

/// Whether the player has a call to answer now.
fn serves(before: bool, op: Op, answer: &Answer) -> bool {
    let well = answer.info.status().is_ok();
    match op {
        Op::Recv | Op::ReplyRecv => well && !answer.info.has(FLAG_NOTIFICATION) && answer.rsi != 0,
        Op::Reply | Op::Forward | Op::SaveReply => before && !well,
        _ => before,
    }
}

/// What does not depend on how long anything took.
fn comparable(op: Op, mut answer: Answer) -> Answer {
    if op == Op::SchedInfo {
        answer.rdi = 0;
    }
    answer
}

/// A hash of the registers that [`Op::TaskReadRegs`] left in the UTCB.
fn registers_read(op: Op) -> u64 {
    if op != Op::TaskReadRegs {
        return 0;
    }
    let mut registers = [0; abi::REG_COUNT];
    utcb::current().read_bulk(&mut registers);
    fold(&registers)
}

pub fn fold(words: &[u64]) -> u64 {
    let mix = |hash: u64, word: &u64| (hash.rotate_left(7) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    words.iter().fold(0, mix)
}

/// A hash of all message words in the UTCB, however many belong to a message.
fn message_words() -> u64 {
    utcb::current().message().iter().fold(0, |hash, word| fold(&[hash, word.load(Relaxed)]))
}

/// It is over: the player gets out of the way, so that in the end the fixer runs and tells the director.
fn leave(me: usize, role: Role) {
    if role == Role::Fixer {
        let _ = Notification::at(DONE).notify(1);
    }
    let _ = Task::at(TASKS.nth(me as u32)).suspend();
}
