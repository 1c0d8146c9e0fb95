//! Wakes tasks whose waits have ended together, a few in each entry.
//!
//! Any number of tasks may wait for one event, and then all of their waits end at the same time:
//!
//! | list of a CPU | the tasks wait for |
//! |---|---|
//! | `grace_waiters` | a grace epoch ([`crate::grace`]) |
//! | `forgetful` | the end of a TLB shootdown that this CPU began ([`crate::tlb::shootdown`]) |
//! | `unanswered` | nothing any more: the task whose death they waited for is dead |
//!
//! Each list is by priority, and within one in the order in which the tasks began to wait. The
//! first task of a priority wakes first. So the others may wait for an event that comes a little
//! later than their own. That event is under way already, since the first task had requested it.
//! In the same way tasks wait while those of [`WAKE_LOOKS`] higher priorities do.
//!
//! One entry wakes tasks that outrank the running program, highest priority first, as far as its
//! [work](crate::work) suffices, and [`PROGRAM_WAKES`] of the others. If some are left, the timer
//! goes on with them, as with [deadlines](crate::door::deadlines): immediately if they outrank the
//! program, and else after a rest, or before the CPU idles or goes on with a program that they
//! outrank. So a task of high priority wakes in time, however many others waited longer, and a
//! program of high priority keeps nearly all of its CPU.
//!
//! # Invariants
//! * If the wait of a priority's first task is over, the timer is set for the end of a rest or
//!   earlier. If it is not over, the CPU comes here when it is.
//! * A request in `unanswered` may name a task whose memory is used again. Nothing follows that
//!   name.

use kern_base::block::Block;
use kern_base::limits::{PROGRAM_WAKES, WAKE_LOOKS, WAKE_WORK};
use kern_base::machine::Machine;
use kern_base::task::{OpenTask, Request, Task};
use sched::PrioQueued;
use smp::cpu::Pin;
use smp::door::Ref;

use crate::rooms::Door;
use crate::time::schedule::REST_FACTOR;
use crate::work::LOOK_WORK;

/// What the tasks of a list wait for.
#[derive(Clone, Copy)]
enum Event {
    Epoch,
    Shootdown,
    Death,
}

impl<'k, M: Machine> Door<'k, M> {
    /// Wakes tasks whose waits are over, as many as this entry may. If some are left, sets the
    /// timer for them.
    pub fn wake_waiters(self) {
        let sched = &self.sched;
        if !(sched.forgetful.is_empty() && sched.unanswered.is_empty()) {
            self.wake_some();
        } else if let Some(task) = sched.grace_waiters.only(self.pin()) {
            // As is common.
            let task = OpenTask::here(task, self.pin());
            if self.has_epoch(task) {
                self.wake_from_grace(task);
            }
        } else if !sched.grace_waiters.is_empty() {
            self.wake_some();
        }
        self.time().dispatch();
    }

    #[inline(never)]
    fn wake_some(self) {
        let Some((event, task)) = self.best_over() else { return };
        let priority = priority_in_list(self.pin(), task);
        self.wake(event, task);
        if self.has_waiters() {
            self.wake_more(usize::from(priority));
        }
    }

    /// Wakes more tasks, after one of this priority.
    #[cold]
    #[inline(never)]
    fn wake_more(self, priority: usize) {
        let (began, lowest) = (self.k.machine.now(), self.time().lowest_above());
        let mut others = usize::from(priority < lowest);
        self.sched.waiters_resting.set(0);
        while let Some((event, task)) = self.best_over() {
            let priority = usize::from(priority_in_list(self.pin(), task));
            let outranks = priority >= lowest;
            if !(self.has_work(WAKE_WORK) && (outranks || others < PROGRAM_WAKES)) {
                // The first one is work of this entry, too.
                let factor = if outranks { 0 } else { 2 * REST_FACTOR };
                self.sched.waiters_resting.set(priority as u32 + 1);
                self.time().mind_rest();
                return self.time().arm_timer_for_waiters(self.time().end_of_rest(began, factor));
            }
            others += usize::from(!outranks);
            self.wake(event, task);
        }
    }

    fn has_waiters(self) -> bool {
        let sched = &self.sched;
        !(sched.grace_waiters.is_empty() && sched.forgetful.is_empty() && sched.unanswered.is_empty())
    }

    /// Wakes a task, whose wait is over.
    fn wake(self, event: Event, task: Ref<'k, Task>) {
        let block = match event {
            Event::Epoch => return self.wake_from_grace(OpenTask::here(task, self.pin())),
            Event::Shootdown => self.sched.forgetful.take(self.pin(), task),
            Event::Death => self.sched.unanswered.take(self.pin(), task),
        };
        if let Some(block) = block {
            self.note_work(WAKE_WORK);
            self.end_stay(block);
        }
    }

    #[inline(always)]
    fn wake_from_grace(self, task: OpenTask<'k>) {
        self.note_work(WAKE_WORK);
        self.sched.grace_waiters.remove(self.pin(), task.object());
        self.time().make_ready(task);
    }

    /// Returns whether the grace period for which a task of this CPU waits is over.
    #[inline(always)]
    fn has_epoch(self, task: OpenTask<'k>) -> bool {
        task.wait_epoch.get() <= self.k.cpus.epoch.now()
    }

    /// Returns whether a task waits only for its turn to wake.
    pub fn is_any_over(self) -> bool {
        self.best_over().is_some()
    }

    /// Returns the best of the tasks that are the first of a priority in one of the lists, and
    /// whose wait is over. A look at another one is work of this entry.
    fn best_over(self) -> Option<(Event, Ref<'k, Task>)> {
        let (pin, sched) = (self.pin(), &self.sched);
        let mut best = sched.unanswered.tasks().first(pin).map(|task| (Event::Death, task));
        let mut offer = |event, task: Option<Ref<'k, Task>>| {
            if let Some(task) = task
                && best.is_none_or(|(_, best)| priority_in_list(pin, best) < priority_in_list(pin, task))
            {
                best = Some((event, task));
            }
        };
        let note_look = |is_over: bool| {
            if !is_over {
                self.note_work(2 * LOOK_WORK);
            }
            is_over
        };
        if !sched.forgetful.is_empty() {
            let first =
                sched.forgetful.tasks().find_first(pin, WAKE_LOOKS, |task| note_look(self.is_shot(task)));
            offer(Event::Shootdown, first);
        }
        if !sched.grace_waiters.is_empty() {
            let has_epoch = |task| note_look(self.has_epoch(OpenTask::here(task, pin)));
            offer(Event::Epoch, sched.grace_waiters.find_first(pin, WAKE_LOOKS, has_epoch));
        }
        best
    }

    /// Returns whether the shootdown is over for which a task's request waits here.
    fn is_shot(self, task: Ref<'k, Task>) -> bool {
        let request = task.get().message(self.pin()).and_then(|msg| msg.request());
        matches!(request, Some(Request::Forgotten(stamp)) if self.tlb().is_over(stamp))
    }

    /// Ends a request that was kept on this CPU, and whose event has come.
    fn end_stay(self, block: Block<'k>) {
        match self.open(block.task()) {
            Some(task) => self.request_done(block, task),
            None => self.outbox().answer_request(block),
        }
    }
}

/// Returns the priority at which a task waits in a list.
fn priority_in_list(pin: Pin<'_>, task: Ref<'_, Task>) -> u8 {
    task.prio_links(pin).priority().unwrap_or(0)
}
