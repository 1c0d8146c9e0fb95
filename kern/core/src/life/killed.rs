//! Counts what kills find: of each, what the task was in, and where the message was that it is asked back from.
//!
//! A message block that is elsewhere is not this CPU's to look into. Whether it is in a mailbox, and whose, its node says:
//! a glance, right at the moment that it was taken. What state it was in there is counted where the recall finds it.

use abi::{Counter, FLAG_EVENT};
use kern_base::machine::Machine;
use kern_base::task::{FLAG_IN_FAULT, Stage, State, Task, TaskHot};
use smp::door::Ref;

use crate::rooms::Life;
use crate::state::{has_flag, state_of};

impl<'k, M: Machine> Life<'k, M> {
    /// A task of this CPU, which is not dying yet, is killed.
    pub fn count_kill(self, task: Ref<'k, Task>, hot: &TaskHot) {
        self.count(self.found_in(task, hot));
        let besides = [
            (has_flag(hot, FLAG_IN_FAULT), Counter::KillInFault),
            (hot.lends.get(), Counter::KillLending),
            (!hot.caller.is_null() || !hot.replies.is_null(), Counter::KillServing),
            (!hot.senders.is_empty() || !hot.posters.is_empty(), Counter::KillCalled),
        ];
        for (_, counter) in besides.into_iter().filter(|(so, _)| *so) {
            self.count(counter);
        }
    }

    fn found_in(self, task: Ref<'k, Task>, hot: &TaskHot) -> Counter {
        let msg = task.get().msg.open(self.pin());
        let queued = task.get().msg_node.is_queued();
        match (state_of(hot), msg.map(|msg| msg.stage.get())) {
            (State::Recv | State::RecvTimed, _) => Counter::KillReceiving,
            (State::WaitBits, _) => Counter::KillWaiting,
            (State::Sending, _) => {
                let event = msg.is_some_and(|msg| msg.info.get().has(FLAG_EVENT));
                if event { Counter::KillPosting } else { Counter::KillQueued }
            }
            (State::Await | State::AwaitTimed, _) => Counter::KillOwed,
            (State::AwaitRemote, Some(Stage::Back)) => Counter::KillBack,
            (State::AwaitRemote, _) if queued => Counter::KillOut,
            (State::AwaitRemote, _) => Counter::KillThere,
            (State::Restart, Some(Stage::AskDone)) => Counter::KillAskDone,
            (State::Restart, Some(Stage::Mourning)) => Counter::KillKept,
            (State::Restart, Some(Stage::Ask)) => Counter::KillAsk,
            (State::Restart, Some(_)) => Counter::KillGrace,
            (State::Restart, None) if queued => Counter::KillAsk,
            (State::Restart, None) => Counter::KillAsked,
            (State::Ready | State::Fresh | State::Faulted | State::Dead, _) => Counter::KillReady,
        }
    }

    /// A kill asks a message back, which is here in that stage; `None`: is not here any more.
    pub fn count_recall(self, stage: Option<Stage>) {
        self.count(match stage {
            Some(Stage::Out | Stage::Ask) => Counter::RecallOut,
            Some(Stage::Queued) => Counter::RecallQueued,
            Some(Stage::Owed) => Counter::RecallOwed,
            Some(Stage::Mourning) => Counter::RecallKept,
            Some(Stage::Home | Stage::Back | Stage::AskDone) | None => Counter::RecallGone,
        });
    }
}
