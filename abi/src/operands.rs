//! The capabilities that each operation takes, and the rights that each needs. Tests compare the
//! "Rights" lines of the reference with this table. The rights matrix is made from it, and tries
//! every operation with each right missing.

use crate::{MachineRights, ObjType, Op, Rights};
use crate::{cnode_rights, frame_rights, machine_rights, process_rights, sched_rights, task_rights};

/// A capability among the arguments of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operand {
    /// In which argument: 0 is rdi.
    pub position: usize,
    /// What it may be.
    pub types: &'static [ObjType],
    /// The rights that it needs.
    pub rights: Rights,
    pub check: Check,
}

impl Operand {
    /// Names and bits of all rights that it can have: shared ones, and those of its types.
    fn known(&self) -> impl Iterator<Item = &'static crate::Named<Rights>> {
        Rights::SHARED.iter().chain(self.types.iter().flat_map(|of| of.control_rights()))
    }

    /// Returns the names of the rights that it needs.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.known().filter(|right| self.rights.contains(right.value)).map(|right| right.name)
    }
}

/// What is checked besides the type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// The capability's rights.
    Capability,
    /// A CNode, with a slot in the lower half. The caller's own CNode needs none.
    Slot,
    /// The capability's rights. The caller's own process needs none.
    UnlessOwn,
    /// The rights of the capability and of the caller's member record.
    Member,
    /// The rights of capability and member record; a capability with DELETE needs no record.
    MemberOrMaker,
}

/// One way to ask for an operation. Those that take different capabilities have several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// When it is this one; empty where there is no other.
    pub when: &'static str,
    pub operands: &'static [Operand],
}

const fn operand(position: usize, types: &'static [ObjType], rights: Rights, check: Check) -> Operand {
    Operand { position, types, rights, check }
}

const fn of(position: usize, types: &'static [ObjType], rights: Rights) -> Operand {
    operand(position, types, rights, Check::Capability)
}

const fn slot(position: usize, rights: Rights) -> Operand {
    operand(position, &[ObjType::CNode], rights, Check::Slot)
}

const fn member(rights: Rights) -> Operand {
    operand(0, &[ObjType::Group], rights, Check::Member)
}

const fn maker(rights: Rights) -> Operand {
    operand(0, &[ObjType::Group], rights, Check::MemberOrMaker)
}

const fn process(position: usize, rights: Rights) -> Operand {
    of(position, &[ObjType::Process], rights)
}

const fn task(position: usize, rights: Rights) -> Operand {
    of(position, &[ObjType::Task], rights)
}

const fn time(rights: Rights) -> Operand {
    of(0, &[ObjType::SchedContext], rights)
}

const fn bits(rights: Rights) -> Operand {
    of(0, &[ObjType::Notification], rights)
}

const fn reply(rights: Rights) -> Operand {
    of(0, &[ObjType::Reply], rights)
}

const fn pool(rights: Rights) -> Operand {
    of(0, &[ObjType::EventPool], rights)
}

const fn machine(position: usize, rights: Rights) -> Operand {
    of(position, &[ObjType::Machine], rights)
}

const fn untyped(position: usize) -> Operand {
    of(position, &[ObjType::Untyped], Rights::NONE)
}

const fn space(position: usize) -> Operand {
    of(position, &[ObjType::VSpace], Rights::MAP)
}

const fn frame(position: usize, rights: Rights) -> Operand {
    of(position, &[ObjType::Frame], rights)
}

const OWN_PROCESS: Operand =
    operand(0, &[ObjType::Process], process_rights::CONFIGURE.rights(), Check::UnlessOwn);
const WORDS: Rights = Rights::SEND.union(Rights::STRING);
const PAGES: Rights = Rights::SEND.union(Rights::MAP);
const CAPS: Rights = Rights::SEND.union(Rights::GRANT);
const TO_WRITE: Rights = Rights::MAP.union(frame_rights::WRITE.rights());

/// All types but Untyped, which has one capability.
const COPIED: &[ObjType] = &[
    ObjType::CNode,
    ObjType::VSpace,
    ObjType::Frame,
    ObjType::Process,
    ObjType::Task,
    ObjType::SchedContext,
    ObjType::Group,
    ObjType::Notification,
    ObjType::Reply,
    ObjType::Machine,
    ObjType::EventPool,
];

/// `[operands]`, or several with their conditions.
macro_rules! forms {
    ($([$($operand:expr),* $(,)?] $(when $when:literal)?),* $(,)?) => {
        const { &[$(Form { when: concat!($($when)?), operands: const { &[$($operand),*] } }),*] }
    };
}

impl Op {
    /// Returns the forms of the call, and the capabilities that each takes.
    pub const fn forms(self) -> &'static [Form] {
        match self {
            Op::Call | Op::Send => forms!(
                [member(Rights::SEND)],
                [member(WORDS)] when "with UTCB words",
                [member(PAGES)] when "with page ranges",
                [member(CAPS)] when "with capabilities",
            ),
            Op::Forward => forms!([member(Rights::SEND)], [member(WORDS)] when "with UTCB words"),
            Op::ReplyRecv | Op::Recv | Op::Null | Op::Yield | Op::WhoAmI | Op::SetBases => forms!([]),
            Op::Reply => forms!([], [reply(Rights::SEND)] when "to a kept call"),
            Op::SaveReply => forms!([reply(Rights::SEND)]),
            Op::Notify => forms!(
                [member(Rights::NOTIFY)] when "through a group",
                [bits(Rights::NOTIFY)] when "of a Notification",
            ),
            Op::Wait => forms!([bits(Rights::LISTEN)]),
            Op::NotificationBind => forms!([bits(Rights::LISTEN), task(1, task_rights::SCHEDULE.rights())]),
            Op::YieldTo => forms!(
                [member(Rights::SEND)] when "through a group",
                [task(0, task_rights::SCHEDULE.rights())] when "to a Task",
            ),
            Op::Retype => forms!([untyped(0), slot(2, Rights::GRANT)]),
            Op::CapCopy => forms!([of(0, COPIED, Rights::GRANT), slot(1, Rights::GRANT)]),
            Op::CapMove => forms!([of(0, ObjType::ALL, Rights::NONE), slot(1, Rights::GRANT)]),
            Op::CapDelete | Op::CapRevoke => forms!([slot(0, Rights::GRANT)]),
            Op::CapInspect => forms!([slot(0, cnode_rights::OBSERVE.rights())]),
            Op::UntypedReset => forms!(
                [untyped(0)],
                [untyped(0), machine(3, machine_rights::DMA.rights())] when "to take back pins",
            ),
            Op::GroupAdd => forms!([maker(Rights::ADD), process(1, Rights::NONE)]),
            Op::GroupRemove => forms!([maker(Rights::REMOVE)]),
            Op::GroupMember => forms!([maker(Rights::LISTEN)]),
            Op::Expose => forms!([
                maker(Rights::LISTEN),
                of(1, &[ObjType::Task, ObjType::Notification], Rights::LISTEN)
            ],),
            Op::Withdraw => forms!(
                [maker(Rights::REMOVE)] when "of whatever",
                [maker(Rights::LISTEN)] when "of what the own process exposed, or its task",
            ),
            Op::ProcessConfigure => forms!([
                process(0, process_rights::CONFIGURE.rights()),
                of(1, &[ObjType::CNode], Rights::GRANT),
                space(2),
            ]),
            Op::ProcessAccept => {
                forms!([OWN_PROCESS, of(2, &[ObjType::Group, ObjType::Process], Rights::NONE)])
            }
            Op::CSpaceGrow => forms!([OWN_PROCESS, of(1, &[ObjType::CNode], Rights::GRANT)]),
            Op::FaultHandler => forms!(
                [OWN_PROCESS] when "of a process",
                [task(0, task_rights::REGISTERS.rights())] when "of a task",
            ),
            _ => self.forms_of_rest(),
        }
    }

    const fn forms_of_rest(self) -> &'static [Form] {
        match self {
            Op::TaskConfigure => {
                forms!([
                    task(0, task_rights::REGISTERS.rights()),
                    process(1, process_rights::CONFIGURE.rights())
                ])
            }
            Op::TaskWriteRegs | Op::TaskReadRegs | Op::TaskReadVector | Op::TaskWriteVector => {
                forms!([task(0, task_rights::REGISTERS.rights())])
            }
            Op::TaskResume | Op::TaskSuspend | Op::TaskCancel => {
                forms!([task(0, task_rights::SUSPEND.rights())])
            }
            Op::TaskKill => forms!([task(0, task_rights::DESTROY.rights())]),
            Op::TaskDebug => forms!([task(0, task_rights::DEBUG.rights())]),
            Op::SchedConfigure => forms!([time(sched_rights::CONFIGURE.rights())]),
            Op::SchedBind => {
                forms!([time(sched_rights::CONFIGURE.rights()), task(1, task_rights::SCHEDULE.rights())])
            }
            Op::SchedInfo => forms!([time(sched_rights::OBSERVE.rights())]),
            Op::Map => forms!(
                [space(0), frame(1, Rights::MAP)],
                [space(0), frame(1, TO_WRITE)] when "to write",
                [space(0), frame(1, TO_WRITE)] when "into the pool",
            ),
            Op::Protect => forms!(
                [space(0), frame(1, Rights::MAP)],
                [space(0), frame(1, TO_WRITE)] when "to write",
                [space(0)] when "in the pool",
            ),
            Op::Unmap => forms!([space(0), frame(1, Rights::MAP)], [space(0)] when "in the pool"),
            Op::Accessed => forms!([space(0), frame(1, Rights::MAP)]),
            Op::PageCopy => forms!([space(0), frame(1, TO_WRITE)]),
            Op::PageTransfer => forms!([space(0), space(1)]),
            Op::FramePin => {
                forms!([frame(0, frame_rights::DMA.rights()), machine(1, machine_rights::DMA.rights())])
            }
            Op::Broadcast => forms!(
                [member(Rights::SEND)],
                [member(WORDS)] when "with UTCB words",
                [member(PAGES)] when "with page ranges",
            ),
            Op::PoolBind => forms!([
                pool(Rights::LISTEN),
                process(1, process_rights::CONFIGURE.rights()),
                task(2, task_rights::SCHEDULE.rights())
            ]),
            Op::PoolRoom => forms!([pool(Rights::LISTEN)]),
            Op::LabelSet => {
                forms!([machine(0, machine_rights::SECURITY.rights()), of(1, ObjType::ALL, Rights::NONE)])
            }
            Op::AuditStart => {
                forms!([machine(0, machine_rights::SECURITY.rights()), untyped(1)])
            }
            Op::AuditRead => forms!([machine(0, machine_rights::SECURITY.rights())]),
            Op::LabelRule => forms!([machine(0, machine_rights::SECURITY.rights())]),
            Op::ProcessKill => forms!([process(0, process_rights::DESTROY.rights())]),
            Op::CapVerify => {
                forms!([process(0, process_rights::OBSERVE.rights()), of(1, ObjType::ALL, Rights::NONE),])
            }
            Op::CapList => forms!(
                [slot(0, cnode_rights::OBSERVE.rights())] when "of a CNode",
                [process(0, process_rights::OBSERVE.rights())] when "of a process",
            ),
            Op::FrameUnpin => {
                forms!([frame(0, frame_rights::DMA.rights()), machine(1, machine_rights::DMA.rights())])
            }
            Op::DeviceFrame => {
                forms!([machine(0, machine_rights::DEVICE.rights()), untyped(1), slot(2, Rights::GRANT)])
            }
            Op::MachineLog => forms!(
                [machine(0, machine_rights::LOG.rights())],
                [machine(0, MachineRights::REPORT.rights())] when "of a report line",
            ),
            Op::MachineTrace => forms!([machine(0, machine_rights::LOG.rights())]),
            Op::MachineExit => forms!([machine(0, machine_rights::EXIT.rights())]),
            Op::MachineCounter => forms!([machine(0, machine_rights::INFO.rights())]),
            Op::MachineDump | Op::MachineAttempt => forms!([machine(0, machine_rights::DUMP.rights())]),
            // Those of `forms`. A new operation needs its arguments here: the tests demand it.
            _ => forms!(),
        }
    }
}

impl ObjType {
    /// Returns the type's own rights.
    pub const fn control_rights(self) -> &'static [crate::Named<Rights>] {
        match self {
            ObjType::CNode => cnode_rights::ALL,
            ObjType::Task => task_rights::ALL,
            ObjType::Process => process_rights::ALL,
            ObjType::SchedContext => sched_rights::ALL,
            ObjType::Frame => frame_rights::ALL,
            ObjType::Machine => machine_rights::ALL,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::collections::BTreeSet;
    use std::string::String;

    /// Returns the names of an operand's rights, each of which such an object can have.
    fn names(operand: &Operand) -> BTreeSet<&'static str> {
        let all = operand.known().fold(Rights::NONE, |all, right| all.union(right.value));
        assert!(all.contains(operand.rights), "{operand:?} needs a right that no such object has");
        operand.names().collect()
    }

    /// Returns the rights that the documentation names, in its paragraph about them.
    fn documented(op: Op) -> BTreeSet<String> {
        let paragraph = op.doc().lines().map(str::trim);
        let begins = |line: &&str| line.starts_with("Rights:");
        let ends = |line: &&str| !line.starts_with("Errors:") && !line.is_empty();
        let lines = paragraph.skip_while(|line| !begins(line)).take_while(ends);
        let words = lines.flat_map(|line| line.split(|c: char| !c.is_ascii_uppercase()));
        let is_right = |word: &&str| {
            let named = |rights: &[crate::Named<Rights>]| rights.iter().any(|right| right.name == *word);
            named(Rights::SHARED) || ObjType::ALL.iter().any(|of| named(of.control_rights()))
        };
        words.filter(is_right).map(String::from).collect()
    }

    #[test]
    fn every_operation_says_what_it_takes() {
        for op in Op::ALL {
            assert!(!op.forms().is_empty(), "{op:?} is not in the table");
        }
    }

    #[test]
    fn the_reference_names_the_rights_of_the_table() {
        // "As Call", "as Map", and what a fault asks for later.
        let elsewhere = |op| match op {
            Op::Forward => Some(Op::Call),
            Op::Protect => Some(Op::Map),
            _ => None,
        };
        for op in Op::ALL.iter().copied().filter(|op| elsewhere(*op).is_none()) {
            let operands = op.forms().iter().flat_map(|form| form.operands);
            let table: BTreeSet<String> = operands.flat_map(names).map(String::from).collect();
            let ignored: &[&str] = match op {
                Op::FaultHandler => &["SEND", "STRING"],
                // The maker's, and what is compared with.
                Op::GroupAdd | Op::GroupRemove | Op::GroupMember | Op::Expose | Op::Withdraw => {
                    &["DELETE", "ADD"]
                }
                _ => &[],
            };
            let known = |names: BTreeSet<String>| -> BTreeSet<String> {
                names.into_iter().filter(|name| !ignored.contains(&name.as_str())).collect()
            };
            assert_eq!(known(documented(op)), known(table), "{op:?}: the reference, the table");
        }
    }
}
