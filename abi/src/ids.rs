//! Identifiers that are unique for as long as the machine runs.

/// Identity of a task: a serial number, which no other task ever has.
///
/// The number says nothing about the task: not its process, not its CPU, and not its age.
/// [`Op::TaskConfigure`](crate::Op::TaskConfigure) takes the next one of its CPU's block of
/// numbers. No number is given twice. After 2^64 of them, `TaskConfigure` is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[repr(transparent)]
pub struct TaskId(u64);

impl TaskId {
    /// No task: the sender of kernel-made messages.
    pub const NONE: TaskId = TaskId(0);

    /// The first task of process 1: the kernel makes it first.
    pub const FIRST: TaskId = TaskId(1);

    pub const fn from_raw(raw: u64) -> TaskId {
        TaskId(raw)
    }

    pub const fn raw(self) -> u64 {
        self.0
    }
}
