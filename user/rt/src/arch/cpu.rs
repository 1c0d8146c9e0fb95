//! Time stamps, random numbers, pauses and the FS base.

use core::arch::asm;

/// Returns a time stamp. No earlier instruction runs after it, and no later one before it.
///
/// The two fences make it usable around a single operation on a real CPU. Under an instruction
/// count, the fences and the merging of the halves are instructions that the empty measurement
/// subtracts exactly.
#[inline(always)]
pub fn timestamp() -> u64 {
    let stamp: u64;
    // SAFETY: reads a counter; user level may (the kernel leaves CR4.TSD clear). Not `nomem`, so
    // that the compiler keeps memory accesses on their side of it.
    unsafe {
        asm!(
            "lfence",
            "rdtsc",
            "lfence",
            "shl rdx, 32",
            "or rax, rdx",
            out("rax") stamp,
            out("rdx") _,
            options(nostack)
        );
    }
    stamp
}

/// Returns the time in TSC ticks, for deadlines.
#[inline(always)]
pub fn now() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: reads a counter.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high, options(nostack, nomem, preserves_flags)) };
    (high << 32) | low
}

/// Returns a random number from the CPU's own generator, or `None` if there is none or it gives
/// nothing.
pub fn random() -> Option<u64> {
    const FEATURES: u32 = 1;
    const RDRAND: u32 = 1 << 30;
    /// Times that it may be asked for one number: Intel's advice.
    const ATTEMPTS: u32 = 10;
    if core::arch::x86_64::__cpuid(FEATURES).ecx & RDRAND == 0 {
        return None;
    }
    (0..ATTEMPTS).find_map(|_| {
        let (number, is_there): (u64, u8);
        // SAFETY: the CPU has the instruction, which touches the register and the flags.
        unsafe {
            asm!("rdrand {}", "setc {}", out(reg) number, out(reg_byte) is_there, options(nomem, nostack));
        }
        (is_there != 0).then_some(number)
    })
}

/// Tells the CPU, and an emulator that runs CPUs in turn, that this CPU only waits.
#[inline(always)]
pub fn pause() {
    core::hint::spin_loop();
}

/// Returns the FS base: this task's UTCB, in a task of this runtime.
#[inline(always)]
pub fn fs_base() -> u64 {
    let base: u64;
    // SAFETY: RDFSBASE is allowed: FSGSBASE is a feature that the kernel requires and enables.
    unsafe { asm!("rdfsbase {}", out(reg) base, options(nostack, nomem, preserves_flags)) };
    base
}

/// Returns the task's GS base.
pub fn gs_base() -> u64 {
    let base: u64;
    // SAFETY: RDGSBASE is allowed, as above.
    unsafe { asm!("rdgsbase {}", out(reg) base, options(nostack, nomem, preserves_flags)) };
    base
}

/// Counts `iterations` down to zero with two instructions each: the bench's calibration loop.
#[inline(always)]
pub fn countdown(iterations: u64) {
    // SAFETY: touches one register and the flags.
    unsafe {
        asm!("2:", "dec {n}", "jnz 2b", n = inout(reg) iterations => _, options(nostack, nomem));
    }
}

/// Bytes of the instruction of [`fault_once`].
pub const FAULT_LENGTH: u64 = 2;

/// Reads page 0 by an instruction of [`FAULT_LENGTH`]. The fault's handler lets the task continue
/// after that instruction.
#[inline(always)]
pub fn fault_once() {
    // SAFETY: nothing is ever mapped at page 0, so the instruction reads nothing; the kernel
    // ensures this and preserves the registers.
    unsafe {
        asm!(".byte 0x8a, 0x07", inout("rdi") 0u64 => _, out("al") _, options(nostack, preserves_flags))
    };
}

/// Ends the task by an instruction that faults.
pub fn die() -> ! {
    // SAFETY: UD2 only faults; the kernel tears the process down.
    unsafe { asm!("ud2", options(noreturn, nomem, nostack)) }
}
