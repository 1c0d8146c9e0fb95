//! SchedContexts: the right to CPU time. No task can have a new one, until a
//! [`SchedControl`](crate::sched_control::SchedControl) has set it.
//!
//! Run queues hold SchedContexts, never tasks. `task` is the present holder of the time: a call
//! donates the time to the callee, and the reply gives it back. The inner state belongs to the CPU
//! on which the context is. The context travels in message blocks to other CPUs and is charged
//! there.

use core::cell::Cell;
use core::convert::Infallible;

use abi::ObjType;
use abi::status::{Seen, Status};
use sched::{QueueLinks, Queued, ScState, Share};
use smp::cpu::{CpuId, Pin};
use smp::door::{HasHomed, Homed, Link, Opened, Sendable};

use crate::accounts::AccountId;
use crate::header::{Header, RootId};
use crate::task::Task;

/// What the home CPU owns.
#[repr(C)]
pub struct SchedHot {
    /// The task that has it. On this CPU, or with its message block on this CPU.
    pub task: Link<Task>,
    /// Priority, slice, time used, place in the run queue.
    pub state: ScState<SchedContext>,
    /// The task it is bound to.
    pub owner: Link<Task>,
    pub watch: Watch,
    pub paid: Paid,
}

/// What a SchedContext has of an account of CPU time.
#[derive(Default)]
pub struct Paid {
    /// `None`: it was set by a SchedControl that gives CPU time without limit.
    pub account: Cell<Option<AccountId>>,
    pub share: Cell<Share>,
}

/// The pool that learns what a SchedContext does, and what was reported last.
#[derive(Default)]
pub struct Watch {
    /// The policy that watches it, by the number of its pool ([`EventPool::policy`]); 0: nobody.
    /// Only CPUs that report to this policy report the context, so that a policy which ends leaves
    /// nothing behind.
    ///
    /// [`EventPool::policy`]: crate::events::EventPool
    pub policy: Cell<u64>,
    /// The number of the status word.
    pub word: Cell<u16>,
    /// The events to report: bits of [`abi::status::SchedEvent`].
    pub events: Cell<u16>,
    /// The number of the CPU's count of ready contexts in which it is; 0: in none.
    pub counted_in: Cell<u64>,
    pub told: Cell<Status>,
}

impl Sendable for SchedHot {}

/// What a system call sets of a SchedContext.
#[derive(Clone, Copy)]
pub struct Settings {
    pub priority: u8,
    /// In TSC ticks; not 0.
    pub slice: u64,
    /// In TSC ticks; 0: none.
    pub budget: u64,
    /// Length of the budget's windows in TSC ticks; 0 without budget.
    pub period: u64,
}

impl Settings {
    /// Returns the settings as the words of a request to another CPU, which holds only if the
    /// context is as its policy has seen it.
    pub fn to_words(self, seen: Option<Seen>) -> [u64; 4] {
        [Seen::join(self.priority.into(), seen), self.slice, self.budget, self.period]
    }

    /// Returns what [`Settings::to_words`] has written.
    pub fn from_words([first, slice, budget, period]: [u64; 4]) -> (Settings, Option<Seen>) {
        let (priority, seen) = Seen::split(first);
        (Settings { priority: priority as u8, slice, budget, period }, seen)
    }
}

/// A SchedContext.
#[repr(C, align(64))]
pub struct SchedContext {
    pub header: Header,
    pub hot: Homed<SchedHot>,
}

/// A SchedContext that is on this CPU.
pub type OpenTime<'k> = Opened<'k, SchedContext, SchedHot>;

impl HasHomed<SchedHot> for SchedContext {
    type Key = Infallible;

    #[inline(always)]
    fn homed(&self) -> &Homed<SchedHot> {
        &self.hot
    }
}

impl Queued for SchedContext {
    #[inline(always)]
    fn run_links<'a>(&'a self, pin: Pin<'a>) -> &'a QueueLinks<SchedContext> {
        &self.hot.here(pin).state.links
    }
}

impl SchedContext {
    pub fn new(root: RootId, home: CpuId) -> SchedContext {
        SchedContext {
            header: Header::new(ObjType::SchedContext, root),
            hot: Homed::new(
                home,
                SchedHot {
                    task: Link::null(),
                    owner: Link::null(),
                    state: ScState::inert(),
                    watch: Watch::default(),
                    paid: Paid::default(),
                },
            ),
        }
    }
}
