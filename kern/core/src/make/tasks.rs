//! Operations on processes and tasks: configure, registers, start, control.

use abi::audit::AuditEvent;
use abi::status::Seen;
use abi::{Cap, Error, MsgInfo, Op, RegIndex, Rights, TaskId};
use core::cell::Cell;
use kern_base::group::Group;
use kern_base::header::{FLAG_DEAD, FLAG_DYING};
use kern_base::limits::NUMBER_LOOKS;
use kern_base::machine::{Access, Machine};
use kern_base::memory::VSpace;
use kern_base::process::{Offered, Process};
use kern_base::sched_control::SchedControl;
use kern_base::slot::CNode;
use kern_base::task::{FLAG_SUSPENDED, Request, State, Task, TaskHot, ctl};
use smp::cpu::CpuId;
use smp::door::Ref;
use smp::sync::Ordering::{Relaxed, SeqCst};
use smp::sync::fence;
use test_abi::trace::Event;

use crate::answer::write_values;
use crate::args::Args;
use crate::ipc::faults::{breakpoint, check_debug};
use crate::registers::{FIXED_FLAGS, load_registers, read_registers, registers};
use crate::rooms::Make;
use crate::{Answer, NOT_COVERED, OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Make<'k, M> {
    /// Carries out [`abi::Op::ProcessConfigure`].
    pub fn process_configure(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let (process, cnode) =
            self.caps().operands::<Process, CNode, { Op::ProcessConfigure as u8 }>(me, args)?;
        let vspace = self.caps().operand::<VSpace, { Op::ProcessConfigure as u8 }, 2>(me, args.cap2())?;
        refuse_if(args.a3 > 1, Refusal::argument(3))?;
        self.bind_process(process, cnode, vspace, args.a3 != 0)?;
        self.security().audit_bind(Op::ProcessConfigure, &cnode.get().header, process.get());
        self.security().audit_bind(Op::ProcessConfigure, &vspace.get().header, process.get());
        Ok(Answer::DONE)
    }

    /// Gives a process its spaces. Each space serves one process only.
    ///
    /// The CPU that destroys one of the three marks it and then checks for the others, under the
    /// lock that is held here. So this function sees the mark, or that CPU sees the link.
    pub fn bind_process(
        self,
        process: Ref<'k, Process>,
        cnode: Ref<'k, CNode>,
        vspace: Ref<'k, VSpace>,
        vector: bool,
    ) -> Result<()> {
        let _spaces = self.caps().lock_bindings();
        let headers = [&process.get().header, &cnode.get().header, &vspace.get().header];
        self.security().same_label(headers)?;
        refuse_if(!process.get().cnode.is_null(), Error::BadState)?;
        refuse_if(!cnode.get().process.is_null() || !vspace.get().process.is_null(), Error::InUse)?;
        refuse_if(headers.iter().any(|header| header.has_flag(FLAG_DYING)), Error::Dying)?;
        cnode.get().process.set(Some(process));
        vspace.get().process.set(Some(process));
        process.get().vector.store(vector, Relaxed);
        process.get().cnode.set(Some(cnode));
        process.get().vspace.set(Some(vspace));
        process.get().publish_cspace(self.pin(), &cnode.get().slots);
        Ok(())
    }

    /// Carries out [`abi::Op::ProcessAccept`].
    pub fn process_accept(self, me: OpenTask<'k>, process: Cap, slot: u64, from: Cap) -> Result<Answer> {
        let found = self.caps().find_configurable(me, process)?;
        let process = found.get();
        let slot = u32::try_from(slot).map_err(|_| Refusal::argument(1))?;
        let offered = match slot {
            0 => Offered::NONE,
            _ => {
                let from = self.offered_to(me, from)?;
                self.caps().slot_of(found, Cap(slot)).map_err(|_| Refusal::argument(1))?;
                Offered { slot, from }
            }
        };
        let _list = process.memberships.lock(self.cpu, &process.header);
        let before = process.offer.get().slot;
        process.offer.set(offered);
        Ok(Answer::one(u64::from(before)))
    }

    /// Returns the identity of the object that an offer is for: a group, or a process that adds
    /// members to any group.
    fn offered_to(self, me: OpenTask<'k>, cap: Cap) -> Result<u64> {
        let (_, word) = self.caps().look(me, cap)?;
        if let Some(process) = word.get::<Process>() {
            return Ok(process.get().header.identity());
        }
        Ok(self.caps().typed::<Group>(word, cap, Rights::NONE)?.get().header.identity())
    }

    /// Carries out [`abi::Op::TaskConfigure`].
    pub fn task_configure(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let (control, task) =
            self.caps().operands::<SchedControl, Task, { Op::TaskConfigure as u8 }>(me, args)?;
        let process = self.caps().operand::<Process, { Op::TaskConfigure as u8 }, 2>(me, args.cap2())?;
        let cpu = self.cpu_of(control, args.a4)?;
        if self.open(task).is_none() {
            refuse_if(task.get().id() != TaskId::NONE, Error::BadState)?;
            refuse_if(task.get().header.has_flag(FLAG_DYING), Error::Dying)?;
            let home = task.get().hot.mail_target(self.pin());
            return Err(self.outbox().ask(me, home, Request::Bring(task.ptr())));
        }
        let id = self.bind_task(Some(me), task, process, args.a3, cpu)?;
        self.security().audit_bind(Op::TaskConfigure, &task.get().header, process.get());
        Ok(Answer::one(id.raw()))
    }

    /// Returns the CPU that an argument names, if a SchedControl covers it.
    fn cpu_of(self, control: Ref<'k, SchedControl>, argument: u64) -> Result<CpuId> {
        let cpus = self.k.cpu_count();
        let cpu = usize::try_from(argument).ok().filter(|cpu| *cpu < cpus).and_then(CpuId::new);
        let cpu = cpu.ok_or(Refusal::new(Error::NoCpu, cpus as u64))?;
        refuse_if(!control.get().covers(cpu), NOT_COVERED)?;
        Ok(cpu)
    }

    /// Carries out [`abi::Op::TaskMove`]: on this CPU, or by a request to the task's.
    pub fn task_move(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let (control, task) = self.caps().operands::<SchedControl, Task, { Op::TaskMove as u8 }>(me, args)?;
        let (cpu, seen) = Seen::split(args.a2);
        let cpu = self.cpu_of(control, cpu)?;
        refuse_if(task.get().id() == TaskId::NONE || task.get().header.has_flag(FLAG_DEAD), Error::BadState)?;
        let Some(here) = self.open(task) else {
            let words = [Seen::join(cpu.raw().into(), seen), 0, 0, 0];
            let to = task.get().hot.mail_target(self.pin());
            return Err(self.outbox().ask_with(me, to, Request::Move(task.ptr()), words));
        };
        self.check_seen_of(here, seen)?;
        let own_goes = self.life().admit_move(here, cpu)?;
        // Before the caller leaves, if it moves itself.
        write_values(&me.regs, MsgInfo(0), [0; 4]);
        if self.life().move_task(here, cpu, own_goes) {
            me.regs.rdi.set(1);
        }
        Ok(Answer::Settled)
    }

    /// Refuses what was decided before a task's own CPU time changed.
    pub fn check_seen_of(self, task: OpenTask<'k>, seen: Option<Seen>) -> Result<()> {
        let Some(own) = task.time.own(self.pin()) else {
            // Nobody has seen time that it does not have.
            return refuse_if(seen.is_some(), Error::Stale);
        };
        match self.open_time(own) {
            Some(own) => self.check_seen(own, seen),
            // It is on another CPU with a call, and only that CPU knows its number.
            None => refuse_if(seen.is_some(), Error::WouldBlock),
        }
    }

    /// Binds a fresh task to a process, maps its UTCB, gives it an id. At boot there is no task
    /// that could wait.
    pub fn bind_task(
        self,
        me: Option<OpenTask<'k>>,
        task: Ref<'k, Task>,
        process: Ref<'k, Process>,
        utcb: u64,
        cpu: CpuId,
    ) -> Result<TaskId> {
        let hot = self.here(&task.get().hot)?;
        refuse_if(hot.state() != State::Fresh || hot.process_if_any(self.pin()).is_some(), Error::BadState)?;
        refuse_if(process.get().vspace.is_null(), Error::BadState)?;
        crate::mem::map::check_user_range(utcb, abi::UTCB_SIZE as u64, abi::UTCB_SIZE as u64)?;
        let id = self.next_id()?;
        let number = self.take_number(task, process)?;
        self.name_task(task, id, process, number);
        let placed = self.time().take_place(cpu);
        let joined = placed.and_then(|()| {
            let joined = self.join_process(me, task, process, utcb, cpu);
            joined.inspect_err(|_| self.time().leave_place(cpu))
        });
        joined.inspect_err(|_| {
            self.unname_task(task);
            self.life().drop_number(process, task);
        })?;
        hot.join_process(process, id, self.id(), cpu);
        hot.regs.full.set(1);
        hot.regs.rflags.set(FIXED_FLAGS);
        self.k.machine.init_vector(task.get().vector(self.pin()));
        self.trace().event(|| Event::TaskMade { task: id, cpu: cpu.raw() });
        Ok(id)
    }

    /// Gives a task its id, and its number in a process.
    fn name_task(self, task: Ref<'k, Task>, id: TaskId, process: Ref<'k, Process>, number: usize) {
        let _spaces = self.caps().lock_bindings();
        task.get().set_id(id, process, number);
    }

    /// Takes a task's id back.
    fn unname_task(self, task: Ref<'k, Task>) {
        let _spaces = self.caps().lock_bindings();
        task.get().clear_id();
    }

    /// Makes a task with an id one of a process: maps its UTCB, and gives it the process's
    /// label. Other CPUs see the task as one of the process only when nothing can fail any more.
    ///
    /// Requires: the task has its number. So a later change of the process's label finds the task.
    fn join_process(
        self,
        me: Option<OpenTask<'k>>,
        task: Ref<'k, Task>,
        process: Ref<'k, Process>,
        utcb: u64,
        cpu: CpuId,
    ) -> Result<()> {
        let (whole, part) = (&process.get().header, &task.get().header);
        self.security().may_adopt(whole, part)?;
        // The CPU that destroys one of the two marks it and then checks for the other.
        fence(SeqCst);
        refuse_if(whole.has_flag(FLAG_DYING) || part.has_flag(FLAG_DYING), Error::Dying)?;
        let vspace = process.get().vspace.get(self.pin()).ok_or(Refusal::from(Error::BadState))?;
        // The UTCB belongs to the task object, which has the process's label then.
        self.security().may_map(vspace.get(), whole, Access::Write)?;
        let page = task.get().utcb_page(&self.k.machine);
        let lock = vspace.get().lock(self.cpu);
        vspace.get().add_home(cpu);
        self.mem().map_plain(me, vspace, utcb, page, Access::Write)?;
        drop(lock);
        let spaces = self.caps().lock_bindings();
        let adopted = self.security().may_adopt(whole, part);
        if adopted.is_ok() {
            part.set_label(whole.label());
            task.get().join(self.pin(), process, vspace, utcb, cpu);
        }
        drop(spaces);
        adopted.inspect_err(|_| {
            let _lock = vspace.get().lock(self.cpu);
            self.mem().unmap_plain(vspace, utcb, 1);
        })
    }

    /// Takes a free task number. Later entries do not check again what earlier entries found taken,
    /// so one entry checks a bounded number.
    fn take_number(self, task: Ref<'k, Task>, process: Ref<'k, Process>) -> Result<usize> {
        let numbers = &process.get().tasks;
        let _lock = process.get().memberships.lock(self.cpu, &process.get().header);
        let first = usize::from(process.get().free_number.load(Relaxed));
        let end = numbers.len().min(first + NUMBER_LOOKS);
        let look_from = |at: usize| process.get().free_number.store(at.min(0xffff) as u16, Relaxed);
        for i in first..end {
            let Some(number) = numbers.get(self.pin(), i) else { continue };
            if number.get().task.claim(task) {
                look_from(i + 1);
                return Ok(i);
            }
        }
        look_from(end);
        refuse_if(end < numbers.len(), Refusal::More)?;
        Err(Refusal::new(Error::Full, numbers.len() as u64))
    }

    /// Returns the CPU-local state of a suspended task whose home is this CPU.
    pub fn suspended(self, task: Ref<'k, Task>) -> Result<OpenTask<'k>> {
        let task = self.open_here(task)?;
        // One that is about to leave has stopped for a moment, and nobody has suspended it.
        let only_leaves = task.is_to_move() && !task.get().is_to_suspend();
        let stands = task.has_flag(FLAG_SUSPENDED) && !only_leaves;
        let is_whole = task.process_if_any(self.pin()).is_some() && !task.is_dying();
        refuse_if(!(stands && is_whole), Error::BadState)?;
        Ok(task)
    }

    /// Carries out [`abi::Op::TaskWriteRegs`]. A task that waits continues to wait; it gets its
    /// registers when the wait ends, so only a ready task can be written.
    pub fn task_write_regs(self, me: OpenTask<'k>, task: Cap) -> Result<Answer> {
        let task = self.caps().operand::<Task, { Op::TaskWriteRegs as u8 }, 0>(me, task)?;
        let task = self.suspended(task)?;
        refuse_if(task.state() != State::Ready, Error::BadState)?;
        let words = read_registers(&me.get().utcb(self.pin()).bulk)?;
        load_registers(task.part(), |i| words[i]);
        task.enter(State::Ready);
        Ok(Answer::DONE)
    }

    /// Carries out [`abi::Op::TaskReadRegs`].
    pub fn task_read_regs(self, me: OpenTask<'k>, task: Cap) -> Result<Answer> {
        let task = self.caps().operand::<Task, { Op::TaskReadRegs as u8 }, 0>(me, task)?;
        let task = self.suspended(task)?;
        task.materialise_frame();
        let bulk = &me.get().utcb(self.pin()).bulk;
        for (register, cell) in registers(&task.regs) {
            bulk[register as usize].store(shown(task.part(), register, cell), Relaxed);
        }
        Ok(Answer::one(task.state() as u64))
    }

    /// Carries out [`abi::Op::TaskResume`], [`abi::Op::TaskSuspend`], [`abi::Op::TaskCancel`] and
    /// [`abi::Op::TaskKill`].
    pub fn task_control(self, me: OpenTask<'k>, task: Cap, bits: u64) -> Result<Answer> {
        let task = match bits {
            ctl::KILL => self.caps().operand::<Task, { Op::TaskKill as u8 }, 0>(me, task)?,
            _ => self.caps().operand::<Task, { Op::TaskSuspend as u8 }, 0>(me, task)?,
        };
        refuse_if(task.get().id() == TaskId::NONE || task.get().header.has_flag(FLAG_DEAD), Error::BadState)?;
        if bits & (ctl::SUSPEND | ctl::RESUME) != 0 {
            task.get().set_to_suspend(bits == ctl::SUSPEND);
        }
        if bits == ctl::KILL {
            self.security().audit_object(AuditEvent::Kill, Op::TaskKill, &task.get().header, 0);
            // The first task of process 1 supervises the run.
            if task.get().id() == TaskId::FIRST {
                self.k.machine.first_process_dies();
            }
        }
        write_values(&me.regs, MsgInfo(0), [0; 4]);
        self.life().send_control(task, bits);
        self.time().dispatch();
        Ok(Answer::Settled)
    }

    /// Carries out [`abi::Op::SetBases`].
    pub fn set_bases(self, me: OpenTask<'k>, fs: u64, gs: u64) -> Result<Answer> {
        for (position, base) in [(0, fs), (1, gs)] {
            refuse_if(base >= abi::USER_TOP, Refusal::new(Error::BadAddress, position))?;
        }
        me.fs_base.set(fs);
        me.gs_base.set(gs);
        self.k.machine.set_bases(fs, gs);
        Ok(Answer::DONE)
    }

    /// Carries out [`abi::Op::FaultHandler`].
    pub fn set_fault_handler(self, me: OpenTask<'k>, of: Cap, target: u64) -> Result<Answer> {
        let (_, word) = self.caps().look(me, of)?;
        if word.get::<Process>().is_some() {
            let process = self.caps().typed::<Process>(word, of, Rights::NONE)?;
            if process != me.process(self.pin()) {
                self.caps().typed::<Process>(word, of, abi::OWN_PROCESS.rights)?;
            }
            process.get().fault_handler.store(target, Relaxed);
            return Ok(Answer::DONE);
        }
        let task = self.caps().typed_operand::<Task, { Op::FaultHandler as u8 }, 0>(word, of)?;
        refuse_if(task.get().header.has_flag(FLAG_DEAD), Error::BadState)?;
        task.get().fault_handler.store(target, Relaxed);
        Ok(Answer::DONE)
    }

    /// Carries out [`abi::Op::TaskDebug`].
    pub fn task_debug(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let (addresses, dr7) = ([args.a1, args.a2, args.a3, args.a4], args.a5);
        let task = self.caps().operand::<Task, { Op::TaskDebug as u8 }, 0>(me, args.cap())?;
        let task = self.suspended(task)?;
        check_debug(&addresses, dr7)?;
        let on = (0..addresses.len()).any(|n| breakpoint(dr7, n).0);
        task.set_debug(addresses, dr7, on);
        Ok(Answer::DONE)
    }
}

/// Returns the value that a register of a suspended task, in its frame's `cell`, will have when the
/// task continues. In a system call the frame holds only the answer, or the arguments of a restart;
/// while the task waits there is no answer yet. The other registers are zero when the wait is over,
/// whatever the frame holds.
fn shown(hot: &TaskHot, register: RegIndex, cell: &Cell<u64>) -> u64 {
    use RegIndex::{FsBase, GsBase, R8, R9, R10, R12, Rax, Rdi, Rdx, Rflags, Rip, Rsi, Rsp};
    match (register, hot.state()) {
        (Rip | Rsp | Rflags, _) => cell.get(),
        _ if hot.regs.full.get() != 0 => cell.get(),
        (FsBase, _) => hot.fs_base.get(),
        (GsBase, _) => hot.gs_base.get(),
        (Rax | Rdi | Rsi | Rdx | R8 | R9 | R10, State::Ready | State::Restart) => cell.get(),
        (R12, State::Ready) => cell.get(),
        _ => 0,
    }
}
