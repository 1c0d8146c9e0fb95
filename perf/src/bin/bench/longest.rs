//! System calls that do most work in the kernel for one call. They are not dear for what they do,
//! but the kernel must not do all of it in one entry: `max_interrupts_off` shows the longest.

use abi::events::CELLS_LOG2_MAX;
use abi::{LARGE_PAGE_LOG2, LARGE_PAGE_SIZE, ObjType, Op, PAGE_LOG2, PageMode, PageRange, Target};
use user_rt::arch::{Args, fast, syscall};
use user_rt::cap::{Access, Frame, Handle, Untyped};
use user_rt::invoke::Pins;
use user_rt::layout::slot;
use user_rt::pages::Pooled;
use user_rt::spawn::own;

use crate::block::{Block, Word};
use crate::life::named;
use crate::measure::{Verdict, measure_undone, park};

/// Memory of a row.
pub const LONG_LOG2: u64 = 22;
/// Memory of a row with two large pages.
pub const TWO_LARGE_LOG2: u64 = 23;
/// Samples of these rows.
pub const LONG_SAMPLES: u64 = 5;
/// Slots that they need.
pub const LONG_SLOTS: u32 = 256;
/// Where their pages are: addresses that no other task uses.
const LARGE_VA: u64 = 0x60_0000_0000;
/// Most entries of a CNode or Process; entries of a group's tables, and page tables of an address
/// space: as many as fit, the most are more.
const ENTRIES: u64 = 1 << 16;
const GROUP_ENTRIES: u64 = (1 << 15) - 1;
const TABLES: u64 = 256;

/// Makes objects, and takes the memory back before the next sample.
#[inline(always)]
fn make(index: u64, kind: ObjType, size: u64, count: u64) -> ! {
    let block = Block::at(index);
    let memory = Untyped::at(named(block, Word::Untyped));
    let source = Target::new(memory.cap(), kind as u32).0;
    let at = Target::new(slot::CNODE, named(block, Word::Slots).0).0;
    measure_undone(
        block,
        || fast::order(Op::Retype, [source, size, at, count]),
        || memory.take_back(Pins::Hold).is_ok(),
    )
}

pub extern "C" fn long_frame_client(index: u64) -> ! {
    make(index, ObjType::Frame, u64::from(LARGE_PAGE_LOG2), 1)
}

pub extern "C" fn long_pages_client(index: u64) -> ! {
    make(index, ObjType::Frame, u64::from(PAGE_LOG2) | u64::from(abi::FRAME_PAGES_MAX) << 8, 1)
}

pub extern "C" fn long_space_client(index: u64) -> ! {
    make(index, ObjType::VSpace, TABLES, 1)
}

pub extern "C" fn long_cnode_client(index: u64) -> ! {
    make(index, ObjType::CNode, ENTRIES, 1)
}

pub extern "C" fn long_process_client(index: u64) -> ! {
    make(index, ObjType::Process, ENTRIES, 1)
}

pub extern "C" fn long_group_client(index: u64) -> ! {
    make(index, ObjType::Group, GROUP_ENTRIES | GROUP_ENTRIES << 16, 1)
}

pub extern "C" fn long_pool_client(index: u64) -> ! {
    make(index, ObjType::EventPool, u64::from(CELLS_LOG2_MAX), 1)
}

/// Makes as many objects as one system call makes.
pub extern "C" fn long_count_client(index: u64) -> ! {
    make(index, ObjType::Notification, 0, u64::from(LONG_SLOTS))
}

/// Makes a large frame in one of the row's slots.
fn large_frame(block: Block, memory: Untyped, number: u32) -> Frame {
    let at = abi::Cap(named(block, Word::Slots).0 + number);
    if memory.retype::<Frame>(u64::from(LARGE_PAGE_LOG2), own::cnode().slot(at), 1).is_err() {
        park();
    }
    Frame::at(at)
}

/// Returns the large page at an address, to be sent in some way.
const fn large_page(address: u64, mode: PageMode) -> PageRange {
    PageRange { address, count: 1, large: true, mode }
}

/// Maps a large page that was in a pool.
pub extern "C" fn long_map_client(index: u64) -> ! {
    let block = Block::at(index);
    let memory = Untyped::at(named(block, Word::Untyped));
    let (space, frame) = (own::vspace(), large_frame(block, memory, 0));
    let page = large_page(LARGE_VA, PageMode::Move);
    let pool_and_back =
        || space.map_pool(&frame, LARGE_VA).is_ok() && space.drop_pages(Pooled::of(&page)).is_ok();
    if !pool_and_back() {
        park();
    }
    let map = Args::plain(Op::Map, space.arg(), frame.arg(), LARGE_VA, Access::Read as u64);
    let unmap = Args::plain(Op::Unmap, space.arg(), frame.arg(), LARGE_VA, 0);
    measure_undone(block, || syscall(map).info, || syscall(unmap).info.good() && pool_and_back())
}

/// Copies a large page that another pool sees, too.
pub extern "C" fn long_copy_client(index: u64) -> ! {
    let block = Block::at(index);
    let large = |number| large_frame(block, Untyped::at(named(block, Word::Untyped)), number);
    let (space, frame, fresh) = (own::vspace(), large(0), large(1));
    let (range, second) = (large_page(LARGE_VA, PageMode::Copy), LARGE_VA + LARGE_PAGE_SIZE);
    let [first, counts] = range.words();
    let share = Args { r9: counts, ..Args::plain(Op::PageTransfer, space.arg(), space.arg(), first, second) };
    if space.map_pool(&frame, LARGE_VA).is_err() || !syscall(share).info.good() {
        park();
    }
    let there = large_page(second, PageMode::Copy);
    let again = || {
        space.drop_pages(Pooled::of(&there)).is_ok()
            && space.protect_pooled(Pooled::of(&range), Access::Write).is_ok()
            && syscall(share).info.good()
    };
    let copy = Args::plain(Op::PageCopy, space.arg(), fresh.arg(), second, 0);
    measure_undone(block, || syscall(copy).info, again)
}
