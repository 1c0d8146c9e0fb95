//! Chooses a step's system call: mostly a valid one, with capabilities that the task has; sometimes
//! one with any slot and any numbers.

mod devices;

use abi::audit::LABELS;
use abi::events::PoolSize;
use abi::membership::{SEEN_AS_ADDER, watch};
use abi::time::WHOLE_CPU;
use abi::{BUDGET_MIN, Cap, FLAG_DEADLINE, FLAG_NONBLOCK, MEMBER_RIGHTS, MsgInfo, ObjType, Op};
use abi::{PERIOD_MAX, Rights, Target};
use model::growth::Reach;
use model::object::{Mapping, State};
use model::tasks::ENDLESS;
use model::{Args, Id, Model, Place};

use super::cast::{OWN, POOL_SIZE, POOLS, PRIORITY, SLOTS, some_of};
use super::pair::{Outcome, Pair};
use crate::world::dice::Dice;
use crate::world::make::at;

/// How often which operation.
const OPERATIONS: &[(usize, Op)] = &[
    (24, Op::Call),
    (4, Op::ReplyRecv),
    (9, Op::Recv),
    (4, Op::Reply),
    (1, Op::Forward),
    (1, Op::SaveReply),
    (5, Op::Notify),
    (4, Op::Wait),
    (2, Op::YieldTo),
    (9, Op::Retype),
    (9, Op::CapCopy),
    (3, Op::CapMove),
    (3, Op::CapDelete),
    (1, Op::CapRevoke),
    (3, Op::CapInspect),
    (2, Op::CapVerify),
    (1, Op::CapList),
    (1, Op::UntypedReset),
    (4, Op::GroupAdd),
    (2, Op::GroupRemove),
    (1, Op::GroupMember),
    (6, Op::Expose),
    (3, Op::Withdraw),
    (2, Op::PoolBind),
    (1, Op::PoolRoom),
    (5, Op::Send),
    (10, Op::Broadcast),
    (2, Op::ProcessConfigure),
    (4, Op::ProcessAccept),
    (3, Op::CSpaceGrow),
    (5, Op::TaskConfigure),
    (1, Op::TaskWriteRegs),
    (1, Op::TaskReadRegs),
    (4, Op::TaskResume),
    (2, Op::TaskSuspend),
    (1, Op::TaskKill),
    (1, Op::ProcessKill),
    (2, Op::TaskCancel),
    (4, Op::SchedConfigure),
    (1, Op::SchedAllow),
    (3, Op::TaskMove),
    (1, Op::CpuWatch),
    (1, Op::SchedWatch),
    (1, Op::CpuPark),
    (1, Op::CpuInfo),
    (2, Op::SchedBind),
    (1, Op::IrqAllow),
    (2, Op::IrqBind),
    (1, Op::IrqAck),
    (1, Op::PortAllow),
    (1, Op::PortRead),
    (1, Op::PortWrite),
    (1, Op::SchedInfo),
    (2, Op::NotificationBind),
    (4, Op::Map),
    (2, Op::Unmap),
    (2, Op::Protect),
    (1, Op::FramePin),
    (1, Op::FrameUnpin),
    (1, Op::TaskDebug),
    (1, Op::FaultHandler),
    (1, Op::SetBases),
    (1, Op::WhoAmI),
    (1, Op::Null),
    (1, Op::Yield),
    (2, Op::LabelSet),
    (3, Op::LabelRule),
    (12, Op::LockWait),
    (2, Op::LockPass),
    (1, Op::MachineLog),
    (1, Op::MachineCounter),
    (1, Op::MachineTrace),
    (1, Op::MachineDump),
    (1, Op::MachineAttempt),
];

/// What one that serves a call mostly does.
const SERVING: &[Op] =
    &[Op::Reply, Op::ReplyRecv, Op::Forward, Op::Forward, Op::SaveReply, Op::SaveReply, Op::Recv];

/// What is made, and how large.
const KINDS: &[(ObjType, u64)] = &[
    (ObjType::Notification, 0),
    (ObjType::Reply, 0),
    (ObjType::SchedContext, 0),
    (ObjType::SchedControl, 0),
    (ObjType::IrqHandler, 0),
    (ObjType::IoPort, 0),
    (ObjType::Frame, 12),
    (ObjType::Frame, 12 | 2 << 8),
    (ObjType::CNode, 4),
    (ObjType::CNode, 9),
    (ObjType::Untyped, 12),
    (ObjType::Untyped, 13),
    (ObjType::Group, 2 | 3 << 16),
    (ObjType::Group, 1 | 1 << 16),
    (ObjType::Task, 0),
    (ObjType::Task, 0),
    (ObjType::Process, 2),
    (ObjType::VSpace, 1),
    (ObjType::Frame, 21),
    (ObjType::Machine, 0),
    (ObjType::Untyped, 11),
    (ObjType::Reply, 1),
    (ObjType::EventPool, POOL_SIZE),
];

/// Where pages and UTCBs go, or may not go.
const PAGES: &[u64] =
    &[0x6000_0000, 0x6000_1000, 0x6000_2000, 0x6020_0000, 0x5000_0000, 0x6000_0800, 0, abi::USER_TOP];

/// Budgets and periods, some of which are refused.
const BUDGETS: [[u64; 2]; 9] = [
    [0, 0],
    [0, 0],
    [0, BUDGET_MIN],
    [BUDGET_MIN - 1, PERIOD_MAX],
    [PERIOD_MAX, PERIOD_MAX],
    [PERIOD_MAX / 2, PERIOD_MAX],
    [PERIOD_MAX / 4, PERIOD_MAX],
    [PERIOD_MAX / 8, PERIOD_MAX / 2],
    [PERIOD_MAX, PERIOD_MAX + 1],
];

/// A value that is rarely right.
const WILD: &[u64] = &[0, 1, 7, 0xff, 0x1_0000, 1 << 32, 3 << 32, 5 << 32 | 1, 99 << 32, 1 << 47, u64::MAX];

/// Somebody about to make a system call.
pub struct Pick<'a> {
    pub pair: &'a Pair,
    pub me: Id,
    pub dice: Dice,
}

impl Pair {
    /// One step.
    pub fn play(&mut self, step: u64) -> Outcome {
        let mut dice = Dice::new(step);
        if dice.once_in(40) {
            return if self.is_end_of_waits_clear() { self.pass_time() } else { Ok(()) };
        }
        if dice.once_in(30) {
            return self.read_pools(&mut dice);
        }
        if dice.once_in(10) {
            self.write_lock(&mut dice);
            return Ok(());
        }
        let able: Vec<Id> = self
            .tasks
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| self.model.acts(*id) && self.is_equal(*id))
            .collect();
        if able.is_empty() || dice.once_in(12) {
            let n = dice.below(self.world.cpus());
            let (op, args) = self.order(&mut dice);
            if !self.is_clear(self.agents[n], op, &args) {
                return Ok(());
            }
            return self.agent(n, op, &args).map(drop);
        }
        let me = dice.of(&able);
        let mut pick = Pick { pair: self, me, dice };
        let (op, args) = pick.operation();
        let is_torn = op == Op::LockWait && pick.dice.once_in(4);
        if !self.is_clear(me, op, &args) {
            return Ok(());
        }
        let freed = if is_torn { self.word_under_way(me, &args) } else { None };
        self.task_while(me, op, &args, freed)
    }

    /// What process 1 does to the others.
    fn order(&self, dice: &mut Dice) -> (Op, Args) {
        let cap = dice.of(&self.made);
        let place = at(cap);
        let task = self.tasks.get(dice.below(self.tasks.len())).map_or(cap, |(id, _)| self.slot_of(*id));
        let (op, args) = match dice.below(24) {
            0 => (Op::CapDelete, [place, 0, 0]),
            1 => (Op::CapRevoke, [place, 0, 0]),
            2 if dice.once_in(3) => (Op::ProcessKill, [cap.arg(), 0, 0]),
            2 => (Op::TaskKill, [task.arg(), 0, 0]),
            3..5 => (Op::TaskSuspend, [task.arg(), 0, 0]),
            5..10 => (Op::TaskResume, [task.arg(), 0, 0]),
            10..21 => (Op::TaskCancel, [task.arg(), 0, 0]),
            21..23 => (Op::CapInspect, [place, 0, 0]),
            _ => (Op::GroupRemove, [Target::new(cap, dice.below(4) as u32).0, 0, 0]),
        };
        (op, Args([args[0], args[1], args[2], 0, 0, 0], MsgInfo(0)))
    }

    /// Process 1's slot of an object, or one without it.
    fn slot_of(&self, object: Id) -> Cap {
        let holds = |cap: &&Cap| {
            self.model.slots.get(&Place::Slot(Id(0), cap.0)).is_some_and(|it| it.object == object)
        };
        self.made.iter().find(holds).copied().unwrap_or(self.made[0])
    }
}

impl Pick<'_> {
    fn operation(&mut self) -> (Op, Args) {
        if let Some((_, group)) = self.pair.hermit.filter(|(hermit, _)| *hermit == self.me)
            && self.dice.once_in(3)
        {
            return self.about_its_group(group);
        }
        let all: usize = OPERATIONS.iter().map(|(weight, _)| weight).sum();
        let mut left = self.dice.below(all);
        let chosen = OPERATIONS.iter().find(|(weight, _)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        let mut op = chosen.map_or(Op::Null, |(_, op)| *op);
        if self.pair.model.task(self.me).caller.is_some() && self.dice.once_in(2) {
            op = self.dice.of(SERVING);
        }
        if !self.pair.model.lock_waiters(self.me).is_empty() && self.dice.once_in(4) {
            op = Op::LockPass;
        }
        let mut args = Args(self.arguments(op), MsgInfo(0));
        let sends =
            matches!(op, Op::Call | Op::ReplyRecv | Op::Reply | Op::Forward | Op::Send | Op::Broadcast);
        if sends || matches!(op, Op::Recv | Op::Wait) {
            self.message(op, &mut args);
        }
        if op == Op::LockWait {
            self.may_give_up(&mut args);
        }
        // Pools, which Map knows by an argument, and the others by the lack of a frame, are left
        // out. Nobody has a priority as high as process 1's.
        let only_own = [Op::Map, Op::Unmap, Op::Protect, Op::TaskDebug, Op::SchedConfigure];
        if self.dice.once_in(20) && !only_own.contains(&op) {
            args.0[self.dice.below(4)] = self.dice.of(WILD);
        }
        (op, args)
    }

    /// What the hermit does to its group: mostly delete it, which is refused.
    fn about_its_group(&mut self, group: Cap) -> (Op, Args) {
        let entry = Target::new(group, self.dice.below(4) as u32).0;
        let (op, args) = match self.dice.below(8) {
            0..4 => (Op::CapDelete, [Target::new(OWN, group.0).0, 0]),
            4 => (Op::Withdraw, [entry, 0]),
            _ => {
                let kind = self.dice.of(&[ObjType::Task, ObjType::Notification]);
                (Op::Expose, [entry, self.cap(kind)])
            }
        };
        (op, Args([args[0], args[1], 0, 0, 0, 0], MsgInfo(0)))
    }

    fn message(&mut self, op: Op, args: &mut Args) {
        let mut info = 0;
        if !matches!(op, Op::Recv | Op::Wait) {
            let words = match op {
                Op::Send | Op::Broadcast => self.dice.of(&[0, 0, 0, 1, 8, 9, 64, 64, 65]),
                _ => self.dice.of(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 4, 65]),
            };
            info = MsgInfo::new(self.dice.word() as u32, words).0;
        }
        if !matches!(op, Op::Reply | Op::Forward) {
            if self.dice.once_in(5) {
                info |= FLAG_DEADLINE;
                args.0[1] = if self.dice.once_in(5) { 1 } else { self.pair.later };
            }
            if self.dice.once_in(if matches!(op, Op::Send | Op::Broadcast) { 2 } else { 8 }) {
                info |= FLAG_NONBLOCK;
            }
        }
        args.1 = MsgInfo(info);
    }

    fn arguments(&mut self, op: Op) -> [u64; 6] {
        let word = self.dice.word();
        match op {
            Op::Call | Op::Forward | Op::Send => {
                [self.target_with(Some(ObjType::Task)), 0, word, word >> 8, word >> 16, word >> 24]
            }
            Op::Broadcast => {
                let from = self.dice.of(&[0, 0, 0, 0, 1, 2, 3, 0x5_0001, u32::MAX]);
                let group = Target::new(self.cap_of(ObjType::Group), from).0;
                [group, 0, word, word >> 8, word >> 16, word >> 24]
            }
            Op::ReplyRecv => [0, 0, word, word >> 8, word >> 16, word >> 24],
            Op::Reply => {
                let kept = |model: &Model, it| model.reply_object(it).caller.is_some();
                let to = if self.dice.once_in(2) { 0 } else { self.cap_where(ObjType::Reply, kept) };
                [to, 0, word, word >> 8, word >> 16, word >> 24]
            }
            Op::Notify if self.dice.once_in(3) => {
                [self.target_with(Some(ObjType::Notification)), 1 << (word % 8), 0, 0, 0, 0]
            }
            Op::Notify => [self.cap(ObjType::Notification), word % 9, 0, 0, 0, 0],
            Op::Wait => [self.cap(ObjType::Notification), 0, 0, 0, 0, 0],
            Op::SaveReply => {
                let empty = |model: &Model, it| model.reply_object(it).caller.is_none();
                [self.cap_where(ObjType::Reply, empty), 0, 0, 0, 0, 0]
            }
            Op::YieldTo if self.dice.once_in(2) => [self.target_with(Some(ObjType::Task)), 0, 0, 0, 0, 0],
            Op::YieldTo => [self.cap_where(ObjType::Task, |model, it| model.acts(it)), 0, 0, 0, 0, 0],
            Op::Retype => {
                let (kind, size) = self.dice.of(KINDS);
                let from = self.cap_of(ObjType::Untyped);
                let count = self.dice.of(&[1, 1, 1, 1, 2, 3, 0]);
                [Target::new(from, kind as u32).0, size, self.empty(), count, 0, 0]
            }
            Op::CapCopy => {
                let source = self.anything();
                let held = self.pair.model.find_any(self.me, Target(source).cap()).map(|it| it.rights);
                let mut rights = self.rights_to_give();
                if !self.dice.once_in(8) {
                    rights = held.map_or(rights, |held| rights.and(held));
                }
                let badge = self.dice.of(&[0, 0, 5, 0x77, 1 << 48]);
                [source, self.empty(), u64::from(rights.0), badge, 0, 0]
            }
            Op::CapMove => [self.anything(), self.empty(), 0, 0, 0, 0],
            // With what it exposes.
            Op::CapDelete if self.dice.once_in(5) => {
                [Target::new(OWN, self.cap_of(ObjType::Group).0).0, 0, 0, 0, 0, 0]
            }
            Op::CapDelete | Op::CapRevoke | Op::CapInspect => [self.full(), 0, 0, 0, 0, 0],
            Op::CapVerify => {
                let configured = |model: &Model, it| model.process(it).cnode.is_some();
                let rights = self.rights_to_give().and(self.rights_to_give());
                let process = self.cap_where(ObjType::Process, configured);
                [process, self.anything(), u64::from(rights.0), self.dice.of(&[0, 0, 0, 7, 99]), 0, 0]
            }
            Op::CapList => {
                let kind = self.dice.of(&[ObjType::CNode, ObjType::Process]);
                let table = self.cap_of(kind);
                [Target::new(table, self.dice.of(&[0, 0, 5, 99])).0, 0, 0, 0, 0, 0]
            }
            Op::UntypedReset => {
                let (untyped, machine) = (self.cap(ObjType::Untyped), self.cap(ObjType::Machine));
                [untyped, self.dice.of(&[0, 0, 1, 2]), 0, machine, 0, 0]
            }
            _ => self.arguments_of_groups(op),
        }
    }

    fn arguments_of_groups(&mut self, op: Op) -> [u64; 6] {
        let group = self.cap_of(ObjType::Group);
        match op {
            Op::GroupAdd => {
                // Mostly rights and custom bits that the caller may pass on, to a process that has
                // offered a slot to this group or to the caller's process.
                let found = self.pair.model.find_any(self.me, group).ok();
                let held = found.map_or(Rights::NONE, |it| it.rights);
                let most = if self.dice.once_in(8) { MEMBER_RIGHTS } else { MEMBER_RIGHTS.and(held) };
                let rights = u64::from(some_of(&mut self.dice, most).0);
                let custom = match held.contains(Rights::DELETE) != self.dice.once_in(8) {
                    true => self.dice.of(&[0, 9, 0xffff, 0x1_0000]),
                    false => SEEN_AS_ADDER,
                };
                let own = self.pair.model.process_of(self.me);
                let willing = move |model: &Model, it| {
                    let from = model.process(it).offer.map(|offer| offer.from);
                    from.is_some_and(|from| from == own || found.is_some_and(|it| it.object == from))
                };
                [group.arg(), self.cap_where(ObjType::Process, willing), rights, custom, 0, 0]
            }
            Op::GroupRemove | Op::GroupMember => {
                [Target::new(group, self.dice.below(4) as u32).0, 0, 0, 0, 0, 0]
            }
            Op::Expose => {
                let mut kind = self.dice.of(&[ObjType::Task, ObjType::Notification]);
                let how = match self.dice.below(6) {
                    0 => 1 | (self.dice.below(8) as u64) << 32,
                    1 if self.dice.once_in(4) => 3,
                    2 => {
                        kind = ObjType::Notification;
                        watch(self.dice.of(&[0, 4, 8, 60, 61]))
                    }
                    _ => 0,
                };
                [self.target_with(None), self.cap(kind), how, 0, 0, 0]
            }
            Op::PoolBind => {
                let free = |model: &Model, it| model.event_pool(it).process.is_none();
                let without = |model: &Model, it| {
                    let process = model.process(it);
                    process.pool.is_none() && process.tasks.iter().any(Option::is_some)
                };
                let pool = self.cap_where(ObjType::EventPool, free);
                let process = self.cap_where(ObjType::Process, without);
                let of = self.pair.model.find_any(self.me, Target(process).cap()).ok().map(|it| it.object);
                let reader = self.cap_where(ObjType::Task, |model, it| model.task(it).process == of);
                let address = if self.dice.once_in(3) { self.dice.of(PAGES) } else { POOLS };
                [pool, process, reader, address, self.dice.of(&[1, 1, 1, 1, 0]), 0]
            }
            Op::PoolRoom => [self.cap(ObjType::EventPool), 0, 0, 0, 0, 0],
            Op::Withdraw => {
                let kind = self.dice.of(&[ObjType::Task, ObjType::Notification]);
                [self.target_with(Some(kind)), 0, 0, 0, 0, 0]
            }
            Op::ProcessConfigure => {
                let cnode = self.cap_where(ObjType::CNode, |model, it| model.cnode(it).process.is_none());
                let vspace = self.cap_where(ObjType::VSpace, |model, it| model.vspace(it).process.is_none());
                let spaces = [cnode, vspace];
                let process = self.cap_where(ObjType::Process, |model, it| model.process(it).cnode.is_none());
                [process, spaces[0], spaces[1], self.dice.of(&[0, 0, 0, 2]), 0, 0]
            }
            Op::CSpaceGrow => {
                let table = self.cap_where(ObjType::CNode, |model, it| model.cnode(it).process.is_none());
                [self.cap(ObjType::Process), table, 0, 0, 0, 0]
            }
            Op::ProcessAccept => {
                let slot = self.dice.of(&[0, 40, 41, 42, 43, 44, 50, 54, 99]);
                let from = self.dice.of(&[ObjType::Group, ObjType::Group, ObjType::Group, ObjType::Process]);
                [self.cap(ObjType::Process), slot, self.cap(from), 0, 0, 0]
            }
            _ => self.arguments_of_tasks(op),
        }
    }

    /// A SchedControl that allows something, mostly.
    fn control(&mut self) -> u64 {
        self.cap_where(ObjType::SchedControl, |model, it| model.sched_control(it).ceiling.is_some())
    }

    fn arguments_of_tasks(&mut self, op: Op) -> [u64; 6] {
        let task = self.cap(ObjType::Task);
        match op {
            Op::TaskConfigure => {
                let cpu = self.dice.below(self.pair.world.cpus() + 1) as u64;
                let task = self.cap_where(ObjType::Task, |model, it| model.task(it).state == State::Fresh);
                let process =
                    self.cap_where(ObjType::Process, |model, it| model.process(it).vspace.is_some());
                [self.control(), task, process, self.dice.of(PAGES), cpu, 0]
            }
            Op::TaskWriteRegs | Op::TaskReadRegs | Op::TaskResume | Op::TaskSuspend => [task, 0, 0, 0, 0, 0],
            Op::TaskKill | Op::TaskCancel | Op::TaskDebug => [task, 0, 0, 0, 0, 0],
            Op::ProcessKill => [self.cap(ObjType::Process), 0, 0, 0, 0, 0],
            Op::FaultHandler if self.dice.once_in(2) => [task, self.target(), 0, 0, 0, 0],
            Op::FaultHandler => [self.cap(ObjType::Process), 0, 0, 0, 0, 0],
            Op::SchedConfigure => {
                let (priority, slice) =
                    (self.dice.of(&[PRIORITY, 300]), self.dice.of(&[ENDLESS, ENDLESS, 0]));
                let has_room = |model: &Model, it| model.sched_control(it).account.is_some();
                let control = match self.dice.once_in(2) {
                    true => self.cap_where(ObjType::SchedControl, has_room),
                    false => self.control(),
                };
                // Without time there is no window: a budget is never used up.
                let [budget, period] = self.dice.of(&BUDGETS);
                [control, self.cap(ObjType::SchedContext), priority, slice, budget, period]
            }
            Op::SchedAllow => {
                let (by, to) = (self.control(), self.cap(ObjType::SchedControl));
                let ceiling = self.dice.of(&[PRIORITY, PRIORITY, PRIORITY + 1, 255, 256]);
                let first = self.dice.of(&[0, 0, 0, 0, 64, 960, 63, 1024]);
                let room = self.dice.of(&[0, 0, 0, WHOLE_CPU, WHOLE_CPU / 2, 1, u64::MAX]);
                [by, to, ceiling, first, self.dice.of(&[0, 1, 2, 3, u64::MAX]), room]
            }
            Op::SchedBind => {
                let time = |model: &Model, it| model.sched_context(it).owner.is_none();
                let task = self.cap_where(ObjType::Task, |model, it| model.task(it).time.is_none());
                [self.cap_where(ObjType::SchedContext, time), task, 0, 0, 0, 0]
            }
            Op::TaskMove => [self.control(), task, self.dice.below(3) as u64, 0, 0, 0],
            Op::SchedInfo => [self.cap(ObjType::SchedContext), 0, 0, 0, 0, 0],
            // Without events: the model does not say when there are some.
            Op::SchedWatch => {
                let told = |model: &Model, it| model.watch.values().any(|pool| *pool == it);
                let is_end = self.dice.once_in(2);
                let pool = if is_end { 0 } else { self.cap_where(ObjType::EventPool, told) };
                let events = self.dice.of(&[0, 0, 0, 64]);
                [self.cap(ObjType::SchedContext), pool, self.status_word(), events, 0, 0]
            }
            Op::CpuWatch => {
                let cpu = self.dice.below(3) as u32;
                let machine = Target::new(self.cap_of(ObjType::Machine), cpu).0;
                let pool = if self.dice.once_in(2) { 0 } else { self.watch_pool() };
                [machine, pool, self.status_word(), 0, 0, 0]
            }
            Op::CpuPark | Op::CpuInfo => {
                let cpu = self.dice.below(3) as u32;
                [
                    Target::new(self.cap_of(ObjType::Machine), cpu).0,
                    self.dice.of(&[0, 0, 1, 1, 2]),
                    0,
                    0,
                    0,
                    0,
                ]
            }
            Op::NotificationBind => [self.cap(ObjType::Notification), task, 0, 0, 0, 0],
            Op::SetBases => [self.dice.of(&[0, 0x1000, abi::USER_TOP]), self.dice.of(WILD), 0, 0, 0, 0],
            _ => self.arguments_of_devices(op),
        }
    }

    fn arguments_of_memory(&mut self, op: Op) -> [u64; 6] {
        let machine = self.cap_of(ObjType::Machine);
        match op {
            Op::Map | Op::Protect | Op::Unmap => {
                let access = if op == Op::Unmap { 0 } else { self.dice.of(&[0, 1, 2, 1, 2, 3, 8]) };
                if op != Op::Map
                    && self.dice.once_in(2)
                    && let Some([vspace, frame, address, number]) = self.mapped()
                {
                    return [vspace, frame, address, access, number, 1];
                }
                let (first, count) = (self.dice.below(3) as u64, self.dice.below(4) as u64);
                let (first, count) = if self.dice.once_in(2) { (0, 0) } else { (first, count) };
                let mut frame = self.cap_of(ObjType::Frame);
                if frame == Cap::NULL {
                    frame = OWN;
                }
                [self.cap(ObjType::VSpace), frame.arg(), self.dice.of(PAGES), access, first, count]
            }
            Op::FramePin => [self.cap(ObjType::Frame), machine.arg(), 0, 0, 0, 0],
            Op::FrameUnpin => [self.cap(ObjType::Frame), machine.arg(), 0, 0, 0, 0],
            Op::LabelSet => {
                let kinds =
                    [ObjType::Process, ObjType::CNode, ObjType::VSpace, ObjType::Untyped, ObjType::Frame];
                let kind = self.dice.of(&kinds);
                let object = if self.dice.once_in(4) { self.anything() } else { self.cap(kind) };
                [machine.arg(), object, self.dice.of(&[0, 1, 1, 2, 3, LABELS as u64]), 0, 0, 0]
            }
            Op::LabelRule => {
                let subject = self.dice.of(&[1, 1, 2, 3, 0, u64::from(LABELS)]);
                let object = self.dice.of(&[0, 0, 1, 2, 3, u64::from(LABELS) - 1, u64::from(LABELS)]);
                let allowed = self.dice.below(18) as u64;
                [machine.arg(), subject, object, allowed, 0, 0]
            }
            Op::MachineLog => [machine.arg(), self.dice.of(&[8, 1025]), self.dice.of(&[0, 0x80, 1]), 0, 0, 0],
            Op::MachineCounter => {
                [Target::new(machine, self.dice.below(4) as u32).0, self.dice.of(&[0, 999]), 0, 0, 0, 0]
            }
            Op::MachineAttempt => [machine.arg(), self.dice.of(&[0, 99]), 0, 0, 0, 0],
            Op::MachineTrace | Op::MachineDump => [machine.arg(), 0, 0, 0, 0, 0],
            Op::LockWait | Op::LockPass => self.arguments_of_locks(op),
            _ => [0; 6],
        }
    }

    // --- what the task has -----------------------------------------------------------------------

    fn own_cnode(&self) -> Option<Id> {
        self.pair.model.process(self.pair.model.process_of(self.me)).cnode
    }

    pub fn slots_with(&self, has: impl Fn(Option<ObjType>) -> bool) -> Vec<u32> {
        let model = &self.pair.model;
        let Some(cnode) = self.own_cnode() else { return Vec::new() };
        let what = |place: &Place| model.slots.get(place).map(|it| model.object_type(it.object));
        let places = model.places_in(Reach::cspace(cnode)).into_iter().filter(|(_, place)| has(what(place)));
        places.map(|(n, _)| n).collect()
    }

    /// Mostly a pool that has a process.
    fn watch_pool(&mut self) -> u64 {
        self.cap_where(ObjType::EventPool, |model, it| model.event_pool(it).process.is_some())
    }

    fn status_word(&mut self) -> u64 {
        let words = PoolSize::from_raw(POOL_SIZE).map_or(0, PoolSize::status_words) as u64;
        self.dice.of(&[0, 1, words - 1, words - 1, words])
    }

    /// A capability of a type, if it has one; sometimes any slot.
    pub fn cap_of(&mut self, what: ObjType) -> Cap {
        let slots = self.slots_with(|it| it == Some(what));
        if slots.is_empty() || self.dice.once_in(16) {
            return Cap(self.dice.below(SLOTS as usize + 8) as u32);
        }
        Cap(self.dice.of(&slots))
    }

    fn cap(&mut self, what: ObjType) -> u64 {
        self.cap_of(what).arg()
    }

    /// Mostly one of an object that is as it should be.
    fn cap_where(&mut self, what: ObjType, fits: impl Fn(&Model, Id) -> bool) -> u64 {
        let model = &self.pair.model;
        let object = |n: &u32| {
            let found = model.find_any(self.me, Cap(*n)).ok().map(|found| found.object);
            found.is_some_and(|object| fits(model, object))
        };
        let slots: Vec<u32> = self.slots_with(|it| it == Some(what)).into_iter().filter(object).collect();
        if slots.is_empty() || self.dice.once_in(4) {
            return self.cap(what);
        }
        Cap(self.dice.of(&slots)).arg()
    }

    /// A page that is mapped: space, frame, address, which page of the frame.
    fn mapped(&mut self) -> Option<[u64; 4]> {
        let model = &self.pair.model;
        let has = |what| {
            let caps = self.slots_with(|it| it == Some(what)).into_iter().map(Cap);
            caps.filter_map(|cap| Some((cap, model.find_any(self.me, cap).ok()?.object)))
        };
        let mut found = Vec::new();
        for (space, object) in has(ObjType::VSpace) {
            for (address, page) in &model.vspace(object).pages {
                let Mapping::Page { frame, number, .. } = *page else { continue };
                let frames = has(ObjType::Frame).filter(|(_, object)| *object == frame);
                found.extend(frames.map(|(cap, _)| [space.arg(), cap.arg(), *address, number]));
            }
        }
        (!found.is_empty()).then(|| self.dice.of(&found))
    }

    /// Mostly an index of a group where something of a type is exposed, or nothing.
    fn target_with(&mut self, what: Option<ObjType>) -> u64 {
        let model = &self.pair.model;
        let home = model.task(self.me).home;
        let mut found = Vec::new();
        for cap in self.slots_with(|it| it == Some(ObjType::Group)).into_iter().map(Cap) {
            let Ok(group) = model.find_any(self.me, cap) else { continue };
            if what.is_some() && model.find_group(self.me, cap, Rights::SEND).is_err() {
                continue;
            }
            for index in 0..model.group(group.object).exposures.len() as u32 {
                let exposed = model.exposed(group.object, index, home).filter(|it| *it != self.me);
                let same = exposed.map(|it| model.object_type(it)) == what;
                found.extend(same.then(|| Target::new(cap, index).0));
            }
        }
        if found.is_empty() || self.dice.once_in(5) { self.target() } else { self.dice.of(&found) }
    }

    fn anything(&mut self) -> u64 {
        let slots = self.slots_with(|it| it.is_some());
        Cap(if slots.is_empty() { 3 } else { self.dice.of(&slots) }).arg()
    }

    fn target(&mut self) -> u64 {
        let index = if self.dice.once_in(16) { 99 } else { self.dice.below(8) as u32 };
        Target::new(self.cap_of(ObjType::Group), index).0
    }

    /// A table, and a slot of it that is empty or full.
    fn place(&mut self, full: bool) -> u64 {
        let cnode = if self.dice.once_in(3) { self.cap_of(ObjType::CNode) } else { OWN };
        let of = self.pair.model.find_any(self.me, cnode).ok().map(|it| it.object);
        let model = &self.pair.model;
        let Some(of) = of.filter(|id| model.object_type(*id) == ObjType::CNode) else {
            return Target::new(cnode, 1 + self.dice.below(8) as u32).0;
        };
        let places = model.places_in(Reach::cspace(of)).into_iter();
        let slots: Vec<u32> =
            places.filter(|it| model.slots.contains_key(&it.1) == full).map(|it| it.0).collect();
        let count = model.slots_in(Reach::cspace(of)) as usize;
        if slots.is_empty() || self.dice.once_in(12) {
            return Target::new(cnode, self.dice.below(count + 1) as u32).0;
        }
        Target::new(cnode, self.dice.of(&slots)).0
    }

    fn empty(&mut self) -> u64 {
        self.place(false)
    }

    fn full(&mut self) -> u64 {
        self.place(true)
    }

    fn rights_to_give(&mut self) -> Rights {
        // Without GRANT there are no copies of the copy.
        let rights = some_of(&mut self.dice, Rights::ALL);
        if self.dice.once_in(4) { rights } else { rights | Rights::GRANT }
    }
}
