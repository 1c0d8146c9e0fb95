//! The memory of one CPU: its window of stacks and tables, and how code determines its CPU.
//!
//! A CPU's window (see [`crate::layout`]) holds its stacks, each with an unmapped guard below, then
//! [`CpuLocal`], which only this crate uses. Code on a kernel stack determines its CPU from the
//! stack pointer ([`this`]), without a segment register. The entry assembly needs the portable
//! kernel's block instead: its address is the word at the base of each stack ([`bind`]).
//!
//! The boot CPU makes the windows. From then on `CpuLocal` is shared read-only; its changing fields
//! are atomics that only the CPU itself writes.

use core::sync::atomic::{AtomicU32, Ordering};

use kern_base::cpu::CpuBlock;
use kern_base::fault_ring::FaultRing;
use smp::cpu::{CpuId, MAX_CPUS};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::structures::gdt::GlobalDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;

use super::features::Features;
use super::tables;
use crate::dev::desk::Desk;
use crate::layout::{self, PAGE, STACK_COUNT, STACK_SIZE};
use crate::mem::kernel;
use crate::mem::table::MapError;

/// One CPU's own structures.
#[repr(C, align(64))]
pub struct CpuLocal {
    pub id: CpuId,
    /// The id by which interrupts reach it.
    pub apic_id: u32,
    /// Features of the boot CPU: this one must have them, and uses just them.
    pub features: Features,
    /// What it reported when it was started: that it is up, or why it stopped.
    pub report: Once<Result<(), &'static str>>,
    /// TSC of this CPU less TSC of the boot CPU, as measured at boot, and the error of that.
    pub tsc_skew: Once<(i64, u64)>,
    /// NMIs without a requester.
    pub nmis: AtomicU32,
    /// Faults that were not printed yet.
    pub faults: FaultRing,
    /// Log records in the making.
    pub desk: Desk,
    /// What stopped writes after sealing; 0: nothing did ([`test_abi::Attempt::WriteSealed`]).
    #[cfg(feature = "faults")]
    pub sealed_by: core::sync::atomic::AtomicU64,
    pub gdt: GlobalDescriptorTable<{ tables::GDT_WORDS }>,
    pub tss: TaskStateSegment,
}

impl CpuLocal {
    /// Returns the portable kernel's block of this CPU, once it is bound.
    pub fn block(&self) -> Option<&'static CpuBlock> {
        let base = layout::stack_base(self.id.index(), 0) as *const *const CpuBlock;
        // SAFETY: the lowest word of a mapped stack: zero, or what `bind` wrote from a static
        // reference.
        unsafe { base.read_volatile().as_ref() }
    }
}

const LOCAL_SIZE: u64 = (size_of::<CpuLocal>() as u64).next_multiple_of(PAGE);
const _: () = assert!(layout::CPU_DATA_OFFSET + LOCAL_SIZE <= layout::CPU_WINDOW_SIZE);

/// CPUs whose window exists and that came up; only grows.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Returns how many CPUs run. Their ids are `0..count()`.
pub fn count() -> usize {
    COUNT.load(Ordering::Acquire) as usize
}

/// Counts CPU `id` in; ids are counted in order.
pub(crate) fn count_in(id: CpuId) {
    COUNT.store(id.raw() + 1, Ordering::Release);
}

/// Returns the structures of CPU `id`, if it runs.
pub fn of(id: CpuId) -> Option<&'static CpuLocal> {
    // SAFETY: counted CPUs have a window made by `make_window`, never unmapped.
    (id.index() < count()).then(|| unsafe { &*(layout::cpu_data(id.index()) as *const CpuLocal) })
}

/// Returns all CPUs that run, in order.
pub fn all() -> impl Iterator<Item = &'static CpuLocal> {
    (0..count()).filter_map(CpuId::new).filter_map(of)
}

/// Returns the CPU that runs this code, `None` before its window exists.
pub fn this() -> Option<&'static CpuLocal> {
    let stack: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) stack, options(nomem, nostack, preserves_flags)) };
    if !(layout::CPU_WINDOWS..layout::DEVICE_WINDOW).contains(&stack) {
        return None;
    }
    let index = ((stack - layout::CPU_WINDOWS) / layout::CPU_WINDOW_SIZE) as usize;
    // SAFETY: we run on a stack of that window, so `make_window` has written its data, which is
    // never unmapped.
    Some(unsafe { &*(layout::cpu_data(index) as *const CpuLocal) })
}

/// Makes the window of a CPU: stacks, guards, structures. A window that was made for a CPU that
/// then did not come up is used again for the next.
pub(crate) fn make_window(
    id: CpuId,
    apic_id: u32,
    features: Features,
) -> Result<&'static CpuLocal, MapError> {
    let data = layout::cpu_data(id.index());
    if !kernel::is_mapped(data) {
        for which in 0..STACK_COUNT {
            let frames = kernel::take_pages(STACK_SIZE, PAGE).ok_or(MapError::NoTable)?;
            kernel::map_window(layout::stack_base(id.index(), which), frames.start(), STACK_SIZE)?;
        }
        let frames = kernel::take_pages(LOCAL_SIZE, PAGE).ok_or(MapError::NoTable)?;
        kernel::map_window(data, frames.start(), LOCAL_SIZE)?;
    }
    debug_assert!(id.index() < MAX_CPUS);
    let local = data as *mut CpuLocal;
    let mut tss = TaskStateSegment::new();
    tss.privilege_stack_table[0] = VirtAddr::new(stack_top(id, 0));
    for which in 1..STACK_COUNT {
        tss.interrupt_stack_table[which - 1] = VirtAddr::new(stack_top(id, which));
    }
    let value = CpuLocal {
        id,
        apic_id,
        features,
        report: Once::new(),
        tsc_skew: Once::new(),
        nmis: AtomicU32::new(0),
        faults: FaultRing::default(),
        desk: Desk::default(),
        #[cfg(feature = "faults")]
        sealed_by: core::sync::atomic::AtomicU64::new(u64::MAX),
        gdt: GlobalDescriptorTable::empty(),
        tss,
    };
    // SAFETY: mapped above, large enough and page-aligned; the CPU is not running, so nothing else
    // refers to it.
    unsafe { local.write(value) };
    // SAFETY: just written. The tables are completed once, here, before the reference is shared.
    let local = unsafe { &mut *local };
    let tss = &raw const local.tss;
    // SAFETY: the TSS is valid and is never freed.
    local.gdt = unsafe { tables::descriptors(tss) };
    Ok(local)
}

/// Writes the address of a CPU's block to the base of each of its stacks, where the entry assembly
/// looks for it. Called before the CPU's first trap from user mode.
pub fn bind(id: CpuId, block: &'static CpuBlock) {
    assert!(of(id).is_some(), "a block for a CPU that does not run");
    for which in 0..STACK_COUNT {
        let base = layout::stack_base(id.index(), which) as *mut *const CpuBlock;
        // SAFETY: mapped by `make_window`. Nothing else uses the lowest word of a stack, and the
        // CPU itself reads it only after this (caller).
        unsafe { base.write_volatile(block) };
    }
}

/// Returns where the stack pointer of stack `which` starts.
pub fn stack_top(id: CpuId, which: usize) -> u64 {
    layout::stack_base(id.index(), which) + STACK_SIZE
}
