//! How messages end for their senders. Each message that was sent ends once, in one of the ways of
//! [`End`]. Then its block is at its task again.
//!
//! If the sender is on the CPU where the message ends, the sender wakes immediately. Otherwise the
//! block carries the end to the sender's CPU ([`Ipc::send_back`]), and the sender wakes when the
//! block has arrived ([`Ipc::came_home`]). Both cases use [`Ipc::wake_with`].

use abi::events::{BROADCAST, Progress};
use abi::{Error, MsgInfo, Target, TaskId};
use kern_base::block::Block;
use kern_base::flags::FLAG_EVENT;
use kern_base::machine::Machine;
use kern_base::message::Stage;
use kern_base::task::{Ending, FLAG_IN_FAULT, Message, OpenTask, Outcome, Task, TaskHot};
use smp::door::Ref;
use test_abi::trace::Event;

use crate::Refusal;
use crate::answer::{write_error, write_values};
use crate::ipc::call::{SenderInfo, Words};
use crate::rooms::Ipc;

/// How a message ends for its sender.
#[derive(Clone, Copy)]
pub enum End {
    /// With an answer; the sender gets its words.
    Replied(Words),
    Failed {
        error: Error,
        detail: u64,
        who: TaskId,
    },
    /// The message could not be received at that moment: the sender sends it again.
    Retry,
    /// The member of a broadcast's group, for which the broadcast waited, has the event now.
    Posted,
}

impl End {
    /// Returns what the message block carries back: the outcome, the words, and the task that wrote
    /// the words.
    fn parts(self) -> (Outcome, Words, TaskId) {
        let nothing = Words::NONE;
        match self {
            End::Replied(words) => (Outcome::Replied, words, TaskId::NONE),
            End::Failed { error, detail, who } => {
                (Outcome::Failed(error), Words { regs: [detail, 0, 0, 0], ..nothing }, who)
            }
            End::Retry => (Outcome::Retry, nothing, TaskId::NONE),
            End::Posted => (Outcome::Posted, nothing, TaskId::NONE),
        }
    }

    fn error(self) -> Option<Error> {
        if let End::Failed { error, .. } = self { Some(error) } else { None }
    }
}

/// Returns whether a message block, which is queued or has come back, belongs to a broadcast.
pub fn is_broadcast(msg: &Message) -> bool {
    msg.info().has(FLAG_EVENT) && msg.sender().target.index() == BROADCAST
}

/// Returns how far a task's broadcast has come, in the form in which the broadcast's error reports
/// it to the sender ([`Progress`]).
pub fn progress_of(hot: &TaskHot) -> u64 {
    u64::from(Target(hot.regs.rdi.get()).index())
}

pub fn set_progress(hot: &TaskHot, progress: Progress) {
    hot.regs.rdi.set(Target::new(Target(hot.regs.rdi.get()).cap(), progress.raw()).0);
}

impl<'k, M: Machine> Ipc<'k, M> {
    /// Ends a message that its receiver does not get, or has not answered. Its sender wakes with
    /// the error, or sends the message again. A broadcast is never ended by one of its members: it
    /// visits that member once more.
    pub fn refuse(self, block: Block<'k>, why: Refusal) {
        // In other stages the block says what its last message was that waited.
        let is_written = matches!(block.stage(), Stage::Queued | Stage::Out);
        let end = match why {
            Refusal::Error { error, detail, who } if !(is_written && is_broadcast(&block)) => {
                End::Failed { error, detail, who }
            }
            _ => End::Retry,
        };
        self.end(block, end);
    }

    /// Ends a message. The sender gets its time back from the callee.
    pub fn end(self, block: Block<'k>, end: End) {
        let Some(task) = self.open(block.task()) else {
            self.recover_time(&block);
            let (outcome, words, who) = end.parts();
            // The sender's CPU must still see whether a message that failed was a broadcast.
            let kind = if outcome == Outcome::Replied { 0 } else { block.info().flags() & FLAG_EVENT };
            let from = SenderInfo { sender: who, target: block.sender().target, custom: 0 };
            block.write(Words { info: MsgInfo(words.info.0 | kind), ..words }, from);
            return self.send_back(block, outcome);
        };
        self.time().clear_deadline(task);
        self.note_over(task.object(), end.error());
        self.recover_time(&block);
        block.rest();
        self.wake_with(task, end);
    }

    /// Takes the sender's time back from the callee.
    fn recover_time(self, block: &Block<'k>) {
        if let Some(callee) = block.callee(self.pin()).and_then(|callee| self.open(callee)) {
            self.time().recover(block.task(), callee);
        }
    }

    /// Sends a message block, with this outcome, back to its task's home CPU.
    pub fn send_back(self, block: Block<'k>, outcome: Outcome) {
        block.goes_back(outcome);
        let home = block.task().get().hot.home();
        self.outbox().send_block(block, home);
    }

    /// Wakes the sender of a message whose block is back with an end, or because it was recalled.
    pub fn came_home(self, block: Block<'k>, task: OpenTask<'k>) {
        let progress = if is_broadcast(&block) { progress_of(task.part()) } else { 0 };
        let end = match (block.outcome(), task.end_wait()) {
            (Outcome::Replied, _) => End::Replied(block.words()),
            (Outcome::Failed(error), _) => {
                End::Failed { error, detail: block.words().regs[0], who: block.sender().sender }
            }
            // This CPU ends the wait, so no task of the other CPU is to blame.
            (Outcome::Recalled | Outcome::Retry, Ending::Fail(error)) => {
                End::Failed { error, detail: progress, who: TaskId::NONE }
            }
            (Outcome::Posted, _) => End::Posted,
            (Outcome::Recalled | Outcome::Retry, _) => End::Retry,
        };
        block.rest();
        self.note_over(task.object(), end.error());
        self.wake_with(task, end);
    }

    /// Wakes a sender of this CPU whose message is over.
    ///
    /// Requires: the sender waits for nothing any more, has its time, and its block is at home.
    pub fn wake_with(self, task: OpenTask<'k>, end: End) {
        if task.has_flag(FLAG_IN_FAULT) {
            return self.fault_is_over(task, end);
        }
        match end {
            End::Replied(words) => {
                let [mr0, mr1, mr2, mr3] = words.regs;
                write_values(&task.regs, words.info, [0, 0, mr0, mr1]);
                task.regs.r9.set(mr2);
                task.regs.r10.set(mr3);
            }
            End::Failed { error, detail, who } => {
                self.security().audit_refusal(task.object(), None, error, detail, 0);
                self.payload().take_pages_back(task);
                write_error(&task.regs, error, detail, who);
            }
            End::Retry => self.rewind(task.part()),
            End::Posted => {
                let progress = Progress::from_raw(Target(task.regs.rdi.get()).index());
                set_progress(task.part(), progress.past(true));
                self.rewind(task.part());
            }
        }
        self.time().make_ready(task);
    }

    /// Notes in the trace that a message of a task of this CPU is over.
    pub fn note_over(self, task: Ref<'k, Task>, error: Option<Error>) {
        let error = error.map_or(0, |error| error as u8);
        self.trace().event(|| Event::CallOver { caller: task.get().id(), error });
    }
}

/// Stops the kernel, because the call of `caller` is on this CPU and no callee on this CPU has its
/// message block.
#[cold]
#[inline(never)]
pub fn no_callee(caller: TaskId) -> ! {
    panic!("the message block of task {caller:?} is here with a call, and no callee has it");
}
