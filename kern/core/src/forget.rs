//! Tours: how all CPUs are made to forget translations.
//!
//! A tour begins with a number of its own and visits every CPU, each of which drops its translations of
//! user memory and leaves a dying address space. Who takes a mapping out of the tables notes how many
//! tours had begun by then; a tour of a higher number began afterwards, and when it is over no CPU holds
//! the translation any more. Anybody's tour serves everybody.
//!
//! # Memory ordering
//! Taking the mapping away comes before the reading of the count, the counting before the flushes of the
//! tour: a fence on either side makes sure that one of the two sees the other.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst, fence};

use abi::trace::Event;
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::task::{Request, Task};
use smp::cpu::CpuId;
use smp::door::Ref;

use crate::requests::Next;
use crate::{Cx, Me, Result};

/// How many tours have begun, and the highest number of those that are over.
#[derive(Default)]
pub struct Tours {
    begun: AtomicU64,
    over: AtomicU64,
}

impl Tours {
    pub const fn new() -> Tours {
        Tours { begun: AtomicU64::new(0), over: AtomicU64::new(0) }
    }

    /// The stamp of something that was just taken away.
    pub fn stamp(&self) -> u64 {
        fence(SeqCst);
        self.begun.load(SeqCst)
    }

    /// Whether every CPU has forgotten what was taken away at `stamp`.
    pub fn have_forgotten(&self, stamp: u64) -> bool {
        self.over.load(SeqCst) > stamp
    }
}

impl<'k, M: Machine> Cx<'k, M> {
    /// Waits until every CPU has forgotten what was taken away at `stamp`.
    pub fn forget_everywhere(self, me: Me<'k>, stamp: u64) -> Result<()> {
        let tours = &self.k.tours;
        if tours.have_forgotten(stamp) {
            return Ok(());
        }
        let number = tours.begun.fetch_add(1, SeqCst) + 1;
        self.event(|| Event::TourBegun { number });
        self.forget_here();
        match self.next_stop(me.task, None) {
            Some(first) => Err(self.ask(me, first, Request::Forget(number))),
            None => {
                tours.over.fetch_max(number, SeqCst);
                self.event(|| Event::TourOver { number });
                Ok(())
            }
        }
    }

    /// The tour of `task` has come here.
    pub fn serve_forget(self, task: Ref<'k, Task>, number: u64) -> Next {
        self.forget_here();
        self.event(|| Event::TourStop { number });
        match self.next_stop(task, Some(self.id())) {
            Some(next) => Next::Go(next),
            None => {
                self.k.tours.over.fetch_max(number, SeqCst);
                self.event(|| Event::TourOver { number });
                Next::Done
            }
        }
    }

    /// The CPU that a tour visits after another: all in their order, without that on which it began.
    fn next_stop(self, task: Ref<'k, Task>, after: Option<CpuId>) -> Option<CpuId> {
        let home = task.get().hot.home();
        let first = after.map_or(0, |cpu| cpu.index() + 1);
        (first..self.k.cpu_count()).filter(|n| *n != home.index()).find_map(CpuId::new)
    }

    /// This CPU's part of a tour.
    fn forget_here(self) {
        let dying = self.hot.vspace.get(self.pin()).is_some_and(|v| v.get().header.has_flag(FLAG_DYING));
        if dying {
            self.hot.vspace.set(None);
        }
        self.k.machine.forget_translations(dying);
        fence(SeqCst);
    }
}
