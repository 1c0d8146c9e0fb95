//! What process 1 keeps of each process of the system.

use abi::PAGE_SIZE;
use protocols::system::{MEMORY_REST, process, text};
use user_rt::arch::memory;
use user_rt::archive::Program;
use user_rt::cap::Notification;
use user_rt::elf::{Image, ImageError};
use user_rt::invoke::{Pins, yield_now};
use user_rt::layout::TASK_STRIDE;
use user_rt::spawn::{Child, Nursery, Spawned};

use crate::front::Saved;
use crate::restarts::{Restarts, Rule};

/// Slots of process 1 for one process: what [`crate::launch`] makes for it.
pub const SLOTS: u32 = 64;
/// Attempts to reset a process's memory at a time: objects of it may be ending.
const CLEAR_TRIES: u32 = 20;
/// Page tables of a process that maps nothing of its own: those of the [layout](user_rt::layout).
const TABLES_LEAST: u64 = 24;
/// Page tables of a process with a pager, besides those that its regions fill: those above them,
/// and those in which they begin and end.
const PAGED_TABLES: u64 = 6;
/// Page tables of the process that gets the rest of the memory.
const TABLES_OF_REST: u32 = 128;
/// Bytes of a page table: the table itself, and what the kernel notes of each entry.
const TABLE_BYTES: u64 = 3 * PAGE_SIZE;
/// Bytes of a slot, and of what a process keeps of each task that it may have.
const SLOT_BYTES: u64 = 32;
const TASK_BYTES: u64 = 32;
/// Bytes of the objects of a process besides its pages and tables: more than they take.
const OBJECT_BYTES: u64 = 64 << 10;

/// What a process does.
#[derive(Debug)]
pub enum State {
    /// It runs, with this first task.
    Runs(Child, Spawned),
    /// It is started at this time, in microseconds since the machine began to count.
    Waits(u64),
    /// It has ended, and is not started again; or it has not been asked for yet.
    Ended,
}

/// A task of the process that waits for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    pub group: usize,
    /// Where it wants its capability.
    pub slot: u32,
    pub saved: Saved,
}

/// A process of the system.
pub struct Place<'a> {
    pub is: process::Reader<'a>,
    pub program: Program<'a>,
    /// Where it is made. A reset ends everything of it, and everything that it made of its memory.
    pub building: Nursery,
    /// The size of that memory, as a logarithm.
    pub log2: u8,
    pub state: State,
    pub restarts: Restarts,
    /// When it gave its last sign of life, in microseconds, or began.
    pub heard: u64,
    pub waiting: Option<Waiting>,
    /// The Notification that tells a scheduling policy of changes, once it has asked for it.
    pub bell: Option<Notification>,
    /// Its place in the description's list.
    pub number: u8,
    /// How often it has been started.
    pub starts: u32,
    /// Whether `building` is reset: nothing is left of the last process.
    pub is_clear: bool,
    /// How much process 1 may still say of the process, which might fill the log by it.
    pub notes: u8,
}

/// What process 1 says of a process between two starts, at most.
pub const NOTES: u8 = 32;

impl<'a> Place<'a> {
    pub fn name(&self) -> &'a str {
        text(self.is.get_name())
    }

    /// Returns the custom bits of the process in the group of its parent: its number, from 1, and
    /// in the high byte how often it has been started, modulo 256. So a call of an earlier process
    /// is not taken for one of its successor.
    pub const fn custom(&self) -> u16 {
        (self.number as u16 + 1) | (self.starts as u8 as u16) << 8
    }

    /// Returns the process, while it runs.
    pub const fn child(&self) -> Option<&Child> {
        if let State::Runs(child, _) = &self.state { Some(child) } else { None }
    }
}

impl Place<'_> {
    /// Returns when the next sign of life is due, if the process runs and gives any.
    pub fn next_sign(&self) -> Option<u64> {
        let heartbeat = self.is.get_heartbeat();
        // One that waits for a connection waits for process 1.
        let gives = heartbeat != 0 && self.child().is_some() && self.waiting.is_none();
        gives.then(|| self.heard.saturating_add(heartbeat))
    }

    /// Resets the memory of a process that has ended. Returns whether that is done: others may
    /// still hold a part of it, such as a pinned frame.
    pub fn clear(&mut self) -> bool {
        for _ in 0..CLEAR_TRIES {
            match self.building.try_reset(Pins::Hold) {
                Ok(_) => {
                    self.is_clear = true;
                    return true;
                }
                Err(_) => _ = yield_now(),
            }
        }
        false
    }
}

/// Returns the image of a process, whose file is what the process is given.
pub fn image<'a>(is: process::Reader<'_>, program: &Program<'a>) -> Result<Image<'a>, ImageError> {
    let mut image = Image::parse(program.file)?;
    if is.get_archive() {
        image.file = memory::archive();
    }
    Ok(image)
}

/// Returns what a description says of a process's restarts.
pub fn rule(is: process::Reader<'_>) -> Rule {
    let restart = is.get_restart();
    Rule {
        // What cannot be read is no wish for restarts.
        when: restart.get_when().unwrap_or(protocols::system::When::Never),
        wait: restart.get_wait(),
        most: restart.get_most(),
        limit: restart.get_limit(),
        within: restart.get_within(),
    }
}

/// Returns the size of a process's own Untyped, if that is to be made for it, as a logarithm.
pub fn memory_log2(is: process::Reader<'_>) -> Option<u8> {
    Some(is.get_memory()).filter(|log2| *log2 != 0 && *log2 != MEMORY_REST)
}

/// Returns how many page tables a process has: enough to map all its memory twice.
pub fn tables(is: process::Reader<'_>) -> u32 {
    if is.get_memory() == MEMORY_REST {
        return TABLES_OF_REST;
    }
    let per_table = PAGE_SIZE * 512;
    let tasks = (u64::from(is.get_tasks()) * TASK_STRIDE).div_ceil(per_table);
    let memory = memory_log2(is).map_or(0, |log2| (2u64 << log2).div_ceil(per_table));
    let pages = u64::from(is.get_pager().get_pages());
    // Between two regions is a page of nothing, and a region may have one page.
    let paged = if pages == 0 { 0 } else { PAGED_TABLES + pages.div_ceil(256) };
    (TABLES_LEAST + tasks + memory + paged).min(4096) as u32
}

/// Returns the size of the Untyped that holds a process and its memory, as a logarithm.
pub fn building_log2(is: process::Reader<'_>, image: &Image<'_>) -> u8 {
    let image_pages: u32 = image.segments().map(|segment| segment.pages()).sum();
    let file = (image.file.len() as u64).div_ceil(PAGE_SIZE);
    let pages = u64::from(image_pages) + file + u64::from(is.get_stack_pages());
    let objects = u64::from(is.get_slots()) * SLOT_BYTES + u64::from(is.get_tasks()) * TASK_BYTES;
    let tables = (1 + u64::from(tables(is))) * TABLE_BYTES;
    let building = pages * PAGE_SIZE + tables + objects + OBJECT_BYTES;
    let own = memory_log2(is).map_or(0, |log2| 1u64 << log2);
    // The process's own Untyped is made first, at a multiple of its size.
    (building + own).next_power_of_two().ilog2() as u8
}
