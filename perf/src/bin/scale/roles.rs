//! The tasks: counted clients, and their servers.

use core::sync::atomic::Ordering::{AcqRel, Relaxed};

use abi::{Cap, Counter, Op, Target};
use perf::echo::{WORDS, same_words};
use perf::mark::{self, BEGIN, END, OP, mark};
use user_rt::arch::fast::{self, Short};
use user_rt::cap::{Group, Handle};
use user_rt::ipc;
use user_rt::spawn::own;

use crate::block::{Block, EXPOSURE_DONE, Word};

/// Operations before counting.
const WARMUP: u64 = 20;

/// Calls its server repeatedly.
pub extern "C" fn caller<const REGION: u8, const ENDS: bool>(index: u64) -> ! {
    let block = Block::at(index);
    let server = Target(block.get(Word::Target));
    work::<REGION, ENDS>(block, || {
        let Short { info, regs } = fast::call(server, WORDS);
        info.0 == 0 && same_words(regs)
    })
}

/// Raises its own bit repeatedly.
pub extern "C" fn notifier<const REGION: u8>(index: u64) -> ! {
    let block = Block::at(index);
    let (target, bit) = (block.get(Word::Target), 1 << (index % 64));
    work::<REGION, false>(block, || fast::plain(Op::Notify, target, bit).0.status().is_ok())
}

/// Answers with the words of the call. `BEGINS`: this CPU has no client, so the server begins the
/// region.
pub extern "C" fn echo_server<const REGION: u8, const BEGINS: bool>(_: u64) -> ! {
    if BEGINS {
        mark::<BEGIN, REGION>();
    }
    let mut message = Short::EMPTY;
    loop {
        message = fast::reply_recv(message.regs);
    }
}

/// Waits for any bits.
pub extern "C" fn hearer<const REGION: u8>(argument: u64) -> ! {
    mark::<BEGIN, REGION>();
    let slot = Cap(argument as u32).arg();
    loop {
        fast::on(Op::Wait, slot);
    }
}

/// Warms up, meets the other clients, and makes its share of operations between the marks of a
/// region.
///
/// `ENDS`: after its share, nothing of this region happens on this CPU. Otherwise its CPU continues
/// to serve other clients and the region stays open, so the rest of the function is short.
#[inline(always)]
fn work<const REGION: u8, const ENDS: bool>(block: Block, mut operation: impl FnMut() -> bool) -> ! {
    let operations = block.get(Word::Operations);
    let parties = block.get(Word::Parties);
    let mut wrong = (0..WARMUP).filter(|_| !operation()).count() as u64;
    read_counters(block);
    let arrived = Block::at(0).word(Word::Arrived);
    arrived.fetch_add(1, AcqRel);
    mark::<BEGIN, REGION>();
    mark::wait_uncounted(arrived, parties);
    for _ in 0..operations {
        wrong += u64::from(!operation());
        mark::<OP, REGION>();
    }
    if ENDS {
        mark::<END, REGION>();
    }
    block.set(Word::Wrong, wrong);
    if Block::at(0).word(Word::Finished).fetch_add(1, AcqRel) + 1 == parties {
        let done = Group::at(Cap(block.get(Word::Group) as u32)).exposure(EXPOSURE_DONE);
        // If this fails, the program notices at its deadline.
        let _ = done.notify(1);
    }
    loop {
        let _ = ipc::recv();
    }
}

/// Reads the counters of the client's CPUs.
fn read_counters(block: Block) {
    let first = block.get(Word::FirstCounted);
    for &counter in Counter::ALL {
        let cpus = first..first + block.get(Word::CountedCpus);
        let read = |cpu| own::machine().counter(cpu as u32, counter).unwrap_or(0);
        block.counter(counter).store(cpus.map(read).sum(), Relaxed);
    }
}
