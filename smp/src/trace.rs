//! Tracing: a ring of events for each CPU. Without the feature `trace` all of this compiles to
//! nothing.
//!
//! # The writers
//! A CPU writes only its own ring, with interrupts off; the [`Pin`] proves both. The fastpaths
//! write from assembly (`ipc-fast/src/trace.s`), by the same protocol ([`crate::ring`]): they find
//! the rings through `AURORA_TRACE`.
//!
//! # When it stops
//! `stop` makes all CPUs stop writing, so that they do not overwrite the last events while these
//! are read out. A CPU may still finish an event that it has begun.

/// Whether this build has tracing. What is written only `if ENABLED` costs nothing in others.
pub const ENABLED: bool = cfg!(feature = "trace");

use test_abi::trace::Event;

use crate::cpu::Pin;

/// Writes an event into this CPU's ring. Calls `make` only if the ring takes events now.
#[inline(always)]
pub fn record(pin: Pin<'_>, make: impl FnOnce() -> Event) {
    record_since(pin, begin(), make);
}

#[cfg(not(feature = "trace"))]
mod off {
    use super::{Event, Pin};

    /// Returns the time at which an action begins that is recorded at its end, as a mailbox push
    /// is: so its event comes before the events that the message causes. Returns 0 if no events are
    /// written.
    #[inline(always)]
    pub fn begin() -> u64 {
        0
    }

    /// Writes an event as [`record`](super::record) does, for an action that began at a given time.
    #[inline(always)]
    pub fn record_since(_: Pin<'_>, _began: u64, _make: impl FnOnce() -> Event) {}
}

#[cfg(not(feature = "trace"))]
pub use off::*;

#[cfg(feature = "trace")]
mod rings {
    use core::mem::offset_of;

    use test_abi::trace::EVENT_WORDS;

    use super::{Event, Pin};
    use crate::cpu::{CpuId, MAX_CPUS};
    use crate::ring::{self, Read, Reader};
    use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

    /// One CPU's ring: where it is, how long, how many events were written.
    #[repr(C, align(64))]
    pub struct Ring {
        words: AtomicPtr<AtomicU64>,
        /// Words less one; the number of words is a power of two.
        mask: AtomicU64,
        head: AtomicU64,
    }

    /// The rings, by CPU, and whether CPUs write into them.
    #[repr(C)]
    pub struct Rings {
        rings: [Ring; MAX_CPUS],
        on: AtomicBool,
    }

    #[unsafe(no_mangle)]
    pub static AURORA_TRACE: Rings = Rings {
        rings: [const {
            Ring {
                words: AtomicPtr::new(core::ptr::null_mut()),
                mask: AtomicU64::new(0),
                head: AtomicU64::new(0),
            }
        }; MAX_CPUS],
        on: AtomicBool::new(false),
    };

    impl Rings {
        /// For assembly.
        pub const RINGS_OFFSET: usize = offset_of!(Rings, rings);
        pub const ON_OFFSET: usize = offset_of!(Rings, on);
        pub const RING_SHIFT: u32 = size_of::<Ring>().ilog2();
        pub const WORDS_OFFSET: usize = offset_of!(Ring, words);
        pub const MASK_OFFSET: usize = offset_of!(Ring, mask);
        pub const HEAD_OFFSET: usize = offset_of!(Ring, head);
    }

    const _: () = assert!(size_of::<Ring>().is_power_of_two() && EVENT_WORDS.is_power_of_two());

    impl Ring {
        /// Returns the ring's memory; empty before [`provide`].
        #[inline(always)]
        fn words(&self) -> Option<&'static [AtomicU64]> {
            let at = self.words.load(Ordering::Acquire);
            let len = self.mask.load(Ordering::Relaxed) as usize + 1;
            // SAFETY: not null: `provide` stored the address, after the length, of a slice that is
            // never freed.
            (!at.is_null()).then(|| unsafe { core::slice::from_raw_parts(at, len) })
        }

        fn write(&self, time: u64, event: Event) {
            if let Some(words) = self.words() {
                let [kind, first, second] = event.encode();
                ring::write(words, &self.head, [time, kind, first, second]);
            }
        }
    }

    fn ring(cpu: CpuId) -> &'static Ring {
        &AURORA_TRACE.rings[cpu.index()]
    }

    fn now() -> u64 {
        // SAFETY: reads the time-stamp counter, which every CPU of this machine has.
        unsafe { core::arch::x86_64::_rdtsc() }
    }

    /// Gives a CPU the memory of its ring: a power of two of words, four at least. Called once for
    /// each CPU, at boot.
    pub fn provide(cpu: CpuId, words: &'static [AtomicU64]) {
        assert!(
            words.len().is_power_of_two() && words.len() >= EVENT_WORDS,
            "a ring of {} words",
            words.len()
        );
        let ring = ring(cpu);
        ring.mask.store(words.len() as u64 - 1, Ordering::Relaxed);
        ring.words.store(words.as_ptr().cast_mut(), Ordering::Release);
    }

    /// Starts the writing of events.
    pub fn start() {
        AURORA_TRACE.on.store(true, Ordering::Release);
    }

    /// Stops the writing of events. Returns the time.
    pub fn stop() -> u64 {
        AURORA_TRACE.on.store(false, Ordering::SeqCst);
        now()
    }

    /// Reads the next event in the ring of a CPU, after those that `reader` has read.
    pub fn read(cpu: CpuId, reader: &mut Reader) -> Option<Read> {
        let ring = ring(cpu);
        reader.read(ring.words()?, &ring.head)
    }

    /// Returns the time at which an action begins that is recorded at its end, as a mailbox push
    /// is: so its event comes before the events that the message causes. Returns 0 if no events are
    /// written.
    #[inline]
    pub fn begin() -> u64 {
        if AURORA_TRACE.on.load(Ordering::Relaxed) { now() } else { 0 }
    }

    /// Writes an event as [`record`](super::record) does, for an action that began at a given time.
    #[inline]
    pub fn record_since(pin: Pin<'_>, began: u64, make: impl FnOnce() -> Event) {
        if began != 0 {
            ring(pin.cpu()).write(began, make());
        }
    }
}

#[cfg(feature = "trace")]
pub use rings::*;
