//! The machine of the host tests: a clock turned by hand, page tables as a map, one TLB per CPU.
//!
//! The TLB is tagged: it keeps translations by PCID, as hardware may, until it is told to drop them. There
//! are few PCIDs, so that they change hands often and some address spaces have none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use abi::Error;
use kern_base::machine::{Access, FaultEnd, Machine};
use kern_base::memory::{Phys, VSpace};
use kern_base::task::VectorArea;
use smp::cpu::CpuId;

/// A translation: where it leads, how large it is, what it allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    pub at: Phys,
    pub log2: u8,
    pub write: bool,
    pub execute: bool,
}

/// Which page of which address space. A space is named by its CR3 value.
pub type Where = (u64, u64);

/// PCIDs that there are besides 0.
const PCIDS: u64 = 3;
const PCID_MASK: u64 = 0xfff;
/// In a CR3 value: keep the translations of its PCID.
const NO_FLUSH: u64 = 1 << 63;

/// What a CPU remembers: by PCID and address, of which space that was true.
pub type Tlb = BTreeMap<(u64, u64), (u64, Page)>;

#[derive(Default)]
pub struct Hardware {
    pub now: u64,
    /// CPUs that were interrupted and have not taken the interrupt yet.
    pub wakes: BTreeSet<usize>,
    pub timers: BTreeMap<usize, u64>,
    pub pages: BTreeMap<Where, Page>,
    /// Table frames in use: space, level, first address.
    tables: BTreeSet<(u64, u8, u64)>,
    /// What each CPU remembers of the tables.
    pub tlb: BTreeMap<usize, Tlb>,
    /// CR3 of each CPU, where it is that of a VSpace.
    cr3: BTreeMap<usize, u64>,
    pcids: BTreeSet<u64>,
    pub log: Vec<(u8, Vec<u8>)>,
    /// Faults that ended a process.
    pub fault_ends: Vec<FaultEnd>,
    /// Lets that many calls of `map` succeed before one fails; `None`: none fails.
    pub map_fails_after: Option<usize>,
}

/// The machine; `cpu` is the CPU whose turn it is.
#[derive(Default)]
pub struct Fake {
    hardware: Mutex<Hardware>,
    pub cpu: AtomicUsize,
}

impl Fake {
    pub fn hardware(&self) -> MutexGuard<'_, Hardware> {
        self.hardware.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    /// Prepares a root table for process 1.
    pub fn init(&self, root: u64) -> u64 {
        self.init_root_table(Phys(root))
    }

    fn here(&self) -> usize {
        self.cpu.load(Relaxed)
    }
}

impl Hardware {
    /// Tables that a page needs and does not have yet: one of each level below the root.
    fn missing_tables(&self, space: u64, va: u64, log2: u8) -> Vec<(u64, u8, u64)> {
        let levels: &[u8] = if log2 == 12 { &[39, 30, 21] } else { &[39, 30] };
        levels.iter().map(|l| (space, *l, va >> l)).filter(|t| !self.tables.contains(t)).collect()
    }

    fn overlaps(&self, space: u64, va: u64, log2: u8) -> bool {
        let end = va + (1 << log2);
        self.pages.iter().any(|((s, at), page)| *s == space && *at < end && va < *at + (1 << page.log2))
    }

    /// A memory access of the program on `cpu`: fills the TLB.
    pub fn touch(&mut self, cpu: usize, va: u64) -> bool {
        let Some(space) = self.cr3.get(&cpu).copied() else { return false };
        let tlb = self.tlb.entry(cpu).or_default();
        if let Some((of, page)) = tlb.get(&(space & PCID_MASK, va)) {
            assert!(*of == space, "cpu{cpu} in {space:#x} sees {page:x?} of {of:#x}");
            return true;
        }
        let page = self.pages.get(&(space, va)).copied();
        page.map(|page| tlb.insert((space & PCID_MASK, va), (space, page)));
        page.is_some()
    }

    /// The space that a CPU is in.
    pub fn space(&self, cpu: usize) -> Option<u64> {
        self.cr3.get(&cpu).copied()
    }

    /// CR3 is written.
    pub fn switch_to(&mut self, cpu: usize, space: u64) {
        self.cr3.insert(cpu, space);
        if space & NO_FLUSH == 0 {
            self.flush_space(cpu, space);
        }
    }

    /// Drops what `cpu` remembers under the PCID of a space.
    pub fn flush_space(&mut self, cpu: usize, space: u64) {
        self.tlb.entry(cpu).or_default().retain(|(pcid, _), _| *pcid != space & PCID_MASK);
    }

    /// How many PCIDs are in use.
    pub fn pcids_taken(&self) -> usize {
        self.pcids.len()
    }

    /// What `cpu` remembers of an address of the space that it is in.
    pub fn remembered(&self, cpu: usize, va: u64) -> Option<Page> {
        let space = self.cr3.get(&cpu)?;
        self.tlb.get(&cpu)?.get(&(space & PCID_MASK, va)).map(|(_, page)| *page)
    }

    /// A CPU that remembers something of a space.
    fn remembers(&self, same: impl Fn(u64) -> bool) -> Option<usize> {
        self.tlb.iter().find(|(_, tlb)| tlb.values().any(|(space, _)| same(*space))).map(|(n, _)| *n)
    }
}

impl Machine for Fake {
    fn now(&self) -> u64 {
        self.hardware().now
    }

    fn set_timer(&self, at: Option<u64>) {
        let here = self.here();
        match at {
            Some(at) => self.hardware().timers.insert(here, at),
            None => self.hardware().timers.remove(&here),
        };
    }

    fn wake(&self, cpu: CpuId) {
        self.hardware().wakes.insert(cpu.index());
    }

    fn phys(&self, addr: u64) -> Phys {
        Phys(addr)
    }

    fn virt(&self, at: Phys) -> u64 {
        at.0
    }

    fn init_root_table(&self, root: Phys) -> u64 {
        let mut hardware = self.hardware();
        let same = |space: u64| space & !(PCID_MASK | NO_FLUSH) == root.0;
        let stale = hardware.remembers(same);
        assert!(stale.is_none(), "cpu{stale:?} remembers what a new root table's predecessor mapped");
        hardware.pages.retain(|(space, _), _| !same(*space));
        hardware.tables.retain(|(space, ..)| !same(*space));
        let pcid = (1..=PCIDS).find(|pcid| hardware.pcids.insert(*pcid));
        pcid.map_or(root.0, |pcid| root.0 | pcid | NO_FLUSH)
    }

    fn end_space(&self, cr3: u64) {
        let mut hardware = self.hardware();
        let stale = hardware.remembers(|space| space == cr3);
        assert!(stale.is_none(), "an address space ends while cpu{stale:?} remembers it");
        let left = hardware.cr3.iter().find(|(_, at)| **at == cr3);
        assert!(left.is_none(), "an address space ends while a CPU is in it: {left:?}");
        assert!(
            cr3 & NO_FLUSH == 0 || hardware.pcids.remove(&(cr3 & PCID_MASK)),
            "a PCID is given back twice"
        );
    }

    fn map(&self, vspace: &VSpace, va: u64, at: Phys, log2: u8, access: Access) -> Result<(), Error> {
        let mut hardware = self.hardware();
        assert!(vspace.lock.is_locked(), "tables are changed without the lock");
        assert!(!(access.write && access.execute), "writable and executable");
        if let Some(left) = &mut hardware.map_fails_after {
            *left = left.checked_sub(1).ok_or(Error::NoTables)?;
        }
        let space = vspace.cr3();
        if hardware.overlaps(space, va, log2)
            || log2 == 21 && hardware.tables.contains(&(space, 21, va >> 21))
        {
            return Err(Error::Mapped);
        }
        let missing = hardware.missing_tables(space, va, log2);
        let used = vspace.pool_used.load(Relaxed);
        if used + missing.len() as u32 > vspace.pool_len {
            return Err(Error::NoTables);
        }
        vspace.pool_used.store(used + missing.len() as u32, Relaxed);
        hardware.tables.extend(missing);
        let page = Page { at, log2, write: access.write, execute: access.execute };
        hardware.pages.insert((space, va), page);
        Ok(())
    }

    fn drop_empty_table(&self, vspace: &VSpace, va: u64) -> bool {
        assert!(vspace.lock.is_locked(), "tables are changed without the lock");
        let mut hardware = self.hardware();
        let space = vspace.cr3();
        !hardware.overlaps(space, va, 21) && hardware.tables.remove(&(space, 21, va >> 21))
    }

    fn unmap(&self, vspace: &VSpace, va: u64, log2: u8) -> bool {
        assert!(vspace.lock.is_locked(), "tables are changed without the lock");
        let at = (vspace.cr3(), va);
        let here = self.here();
        let mut hardware = self.hardware();
        if hardware.pages.get(&at).is_none_or(|page| page.log2 != log2) {
            return false;
        }
        hardware.pages.remove(&at);
        hardware.tlb.entry(here).or_default().remove(&(at.0 & PCID_MASK, va));
        true
    }

    fn forget_translations(&self, leave: bool) {
        let here = self.here();
        let mut hardware = self.hardware();
        hardware.tlb.remove(&here);
        if leave {
            hardware.cr3.remove(&here);
        }
    }

    fn set_bases(&self, _fs: u64, _gs: u64) {}

    fn save_vector(&self, _area: &VectorArea) {}

    fn init_vector(&self, _area: &VectorArea) {}

    fn report_fault(&self, end: &FaultEnd) {
        self.hardware().fault_ends.push(*end);
    }

    fn log(&self, channel: u8, bytes: &[u8]) {
        self.hardware().log.push((channel, bytes.to_vec()));
    }

    fn exit(&self, pass: bool) -> ! {
        panic!("the machine ends: pass = {pass}")
    }
}
