//! Counts kills in test builds, by what the killed task was doing, and by the stage in which a
//! kill's recall finds the message block.
//!
//! A CPU cannot look into a message block that another CPU owns. It can only read whether the
//! block's node is queued in a mailbox, which may change at any time. So the CPU that serves the
//! recall counts the block's stage.

use kern_base::flags::FLAG_EVENT;
use kern_base::machine::Machine;
use kern_base::task::{FLAG_IN_FAULT, OpenTask, Stage, Task};
use smp::door::Ref;
use test_abi::kills::{Found, Kill};
use test_abi::trace::{self, TaskState};

use crate::rooms::Life;

impl<'k, M: Machine> Life<'k, M> {
    /// Counts a kill of a task of this CPU that is not dying yet.
    #[inline(always)]
    pub fn count_kill(self, task: OpenTask<'k>) {
        if !cfg!(feature = "kills") {
            return;
        }
        let pin = self.pin();
        let msg = task.get().message(pin);
        let found = Found {
            state: TaskState::from_number(task.state() as u8),
            stage: msg.and_then(|msg| named(msg.stage())),
            in_mailbox: task.get().msg_node.is_queued(),
            is_event: msg.is_some_and(|msg| msg.info().has(FLAG_EVENT)),
            in_fault: task.has_flag(FLAG_IN_FAULT),
            lending: task.lends_pages(),
            serving: task.caller(pin).is_some() || task.first_reply(pin).is_some(),
            called: !task.callers().is_empty() || !task.posters.is_empty() || !task.waiters.is_empty(),
        };
        found.kills().for_each(|kill| self.count_test(kill));
    }

    /// Counts a kill's recall by the stage of the message block; `None` means that the block has
    /// left this CPU.
    #[inline(always)]
    pub fn count_recall(self, task: Ref<'k, Task>, stage: Option<Stage>) {
        if cfg!(feature = "kills") && task.get().recalled().dying {
            self.count_test(Kill::of_recall(stage.and_then(named)));
        }
    }

    /// Adds one to the counter of this kind of kill, in kernels that have such counters.
    #[inline(always)]
    fn count_test(self, kill: Kill) {
        if let Some(count) = self.cpu.counters.get(kill.number()) {
            count.bump();
        }
    }
}

/// Returns the stage of a message block as test builds name it.
fn named(stage: Stage) -> Option<trace::Stage> {
    trace::Stage::from_number(stage as u8)
}
