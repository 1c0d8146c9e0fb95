//! The work of workers.

use core::hint::black_box;

use abi::Op;
use guest_tests::run::Run as _;
use test_abi::Attempt;
use user_rt::arch::{Args, syscall};
use user_rt::ipc::{Patience, recv, recv_within};
use user_rt::layout::slot;
use user_rt::{arch, utcb};

use crate::board::{Board, Of, Total};

/// Loops, which take about as many ticks each time.
pub fn spin(loops: u64) {
    let mut at = 0;
    for loop_number in 0..loops {
        at = black_box(at ^ loop_number);
    }
}

/// Returns how many loops take a million ticks of a CPU that does nothing else.
pub fn loops_of_a_million() -> u64 {
    const LOOPS: u64 = 100_000;
    let best = (0..5).map(|_| {
        let before = arch::now();
        spin(LOOPS);
        arch::now() - before
    });
    LOOPS * 1_000_000 / best.min().unwrap_or(1).max(1)
}

/// Does a job in each period, and counts those that are over too late.
pub extern "C" fn periodic(number: u64) -> ! {
    let board = Board::open();
    let it = &board.workers[number as usize];
    let [loops, jobs, begin, period] = [Of::Loops, Of::Jobs, Of::Begin, Of::Period].map(|of| it.get(of));
    for job in 0..jobs {
        let begins = begin + job * period;
        // Refused with Timeout, as it should be.
        let _ = recv_within(Patience::Until(begins));
        spin(loops);
        if arch::now() > begins + period {
            it.add(Of::Missed, 1);
        }
        board.note_done(number as usize, cpu());
    }
    rest()
}

/// Does all its work as fast as it can, piece by piece.
pub extern "C" fn busy(number: u64) -> ! {
    let board = Board::open();
    let it = &board.workers[number as usize];
    for _ in 0..it.get(Of::Jobs) {
        spin(it.get(Of::Loops));
        board.note_done(number as usize, cpu());
        // An emulator that runs CPUs in turn goes on with the next one here: all are as fast.
        arch::pause();
    }
    rest()
}

/// Takes all the time that it can get.
pub extern "C" fn greedy(number: u64) -> ! {
    let board = Board::open();
    while board.get(Total::Over) == 0 {
        spin(1_000);
        // For emulators that run CPUs in turn: without it, another CPU may not run.
        arch::pause();
        board.workers[number as usize].set(Of::Cpu, cpu().into());
        board.workers[number as usize].add(Of::Done, 1);
    }
    rest()
}

/// Works until it has a job, which is to stop its CPU for ever. Only a test build's kernel does so.
pub extern "C" fn stopper(number: u64) -> ! {
    let it = &Board::open().workers[number as usize];
    while it.get(Of::Jobs) == 0 {
        spin(1_000);
        arch::pause();
        it.set(Of::Cpu, cpu().into());
    }
    let _ = syscall(Args::plain(Op::MachineAttempt, slot::MACHINE.arg(), Attempt::Hang as u64, 0, 0));
    // Not stopped.
    it.set(Of::Done, 1);
    rest()
}

fn cpu() -> u32 {
    utcb::current().home_cpu()
}

/// Waits for a call that nobody makes.
fn rest() -> ! {
    loop {
        let _ = recv();
    }
}
