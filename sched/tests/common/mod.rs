//! The object that the model tests queue: links of every kind, and a number that identifies it.

use sched::deadlines::{DeadlineLinks, Timed};
use sched::prio_list::{PrioLinks, PrioQueued};
use sched::run_queue::{QueueLinks, Queued};
use smp::cpu::Pin;
use smp::door::Ref;
use smp::host_test::leak;

pub struct Thing {
    pub number: usize,
    run: QueueLinks<Thing>,
    wait: PrioLinks<Thing>,
    deadline: DeadlineLinks<Thing>,
}

impl Queued for Thing {
    fn run_links<'a>(&'a self, _pin: Pin<'a>) -> &'a QueueLinks<Self> {
        &self.run
    }
}

impl PrioQueued for Thing {
    fn prio_links<'a>(&'a self, _pin: Pin<'a>) -> &'a PrioLinks<Self> {
        &self.wait
    }
}

impl Timed for Thing {
    fn deadline_links<'a>(&'a self, _pin: Pin<'a>) -> &'a DeadlineLinks<Self> {
        &self.deadline
    }
}

/// Makes `count` things, numbered from 0.
pub fn things(count: usize) -> Vec<Ref<'static, Thing>> {
    let thing = |number| Thing {
        number,
        run: QueueLinks::new(),
        wait: PrioLinks::default(),
        deadline: DeadlineLinks::default(),
    };
    (0..count).map(|number| leak(thing(number))).collect()
}
