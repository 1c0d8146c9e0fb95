//! SchedContexts: the right to CPU time. No task can have a new one, until a
//! [`SchedControl`](crate::sched_control::SchedControl) has set it.
//!
//! Run queues hold SchedContexts, never tasks. `task` is the present holder of the time: a call
//! donates the time to the callee, and the reply gives it back. The inner state belongs to the CPU
//! on which the context is. The context travels in message blocks to other CPUs and is charged
//! there.

use core::convert::Infallible;

use abi::ObjType;
use sched::{QueueLinks, Queued, ScState};
use smp::cpu::{CpuId, Pin};
use smp::door::{HasHomed, Homed, Link, Opened, Sendable};

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
}

impl Sendable for SchedHot {}

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
                SchedHot { task: Link::null(), owner: Link::null(), state: ScState::inert() },
            ),
        }
    }
}
