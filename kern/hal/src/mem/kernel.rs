//! The kernel's own half of the address space.
//!
//! The boot CPU builds it once, in new page tables: direct map (RAM, and the page of the text
//! screen), image with W^X, per-CPU windows, device registers, entry slots. After [`seal`] the
//! upper half of the top-level table never changes again (its lower levels only by [`map_device`]),
//! so every VSpace has a copy of the same 256 entries ([`top_half`]), and later changes at lower
//! levels apply to all of them.
//!
//! [`seal`] removes write access when the other CPUs are up, and flushes the boot CPU's TLB. The
//! other CPUs flush when they are let into the kernel ([`start`](crate::cpu::start)), before they
//! run anything that could write there. After that no translation that a CPU may have ever changes:
//! [`map_device`] only adds mappings.
//!
//! In the direct map, too, the kernel's text, constants and sealed data are read-only. So the
//! direct map shows them in pages of 4 KiB from the start.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;
use x86_64::structures::paging::PageTableFlags as Flags;

use super::ranges::{FreeMemory, Range};
use super::table::{MapError, Space, Table};
use super::tlb;
use crate::boot::info::BootInfo;
use crate::cpu::features::Features;
use crate::cpu::syscall::{SLOTS, Slots};
use crate::layout::{
    self, DEVICE_WINDOW, DEVICE_WINDOW_SIZE, DIRECT_MAP, DIRECT_MAP_SIZE, ENTRY_SLOTS, KERNEL_BASE, PAGE,
};

/// Constants, and firmware tables.
pub const READ_ONLY: Flags = Flags::PRESENT.union(Flags::GLOBAL).union(Flags::NO_EXECUTE);
const READ_WRITE: Flags = READ_ONLY.union(Flags::WRITABLE);
const EXECUTE: Flags = Flags::PRESENT.union(Flags::GLOBAL);
/// Device registers: uncached, readable and writable.
pub const DEVICE: Flags = READ_WRITE.union(Flags::NO_CACHE).union(Flags::WRITE_THROUGH);

/// Boot-time tables must lie below this: the boot page tables show no more.
const BOOT_LIMIT: u64 = 4 << 30;

/// What the direct map does not show.
const BEYOND: Option<Range> = Range::new(DIRECT_MAP_SIZE, u64::MAX);

unsafe extern "C" {
    static __boot_start: u8;
    static __boot_end: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __sealed_start: u8;
    static __sealed_end: u8;
    static __image_end: u8;
}

/// Physical address of the kernel's top-level table; 0 before it exists.
static ROOT: AtomicU64 = AtomicU64::new(0);
/// Memory for boot-time structures; the rest becomes Untyped.
static FREE: Mutex<FreeMemory> = Mutex::new(FreeMemory::new());
/// Next free address of the device window.
static DEVICE_NEXT: Mutex<u64> = Mutex::new(DEVICE_WINDOW);

/// Returns the physical range of a part of the image, from its linker symbols.
fn image_part(start: *const u8, end: *const u8) -> Option<Range> {
    Range::new((start as u64).checked_sub(KERNEL_BASE)?, (end as u64).checked_sub(KERNEL_BASE)?)
}

/// Returns the boot segment: entry code, boot stack and boot page tables.
pub fn boot_segment() -> Option<Range> {
    // The boot segment is linked at its load address.
    Range::new((&raw const __boot_start) as u64, (&raw const __boot_end) as u64)
}

/// Memory after the kernel's image begins at a multiple of this, so that slightly different kernels
/// find the same memory and their states can be compared. Images end in the middle of such a piece:
/// those that export their state at 2.25 MiB.
const IMAGE_GRAIN: u64 = 1 << 20;

/// Notes what memory is free: what the loader calls usable, less everything in use.
pub fn find_free_memory(info: &BootInfo) {
    let mut free = FREE.lock();
    for region in info.regions.iter().filter(|r| r.kind == crate::boot::info::RegionKind::Usable) {
        free.add(region.range);
    }
    let used = info.regions.iter().filter(|r| r.kind != crate::boot::info::RegionKind::Usable);
    let module = info.module.into_iter();
    let image_end = ((&raw const __image_end) as u64 - KERNEL_BASE).next_multiple_of(IMAGE_GRAIN);
    let image = Range::new(boot_segment().map_or(0, Range::start), image_end);
    // Page 0: the real-mode interrupt table and the BIOS data area.
    let page_0 = Range::new(0, PAGE);
    for range in used.map(|r| r.range).chain(module).chain(image).chain(page_0).chain(BEYOND) {
        free.remove(range);
    }
}

/// Calls `f` with the list of free memory.
pub fn with_free_memory<R>(f: impl FnOnce(&mut FreeMemory) -> R) -> R {
    f(&mut FREE.lock())
}

/// Makes the boot archive whole pages of its own: zeroes the rest of its last page, or copies it
/// where the loader did not put it on a page. The archive is mapped to user level, so nothing else
/// may be in its pages. Below 4 GiB, before the other CPUs run.
pub fn settle_module(module: Range) -> Result<Range, MapError> {
    if module.start().is_multiple_of(PAGE) {
        let rest = module.pages_around().end() - module.end();
        // SAFETY: the rest of a page that `find_free_memory` kept out of the free memory and that
        // nothing uses: what the loader may have left there has been copied.
        unsafe { core::ptr::write_bytes((DIRECT_MAP + module.end()) as *mut u8, 0, rest as usize) };
        return Ok(module);
    }
    let copy = take_pages(module.size(), PAGE).ok_or(MapError::NoTable)?;
    let (from, to) = ((DIRECT_MAP + module.start()) as *const u8, (DIRECT_MAP + copy.start()) as *mut u8);
    // SAFETY: RAM that the loader filled, to frames just taken: they don't overlap.
    unsafe { core::ptr::copy_nonoverlapping(from, to, module.size() as usize) };
    with_free_memory(|free| free.add(module));
    Range::sized(copy.start(), module.size()).ok_or(MapError::BadAddress)
}

/// Takes `size` bytes of RAM for the rest of the run, zeroed, below 4 GiB and above the first MiB.
pub fn take_pages(size: u64, align: u64) -> Option<Range> {
    let within = Range::new(1 << 20, BOOT_LIMIT)?;
    let piece = FREE.lock().take(size, align, within)?;
    // SAFETY: just taken, so nothing else uses it; RAM below 4 GiB is in the direct map from the
    // start.
    unsafe { core::ptr::write_bytes((DIRECT_MAP + piece.start()) as *mut u8, 0, piece.size() as usize) };
    Some(piece)
}

fn take_table() -> Option<u64> {
    take_pages(PAGE, PAGE).map(Range::start)
}

/// Returns the kernel's tables, for changes by the boot CPU (or under a lock of this module).
fn kernel_space() -> Space<'static> {
    // SAFETY: the root and its tables were made by `build` and are never freed. Callers are the
    // boot CPU while booting, or hold `DEVICE_NEXT` and touch only the device window. The direct
    // map shows all RAM.
    unsafe { Space::open(DIRECT_MAP, root(), &take_table) }
}

/// Returns what [`seal`] makes read-only: text, constants and sealed data.
fn fixed_part() -> Option<Range> {
    image_part(&raw const __text_start, &raw const __sealed_end)
}

/// Builds the kernel's half in fresh tables. They are not active yet.
pub fn build(info: &BootInfo, features: Features) -> Result<(), MapError> {
    let root = take_table().ok_or(MapError::NoTable)?;
    ROOT.store(root, Ordering::Release);
    let space = kernel_space();
    let show = |range: Range, max_level, flags| {
        space.map_range(DIRECT_MAP + range.start(), range.start(), range.size(), max_level, flags)
    };
    // Two regions may share a page that neither fills: here they are one range.
    let mut ram = FreeMemory::new();
    info.regions.iter().filter(|r| r.kind.is_ram()).for_each(|r| ram.add(r.range.pages_around()));
    fixed_part().into_iter().chain(BEYOND).for_each(|apart| ram.remove(apart));
    fixed_part().map_or(Ok(()), |fixed| show(fixed, 1, READ_WRITE))?;
    let max_level = if features.contains(Features::HUGE_PAGES) { 3 } else { 2 };
    ram.ranges().iter().try_for_each(|range| show(*range, max_level, READ_WRITE))?;
    info.text_screen().map_or(Ok(()), |screen| show(screen, 1, DEVICE))?;
    // The image, piece by piece; constants lie between text and sealed data.
    let (text_start, text_end) = (&raw const __text_start, &raw const __text_end);
    let (sealed_start, image_end) = (&raw const __sealed_start, &raw const __image_end);
    for (start, end, flags) in [
        (text_start, text_end, EXECUTE),
        (text_end, sealed_start, READ_ONLY),
        (sealed_start, image_end, READ_WRITE),
    ] {
        if let Some(part) = image_part(start, end) {
            space.map_range(KERNEL_BASE + part.start(), part.start(), part.size(), 1, flags)?;
        }
    }
    Ok(())
}

/// Makes text, constants and sealed data read-only in all their mappings, for this CPU immediately,
/// for the others from their release on. Maps the SYSCALL entry slots, which are sealed data, once
/// more, executable.
///
/// Requires: nothing writes sealed data any more, on any CPU. The others have not been released.
pub fn seal() -> Result<(), MapError> {
    #[cfg(feature = "faults")]
    crate::trap::attempt::write_before_sealing();
    let space = kernel_space();
    space.map_range(ENTRY_SLOTS, image_address(&raw const SLOTS), size_of::<Slots>() as u64, 1, EXECUTE)?;
    let pages = |range: Option<Range>| {
        range.into_iter().flat_map(|range| (range.start()..range.end()).step_by(PAGE as usize))
    };
    let sealed = image_part(&raw const __sealed_start, &raw const __sealed_end);
    pages(sealed).try_for_each(|at| space.protect(KERNEL_BASE + at, READ_ONLY))?;
    pages(fixed_part()).try_for_each(|at| space.protect(DIRECT_MAP + at, READ_ONLY))?;
    forget_write_access();
    Ok(())
}

/// Drops this CPU's translations that allow writing to memory that is read-only now.
/// Requires: the CPU has not left the kernel's own tables yet. Test builds try whether the
/// translations are gone, and some machines drop them with every new CR3.
pub(crate) fn forget_write_access() {
    tlb::flush_kernel();
    #[cfg(feature = "faults")]
    crate::trap::attempt::write_after_sealing();
}

/// Returns the physical address of the kernel's top-level table. Its lower half is empty.
pub fn root() -> u64 {
    ROOT.load(Ordering::Acquire)
}

/// Maps `len` bytes of RAM at `at` in a per-CPU window, readable and writable.
pub fn map_window(at: u64, frame: u64, len: u64) -> Result<(), MapError> {
    kernel_space().map_range(at, frame, len, 1, READ_WRITE)
}

/// Maps physical memory outside the direct map, as [`DEVICE`] or [`READ_ONLY`]; gives its address.
/// Never unmapped.
pub fn map_device(at: u64, len: u64, flags: Flags) -> Result<u64, MapError> {
    let pages = Range::sized(at, len).ok_or(MapError::BadAddress)?.pages_around();
    let mut next = DEVICE_NEXT.lock();
    if *next + pages.size() > DEVICE_WINDOW + DEVICE_WINDOW_SIZE {
        return Err(MapError::NoTable);
    }
    kernel_space().map_range(*next, pages.start(), pages.size(), 1, flags)?;
    let address = *next + (at - pages.start());
    *next += pages.size();
    Ok(address)
}

/// Returns whether the direct map shows all of `range`.
pub fn in_direct_map(range: Range) -> bool {
    let space = kernel_space();
    let pages = range.pages_around();
    pages.end() <= DIRECT_MAP_SIZE
        && (pages.start()..pages.end()).step_by(PAGE as usize).all(|at| space.is_mapped(DIRECT_MAP + at))
}

/// Returns whether the kernel's page tables map `address`, which is in the kernel's half.
pub fn is_mapped(address: u64) -> bool {
    root() != 0 && kernel_space().is_mapped(address)
}

/// Returns the physical address of something in the kernel image.
pub fn image_address<T>(at: *const T) -> u64 {
    at as u64 - KERNEL_BASE
}

/// Returns the upper 256 entries of the top-level table, which every VSpace shares.
pub fn top_half() -> &'static [AtomicU64] {
    // SAFETY: the kernel's root table, which is never freed, in the direct map.
    let root = unsafe { &*((DIRECT_MAP + root()) as *const Table) };
    &root.0[256..]
}

/// Returns whether `address` is in an unmapped guard page below a kernel stack.
pub fn is_stack_guard(address: u64) -> bool {
    let end = layout::CPU_WINDOWS + smp::cpu::MAX_CPUS as u64 * layout::CPU_WINDOW_SIZE;
    if !(layout::CPU_WINDOWS..end).contains(&address) {
        return false;
    }
    let offset = (address - layout::CPU_WINDOWS) % layout::CPU_WINDOW_SIZE;
    offset < layout::CPU_DATA_OFFSET && (offset / layout::STACK_SIZE).is_multiple_of(2)
}
