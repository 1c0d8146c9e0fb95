//! The address spaces and workers of a round.

use alloc::vec::Vec;

use abi::{Cap, Error, MachineRights, PAGE_SIZE, Rights, machine_rights};
use guest_tests::random::Random;
use guest_tests::run::Run as _;
use user_rt::arch::shared::Shared;
use user_rt::cap::{Access, Frame, Handle, Task, Untyped, VSpace};
use user_rt::elf::Image;
use user_rt::invoke::{Pages, Pins, copy, transfer};
use user_rt::layout::{FREE_SLOTS, SHARED_VA};
use user_rt::spawn::{Child, Nursery, ProcessSpec, Run, StartIn, TaskSpec, end, own, process, task};

use crate::board::{
    Board, LARGE_SIZE, Of, OfSpace, PLACES, PORTERS, SHARED_PAGES, SPACES_MAX, Total, WORKERS_MAX, address,
};
use crate::content::{DIRECTOR, LARGE_PAGES, Page, is_filled};
use crate::handlers::Handlers;
use crate::porter::{cpu_of, porter};
use crate::probe::probe;
use crate::word::{GLOBAL, How};
use crate::worker::worker;
use guest_tests::failure::Failure;

/// Most workers of a shared space; spaces with one worker.
const SHARERS_MAX: u32 = 16;
const LONERS_MAX: u32 = 6;
const _: () = assert!(2 * SHARERS_MAX + LONERS_MAX <= WORKERS_MAX as u32);
const _: () = assert!(2 + LONERS_MAX <= SPACES_MAX as u32);

/// Frames that all processes have: pages of each, 0 for a large one.
pub const GLOBALS: [u8; 6] = [4, 4, 3, 1, 1, 0];
/// Address at which the director fills them.
const FILL_VA: u64 = SHARED_VA + 0x3000_0000;

// Slots in every process. An address space's capability is in another slot in each era, so that a
// worker with an older era finds nothing.
const SPACES_AT: u32 = FREE_SLOTS + SHARERS_MAX + PORTERS as u32 + 2;
const ERAS: u64 = 4;
const GLOBALS_AT: u32 = SPACES_AT + SPACES_MAX as u32 * ERAS as u32;
const WORKERS_AT: u32 = GLOBALS_AT + GLOBALS.len() as u32;
/// Slots of a worker: memory, temporary objects, frames.
const WORKER_SLOTS: u32 = 64;
pub const MOMENTS: u32 = 15;
pub const FRAMES: usize = 48;
const _: () = assert!(1 + MOMENTS as usize + FRAMES == WORKER_SLOTS as usize);
/// The page of locks.
pub const LOCKS_SLOT: Cap = Cap(WORKERS_AT + SHARERS_MAX * WORKER_SLOTS);
const CHILD_SLOTS: u32 = LOCKS_SLOT.0 + 1;
const CHILD_TABLES: u32 = 56;

pub const fn space_slot(space: usize, era: u64) -> Cap {
    Cap(SPACES_AT + space as u32 * ERAS as u32 + (era % ERAS) as u32)
}

pub const fn global_slot(which: usize) -> Cap {
    Cap(GLOBALS_AT + which as u32)
}

/// Returns a worker's own slots in its process, where it is number `local`.
pub const fn memory_slot(local: u32) -> Cap {
    Cap(WORKERS_AT + local * WORKER_SLOTS)
}

pub const fn moment_slot(local: u32, which: u32) -> Cap {
    Cap(memory_slot(local).0 + 1 + which % MOMENTS)
}

pub const fn frame_slot(local: u32, which: usize) -> Cap {
    Cap(memory_slot(local).0 + 1 + MOMENTS + which as u32)
}

/// Memory of a worker, as base-2 logarithm: small, so that it is used again soon. The first worker
/// of a shared space can make a large frame.
const MEMORY_LOG2: u8 = 17;
const LARGE_MEMORY_LOG2: u8 = 22;
/// Memory (as base-2 logarithm) and slots of a space with that many workers.
const SPACE_SLOTS: u32 = 320;
const fn space_log2(space: usize, workers: usize) -> u8 {
    match workers {
        _ if !is_shared(space) => 22,
        0..=6 => 23,
        _ => 24,
    }
}

/// Whether several workers share the space.
const fn is_shared(space: usize) -> bool {
    space < 2
}

/// Whether a worker's memory can hold a large frame.
pub const fn has_large(space: usize, local: u32) -> bool {
    is_shared(space) && local == 0
}

const PRIORITY: u8 = 50;
const STACK_PAGES: u32 = 6;
const PORTER_STACK_PAGES: u32 = 3;
/// Percentage of workers whose faults go to another CPU.
const FAR_HANDLERS: u64 = 15;

struct Space {
    nursery: Nursery,
    /// Workers: number and CPU.
    workers: Vec<(usize, u32)>,
    made: Option<Made>,
}

struct Made {
    child: Child,
    tasks: Vec<Task>,
}

pub struct Cast<'a> {
    cpus: u32,
    board: &'static Board,
    shared: &'a Shared,
    image: &'a Image<'a>,
    handlers: &'a Handlers,
    globals: Vec<Frame>,
    spaces: Vec<Space>,
}

/// Plans the CPUs of each space's workers: two spaces with workers on all CPUs, others with one
/// worker.
fn plan(cpus: u32) -> Vec<Vec<u32>> {
    let sharers = |at_least: u32| (0..cpus.max(at_least).min(SHARERS_MAX)).map(|n| n % cpus).collect();
    let alone = if cpus <= LONERS_MAX { cpus } else { LONERS_MAX / 2 };
    let loners = (0..alone).map(|cpu| [cpu].into());
    [sharers(2), sharers(1)].into_iter().chain(loners).collect()
}

impl<'a> Cast<'a> {
    /// Makes the objects that all share, and memory for every space.
    pub fn new(
        cpus: u32,
        nursery: &mut Nursery,
        shared: &'a Shared,
        image: &'a Image<'a>,
        handlers: &'a Handlers,
    ) -> Result<Cast<'a>, Failure> {
        let board = Board::open();
        (0..WORKERS_MAX).for_each(|worker| board.clear_worker(worker));
        let mut globals = Vec::new();
        for (which, pages) in GLOBALS.into_iter().enumerate() {
            globals.push(make_global(nursery, which, pages)?);
        }
        let mut spaces = Vec::new();
        let mut number = 0;
        for (space, cpus) in plan(cpus).into_iter().enumerate() {
            let workers: Vec<_> = (number..).zip(cpus).collect();
            number += workers.len();
            let nursery = nursery.split(space_log2(space, workers.len()), SPACE_SLOTS)?;
            // Until the space is made.
            board.spaces[space].set(OfSpace::Dying, 1);
            spaces.push(Space { nursery, workers, made: None });
        }
        board.set(Total::Spaces, spaces.len() as u64);
        board.set(Total::Workers, number as u64);
        Ok(Cast { cpus, board, shared, image, handlers, globals, spaces })
    }

    pub fn spaces(&self) -> usize {
        self.spaces.len()
    }

    /// Makes a space, its process and its workers, and resumes them.
    pub fn make(&mut self, space: usize, random: &mut Random) -> Result<(), Failure> {
        let board = self.board;
        let era = board.spaces[space].get(OfSpace::Era) + 1;
        let number = self.spaces[space].workers.len();
        let nursery = &mut self.spaces[space].nursery;
        // Before anything else, since the rest of the memory would not hold one.
        let large = is_shared(space).then(|| nursery.make(u64::from(LARGE_MEMORY_LOG2))).transpose()?;
        // So that objects are not at the same address each time.
        nursery.make_pages(1 + random.below(40) as u32)?;
        let spec = ProcessSpec {
            image: self.image,
            vector: random.chance(30),
            tasks: number as u32 + 40,
            slots: CHILD_SLOTS,
            tables: CHILD_TABLES,
            with_file: false,
            untyped_log2: &[],
            groups: StartIn::None,
            line: None,
        };
        let child = process(nursery, &spec)?;
        self.shared.map_into(&child.vspace)?;
        child.give_machine(MachineRights::REPORT | machine_rights::INFO | machine_rights::DMA, 0)?;
        child.give_sched_control(&own::sched_control())?;
        self.handlers.admit(&child, space, era)?;
        for (which, frame) in self.globals.iter().enumerate() {
            copy::<Frame>(frame, child.cnode.slot(global_slot(which)), Rights::ALL, 0)?;
        }
        let locks = Frame::at(Cap(self.shared.first().0 + SHARED_PAGES - 1));
        copy::<Frame>(&locks, child.cnode.slot(LOCKS_SLOT), Rights::MAP, 0)?;
        self.introduce(space, era, &child)?;
        // All workers can call them as soon as they know that the space exists.
        let mut tasks = self.make_porters(space, era, &child, random)?;
        board.clear_space(space, era);
        board.spaces[space].set(OfSpace::Era, era);
        board.spaces[space].set(OfSpace::Dying, 0);
        self.give_memory(space, large, &child, random)?;
        tasks.extend(self.make_workers(space, era, &child, random)?);
        for task in &tasks {
            task.resume()?;
        }
        self.spaces[space].made = Some(Made { child, tasks });
        Ok(())
    }

    /// Gives the new space's capability to all processes, and theirs to the new one.
    fn introduce(&self, space: usize, era: u64, child: &Child) -> Result<(), Failure> {
        copy::<VSpace>(&child.vspace, child.cnode.slot(space_slot(space, era)), Rights::ALL, 0)?;
        for (number, other) in self.spaces.iter().enumerate() {
            let (Some(other), Some(its_era)) = (&other.made, self.board.era(number)) else { continue };
            let Child { vspace, cnode, .. } = &other.child;
            copy::<VSpace>(&child.vspace, cnode.slot(space_slot(space, era)), Rights::ALL, 0)?;
            copy::<VSpace>(vspace, child.cnode.slot(space_slot(number, its_era)), Rights::ALL, 0)?;
        }
        Ok(())
    }

    /// Gives each worker its memory; the first worker's may be the large one.
    fn give_memory(
        &mut self,
        space: usize,
        mut large: Option<Untyped>,
        child: &Child,
        random: &mut Random,
    ) -> Result<(), Failure> {
        let Space { nursery, workers, .. } = &mut self.spaces[space];
        for local in 0..workers.len() as u32 {
            let little = MEMORY_LOG2 + random.below(2) as u8;
            let memory = match large.take() {
                Some(memory) => memory,
                None => nursery.make(u64::from(little))?,
            };
            transfer::<Untyped>(memory, child.cnode.slot(memory_slot(local)))?;
        }
        Ok(())
    }

    fn make_porters(
        &mut self,
        space: usize,
        era: u64,
        child: &Child,
        random: &mut Random,
    ) -> Result<Vec<Task>, Failure> {
        let cpus = self.cpus;
        let Space { nursery, workers, .. } = &mut self.spaces[space];
        let mut tasks = Vec::new();
        for number in 0..PORTERS {
            let cpu = cpu_of(space, era, number, cpus);
            let spec = TaskSpec {
                index: (1 + workers.len() + number) as u32,
                cpu,
                // They may preempt the workers there, or wait for their turn.
                priority: PRIORITY + 10 * random.below(2) as u8,
                stack_pages: PORTER_STACK_PAGES,
                run: Run::Function(porter),
                argument: 0,
            };
            let made = task(nursery, &child.home(), &spec)?;
            self.handlers.take(&made.task, cpu)?;
            self.handlers.expose(space, number, &made.task)?;
            tasks.push(made.task);
        }
        Ok(tasks)
    }

    fn make_workers(
        &mut self,
        space: usize,
        era: u64,
        child: &Child,
        random: &mut Random,
    ) -> Result<Vec<Task>, Failure> {
        let (board, cpus) = (self.board, self.cpus);
        let Space { nursery, workers, .. } = &mut self.spaces[space];
        let mut tasks = Vec::new();
        for (local, &(number, cpu)) in (0u32..).zip(workers.iter()) {
            let spec = TaskSpec {
                index: local + 1,
                cpu,
                priority: PRIORITY,
                stack_pages: STACK_PAGES,
                run: Run::Function(worker),
                argument: number as u64 | u64::from(local) << 8 | era << 16,
            };
            let made = task(nursery, &child.home(), &spec)?;
            made.sched.configure(PRIORITY, 50_000 + random.below(4_000_000))?;
            let far = random.chance(FAR_HANDLERS);
            let handler = if far { random.below(u64::from(cpus)) as u32 } else { cpu };
            self.handlers.take(&made.task, handler)?;
            self.handlers.expose_worker(number, &made.task)?;
            for (which, value) in [
                (Of::Space, space as u64),
                (Of::Cpu, u64::from(cpu)),
                (Of::Task, made.id.raw()),
                (Of::Done, 0),
                (Of::Doing, u64::MAX),
                (Of::Staring, 0),
                (Of::Life, 2 * era),
            ] {
                board.workers[number].set(which, value);
            }
            tasks.push(made.task);
        }
        Ok(tasks)
    }

    /// Destroys a space and all that lives in it, in one reset or tasks first.
    pub fn unmake(&mut self, space: usize, random: &mut Random) -> Result<(), Failure> {
        let board = self.board;
        let Space { nursery, workers, made } = &mut self.spaces[space];
        let Some(Made { tasks, .. }) = made.take() else { return Ok(()) };
        for &(number, _) in workers.iter() {
            board.workers[number].set(Of::Life, board.workers[number].get(Of::Life) | 1);
        }
        board.spaces[space].set(OfSpace::Dying, 1);
        if random.chance(50) {
            for task in &tasks {
                end(task)?;
            }
        }
        self.handlers.withdraw(space);
        nursery.reset_with(Pins::Ignore)?;
        for number in 0..self.spaces[space].workers.len() {
            let worker = self.spaces[space].workers[number].0;
            self.unmap_globals(worker)?;
            board.clear_worker(worker);
        }
        Ok(())
    }

    /// Unmaps the global pages that an ended worker has left in the spaces of others. Whether one
    /// is mapped is uncertain, because the worker may have been changing it.
    fn unmap_globals(&self, worker: usize) -> Result<(), Failure> {
        for (number, space) in self.spaces.iter().enumerate() {
            let Some(made) = &space.made else { continue };
            for place in 0..PLACES {
                let thing = self.board.word(number, worker, place).thing();
                if thing.id & GLOBAL == 0 {
                    continue;
                }
                let frame = &self.globals[(thing.id & !GLOBAL) as usize];
                let pages = Pages { first: u64::from(thing.page), count: 1 };
                match made.child.vspace.unmap_pages(frame, address(worker, place), pages) {
                    Err(refusal) if refusal.error != Error::BadAddress => return Err(refusal.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Ends every space; sometimes leaves that to the end of the whole round.
    pub fn dismiss_all(&mut self, random: &mut Random) -> Result<(), Failure> {
        let together = random.chance(50);
        for space in 0..self.spaces() {
            if !together {
                self.unmake(space, random)?;
                continue;
            }
            let board = self.board;
            board.spaces[space].set(OfSpace::Dying, 1);
            for (number, _) in &self.spaces[space].workers {
                board.workers[*number].set(Of::Life, board.workers[*number].get(Of::Life) | 1);
            }
            self.handlers.withdraw(space);
        }
        Ok(())
    }
}

/// Makes and fills a frame for all processes.
fn make_global(nursery: &mut Nursery, which: usize, pages: u8) -> Result<Frame, Failure> {
    let large = pages == 0;
    let size = if large { u64::from(LARGE_SIZE.trailing_zeros()) } else { 12 | u64::from(pages) << 8 };
    let frame: Frame = nursery.make(size)?;
    own::vspace().map(&frame, FILL_VA, Access::Write)?;
    let pages = if large { LARGE_PAGES } else { u64::from(pages) };
    for page in (0..pages).filter(|page| is_filled(large, *page)) {
        let content = Page { owner: DIRECTOR, id: GLOBAL | which as u32, page };
        for (word, value) in content.contents() {
            probe(How::Write, FILL_VA + page * PAGE_SIZE + word * 8, value);
        }
    }
    own::vspace().unmap(&frame, FILL_VA)?;
    Ok(frame)
}
