//! The storm of kills: it kills single tasks and whole processes, in the middle of every operation
//! that a task can be in. Every task that waits for a killed task must learn of the death, each
//! error must name the right task, and all memory must come back.
//!
//! Each CPU has a [`killer`], in the program's own process. In a round it makes a [`scene`]: two
//! processes and six tasks on any CPUs, which call, fault, send, move pages, wait, and share locks
//! ([`actor`]).
//! Then it kills them. A killer marks a task as *doomed* before it kills the task, so that a task
//! that learns of a death can judge whether the report may be true. When all servers of a scene are
//! dead, the tasks that were not killed must end by themselves. Then the scene's memory is reset,
//! and all of it must be free.
//!
//! The kernel counts the state in which each kill found its task ([`test_abi::kills`]).

mod actor;
mod board;
mod killer;
mod scene;

use abi::PAGE_SIZE;
use guest_tests::failure::Failure;
use guest_tests::run::{Run as _, show_state};
use guest_tests::watchdog;
use user_rt::arch::memory;
use user_rt::arch::shared::Shared;
use user_rt::cap::{Frame, Handle, Notification, Untyped};
use user_rt::elf::{Image, Segment};
use user_rt::invoke::Pins;
use user_rt::spawn::{Entry, Home, Nursery, Run, TaskSpec, own, task};
use user_rt::{arch, boot, report};

use board::{Board, Killer, Total};

/// Memory (as base-2 logarithm) and slots of a killer's scenes, and of their address spaces.
const SCENE_LOG2: u64 = 20;
const SLOTS: u32 = 240;
const SPACES_LOG2: u64 = 20;
const SPACES_SLOTS: u32 = 2;
const KILLER_STACK: u32 = 8;
/// Memory (as base-2 logarithm) and slots of all killers.
const RUN_LOG2: u8 = 26;
const RUN_SLOTS: u32 = 2048;

/// Runs the storm instead of the ordinary run. Does not return.
pub fn begin() -> ! {
    Board::open().end(run())
}

fn run() -> Result<(), Failure> {
    let mut nursery = Nursery::of_program(0);
    let mut run = nursery.split(RUN_LOG2, RUN_SLOTS)?;
    let shared = Shared::new(&mut nursery, board::PAGES)?;
    let board = Board::open();
    let cpus = boot::facts().cpus.clamp(1, board::KILLERS_MAX as u64);
    board.set(Total::Seed, Board::number("seed", 1));
    board.set(Total::Cpus, cpus);
    board.set(Total::Goal, Board::number("ops", 10_000).max(1));
    board.set(Total::SharedFrames, u64::from(shared.first().0));
    lay_out_image(board, &mut nursery)?;
    watchdog::start::<Board>(&mut nursery)?;
    let before = run.untyped().take_back(Pins::Hold)?;
    let waker: Notification = nursery.make(0)?;
    for cpu in 0..cpus as usize {
        let memory: Untyped = run.make(SCENE_LOG2)?;
        let spaces: Untyped = run.make(SPACES_LOG2)?;
        let slots = run.take_slots(SLOTS + SPACES_SLOTS)?;
        board.killers[cpu].set(Killer::Memory, u64::from(memory.cap().0));
        board.killers[cpu].set(Killer::Spaces, u64::from(spaces.cap().0));
        board.killers[cpu].set(Killer::Slots, u64::from(slots.0));
        let spec = TaskSpec {
            index: 2 + cpu as u32,
            cpu: cpu as u32,
            priority: scene::KILLER_PRIORITY,
            stack_pages: KILLER_STACK,
            run: Run::Function(killer::killer as Entry),
            argument: cpu as u64,
        };
        Home::own(|home| task(&mut nursery, home, &spec))?.task.resume()?;
    }
    oversee(board, cpus as usize, &waker);
    show_state();
    let leaked = before.saturating_sub(run.untyped().take_back(Pins::Hold)?).div_ceil(PAGE_SIZE);
    board.add(Total::LeakedPages, leaked);
    let [locked, inherited] = [Total::Locked, Total::Inherited].map(|which| board.get(which));
    report!("note fuzz: {locked} locks taken, {inherited} of them from dead owners");
    Ok(())
}

/// Waits until all killers are done.
fn oversee(board: &'static Board, killers: usize, waker: &Notification) {
    let mut told = 0;
    while (0..killers).any(|it| board.killers[it].get(Killer::Through) == 0) {
        let _ = waker.wait_until(arch::now() + boot::facts().tsc_hz / 50);
        let (done, goal) = (board.get(Total::Kills), board.get(Total::Goal));
        if done * 10 / goal > told {
            told = done * 10 / goal;
            report!("progress {done} of {goal} kills, {} scenes", board.get(Total::Scenes));
        }
    }
}

/// Lays out the program's image where all processes of all scenes can map it, and the page with its
/// facts.
fn lay_out_image(board: &'static Board, nursery: &mut Nursery) -> Result<(), Failure> {
    let image = Image::parse(memory::archive()).map_err(Failure::Image)?;
    let frames = nursery.make_pages(image.segments().map(Segment::pages).sum())?;
    let pages = image.segments().flat_map(|segment| (0..segment.pages()).map(move |page| segment.page(page)));
    for ((offset, bytes), frame) in pages.zip(frames.iter::<Frame>()) {
        let fill = |to: &mut [u8]| to[offset..offset + bytes.len()].copy_from_slice(bytes);
        memory::with_frame(&own::vspace(), &frame, fill)?;
    }
    let facts: Frame = nursery.make(u64::from(PAGE_SIZE.trailing_zeros()))?;
    let bytes = memory::page_bytes(boot::facts());
    memory::with_frame(&own::vspace(), &facts, |to| to[..bytes.len()].copy_from_slice(bytes))?;
    board.set(Total::Image, u64::from(frames.nth(0).0));
    board.set(Total::Facts, u64::from(facts.cap().0));
    Ok(())
}
