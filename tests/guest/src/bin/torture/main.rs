//! All operations on mapped memory, from all CPUs, against a model of what is mapped where: no access may see a
//! translation that is no more, or other memory than the model has, and all memory comes back.
//!
//! Options: `seed=`, `ops=` (system calls on memory), `rounds=`.
//!
//! # Who does what
//! *Workers* live in several address spaces: some share one, on different CPUs, some have one of their own. Each has
//! memory of its own to make frames of, and owns a range of addresses in every space; there it maps, unmaps, protects,
//! deletes, resets ([`ops`]), and all workers of the space look what they find ([`access`]). The [`board`] has for each
//! page of each space a [`word`] that says what an access may meet; what stands in a page says whose it is
//! ([`content`]). The [`director`] makes a round's spaces and workers ([`cast`]), destroys and makes them again of the
//! same memory meanwhile, and counts the memory at the end. [`handlers`] take the faults of accesses. The
//! [`watchdog`] reports a run in which nothing moves.
//!
//! # Further kinds of operations
//! An entry in [`ops::KINDS`] and a function of the worker: it says in the words of all pages concerned what will be
//! (`begin`), makes the system call, says what is (`settle`).
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod access;
mod board;
mod cast;
mod content;
mod director;
mod handlers;
mod mail;
mod objects;
mod ops;
mod pool;
mod porter;
mod probe;
mod word;
mod worker;

use user_rt::spawn::{Nursery, own};
use user_rt::{boot, heap};

use board::{Board, Total};
use director::{Director, Plan};
use guest_tests::failure::Failure;
use guest_tests::run::Run as _;
use guest_tests::watchdog;
use handlers::Handlers;
use user_rt::arch::shared::Shared;

user_rt::program!(begin);

/// Pages of heap: lists of spaces and tasks.
const HEAP_PAGES: u32 = 8;
/// Memory (as logarithm) and slots for all that a round makes.
const ROUND_LOG2: u8 = 26;
const ROUND_SLOTS: u32 = 2700;
/// Operations of a round.
const ROUND_OPS: u64 = 500_000;

fn begin(_: u64) -> ! {
    let plan = plan();
    Board::open().end(prepare(plan).and_then(Director::run))
}

fn plan() -> Plan {
    let number = Board::number;
    let ops = number("ops", 100_000).max(1);
    let rounds = number("rounds", (ops / ROUND_OPS).clamp(2, 64)).clamp(1, 1000);
    Plan { seed: number("seed", 1), cpus: boot::facts().cpus.max(1) as u32, ops, rounds }
}

fn prepare(plan: Plan) -> Result<Director, Failure> {
    let mut nursery = Nursery::of_program(0);
    // The first half of the memory, before anything else is in it.
    let round = nursery.split(ROUND_LOG2, ROUND_SLOTS)?;
    heap::add(&own::vspace(), &mut nursery, HEAP_PAGES)?;
    let shared = Shared::new(&mut nursery, board::PAGES)?;
    let board = Board::open();
    board.set(Total::Seed, plan.seed);
    board.set(Total::Cpus, u64::from(plan.cpus));
    board.set(Total::SmallLimits, u64::from(boot::options().value("limits") == Some("small")));
    watchdog::start::<Board>(&mut nursery)?;
    let handlers = Handlers::start(&mut nursery, plan.cpus)?;
    Ok(Director::new(plan, round, shared, handlers))
}
