//! The assembly of interrupt entry and exit.

use core::arch::global_asm;

use super::frame::KernelFrame;

/// Exceptions for which the CPU pushes an error code.
const ERROR_CODE_VECTORS: u32 = 1 << 8 | 0b1_1111 << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;
/// RFLAGS while the kernel runs: only the bit that is always set.
const KERNEL_FLAGS: u32 = 2;
/// Distance of two stubs.
const STUB_SIZE: u64 = 16;

global_asm!(
    include_str!("entry.s"),
    error_code_vectors = const ERROR_CODE_VECTORS,
    kernel_flags = const KERNEL_FLAGS,
    kernel_trap = sym super::kernel_trap,
);

unsafe extern "C" {
    static trap_stubs: u8;
}

/// Address of the entry for `vector`.
pub fn stub(vector: u8) -> u64 {
    (&raw const trap_stubs) as u64 + u64::from(vector) * STUB_SIZE
}

// The stack is 16-byte aligned at the call: the CPU aligns it, then 22 words follow.
const _: () = assert!(size_of::<KernelFrame>().is_multiple_of(16));
