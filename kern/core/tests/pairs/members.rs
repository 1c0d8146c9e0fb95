//! Operations of members on their group, and on per-CPU exposures.

use abi::membership::{EXPOSE_PER_CPU, SEEN_AS_ADDER};
use abi::{MEMBER_RIGHTS, Op, Rights, Target};

use crate::cast::{BELL, BELL_SLOT, FIRST_EACH, GROUP, INIT_SLOT, NOWHERE, ONE_EACH, Role};
use crate::deeds::{By, Deed, by, hand, op};
use crate::world::Regs;

/// That the third argument of an Expose asks for one task of each CPU.
const EACH: u64 = EXPOSE_PER_CPU as u64 | (FIRST_EACH as u64) << 32;

pub const DEEDS: &[Deed] = &[
    by(By::Other, "GroupAdd by member", &[Role::Other, Role::Group, Role::ClientProcess], |_, _| {
        let rights = u64::from(MEMBER_RIGHTS.minus(Rights::DELETE).0);
        op(Op::GroupAdd, &[GROUP.arg(), INIT_SLOT.arg(), rights, SEEN_AS_ADDER])
    }),
    by(
        By::Other,
        "GroupRemove server by member",
        &[Role::Other, Role::Group, Role::ServerProcess],
        |c, _| op(Op::GroupRemove, &[Target::new(GROUP, c.members[1] as u32).0]),
    ),
    by(By::Other, "GroupRemove of itself", &[Role::Other, Role::Group, Role::ClientProcess], |c, _| {
        op(Op::GroupRemove, &[Target::new(GROUP, c.members[0] as u32).0])
    }),
    by(By::Other, "GroupMember by member", &[Role::Other, Role::Group], |_, _| {
        op(Op::GroupMember, &[GROUP.arg()])
    }),
    by(
        By::Other,
        "Expose bell by member",
        &[Role::Other, Role::Group, Role::Bell, Role::ClientProcess],
        |_, _| op(Op::Expose, &[Target::new(GROUP, NOWHERE).0, BELL_SLOT.arg(), 0]),
    ),
    by(
        By::Other,
        "Withdraw bell by member",
        &[Role::Other, Role::Group, Role::Bell, Role::ClientProcess],
        |_, _| op(Op::Withdraw, &[Target::new(GROUP, BELL).0]),
    ),
    by(
        By::Other,
        "Withdraw one for each CPU by member",
        &[Role::Other, Role::Group, Role::Server],
        |_, _| op(Op::Withdraw, &[Target::new(GROUP, ONE_EACH).0]),
    ),
    by(By::Other, "Call the one of its CPU", &[Role::Other, Role::Group, Role::Server], |_, _| {
        Regs::message(Op::Call, Target::new(GROUP, ONE_EACH), [1; 4])
    }),
    hand("Expose server for its CPU", &[Role::Group, Role::Server], |c, _| {
        op(Op::Expose, &[Target::new(c.group, ONE_EACH).0, c.tasks.server.cap.arg(), EACH])
    }),
    hand("Expose client for its CPU", &[Role::Group, Role::Client], |c, _| {
        op(Op::Expose, &[Target::new(c.group, ONE_EACH).0, c.tasks.client.cap.arg(), EACH])
    }),
    hand("Withdraw one for each CPU", &[Role::Group, Role::Server], |c, _| {
        op(Op::Withdraw, &[Target::new(c.group, ONE_EACH).0])
    }),
    hand("Withdraw that of a CPU", &[Role::Group, Role::Server], |c, _| {
        op(Op::Withdraw, &[Target::new(c.group, FIRST_EACH + 1).0])
    }),
    hand("Expose bell where one for each CPU is", &[Role::Group, Role::Bell], |c, _| {
        op(Op::Expose, &[Target::new(c.group, ONE_EACH).0, c.bell.arg(), 0])
    }),
];
