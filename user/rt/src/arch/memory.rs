//! Access to memory by its address: memory that a parent mapped before the program began, frames
//! that are mapped at the window, and memory shared with other processes.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use abi::events::{EventControl, EventState, STATUS_PER_PAGE, pool_pages};
use abi::status::StatusWord;
use abi::{BootPage, Error, PAGE_SIZE, Power};

use crate::cap::{Access, Frame, VSpace};
use crate::events::Cell;
use crate::invoke::Pages;
use crate::layout::WINDOW_VA;
use crate::paging::Region;
use crate::{Refusal, Result};

/// Returns the page of facts that the program was started with.
pub fn boot_page() -> &'static BootPage {
    // SAFETY: the maker of this process mapped a whole `BootPage` there, read-only and for as long
    // as the process lives; all its fields are valid for every bit pattern.
    unsafe { &*(abi::BOOT_PAGE_VA as *const BootPage) }
}

/// Returns the archive, or the program's own ELF file; empty if the process was given none.
pub fn archive() -> &'static [u8] {
    // SAFETY: the maker of this process mapped that many bytes there, read-only and for good.
    unsafe { core::slice::from_raw_parts(abi::ARCHIVE_VA as *const u8, boot_page().archive_len as usize) }
}

/// Returns the bytes of a boot page's fields, as a process finds them. Padding follows these bytes.
pub fn page_bytes(page: &BootPage) -> &[u8] {
    const FIELDS: usize = core::mem::offset_of!(BootPage, cmdline) + abi::CMDLINE_MAX;
    const WORDS: usize = 9 * size_of::<u64>();
    const POWER: usize = size_of::<u64>() + size_of::<u32>() + 6 * size_of::<u16>();
    const { assert!(core::mem::offset_of!(BootPage, power) == WORDS && size_of::<Power>() == POWER) };
    const { assert!(FIELDS == WORDS + POWER + abi::BOOT_UNTYPED_MAX + abi::CMDLINE_MAX) };
    // SAFETY: these bytes are nine words, the numbers of `Power` and two byte arrays with nothing
    // in between (asserted), all initialised, and live as long as `page`.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(page).cast::<u8>(), FIELDS) }
}

/// Set while a frame is seen through the window.
static WINDOW_OPEN: AtomicBool = AtomicBool::new(false);

/// Maps a 4 KiB frame in the process's window, lets `fill` write it, and unmaps it.
///
/// [`Error::InUse`] where the window is open already (another task of this process uses it).
pub fn with_frame<R>(own: &VSpace, frame: &Frame, fill: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
    with_page(own, frame, 0, fill)
}

/// Maps page `page` of a frame that has several pages in the process's window, and lets `fill`
/// write it.
pub fn with_page<R>(own: &VSpace, frame: &Frame, page: u64, fill: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
    in_window(|| {
        show(own, frame, Pages { first: page, count: 1 }, Access::Write, || {
            // SAFETY: the page was just mapped there, writable (the kernel refuses to map over
            // another mapping), `WINDOW_OPEN` keeps every other user away, and it goes only after
            // `fill` is done with the slice. Bytes of a frame that another process has mapped, too,
            // may change under it: frames that are filled here are not shared yet, which the
            // callers (`spawn`, and a pager) see to.
            fill(unsafe { core::slice::from_raw_parts_mut(WINDOW_VA as *mut u8, PAGE_SIZE as usize) })
        })
    })
}

/// Maps page `page` of a frame in the process's window for reading alone, because the page may be
/// executable elsewhere; and lets `read` read it.
pub fn read_page<R>(own: &VSpace, frame: &Frame, page: u64, read: impl FnOnce(&[u8]) -> R) -> Result<R> {
    in_window(|| {
        show(own, frame, Pages { first: page, count: 1 }, Access::Read, || {
            // SAFETY: as above, and nobody may write the page meanwhile, which the caller (a pager)
            // sees to.
            read(unsafe { core::slice::from_raw_parts(WINDOW_VA as *const u8, PAGE_SIZE as usize) })
        })
    })
}

fn in_window<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    if WINDOW_OPEN.swap(true, Ordering::Acquire) {
        return Err(Refusal::local(Error::InUse, WINDOW_VA));
    }
    let shown = work();
    WINDOW_OPEN.store(false, Ordering::Release);
    shown
}

fn show<R>(own: &VSpace, frame: &Frame, page: Pages, access: Access, work: impl FnOnce() -> R) -> Result<R> {
    own.map_pages(frame, WINDOW_VA, access, page)?;
    let result = work();
    own.unmap_pages(frame, WINDOW_VA, page)?;
    Ok(result)
}

/// Maps frames of one page each, one after the other, at `address`, for ever. Returns their words,
/// which other tasks may write at any time.
pub fn map_words(
    own: &VSpace,
    frames: impl Iterator<Item = Frame>,
    address: u64,
) -> Result<&'static [AtomicU64]> {
    map_runs(own, frames, 1, address)
}

/// Maps frames of `pages_each` pages each, one after the other, at `address`, for ever. Returns
/// their words, which other tasks may write at any time.
pub fn map_runs(
    own: &VSpace,
    frames: impl Iterator<Item = Frame>,
    pages_each: u64,
    address: u64,
) -> Result<&'static [AtomicU64]> {
    let mut pages = 0;
    for frame in frames {
        let all = Pages { first: 0, count: pages_each };
        own.map_pages(&frame, address + pages * PAGE_SIZE, Access::Write, all)?;
        pages += pages_each;
    }
    // SAFETY: all pages were just mapped, writable, and nothing of this runtime ever unmaps them.
    // Words are atomics: others that have the frames may change them at any time.
    Ok(unsafe { mapped_words(address, (pages * PAGE_SIZE / 8) as usize) })
}

/// Maps views of a device's memory with so many pages each, one after the other, at `address`, for
/// ever. Returns their words of 32 bits, which the device may change at any time. Where they may
/// only be read, a write is a fault.
pub fn map_views(
    own: &VSpace,
    views: impl IntoIterator<Item = (Frame, u64)>,
    address: u64,
    access: Access,
) -> Result<&'static [AtomicU32]> {
    let mut pages = 0;
    for (view, count) in views {
        own.map_pages(&view, address + pages * PAGE_SIZE, access, Pages { first: 0, count })?;
        pages += count;
    }
    // SAFETY: all pages were just mapped, readable, and nothing of this runtime ever unmaps them.
    // Words are atomics: the device may change them at any time, and where they may not be written
    // a store is a fault and changes nothing.
    Ok(unsafe { core::slice::from_raw_parts(address as *const AtomicU32, (pages * PAGE_SIZE / 4) as usize) })
}

/// Returns words that the process's maker mapped at `address`.
///
/// # Safety
/// `count` words are mapped there, writable, for as long as the process lives, and are only ever
/// accessed as atomics.
pub unsafe fn mapped_words(address: u64, count: usize) -> &'static [AtomicU64] {
    // SAFETY: the caller says so.
    unsafe { core::slice::from_raw_parts(address as *const AtomicU64, count) }
}

/// The pages of an event pool.
#[derive(Clone, Copy, Debug)]
pub struct EventPages {
    pub control: &'static EventControl,
    pub state: &'static EventState,
    pub stamps: &'static [AtomicU32],
    pub cells: &'static [Cell],
    /// Where the pool's pages of status words begin, if it has some.
    behind: u64,
}

/// Returns the pages of an event pool that the kernel has just mapped at `address`. The runtime
/// never unmaps them.
pub(crate) fn event_pages(address: u64, cells_log2: u8) -> EventPages {
    let (told, cells) = (address + EventControl::PAGES * PAGE_SIZE, 1 << cells_log2);
    let stamps = told + size_of::<EventState>() as u64;
    let first = told + EventState::pages(cells_log2) * PAGE_SIZE;
    let behind = address + pool_pages(cells_log2) * PAGE_SIZE;
    // SAFETY: `PoolBind` maps these pages, laid out so, and answers when they are there; nobody
    // unmaps them but the end of the pool, behind which an access faults. All of it is atomics,
    // which the kernel writes at any time.
    unsafe {
        EventPages {
            control: &*(address as *const EventControl),
            state: &*(told as *const EventState),
            behind,
            stamps: core::slice::from_raw_parts(stamps as *const AtomicU32, cells),
            cells: core::slice::from_raw_parts(first as *const Cell, cells),
        }
    }
}

/// Returns the status words of a pool that is this process's own.
pub(crate) fn status_words(pages: &EventPages) -> &'static [StatusWord] {
    let count = pages.state.status_pages.load(Ordering::Relaxed) as usize * STATUS_PER_PAGE;
    // SAFETY: as for the other pages of the pool; the kernel wrote their number when it made the
    // pool, and nobody else can.
    unsafe { core::slice::from_raw_parts(pages.behind as *const StatusWord, count) }
}

/// Returns the words of a region that a pager serves.
pub fn region_words(region: &Region) -> &[AtomicU64] {
    // SAFETY: the pager said that the region is there, for this process alone to give back, which
    // takes the region by value. Other holders of a view use atomics, too. A pager that does not
    // keep its word makes the access fault.
    unsafe { mapped_words(region.address(), (region.pages() * PAGE_SIZE / 8) as usize) }
}
