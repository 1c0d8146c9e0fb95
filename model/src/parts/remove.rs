//! Delete, revoke and reset in parts.
//!
//! A slot is emptied under the lock of its tree, unless it has its object's last capability. In
//! that case the kernel marks the object as dying under the lock, ends it on its home CPU, and then
//! empties the slot under the lock, if it still has the same capability. If the home is another
//! CPU, the caller waits for it and makes its system call again. It then looks again at the slot,
//! or for the first descendant to delete, which may have changed.
//!
//! A revoke that continues in the same entry looks for the next descendant after the slot that
//! precedes the deleted one. If the tree may have changed there, it looks from its own slot on.

use super::{At, Part, Running, Seen, System};
use crate::object::{Id, Kind};
use crate::reclaim::Pins;
use crate::{Answer, Place};

/// A slot that is being emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Removal {
    pub place: Place,
    /// Its object was marked as dying by this.
    pub marked: Option<Seen>,
    /// Only this is taken from there; otherwise the operation begins again.
    pub only: Option<Seen>,
}

/// How far it is.
pub(super) enum Removed {
    No,
    Yes,
    /// It waited for another CPU: the operation begins again.
    Anew,
}

impl Removal {
    pub fn of(place: Place) -> Removal {
        Removal { place, marked: None, only: None }
    }
}

impl System {
    /// Does the next part of an operation that removes capabilities. Returns its answer if it is
    /// over.
    pub(super) fn go_on_removing(&mut self, running: &mut Running, part: Part) -> Option<Answer> {
        if part == Part::Again {
            running.at = At::Begun;
            return None;
        }
        match running.at.clone() {
            At::Delete { mut removal } => {
                let removed = self.remove(running, &mut removal);
                running.at = At::Delete { removal };
                match removed {
                    Removed::Yes => return Some(Answer::DONE),
                    Removed::No => {}
                    Removed::Anew => running.at = At::Begun,
                }
            }
            At::Below { place, seen, victim: Some(mut removal), before, reset } => {
                let removed = self.remove(running, &mut removal);
                let victim = if let Removed::Yes = removed { None } else { Some(removal) };
                running.at = At::Below { place, seen, victim, before, reset };
                if let Removed::Anew = removed {
                    running.at = At::Begun;
                }
            }
            At::Below { place, seen, victim: None, reset, .. } => match (part, reset) {
                (Part::Pick(victim), _) => {
                    let before = Some(self.stands_before(victim)).filter(|before| *before != place);
                    let victim = Some(Removal::of(victim));
                    running.at = At::Below { place, seen, victim, before, reset };
                }
                (_, Some(untyped)) => running.at = At::Emptied { place, seen, untyped },
                (_, None) => return Some(Answer::DONE),
            },
            At::Emptied { place, seen, untyped } => {
                let is_empty = self.is_empty(place, seen, untyped);
                self.resetting.retain(|it| *it != untyped);
                if is_empty {
                    let it = self.model.untyped_mut(untyped);
                    (it.low, it.high) = (0, it.size);
                    return Some(Answer::one(it.size));
                }
                running.at = At::Begun;
            }
            at => unreachable!("{at:?} removes nothing"),
        }
        None
    }

    pub(super) fn below(&self, place: Place, reset: Option<Id>) -> At {
        At::Below { place, seen: self.now(place), victim: None, before: None, reset }
    }

    /// Returns which capabilities below a slot can be the next to be deleted: the first one, and
    /// the one where the search continues, if there is one.
    pub(super) fn first_to_go(
        &self,
        place: Place,
        seen: Option<Seen>,
        before: Option<Place>,
    ) -> [Option<Place>; 2] {
        if seen.is_none() || self.now(place) != seen {
            return [None; 2];
        }
        let first = self.model.first_leaf(place);
        let before = before.filter(|it| self.now(*it).is_some());
        let other = before.map(|it| self.model.first_leaf(it).unwrap_or(it)).filter(|it| Some(*it) != first);
        [first, other.filter(|_| first.is_some())]
    }

    /// Returns the capability before another in their tree, in which each capability is followed by
    /// those that were derived from it.
    fn stands_before(&self, place: Place) -> Place {
        let parent = self.model.slots[&place].parent.expect("it was derived");
        let children = &self.model.slots[&parent].children;
        let at = children.iter().position(|it| *it == place).expect("a child of its parent");
        let Some(mut last) = at.checked_sub(1).map(|at| children[at]) else { return parent };
        while let Some(child) = self.model.slots[&last].children.last() {
            last = *child;
        }
        last
    }

    /// Returns whether an Untyped can be started again: its capability is in its slot, nothing was
    /// made of it, and it is being reset.
    pub(super) fn is_empty(&self, place: Place, seen: Option<Seen>, untyped: Id) -> bool {
        let has_none = self.model.slots.get(&place).is_some_and(|it| it.children.is_empty());
        self.now(place) == seen && has_none && self.resetting.contains(&untyped)
    }

    fn is_inert(&self, object: Id) -> bool {
        self.inert.contains(&object) || self.model.objects[object.0].ended
    }

    /// Returns whether an operation may have waited for another CPU although the object was ended
    /// in between.
    pub(super) fn waited_in_vain(&self, me: Id, removal: &Removal) -> bool {
        let is_inert = removal.marked.is_some_and(|seen| self.is_inert(seen.object));
        is_inert && self.waits_elsewhere(me, removal)
    }

    /// Returns whether another CPU has to end the object that is being removed.
    pub(super) fn waits_elsewhere(&self, me: Id, removal: &Removal) -> bool {
        removal.marked.is_some_and(|seen| self.is_elsewhere(me, seen.object))
    }

    fn is_elsewhere(&self, me: Id, object: Id) -> bool {
        match &self.model.objects[object.0].kind {
            Kind::Notification(it) => it.home != self.model.task(me).home,
            _ => false,
        }
    }

    /// Does the next part of emptying a slot.
    fn remove(&mut self, running: &Running, removal: &mut Removal) -> Removed {
        let (me, place) = (running.me, removal.place);
        let Some(seen) = removal.marked else {
            let now = self.now(place);
            if removal.only.is_some() && now != removal.only {
                return Removed::Anew;
            }
            let Some(now) = now else { return Removed::Yes };
            if self.model.references(now.object) > 1 {
                self.model.unlink(place);
                return Removed::Yes;
            }
            self.model.objects[now.object.0].dying = true;
            removal.marked = Some(now);
            return Removed::No;
        };
        let object = seen.object;
        if !self.is_inert(object) {
            // What clusters have can be ended.
            let _ = self.model.end(me, place, object, Pins::Hold);
            self.inert.push(object);
            return if self.is_elsewhere(me, object) { Removed::Anew } else { Removed::No };
        }
        if self.sees(place, seen) {
            self.inert.retain(|it| *it != object);
            self.model.unlink(place);
            self.model.objects[object.0].ended = true;
            self.raised.retain(|(of, _)| *of != object);
            return Removed::Yes;
        }
        if removal.only.is_some() { Removed::Anew } else { Removed::Yes }
    }
}
