//! What a worker does alone: all operations, with arguments that are valid, nearly valid, or
//! arbitrary.
//!
//! An *arena* is an Untyped, slots, and toys: one object of each type, made of that Untyped.
//! Nothing in an arena can hurt its worker. It has no capability of the worker's own process, tasks
//! or address space; its capability of the Machine only reads counters; every operation that could
//! wait has a deadline. Every answer must be one that the reference documents. When the arena is
//! renewed, all memory must come back, and no slot may hold anything but a capability of the
//! Machine.

use abi::{
    Cap, Check, Error, FLAG_DEADLINE, FLAG_NONBLOCK, FLAG_PAGES, LockWord, MsgInfo, ObjType, Op, Rights,
    Target,
};
use abi::{PAGE_SIZE, machine_rights};
use guest_tests::random::Random;
use guest_tests::run::Run as _;
use user_rt::arch::{self, Args, syscall};
use user_rt::cap::{Handle, Untyped};
use user_rt::invoke::Pins;
use user_rt::layout::{slot, utcb_va};
use user_rt::spawn::own;

use crate::board::{Board, Of, Total};

/// First slot of all arenas, and slots of each.
pub const FIRST: Cap = Cap(600);
pub const SLOTS: u32 = 64;
/// All memory of a worker; the part in its arena.
pub const MEMORY_LOG2: u8 = 19;
pub const PLAYED_LOG2: u8 = 18;
/// Slots before the toys: all memory, the waker, the arena's memory.
const TOYS: u32 = 3;
/// Windows after which the arena is renewed.
const RENEWED: u64 = 4;
/// Longest wait, in ticks.
const PATIENCE: u64 = 20_000;
/// Where toys are mapped.
const ADDRESS: u64 = 0x3000_0000;

/// The toys, in the order of their slots.
const KINDS: [(ObjType, u64); 17] = [
    (ObjType::CNode, 8),
    (ObjType::VSpace, 4),
    (ObjType::Process, 2),
    (ObjType::Task, 0),
    (ObjType::Task, 0),
    (ObjType::SchedContext, 0),
    (ObjType::SchedControl, 0),
    (ObjType::IrqHandler, 0),
    (ObjType::IoPort, 0),
    (ObjType::Group, 2 | 4 << 16),
    (ObjType::Notification, 0),
    (ObjType::Notification, 0),
    (ObjType::Reply, 0),
    (ObjType::EventPool, abi::events::CELLS_LOG2_MIN as u64),
    (ObjType::Frame, 12),
    (ObjType::Frame, 12 | 2 << 8),
    (ObjType::Untyped, 12),
];
/// What a toy capability of the Machine allows.
pub const MACHINE_RIGHTS: Rights = machine_rights::INFO.rights();

const fn slot_of(worker: usize, number: u32) -> Cap {
    Cap(FIRST.0 + worker as u32 * SLOTS + number)
}

pub const fn memory(worker: usize) -> Cap {
    slot_of(worker, 0)
}

pub const fn waker(worker: usize) -> Cap {
    slot_of(worker, 1)
}

/// Returns the Untyped of a worker's arena.
pub const fn memory_played(worker: usize) -> Cap {
    slot_of(worker, 2)
}

/// Returns the slots of a worker's arena.
pub const fn played(worker: usize) -> core::ops::Range<u32> {
    slot_of(worker, TOYS).0..slot_of(worker, SLOTS).0
}

pub struct Arena {
    board: &'static Board,
    me: usize,
    /// For each operation: a bit for each error that its documentation lists.
    documented: [u64; Op::COUNT],
}

impl Arena {
    pub fn new(board: &'static Board, me: usize) -> Arena {
        let memory = Target::new(memory(me), ObjType::Untyped as u32).0;
        let to = own::cnode().slot(slot_of(me, 2)).0.0;
        let made = syscall(Args::plain(Op::Retype, memory, u64::from(PLAYED_LOG2), to, 1));
        made.check().expect("the memory of an arena");
        Arena { board, me, documented: core::array::from_fn(|n| documented(Op::ALL[n])) }
    }

    fn cap(&self, number: u32) -> Cap {
        slot_of(self.me, number)
    }

    /// Deletes all toys and makes new ones, every few windows.
    pub fn renew(&mut self, window: u64) {
        if !window.is_multiple_of(RENEWED) {
            return;
        }
        self.does(Op::UntypedReset, self.cap(2).arg());
        let free = Untyped::at(self.cap(2)).reset(Pins::Hold);
        if free != Ok(1 << PLAYED_LOG2) {
            self.board.complain(Total::LeakedPages, format_args!("reset by worker {}: {free:x?}", self.me));
        }
        for slot in played(self.me) {
            self.sweep(Cap(slot));
        }
        for (number, (what, size)) in (TOYS..).zip(KINDS) {
            let to = own::cnode().slot(self.cap(number)).0.0;
            let from = Target::new(self.cap(2), what as u32).0;
            self.does(Op::Retype, from);
            let made = syscall(Args::plain(Op::Retype, from, size, to, 1)).check();
            if let Err(refusal) = made {
                let what = format_args!("worker {} making a {what:?}: {refusal}", self.me);
                self.board.complain(Total::LeakedPages, what);
            }
        }
        let to = own::cnode().slot(self.cap(TOYS + KINDS.len() as u32)).0.0;
        let rights = u64::from(MACHINE_RIGHTS.0);
        let _ = syscall(Args::plain(Op::CapCopy, slot::MACHINE.arg(), to, rights, 0));
    }

    /// Notes the next operation for the [`crate::watchdog`].
    fn does(&self, op: Op, first: u64) {
        self.board.workers[self.me].set(Of::Doing, op as u64);
        self.board.workers[self.me].set(Of::First, first);
        self.board.workers[self.me].set(Of::Second, 0);
    }

    /// Empties a slot. Only a capability of the Machine can still be there.
    fn sweep(&self, slot: Cap) {
        let Ok(Some(found)) = own::cnode().inspect(slot) else { return };
        let excess = found.rights.minus(MACHINE_RIGHTS);
        if found.object != ObjType::Machine || excess != Rights::NONE {
            let what = format_args!("worker {} still has {found:?} in slot {}", self.me, slot.0);
            self.board.complain(Total::Escapes, what);
        }
        let _ = own::cnode().delete(slot);
    }

    /// Makes one operation.
    pub fn play(&mut self, random: &mut Random) {
        let op = Op::ALL[random.below(Op::COUNT as u64) as usize];
        let mut args = self.pick(op, random);
        if random.chance(1) {
            args.info.0 = args.info.0 & !0xff | (Op::COUNT as u64 + random.below(256 - Op::COUNT as u64));
        }
        self.board.workers[self.me].set(Of::Doing, args.info.0 & 0xff);
        self.board.workers[self.me].set(Of::First, args.rdi);
        self.board.workers[self.me].set(Of::Second, args.rsi);
        let answer = syscall(args);
        self.check(args, answer.info);
    }

    fn check(&self, args: Args, info: MsgInfo) {
        let raw = info.0 as u8;
        let known = match Op::from_raw(args.info.0 as u8) {
            Some(op) => raw == 0 || self.documented[op as usize] >> raw & 1 != 0,
            None => raw == Error::BadSyscall as u8,
        };
        if !known {
            let what = format_args!("{:?} answers {:?} to {args:x?}", args.info, Error::from_raw(raw));
            self.board.complain(Total::Undocumented, what);
        }
    }

    fn pick(&self, op: Op, random: &mut Random) -> Args {
        let mut words: [u64; 6] = core::array::from_fn(|_| odd(random));
        let forms = op.forms();
        let form = &forms[random.below(forms.len() as u64) as usize];
        for operand in form.operands {
            words[operand.position] = match operand.check {
                Check::Slot => self.place(random),
                _ => {
                    let cap = self.toy(operand.types, random);
                    Target::new(cap, random.below(6) as u32).0
                }
            };
        }
        if op == Op::Retype {
            self.recipe(&mut words, random);
        }
        if op == Op::SetBases {
            // The worker needs its own FS base.
            words[0] = if random.chance(50) { utcb_va(self.me as u32 + 1) } else { u64::MAX << 47 };
        }
        let mut info = MsgInfo(op as u64);
        match op {
            Op::Call | Op::Reply | Op::ReplyRecv | Op::Recv | Op::Wait | Op::Send | Op::Forward => {
                let count = if random.chance(70) { 0 } else { random.below(70) as u8 };
                info = MsgInfo::new(random.next() as u32, count).op(op);
                if random.chance(70) {
                    info = info.flag(FLAG_NONBLOCK);
                } else {
                    words[1] = arch::now() + random.below(PATIENCE);
                    info = info.flag(FLAG_DEADLINE);
                }
                if random.chance(5) {
                    info = info.flag(FLAG_PAGES);
                }
                if op == Op::Reply && random.chance(50) {
                    words[0] = 0;
                }
            }
            Op::LockWait => {
                // An empty page says that nobody has the lock.
                words[1] = arch::now() + random.below(PATIENCE);
                words[3] = LockWord(odd(random)).with_waits().0;
                info = info.flag(if random.chance(70) { FLAG_NONBLOCK } else { FLAG_DEADLINE });
            }
            _ => {}
        }
        let [rdi, rsi, rdx, r8, r9, r10] = words;
        Args { info, rdi, rsi, rdx, r8, r9, r10 }
    }

    /// Picks a toy, mostly of a type that fits.
    fn toy(&self, types: &[ObjType], random: &mut Random) -> Cap {
        // Not the last slots: three in a row must fit everywhere.
        let any = |random: &mut Random| self.cap(TOYS + random.below(u64::from(SLOTS - TOYS - 3)) as u32);
        match random.below(20) {
            0 => Cap([0, 1 << 20, u32::MAX][random.below(3) as usize]),
            1..4 => any(random),
            _ => {
                let first = random.below(KINDS.len() as u64) as usize;
                let fits = |n: &usize| types.contains(&KINDS[*n % KINDS.len()].0);
                match (first..first + KINDS.len()).find(fits) {
                    Some(n) => self.cap(TOYS + (n % KINDS.len()) as u32),
                    None if types.contains(&ObjType::Machine) => self.cap(TOYS + KINDS.len() as u32),
                    None => any(random),
                }
            }
        }
    }

    /// Picks a slot to fill, empty or inspect: in the arena's part of the own CSpace, or in a toy
    /// CNode.
    fn place(&self, random: &mut Random) -> u64 {
        match random.below(10) {
            0..7 => Target::new(slot::CNODE, self.toy(&[], random).0).0,
            7..9 => Target::new(self.toy(&[ObjType::CNode], random), random.below(10) as u32).0,
            _ => Target::new(self.toy(&[], random), random.next() as u32).0,
        }
    }

    fn recipe(&self, words: &mut [u64; 6], random: &mut Random) {
        let (what, size) = KINDS[random.below(KINDS.len() as u64) as usize];
        let from = if random.chance(50) { self.cap(2) } else { self.toy(&[ObjType::Untyped], random) };
        words[0] = Target::new(from, if random.chance(5) { 99 } else { what as u32 }).0;
        words[1] = if random.chance(10) { odd(random) } else { size };
        words[3] = if random.chance(90) { 1 } else { random.below(4) };
    }
}

/// Draws a plain argument: a small number, an address, bits, or any word.
fn odd(random: &mut Random) -> u64 {
    match random.below(16) {
        0..6 => random.below(6),
        6..10 => ADDRESS + PAGE_SIZE * random.below(8),
        10 => PAGE_SIZE * random.below(3),
        11 => 1 << random.below(64),
        12 => u64::from(Rights::ALL.0),
        13 => u64::MAX - random.below(2),
        14 => random.below(1 << 17),
        _ => random.next(),
    }
}

/// Returns the errors that an operation's documentation lists, a bit each, including those of
/// operations that it refers to.
fn documented(op: Op) -> u64 {
    let any = [Error::NoCapability, Error::WrongType, Error::NoRight];
    let mut bits = any.iter().fold(0, |bits, error| bits | 1 << *error as u8) | named_in(op.doc());
    let others = [
        (Op::ReplyRecv, &[Op::Call, Op::Recv][..]),
        (Op::Reply, &[Op::Call, Op::ReplyRecv]),
        (Op::CapRevoke, &[Op::CapDelete]),
        (Op::Forward, &[Op::Call]),
    ];
    for (of, from) in others {
        if of == op {
            bits |= from.iter().fold(0, |bits, other| bits | named_in(other.doc()));
        }
    }
    bits
}

fn named_in(doc: &str) -> u64 {
    let Some((_, errors)) = doc.split_once("Errors:") else { return 0 };
    let words = || errors.split(|c: char| !c.is_ascii_alphanumeric());
    let is_named = |error: &&Error| words().any(|word| word == error.name());
    Error::ALL.iter().filter(is_named).fold(0, |bits, error| bits | 1 << *error as u8)
}
