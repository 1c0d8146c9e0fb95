//! Chooses the next operation.

use abi::{ObjType, Op, Rights};
use confine::Picture;
use snapshot::Slot;

use crate::cast::some_of;
use crate::world::dice::Dice;

/// How often which operation.
const OPERATIONS: &[(usize, Op)] = &[
    (16, Op::Call),
    (6, Op::ReplyRecv),
    (12, Op::Recv),
    (5, Op::Reply),
    (4, Op::Forward),
    (2, Op::SaveReply),
    (6, Op::Notify),
    (4, Op::Wait),
    (2, Op::YieldTo),
    (6, Op::Retype),
    (10, Op::CapCopy),
    (5, Op::CapMove),
    (4, Op::CapDelete),
    (2, Op::CapRevoke),
    (2, Op::CapInspect),
    (1, Op::CapList),
    (2, Op::UntypedReset),
    (5, Op::GroupAdd),
    (2, Op::GroupRemove),
    (5, Op::Expose),
    (5, Op::Withdraw),
    (2, Op::PoolBind),
    (4, Op::Send),
    (3, Op::Broadcast),
    (1, Op::ProcessConfigure),
    (4, Op::ProcessAccept),
    (2, Op::CSpaceGrow),
    (2, Op::TaskConfigure),
    (2, Op::TaskWriteRegs),
    (5, Op::TaskReadRegs),
    (4, Op::TaskResume),
    (4, Op::TaskSuspend),
    (1, Op::TaskKill),
    (1, Op::ProcessKill),
    (1, Op::TaskCancel),
    (2, Op::SchedConfigure),
    (1, Op::SchedAllow),
    (1, Op::TaskMove),
    (2, Op::LockWait),
    (1, Op::LockPass),
    (1, Op::SchedBind),
    (1, Op::NotificationBind),
    (7, Op::Map),
    (3, Op::Unmap),
    (4, Op::Protect),
    (3, Op::PageCopy),
    (4, Op::PageTransfer),
    (2, Op::FramePin),
    (2, Op::FrameUnpin),
    (1, Op::FaultHandler),
    (1, Op::LabelSet),
    (1, Op::LabelRule),
    (1, Op::Yield),
];

/// What a task that serves a call mostly does.
const SERVING: &[Op] = &[Op::Reply, Op::Reply, Op::ReplyRecv, Op::Forward, Op::Forward, Op::SaveReply];

/// An operation: mostly one for which the process has capabilities of the right types.
pub fn operation(dice: &mut Dice, serves: bool, held: &[Held]) -> Op {
    for _ in 0..6 {
        let op = any_operation(dice, serves);
        let has = |kind: &ObjType| held.iter().any(|held| held.slot.kind == *kind as u8);
        let fits = |form: &abi::Form| form.operands.iter().all(|operand| operand.types.iter().any(has));
        if op.forms().iter().any(fits) {
            return op;
        }
    }
    any_operation(dice, serves)
}

fn any_operation(dice: &mut Dice, serves: bool) -> Op {
    if serves && !dice.once_in(3) {
        return dice.of(SERVING);
    }
    let all: usize = OPERATIONS.iter().map(|(often, _)| often).sum();
    let mut left = dice.below(all);
    for (often, op) in OPERATIONS {
        match left.checked_sub(*often) {
            Some(less) => left = less,
            None => return *op,
        }
    }
    Op::Yield
}

/// A capability that a process holds, and its number in the CSpace.
#[derive(Clone, Copy)]
pub struct Held {
    pub number: u32,
    pub slot: Slot,
}

/// What a process holds.
pub fn holdings(picture: &Picture, process: u64) -> Vec<Held> {
    let its = picture.slots().filter(|slot| picture.holder(slot.table) == process);
    its.map(|slot| Held { number: picture.number_in(process, slot) as u32, slot: *slot }).collect()
}

/// Whether a process holds what a form takes, with the rights.
pub fn has_operands(held: &[Held], form: &abi::Form) -> bool {
    form.operands.iter().all(|operand| {
        held.iter().any(|held| {
            let kind = |kind: &ObjType| held.slot.kind == *kind as u8;
            operand.types.iter().any(kind) && Rights(held.slot.rights).contains(operand.rights)
        })
    })
}

/// Rights to give: those of the source, or some of them; seldom more.
pub fn rights_to_give(dice: &mut Dice, source: Rights) -> Rights {
    if dice.once_in(8) { some_of(dice, Rights::ALL) } else { some_of(dice, source) }
}
