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
//! The slots are written once, before any user code runs, and are read-only and executable from
//! then on. Their writable alias in the direct map becomes read-only at the same time.

use kern_base::cpu::CpuBlock;
use smp::cpu::CpuId;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, Msr, SFMask, Star};
use x86_64::registers::rflags::RFlags;

use super::{percpu, tables};
use crate::layout::{DIRECT_MAP, ENTRY_SLOT_SIZE, ENTRY_SLOTS, PAGE};
use crate::mem::kernel;
use crate::mem::table::MapError;

const CSTAR: u32 = 0xc000_0083;

const MOV_R15_IMM64: [u8; 2] = [0x49, 0xbf];
const JMP_REL32: u8 = 0xe9;
const SLOT_CODE: usize = MOV_R15_IMM64.len() + 8 + 1 + 4;
const _: () = assert!(SLOT_CODE as u64 <= ENTRY_SLOT_SIZE);

/// Flags that SYSCALL clears: everything that changes how kernel code runs.
const CLEARED_FLAGS: RFlags = RFlags::TRAP_FLAG
    .union(RFlags::INTERRUPT_FLAG)
    .union(RFlags::DIRECTION_FLAG)
    .union(RFlags::NESTED_TASK)
    .union(RFlags::RESUME_FLAG)
    .union(RFlags::ALIGNMENT_CHECK)
    .union(RFlags::IOPL_LOW)
    .union(RFlags::IOPL_HIGH);

/// Writes the slots of all CPUs and makes them read-only. `block` names the block of each CPU,
/// `entry` is the address of the common entry in the kernel's text. Once, by the boot CPU.
pub fn write_slots(block: impl Fn(CpuId) -> &'static CpuBlock, entry: u64) -> Result<(), MapError> {
    let size = (percpu::count() as u64 * ENTRY_SLOT_SIZE).next_multiple_of(PAGE);
    let frames = kernel::take_pages(size, PAGE).ok_or(MapError::NoTable)?;
    for cpu in percpu::all() {
        let offset = cpu.id.index() as u64 * ENTRY_SLOT_SIZE;
        let code = slot_code(ENTRY_SLOTS + offset, core::ptr::from_ref(block(cpu.id)) as u64, entry);
        let to = (DIRECT_MAP + frames.start() + offset) as *mut u8;
        // SAFETY: inside frames that were just taken; no CPU executes them yet.
        unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), to, code.len()) };
    }
    kernel::map_entry_slots(frames)
}

/// Returns the code of the slot at `at`.
fn slot_code(at: u64, block: u64, entry: u64) -> [u8; SLOT_CODE] {
    let mut code = [0; SLOT_CODE];
    code[..2].copy_from_slice(&MOV_R15_IMM64);
    code[2..10].copy_from_slice(&block.to_le_bytes());
    code[10] = JMP_REL32;
    // Both lie in the last 2 GiB, so the distance fits.
    let distance = entry.wrapping_sub(at + SLOT_CODE as u64) as u32;
    code[11..].copy_from_slice(&distance.to_le_bytes());
    code
}

/// Points SYSCALL of the CPU that runs this to its slot.
///
/// # Safety
/// [`write_slots`] has succeeded, `cpu` is the CPU that runs this, and user code may enter.
pub unsafe fn enable(cpu: CpuId) {
    let slot = ENTRY_SLOTS + cpu.index() as u64 * ENTRY_SLOT_SIZE;
    // SAFETY: the slot holds entry code (caller); the selectors are those of every CPU's GDT. CSTAR
    // is for 32-bit code, which can't run (no such segment); it gets a valid address all the same.
    unsafe {
        Star::write_raw(tables::USER_BASE | 3, tables::KERNEL_CODE);
        LStar::write(VirtAddr::new(slot));
        Msr::new(CSTAR).write(slot);
        SFMask::write(CLEARED_FLAGS);
    }
}
