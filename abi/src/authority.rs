//! The rules of authority of each operation, as the list of operations has them: the process that
//! it acts for, the consent that the other side must have given, the labels that it checks, and the
//! records of the [audit](crate::audit). Together with [its arguments](crate::Op::forms) they make
//! the book's page of rules. The host tests run each operation that is audited, or that checks
//! labels.

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
    /// Describes in words the process for which an operation acts.
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
    /// [`may`](crate::audit::may).
    pub bits: u8,
    /// The labels have to be the same.
    pub same: bool,
}
