//! Points that the TCG plugin sees: eight-byte no-operations with a magic displacement.
//!
//! The book's chapter on measuring defines them. Without the plugin each is one instruction that
//! does nothing.

use core::arch::asm;
use core::sync::atomic::AtomicU64;

/// Kinds of markers.
pub const BEGIN: u8 = 1;
pub const END: u8 = 2;
pub const OP: u8 = 3;
pub const SKIP: u8 = 4;
pub const ROW: u8 = 5;
pub const DUE: u8 = 6;
pub const WOKE: u8 = 7;
pub const STRETCHES: u8 = 8;
pub const GATE: u8 = 9;

/// Region of `call_reply_cross_cpu_busy`.
pub const REGION_BUSY: u8 = 1;
/// Regions of the rows of interrupts to a driver.
pub const REGION_IRQ: u8 = 9;
pub const REGION_IRQ_PREEMPT: u8 = 10;
pub const REGION_IRQ_CROSS: u8 = 11;
/// Region of every sample of every row.
pub const REGION_SAMPLE: u8 = 2;
/// Regions of the loads of `scale`.
pub const REGION_LOCAL: u8 = 4;
pub const REGION_PER_CPU: u8 = 5;
pub const REGION_CROSSING: u8 = 6;
pub const REGION_ALL_TO_ONE: u8 = 7;
pub const REGION_STORM: u8 = 8;
/// Regions of the victims of `hostile`: this plus the victim's number.
pub const HOSTILE_QUIET: u8 = 0x80;
pub const HOSTILE_LOUD: u8 = 0x90;
/// Regions of the task of `hostile` that wakes by timer.
pub const HOSTILE_QUIET_WAKES: u8 = 0x8f;
pub const HOSTILE_LOUD_WAKES: u8 = 0x9f;
/// Region of `pairs_local_N` is this plus N.
pub const REGION_PAIRS: u8 = 0x10;

/// Executes one marker.
#[inline(always)]
pub fn mark<const KIND: u8, const ARGUMENT: u8>() {
    // SAFETY: a no-operation; its displacement is never used as an address.
    unsafe {
        asm!(
            ".byte 0x0f, 0x1f, 0x84, 0x00, {argument}, {kind}, 0x52, 0x41",
            argument = const ARGUMENT,
            kind = const KIND,
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// Executes a marker of `pairs_local_N`, whose N is known only at run time. Numbers of CPUs beyond
/// those listed leave no mark.
#[inline(always)]
pub fn mark_pairs<const KIND: u8>(cpus: u64) {
    macro_rules! cases {
        ($($n:literal)*) => {
            match cpus {
                $($n => mark::<KIND, { REGION_PAIRS + $n }>(),)*
                _ => {}
            }
        };
    }
    cases!(1 2 3 4 5 6 7 8 10 12 16 24 32 48 64);
}

/// Polls a word until it is at least `least`. The plugin does not count the loop.
pub fn wait_uncounted(word: &AtomicU64, least: u64) {
    // SAFETY: reads the word, which the reference keeps alive, and pauses. The marker's argument is
    // the length of the marker (8 bytes), the pause (2), the comparison (3) and the short jump (2).
    unsafe {
        asm!(
            "2:",
            ".byte 0x0f, 0x1f, 0x84, 0x00, {length}, {kind}, 0x52, 0x41",
            "pause",
            "cmp qword ptr [rax], rcx",
            "jb 2b",
            length = const 15u8,
            kind = const SKIP,
            in("rax") word.as_ptr(),
            in("rcx") least,
            options(readonly, nostack)
        );
    }
}

/// Loops forever, as a busy user program does. The plugin does not count the loop.
pub fn busy_loop() -> ! {
    // SAFETY: only pauses and jumps. The marker's argument is the length of the marker (8 bytes),
    // the pause (2) and the short jump (2) back to the marker.
    unsafe {
        asm!(
            "2:",
            ".byte 0x0f, 0x1f, 0x84, 0x00, {length}, {kind}, 0x52, 0x41",
            "pause",
            "jmp 2b",
            length = const 12u8,
            kind = const SKIP,
            options(noreturn, nomem, nostack)
        );
    }
}
