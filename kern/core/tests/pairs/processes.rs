//! Operations on processes, tasks and CPU time.

use abi::{BUDGET_MIN, Op, Target};

use crate::cast::{BARE_UTCB, CEILING, GROUP, MAPPED, OTHER_POOL_AT, Role, SERVER};
use crate::deeds::{Deed, hand, op};
use crate::world::make::{CONTROL, at};

pub const PROCESSES: &[Deed] = &[
    hand("ProcessKill client", &[Role::ClientProcess], |c, _| op(Op::ProcessKill, &[c.client.process.arg()])),
    hand("ProcessKill server", &[Role::ServerProcess], |c, _| op(Op::ProcessKill, &[c.server.process.arg()])),
    hand("TaskConfigure bare", &[Role::Bare, Role::ClientProcess, Role::ClientSpace], |c, _| {
        op(Op::TaskConfigure, &[CONTROL, c.bare.arg(), c.client.process.arg(), BARE_UTCB, 1])
    }),
    hand(
        "TaskConfigure bare where something is",
        &[Role::Bare, Role::ClientProcess, Role::ClientSpace, Role::Client],
        |c, _| {
            let used = c.tasks.client.object.get().utcb_address();
            op(Op::TaskConfigure, &[CONTROL, c.bare.arg(), c.client.process.arg(), used, 1])
        },
    ),
    hand("SchedBind time to idle", &[Role::Time, Role::Idle], |c, _| {
        op(Op::SchedBind, &[c.time.arg(), c.tasks.idle.cap.arg()])
    }),
    hand("TaskMove idle", &[Role::Idle], |c, _| op(Op::TaskMove, &[CONTROL, c.tasks.idle.cap.arg(), 1])),
    hand("TaskMove client", &[Role::Client], |c, _| {
        op(Op::TaskMove, &[CONTROL, c.tasks.client.cap.arg(), 1])
    }),
    hand("TaskMove server", &[Role::Server], |c, _| {
        op(Op::TaskMove, &[CONTROL, c.tasks.server.cap.arg(), 0])
    }),
    hand("SchedInfo time", &[Role::Time], |c, _| op(Op::SchedInfo, &[c.time.arg()])),
    hand("CpuWatch", &[Role::Pool], |c, _| {
        op(Op::CpuWatch, &[Target::new(abi::INIT_MACHINE, 1).0, c.pool.arg(), 0])
    }),
    hand("CpuPark to end it", &[], |_, _| op(Op::CpuPark, &[Target::new(abi::INIT_MACHINE, 1).0, 0])),
    hand("CpuInfo", &[], |_, _| op(Op::CpuInfo, &[Target::new(abi::INIT_MACHINE, 1).0, 1])),
    hand("SchedWatch client's", &[Role::ClientTime, Role::Pool, Role::Client], |c, _| {
        op(Op::SchedWatch, &[c.tasks.client.sc.arg(), c.pool.arg(), 1, 0])
    }),
    hand("SchedConfigure time", &[Role::Time], |c, _| {
        op(Op::SchedConfigure, &[CONTROL, c.time.arg(), 20, 500])
    }),
    hand("SchedConfigure time by control", &[Role::Time, Role::Control], |c, _| {
        op(Op::SchedConfigure, &[c.control.arg(), c.time.arg(), 15, 500])
    }),
    hand("SchedAllow control", &[Role::Control], |c, _| {
        op(Op::SchedAllow, &[CONTROL, c.control.arg(), CEILING, 0, 2])
    }),
    hand("CapDelete control", &[Role::Control], |c, _| op(Op::CapDelete, &[at(c.control)])),
    hand("SchedConfigure client's", &[Role::ClientTime, Role::Client], |c, _| {
        op(Op::SchedConfigure, &[CONTROL, c.tasks.client.sc.arg(), 20, 500])
    }),
    hand("SchedConfigure budget of client's", &[Role::ClientTime, Role::Client], |c, _| {
        op(Op::SchedConfigure, &[CONTROL, c.tasks.client.sc.arg(), 20, 500, BUDGET_MIN, 4 * BUDGET_MIN])
    }),
    hand("NotificationBind bell to client", &[Role::Bell, Role::Client], |c, _| {
        op(Op::NotificationBind, &[c.bell.arg(), c.tasks.client.cap.arg()])
    }),
    hand("TaskReadRegs fresh", &[Role::Fresh], |c, _| op(Op::TaskReadRegs, &[c.tasks.fresh.cap.arg()])),
    hand("TaskWriteRegs idle", &[Role::Idle], |c, _| op(Op::TaskWriteRegs, &[c.tasks.idle.cap.arg()])),
    hand("TaskReadVector idle", &[Role::Idle], |c, _| op(Op::TaskReadVector, &[c.tasks.idle.cap.arg(), 0])),
    hand("TaskWriteVector idle", &[Role::Idle], |c, _| {
        op(Op::TaskWriteVector, &[c.tasks.idle.cap.arg(), 0, 2])
    }),
    hand("TaskDebug idle", &[Role::Idle], |c, _| {
        op(Op::TaskDebug, &[c.tasks.idle.cap.arg(), MAPPED, 0, 0, 0, 1])
    }),
    hand("ProcessConfigure stem", &[Role::Stem, Role::Table, Role::Space], |c, _| {
        op(Op::ProcessConfigure, &[c.stem.arg(), c.table.arg(), c.space.arg(), 0])
    }),
    hand(
        "PoolBind to client",
        &[Role::OtherPool, Role::ClientProcess, Role::Client, Role::ClientSpace],
        |c, _| {
            let task = c.tasks.client.cap.arg();
            op(Op::PoolBind, &[c.other_pool.arg(), c.client.process.arg(), task, OTHER_POOL_AT, 4])
        },
    ),
    hand("LabelRule", &[Role::ClientProcess, Role::ClientTable, Role::ClientSpace], |_, _| {
        op(Op::LabelRule, &[abi::INIT_MACHINE.arg(), 5, 0, 0])
    }),
    hand("FaultHandler client", &[Role::Client, Role::Group], |c, _| {
        op(Op::FaultHandler, &[c.tasks.client.cap.arg(), Target::new(GROUP, SERVER).0])
    }),
    hand("CSpaceGrow client", &[Role::ClientProcess, Role::Table], |c, _| {
        op(Op::CSpaceGrow, &[c.client.process.arg(), c.table.arg()])
    }),
    hand("CapVerify client", &[Role::ClientProcess, Role::Group], |c, _| {
        op(Op::CapVerify, &[c.client.process.arg(), c.group.arg(), 0, 0])
    }),
    hand("LabelSet client", &[Role::ClientProcess, Role::ClientSpace, Role::ClientTable], |c, _| {
        op(Op::LabelSet, &[abi::INIT_MACHINE.arg(), c.client.process.arg(), 5])
    }),
];
