//! The initial states of two processes.
//!
//! The first process gets one to three things, each with some rights. The second process gets these
//! things with all rights. Process 1 makes everything by system calls, so that a world can be made
//! on the model and on the kernel.
//!
//! Both processes have their own CNode in slot [`OWN_CNODE`] and themselves in slot
//! [`OWN_PROCESS`], with no right.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use abi::membership::EXPOSE_PER_CPU;
use abi::{Cap, MEMBER_RIGHTS, MsgInfo, ObjType, Op, Rights, Target, TaskId};
use abi::{cnode_rights, frame_rights, machine_rights, process_rights};
use abi::{irq_rights, port_rights, sched_control_rights, sched_rights, task_rights};

use crate::object::{self, State};
use crate::tasks::ENDLESS;
use crate::{Args, Id, Kind, Model, Place, Sizes};

pub const OWN_CNODE: Cap = Cap(1);
pub const OWN_PROCESS: Cap = Cap(2);
/// Where both processes have the group that they are members of.
const MEMBERSHIP: Cap = Cap(3);
/// The first slot with what a world is about.
const THINGS: u32 = 4;
/// The second process's own Notification and task, where there is a group.
const OWN_NOTE: Cap = Cap(7);
const OWN_TASK: Cap = Cap(8);
const SLOTS: u64 = 12;
pub const CPUS: usize = 2;
/// Custom bits of the first process's member record, and of the second's.
pub const CUSTOM: [u64; 2] = [9, 3];
/// The group's exposures: a Notification, a task per CPU, one that is free, and an entry for each
/// CPU.
pub const EXPOSURES: u32 = 5;
pub const ENTRIES: u32 = 3;
const MEMBERS: u64 = 3;
/// The badge by which the first process has a Notification.
const BADGE: u64 = 5;
const UTCB: u64 = 0x5000_0000;
const PRIORITY: u64 = 10;
/// Slots of a CNode that is added to a CSpace, and the one that is full.
const TABLE_SLOTS: u64 = 4;
const FULL_SLOT: u32 = 2;

/// What the first process can be given.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Thing {
    /// Membership of a group.
    Member,
    /// A copy of the capability that its maker has.
    Maker,
    Note,
    /// A frame that is pinned.
    Frame,
    Machine,
    /// The second process, its first CNode, its address space, its task.
    Victim,
    VictimSlots,
    VictimSpace,
    VictimTask,
    /// The second of the three CNodes that are the second process's CSpace then.
    Link,
    /// A CNode that serves nobody, with something in it.
    Table,
    /// The first process's own address space and task, and itself.
    OwnSpace,
    OwnTask,
    OwnProcess,
    /// A task that is not configured.
    NewTask,
    Time,
    /// Authority over all CPU time.
    Authority,
    /// A SchedControl that allows nothing yet.
    Control,
    /// The Untyped of which the frame and the Notification are made.
    Memory,
    Pool,
    /// An IrqHandler and an IoPort that have nothing yet.
    Irq,
    Ports,
}

use Thing::*;

const LISTEN_ADD: Rights = Rights::LISTEN.union(Rights::ADD);
const MAKER_ADDS: Rights = Rights::DELETE.union(Rights::ADD);
const TO_WRITE: Rights = Rights::MAP.union(frame_rights::WRITE.rights());
const TO_PIN: Rights = Rights::MAP.union(frame_rights::DMA.rights());
const ALL_BUT_GRANT: Rights = Rights::ALL.minus(Rights::GRANT);
const ALL_BUT_DELETE: Rights = Rights::ALL.minus(Rights::DELETE);

impl Thing {
    const ALL: [(Thing, &'static str, &'static [Rights]); 22] = [
        (
            Member,
            "member",
            &[
                Rights::SEND,
                Rights::LISTEN,
                LISTEN_ADD,
                Rights::REMOVE,
                Rights::ADD,
                Rights::NOTIFY,
                MEMBER_RIGHTS,
            ],
        ),
        (Maker, "maker", &[Rights::DELETE, MAKER_ADDS, ALL_BUT_DELETE, Rights::ALL]),
        (Note, "note", &[Rights::NONE, Rights::NOTIFY, Rights::LISTEN, ALL_BUT_GRANT, Rights::ALL]),
        (Frame, "frame", &[Rights::NONE, Rights::MAP, TO_WRITE, TO_PIN, Rights::ALL]),
        (
            Machine,
            "machine",
            &[machine_rights::LOG.rights(), machine_rights::DMA.rights(), machine_rights::SECURITY.rights()],
        ),
        (
            Victim,
            "victim",
            &[
                Rights::NONE,
                process_rights::CONFIGURE.rights(),
                process_rights::DESTROY.rights(),
                process_rights::OBSERVE.rights(),
            ],
        ),
        (
            VictimSlots,
            "victim-slots",
            &[Rights::NONE, cnode_rights::OBSERVE.rights(), Rights::GRANT, Rights::ALL],
        ),
        (VictimSpace, "victim-space", &[Rights::NONE, Rights::MAP]),
        (
            VictimTask,
            "victim-task",
            &[
                Rights::LISTEN,
                task_rights::SUSPEND.rights(),
                task_rights::REGISTERS.rights(),
                task_rights::SCHEDULE.rights(),
                task_rights::DESTROY.rights(),
                task_rights::DEBUG.rights(),
            ],
        ),
        (Link, "link", &[Rights::NONE, cnode_rights::OBSERVE.rights(), Rights::GRANT]),
        (Table, "table", &[cnode_rights::OBSERVE.rights(), Rights::GRANT]),
        (OwnSpace, "own-space", &[Rights::NONE, Rights::MAP]),
        (OwnTask, "own-task", &[Rights::LISTEN, task_rights::SCHEDULE.rights(), Rights::ALL]),
        (OwnProcess, "own-process", &[process_rights::CONFIGURE.rights(), Rights::ALL]),
        (NewTask, "new-task", &[Rights::NONE, task_rights::REGISTERS.rights(), Rights::ALL]),
        (Time, "time", &[Rights::NONE, sched_rights::CONFIGURE.rights(), sched_rights::OBSERVE.rights()]),
        (Authority, "authority", &[Rights::NONE, sched_control_rights::SCHEDULE.rights()]),
        (Control, "control", &[Rights::NONE, sched_control_rights::CONFIGURE.rights(), Rights::ALL]),
        (Memory, "memory", &[Rights::ALL]),
        (Pool, "pool", &[Rights::NONE, Rights::LISTEN]),
        (Irq, "irq", &[irq_rights::CONFIGURE.rights(), irq_rights::HANDLE.rights(), Rights::ALL]),
        (Ports, "ports", &[Rights::NONE, port_rights::CONFIGURE.rights()]),
    ];

    fn name(self) -> &'static str {
        Thing::ALL[self as usize].1
    }
}

/// Things of which none comes to much without the others.
const SETS: &[&[Thing]] = &[
    &[Frame, Machine, Memory],
    &[Irq, Machine, Authority],
    &[Irq, Note, Authority],
    &[Ports, Machine],
    &[Frame, OwnSpace, Machine],
    &[Frame, OwnSpace, VictimSpace],
    &[Member, Note, Victim],
    &[Maker, OwnTask, Victim],
    &[Member, Maker],
    &[Member, OwnTask],
    &[Member, OwnProcess],
    &[Member, Machine],
    &[Maker, Victim],
    &[Maker, Note],
    &[Maker, VictimSlots],
    &[Note, VictimSlots],
    &[Note, Link],
    &[Note, OwnTask],
    &[Note, VictimTask],
    &[Note, Memory],
    &[Frame, Machine],
    &[Frame, OwnSpace],
    &[Frame, VictimSlots],
    &[Frame, Memory],
    &[Frame, Pool],
    &[Machine, Victim],
    &[Machine, Note],
    &[Victim, Table],
    &[Victim, NewTask],
    &[Victim, VictimSlots],
    &[Victim, VictimSpace, Table],
    &[Victim, Memory],
    &[Victim, Pool, VictimTask],
    &[VictimSlots, Link],
    &[VictimSlots, Memory],
    &[VictimSlots, Table],
    &[VictimTask, Time],
    &[Link, Memory],
    &[Link, Table],
    &[Table, OwnProcess],
    &[NewTask, OwnProcess],
    &[NewTask, OwnProcess, Authority],
    &[Victim, NewTask, Authority],
    &[OwnProcess, NewTask, Time],
    &[VictimTask, Time, Authority],
    &[OwnTask, Time, Authority],
    &[Time, Authority, Control],
    &[OwnTask, Time],
    &[OwnTask, Pool],
    &[OwnProcess, OwnTask, Pool],
    &[OwnProcess, Memory],
];

/// With these, labels make a difference.
const CONFINED: [Thing; 5] = [OwnSpace, VictimSlots, Victim, OwnProcess, VictimSpace];

/// What the first process begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct World {
    pub things: Vec<(Thing, Rights)>,
    /// The first process has a label, and may do nothing with these things, which have another one.
    pub labels: bool,
}

impl World {
    /// Returns all worlds.
    pub fn all() -> Vec<World> {
        SETS.iter().flat_map(|things| World::with_rights(things)).collect()
    }

    /// Returns worlds with these things, one for each combination of rights. If labels forbid
    /// something, also with labels.
    fn with_rights(things: &[Thing]) -> Vec<World> {
        let mut all = vec![World { things: Vec::new(), labels: false }];
        for thing in things {
            let (_, _, rights) = Thing::ALL[*thing as usize];
            let with = |world: World| {
                let with = move |rights: &Rights| {
                    let mut world = world.clone();
                    world.things.push((*thing, *rights));
                    world
                };
                rights.iter().map(with)
            };
            all = all.into_iter().flat_map(with).collect();
        }
        let is_confined = things.iter().any(|thing| CONFINED.contains(thing));
        if is_confined && (things.len() < 3 || things.contains(&Pool)) {
            all.extend_from_within(..);
            let half = all.len() / 2;
            all[half..].iter_mut().for_each(|world| world.labels = true);
        }
        all
    }

    /// Writes a world as [`World::parse`] reads it: `member:3 note:ff labels`.
    pub fn text(&self) -> String {
        let things = self.things.iter().map(|(thing, rights)| format!("{}:{:x}", thing.name(), rights.0));
        let words: Vec<String> = things.chain(self.labels.then(|| "labels".into())).collect();
        words.join(" ")
    }

    pub fn parse(text: &str) -> Option<World> {
        let mut world = World { things: Vec::new(), labels: false };
        for word in text.split_whitespace() {
            if word == "labels" {
                world.labels = true;
                continue;
            }
            let (name, rights) = word.split_once(':')?;
            let thing = Thing::ALL.iter().find(|it| it.1 == name)?.0;
            world.things.push((thing, Rights(u32::from_str_radix(rights, 16).ok()?)));
        }
        Some(world)
    }

    fn has(&self, thing: Thing) -> bool {
        self.things.iter().any(|it| it.0 == thing)
    }
}

/// Where a world is made: the model alone, or the kernel beside it.
pub trait Stage {
    fn model(&self) -> &Model;
    /// Returns an empty slot of process 1, for the next capability.
    fn slot(&mut self) -> Cap;
    /// Returns the memory of which process 1 makes objects.
    fn memory(&self) -> Cap;
    /// Makes a system call of a task, or of process 1's task. The call must succeed.
    fn does(&mut self, me: Option<Id>, op: Op, args: [u64; 6]);
}

/// The players: the first process and the second.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    pub processes: [Id; 2],
    pub tasks: [Id; 2],
    pub group: Option<Id>,
}

/// What process 1 has of a process.
#[derive(Clone, Copy)]
struct Made {
    process: Cap,
    cnode: Cap,
    vspace: Cap,
    task: Cap,
}

/// A world that is being made.
struct Builder<'a, S> {
    stage: &'a mut S,
    world: &'a World,
    made: [Made; 2],
    group: Option<Cap>,
    /// What gets the label of the things.
    labelled: Vec<Cap>,
}

/// Makes a world.
pub fn build<S: Stage>(stage: &mut S, world: &World) -> Cast {
    let made = [process(stage), process(stage)];
    let mut builder = Builder { stage, world, made, group: None, labelled: Vec::new() };
    builder.make_group();
    builder.give_all();
    if world.labels {
        builder.confine();
    }
    let group = builder.group;
    let object = |cap: Cap| stage.model().slots[&Place::Slot(Id(0), cap.0)].object;
    Cast {
        processes: made.map(|it| object(it.process)),
        tasks: made.map(|it| object(it.task)),
        group: group.map(object),
    }
}

fn make_of<S: Stage>(stage: &mut S, memory: Cap, what: ObjType, size: u64) -> Cap {
    let slot = stage.slot();
    let to = Target::new(abi::INIT_CNODE, slot.0).0;
    stage.does(None, Op::Retype, [Target::new(memory, what as u32).0, size, to, 1, 0, 0]);
    slot
}

fn make<S: Stage>(stage: &mut S, what: ObjType, size: u64) -> Cap {
    let memory = stage.memory();
    make_of(stage, memory, what, size)
}

fn set_time<S: Stage>(stage: &mut S, time: Cap, priority: u64) {
    let authority = abi::INIT_SCHED_CONTROL.arg();
    stage.does(None, Op::SchedConfigure, [authority, time.arg(), priority, ENDLESS, 0, 0]);
}

/// Makes a process with a task that is ready.
fn process<S: Stage>(stage: &mut S) -> Made {
    let cnode = make(stage, ObjType::CNode, SLOTS);
    let vspace = make(stage, ObjType::VSpace, 5);
    let process = make(stage, ObjType::Process, 2);
    let task = make(stage, ObjType::Task, 0);
    let time = make(stage, ObjType::SchedContext, 0);
    stage.does(None, Op::ProcessConfigure, [process.arg(), cnode.arg(), vspace.arg(), 0, 0, 0]);
    let authority = abi::INIT_SCHED_CONTROL.arg();
    stage.does(None, Op::TaskConfigure, [authority, task.arg(), process.arg(), UTCB, 0, 0]);
    set_time(stage, time, PRIORITY);
    stage.does(None, Op::SchedBind, [time.arg(), task.arg(), 0, 0, 0, 0]);
    stage.does(None, Op::TaskResume, [task.arg(), 0, 0, 0, 0, 0]);
    copy(stage, cnode, (cnode, OWN_CNODE), Rights::NONE);
    copy(stage, process, (cnode, OWN_PROCESS), Rights::NONE);
    Made { process, cnode, vspace, task }
}

fn copy<S: Stage>(stage: &mut S, cap: Cap, to: (Cap, Cap), rights: Rights) {
    copy_as(stage, cap, to, rights, 0);
}

fn copy_as<S: Stage>(stage: &mut S, cap: Cap, (cnode, slot): (Cap, Cap), rights: Rights, badge: u64) {
    let to = Target::new(cnode, slot.0).0;
    stage.does(None, Op::CapCopy, [cap.arg(), to, rights.0.into(), badge, 0, 0]);
}

impl<S: Stage> Builder<'_, S> {
    /// Makes a group with the second process as a member, which exposes a Notification and its task
    /// there.
    fn make_group(&mut self) {
        if !self.world.has(Member) && !self.world.has(Maker) {
            return;
        }
        let group = make(self.stage, ObjType::Group, MEMBERS | u64::from(EXPOSURES) << 16);
        self.group = Some(group);
        self.labelled.push(group);
        self.join(group, 1, MEMBER_RIGHTS);
        let note = make(self.stage, ObjType::Notification, 0);
        let Made { cnode, task, .. } = self.made[1];
        copy(self.stage, note, (cnode, OWN_NOTE), Rights::ALL);
        copy(self.stage, task, (cnode, OWN_TASK), Rights::ALL);
        let me = self.object(task);
        let per_cpu = u64::from(EXPOSE_PER_CPU) | u64::from(ENTRIES) << 32;
        for (index, cap, how) in [(0, OWN_NOTE, 0), (1, OWN_TASK, per_cpu)] {
            let target = Target::new(MEMBERSHIP, index).0;
            self.stage.does(Some(me), Op::Expose, [target, cap.arg(), how, 0, 0, 0]);
        }
    }

    fn object(&self, cap: Cap) -> Id {
        self.stage.model().slots[&Place::Slot(Id(0), cap.0)].object
    }

    fn join(&mut self, group: Cap, who: usize, rights: Rights) {
        let process = self.made[who].process;
        self.stage.does(None, Op::ProcessAccept, [process.arg(), MEMBERSHIP.0.into(), group.arg(), 0, 0, 0]);
        let args = [group.arg(), process.arg(), rights.0.into(), CUSTOM[who], 0, 0];
        self.stage.does(None, Op::GroupAdd, args);
    }

    /// Gives each process its things.
    fn give_all(&mut self) {
        let small = self.world.has(Memory).then(|| make(self.stage, ObjType::Untyped, 14));
        for (slot, (thing, rights)) in (THINGS..).zip(self.world.things.clone()) {
            let Some((cap, is_owned)) = self.cap_of(thing, rights, small) else { continue };
            let slot = Cap(slot);
            let badge = if thing == Note { BADGE } else { 0 };
            copy_as(self.stage, cap, (self.made[0].cnode, slot), rights, badge);
            if !is_owned {
                copy(self.stage, cap, (self.made[1].cnode, slot), Rights::ALL);
            }
        }
        if let Some(small) = small {
            let slot = THINGS + self.world.things.iter().position(|it| it.0 == Memory).unwrap_or(0) as u32;
            let to = Target::new(self.made[0].cnode, slot).0;
            self.stage.does(None, Op::CapMove, [small.arg(), to, 0, 0, 0, 0]);
        }
    }

    /// Returns a thing's capability in process 1, and whether the thing belongs to the first
    /// process. `None` if the thing is given in another way.
    fn cap_of(&mut self, thing: Thing, rights: Rights, small: Option<Cap>) -> Option<(Cap, bool)> {
        let [own, victim] = self.made;
        let memory = small.unwrap_or(self.stage.memory());
        let made = match thing {
            Member => {
                let group = self.group?;
                self.join(group, 0, rights);
                return None;
            }
            Memory => return None,
            Maker => self.group?,
            Machine => return Some((abi::INIT_MACHINE, false)),
            Authority => return Some((abi::INIT_SCHED_CONTROL, false)),
            Victim => return Some((victim.process, false)),
            VictimSlots => return Some((victim.cnode, false)),
            VictimSpace => return Some((victim.vspace, false)),
            VictimTask => return Some((victim.task, false)),
            OwnSpace => return Some((own.vspace, true)),
            OwnTask => return Some((own.task, true)),
            OwnProcess => return Some((own.process, true)),
            Note => make_of(self.stage, memory, ObjType::Notification, 0),
            Frame => {
                let frame = make_of(self.stage, memory, ObjType::Frame, abi::PAGE_LOG2.into());
                let machine = abi::INIT_MACHINE.arg();
                self.stage.does(None, Op::FramePin, [frame.arg(), machine, 0, 0, 0, 0]);
                frame
            }
            Link => {
                let tables = [self.make_table(), self.make_table()];
                for table in tables {
                    let args = [victim.process.arg(), table.arg(), 0, 0, 0, 0];
                    self.stage.does(None, Op::CSpaceGrow, args);
                }
                return Some((tables[0], false));
            }
            Table => self.make_table(),
            NewTask => make(self.stage, ObjType::Task, 0),
            Time => self.make_time(),
            Control => make(self.stage, ObjType::SchedControl, 0),
            Irq => make(self.stage, ObjType::IrqHandler, 0),
            Ports => make(self.stage, ObjType::IoPort, 0),
            Pool => make(self.stage, ObjType::EventPool, abi::events::CELLS_LOG2_MIN.into()),
        };
        self.labelled.push(made);
        Some((made, false))
    }

    /// Makes CPU time that can be bound.
    fn make_time(&mut self) -> Cap {
        let time = make(self.stage, ObjType::SchedContext, 0);
        set_time(self.stage, time, 0);
        time
    }

    fn make_table(&mut self) -> Cap {
        let table = make(self.stage, ObjType::CNode, TABLE_SLOTS);
        let note = make(self.stage, ObjType::Notification, 0);
        copy(self.stage, note, (table, Cap(FULL_SLOT)), Rights::ALL);
        table
    }

    /// Forbids the first process by labels to do anything with the things, or allows it only to
    /// read.
    fn confine(&mut self) {
        let machine = abi::INIT_MACHINE.arg();
        let own = self.made[0].process;
        let things = self.labelled.iter().map(|cap| (*cap, 2));
        for (cap, label) in [(own, 1)].into_iter().chain(things) {
            let is_there = self.stage.model().slots.contains_key(&Place::Slot(Id(0), cap.0));
            if is_there {
                self.stage.does(None, Op::LabelSet, [machine, cap.arg(), label, 0, 0, 0]);
            }
        }
        // What it may read and write by its rights it may only read.
        let reads = self.world.things.iter().any(|it| it.0 == Frame && it.1.contains(TO_WRITE));
        let allowed = if reads { abi::audit::may::READ.into() } else { 0 };
        self.stage.does(None, Op::LabelRule, [machine, 1, 2, allowed, 0, 0]);
    }
}

/// Process 1 of the model alone.
pub struct Bare {
    pub model: Model,
    agent: Id,
    next: u32,
}

/// Slots of process 1, the first that is empty, and where it has its memory.
const INIT_SLOTS: u32 = 128;
const INIT_FIRST: u32 = 32;
const INIT_MEMORY: Cap = Cap(31);

impl Default for Bare {
    fn default() -> Bare {
        let sizes = Sizes::default();
        let mut model = Model { sizes, cpus: CPUS, ..Model::default() };
        let space = object::VSpace {
            process: Some(Id(2)),
            tables: 32,
            used: Default::default(),
            pages: Default::default(),
        };
        let process = object::Process {
            cnode: Some(Id(0)),
            vspace: Some(Id(1)),
            tasks: vec![None; 2],
            ..object::Process::default()
        };
        let size = 1 << 20;
        let boot = [
            (abi::INIT_CNODE, Kind::CNode(object::CNode { slots: INIT_SLOTS, process: Some(Id(2)) })),
            (abi::INIT_VSPACE, Kind::VSpace(space)),
            (abi::INIT_PROCESS, Kind::Process(process)),
            (abi::INIT_MACHINE, Kind::Machine),
            (abi::INIT_SCHED_CONTROL, Kind::SchedControl(object::SchedControl::WHOLE)),
            (INIT_MEMORY, Kind::Untyped(object::Untyped { base: 1 << 30, size, low: 0, high: size })),
        ];
        for (cap, kind) in boot {
            let object = model.put(kind);
            model.give(Place::Slot(Id(0), cap.0), object, Rights::ALL, 0);
        }
        let task = object::Task {
            id: TaskId::FIRST,
            process: Some(Id(2)),
            born_in: Some(Id(2)),
            state: State::Ready,
            utcb: vec![0; abi::MSG_UTCB_WORDS],
            ..object::Task::default()
        };
        model.ids_given.push(task.id);
        let agent = model.put(Kind::Task(Box::new(task)));
        model.process_mut(Id(2)).tasks[0] = Some(agent);
        Bare { model, agent, next: INIT_FIRST }
    }
}

impl Stage for Bare {
    fn model(&self) -> &Model {
        &self.model
    }

    fn slot(&mut self) -> Cap {
        self.next += 1;
        Cap(self.next - 1)
    }

    fn memory(&self) -> Cap {
        INIT_MEMORY
    }

    fn does(&mut self, me: Option<Id>, op: Op, args: [u64; 6]) {
        let me = me.unwrap_or(self.agent);
        let answer = play(&mut self.model, me, op, &Args(args, MsgInfo(0)));
        assert!(answer.is_ok(), "{op:?} {args:x?} is refused: {answer:?}");
    }
}

/// Makes a system call on the model alone, and gives a new task an identity, as the kernel would.
pub fn play(model: &mut Model, me: Id, op: Op, args: &Args) -> crate::Result {
    let task = model.find_any(me, args.cap(1)).ok().filter(|_| op == Op::TaskConfigure);
    let answer = model.step(me, op, args);
    if let Some(task) = task.filter(|_| answer.is_ok()) {
        let before = model.ids_given.len() as u64;
        model.named(task.object, TaskId::from_raw(TaskId::FIRST.raw() + before));
    }
    answer
}
