//! The kernel's defmt logger: one frame, one record on the log port.
//!
//! A frame is collected in a buffer first, because a record starts with its length. The buffer
//! belongs to whoever holds [`TAKEN`]. Not for NMI and panic paths: they print plain text.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::logport;

/// Longest frame; longer ones are dropped and counted.
const FRAME: usize = 1024;

struct Frame {
    bytes: [u8; FRAME],
    len: usize,
    overflow: bool,
}

struct Shared(UnsafeCell<Frame>);

// SAFETY: only the holder of `TAKEN` touches the cell (Logger's acquire … release).
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared(UnsafeCell::new(Frame { bytes: [0; FRAME], len: 0, overflow: false }));
static TAKEN: AtomicBool = AtomicBool::new(false);
static DROPPED: AtomicU32 = AtomicU32::new(0);

/// Frames that were too long and therefore dropped.
pub fn dropped() -> u32 {
    DROPPED.load(Ordering::Relaxed)
}

#[defmt::global_logger]
struct KernelLogger;

// SAFETY: `acquire` excludes other CPUs by `TAKEN` and this CPU's interrupts are off in the kernel;
// NMI handlers never log. `write` and `release` come only between `acquire` and `release`.
unsafe impl defmt::Logger for KernelLogger {
    fn acquire() {
        while TAKEN.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            core::hint::spin_loop();
        }
        // SAFETY: `TAKEN` is ours.
        let frame = unsafe { &mut *SHARED.0.get() };
        frame.len = 0;
        frame.overflow = false;
    }

    unsafe fn flush() {}

    unsafe fn release() {
        {
            // SAFETY: between acquire and release (the trait's contract) `TAKEN` is ours.
            let frame = unsafe { &*SHARED.0.get() };
            if frame.overflow || !logport::record(logport::KERNEL_CHANNEL, &frame.bytes[..frame.len]) {
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
        TAKEN.store(false, Ordering::Release);
    }

    unsafe fn write(bytes: &[u8]) {
        // SAFETY: between acquire and release (the trait's contract) `TAKEN` is ours.
        let frame = unsafe { &mut *SHARED.0.get() };
        match frame.bytes.get_mut(frame.len..frame.len + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                frame.len += bytes.len();
            }
            None => frame.overflow = true,
        }
    }
}

defmt::timestamp!("{=u64}", crate::cpu::time::tsc());
