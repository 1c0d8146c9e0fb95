//! What a test build counts of kills, so that a storm of kills can say which stages it found.
//!
//! A test build's [`Op::MachineCounter`](abi::Op::MachineCounter) takes the numbers of these
//! counters, too: see [`Kill::number`]. Other kernels neither count nor read them. Events of the
//! [trace](crate::trace) could not say as much: a ring keeps the last few thousand events, and a
//! storm kills a hundred thousand tasks.

use abi::Counter;

use crate::trace::{Stage, TaskState};

macro_rules! kills {
    ($($(#[doc = $doc:expr])* $name:ident = $text:literal;)*) => {
        /// What kills are counted by, on the CPU of the killed task.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Kill { $($(#[doc = $doc])* $name,)* }

        impl Kill {
            pub const ALL: &'static [Kill] = &[$(Kill::$name,)*];

            /// Returns the counter's name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Kill::$name => $text,)* }
            }
        }
    };
}

kills! {
    /// The task was running or ready.
    Ready = "ready";
    /// It was receiving.
    Receiving = "receiving";
    /// It was waiting for the bits of a Notification.
    Waiting = "waiting";
    /// It was waiting for a grace period.
    Grace = "grace";
    /// Its call was queued at a task of its CPU.
    Queued = "queued";
    /// Its event was waiting for room in a pool that a task of its CPU reads.
    Posting = "posting";
    /// Its call had been received by a task of its CPU.
    Owed = "owed";
    /// Its call or event was in the mailbox of another CPU.
    Out = "out";
    /// Another CPU had taken its call or event.
    There = "there";
    /// The answer to its call was in its CPU's mailbox.
    Back = "back";
    /// Its request was in the mailbox of another CPU.
    Ask = "ask";
    /// Another CPU had taken its request.
    Asked = "asked";
    /// Its CPU kept its request until the condition holds.
    Kept = "kept";
    /// The answer to its request was in its CPU's mailbox.
    AskDone = "ask_done";
    /// The kill recalled a message that was still in the mailbox: the recall had overtaken it.
    RecallOut = "recall_out";
    /// The kill recalled a message that was queued at a task.
    RecallQueued = "recall_queued";
    /// The kill recalled a message that a task had received.
    RecallOwed = "recall_owed";
    /// The kill recalled a request that was kept until its condition holds.
    RecallKept = "recall_kept";
    /// The recalled message was on its way back.
    RecallGone = "recall_gone";
    /// The task was waiting for the answer to a fault.
    InFault = "faulting";
    /// It had lent pages to a message.
    Lending = "lending";
    /// It served a call, or kept one in a Reply.
    Serving = "callees";
    /// Callers were queued at it.
    Called = "called";
}

/// The stages that a storm reports: those before the properties that a killed task has besides.
pub const STAGES: usize = Kill::InFault as usize;

/// What a kill finds of a task.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub state: Option<TaskState>,
    /// The stage of the task's message block. A CPU cannot look into a block that another CPU owns.
    pub stage: Option<Stage>,
    /// Whether the block's node is queued in a mailbox. It may change at any time.
    pub in_mailbox: bool,
    /// Whether the block has an event.
    pub is_event: bool,
    pub in_fault: bool,
    pub lending: bool,
    pub serving: bool,
    pub called: bool,
}

impl Found {
    /// Returns the counters that count the kill.
    pub fn kills(self) -> impl Iterator<Item = Kill> {
        let besides = [
            (self.in_fault, Kill::InFault),
            (self.lending, Kill::Lending),
            (self.serving, Kill::Serving),
            (self.called, Kill::Called),
        ];
        let besides = besides.into_iter().filter(|(so, _)| *so).map(|(_, kill)| kill);
        core::iter::once(self.doing()).chain(besides)
    }

    /// Returns the counter for the task's activity when it was killed.
    fn doing(self) -> Kill {
        use TaskState as S;
        match (self.state, self.stage) {
            (Some(S::Recv | S::RecvTimed), _) => Kill::Receiving,
            (Some(S::WaitBits), _) => Kill::Waiting,
            (Some(S::Sending), _) if self.is_event => Kill::Posting,
            (Some(S::Sending), _) => Kill::Queued,
            (Some(S::Await | S::AwaitTimed), _) => Kill::Owed,
            (Some(S::AwaitRemote), Some(Stage::Back)) => Kill::Back,
            (Some(S::AwaitRemote), _) if self.in_mailbox => Kill::Out,
            (Some(S::AwaitRemote), _) => Kill::There,
            (Some(S::Restart), Some(Stage::AskDone)) => Kill::AskDone,
            (Some(S::Restart), Some(Stage::Kept)) => Kill::Kept,
            (Some(S::Restart), Some(Stage::Ask)) => Kill::Ask,
            (Some(S::Restart), Some(_)) => Kill::Grace,
            (Some(S::Restart), None) if self.in_mailbox => Kill::Ask,
            (Some(S::Restart), None) => Kill::Asked,
            (Some(S::Ready | S::Exhausted | S::Fresh | S::Faulted | S::Dead) | None, _) => Kill::Ready,
        }
    }
}

impl Kill {
    /// Returns the counter's number.
    pub const fn number(self) -> usize {
        Counter::ALL.len() + self as usize
    }

    /// Returns the counter for a kill's recall, by the stage of the message block that the recall
    /// finds; `None` means that the block has left the CPU.
    pub const fn of_recall(stage: Option<Stage>) -> Kill {
        match stage {
            Some(Stage::Out | Stage::Ask) => Kill::RecallOut,
            Some(Stage::Queued) => Kill::RecallQueued,
            Some(Stage::Owed) => Kill::RecallOwed,
            Some(Stage::Kept) => Kill::RecallKept,
            Some(Stage::Home | Stage::Back | Stage::AskDone) | None => Kill::RecallGone,
        }
    }
}
