//! The arguments of an operation: mostly capabilities that the process has, sometimes any values.

use abi::devices::FIRST_MSI;
use abi::membership::watch;
use abi::time::WHOLE_CPU;
use abi::{
    Cap, FLAG_CAPS, FLAG_NONBLOCK, FLAG_PAGES, FaultAnswer, Grant, MEMBER_RIGHTS, ObjType, Op, PageMode,
};
use abi::{LockWord, PERIOD_MAX, PageRange, Rights, Target, TaskId};
use confine::Picture;
use snapshot::Task;

use crate::cast::{ACCEPT, EXPOSURES, LISTEN, OWN, PAGES, POOLS, SLOTS, WATCH_SHIFT, WINDOW, some_of};
use crate::pick::{Held, rights_to_give};
use crate::rounds::Focus;
use crate::world::Regs;
use crate::world::dice::Dice;

/// A system call with what it carries.
#[derive(Clone, Debug)]
pub struct Act {
    pub regs: Regs,
    pub grants: Vec<Grant>,
    pub ranges: Vec<PageRange>,
}

/// Somebody about to make a system call.
pub struct Chooser<'a> {
    pub picture: &'a Picture,
    pub me: &'a Task,
    pub held: &'a [Held],
    pub dice: &'a mut Dice,
    pub cpus: u32,
    /// The number of the process, of which its bits are made.
    pub player: usize,
    pub op: Op,
    /// What it is to name if it can, where it is to be done in earnest.
    pub focus: Option<&'a Focus>,
}

/// What is made, and how large.
const KINDS: &[(ObjType, u64)] = &[
    (ObjType::Notification, 0),
    (ObjType::Reply, 0),
    (ObjType::SchedContext, 0),
    (ObjType::SchedControl, 0),
    (ObjType::IrqHandler, 0),
    (ObjType::IoPort, 0),
    (ObjType::Frame, 12),
    (ObjType::Frame, 12),
    (ObjType::CNode, 8),
    (ObjType::Untyped, 13),
    (ObjType::Group, 3 | 4 << 16),
    (ObjType::Task, 0),
    (ObjType::EventPool, 6),
];

impl Chooser<'_> {
    pub fn act(&mut self, op: Op) -> Act {
        let mut act = match op {
            Op::Call | Op::Send | Op::Broadcast | Op::Forward => self.message(op),
            Op::Reply | Op::ReplyRecv => self.reply(op),
            _ => Act { regs: Regs::op(op, &self.arguments(op)), grants: Vec::new(), ranges: Vec::new() },
        };
        let waits = matches!(op, Op::Recv | Op::Wait | Op::Call | Op::Send | Op::Broadcast | Op::LockWait);
        if waits && self.dice.once_in(4) {
            act.regs = act.regs.flag(FLAG_NONBLOCK);
        }
        act
    }

    fn message(&mut self, op: Op) -> Act {
        let target = match op {
            Op::Broadcast => Target::new(self.cap(ObjType::Group), 0).0,
            _ => self.target(),
        };
        let act = self.with_load(Regs { rdi: target, ..Regs::op(op, &[]) }, op != Op::Forward);
        if op == Op::Broadcast {
            Act { grants: Vec::new(), regs: Regs { rax: act.regs.rax & !FLAG_CAPS, ..act.regs }, ..act }
        } else {
            act
        }
    }

    fn reply(&mut self, op: Op) -> Act {
        let serves = self.picture.task(self.me.caller);
        let kept = self.held.iter().any(|held| held.slot.kind == ObjType::Reply as u8);
        let by_object = op == Op::Reply && kept && self.dice.once_in(3);
        let cap = if by_object { self.cap(ObjType::Reply).arg() } else { 0 };
        let mut regs = Regs { rdi: cap, ..Regs::op(op, &[]) };
        if serves.is_some_and(|caller| caller.in_fault) {
            let answers =
                [FaultAnswer::Resume, FaultAnswer::ResumeAt, FaultAnswer::Registers, FaultAnswer::Kill];
            let answer = self.dice.of(&answers);
            regs.rax |= u64::from(answer.label()) << 32;
        }
        self.with_load(regs, true)
    }

    /// Words, capabilities and pages.
    fn with_load(&mut self, mut regs: Regs, carries: bool) -> Act {
        regs = regs.words(self.dice.of(&[0, 0, 0, 1, 3, 8, 64]));
        let (mut grants, mut ranges) = (Vec::new(), Vec::new());
        if carries && self.dice.once_in(3) {
            for _ in 0..1 + self.dice.below(2) {
                let Some(held) = self.any() else { break };
                let cap = Cap(held.number);
                let rights = rights_to_give(self.dice, Rights(held.slot.rights));
                let badge = self.dice.of(&[0, 0, 0x55]);
                let copy = self.dice.once_in(2);
                grants.push(if copy { Grant::Copy { cap, rights, badge } } else { Grant::Move { cap } });
            }
            regs = regs.flag(FLAG_CAPS);
        }
        if carries && self.dice.once_in(4) {
            let address = self.page_of_pool();
            let mode = self.dice.of(&PageMode::ALL);
            ranges.push(PageRange::new(mode, address, 1));
            regs = regs.flag(FLAG_PAGES);
        }
        Act { regs, grants, ranges }
    }

    fn arguments(&mut self, op: Op) -> [u64; 6] {
        match op {
            Op::Notify if self.dice.once_in(2) => [self.target(), self.bits(), 0, 0, 0, 0],
            Op::Notify => [self.cap(ObjType::Notification).arg(), self.bits(), 0, 0, 0, 0],
            Op::Wait => [self.cap(ObjType::Notification).arg(), 0, 0, 0, 0, 0],
            Op::LockWait => {
                let place = Target::new(self.cap(ObjType::Frame), self.dice.below(2) as u32).0;
                let word = LockWord::of(TaskId::from_raw(self.me.id), self.dice.below(4) as u32);
                let word = self.dice.of(&[word.with_waits().0, LockWord::WAITS, 0]);
                [self.cap(ObjType::Group).arg(), 0, place, word, 0, 0]
            }
            Op::LockPass => [Target::new(self.cap(ObjType::Frame), 0).0, 0, 0, 0, 0, 0],
            Op::SaveReply => [self.cap(ObjType::Reply).arg(), 0, 0, 0, 0, 0],
            Op::YieldTo => [self.cap(ObjType::Task).arg(), 0, 0, 0, 0, 0],
            Op::Retype => {
                let (kind, size) = self.dice.of(KINDS);
                let from = self.cap(ObjType::Untyped);
                [Target::new(from, kind as u32).0, size, self.empty(), 1, 0, 0]
            }
            Op::CapCopy => {
                let Some(held) = self.any() else { return [0; 6] };
                let rights = rights_to_give(self.dice, Rights(held.slot.rights));
                let badge = self.dice.of(&[0, 0, 0x66]);
                [Cap(held.number).arg(), self.empty(), u64::from(rights.0), badge, 0, 0]
            }
            Op::CapMove => [self.anything(), self.empty(), 0, 0, 0, 0],
            Op::CapDelete | Op::CapRevoke | Op::CapInspect => [self.full(), 0, 0, 0, 0, 0],
            Op::CapList => {
                let kind = self.dice.of(&[ObjType::CNode, ObjType::Process]);
                [Target::new(self.cap(kind), 1).0, 0, 0, 0, 0, 0]
            }
            Op::UntypedReset => {
                let machine = self.cap(ObjType::Machine).arg();
                [self.cap(ObjType::Untyped).arg(), self.dice.below(2) as u64, 0, machine, 0, 0]
            }
            _ => self.arguments_of_groups(op),
        }
    }

    fn arguments_of_groups(&mut self, op: Op) -> [u64; 6] {
        match op {
            Op::GroupAdd => self.group_add(),
            Op::GroupRemove => {
                [Target::new(self.cap(ObjType::Group), self.dice.below(4) as u32).0, 0, 0, 0, 0, 0]
            }
            Op::Expose => {
                let kind = self.dice.of(&[ObjType::Task, ObjType::Notification]);
                let how = match self.dice.below(6) {
                    0 => 1 | u64::from(EXPOSURES) << 32,
                    1 => watch(WATCH_SHIFT),
                    _ => 0,
                };
                let index = self.dice.below((EXPOSURES + self.cpus) as usize) as u32;
                let group = Target::new(self.cap(ObjType::Group), index);
                [group.0, self.cap(kind).arg(), how, 0, 0, 0]
            }
            Op::Withdraw => [self.target(), 0, 0, 0, 0, 0],
            Op::PoolBind => {
                let (pool, process) = (self.cap(ObjType::EventPool), self.cap(ObjType::Process));
                [pool.arg(), process.arg(), self.cap(ObjType::Task).arg(), POOLS, crate::cast::POOL_BIT, 0]
            }
            Op::ProcessConfigure => {
                let (process, cnode) = (self.cap(ObjType::Process), self.cap(ObjType::CNode));
                [process.arg(), cnode.arg(), self.cap(ObjType::VSpace).arg(), 0, 0, 0]
            }
            Op::ProcessAccept => {
                let slot = u64::from(ACCEPT) + self.dice.below(3) as u64;
                let kind = self.dice.of(&[ObjType::Group, ObjType::Process]);
                [self.cap(ObjType::Process).arg(), slot, self.cap(kind).arg(), 0, 0, 0]
            }
            Op::CSpaceGrow => [self.cap(ObjType::Process).arg(), self.cap(ObjType::CNode).arg(), 0, 0, 0, 0],
            _ => self.arguments_of_tasks(op),
        }
    }

    fn group_add(&mut self) -> [u64; 6] {
        let willing = self.willing();
        let group = willing.map_or_else(|| self.cap(ObjType::Group), |(group, _)| Cap(group.number));
        let process = willing.map_or_else(|| self.cap(ObjType::Process), |(_, process)| Cap(process.number));
        let record = self.record(group);
        let most = if self.focus.is_none() && self.dice.once_in(3) { MEMBER_RIGHTS } else { record.0 };
        let cap = self.held.iter().find(|held| held.number == group.0);
        let most = cap.filter(|_| self.focus.is_some()).map_or(most, |cap| most.and(Rights(cap.slot.rights)));
        let rights = u64::from(some_of(self.dice, most).and(MEMBER_RIGHTS).0);
        let custom =
            if self.focus.is_some() || self.dice.once_in(2) { record.1 } else { self.dice.below(4) as u64 };
        [group.arg(), process.arg(), rights, custom, 0, 0]
    }

    fn arguments_of_tasks(&mut self, op: Op) -> [u64; 6] {
        let task = self.cap(ObjType::Task).arg();
        match op {
            Op::TaskConfigure => {
                let cpu = self.dice.below(self.cpus as usize) as u64;
                [
                    self.cap(ObjType::SchedControl).arg(),
                    task,
                    self.cap(ObjType::Process).arg(),
                    0x5e00_0000,
                    cpu,
                    0,
                ]
            }
            Op::SchedConfigure => {
                let (by, time) = (self.cap(ObjType::SchedControl), self.cap(ObjType::SchedContext));
                let [budget, period] = self.dice.of(&[[0, 0], [0, 0], [PERIOD_MAX, PERIOD_MAX]]);
                [by.arg(), time.arg(), self.dice.of(&[10, 9]), u64::MAX, budget, period]
            }
            Op::SchedAllow => {
                let (by, to) = (self.cap(ObjType::SchedControl), self.cap(ObjType::SchedControl));
                let room = self.dice.of(&[0, 0, WHOLE_CPU, WHOLE_CPU / 2]);
                [by.arg(), to.arg(), self.dice.of(&[10, 9]), 0, self.dice.of(&[1, 3]), room]
            }
            Op::TaskMove => [self.cap(ObjType::SchedControl).arg(), task, self.dice.below(2) as u64, 0, 0, 0],
            Op::SchedBind => [self.cap(ObjType::SchedContext).arg(), task, 0, 0, 0, 0],
            Op::NotificationBind => [self.cap(ObjType::Notification).arg(), task, 0, 0, 0, 0],
            Op::ProcessKill => [self.cap(ObjType::Process).arg(), 0, 0, 0, 0, 0],
            Op::FaultHandler if self.dice.once_in(2) => [task, self.target(), 0, 0, 0, 0],
            Op::FaultHandler => [self.cap(ObjType::Process).arg(), self.target(), 0, 0, 0, 0],
            Op::TaskWriteRegs
            | Op::TaskReadRegs
            | Op::TaskResume
            | Op::TaskSuspend
            | Op::TaskKill
            | Op::TaskCancel => [task, 0, 0, 0, 0, 0],
            _ => self.arguments_of_memory(op),
        }
    }

    fn arguments_of_memory(&mut self, op: Op) -> [u64; 6] {
        let (space, frame) = (self.cap(ObjType::VSpace).arg(), self.cap(ObjType::Frame).arg());
        let machine = self.cap(ObjType::Machine).arg();
        let mapped = self.mapped_at(space, frame);
        let address = self.address(space, mapped);
        match op {
            Op::Map => {
                let access = self.dice.of(&[0, 1, 1, abi::MAP_POOL | 1, abi::MAP_POOL | 1]);
                [space, frame, mapped.unwrap_or(self.dice.of(&PAGES)), access, 0, 1]
            }
            Op::Protect if self.dice.once_in(2) => [space, 0, address, self.dice.below(2) as u64, 0, 1],
            Op::Protect => [space, frame, address, self.dice.below(2) as u64, 0, 1],
            Op::Unmap if self.dice.once_in(2) => [space, 0, address, 0, 0, 1],
            Op::Unmap => [space, frame, address, 0, 0, 1],
            Op::PageCopy => [space, frame, address, 0, 0, 0],
            Op::PageTransfer => {
                let mode = self.dice.of(&PageMode::ALL);
                let [first, count] = PageRange::new(mode, address, 1).words();
                let to = if self.dice.once_in(3) { WINDOW } else { self.dice.of(&PAGES) };
                [space, self.cap(ObjType::VSpace).arg(), first, to, count, 0]
            }
            Op::FramePin => [frame, machine, 0, 0, 0, 0],
            Op::FrameUnpin => [frame, machine, 0, 0, 0, 0],
            Op::IrqAllow => {
                let line = self.dice.of(&[0, 1, 2, u64::from(FIRST_MSI)]);
                let irq = self.cap(ObjType::IrqHandler).arg();
                [machine, self.dice.of(&[irq, irq, irq, 0]), line, 0, 0, 0]
            }
            Op::IrqBind => {
                let (by, irq) = (self.cap(ObjType::SchedControl), self.cap(ObjType::IrqHandler));
                let note = self.cap(ObjType::Notification).arg();
                [by.arg(), irq.arg(), self.dice.of(&[note, note, note, 0]), 1 << 8, 0, 0]
            }
            Op::IrqAck => [self.cap(ObjType::IrqHandler).arg(), 0, 0, 0, 0, 0],
            Op::PortAllow => [machine, self.cap(ObjType::IoPort).arg(), 0x60, 4, 0, 0],
            Op::PortRead | Op::PortWrite => [self.cap(ObjType::IoPort).arg(), 0x60, 1, 0, 0, 0],
            Op::LabelSet => [machine, self.anything(), self.dice.below(3) as u64, 0, 0, 0],
            Op::LabelRule => {
                let (subject, object) = (1 + self.dice.below(2) as u64, self.dice.below(3) as u64);
                [machine, subject, object, self.dice.below(16) as u64, 0, 0]
            }
            _ => [0; 6],
        }
    }

    // --- what the process has --------------------------------------------------------------------

    /// A capability of a type, if it has one, in half of the cases one with the rights that the
    /// operation needs; seldom any slot.
    fn cap(&mut self, kind: ObjType) -> Cap {
        let operands = self.op.forms().iter().flat_map(|form| form.operands);
        let needs = operands.filter(|operand| operand.types.contains(&kind)).map(|operand| operand.rights);
        let earnest = self.focus.is_some();
        let need =
            needs.reduce(Rights::and).filter(|_| earnest || self.dice.once_in(2)).unwrap_or(Rights::NONE);
        let is_it = |held: &&Held| held.slot.kind == kind as u8;
        let strong = |held: &&Held| is_it(held) && Rights(held.slot.rights).contains(need);
        let none = !self.held.iter().any(|held| strong(&held));
        let fits = |held: &&Held| if none { is_it(held) } else { strong(held) };
        let count = self.held.iter().filter(fits).count();
        if count == 0 || !earnest && self.dice.once_in(24) {
            return Cap(self.dice.below(SLOTS as usize + 8) as u32);
        }
        if earnest {
            let fitting: Vec<Held> = self.held.iter().filter(fits).copied().collect();
            return self.best_of(fitting);
        }
        let chosen = self.dice.below(count);
        self.held.iter().filter(fits).nth(chosen).map_or(Cap::NULL, |held| Cap(held.number))
    }

    /// One that is in the state that the operation asks for, if there is one; mostly one that is in
    /// the focus.
    fn best_of(&mut self, mut fitting: Vec<Held>) -> Cap {
        let suits: Vec<Held> = fitting.iter().filter(|held| self.suits(&held.slot)).copied().collect();
        if !suits.is_empty() {
            fitting = suits;
        }
        let number = fitting[self.dice.below(fitting.len())].number;
        self.in_focus(|held| fitting.iter().any(|one| one.number == held.number)).unwrap_or(Cap(number))
    }

    /// Mostly one that is in the focus.
    fn in_focus(&mut self, fits: impl Fn(&Held) -> bool) -> Option<Cap> {
        let focus = self.focus?;
        let same = |held: &&Held| fits(held) && focus.objects.contains(&held.slot.object);
        let count = self.held.iter().filter(same).count();
        if count == 0 || self.dice.once_in(4) {
            return None;
        }
        let chosen = self.dice.below(count);
        self.held.iter().filter(same).nth(chosen).map(|held| Cap(held.number))
    }

    fn any(&mut self) -> Option<Held> {
        let grant = |held: &Held| Rights(held.slot.rights).contains(Rights::GRANT);
        if let Some(cap) = self.in_focus(grant) {
            return self.held.iter().find(|held| held.number == cap.0).copied();
        }
        let chosen = self.dice.below(self.held.len());
        self.held.get(chosen).copied()
    }

    fn anything(&mut self) -> u64 {
        self.any().map_or(0, |held| Cap(held.number).arg())
    }

    fn record(&self, group: Cap) -> (Rights, u64) {
        let held = self.held.iter().find(|held| held.number == group.0);
        let says = held.and_then(|held| self.picture.member(held.slot.object, held.slot.badge / 8));
        says.map_or((MEMBER_RIGHTS, 0), |says| (says.rights, says.custom))
    }

    /// A group, and mostly an index where something is exposed.
    fn target(&mut self) -> u64 {
        if let Some(place) = self.place_in_focus(ObjType::Group) {
            return place;
        }
        let group = self.cap(ObjType::Group);
        let object = self.held.iter().find(|held| held.number == group.0).map_or(0, |held| held.slot.object);
        if let Some(index) = self.index(object) {
            return Target::new(group, index).0;
        }
        let shows = self.picture.s.exposures.iter().filter(|it| it.group == object);
        let indices: Vec<u32> = shows.map(|it| it.number).collect();
        let index = if indices.is_empty() || self.dice.once_in(6) {
            self.dice.below((EXPOSURES + self.cpus) as usize) as u32
        } else {
            self.dice.of(&indices)
        };
        Target::new(group, index).0
    }

    /// Bits that are this process's alone.
    fn bits(&mut self) -> u64 {
        1 << (self.player * 4 + self.dice.below(4))
    }

    /// A slot of its own, of another CNode, or behind one.
    fn place(&mut self, first: u32, count: u32) -> u64 {
        if let Some(place) = self.place_in_focus(ObjType::CNode) {
            return place;
        }
        let cnode = if self.dice.once_in(3) { self.cap(ObjType::CNode) } else { Cap(OWN) };
        let index = if self.dice.once_in(6) {
            SLOTS + self.dice.below(8) as u32
        } else {
            first + self.dice.below(count as usize) as u32
        };
        Target::new(cnode, index).0
    }

    /// Sometimes a slot, or an exposure, that is in the focus.
    fn place_in_focus(&mut self, kind: ObjType) -> Option<u64> {
        let places = &self.focus.filter(|focus| !focus.places.is_empty())?.places;
        let (object, index) = self.dice.of(places);
        let is_it = |held: &&Held| held.slot.object == object && held.slot.kind == kind as u8;
        let held = self.held.iter().find(is_it)?;
        (!self.dice.once_in(3)).then(|| Target::new(Cap(held.number), index).0)
    }

    /// A slot of its own that is empty, or a slot in the focus.
    fn surely_empty(&mut self) -> Option<u64> {
        self.focus.filter(|_| !self.dice.once_in(3))?;
        let own = self.held.iter().find(|held| held.number == OWN)?;
        if own.slot.kind != ObjType::CNode as u8 {
            return None;
        }
        let free = |slot: &u32| !self.held.iter().any(|held| held.number == *slot);
        let free: Vec<u32> = (OWN + 1..SLOTS).filter(free).collect();
        (!free.is_empty()).then(|| Target::new(Cap(OWN), self.dice.of(&free)).0)
    }

    fn empty(&mut self) -> u64 {
        if let Some(slot) = self.surely_empty() {
            return slot;
        }
        if self.dice.once_in(3) { self.place(1, 8) } else { self.place(ACCEPT - 6, SLOTS - ACCEPT + 6) }
    }

    fn full(&mut self) -> u64 {
        if self.dice.once_in(3) || self.held.is_empty() {
            return self.place(1, ACCEPT);
        }
        let number = self.any().map_or(0, |held| held.number);
        Target::new(Cap(OWN), number).0
    }

    /// Mostly where a space has a page of a pool.
    fn address(&mut self, space: u64, mapped: Option<u64>) -> u64 {
        let named = self.held.iter().find(|held| Cap(held.number).arg() == space);
        let object = named.map_or(0, |held| held.slot.object);
        self.page_of(object, mapped)
    }

    /// Mostly where its own space has a page of a pool.
    fn page_of_pool(&mut self) -> u64 {
        self.page_of(self.me.space, None)
    }

    fn page_of(&mut self, space: u64, otherwise: Option<u64>) -> u64 {
        let pooled = self.picture.views().iter().filter(|view| view.space == space && view.pooled);
        if let Some(focus) = self.focus.filter(|focus| !focus.pages.is_empty()) {
            let same = |view: &&confine::View| view.space == space && focus.pages.contains(&view.page);
            let same: Vec<u64> = self.picture.views().iter().filter(same).map(|view| view.address).collect();
            if !same.is_empty() && !self.dice.once_in(3) {
                return self.dice.of(&same);
            }
        }
        let found: Vec<u64> = pooled.map(|view| view.address).collect();
        if let Some(address) = otherwise {
            return address;
        }
        if found.is_empty() || self.dice.once_in(5) { self.dice.of(&PAGES) } else { self.dice.of(&found) }
    }
}

/// Slots that are offered for messages, mostly.
pub fn listening(dice: &mut Dice) -> abi::Listening {
    if dice.once_in(4) {
        abi::Listening::NOT
    } else {
        abi::Listening { next: Cap(LISTEN), count: SLOTS - LISTEN }
    }
}
