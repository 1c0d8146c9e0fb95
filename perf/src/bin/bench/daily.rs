//! Operations in everyday states of programs, whereas other rows measure the shortest paths: a
//! deadline, a server that receives and replies in two system calls, callers that queue, a slot
//! that is used again, pages of several tables, objects of every type.

use core::sync::atomic::Ordering::Relaxed;

use abi::{FLAG_DEADLINE, MSG_UTCB_WORDS, MsgInfo, ObjType, Op, Rights, Target};
use perf::echo::{WORDS, same_words};
use user_rt::arch::{self, Args, fast, syscall, timestamp};
use user_rt::cap::{Exposure, Frame, Handle, Untyped};
use user_rt::invoke::yield_now;
use user_rt::ipc::{self, Event, Message, Patience};
use user_rt::layout::slot;
use user_rt::spawn::own;
use user_rt::utcb;

use crate::block::{Block, Word};
use crate::life::named;
use crate::measure::{Verdict, measure, measure_between, park};
use crate::roles::{MAP_VA, TABLE_BYTES, server};

/// A moment after the end of every run.
const FAR: u64 = u64::MAX >> 2;

/// A reply that is right if it returns the words of the call.
struct Echo(arch::Answer);

impl Verdict for Echo {
    fn good(&self) -> bool {
        self.0.info.status().is_ok() && same_words(self.0.message_registers())
    }

    fn info(&self) -> MsgInfo {
        self.0.info
    }
}

/// Calls with a deadline that never expires.
pub extern "C" fn deadline_client(index: u64) -> ! {
    let block = Block::at(index);
    let [rdx, r8, r9, r10] = WORDS;
    let info = MsgInfo(0).op(Op::Call).flag(FLAG_DEADLINE);
    let args = Args { info, rdi: server(block).0, rsi: FAR, rdx, r8, r9, r10 };
    measure(block, || Echo(syscall(args)))
}

/// Calls through the runtime's own interface, with a label.
pub extern "C" fn runtime_client(index: u64) -> ! {
    let block = Block::at(index);
    let to = Exposure(server(block));
    measure(block, || to.call(&Message::new(7, WORDS)).is_ok_and(|reply| same_words(reply.regs)))
}

/// Answers through the runtime's own interface.
pub extern "C" fn runtime_server(_: u64) -> ! {
    let mut event = ipc::recv();
    loop {
        event = match event {
            Ok(Event::Call(got)) => ipc::reply_recv(&Message::new(0, got.message.regs)),
            _ => ipc::recv(),
        };
    }
}

/// Receives and replies in two system calls.
pub extern "C" fn recv_then_reply_server(_: u64) -> ! {
    loop {
        let Ok(Event::Call(got)) = ipc::recv() else { park() };
        // If the reply fails, the client gets no answer, and the bench notices at its deadline.
        let _ = ipc::reply(&Message::new(0, got.message.regs));
    }
}

/// Yields before it answers, so that the next caller queues.
pub extern "C" fn yielding_server(_: u64) -> ! {
    let mut message = fast::reply_recv([0; 4]);
    loop {
        // A failure costs only this task's own turn.
        let _ = yield_now();
        message = fast::reply_recv(message.regs);
    }
}

/// Calls that a busy server answers between two yields.
const CALLS_OF_A_SLICE: u64 = 100;

/// Yields before every hundredth answer: as if the slice of the client whose time it runs on ended
/// in the server.
pub extern "C" fn busy_server(_: u64) -> ! {
    let mut message = fast::reply_recv([0; 4]);
    loop {
        for _ in 1..CALLS_OF_A_SLICE {
            message = fast::reply_recv(message.regs);
        }
        // A failure costs only this task's own turn.
        let _ = yield_now();
        message = fast::reply_recv(message.regs);
    }
}

/// Resumes faulting tasks, and yields before every hundredth answer, as [`busy_server`] does.
pub extern "C" fn busy_fault_server(_: u64) -> ! {
    let mut rip = 0;
    loop {
        for _ in 0..CALLS_OF_A_SLICE {
            let [_, at, _, _] = fast::resume_at(rip).regs;
            rip = at + arch::FAULT_LENGTH;
        }
        // A failure costs only this task's own turn.
        let _ = yield_now();
    }
}

/// Faults forever.
pub extern "C" fn second_faulter(_: u64) -> ! {
    loop {
        arch::fault_once();
    }
}

/// Calls the server of the measured client forever.
pub extern "C" fn second_client(index: u64) -> ! {
    let to = server(Block::at(index));
    loop {
        fast::call(to, WORDS);
    }
}

/// Calls with 64 words that both sides write and read.
pub extern "C" fn touching_client(index: u64) -> ! {
    let block = Block::at(index);
    let [rdx, r8, r9, r10] = WORDS;
    let info = MsgInfo::new(0, MSG_UTCB_WORDS as u8).op(Op::Call);
    let args = Args { info, rdi: server(block).0, rsi: 0, rdx, r8, r9, r10 };
    let count = MSG_UTCB_WORDS as u64;
    let mut first = 1;
    measure(block, || {
        let words = utcb::current().message();
        for (word, value) in words.iter().zip(first..) {
            word.store(value, Relaxed);
        }
        let got = syscall(args);
        let sum: u64 = words.iter().map(|word| word.load(Relaxed)).sum();
        first += 1;
        // The server has added one to each word: they are `first` and its successors.
        got.info.status().is_ok() && sum == count * first + count * (count - 1) / 2
    })
}

/// Adds one to each word of a call.
pub extern "C" fn touching_server(_: u64) -> ! {
    let info = MsgInfo::new(0, MSG_UTCB_WORDS as u8).op(Op::ReplyRecv);
    let mut args = Args::new(Op::ReplyRecv);
    loop {
        let got = syscall(args);
        for word in utcb::current().message() {
            word.store(word.load(Relaxed) + 1, Relaxed);
        }
        let [rdx, r8, r9, r10] = got.message_registers();
        args = Args { info, rdi: 0, rsi: 0, rdx, r8, r9, r10 };
    }
}

/// Makes an ordinary system call that looks up no capability.
pub extern "C" fn who_am_i_client(index: u64) -> ! {
    measure(Block::at(index), || syscall(Args::new(Op::WhoAmI)).info)
}

/// Yields, alone or to a task that yields back.
pub extern "C" fn yield_round_client(index: u64) -> ! {
    measure(Block::at(index), || fast::bare(Op::Yield))
}

pub extern "C" fn yielder(_: u64) -> ! {
    loop {
        fast::bare(Op::Yield);
    }
}

/// First word of a call of [`lowest_client`].
const LONG: u64 = 1 << 40;
/// How long [`intruder`] sleeps, in TSC ticks.
const NAP: u64 = 2_000;

/// Calls all the time, at the lowest priority. Each request takes until [`intruder`] preempts the
/// server.
pub extern "C" fn lowest_client(index: u64) -> ! {
    let to = server(Block::at(index));
    loop {
        fast::call(to, [LONG, 0, 0, 0]);
    }
}

/// Answers with the words of the call. During a long request it waits until it was preempted.
pub extern "C" fn interrupted_server(index: u64) -> ! {
    let block = Block::at(index);
    let mut message = fast::reply_recv(WORDS);
    loop {
        if message.regs[0] == LONG {
            let number = block.get(Word::Beside) + 1;
            block.set(Word::Beside, number);
            while block.get(Word::Ran) < number {
                arch::pause();
            }
        }
        message = fast::reply_recv(message.regs);
    }
}

/// Preempts the server in the middle of each long request, and runs until the client says so.
pub extern "C" fn intruder(index: u64) -> ! {
    let block = Block::at(index);
    for number in 1..u64::MAX {
        while block.get(Word::Beside) < number {
            let _ = ipc::recv_within(Patience::Until(timestamp() + NAP));
        }
        block.set(Word::Ran, number);
        while block.get(Word::Stopped) < number {
            arch::pause();
        }
    }
    park()
}

/// Answers with the words of the call. A long request takes until a better caller calls.
pub extern "C" fn midway_server(index: u64) -> ! {
    let block = Block::at(index);
    let mut message = fast::reply_recv(WORDS);
    loop {
        if message.regs[0] == LONG {
            block.set(Word::Beside, 1);
            // At least once: emulators that run CPUs in turn let another one run then.
            loop {
                arch::pause();
                if block.get(Word::Ran) != 0 {
                    break;
                }
            }
            block.set(Word::Beside, 0);
        }
        message = fast::reply_recv(message.regs);
    }
}

/// Calls the server when it runs, in the middle of a request of the lowest priority. Under icount
/// the call interrupts it before it sees that it may end the request.
pub extern "C" fn midway_client(index: u64) -> ! {
    let block = Block::at(index);
    let to = server(block);
    let call = || {
        while block.get(Word::Beside) == 0 {
            arch::pause();
        }
        block.set(Word::Ran, 1);
        let start = timestamp();
        let answer = fast::call(to, WORDS);
        (start, timestamp(), answer.info.status().is_ok() && same_words(answer.regs))
    };
    measure_between(block, call, || {
        block.set(Word::Ran, 0);
        true
    })
}

/// Calls the server when it is preempted in the middle of a request of the lowest priority.
pub extern "C" fn inherit_client(index: u64) -> ! {
    let block = Block::at(index);
    let to = server(block);
    let call = || {
        while block.get(Word::Ran) == block.get(Word::Stopped) {
            arch::pause();
        }
        let start = timestamp();
        let answer = fast::call(to, WORDS);
        (start, timestamp(), answer.info.status().is_ok() && same_words(answer.regs))
    };
    measure_between(block, call, || {
        block.set(Word::Stopped, block.get(Word::Ran));
        true
    })
}

/// Waits until its slice is over and the kernel gives it notice. It is about to yield.
#[inline(always)]
fn await_notice() {
    while utcb::current().preempt_pending().is_none() {
        arch::pause();
    }
    utcb::current().heed_notice();
}

/// Yields when the kernel gives notice. Measures from the server's yielding in the same way until
/// this task goes on.
pub extern "C" fn notice_client(index: u64) -> ! {
    let block = Block::at(index);
    let gave_up = block.word(Word::Ran);
    utcb::current().want_notice(true);
    let turn = || {
        await_notice();
        let answer = fast::bare(Op::Yield);
        (gave_up.load(Relaxed), timestamp(), answer)
    };
    measure_between(block, turn, || true)
}

/// Notes when it yields, as the kernel asks it to.
pub extern "C" fn notice_server(index: u64) -> ! {
    let gave_up = Block::at(index).word(Word::Ran);
    utcb::current().want_notice(true);
    loop {
        await_notice();
        gave_up.store(timestamp(), Relaxed);
        fast::bare(Op::Yield);
    }
}

/// Sends to a waiting reader, until the reader has read and waits again.
pub extern "C" fn send_read_client(index: u64) -> ! {
    let block = Block::at(index);
    let to = server(block);
    measure(block, || {
        let sent = fast::send(to, WORDS);
        sent.0 == 0 && fast::bare(Op::Yield).0 == 0
    })
}

/// Maps two frames, each under its own page table, then unmaps both.
pub extern "C" fn two_tables_client(index: u64) -> ! {
    let block = Block::at(index);
    let space = own::vspace().arg();
    let memory = Untyped::at(named(block, Word::Untyped));
    let second = named(block, Word::Slots);
    if memory.retype::<Frame>(u64::from(abi::PAGE_LOG2), own::cnode().slot(second), 1).is_err() {
        park();
    }
    let places = [(named(block, Word::Frame).arg(), MAP_VA), (second.arg(), MAP_VA + TABLE_BYTES)];
    let [map, unmap] = [(Op::Map, 1), (Op::Unmap, 0)]
        .map(|(op, access)| places.map(|(frame, at)| Args::plain(op, space, frame, at, access)));
    measure(block, || {
        let there = syscall(map[0]).info.0 | syscall(map[1]).info.0;
        let gone = syscall(unmap[0]).info.0 | syscall(unmap[1]).info.0;
        there | gone == 0
    })
}

/// Copies a capability and deletes the copy, always in one slot.
pub extern "C" fn copy_delete_client(index: u64) -> ! {
    let block = Block::at(index);
    let source = named(block, Word::NoteServer).arg();
    let at = Target::new(slot::CNODE, named(block, Word::Slots).0).0;
    measure(block, || {
        let copied = fast::order(Op::CapCopy, [source, at, u64::from(Rights::ALL.0), 0]);
        let deleted = fast::on(Op::CapDelete, at).0;
        copied.0 | deleted.0 == 0
    })
}

/// Makes objects, each time in slots that were never used.
#[inline(always)]
fn make(index: u64, kind: ObjType, size: u64, count: u32) -> ! {
    let block = Block::at(index);
    let memory = Target::new(named(block, Word::Untyped), kind as u32).0;
    let mut next = (named(block, Word::Slots).0..).step_by(count as usize);
    measure(block, || {
        let at = next.next().map_or(0, |at| Target::new(slot::CNODE, at).0);
        fast::order(Op::Retype, [memory, size, at, u64::from(count)])
    })
}

/// Notifications made at a time by [`notifications_client`].
pub const AT_A_TIME: u32 = 16;

pub extern "C" fn notifications_client(index: u64) -> ! {
    make(index, ObjType::Notification, 0, AT_A_TIME)
}

pub extern "C" fn frame_client(index: u64) -> ! {
    make(index, ObjType::Frame, u64::from(abi::PAGE_LOG2), 1)
}

pub extern "C" fn retype_task_client(index: u64) -> ! {
    make(index, ObjType::Task, 0, 1)
}

pub extern "C" fn sched_client(index: u64) -> ! {
    make(index, ObjType::SchedContext, 0, 1)
}

pub extern "C" fn reply_client(index: u64) -> ! {
    make(index, ObjType::Reply, 0, 1)
}

/// Makes groups of four members and four exposures.
pub extern "C" fn group_client(index: u64) -> ! {
    make(index, ObjType::Group, 4 | 4 << 16, 1)
}

/// Makes CNodes of 16 slots.
pub extern "C" fn cnode_client(index: u64) -> ! {
    make(index, ObjType::CNode, 16, 1)
}
