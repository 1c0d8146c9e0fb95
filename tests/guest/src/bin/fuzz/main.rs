//! Random system calls of workers on all CPUs, in three processes. Workers use all operations, on
//! objects of their own and on objects that all of them operate on at the same time. The history of
//! shared objects is checked against the executable model.
//!
//! Options: `seed=`, `ops=`; `storm=revoke` runs the [`storm`] with that many rounds instead,
//! `storm=kill` the storm of [`kill`]s.
//!
//! # Who does what
//! A [`worker`] operates in windows between barriers. It has its own [`arena`]. All workers share
//! [`clusters`]; only the cluster of messages ([`talk`]) has its own workers. Each call there is
//! stamped before and after, and recorded with its answer on the [`board`]. [`rooms`] are pairs of
//! processes that share almost nothing with others and must stay confined. After a window the
//! cluster's keeper checks, as a [`clerk`], that the model allows the history ([`model::linear`]).
//! The director (here) makes the processes ([`cast`]), audits what they hold ([`audit`]), destroys
//! everything at the end and counts the memory that comes back. A [`watchdog`] reports a run
//! without progress.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod arena;
mod audit;
mod board;
mod cast;
mod clerk;
mod clusters;
mod kill;
mod rooms;
mod storm;
mod talk;
mod worker;

use abi::PAGE_SIZE;
use guest_tests::failure::Failure;
use guest_tests::run::{Run as _, show_state};
use guest_tests::watchdog;
use user_rt::arch;
use user_rt::arch::shared::Shared;
use user_rt::cap::Notification;
use user_rt::spawn::{Nursery, own};
use user_rt::{boot, heap, report};

use audit::Audit;
use board::{Board, Total, WORKERS_MAX};
use cast::Cast;
use rooms::Rooms;

user_rt::program!(begin);

/// Pages of heap: the capabilities that are held, by slot.
const HEAP_PAGES: u32 = 150;
/// Memory (as base-2 logarithm) and slots of all objects of a run.
const RUN_LOG2: u8 = 26;
const RUN_SLOTS: u32 = 3000;
/// Memory (as base-2 logarithm) and slots of the rooms.
const ROOMS_LOG2: u8 = 23;
const ROOMS_SLOTS: u32 = 600;

fn begin(_: u64) -> ! {
    if boot::options().value("storm") == Some("kill") {
        kill::begin();
    }
    Board::open().end(run())
}

fn run() -> Result<(), Failure> {
    let mut nursery = Nursery::of_program(0);
    let mut run = nursery.split(RUN_LOG2, RUN_SLOTS)?;
    let mut rooms = nursery.split(ROOMS_LOG2, ROOMS_SLOTS)?;
    heap::add(&own::vspace(), &mut nursery, HEAP_PAGES)?;
    let shared = Shared::new(&mut nursery, board::PAGES)?;
    let board = Board::open();
    let cpus = boot::facts().cpus.max(1);
    board.set(Total::Seed, Board::number("seed", 1));
    board.set(Total::Cpus, cpus);
    board.set(Total::Goal, Board::number("ops", 100_000).max(1));
    board.set(Total::Storm, u64::from(boot::options().value("storm") == Some("revoke")));
    let speakers = if board.get(Total::Storm) == 0 { talk::count(cpus) } else { 0 };
    board.set(Total::Speakers, speakers);
    board.set(Total::Workers, speakers + (2 * cpus).max(6).min(WORKERS_MAX as u64 - speakers));
    board.set(Total::Roomers, rooms::count(board.get(Total::Storm) != 0));
    let (notification, group) = cast::measure(&mut nursery)?;
    board.set(Total::NotificationSize, notification);
    board.set(Total::GroupSize, group);
    watchdog::start::<Board>(&mut nursery)?;
    let before = run.reset()? + rooms.reset()?;
    let waker: Notification = nursery.make(0)?;
    fuzz(board, &mut run, &mut rooms, &shared, &waker)?;
    show_state();
    let leaked = before.saturating_sub(rooms.reset()? + run.reset()?).div_ceil(PAGE_SIZE);
    board.add(Total::LeakedPages, leaked);
    Ok(())
}

fn pause(waker: &Notification) {
    let _ = waker.wait_until(arch::now() + boot::facts().tsc_hz / 50);
}

fn fuzz(
    board: &'static Board,
    run: &mut Nursery,
    rooms: &mut Nursery,
    shared: &Shared,
    waker: &Notification,
) -> Result<(), Failure> {
    let tasks = board.tasks();
    let members = board::PROCESSES + rooms::ROOMERS + 1;
    let wakers = run.make_group(members as u16, tasks as u16 + 1)?;
    wakers.expose_notification(tasks as u32, waker)?;
    let talk = talk::make_group(run)?;
    // Before everything else: the first snapshot takes longer with more objects.
    let rooms = Rooms::new(board, rooms, shared, &wakers)?;
    rooms.begin()?;
    let cast = Cast::new(board, run, shared, &wakers, &talk)?;
    waker.wait()?;
    let audit = Audit::new(board, &cast)?;
    worker::release(board, &wakers, None);
    let goal = board.get(Total::Goal);
    let storms = board.get(Total::Storm) != 0;
    // Often enough for the harness to see progress.
    let tenth = (goal / 10).clamp(1, 250_000);
    let mut told = 0;
    while board.get(Total::Over) == 0 {
        if storms {
            pause(waker);
        } else {
            waker.wait()?;
            audit.look(&cast)?;
        }
        let done = board.get(Total::Ops);
        if done / tenth > told {
            told = done / tenth;
            report!("progress {done} of {goal} operations, {} windows", board.get(Total::Windows));
        }
        if done >= goal || board.wrong() > 0 {
            board.set(Total::Over, 1);
        }
        if !storms {
            worker::release(board, &wakers, None);
        }
    }
    let works = |worker: usize| board.workers[worker].get(board::Of::Phase) != u64::MAX;
    while (0..tasks).any(works) {
        pause(waker);
    }
    audit.look(&cast)?;
    audit.verify(&cast)?;
    Ok(())
}
