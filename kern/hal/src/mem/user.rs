//! User address spaces: mapping and unmapping pages in a VSpace's tables.
//!
//! Only the user half, never page 0 nor the last page; never writable and executable at once. The
//! caller holds the VSpace's lock and flushes what has to be flushed.

use x86_64::structures::paging::PageTableFlags as Flags;

use super::table::{Leaf, MapError, Space, TableMemory, TableSource, page_size};
use crate::layout::{USER_END, USER_START};

const INNER: Flags = Flags::PRESENT.union(Flags::WRITABLE).union(Flags::USER_ACCESSIBLE);
/// Entries of the top-level table that belong to the user half.
const USER_SLOTS: usize = 256;

/// What a mapping allows besides reading, and what kind of memory it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rights {
    pub write: bool,
    pub execute: bool,
    /// Device registers: not cached.
    pub device: bool,
}

impl Rights {
    fn flags(self) -> Result<Flags, MapError> {
        if self.write && self.execute {
            return Err(MapError::WriteAndExecute);
        }
        let mut flags = Flags::PRESENT | Flags::USER_ACCESSIBLE;
        flags.set(Flags::WRITABLE, self.write);
        flags.set(Flags::NO_EXECUTE, !self.execute);
        flags.set(Flags::NO_CACHE | Flags::WRITE_THROUGH, self.device);
        Ok(flags)
    }
}

/// A page size that user mappings have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageSize {
    Small,
    Large,
}

impl PageSize {
    /// From the base-2 logarithm of the size.
    pub fn from_log2(log2: u8) -> Option<PageSize> {
        match log2 {
            12 => Some(PageSize::Small),
            21 => Some(PageSize::Large),
            _ => None,
        }
    }

    fn level(self) -> u32 {
        match self {
            PageSize::Small => 1,
            PageSize::Large => 2,
        }
    }
}

/// The user half of one VSpace's tables, opened for changes.
pub struct UserSpace<'m, M: TableMemory>(Space<'m, M>);

impl<'m, M: TableMemory> UserSpace<'m, M> {
    /// # Safety
    /// `root` is the top-level table of a VSpace whose tables `mem` reaches; the caller holds its lock
    /// for as long as this is used. What is mapped is memory that user level may have.
    pub unsafe fn open(mem: &'m M, root: u64) -> UserSpace<'m, M> {
        // SAFETY: the caller's promise; the range checks here keep changes to the user half.
        UserSpace(unsafe { Space::open(mem, root, INNER) })
    }

    /// Maps one page. New tables come from `tables`, zeroed.
    pub fn map(
        &self,
        at: u64,
        frame: u64,
        size: PageSize,
        rights: Rights,
        tables: TableSource<'_>,
    ) -> Result<(), MapError> {
        check_range(at, size)?;
        self.0.map(at, frame, size.level(), rights.flags()?, tables)
    }

    /// Takes one page away.
    pub fn unmap(&self, at: u64, size: PageSize) -> Result<Leaf, MapError> {
        check_range(at, size)?;
        self.0.unmap(at, size.level())
    }

    /// Takes away an empty table where a large page at `at` is to go; whether there was one.
    pub fn drop_empty_table(&self, at: u64) -> bool {
        check_range(at, PageSize::Large).is_ok() && self.0.drop_empty(at, PageSize::Large.level())
    }

    /// Changes what one page allows; gives what it allowed before.
    pub fn protect(&self, at: u64, size: PageSize, rights: Rights) -> Result<Leaf, MapError> {
        check_range(at, size)?;
        self.0.protect(at, size.level(), rights.flags()?)
    }

    /// What is mapped at an address of the user half.
    pub fn lookup(&self, at: u64) -> Option<Leaf> {
        (USER_START..USER_END).contains(&at).then(|| self.0.lookup(at))?
    }

    /// Shows every table frame except the root, for reclaim.
    pub fn for_each_table(&self, f: &mut dyn FnMut(u64)) {
        self.0.for_each_table(USER_SLOTS, f);
    }
}

fn check_range(at: u64, size: PageSize) -> Result<(), MapError> {
    let len = page_size(size.level());
    let inside = at >= USER_START && at.checked_add(len).is_some_and(|end| end <= USER_END);
    if inside && at.is_multiple_of(len) { Ok(()) } else { Err(MapError::BadAddress) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::table::Table;
    use core::cell::Cell;
    use core::sync::atomic::AtomicU64;
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

    const WRITE: Rights = Rights { write: true, execute: false, device: false };
    const EXECUTE: Rights = Rights { write: false, execute: true, device: false };
    const READ: Rights = Rights { write: false, execute: false, device: false };

    #[test]
    fn a_page_comes_and_goes() {
        let host = Host::new(8);
        // SAFETY: table 0 of the host memory.
        let space = unsafe { UserSpace::open(&host, 0) };
        let mut take = || host.take();
        let at = 0x40_0000;
        space.map(at, 0x7000, PageSize::Small, WRITE, &mut take).unwrap();
        let leaf = space.lookup(at + 0x123).unwrap();
        assert_eq!((leaf.frame, leaf.level), (0x7000, 1));
        assert!(leaf.flags.contains(Flags::USER_ACCESSIBLE | Flags::WRITABLE | Flags::NO_EXECUTE));
        assert_eq!(space.map(at, 0x8000, PageSize::Small, WRITE, &mut take), Err(MapError::Occupied));
        assert!(!space.protect(at, PageSize::Small, EXECUTE).unwrap().flags.contains(Flags::HUGE_PAGE));
        assert!(!space.lookup(at).unwrap().flags.intersects(Flags::WRITABLE | Flags::NO_EXECUTE));
        assert_eq!(space.unmap(at, PageSize::Small).unwrap().frame, 0x7000);
        assert_eq!(space.lookup(at), None);
        assert_eq!(space.unmap(at, PageSize::Small), Err(MapError::NotMapped));
        let mut seen = Vec::new();
        space.for_each_table(&mut |t| seen.push(t));
        assert_eq!(seen, [0x3000, 0x2000, 0x1000]);
    }

    #[test]
    fn large_and_small_pages_do_not_overlap() {
        let host = Host::new(8);
        // SAFETY: table 0 of the host memory.
        let space = unsafe { UserSpace::open(&host, 0) };
        let mut take = || host.take();
        space.map(0x20_0000, 0x40_0000, PageSize::Large, READ, &mut take).unwrap();
        assert_eq!(space.lookup(0x20_1000).unwrap().frame, 0x40_0000);
        assert_eq!(space.map(0x20_1000, 0, PageSize::Small, READ, &mut take), Err(MapError::Occupied));
        assert_eq!(space.unmap(0x20_1000, PageSize::Small), Err(MapError::NotMapped));
        space.map(0x40_0000, 0, PageSize::Small, READ, &mut take).unwrap();
        assert_eq!(space.map(0x40_0000, 0, PageSize::Large, READ, &mut take), Err(MapError::Occupied));
        assert_eq!(space.unmap(0x40_0000, PageSize::Large), Err(MapError::NotMapped));
    }

    #[test]
    fn an_empty_table_makes_room_for_a_large_page() {
        let host = Host::new(8);
        // SAFETY: table 0 of the host memory.
        let space = unsafe { UserSpace::open(&host, 0) };
        let mut take = || host.take();
        assert!(!space.drop_empty_table(0x40_0000), "there is none");
        for at in [0x40_0000, 0x5f_f000] {
            space.map(at, 0, PageSize::Small, READ, &mut take).unwrap();
        }
        assert!(!space.drop_empty_table(0x40_0000), "it is full");
        space.unmap(0x40_0000, PageSize::Small).unwrap();
        assert!(!space.drop_empty_table(0x40_0000), "it has one page");
        space.unmap(0x5f_f000, PageSize::Small).unwrap();
        assert_eq!(space.map(0x40_0000, 0, PageSize::Large, READ, &mut take), Err(MapError::Occupied));
        assert!(space.drop_empty_table(0x40_0000));
        space.map(0x40_0000, 0x20_0000, PageSize::Large, READ, &mut take).unwrap();
        assert!(!space.drop_empty_table(0x40_0000), "a page is no table");
        assert_eq!(space.lookup(0x5f_f000).unwrap().frame, 0x20_0000);
    }

    #[test]
    fn what_may_not_be_mapped() {
        let host = Host::new(8);
        // SAFETY: table 0 of the host memory.
        let space = unsafe { UserSpace::open(&host, 0) };
        let mut take = || host.take();
        for at in [0, 0x1001, USER_END, USER_END - 1, 0xffff_8000_0000_0000, !0xfff] {
            let got = space.map(at, 0, PageSize::Small, READ, &mut take);
            assert_eq!(got, Err(MapError::BadAddress), "{at:#x}");
        }
        assert_eq!(
            space.map(USER_END & !0x1f_ffff, 0, PageSize::Large, READ, &mut take),
            Err(MapError::BadAddress)
        );
        let both = Rights { write: true, execute: true, device: false };
        assert_eq!(space.map(0x1000, 0, PageSize::Small, both, &mut take), Err(MapError::WriteAndExecute));
        assert_eq!(host.used.get(), 0, "a refused mapping takes no table");
    }

    #[test]
    fn running_out_of_tables_is_an_error() {
        let host = Host::new(3);
        // SAFETY: table 0 of the host memory.
        let space = unsafe { UserSpace::open(&host, 0) };
        assert_eq!(space.map(0x1000, 0, PageSize::Small, READ, &mut || host.take()), Err(MapError::NoTable));
    }

    #[test]
    fn a_split_page_maps_the_same() {
        let host = Host::new(8);
        // SAFETY: table 0 of the host memory.
        let space = unsafe { Space::open(&host, 0, Flags::PRESENT | Flags::WRITABLE) };
        let mut take = || host.take();
        let flags = Flags::WRITABLE | Flags::NO_EXECUTE | Flags::GLOBAL;
        space.map(0x4000_0000, 0x8000_0000, 3, flags, &mut take).unwrap();
        space.split(0x4020_3000, 1, &mut take).unwrap();
        for (at, level) in [(0x4020_3000, 1), (0x4020_0000, 1), (0x4040_0000, 2), (0x4000_0000, 2)] {
            let leaf = space.lookup(at).unwrap();
            assert_eq!((leaf.frame, leaf.level), (at + 0x4000_0000, level));
            assert!(leaf.flags.contains(flags));
        }
    }
}
