//! Sets the control registers of a CPU, in the same way on each CPU.

use core::arch::x86_64::_xsetbv;

use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::Msr;

use kern_base::protection::Protection;

use super::features::Features;
use super::{debug, vector};

const SYSENTER_CS: u32 = 0x174;
const PAT: u32 = 0x277;
/// The page attribute table, with a byte for each combination of an entry's bits 3 and 4, twice:
/// write-back, write-combining, and two ways of uncached. It differs from the reset value in the
/// second byte, which no other entry of the kernel's uses.
const PAT_VALUE: u64 = 0x0007_0106_0007_0106;

/// Sets EFER.NXE, before any page table with the NX bit is loaded.
///
/// # Safety
/// The CPU has NX.
pub unsafe fn no_execute() {
    // SAFETY: NX is there (caller); the other bits stay.
    unsafe { Efer::update(|f| f.insert(EferFlags::NO_EXECUTE_ENABLE | EferFlags::SYSTEM_CALL_EXTENSIONS)) }
}

/// Turns on what the kernel uses, and off what it must not meet.
///
/// # Safety
/// `features` is what this CPU shows and includes [`Features::REQUIRED`]; CR3's low 12 bits are 0;
/// the page tables have the supervisor bit right (SMEP and SMAP apply immediately).
pub unsafe fn control_registers(features: Features) {
    let mut cr0 = Cr0::read();
    cr0.insert(Cr0Flags::NUMERIC_ERROR | Cr0Flags::MONITOR_COPROCESSOR);
    cr0.set(Cr0Flags::WRITE_PROTECT, !Protection::KernelWrite.is_off());
    // With the alignment mask a program's own AC flag counts.
    cr0.insert(Cr0Flags::ALIGNMENT_MASK);
    cr0.remove(
        Cr0Flags::TASK_SWITCHED
            | Cr0Flags::EMULATE_COPROCESSOR
            | Cr0Flags::CACHE_DISABLE
            | Cr0Flags::NOT_WRITE_THROUGH,
    );
    // SAFETY: paging and protection stay on; the kernel itself uses no vector registers.
    unsafe { Cr0::write(cr0) };

    // SAFETY: every bit set is shown by `features` (caller); PCIDE needs CR3's low bits 0 (caller).
    unsafe { Cr4::write_raw(control_register_4(features).bits()) };

    // SAFETY: OSXSAVE is on, and the components are those that CPUID lists.
    unsafe { _xsetbv(0, features.state_components()) };
    // What the loader may have left in vector registers is nobody's.
    // SAFETY: TS was cleared above; XSAVE is a required feature.
    unsafe { vector::reset() };
    vector::set_ts();

    // SAFETY: each 64-bit CPU has the register. No entry with bit 3 alone was loaded before, so no
    // cache and no TLB holds what the other type would forbid.
    unsafe { Msr::new(PAT).write(PAT_VALUE) };

    // A null selector makes SYSENTER fault: SYSCALL is the only door.
    // SAFETY: the register exists on every 64-bit CPU.
    unsafe { Msr::new(SYSENTER_CS).write(0) };

    // No breakpoint that a loader may have left.
    debug::off();
}

/// Returns the value for CR4. All bits that this function does not name are off, also those that
/// the loader left on.
fn control_register_4(features: Features) -> Cr4Flags {
    let mut cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
        | Cr4Flags::PAGE_GLOBAL
        | Cr4Flags::MACHINE_CHECK_EXCEPTION
        | Cr4Flags::OSFXSR
        | Cr4Flags::OSXMMEXCPT_ENABLE
        | Cr4Flags::OSXSAVE
        | Cr4Flags::FSGSBASE;
    for (bit, feature, protection) in [
        (Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, Features::SMEP, Protection::KernelExecute),
        (Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, Features::SMAP, Protection::KernelAccess),
        (Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, Features::UMIP, Protection::Instructions),
    ] {
        cr4.set(bit, features.contains(feature) && !protection.is_off());
    }
    cr4.set(Cr4Flags::PCID, features.contains(Features::PCID));
    cr4
}
