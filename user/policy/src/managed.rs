//! A task that the policy manages.

use policy_core::orders::{Wish, slots};
use user_rt::cap::{Handle, SchedContext, Task};
use user_rt::invoke::Settings;

/// A task, and what was decided about it.
#[derive(Debug)]
pub struct Managed {
    pub task: Task,
    pub sched: SchedContext,
    pub wish: Wish,
    /// Where it is, or where it goes.
    pub cpu: u32,
    /// It was asked to move, and may not have arrived before this time; or it could not move, and
    /// is not tried again before.
    pub settles_at: u64,
    /// It was asked to move.
    pub is_under_way: bool,
    /// The sequence number of the last event, or of what was read.
    pub sequence: u32,
    /// Which part of its CPU it was promised.
    pub part: u64,
    /// When its job has to be over, while it has one.
    pub deadline: Option<u64>,
    /// The deadline of a job that goes on where the task moves to.
    pub carried: Option<u64>,
    /// The level of its last job, above its lowest priority.
    pub level: u8,
}

impl Managed {
    /// Describes a task whose capabilities are at their slots.
    pub fn new(wish: Wish, cpu: u32, part: u64) -> Managed {
        let (task, sched) = slots(wish.number);
        let (task, sched) = (Task::at(task), SchedContext::at(sched));
        Managed {
            task,
            sched,
            wish,
            cpu,
            settles_at: 0,
            is_under_way: false,
            sequence: 0,
            part,
            deadline: None,
            carried: None,
            level: 0,
        }
    }

    /// Returns how its SchedContext is to be set.
    pub fn settings(&self) -> Settings {
        let Wish { priority, slice, budget, period, .. } = self.wish;
        Settings { priority: priority.saturating_add(self.level), slice, budget, period }
    }
}
