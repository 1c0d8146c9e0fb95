//! Accesses to addresses that may or may not be mapped, and their results.
//!
//! The handler of a probe's fault lets the task continue at its r15, and recognises it by r12; r13
//! is the address.

use core::sync::atomic::{Ordering::SeqCst, fence};

use abi::{REG_COUNT, RegIndex};

use crate::word::{How, Met};

/// Value of r12 in a probe.
const PROBE: u64 = 0x70_72_6f_62_65_21;

/// Makes the access `how` at an address that is not this program's own memory; a write writes
/// `value`.
pub fn probe(how: How, address: u64, value: u64) -> Met {
    let (faulted, got) = match how {
        How::Read => read(address),
        How::Write => (write(address, value), value),
        How::Execute => execute(address),
    };
    // Reads before and after an access stay before and after it.
    fence(SeqCst);
    if faulted { Met::Fault } else { Met::Value(got) }
}

fn read(address: u64) -> (bool, u64) {
    let (faulted, value): (u64, u64);
    // SAFETY: reads one word, at an address where this program keeps nothing of its own; if nothing
    // is mapped there, the handler lets the task continue after the access, with all registers
    // unchanged.
    unsafe {
        core::arch::asm!("lea r15, [rip + 2f]", "mov rax, [r13]", "xor ecx, ecx", "2:",
            inout("rcx") 1u64 => faulted, inout("rax") 0u64 => value, in("r12") PROBE, in("r13") address,
            out("r15") _, options(nostack));
    }
    (faulted != 0, value)
}

fn write(address: u64, value: u64) -> bool {
    let faulted: u64;
    // SAFETY: as above; Rust keeps nothing at these addresses.
    unsafe {
        core::arch::asm!("lea r15, [rip + 2f]", "mov [r13], rax", "xor ecx, ecx", "2:",
            inout("rcx") 1u64 => faulted, in("rax") value, in("r12") PROBE, in("r13") address,
            out("r15") _, options(nostack));
    }
    faulted != 0
}

fn execute(address: u64) -> (bool, u64) {
    let (faulted, value): (u64, u64);
    // SAFETY: executable contents of these addresses are a function that returns a word in rax and
    // touches nothing else; otherwise the handler lets the task continue after the call, with the
    // stack unchanged.
    unsafe {
        core::arch::asm!("lea r15, [rip + 2f]", "mov r14, rsp", "call r13", "xor ecx, ecx", "2:", "mov rsp, r14",
            inout("rcx") 1u64 => faulted, inout("rax") 0u64 => value, in("r12") PROBE, in("r13") address,
            out("r14") _, out("r15") _, clobber_abi("sysv64"));
    }
    (faulted != 0, value)
}

/// Returns the address of a faulted probe, and where the task continues. `None` for a fault of
/// something else.
pub fn of_registers(regs: &[u64; REG_COUNT]) -> Option<(u64, u64)> {
    let reg = |which: RegIndex| regs[which as usize];
    (reg(RegIndex::R12) == PROBE).then(|| (reg(RegIndex::R13), reg(RegIndex::R15)))
}
