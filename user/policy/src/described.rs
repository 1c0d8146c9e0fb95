//! A policy that a system's description starts: its parent gives it the tasks that it schedules,
//! and rings when one of their processes starts or ends ([`protocols::tasks`]).

use policy_core::CPUS_MAX;
use policy_core::orders::{Kind, Setup, Wish, slots};
use protocols::Failure;
use protocols::tasks::{Client, Refusal};
use user_rt::cap::{Handle, Notification};
use user_rt::spawn::{Nursery, own};
use user_rt::supervisor::to_parent;
use user_rt::talk::Line;
use user_rt::{Result, boot};

use crate::Failed;

pub use protocols::tasks::CHANGED_BIT;

/// Thousandths of each CPU that are promised to tasks with deadlines, unless `load=` says another
/// number.
const LOAD: u64 = 950;

/// What the parent says of a task.
pub enum Told {
    Runs(Wish),
    /// Its process does not run.
    Ended,
    /// There are no more.
    NoMore,
    /// It cannot be had now.
    Failed(Failed),
}

fn parent() -> Client<Line> {
    Client(to_parent())
}

/// Returns what the words of the command line say: `policy=` and `load=`. The policy has all CPUs.
pub fn setup() -> Setup {
    let options = boot::options();
    Setup {
        kind: options.value("policy").and_then(Kind::of_name).unwrap_or(Kind::Static),
        cpus: (boot::facts().cpus as u32).clamp(1, CPUS_MAX as u32),
        capacity: options.number("load", LOAD).unwrap_or(LOAD).min(1_000) as u32,
    }
}

/// Returns the Notification by which the parent says that something has changed. A policy that
/// schedules nobody makes one of its own.
///
/// # Panics
/// The parent has none to give.
pub fn bell(nursery: &mut Nursery) -> Result<Notification> {
    let slot = nursery.take_slot()?;
    match parent().bell(|mut ask| ask.set_slot(slot.0)) {
        Ok(()) => Ok(Notification::at(slot)),
        Err(Failure::Transport(refusal)) => Err(refusal),
        Err(Failure::Refused(Refusal::NotAllowed)) => nursery.make(0),
        Err(failure) => panic!("no Notification of the parent: {failure:?}"),
    }
}

/// Whether the task with this number is still the one whose capabilities are in its slots.
pub fn is_there(number: u16) -> bool {
    own::cnode().inspect(slots(number).0).is_ok_and(|held| held.is_some())
}

/// Gets the capabilities of a task, in place of those of its predecessor.
pub fn get(number: u16) -> Told {
    let (task, sched) = slots(number);
    for slot in [task, sched] {
        // Empty, if the predecessor has ended.
        _ = own::cnode().delete(slot);
    }
    let asked = parent().give(
        |mut ask| {
            ask.set_place(number);
            ask.set_task(task.0);
            ask.set_sched(sched.0);
        },
        |told| {
            Ok(Wish {
                number,
                priority: told.get_priority(),
                // The kernel lets it run on its own CPUs only.
                stays: !told.get_may_move(),
                slice: boot::ticks(told.get_slice()).max(1),
                budget: boot::ticks(told.get_budget()),
                period: boot::ticks(told.get_period()),
            })
        },
    );
    match asked {
        Ok(wish) => Told::Runs(wish),
        Err(Failure::Refused(Refusal::NotRunning)) => Told::Ended,
        Err(Failure::Refused(Refusal::NotAllowed)) => Told::NoMore,
        Err(Failure::Transport(refusal)) => Told::Failed(Failed::Kernel(refusal)),
        Err(_) => Told::Failed(Failed::Parent),
    }
}
