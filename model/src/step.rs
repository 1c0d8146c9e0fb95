//! One system call: the table of operations, and the registers before and after.

use abi::{Cap, Counter, Error, FLAG_DEADLINE, LOG_MAX, MsgInfo, ObjType, Op};
use abi::{MachineRights, Target, TaskId, machine_rights};
use test_abi::Attempt;

use crate::object::Words;
use crate::{Answer, Id, Model, Refusal, Result};

/// The argument registers rdi, rsi, rdx, r8, r9, r10; and rax.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Args(pub [u64; 6], pub MsgInfo);

impl Args {
    pub fn target(&self, position: usize) -> Target {
        Target(self.0[position])
    }

    pub fn cap(&self, position: usize) -> Cap {
        self.target(position).cap()
    }

    pub fn deadline(&self) -> Option<u64> {
        self.1.has(FLAG_DEADLINE).then_some(self.0[1])
    }
}

/// What a task finds in its registers: rax, rdi, rsi, rdx, r8, r9, r10, r12.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Regs {
    pub values: [u64; 8],
    /// Those of which the model does not say what they are: a bit each.
    pub free: u8,
}

const RDI: u8 = 1 << 1;

impl Regs {
    pub fn unknown() -> Regs {
        Regs { values: [0; 8], free: u8::MAX }
    }

    pub fn values(info: MsgInfo, [rdi, rsi, rdx, r8]: [u64; 4]) -> Regs {
        Regs { values: [info.0, rdi, rsi, rdx, r8, 0, 0, 0], free: 0 }
    }

    pub fn error(why: Refusal) -> Regs {
        let values = [why.detail.unwrap_or(0), why.who.raw(), 0, 0];
        let free = if why.detail.is_none() { RDI } else { 0 };
        Regs { free, ..Regs::values(MsgInfo::error(why.error), values) }
    }

    pub fn message(words: Words, rdi: u64, sender: TaskId, r12: u64) -> Regs {
        let info = MsgInfo::new(words.label, words.count as u8).flag(words.flags);
        let [rdx, r8, r9, r10] = words.regs;
        Regs { values: [info.0, rdi, sender.raw(), rdx, r8, r9, r10, r12], free: 0 }
    }

    /// Returns whether these registers, some of which the model does not know, can be the values
    /// that a task found.
    pub fn allow(&self, found: [u64; 8]) -> bool {
        (0..8).all(|n| self.free & 1 << n != 0 || self.values[n] == found[n])
    }
}

impl Model {
    /// Returns whether the model has an operation. It leaves out operations about which it says
    /// nothing.
    pub fn knows(op: Op) -> bool {
        let pages = matches!(op, Op::Accessed | Op::DeviceFrame | Op::PageCopy | Op::PageTransfer);
        let audit = matches!(op, Op::AuditStart | Op::AuditRead);
        let vectors = matches!(op, Op::TaskReadVector | Op::TaskWriteVector);
        !(pages || audit || vectors || op == Op::MachineExit)
    }

    /// Makes a system call for a task that [`acts`](Model::acts). Its result is in the registers
    /// and states of tasks.
    pub fn step(&mut self, me: Id, op: Op, args: &Args) -> Result {
        let answer = self.operate(me, op, args);
        let regs = match answer {
            Ok(Answer::Values(values)) => Some(Regs::values(MsgInfo(0), values)),
            Ok(Answer::Free(values, free)) => {
                Some(Regs { free: free << 1, ..Regs::values(MsgInfo(0), values) })
            }
            Ok(Answer::Settled) => None,
            Err(why) => Some(Regs::error(why)),
        };
        if let Some(regs) = regs {
            self.task_mut(me).regs = regs;
        }
        self.let_leave();
        answer
    }

    fn operate(&mut self, me: Id, op: Op, args: &Args) -> Result {
        match op {
            Op::Call => self.call(me, args),
            Op::ReplyRecv => self.reply_recv(me, args),
            Op::Null | Op::Yield => Ok(Answer::DONE),
            Op::Notify => self.notify(me, args),
            Op::Wait => self.wait(me, args),
            Op::YieldTo => self.yield_to(me, args),
            Op::Recv => self.recv(me, args),
            Op::Reply => self.reply(me, args),
            Op::Forward => self.forward(me, args),
            Op::SaveReply => self.save_reply(me, args),
            Op::WhoAmI => self.who_am_i(me),
            Op::Retype => self.retype(me, args),
            Op::CapCopy => self.cap_copy(me, args),
            Op::CapMove => self.cap_move(me, args),
            Op::CapDelete => self.cap_delete(me, args),
            Op::CapRevoke => self.cap_revoke(me, args),
            Op::CapInspect => self.look_inspect(me, args),
            Op::CapVerify => self.cap_verify(me, args),
            Op::CapList => self.cap_list(me, args),
            Op::UntypedReset => self.untyped_reset(me, args),
            Op::GroupAdd => self.group_add(me, args),
            Op::GroupRemove => self.group_remove(me, args),
            Op::GroupMember => self.group_member(me, args),
            Op::Expose => self.expose(me, args),
            Op::CSpaceGrow => self.cspace_grow(me, args),
            Op::LabelSet => self.label_set(me, args),
            Op::LabelRule => self.label_rule(me, args),
            Op::PoolBind => self.pool_bind(me, args),
            Op::PoolRoom => self.pool_room(me, args),
            Op::Send => self.send(me, args),
            Op::Broadcast => self.broadcast(me, args),
            Op::Withdraw => self.withdraw(me, args),
            Op::ProcessConfigure => self.process_configure(me, args),
            Op::ProcessAccept => self.process_accept(me, args),
            Op::TaskConfigure => self.task_configure(me, args),
            Op::TaskWriteRegs => self.task_write_regs(me, args),
            Op::TaskReadRegs => self.task_read_regs(me, args),
            Op::TaskResume => self.task_resume(me, args),
            Op::TaskSuspend => self.task_suspend(me, args),
            Op::TaskKill => self.task_kill(me, args),
            Op::TaskCancel => self.task_cancel(me, args),
            Op::ProcessKill => self.process_kill(me, args),
            Op::SchedConfigure => self.sched_configure(me, args),
            Op::SchedBind => self.sched_bind(me, args),
            Op::SchedAllow => self.sched_allow(me, args),
            Op::TaskMove => self.task_move(me, args),
            Op::CpuWatch => self.cpu_watch(me, args),
            Op::SchedWatch => self.sched_watch(me, args),
            Op::CpuPark => self.cpu_park(me, args),
            Op::CpuInfo => self.cpu_info(me, args),
            Op::IrqAllow => self.irq_allow(me, args),
            Op::IrqBind => self.irq_bind(me, args),
            Op::IrqAck => self.irq_ack(me, args),
            Op::PortAllow => self.port_allow(me, args),
            Op::PortRead => self.port_access(me, args, false),
            Op::PortWrite => self.port_access(me, args, true),
            Op::SchedInfo => self.sched_info(me, args),
            Op::NotificationBind => self.notification_bind(me, args),
            Op::Map => self.map(me, args),
            Op::Unmap => self.unmap(me, args),
            Op::Protect => self.protect(me, args),
            Op::FramePin => self.frame_pin(me, args),
            Op::FrameUnpin => self.frame_unpin(me, args),
            Op::TaskDebug => self.task_debug(me, args),
            Op::FaultHandler => self.fault_handler(me, args),
            Op::SetBases => self.set_bases(args),
            Op::LockWait => self.lock_wait(me, args),
            Op::LockPass => self.lock_pass(me, args),
            Op::MachineLog => self.machine_log(me, args),
            Op::MachineCounter => self.machine_counter(me, args),
            Op::MachineTrace => self.not_built(me, args, machine_rights::LOG),
            Op::MachineDump => self.not_built(me, args, machine_rights::DUMP),
            Op::MachineAttempt => {
                self.find(me, args.cap(0), ObjType::Machine, machine_rights::DUMP)?;
                Attempt::from_raw(args.0[1]).ok_or(Refusal::argument(1))?;
                Err(Error::NotBuilt.into())
            }
            Op::MachineExit
            | Op::AuditStart
            | Op::AuditRead
            | Op::Accessed
            | Op::DeviceFrame
            | Op::PageCopy
            | Op::PageTransfer
            | Op::TaskReadVector
            | Op::TaskWriteVector => {
                panic!("the model leaves out {op:?}")
            }
        }
    }

    fn machine_log(&mut self, me: Id, args: &Args) -> Result {
        let report = args.0[2] == 0x80;
        let need = if report { MachineRights::REPORT } else { machine_rights::LOG };
        self.find(me, args.cap(0), ObjType::Machine, need)?;
        if args.0[1] > LOG_MAX as u64 {
            return Err(Refusal::argument(1));
        }
        if report || args.0[2] == 0 { Ok(Answer::DONE) } else { Err(Refusal::argument(2)) }
    }

    fn machine_counter(&mut self, me: Id, args: &Args) -> Result {
        self.find(me, args.cap(0), ObjType::Machine, machine_rights::INFO)?;
        self.named_cpu(args)?;
        if args.0[1] >= Counter::ALL.len() as u64 {
            return Err(Refusal::argument(1));
        }
        Ok(Answer::Free([0; 4], 1))
    }

    fn not_built(&mut self, me: Id, args: &Args, need: MachineRights) -> Result {
        self.find(me, args.cap(0), ObjType::Machine, need)?;
        Err(Error::NotBuilt.into())
    }
}
