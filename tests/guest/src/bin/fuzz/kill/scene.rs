//! A scene: two processes, A and B, six tasks on any CPUs, and their objects.
//!
//! Task 0, of process B, and task 1, of process A, are servers. The others are clients, alternately
//! of A and B. Each scene makes everything again of the killer's memory, except the address spaces,
//! which the processes of several scenes use in turn. The image is not copied. All processes map
//! the same pages of it, including the one writable page, in which these tasks store nothing.

use abi::{Cap, PAGE_SIZE, Rights, machine_rights};
use guest_tests::failure::Failure;
use guest_tests::random::Random;
use guest_tests::run::Run as _;
use user_rt::arch::{self, Args, memory, syscall};
use user_rt::cap::{
    Access, CNode, EventPool, Frame, Group, Handle, Notification, Process, Task, Untyped, VSpace,
};
use user_rt::elf::Image;
use user_rt::invoke::{Pins, copy, transfer};
use user_rt::layout::{SHARED_VA, slot};
use user_rt::slots::Slots;
use user_rt::spawn::{Entry, Home, Nursery, Run, TaskSpec, own, task};
use user_rt::{boot, report};

use super::actor;
use super::board::{self, ACTORS, Board, Killer, Of, Total};
use super::{SLOTS, SPACES_SLOTS};

pub const KILLER_PRIORITY: u8 = 60;
pub const SERVERS: usize = 2;
/// The group of a scene, in each process: tasks at their numbers, the killer's Notification after
/// them.
pub const GROUP: Cap = slot::GROUPS;
pub const WAKER: u32 = ACTORS as u32;
/// Slots of a scene's process: the other process and its address space, a frame, memory, a
/// Notification, free slots; a server's memory and its Reply.
pub const PEER_SPACE: Cap = Cap(100);
pub const PEER_PROCESS: Cap = Cap(99);
pub const FRAME: Cap = Cap(101);
pub const MEMORY: Cap = Cap(102);
pub const NOTE: Cap = Cap(103);
pub const PLAY: Cap = Cap(104);
pub const PLAYS: u64 = 4;
pub const SERVER_MEMORY: Cap = Cap(110);
pub const SERVER_REPLY: Cap = Cap(112);
/// The page of locks that both processes have.
pub const LOCK_PAGE: Cap = Cap(114);
const CHILD_SLOTS: u64 = 128;
const TABLES: u64 = 20;
const STACK_PAGES: u32 = 2;
/// Addresses of a task's own pages, of pages that arrive, and of pages that others place.
pub const POOL_VA: u64 = 0x6800_0000;
pub const WINDOW_VA: u64 = 0x6820_0000;
pub const LANDING_VA: u64 = 0x6840_0000;
const EVENTS_VA: u64 = 0x6860_0000;
pub const FRAME_VA: u64 = 0x6870_0000;
pub const LOCKS_VA: u64 = 0x6871_0000;
/// Distance between the ranges of two tasks.
pub const STRIDE: u64 = 0x1_0000;
/// Pages of a client.
pub const POOL_PAGES: u64 = 4;

/// Plays of a scene besides calls, as bits.
pub mod plays {
    /// Clients of process A fault, and server 0 handles the faults.
    pub const FAULTS: u64 = 1 << 0;
    /// Process B has an event pool that no task reads.
    pub const EVENTS: u64 = 1 << 1;
    /// Calls carry pages.
    pub const PAGES: u64 = 1 << 2;
    /// Tasks change the access of mappings, and take pages to the other space.
    pub const SPACES: u64 = 1 << 3;
    /// Tasks make objects and delete them.
    pub const OBJECTS: u64 = 1 << 4;
    /// The last client of a process kills the other process.
    pub const KILLS: u64 = 1 << 5;
    /// Tasks take locks that both processes share.
    pub const LOCKS: u64 = 1 << 6;
    pub const ALL: u64 = (1 << 7) - 1;
}

pub struct House {
    pub process: Process,
    pub cnode: CNode,
    pub vspace: VSpace,
}

pub struct Scene {
    pub houses: [House; 2],
    pub tasks: [Task; ACTORS],
    /// Notification of the clients that have ended.
    pub note: Notification,
}

/// Returns the process of a task: 0 for A.
pub fn house_of(actor: usize) -> usize {
    (actor + 1) % 2
}

/// What a killer makes its scenes of.
pub struct Stage<'a> {
    pub board: &'static Board,
    pub me: usize,
    pub image: &'a Image<'a>,
    pub spaces: [VSpace; 2],
}

impl Stage<'_> {
    fn shared(&self, which: Total, number: u32) -> Frame {
        Frame::at(Cap(self.board.get(which) as u32 + number))
    }

    fn memory(&self, which: Killer) -> Untyped {
        Untyped::at(Cap(self.board.killers[self.me].get(which) as u32))
    }

    pub fn slots(&self) -> core::ops::Range<u32> {
        let first = self.board.killers[self.me].get(Killer::Slots) as u32;
        first..first + SLOTS
    }

    /// Ends the rest of a scene. Returns the bytes that are free then.
    pub fn clear(&self) -> Result<u64, Failure> {
        Ok(self.memory(Killer::Memory).take_back(Pins::Hold)?)
    }

    /// Replaces the address spaces by new ones, with the mappings that all scenes share. Returns
    /// the bytes that were free in between.
    pub fn renew_spaces(&mut self) -> Result<u64, Failure> {
        let memory = self.memory(Killer::Spaces);
        let left = memory.take_back(Pins::Hold)?;
        let first = self.slots().end;
        let nursery = &mut Nursery::new(memory, Slots::new(first..first + SPACES_SLOTS));
        for place in 0..2 {
            let vspace: VSpace = nursery.make(TABLES)?;
            self.furnish(&vspace)?;
            self.spaces[place] = vspace;
        }
        Ok(left)
    }

    fn furnish(&self, vspace: &VSpace) -> Result<(), Failure> {
        let mut number = 0;
        for segment in self.image.segments() {
            for page in 0..segment.pages() {
                let at = segment.first_page() + u64::from(page) * PAGE_SIZE;
                vspace.map(&self.shared(Total::Image, number), at, segment.access)?;
                number += 1;
            }
        }
        vspace.map(&self.shared(Total::Facts, 0), abi::BOOT_PAGE_VA, Access::Read)?;
        for page in 0..board::PAGES {
            let at = SHARED_VA + u64::from(page) * PAGE_SIZE;
            vspace.map(&self.shared(Total::SharedFrames, page), at, Access::Write)?;
        }
        Ok(())
    }

    pub fn make(&self, plays: u64, random: &mut Random) -> Result<Scene, Failure> {
        let nursery = &mut Nursery::new(self.memory(Killer::Memory), Slots::new(self.slots()));
        self.board.clear_scene(self.me);
        let group: Group = nursery.make(2 | (ACTORS as u64 + 1) << 16)?;
        let note: Notification = nursery.make(0)?;
        group.expose_notification(WAKER, &note)?;
        let houses = [self.house(nursery, &group, 0)?, self.house(nursery, &group, 1)?];
        for (of, peer) in [(0, 1), (1, 0)] {
            copy(&houses[peer].vspace, houses[of].cnode.slot(PEER_SPACE), Rights::ALL, 0)?;
            copy(&houses[peer].process, houses[of].cnode.slot(PEER_PROCESS), Rights::ALL, 0)?;
        }
        let locks: Frame = nursery.make(u64::from(PAGE_SIZE.trailing_zeros()))?;
        for house in &houses {
            house.vspace.map(&locks, LOCKS_VA, Access::Write)?;
            copy(&locks, house.cnode.slot(LOCK_PAGE), Rights::ALL, 0)?;
        }
        if plays & plays::FAULTS != 0 {
            houses[0].process.fault_handler(Some(abi::Target::new(GROUP, 0)))?;
        }
        let mut tasks: [Option<Task>; ACTORS] = Default::default();
        for (actor, place) in tasks.iter_mut().enumerate() {
            let house = &houses[house_of(actor)];
            *place = Some(self.cast(nursery, &group, house, actor, random)?);
        }
        let tasks = tasks.map(|task| task.expect("each was made"));
        if plays & plays::EVENTS != 0 {
            let pool: EventPool = nursery.make(abi::events::CELLS_LOG2_MIN as u64)?;
            let bind = Args::plain(
                abi::Op::PoolBind,
                pool.arg(),
                houses[1].process.arg(),
                tasks[0].arg(),
                EVENTS_VA,
            );
            syscall(Args { r9: 1, ..bind }).done()?;
        }
        Ok(Scene { houses, tasks, note })
    }

    /// Makes a process with the image and the objects of its tasks.
    fn house(&self, nursery: &mut Nursery, group: &Group, number: u16) -> Result<House, Failure> {
        let cnode: CNode = nursery.make(CHILD_SLOTS)?;
        let vspace = VSpace::at(self.spaces[usize::from(number)].cap());
        let process: Process = nursery.make(ACTORS as u64)?;
        process.configure(&cnode, &vspace, number == 1)?;
        copy(&cnode, cnode.slot(slot::CNODE), Rights::ALL, 0)?;
        copy(&vspace, cnode.slot(slot::VSPACE), Rights::ALL, 0)?;
        copy(&process, cnode.slot(slot::PROCESS), Rights::ALL, 0)?;
        copy(&own::machine(), cnode.slot(slot::MACHINE), machine_rights::LOG, 0)?;
        let frame: Frame = nursery.make(u64::from(PAGE_SIZE.trailing_zeros()))?;
        vspace.map(&frame, FRAME_VA, Access::Write)?;
        copy(&frame, cnode.slot(FRAME), Rights::ALL, 0)?;
        transfer::<Untyped>(nursery.make(14)?, cnode.slot(MEMORY))?;
        transfer::<Notification>(nursery.make(0)?, cnode.slot(NOTE))?;
        process.accept(GROUP, group)?;
        group.add(&process, abi::MEMBER_RIGHTS, number)?;
        Ok(House { process, cnode, vspace })
    }

    /// Makes a suspended task in its place, with its own objects.
    fn cast(
        &self,
        nursery: &mut Nursery,
        group: &Group,
        house: &House,
        actor: usize,
        random: &mut Random,
    ) -> Result<Task, Failure> {
        let cpu = random.below(self.board.get(Total::Cpus)) as u32;
        let priority = KILLER_PRIORITY - 1 - random.below(3) as u8;
        let spec = TaskSpec {
            index: actor as u32,
            cpu,
            priority,
            stack_pages: STACK_PAGES,
            run: Run::Function(actor::actor as Entry),
            argument: (self.me as u64) << 8 | actor as u64,
        };
        let home = Home {
            process: &house.process,
            vspace: &house.vspace,
            cnode: Some(&house.cnode),
            control: None,
            start: arch::start_address(),
        };
        let made = task(nursery, &home, &spec)?;
        // Short slices, so that tasks alternate often.
        made.sched.configure(priority, boot::facts().tsc_hz / 20_000)?;
        if actor < SERVERS {
            let slot = house.cnode.slot(Cap(SERVER_MEMORY.0 + actor as u32));
            transfer::<Untyped>(nursery.make(12)?, slot)?;
        } else {
            let pages = nursery.make_pages(POOL_PAGES as u32)?;
            for (page, frame) in (0u64..).zip(pages.iter::<Frame>()) {
                house.vspace.map_pool(&frame, POOL_VA + actor as u64 * STRIDE + page * PAGE_SIZE)?;
            }
        }
        group.expose_task(actor as u32, &made.task)?;
        self.board.actors[self.me][actor].set(Of::Cpu, u64::from(cpu));
        self.board.actors[self.me][actor].set(Of::Id, made.id.raw());
        Ok(made.task)
    }

    /// Reports capabilities in the killer's slots that should be empty.
    pub fn look_for_left_overs(&self) {
        let is_left = |slot: &u32| own::cnode().inspect(Cap(*slot)).ok().flatten().is_some();
        if let Some(slot) = self.slots().find(is_left) {
            self.board.complain(
                Total::Escapes,
                format_args!("killer {} has something in slot {slot} after a reset", self.me),
            );
        }
    }
}

/// Returns the image, as a killer maps it.
pub fn image() -> Option<Image<'static>> {
    match Image::parse(memory::archive()) {
        Ok(image) => Some(image),
        Err(error) => {
            report!("error fuzz: the program's own file: {error}");
            None
        }
    }
}
