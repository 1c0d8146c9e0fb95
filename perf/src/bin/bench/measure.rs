//! Takes samples of an operation.

use core::sync::atomic::Ordering::Relaxed;

use abi::{Cap, Counter, MsgInfo};
use perf::mark::{BEGIN, END, REGION_SAMPLE, mark};
use user_rt::arch::shared;
use user_rt::arch::timestamp;
use user_rt::cap::{Group, Handle};
use user_rt::ipc;
use user_rt::spawn::own;

use crate::block::{Block, EXPOSURE_DONE, When, Word};

/// The answer of an operation: whether it is right, and the message word for the report.
pub trait Verdict {
    fn good(&self) -> bool;
    fn info(&self) -> MsgInfo;
}

impl Verdict for MsgInfo {
    fn good(&self) -> bool {
        self.status().is_ok()
    }

    fn info(&self) -> MsgInfo {
        *self
    }
}

/// An operation that returns whether it was right.
impl Verdict for bool {
    fn good(&self) -> bool {
        *self
    }

    fn info(&self) -> MsgInfo {
        MsgInfo(0)
    }
}

/// An operation that cannot fail.
impl Verdict for () {
    fn good(&self) -> bool {
        true
    }

    fn info(&self) -> MsgInfo {
        MsgInfo(0)
    }
}

/// Warms up, waits for the other clients of the row, takes the samples, reports its end.
///
/// Inlined into each client, so that only `operation` stands between the time stamps.
#[inline(always)]
pub fn measure<R: Verdict>(block: Block, operation: impl FnMut() -> R) -> ! {
    measure_undone(block, operation, || true)
}

/// Takes samples of an operation that `undo` takes back before the next one. `undo` is not
/// measured, and returns whether both were right.
#[inline(always)]
pub fn measure_undone<R: Verdict>(
    block: Block,
    mut operation: impl FnMut() -> R,
    mut undo: impl FnMut() -> bool,
) -> ! {
    set_overhead(block);
    for number in 0..block.get(Word::Warmup) {
        let answer = operation();
        check(block, number, &answer);
        check(block, number, &undo());
    }
    shared::meet(Block::at(0).word(Word::Arrived), block.get(Word::Parties));
    read_counters(block, When::Before);
    for number in 0..block.get(Word::Samples) {
        mark::<BEGIN, REGION_SAMPLE>();
        let start = timestamp();
        let answer = operation();
        let end = timestamp();
        mark::<END, REGION_SAMPLE>();
        check(block, number, &answer);
        block.set_sample(number as usize, end - start);
        check(block, number, &undo());
    }
    read_counters(block, When::After);
    finish(block)
}

/// Takes samples of an operation that says itself, by two time stamps, from when to when it took,
/// and that `undo` takes back. The marks for the plugin enclose the whole operation.
#[inline(always)]
pub fn measure_between<R: Verdict>(
    block: Block,
    mut operation: impl FnMut() -> (u64, u64, R),
    mut undo: impl FnMut() -> bool,
) -> ! {
    set_overhead(block);
    for number in 0..block.get(Word::Warmup) {
        check(block, number, &operation().2);
        check(block, number, &undo());
    }
    shared::meet(Block::at(0).word(Word::Arrived), block.get(Word::Parties));
    read_counters(block, When::Before);
    for number in 0..block.get(Word::Samples) {
        mark::<BEGIN, REGION_SAMPLE>();
        let (start, end, answer) = operation();
        mark::<END, REGION_SAMPLE>();
        check(block, number, &answer);
        block.set_sample(number as usize, end - start);
        check(block, number, &undo());
    }
    read_counters(block, When::After);
    finish(block)
}

/// Runs the operation without time stamps, between marks for the TCG plugin.
#[inline(always)]
pub fn trace<R: Verdict>(
    block: Block,
    begin: impl Fn(),
    mut operation: impl FnMut() -> R,
    mark: impl Fn(),
    end: impl Fn(),
) -> ! {
    for number in 0..block.get(Word::Warmup) {
        let answer = operation();
        check(block, number, &answer);
    }
    shared::meet(Block::at(0).word(Word::Arrived), block.get(Word::Parties));
    let operations = block.get(Word::Samples);
    begin();
    for _ in 0..operations {
        operation();
        mark();
    }
    end();
    block.set(Word::Samples, 0);
    finish(block)
}

/// Measures an empty operation, and stores its smallest cost as the overhead.
fn set_overhead(block: Block) {
    let empty = || {
        let start = timestamp();
        let end = timestamp();
        end - start
    };
    let overhead = (0..100).map(|_| empty()).min();
    block.set(Word::Overhead, overhead.unwrap_or(0));
}

#[inline(always)]
fn check<R: Verdict>(block: Block, number: u64, answer: &R) {
    if !answer.good() {
        wrong(block, number, answer.info());
    }
}

/// Notes an answer that is wrong, if none was noted before.
#[cold]
fn wrong(block: Block, number: u64, info: MsgInfo) {
    if block.get(Word::Wrong) == 0 {
        block.set(Word::Wrong, number + 1);
        block.set(Word::WrongInfo, info.0);
    }
}

fn read_counters(block: Block, when: When) {
    let cpus = [block.get(Word::ClientCpu), block.get(Word::ServerCpu)];
    for (place, cpu) in cpus.into_iter().enumerate() {
        for &counter in Counter::ALL {
            let value = own::machine().counter(cpu as u32, counter).unwrap_or(0);
            block.counter(when, place, counter).store(value, Relaxed);
        }
    }
}

/// Reports that this client is done, and never runs again.
fn finish(block: Block) -> ! {
    let done = Group::at(Cap(block.get(Word::Group) as u32)).exposure(EXPOSURE_DONE);
    // If this fails, the bench notices at its deadline.
    let _ = done.notify(1 << block.get(Word::DoneBit));
    park()
}

/// Waits forever.
pub fn park() -> ! {
    loop {
        let _ = ipc::recv();
    }
}
