//! A description as it is written: values with their spans, names that are not resolved yet.
//!
//! A value that could not be read is `None` or its default, and has been reported.

use crate::problem::Span;
use crate::system::{Budget, Cpus, Interrupt, Memory, Pages, Pci, Restart, Untyped};
use crate::values::At;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Written {
    pub about: String,
    pub options: Option<At<String>>,
    pub verdict: Option<At<String>>,
    pub labels: Vec<Label>,
    pub rules: Vec<Rule>,
    pub devices: Vec<Device>,
    pub groups: Vec<Group>,
    pub processes: Vec<Process>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    pub name: At<String>,
    pub number: Option<At<u8>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    pub span: Span,
    pub subjects: Option<At<String>>,
    pub objects: Option<At<String>>,
    /// Bits of [`abi::audit::may`] that remain allowed.
    pub may: u8,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    pub name: At<String>,
    pub about: String,
    pub ports: Vec<At<(u16, u16)>>,
    pub memory: Vec<At<Memory>>,
    pub pci: Option<At<Pci>>,
    /// Where the file says that it is what switches the machine off.
    pub power: Option<At<()>>,
    pub interrupt: Option<At<Interrupt>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub name: At<String>,
    pub about: String,
    pub exposes: Vec<At<String>>,
    pub members: Vec<Member>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub process: At<String>,
    pub rights: Option<At<u32>>,
    pub custom: u16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    pub name: At<String>,
    pub about: String,
    pub program: At<String>,
    pub options: Option<At<String>>,
    pub time: Time,
    pub memory: Option<At<Untyped>>,
    pub tasks: Option<At<u32>>,
    pub slots: Option<At<u32>>,
    pub vector: bool,
    pub stack_pages: u16,
    pub label: Option<At<String>>,
    /// Rights to the Machine, as [`abi::Rights`] has them.
    pub machine: u32,
    pub archive: bool,
    pub devices: Vec<At<String>>,
    pub uses: Vec<Use>,
    pub needs: Vec<At<String>>,
    pub restart: Option<At<Restart>>,
    pub controls: Option<Controls>,
    pub heartbeat: Option<u64>,
    /// Where the file says that it starts when a shell asks, and not with the system.
    pub asked: Option<At<()>>,
    pub schedules: Vec<At<String>>,
    pub pager: Option<Paged>,
}

/// The pager of a process, and how many pages it gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paged {
    pub by: At<String>,
    pub limits: Pages,
}

/// The processes that a process may start and end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Controls {
    All,
    These(Vec<At<String>>),
}

/// A name that a process looks up, and the group that it means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Use {
    pub name: At<String>,
    pub group: At<String>,
}

/// What a process may do with CPU time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Time {
    pub priority: Option<At<u8>>,
    pub ceiling: Option<At<u8>>,
    pub cpu: Option<At<u16>>,
    pub cpus: Option<At<Cpus>>,
    pub slice: Option<u64>,
    pub budget: Option<At<Budget>>,
    pub room: Option<At<u32>>,
}
