//! Waiting for work. Interrupts are on only here. Each function returns which interrupts came, and
//! the caller handles them and the mailbox with interrupts off again.

use core::arch::asm;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::Relaxed;

/// How idle CPUs wait: the boot option `idle`, unless they are parked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdleMode(u8);

/// How this machine's CPUs wait. Boot code sets it before other CPUs start.
static MODE: AtomicU8 = AtomicU8::new(IdleMode::HALT.0);

/// Sets how all CPUs wait.
pub fn set_mode(mode: IdleMode) {
    MODE.store(mode.0, Relaxed);
}

/// Returns how all CPUs wait.
pub fn mode() -> IdleMode {
    IdleMode(MODE.load(Relaxed))
}

impl IdleMode {
    pub const HALT: IdleMode = IdleMode(0);
    pub const POLL: IdleMode = IdleMode(1);
    pub const MWAIT: IdleMode = IdleMode(2);

    /// Returns the mode as a number, for a CPU that waits in a way of its own.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Returns the mode with this number.
    pub const fn of_number(number: u8) -> IdleMode {
        IdleMode(number)
    }

    /// Decodes the value of the boot option for idling; `None` for a value that the option does not
    /// have.
    pub fn from_option(value: Option<&str>) -> Option<IdleMode> {
        match value {
            None | Some("halt") => Some(IdleMode::HALT),
            Some("poll") => Some(IdleMode::POLL),
            Some("mwait") => Some(IdleMode::MWAIT),
            Some(_) => None,
        }
    }
}

/// Another CPU woke this one.
pub const WOKEN: u64 = 1 << 0;
/// The timer fired.
pub const TIMER: u64 = 1 << 1;
/// Another interrupt came.
pub const OTHER: u64 = 1 << 2;
/// From this bit on: interrupts of devices, which are not acknowledged yet, by their places in the
/// CPU's table.
pub const DEVICE_SHIFT: u32 = 8;

const _: () = assert!(DEVICE_SHIFT as usize + abi::devices::CPU_LINES <= 64);

// Each of the following says what interrupts came, by these bits; 0: none. Their handler leaves
// that in RAX (`trap_kernel` in trap/entry.s), and may change all registers that a C call may.

/// Waits for an interrupt. STI takes effect after the next instruction, so none is lost between the
/// caller's last look (interrupts off) and the halt.
#[inline(always)]
pub fn halt() -> u64 {
    let came: u64;
    // SAFETY: interrupts in kernel mode call `trap::idle_interrupt`, which keeps the registers that
    // a C call keeps; memory is clobbered by default.
    unsafe { asm!("xor eax, eax", "sti", "hlt", "cli", lateout("rax") came, clobber_abi("C")) }
    came
}

/// Enables interrupts for a moment. The instruction after STI is an ordinary one: QEMU takes no
/// interrupt between a PAUSE or MWAIT there and the CLI.
#[inline(always)]
pub fn pause() -> u64 {
    let came: u64;
    // SAFETY: as in `halt`. A pending interrupt is taken after NOP.
    unsafe { asm!("xor eax, eax", "sti", "nop", "pause", "cli", lateout("rax") came, clobber_abi("C")) }
    came
}

/// Waits for an interrupt, or until `done` returns true, which it calls all the time.
#[inline(always)]
pub fn poll_until(done: impl Fn() -> bool) -> u64 {
    loop {
        let came = pause();
        if came != 0 || done() {
            return came;
        }
    }
}

/// Waits for an interrupt, or until `done` returns true, which it calls when the cache line at
/// `line` is written.
/// Requires: the CPU has MONITOR.
pub fn mwait_until(line: u64, done: impl Fn() -> bool) -> u64 {
    while !done() {
        // SAFETY: MONITOR has no effect but to watch the line.
        unsafe {
            asm!("monitor", in("rax") line, in("ecx") 0, in("edx") 0, options(nostack, preserves_flags));
        }
        if done() {
            break;
        }
        let came: u64;
        // SAFETY: as in `halt`: MWAIT is the instruction after STI, and takes its hints from EAX
        // and ECX.
        unsafe { asm!("sti", "mwait", "cli", inlateout("rax") 0u64 => came, in("rcx") 0, clobber_abi("C")) }
        let came = came | pause();
        if came != 0 {
            return came;
        }
    }
    0
}
