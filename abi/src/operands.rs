//! What the list of operations says of the capabilities that each takes, and the rights that each
//! needs. The kernel checks these rights, the rights matrix tries every operation with each of them
//! missing, and tests compare the "Rights" lines of the reference with them.

use crate::{FrameRights, IrqRights, MachineRights, ObjType, Op, PortRights, ProcessRights, Rights};
use crate::{SchedControlRights, SchedRights, TaskRights};
use crate::{cnode_rights, frame_rights, irq_rights, machine_rights, port_rights, process_rights};
use crate::{sched_control_rights, sched_rights, task_rights};

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
    /// Returns whether the operand can be an object of this type.
    const fn may_be(&self, of: ObjType) -> bool {
        let mut at = 0;
        while at < self.types.len() {
            if self.types[at] as u8 == of as u8 {
                return true;
            }
            at += 1;
        }
        false
    }

    /// Returns names and bits of all rights that the operand can have: shared ones, and those of
    /// its types.
    fn known(&self) -> impl Iterator<Item = &'static crate::Named<Rights>> {
        Rights::SHARED.iter().chain(self.types.iter().flat_map(|of| of.control_rights()))
    }

    /// Returns the names of the rights that the operation needs of this operand.
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

impl Op {
    /// Returns the rights that the operation needs of the object of a type in an argument: those of
    /// the first form that takes such an object.
    ///
    /// Panics: if no form does. The kernel asks at compile time.
    pub const fn needs(self, position: usize, of: ObjType) -> Rights {
        let (forms, mut form) = (self.forms(), 0);
        while form < forms.len() {
            let (operands, mut at) = (forms[form].operands, 0);
            while at < operands.len() {
                if operands[at].position == position && operands[at].may_be(of) {
                    return operands[at].rights;
                }
                at += 1;
            }
            form += 1;
        }
        panic!("the list of operations has no such argument")
    }

    /// Returns [`Op::needs`] for the numbers of an operation and of a type.
    ///
    /// Panics: if there is no such operation, or no such type.
    pub const fn asked(op: u8, position: usize, of: u8) -> Rights {
        match (Op::from_raw(op), ObjType::from_raw(of)) {
            (Some(op), Some(of)) => op.needs(position, of),
            _ => panic!("no such operation, or no such type"),
        }
    }
}

const fn operand(position: usize, types: &'static [ObjType], rights: Rights, check: Check) -> Operand {
    Operand { position, types, rights, check }
}

pub(crate) const fn of(position: usize, types: &'static [ObjType], rights: Rights) -> Operand {
    operand(position, types, rights, Check::Capability)
}

pub(crate) const fn any(position: usize) -> Operand {
    of(position, ObjType::ALL, Rights::NONE)
}

/// Makes the operand for a CNode, and a slot of it to be filled or emptied.
pub(crate) const fn store(position: usize) -> Operand {
    operand(position, &[ObjType::CNode], Rights::GRANT, Check::Slot)
}

/// Makes the operand for a CNode, and a slot of it to be looked at.
pub(crate) const fn look(position: usize) -> Operand {
    operand(position, &[ObjType::CNode], cnode_rights::OBSERVE.rights(), Check::Slot)
}

/// Makes the operand for a CNode that a process gets.
pub(crate) const fn cnode(position: usize) -> Operand {
    of(position, &[ObjType::CNode], Rights::GRANT)
}

pub(crate) const fn member(rights: Rights) -> Operand {
    operand(0, &[ObjType::Group], rights, Check::Member)
}

pub(crate) const fn maker(rights: Rights) -> Operand {
    operand(0, &[ObjType::Group], rights, Check::MemberOrMaker)
}

pub(crate) const fn process(position: usize, rights: ProcessRights) -> Operand {
    of(position, &[ObjType::Process], rights.rights())
}

pub(crate) const fn task(position: usize, rights: TaskRights) -> Operand {
    of(position, &[ObjType::Task], rights.rights())
}

pub(crate) const fn time(position: usize, rights: SchedRights) -> Operand {
    of(position, &[ObjType::SchedContext], rights.rights())
}

pub(crate) const fn control(position: usize, rights: SchedControlRights) -> Operand {
    of(position, &[ObjType::SchedControl], rights.rights())
}

pub(crate) const fn irq(position: usize, rights: IrqRights) -> Operand {
    of(position, &[ObjType::IrqHandler], rights.rights())
}

pub(crate) const fn port(position: usize, rights: PortRights) -> Operand {
    of(position, &[ObjType::IoPort], rights.rights())
}

pub(crate) const fn bits(rights: Rights) -> Operand {
    bits_at(0, rights)
}

pub(crate) const fn bits_at(position: usize, rights: Rights) -> Operand {
    of(position, &[ObjType::Notification], rights)
}

pub(crate) const fn reply(rights: Rights) -> Operand {
    of(0, &[ObjType::Reply], rights)
}

pub(crate) const fn pool(position: usize, rights: Rights) -> Operand {
    of(position, &[ObjType::EventPool], rights)
}

pub(crate) const fn machine(position: usize, rights: MachineRights) -> Operand {
    of(position, &[ObjType::Machine], rights.rights())
}

pub(crate) const fn untyped(position: usize) -> Operand {
    of(position, &[ObjType::Untyped], Rights::NONE)
}

pub(crate) const fn space(position: usize) -> Operand {
    of(position, &[ObjType::VSpace], Rights::MAP)
}

pub(crate) const fn frame(position: usize, rights: FrameRights) -> Operand {
    of(position, &[ObjType::Frame], rights.rights())
}

/// A process that needs no right if it is the own one.
pub const OWN_PROCESS: Operand =
    operand(0, &[ObjType::Process], process_rights::CONFIGURE.rights(), Check::UnlessOwn);
/// What a message with UTCB words needs, in the capability and in the member record.
pub const SEND_WORDS: Rights = Rights::SEND.union(Rights::STRING);
/// What a message with page ranges needs, likewise.
pub const SEND_PAGES: Rights = Rights::SEND.union(Rights::MAP);
/// What a message with capabilities needs, likewise.
pub const SEND_CAPS: Rights = Rights::SEND.union(Rights::GRANT);
pub(crate) const TO_MAP: FrameRights = FrameRights::NONE.with(Rights::MAP);
pub(crate) const TO_WRITE: FrameRights = frame_rights::WRITE.with(Rights::MAP);

/// All types but Untyped, which has one capability.
pub(crate) const COPIED: &[ObjType] = &[
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
    ObjType::SchedControl,
    ObjType::IrqHandler,
    ObjType::IoPort,
];

impl ObjType {
    /// Returns the type's own rights.
    pub const fn control_rights(self) -> &'static [crate::Named<Rights>] {
        match self {
            ObjType::CNode => cnode_rights::ALL,
            ObjType::Task => task_rights::ALL,
            ObjType::Process => process_rights::ALL,
            ObjType::SchedContext => sched_rights::ALL,
            ObjType::SchedControl => sched_control_rights::ALL,
            ObjType::IrqHandler => irq_rights::ALL,
            ObjType::IoPort => port_rights::ALL,
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
