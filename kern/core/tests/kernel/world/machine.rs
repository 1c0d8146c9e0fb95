//! The machine of the host tests: a clock that the test advances, and one TLB per CPU. Page tables
//! are the kernel's own, in the test's memory.
//!
//! The TLB is tagged: it keeps translations under a PCID, as hardware may, until the kernel drops
//! them. There are few PCIDs, so that they are reused often and some address spaces have none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use abi::audit::Record;
use abi::devices::is_msi;
use kern_base::irq::{Line, Route};
use kern_base::machine::{FaultEnd, Machine, VectorFormat};
use kern_base::paging::Pte;
use kern_base::phys::{Phys, PhysPage};
use kern_base::task::VectorArea;
use smp::chaos::Point;
use smp::cpu::CpuId;
use smp::host_test;

/// A translation: where it leads, how large it is, what it allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    pub at: Phys,
    pub log2: u8,
    pub write: bool,
    pub execute: bool,
}

/// Device memory: where no memory of the test's is.
pub const DEVICES: u64 = 1 << 50;
pub const DEVICES_END: u64 = DEVICES + (1 << 30);

/// PCIDs that there are besides 0.
pub const PCIDS: u64 = 6;
const PCID_MASK: u64 = 0xfff;
/// In a CR3 value: keep the translations of its PCID.
const NO_FLUSH: u64 = 1 << 63;

/// Interrupt lines of the machine. No line can interrupt a CPU from this one on.
pub const LINES: u32 = 24;
pub const FAR_CPU: usize = 7;
/// I/O ports that the kernel uses itself.
pub const OWN_PORTS: std::ops::Range<u16> = 0x70..0x72;

/// How a line is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LineState {
    pub to: Option<Route>,
    pub is_open: bool,
}

/// What a CPU remembers: by PCID and address, of which space that was true.
pub type Tlb = BTreeMap<(u64, u64), (u64, Page)>;

#[derive(Default)]
pub struct Hardware {
    pub now: u64,
    /// How far the clock runs at each look at it.
    pub pace: u64,
    /// CPUs that were interrupted and have not taken the interrupt yet.
    pub wakes: BTreeSet<usize>,
    pub timers: BTreeMap<usize, u64>,
    /// What each CPU remembers of the tables.
    pub tlb: BTreeMap<usize, Tlb>,
    /// CR3 of each CPU, where it is that of a VSpace.
    cr3: BTreeMap<usize, u64>,
    pcids: BTreeSet<u64>,
    /// The lines that were ever routed.
    pub lines: BTreeMap<u32, LineState>,
    /// Interrupts of devices that were not acknowledged yet.
    pub in_service: u32,
    /// What was written to I/O ports: number, bytes, value.
    pub written: Vec<(u16, u8, u32)>,
    pub log: Vec<(u8, Vec<u8>)>,
    /// Records that the log received.
    pub told: Vec<Record>,
    /// Faults that ended a process.
    pub fault_ends: Vec<FaultEnd>,
    /// How often process 1 died.
    pub first_deaths: usize,
    /// The save areas to which vector registers were saved, by address.
    pub saved: BTreeSet<usize>,
    /// How often the kernel asked each CPU to flush its branch predictors.
    pub predictor_flushes: BTreeMap<usize, usize>,
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

    fn here(&self) -> usize {
        self.cpu.load(Relaxed)
    }
}

impl Hardware {
    /// A memory access of the program on `cpu`, for which the tables have `page`: fills the TLB.
    pub fn touch(&mut self, cpu: usize, va: u64, page: Option<Page>) -> bool {
        let Some(space) = self.cr3.get(&cpu).copied() else { return false };
        let tlb = self.tlb.entry(cpu).or_default();
        if let Some((of, page)) = tlb.get(&(space & PCID_MASK, va)) {
            assert!(*of == space, "cpu{cpu} in {space:#x} sees {page:x?} of {of:#x}");
            return true;
        }
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

    /// All that `cpu` remembers of the space that it is in, by address.
    pub fn remembered_all(&self, cpu: usize) -> Vec<(u64, Page)> {
        let (Some(space), Some(tlb)) = (self.cr3.get(&cpu), self.tlb.get(&cpu)) else { return Vec::new() };
        let its = |((pcid, va), (_, page)): (&(u64, u64), &(u64, Page))| {
            (*pcid == space & PCID_MASK).then_some((*va, *page))
        };
        tlb.iter().filter_map(its).collect()
    }

    /// A CPU that remembers something of a space.
    fn remembers(&self, same: impl Fn(u64) -> bool) -> Option<usize> {
        self.tlb.iter().find(|(_, tlb)| tlb.values().any(|(space, _)| same(*space))).map(|(n, _)| *n)
    }
}

impl Machine for Fake {
    fn now(&self) -> u64 {
        let mut hardware = self.hardware();
        hardware.now += hardware.pace;
        hardware.now
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

    fn has_line(&self, line: u32) -> bool {
        line < LINES || is_msi(line)
    }

    fn message_to(&self, to: Route) -> Option<(u64, u32)> {
        (to.cpu.index() < FAR_CPU).then(|| (0xfee0_0000 | (to.cpu.index() as u64) << 12, to.place.into()))
    }

    fn route_line(&self, line: Line, to: Option<Route>) -> bool {
        if to.is_some_and(|to| to.cpu.index() >= FAR_CPU) {
            return false;
        }
        self.hardware().lines.insert(line.number, LineState { to, is_open: false });
        true
    }

    fn open_line(&self, line: u32) {
        if let Some(line) = self.hardware().lines.get_mut(&line) {
            line.is_open = line.to.is_some();
        }
    }

    fn mask_line(&self, line: u32) {
        if let Some(line) = self.hardware().lines.get_mut(&line) {
            line.is_open = false;
        }
    }

    fn end_of_interrupt(&self) {
        let mut hardware = self.hardware();
        assert!(hardware.in_service > 0, "an interrupt is acknowledged that has not come");
        hardware.in_service -= 1;
    }

    fn mask_place(&self, place: u8) {
        let here = self.here();
        for line in self.hardware().lines.values_mut() {
            if line.to.is_some_and(|to| to.place == place && to.cpu.index() == here) {
                line.is_open = false;
            }
        }
    }

    fn used_port(&self, first: u16, last: u16) -> Option<u16> {
        OWN_PORTS.clone().find(|port| (first..=last).contains(port))
    }

    fn read_port(&self, port: u16, bytes: u8) -> u32 {
        assert!(!OWN_PORTS.contains(&port), "port {port:#x} is the kernel's");
        u32::from(port) << 8 | u32::from(bytes)
    }

    fn write_port(&self, port: u16, bytes: u8, value: u32) {
        assert!(!OWN_PORTS.contains(&port), "port {port:#x} is the kernel's");
        self.hardware().written.push((port, bytes, value));
    }

    fn phys(&self, addr: u64) -> Phys {
        Phys(addr)
    }

    fn virt(&self, at: Phys) -> u64 {
        at.0
    }

    fn is_device(&self, at: Phys, bytes: u64) -> bool {
        at.0 >= DEVICES && at.0.checked_add(bytes).is_some_and(|end| end <= DEVICES_END)
    }

    fn init_root_table(&self, at: Phys, _set: &mut dyn FnMut(usize, Pte)) -> u64 {
        let hardware = self.hardware();
        let stale = hardware.remembers(|space| space & !(PCID_MASK | NO_FLUSH) == at.0);
        assert!(stale.is_none(), "cpu{stale:?} remembers what a new root table's predecessor mapped");
        at.0
    }

    fn take_pcid(&self) -> u64 {
        let mut hardware = self.hardware();
        let pcid = (1..=PCIDS).find(|pcid| hardware.pcids.insert(*pcid));
        pcid.map_or(0, |pcid| pcid | NO_FLUSH)
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

    fn forget_page(&self, va: u64) {
        let here = self.here();
        let mut hardware = self.hardware();
        let Some(space) = hardware.cr3.get(&here).copied() else { return };
        hardware.tlb.entry(here).or_default().remove(&(space & PCID_MASK, va));
    }

    fn forget_space(&self) {
        let here = self.here();
        let mut hardware = self.hardware();
        if let Some(space) = hardware.cr3.get(&here).copied() {
            hardware.flush_space(here, space);
        }
    }

    fn forget_translations(&self, leave: bool) {
        let here = self.here();
        let mut hardware = self.hardware();
        hardware.tlb.remove(&here);
        if leave {
            hardware.cr3.remove(&here);
        }
    }

    fn clear(&self, page: PhysPage) {
        host_test::clear(page.at().0, 1 << page.log2());
    }

    fn read_word(&self, page: PhysPage, number: u64) -> u64 {
        assert!(number < 1 << (page.log2() - 3), "{page:?} has no word {number}");
        host_test::words(page.at().0 + 8 * number, 1)[0].load(std::sync::atomic::Ordering::SeqCst)
    }

    fn copy(&self, from: PhysPage, to: PhysPage) {
        host_test::point(Point::PageCopying);
        assert!(from != to && from.log2() == to.log2(), "{from:?} is copied to {to:?}");
        host_test::copy(from.at().0, to.at().0, 1 << from.log2());
    }

    fn flush_predictors(&self) {
        let here = self.here();
        *self.hardware().predictor_flushes.entry(here).or_default() += 1;
    }

    fn set_bases(&self, _fs: u64, _gs: u64) {}

    fn save_vector(&self, area: &VectorArea) {
        self.hardware().saved.insert(std::ptr::from_ref(area).addr());
    }

    fn vector_format(&self) -> VectorFormat {
        // x87, SSE and AVX.
        VectorFormat { words: 104, components: 7, mxcsr: 0xffbf }
    }

    fn init_vector(&self, _area: &VectorArea) {}

    fn report_fault(&self, end: &FaultEnd) {
        self.hardware().fault_ends.push(*end);
    }

    fn first_process_dies(&self) {
        self.hardware().first_deaths += 1;
    }

    fn tell(&self, record: &Record) {
        self.hardware().told.push(*record);
    }

    fn log(&self, channel: u8, bytes: &[u8]) {
        self.hardware().log.push((channel, bytes.to_vec()));
    }

    fn exit(&self, pass: bool) -> ! {
        panic!("the machine ends: pass = {pass}")
    }
}
