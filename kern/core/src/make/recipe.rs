//! The types and sizes of objects to be made, and the memory that they take.

use abi::events::PoolSize;
use abi::{ObjType, PAGE_SIZE};
use kern_base::events::EventPool;
use kern_base::group::{Exposure, Group, Membership};
use kern_base::irq::IrqHandler;
use kern_base::limits::LOCK_WORK;
use kern_base::memory::{Frame, Untyped, VSpace};
use kern_base::notification::Notification;
use kern_base::paging::TABLE_BYTES;
use kern_base::port::IoPort;
use kern_base::process::{PROCESS_ALIGN, Process, TaskNumber};
use kern_base::reply::Reply;
use kern_base::sched_context::SchedContext;
use kern_base::sched_control::SchedControl;
use kern_base::slot::{CNode, Slot};
use kern_base::task::{TASK_BYTES, Task};

use crate::caps::ahead::Layout;
use crate::{Refusal, Result};

/// Most entries of a table object.
const ENTRIES_MAX: u64 = 1 << 16;
/// Work of a page that becomes a frame's.
const PAGE_WORK: u64 = 4;
/// Work of the kernel's half of a root table.
const ROOT_TABLE_WORK: u64 = LOCK_WORK;

/// Work of a process besides its memory: its serial number, its place among those of its root.
const PROCESS_WORK: u64 = 96;

/// The pages of a frame.
#[derive(Clone, Copy)]
pub struct Pages {
    pub log2: u8,
    pub count: u32,
}

impl Pages {
    /// Decodes the size of a frame to be made: in the low byte the base-2 logarithm of a page's
    /// size, above it the number of pages, where 0 means one.
    pub fn of(size: u64) -> Option<Pages> {
        let (log2, count) = (size as u8, u32::try_from(size >> 8).ok()?.max(1));
        let most = match log2 {
            abi::PAGE_LOG2 => abi::FRAME_PAGES_MAX,
            abi::LARGE_PAGE_LOG2 => 1,
            _ => return None,
        };
        (count <= most).then_some(Pages { log2, count })
    }

    pub fn bytes(self) -> u64 {
        u64::from(self.count) << self.log2
    }
}

/// The type and size of objects to make.
#[derive(Clone, Copy)]
pub struct Recipe {
    pub object_type: ObjType,
    pub size: u64,
}

impl Recipe {
    /// Checks the type and the size of objects to be made. The error's detail is the argument's
    /// position.
    pub fn new(raw_type: u32, size: u64) -> Result<Recipe> {
        let object_type =
            u8::try_from(raw_type).ok().and_then(ObjType::from_raw).ok_or(Refusal::argument(0))?;
        let fits = match object_type {
            ObjType::Untyped => (12..=40).contains(&size),
            ObjType::Frame => Pages::of(size).is_some(),
            ObjType::CNode | ObjType::Process => (1..=ENTRIES_MAX).contains(&size),
            ObjType::VSpace => (1..=4096).contains(&size),
            ObjType::Group => size >> 32 == 0 && size & 0xffff != 0 && size >> 16 != 0,
            ObjType::EventPool => pool_bytes(size) != 0,
            ObjType::Machine => false,
            ObjType::Task
            | ObjType::SchedContext
            | ObjType::SchedControl
            | ObjType::IrqHandler
            | ObjType::IoPort
            | ObjType::Notification
            | ObjType::Reply => size == 0,
        };
        if fits {
            Ok(Recipe { object_type, size })
        } else {
            Err(Refusal::argument(if raw_type == ObjType::Machine as u32 { 0 } else { 1 }))
        }
    }

    /// Returns the memory that one object takes, on a machine with this many CPUs.
    #[inline(always)]
    pub fn layout(self, cpus: usize) -> Layout {
        let size = self.size;
        match self.object_type {
            ObjType::Untyped => Layout::plain([size_of::<Untyped>() as u64, 0], 1 << size, 1 << size),
            ObjType::Frame => {
                let pages = Pages::of(size).unwrap_or(Pages { log2: abi::PAGE_LOG2, count: 1 });
                Layout::cleared([size_of::<Frame>() as u64, 0], 0, pages.bytes(), 1 << pages.log2)
                    .and_work(u64::from(pages.count) * PAGE_WORK)
            }
            ObjType::VSpace => {
                let tops = [size_of::<VSpace>() as u64, cpus as u64 * 8];
                Layout::cleared(tops, 0, (1 + size) * TABLE_BYTES, PAGE_SIZE).and_work(ROOT_TABLE_WORK)
            }
            ObjType::CNode => line::<CNode>(size * size_of::<Slot>() as u64),
            ObjType::Process => {
                let head = size_of::<Process>() as u64;
                let bytes = head + size * size_of::<TaskNumber>() as u64;
                Layout::cleared([0; 2], head, bytes, PROCESS_ALIGN).and_work(PROCESS_WORK)
            }
            ObjType::Group => {
                let members = size & 0xffff;
                let tables = (members * 8).next_multiple_of(64)
                    + (members * size_of::<Membership>() as u64).next_multiple_of(64);
                line::<Group>(tables + (size >> 16) * size_of::<Exposure>() as u64)
            }
            ObjType::EventPool => {
                Layout::cleared([size_of::<EventPool>() as u64, 0], 0, pool_bytes(size), PAGE_SIZE)
            }
            ObjType::Task => Layout::cleared([0; 2], size_of::<Task>() as u64, TASK_BYTES, PAGE_SIZE),
            ObjType::SchedContext => small::<SchedContext>(),
            ObjType::SchedControl => small::<SchedControl>(),
            ObjType::IrqHandler => small::<IrqHandler>(),
            ObjType::IoPort => small::<IoPort>(),
            ObjType::Notification => small::<Notification>(),
            ObjType::Reply => small::<Reply>(),
            ObjType::Machine => Layout::plain([0; 2], 0, 64),
        }
    }
}

/// Returns the memory of an event pool's pages, or 0 if no pool has this size.
#[cold]
#[inline(never)]
fn pool_bytes(size: u64) -> u64 {
    PoolSize::from_raw(size).map_or(0, PoolSize::pages) * PAGE_SIZE
}

/// Returns the layout of a `T` that its tables follow.
fn line<T>(tables: u64) -> Layout {
    let head = size_of::<T>() as u64;
    Layout::cleared([0; 2], head, head + tables, 64)
}

/// Returns the layout of a `T` alone.
const fn small<T>() -> Layout {
    Layout::plain([0; 2], (size_of::<T>() as u64).next_multiple_of(64), 64)
}
