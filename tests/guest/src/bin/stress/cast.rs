//! The processes, groups and seats of a round.

use alloc::vec::Vec;

use abi::{Cap, MachineRights, Rights, machine_rights};
use guest_tests::run::Run as _;
use user_rt::arch::shared::Shared;
use user_rt::cap::{Group, Notification, SchedContext, Task, Untyped};
use user_rt::elf::Image;
use user_rt::invoke::{Moves, copy, transfer};
use user_rt::layout::{FREE_SLOTS, slot};
use user_rt::spawn::{Child, Nursery, ProcessSpec, Run, StartIn, TaskSpec, end, own, process, task};

use crate::board::{Board, DIRECTOR, Event, NOBODY, Of, Pair, SEATS_MAX, Total};
use crate::director::Plan;
use crate::worker::worker;
use guest_tests::failure::Failure;
use guest_tests::random::Random;

/// Most processes: the shared frames can be mapped in this many and in the director's.
const PROCESSES_MAX: usize = 4;

/// Slots in every process: two groups, and the slot that is churned.
pub const GROUPS: [Cap; 2] = [slot::GROUPS, Cap(slot::GROUPS.0 + 1)];
pub const CHURN: Cap = Cap(slot::GROUPS.0 + 2);
/// Rights of seats in the groups.
pub const SEAT_RIGHTS: Rights =
    Rights(Rights::SEND.0 | Rights::NOTIFY.0 | Rights::STRING.0 | Rights::GRANT.0);

/// Exposure at which seats report that they are finished.
pub const EXPOSURE_DONE: u32 = 0;

/// Memory (as base-2 logarithm) and slots of a seat: task, SchedContext, stack, Notification, its
/// own Untyped.
const SEAT_LOG2: u8 = 16;
const SEAT_SLOTS: u32 = 10;
const STACK_PAGES: u32 = 3;

const CHILD_SLOTS: u32 = 1024;
const CHILD_TABLES: u32 = 48;
const FIRST_SEAT_SLOT: u32 = FREE_SLOTS + SEATS_MAX as u32 + 1;

/// Returns the exposure of a seat's task.
pub const fn task_exposure(seat: usize) -> u32 {
    1 + seat as u32
}

/// Returns the exposure of a seat's Notification.
pub const fn note_exposure(seats: usize, seat: usize) -> u32 {
    1 + (seats + seat) as u32
}

/// Returns the custom bits of a process's member record in one of the groups.
pub const fn custom(group: usize, process: usize) -> u16 {
    (0x100 * (group as u16 + 1)) | (process as u16 + 1)
}

/// A seat's own slots in its process.
pub struct SeatSlots {
    pub sched: Cap,
    pub untyped: Cap,
    pub reply: Cap,
}

pub const fn seat_slots(seat: usize) -> SeatSlots {
    let first = FIRST_SEAT_SLOT + 4 * seat as u32;
    SeatSlots { sched: Cap(first), untyped: Cap(first + 1), reply: Cap(first + 2) }
}

const _: () = assert!(FIRST_SEAT_SLOT + 4 * (SEATS_MAX as u32) < CHILD_SLOTS);

/// A place for a task.
struct Seat {
    nursery: Nursery,
    task: Option<Task>,
    incarnation: u64,
}

pub struct Cast {
    plan: Plan,
    children: Vec<Child>,
    groups: [Group; 2],
    seats: Vec<Seat>,
}

impl Cast {
    /// Makes processes, groups and empty seats.
    pub fn new(
        plan: Plan,
        nursery: &mut Nursery,
        shared: &Shared,
        image: &Image<'_>,
        done: &Notification,
    ) -> Result<Cast, Failure> {
        let processes = PROCESSES_MAX.min(plan.seats);
        let exposures = 1 + 2 * plan.seats as u16;
        let mut group = || nursery.make_group(processes as u16 + 2, exposures);
        let groups = [group()?, group()?];
        groups[0].expose_notification(EXPOSURE_DONE, done)?;
        let mut children = Vec::new();
        for number in 0..processes {
            let spec = ProcessSpec {
                image,
                vector: number % 2 == 1,
                tasks: plan.seats as u32 + 8,
                slots: CHILD_SLOTS,
                tables: CHILD_TABLES,
                with_file: false,
                untyped_log2: &[],
                groups: StartIn::None,
                line: None,
            };
            let child = process(nursery, &spec)?;
            shared.map_into(&child.vspace)?;
            child.give_machine(MachineRights::REPORT | machine_rights::INFO, 0)?;
            child.give_sched_control(&own::sched_control())?;
            children.push(child);
        }
        // In reverse order in the second group, so that member records differ.
        for (which, group) in groups.iter().enumerate() {
            for place in 0..processes {
                let number = if which == 0 { place } else { processes - 1 - place };
                children[number].join(group, GROUPS[which], SEAT_RIGHTS, custom(which, number))?;
            }
        }
        let mut seats = Vec::new();
        for _ in 0..plan.seats {
            let nursery = nursery.split(SEAT_LOG2, SEAT_SLOTS)?;
            seats.push(Seat { nursery, task: None, incarnation: 0 });
        }
        Ok(Cast { plan, children, groups, seats })
    }

    /// Puts a task in an empty seat.
    pub fn fill(&mut self, board: &'static Board, seat: usize, random: &mut Random) -> Result<(), Failure> {
        let Plan { cpus, seats, .. } = self.plan;
        let number = seat % self.children.len();
        let place = &mut self.seats[seat];
        place.incarnation += 1;
        // Every seat has its CPU, except every fifth, whose CPU is random.
        let cpu = if seat % 5 == 4 { random.below(u64::from(cpus)) as u32 } else { seat as u32 % cpus };
        let priority = 10 + random.below(150) as u8;
        let spec = TaskSpec {
            index: seat as u32 + 1,
            cpu,
            priority,
            stack_pages: STACK_PAGES,
            run: Run::Function(worker),
            argument: seat as u64 | place.incarnation << 12,
        };
        board.event(DIRECTOR, Event::Make, seat, place.incarnation);
        let child = &self.children[number];
        let made = task(&mut place.nursery, &child.home(), &spec)?;
        made.sched.configure(priority, 5_000 + random.below(500_000))?;
        let slots = seat_slots(seat);
        copy::<SchedContext>(&made.sched, child.cnode.slot(slots.sched), Rights::ALL, 0)?;
        transfer::<Untyped>(place.nursery.make(12)?, child.cnode.slot(slots.untyped))?;
        let note: Notification = place.nursery.make(0)?;
        note.bind(&made.task)?;
        for (which, value) in [
            (Of::Id, made.id.raw()),
            (Of::Incarnation, place.incarnation),
            (Of::Process, number as u64),
            (Of::Cpu, u64::from(cpu)),
            (Of::Priority, u64::from(priority)),
            (Of::Finished, 0),
            (Of::Suspended, 0),
            (Of::Intent, 0),
            (Of::CancelsAsked, 0),
            (Of::CancelsSeen, 0),
        ] {
            board.seats[seat].set(which, value);
        }
        // The new task need not receive the bits that were raised at the old one.
        (0..seats).for_each(|from| forgive(board, from, seat));
        for group in &self.groups {
            group.expose_notification(note_exposure(seats, seat), &note)?;
            group.expose_task(task_exposure(seat), &made.task)?;
        }
        made.task.resume()?;
        place.task = Some(made.task);
        board.seats[seat].set(Of::Births, board.seats[seat].get(Of::Kills));
        Ok(())
    }

    /// Ends the task of a seat and takes back its memory.
    pub fn empty(&mut self, board: &'static Board, seat: usize, random: &mut Random) -> Result<(), Failure> {
        board.add(Total::Kills, 1);
        board.seats[seat].word(Of::Kills).fetch_add(1, core::sync::atomic::Ordering::AcqRel);
        board.seats[seat].set(Of::Doomed, board.seats[seat].get(Of::Id));
        board.event(DIRECTOR, Event::Kill, seat, board.seats[seat].get(Of::Kills));
        let place = &mut self.seats[seat];
        if let Some(task) = place.task.take() {
            if random.chance(50) {
                task.kill()?;
            }
            // The task uses memory that the reset takes away, so it ends first.
            end(&task)?;
        }
        place.nursery.reset()?;
        // A notification may have been under way when its sender was ended.
        let intent = board.seats[seat].get(Of::Intent) as usize;
        if intent > 0 {
            forgive(board, seat, intent - 1);
        }
        Ok(())
    }

    pub fn cancel(&self, board: &'static Board, seat: usize) -> Result<(), Failure> {
        let Some(task) = &self.seats[seat].task else { return Ok(()) };
        board.add(Total::Cancels, 1);
        board.seats[seat].word(Of::CancelsAsked).fetch_add(1, core::sync::atomic::Ordering::AcqRel);
        board.event(DIRECTOR, Event::Cancel, seat, 0);
        Ok(task.cancel()?)
    }

    /// Suspends a seat's task, or resumes it.
    pub fn suspend(&self, board: &'static Board, seat: usize, on: bool) -> Result<(), Failure> {
        let Some(task) = &self.seats[seat].task else { return Ok(()) };
        board.seats[seat].set(Of::Suspended, u64::from(on));
        board.event(DIRECTOR, if on { Event::Suspend } else { Event::Resume }, seat, 0);
        if on {
            board.add(Total::Suspensions, 1);
            return Ok(task.suspend()?);
        }
        Ok(task.resume()?)
    }

    /// Moves a seat's task to another CPU, or tells it to move when nothing keeps it.
    pub fn send_to(&self, board: &'static Board, seat: usize, cpu: u32) -> Result<(), Failure> {
        let Some(task) = &self.seats[seat].task else { return Ok(()) };
        board.event(DIRECTOR, Event::Move, seat, cpu.into());
        match task.move_to(cpu) {
            Ok(moves) => {
                board.seats[seat].set(Of::Cpu, cpu.into());
                board.add(if moves == Moves::Now { Total::Moves } else { Total::Later }, 1);
                Ok(())
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Resumes all tasks.
    pub fn resume_all(&self, board: &'static Board) -> Result<(), Failure> {
        for seat in 0..self.plan.seats {
            if board.seats[seat].get(Of::Suspended) != 0 {
                self.suspend(board, seat, false)?;
            }
        }
        board.event(DIRECTOR, Event::Resume, NOBODY, 0);
        Ok(())
    }
}

/// Notes that `to` need not receive what `from` has raised there so far.
fn forgive(board: &'static Board, from: usize, to: usize) {
    use core::sync::atomic::Ordering::{Acquire, Release};
    let noted = board.pair(Pair::Noted, from, to).load(Acquire);
    board.pair(Pair::Heard, from, to).store(noted, Release);
}
