//! Descriptor tables: GDT and TSS per CPU, one IDT for all.
//!
//! The GDT has no 32-bit code segment and no LDT is loaded, so user code can't leave 64-bit mode.
//! The TSS carries no I/O bitmap: ports are closed to user code. The IDT is the same on all CPUs
//! (the stacks come from the TSS) and becomes read-only when boot ends.

use core::cell::UnsafeCell;

use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::{lidt, load_tss};
use x86_64::registers::model_specific::Msr;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::{Entry, HandlerFunc};
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PrivilegeLevel, VirtAddr};

use super::features::Features;
use super::percpu::CpuLocal;
use crate::layout::STACK_COUNT;
use crate::trap;

pub const KERNEL_CODE: u16 = 0x08;
pub const KERNEL_DATA: u16 = 0x10;
/// STAR's base for SYSRET: data is this + 8, 64-bit code this + 16. Itself it is empty.
pub const USER_BASE: u16 = 0x18;
pub const USER_DATA: u16 = (USER_BASE + 8) | 3;
pub const USER_CODE: u16 = (USER_BASE + 16) | 3;
const TASK_STATE: u16 = 0x30;
/// What RDTSCP and RDPID give to user code.
const TSC_AUX: u32 = 0xc000_0103;

/// Size of a CPU's GDT.
pub const GDT_WORDS: usize = 8;

/// Returns the GDT of the CPU that has this TSS.
///
/// # Safety
/// `tss` lives as long as the table is loaded, and is valid by then.
pub unsafe fn descriptors(tss: *const TaskStateSegment) -> GlobalDescriptorTable<GDT_WORDS> {
    let mut gdt = GlobalDescriptorTable::empty();
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    gdt.append(Descriptor::UserSegment(0));
    let user_data = gdt.append(Descriptor::user_data_segment());
    let user_code = gdt.append(Descriptor::user_code_segment());
    // SAFETY: the caller's promise.
    let task = gdt.append(unsafe { Descriptor::tss_segment_unchecked(tss) });
    debug_assert_eq!([code.0, data.0, task.0], [KERNEL_CODE, KERNEL_DATA, TASK_STATE]);
    debug_assert_eq!([user_data.0, user_code.0], [USER_DATA, USER_CODE]);
    gdt
}

#[repr(C, align(4096))]
struct InterruptTable(UnsafeCell<[Entry<HandlerFunc>; 256]>);

// SAFETY: written by the boot CPU alone before any other CPU runs, read-only afterwards.
unsafe impl Sync for InterruptTable {}

#[unsafe(link_section = ".sealed")]
static INTERRUPTS: InterruptTable = InterruptTable(UnsafeCell::new([Entry::missing(); 256]));

/// Vectors with a stack of their own, in the order of these stacks: in the interrupt stack table,
/// and in a CPU's window after the kernel's stack.
const OWN_STACK: [u8; STACK_COUNT - 1] = [trap::NMI, trap::MACHINE_CHECK, trap::DEBUG, trap::DOUBLE_FAULT];

/// Fills the IDT for the time before the first TSS is loaded, and loads it.
///
/// # Safety
/// Called once, by the boot CPU, with interrupts off.
pub unsafe fn init_interrupts() {
    // SAFETY: no other CPU runs yet (caller).
    let table = unsafe { &mut *INTERRUPTS.0.get() };
    for (vector, entry) in table.iter_mut().enumerate() {
        // SAFETY: the stub for this vector, which follows the interrupt calling rules. The code
        // segment is this one, which is in the boot GDT as in every CPU's.
        let options = unsafe { entry.set_handler_addr(VirtAddr::new(trap::entry::stub(vector as u8))) };
        // INT n from user mode is a protection fault, except the breakpoint instruction.
        if vector == usize::from(trap::BREAKPOINT) {
            options.set_privilege_level(PrivilegeLevel::Ring3);
        }
    }
    load_interrupts();
}

/// Gives NMI, #MC, #DB and #DF stacks of their own.
///
/// # Safety
/// Called once, by the boot CPU, after it has loaded its TSS and before other CPUs run.
pub unsafe fn use_own_stacks() {
    // SAFETY: as in `init_interrupts`.
    let table = unsafe { &mut *INTERRUPTS.0.get() };
    for (index, vector) in (0..).zip(OWN_STACK) {
        let stub = VirtAddr::new(trap::entry::stub(vector));
        // SAFETY: stub and code segment as before; the stack is in every CPU's TSS, used by this
        // vector only.
        unsafe { table[usize::from(vector)].set_handler_addr(stub).set_stack_index(index) };
    }
}

fn load_interrupts() {
    let pointer = DescriptorTablePointer {
        limit: (size_of::<InterruptTable>() - 1) as u16,
        base: VirtAddr::from_ptr(INTERRUPTS.0.get()),
    };
    // SAFETY: a static table whose present entries lead to the trap stubs.
    unsafe { lidt(&pointer) };
}

/// Loads the GDT, TSS and IDT of this CPU.
///
/// # Safety
/// `local` belongs to the CPU that runs this, which loads its TSS for the first time.
pub unsafe fn load(local: &'static CpuLocal) {
    // SAFETY: the table is in the CPU's window, is never freed, and holds the segments named here.
    // The data selectors are null because 64-bit code needs none; WRFSBASE sets FS and GS bases
    // before user code runs.
    unsafe {
        local.gdt.load_unsafe();
        CS::set_reg(SegmentSelector(KERNEL_CODE));
        SS::set_reg(SegmentSelector(KERNEL_DATA));
        let null = SegmentSelector::NULL;
        DS::set_reg(null);
        ES::set_reg(null);
        FS::set_reg(null);
        GS::set_reg(null);
        load_tss(SegmentSelector(TASK_STATE));
        // No LDT: a selector with the TI bit is never valid.
        core::arch::asm!("lldt {0:x}", in(reg) 0u16, options(nomem, nostack, preserves_flags));
    }
    load_interrupts();
    if local.features.contains(Features::RDTSCP) {
        // SAFETY: the register exists with RDTSCP, and only user code looks at it.
        unsafe { Msr::new(TSC_AUX).write(local.id.raw().into()) };
    }
}
