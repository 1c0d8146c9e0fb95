//! Doors for host tests of the safe crates, in which one thread plays every CPU in turn.
//!
//! Behind the feature `host-test`, which only `dev-dependencies` turn on: the kernel cannot reach it.
//! The functions are safe to call so that crates which forbid unsafe code can be tested; what keeps
//! them sound is that a test neither shares its objects between threads nor frees them (`leak`), or gives
//! back their memory only when it is done with all of them (`give_back`).

extern crate std;

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::vec::Vec;

use crate::chaos::Point;
use crate::cpu::{CpuId, Entry, Pin};
use crate::door::{Ref, Region};
use crate::percpu::{LocalEntry, PerCpu};

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

/// An entry on the CPU of a block.
pub fn local_entry<O, S, P>(block: &'static PerCpu<O, S, P>) -> LocalEntry<O, S, P> {
    // SAFETY: as for `entry`.
    unsafe { LocalEntry::new(block) }
}

/// Clears memory of a [`region`].
pub fn clear(at: u64, bytes: usize) {
    // SAFETY: as the module says: the test's own memory, in which nothing that it uses is just now.
    unsafe { core::ptr::write_bytes(at as *mut u8, 0, bytes) }
}

/// Fills it.
pub fn fill(at: u64, value: u8, bytes: usize) {
    // SAFETY: as for `clear`.
    unsafe { core::ptr::write_bytes(at as *mut u8, value, bytes) }
}

/// What is in it just now.
pub fn bytes(at: u64, bytes: usize) -> Vec<u8> {
    // SAFETY: as for `clear`.
    unsafe { core::slice::from_raw_parts(at as *const u8, bytes) }.to_vec()
}

/// What is in it, as words that somebody else may write, too.
pub fn words(at: u64, count: usize) -> &'static [core::sync::atomic::AtomicU64] {
    // SAFETY: as for `clear`; whoever uses this memory at the same time does so by atomics.
    unsafe { core::slice::from_raw_parts(at as *const core::sync::atomic::AtomicU64, count) }
}

/// Copies from one place of a [`region`] to another.
pub fn copy(from: u64, to: u64, bytes: usize) {
    // SAFETY: as for `clear`.
    unsafe { core::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) }
}

/// An object that lives for ever.
pub fn leak<T>(object: T) -> Ref<'static, T> {
    Ref::from_static(Box::leak(Box::new(object)))
}

/// A region's memory, and whether it may be handed out (again).
struct Memory {
    base: u64,
    layout: Layout,
    free: bool,
}

std::thread_local! {
    static MEMORY: RefCell<Vec<Memory>> = const { RefCell::new(Vec::new()) };
}

/// Memory that lives for ever: `size` bytes, all zero, aligned to `align` (a power of two). It is some that
/// was given back, if there is any of that size.
pub fn region(size: u64, align: u64) -> Region {
    let layout = match Layout::from_size_align(size as usize, align as usize) {
        Ok(layout) if size > 0 => layout,
        _ => panic!("a test asked for {size} bytes aligned to {align}"),
    };
    MEMORY.with_borrow_mut(|all| {
        let base = match all.iter_mut().find(|memory| memory.free && memory.layout == layout) {
            Some(memory) => {
                memory.free = false;
                // SAFETY: allocated below with this layout, and given back: nobody uses it.
                unsafe { core::ptr::write_bytes(memory.base as *mut u8, 0, layout.size()) };
                memory.base
            }
            None => {
                // SAFETY: the size is not zero.
                let at = unsafe { alloc_zeroed(layout) };
                if at.is_null() {
                    handle_alloc_error(layout);
                }
                all.push(Memory { base: at as u64, layout, free: false });
                at as u64
            }
        };
        // SAFETY: just allocated or given back, never freed, and nobody else knows of it.
        unsafe { Region::new(base, size) }
    })
}

/// Takes back the memory of a [`region`] of this thread, by its first address. Nothing that stood in it is
/// used any more.
pub fn give_back(base: u64) {
    MEMORY.with_borrow_mut(|all| match all.iter_mut().find(|memory| memory.base == base && !memory.free) {
        Some(memory) => memory.free = true,
        None => panic!("a test gave back {base:#x}, which it does not have"),
    });
}

/// What happens at a labelled point: a test's closure, for as long as [`at_points`] keeps it here.
type Hook = *mut dyn FnMut(Point);

std::thread_local! {
    static HOOK: Cell<Option<Hook>> = const { Cell::new(None) };
}

/// Calls `hook` at each labelled point that `run` comes by, in the middle of whatever that does. What the hook itself
/// does has no points.
pub fn at_points<R>(hook: &mut dyn FnMut(Point), run: impl FnOnce() -> R) -> R {
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            HOOK.set(None);
        }
    }
    let hook: *mut (dyn FnMut(Point) + '_) = hook;
    // SAFETY: the types differ in their lifetime only. The hook is called only while it is in `HOOK`, from which it is
    // gone when this function ends, in whatever way; so the caller's exclusive reference lasts for longer.
    let hook = unsafe { core::mem::transmute::<*mut (dyn FnMut(Point) + '_), Hook>(hook) };
    let _clear = Clear;
    HOOK.set(Some(hook));
    run()
}

/// Comes by a labelled point: also for machines that tests simulate.
pub fn point(point: Point) {
    let Some(hook) = HOOK.take() else { return };
    // SAFETY: see `at_points`; nobody else has it, since it was taken out, and this thread is the only one that could.
    unsafe { (*hook)(point) };
    HOOK.set(Some(hook));
}
