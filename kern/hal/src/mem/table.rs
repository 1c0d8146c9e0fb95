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

/// One table.
#[repr(C, align(4096))]
pub struct Table(pub [AtomicU64; 512]);

/// How tables are reached by physical address.
pub trait TableMemory {
    /// # Safety
    /// `at` is the physical address of a page table that stays one for as long as the reference is
    /// used.
    unsafe fn table(&self, at: u64) -> &Table;
}

/// The kernel's direct map.
#[derive(Clone, Copy)]
pub struct DirectMap;

impl TableMemory for DirectMap {
    unsafe fn table(&self, at: u64) -> &Table {
        // SAFETY: RAM is mapped there for the kernel's lifetime; it is a table (caller); all access
        // is atomic.
        unsafe { &*((layout::DIRECT_MAP + at) as *const Table) }
    }
}

/// Gives physical addresses of zeroed frames for new tables, or `None` when out of them.
pub type TableSource<'a> = &'a mut dyn FnMut() -> Option<u64>;

/// Why a change of a page table is impossible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// Something is mapped there already.
    Occupied,
    /// No frame left for another table.
    NoTable,
    /// Nothing is mapped there, or with another page size.
    NotMapped,
    /// Outside of what may be mapped, or off its page boundary.
    BadAddress,
}

/// A mapped page.
pub struct Leaf {
    pub frame: u64,
    /// 1 = 4 KiB, 2 = 2 MiB, 3 = 1 GiB.
    pub level: u32,
    pub flags: Flags,
}

impl Leaf {
    fn new(entry: u64, level: u32) -> Leaf {
        let flags = Flags::from_bits_truncate(entry & !ADDRESS);
        Leaf { frame: entry & ADDRESS & !(page_size(level) - 1), level, flags }
    }
}

/// Bytes that one entry of a table of `level` maps.
pub const fn page_size(level: u32) -> u64 {
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

fn present(entry: u64) -> bool {
    entry & Flags::PRESENT.bits() != 0
}

fn is_leaf(entry: u64, level: u32) -> bool {
    level == 1 || (level < 4 && entry & Flags::HUGE_PAGE.bits() != 0)
}

/// A set of page tables, opened for changes.
pub struct Space<'m, M: TableMemory> {
    mem: &'m M,
    root: u64,
    /// What entries that lead to tables get (besides the address).
    inner: Flags,
}

impl<'m, M: TableMemory> Space<'m, M> {
    /// # Safety
    /// `root` is the physical address of a PML4 whose tables `mem` reaches; nobody else changes
    /// them, or frees them, while the `Space` is used. Mapping and unmapping through it is subject
    /// to the caller's own promises about the memory that appears or disappears.
    pub unsafe fn open(mem: &'m M, root: u64, inner: Flags) -> Space<'m, M> {
        Space { mem, root, inner }
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
        tables: TableSource<'_>,
    ) -> Result<(), MapError> {
        let mut done = 0;
        while done < len {
            let (v, p) = (at + done, frame + done);
            let fits =
                |level: u32| (v | p).is_multiple_of(page_size(level)) && len - done >= page_size(level);
            let level = (1..=max_level).rev().find(|&l| fits(l)).ok_or(MapError::BadAddress)?;
            let entry = self.entry(v, level, Some(tables))?;
            if present(entry.load(Ordering::Relaxed)) {
                return Err(MapError::Occupied);
            }
            entry.store(p | leaf_bits(flags, level), Ordering::Release);
            done += page_size(level);
        }
        Ok(())
    }

    /// Changes the flags of the page at `at`.
    pub fn protect(&self, at: u64, level: u32, flags: Flags) -> Result<(), MapError> {
        let entry = self.leaf_entry(at, level)?;
        let frame = Leaf::new(entry.load(Ordering::Relaxed), level).frame;
        entry.store(frame | leaf_bits(flags, level), Ordering::Release);
        Ok(())
    }

    /// Returns the mapping at `at`.
    pub fn lookup(&self, at: u64) -> Option<Leaf> {
        let mut table = self.root;
        for level in (1..=4).rev() {
            // SAFETY: `table` is the root (`open`) or was found in an entry of one of its tables.
            let entry =
                unsafe { self.mem.table(table) }.0[layout::table_index(at, level)].load(Ordering::Acquire);
            if !present(entry) {
                return None;
            }
            if is_leaf(entry, level) {
                return Some(Leaf::new(entry, level));
            }
            table = entry & ADDRESS;
        }
        None
    }

    /// Replaces large pages around `at` by smaller ones until `at` starts a page of `level`.
    pub fn split(&self, at: u64, level: u32, tables: TableSource<'_>) -> Result<(), MapError> {
        loop {
            let leaf = self.lookup(at).ok_or(MapError::NotMapped)?;
            if leaf.level <= level {
                return Ok(());
            }
            let small = page_size(leaf.level - 1);
            let table = tables().ok_or(MapError::NoTable)?;
            let bits = leaf_bits(leaf.flags, leaf.level - 1);
            // SAFETY: a zeroed frame that we were given to be a table.
            for (i, slot) in (0..).zip(&unsafe { self.mem.table(table) }.0) {
                slot.store((leaf.frame + i * small) | bits, Ordering::Relaxed);
            }
            let entry = self.leaf_entry(at & !(page_size(leaf.level) - 1), leaf.level)?;
            entry.store(table | self.inner.bits(), Ordering::Release);
        }
    }

    /// Returns the entry of `level` for `at`; makes the tables on the way if it may.
    fn entry(
        &self,
        at: u64,
        level: u32,
        mut tables: Option<TableSource<'_>>,
    ) -> Result<&AtomicU64, MapError> {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            // SAFETY: as in `lookup`.
            let slot = &unsafe { self.mem.table(table) }.0[layout::table_index(at, above)];
            let entry = slot.load(Ordering::Acquire);
            if present(entry) {
                if is_leaf(entry, above) {
                    return Err(MapError::Occupied);
                }
                table = entry & ADDRESS;
                continue;
            }
            let source = tables.as_mut().ok_or(MapError::NotMapped)?;
            table = source().ok_or(MapError::NoTable)?;
            slot.store(table | self.inner.bits(), Ordering::Release);
        }
        // SAFETY: as in `lookup`.
        Ok(&unsafe { self.mem.table(table) }.0[layout::table_index(at, level)])
    }

    fn leaf_entry(&self, at: u64, level: u32) -> Result<&AtomicU64, MapError> {
        if !at.is_multiple_of(page_size(level)) {
            return Err(MapError::BadAddress);
        }
        let entry = self.entry(at, level, None).map_err(|_| MapError::NotMapped)?;
        let value = entry.load(Ordering::Relaxed);
        if present(value) && is_leaf(value, level) { Ok(entry) } else { Err(MapError::NotMapped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use std::boxed::Box;
    use std::vec::Vec;

    /// Tables in host memory; table `i` has physical address `i * 4096`.
    struct Host {
        tables: Vec<Box<Table>>,
        used: Cell<u64>,
    }

    impl Host {
        fn new(count: usize) -> Host {
            let table = || Box::new(Table([const { AtomicU64::new(0) }; 512]));
            Host { tables: (0..count).map(|_| table()).collect(), used: Cell::new(0) }
        }

        fn take(&self) -> Option<u64> {
            self.used.set(self.used.get() + 1);
            (self.used.get() < self.tables.len() as u64).then(|| self.used.get() * 4096)
        }
    }

    impl TableMemory for Host {
        unsafe fn table(&self, at: u64) -> &Table {
            &self.tables[(at / 4096) as usize]
        }
    }

    const FLAGS: Flags = Flags::WRITABLE.union(Flags::NO_EXECUTE);

    #[test]
    fn pages_of_two_sizes_do_not_overlap() {
        let host = Host::new(8);
        // SAFETY: table 0 of the host memory.
        let space = unsafe { Space::open(&host, 0, Flags::PRESENT | Flags::WRITABLE) };
        let mut take = || host.take();
        space.map_range(0x20_0000, 0x40_0000, page_size(2), 2, FLAGS, &mut take).unwrap();
        let leaf = space.lookup(0x20_1000).unwrap();
        assert_eq!((leaf.frame, leaf.level), (0x40_0000, 2));
        assert_eq!(space.map_range(0x20_1000, 0, page_size(1), 1, FLAGS, &mut take), Err(MapError::Occupied));
        assert!(space.lookup(0x20_0000).unwrap().flags.contains(FLAGS));
        space.protect(0x20_0000, 2, Flags::NO_EXECUTE).unwrap();
        assert!(!space.lookup(0x20_0000).unwrap().flags.contains(Flags::WRITABLE));
        assert_eq!(space.protect(0x20_0000, 1, FLAGS), Err(MapError::NotMapped));
        assert_eq!(space.map_range(0x1001, 0, page_size(1), 1, FLAGS, &mut take), Err(MapError::BadAddress));
    }

    #[test]
    fn running_out_of_tables_is_an_error() {
        let host = Host::new(3);
        // SAFETY: table 0 of the host memory.
        let space = unsafe { Space::open(&host, 0, Flags::PRESENT) };
        assert_eq!(
            space.map_range(0x1000, 0, page_size(1), 1, FLAGS, &mut || host.take()),
            Err(MapError::NoTable)
        );
    }

    #[test]
    fn a_split_page_maps_the_same() {
        let host = Host::new(8);
        // SAFETY: table 0 of the host memory.
        let space = unsafe { Space::open(&host, 0, Flags::PRESENT | Flags::WRITABLE) };
        let mut take = || host.take();
        let flags = Flags::WRITABLE | Flags::NO_EXECUTE | Flags::GLOBAL;
        space.map_range(0x4000_0000, 0x8000_0000, page_size(3), 3, flags, &mut take).unwrap();
        space.split(0x4020_3000, 1, &mut take).unwrap();
        for (at, level) in [(0x4020_3000, 1), (0x4020_0000, 1), (0x4040_0000, 2), (0x4000_0000, 2)] {
            let leaf = space.lookup(at).unwrap();
            assert_eq!((leaf.frame, leaf.level), (at + 0x4000_0000, level));
            assert!(leaf.flags.contains(flags));
        }
    }
}
