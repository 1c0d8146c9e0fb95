//! Doors for host tests of the safe crates, in which one thread plays every CPU in turn.
//!
//! Behind the feature `host-test`, which only `dev-dependencies` turn on: the kernel cannot reach it.
//! The functions are safe to call so that crates which forbid unsafe code can be tested; what keeps
//! them sound is that a test neither shares its objects between threads nor frees them (`leak`).

extern crate std;

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::boxed::Box;

use crate::cpu::{CpuId, Entry, Pin};
use crate::door::{Ref, Region};

/// The CPU numbered `n`; panics where the number is out of range.
pub fn cpu(n: usize) -> CpuId {
    match CpuId::new(n) {
        Some(cpu) => cpu,
        None => panic!("a test asked for CPU {n}, which is out of range"),
    }
}

/// A pin that says the test runs on CPU `n`.
pub fn pin<'k>(n: usize) -> Pin<'k> {
    // SAFETY: not literally so; see the module's text: one thread, no sharing, nothing is freed.
    unsafe { Pin::new(cpu(n)) }
}

/// A kernel entry on CPU `n`.
pub fn entry(n: usize) -> Entry {
    // SAFETY: as for `pin`.
    unsafe { Entry::new(cpu(n)) }
}

/// An object that lives for ever.
pub fn leak<T>(object: T) -> Ref<'static, T> {
    Ref::from_static(Box::leak(Box::new(object)))
}

/// Memory that lives for ever: `size` bytes, all zero, aligned to `align` (a power of two).
pub fn region(size: u64, align: u64) -> Region {
    let layout = match Layout::from_size_align(size as usize, align as usize) {
        Ok(layout) if size > 0 => layout,
        _ => panic!("a test asked for {size} bytes aligned to {align}"),
    };
    // SAFETY: the size is not zero.
    let at = unsafe { alloc_zeroed(layout) };
    if at.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: just allocated, never freed, and nobody else knows of it.
    unsafe { Region::new(at as u64, size) }
}
