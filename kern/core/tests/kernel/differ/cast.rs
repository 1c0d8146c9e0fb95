//! The initial state of a sequence: two processes with tasks on some CPUs, groups in which they
//! meet, and capabilities of these objects, some with fewer rights. Process 1 makes it by system
//! calls, which are also made on the model.

use abi::events::{CELLS_LOG2_MIN, PoolSize};
use abi::time::WHOLE_CPU;
use abi::{Cap, FLAG_NONBLOCK, MEMBER_RIGHTS, ObjType, Op, Rights, Target};
use model::tasks::ENDLESS;
use model::{Id, Place};

use super::pair::{Outcome, Pair};
use crate::world::dice::Dice;
use crate::world::make::{CONTROL, at};

/// Slots that every process begins with.
pub const OWN: Cap = Cap(1);
pub const MEMORY: Cap = Cap(2);
/// Slots of a process's CSpace.
pub const SLOTS: u32 = 48;
/// Tasks that a process can have.
const TASKS: u64 = 8;
/// The priority of all.
pub const PRIORITY: u64 = 10;
const EXPOSURES: u64 = 16;
/// Member records of a group, more than an entry of a broadcast looks at with small limits.
const MEMBERS: u64 = 5;
/// The slot in which every process has the first group.
const FIRST_GROUP: Cap = Cap(3);
/// Clients that all call one server, and the number of the first.
const CROWD: u64 = 4;
const FIRST_OF_CROWD: u64 = 6;
/// Tasks that can wait for one another's locks besides, so that a chain of waits is longer than
/// small limits allow; the number of the first, and where that is exposed.
const LINE: u64 = 6;
const FIRST_OF_LINE: u64 = 10;
const EXPOSED_LINE: u64 = 5;
const UTCBS: u64 = 0x5000_0000;
/// Where pools are, and how large.
pub const POOLS: u64 = 0x5800_0000;
pub const POOL_SIZE: u64 = PoolSize { cells_log2: CELLS_LOG2_MIN, status_pages: 1 }.raw();

/// What process 1 has of a process.
#[derive(Clone, Copy)]
struct Made {
    process: Cap,
    cnode: Cap,
    vspace: Cap,
    /// The next slot that is empty.
    next: u32,
}

impl Pair {
    /// Makes an object in a new slot of process 1.
    fn make(&mut self, n: usize, what: ObjType, size: u64) -> Outcome<Cap> {
        let slot = self.world.slot();
        let from = Target::new(self.playground, what as u32).0;
        self.must(n, Op::Retype, [from, size, at(slot), 1, 0, 0])?;
        self.made.push(slot);
        Ok(slot)
    }

    pub fn set_up(&mut self, dice: &mut Dice) -> Outcome {
        let mut processes = Vec::new();
        for _ in 0..2 {
            processes.push(self.make_process()?);
        }
        let groups = [self.make_group()?, self.make_group()?];
        let mut shared = vec![abi::INIT_MACHINE, abi::INIT_SCHED_CONTROL, groups[0]];
        let mut tasks = Vec::new();
        for index in 0..3 + dice.below(3) as u64 {
            let of = processes[if index < 2 { index as usize } else { dice.below(2) }];
            let task = self.make_task(of, index, dice)?;
            tasks.push(task);
        }
        shared.extend(&tasks);
        for _ in 0..2 {
            let n = dice.below(self.world.cpus());
            shared.push(self.make(n, ObjType::Reply, 0)?);
            shared.push(self.make(n, ObjType::Notification, 0)?);
        }
        let spare = self.make(0, ObjType::SchedContext, 0)?;
        self.must(0, Op::SchedConfigure, [CONTROL, spare.arg(), PRIORITY, ENDLESS, 0, 0])?;
        let frame = self.make(0, ObjType::Frame, 12 | 2 << 8)?;
        let control = self.make(0, ObjType::SchedControl, 0)?;
        if dice.once_in(2) {
            let room = dice.of(&[0, WHOLE_CPU, WHOLE_CPU / 2]);
            let args = [CONTROL, control.arg(), dice.of(&[PRIORITY, 255]), 0, dice.of(&[1, 2, 3]), room];
            self.must(0, Op::SchedAllow, args)?;
        }
        let inert = self.make(0, ObjType::SchedContext, 0)?;
        let (irq, ports) = (self.make(0, ObjType::IrqHandler, 0)?, self.make(0, ObjType::IoPort, 0)?);
        if dice.once_in(2) {
            self.must(0, Op::IrqAllow, [abi::INIT_MACHINE.arg(), irq.arg(), 1, 0, 0, 0])?;
        }
        shared.extend([spare, inert, frame, control, irq, ports]);
        // What one of them can make a process of.
        for (what, size) in
            [(ObjType::CNode, 9), (ObjType::VSpace, 4), (ObjType::Process, 2), (ObjType::Task, 0)]
        {
            shared.push(self.make(0, what, size)?);
        }
        for (process, task) in processes.iter().zip(&tasks) {
            let pool = self.make(0, ObjType::EventPool, POOL_SIZE)?;
            if !dice.once_in(4) {
                self.bind(pool, *process, *task)?;
            }
            shared.push(pool);
        }
        if dice.once_in(2) {
            self.make_ear(&groups, dice)?;
        }
        shared.extend(processes.iter().flat_map(|it| [it.process, it.cnode, it.vspace]));
        for mut process in processes.clone() {
            self.furnish(&mut process, &groups, &shared, dice)?;
            if self.hermit.is_none() && self.tasks.len() < 5 && dice.once_in(4) {
                self.seclude(&mut process, dice)?;
            }
        }
        // One whose member record is behind those of the others.
        if dice.once_in(8) {
            self.make_ear(&groups, dice)?;
        }
        self.read_pools(dice)?;
        for (index, task) in tasks.iter().enumerate() {
            self.expose(groups[0], index as u64, *task, dice)?;
        }
        for task in tasks {
            if !dice.once_in(10) {
                self.must(0, Op::TaskResume, [task.arg(), 0, 0, 0, 0, 0])?;
            }
        }
        if dice.once_in(6) {
            self.gather(&processes, dice)?;
        } else if dice.once_in(12) {
            self.line_up(&processes, groups[0], dice)?;
        }
        if dice.once_in(4) {
            self.contend(groups[0], FIRST_GROUP, dice)?;
        }
        if dice.once_in(3) {
            self.confine(dice)?;
        }
        Ok(())
    }

    /// Several clients call the first task, which keeps some of the calls: more of each than one
    /// entry ends with small limits.
    fn gather(&mut self, processes: &[Made], dice: &mut Dice) -> Outcome {
        let server = self.tasks[0].0;
        let keeps = dice.below(3);
        for index in 0..CROWD {
            let task = self.make_task(processes[index as usize % 2], FIRST_OF_CROWD + index, dice)?;
            let client = self.tasks[self.tasks.len() - 1].0;
            self.must(0, Op::TaskResume, [task.arg(), 0, 0, 0, 0, 0])?;
            self.does(client, Op::Call, Target::new(FIRST_GROUP, 0).0)?;
        }
        let cnode = self.model.process(self.model.process_of(server)).cnode;
        let replies = (0..SLOTS).filter(|slot| {
            let place = cnode.map(|cnode| Place::Slot(cnode, *slot));
            let it = place.and_then(|place| self.model.slots.get(&place));
            it.is_some_and(|it| self.model.object_type(it.object) == ObjType::Reply)
        });
        for reply in replies.take(keeps).collect::<Vec<_>>() {
            self.does(server, Op::Recv, 0)?;
            self.does(server, Op::SaveReply, Cap(reply).arg())?;
        }
        Ok(())
    }

    /// More tasks are exposed in a group.
    fn line_up(&mut self, processes: &[Made], group: Cap, dice: &mut Dice) -> Outcome {
        for number in 0..LINE {
            let task = self.make_task(processes[number as usize % 2], FIRST_OF_LINE + number, dice)?;
            let target = Target::new(group, (EXPOSED_LINE + number) as u32).0;
            self.must(0, Op::Expose, [target, task.arg(), 0, 0, 0, 0])?;
            self.must(0, Op::TaskResume, [task.arg(), 0, 0, 0, 0, 0])?;
        }
        Ok(())
    }

    fn does(&mut self, me: Id, op: Op, first: u64) -> Outcome {
        let info = if op == Op::Recv { FLAG_NONBLOCK } else { 0 };
        self.may_do(me, op, &model::Args([first, 0, 0, 0, 0, 0], abi::MsgInfo(info)))
    }

    /// A task makes a system call, if it can, whatever it is answered.
    pub fn may_do(&mut self, me: Id, op: Op, args: &model::Args) -> Outcome {
        if self.model.acts(me) { self.task(me, op, args) } else { Ok(()) }
    }

    /// A task that deletes itself, if anything, with the group that exposes it.
    fn seclude(&mut self, of: &mut Made, dice: &mut Dice) -> Outcome {
        let group = self.make(0, ObjType::Group, 2 | 4 << 16)?;
        let task = self.make_task(*of, 5, dice)?;
        self.must(0, Op::Expose, [Target::new(group, 2).0, task.arg(), 0, 0, 0, 0])?;
        self.must(0, Op::TaskResume, [task.arg(), 0, 0, 0, 0, 0])?;
        self.must(0, Op::CapMove, [group.arg(), Target::new(of.cnode, of.next).0, 0, 0, 0, 0])?;
        self.must(0, Op::CapDelete, [at(task), 0, 0, 0, 0, 0])?;
        self.hermit = self.tasks.last().map(|(id, _)| (*id, Cap(of.next)));
        of.next += 1;
        Ok(())
    }

    fn bind(&mut self, pool: Cap, of: Made, reader: Cap) -> Outcome {
        self.must(0, Op::PoolBind, [pool.arg(), of.process.arg(), reader.arg(), POOLS, 1 << 20, 0])
    }

    /// A process that does nothing but listen.
    fn make_ear(&mut self, groups: &[Cap], dice: &mut Dice) -> Outcome {
        let process = self.make_process()?;
        let reader = self.make_task(process, 0, dice)?;
        let pool = self.make(0, ObjType::EventPool, POOL_SIZE)?;
        self.bind(pool, process, reader)?;
        for (slot, group) in (1..).zip(groups) {
            self.must(0, Op::ProcessAccept, [process.process.arg(), slot, group.arg(), 0, 0, 0])?;
            let args = [group.arg(), process.process.arg(), u64::from(Rights::LISTEN.0), 0, 0, 0];
            self.must(0, Op::GroupAdd, args)?;
        }
        Ok(())
    }

    /// Labels and rules, so that much is forbidden.
    fn confine(&mut self, dice: &mut Dice) -> Outcome {
        let machine = abi::INIT_MACHINE.arg();
        for object in self.made.clone() {
            let is_there = self.model.slots.contains_key(&Place::Slot(Id(0), object.0));
            // A part of a process has the label of the process.
            let is_part =
                || self.model.process_with(self.model.slots[&Place::Slot(Id(0), object.0)].object).is_some();
            if is_there && !is_part() && dice.once_in(2) {
                self.must(0, Op::LabelSet, [machine, object.arg(), dice.below(3) as u64, 0, 0, 0])?;
            }
        }
        for (subject, object) in [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)] {
            let allowed = dice.below(16) as u64;
            self.must(0, Op::LabelRule, [machine, subject, object, allowed, 0, 0])?;
        }
        Ok(())
    }

    fn make_process(&mut self) -> Outcome<Made> {
        let cnode = self.make(0, ObjType::CNode, u64::from(SLOTS))?;
        let vspace = self.make(0, ObjType::VSpace, 5)?;
        let process = self.make(0, ObjType::Process, TASKS)?;
        self.must(0, Op::ProcessConfigure, [process.arg(), cnode.arg(), vspace.arg(), 0, 0, 0])?;
        Ok(Made { process, cnode, vspace, next: 3 })
    }

    fn make_group(&mut self) -> Outcome<Cap> {
        self.make(0, ObjType::Group, MEMBERS | EXPOSURES << 16)
    }

    fn make_task(&mut self, of: Made, index: u64, dice: &mut Dice) -> Outcome<Cap> {
        let n = dice.below(self.world.cpus()) as u64;
        let task = self.make(0, ObjType::Task, 0)?;
        let time = self.make(0, ObjType::SchedContext, 0)?;
        let utcb = UTCBS + index * abi::PAGE_SIZE;
        self.must(0, Op::TaskConfigure, [CONTROL, task.arg(), of.process.arg(), utcb, n, 0])?;
        self.must(0, Op::SchedConfigure, [CONTROL, time.arg(), PRIORITY, ENDLESS, 0, 0])?;
        self.must(0, Op::SchedBind, [time.arg(), task.arg(), 0, 0, 0, 0])?;
        Ok(task)
    }

    /// At an index; sometimes as its CPU's.
    fn expose(&mut self, group: Cap, index: u64, task: Cap, dice: &mut Dice) -> Outcome {
        let first = EXPOSURES - self.world.cpus() as u64;
        let how = if index < first && dice.once_in(4) { 1 | first << 32 } else { 0 };
        let target = Target::new(group, index as u32).0;
        let args = model::Args([target, task.arg(), how, 0, 0, 0], abi::MsgInfo(0));
        self.agent(0, Op::Expose, &args).map(drop)
    }

    fn furnish(&mut self, of: &mut Made, groups: &[Cap], shared: &[Cap], dice: &mut Dice) -> Outcome {
        let own = Target::new(of.cnode, OWN.0).0;
        self.must(0, Op::CapCopy, [of.cnode.arg(), own, u64::from(Rights::ALL.0), 0, 0, 0])?;
        let memory = self.make(0, ObjType::Untyped, 15 + dice.below(2) as u64)?;
        self.must(0, Op::CapMove, [memory.arg(), Target::new(of.cnode, MEMORY.0).0, 0, 0, 0, 0])?;
        for group in groups {
            let rights = some_of(dice, MEMBER_RIGHTS);
            self.must(0, Op::ProcessAccept, [of.process.arg(), u64::from(of.next), group.arg(), 0, 0, 0])?;
            let custom = dice.word() & 0xffff;
            let args = [group.arg(), of.process.arg(), u64::from(rights.0), custom, 0, 0];
            self.must(0, Op::GroupAdd, args)?;
            of.next += 1;
        }
        for cap in shared {
            let rights = some_of(dice, Rights::ALL);
            let badge = if dice.once_in(3) { dice.word() >> 20 & 0xffff } else { 0 };
            let to = Target::new(of.cnode, of.next).0;
            self.must(0, Op::CapCopy, [cap.arg(), to, u64::from(rights.0), badge, 0, 0])?;
            of.next += 1;
        }
        Ok(())
    }

    /// Everything ends, and all memory is back.
    pub fn end(&mut self) -> Outcome {
        self.read_pools(&mut Dice::new(0))?;
        self.audit()?;
        let args = [self.playground.arg(), 1, 0, abi::INIT_MACHINE.arg(), 0, 0];
        self.must(0, Op::UntypedReset, args)?;
        let memory = self.model.untyped(Id(4));
        if memory.free() != memory.size {
            return Err("the model has lost memory".to_owned());
        }
        self.audit()
    }
}

/// Mostly all rights, else some.
pub fn some_of(dice: &mut Dice, most: Rights) -> Rights {
    match dice.below(6) {
        0 => Rights(dice.word() as u32).and(most),
        1 => most.minus(Rights(1 << dice.below(17))),
        _ => most,
    }
}
