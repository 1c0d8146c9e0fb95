//! Capabilities: their slots, their rights, and the derivation tree.

use alloc::vec::Vec;

use abi::audit::CAP_LIST_MAX;
use abi::{Cap, Error, ObjType, Rights, Target, cnode_rights, process_rights};

use crate::growth::Reach;
use crate::{Answer, Args, Id, Kind, Model, Refusal, Result};

/// Where a capability can be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Place {
    /// A slot of a CNode.
    Slot(Id, u32),
    /// An exposure of a group.
    Exposure(Id, u32),
    /// The reader of an event pool.
    Reader(Id),
    /// The Notification of an IrqHandler.
    Target(Id),
}

impl Place {
    /// Returns the object that it is in.
    pub fn table(self) -> Id {
        let (Place::Slot(table, _) | Place::Exposure(table, _) | Place::Reader(table) | Place::Target(table)) =
            self;
        table
    }

    pub fn index(self) -> u32 {
        match self {
            Place::Slot(_, index) | Place::Exposure(_, index) => index,
            Place::Reader(_) | Place::Target(_) => 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    pub object: Id,
    pub rights: Rights,
    pub badge: u64,
    /// What it was derived from.
    pub parent: Option<Place>,
    /// What was derived from it, the last first.
    pub children: Vec<Place>,
}

/// A capability that was looked up, with its rights checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    pub place: Place,
    pub object: Id,
    pub rights: Rights,
    pub badge: u64,
}

/// Bits of a badge.
const BADGE_BITS: u32 = 48;

impl Model {
    // --- looking up ------------------------------------------------------------------------------

    /// Returns the slot of a capability in a process's CSpace.
    pub fn slot_of(&self, process: Id, cap: Cap) -> Result<Place> {
        let missing = Refusal::new(Error::NoCapability, u64::from(cap.0));
        let cnode = self.process(process).cnode.ok_or(missing)?;
        self.slot_in(Reach::cspace(cnode), cap.0).ok_or(missing)
    }

    /// Returns the capability of a task, whatever its object's type is.
    pub fn find_any(&self, me: Id, cap: Cap) -> Result<Found> {
        let place = self.slot_of(self.process_of(me), cap)?;
        let it = self.slots.get(&place).ok_or(Refusal::new(Error::NoCapability, u64::from(cap.0)))?;
        Ok(Found { place, object: it.object, rights: it.rights, badge: it.badge })
    }

    /// Finds a capability of a type, with rights.
    pub fn find(&self, me: Id, cap: Cap, of: ObjType, need: impl Into<Rights>) -> Result<Found> {
        let found = self.find_any(me, cap)?;
        let object_type = self.object_type(found.object);
        if object_type != of {
            return Err(Refusal::new(Error::WrongType, object_type as u64));
        }
        has(found.rights, need.into())?;
        Ok(found)
    }

    /// Returns the slot that a `CNode and slot` argument names.
    pub fn find_slot(&self, me: Id, at: Target, need: impl Into<Rights>) -> Result<Place> {
        let reach = self.find_cnode(me, at.cap(), need)?;
        let missing = Refusal::new(Error::NoCapability, u64::from(at.index()));
        self.slot_in(reach, at.index()).ok_or(missing)
    }

    /// Finds the slots that a CNode capability covers: the caller's own CNode needs no right, and
    /// covers the whole CSpace.
    fn find_cnode(&self, me: Id, cap: Cap, need: impl Into<Rights>) -> Result<Reach> {
        let cnode = self.find(me, cap, ObjType::CNode, Rights::NONE)?;
        if self.process(self.process_of(me)).cnode == Some(cnode.object) {
            return Ok(Reach::cspace(cnode.object));
        }
        has(cnode.rights, need.into())?;
        Ok(Reach { first: cnode.object, whole: false })
    }

    /// Returns how many capabilities an object has.
    pub fn references(&self, object: Id) -> usize {
        self.slots.values().filter(|it| it.object == object).count()
    }

    // --- the tree --------------------------------------------------------------------------------

    /// Checks that a slot can be filled: it is empty.
    pub fn check_empty(&self, place: Place) -> Result<()> {
        if self.slots.contains_key(&place) {
            return Err(Error::SlotOccupied.into());
        }
        if self.is_dying(place.table()) { Err(Error::Dying.into()) } else { Ok(()) }
    }

    /// Fills a slot with a capability that is derived from none: as where a history begins.
    pub fn give(&mut self, place: Place, object: Id, rights: Rights, badge: u64) {
        self.slots.insert(place, Capability { object, rights, badge, parent: None, children: Vec::new() });
    }

    /// Fills an empty slot with a capability derived from `parent`.
    pub fn derive(&mut self, place: Place, parent: Place, object: Id, rights: Rights, badge: u64) {
        let it = Capability { object, rights, badge, parent: Some(parent), children: Vec::new() };
        self.slots.insert(place, it);
        self.cap_mut(parent).children.insert(0, place);
    }

    pub fn cap_mut(&mut self, place: Place) -> &mut Capability {
        self.slots.get_mut(&place).expect("a full slot")
    }

    /// Returns the list of capabilities that have the same parent as this one, and its index there.
    fn siblings(&mut self, place: Place) -> Option<(&mut Vec<Place>, usize)> {
        let parent = self.slots[&place].parent?;
        let children = &mut self.cap_mut(parent).children;
        let at = children.iter().position(|child| *child == place).expect("a child of its parent");
        Some((children, at))
    }

    /// Empties a slot: its children take its place among its siblings. Returns whether it was its
    /// object's last.
    pub fn unlink(&mut self, place: Place) -> bool {
        let children = self.slots[&place].children.clone();
        if let Some((siblings, at)) = self.siblings(place) {
            siblings.splice(at..=at, children.iter().copied());
        }
        let it = self.slots.remove(&place).expect("a full slot");
        for child in children {
            self.cap_mut(child).parent = it.parent;
        }
        self.references(it.object) == 0
    }

    /// Returns the first capability to be deleted among all that were derived from one.
    pub fn first_leaf(&self, place: Place) -> Option<Place> {
        let mut at = *self.slots.get(&place)?.children.first()?;
        while let Some(child) = self.slots[&at].children.first() {
            at = *child;
        }
        Some(at)
    }

    // --- operations ------------------------------------------------------------------------------

    pub fn cap_copy(&mut self, me: Id, args: &Args) -> Result {
        let source = self.slot_of(self.process_of(me), args.cap(0))?;
        let to = self.find_slot(me, args.target(1), Rights::GRANT)?;
        let from = self.look_copy(me, args)?;
        self.may_grant(me, to, self.label(from.object))?;
        self.check_empty(to)?;
        if self.is_dying(from.object) {
            return Err(Error::Dying.into());
        }
        let keeps = from.badge != 0 || self.object_type(from.object) == ObjType::Group;
        let badge = if keeps { from.badge } else { args.0[3] };
        self.derive(to, source, from.object, Rights(args.0[2] as u32), badge);
        Ok(Answer::DONE)
    }

    /// Returns the capability to be copied, if the arguments are allowed.
    pub(crate) fn look_copy(&self, me: Id, args: &Args) -> Result<Found> {
        let from = self.find_any(me, args.cap(0))?;
        let excess = Rights(args.0[2] as u32).minus(from.rights);
        if excess != Rights::NONE {
            return Err(Refusal::new(Error::Amplifies, u64::from(excess.0)));
        }
        if let Kind::Untyped(_) = self.objects[from.object.0].kind {
            return Err(Refusal::new(Error::WrongType, ObjType::Untyped as u64));
        }
        has(from.rights, Rights::GRANT)?;
        if args.0[3] >> BADGE_BITS != 0 {
            return Err(Refusal::argument(3));
        }
        Ok(from)
    }

    pub fn cap_move(&mut self, me: Id, args: &Args) -> Result {
        let source = self.slot_of(self.process_of(me), args.cap(0))?;
        let to = self.find_slot(me, args.target(1), Rights::GRANT)?;
        let from = self.find_any(me, args.cap(0))?;
        self.may_grant(me, to, self.label(from.object))?;
        self.check_empty(to)?;
        if self.is_dying(from.object) {
            return Err(Error::Dying.into());
        }
        self.move_to(source, to);
        Ok(Answer::DONE)
    }

    /// Moves a capability to another slot. It keeps its place in the tree.
    pub(crate) fn move_to(&mut self, source: Place, to: Place) {
        if let Some((siblings, at)) = self.siblings(source) {
            siblings[at] = to;
        }
        let it = self.slots.remove(&source).expect("a full slot");
        for child in &it.children {
            self.cap_mut(*child).parent = Some(to);
        }
        self.slots.insert(to, it);
    }

    /// Identities are the kernel's to choose.
    pub fn look_inspect(&self, me: Id, args: &Args) -> Result {
        const IDENTITY: u8 = 1 << 3;
        let place = self.find_slot(me, args.target(0), cnode_rights::OBSERVE)?;
        let Some(it) = self.slots.get(&place) else { return Ok(Answer::DONE) };
        let values = [self.object_type(it.object) as u64, u64::from(it.rights.0), it.badge, 0];
        Ok(Answer::Free(values, IDENTITY))
    }

    pub fn cap_verify(&mut self, me: Id, args: &Args) -> Result {
        let process = self.find(me, args.cap(0), ObjType::Process, process_rights::OBSERVE)?.object;
        let wanted = self.find_any(me, args.cap(1))?.object;
        let rights = u32::try_from(args.0[2]).map(Rights).map_err(|_| Refusal::argument(2))?;
        let first = u32::try_from(args.0[3]).map_err(|_| Refusal::argument(3))?;
        let cnode = self.process(process).cnode.ok_or(Refusal::from(Error::BadState))?;
        let holds = |(n, place): &(u32, Place)| {
            let it = self.slots.get(place).filter(|it| *n >= first && it.object == wanted);
            it.and_then(|it| self.in_effect(process, it)).is_some_and(|held| held.contains(rights))
        };
        let found = self.places_in(Reach::cspace(cnode)).into_iter().find(holds);
        Ok(Answer::one(found.map_or(0, |(n, _)| u64::from(n))))
    }

    /// Returns the rights that a capability has for a process that holds it. A group's capability
    /// has rights only for the group's maker or a member.
    fn in_effect(&self, process: Id, it: &Capability) -> Option<Rights> {
        if self.object_type(it.object) != ObjType::Group {
            return Some(it.rights);
        }
        let is_maker = it.rights.contains(Rights::DELETE);
        let maker = Rights::DELETE | Rights::ADD | Rights::REMOVE | Rights::LISTEN;
        let members = &self.group(it.object).members;
        let record = members.get((it.badge / 8) as usize).copied().flatten();
        match record.filter(|record| record.process == process) {
            Some(record) if is_maker => Some(it.rights.and(record.rights | maker)),
            Some(record) => Some(it.rights.and(record.rights)),
            None => is_maker.then(|| it.rights.and(maker)),
        }
    }

    /// Carries out CapList as far as the model can: how many capabilities it lists, and where it
    /// ends. The model does not have the entries.
    pub fn cap_list(&mut self, me: Id, args: &Args) -> Result {
        let found = self.find_any(me, args.cap(0))?;
        let reach = if let Kind::Process(process) = &self.objects[found.object.0].kind {
            has(found.rights, process_rights::OBSERVE.into())?;
            process.cnode.map(Reach::cspace).ok_or(Refusal::from(Error::BadState))?
        } else {
            self.find_cnode(me, args.cap(0), cnode_rights::OBSERVE)?
        };
        let (first, slots) = (args.target(0).index().max(1), self.slots_in(reach));
        let end = slots.min(first.saturating_add(self.limits.slots_listed)).max(first);
        let places = self.places_in(reach).into_iter().filter(|(n, _)| (first..end).contains(n));
        let full: Vec<u32> = places.filter(|it| self.slots.contains_key(&it.1)).map(|it| it.0).collect();
        let at = full.get(CAP_LIST_MAX - 1).map_or(end, |last| last + 1);
        let next = if at < slots { at } else { 0 };
        Ok(Answer::Values([u64::from(next), full.len().min(CAP_LIST_MAX) as u64, 0, 0]))
    }
}

/// Checks that rights include those that are needed.
pub fn has(rights: Rights, need: Rights) -> Result<()> {
    let missing = need.minus(rights);
    if missing == Rights::NONE { Ok(()) } else { Err(Refusal::new(Error::NoRight, u64::from(missing.0))) }
}
