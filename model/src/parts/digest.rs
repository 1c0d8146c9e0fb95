//! Hashes of the states of a search, and the identities that programs found.

use abi::Rights;

use super::{At, Removal, Running, Seen, System};
use crate::object::{CallAt, Member, State, Task};
use crate::{Id, Kind, Place};

impl System {
    /// Returns whether the object in a slot may have this identity: it is known by it, or neither
    /// the object nor the identity of any living object was known. Remembers the identity.
    pub fn is_called(&mut self, place: Place, identity: u64) -> bool {
        let Some(object) = self.model.slots.get(&place).map(|it| it.object) else { return identity == 0 };
        if let Some((_, known)) = self.names.iter().find(|(it, _)| *it == object) {
            return *known == identity;
        }
        let lives = |id: Id| !self.model.objects[id.0].ended;
        if self.names.iter().any(|(it, known)| *known == identity && lives(*it)) {
            return false;
        }
        self.names.push((object, identity));
        true
    }

    /// Returns whether the object in a slot is known by this identity, or, for identity 0, the slot
    /// is empty.
    pub fn is_known_as(&self, place: Place, identity: u64) -> bool {
        match self.model.slots.get(&place) {
            Some(it) => self.names.contains(&(it.object, identity)),
            None => identity == 0,
        }
    }

    /// Returns the slot that a CapInspect reads.
    pub fn inspected(&self, running: &Running) -> Option<Place> {
        self.model.find_slot(running.me, running.target(0), Rights::NONE).ok()
    }

    /// Returns a number for the state; equal states have equal numbers. Without `slots`, leaves out
    /// the slots, for histories in which they never change.
    pub fn digest(&self, slots: bool) -> u64 {
        let mut all = Digest(0xcbf2_9ce4_8422_2325);
        for (place, it) in self.model.slots.iter().filter(|_| slots) {
            all.place(Some(*place));
            all.words(&[it.object.0 as u64, u64::from(it.rights.0), it.badge]);
            all.place(it.parent);
            it.children.iter().for_each(|child| all.place(Some(*child)));
        }
        for (index, object) in self.model.objects.iter().enumerate() {
            if object.ended {
                continue;
            }
            all.words(&[index as u64, u64::from(object.dying)]);
            match &object.kind {
                Kind::Untyped(it) => all.words(&[it.low, it.high]),
                Kind::Process(it) => {
                    let offer = it.offer.map(|it| [u64::from(it.slot.0), it.from.0 as u64]);
                    all.words(&offer.unwrap_or_default());
                }
                Kind::Notification(it) => all.words(&[it.bits, it.waiter.map_or(0, |id| id.0 as u64)]),
                Kind::Group(it) => {
                    for member in &it.members {
                        let word = |it: Member| it.process.0 as u64 | u64::from(it.rights.0) << 32;
                        all.words(&[member.map_or(0, word)]);
                    }
                    let owners = it.exposures.iter().map(|it| it.owner.map_or(0, |owner| owner.0 as u64 + 1));
                    owners.for_each(|owner| all.words(&[owner]));
                }
                Kind::Task(it) => all.task(it),
                Kind::Reply(it) => all.words(&[it.caller.map_or(0, |id| id.0 as u64)]),
                _ => {}
            }
        }
        // Only for one CPU the order matters. Here it counts for all.
        self.sent.iter().for_each(|(caller, _)| all.words(&[caller.0 as u64]));
        all.0.wrapping_add(self.rest())
    }

    /// Hashes the things that have no order.
    fn rest(&self) -> u64 {
        let one = |kind: u64, id: Id, word: u64| Digest::of(&[kind, id.0 as u64, word]);
        let sum = |all: u64, one: u64| all.wrapping_add(one);
        let lives = |id: &Id| !self.model.objects[id.0].ended;
        let names = self.names.iter().filter(|(id, _)| lives(id)).map(|(id, name)| one(1, *id, *name));
        let resetting = self.resetting.iter().map(|id| one(2, *id, 0));
        let inert = self.inert.iter().map(|id| one(3, *id, 0));
        let raised = self.raised.iter().map(|(id, bits)| one(4, *id, Digest::of(bits)));
        let claimed = self.claimed.iter().map(|place| {
            let mut all = Digest(Digest::of(&[5]));
            all.place(Some(*place));
            all.0
        });
        let cancels = self.cancels.iter().map(|id| one(6, *id, 0));
        let recalled = self.recalled.iter().map(|id| one(7, *id, 0));
        let claimed = claimed.chain(cancels).chain(recalled);
        names.chain(resetting).chain(inert).chain(raised).chain(claimed).fold(0, sum)
    }
}

struct Digest(u64);

impl Digest {
    fn of(words: &[u64]) -> u64 {
        let mut all = Digest(0x9e37_79b9_7f4a_7c15);
        all.words(words);
        all.0
    }

    fn seen(&mut self, seen: Option<Seen>) {
        self.words(&[seen.map_or(0, |it| it.object.0 as u64 | u64::from(it.rights.0) << 32)]);
    }

    fn removal(&mut self, removal: &Removal) {
        self.place(Some(removal.place));
        self.seen(removal.marked);
        self.seen(removal.only);
    }

    fn task(&mut self, task: &Task) {
        let state = match task.state {
            State::Fresh => 0,
            State::Ready => 1,
            State::Receiving => 2,
            State::Calling => 3,
            State::Dead => 4,
            State::Posting => 5,
            State::Waiting(object) => 6 + object.0 as u64,
            State::InLock(wait) => 1 << 63 | (wait.owner.0 as u64) << 48 ^ wait.word,
        };
        let call = match task.call.map(|call| call.at) {
            None => 0,
            Some(CallAt::Queued(id)) => 1 | (id.0 as u64) << 2,
            Some(CallAt::Served(id)) => 2 | (id.0 as u64) << 2,
            Some(CallAt::Kept(id)) => 3 | (id.0 as u64) << 2,
        };
        self.words(&[state, call, task.caller.map_or(0, |id| id.0 as u64), task.senders.len() as u64]);
        task.senders.iter().for_each(|id| self.words(&[id.0 as u64]));
    }

    fn words(&mut self, words: &[u64]) {
        for word in words {
            // Splitmix64's: words that are nearly the same give numbers that are not.
            let mut it = (self.0 ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            it = (it ^ it >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            it = (it ^ it >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            self.0 = it ^ it >> 31;
        }
    }

    fn place(&mut self, place: Option<Place>) {
        match place {
            None => self.words(&[1]),
            Some(Place::Slot(id, slot)) => self.words(&[2, id.0 as u64, u64::from(slot)]),
            Some(Place::Exposure(id, index)) => self.words(&[3, id.0 as u64, u64::from(index)]),
            Some(Place::Reader(id)) => self.words(&[4, id.0 as u64]),
            Some(Place::Target(id)) => self.words(&[5, id.0 as u64]),
        }
    }
}

impl Running {
    /// Returns a number for the place that a running operation has reached. Operations at one place
    /// differ by `number`.
    pub fn digest(&self, number: usize) -> u64 {
        let mut all = Digest(Digest::of(&[number as u64]));
        let at = match &self.at {
            At::Begun => [1, 0, 0],
            At::Looked { place, capability } => {
                all.place(Some(*place));
                [13, capability.badge, u64::from(capability.rights.0)]
            }
            At::Fill { seen, claimed, to, from, .. } => {
                all.place(Some(*to));
                all.place(Some(*from));
                all.seen(Some(*seen));
                [2, u64::from(*claimed), 0]
            }
            At::Offer { found, .. } => [3, found.object.0 as u64, u64::from(found.rights.0)],
            At::Joins(joins) => [4, joins.index, u64::from(joins.is_member)],
            At::Exposed { .. } => [14, 0, 0],
            At::Raise { group, .. } => [5, group.0 as u64, 0],
            At::Remove { seen, .. } => {
                all.seen(Some(*seen));
                [6, 0, 0]
            }
            At::Delete { removal } => {
                all.removal(removal);
                [8, 0, 0]
            }
            At::Below { seen, victim, before, .. } => {
                all.seen(*seen);
                victim.iter().for_each(|removal| all.removal(removal));
                all.place(*before);
                [9, 0, 0]
            }
            At::Emptied { seen, .. } => {
                all.seen(*seen);
                [12, 0, 0]
            }
            At::Made { untyped } => [10, untyped.0 as u64, 0],
            At::Waits => [11, 0, 0],
        };
        all.words(&at);
        all.0
    }
}
