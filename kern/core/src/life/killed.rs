//! Counts what killed tasks were doing, and in which stage a kill's recall finds the message block.
//!
//! A CPU cannot look into a message block that another CPU owns. It can only read whether the
//! block's node is queued in a mailbox, which may change at any time. So the CPU that serves the
//! recall counts the block's stage.

use abi::{Counter, FLAG_EVENT};
use kern_base::machine::Machine;
use kern_base::task::{FLAG_IN_FAULT, Stage, State, Task, TaskHot};
use smp::door::Ref;

use crate::rooms::Life;

impl<'k, M: Machine> Life<'k, M> {
    /// Counts a kill of a task of this CPU that is not dying yet.
    pub fn count_kill(self, task: Ref<'k, Task>, hot: &TaskHot) {
        let pin = self.pin();
        self.count(self.found_in(task, hot));
        let besides = [
            (hot.has_flag(FLAG_IN_FAULT), Counter::KillInFault),
            (hot.lends_pages(), Counter::KillLending),
            (hot.caller(pin).is_some() || hot.first_reply(pin).is_some(), Counter::KillServing),
            (!hot.callers().is_empty() || !hot.posters.is_empty(), Counter::KillCalled),
        ];
        for (_, counter) in besides.into_iter().filter(|(so, _)| *so) {
            self.count(counter);
        }
    }

    /// Returns the counter for what a task is doing.
    fn found_in(self, task: Ref<'k, Task>, hot: &TaskHot) -> Counter {
        let msg = task.get().message(self.pin());
        let queued = task.get().msg_node.is_queued();
        match (hot.state(), msg.map(|msg| msg.stage())) {
            (State::Recv | State::RecvTimed, _) => Counter::KillReceiving,
            (State::WaitBits, _) => Counter::KillWaiting,
            (State::Sending, _) => {
                let event = msg.is_some_and(|msg| msg.info().has(FLAG_EVENT));
                if event { Counter::KillPosting } else { Counter::KillQueued }
            }
            (State::Await | State::AwaitTimed, _) => Counter::KillOwed,
            (State::AwaitRemote, Some(Stage::Back)) => Counter::KillBack,
            (State::AwaitRemote, _) if queued => Counter::KillOut,
            (State::AwaitRemote, _) => Counter::KillThere,
            (State::Restart, Some(Stage::AskDone)) => Counter::KillAskDone,
            (State::Restart, Some(Stage::Kept)) => Counter::KillKept,
            (State::Restart, Some(Stage::Ask)) => Counter::KillAsk,
            (State::Restart, Some(_)) => Counter::KillGrace,
            (State::Restart, None) if queued => Counter::KillAsk,
            (State::Restart, None) => Counter::KillAsked,
            (State::Ready | State::Fresh | State::Faulted | State::Dead, _) => Counter::KillReady,
        }
    }

    /// Counts a kill's recall by the stage of the message block; `None` means that the block has
    /// left this CPU.
    pub fn count_recall(self, stage: Option<Stage>) {
        self.count(match stage {
            Some(Stage::Out | Stage::Ask) => Counter::RecallOut,
            Some(Stage::Queued) => Counter::RecallQueued,
            Some(Stage::Owed) => Counter::RecallOwed,
            Some(Stage::Kept) => Counter::RecallKept,
            Some(Stage::Home | Stage::Back | Stage::AskDone) | None => Counter::RecallGone,
        });
    }
}
