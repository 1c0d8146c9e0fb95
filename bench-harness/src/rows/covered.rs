//! Lists which row makes which system call. Without a row, an operation could become slower
//! unnoticed.

use abi::Op;

use super::ROWS;

/// The row that shows what an operation costs: alone, or as the most of it.
const MEASURED: &[(Op, &str)] = &[
    (Op::Call, "call_reply_cross_as"),
    (Op::ReplyRecv, "call_reply_cross_as"),
    (Op::Null, "null_syscall"),
    (Op::Notify, "notify_no_waiter"),
    (Op::Wait, "notify_wait_same_cpu"),
    (Op::YieldTo, "yield_to"),
    (Op::Recv, "call_recv_then_reply"),
    (Op::Reply, "call_recv_then_reply"),
    (Op::Forward, "call_forward"),
    (Op::SaveReply, "call_save_reply"),
    (Op::Yield, "yield_round"),
    (Op::WhoAmI, "who_am_i"),
    (Op::Retype, "retype_notification"),
    (Op::CapCopy, "cap_copy"),
    (Op::CapMove, "cap_move"),
    (Op::CapDelete, "cap_delete"),
    (Op::CapRevoke, "cap_revoke_1000"),
    (Op::CapInspect, "cap_inspect"),
    (Op::UntypedReset, "untyped_reset"),
    (Op::GroupAdd, "group_add"),
    (Op::GroupRemove, "group_remove"),
    (Op::Expose, "expose"),
    (Op::Withdraw, "withdraw"),
    (Op::ProcessConfigure, "process_create_destroy"),
    (Op::ProcessAccept, "process_accept"),
    (Op::TaskConfigure, "task_create_destroy"),
    (Op::TaskWriteRegs, "task_write_regs"),
    (Op::TaskReadRegs, "task_read_regs"),
    (Op::TaskResume, "task_resume"),
    (Op::TaskSuspend, "task_suspend"),
    (Op::TaskKill, "task_kill"),
    (Op::TaskCancel, "task_cancel"),
    (Op::SchedConfigure, "sched_configure"),
    (Op::SchedBind, "task_create_destroy"),
    (Op::SchedInfo, "sched_info"),
    (Op::TaskMove, "migrate_task"),
    (Op::Map, "map_unmap_two_tables"),
    (Op::Unmap, "map_unmap_two_tables"),
    (Op::MachineCounter, "machine_counter"),
    (Op::SetBases, "set_bases"),
    (Op::FaultHandler, "fault_handler"),
    (Op::TaskDebug, "task_debug"),
    (Op::Protect, "protect"),
    (Op::Accessed, "accessed"),
    (Op::FramePin, "pin_unpin"),
    (Op::FrameUnpin, "pin_unpin"),
    (Op::PageCopy, "page_copy"),
    (Op::PageTransfer, "page_transfer"),
    (Op::Send, "send_event"),
    (Op::PoolRoom, "pool_room"),
    (Op::CapVerify, "cap_verify"),
    (Op::CapList, "cap_list"),
    (Op::Broadcast, "broadcast_8"),
    (Op::ProcessKill, "process_kill"),
    (Op::LabelSet, "label_set"),
    (Op::LabelRule, "label_rule"),
    (Op::GroupMember, "group_member"),
    (Op::LockWait, "lock_wait_pass"),
    (Op::LockPass, "lock_contended"),
];

/// Those that no row makes, and why none has to.
const LEFT_OUT: &[(Op, &str)] = &[
    (Op::NotificationBind, "done once for a Notification and a task"),
    (Op::PoolBind, "done once for a pool and a process"),
    (Op::CSpaceGrow, "done once for a CNode and a process"),
    (Op::DeviceFrame, "done once for a device"),
    (Op::IrqAllow, "done once for a device"),
    (Op::IrqBind, "done once for a device"),
    (Op::IrqAck, "takes as long as the interrupt controller that it writes to"),
    (Op::PortAllow, "done once for a device"),
    (Op::PortRead, "takes as long as the device that it reads"),
    (Op::PortWrite, "the same"),
    (Op::CpuWatch, "done once for a CPU and a policy"),
    (Op::CpuPark, "done once for a CPU that is to rest"),
    (Op::CpuInfo, "reads two words; nobody waits for the sign of life"),
    (Op::SchedWatch, "done once for a SchedContext and a policy"),
    (Op::SchedAllow, "done once for a program that may start tasks"),
    (Op::AuditStart, "done once for a machine"),
    (Op::AuditRead, "copies as many records as are asked for; nobody waits for it"),
    (Op::TaskReadVector, "copies as many words as are asked for, of a task that a debugger has stopped"),
    (Op::TaskWriteVector, "the same"),
    (Op::MachineLog, "takes as long as the device that it writes to"),
    (Op::MachineExit, "ends the machine"),
    (Op::MachineDump, "only in test builds"),
    (Op::MachineTrace, "only in tracing builds"),
    (Op::MachineAttempt, "only in test builds"),
];

#[test]
fn every_operation_is_in_a_row_or_there_is_a_reason() {
    for op in Op::ALL {
        let rows = MEASURED.iter().filter(|(measured, _)| measured == op).count();
        let reasons = LEFT_OUT.iter().filter(|(left_out, _)| left_out == op).count();
        assert_eq!(rows + reasons, 1, "{op:?}");
    }
    for (op, row) in MEASURED {
        assert!(ROWS.iter().any(|known| known.name == *row), "{op:?}: there is no row {row}");
    }
}
