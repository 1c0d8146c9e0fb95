//! Lists every system call that moves authority, with every argument that makes a difference.
//!
//! All empty slots of a CNode are equivalent, so only one of them is used; two equal capabilities
//! in a CSpace are equivalent to three. As rights, a move uses all rights of the mover, all rights
//! that exist, all except GRANT, and none; for a member's rights, it uses single rights. Left out:
//! operations that only pass words (`Call`, `Send` and similar), and moves of a capability within
//! the CSpace of the mover.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use abi::membership::{EXPOSE_PER_CPU, watch};
use abi::{Cap, FLAG_NONBLOCK, MEMBER_RIGHTS, MsgInfo, ObjType, Op, Rights, Target};

use super::worlds::{CUSTOM, Cast, ENTRIES, EXPOSURES};
use crate::caps::Capability;
use crate::growth::Reach;
use crate::tasks::ENDLESS;
use crate::{Args, Id, Kind, Model, Place};

/// A system call of the first process or the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    pub who: usize,
    pub op: Op,
    pub args: Args,
}

impl Move {
    /// Writes a move as [`Move::parse`] reads it: `1 CapCopy 100000000 4`. Leaves out arguments at
    /// the end that are 0.
    pub fn text(&self) -> String {
        let Args(args, _) = self.args;
        let count = args.iter().rposition(|arg| *arg != 0).map_or(0, |last| last + 1);
        let words = args[..count].iter().map(|arg| format!(" {arg:x}"));
        format!("{} {:?}{}", self.who, self.op, words.collect::<String>())
    }

    pub fn parse(text: &str) -> Option<Move> {
        let mut words = text.split_whitespace();
        let who = words.next()?.parse().ok().filter(|who| *who < 2)?;
        let name = words.next()?;
        let op = *Op::ALL.iter().find(|op| format!("{op:?}") == name)?;
        let mut args = [0; 6];
        for (arg, word) in args.iter_mut().zip(words) {
            *arg = u64::from_str_radix(word, 16).ok()?;
        }
        Some(Move { who, op, args: Args(args, flags(op)) })
    }
}

/// Returns the flags of an operation, which let no task wait.
fn flags(op: Op) -> MsgInfo {
    MsgInfo(if op == Op::Wait { FLAG_NONBLOCK } else { 0 })
}

/// Where pages are mapped, and UTCBs of new tasks.
const PAGE: u64 = 0x6000_0000;
const UTCB: u64 = 0x5000_1000;
const POOL: u64 = 0x5800_0000;
const MEMBER_TABLE: u32 = 3;
/// Custom bits that nobody was given.
const OTHER_CUSTOM: u64 = 5;

/// What a process can name.
struct Named<'a> {
    model: &'a Model,
    who: usize,
    me: Id,
    caps: Vec<(Cap, &'a Capability)>,
    /// Slots that the mover can name, as arguments: those with something in them, and some of the
    /// others.
    full: Vec<u64>,
    empty: Vec<(u64, Id)>,
    moves: Vec<Move>,
}

/// Returns all moves of a task, or none if it cannot act.
pub fn moves(model: &Model, cast: &Cast, who: usize) -> Vec<Move> {
    let me = cast.tasks[who];
    if !model.acts(me) {
        return Vec::new();
    }
    let Some(first) = model.process(model.process_of(me)).cnode else { return Vec::new() };
    let caps = model.places_in(Reach::cspace(first)).into_iter();
    let caps = caps.filter_map(|(n, place)| Some((Cap(n), model.slots.get(&place)?))).collect();
    let mut reach = Named { model, who, me, caps, full: Vec::new(), empty: Vec::new(), moves: Vec::new() };
    reach.look_at_slots();
    reach.of_slots();
    reach.of_memory();
    reach.of_groups();
    reach.of_notes();
    reach.of_frames();
    reach.of_processes();
    reach.of_tasks();
    reach.of_time();
    reach.of_devices();
    reach.of_machine();
    reach.moves
}

impl Named<'_> {
    fn add(&mut self, op: Op, args: &[u64]) {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        self.moves.push(Move { who: self.who, op, args: Args(all, flags(op)) });
    }

    /// Returns capabilities of objects of one type; one of each set of copies.
    fn of(&self, what: ObjType) -> Vec<(Cap, Id)> {
        let is_it = |it: &(u64, Rights, ObjType)| it.2 == what;
        let caps = self.sources().into_iter().filter(is_it).map(|it| Target(it.0).cap());
        let object = |cap: Cap| self.caps.iter().find(|it| it.0 == cap).map(|it| (cap, it.1.object));
        caps.filter_map(object).collect()
    }

    fn args_of(&self, what: ObjType) -> Vec<u64> {
        self.of(what).into_iter().map(|(cap, _)| cap.arg()).collect()
    }

    /// Returns capabilities; one of each set of copies with the same object, rights and badge.
    fn sources(&self) -> Vec<(u64, Rights, ObjType)> {
        let mut seen: Vec<(Id, Rights, u64)> = Vec::new();
        let mut found = Vec::new();
        for (cap, it) in &self.caps {
            let what_it_is = (it.object, it.rights, it.badge);
            if !seen.contains(&what_it_is) {
                seen.push(what_it_is);
                found.push((cap.arg(), it.rights, self.model.object_type(it.object)));
            }
        }
        found
    }

    /// Returns how many copies of a capability the mover has with these rights.
    fn count(&self, source: u64, rights: Rights) -> usize {
        let cap = Target(source).cap();
        let of = self.caps.iter().find(|it| it.0 == cap).map(|it| (it.1.object, it.1.badge));
        let is_equal =
            |it: &&(Cap, &Capability)| Some((it.1.object, it.1.badge)) == of && it.1.rights == rights;
        self.caps.iter().filter(is_equal).count()
    }

    fn look_at_slots(&mut self) {
        for (cap, cnode) in self.of(ObjType::CNode) {
            let mut tables = Vec::new();
            for (n, place) in self.model.places_in(Reach::cspace(cnode)) {
                let at = Target::new(cap, n).0;
                let Place::Slot(table, _) = place else { continue };
                if self.model.slots.contains_key(&place) {
                    self.full.push(at);
                } else if !tables.contains(&table) {
                    tables.push(table);
                    self.empty.push((at, table));
                }
            }
        }
    }

    fn of_slots(&mut self) {
        let own = self.model.tables_of(self.model.process_of(self.me));
        for (source, rights, kind) in self.sources() {
            for (to, table) in self.empty.clone() {
                let mut tried = Vec::new();
                for rights in [rights, Rights::ALL, rights.minus(Rights::GRANT), Rights::NONE] {
                    let is_there_twice = own.contains(&table) && self.count(source, rights) > 1;
                    if !tried.contains(&rights) && !is_there_twice {
                        self.add(Op::CapCopy, &[source, to, rights.0.into(), 0]);
                        tried.push(rights);
                    }
                }
                if kind == ObjType::Notification {
                    self.add(Op::CapCopy, &[source, to, rights.0.into(), 7]);
                }
                if !own.contains(&table) {
                    self.add(Op::CapMove, &[source, to]);
                }
            }
        }
        for at in self.full.clone() {
            for op in [Op::CapDelete, Op::CapRevoke, Op::CapInspect] {
                self.add(op, &[at]);
            }
        }
        for cap in [self.args_of(ObjType::CNode), self.args_of(ObjType::Process)].concat() {
            self.add(Op::CapList, &[cap]);
        }
    }

    fn of_memory(&mut self) {
        const KINDS: [(ObjType, u64); 6] = [
            (ObjType::Notification, 0),
            (ObjType::Frame, abi::PAGE_LOG2 as u64),
            (ObjType::CNode, 4),
            (ObjType::Group, 2 | 2 << 16),
            (ObjType::Task, 0),
            (ObjType::Untyped, 12),
        ];
        let machines = self.machines();
        for (memory, _) in self.of(ObjType::Untyped) {
            for (to, _) in self.empty.clone() {
                for (what, size) in KINDS {
                    self.add(Op::Retype, &[Target::new(memory, what as u32).0, size, to, 1]);
                }
            }
            self.add(Op::UntypedReset, &[memory.arg(), 0]);
            for machine in &machines {
                self.add(Op::UntypedReset, &[memory.arg(), 1, 0, *machine]);
            }
        }
    }

    /// Returns the Machine's capability, and none.
    fn machines(&self) -> Vec<u64> {
        [vec_of_none(), self.args_of(ObjType::Machine)].concat()
    }

    fn of_groups(&mut self) {
        const RIGHTS: [Rights; 5] =
            [MEMBER_RIGHTS, Rights::SEND, Rights::LISTEN, Rights::ADD, Rights::REMOVE];
        let processes = self.args_of(ObjType::Process);
        let shown = [self.args_of(ObjType::Task), self.args_of(ObjType::Notification)].concat();
        let per_cpu = u64::from(EXPOSE_PER_CPU) | u64::from(ENTRIES) << 32;
        for (group, _) in self.of(ObjType::Group) {
            for process in &processes {
                for rights in RIGHTS {
                    for custom in [CUSTOM[0], CUSTOM[1], OTHER_CUSTOM] {
                        self.add(Op::GroupAdd, &[group.arg(), *process, rights.0.into(), custom]);
                    }
                }
            }
            for index in 0..MEMBER_TABLE {
                self.add(Op::GroupRemove, &[Target::new(group, index).0]);
            }
            self.add(Op::GroupMember, &[group.arg()]);
            for index in 0..EXPOSURES {
                let at = Target::new(group, index).0;
                for cap in &shown {
                    for how in [0, per_cpu, watch(0)] {
                        self.add(Op::Expose, &[at, *cap, how]);
                    }
                }
                self.add(Op::Withdraw, &[at]);
                self.add(Op::Notify, &[at, 1]);
            }
        }
    }

    fn of_notes(&mut self) {
        let tasks = self.args_of(ObjType::Task);
        for note in self.args_of(ObjType::Notification) {
            self.add(Op::Notify, &[note, 1]);
            self.add(Op::Wait, &[note]);
            for task in &tasks {
                self.add(Op::NotificationBind, &[note, *task]);
            }
        }
    }

    fn of_frames(&mut self) {
        let (spaces, machines) = (self.args_of(ObjType::VSpace), self.machines());
        for frame in self.args_of(ObjType::Frame) {
            for space in &spaces {
                for access in 0..3 {
                    self.add(Op::Map, &[*space, frame, PAGE, access]);
                    self.add(Op::Protect, &[*space, frame, PAGE, access]);
                }
                self.add(Op::Unmap, &[*space, frame, PAGE]);
            }
            for machine in &machines {
                self.add(Op::FramePin, &[frame, *machine]);
                self.add(Op::FrameUnpin, &[frame, *machine]);
            }
        }
    }

    fn of_processes(&mut self) {
        let (cnodes, spaces) = (self.args_of(ObjType::CNode), self.args_of(ObjType::VSpace));
        let sources: Vec<u64> = self.caps.iter().map(|(cap, _)| cap.arg()).collect();
        let adders = [self.args_of(ObjType::Group), self.args_of(ObjType::Process)].concat();
        for (process, id) in self.of(ObjType::Process) {
            let process = process.arg();
            let Kind::Process(of) = &self.model.objects[id.0].kind else { continue };
            let slots = of.cnode.map(|first| self.model.places_in(Reach::cspace(first))).unwrap_or_default();
            let empty = slots.into_iter().find(|it| !self.model.slots.contains_key(&it.1));
            self.add(Op::ProcessAccept, &[process, 0]);
            if let Some((slot, _)) = empty {
                for from in &adders {
                    self.add(Op::ProcessAccept, &[process, slot.into(), *from]);
                }
            }
            for cnode in &cnodes {
                self.add(Op::CSpaceGrow, &[process, *cnode]);
                for space in &spaces {
                    self.add(Op::ProcessConfigure, &[process, *cnode, *space, 0]);
                }
            }
            for cap in &sources {
                self.add(Op::CapVerify, &[process, *cap, 0, 0]);
            }
            self.add(Op::ProcessKill, &[process]);
        }
    }

    fn of_tasks(&mut self) {
        let processes = self.args_of(ObjType::Process);
        let (times, pools) = (self.args_of(ObjType::SchedContext), self.args_of(ObjType::EventPool));
        let controls = self.args_of(ObjType::SchedControl);
        for task in self.args_of(ObjType::Task) {
            for process in &processes {
                for control in &controls {
                    self.add(Op::TaskConfigure, &[*control, task, *process, UTCB, 0]);
                }
                for pool in &pools {
                    self.add(Op::PoolBind, &[*pool, *process, task, POOL, 1]);
                }
            }
            for time in &times {
                self.add(Op::SchedBind, &[*time, task]);
            }
            for op in [
                Op::TaskWriteRegs,
                Op::TaskReadRegs,
                Op::TaskDebug,
                Op::TaskResume,
                Op::TaskSuspend,
                Op::TaskKill,
                Op::TaskCancel,
            ] {
                self.add(op, &[task]);
            }
        }
    }

    fn of_devices(&mut self) {
        let (irqs, ports) = (self.args_of(ObjType::IrqHandler), self.args_of(ObjType::IoPort));
        for machine in self.args_of(ObjType::Machine) {
            for irq in &irqs {
                self.add(Op::IrqAllow, &[machine, *irq, 1, 0]);
            }
            for ports in &ports {
                self.add(Op::PortAllow, &[machine, *ports, 0x60, 4]);
            }
        }
        for irq in &irqs {
            self.add(Op::IrqAck, &[*irq]);
            for control in self.args_of(ObjType::SchedControl) {
                self.add(Op::IrqBind, &[control, *irq, 0, 0, 0]);
                for note in self.args_of(ObjType::Notification) {
                    self.add(Op::IrqBind, &[control, *irq, note, 1, 0]);
                }
            }
        }
        for ports in ports {
            self.add(Op::PortRead, &[ports, 0x60, 1]);
            self.add(Op::PortWrite, &[ports, 0x60, 1, 0]);
        }
    }

    fn of_time(&mut self) {
        let (times, controls) = (self.args_of(ObjType::SchedContext), self.args_of(ObjType::SchedControl));
        for time in &times {
            self.add(Op::SchedInfo, &[*time]);
            self.add(Op::SchedWatch, &[*time, 0]);
            for pool in self.args_of(ObjType::EventPool) {
                self.add(Op::SchedWatch, &[*time, pool, 0, 0]);
            }
        }
        for control in &controls {
            for time in &times {
                self.add(Op::SchedConfigure, &[*control, *time, 9, ENDLESS]);
            }
            for other in &controls {
                self.add(Op::SchedAllow, &[*control, *other, 9, 0, 1]);
            }
            for task in self.args_of(ObjType::Task) {
                self.add(Op::TaskMove, &[*control, task, 0]);
            }
        }
    }

    fn of_machine(&mut self) {
        let caps: Vec<u64> = self.caps.iter().map(|(cap, _)| cap.arg()).collect();
        for machine in self.args_of(ObjType::Machine) {
            for pool in self.args_of(ObjType::EventPool) {
                self.add(Op::CpuWatch, &[machine, pool, 0]);
            }
            self.add(Op::CpuWatch, &[machine, 0]);
            self.add(Op::CpuPark, &[machine, 1]);
            self.add(Op::CpuPark, &[machine, 0]);
            for cap in &caps {
                for label in [0, 2] {
                    self.add(Op::LabelSet, &[machine, *cap, label]);
                }
            }
            self.add(Op::LabelRule, &[machine, 1, 2, abi::audit::may::ALL.into()]);
        }
    }
}

fn vec_of_none() -> Vec<u64> {
    [Cap::NULL.arg()].into()
}
