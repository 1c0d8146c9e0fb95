//! The account of interrupts: a program does not pay for those that interrupt it.
//!
//! What an interrupt of a program takes, with the mail and the deadlines that it serves, is not the
//! program's work. So no CPU time is charged for it: neither a slice nor a budget gets shorter. The
//! ticks are counted for the CPU instead ([`Counter::InterruptTicks`]).
//!
//! For the accounts the clock *stands* during such an interrupt. Time that is preempted, begins to
//! run, gets a new slice or enters a new window does so at the moment at which the interrupt began.
//! At the end, the time that runs goes on as if it had started then. Nothing has to be taken back,
//! so nothing can be taken back twice, and no used time ever gets less.
//!
//! Some is charged all the same:
//! * the few instructions of the entry and the exit;
//! * the interrupt in which a task is stopped by force, to that task;
//! * the interrupts in a *grace*, which ends at a time that the program knows;
//! * a message, or bits, that come alone and let a better task run by a short way: to that task;
//! * interrupts that end a slice by the short path of the timer: to the task that runs next.
//!
//! Interrupts of an idle CPU are in no account.
//!
//! # Invariants
//! * The clock stands only within one kernel entry.
//! * The timer is set for the end of a slice or a budget, or earlier: the end moves later.

use abi::Counter;
use kern_base::machine::Machine;
use kern_base::sched_context::OpenTime;

use crate::rooms::Time;

impl<'k, M: Machine> Time<'k, M> {
    /// Notes that an interrupt of the program that runs began at `now`.
    #[inline(always)]
    pub fn begin_interrupt(self, now: u64) {
        self.sched.began.set(now);
    }

    /// Lets the clock of the accounts stand, in an interrupt. What comes next may stop the program,
    /// and serve others.
    #[inline(always)]
    pub fn stop_clock(self) {
        self.sched.clock_stands.set(true);
    }

    /// Returns the time for the account of the running context. While the clock stands, the context
    /// may have started since.
    #[inline(always)]
    pub fn clock_of(self, sc: OpenTime<'k>) -> u64 {
        if self.sched.clock_stands.get() { self.since(sc) } else { self.k.machine.now() }
    }

    /// Returns when the last interrupt began, or when the running context started if that was
    /// later.
    #[inline(always)]
    pub fn since(self, sc: OpenTime<'k>) -> u64 {
        let started = self.sched.until.get().wrapping_sub(sc.state.remaining());
        self.sched.began.get().max(started)
    }

    /// Lets the clock of the accounts go on, at the end of an interrupt.
    #[inline(always)]
    pub fn start_clock(self) {
        self.sched.clock_stands.set(false);
        self.excuse();
    }

    /// Lets the context that runs at the end of an interrupt go on as if it had started, or had
    /// been interrupted, just now.
    #[inline(always)]
    pub fn excuse(self) {
        let now = self.k.machine.now();
        match self.running() {
            Some(sc) => self.excuse_until(sc, now),
            None => self.sched.stopped.set(now),
        }
    }

    /// Does what [`Time::excuse`] does for the context that runs, at `now`.
    #[inline(always)]
    pub fn excuse_until(self, sc: OpenTime<'k>, now: u64) {
        let until = self.sched.until.get();
        let since = self.since(sc);
        if !sc.state.needs_care() {
            self.sched.until.set(until.wrapping_add(now.wrapping_sub(since)));
        } else if sc.state.is_in_grace() {
            return;
        } else {
            sc.state.stop(until, since);
            // A budget's window may have ended meanwhile.
            self.sched.until.set(sc.state.start(now));
        }
        self.add(Counter::InterruptTicks, now.wrapping_sub(since));
    }
}
