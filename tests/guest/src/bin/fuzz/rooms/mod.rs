//! Rooms: processes that share only what they are given at the start, so that a test of confinement
//! is possible.
//!
//! A room has two processes, the *roomers*, with a task each. Within the room they have full access
//! to each other: CNode, address space, a group. Rooms share only these things:
//!
//! | from | to | what |
//! |---|---|---|
//! | rooms 0 and 1 | each other | a group with SEND, STRING, GRANT and MAP; labels forbid everything except words in messages through it |
//! | rooms 0 and 1 | room 2 | a Notification, which rooms 0 and 1 may raise and room 2 waits for |
//! | room 2 | room 1 | a page, which room 1 may read |
//! | all | all | a group without SEND, in which each roomer exposes a Notification of its own |
//!
//! Roomers operate in the windows of the other workers ([`roomer`]), with arguments as hostile as
//! theirs. The harness compares their capabilities with the closure of their first capabilities
//! (the crate `confine`). They judge the words that they see themselves ([`marks`]).

mod choice;
mod marks;
mod roomer;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use abi::{Cap, MEMBER_RIGHTS, MachineRights, ObjType, PAGE_SIZE, Rights, cnode_rights, frame_rights};
use guest_tests::failure::Failure;
use guest_tests::run::{Run as _, show_state};
use user_rt::arch::memory;
use user_rt::arch::shared::Shared;
use user_rt::cap::{Access, Frame, Group, Handle, Notification, SchedControl, Untyped};
use user_rt::elf::{Image, Segment};
use user_rt::invoke::{copy, transfer};
use user_rt::spawn::{
    Child, Many, Nursery, ProcessSpec, Run, Spawned, StartIn, TaskSpec, own, task, unloaded,
};
use user_rt::{boot, report};

use crate::board::{Board, Of, PROCESSES, Total};
use crate::cast::{PRIORITY, WAKERS};

pub const ROOMS: usize = 3;
pub const ROOM_PROCESSES: usize = 2;
pub const ROOMERS: usize = ROOMS * ROOM_PROCESSES;
/// Rooms that exchange messages. Their labels keep each from the other's objects.
const TALKING: usize = 2;
/// The room that shows a page, and the one that sees it.
const SHOWING: usize = 2;
const VIEWING: usize = 1;

const SLOTS: u32 = 512;
const TABLES: u32 = 40;
const STACK_PAGES: u32 = 13;
/// Highest priority that roomers can give CPU time.
const TOY_CEILING: u8 = PRIORITY - 1;
const MEMORY_LOG2: u8 = 18;

/// A roomer's own objects: memory, its waker, its exposed task, its event pool.
const MEMORY: Cap = Cap(400);
const WAKER: Cap = Cap(401);
const SHOWN: Cap = Cap(402);
const POOL: Cap = Cap(403);
/// The memory of its toys.
const PLAYED: Cap = Cap(404);
/// What it is given at the start.
const ROOM: Cap = Cap(410);
const LETTERS: Cap = Cap(411);
const SHOW: Cap = Cap(412);
const MATE_CNODE: Cap = Cap(413);
const MATE_SPACE: Cap = Cap(414);
const MATE_PROCESS: Cap = Cap(415);
const NOTE: Cap = Cap(416);
const PAGE: Cap = Cap(417);
/// The slots of its toys.
const TOYS: core::ops::Range<u32> = 440..488;

const ROOM_RIGHTS: Rights = MEMBER_RIGHTS.minus(Rights::REMOVE).minus(Rights::DELETE);
const LETTER_RIGHTS: Rights = Rights::SEND.union(Rights::STRING).union(Rights::GRANT).union(Rights::MAP);
const SHOW_RIGHTS: Rights = Rights::LISTEN.union(Rights::NOTIFY);
const CNODE_RIGHTS: Rights = cnode_rights::OBSERVE.rights().union(Rights::GRANT);

/// Returns the number of roomers in a run; a storm has none. A kernel with small limits maps a
/// page, such as the board's, into few processes only: the last room is missing there.
pub fn count(storm: bool) -> u64 {
    match (storm, boot::options().value("limits")) {
        (true, _) => 0,
        (false, Some("small")) => (ROOMERS - ROOM_PROCESSES) as u64,
        (false, _) => ROOMERS as u64,
    }
}

/// Returns a roomer's number among all tasks that pass barriers.
fn worker(board: &'static Board, roomer: usize) -> usize {
    board.get(Total::Workers) as usize + roomer
}

fn mate(roomer: usize) -> usize {
    roomer ^ 1
}

/// Returns the label of a room, and of all objects that it makes.
fn label(room: usize) -> u32 {
    room as u32 + 1
}

/// Returns the capabilities that a roomer is given, with their rights.
fn seeds(room: usize) -> impl Iterator<Item = (Cap, ObjType, Rights)> {
    let note = if room == SHOWING { Rights::LISTEN } else { Rights::NOTIFY };
    // Without GRANT, no copy of the page comes into a pool.
    let page = if room == SHOWING { frame_rights::WRITE.rights() } else { Rights::GRANT };
    let all = [
        (ROOM, ObjType::Group, ROOM_RIGHTS),
        (LETTERS, ObjType::Group, LETTER_RIGHTS),
        (SHOW, ObjType::Group, SHOW_RIGHTS),
        (MATE_CNODE, ObjType::CNode, CNODE_RIGHTS),
        (MATE_SPACE, ObjType::VSpace, Rights::MAP | Rights::GRANT),
        (MATE_PROCESS, ObjType::Process, Rights::GRANT),
        (NOTE, ObjType::Notification, note | Rights::GRANT),
        (PAGE, ObjType::Frame, Rights::MAP | page),
    ];
    let has = move |cap: Cap| match cap {
        LETTERS => room < TALKING,
        PAGE => room == SHOWING || room == VIEWING,
        _ => true,
    };
    all.into_iter().filter(move |(cap, ..)| has(*cap))
}

/// Makes pages with the image's contents of a segment.
fn fill(nursery: &mut Nursery, segment: &Segment<'_>) -> user_rt::Result<Many> {
    let frames = nursery.make_pages(segment.pages())?;
    for (index, frame) in (0..).zip(frames.iter::<Frame>()) {
        let (offset, bytes) = segment.page(index);
        memory::with_frame(&own::vspace(), &frame, |page| {
            page[offset..offset + bytes.len()].copy_from_slice(bytes);
        })?;
    }
    Ok(frames)
}

/// Maps a segment. A read-only segment uses pages that all roomers share, because filling pages
/// takes long.
fn load(
    nursery: &mut Nursery,
    child: &Child,
    segment: &Segment<'_>,
    frames: Option<Many>,
) -> user_rt::Result<()> {
    let frames = frames.map_or_else(|| fill(nursery, segment), Ok)?;
    for (index, frame) in (0u64..).zip(frames.iter::<Frame>()) {
        child.vspace.map(&frame, segment.first_page() + index * PAGE_SIZE, segment.access)?;
    }
    Ok(())
}

pub struct Rooms {
    children: Vec<Child>,
}

impl Rooms {
    /// Makes the rooms, if the run has any.
    pub fn new(
        board: &'static Board,
        nursery: &mut Nursery,
        shared: &Shared,
        wakers: &Group,
    ) -> Result<Rooms, Failure> {
        let mut rooms = Rooms { children: Vec::new() };
        if board.get(Total::Roomers) == 0 {
            return Ok(rooms);
        }
        let image = Image::parse(memory::archive()).map_err(Failure::Image)?;
        let mut pages = Vec::new();
        for segment in image.segments() {
            let frames = if segment.access == Access::Write { None } else { Some(fill(nursery, segment)?) };
            pages.push((segment, frames));
        }
        // Toys can have CPU time, and no task of one gets in the way of the judges.
        let authority: SchedControl = nursery.make(0)?;
        own::sched_control().allow(&authority, TOY_CEILING, 0, u64::MAX)?;
        for number in 0..board.get(Total::Roomers) as usize {
            let spec = ProcessSpec {
                image: &image,
                vector: number % 2 == 1,
                tasks: 4,
                slots: SLOTS,
                tables: TABLES,
                with_file: false,
                untyped_log2: &[],
                groups: StartIn::None,
                line: None,
            };
            let child = unloaded(nursery, &spec)?;
            for (segment, frames) in &pages {
                load(nursery, &child, segment, *frames)?;
            }
            shared.map_into(&child.vspace)?;
            child.give_machine(MachineRights::REPORT, 0)?;
            child.give_sched_control(&authority)?;
            child.join(wakers, WAKERS, Rights::NOTIFY | Rights::LISTEN, (PROCESSES + number) as u16)?;
            own::machine().set_label(&child.process, label(marks::room_of(number)))?;
            rooms.children.push(child);
        }
        for (one, other) in [(0, 1), (1, 0)] {
            own::machine().set_rule(label(one), label(other), 0)?;
        }
        rooms.connect(board, nursery)?;
        Ok(rooms)
    }

    /// Gives all roomers their first capabilities, and starts them.
    fn connect(&self, board: &'static Board, nursery: &mut Nursery) -> Result<(), Failure> {
        let mut made = Vec::new();
        for number in 0..self.children.len() {
            made.push(self.employ(board, nursery, number)?);
        }
        for room in 0..self.children.len() / ROOM_PROCESSES {
            let group = nursery.make_group(4, 4)?;
            for number in (0..self.children.len()).filter(|number| marks::room_of(*number) == room) {
                self.children[number].join(&group, ROOM, ROOM_RIGHTS, number as u16)?;
                group.expose_task((number % ROOM_PROCESSES) as u32, &made[number].task)?;
            }
        }
        let letters = nursery.make_group(ROOMERS as u16, ROOMERS as u16)?;
        let show = nursery.make_group(ROOMERS as u16 + 1, ROOMERS as u16)?;
        let note: Notification = nursery.make(0)?;
        let page: Frame = nursery.make(u64::from(PAGE_SIZE.trailing_zeros()))?;
        for (number, child) in self.children.iter().enumerate() {
            let other = &self.children[mate(number)];
            for (slot, _, rights) in seeds(marks::room_of(number)) {
                let to = child.cnode.slot(slot);
                match slot {
                    LETTERS => {
                        child.join(&letters, slot, rights, number as u16)?;
                        letters.expose_task(number as u32, &made[number].task)?;
                    }
                    SHOW => _ = child.join(&show, slot, rights, number as u16)?,
                    MATE_CNODE => copy(&other.cnode, to, rights, 0)?,
                    MATE_SPACE => copy(&other.vspace, to, rights, 0)?,
                    MATE_PROCESS => copy(&other.process, to, rights, 0)?,
                    NOTE => copy(&note, to, rights, 0)?,
                    PAGE => copy(&page, to, rights, 0)?,
                    _ => {}
                }
            }
        }
        Ok(made.iter().try_for_each(|made| made.task.resume())?)
    }

    fn employ(
        &self,
        board: &'static Board,
        nursery: &mut Nursery,
        number: usize,
    ) -> Result<Spawned, Failure> {
        let (child, cpu) = (&self.children[number], number as u64 % board.get(Total::Cpus));
        board.workers[worker(board, number)].set(Of::Process, (PROCESSES + number) as u64);
        board.workers[worker(board, number)].set(Of::Cpu, cpu);
        let label = label(marks::room_of(number));
        let memory: Untyped = nursery.make(u64::from(MEMORY_LOG2))?;
        own::machine().set_label(&memory, label)?;
        transfer(memory, child.cnode.slot(MEMORY))?;
        let spec = TaskSpec {
            index: 1,
            cpu: cpu as u32,
            priority: PRIORITY,
            stack_pages: STACK_PAGES,
            run: Run::Function(roomer::roomer),
            argument: number as u64,
        };
        let made = task(nursery, &child.home(), &spec)?;
        own::machine().set_label(&made.task, label)?;
        Ok(made)
    }

    /// Names the processes that must stay confined to the harness, and takes the first snapshot.
    pub fn begin(&self) -> user_rt::Result<()> {
        if self.children.is_empty() {
            return Ok(());
        }
        let mut names = String::new();
        for child in &self.children {
            let it = own::cnode().inspect(child.process.cap())?;
            // Writing to a string cannot fail.
            let _ = write!(names, " {}", it.map_or(0, |it| it.identity));
        }
        report!("confined{names}");
        show_state();
        Ok(())
    }
}
