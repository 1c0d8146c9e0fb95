//! Port I/O, of the kernel and for programs.

use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::port::{PortReadOnly, PortWriteOnly};
use x86_64::structures::port::PortRead;

/// Ports that the kernel uses as long as it runs: the old interrupt controllers, which it masks,
/// the ports that end a run, the second serial line and the debug console, where it writes its log.
/// The first serial line can have a driver: the kernel prints there seldom, without interrupts, and
/// [sets it up again](super::serial::silence_others) for its last words.
const KERNELS: [RangeInclusive<u16>; 6] =
    [0x20..=0x21, 0xa0..=0xa1, 0xe9..=0xe9, 0xf4..=0xf4, 0x2f8..=0x2ff, 0x8900..=0x8900];

/// The first serial line, and whether programs may still write there.
const COM1: RangeInclusive<u16> = 0x3f8..=0x3ff;
static COM1_IS_THE_KERNELS: AtomicBool = AtomicBool::new(false);

/// Keeps programs from writing to the first serial line from now on.
pub fn take_com1() {
    COM1_IS_THE_KERNELS.store(true, Ordering::SeqCst);
}

/// Returns the first port of a range that the kernel uses itself.
pub fn first_of_kernel(first: u16, last: u16) -> Option<u16> {
    let used = KERNELS.iter().filter(|range| *range.start() <= last && first <= *range.end());
    used.map(|range| first.max(*range.start())).min()
}

/// Reads 1, 2 or 4 bytes of a port for a program that may.
pub fn read_for_program(port: u16, bytes: u8) -> u32 {
    // SAFETY: a port of a device that process 1 has given away, and none of the kernel's: process 1
    // is trusted with all devices, whatever memory they can reach.
    unsafe {
        match bytes {
            1 => read::<u8>(port).into(),
            2 => read::<u16>(port).into(),
            _ => read::<u32>(port),
        }
    }
}

/// Writes 1, 2 or 4 bytes to a port for a program that may.
pub fn write_for_program(port: u16, bytes: u8, value: u32) {
    if COM1.contains(&port) && COM1_IS_THE_KERNELS.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: as in `read_for_program`.
    unsafe {
        match bytes {
            1 => PortWriteOnly::new(port).write(value as u8),
            2 => PortWriteOnly::new(port).write(value as u16),
            _ => PortWriteOnly::new(port).write(value),
        }
    }
}

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
