//! The rights matrix, made of the table of operands ([`abi::Op::forms`]). It tries every operation
//! with each needed right missing, in the capability and in the member record. It also tries
//! capabilities of every type that the operation does not take, no capability, and exactly the
//! needed rights.
//!
//! If something is missing, the kernel must refuse with the documented error and detail. With
//! exactly the needed rights an operation may fail for another reason (for example because nothing
//! is exposed), but not for a missing right.

use std::collections::BTreeMap;

use abi::{Cap, Check, Error, Form, MsgInfo, ObjType, Op, Operand, Rights, Target};

use crate::world::make::Proc;
use crate::world::{Regs, Tcb, World};

/// Cells of the matrix. A new operation adds its own: the test says how many there are.
const CELLS: usize = 2851;

/// What a capability among the arguments is to be.
#[derive(Clone, Copy, Debug)]
enum Given {
    /// One of a type, with rights; of a group, with what the member record has, if the process is a
    /// member.
    Of(ObjType, Rights, Option<Rights>),
    /// The caller's own process or CNode.
    Own(ObjType, Rights),
    /// An empty slot.
    Empty,
    /// No slot.
    Outside,
}

/// Where the arguments' capabilities are in the caller's CSpace.
const FIRST: u32 = 10;
/// A slot of a CNode among the arguments, and the first of those that are offered to groups.
const INNER: u32 = 3;
const OFFER: u32 = 30;
const OUTSIDE: Cap = Cap(999);

struct Scene {
    w: World,
    process: Proc,
    me: Tcb,
}

impl Scene {
    fn new() -> Scene {
        let mut w = World::unchecked(1, 1 << 20);
        let process = w.process();
        let me = w.start(process, 0, 10);
        Scene { w, process, me }
    }

    /// Gives the caller a capability as its argument.
    fn give(&mut self, position: usize, given: Given) -> Cap {
        let slot = Cap(FIRST + position as u32);
        let to = Target::new(self.process.cnode, slot.0).0;
        let (master, rights) = match given {
            Given::Empty => return slot,
            Given::Outside => return OUTSIDE,
            Given::Own(ObjType::CNode, rights) => (self.process.cnode, rights),
            Given::Own(_, rights) => (self.process.process, rights),
            // It has one capability only.
            Given::Of(ObjType::Untyped, ..) => {
                let untyped = self.w.make(0, ObjType::Untyped, 13);
                self.w.must(0, Op::CapMove, &[untyped.arg(), to]);
                return slot;
            }
            Given::Of(ObjType::Machine, rights, _) => (abi::INIT_MACHINE, rights),
            Given::Of(ObjType::Group, rights, record) => {
                // Its badge names the first record.
                let group = self.w.group(2, 4);
                if let Some(record) = record {
                    self.w.join(group, self.process, Cap(OFFER + position as u32), record, 0);
                }
                (group, rights)
            }
            Given::Of(of, rights, _) => (self.w.make(0, of, size(of)), rights),
        };
        self.w.must(0, Op::CapCopy, &[master.arg(), to, u64::from(rights.0), 0]);
        slot
    }

    /// The caller makes the system call: what it was answered, if it was.
    fn asks(&mut self, op: Op, form: &Form, given: &[Given]) -> Result<(), (Error, u64)> {
        let mut args = plain(op, form);
        for (operand, given) in form.operands.iter().zip(given) {
            args[operand.position] |= self.give(operand.position, *given).arg();
        }
        let regs = Regs::op(op, &args);
        self.w.does_and_run(&self.me.clone(), Regs { rax: regs.rax | info(op, form).0, ..regs });
        if self.me.is_through() { self.me.regs().result().map(drop) } else { Ok(()) }
    }
}

/// A size that each type can have.
fn size(of: ObjType) -> u64 {
    match of {
        ObjType::CNode => 8,
        ObjType::VSpace | ObjType::Process => 2,
        ObjType::Frame => 12,
        ObjType::EventPool => 6,
        _ => 0,
    }
}

/// Arguments that are no capabilities, and the lower halves of those that are.
fn plain(op: Op, form: &Form) -> [u64; 6] {
    let index = u64::from(INNER);
    match op {
        Op::Retype => [ObjType::Notification as u64, 0, index, 1, 0, 0],
        Op::CapCopy | Op::CapMove => [0, index, 0, 0, 0, 0],
        Op::CapDelete | Op::CapRevoke | Op::CapInspect => [index, 0, 0, 0, 0, 0],
        Op::DeviceFrame => [0, 0, index, 0, 0, 0],
        Op::Map | Op::Protect => {
            let access = match form.when {
                "to write" => 1,
                "into the pool" => abi::MAP_POOL,
                _ => 0,
            };
            [0, 0, 0x6000_0000, access, 0, 1]
        }
        Op::UntypedReset => [0, u64::from(form.when == "to take back pins"), 0, 0, 0, 0],
        Op::MachineLog => [0, 0, if form.when == "of a report line" { 0x80 } else { 0 }, 0, 0, 0],
        // A slot is offered, and not taken back.
        Op::ProcessAccept => [0, index, 0, 0, 0, 0],
        // No such member.
        Op::GroupRemove => [99, 0, 0, 0, 0, 0],
        // It would end the machine.
        Op::MachineExit => [0, 2, 0, 0, 0, 0],
        _ => [0; 6],
    }
}

fn info(op: Op, form: &Form) -> MsgInfo {
    match (op, form.when) {
        (Op::Wait, _) => MsgInfo(abi::FLAG_NONBLOCK),
        (_, "with UTCB words") => MsgInfo::new(0, 1),
        (_, "with page ranges") => MsgInfo(abi::FLAG_PAGES),
        (_, "with capabilities") => MsgInfo(abi::FLAG_CAPS),
        _ => MsgInfo(0),
    }
}

fn is_of_group(operand: &Operand) -> bool {
    matches!(operand.check, Check::Member | Check::MemberOrMaker)
}

/// A capability that is just enough.
fn enough(operand: &Operand, of: ObjType) -> Given {
    Given::Of(of, operand.rights, is_of_group(operand).then_some(operand.rights))
}

/// Each right of a set.
fn each(rights: Rights) -> impl Iterator<Item = Rights> {
    (0..17).map(|bit| Rights(1 << bit)).filter(move |bit| rights.contains(*bit))
}

/// What a cell is to be answered.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Refused(Error, Option<u64>),
    NotForRights,
}

use Expected::{NotForRights, Refused};

/// Returns the cells of one operand of a form: the given capability, and the expected result.
fn cells(op: Op, operand: &Operand) -> Vec<(Given, Expected)> {
    let mut cells = Vec::new();
    let records = is_of_group(operand);
    let member = records.then_some(abi::MEMBER_RIGHTS);
    let every = Rights::ALL;
    // Another form that takes less may do: its rights are missing then as well.
    let other = |form: &Form| {
        form.operands.iter().any(|it| it.position == operand.position && it.rights != operand.rights)
    };
    let alternatives = op == Op::Withdraw && op.forms().iter().any(other);
    for of in operand.types.iter().copied() {
        cells.push((enough(operand, of), NotForRights));
        for missing in each(operand.rights) {
            let detail = (!alternatives).then_some(u64::from(missing.0));
            let less = Given::Of(of, operand.rights.minus(missing), member);
            cells.push((less, Refused(Error::NoRight, detail)));
            if !alternatives {
                let all_but = Given::Of(of, every.minus(missing), member);
                cells.push((all_but, Refused(Error::NoRight, detail)));
            }
            if records {
                let detail = Some(u64::from(missing.0));
                let less = Given::Of(of, operand.rights, Some(abi::MEMBER_RIGHTS.minus(missing)));
                cells.push((less, Refused(Error::NotMember, detail)));
            }
        }
        if records {
            cells.push((Given::Of(of, every.minus(Rights::DELETE), None), Refused(Error::NotMember, None)));
        }
        match operand.check {
            Check::MemberOrMaker => {
                cells.push((Given::Of(of, operand.rights | Rights::DELETE, None), NotForRights));
            }
            Check::Slot | Check::UnlessOwn => cells.push((Given::Own(of, Rights::NONE), NotForRights)),
            Check::Capability | Check::Member => {}
        }
    }
    let taken = |of: &&ObjType| {
        let here = |it: &&Operand| it.position == operand.position;
        let mut operands = op.forms().iter().flat_map(|form| form.operands).filter(here);
        operands.any(|it| it.types.contains(of))
    };
    for wrong in ObjType::ALL.iter().filter(|of| !taken(of)) {
        let given = Given::Of(*wrong, every, Some(abi::MEMBER_RIGHTS));
        cells.push((given, Refused(Error::WrongType, Some(*wrong as u64))));
    }
    let slot = u64::from(FIRST) + operand.position as u64;
    cells.push((Given::Empty, Refused(Error::NoCapability, Some(slot))));
    cells.push((Given::Outside, Refused(Error::NoCapability, Some(u64::from(OUTSIDE.0)))));
    cells
}

/// Whether an answer is as expected.
fn is_right(answer: Result<(), (Error, u64)>, expected: Expected) -> bool {
    match (answer, expected) {
        (Err((error, found)), Refused(kind, detail)) => {
            error == kind && detail.is_none_or(|detail| detail == found)
        }
        (Ok(()), Refused(..)) => false,
        (Ok(()), NotForRights) => true,
        (Err((error, _)), NotForRights) => {
            !matches!(error, Error::NoRight | Error::NotMember | Error::WrongType | Error::NoCapability)
        }
    }
}

#[test]
fn rights_matrix() {
    let (mut count, mut wrong, mut of_operations) = (0, Vec::new(), BTreeMap::new());
    for op in Op::ALL.iter().copied() {
        for form in op.forms() {
            for (which, operand) in form.operands.iter().enumerate() {
                for (given, expected) in cells(op, operand) {
                    let mut all: Vec<Given> =
                        form.operands.iter().map(|it| enough(it, it.types[0])).collect();
                    all[which] = given;
                    let answer = Scene::new().asks(op, form, &all);
                    if !is_right(answer, expected) {
                        let name = format!("{op:?} {}, operand {}", form.when, operand.position);
                        wrong.push(format!("{name}: {given:?} is answered {answer:?}, not {expected:?}"));
                    }
                    count += 1;
                    *of_operations.entry(format!("{op:?}")).or_insert(0) += 1;
                }
            }
        }
    }
    println!("rights: cells={count} operations={} wrong={}", of_operations.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(count, CELLS, "cells of the matrix: {of_operations:?}");
}
