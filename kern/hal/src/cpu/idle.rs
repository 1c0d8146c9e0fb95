//! Waiting for work. Interrupts are on only here; those that come are in `CpuLocal::arrived`
//! afterwards, and the caller looks at them and at the mailbox with interrupts off again.

/// How idle CPUs wait: the boot option `idle`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IdleMode {
    #[default]
    Halt,
    Poll,
    Mwait,
}

impl IdleMode {
    /// Reads the boot option; `None` for a value that it doesn't have.
    pub fn from_option(value: Option<&str>) -> Option<IdleMode> {
        match value {
            None | Some("halt") => Some(IdleMode::Halt),
            Some("poll") => Some(IdleMode::Poll),
            Some("mwait") => Some(IdleMode::Mwait),
            Some(_) => None,
        }
    }
}

/// Waits for an interrupt. STI takes effect after the next instruction, so none is lost between the
/// caller's last look (interrupts off) and the halt.
#[inline]
pub fn halt() {
    // SAFETY: interrupts in kernel mode are handled by `trap::kernel_trap`, which keeps all registers;
    // memory is clobbered by default.
    unsafe { core::arch::asm!("sti", "hlt", "cli") }
}

/// Lets interrupts in for a moment, for a loop that polls. The instruction behind STI is an ordinary
/// one: QEMU takes no interrupt between a PAUSE or MWAIT there and the CLI.
#[inline]
pub fn poll() {
    // SAFETY: as in `halt`. An interrupt that waits is taken behind NOP.
    unsafe { core::arch::asm!("sti", "nop", "pause", "cli") }
}

/// Waits until the cache line at `line` is written or an interrupt comes; at once where `wait` says no
/// after the line is watched. The CPU has MONITOR.
#[inline]
pub fn mwait(line: u64, wait: impl FnOnce() -> bool) {
    // SAFETY: MONITOR has no effect but to watch the line.
    unsafe {
        core::arch::asm!("monitor", in("rax") line, in("ecx") 0, in("edx") 0, options(nostack, preserves_flags));
    }
    if !wait() {
        return;
    }
    // SAFETY: as in `halt`: MWAIT is the instruction behind STI.
    unsafe { core::arch::asm!("sti", "mwait", "cli", in("eax") 0, in("ecx") 0) }
    poll();
}
