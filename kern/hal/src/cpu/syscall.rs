//! The entry by SYSCALL: one entry slot per CPU.
//!
//! SYSCALL changes neither stack nor segment bases, so the entry code must determine its CPU in its
//! first instructions. Each CPU's LSTAR points to a slot of its own that loads the address of its
//! block and jumps to the common entry:
//!
//! ```text
//! mov r15, <address of the CPU block>      49 BF imm64
//! jmp <common entry>                       E9 rel32
//! ```
//! The slots are written once, before any user code runs, as a part of the kernel's sealed data.
//! [`kernel::seal`] then maps them once more, executable.
//!
//! [`kernel::seal`]: crate::mem::kernel::seal

use core::sync::atomic::{AtomicU64, Ordering};

use kern_base::cpu::CpuBlock;
use smp::cpu::{CpuId, MAX_CPUS};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, Msr, SFMask, Star};
use x86_64::registers::rflags::RFlags;

use super::{percpu, tables};
use crate::layout::{ENTRY_SLOT_SIZE, ENTRY_SLOTS};

const CSTAR: u32 = 0xc000_0083;

const MOV_R15_IMM64: u128 = 0xbf49;
const JMP_REL32: u128 = 0xe9;
/// Bytes of a slot's code.
const SLOT_CODE: u64 = 15;

/// The slots of all CPUs that there may be, as words, in whole pages of their own.
#[repr(C, align(4096))]
pub struct Slots(pub [[AtomicU64; 4]; MAX_CPUS]);
const _: () = assert!(size_of::<Slots>() as u64 == MAX_CPUS as u64 * ENTRY_SLOT_SIZE);

#[unsafe(link_section = ".sealed")]
pub static SLOTS: Slots = Slots([const { [const { AtomicU64::new(0) }; 4] }; MAX_CPUS]);

/// Flags that SYSCALL clears: everything that changes how kernel code runs.
const CLEARED_FLAGS: RFlags = RFlags::TRAP_FLAG
    .union(RFlags::INTERRUPT_FLAG)
    .union(RFlags::DIRECTION_FLAG)
    .union(RFlags::NESTED_TASK)
    .union(RFlags::RESUME_FLAG)
    .union(RFlags::ALIGNMENT_CHECK)
    .union(RFlags::IOPL_LOW)
    .union(RFlags::IOPL_HIGH);

/// Writes the SYSCALL entry slots of all CPUs, before the kernel is sealed. `block` returns the
/// block of each CPU, `entry` is the address of the common entry in the kernel's text. Called once,
/// by the boot CPU.
pub fn write_slots(block: impl Fn(CpuId) -> &'static CpuBlock, entry: u64) {
    for (cpu, slot) in percpu::all().zip(&SLOTS.0) {
        let code = slot_code(slot_address(cpu.id), core::ptr::from_ref(block(cpu.id)) as u64, entry);
        slot[0].store(code as u64, Ordering::Relaxed);
        slot[1].store((code >> u64::BITS) as u64, Ordering::Relaxed);
    }
}

fn slot_address(cpu: CpuId) -> u64 {
    ENTRY_SLOTS + cpu.index() as u64 * ENTRY_SLOT_SIZE
}

/// Returns the code of the SYSCALL entry slot at the address `at`.
fn slot_code(at: u64, block: u64, entry: u64) -> u128 {
    // Both lie in the last 2 GiB, so the distance fits.
    let distance = entry.wrapping_sub(at + SLOT_CODE) as u32;
    MOV_R15_IMM64 | u128::from(block) << 16 | JMP_REL32 << 80 | u128::from(distance) << 88
}

/// Points SYSCALL of the CPU that runs this to its slot.
///
/// # Safety
/// [`write_slots`] has run and the kernel is sealed, `cpu` is the CPU that runs this, and user code
/// may enter.
pub unsafe fn enable(cpu: CpuId) {
    let slot = slot_address(cpu);
    // SAFETY: the slot holds entry code (caller); the selectors are those of every CPU's GDT. CSTAR
    // is for 32-bit code, which can't run (no such segment); it gets a valid address all the same.
    unsafe {
        Star::write_raw(tables::USER_BASE | 3, tables::KERNEL_CODE);
        LStar::write(VirtAddr::new(slot));
        Msr::new(CSTAR).write(slot);
        SFMask::write(CLEARED_FLAGS);
    }
}
