//! Port I/O.

use x86_64::instructions::port::{PortReadOnly, PortWriteOnly};
use x86_64::structures::port::PortRead;

/// # Safety
/// Writing `value` to `port` must have no effect on memory that Rust code relies on.
pub unsafe fn write_u8(port: u16, value: u8) {
    // SAFETY: the caller's promise.
    unsafe { PortWriteOnly::new(port).write(value) }
}

/// # Safety
/// Reading `port` must have no effect on memory that Rust code relies on.
pub unsafe fn read<T: PortRead>(port: u16) -> T {
    // SAFETY: the caller's promise.
    unsafe { PortReadOnly::new(port).read() }
}

/// Writes all of `bytes` to `port`, one after the other.
///
/// # Safety
/// As [`write_u8`].
pub unsafe fn write_all(port: u16, bytes: &[u8]) {
    // SAFETY: `rep outsb` reads `bytes.len()` bytes from `bytes` and writes the port, which the
    // caller allows; the direction flag is clear throughout Rust code.
    unsafe {
        core::arch::asm!(
            "rep outsb",
            in("dx") port,
            inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _,
            options(readonly, nostack, preserves_flags)
        );
    }
}
