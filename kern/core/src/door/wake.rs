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
//! Each list is by [band](sched::band_of) of priority, and within a band in the order in which the
//! tasks began to wait. The first task of a band wakes first. So the others may wait for an event
//! that comes a little later than their own. That event is under way already, since the first task
//! had requested it.
//!
//! One entry wakes tasks whose bands are above the running program's, highest first, as far as its
//! [work](crate::work) suffices, and [`PROGRAM_WAKES`] of the others. If some are left, the timer
//! goes on with them, as with [deadlines](crate::door::deadlines): immediately if they outrank the
//! program, and else after a rest. So a task of high priority wakes in time, however many others
//! waited longer, and a program of high priority keeps nearly all of its CPU.
//!
//! # Invariants
//! * If the wait of a band's first task is over, the timer is set for the end of a rest or earlier.
//!   If it is not over, the CPU comes here when it is.
//! * A request in `unanswered` may name a task whose memory is used again. Nothing follows that name.

use core::mem::take;
use core::ops::Range;

use kern_base::block::Block;
use kern_base::limits::{PROGRAM_WAKES, WAKE_WORK};
use kern_base::machine::Machine;
use kern_base::task::{OpenTask, Request, Task};
use sched::{BANDS, PrioQueued};
use smp::door::Ref;

use crate::rooms::Door;
use crate::time::schedule::REST_FACTOR;

/// What the tasks of a list wait for.
#[derive(Clone, Copy)]
enum Event {
    Epoch,
    Shootdown,
    Death,
}

impl<'k, M: Machine> Door<'k, M> {
    /// Wakes tasks whose waits are over, as many as this entry may. If some are left, sets the timer
    /// for them.
    pub fn wake_waiters(self) {
        let sched = &self.sched;
        if !(sched.grace_waiters.is_empty() && sched.forgetful.is_empty() && sched.unanswered.is_empty()) {
            self.wake_some();
        }
        self.time().dispatch();
    }

    #[inline(never)]
    fn wake_some(self) {
        let began = self.k.machine.now();
        let lowest = self.time().lowest_band_above();
        let mut is_first = true;
        while (take(&mut is_first) || self.has_work(WAKE_WORK)) && self.wake_one(lowest..BANDS) {}
        let _ = (0..PROGRAM_WAKES).all(|n| (n == 0 || self.has_work(WAKE_WORK)) && self.wake_one(0..lowest));
        if self.is_any_over(lowest..BANDS) {
            self.time().arm_timer(began);
        } else if self.is_any_over(0..lowest) {
            self.time().arm_timer(self.time().end_of_rest(began, REST_FACTOR));
        }
    }

    /// Wakes the best task of these bands whose wait is over. Returns whether there was one.
    fn wake_one(self, bands: Range<usize>) -> bool {
        let Some((event, task)) = self.best_over(bands) else { return false };
        self.note_work(WAKE_WORK);
        let block = match event {
            Event::Epoch => {
                self.sched.grace_waiters.remove(self.pin(), task);
                self.time().make_ready(OpenTask::here(task, self.pin()));
                None
            }
            Event::Shootdown => self.sched.forgetful.take(self.pin(), task),
            Event::Death => self.sched.unanswered.take(self.pin(), task),
        };
        if let Some(block) = block {
            self.end_stay(block);
        }
        true
    }

    /// Returns whether a task of these bands can wake.
    pub fn is_any_over(self, bands: Range<usize>) -> bool {
        self.best_over(bands).is_some()
    }

    /// Returns the best of the tasks that are the first of one of these bands in one of the lists, and
    /// whose wait is over.
    fn best_over(self, bands: Range<usize>) -> Option<(Event, Ref<'k, Task>)> {
        let (pin, sched, epoch) = (self.pin(), &self.sched, self.k.cpus.epoch.now());
        let has_epoch = |task| OpenTask::here(task, pin).wait_epoch.get() <= epoch;
        let grace = sched.grace_waiters.find_first(pin, bands.clone(), has_epoch);
        let shootdown = sched.forgetful.tasks().find_first(pin, bands.clone(), |task| self.is_shot(task));
        let death = sched.unanswered.tasks().find_first(pin, bands, |_| true);
        let all = [(Event::Epoch, grace), (Event::Shootdown, shootdown), (Event::Death, death)];
        let over = all.into_iter().filter_map(|(event, task)| Some((event, task?)));
        over.max_by_key(|(_, task)| task.prio_links(pin).priority())
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
