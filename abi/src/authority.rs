//! The rules of authority of each operation: the process that it acts for, the consent that the
//! other side must have given, the labels that it checks, and the records of the
//! [audit](crate::audit). Together with [its arguments](crate::Op::forms) they make the book's page
//! of rules. The host tests run each operation that is audited, or that checks labels.

use crate::Op;
use crate::audit::{AuditEvent, may};

/// The process that an operation acts for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behalf {
    /// The caller's own process.
    Own,
    /// The process that an argument names; 0 is rdi.
    OfProcess(usize),
    /// The process of the task that an argument names.
    OfTask(usize),
    /// The process whose call it is: the receiver is told so.
    OfCaller,
    /// The machine: what it changes is everybody's.
    Machine,
}

impl Behalf {
    /// Describes the subject in words.
    pub const fn text(self) -> &'static str {
        match self {
            Behalf::Own => "its own",
            Behalf::OfProcess(0) => "the process (rdi)",
            Behalf::OfProcess(_) => "the process (rsi)",
            Behalf::OfTask(0) => "the task's process (rdi)",
            Behalf::OfTask(_) => "the task's process (rsi)",
            Behalf::OfCaller => {
                "its own, with its own custom bits; the receiver sees the caller's TaskId, and FLAG_FORWARDED"
            }
            Behalf::Machine => "the machine",
        }
    }
}

/// What an operation asks the labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asks {
    /// What the rule must allow to the process that gets, joins or sees the object: bits of
    /// [`may`].
    pub bits: u8,
    /// The labels have to be the same.
    pub same: bool,
}

impl Op {
    /// Returns the checks of labels that it needs. Messages: if they carry capabilities or pages.
    pub const fn asks(self) -> Asks {
        let bits = match self {
            Op::Retype | Op::CapCopy | Op::CapMove | Op::DeviceFrame => may::GRANT,
            Op::Call | Op::Send | Op::Reply | Op::ReplyRecv => may::GRANT | may::READ | may::WRITE,
            Op::GroupAdd | Op::Expose | Op::Forward | Op::SaveReply => may::JOIN,
            Op::Map | Op::Protect | Op::PageTransfer => may::READ | may::WRITE,
            Op::Broadcast => may::READ,
            Op::PageCopy | Op::TaskConfigure | Op::PoolBind => may::READ | may::WRITE,
            _ => 0,
        };
        Asks {
            bits,
            same: matches!(self, Op::ProcessConfigure | Op::CSpaceGrow | Op::TaskConfigure | Op::LabelSet),
        }
    }

    /// Returns the process that the operation acts for.
    pub const fn behalf(self) -> Behalf {
        match self {
            Op::ProcessConfigure | Op::ProcessAccept | Op::CSpaceGrow | Op::ProcessKill => {
                Behalf::OfProcess(0)
            }
            Op::TaskConfigure | Op::PoolBind => Behalf::OfProcess(1),
            Op::TaskWriteRegs
            | Op::TaskReadRegs
            | Op::TaskReadVector
            | Op::TaskWriteVector
            | Op::TaskResume
            | Op::TaskSuspend
            | Op::TaskCancel
            | Op::TaskKill
            | Op::TaskDebug
            | Op::FaultHandler => Behalf::OfTask(0),
            Op::SchedBind | Op::NotificationBind => Behalf::OfTask(1),
            Op::Forward => Behalf::OfCaller,
            Op::LabelSet
            | Op::LabelRule
            | Op::AuditStart
            | Op::MachineExit
            | Op::MachineDump
            | Op::MachineAttempt => Behalf::Machine,
            _ => Behalf::Own,
        }
    }

    /// Returns what the other side must have agreed to; empty if no agreement is needed.
    pub const fn agreed(self) -> &'static str {
        match self {
            Op::Forward => {
                "the task is exposed, by who had LISTEN of it; no capabilities or pages are carried"
            }
            Op::Call => {
                "the task is exposed, by who had LISTEN of it; capabilities come into slots, pages into windows that the \
                 receiver has opened"
            }
            Op::Send => {
                "as a call; the receiver's process has an event pool, whose first page says where capabilities and pages may come"
            }
            Op::Broadcast => {
                "the members' records have LISTEN, and their processes event pools, as for an event"
            }
            Op::Reply | Op::ReplyRecv => {
                "the caller waits for it; capabilities and pages as with a call, and none as the answer to a fault"
            }
            Op::Notify => "through a group: the Notification is exposed, by who had LISTEN of it",
            Op::YieldTo => "through a group: the task is exposed",
            Op::FaultHandler => {
                "at each fault: SEND and STRING of the handler's group, in capability and record"
            }
            Op::GroupAdd => "the process has offered a slot, to this group or to the caller's process",
            _ => "",
        }
    }

    /// Returns the events that the audit gets when it is done; a refusal for lack of authority is
    /// always a Denial.
    pub const fn told(self) -> &'static [AuditEvent] {
        use AuditEvent as E;
        match self {
            Op::CapCopy | Op::CapMove | Op::Retype | Op::DeviceFrame => &[E::Grant],
            Op::Call | Op::Send => &[E::Grant],
            Op::Reply | Op::ReplyRecv => &[E::Grant, E::Kill],
            Op::CapDelete => &[E::Take, E::Kill, E::Leave, E::End],
            Op::CapRevoke => &[E::Revoke, E::Kill, E::Leave, E::End],
            Op::UntypedReset => &[E::Reset, E::Pin, E::Kill, E::Leave, E::End],
            Op::GroupAdd => &[E::Join],
            Op::GroupRemove => &[E::Leave],
            Op::Expose => &[E::Expose],
            Op::Withdraw => &[E::Withdraw, E::Kill, E::End],
            Op::TaskKill => &[E::Kill, E::Death],
            Op::ProcessKill => &[E::Kill, E::Withdraw, E::Leave, E::Death],
            Op::ProcessConfigure | Op::CSpaceGrow | Op::TaskConfigure | Op::PoolBind => &[E::Bind],
            Op::FramePin | Op::FrameUnpin => &[E::Pin],
            Op::LabelSet => &[E::Label],
            Op::LabelRule => &[E::Rule],
            Op::AuditStart => &[E::Began],
            _ => &[],
        }
    }
}
