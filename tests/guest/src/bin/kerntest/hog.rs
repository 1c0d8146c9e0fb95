//! A hog: a program of a priority in between, which runs all the time on the CPU of a server that
//! it has preempted in the middle of a request of the lowest priority. A better caller of another
//! CPU must not wait for it: the server inherits the caller's priority.
//!
//! The call is also measured while the server runs, without a hog. Where the clock counts
//! instructions, the hog may add [`DELAY_MAX`] of them. Elsewhere the answer has to come while the
//! hog runs on.

use core::sync::atomic::Ordering::Relaxed;

use abi::{Op, Target};
use guest_tests::board::Part as _;
use user_rt::arch::{self, Args, syscall, timestamp};
use user_rt::boot;
use user_rt::cap::Handle;
use user_rt::ipc::{self, Patience};

use crate::block::Block;
use crate::expect;
use crate::lab::{Lab, PUPPETS_MAX, Place, Wanted};
use crate::sched::clock_counts_instructions;
use crate::suite::{Failure, Outcome};

/// Priorities of the hog, and of the caller that it must not delay. The server and its first
/// caller have less.
const HOG: u8 = 60;
const BETTER: u8 = 120;
const LOWEST: u8 = 20;

/// Calls that are measured.
const CALLS: u64 = 20;
/// Most instructions that a hog may add to a call.
const DELAY_MAX: u64 = 50;
/// A hog gives up after this part of a second, so that a caller that it delays goes on some time.
const GIVES_UP: u64 = 50;
/// How long a hog sleeps between two looks, in TSC ticks.
const NAP: u64 = 2_000;

/// First word of a long request, which takes until the server is told to end it.
const LONG: u64 = 1 << 40;

/// Words of the block that these tasks share.
const TARGET: usize = 0;
/// Long requests that the server has begun, that it has ended, and that it may end.
const BEGUN: usize = 1;
const ENDED: usize = 2;
const MAY_END: usize = 3;
/// Calls that are answered, and those whose answer a hog did not see in time.
const ANSWERED: usize = 4;
const GIVEN_UP: usize = 5;
/// The shortest call so far, in TSC ticks.
const SHORTEST: usize = 6;
/// Whether a hog tells the server when to end a request. If not, the caller does.
const HAS_HOG: usize = 7;

fn board() -> &'static Block {
    Block::at(PUPPETS_MAX - 1)
}

fn get(word: usize) -> u64 {
    board().note(word).load(Relaxed)
}

fn set(word: usize, value: u64) {
    board().note(word).store(value, Relaxed);
}

fn call(value: u64) -> bool {
    syscall(Args::plain(Op::Call, get(TARGET), 0, value, 0)).rdx == value
}

/// Answers with the word of the call.
extern "C" fn server(_: u64) -> ! {
    let mut args = Args::new(Op::ReplyRecv);
    loop {
        let word = syscall(args).rdx;
        if word == LONG {
            let number = get(BEGUN) + 1;
            set(BEGUN, number);
            while get(MAY_END) < number {
                arch::pause();
            }
            set(ENDED, number);
        }
        args = Args::plain(Op::ReplyRecv, 0, 0, word, 0);
    }
}

/// Makes one long request after the other.
extern "C" fn lowest_caller(_: u64) -> ! {
    loop {
        call(LONG);
    }
}

/// Preempts the server in the middle of each long request, and runs until the better caller has
/// its answer.
extern "C" fn hog(_: u64) -> ! {
    for number in 1.. {
        while get(BEGUN) < number {
            let _ = ipc::recv_within(Patience::Until(timestamp() + NAP));
        }
        set(MAY_END, number);
        let end = timestamp() + boot::facts().tsc_hz / GIVES_UP;
        while get(ANSWERED) < number {
            if timestamp() > end {
                set(GIVEN_UP, get(GIVEN_UP) + 1);
                while get(ANSWERED) < number {
                    let _ = ipc::recv_within(Patience::Until(timestamp() + NAP));
                }
            }
            arch::pause();
        }
    }
    unreachable!("a hog has no end")
}

/// Calls the server in the middle of a long request: when the hog has preempted it, or else when
/// it runs.
extern "C" fn better_caller(_: u64) -> ! {
    let has_hog = get(HAS_HOG) != 0;
    let is_midway = |number| if has_hog { get(MAY_END) == number } else { get(BEGUN) != get(ENDED) };
    for number in 1..=CALLS {
        while !is_midway(number) {
            arch::pause();
        }
        if !has_hog {
            // All that it begins before the answer: the call may come late.
            set(MAY_END, u64::MAX);
        }
        let start = timestamp();
        let answered = call(number);
        let took = timestamp() - start;
        if !has_hog {
            set(MAY_END, 0);
        }
        if answered {
            set(SHORTEST, get(SHORTEST).min(took));
            set(ANSWERED, number);
        }
    }
    loop {
        let _ = ipc::recv();
    }
}

/// Returns how long the shortest of some calls takes, and how many were answered too late.
fn shortest_call(lab: &mut Lab<'_>, has_hog: bool) -> Result<(u64, u64), Failure> {
    board().clear();
    let group = lab.group()?;
    set(TARGET, Target::new(group.cap(), 1).0);
    set(SHORTEST, u64::MAX);
    set(HAS_HOG, has_hog.into());
    let far = |priority| Wanted { place: Place::Own, cpu: 1, priority };
    let near = Wanted { cpu: 0, ..far(BETTER) };
    let serves = lab.task(&far(LOWEST), server, 0)?.task;
    group.expose_task(1, &serves)?;
    lab.busy = true;
    for (wanted, entry) in [(far(LOWEST), lowest_caller as _), (near, better_caller as _)] {
        lab.task(&wanted, entry, 0)?.task.resume()?;
    }
    serves.resume()?;
    if has_hog {
        lab.task(&far(HOG), hog, 0)?.task.resume()?;
    }
    lab.until("all calls are answered", || get(ANSWERED) == CALLS)?;
    lab.reset()?;
    Ok((get(SHORTEST), get(GIVEN_UP)))
}

/// Checks that a hog does not delay a better caller of a server that it has preempted.
pub fn a_hog_delays_no_better_caller(lab: &mut Lab<'_>) -> Outcome {
    if lab.cpus == 1 {
        return Err(Failure::Lacks("one CPU"));
    }
    let (alone, _) = shortest_call(lab, false)?;
    let (beside, late) = shortest_call(lab, true)?;
    expect!(late < CALLS, "no call was answered before the hog gave up");
    if clock_counts_instructions() {
        expect!(late == 0, "{late} of {CALLS} calls were answered after the hog had given up");
        expect!(beside <= alone + DELAY_MAX, "a call takes {beside} instructions, and {alone} without a hog");
    }
    Ok(())
}
