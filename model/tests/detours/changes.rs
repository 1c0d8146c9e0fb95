//! The changes of a step, and what it reported to its mover.

use std::fmt;

use abi::{Op, Rights};
use model::caps::Capability;
use model::detours::moves::Move;
use model::growth::Reach;
use model::object::{Mapping, Member, State as TaskState};
use model::{Answer, Id, Kind, Place};

use crate::rules::Step;
use crate::state::State;

/// One thing that is so after a step and was not so before it.
#[derive(Clone, Debug)]
pub enum Change {
    /// A slot has a capability.
    Given {
        place: Place,
        cap: Capability,
    },
    /// A capability is there twice: one can be given away, and the other kept.
    Doubled {
        object: Id,
    },
    /// A slot has lost its capability.
    Taken {
        place: Place,
    },
    /// An object is dying, or has ended.
    Ended {
        object: Id,
    },
    /// A task is dead.
    Killed {
        task: Id,
    },
    /// A process is a member.
    Joined {
        group: Id,
    },
    /// It is so with these rights, with these custom bits, and with a slot that it offered.
    GotRights {
        group: Id,
        member: Member,
    },
    GotCustom {
        group: Id,
        member: Member,
    },
    Consented {
        group: Id,
        process: Id,
    },
    /// It is no member any more.
    Left {
        group: Id,
        process: Id,
    },
    /// A task or Notification is exposed, in an entry that may be part of an exposure with a task
    /// per CPU.
    Exposed {
        group: Id,
        object: Id,
    },
    EntryFilled {
        group: Id,
        index: u32,
    },
    /// An exposure has a task per CPU, or watches.
    ExposedSo {
        group: Id,
    },
    /// An exposure is empty, or has no more a task per CPU.
    Withdrawn {
        group: Id,
        index: u32,
        object: Option<Id>,
    },
    /// A pool has a reader, and is a process's.
    PoolBound {
        pool: Id,
    },
    /// Interrupts of a device raise bits of a Notification.
    IrqBound {
        irq: Id,
        note: Id,
    },
    /// An IrqHandler has a line, or an IoPort its range.
    DeviceGiven {
        object: Id,
    },
    /// A page of an address space is what it was not.
    Mapped {
        space: Id,
        page: Mapping,
    },
    Unmapped {
        space: Id,
        page: Mapping,
    },
    Pinned {
        frame: Id,
    },
    Unpinned {
        frame: Id,
    },
    /// A process offers a slot.
    Offered {
        process: Id,
    },
    /// A process has a CNode, or an address space.
    SlotsAdded {
        process: Id,
        table: Id,
    },
    SpaceAdded {
        process: Id,
        space: Id,
    },
    /// A task is a process's.
    TaskMade {
        task: Id,
        process: Id,
    },
    /// A task stops, or goes on; waits no more; has other registers.
    Held {
        task: Id,
    },
    RegistersWritten {
        task: Id,
    },
    TimeBound {
        time: Id,
        task: Id,
    },
    TimeSet {
        time: Id,
    },
    Allowed {
        control: Id,
    },
    NoteBound {
        note: Id,
        task: Id,
    },
    Raised {
        note: Id,
    },
    BitsRead {
        note: Id,
    },
    Labelled {
        object: Id,
    },
    RuleSet,
    /// Memory was used, or is free again.
    Carved {
        memory: Id,
    },
    /// The maker of the step learned the contents of a slot, whether a process has a capability, a
    /// member, registers, or how much time was used.
    SawSlot {
        place: Place,
    },
    SawProcess {
        process: Id,
    },
    SawMembers {
        group: Id,
    },
    SawRegisters {
        task: Id,
    },
    Debugged {
        task: Id,
    },
    SawTime {
        time: Id,
    },
}

impl Change {
    /// Returns the name of its kind, as a finding reports it.
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        text.split([' ', '{']).next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Returns all changes of a step.
pub fn changes(step: &Step, answer: &model::Result) -> Vec<Change> {
    let mut all = Vec::new();
    of_slots(step, &mut all);
    for index in 0..step.after.model.objects.len() {
        of_object(step, Id(index), &mut all);
    }
    if step.before.model.rules != step.after.model.rules {
        all.push(Change::RuleSet);
    }
    if let Ok(answer) = answer {
        of_answer(step, answer, &mut all);
    }
    all
}

fn of_slots(step: &Step, all: &mut Vec<Change>) {
    let (before, after) = (&step.before.model.slots, &step.after.model.slots);
    let is_same =
        |a: &Capability, b: &Capability| (a.object, a.rights, a.badge) == (b.object, b.rights, b.badge);
    for (place, cap) in before {
        if after.get(place).is_some_and(|now| is_same(now, cap)) {
            continue;
        }
        all.push(match *place {
            Place::Exposure(group, index) => Change::Withdrawn { group, index, object: Some(cap.object) },
            place => Change::Taken { place },
        });
    }
    for (place, cap) in after {
        if before.get(place).is_some_and(|was| is_same(was, cap)) {
            continue;
        }
        match *place {
            Place::Exposure(group, index) => {
                all.push(Change::Exposed { group, object: cap.object });
                all.push(Change::EntryFilled { group, index });
            }
            Place::Reader(pool) => all.push(Change::PoolBound { pool }),
            Place::Target(irq) => all.push(Change::IrqBound { irq, note: cap.object }),
            Place::Slot(..) => {
                all.push(Change::Given { place: *place, cap: cap.clone() });
                if step.it.op == Op::CapCopy {
                    all.push(Change::Doubled { object: cap.object });
                }
            }
        }
    }
}

fn of_object(step: &Step, id: Id, all: &mut Vec<Change>) {
    let after = &step.after.model.objects[id.0];
    let Some(before) = step.before.model.objects.get(id.0) else { return };
    let is_new = |now: bool, was: bool| now && !was;
    if is_new(after.dying || after.ended, before.dying || before.ended) {
        all.push(Change::Ended { object: id });
    }
    if after.label != before.label {
        all.push(Change::Labelled { object: id });
    }
    match (&before.kind, &after.kind) {
        (Kind::Frame(was), Kind::Frame(now)) => {
            if now.pins > was.pins {
                all.push(Change::Pinned { frame: id });
            }
            if now.pins < was.pins || is_new(after.ended, before.ended) && was.pins > 0 {
                all.push(Change::Unpinned { frame: id });
            }
        }
        _ if after.ended => {}
        (Kind::Untyped(was), Kind::Untyped(now)) if (was.low, was.high) != (now.low, now.high) => {
            all.push(Change::Carved { memory: id });
        }
        (Kind::VSpace(was), Kind::VSpace(now)) => {
            let space = id;
            let gone = was.pages.iter().filter(|(at, page)| now.pages.get(at) != Some(page));
            let new = now.pages.iter().filter(|(at, page)| was.pages.get(at) != Some(page));
            all.extend(gone.map(|(_, page)| Change::Unmapped { space, page: *page }));
            all.extend(new.map(|(_, page)| Change::Mapped { space, page: *page }));
        }
        (Kind::Group(was), Kind::Group(now)) => of_group(id, was, now, all),
        (Kind::SchedContext(was), Kind::SchedContext(now))
            if (was.priority, was.slice) != (now.priority, now.slice) =>
        {
            all.push(Change::TimeSet { time: id });
        }
        (Kind::SchedControl(was), Kind::SchedControl(now))
            if (was.ceiling, was.cpus) != (now.ceiling, now.cpus) =>
        {
            all.push(Change::Allowed { control: id });
        }
        (Kind::IrqHandler(was), Kind::IrqHandler(now)) if was.line != now.line => {
            all.push(Change::DeviceGiven { object: id });
        }
        (Kind::IoPort(was), Kind::IoPort(now)) if was.count != now.count => {
            all.push(Change::DeviceGiven { object: id });
        }
        (Kind::Notification(was), Kind::Notification(now)) => {
            if now.bits & !was.bits != 0 {
                all.push(Change::Raised { note: id });
            }
            if was.bits & !now.bits != 0 {
                all.push(Change::BitsRead { note: id });
            }
            if let Some(task) = now.bound.filter(|_| now.bound != was.bound) {
                all.push(Change::NoteBound { note: id, task });
            }
        }
        (Kind::Task(..), Kind::Task(..)) => of_task(step, id, all),
        (Kind::Process(..), Kind::Process(..)) => of_process(step, id, all),
        _ => {}
    }
}

fn of_group(group: Id, was: &model::object::Group, now: &model::object::Group, all: &mut Vec<Change>) {
    for (was, now) in was.members.iter().zip(&now.members) {
        if was == now {
            continue;
        }
        if let Some(was) = was {
            all.push(Change::Left { group, process: was.process });
        }
        if let Some(member) = *now {
            let process = member.process;
            all.push(Change::Joined { group });
            all.push(Change::GotRights { group, member });
            all.push(Change::GotCustom { group, member });
            all.push(Change::Consented { group, process });
        }
    }
    for (index, (was, now)) in (0..).zip(was.exposures.iter().zip(&now.exposures)) {
        if now.per_cpu.is_some() && was.per_cpu != now.per_cpu
            || now.watch.is_some() && was.watch != now.watch
        {
            all.push(Change::ExposedSo { group });
        }
        if was.per_cpu.is_some() && now.per_cpu.is_none() {
            all.push(Change::Withdrawn { group, index, object: None });
        }
    }
}

fn of_task(step: &Step, task: Id, all: &mut Vec<Change>) {
    let (was, now) = (step.before.model.task(task), step.after.model.task(task));
    if now.state == TaskState::Dead {
        if was.state != TaskState::Dead {
            all.push(Change::Killed { task });
        }
        return;
    }
    if let (None, Some(process)) = (was.process, now.process) {
        all.push(Change::TaskMade { task, process });
        return;
    }
    if was.suspended != now.suspended {
        all.push(Change::Held { task });
    }
    if let Some(time) = now.time.filter(|_| was.time != now.time) {
        all.push(Change::TimeBound { time, task });
    }
}

fn of_process(step: &Step, process: Id, all: &mut Vec<Change>) {
    let (was, now) = (step.before.model.process(process), step.after.model.process(process));
    let (had, has) = (step.before.model.tables_of(process), step.after.model.tables_of(process));
    let new = has.into_iter().filter(|table| !had.contains(table));
    all.extend(new.map(|table| Change::SlotsAdded { process, table }));
    if let Some(space) = now.vspace.filter(|_| was.vspace != now.vspace) {
        all.push(Change::SpaceAdded { process, space });
    }
    // To offer nothing is to withdraw an offer.
    let is_taken = matches!(step.it.op, Op::GroupAdd) && now.offer.is_none();
    if was.offer != now.offer && !is_taken {
        all.push(Change::Offered { process });
    }
}

/// Adds what an operation's answer reveals, or what it did without a trace in the model.
fn of_answer(step: &Step, answer: &Answer, all: &mut Vec<Change>) {
    let (model, args) = (&step.before.model, &step.it.args);
    let named = |position: usize| model.find_any(step.me, args.cap(position)).map(|found| found.object);
    let Ok(object) = named(0) else { return };
    match step.it.op {
        Op::CapInspect => {
            let place = model.find_slot(step.me, args.target(0), Rights::NONE);
            all.extend(place.ok().map(|place| Change::SawSlot { place }));
        }
        Op::CapList => match &model.objects[object.0].kind {
            Kind::Process(_) => all.push(Change::SawProcess { process: object }),
            _ => all.extend(told(model, object, answer).map(|place| Change::SawSlot { place })),
        },
        Op::CapVerify => all.push(Change::SawProcess { process: object }),
        Op::GroupMember => all.push(Change::SawMembers { group: object }),
        Op::TaskReadRegs => all.push(Change::SawRegisters { task: object }),
        Op::TaskWriteRegs => all.push(Change::RegistersWritten { task: object }),
        Op::TaskDebug => all.push(Change::Debugged { task: object }),
        Op::TaskCancel => all.push(Change::Held { task: object }),
        Op::SchedInfo => all.push(Change::SawTime { time: object }),
        _ => {}
    }
}

/// Returns the slots that a list of a CNode reported: its own, and as many later ones as it
/// counted.
fn told(model: &model::Model, first: Id, answer: &Answer) -> impl Iterator<Item = Place> {
    let (Answer::Values(values) | Answer::Free(values, _)) = answer else { unreachable!("a list answers") };
    let places = model.places_in(Reach::cspace(first)).into_iter().map(|it| it.1);
    let full: Vec<Place> = places.filter(|place| model.slots.contains_key(place)).collect();
    full.into_iter().take(values[1] as usize)
}

/// Returns the state before and after a step, for the task that made it.
pub fn step<'a>(before: &'a State, after: &'a State, me: Id, it: &'a Move) -> Step<'a> {
    Step { before, after, me, mover: before.model.process_of(me), it }
}
