//! Random system calls, all of them, of workers on all CPUs, in three processes: on objects of their own, and on objects
//! that all operate on at the same time, whose history is checked against the executable model.
//!
//! Options: `seed=`, `ops=`; `storm=revoke` for the [`storm`] of that many rounds instead, `storm=kill` for that of
//! [`kill`]s.
//!
//! # Who does what
//! A [`worker`] operates in windows between barriers. Of its own it has an [`arena`]. All share [`clusters`], but that of
//! messages ([`talk`]), which has its own: each call there is stamped before and after, and written down with its answer
//! on the [`board`]. [`rooms`] are processes that share next to nothing, and have to stay confined. After a window the cluster's keeper, as a [`clerk`], checks that the history is one that the model
//! allows ([`model::linear`]). The director (here) makes the processes ([`cast`]), looks through what they hold
//! ([`audit`]), destroys everything in the end and counts the memory that comes back. A [`watchdog`] reports a run in
//! which nothing moves.
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

/// Pages of heap: what is held, by slot.
const HEAP_PAGES: u32 = 150;
/// Memory (as logarithm) and slots for all that a run makes.
const RUN_LOG2: u8 = 26;
const RUN_SLOTS: u32 = 3000;
/// The same for the rooms.
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
    // First: to show what there is takes the longer the more there is.
    let rooms = Rooms::new(board, rooms, shared, &wakers)?;
    rooms.begin()?;
    let cast = Cast::new(board, run, shared, &wakers, &talk)?;
    waker.wait()?;
    let audit = Audit::new(board, &cast)?;
    worker::release(board, &wakers, None);
    let goal = board.get(Total::Goal);
    let storms = board.get(Total::Storm) != 0;
    // Often enough for the harness to see that it goes on.
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
