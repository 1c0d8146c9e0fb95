//! The machine of the host tests: a clock turned by hand, page tables as a map, one TLB per CPU.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use abi::Error;
use kern_base::machine::{Access, Machine};
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
    pub tlb: BTreeMap<usize, BTreeMap<Where, Page>>,
    pub log: Vec<(u8, Vec<u8>)>,
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
    pub fn touch(&mut self, cpu: usize, at: Where) -> bool {
        if let Some(page) = self.pages.get(&at).copied() {
            self.tlb.entry(cpu).or_default().entry(at).or_insert(page);
        }
        self.tlb.get(&cpu).is_some_and(|tlb| tlb.contains_key(&at))
    }

    /// Drops what `cpu` remembers of one space.
    pub fn flush_space(&mut self, cpu: usize, space: u64) {
        self.tlb.entry(cpu).or_default().retain(|(s, _), _| *s != space);
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
        let stale = hardware.tlb.values().any(|tlb| tlb.keys().any(|(space, _)| *space == root.0));
        assert!(!stale, "a root table is made where a CPU remembers translations of its predecessor");
        hardware.pages.retain(|(space, _), _| *space != root.0);
        hardware.tables.retain(|(space, ..)| *space != root.0);
        root.0
    }

    fn end_space(&self, cr3: u64) {
        let hardware = self.hardware();
        let stale = hardware.tlb.iter().find(|(_, tlb)| tlb.keys().any(|(space, _)| *space == cr3));
        assert!(stale.is_none(), "an address space ends while cpu{:?} remembers it", stale.map(|(n, _)| n));
    }

    fn map(&self, vspace: &VSpace, va: u64, at: Phys, log2: u8, access: Access) -> Result<(), Error> {
        let mut hardware = self.hardware();
        assert!(vspace.lock.is_locked(), "tables are changed without the lock");
        assert!(!(access.write && access.execute), "writable and executable");
        if let Some(left) = &mut hardware.map_fails_after {
            *left = left.checked_sub(1).ok_or(Error::NoTables)?;
        }
        let space = vspace.cr3();
        if hardware.overlaps(space, va, log2) {
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

    fn unmap(&self, vspace: &VSpace, va: u64, log2: u8) -> bool {
        assert!(vspace.lock.is_locked(), "tables are changed without the lock");
        let at = (vspace.cr3(), va);
        let here = self.here();
        let mut hardware = self.hardware();
        if hardware.pages.get(&at).is_none_or(|page| page.log2 != log2) {
            return false;
        }
        hardware.pages.remove(&at);
        hardware.tlb.entry(here).or_default().remove(&at);
        true
    }

    fn forget_translations(&self, _leave: bool) {
        let here = self.here();
        self.hardware().tlb.remove(&here);
    }

    fn set_bases(&self, _fs: u64, _gs: u64) {}

    fn save_vector(&self, _area: &VectorArea) {}

    fn init_vector(&self, _area: &VectorArea) {}

    fn log(&self, channel: u8, bytes: &[u8]) {
        self.hardware().log.push((channel, bytes.to_vec()));
    }

    fn exit(&self, pass: bool) -> ! {
        panic!("the machine ends: pass = {pass}")
    }
}
