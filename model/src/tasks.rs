//! Processes, tasks and CPU time: configure, control, inspect.

use abi::time::with_period;
use abi::{BUDGET_MIN, Cap, Error, ObjType, PERIOD_MAX, Rights, TaskId, TaskRights, process_rights};
use abi::{machine_rights, sched_control_rights, sched_rights, task_rights};

use crate::object::{Access, CPUS_MAX, Mapping, Offer, State};
use crate::{Answer, Args, Id, Model, Refusal, Result};

/// A slice that never ends, and so no timer.
pub const ENDLESS: u64 = u64::MAX;

/// The refusal where a SchedControl does not cover a CPU.
const NOT_COVERED: Refusal = Refusal::new(Error::OverLimit, u64::MAX);

fn elsewhere(home: usize) -> Refusal {
    Refusal::new(Error::WrongCpu, home as u64)
}

impl Model {
    /// Returns the process of a live task.
    pub fn process_of(&self, task: Id) -> Id {
        self.task(task).process.expect("a task with a process")
    }

    /// Returns whether a task can make a system call: only other tasks of its CPU keep it from
    /// running. A task without CPU time of its own may run on that of its callers, living or dead;
    /// the model does not say when.
    pub fn acts(&self, task: Id) -> bool {
        let it = self.task(task);
        it.state == State::Ready && !it.suspended && it.time.is_some()
    }

    /// Records the identity that the kernel gave a new task. No task had it before.
    pub fn named(&mut self, task: Id, id: TaskId) {
        assert!(!self.ids_given.contains(&id), "{id:?} is given twice");
        self.ids_given.push(id);
        self.task_mut(task).id = id;
    }

    // --- processes -------------------------------------------------------------------------------

    pub fn process_configure(&mut self, me: Id, args: &Args) -> Result {
        let process = self.find(me, args.cap(0), ObjType::Process, process_rights::CONFIGURE)?.object;
        let cnode = self.find(me, args.cap(1), ObjType::CNode, Rights::GRANT)?.object;
        let vspace = self.find(me, args.cap(2), ObjType::VSpace, Rights::MAP)?.object;
        if args.0[3] > 1 {
            return Err(Refusal::argument(3));
        }
        self.same_label([process, cnode, vspace])?;
        if self.process(process).cnode.is_some() {
            return Err(Error::BadState.into());
        }
        if self.cnode(cnode).process.is_some() || self.vspace(vspace).process.is_some() {
            return Err(Error::InUse.into());
        }
        if [process, cnode, vspace].into_iter().any(|it| self.is_dying(it)) {
            return Err(Error::Dying.into());
        }
        self.cnode_mut(cnode).process = Some(process);
        self.vspace_mut(vspace).process = Some(process);
        let it = self.process_mut(process);
        (it.cnode, it.vspace) = (Some(cnode), Some(vspace));
        Ok(Answer::DONE)
    }

    /// Returns the process of a capability that lets the caller configure it. A process may act on
    /// itself with any capability of itself.
    pub(crate) fn find_process(&self, me: Id, cap: Cap) -> Result<Id> {
        let found = self.find(me, cap, ObjType::Process, Rights::NONE)?.object;
        if found != self.process_of(me) {
            self.find(me, cap, ObjType::Process, process_rights::CONFIGURE)?;
        }
        Ok(found)
    }

    pub fn process_accept(&mut self, me: Id, args: &Args) -> Result {
        let process = self.find_process(me, args.cap(0))?;
        let slot = u32::try_from(args.0[1]).map_err(|_| Refusal::argument(1))?;
        let mut offer = None;
        if slot != 0 {
            let from = self.offered_to(me, args.cap(2))?;
            self.slot_of(process, Cap(slot)).map_err(|_| Refusal::argument(1))?;
            offer = Some(Offer { slot: Cap(slot), from });
        }
        let before = core::mem::replace(&mut self.process_mut(process).offer, offer);
        Ok(Answer::one(before.map_or(0, |it| u64::from(it.slot.0))))
    }

    /// Returns the group, or the adding process, to which an offer is made.
    fn offered_to(&self, me: Id, cap: Cap) -> Result<Id> {
        let found = self.find_any(me, cap)?;
        match self.object_type(found.object) {
            ObjType::Process | ObjType::Group => Ok(found.object),
            other => Err(Refusal::new(Error::WrongType, other as u64)),
        }
    }

    pub fn fault_handler(&mut self, me: Id, args: &Args) -> Result {
        let found = self.find_any(me, args.cap(0))?;
        if self.object_type(found.object) == ObjType::Process {
            self.find_process(me, args.cap(0))?;
            return Ok(Answer::DONE);
        }
        let task = self.find(me, args.cap(0), ObjType::Task, task_rights::REGISTERS)?.object;
        if self.task(task).state == State::Dead { Err(Error::BadState.into()) } else { Ok(Answer::DONE) }
    }

    // --- tasks -----------------------------------------------------------------------------------

    /// Configures a task. The kernel chooses its identity: see [`Model::named`].
    pub fn task_configure(&mut self, me: Id, args: &Args) -> Result {
        let [_, _, _, utcb, cpu, _] = args.0;
        let control = self.find_control(me, args.cap(0))?;
        let task = self.find(me, args.cap(1), ObjType::Task, task_rights::REGISTERS)?.object;
        let process = self.find(me, args.cap(2), ObjType::Process, process_rights::CONFIGURE)?.object;
        self.check_cpu(control, cpu)?;
        if self.is_here(me, task).is_err() {
            if self.task(task).state != State::Fresh {
                return Err(Error::BadState.into());
            }
            if self.is_dying(task) {
                return Err(Error::Dying.into());
            }
            self.task_mut(task).home = self.task(me).home;
        }
        let vspace = self.process(process).vspace.filter(|_| self.task(task).state == State::Fresh);
        let vspace = vspace.ok_or(Error::BadState)?;
        crate::spaces::check_range(utcb, abi::UTCB_SIZE as u64, abi::PAGE_SIZE)?;
        let numbers = &self.process(process).tasks;
        let number = numbers.iter().position(Option::is_none);
        let number = number.ok_or(Refusal::new(Error::Full, numbers.len() as u64))?;
        self.check_place(cpu as usize)?;
        let label = self.adopted_label(process, task)?;
        if self.is_dying(process) || self.is_dying(task) {
            return Err(Error::Dying.into());
        }
        self.may_map_label(vspace, label, Access::Write)?;
        self.map_page(vspace, utcb, Mapping::Utcb(task), Access::Write)?;
        self.objects[task.0].label = label;
        self.process_mut(process).tasks[number] = Some(task);
        let it = self.task_mut(task);
        (it.process, it.state, it.suspended) = (Some(process), State::Ready, true);
        (it.start_on, it.utcb_address, it.born_in) = (cpu as usize, utcb, Some(process));
        Ok(Answer::Free([0; 4], 1))
    }

    /// Refuses a CPU that the machine does not have, or a SchedControl does not cover.
    pub(crate) fn check_cpu(&self, control: Id, cpu: u64) -> Result<()> {
        if cpu >= self.cpus as u64 {
            return Err(Refusal::new(Error::NoCpu, self.cpus as u64));
        }
        if self.sched_control(control).cpus.contains(cpu as usize) { Ok(()) } else { Err(NOT_COVERED) }
    }

    /// Moves a task, or tells it to move when nothing keeps it where it is ([`Model::let_leave`]).
    pub fn task_move(&mut self, me: Id, args: &Args) -> Result {
        let control = self.find_control(me, args.cap(0))?;
        let task = self.find(me, args.cap(1), ObjType::Task, task_rights::SCHEDULE)?.object;
        self.check_cpu(control, args.0[2])?;
        let (to, it) = (args.0[2] as usize, self.task(task));
        if matches!(it.state, State::Fresh | State::Dead) {
            return Err(Error::BadState.into());
        }
        if it.time.is_some_and(|time| !self.sched_context(time).cpus.contains(to)) {
            return Err(NOT_COVERED);
        }
        self.check_place(to)?;
        let is_new = it.home != it.start_on && !it.is_to_move;
        let leaves = to != it.home && self.stands_free(task);
        let it = self.task_mut(task);
        it.start_on = to;
        it.is_to_move = !(is_new || leaves) && to != it.home;
        let is_later = it.is_to_move;
        if leaves {
            self.move_to_start(task);
        }
        Ok(Answer::one(is_later.into()))
    }

    /// Returns whether nothing keeps a task where it is: it waits for no answer, and nobody waits
    /// for its.
    fn stands_free(&self, task: Id) -> bool {
        let it = self.task(task);
        let is_held = |object: &crate::Object| matches!(&object.kind, crate::Kind::Reply(it) if it.server == Some(task));
        matches!(it.state, State::Ready | State::Receiving)
            && it.caller.is_none()
            && !self.objects.iter().any(is_held)
    }

    /// Moves tasks that were told to, and that nothing keeps where they are any more.
    pub fn let_leave(&mut self) {
        let leaves = |model: &Model, id: &Id| match &model.objects[id.0].kind {
            crate::Kind::Task(it) => it.is_to_move && model.stands_free(*id),
            _ => false,
        };
        // One that leaves wakes those that wait for its locks, and they may be to move, too.
        while let Some(task) = self.ids().find(|id| leaves(self, id)) {
            self.task_mut(task).is_to_move = false;
            self.move_to_start(task);
        }
    }

    /// Returns how many tasks have a place on a CPU. One that is to move has two places.
    fn residents(&self, cpu: usize) -> u64 {
        let places = self.objects.iter().map(|object| match &object.kind {
            crate::Kind::Task(it) if it.process.is_some() => {
                u64::from(it.start_on == cpu) + u64::from(it.is_to_move && it.home == cpu)
            }
            _ => 0,
        });
        places.sum()
    }

    pub fn cpu_park(&mut self, me: Id, args: &Args) -> Result {
        self.find(me, args.cap(0), ObjType::Machine, machine_rights::SECURITY)?;
        let cpu = self.named_cpu(args)?;
        let was_parked = match args.0[1] {
            0 => self.parked.remove(&cpu),
            1 if self.residents(cpu) != 0 => return Err(Refusal::new(Error::InUse, self.residents(cpu))),
            1 => !self.parked.insert(cpu),
            _ => return Err(Refusal::argument(1)),
        };
        Ok(Answer::Values([was_parked.into(), 0, 0, 0]))
    }

    /// Tells how many tasks a CPU has. The model does not say whether it owes a sign of life.
    pub fn cpu_info(&self, me: Id, args: &Args) -> Result {
        self.find(me, args.cap(0), ObjType::Machine, machine_rights::INFO)?;
        let cpu = self.named_cpu(args)?;
        if args.0[1] > 1 {
            return Err(Refusal::argument(1));
        }
        Ok(Answer::Free([self.residents(cpu), self.parked.contains(&cpu).into(), 0, 0], 1 << 2))
    }

    /// Returns the CPU that the index of the first argument names.
    pub(crate) fn named_cpu(&self, args: &Args) -> Result<usize> {
        let cpu = args.target(0).index() as usize;
        if cpu < self.cpus { Ok(cpu) } else { Err(Refusal::new(Error::NoCpu, self.cpus as u64)) }
    }

    /// Refuses to give a task a place on a parked CPU.
    fn check_place(&self, cpu: usize) -> Result<()> {
        if self.parked.contains(&cpu) { Err(Refusal::new(Error::Parked, cpu as u64)) } else { Ok(()) }
    }

    fn is_here(&self, me: Id, task: Id) -> Result<()> {
        let home = self.task(task).home;
        if home == self.task(me).home { Ok(()) } else { Err(elsewhere(home)) }
    }

    /// Returns a suspended task of the caller's CPU.
    fn suspended(&self, me: Id, cap: Cap, need: TaskRights) -> Result<Id> {
        let task = self.find(me, cap, ObjType::Task, need)?.object;
        self.is_here(me, task)?;
        let it = self.task(task);
        if it.process.is_none() || !it.suspended {
            return Err(Error::BadState.into());
        }
        Ok(task)
    }

    /// Writes unknown registers: only the program that runs the task knows them.
    pub fn task_write_regs(&mut self, me: Id, args: &Args) -> Result {
        let task = self.suspended(me, args.cap(0), task_rights::REGISTERS)?;
        if self.task(task).state != State::Ready {
            return Err(Error::BadState.into());
        }
        self.task_mut(task).regs = crate::Regs::unknown();
        Ok(Answer::DONE)
    }

    pub fn task_read_regs(&mut self, me: Id, args: &Args) -> Result {
        self.suspended(me, args.cap(0), task_rights::REGISTERS)?;
        Ok(Answer::Free([0; 4], 1))
    }

    /// Checks the arguments. The model has no breakpoints.
    pub fn task_debug(&mut self, me: Id, args: &Args) -> Result {
        self.suspended(me, args.cap(0), task_rights::DEBUG)?;
        Ok(Answer::DONE)
    }

    /// Returns a task that a capability lets the caller control: configured, and not dead.
    pub(crate) fn controlled(&self, me: Id, args: &Args, need: TaskRights) -> Result<Id> {
        let task = self.find(me, args.cap(0), ObjType::Task, need)?.object;
        match self.task(task).state {
            State::Fresh | State::Dead => Err(Error::BadState.into()),
            _ => Ok(task),
        }
    }

    pub fn task_resume(&mut self, me: Id, args: &Args) -> Result {
        let task = self.controlled(me, args, task_rights::SUSPEND)?;
        if self.task(task).suspended {
            if !self.task(task).is_to_move {
                self.move_to_start(task);
            }
            self.task_mut(task).suspended = false;
            self.receive_what_came(task);
        }
        Ok(Answer::DONE)
    }

    /// Moves a task to its CPU, with its own objects. Tasks that wait for its locks look again.
    fn move_to_start(&mut self, task: Id) {
        let (to, bound) = (self.task(task).start_on, self.task(task).bound);
        if to != self.task(task).home {
            for waiter in self.lock_waiters(task) {
                self.looks_again(waiter);
            }
        }
        self.task_mut(task).home = to;
        if let Some(bound) = bound {
            self.notification_mut(bound).home = to;
        }
    }

    pub fn task_suspend(&mut self, me: Id, args: &Args) -> Result {
        let task = self.controlled(me, args, task_rights::SUSPEND)?;
        self.task_mut(task).suspended = true;
        Ok(Answer::DONE)
    }

    pub fn task_kill(&mut self, me: Id, args: &Args) -> Result {
        let task = self.controlled(me, args, task_rights::DESTROY)?;
        self.kill(task);
        Ok(Answer::DONE)
    }

    pub fn task_cancel(&mut self, me: Id, args: &Args) -> Result {
        let task = self.controlled(me, args, task_rights::SUSPEND)?;
        if self.task(task).state != State::Ready {
            self.fail(task, Error::Cancelled.into());
        }
        Ok(Answer::DONE)
    }

    /// Checks the arguments and that the other task can run. The model does not say which task
    /// runs.
    pub fn yield_to(&mut self, me: Id, args: &Args) -> Result {
        let found = self.find_any(me, args.cap(0))?;
        let task = match self.object_type(found.object) {
            ObjType::Task => self.find(me, args.cap(0), ObjType::Task, task_rights::SCHEDULE)?.object,
            _ => self.resolve_task(me, args.target(0), Rights::SEND)?.0,
        };
        if task == me {
            return Err(Error::SelfCall.into());
        }
        if self.acts(task) { Ok(Answer::DONE) } else { Err(Error::WouldBlock.into()) }
    }

    pub fn who_am_i(&mut self, me: Id) -> Result {
        Ok(Answer::Values([self.task(me).id.raw(), self.task(me).home as u64, 0, 0]))
    }

    pub fn set_bases(&mut self, args: &Args) -> Result {
        let high = |base: &u64| *base >= abi::USER_TOP;
        match args.0[..2].iter().position(high) {
            Some(which) => Err(Refusal::new(Error::BadAddress, which as u64)),
            None => Ok(Answer::DONE),
        }
    }

    // --- CPU time --------------------------------------------------------------------------------

    /// Returns the SchedControl by whose authority a system call is made.
    pub(crate) fn find_control(&self, me: Id, cap: Cap) -> Result<Id> {
        Ok(self.find(me, cap, ObjType::SchedControl, sched_control_rights::SCHEDULE)?.object)
    }

    fn check_ceiling(&self, control: Id, priority: u8) -> Result<()> {
        let ceiling = self.sched_control(control).ceiling.ok_or(NOT_COVERED)?;
        if priority > ceiling {
            return Err(Refusal::new(Error::OverLimit, ceiling.into()));
        }
        Ok(())
    }

    pub fn sched_allow(&mut self, me: Id, args: &Args) -> Result {
        let by = self.find_control(me, args.cap(0))?;
        let to = self.find(me, args.cap(1), ObjType::SchedControl, sched_control_rights::CONFIGURE)?.object;
        let [_, _, ceiling, first, bits, room] = args.0;
        let ceiling = u8::try_from(ceiling).map_err(|_| Refusal::argument(2))?;
        if first % 64 != 0 || first >= CPUS_MAX as u64 {
            return Err(Refusal::argument(3));
        }
        self.check_ceiling(by, ceiling)?;
        let word = first as usize / 64;
        if bits & !self.sched_control(by).cpus.0[word] != 0 {
            return Err(NOT_COVERED);
        }
        let account = self.account_for(by, to, room)?;
        let it = self.sched_control_mut(to);
        match it.ceiling {
            Some(has) if (has, it.account) != (ceiling, account) => {
                return Err(Refusal::new(Error::BadState, has.into()));
            }
            _ => (it.ceiling, it.account) = (Some(ceiling), account),
        }
        it.cpus.0[word] |= bits;
        Ok(Answer::DONE)
    }

    pub fn sched_configure(&mut self, me: Id, args: &Args) -> Result {
        let [_, _, priority, slice, budget, period] = args.0;
        let control = self.find_control(me, args.cap(0))?;
        let time = self.find(me, args.cap(1), ObjType::SchedContext, sched_rights::CONFIGURE)?.object;
        let priority = u8::try_from(priority).map_err(|_| Refusal::argument(2))?;
        if slice == 0 {
            return Err(Refusal::argument(3));
        }
        if (budget, period) != (0, 0) {
            if budget < BUDGET_MIN {
                return Err(Refusal::argument(4));
            }
            if period < budget || period > PERIOD_MAX {
                return Err(Refusal::argument(5));
            }
        }
        self.check_ceiling(control, priority)?;
        let (cpus, account) = (self.sched_control(control).cpus, self.sched_control(control).account);
        let it = self.sched_context(time);
        let is_had = it.owner.is_some() || it.left;
        if is_had && !it.cpus.is_within(&cpus) {
            return Err(NOT_COVERED);
        }
        self.pay(time, account, budget, period)?;
        let it = self.sched_context_mut(time);
        if !is_had {
            it.cpus = cpus;
        }
        (it.priority, it.slice, it.budget, it.period) = (priority, slice, budget, period);
        Ok(Answer::DONE)
    }

    pub fn sched_bind(&mut self, me: Id, args: &Args) -> Result {
        let time = self.find(me, args.cap(0), ObjType::SchedContext, sched_rights::CONFIGURE)?.object;
        let task = self.find(me, args.cap(1), ObjType::Task, task_rights::SCHEDULE)?.object;
        if self.sched_context(time).owner.is_some() {
            return Err(Error::InUse.into());
        }
        if self.sched_context(time).slice == 0 {
            return Err(Error::BadState.into());
        }
        if self.task(task).time.is_some() {
            return Err(Error::InUse.into());
        }
        if matches!(self.task(task).state, State::Fresh | State::Dead) {
            return Err(Error::BadState.into());
        }
        let (it, its) = (self.sched_context(time), self.task(task));
        if !it.cpus.contains(its.start_on) || its.is_to_move && !it.cpus.contains(its.home) {
            return Err(NOT_COVERED);
        }
        if self.is_dying(time) {
            return Err(Error::Dying.into());
        }
        self.sched_context_mut(time).owner = Some(task);
        self.task_mut(task).time = Some(time);
        // Bits may have waited for that.
        self.receive_what_came(task);
        Ok(Answer::DONE)
    }

    pub fn sched_info(&mut self, me: Id, args: &Args) -> Result {
        let time = self.find(me, args.cap(0), ObjType::SchedContext, sched_rights::OBSERVE)?.object;
        let it = self.sched_context(time);
        Ok(Answer::Free([0, with_period(it.priority, it.period), it.slice, it.budget], 1))
    }
}
