//! What a player runs: random operations, and a report line for each.

use core::sync::atomic::Ordering::Relaxed;

use abi::{FLAG_NOTIFICATION, MEMBER_RIGHTS, MsgInfo, Op, Rights};
use guest_tests::run::export;
use test_abi::Dump;
use user_rt::arch::{self, Answer, Args};
use user_rt::cap::{Handle, Notification, Task};
use user_rt::invoke::{copy_raw, yield_now};
use user_rt::spawn::own;
use user_rt::{report, utcb};

use super::board::{Board, Of, Word};
use super::choice::{Choice, Role};
use super::pool::{self, OwnPool};
use super::props::{DONE, GROUPS, TASKS};
use crate::puppet::observed;
use crate::registers::{Kind, Registers, WORDS, hold, peek};

/// Percentage of steps without a report, and how many of them may follow each other.
const SILENT: u64 = 45;
const SILENT_MAX: u64 = 4;
/// Steps between two snapshots that include capabilities and memory.
const MEMORY_EVERY: u64 = 64;

/// Entry of a player that waits for its first call before the game begins.
pub extern "C" fn passive(number: u64) -> ! {
    let (first, dirt) = observed(&Args::new(Op::Recv));
    play(number, first, dirt)
}

/// Entry of all other players.
pub extern "C" fn player(number: u64) -> ! {
    // The first slice of a player is short; the next one is not.
    let _ = yield_now();
    let _ = Task::at(TASKS.nth(number as u32)).suspend();
    play(number, Answer { info: MsgInfo(0), rdi: 0, rsi: 0, rdx: 0, r8: 0, r9: 0, r10: 0, r12: 0 }, 0)
}

fn play(number: u64, first: Answer, dirt: u64) -> ! {
    let board = Board::open();
    let me = number as usize;
    let role = Role::from_raw(board.players[me].get(Of::Role));
    let kind = Kind::of(board.players[me].get(Of::Vector) != 0);
    // Only one task fills the CSpace; the second task of a process finds it filled.
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

/// The state of a player between two steps.
struct Player {
    board: &'static Board,
    number: u64,
    role: Role,
    kind: Kind,
    serving: bool,
    /// The last operation, and its result.
    op: Op,
    got: Got,
    /// Operations since the last report, and a hash of them and their results.
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
        // A report takes two kernel entries on the slow path. Some steps have none, so that fast
        // operations also follow each other.
        if self.silent < SILENT_MAX && board.chance(SILENT) {
            self.silent += 1;
        } else {
            show_state(board, step);
            self.say(step, pool.map_or(0, OwnPool::hash), &args);
            (self.silent, self.trace) = (0, 0);
        }
        self.op = Op::from_raw(args.info.0 as u8).unwrap_or(Op::Null);
        if kind != Kind::General {
            hold(kind, &Registers::random(step), 0);
        }
        let (answer, dirt) = observed(&args);
        // First of all, because the rest of this function may use these registers.
        let vectors = fold(&peek(kind).0[..WORDS]);
        self.got =
            Got { answer: comparable(self.op, answer), dirt, vectors, registers: registers_read(self.op) };
        let Answer { info, rdi, rsi, rdx, r8, r9, r10, r12 } = self.got.answer;
        let results =
            [info.0, rdi, rsi, rdx, r8, r9, r10, r12, dirt, vectors, self.got.registers, self.op as u64];
        self.trace = fold(&[self.trace, fold(&results), message_words(), arch::gs_base()]);
    }

    /// Reports the results of the last operations, and the next one.
    fn say(&self, step: u64, pool: u64, args: &Args) {
        let Player { number, op, silent, trace, .. } = *self;
        let a = &self.got.answer;
        let registers = [a.info.0, a.rdi, a.rsi, a.rdx, a.r8, a.r9, a.r10, a.r12, self.got.dirt];
        let Got { vectors, registers: read, .. } = self.got;
        let (words, gs) = (message_words(), arch::gs_base());
        let next = Op::from_raw(args.info.0 as u8);
        let arguments = [args.info.0, args.rdi, args.rsi, args.rdx, args.r8, args.r9, args.r10];
        report!(
            "step {step} player={number} silent={silent} trace={trace:x} last={op:?} got={registers:x?} gs={gs:x} \
             vectors={vectors:x} words={words:x} read={read:x} pool={pool:x} next={next:?} {arguments:x?}"
        );
    }
}

/// The result of an operation.
struct Got {
    answer: Answer,
    dirt: u64,
    /// Hash of the vector registers, for a player that has them.
    vectors: u64,
    /// Hash of the registers of another task that were requested.
    registers: u64,
}

/// Exports the state before a step, which is the result of the step before.
fn show_state(board: &'static Board, step: u64) {
    let shown = board.get(Word::Shown);
    if shown == 0 || shown == step {
        let all = shown == step || step.is_multiple_of(MEMORY_EVERY);
        let what = if all { Dump::All } else { Dump::WithoutMemory };
        if let Err(refusal) = export(what) {
            report!("error no snapshot before step {step}: {refusal:?}");
        }
    }
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

/// Removes what depends on how long things take.
fn comparable(op: Op, mut answer: Answer) -> Answer {
    if op == Op::SchedInfo {
        answer.rdi = 0;
    }
    answer
}

/// Returns a hash of the registers that [`Op::TaskReadRegs`] wrote to the UTCB.
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

/// Returns a hash of all message words in the UTCB, whether or not a message has them.
fn message_words() -> u64 {
    utcb::current().message().iter().fold(0, |hash, word| fold(&[hash, word.load(Relaxed)]))
}

/// Ends a player, so that the fixer finally runs and informs the director.
fn leave(me: usize, role: Role) {
    if role == Role::Fixer {
        let _ = Notification::at(DONE).notify(1);
    }
    let _ = Task::at(TASKS.nth(me as u32)).suspend();
}
