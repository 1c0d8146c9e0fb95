//! The account of interrupts: a program does not pay for those that interrupt it.
//!
//! What an interrupt of a program takes, with the mail and the deadlines that it serves, is not the
//! program's work. So the program's CPU time is not charged for it: neither its slice nor its
//! budget gets shorter. The ticks are counted for the CPU instead ([`Counter::InterruptTicks`]). A
//! task that an interrupt lets run pays from when it is chosen.
//!
//! An interrupt notes what the program's time had been charged when it began, and afterwards takes
//! back the difference. So it does not matter how often the time stops and starts in between. Not
//! taken back is what comes off a *grace*, which ends at a time that the program knows, and what is
//! beyond the end of a budget: the program rests then all the same. The few instructions of the
//! entry and the exit themselves, and interrupts of an idle CPU, are in no account.
//!
//! # Invariants
//! * The timer is set for the end of a slice or a budget, or earlier: what is taken back makes them
//!   end later.

use abi::Counter;
use kern_base::machine::Machine;
use kern_base::sched_context::SchedContext;
use sched::NEVER;
use smp::door::Ref;

use crate::rooms::Time;

impl<'k, M: Machine> Time<'k, M> {
    /// Begins an interrupt of the program that runs, at the time `now`.
    #[inline(always)]
    pub fn begin_interrupt(self, now: u64) {
        self.sched.began.set(now);
    }

    /// Notes what the running context had been charged when this interrupt began. What comes next
    /// may stop it. A message that is alone may let a better task run without this: then the
    /// context is charged until the interrupt began ([`Time::preempt_for`]).
    #[inline(always)]
    pub fn note_charged(self) {
        if !self.is_noted() {
            self.sched.noted.set(self.sched.began.get());
            self.sched.charged.set(self.charged_when_began());
        }
    }

    fn is_noted(self) -> bool {
        self.sched.noted.get() == self.sched.began.get()
    }

    /// Forgets what was noted in this interrupt: the clock may show the same time in the next one.
    #[inline(always)]
    pub fn forget_charged(self) {
        self.sched.noted.set(NEVER);
    }

    /// Returns what the running context had been charged when this interrupt began, if it has not
    /// stopped since.
    fn charged_when_began(self) -> u64 {
        let (until, began) = (self.sched.until.get(), self.sched.began.get());
        self.running().map_or(0, |sc| sc.state.consumed_at(until, began))
    }

    /// Takes back what the context that ran when this interrupt began was charged since, if it runs
    /// no more.
    #[inline(always)]
    pub fn excuse_stopped(self, ran: Option<Ref<'k, SchedContext>>) {
        if let Some(ran) = ran.filter(|ran| !self.sched.current.is(*ran)) {
            self.excuse(ran);
        }
    }

    #[inline(never)]
    fn excuse(self, ran: Ref<'k, SchedContext>) {
        // It may have gone to another CPU with a message.
        let Some(sc) = self.open_time(ran).filter(|_| self.is_noted()) else { return };
        let is_spent = || sc.state.has_budget() && sc.state.remaining() == 0;
        if sc.state.needs_care() && (sc.state.is_in_grace() || is_spent()) {
            return;
        }
        let ticks = sc.state.consumed().wrapping_sub(self.sched.charged.get());
        sc.state.give_back(ticks);
        self.add(Counter::InterruptTicks, ticks);
    }

    /// Takes back what the context that runs, as it did when this interrupt began, was charged
    /// since.
    #[inline(always)]
    pub fn excuse_running(self) {
        let Some(sc) = self.running() else { return };
        self.note_charged();
        let (now, until) = (self.k.machine.now(), self.sched.until.get());
        let mut ticks = sc.state.consumed_at(until, now).wrapping_sub(self.sched.charged.get());
        if sc.state.needs_care() {
            if sc.state.is_in_grace() {
                return;
            }
            // A budget's window may end meanwhile.
            sc.state.stop(until, now);
            sc.state.give_back(ticks);
            self.sched.until.set(sc.state.start(now));
        } else {
            // A slice that has begun in this interrupt is whole already.
            let longer = until.wrapping_add(ticks).min(now.wrapping_add(sc.state.remaining()));
            ticks = longer.wrapping_sub(until);
            self.sched.until.set(longer);
        }
        self.add(Counter::InterruptTicks, ticks);
    }
}
