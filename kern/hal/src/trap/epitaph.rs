//! The reason why the kernel died, at a symbol that a debugger finds: `AURORA_EPITAPH`.
//!
//! The CPU that dies first writes the text, once, before anything is printed. So the text exists
//! even without a serial port. `state` goes from 0 to 1 when the text is complete.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

/// Longest text that is kept.
const LENGTH: usize = 500;

#[repr(C)]
pub struct Epitaph {
    state: AtomicU32,
    /// Which CPU died; `u32::MAX` before CPUs have numbers.
    cpu: AtomicU32,
    length: AtomicU32,
    text: UnsafeCell<[u8; LENGTH]>,
}

// SAFETY: `text` is written once, by the one CPU that `begin_to_die` lets through.
unsafe impl Sync for Epitaph {}

#[unsafe(no_mangle)]
static AURORA_EPITAPH: Epitaph = Epitaph {
    state: AtomicU32::new(0),
    cpu: AtomicU32::new(u32::MAX),
    length: AtomicU32::new(0),
    text: UnsafeCell::new([0; LENGTH]),
};

struct Writer<'t> {
    text: &'t mut [u8; LENGTH],
    used: usize,
}

impl Write for Writer<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let len = s.len().min(LENGTH - self.used);
        self.text[self.used..self.used + len].copy_from_slice(&s.as_bytes()[..len]);
        self.used += len;
        Ok(())
    }
}

/// Writes why the kernel dies to `AURORA_EPITAPH`, where a debugger finds it.
///
/// # Safety
/// Called once, by the CPU that [`super::begin_to_die`] let through.
pub(super) unsafe fn write(cpu: Option<u32>, args: fmt::Arguments<'_>) {
    let epitaph = &AURORA_EPITAPH;
    // SAFETY: nothing else writes (caller), and readers are debuggers.
    let mut writer = Writer { text: unsafe { &mut *epitaph.text.get() }, used: 0 };
    // What does not fit is cut.
    let _ = writer.write_fmt(args);
    epitaph.length.store(writer.used as u32, Ordering::Relaxed);
    epitaph.cpu.store(cpu.unwrap_or(u32::MAX), Ordering::Relaxed);
    epitaph.state.store(1, Ordering::Release);
}
