//! Walks and changes the page tables of the kernel's own half. (The page tables of user address
//! spaces are kernel objects: `kern_base::paging`.)
//!
//! A table is 512 atomic words, because the hardware reads them (and sets accessed and dirty bits)
//! at any time. The caller must have the right to change them: the boot CPU has it while booting.
//! An entry is always written whole, so the hardware sees the old or the new entry.
//!
//! Nothing here flushes a TLB: the callers know which CPUs may have which translations.

use core::sync::atomic::{AtomicU64, Ordering};

use kern_base::protection::Protection;
use x86_64::structures::paging::PageTableFlags as Flags;

use crate::layout::{self, HUGE_PAGE, LARGE_PAGE, PAGE};

/// Bits of an entry that hold the address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// What entries that lead to tables have besides the address.
const INNER: Flags = Flags::PRESENT.union(Flags::WRITABLE);

/// One table.
#[repr(C, align(4096))]
pub struct Table(pub [AtomicU64; 512]);

/// Why a change of a page table is impossible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// Something is mapped there already.
    Occupied,
    /// No frame left for another table.
    NoTable,
    /// No page of 4 KiB is mapped there.
    NotMapped,
    /// Outside of what may be mapped, or off its page boundary.
    BadAddress,
}

/// Returns the number of bytes that one entry of a page table of `level` maps.
const fn page_size(level: u32) -> u64 {
    match level {
        1 => PAGE,
        2 => LARGE_PAGE,
        _ => HUGE_PAGE,
    }
}

/// Returns the bits of an entry of `level` that maps a page, besides the address.
fn leaf_bits(flags: Flags, level: u32) -> u64 {
    let mut flags = flags | Flags::PRESENT;
    flags.set(Flags::HUGE_PAGE, level > 1);
    if Protection::NoExecute.is_off() {
        flags.remove(Flags::NO_EXECUTE);
    }
    flags.bits()
}

fn has(entry: u64, flag: Flags) -> bool {
    entry & flag.bits() != 0
}

/// A set of page tables, opened for changes.
pub struct Space<'t> {
    /// Where physical address 0 is mapped.
    memory: u64,
    root: u64,
    /// Gives the physical addresses of zeroed frames for new tables, or `None` when out of them.
    new_table: &'t dyn Fn() -> Option<u64>,
}

impl<'t> Space<'t> {
    /// # Safety
    /// `root` is the physical address of a PML4. It, its tables, and frames for new ones are mapped
    /// from `memory` on; nobody else changes them, or frees them, while the `Space` is used.
    /// Mapping through it is subject to the caller's own promises about the memory that appears.
    pub unsafe fn open(memory: u64, root: u64, new_table: &'t dyn Fn() -> Option<u64>) -> Space<'t> {
        Space { memory, root, new_table }
    }

    /// Maps `len` bytes with the largest pages (up to `max_level`) that fit. Never inlined: boot
    /// code maps in many places.
    #[inline(never)]
    pub fn map_range(
        &self,
        at: u64,
        frame: u64,
        len: u64,
        max_level: u32,
        flags: Flags,
    ) -> Result<(), MapError> {
        let mut done = 0;
        while done < len {
            let (v, p) = (at + done, frame + done);
            let fits =
                |level: u32| (v | p).is_multiple_of(page_size(level)) && len - done >= page_size(level);
            let level = (1..=max_level).rev().find(|&l| fits(l)).ok_or(MapError::BadAddress)?;
            self.map_page(v, p | leaf_bits(flags, level), level)?;
            done += page_size(level);
        }
        Ok(())
    }

    /// Writes the entry of a page of `level`, and makes the tables on the way to it.
    fn map_page(&self, at: u64, entry: u64, level: u32) -> Result<(), MapError> {
        loop {
            let (slot, found) = self.walk(at, level);
            if has(slot.load(Ordering::Relaxed), Flags::PRESENT) {
                return Err(MapError::Occupied);
            }
            if found == level {
                slot.store(entry, Ordering::Release);
                return Ok(());
            }
            let table = (self.new_table)().ok_or(MapError::NoTable)?;
            slot.store(table | INNER.bits(), Ordering::Release);
        }
    }

    /// Replaces the flags of the entry that maps the page of 4 KiB at the address `at`.
    pub fn protect(&self, at: u64, flags: Flags) -> Result<(), MapError> {
        let (slot, level) = self.walk(at, 1);
        let entry = slot.load(Ordering::Relaxed);
        if level != 1 || !has(entry, Flags::PRESENT) {
            return Err(MapError::NotMapped);
        }
        slot.store(entry & ADDRESS | leaf_bits(flags, level), Ordering::Release);
        Ok(())
    }

    /// Returns whether the page tables map the address `at`.
    pub fn is_mapped(&self, at: u64) -> bool {
        has(self.walk(at, 1).0.load(Ordering::Acquire), Flags::PRESENT)
    }

    /// Walks down to the entry of `level` for `at`, or to an entry above it that leads to no table.
    /// Returns that entry, and its level.
    fn walk(&self, at: u64, level: u32) -> (&AtomicU64, u32) {
        let (mut table, mut found) = (self.root, 4);
        loop {
            // SAFETY: `table` is the root or was found in an entry of one of its tables (`open`).
            // All access is atomic.
            let table_here = unsafe { &*((self.memory + table) as *const Table) };
            let slot = &table_here.0[layout::table_index(at, found)];
            let entry = slot.load(Ordering::Acquire);
            if found == level || !has(entry, Flags::PRESENT) || has(entry, Flags::HUGE_PAGE) {
                return (slot, found);
            }
            (table, found) = (entry & ADDRESS, found - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use std::vec::Vec;

    /// Tables in host memory; table `i` has physical address `i * 4096`.
    struct Host {
        tables: Vec<Table>,
        used: Cell<u64>,
    }

    impl Host {
        fn new(count: usize) -> Host {
            let table = || Table([const { AtomicU64::new(0) }; 512]);
            Host { tables: (0..count).map(|_| table()).collect(), used: Cell::new(0) }
        }

        fn with<R>(&self, work: impl FnOnce(Space<'_>) -> R) -> R {
            let take = || {
                self.used.set(self.used.get() + 1);
                (self.used.get() < self.tables.len() as u64).then(|| self.used.get() * 4096)
            };
            // SAFETY: table 0 of the host memory, which has all of them.
            work(unsafe { Space::open(self.tables.as_ptr() as u64, 0, &take) })
        }
    }

    const FLAGS: Flags = Flags::WRITABLE.union(Flags::NO_EXECUTE);

    /// Returns the entry that maps an address, and its level.
    fn found(space: &Space<'_>, at: u64) -> (u64, u32) {
        let (slot, level) = space.walk(at, 1);
        (slot.load(Ordering::Relaxed), level)
    }

    #[test]
    fn pages_of_two_sizes_do_not_overlap() {
        Host::new(8).with(|space| {
            space.map_range(0x20_0000, 0x40_0000, page_size(2), 2, FLAGS).unwrap();
            assert_eq!(found(&space, 0x20_1000), (0x40_0000 | leaf_bits(FLAGS, 2), 2));
            assert_eq!(space.map_range(0x20_1000, 0, page_size(1), 1, FLAGS), Err(MapError::Occupied));
            assert_eq!(space.protect(0x20_0000, Flags::NO_EXECUTE), Err(MapError::NotMapped));
            assert!(space.is_mapped(0x3f_ffff) && !space.is_mapped(0x40_0000));
            assert_eq!(space.map_range(0x1001, 0, page_size(1), 1, FLAGS), Err(MapError::BadAddress));
        });
    }

    #[test]
    fn ranges_are_mapped_with_the_largest_pages() {
        Host::new(8).with(|space| {
            space.map_range(0x3fff_f000, 0xbfff_f000, 0x4020_2000, 3, FLAGS).unwrap();
            for (at, level) in [(0x3fff_f000, 1), (0x4000_0000, 3), (0x8000_0000, 2), (0x8020_0000, 1)] {
                assert_eq!(found(&space, at), ((at + 0x8000_0000) | leaf_bits(FLAGS, level), level));
            }
            assert!(!space.is_mapped(0x3fff_e000) && !space.is_mapped(0x8020_1000));
        });
    }

    #[test]
    fn a_page_keeps_its_frame_when_its_flags_change() {
        Host::new(8).with(|space| {
            space.map_range(0x1000, 0x7000, page_size(1), 1, FLAGS).unwrap();
            space.protect(0x1000, Flags::NO_EXECUTE).unwrap();
            assert_eq!(found(&space, 0x1000), (0x7000 | leaf_bits(Flags::NO_EXECUTE, 1), 1));
            assert_eq!(space.protect(0x2000, FLAGS), Err(MapError::NotMapped));
        });
    }

    #[test]
    fn running_out_of_tables_is_an_error() {
        Host::new(3).with(|space| {
            assert_eq!(space.map_range(0x1000, 0, page_size(1), 1, FLAGS), Err(MapError::NoTable));
        });
    }
}
