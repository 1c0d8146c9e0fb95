//! Doors for host tests of the safe crates, in which one thread plays every CPU in turn.
//!
//! Behind the feature `host-test`, which only `dev-dependencies` turn on: the kernel cannot reach
//! it. The functions are safe to call so that crates which forbid unsafe code can be tested. They
//! are sound because a test does not share its objects between threads. It either never frees them
//! (`leak`), or frees their memory only when it no longer uses any of them (`give_back`).

extern crate std;

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::vec::Vec;

use crate::chaos::Point;
use crate::cpu::{CpuId, Entry, Pin};
use crate::door::{Ref, Region};
use crate::percpu::{LocalEntry, PerCpu};

/// Returns the CPU numbered `n`; panics if the number is out of range.
pub fn cpu(n: usize) -> CpuId {
    match CpuId::new(n) {
        Some(cpu) => cpu,
        None => panic!("a test asked for CPU {n}, which is out of range"),
    }
}

/// Returns a pin by which the test runs on CPU `n`.
pub fn pin<'k>(n: usize) -> Pin<'k> {
    // SAFETY: not literally so; see the module's text: one thread, no sharing, nothing is freed.
    unsafe { Pin::new(cpu(n)) }
}

/// Makes a kernel entry on CPU `n`.
pub fn entry(n: usize) -> Entry {
    // SAFETY: as for `pin`.
    unsafe { Entry::new(cpu(n)) }
}

/// Makes an entry on the CPU of a block.
pub fn local_entry<O, S, P>(block: &'static PerCpu<O, S, P>) -> LocalEntry<O, S, P> {
    // SAFETY: as for `entry`.
    unsafe { LocalEntry::new(block) }
}

/// Returns the blocks of all CPUs that a test plays.
pub fn all_cpus<O, S, P>(blocks: crate::door::Table<PerCpu<O, S, P>>) -> crate::percpu::All<O, S, P> {
    // SAFETY: as for `entry`: the test makes entries of these blocks alone.
    unsafe { crate::percpu::All::new(blocks) }
}

/// Makes a value that a test vouches for.
pub fn vouched<T: Copy>(value: T) -> crate::door::Vouched<T> {
    // SAFETY: as the module says: what is made of it is memory of the test's own.
    unsafe { crate::door::Vouched::new(value) }
}

/// Counts a return to user mode, as [`left_by_iret`](crate::quiesce::left_by_iret) does, for a CPU
/// that a test plays.
pub fn left_by_iret<O, S, P>(entry: &mut LocalEntry<O, S, P>) {
    // SAFETY: as for `pin`: the CPU does nothing else in this entry.
    unsafe { crate::quiesce::left_by_iret(entry) }
}

/// Returns the contents of state on any CPU, also while it is under way.
pub fn inside<'k, T>(state: Ref<'k, crate::door::Homed<T>>) -> &'k T {
    state.get().value()
}

/// Returns state that a lock guards, without taking the lock.
pub fn guarded<T>(state: &crate::lock::LeftLock<T>) -> &T {
    state.value()
}

/// Clears `bytes` bytes of a [`region`], from the address `at` on.
pub fn clear(at: u64, bytes: usize) {
    // SAFETY: as the module says: the test's own memory, in which nothing that it uses is just now.
    unsafe { core::ptr::write_bytes(at as *mut u8, 0, bytes) }
}

/// Fills `bytes` bytes of a [`region`] with `value`, from the address `at` on.
pub fn fill(at: u64, value: u8, bytes: usize) {
    // SAFETY: as for `clear`.
    unsafe { core::ptr::write_bytes(at as *mut u8, value, bytes) }
}

/// Returns a copy of `bytes` bytes of a [`region`], from the address `at` on.
pub fn bytes(at: u64, bytes: usize) -> Vec<u8> {
    // SAFETY: as for `clear`.
    unsafe { core::slice::from_raw_parts(at as *const u8, bytes) }.to_vec()
}

/// Returns `count` words of a [`region`], from the address `at` on. Other threads may also write
/// them.
pub fn words(at: u64, count: usize) -> &'static [core::sync::atomic::AtomicU64] {
    // SAFETY: as for `clear`; all concurrent users of this memory use atomics.
    unsafe { core::slice::from_raw_parts(at as *const core::sync::atomic::AtomicU64, count) }
}

/// Copies bytes from one address of a [`region`] to another.
pub fn copy(from: u64, to: u64, bytes: usize) {
    // SAFETY: as for `clear`.
    unsafe { core::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) }
}

/// Makes an object that is never freed.
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

/// Returns memory that is never freed: `size` bytes, all zero, aligned to `align` (a power of two).
/// It reuses returned memory of that size, if there is any.
pub fn region(size: u64, align: u64) -> Region {
    let layout = match Layout::from_size_align(size as usize, align as usize) {
        Ok(layout) if size > 0 => layout,
        _ => panic!("a test asked for {size} bytes aligned to {align}"),
    };
    MEMORY.with_borrow_mut(|all| {
        let base = match all.iter_mut().find(|memory| memory.free && memory.layout == layout) {
            Some(memory) => {
                memory.free = false;
                // SAFETY: allocated below with this layout, and returned: nothing uses it.
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
        // SAFETY: just allocated or returned, never freed, and nothing else knows it.
        unsafe { Region::new(base, size) }
    })
}

/// Takes back the memory of a [`region`] of this thread, by its first address.
/// Requires: nothing in that memory is used any more.
pub fn give_back(base: u64) {
    MEMORY.with_borrow_mut(|all| match all.iter_mut().find(|memory| memory.base == base && !memory.free) {
        Some(memory) => memory.free = true,
        None => panic!("a test gave back {base:#x}, which it does not have"),
    });
}

/// What happens at a point: a test's closure, for as long as [`at_points`] keeps it here.
type Hook = *mut dyn FnMut(Point);
/// What a CPU does that meets a lock which is taken: a test's closure, for as long as [`at_locks`]
/// keeps it here.
type Waiter = *mut dyn FnMut(&dyn Fn() -> bool);

/// What a test wants to know of the code that runs on one stack. A test that switches between
/// stacks exchanges them.
#[derive(Clone, Copy, Default)]
pub struct Hooks {
    points: Option<Hook>,
    locks: Option<Waiter>,
}

std::thread_local! {
    static HOOKS: Cell<Hooks> = const { Cell::new(Hooks { points: None, locks: None }) };
    static PLACE: Cell<Option<&'static Location<'static>>> = const { Cell::new(None) };
    static WORD: Cell<u64> = const { Cell::new(0) };
}

impl Hooks {
    /// Exchanges these hooks with those of the code that ran until now.
    pub fn exchange(&mut self) {
        *self = HOOKS.replace(*self);
    }
}

/// Changes the hooks until the end of a scope.
struct Until(Hooks);

impl Until {
    fn set(change: impl FnOnce(&mut Hooks)) -> Until {
        let mut hooks = HOOKS.get();
        let before = Until(hooks);
        change(&mut hooks);
        HOOKS.set(hooks);
        before
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        HOOKS.set(self.0);
    }
}

/// Calls `hook` at each point that `run` passes, in the middle of its work. The hook's own work has
/// no points.
pub fn at_points<R>(hook: &mut dyn FnMut(Point), run: impl FnOnce() -> R) -> R {
    let hook: *mut (dyn FnMut(Point) + '_) = hook;
    // SAFETY: the types differ in their lifetime only. The hook is called only while it is in
    // `HOOKS`, from which it is gone when this function ends, in whatever way; so the caller's
    // exclusive reference lasts for longer. A test that exchanges hooks does so with the stack on
    // which this function runs.
    let hook = unsafe { core::mem::transmute::<*mut (dyn FnMut(Point) + '_), Hook>(hook) };
    let _until = Until::set(|hooks| hooks.points = Some(hook));
    run()
}

/// Calls `waiter` if `run` meets a lock that is held: it lets others continue, and returns when the
/// lock may be free.
pub fn at_locks<R>(waiter: &mut dyn FnMut(&dyn Fn() -> bool), run: impl FnOnce() -> R) -> R {
    let waiter: *mut (dyn FnMut(&dyn Fn() -> bool) + '_) = waiter;
    // SAFETY: as in `at_points`.
    let waiter = unsafe { core::mem::transmute::<*mut (dyn FnMut(&dyn Fn() -> bool) + '_), Waiter>(waiter) };
    let _until = Until::set(|hooks| hooks.locks = Some(waiter));
    run()
}

/// Passes a point, at which a hook of the test runs. Machines that tests simulate call it, too.
#[track_caller]
pub fn point(point: Point) {
    let hooks = HOOKS.get();
    let Some(hook) = hooks.points else { return };
    PLACE.set(Some(Location::caller()));
    HOOKS.set(Hooks { points: None, ..hooks });
    // SAFETY: see `at_points`; nothing else has it, since it was taken out, and only this thread
    // could.
    unsafe { (*hook)(point) };
    HOOKS.set(hooks);
}

/// Passes a point at a shared word or a lock, whose address is `at`.
#[track_caller]
pub fn point_at<T>(at: *const T, at_point: Point) {
    if HOOKS.get().points.is_some() {
        WORD.set(at as u64);
        point(at_point);
        WORD.set(0);
    }
}

/// Returns, in a hook, the address of the word or the lock at which the point is; 0 for points that
/// the source names.
pub fn word() -> u64 {
    WORD.get()
}

/// Returns the place in the source of the point that was passed last.
pub fn place() -> Option<&'static Location<'static>> {
    PLACE.get()
}

/// Returns whether other simulated CPUs could continue while this one waits in [`contended`].
pub fn others_wait() -> bool {
    HOOKS.get().locks.is_some()
}

/// Waits, for a simulated CPU that meets a held lock, until `is_free`: lets the stopped CPUs
/// continue. Panics if there is none, since no CPU could release the lock.
pub fn contended(is_free: &dyn Fn() -> bool) {
    let hooks = HOOKS.get();
    let Some(waiter) = hooks.locks else { panic!("a CPU waits for a lock that nobody lets go of") };
    HOOKS.set(Hooks::default());
    // SAFETY: see `at_locks`; nothing else has it, since it was taken out.
    unsafe { (*waiter)(is_free) };
    HOOKS.set(hooks);
}
