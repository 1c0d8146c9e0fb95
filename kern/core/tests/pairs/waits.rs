//! Operations of tasks that send to a full pool, and of the handler of a fault.

use abi::{FLAG_NONBLOCK, FaultAnswer, MsgInfo, Op, Target};

use crate::cast::{GROUP, LOCKS_SLOT, Role, SERVER};
use crate::deeds::{By, Deed, by, hand, op, send};
use crate::world::Regs;

/// An answer to the fault that the server has. Where the label says so, the client goes on at an
/// address.
fn answer(label: u32) -> Regs {
    let info = MsgInfo::new(label, 0).op(Op::Reply);
    Regs { rax: info.0, ..Regs::message(Op::Reply, Target(0), [0, 0x40_0000, 0, 0]) }
}

macro_rules! answers {
    ($($answer:ident),*) => {
        [$(
            by(
                By::Server,
                concat!("answer the fault: ", stringify!($answer)),
                &[Role::Fault, Role::Server, Role::Client],
                |_, _| answer(FaultAnswer::$answer.label()),
            ),
        )*]
    };
}

/// Answers to a fault.
pub const ANSWERS: &[Deed] = &answers!(Resume, ResumeAt, Step, Registers, Kill, TearDown);

pub const DEEDS: &[Deed] = &[
    hand("Notify hum", &[Role::Hum, Role::Server], |c, _| op(Op::Notify, &[c.hum.arg(), 8])),
    hand("FaultHandler of client's process", &[Role::ClientProcess, Role::Group], |c, _| {
        op(Op::FaultHandler, &[c.client.process.arg(), Target::new(GROUP, SERVER).0])
    }),
    by(By::Client, "LockWait for the server", &[Role::Client, Role::Server, Role::Mapped], |c, _| {
        c.lock_wait(0)
    }),
    by(By::Other, "LockWait for the helper", &[Role::Other, Role::Helper, Role::Mapped], |c, _| {
        c.lock_wait(1)
    }),
    by(
        By::Other,
        "LockWait for the server, beside it",
        &[Role::Other, Role::Server, Role::Mapped],
        |c, _| c.lock_wait(0),
    ),
    by(By::Server, "LockPass of the server", &[Role::Server, Role::Mapped], |_, _| {
        op(Op::LockPass, &[Target::new(LOCKS_SLOT, 0).0])
    }),
    by(By::Other, "Send of other", &[Role::Other, Role::Helper, Role::Pool], |_, _| send()),
    by(By::Other, "Send of other that does not wait", &[Role::Other, Role::Helper, Role::Pool], |_, _| {
        send().flag(FLAG_NONBLOCK)
    }),
    by(By::Other, "Broadcast of other", &[Role::Other, Role::Group, Role::Pool], |_, _| {
        Regs::message(Op::Broadcast, Target::new(GROUP, 0), [6; 4])
    }),
    by(By::Server, "answer the fault wrongly", &[Role::Fault, Role::Server, Role::Client], |_, _| answer(99)),
];
