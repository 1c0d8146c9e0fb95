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
//!
//! # Budgets
//! A context may have a [`Budget`]: so much time in each window. Windows follow each other without
//! a gap from when the budget was set, however the context runs, and each brings the whole budget
//! once. What a window leaves over is lost; what a context overran, because interrupts were off
//! when the budget was used up, comes off the next window. A context with a budget stops to be
//! looked at where its slice, its budget or its window ends, whichever is first, and `remaining` is
//! the time until then. So it never runs from one window into the next unnoticed, and what it used
//! in a window is what it used since that began. All that is computed when it starts: a stop is the
//! same subtraction.
//!
//! Fixed windows let a context use its budget at the end of one and again at the beginning of the
//! next: a window of the same length that is laid anywhere sees at most twice the budget. They need
//! no queue of refills, the part that made sporadic servers hard to get right.
//!
//! # Grace
//! A slice that is over may be lengthened by a *grace*, in which its task is asked to give up the
//! CPU by itself ([`ScState::begin_grace`]). What is used of a grace comes off the next slice. So a
//! context that asks for one each time gets no more than others of its priority.

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
    /// slice ends then. With a budget, the time until the context has to be looked at. First, so
    /// that all that is written when the context goes to another CPU shares the object's first
    /// cache line with the header.
    remaining: Cell<u64>,
    /// Its place in that CPU's run queue.
    pub links: QueueLinks<T>,
    /// Priority + 1, as the run queue has it.
    rank: Cell<u32>,
    has_budget: Cell<bool>,
    /// Somebody is told what it does.
    is_watched: Cell<bool>,
    /// One of the two, or a grace: more has to be done than to count, where it starts and stops.
    needs_care: Cell<bool>,
    /// All slices begun so far, less what was given away of them.
    granted: Cell<u64>,
    slice: Cell<u64>,
    /// Where it may run.
    cpus: CpuSetCell,
    /// By how much the present slice was lengthened; 0: it was not.
    grace: Cell<u64>,
    /// The used time when it last went before its equals, out of turn; [`NEVER`]: it never did.
    went_first_at: Cell<u64>,
    /// The present window.
    window: Window,
}

/// A context goes before its equals at most once in the time of so many of its slices.
const TURNS: u64 = 4;
/// A slice counts as at least so many TSC ticks there: the switch at its end may take longer than
/// the slice.
const TURN_MIN: u64 = 20_000;

/// How much CPU time a context may use in each window, in TSC ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// At most this much in a window; not 0.
    pub ticks: u64,
    /// From the beginning of a window to that of the next; not less than `ticks`.
    pub period: u64,
}

/// What a context has used of the budget of a window.
#[derive(Clone, Copy, Default, Debug)]
pub struct Used {
    /// So many ticks, with what it owed when the window began.
    pub ticks: u64,
    /// When the window began.
    pub since: u64,
}

/// The present window of a context with a budget.
struct Window {
    ends: Cell<u64>,
    /// 0: the context has no budget.
    budget: Cell<u64>,
    period: Cell<u64>,
    /// The used time ([`ScState::consumed`]) when the window began, less what was owed then.
    began_at: Cell<u64>,
    /// The greatest budget that the window has had.
    most: Cell<u64>,
    /// The used time at which the slice is over.
    slice_over_at: Cell<u64>,
}

impl Window {
    fn none() -> Window {
        let zero = || Cell::new(0);
        Window {
            ends: zero(),
            budget: zero(),
            period: zero(),
            began_at: zero(),
            most: zero(),
            slice_over_at: zero(),
        }
    }
}

impl<T> ScState<T> {
    /// For assembly, which does what [`ScState::start`], [`ScState::stop`], [`ScState::refill`] and
    /// [`ScState::donate_rest`] do.
    pub const RANK_OFFSET: usize = core::mem::offset_of!(ScState<T>, rank);
    /// See [`ScState::RANK_OFFSET`].
    pub const REMAINING_OFFSET: usize = core::mem::offset_of!(ScState<T>, remaining);
    /// See [`ScState::RANK_OFFSET`].
    pub const GRANTED_OFFSET: usize = core::mem::offset_of!(ScState<T>, granted);
    /// See [`ScState::RANK_OFFSET`].
    pub const SLICE_OFFSET: usize = core::mem::offset_of!(ScState<T>, slice);
    /// See [`ScState::RANK_OFFSET`].
    pub const GRACE_OFFSET: usize = core::mem::offset_of!(ScState<T>, grace);
    /// See [`ScState::RANK_OFFSET`].
    pub const HAS_BUDGET_OFFSET: usize = core::mem::offset_of!(ScState<T>, has_budget);
    /// A word of two bytes at [`ScState::HAS_BUDGET_OFFSET`] is 0 if the context has no budget and
    /// is not watched.
    pub const BUDGET_AND_WATCHER_ARE_ONE_WORD: bool =
        Self::HAS_BUDGET_OFFSET + 1 == core::mem::offset_of!(ScState<T>, is_watched);

    /// Makes a context that has used no time and is not set yet: without a slice, and for no CPU.
    #[inline(always)]
    pub fn inert() -> ScState<T> {
        ScState {
            remaining: Cell::new(0),
            links: QueueLinks::new(),
            rank: Cell::new(1),
            has_budget: Cell::new(false),
            is_watched: Cell::new(false),
            needs_care: Cell::new(false),
            grace: Cell::new(0),
            went_first_at: Cell::new(NEVER),
            granted: Cell::new(0),
            slice: Cell::new(0),
            cpus: CpuSetCell::default(),
            window: Window::none(),
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
        if self.rest_of_slice() > slice {
            self.set_rest_of_slice(slice);
        }
    }

    /// Does what [`ScState::set_slice`] does, for a context that may be in a grace. What is cut off
    /// the grace was not used.
    pub fn set_slice_with_care(&self, slice: u64) {
        if self.is_in_grace() {
            let cut = self.rest_of_slice().saturating_sub(slice);
            self.grace.set(self.grace.get() - cut);
        }
        self.set_slice(slice);
    }

    /// Returns the ticks of the budget, or 0 if the context has none.
    pub fn budget(&self) -> u64 {
        self.window.budget.get()
    }

    /// Returns the ticks of a window, or 0 if the context has no budget.
    pub fn period(&self) -> u64 {
        self.window.period.get()
    }

    /// Returns whether the context has a budget.
    #[inline(always)]
    pub fn has_budget(&self) -> bool {
        self.has_budget.get()
    }

    /// Returns whether somebody is told what the context does.
    #[inline(always)]
    pub fn is_watched(&self) -> bool {
        self.is_watched.get()
    }

    /// Notes whether somebody is told what the context does.
    pub fn set_watched(&self, watched: bool) {
        self.is_watched.set(watched);
        self.note_care();
    }

    /// Returns whether more has to be done than to count, where the context starts and stops: it
    /// has a budget, is watched, or is in a grace.
    #[inline(always)]
    pub fn needs_care(&self) -> bool {
        self.needs_care.get()
    }

    fn set_has_budget(&self, has: bool) {
        self.has_budget.set(has);
        self.note_care();
    }

    fn note_care(&self) {
        self.needs_care.set(self.has_budget() || self.is_watched() || self.is_in_grace());
    }

    /// Returns whether the present slice was lengthened.
    #[inline(always)]
    pub fn is_in_grace(&self) -> bool {
        self.grace.get() != 0
    }

    /// Lengthens the slice, which is over, by at most `most` ticks, and by at most half of a slice.
    /// Returns whether it did: a slice gets one grace, and one of a single tick gets none. The
    /// budget is not lengthened.
    /// Requires: the context does not run.
    pub fn begin_grace(&self, most: u64) -> bool {
        let ticks = most.min(self.slice.get() / 2);
        if self.is_in_grace() || ticks == 0 {
            return false;
        }
        self.grace.set(ticks);
        self.note_care();
        self.set_rest_of_slice(ticks);
        true
    }

    /// Returns when the present window ends; 0 without a budget. For surveys.
    pub fn window_ends(&self) -> u64 {
        self.window.ends.get()
    }

    /// Sets the budget, or takes it away, at the time `now`. A window begins, unless the period
    /// stays as it was: then the present window goes on, with the rest of the new budget.
    /// Requires: the context does not run.
    pub fn set_budget(&self, budget: Option<Budget>, now: u64) {
        let (slice, window) = (self.rest_of_slice(), &self.window);
        let Some(Budget { ticks, period }) = budget else {
            self.set_has_budget(false);
            for cell in [&window.ends, &window.budget, &window.period] {
                cell.set(0);
            }
            return self.set_remaining(slice);
        };
        self.set_has_budget(true);
        if window.period.get() == period {
            self.enter_window(now);
            window.most.set(window.most.get().max(ticks));
        } else {
            window.ends.set(now.saturating_add(period).min(NEVER - 1));
            window.began_at.set(self.consumed());
            window.most.set(ticks);
        }
        window.budget.set(ticks);
        window.period.set(period);
        self.set_rest_of_slice(slice);
        self.look_again(now);
    }

    /// Returns when the next window begins, if the context has used up the budget of this one.
    /// Requires: the context does not run.
    #[inline(always)]
    pub fn rests_until(&self, now: u64) -> Option<u64> {
        if self.has_budget() { self.refill_time(now) } else { None }
    }

    #[cold]
    #[inline(never)]
    fn refill_time(&self, now: u64) -> Option<u64> {
        self.enter_window(now);
        (self.rest_of_budget() == 0).then_some(self.window.ends.get())
    }

    /// Returns the rest of the budget of the window in which the context last ran.
    fn rest_of_budget(&self) -> u64 {
        until(self.consumed(), self.window.began_at.get().wrapping_add(self.window.budget.get()))
    }

    /// Returns the rest of the slice when the context last stopped.
    #[inline(always)]
    fn rest_of_slice(&self) -> u64 {
        if self.has_budget() { self.slice_beside_budget() } else { self.remaining.get() }
    }

    #[cold]
    #[inline(never)]
    fn slice_beside_budget(&self) -> u64 {
        until(self.consumed(), self.window.slice_over_at.get())
    }

    /// Sets the rest of the slice, without counting the change as consumed time.
    #[inline(always)]
    fn set_rest_of_slice(&self, ticks: u64) {
        if self.has_budget() { self.set_slice_beside_budget(ticks) } else { self.set_remaining(ticks) }
    }

    #[cold]
    #[inline(never)]
    fn set_slice_beside_budget(&self, ticks: u64) {
        // An endless slice is over after centuries.
        self.window.slice_over_at.set(self.consumed().wrapping_add(ticks.min(NEVER - 1)));
    }

    /// Returns whether the slice was over when the context last stopped.
    #[inline(always)]
    pub fn is_slice_over(&self) -> bool {
        self.rest_of_slice() == 0
    }

    /// Begins the window that `now` is in, if that is not the present one.
    fn enter_window(&self, now: u64) {
        let window = &self.window;
        let (ends, period, budget) = (window.ends.get(), window.period.get().max(1), window.budget.get());
        if now < ends {
            return;
        }
        let over = (now - ends) / period;
        let overrun = until(window.began_at.get().wrapping_add(window.most.get()), self.consumed());
        let owed = overrun.saturating_sub(over.saturating_mul(budget));
        window.began_at.set(self.consumed().wrapping_sub(owed));
        window.most.set(budget);
        window.ends.set((ends + over * period).saturating_add(period).min(NEVER - 1));
    }

    /// Returns what the context has used of the budget of its present window.
    /// Requires: the context does not run.
    pub fn used_at(&self, now: u64) -> Used {
        if !self.has_budget() {
            return Used::default();
        }
        self.enter_window(now);
        let ticks = self.consumed().wrapping_sub(self.window.began_at.get());
        Used { ticks, since: self.window.ends.get().saturating_sub(self.period()) }
    }

    /// Lets the present window of a context with a budget last for a whole period from `now` on.
    /// What was used stays used, less what the budget has paid for in the time that has passed.
    /// Requires: the context does not run.
    pub fn restart_window(&self, now: u64) {
        let Used { ticks, since } = self.used_at(now);
        let passed = u128::from(now.saturating_sub(since));
        let paid = u128::from(self.budget()) * passed / u128::from(self.period().max(1));
        let left = ticks.saturating_sub(u64::try_from(paid).unwrap_or(NEVER));
        self.window.began_at.set(self.consumed().wrapping_sub(left));
        self.window.ends.set(now.saturating_add(self.period()).min(NEVER - 1));
    }

    /// Takes off what the context has used in its present window what is paid for in another way.
    /// Requires: it has used so much.
    pub fn take_off(&self, ticks: u64) {
        self.window.began_at.set(self.window.began_at.get().wrapping_add(ticks));
    }

    /// Computes when a context with a budget has to be looked at, if it starts now.
    #[cold]
    #[inline(never)]
    fn look_again(&self, now: u64) {
        self.enter_window(now);
        let rest = self.rest_of_slice().min(self.rest_of_budget());
        self.set_remaining(rest.min(self.window.ends.get() - now));
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

    /// Starts the context at the time `now`. Returns the end of its slice. With a budget, returns
    /// when it has to be looked at.
    #[inline(always)]
    #[must_use = "it has to be told when it stops"]
    pub fn start(&self, now: u64) -> u64 {
        if self.has_budget() {
            self.look_again(now);
        }
        self.start_free(now)
    }

    /// Starts a context without a budget, as [`ScState::start`] does.
    #[inline(always)]
    #[must_use = "it has to be told when it stops"]
    pub fn start_free(&self, now: u64) -> u64 {
        now.wrapping_add(self.remaining.get())
    }

    /// Updates the rest of the slice at `now`, when the context stops or while it runs on; `until`
    /// is the result of [`ScState::start`].
    #[inline(always)]
    pub fn stop(&self, until: u64, now: u64) {
        debug_assert!(until.saturating_sub(now) <= self.remaining.get(), "it stops before it has started");
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

    /// Gives the context a new slice: a whole one, less what it has used of a grace.
    #[inline(always)]
    pub fn refill(&self) {
        if self.needs_care() {
            return self.refill_with_care();
        }
        self.set_remaining(self.slice.get());
    }

    #[cold]
    #[inline(never)]
    fn refill_with_care(&self) {
        let used = self.end_grace();
        self.set_rest_of_slice(self.slice.get().saturating_sub(used).max(1));
    }

    /// Does what [`ScState::refill`] does, for a context in a grace.
    /// Requires: it has no budget, and is not watched.
    #[inline(always)]
    pub fn refill_after_grace(&self) {
        let used = self.grace.take().saturating_sub(self.remaining.get());
        self.needs_care.set(false);
        self.set_remaining(self.slice.get().saturating_sub(used).max(1));
    }

    /// Ends a grace, if the context is in one. Returns how much of it was used.
    fn end_grace(&self) -> u64 {
        let used = self.grace.get().saturating_sub(self.rest_of_slice());
        if self.grace.take() != 0 {
            self.note_care();
        }
        used
    }

    /// Gives the rest of this context's slice to `to`, which runs on it now (`yield_to`), and
    /// starts a new slice here.
    /// Requires: neither context runs, and this one is in no grace.
    #[inline(always)]
    pub fn donate_rest(&self, to: &ScState<T>) {
        let used = to.end_grace();
        to.set_rest_of_slice(self.rest_of_slice().saturating_sub(used));
        self.refill();
    }

    /// Returns whether the context may go before its equals out of turn, and counts that it does.
    /// It may once in the time of [four](TURNS) slices. So its equals get at least three quarters
    /// of their share, however often other CPUs ask for it. It may not in a grace.
    /// Requires: the context does not run.
    pub fn may_go_first(&self) -> bool {
        let used = self.consumed();
        let turns = self.slice.get().max(TURN_MIN).saturating_mul(TURNS).min(NEVER);
        let may = !self.is_in_grace() && used.wrapping_sub(self.went_first_at.get()) >= turns;
        if may {
            self.went_first_at.set(used);
        }
        may
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

/// Returns how far `at` is before `end`, two values of a count of used time; 0 if it is not.
fn until(at: u64, end: u64) -> u64 {
    let left = end.wrapping_sub(at);
    if left < NEVER { left } else { 0 }
}

#[cfg(test)]
mod tests;
