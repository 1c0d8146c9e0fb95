//! Random messages between tasks of several processes on all CPUs, while tasks are killed,
//! cancelled, suspended, moved to other CPUs and made again. No message may be lost, doubled,
//! changed or out of order.
//!
//! Options: `seed=`, `messages=`, `tasks=` (seats), `rounds=`, `moves=` (tasks that are to move at
//! each disturbance; 1 if not given). A *seat* is a place for a task. The task in it is its
//! *incarnation*; when that is killed, the next one is made of the same memory. A round makes
//! processes and seats, sends its share of the messages, checks the results, destroys everything
//! and counts the free memory.
//!
//! # Who does what
//! [`worker`]: a seat's task, which sends, serves and checks ([`message`], [`judge`]). [`cast`]:
//! the processes and seats of a round. [`director`]: disturbs the seats while they work, then
//! checks the round. A [`watchdog`] reports every seat's state when nothing progresses, with the
//! [`tellers`]' reports. [`board`]: the shared memory in which all of them note what they do.
//!
//! # Why no deadlock
//! Seats call only higher-numbered seats, and the highest one only serves.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod board;
mod cast;
mod director;
mod judge;
mod message;
mod tellers;
mod worker;

use user_rt::spawn::{Nursery, own};
use user_rt::{boot, heap};

use board::{Board, SEATS_MAX, Total};
use director::{Director, Plan};
use guest_tests::run::Run as _;
use guest_tests::watchdog;
use user_rt::arch::shared::Shared;

user_rt::program!(begin);

/// Pages of heap: lists of seats.
const HEAP_PAGES: u32 = 8;
/// Memory (as base-2 logarithm) and slots for all objects of a round.
const ROUND_LOG2: u8 = 25;
const ROUND_SLOTS: u32 = 3000;

fn begin(_: u64) -> ! {
    let plan = plan();
    Board::open().end(prepare(&plan).and_then(Director::run))
}

fn plan() -> Plan {
    let options = boot::options();
    let number = Board::number;
    let cpus = boot::facts().cpus.max(1);
    let messages = number("messages", 10_000).max(1);
    let seats = number("tasks", (3 * cpus).clamp(8, 64)).clamp(2, SEATS_MAX as u64);
    let rounds = number("rounds", (messages / 20_000).clamp(2, 8)).clamp(1, 1000);
    // Events repeat only where QEMU counts instructions: there the chaos build has its seed.
    let replays = boot::has(test_abi::build::CHAOS) && options.value("chaos").is_some();
    let moves = if cpus > 1 { number("moves", 1) } else { 0 };
    Plan {
        replays,
        seed: number("seed", 1),
        cpus: cpus as u32,
        messages,
        seats: seats as usize,
        rounds,
        moves,
    }
}

fn prepare(plan: &Plan) -> Result<Director, guest_tests::failure::Failure> {
    let mut nursery = Nursery::of_program(0);
    heap::add(&own::vspace(), &mut nursery, HEAP_PAGES)?;
    let shared = Shared::new(&mut nursery, board::PAGES)?;
    let board = Board::open();
    board.set(Total::Seed, plan.seed);
    board.set(Total::Goal, plan.messages);
    board.set(Total::Seats, plan.seats as u64);
    board.set(Total::Hashing, u64::from(plan.replays));
    let alarm = watchdog::start::<Board>(&mut nursery)?;
    tellers::start(&mut nursery, &alarm)?;
    let round = nursery.split(ROUND_LOG2, ROUND_SLOTS)?;
    Ok(Director::new(*plan, round, shared))
}
