//! Debug registers: breakpoints of the running user task. They contain only user addresses
//! (`kern_core::ipc::faults` checks that). The kernel accesses no user address, so no breakpoint
//! can hit in the kernel.

use core::arch::asm;
use core::cell::Cell;

use x86_64::registers::debug::{DebugAddressRegister, Dr0, Dr1, Dr2, Dr3, Dr6, Dr7};

/// DR6 with nothing to say.
const DR6_CLEAR: u64 = 0xffff_0ff0;
/// What it may say of user code: a step; and which breakpoints hit, the first four bits.
const DR6_STEP: u64 = 1 << 14;
/// A bit of DR7 that is always one.
const DR7_FIXED: u64 = 1 << 10;

/// Loads a task's DR0 to DR3 and DR7.
pub fn load(registers: &[Cell<u64>; abi::DEBUG_ADDRESSES + 1]) {
    let [dr0, dr1, dr2, dr3, dr7] = registers.each_ref().map(Cell::get);
    // Only debug exceptions in user mode come of it: the addresses are of user memory, and DR7
    // enables neither breakpoints on ports nor the protection of these registers.
    off();
    Dr0::write(dr0);
    Dr1::write(dr1);
    Dr2::write(dr2);
    Dr3::write(dr3);
    Dr7::write_raw(dr7 | DR7_FIXED);
}

/// Disarms all breakpoints.
pub fn off() {
    Dr7::write_raw(DR7_FIXED);
}

/// Takes the reason of a debug exception from DR6, which the CPU does not clear itself. Leaves out
/// hits of breakpoints that are not armed, which it may also report.
pub fn take_status() -> u64 {
    let status = Dr6::read_raw();
    // SAFETY: clears what was read.
    unsafe { asm!("mov dr6, {}", in(reg) DR6_CLEAR, options(nomem, nostack, preserves_flags)) };
    status & (DR6_STEP | armed(Dr7::read_raw()))
}

/// Returns the bits of DR6 for the breakpoints that DR7 arms, for this task or for all.
fn armed(control: u64) -> u64 {
    (0..abi::DEBUG_ADDRESSES).filter(|n| control >> (2 * n) & 3 != 0).fold(0, |bits, n| bits | 1 << n)
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_armed_breakpoints_hit() {
        assert_eq!(super::armed(super::DR7_FIXED), 0);
        assert_eq!(super::armed(super::DR7_FIXED | 0b01_00_10_00), 0b1010);
    }
}
