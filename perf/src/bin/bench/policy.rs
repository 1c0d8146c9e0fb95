//! Rows of CPU time: setting that of other tasks, as a scheduling policy does, and waking at a
//! deadline.

use core::sync::atomic::Ordering::Relaxed;

use abi::events::{CELLS_LOG2_MIN, PoolSize};
use abi::status::SchedEvent;
use abi::{Cap, Error, FLAG_DEADLINE, MsgInfo, Op};
use user_rt::arch::{self, Args, syscall, timestamp};
use user_rt::cap::{Handle, SchedContext, Task, Untyped};
use user_rt::spawn::own;

use crate::block::{Block, Word};
use crate::events::{own_task, pool_of};
use crate::measure::{Verdict, measure_between, measure_undone, park};

/// The two priorities that the other task has in turn, both below the client's.
const LOWER: u64 = 20;
const HIGHER: u64 = 30;

/// Sets the priority of another task: to a higher one, and back.
pub extern "C" fn set_time_client(index: u64) -> ! {
    let block = Block::at(index);
    let time = Cap(block.get(Word::Time) as u32);
    let [lower, higher] = [LOWER, HIGHER].map(|priority| {
        Args::plain(Op::SchedConfigure, own::sched_control().arg(), time.arg(), priority, u64::MAX)
    });
    measure_undone(block, || syscall(higher).info, || syscall(lower).info.good())
}

/// Suspends a watched task of lower priority twice: when that is no event for the policy, and when
/// it is one. The sample is by how much the second takes longer.
pub extern "C" fn event_client(index: u64) -> ! {
    let block = Block::at(index);
    let time = SchedContext::at(Cap(block.get(Word::Time) as u32));
    let task = Task::at(Cap(block.get(Word::Background) as u32));
    let memory = Untyped::at(Cap(block.get(Word::Untyped) as u32));
    let size = PoolSize { cells_log2: CELLS_LOG2_MIN, status_pages: 1 };
    let mut pool = pool_of(&memory, Cap(block.get(Word::Slots) as u32), size, &own_task());
    let suspend = Args::plain(Op::TaskSuspend, task.arg(), 0, 0, 0);
    let report = || {
        let mut took = [0; 2];
        let mut answer = MsgInfo(0);
        for (took, events) in took.iter_mut().zip([0, SchedEvent::Blocked as u16]) {
            let watched = own::machine().watch_cpu(0, pool.object(), 0);
            if watched.and_then(|()| time.watch(pool.object(), 1, events)).is_err() {
                park();
            }
            let start = timestamp();
            answer = syscall(suspend).info;
            *took = timestamp() - start;
            if task.resume().is_err() || own::machine().unwatch_cpu(0).is_err() {
                park();
            }
        }
        let came = pool.read().map(|came| came.event.info.label());
        if came != Some(SchedEvent::Blocked as u32) || pool.read().is_some() {
            park();
        }
        // The difference has no share of measuring itself, which is taken off each sample.
        (0, took[1] - took[0] + block.get(Word::Overhead), answer)
    };
    measure_between(block, report, || true)
}

/// Notes when it runs, all the time.
pub extern "C" fn stamping_target(index: u64) -> ! {
    let ran = Block::at(index).word(Word::Ran);
    loop {
        ran.store(timestamp(), Relaxed);
        // For emulators that run CPUs in turn.
        arch::pause();
    }
}

/// Moves a task of lower priority to CPU 1, where it runs, and back.
pub extern "C" fn move_client(index: u64) -> ! {
    let block = Block::at(index);
    let task = Cap(block.get(Word::Background) as u32);
    let to = |cpu| Args::plain(Op::TaskMove, own::sched_control().arg(), task.arg(), cpu, 0);
    let ran = block.word(Word::Ran);
    let moved = || {
        let start = timestamp();
        let moved = syscall(to(1)).info;
        while ran.load(Relaxed) <= start {
            arch::pause();
        }
        (start, ran.load(Relaxed), moved)
    };
    measure_between(block, moved, || syscall(to(0)).info.good())
}

/// How far ahead the deadline is: long enough for the CPU to be idle by then.
const AHEAD: u64 = 20_000;

/// An answer that is right if the deadline has passed.
struct Woken(MsgInfo);

impl Verdict for Woken {
    fn good(&self) -> bool {
        self.0.status() == Err(Error::Timeout)
    }

    fn info(&self) -> MsgInfo {
        self.0
    }
}

/// Waits until a deadline passes.
pub extern "C" fn sleep_client(index: u64) -> ! {
    let block = Block::at(index);
    let note = Cap(block.get(Word::NoteClient) as u32).arg();
    let sleep = || {
        let overhead = block.get(Word::Overhead);
        let deadline = timestamp() + AHEAD;
        let mut args = Args::plain(Op::Wait, note, deadline, 0, 0);
        args.info = args.info.flag(FLAG_DEADLINE);
        let info = syscall(args).info;
        // The report takes off what two time stamps cost, and the deadline is none.
        (deadline - overhead, timestamp(), Woken(info))
    };
    measure_between(block, sleep, || true)
}
