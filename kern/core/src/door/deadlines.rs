//! The timer: deadlines that have passed, and slices that are over.
//!
//! The timer interrupts a program. One entry looks after all deadlines of tasks that outrank the
//! program, in the order of their [priorities](sched::deadlines), as far as its
//! [work](crate::work) suffices. Equals of the last one go on with the next interrupt, which comes
//! immediately. Of all other deadlines one entry takes [`PROGRAM_WAKES`], highest priority first.
//! If some that have passed are left, the CPU leaves the program that runs then alone for a while,
//! as it does with mail ([`crate::door::look`]): the priorities of those deadlines and all below
//! rest until `expire_at`. So however many deadlines of low priority pass together, a task of high
//! priority wakes in time, and a program of high priority keeps nearly all of its CPU.
//!
//! Tasks rest for the sake of one program. If the CPU idles, or goes on with a program that one of
//! them outranks, the timer fires immediately ([`Time::end_rest_above`](crate::rooms::Time)). The
//! mark `more_mail` makes each exit to another program check that.
//!
//! # Invariants
//! * The timer is set for the soonest deadline or earlier; if that one's priority rests, for
//!   `expire_at` or earlier.
//! * If a priority rests, no program runs that a task outranks which rests.

use core::ops::Range;

use abi::Error;
use kern_base::limits::{PROGRAM_WAKES, WAKE_WORK};
use kern_base::machine::Machine;
use kern_base::sched_context::OpenTime;
use kern_base::task::State;
use sched::{NEVER, PRIORITIES};
use test_abi::trace::Why;

use crate::outbox::mail::rank_of;
use crate::rooms::Door;
use crate::time::schedule::REST_FACTOR;

impl<'k, M: Machine> Door<'k, M> {
    /// Serves the timer: expires deadlines, ends the slice if it is over, lets the task rest if the
    /// budget is used up, arms the timer for what comes next. The caller arms it for the time that
    /// runs afterwards ([`Door::arm_timer_for_time`]).
    pub fn timer_fired(self) {
        self.sched.timer.set(NEVER);
        let now = self.k.machine.now();
        let may_expire = self.sched.resting.get() != 0 || now >= self.sched.deadlines.bound();
        let woken = if may_expire { self.expire_deadlines(now) } else { None };
        let after = self.time().charge();
        let is_over = |sc: &OpenTime<'k>| sc.state.remaining() == 0 || cfg!(feature = "chaos");
        if let Some(sc) = self.running().filter(is_over) {
            if sc.state.rests_until(after).is_some() {
                self.time().exhaust(sc);
            } else if !self.sched.queue.has_at_least(self.pin(), sc.state.priority()) {
                self.time().renew_slice(sc, after);
            } else if !self.time().gives_notice(sc, after) {
                self.time().rotate(Why::SliceOver);
            }
        }
        self.sched.waiters_resting.set(0);
        self.sched.wakes_waiters.set(false);
        self.wake_waiters();
        if may_expire {
            self.plan_expiry(now, woken);
        } else {
            // The timer fired for the slice, or for a look into the mailbox.
            self.sched.expire_at.set(0);
            self.sched.rested.set(0);
            self.time().arm_timer(self.sched.deadlines.bound());
        }
    }

    /// Arms the timer for the end of the time that runs, where the clock of the accounts goes on.
    pub fn arm_timer_for_time(self) {
        self.time().arm_timer_for_slice();
        self.time().arm_timer_for_budget();
    }

    /// Ends waits whose deadline has passed with [`Error::Timeout`], as many as this entry may.
    /// Together with a task that outranks the program, only equals of that task wake: the others
    /// have time until it stops. Returns its priority.
    fn expire_deadlines(self, now: u64) -> Option<usize> {
        let lowest = self.time().lowest_above();
        let mut best = None;
        while let Some(woken) = self.expire_one(now, best.unwrap_or(lowest)..PRIORITIES) {
            best = Some(woken);
        }
        if best.is_none() {
            let awake = if now < self.sched.expire_at.get() { self.sched.resting.get() as usize } else { 0 };
            let _ = (0..PROGRAM_WAKES).all(|_| self.expire_one(now, awake.min(lowest)..lowest).is_some());
        }
        self.sched.works_for.set(0);
        best
    }

    /// Ends the wait of one task, if a deadline of these priorities has passed and the entry has
    /// work left. Returns its priority. An entry of the timer begins with this, so it ends one wait
    /// at least.
    fn expire_one(self, now: u64, priorities: Range<usize>) -> Option<usize> {
        if !self.has_work(WAKE_WORK) {
            return None;
        }
        let (task, priority) = self.sched.deadlines.pop_expired(self.pin(), now, priorities)?;
        // Not for the running task.
        self.sched.works_for.set(rank_of(priority, false));
        self.note_work(WAKE_WORK);
        if let Some(task) = self.open(task) {
            match task.state() {
                State::Exhausted => self.time().rest_is_over(task),
                _ => self.life().fail_wait(task, Error::Timeout),
            }
        }
        Some(usize::from(priority))
    }

    /// Decides when this CPU looks after the next deadlines. This entry began at `began`; a task
    /// of the priority `woken` outranked the program.
    fn plan_expiry(self, began: u64, woken: Option<usize>) {
        let (deadlines, now) = (&self.sched.deadlines, self.k.machine.now());
        let left = deadlines.best_expired(self.pin(), now, 0..self.time().lowest_above());
        let resting = left.map_or(0, |priority| priority + 1);
        self.sched.resting.set(resting as u32);
        let rests_until = self.sched.expire_at.get();
        if resting == 0 {
            self.sched.expire_at.set(0);
            self.sched.rested.set(0);
            return self.time().arm_timer(deadlines.bound());
        }
        if began >= rests_until || left == woken {
            // Equals of the task that has woken do not rest. Nor do tasks whose rest is over and
            // that this entry has left alone for a better one: else better ones that come again and
            // again would keep them for ever.
            let has_rested = resting as u32 <= self.sched.rested.get();
            let goes_on = woken.is_some() && (left == woken || has_rested);
            let factor = if goes_on { 0 } else { REST_FACTOR };
            self.sched.expire_at.set(self.time().end_of_rest(began, factor));
            if !goes_on {
                self.sched.rested.set(resting as u32);
            }
        }
        self.time().mind_rest();
        self.time().arm_timer(deadlines.soonest(self.pin(), resting..PRIORITIES));
        self.time().arm_timer(deadlines.soonest(self.pin(), 0..resting).max(self.sched.expire_at.get()));
    }
}
