//! Finds objects in the state that an operation needs, so that it is likely to succeed.

use abi::{ObjType, Op, Rights};
use snapshot::Slot;

use crate::acts::Chooser;
use crate::cast::PAGES;
use crate::pick::Held;

impl Chooser<'_> {
    /// Whether an object is in the state that the operation asks for.
    pub fn suits(&self, slot: &Slot) -> bool {
        let kinds = [ObjType::Process, ObjType::Task, ObjType::Group];
        match kinds.into_iter().find(|kind| *kind as u8 == slot.kind) {
            Some(ObjType::Process) => self.suits_process(slot.object),
            Some(ObjType::Task) => self.suits_task(slot.object),
            Some(_) => self.suits_group(slot),
            None => self.suits_thing(slot.object),
        }
    }

    fn suits_process(&self, at: u64) -> bool {
        let Some(process) = self.picture.process(at) else { return true };
        match self.op {
            Op::ProcessConfigure => process.cnode == 0,
            Op::GroupAdd => process.offer_slot != 0,
            Op::PoolBind => process.pool == 0 && process.cnode != 0,
            Op::TaskConfigure | Op::CSpaceGrow => process.cnode != 0 && !process.dead,
            _ => true,
        }
    }

    fn suits_task(&self, at: u64) -> bool {
        let Some(task) = self.picture.task(at) else { return true };
        let is_here = task.home == self.me.home;
        let lives = task.id != 0 && !task.dead && !task.ending;
        match self.op {
            Op::TaskConfigure => task.id == 0 && is_here,
            Op::TaskReadRegs | Op::TaskWriteRegs => task.suspended && is_here,
            Op::TaskResume => task.suspended,
            Op::TaskSuspend => lives && !task.suspended,
            Op::TaskKill | Op::TaskCancel => lives && task.at != self.me.at,
            Op::SchedBind => task.own_context == 0 && is_here,
            Op::NotificationBind => task.bound == 0 && is_here,
            Op::PoolBind => lives && task.owner == self.me.owner,
            Op::YieldTo => task.at != self.me.at && is_here,
            _ => lives,
        }
    }

    /// Whether its record there lets it do what it is about to.
    fn suits_group(&self, slot: &Slot) -> bool {
        let need = self.op.forms().iter().flat_map(|form| form.operands);
        let need = need.filter(|operand| operand.types == [ObjType::Group]).map(|operand| operand.rights);
        let need = need.reduce(Rights::and).unwrap_or(Rights::NONE);
        let key = self.picture.process(self.me.owner).map(|process| process.key);
        let says = self.picture.member(slot.object, slot.badge / 8);
        let by_record = says.is_some_and(|says| Some(says.key) == key && says.rights.contains(need));
        by_record || Rights(slot.rights).contains(need.union(Rights::DELETE))
    }

    fn suits_thing(&self, at: u64) -> bool {
        let Some(thing) = self.picture.thing(at) else { return true };
        let s = &self.picture.s;
        match (self.op, thing.kind) {
            (Op::ProcessConfigure | Op::CSpaceGrow, ObjType::CNode) => self.picture.holder(at) == 0,
            (Op::ProcessConfigure, ObjType::VSpace) => self.picture.resident(at) == 0,
            (Op::FrameUnpin, ObjType::Frame) => self.picture.frame(at).is_some_and(|frame| frame.pins != 0),
            (Op::SaveReply, ObjType::Reply) => {
                s.replies.iter().any(|reply| reply.at == at && reply.caller == 0)
            }
            (Op::Reply, ObjType::Reply) => s.replies.iter().any(|reply| reply.at == at && reply.caller != 0),
            (Op::PoolBind, ObjType::EventPool) => {
                s.pools.iter().any(|pool| pool.at == at && pool.process == 0)
            }
            (Op::Wait | Op::NotificationBind, ObjType::Notification) => {
                let here = |note: &snapshot::Notification| {
                    note.home == self.me.home && note.waiter == 0 && note.bound == 0
                };
                self.picture.notification(at).is_some_and(here)
            }
            _ => true,
        }
    }

    /// A group, and a process that has offered a membership of it, or one to the process that acts.
    pub fn willing(&mut self) -> Option<(Held, Held)> {
        self.focus?;
        let identity = |at: u64| self.picture.thing(at).map_or(0, |thing| thing.identity);
        let own = identity(self.me.owner);
        let of = |kind: ObjType| self.held.iter().filter(move |held| held.slot.kind == kind as u8);
        let mut pairs = Vec::new();
        for process in of(ObjType::Process) {
            let Some(offer) = self.picture.process(process.slot.object).filter(|it| it.offer_slot != 0)
            else {
                continue;
            };
            let fits = |group: &&Held| {
                let agreed = offer.offer_from == own || offer.offer_from == identity(group.slot.object);
                agreed && self.suits_group(&group.slot)
            };
            pairs.extend(of(ObjType::Group).filter(fits).map(|group| (*group, *process)));
        }
        let chosen = self.dice.below(pairs.len());
        pairs.get(chosen).copied()
    }

    /// The number of an exposure that the operation can be about.
    pub fn index(&mut self, group: u64) -> Option<u32> {
        self.focus?;
        let picture = self.picture;
        let shows = picture.s.exposures.iter().filter(|it| it.group == group);
        let fits = |it: &&snapshot::Exposure| {
            let shown = picture.exposed(it);
            let task = picture.task(shown).is_some_and(|task| task.at != self.me.at && !task.dead);
            match self.op {
                Op::Notify => picture.notification(shown).is_some(),
                Op::Withdraw => shown != 0,
                _ => task,
            }
        };
        let found: Vec<u32> = shows.filter(fits).map(|it| it.number).collect();
        (!found.is_empty()).then(|| self.dice.of(&found))
    }

    /// Where a frame is mapped in a space, or a page of a pool that the operation can be about.
    pub fn mapped_at(&mut self, space: u64, frame: u64) -> Option<u64> {
        self.focus?;
        let object = |cap: u64| {
            let named = self.held.iter().find(|held| abi::Cap(held.number).arg() == cap);
            named.map_or(0, |held| held.slot.object)
        };
        let (space, frame) = (object(space), self.picture.frame(object(frame)).copied());
        let its = |view: &&confine::View| {
            let of_frame = frame.is_some_and(|frame| confine::Picture::has_page(&frame, view.page));
            let lent = self.op != Op::PageCopy || view.pooled && view.lent;
            view.space == space && !view.plain && (view.pooled || of_frame) && lent
        };
        let free = |address: &u64| self.picture.view(space, *address).is_none();
        let found: Vec<u64> = match self.op {
            Op::Map => PAGES.into_iter().filter(free).collect(),
            _ => self.picture.views().iter().filter(its).map(|view| view.address).collect(),
        };
        (!found.is_empty()).then(|| self.dice.of(&found))
    }
}
