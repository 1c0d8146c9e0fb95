//! The right to CPU time: what a SchedContext holds.
//!
//! Run queues hold SchedContexts, never tasks: a call hands the caller's to the callee, a reply hands
//! it back, and across CPUs it travels with the message. So time is charged to whoever asked for the
//! work. [`ScState`] is the inside of that kernel object; `kern/base` puts the object's header before
//! it and its home around it.
//!
//! The dispatcher notes the time when a context starts to run, and calls [`ScState::charge`] when it
//! stops or the timer fires; a hand-over between tasks needs neither.

use core::cell::Cell;

use smp::cpu::CpuId;
use smp::cpuset::CpuSet;

use crate::run_queue::QueueLinks;

/// A slice that never ends: its owner gives way to higher priorities only.
pub const ENDLESS: u64 = u64::MAX;

/// What is left of a slice after a charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a slice that is over sends its owner to the end of its priority"]
pub enum Slice {
    /// It goes on.
    Left,
    /// It is over: [`ScState::refill`], then the end of the queue.
    Over,
}

/// The state of a SchedContext; `T` is the kernel object around it. Written by the CPU it is on.
#[repr(C)]
pub struct ScState<T> {
    /// Its place in that CPU's run queue. First, so that the hot part shares the object's first
    /// cache line with the header.
    pub links: QueueLinks<T>,
    remaining: Cell<u64>,
    consumed: Cell<u64>,
    priority: Cell<u8>,
    slice: Cell<u64>,
    cpus: Cell<CpuSet>,
}

impl<T> ScState<T> {
    /// A context that has used no time, with a whole slice (in TSC ticks) before it.
    pub const fn new(priority: u8, slice: u64, cpus: CpuSet) -> ScState<T> {
        ScState {
            links: QueueLinks::new(),
            remaining: Cell::new(slice),
            consumed: Cell::new(0),
            priority: Cell::new(priority),
            slice: Cell::new(slice),
            cpus: Cell::new(cpus),
        }
    }

    /// 0 lowest, 255 highest.
    #[inline(always)]
    pub fn priority(&self) -> u8 {
        self.priority.get()
    }

    /// Changes the priority. Where it is queued, [`RunQueue::change_priority`] moves it.
    ///
    /// [`RunQueue::change_priority`]: crate::run_queue::RunQueue::change_priority
    pub fn set_priority(&self, priority: u8) {
        self.priority.set(priority);
    }

    /// TSC ticks that it may run before others of its priority get their turn.
    pub fn slice(&self) -> u64 {
        self.slice.get()
    }

    /// Changes the slice: the present one ends no later than a new one would.
    pub fn set_slice(&self, slice: u64) {
        self.slice.set(slice);
        self.remaining.set(self.remaining.get().min(slice));
    }

    /// What is left of the present slice, in TSC ticks.
    #[inline(always)]
    pub fn remaining(&self) -> u64 {
        self.remaining.get()
    }

    /// When the present slice is over if it starts to run at `now`; `u64::MAX` for an endless one.
    #[inline(always)]
    pub fn slice_end(&self, now: u64) -> u64 {
        now.saturating_add(self.remaining.get())
    }

    /// All CPU time charged so far, in TSC ticks.
    pub fn consumed(&self) -> u64 {
        self.consumed.get()
    }

    /// Charges `ticks` of CPU time.
    #[inline]
    pub fn charge(&self, ticks: u64) -> Slice {
        self.consumed.set(self.consumed.get().wrapping_add(ticks));
        if self.slice.get() == ENDLESS {
            return Slice::Left;
        }
        let left = self.remaining.get().saturating_sub(ticks);
        self.remaining.set(left);
        if left == 0 { Slice::Over } else { Slice::Left }
    }

    /// Starts a new slice.
    #[inline(always)]
    pub fn refill(&self) {
        self.remaining.set(self.slice.get());
    }

    /// Gives up the rest of the slice to `to`, which runs on it now (`yield_to`).
    pub fn donate_rest(&self, to: &ScState<T>) {
        to.remaining.set(self.remaining.get());
        self.refill();
    }

    /// The CPUs where it may run.
    pub fn cpus(&self) -> CpuSet {
        self.cpus.get()
    }

    /// Changes the CPUs where it may run.
    pub fn set_cpus(&self, cpus: CpuSet) {
        self.cpus.set(cpus);
    }

    /// Whether it may run on `cpu`.
    pub fn may_run_on(&self, cpu: CpuId) -> bool {
        self.cpus.get().contains(cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(slice: u64) -> ScState<()> {
        ScState::new(7, slice, CpuSet::first(2))
    }

    #[test]
    fn slices_are_used_up_and_refilled() {
        let sc = context(100);
        assert_eq!(sc.slice_end(1000), 1100);
        assert_eq!((sc.charge(60), sc.remaining()), (Slice::Left, 40));
        assert_eq!((sc.charge(41), sc.remaining()), (Slice::Over, 0));
        sc.refill();
        assert_eq!((sc.consumed(), sc.remaining()), (101, 100));
    }

    #[test]
    fn endless_slices_are_charged_but_never_over() {
        let sc = context(ENDLESS);
        assert_eq!(sc.charge(u64::MAX / 2), Slice::Left);
        assert_eq!((sc.consumed(), sc.slice_end(5)), (u64::MAX / 2, u64::MAX));
    }

    #[test]
    fn a_shorter_slice_holds_at_once_and_a_longer_one_at_the_refill() {
        let sc = context(100);
        sc.set_slice(30);
        assert_eq!(sc.remaining(), 30);
        sc.set_slice(500);
        assert_eq!(sc.remaining(), 30);
        sc.refill();
        assert_eq!(sc.remaining(), 500);
    }

    #[test]
    fn yielding_hands_over_the_rest() {
        let (from, to) = (context(100), context(70));
        assert_eq!(from.charge(25), Slice::Left);
        from.donate_rest(&to);
        assert_eq!((from.remaining(), to.remaining()), (100, 75));
    }

    #[test]
    fn affinity_is_a_set() {
        let sc = context(1);
        let cpu = |n| smp::host_test::cpu(n);
        assert!(sc.may_run_on(cpu(1)) && !sc.may_run_on(cpu(2)));
        sc.set_cpus(CpuSet::only(cpu(2)));
        assert!(!sc.may_run_on(cpu(1)) && sc.may_run_on(cpu(2)));
    }
}
