//! The system call table: decode, call, answer.

use abi::{Cap, Counter, Error, FLAG_CAPS, FLAG_PAGES, MachineRights, MsgInfo, Op, Target, machine_rights};
use kern_base::cpu::COUNTERS;
use kern_base::machine::Machine;
use kern_base::task::{State, ctl};
use smp::door::masked::mask_index;
use test_abi::Attempt;
use test_abi::trace::{Event, Why};

use crate::answer::{write_error, write_values};
use crate::args::Args;
use crate::rooms::Door;
use crate::{Answer, MachineObject, OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Door<'k, M> {
    /// Serves a system call of the running task, whose registers are saved in its frame.
    ///
    /// Each operation has a function of its own in the entry's table, where `op` is a constant:
    /// the match over all operations becomes one call.
    #[inline(always)]
    #[expect(clippy::too_many_lines, reason = "one line for each operation, in the order of the list")]
    pub fn system_call(self, op: Op) {
        let me = self.entrant();
        self.count(Counter::SlowEntry);
        let r = &me.regs;
        let args = Args {
            info: r.rax.get(),
            a0: r.rdi.get(),
            a1: r.rsi.get(),
            a2: r.rdx.get(),
            a3: r.r8.get(),
            a4: r.r9.get(),
            a5: r.r10.get(),
        };
        if ends_objects(op) {
            self.begin_steps();
        } else if is_long(op) {
            self.begin_work();
        }
        let answer = match op {
            Op::Call => self.ipc().call(me, &args),
            Op::ReplyRecv => self.ipc().reply_recv(me, &args),
            Op::Null => Ok(Answer::DONE),
            Op::Notify => self.events().notify(me, &args),
            Op::Wait => self.events().wait(me, &args),
            Op::YieldTo => self.make().yield_to(me, args.target()),
            Op::Recv => self.ipc().recv(me, &args),
            Op::Reply => self.ipc().reply(me, &args),
            Op::Forward => self.ipc().forward(me, &args),
            Op::SaveReply => self.ipc().save_reply(me, &args),
            Op::Yield => self.yield_now(me),
            Op::WhoAmI => Ok(Answer::Values([me.get().id().raw(), self.id().index() as u64, 0, 0])),
            Op::Retype => self.make().retype(me, args.target(), args.a1, Target(args.a2), args.a3),
            Op::CapCopy => self.caps().cap_copy(me, &args),
            Op::CapMove => self.caps().cap_move(me, args.cap(), Target(args.a1)),
            Op::CapDelete => self.life().cap_delete(me, args.target()),
            Op::CapRevoke => self.life().cap_revoke(me, args.target()),
            Op::CapInspect => self.caps().cap_inspect(me, args.target()),
            Op::UntypedReset => self.life().untyped_reset(me, args.cap(), args.a1, Target(args.a3).cap()),
            Op::GroupAdd => self.groups().group_add(me, &args),
            Op::GroupRemove => self.life().group_remove(me, args.target()),
            Op::Expose => self.groups().expose(me, args.target(), args.cap1(), args.a2),
            Op::Withdraw => self.life().withdraw_exposure(me, args.target()),
            Op::ProcessConfigure => self.make().process_configure(me, &args),
            Op::ProcessAccept => self.make().process_accept(me, args.cap(), args.a1, args.cap2()),
            Op::TaskConfigure => self.make().task_configure(me, &args),
            Op::TaskWriteRegs => self.make().task_write_regs(me, args.cap()),
            Op::TaskReadRegs => self.make().task_read_regs(me, args.cap()),
            Op::TaskResume => self.make().task_control(me, args.cap(), ctl::RESUME),
            Op::TaskSuspend => self.make().task_control(me, args.cap(), ctl::SUSPEND),
            Op::TaskKill => self.make().task_control(me, args.cap(), ctl::KILL),
            Op::TaskCancel => self.make().task_control(me, args.cap(), ctl::CANCEL),
            Op::SchedConfigure => self.make().sched_configure(me, &args),
            Op::SchedBind => self.make().sched_bind(me, args.cap(), args.cap1()),
            Op::SchedInfo => self.make().sched_info(me, args.cap()),
            Op::NotificationBind => self.events().notification_bind(me, args.cap(), args.cap1()),
            Op::Map => self.mem().map(me).map(|()| Answer::DONE),
            Op::Unmap => self.mem().unmap(me).map(|()| Answer::DONE),
            Op::MachineLog => self.machine_log(me, args.cap(), args.a1, args.a2),
            Op::MachineExit => self.machine_exit(me, args.cap(), args.a1),
            Op::MachineCounter => self.machine_counter(me, args.target(), args.a1),
            Op::MachineDump => self.machine_dump(me, args.cap()),
            Op::SetBases => self.make().set_bases(me, args.a0, args.a1),
            Op::MachineTrace => self.machine_trace(me, args.cap(), args.a1, args.a2),
            Op::FaultHandler => self.make().set_fault_handler(me, args.cap(), args.a1),
            Op::TaskDebug => self.make().task_debug(me, &args),
            Op::Protect => self.mem().protect(me).map(|()| Answer::DONE),
            Op::MachineAttempt => self.machine_attempt(me, args.cap(), args.a1, args.a2),
            Op::Accessed => self.mem().accessed(me),
            Op::FramePin => self.make().frame_pin(me, args.cap(), args.cap1()),
            Op::FrameUnpin => self.make().frame_unpin(me, args.cap(), args.cap1()),
            Op::DeviceFrame => self.make().device_frame(me, &args),
            Op::PageCopy => self.mem().page_copy(me, &args),
            Op::PageTransfer => self.payload().page_transfer(me, &args),
            Op::PoolBind => self.events().pool_bind(me, &args),
            Op::Send => self.events().send(me, &args),
            Op::PoolRoom => self.events().pool_room(me, &args),
            Op::CapVerify => self.caps().cap_verify(me, &args),
            Op::CapList => self.caps().cap_list(me, args.target()),
            Op::Broadcast => self.events().broadcast(me, &args),
            Op::ProcessKill => self.life().process_kill(me, args.cap()),
            Op::LabelSet => self.life().label_set(me, args.cap(), args.cap1(), args.a2),
            Op::LabelRule => self.caps().label_rule(me, &args),
            Op::AuditStart => self.caps().audit_start(me, args.cap(), args.cap1(), args.a2),
            Op::AuditRead => self.caps().audit_read(me, &args),
            Op::GroupMember => self.groups().group_member(me, args.target()),
            Op::CSpaceGrow => self.caps().cspace_grow(me, args.cap(), args.cap1()),
            Op::TaskReadVector => self.make().task_read_vector(me, args.cap(), args.a1),
            Op::TaskWriteVector => self.make().task_write_vector(me, args.cap(), args.a1, args.a2),
            Op::SchedAllow => self.make().sched_allow(me, &args),
            Op::TaskMove => self.make().task_move(me, &args),
            Op::CpuWatch => self.make().cpu_watch(me, &args),
            Op::SchedWatch => self.make().sched_watch(me, &args),
            Op::LockWait => self.events().lock_wait(me, &args),
            Op::LockPass => self.events().lock_pass(me, args.target()),
            Op::CpuPark => self.make().cpu_park(me, &args),
            Op::CpuInfo => self.make().cpu_info(me, &args),
            Op::IrqAllow => self.make().irq_allow(me, &args),
            Op::IrqBind => self.make().irq_bind(me, &args),
            Op::IrqAck => self.make().irq_ack(me, &args),
            Op::PortAllow => self.make().port_allow(me, &args),
            Op::PortRead => self.make().port_read(me, &args),
            Op::PortWrite => self.make().port_write(me, &args),
        };
        // Another task may be the best to run now.
        if answer.is_ok() && !chooses(op) {
            self.time().dispatch();
        }
        match answer {
            Ok(Answer::Settled) => {}
            Ok(Answer::Values(values)) => write_values(r, MsgInfo(0), values),
            Err(Refusal::Again) if asks_often(op) => self.wait_for_answer(me),
            Err(refusal) => self.refuse(me, Some(op), refusal),
        }
        // Last, so that no result is kept meanwhile.
        if ends_objects(op) {
            self.bound_work();
        }
    }

    /// Refuses an operation number that the table does not have.
    pub fn bad_system_call(self) {
        self.count(Counter::SlowEntry);
        self.refuse(self.entrant(), None, Refusal::new(Error::BadSyscall, Op::COUNT as u64));
    }

    /// Answers a refused system call with an error, or makes its task wait or restart the call.
    #[cold]
    #[inline(never)]
    pub fn refuse(self, me: OpenTask<'k>, op: Option<Op>, refusal: Refusal) {
        let refusal = match refusal {
            Refusal::Dispose => self.life().dispose_grants(me),
            other => other,
        };
        match refusal {
            Refusal::Error { .. } => self.refuse_for_good(me, op, refusal),
            Refusal::Restart { epoch } | Refusal::NotReady { epoch } => {
                self.rewind(me.part());
                self.grace().wait_for_grace(me, epoch);
            }
            Refusal::More | Refusal::Dispose => {
                self.rewind(me.part());
                self.time().dispatch();
            }
            Refusal::Again => self.wait_for_answer(me),
        }
    }

    /// Makes a task wait until the answer to its request is back, and then restart the call.
    #[cold]
    #[inline(never)]
    fn wait_for_answer(self, me: OpenTask<'k>) {
        self.rewind(me.part());
        self.time().leave_rest(me);
        me.enter(State::Restart);
        self.ipc().park(me);
    }

    /// Answers a refused system call with an error, after all that the call has ended is ended
    /// whole. (Out of line, because a restart needs none of this work.)
    #[inline(never)]
    fn refuse_for_good(self, me: OpenTask<'k>, op: Option<Op>, refusal: Refusal) {
        let info = MsgInfo(me.regs.rax.get());
        if !me.get().zombies.is_null() {
            let counts = info.has(FLAG_PAGES) || op.is_some_and(is_long);
            if let Err(later) = self.life().empty_before(me, counts)
                && !matches!(later, Refusal::Error { .. })
            {
                return self.refuse(me, op, later);
            }
        }
        let Refusal::Error { error, detail, who } = refusal else { return };
        self.security().audit_refusal(me.object(), op, error, detail, me.regs.rdi.get());
        // What a refused message carries stays with the sender.
        self.payload().take_pages_back(me);
        if info.has(FLAG_CAPS) {
            self.payload().unmark_disposals(me);
        }
        write_error(&me.regs, error, detail, who);
        // Before the error, the call may have ended other tasks, or its own.
        self.time().dispatch();
    }

    /// Carries out [`Op::Yield`].
    fn yield_now(self, me: OpenTask<'k>) -> Result<Answer> {
        write_values(&me.regs, MsgInfo(0), [0; 4]);
        self.time().rotate(Why::Yielded);
        Ok(Answer::Settled)
    }

    /// Carries out [`Op::MachineLog`].
    fn machine_log(self, me: OpenTask<'k>, cap: Cap, len: u64, channel: u64) -> Result<Answer> {
        let need = if channel == REPORT { MachineRights::REPORT } else { machine_rights::LOG };
        let found = self.caps().find::<MachineObject>(me, cap, need)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= abi::LOG_MAX).ok_or(Refusal::argument(1))?;
        let channel = match channel {
            // A capability without a badge is process 1's own. Channel 0 is the kernel's.
            0 => (found.badge & 0x7f).max(1) as u8,
            REPORT => REPORT as u8,
            _ => return Err(Refusal::argument(2)),
        };
        let mut bytes = [0u8; abi::LOG_MAX];
        for (chunk, word) in
            bytes.chunks_exact_mut(8).zip(&me.get().utcb(self.pin()).bulk).take(len.div_ceil(8))
        {
            chunk.copy_from_slice(&word.load(smp::sync::Ordering::Relaxed).to_le_bytes());
        }
        self.k.machine.log(channel, &bytes[..len]);
        Ok(Answer::DONE)
    }

    /// Carries out [`Op::MachineExit`].
    fn machine_exit(self, me: OpenTask<'k>, cap: Cap, how: u64) -> Result<Answer> {
        self.caps().operand::<MachineObject, { Op::MachineExit as u8 }, 0>(me, cap)?;
        refuse_if(how > 1, Refusal::argument(1))?;
        self.k.machine.exit(how == 0)
    }

    /// Carries out [`Op::MachineCounter`]. Another CPU's counters may change while they are read.
    fn machine_counter(self, me: OpenTask<'k>, target: Target, number: u64) -> Result<Answer> {
        self.caps().operand::<MachineObject, { Op::MachineCounter as u8 }, 0>(me, target.cap())?;
        let cpu = self.cpu_named(target)?;
        let number = usize::try_from(number).map_err(|_| Refusal::argument(1))?;
        refuse_if(number >= COUNTERS, Refusal::argument(1))?;
        let counter = &cpu.get().counters[mask_index(number, COUNTERS)];
        Ok(Answer::one(counter.racy()))
    }

    /// Carries out [`Op::MachineTrace`].
    fn machine_trace(self, me: OpenTask<'k>, cap: Cap, first: u64, second: u64) -> Result<Answer> {
        self.caps().operand::<MachineObject, { Op::MachineTrace as u8 }, 0>(me, cap)?;
        refuse_if(!smp::trace::ENABLED, Error::NotBuilt)?;
        self.trace().event(|| Event::User { first, second });
        Ok(Answer::DONE)
    }

    /// Carries out [`Op::MachineAttempt`].
    fn machine_attempt(self, me: OpenTask<'k>, cap: Cap, what: u64, address: u64) -> Result<Answer> {
        self.caps().operand::<MachineObject, { Op::MachineAttempt as u8 }, 0>(me, cap)?;
        let what = Attempt::from_raw(what).ok_or(Refusal::argument(1))?;
        self.k.machine.attempt(what, address).map(Answer::one).ok_or(Error::NotBuilt.into())
    }

    /// Refuses [`Op::MachineDump`]. Kernels that export their state serve it before.
    fn machine_dump(self, me: OpenTask<'k>, cap: Cap) -> Result<Answer> {
        self.caps().operand::<MachineObject, { Op::MachineDump as u8 }, 0>(me, cap)?;
        Err(Error::NotBuilt.into())
    }
}

/// The channel of report lines.
const REPORT: u64 = 0x80;

/// Returns whether an operation may spend [work](crate::work), so that its entry begins with some.
const fn is_long(op: Op) -> bool {
    !chooses(op) || matches!(op, Op::Send | Op::PoolRoom | Op::SchedConfigure)
}

/// Returns whether an operation asks other CPUs as a part of everyday work: such a call takes the
/// short way to its wait.
const fn asks_often(op: Op) -> bool {
    matches!(op, Op::SchedConfigure | Op::SchedInfo | Op::TaskMove | Op::YieldTo)
}

/// Returns whether an operation may end objects, in steps that take other steps.
const fn ends_objects(op: Op) -> bool {
    matches!(
        op,
        Op::CapDelete
            | Op::CapRevoke
            | Op::UntypedReset
            | Op::GroupRemove
            | Op::Withdraw
            | Op::ProcessKill
            | Op::IrqBind
    )
}

/// Returns whether an operation makes no other task ready, or chooses the next task itself:
/// messages, bits and yields, which come first in the list of operations, mappings, settings of CPU
/// time, and locks.
const fn chooses(op: Op) -> bool {
    op as u8 <= Op::WhoAmI as u8
        || matches!(op, Op::Map | Op::Unmap | Op::SchedConfigure | Op::LockWait | Op::LockPass)
}
