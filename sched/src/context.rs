//! The right to CPU time: what a SchedContext holds.
//!
//! Run queues hold SchedContexts, never tasks: a call donates the caller's context to the callee, a
//! reply gives it back, and across CPUs it travels with the message. So time is charged to the
//! client that asked for the work. [`ScState`] is the state of that kernel object; `kern/base` adds
//! the object's header and its home.
//!
//! # Accounting
//! While a context runs, its CPU keeps the end of its slice ([`ScState::start`]). When the context
//! stops, the rest of the slice is stored here ([`ScState::stop`]). The used time is the sum of the
//! slices that the context got, minus the rest. So a stop is one subtraction, and a start is one
//! addition. A donation between tasks needs neither.

use core::cell::Cell;

use smp::cpu::CpuId;
use smp::cpuset::{AtomicCpuSet, CpuSetCell};

use crate::run_queue::QueueLinks;

/// A slice that never ends: its owner gives way to higher priorities only.
pub const ENDLESS: u64 = u64::MAX;
/// Times from here on never come: what a timer that is off is set to. A TSC takes centuries to get
/// here.
pub const NEVER: u64 = 1 << 63;

/// The state of a SchedContext; `T` is the kernel object around it. Written by the CPU it is on.
#[repr(C)]
pub struct ScState<T> {
    /// The rest of the present slice; out of date while it runs. At most [`NEVER`], so an endless
    /// slice ends then. First, so that all that is written when the context goes to another CPU
    /// shares the object's first cache line with the header.
    remaining: Cell<u64>,
    /// Its place in that CPU's run queue.
    pub links: QueueLinks<T>,
    /// Priority + 1, as the run queue has it.
    rank: Cell<u32>,
    /// All slices begun so far, less what was given away of them.
    granted: Cell<u64>,
    slice: Cell<u64>,
    /// Where it may run.
    cpus: CpuSetCell,
}

impl<T> ScState<T> {
    /// For assembly, which does what [`ScState::start`], [`ScState::stop`] and
    /// [`ScState::donate_rest`] do.
    pub const RANK_OFFSET: usize = core::mem::offset_of!(ScState<T>, rank);
    /// See [`ScState::RANK_OFFSET`].
    pub const REMAINING_OFFSET: usize = core::mem::offset_of!(ScState<T>, remaining);
    /// See [`ScState::RANK_OFFSET`].
    pub const GRANTED_OFFSET: usize = core::mem::offset_of!(ScState<T>, granted);
    /// See [`ScState::RANK_OFFSET`].
    pub const SLICE_OFFSET: usize = core::mem::offset_of!(ScState<T>, slice);

    /// Makes a context that has used no time and is not set yet: without a slice, and for no CPU.
    #[inline(always)]
    pub fn inert() -> ScState<T> {
        ScState {
            remaining: Cell::new(0),
            links: QueueLinks::new(),
            rank: Cell::new(1),
            granted: Cell::new(0),
            slice: Cell::new(0),
            cpus: CpuSetCell::default(),
        }
    }

    /// Returns whether the context was never set.
    pub fn is_inert(&self) -> bool {
        self.slice.get() == 0
    }

    /// Returns the priority: 0 lowest, 255 highest.
    #[inline(always)]
    pub fn priority(&self) -> u8 {
        (self.rank.get() - 1) as u8
    }

    /// Returns the priority plus one.
    #[inline(always)]
    pub fn rank(&self) -> u32 {
        self.rank.get()
    }

    /// Changes the priority. If the context is queued, [`RunQueue::change_priority`] moves it.
    ///
    /// [`RunQueue::change_priority`]: crate::run_queue::RunQueue::change_priority
    pub fn set_priority(&self, priority: u8) {
        self.rank.set(u32::from(priority) + 1);
    }

    /// Returns the TSC ticks that the context may run before others of its priority run.
    pub fn slice(&self) -> u64 {
        if self.slice.get() == NEVER { ENDLESS } else { self.slice.get() }
    }

    /// Changes the slice (in TSC ticks, not 0), and shortens the present one to the new length if
    /// it is longer. The first slice that is set begins whole. Requires: the context does not run.
    pub fn set_slice(&self, slice: u64) {
        let is_first = self.is_inert();
        self.slice.set(slice.min(NEVER));
        if is_first {
            self.refill();
        }
        if self.remaining.get() > slice {
            self.set_remaining(slice);
        }
    }

    /// Returns the TSC ticks that were left of the present slice when the context last stopped.
    #[inline(always)]
    pub fn remaining(&self) -> u64 {
        self.remaining.get()
    }

    /// Sets the rest of the slice to `ticks`, without counting the change as consumed time.
    #[inline(always)]
    fn set_remaining(&self, ticks: u64) {
        let change = ticks.wrapping_sub(self.remaining.get());
        self.granted.set(self.granted.get().wrapping_add(change));
        self.remaining.set(ticks);
    }

    /// Starts the context at the time `now`. Returns the end of its slice.
    #[inline(always)]
    #[must_use = "it has to be told when it stops"]
    pub fn start(&self, now: u64) -> u64 {
        now.wrapping_add(self.remaining.get())
    }

    /// Updates the rest of the slice at `now`, when the context stops or while it runs on; `until`
    /// is the result of [`ScState::start`].
    #[inline(always)]
    pub fn stop(&self, until: u64, now: u64) {
        self.remaining.set(until.checked_sub(now).unwrap_or_else(|| self.overrun(now - until)));
    }

    /// Counts that the context ran `ticks` past the end of its slice. Returns the rest of the
    /// slice: 0.
    #[cold]
    fn overrun(&self, ticks: u64) -> u64 {
        self.granted.set(self.granted.get().wrapping_add(ticks));
        0
    }

    /// Returns all CPU time that the context had used when it last stopped, in TSC ticks.
    pub fn consumed(&self) -> u64 {
        self.granted.get().wrapping_sub(self.remaining.get())
    }

    /// Gives the context a new, whole slice.
    #[inline(always)]
    pub fn refill(&self) {
        self.set_remaining(self.slice.get());
    }

    /// Gives the rest of this context's slice to `to`, which runs on it now (`yield_to`), and
    /// starts a new slice here.
    /// Requires: neither context runs.
    #[inline(always)]
    pub fn donate_rest(&self, to: &ScState<T>) {
        to.set_remaining(self.remaining.get());
        self.refill();
    }

    /// Returns whether the context may run on `cpu`.
    #[inline(always)]
    pub fn may_run_on(&self, cpu: CpuId) -> bool {
        self.cpus.contains(cpu)
    }

    /// Returns whether the context may run on all CPUs of a machine that has `count`.
    pub fn roams(&self, count: usize) -> bool {
        self.cpus.is_full(count)
    }

    /// Makes the CPUs of a set those where the context may run, on a machine that has `count` CPUs.
    /// Requires: the context has neither owner nor holder.
    pub fn set_cpus(&self, cpus: &AtomicCpuSet, count: usize) {
        self.cpus.become_as(cpus, count);
    }

    /// Returns whether `cpus` has all CPUs where the context may run.
    pub fn runs_within(&self, cpus: &AtomicCpuSet, count: usize) -> bool {
        self.cpus.is_within(cpus, count)
    }

    /// Returns CPUs 0 to 63 of those where the context may run, as bits. For surveys.
    pub fn cpu_bits(&self) -> u64 {
        self.cpus.first_word()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(slice: u64) -> ScState<()> {
        let sc = ScState::inert();
        sc.set_slice(slice);
        sc
    }

    /// Runs a context from time `start` to time `end`. Returns the rest of its slice.
    fn run(sc: &ScState<()>, start: u64, end: u64) -> u64 {
        sc.stop(sc.start(start), end);
        sc.remaining()
    }

    #[test]
    fn slices_are_used_up_and_refilled() {
        let sc = context(100);
        assert_eq!(sc.start(1000), 1100);
        assert_eq!(run(&sc, 1000, 1060), 40);
        assert_eq!(run(&sc, 5000, 5041), 0);
        sc.refill();
        assert_eq!((sc.consumed(), sc.remaining()), (101, 100));
        assert_eq!(run(&sc, 6000, 6100), 0);
        assert_eq!(sc.consumed(), 201);
    }

    #[test]
    fn time_is_counted_while_it_goes_on_running() {
        let sc = context(100);
        let until = sc.start(0);
        for now in [10, 10, 99] {
            sc.stop(until, now);
            assert_eq!((sc.remaining(), sc.consumed()), (100 - now, now));
        }
    }

    #[test]
    fn endless_slices_are_charged_but_never_over() {
        let sc = context(ENDLESS);
        assert!(run(&sc, 7, 1 << 62) > 0);
        assert_eq!((sc.consumed(), sc.slice()), ((1 << 62) - 7, ENDLESS));
        assert!(sc.start(1 << 62) >= NEVER);
        sc.set_slice(50);
        assert_eq!((sc.consumed(), sc.remaining()), ((1 << 62) - 7, 50));
        sc.set_slice(ENDLESS);
        sc.refill();
        assert!(sc.start(0) >= NEVER);
        assert_eq!(sc.consumed(), (1 << 62) - 7);
    }

    #[test]
    fn a_shorter_slice_holds_at_once_and_a_longer_one_at_the_refill() {
        let sc = context(100);
        sc.set_slice(30);
        assert_eq!(sc.remaining(), 30);
        sc.set_slice(500);
        assert_eq!(sc.remaining(), 30);
        sc.refill();
        assert_eq!((sc.remaining(), sc.consumed()), (500, 0));
    }

    #[test]
    fn yielding_hands_over_the_rest() {
        let (from, to) = (context(100), context(70));
        let until = from.start(500);
        from.stop(until, 525);
        from.donate_rest(&to);
        assert_eq!((from.remaining(), to.remaining()), (100, 75));
        assert_eq!(to.start(525), until, "the end of the slice stays what it was");
        assert_eq!((from.consumed(), to.consumed()), (25, 0));
    }

    #[test]
    fn affinity_is_a_set() {
        let cpu = |n| smp::host_test::cpu(n);
        let (sc, only) = (context(1), AtomicCpuSet::default());
        only.insert(cpu(70));
        sc.set_cpus(&only, 100);
        assert!(!sc.may_run_on(cpu(1)) && sc.may_run_on(cpu(70)));
        assert!(sc.runs_within(&only, 100) && !sc.roams(100));
        assert!(!sc.runs_within(&AtomicCpuSet::default(), 100));
    }

    #[test]
    fn a_new_context_is_inert_until_it_is_set() {
        let sc = ScState::<()>::inert();
        assert_eq!((sc.is_inert(), sc.consumed(), sc.remaining(), sc.priority()), (true, 0, 0, 0));
        assert!(sc.runs_within(&AtomicCpuSet::default(), 100));
        sc.set_slice(30);
        assert_eq!((sc.is_inert(), sc.consumed(), sc.remaining()), (false, 0, 30));
    }
}
