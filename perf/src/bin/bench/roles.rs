//! The tasks of the scenarios: measured clients, and their servers.

use abi::{Cap, MSG_UTCB_WORDS, MsgInfo, Op, PAGE_SIZE, Target};
use perf::echo::{WORDS, same_words};
use perf::mark::{self, BEGIN, END, OP, REGION_BUSY, mark, mark_pairs};
use user_rt::arch::fast::{self, Short};
use user_rt::arch::{self, Args, syscall};
use user_rt::cap::{Access, Frame, Group, Handle, Notification, Untyped};
use user_rt::layout::{FREE_SLOTS, SHARED_VA, slot};
use user_rt::spawn::own;
use user_rt::utcb;

use crate::block::{Block, EXPOSURE_DONE, Word};
use crate::measure::{Verdict, measure, park, trace};

/// Bit of the bench's Notification that a server raises when it is ready.
pub const READY_BIT: u64 = 63;

/// A reply that is right if it returns the words of the call.
struct Echo(Short);

impl Verdict for Echo {
    fn good(&self) -> bool {
        self.0.info.0 == 0 && same_words(self.0.regs)
    }

    fn info(&self) -> MsgInfo {
        self.0.info
    }
}

pub fn server(block: Block) -> Target {
    Group::at(Cap(block.get(Word::Group) as u32)).exposure(block.get(Word::Server) as u32).0
}

/// Returns the slot that a word of the block names, as an argument.
fn named(block: Block, word: Word) -> u64 {
    Cap(block.get(word) as u32).arg()
}

pub extern "C" fn loop_client(index: u64) -> ! {
    measure(Block::at(index), || arch::countdown(1_000_000))
}

pub extern "C" fn null_client(index: u64) -> ! {
    measure(Block::at(index), || fast::bare(Op::Null))
}

pub extern "C" fn notify_client(index: u64) -> ! {
    let block = Block::at(index);
    let note = named(block, Word::NoteServer);
    measure(block, || fast::plain(Op::Notify, note, 1).0)
}

/// Results of a notify and of a wait, which must return that one bit.
struct Turn {
    sent: MsgInfo,
    waited: MsgInfo,
    bits: u64,
}

impl Verdict for Turn {
    fn good(&self) -> bool {
        self.sent.0 | self.waited.0 | (self.bits ^ 1) == 0
    }

    fn info(&self) -> MsgInfo {
        if self.sent.0 == 0 { self.waited } else { self.sent }
    }
}

/// Notifies the server, then waits for its notification.
pub extern "C" fn notify_wait_client(index: u64) -> ! {
    let block = Block::at(index);
    let (to, from) = (named(block, Word::NoteServer), named(block, Word::NoteClient));
    measure(block, || {
        let sent = fast::plain(Op::Notify, to, 1).0;
        let (waited, bits) = fast::on(Op::Wait, from);
        Turn { sent, waited, bits }
    })
}

pub extern "C" fn notify_wait_server(index: u64) -> ! {
    let block = Block::at(index);
    let (from, to) = (named(block, Word::NoteServer), named(block, Word::NoteClient));
    loop {
        fast::on(Op::Wait, from);
        fast::plain(Op::Notify, to, 1);
    }
}

/// Answers notifications of a client on another CPU by a Notification that it makes first, because
/// a Notification belongs to the CPU of the task that made it.
pub extern "C" fn notify_wait_far_server(index: u64) -> ! {
    let block = Block::at(index);
    let memory = Untyped::at(Cap(block.get(Word::Untyped) as u32));
    let place = own::cnode().slot(Cap(block.get(Word::NoteServer) as u32));
    if memory.retype::<Notification>(0, place, 1).is_err() {
        park();
    }
    say_ready(block);
    notify_wait_server(index)
}

pub fn say_ready(block: Block) {
    let bench = Group::at(Cap(block.get(Word::Group) as u32)).exposure(EXPOSURE_DONE);
    // If this fails, the bench notices at its deadline.
    let _ = bench.notify(1 << READY_BIT);
}

pub extern "C" fn yield_client(index: u64) -> ! {
    let block = Block::at(index);
    let other = named(block, Word::TaskServer);
    measure(block, || fast::on(Op::YieldTo, other).0)
}

pub extern "C" fn yield_server(index: u64) -> ! {
    let other = named(Block::at(index), Word::TaskClient);
    loop {
        fast::on(Op::YieldTo, other);
    }
}

/// Results of mapping a frame and of unmapping it.
struct Mapped {
    there: MsgInfo,
    gone: MsgInfo,
}

impl Verdict for Mapped {
    fn good(&self) -> bool {
        self.there.0 | self.gone.0 == 0
    }

    fn info(&self) -> MsgInfo {
        if self.there.0 == 0 { self.gone } else { self.there }
    }
}

/// A range that is otherwise empty, where a run of 512 pages fills one page table.
pub const MAP_VA: u64 = SHARED_VA + 0x4000_0000;

/// Maps a frame to be written, then unmaps it.
pub extern "C" fn map_client(index: u64) -> ! {
    let block = Block::at(index);
    let (space, frame) = (own::vspace().arg(), named(block, Word::Frame));
    let map = Args::plain(Op::Map, space, frame, MAP_VA, 1);
    let unmap = Args::plain(Op::Unmap, space, frame, MAP_VA, 0);
    measure(block, || Mapped { there: syscall(map).info, gone: syscall(unmap).info })
}

/// Bytes that one page table maps.
pub const TABLE_BYTES: u64 = 2 << 20;
/// Slots of the address space that the pager pages, and of its frames: after the slots that tasks
/// of a process may find occupied.
pub const PAGER_SPACE: Cap = Cap(FREE_SLOTS + 64);
const PAGER_FRAMES: u32 = FREE_SLOTS + 65;
/// Samples for which the pager's frames suffice, without the warm-up; and how many frames it makes
/// at a time.
pub const PAGER_SAMPLES: u64 = 800;
const PAGER_PAGES: u32 = 960;
const AT_A_TIME: u32 = 240;
/// The frames' memory, as a base-2 logarithm.
pub const PAGER_LOG2: u64 = 22;

/// Reads the next page for each sample.
pub extern "C" fn touch_client(index: u64) -> ! {
    let mut at = MAP_VA as *const u64;
    measure(Block::at(index), || {
        // SAFETY: if this faults, the pager maps a clear page.
        let clear = unsafe { at.read_volatile() } == 0;
        at = at.wrapping_byte_add(PAGE_SIZE as usize);
        clear
    })
}

/// Reads pages under two page tables in turns.
pub extern "C" fn touch_two_client(index: u64) -> ! {
    let mut at = MAP_VA;
    measure(Block::at(index), || {
        // SAFETY: if this faults, the pager maps a clear page.
        let clear = unsafe { (at as *const u64).read_volatile() } == 0;
        at = if at & TABLE_BYTES == MAP_VA & TABLE_BYTES {
            at + TABLE_BYTES
        } else {
            at - TABLE_BYTES + PAGE_SIZE
        };
        clear
    })
}

/// Maps a page where its client faults. It makes the frames in advance.
pub extern "C" fn pager_server(index: u64) -> ! {
    let memory = Untyped::at(slot::UNTYPED);
    for made in (0..PAGER_PAGES).step_by(AT_A_TIME as usize) {
        let place = own::cnode().slot(Cap(PAGER_FRAMES + made));
        if memory.retype::<Frame>(u64::from(abi::PAGE_LOG2), place, u64::from(AT_A_TIME)).is_err() {
            park();
        }
    }
    say_ready(Block::at(index));
    let mut frames = PAGER_FRAMES..;
    loop {
        let [address, ..] = fast::reply_recv([0; 4]).regs;
        let frame = frames.next().map_or(0, |slot| Cap(slot).arg());
        // If this fails, the client faults forever, and the bench notices at its deadline.
        let _ = syscall(Args::plain(Op::Map, PAGER_SPACE.arg(), frame, address & !(PAGE_SIZE - 1), 1));
    }
}

/// Clears a page of its own.
pub extern "C" fn clear_client(index: u64) -> ! {
    let block = Block::at(index);
    let frame = Frame::at(Cap(block.get(Word::Frame) as u32));
    if own::vspace().map(&frame, MAP_VA, Access::Write).is_err() {
        park();
    }
    measure(block, || {
        // SAFETY: mapped above, never unmapped, and used by this task only.
        unsafe { core::ptr::write_bytes(MAP_VA as *mut u8, 0, PAGE_SIZE as usize) }
    })
}

/// Calls with four words in registers.
pub extern "C" fn call_client(index: u64) -> ! {
    let block = Block::at(index);
    let server = server(block);
    measure(block, || Echo(fast::call(server, WORDS)))
}

/// Calls with four words in registers, as one of several clients, one on each CPU.
pub extern "C" fn pairs_client(index: u64) -> ! {
    let block = Block::at(index);
    let server = server(block);
    let call = || Echo(fast::call(server, WORDS));
    if block.get(Word::Trace) == 0 {
        measure(block, call)
    }
    let cpus = block.get(Word::Parties);
    trace(block, || mark_pairs::<BEGIN>(cpus), call, || mark_pairs::<OP>(cpus), || mark_pairs::<END>(cpus))
}

/// Calls with four words in registers, to a server on a busy CPU.
pub extern "C" fn busy_client(index: u64) -> ! {
    let block = Block::at(index);
    let server = server(block);
    let call = || Echo(fast::call(server, WORDS));
    if block.get(Word::Trace) == 0 {
        measure(block, call)
    }
    trace(block, mark::<BEGIN, REGION_BUSY>, call, mark::<OP, REGION_BUSY>, mark::<END, REGION_BUSY>)
}

/// Keeps its CPU busy, at the lowest priority.
pub extern "C" fn busy_target(_: u64) -> ! {
    mark::<BEGIN, REGION_BUSY>();
    mark::busy_loop()
}

/// Answers with the words of the call. An error of its receive shows as a wrong answer.
pub extern "C" fn echo_server(_: u64) -> ! {
    let mut message = Short::EMPTY;
    loop {
        message = fast::reply_recv(message.regs);
    }
}

/// Answers with what the next server of the chain answers. The argument has the pair, and above it
/// how many servers of the chain come before.
pub extern "C" fn chain_server(argument: u64) -> ! {
    let first = server(Block::at(argument & 0xffff_ffff));
    let next = Target::new(first.cap(), first.index() + 1 + (argument >> 32) as u32);
    let mut message = Short::EMPTY;
    loop {
        message = fast::reply_recv(message.regs);
        message.regs = fast::call(next, message.regs).regs;
    }
}

const LONG: u8 = MSG_UTCB_WORDS as u8;

/// Calls with 64 words in the UTCB.
pub extern "C" fn long_client(index: u64) -> ! {
    let block = Block::at(index);
    let args = long_message(Op::Call, server(block));
    measure(block, || LongEcho(syscall(args)))
}

/// Returns the arguments of a message of four words and 64 in the UTCB, and writes the latter
/// there.
pub fn long_message(op: Op, to: Target) -> Args {
    for (number, word) in (0u64..).zip(utcb::current().message()) {
        word.store(number ^ 0x5555, core::sync::atomic::Ordering::Relaxed);
    }
    let [rdx, r8, r9, r10] = WORDS;
    Args { info: MsgInfo::new(0, LONG).op(op), rdi: to.0, rsi: 0, rdx, r8, r9, r10 }
}

/// A long reply that is right if it returns the words of the call: the first and last are compared.
struct LongEcho(arch::Answer);

impl Verdict for LongEcho {
    fn good(&self) -> bool {
        let words = utcb::current().message();
        let last = words[MSG_UTCB_WORDS - 1].load(core::sync::atomic::Ordering::Relaxed);
        self.0.info == MsgInfo::new(0, LONG)
            && same_words(self.0.message_registers())
            && last == (MSG_UTCB_WORDS as u64 - 1) ^ 0x5555
    }

    fn info(&self) -> MsgInfo {
        self.0.info
    }
}

/// Answers 64 words with 64 words.
pub extern "C" fn long_server(_: u64) -> ! {
    let mut args = Args::new(Op::ReplyRecv);
    loop {
        let got = syscall(args);
        let [rdx, r8, r9, r10] = got.message_registers();
        let info = MsgInfo::new(0, LONG).op(Op::ReplyRecv);
        args = Args { info, rdi: 0, rsi: 0, rdx, r8, r9, r10 };
    }
}

/// Reads page 0, where nothing is mapped, and continues after the instruction that faulted.
pub extern "C" fn fault_client(index: u64) -> ! {
    measure(Block::at(index), arch::fault_once)
}

/// Resumes faulting tasks after the instruction of [`fault_client`].
pub extern "C" fn fault_server(_: u64) -> ! {
    let mut rip = 0;
    loop {
        let [_, at, _, _] = fast::resume_at(rip).regs;
        rip = at + arch::FAULT_LENGTH;
    }
}
