//! One operation: the pictures before and after it, and the processes that may have acted in
//! between.

use abi::audit::may;
use abi::{ObjType, Rights};
use snapshot::{Slot, Stage, State};

use crate::Excess;
use crate::picture::{Picture, Says, View};

/// Something that a process opened for messages: slots for capabilities, or addresses for pages.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The process.
    pub process: u64,
    /// Its first slot, or its first address.
    pub first: u64,
    /// How many slots, or bytes.
    pub count: u64,
    /// What is offered.
    pub kind: OfferKind,
}

/// What is offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OfferKind {
    /// Slots of the CSpace.
    Slots,
    /// Addresses of the address space.
    Addresses,
}

/// What the rules read, and where they say what is wrong.
pub struct Change<'a> {
    /// The picture before.
    pub before: &'a Picture,
    /// The picture after.
    pub after: &'a Picture,
    /// The processes that may have acted: the one that made the system call, and those that waited
    /// for something.
    pub acts: &'a [u64],
    /// What processes offered before.
    pub offers: &'a [Offer],
    /// The capabilities that these processes held before.
    pub reach: Vec<&'a Slot>,
    /// What is wrong.
    pub out: &'a mut Vec<Excess>,
}

impl<'a> Change<'a> {
    /// Makes a change of two pictures, and looks up the capabilities that the acting processes held
    /// before.
    pub fn new(
        before: &'a Picture,
        after: &'a Picture,
        acts: &'a [u64],
        offers: &'a [Offer],
        out: &'a mut Vec<Excess>,
    ) -> Change<'a> {
        let reach = before.slots().filter(|slot| acts.contains(&before.holder(slot.table))).collect();
        Change { before, after, acts, offers, reach, out }
    }

    /// Reports a violation of a rule.
    pub fn excess(&mut self, rule: &'static str, what: String) {
        self.out.push(Excess { rule, what });
    }

    // --- what the acting processes may do --------------------------------------------------------

    /// Returns whether the acting processes held a capability of an object with all of these
    /// rights.
    pub fn may(&self, object: u64, rights: impl Into<Rights>) -> bool {
        let need = rights.into();
        self.reach.iter().any(|slot| slot.object == object && Rights(slot.rights).contains(need))
    }

    /// Returns whether the acting processes held a capability of the Machine with all of these
    /// rights.
    pub fn may_machine(&self, rights: impl Into<Rights>) -> bool {
        let need = rights.into();
        let machine = |slot: &&&Slot| slot.kind == ObjType::Machine as u8;
        self.reach.iter().filter(machine).any(|slot| Rights(slot.rights).contains(need))
    }

    /// Returns whether a process is one of the acting processes, or they held a capability of it
    /// with these rights.
    pub fn may_or_is(&self, process: u64, rights: impl Into<Rights>) -> bool {
        self.acts.contains(&process) || self.may(process, rights)
    }

    /// Returns the member record by which a group capability acts, if the record is one of the
    /// capability's holder.
    pub fn record(&self, slot: &Slot) -> Option<Says> {
        let record = self.before.member(slot.object, slot.badge / 8)?;
        let holder = self.before.process(self.before.holder(slot.table))?;
        (record.key == holder.key).then_some(record)
    }

    /// Returns whether the acting processes had these rights in a group, by a capability and its
    /// member record.
    pub fn may_in(&self, group: u64, need: Rights) -> bool {
        let with = |slot: &&&Slot| slot.object == group && Rights(slot.rights).contains(need);
        let by_record = |slot: &Slot| self.record(slot).is_some_and(|says| says.rights.contains(need));
        self.reach.iter().filter(with).any(|slot| by_record(slot))
    }

    /// Returns whether the acting processes may change a group: as a member with these rights, or
    /// as its maker, whose capability has DELETE.
    pub fn may_to(&self, group: u64, need: Rights) -> bool {
        self.may(group, need.union(Rights::DELETE)) || self.may_in(group, need)
    }

    /// Returns whether the acting processes may change the slots of a table: the table is in a
    /// CSpace of theirs, or they hold its CNode with GRANT. A CNode stands for its own slots, never
    /// for those of tables behind it.
    pub fn may_change(&self, table: u64) -> bool {
        self.acts.contains(&self.before.holder(table)) || self.may(table, Rights::GRANT)
    }

    /// Returns whether the acting processes may take a capability away: they may change its slot,
    /// or a slot that it was derived from.
    pub fn may_take(&self, slot: &Slot) -> bool {
        let mut at = Some(slot);
        while let Some(one) = at {
            if self.may_change(one.table) {
                return true;
            }
            at = self.before.parent(one);
        }
        false
    }

    /// Returns whether the acting processes may send a message to a process: by a call or an event
    /// to one of its tasks, as the answer to a call of one of its tasks, or to all listeners in a
    /// group.
    pub fn may_tell(&self, process: u64, need: Rights) -> bool {
        self.may_answer(process)
            || self.is_on_its_way(process)
            || self.may_send(process, Rights::SEND.union(need))
    }

    /// Returns whether a message of the acting processes is on its way to a task of a process. They
    /// had the right to send it, and taking that right away does not recall it.
    fn is_on_its_way(&self, process: u64) -> bool {
        let receives = |callee: u64| self.before.task(callee).is_some_and(|task| task.owner == process);
        let sent = |task: &snapshot::Task| self.acts.contains(&task.owner) && waits(task.state);
        self.before
            .s
            .tasks
            .iter()
            .any(|task| sent(task) && task.stage != Stage::Owed && receives(task.callee))
    }

    /// Checks that every call went to a task that its caller, or a task that forwarded it, could
    /// call.
    pub fn calls(&mut self) {
        let (before, after) = (self.before, self.after);
        for now in after.s.tasks.iter().filter(|task| waits(task.state) && task.callee != 0) {
            let was = after.thing(now.at).and_then(|thing| before.again(thing));
            let was = was.and_then(|thing| before.s.tasks.get(thing.number));
            let same = was.is_some_and(|was| waits(was.state) && was.callee == now.callee);
            let callee = after.task(now.callee).map_or(0, |task| task.owner);
            if !same && callee != 0 && !self.may_send(callee, Rights::SEND) {
                let (who, of, to) = (self.actors(), self.name(now.owner), self.name(callee));
                self.excess(
                    "called",
                    format!("a task of {of} has called one of {to}, which {who} could not call"),
                );
            }
            if !same
                && callee != 0
                && !self.acts.contains(&now.owner)
                && !self.may_meet(now.owner, now.callee)
            {
                let (of, to) = (self.name(now.owner), self.name(callee));
                self.excess(
                    "label",
                    format!("a call of {of} was handed on to {to}, in a group that it may not join"),
                );
            }
        }
    }

    /// Returns whether labels let a process join a group in which a task is exposed.
    fn may_meet(&self, process: u64, task: u64) -> bool {
        let label = self.before.label(process);
        let shows = |it: &&snapshot::Exposure| self.before.exposed(it) == task;
        let mut shows = self.before.s.exposures.iter().filter(shows);
        shows.any(|it| self.before.allows(label, self.before.label(it.group), may::JOIN))
    }

    /// Returns whether a task of a process waits for the acting processes' answer, or they hold a
    /// Reply that keeps its call.
    pub fn may_answer(&self, process: u64) -> bool {
        let awaits = |state| matches!(state, State::Await | State::AwaitTimed | State::AwaitRemote);
        let owed = |callee: u64| self.before.task(callee).is_some_and(|task| self.acts.contains(&task.owner));
        let tasks = self.before.s.tasks.iter();
        let mut calls = tasks.filter(|task| task.owner == process && awaits(task.state) && !task.in_fault);
        calls.any(|task| owed(task.callee) || task.held != 0 && self.may(task.held, Rights::SEND))
    }

    /// Returns whether a process is exposed in a group in which the acting processes have these
    /// rights, or listens in such a group.
    pub fn may_send(&self, process: u64, need: Rights) -> bool {
        let Some(key) = self.before.process(process).map(|process| process.key) else { return false };
        let groups = self.reach.iter().filter(|slot| slot.kind == ObjType::Group as u8);
        groups.map(|slot| slot.object).any(|group| {
            let exposed = |at| self.before.task(at).is_some_and(|task| task.owner == process);
            let shows = self.before.s.exposures.iter().filter(|it| it.group == group);
            let receives = shows.map(|it| self.before.exposed(it)).any(exposed);
            let listens = |says: Says| says.key == key && says.rights.contains(Rights::LISTEN);
            (receives || self.before.members(group).any(listens)) && self.may_in(group, need)
        })
    }

    /// Returns whether a process offered the slot, or the address, `at` for messages.
    pub fn is_offered(&self, process: u64, at: u64, kind: OfferKind) -> bool {
        let fits = |offer: &&Offer| offer.process == process && offer.kind == kind;
        let within = |offer: &Offer| at >= offer.first && at - offer.first < offer.count;
        self.offers.iter().filter(fits).any(within)
    }

    // --- names for people ------------------------------------------------------------------------

    /// Names a process by its identity.
    pub fn name(&self, process: u64) -> String {
        let of = |picture: &Picture| picture.process(process).map(|process| process.identity);
        of(self.before)
            .or_else(|| of(self.after))
            .map_or("nobody".to_owned(), |number| format!("process {number:#x}"))
    }

    /// Names the acting processes.
    pub fn actors(&self) -> String {
        let names: Vec<String> = self.acts.iter().map(|process| self.name(*process)).collect();
        names.join(", ")
    }

    /// Names an object by its type and identity.
    pub fn object(&self, at: u64) -> String {
        let thing = self.after.thing(at).or_else(|| self.before.thing(at));
        thing.map_or(format!("{at:#x}"), |thing| format!("{:?} {:x}", thing.kind, thing.identity & 0xffff))
    }

    /// Names a view by its place.
    pub fn view(&self, view: &View) -> String {
        let resident = self.name(self.after.resident(view.space));
        let how = if view.writable { "writable" } else { "read-only" };
        format!("page {:x} {how} at {:x} of {resident}", view.page, view.address)
    }
}

/// Whether a task waits in a call, or for room for an event.
fn waits(state: State) -> bool {
    matches!(state, State::Sending | State::Await | State::AwaitTimed | State::AwaitRemote)
}
