//! The cluster of messages: tasks that call each other.
//!
//! Its workers, the *speakers*, do nothing else, so that messages, and events that end their waits,
//! arrive only in operations on this cluster. All speakers are exposed in a group of which the
//! processes are members, and so is a Notification that is bound to each. Each has a Reply. They
//! call, receive, answer, keep calls, raise bits, and cancel each other.
//!
//! Calls and receives may have no deadline. When the other workers are done, the window is over,
//! and the keeper cancels the speakers that are not yet at the barrier.

use abi::{
    Cap, FLAG_DEADLINE, FLAG_NONBLOCK, FLAG_NOTIFICATION, MsgInfo, Op, Rights, Target, TaskId, task_rights,
};
use guest_tests::failure::Failure;
use guest_tests::run::Run as _;
use model::linear::CALLS_MAX;
use model::object::{self, Exposure, Member};
use model::{Id, Kind, Model, Place};
use user_rt::arch::{self, Answer, Args, syscall};
use user_rt::cap::{Group, Handle, Notification, Reply, Untyped};
use user_rt::invoke::copy;
use user_rt::report;
use user_rt::spawn::{Child, Nursery, Spawned, own};

use crate::arena;
use crate::board::{Board, In, Of, Total};
use crate::cast::PRIORITY;
use crate::clusters::Player;

/// Most speakers of a run.
const MOST: u32 = 8;
/// Number of bits that one speaker raises.
const BITS: u32 = u64::BITS / MOST;
/// Slots in each process: the group, the tasks; and for its own speakers the bound Notifications
/// and the Replies.
const GROUP: Cap = Cap(500);
const TASKS: u32 = 504;
const NOTES: u32 = TASKS + MOST;
const REPLIES: u32 = NOTES + MOST;
const _: () = assert!(REPLIES + MOST <= arena::FIRST.0);

/// Exposures of the Notifications follow those of the tasks.
const EXPOSURES: u32 = 2 * MOST;
const RIGHTS: Rights = Rights::SEND.union(Rights::STRING).union(Rights::NOTIFY);
/// Longest wait of a speaker that does not wait forever, in ticks.
const PATIENCE: u64 = 8_000_000;
/// How long the keeper waits for missing speakers before it cancels them; first and longest time.
const GRACE: u64 = 250_000;
const LONGEST: u64 = 300_000_000;
/// Records that are reserved for the calls that bring speakers to the barrier.
const LIMIT: usize = CALLS_MAX - 4;

/// Returns the number of speakers: one on each CPU, two on some.
pub fn count(cpus: u64) -> u64 {
    (cpus + 2).clamp(4, 6)
}

/// Returns the speaker's number of a worker. The last workers are speakers.
pub fn number(board: &'static Board, worker: usize) -> Option<u32> {
    let first = board.get(Total::Workers) - board.get(Total::Speakers);
    (worker as u64).checked_sub(first).map(|number| number as u32)
}

/// Most speakers run before other workers: otherwise a window would be over before many calls were
/// answered.
pub fn priority(board: &'static Board, worker: usize) -> u8 {
    match number(board, worker) {
        Some(number) if number % 3 != 2 => PRIORITY + 1,
        _ => PRIORITY,
    }
}

fn speakers(board: &'static Board) -> u32 {
    board.get(Total::Speakers) as u32
}

fn worker(board: &'static Board, speaker: u32) -> usize {
    (board.get(Total::Workers) - board.get(Total::Speakers)) as usize + speaker as usize
}

// --- what they are given -------------------------------------------------------------------------

/// Makes the group. The maker is its first member.
pub fn make_group(nursery: &mut Nursery) -> Result<Group, Failure> {
    Ok(nursery.make_group(crate::board::PROCESSES as u16 + 1, EXPOSURES as u16)?)
}

pub fn join(child: &Child, group: &Group, process: usize) -> Result<(), Failure> {
    child.join(group, GROUP, RIGHTS, custom(process))?;
    Ok(())
}

fn custom(process: usize) -> u16 {
    70 + process as u16
}

/// Makes a speaker of a task that has not run yet.
pub fn introduce(
    board: &'static Board,
    nursery: &mut Nursery,
    group: &Group,
    children: &[Child],
    who: usize,
    made: &Spawned,
) -> Result<(), Failure> {
    let Some(speaker) = number(board, who) else { return Ok(()) };
    board.workers[who].set(Of::Identity, made.id.raw());
    let note: Notification = nursery.make(0)?;
    note.bind(&made.task)?;
    group.expose_task(speaker, &made.task)?;
    group.expose_notification(MOST + speaker, &note)?;
    for child in children {
        let rights = task_rights::SUSPEND.rights();
        copy(&made.task, child.cnode.slot(Cap(TASKS + speaker)), rights, 0)?;
    }
    let home = &children[board.workers[who].get(Of::Process) as usize];
    Ok(copy(&note, home.cnode.slot(Cap(NOTES + speaker)), Rights::LISTEN, 0)?)
}

/// Makes a speaker's own objects, since they belong to its CPU.
pub fn begin(board: &'static Board, me: usize) {
    let Some(speaker) = number(board, me) else { return };
    let memory = Untyped::at(arena::memory(me));
    memory.retype::<Reply>(0, own::cnode().slot(Cap(REPLIES + speaker)), 1).expect("a speaker's Reply");
}

/// Whether speakers rest. They rest in every fifth window, because their histories take longest to
/// check.
pub fn rest(window: u64) -> bool {
    window % 5 == 4
}

// --- windows -------------------------------------------------------------------------------------

/// Drops bits of the last window, so that they do not reach this one.
pub fn forget(board: &'static Board, me: usize) {
    let Some(speaker) = number(board, me) else { return };
    let mut args = Args::plain(Op::Wait, Cap(NOTES + speaker).arg(), 0, 0, 0);
    args.info = args.info.flag(FLAG_NONBLOCK);
    let _ = syscall(args);
}

/// A speaker in a window.
struct Speaker {
    number: u32,
    /// Whether a caller waits for its answer; whether a caller waits for the answer to the kept
    /// call.
    serves: bool,
    keeps: bool,
    /// How often it has raised bits.
    raised: u32,
}

/// Runs a speaker in a window. Returns how many calls it made.
pub fn speak(player: &mut Player<'_>, cluster: usize) -> u64 {
    let Some(number) = number(player.board, player.me) else { return 0 };
    let mut me = Speaker { number, serves: false, keeps: false, raised: 0 };
    let mut count = 0;
    loop {
        let args = me.pick(player);
        let limit = player.board.clusters[cluster].get(In::Last);
        let Some(answer) = player.record(cluster, limit as usize, args) else { return count };
        me.learn(&args, &answer);
        count += 1;
    }
}

impl Speaker {
    fn learn(&mut self, args: &Args, answer: &Answer) {
        let good = answer.info.status().is_ok();
        match Op::from_raw(args.info.0 as u8) {
            Some(Op::Recv | Op::ReplyRecv) => self.serves = good && !answer.info.has(FLAG_NOTIFICATION),
            Some(Op::Reply) if args.rdi != 0 => self.keeps = false,
            Some(Op::Reply) => self.serves = false,
            Some(Op::Notify) => self.raised += 1,
            Some(Op::SaveReply) if good => (self.serves, self.keeps) = (false, true),
            _ => {}
        }
    }

    /// Whether a speaker mostly receives in a window. The other half of the speakers mostly call.
    fn mostly_receives(number: u32, window: u64) -> bool {
        (u64::from(number) + window).is_multiple_of(2)
    }

    /// Picks another speaker, preferably one that receives.
    fn other(&self, player: &mut Player<'_>) -> u32 {
        let all = speakers(player.board);
        let mut any = || (self.number + 1 + player.random.below(u64::from(all) - 1) as u32) % all;
        let first = any();
        if Self::mostly_receives(first, player.window) { first } else { any() }
    }

    fn is_near(&self, board: &'static Board, other: u32) -> bool {
        let cpu = |speaker| board.workers[worker(board, speaker)].get(Of::Cpu);
        cpu(self.number) == cpu(other)
    }

    fn pick(&self, player: &mut Player<'_>) -> Args {
        let other = self.other(player);
        let (board, window) = (player.board, player.window);
        let random = &mut *player.random;
        let kept = Cap(REPLIES + if random.chance(90) { self.number } else { other }).arg();
        // Each message differs.
        let word = random.next() << 2;
        let say = |op: Op, first: u64| {
            let info = MsgInfo(op as u64 | word & 0xffff_0000 << 32);
            Args { info, rdi: first, rsi: 0, rdx: word, r8: word + 1, r9: word + 2, r10: word + 3 }
        };
        let (how, patience) = (random.below(100), random.below(PATIENCE));
        let timed = |op: Op, first: u64| {
            let mut args = say(op, first);
            // A call that does not wait never reaches another CPU.
            let is_in_vain = op == Op::Call && how < 28 && !self.is_near(board, other);
            match how {
                0..30 if !is_in_vain => args.info = args.info.flag(FLAG_NONBLOCK),
                30..50 => {}
                _ => {
                    args.rsi = arch::now() + patience;
                    args.info = args.info.flag(FLAG_DEADLINE);
                }
            }
            args
        };
        if self.serves && random.chance(80) {
            return match random.below(10) {
                0..4 => say(Op::Reply, 0),
                4..8 => timed(Op::ReplyRecv, 0),
                _ => Args::plain(Op::SaveReply, kept, 0, 0, 0),
            };
        }
        if self.keeps && random.chance(30) {
            return say(Op::Reply, kept);
        }
        let calls = if Self::mostly_receives(self.number, window) { 12 } else { 56 };
        match random.below(100) {
            some if some < calls => timed(Op::Call, Target::new(GROUP, other).0),
            0..68 => timed(Op::Recv, 0),
            68..76 => timed(Op::ReplyRecv, 0),
            76 => say(Op::Reply, 0),
            77..82 => say(Op::Reply, kept),
            82..94 => {
                // The speaker has several bits, so that a found bit mostly identifies who raised
                // it.
                let bits = 1 << (BITS * self.number + self.raised % BITS);
                Args::plain(Op::Notify, Target::new(GROUP, MOST + other).0, bits, 0, 0)
            }
            94..96 => Args::plain(Op::SaveReply, kept, 0, 0, 0),
            _ => Args::plain(Op::TaskCancel, Cap(TASKS + other).arg(), 0, 0, 0),
        }
    }
}

/// Ends the window: cancels waiting speakers until all tasks are at the barrier after `phase`. It
/// cancels all of them first; a speaker that is still missing may not have run yet.
pub fn bring_home(player: &mut Player<'_>, cluster: usize, phase: u64, mut pause: impl FnMut(u64)) {
    let board = player.board;
    let is_away = |worker: usize| board.workers[worker].get(Of::Phase) <= phase;
    while (0..worker(board, 0)).any(|other| other != player.me && is_away(other)) {
        pause(GRACE);
    }
    board.clusters[cluster].set(In::Last, player.taken(cluster).max(1));
    for round in 0.. {
        pause((GRACE << round.min(20)).min(LONGEST));
        let mut away = (0..speakers(board)).filter(|speaker| is_away(worker(board, *speaker))).peekable();
        if away.peek().is_none() {
            return;
        }
        for speaker in away.take(if round < 4 { MOST as usize } else { 1 }) {
            let args = Args::plain(Op::TaskCancel, Cap(TASKS + speaker).arg(), 0, 0, 0);
            if player.record(cluster, LIMIT, args).is_none() {
                board.complain(Total::Divergences, format_args!("speaker {speaker} does not come home"));
                let _ = syscall(args);
            }
        }
    }
}

// --- for the clerk -------------------------------------------------------------------------------

/// Prints which workers are speakers.
pub fn tell(board: &'static Board) {
    for speaker in 0..speakers(board) {
        let who = worker(board, speaker);
        let of = |which| board.workers[who].get(which);
        let identity = of(Of::Identity);
        let rank = priority(board, who);
        report!(
            "note speaker {who} process {} cpu {} is {identity:#x} rank {rank}",
            of(Of::Process),
            of(Of::Cpu)
        );
    }
}

/// Adds the speakers' objects to the model.
pub fn model(board: &'static Board, model: &mut Model, processes: &[(Id, Id)], workers: &[Option<Id>]) {
    let member = |(number, of): (usize, &(Id, Id))| {
        Some(Member { process: of.1, rights: RIGHTS, custom: custom(number) })
    };
    let members = core::iter::once(None).chain(processes.iter().enumerate().map(member)).collect();
    let exposures = alloc::vec![Exposure::default(); EXPOSURES as usize];
    let group = model.put(Kind::Group(object::Group { members, exposures }));
    for (number, (cnode, _)) in processes.iter().enumerate() {
        model.give(Place::Slot(*cnode, GROUP.0), group, RIGHTS, (number as u64 + 1) * 8);
    }
    for speaker in 0..speakers(board) {
        let who = worker(board, speaker);
        let (Some(task), home) = (workers[who], board.workers[who].get(Of::Cpu) as usize) else { continue };
        let (own, _) = processes[board.workers[who].get(Of::Process) as usize];
        let note = object::Notification { home, bits: 0, waiter: None, bound: Some(task) };
        let note = model.put(Kind::Notification(note));
        let reply = model.put(Kind::Reply(object::Reply { home, caller: None, server: None }));
        let it = model.task_mut(task);
        (it.id, it.bound) = (TaskId::from_raw(board.workers[who].get(Of::Identity)), Some(note));
        it.rank = priority(board, who);
        model.give(Place::Exposure(group, speaker), task, Rights::NONE, 0);
        model.give(Place::Exposure(group, MOST + speaker), note, Rights::NONE, 0);
        model.give(Place::Slot(own, REPLIES + speaker), reply, Rights::ALL, 0);
        for (cnode, _) in processes {
            model.give(Place::Slot(*cnode, TASKS + speaker), task, task_rights::SUSPEND.rights(), 0);
        }
    }
}
