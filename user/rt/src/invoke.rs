//! Operations on objects: each system call is a method of the handle of its object.

use abi::membership::SEEN_AS_ADDER;
use abi::status::Seen;
use abi::time::priority_and_period;
use abi::{Cap, Counter, Error, ObjType, Op, REG_COUNT, RegIndex, Rights, TaskId};

use crate::Result;
use crate::arch::{Answer, Args, syscall};
use crate::cap::{
    Access, CNode, Exposure, Frame, Group, Handle, Inspection, Machine, Notification, Place, Process,
    SchedContext, SchedControl, Task, Untyped, VSpace,
};
use crate::layout::slot;
use crate::spawn::own;
use crate::utcb;

fn invoke(op: Op, rdi: u64, rsi: u64, rdx: u64, r8: u64) -> Result<()> {
    syscall(Args::plain(op, rdi, rsi, rdx, r8)).done()
}

/// Sets this task's FS and GS bases. The runtime uses the UTCB's address as the FS base.
#[cfg(target_os = "none")]
pub(crate) fn set_bases(fs: u64, gs: u64) -> Result<()> {
    invoke(Op::SetBases, fs, gs, 0, 0)
}

impl Untyped {
    /// Makes `count` objects of type `T` in consecutive slots from `first` on. Returns the bytes
    /// that are still free.
    pub fn retype<T: Handle>(&self, size: u64, first: Place, count: u64) -> Result<u64> {
        let rdi = abi::Target::new(self.cap(), T::TYPE as u32).0;
        Ok(syscall(Args::plain(Op::Retype, rdi, size, first.0.0, count)).check()?.rdi)
    }

    /// Destroys all objects that were made of the memory. Returns the bytes that are free then.
    /// Errors: an object cannot be destroyed yet.
    #[inline]
    pub fn reset(&self, pins: Pins) -> Result<u64> {
        let machine = Machine::at(slot::MACHINE).arg();
        Ok(syscall(Args::plain(Op::UntypedReset, self.arg(), pins as u64, 0, machine)).check()?.rdi)
    }

    /// Resets the memory, and tries again while the refusal is transient: an object is in use, or
    /// is being ended. Returns the bytes that are free then.
    #[inline]
    pub fn take_back(&self, pins: Pins) -> Result<u64> {
        match self.reset(pins) {
            Err(refusal) if may_pass(refusal.error) => self.ask_again(pins),
            other => other,
        }
    }

    #[cold]
    fn ask_again(&self, pins: Pins) -> Result<u64> {
        for _ in 0..RESET_TRIES {
            yield_now()?;
            match self.reset(pins) {
                Err(refusal) if may_pass(refusal.error) => {}
                other => return other,
            }
        }
        self.reset(pins)
    }
}

fn may_pass(error: Error) -> bool {
    matches!(error, Error::WouldBlock | Error::InUse | Error::Dying)
}

/// How often [`Untyped::take_back`] asks.
pub(crate) const RESET_TRIES: u32 = 100_000;

/// The fate of frames that are pinned for devices, where their memory is reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Pins {
    /// They refuse it, with [`Error::InUse`].
    Hold,
    /// They go with the others: no device may be using them any more. Takes the right DMA of this
    /// process's Machine.
    Ignore,
}

/// Copies a capability to another slot, with these rights, which must be among those of the source.
pub fn copy<T: Handle>(source: &T, to: Place, rights: impl Into<T::Rights>, badge: u64) -> Result<()> {
    copy_raw(source.cap(), to, rights.into().into(), badge)
}

/// Copies a capability of any type.
pub fn copy_raw(source: Cap, to: Place, rights: Rights, badge: u64) -> Result<()> {
    invoke(Op::CapCopy, source.arg(), to.0.0, u64::from(rights.0), badge)
}

/// Moves a capability to another slot. The handle is used up.
pub fn transfer<T: Handle>(source: T, to: Place) -> Result<()> {
    invoke(Op::CapMove, source.arg(), to.0.0, 0, 0)
}

impl CNode {
    pub fn delete(&self, slot: Cap) -> Result<()> {
        invoke(Op::CapDelete, self.slot(slot).0.0, 0, 0, 0)
    }

    pub fn revoke(&self, slot: Cap) -> Result<()> {
        invoke(Op::CapRevoke, self.slot(slot).0.0, 0, 0, 0)
    }

    /// Returns the contents of a slot; `None` for an empty one.
    pub fn inspect(&self, slot: Cap) -> Result<Option<Inspection>> {
        let a = syscall(Args::plain(Op::CapInspect, self.slot(slot).0.0, 0, 0, 0)).check()?;
        Ok(ObjType::from_raw(a.rdi as u8).map(|object| Inspection {
            object,
            rights: Rights(a.rsi as u32),
            badge: a.rdx,
            identity: a.r8,
        }))
    }
}

/// A member of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// The identity of the process, as [`CNode::inspect`](crate::cap::CNode::inspect) shows it.
    pub process: u64,
    pub index: u32,
    pub rights: Rights,
    pub custom: u16,
}

impl Group {
    /// Adds a process that offered a slot to the group. Returns its member index. Only the maker of
    /// the group may choose the custom bits.
    pub fn add(&self, process: &Process, rights: Rights, custom: u16) -> Result<u32> {
        self.add_seen(process, rights, u64::from(custom))
    }

    /// Adds a process to the group as any member may: receivers see the new member as this process.
    /// Returns its member index.
    pub fn add_as_self(&self, process: &Process, rights: Rights) -> Result<u32> {
        self.add_seen(process, rights, SEEN_AS_ADDER)
    }

    fn add_seen(&self, process: &Process, rights: Rights, custom: u64) -> Result<u32> {
        let args = Args::plain(Op::GroupAdd, self.arg(), process.arg(), u64::from(rights.0), custom);
        Ok(syscall(args).check()?.rdi as u32)
    }

    pub fn remove(&self, member: u32) -> Result<()> {
        invoke(Op::GroupRemove, self.exposure(member).0.0, 0, 0, 0)
    }

    pub fn expose_task(&self, index: u32, task: &Task) -> Result<()> {
        invoke(Op::Expose, self.exposure(index).0.0, task.arg(), 0, 0)
    }

    /// Exposes the task as that of its home CPU in a per-CPU exposure, whose entries (one for each
    /// CPU) start at `first`.
    pub fn expose_per_cpu(&self, index: u32, first: u32, task: &Task) -> Result<()> {
        invoke(Op::Expose, self.exposure(index).0.0, task.arg(), 1 | u64::from(first) << 32, 0)
    }

    pub fn expose_notification(&self, index: u32, notification: &Notification) -> Result<()> {
        invoke(Op::Expose, self.exposure(index).0.0, notification.arg(), 0, 0)
    }

    /// Lets a Notification watch the group: the kernel raises the bits of [`abi::membership`] in
    /// it, shifted by `shift`. `index` is below 64.
    pub fn watch(&self, index: u32, notification: &Notification, shift: u32) -> Result<()> {
        let how = abi::membership::watch(shift);
        invoke(Op::Expose, self.exposure(index).0.0, notification.arg(), how, 0)
    }

    /// Returns the first member of the group at an index of at least `from`.
    pub fn member(&self, from: u32) -> Result<Option<Member>> {
        let a = syscall(Args::plain(Op::GroupMember, self.exposure(from).0.0, 0, 0, 0)).check()?;
        let member =
            Member { process: a.rdi, index: a.rsi as u32, rights: Rights(a.rdx as u32), custom: a.r8 as u16 };
        Ok((a.rdi != 0).then_some(member))
    }

    /// Returns all members of the group, in the order of their records.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        let mut from = 0;
        core::iter::from_fn(move || {
            let member = self.member(from).ok()??;
            from = member.index + 1;
            Some(member)
        })
    }

    pub fn withdraw(&self, index: u32) -> Result<()> {
        invoke(Op::Withdraw, self.exposure(index).0.0, 0, 0, 0)
    }
}

impl Exposure {
    /// Raises bits of the Notification that is exposed here.
    pub fn notify(self, bits: u64) -> Result<()> {
        invoke(Op::Notify, self.0.0, bits, 0, 0)
    }

    /// Gives the rest of this task's slice to the task that is exposed here. On another CPU, lets
    /// it run before its equals.
    pub fn yield_to(self) -> Result<()> {
        invoke(Op::YieldTo, self.0.0, 0, 0, 0)
    }
}

impl Process {
    pub fn configure(&self, cnode: &CNode, vspace: &VSpace, vector: bool) -> Result<()> {
        invoke(Op::ProcessConfigure, self.arg(), cnode.arg(), vspace.arg(), u64::from(vector))
    }

    /// Adds a table to the process's CSpace, for as long as the process lives. Returns the number
    /// that slot 1 of the table has there; the numbers of later slots follow.
    pub fn grow(&self, table: &CNode) -> Result<Cap> {
        let first = syscall(Args::plain(Op::CSpaceGrow, self.arg(), table.arg(), 0, 0)).check()?.rdi;
        Ok(Cap(first as u32))
    }

    /// Offers a slot of the process's CSpace for a membership of a group.
    pub fn accept(&self, slot: Cap, group: &Group) -> Result<()> {
        invoke(Op::ProcessAccept, self.arg(), u64::from(slot.0), group.arg(), 0)
    }

    /// Withdraws the process's offer of a slot for a membership.
    pub fn accept_none(&self) -> Result<()> {
        invoke(Op::ProcessAccept, self.arg(), 0, 0, 0)
    }

    /// Ends all tasks of the process. When this returns, the tasks of another process are dead; for
    /// the caller's own process, this does not return.
    pub fn kill(&self) -> Result<()> {
        invoke(Op::ProcessKill, self.arg(), 0, 0, 0)
    }

    /// Sets the handler of the faults of the process's tasks: a target in the CSpace of *that*
    /// process; `None`: no handler.
    pub fn fault_handler(&self, handler: Option<abi::Target>) -> Result<()> {
        invoke(Op::FaultHandler, self.arg(), handler.map_or(0, |target| target.0), 0, 0)
    }
}

/// When a task moves that was told to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moves {
    /// It has moved.
    Now,
    /// As soon as its wait is over, or the call that it serves is answered.
    Later,
}

impl Task {
    /// Binds the task to a process and a CPU, by the authority of the own SchedControl, with its
    /// UTCB mapped at `utcb`. Returns the task's id.
    pub fn configure(&self, process: &Process, utcb: u64, cpu: u32) -> Result<TaskId> {
        self.configure_by(&own::sched_control(), process, utcb, cpu)
    }

    /// Does what [`Task::configure`] does, by the authority of another SchedControl.
    pub fn configure_by(
        &self,
        control: &SchedControl,
        process: &Process,
        utcb: u64,
        cpu: u32,
    ) -> Result<TaskId> {
        let (rsi, rdx, r8, r9) = (self.arg(), process.arg(), utcb, u64::from(cpu));
        let args = Args { rdi: control.arg(), rsi, rdx, r8, r9, ..Args::new(Op::TaskConfigure) };
        Ok(TaskId::from_raw(syscall(args).check()?.rdi))
    }

    /// Moves the task to another CPU, by the authority of the program's own SchedControl.
    pub fn move_to(&self, cpu: u32) -> Result<Moves> {
        self.move_by(&own::sched_control(), cpu, None)
    }

    /// Moves the task to another CPU, by the authority of `control`. With `seen`, only if the
    /// task's CPU time is as its policy has seen it ([`abi::status`]).
    pub fn move_by(&self, control: &SchedControl, cpu: u32, seen: Option<Seen>) -> Result<Moves> {
        let (rsi, rdx) = (self.arg(), Seen::join(cpu.into(), seen));
        let args = Args { rdi: control.arg(), rsi, rdx, ..Args::new(Op::TaskMove) };
        Ok(if syscall(args).check()?.rdi == 0 { Moves::Now } else { Moves::Later })
    }

    /// Writes the task's registers, in the order of [`RegIndex`].
    pub fn write_regs(&self, regs: &[u64; REG_COUNT]) -> Result<()> {
        utcb::current().write_bulk(regs);
        invoke(Op::TaskWriteRegs, self.arg(), 0, 0, 0)
    }

    pub fn read_regs(&self) -> Result<[u64; REG_COUNT]> {
        invoke(Op::TaskReadRegs, self.arg(), 0, 0, 0)?;
        let mut regs = [0; REG_COUNT];
        utcb::current().read_bulk(&mut regs);
        Ok(regs)
    }

    /// Reads the task's vector registers from word `first` on. Returns how many words were read
    /// into `words`, and how many the task has.
    pub fn read_vector(&self, first: usize, words: &mut [u64]) -> Result<(usize, usize)> {
        let answer = syscall(Args::plain(Op::TaskReadVector, self.arg(), first as u64, 0, 0)).check()?;
        let count = words.len().min(answer.rdi as usize);
        utcb::current().read_bulk(&mut words[..count]);
        Ok((count, answer.rsi as usize))
    }

    /// Writes some of the task's vector registers, from word `first` on:
    /// [`abi::VECTOR_WORDS_AT_ONCE`] words at most.
    pub fn write_vector(&self, first: usize, words: &[u64]) -> Result<()> {
        utcb::current().write_bulk(words);
        invoke(Op::TaskWriteVector, self.arg(), first as u64, words.len() as u64, 0)
    }

    /// Copies all registers of this task, which is suspended, to a fresh task on the same CPU, of a
    /// process with vector state. This task should wait for nothing: its wait is not copied.
    pub fn registers_to(&self, fresh: &Task) -> Result<()> {
        fresh.write_regs(&self.read_regs()?)?;
        let mut words = [0; abi::VECTOR_WORDS_AT_ONCE];
        let mut at = 0;
        loop {
            let (count, total) = self.read_vector(at, &mut words)?;
            fresh.write_vector(at, &words[..count])?;
            at += count;
            if at >= total {
                return Ok(());
            }
        }
    }

    pub fn resume(&self) -> Result<()> {
        invoke(Op::TaskResume, self.arg(), 0, 0, 0)
    }

    pub fn suspend(&self) -> Result<()> {
        invoke(Op::TaskSuspend, self.arg(), 0, 0, 0)
    }

    /// Ends the task for good. A task of another CPU may go on until that CPU learns of it.
    pub fn kill(&self) -> Result<()> {
        invoke(Op::TaskKill, self.arg(), 0, 0, 0)
    }

    /// Ends the task for good, and returns when it is dead. The task is not the calling one.
    pub fn kill_and_wait(&self) -> Result<()> {
        self.kill()?;
        // A task that is dead cannot be killed.
        while self.kill().is_ok() {
            // The task's CPU may be one that an emulator runs in turn with this one.
            crate::arch::pause();
            yield_now()?;
        }
        Ok(())
    }

    /// Ends the task's wait with an error.
    pub fn cancel(&self) -> Result<()> {
        invoke(Op::TaskCancel, self.arg(), 0, 0, 0)
    }

    /// Sets the handler of the task's faults: a target in the CSpace of its process; `None`: the
    /// handler of the process's faults.
    pub fn fault_handler(&self, handler: Option<abi::Target>) -> Result<()> {
        invoke(Op::FaultHandler, self.arg(), handler.map_or(0, |target| target.0), 0, 0)
    }

    /// Sets the task's debug registers, while it is suspended: DR0 to DR3, and DR7, which enables
    /// them.
    pub fn debug(&self, addresses: [u64; abi::DEBUG_ADDRESSES], control: u64) -> Result<()> {
        let [rsi, rdx, r8, r9] = addresses;
        let args = Args { rdi: self.arg(), rsi, rdx, r8, r9, r10: control, ..Args::new(Op::TaskDebug) };
        syscall(args).done()
    }

    /// Gives the rest of the calling task's slice to this task. On another CPU, lets it run before
    /// its equals.
    pub fn yield_to(&self) -> Result<()> {
        invoke(Op::YieldTo, self.arg(), 0, 0, 0)
    }
}

/// How a SchedContext is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    pub priority: u8,
    /// In TSC ticks.
    pub slice: u64,
    /// TSC ticks in each window; 0: no budget.
    pub budget: u64,
    /// TSC ticks of a window; 0 without a budget.
    pub period: u64,
}

/// What a SchedContext says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SchedInfo {
    pub used: u64,
    pub priority: u8,
    pub slice: u64,
    /// TSC ticks in each window; 0: no budget.
    pub budget: u64,
    /// TSC ticks of a window of the budget; 0: no budget.
    pub period: u64,
}

impl SchedControl {
    /// Lets another SchedControl allow priorities up to `ceiling` on CPUs that this one covers: the
    /// bits of `cpus`, of which bit 0 is the CPU `first`, a multiple of 64. If this one has room
    /// for budgets, the other shares it.
    pub fn allow(&self, other: &SchedControl, ceiling: u8, first: u32, cpus: u64) -> Result<()> {
        self.allow_within(other, ceiling, first, cpus, 0)
    }

    /// Does what [`SchedControl::allow`] does, and gives the other one room of its own: the budgets
    /// that it sets are at most so many ten-thousandths of a CPU together, and it sets no time
    /// without a budget. This one has no room, that is, no limit.
    pub fn allow_within(
        &self,
        other: &SchedControl,
        ceiling: u8,
        first: u32,
        cpus: u64,
        room: u64,
    ) -> Result<()> {
        let (rdx, r8) = (u64::from(ceiling), u64::from(first));
        let (rdi, rsi) = (self.arg(), other.arg());
        let args = Args { rdi, rsi, rdx, r8, r9: cpus, r10: room, ..Args::new(Op::SchedAllow) };
        syscall(args).done()
    }
}

impl SchedContext {
    /// Sets priority and slice (in TSC ticks) by the authority of the own SchedControl.
    pub fn configure(&self, priority: u8, slice: u64) -> Result<()> {
        self.configure_by(&own::sched_control(), priority, slice)
    }

    /// Does what [`SchedContext::configure`] does, by the authority of another SchedControl.
    pub fn configure_by(&self, control: &SchedControl, priority: u8, slice: u64) -> Result<()> {
        invoke(Op::SchedConfigure, control.arg(), self.arg(), u64::from(priority), slice)
    }

    /// Does what [`SchedContext::configure`] does, and lets the task run for `budget` TSC ticks in
    /// each window of `period` ticks. Without a budget, both are 0.
    pub fn configure_budget(&self, priority: u8, slice: u64, budget: u64, period: u64) -> Result<()> {
        self.configure_all(&own::sched_control(), None, Settings { priority, slice, budget, period })
    }

    /// Sets everything, by the authority of `control`. With `seen`, only if the SchedContext is as
    /// its policy has seen it ([`abi::status`]).
    pub fn configure_all(
        &self,
        control: &SchedControl,
        seen: Option<Seen>,
        settings: Settings,
    ) -> Result<()> {
        let Settings { priority, slice, budget, period } = settings;
        let rdx = Seen::join(priority.into(), seen);
        let (rdi, rsi, r8, r9, r10) = (control.arg(), self.arg(), slice, budget, period);
        syscall(Args { rdi, rsi, rdx, r8, r9, r10, ..Args::new(Op::SchedConfigure) }).done()
    }

    pub fn bind(&self, task: &Task) -> Result<()> {
        invoke(Op::SchedBind, self.arg(), task.arg(), 0, 0)
    }

    pub fn info(&self) -> Result<SchedInfo> {
        let a = syscall(Args::plain(Op::SchedInfo, self.arg(), 0, 0, 0)).check()?;
        let (priority, period) = priority_and_period(a.rsi);
        Ok(SchedInfo { used: a.rdi, priority, slice: a.rdx, budget: a.r8, period })
    }
}

impl Notification {
    pub fn notify(&self, bits: u64) -> Result<()> {
        invoke(Op::Notify, self.arg(), bits, 0, 0)
    }

    /// Waits for bits of the Notification, and takes them.
    pub fn wait(&self) -> Result<u64> {
        Ok(syscall(Args::plain(Op::Wait, self.arg(), 0, 0, 0)).check()?.rdx)
    }

    /// Waits for bits of the Notification until a deadline in TSC ticks, and takes them.
    pub fn wait_until(&self, deadline: u64) -> Result<u64> {
        let mut args = Args::plain(Op::Wait, self.arg(), deadline, 0, 0);
        args.info = args.info.flag(abi::FLAG_DEADLINE);
        Ok(syscall(args).check()?.rdx)
    }

    /// Waits until a time in TSC ticks. Bits that come meanwhile are lost.
    pub fn sleep_until(&self, time: u64) -> Result<()> {
        loop {
            match self.wait_until(time) {
                Ok(_) => {}
                Err(refusal) if refusal.error == Error::Timeout => return Ok(()),
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// Takes the bits of the Notification that are set, without waiting.
    pub fn poll(&self) -> Result<u64> {
        let mut args = Args::plain(Op::Wait, self.arg(), 0, 0, 0);
        args.info = args.info.flag(abi::FLAG_NONBLOCK);
        Ok(syscall(args).check()?.rdx)
    }

    /// Binds the Notification to a task, whose receive operations then return its bits.
    pub fn bind(&self, task: &Task) -> Result<()> {
        invoke(Op::NotificationBind, self.arg(), task.arg(), 0, 0)
    }
}

impl VSpace {
    /// Maps all pages of a frame, from `address` on.
    pub fn map(&self, frame: &Frame, address: u64, access: Access) -> Result<()> {
        self.map_pages(frame, address, access, Pages::ALL)
    }

    pub fn map_pages(&self, frame: &Frame, address: u64, access: Access, pages: Pages) -> Result<()> {
        self.on_pages(Op::Map, frame.arg(), address, access.bits(), pages)
    }

    /// Unmaps all pages of a frame, from `address` on. Afterwards no CPU has translations of them.
    pub fn unmap(&self, frame: &Frame, address: u64) -> Result<()> {
        self.unmap_pages(frame, address, Pages::ALL)
    }

    pub fn unmap_pages(&self, frame: &Frame, address: u64, pages: Pages) -> Result<()> {
        self.on_pages(Op::Unmap, frame.arg(), address, 0, pages)
    }

    /// Changes the access of all pages of a frame that are mapped from `address` on.
    pub fn protect(&self, frame: &Frame, address: u64, access: Access) -> Result<()> {
        self.protect_pages(frame, address, access, Pages::ALL)
    }

    pub fn protect_pages(&self, frame: &Frame, address: u64, access: Access, pages: Pages) -> Result<()> {
        self.on_pages(Op::Protect, frame.arg(), address, access.bits(), pages)
    }

    /// Returns two bit sets for these pages, 64 at most: which were used since the last call, as
    /// far as is known, and which were written since they were mapped.
    pub fn accessed(&self, frame: &Frame, address: u64, pages: Pages) -> Result<(u64, u64)> {
        let answer = self.ask_pages(Op::Accessed, frame.arg(), address, 0, pages)?;
        Ok((answer.rdi, answer.rsi))
    }

    pub(crate) fn on_pages(&self, op: Op, frame: u64, address: u64, how: u64, pages: Pages) -> Result<()> {
        self.ask_pages(op, frame, address, how, pages).map(|_| ())
    }

    fn ask_pages(&self, op: Op, frame: u64, address: u64, how: u64, pages: Pages) -> Result<Answer> {
        let mut args = Args::plain(op, self.arg(), frame, address, how);
        args.r9 = pages.first;
        args.r10 = pages.count;
        syscall(args).check()
    }
}

/// Some pages of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pages {
    pub first: u64,
    /// 0: all from there on.
    pub count: u64,
}

impl Pages {
    pub const ALL: Pages = Pages { first: 0, count: 0 };
}

/// Where a record goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// The log channel of the capability's badge.
    Log,
    /// Report lines.
    Report,
}

impl Channel {
    const fn number(self) -> u64 {
        match self {
            Channel::Log => 0,
            Channel::Report => 0x80,
        }
    }
}

impl Frame {
    /// Pins the frame for a device, so that its memory stays the frame's. Returns its physical
    /// address. `machine` needs the right DMA.
    pub fn pin(&self, machine: &Machine) -> Result<u64> {
        Ok(syscall(Args::plain(Op::FramePin, self.arg(), machine.arg(), 0, 0)).check()?.rdi)
    }

    /// Removes one pin of the frame. Returns how many pins are left. `machine` needs the right DMA.
    pub fn unpin(&self, machine: &Machine) -> Result<u64> {
        Ok(syscall(Args::plain(Op::FrameUnpin, self.arg(), machine.arg(), 0, 0)).check()?.rsi)
    }
}

impl Machine {
    /// Makes a frame of device memory at the physical address `at`, with its capability in `to`.
    /// `size` is as in [`Untyped::retype`] for frames; `how` it is mapped:
    /// [`device_memory`](abi::devices::device_memory).
    pub fn device_frame(&self, memory: &Untyped, at: u64, size: u64, how: u64, to: Place) -> Result<()> {
        let args = Args::plain(Op::DeviceFrame, self.arg(), memory.arg(), to.0.0, at);
        syscall(Args { r9: size, r10: how, ..args }).done()
    }

    /// Sends the first `bytes` of the UTCB's bulk area to a channel, as one record.
    pub fn log(&self, bytes: usize, channel: Channel) -> Result<()> {
        invoke(Op::MachineLog, self.arg(), bytes as u64, channel.number(), 0)
    }

    /// Ends the machine. Returns only if that is refused.
    pub fn exit(&self, pass: bool) -> Result<()> {
        invoke(Op::MachineExit, self.arg(), u64::from(!pass), 0, 0)
    }

    pub fn counter(&self, cpu: u32, counter: Counter) -> Result<u64> {
        let rdi = abi::Target::new(self.cap(), cpu).0;
        Ok(syscall(Args::plain(Op::MachineCounter, rdi, counter as u64, 0, 0)).check()?.rdi)
    }

    /// Writes an event into the trace of this CPU. The program decides what the two words mean.
    /// Kernels without a trace refuse it.
    pub fn trace(&self, first: u64, second: u64) -> Result<()> {
        invoke(Op::MachineTrace, self.arg(), first, second, 0)
    }
}

/// Returns the caller's own id and home CPU.
pub fn who_am_i() -> Result<(TaskId, u32)> {
    let a = syscall(Args::new(Op::WhoAmI)).check()?;
    Ok((TaskId::from_raw(a.rdi), a.rsi as u32))
}

/// Lets other tasks of the same priority run.
pub fn yield_now() -> Result<()> {
    syscall(Args::new(Op::Yield)).done()
}

/// Yields if the kernel has given notice that it is about to preempt this task, which
/// [wants to be told](crate::utcb::Current::want_notice). Returns whether it did. Otherwise this
/// costs a load. Called often, at places where the task has little to lose, such as the end of a
/// turn of a loop. Elsewhere a task is preempted in the middle of what it does, and all its
/// registers are saved.
#[inline(always)]
pub fn yield_if_asked() -> bool {
    let utcb = crate::utcb::current();
    let is_asked = utcb.preempt_pending().is_some();
    if is_asked {
        utcb.heed_notice();
        // It fails in no case.
        let _ = yield_now();
    }
    is_asked
}

/// Returns a register set that starts at `rip` with `rsp` and interrupts on. All other registers
/// are zero.
pub const fn start_regs(rip: u64, rsp: u64) -> [u64; REG_COUNT] {
    let mut regs = [0; REG_COUNT];
    regs[RegIndex::Rip as usize] = rip;
    regs[RegIndex::Rsp as usize] = rsp;
    // Interrupts on; the kernel forces what else it wants.
    regs[RegIndex::Rflags as usize] = 0x202;
    regs
}
