//! All operations on mapped memory, from all CPUs, against a model of the mappings. No access may
//! use a stale translation, or see other memory than the model has, and all memory must come back.
//!
//! Options: `seed=`, `ops=` (system calls on memory), `rounds=`.
//!
//! # Who does what
//! *Workers* live in several address spaces: some share one, on different CPUs, and some have their
//! own. Each has memory for its own frames, and owns a range of addresses in every space. There it
//! maps, unmaps, protects, deletes and resets ([`ops`]), and all workers of the space check what
//! they find ([`access`]). The [`board`] has a [`word`] for each page of each space, which says
//! what an access may find; the contents of a page name its owner ([`content`]). The [`director`]
//! makes a round's spaces and workers ([`cast`]), destroys some and makes them again of the same
//! memory meanwhile, and counts the memory at the end. [`handlers`] handle the faults of accesses.
//! Workers also share [`locks`], and are killed while they have them.
//! The [`watchdog`] reports a run without progress.
//!
//! # Further kinds of operations
//! A new operation is an entry in [`ops::KINDS`] and a function of the worker. The function writes
//! the coming state to the words of all affected pages (`begin`), makes the system call, and writes
//! the reached state (`settle`).
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod access;
mod board;
mod cast;
mod content;
mod director;
mod handlers;
mod locks;
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
/// Memory (as base-2 logarithm) and slots for all objects of a round.
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
    // The first half of the memory, while it is empty.
    let round = nursery.split(ROUND_LOG2, ROUND_SLOTS)?;
    heap::add(&own::vspace(), &mut nursery, HEAP_PAGES)?;
    let shared = Shared::new(&mut nursery, board::SHARED_PAGES)?;
    let board = Board::open();
    board.set(Total::Seed, plan.seed);
    board.set(Total::Cpus, u64::from(plan.cpus));
    board.set(Total::SmallLimits, u64::from(boot::options().value("limits") == Some("small")));
    watchdog::start::<Board>(&mut nursery)?;
    let handlers = Handlers::start(&mut nursery, plan.cpus)?;
    Ok(Director::new(plan, round, shared, handlers))
}
