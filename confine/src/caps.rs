//! Capabilities: checks where new ones come from, and which process took others away.

use abi::audit::may;
use abi::{ObjType, Rights, machine_rights, process_rights};
use snapshot::{Slot, SlotUse};

use crate::change::{Change, OfferKind};

impl Change<'_> {
    /// Checks that every new capability came to its slot by right, and that every missing one was
    /// taken by right.
    pub fn capabilities(&mut self) {
        let (before, after) = (self.before, self.after);
        for slot in after.slots().filter(|slot| !before.has_still(slot, after)) {
            if self.is_in_cspace(slot) && !self.is_weaker(slot) {
                self.arrival(slot);
            }
        }
        for slot in before.slots().filter(|slot| !after.has_still(slot, before)) {
            if self.is_in_cspace(slot) && !self.is_disposed(slot) && !self.may_take(slot) {
                let (what, holder) = (self.object(slot.object), self.name(before.holder(slot.table)));
                let who = self.actors();
                self.excess("taken", format!("{who} took {what} from slot {} of {holder}", slot.number));
            }
        }
        self.tables();
    }

    /// Returns whether a slot is a full one of a CNode. Other rules check the slots of groups and
    /// pools.
    fn is_in_cspace(&self, slot: &Slot) -> bool {
        let thing = self.after.thing(slot.table).or_else(|| self.before.thing(slot.table));
        slot.used == SlotUse::Full && thing.is_some_and(|thing| thing.kind == ObjType::CNode)
    }

    /// Returns whether the slot's table has ended, or is ending: its capabilities go with it.
    fn is_disposed(&self, slot: &Slot) -> bool {
        let table = self.before.thing(slot.table).and_then(|thing| self.after.again(thing));
        table.is_none_or(|thing| thing.ends) || self.before.thing(slot.table).is_some_and(|thing| thing.ends)
    }

    /// Returns whether the slot held the same capability before, with these rights or more. That
    /// change needs no authority.
    fn is_weaker(&self, slot: &Slot) -> bool {
        let was =
            self.before.slot(slot.at).filter(|was| was.object == slot.object && was.badge == slot.badge);
        was.is_some_and(|was| {
            let same = self.before.thing(was.object).is_some_and(|thing| self.after.again(thing).is_some());
            same && Rights(was.rights).contains(Rights(slot.rights))
        })
    }

    fn arrival(&mut self, slot: &Slot) {
        let known = self.after.thing(slot.object).and_then(|thing| self.before.again(thing)).is_some();
        // Whether labels let a process join is asked of its record.
        if known && slot.kind == ObjType::Group as u8 && self.joins(slot) {
            return;
        }
        let right = if !known {
            self.is_made(slot)
        } else {
            let sources = self.reach.clone();
            sources.into_iter().any(|source| self.comes_from(source, slot))
        };
        if !right {
            let (what, holder) = (self.object(slot.object), self.name(self.after.holder(slot.table)));
            let rights = slot.rights;
            let how = format!("slot {} of {holder} has {what} with rights {rights:#x}", slot.number);
            let text = format!("{how}, badge {:#x}, which {} could not give", slot.badge, self.actors());
            self.excess("held", text);
        }
        self.label_of(slot);
    }

    /// Returns whether the slot has the first capability of an object that was made of memory that
    /// the acting processes held.
    fn is_made(&self, slot: &Slot) -> bool {
        let untypeds = self.before.s.untypeds.iter();
        let of = |at: u64, base: u64, size: u64| {
            (base..base + size).contains(&slot.object) && self.may(at, Rights::NONE)
        };
        let memory = untypeds.clone().any(|untyped| of(untyped.at, untyped.base, untyped.size));
        let device = self.after.frame(slot.object).is_some_and(|frame| frame.device);
        memory && self.may_change(slot.table) && (!device || self.may_machine(machine_rights::DEVICE))
    }

    /// Returns whether the slot has the capability of a member that has just joined: as strong as
    /// the record, and as the capability that it was derived from. Another rule checks whether the
    /// member may have joined.
    fn joins(&self, slot: &Slot) -> bool {
        let (group, number) = (slot.object, slot.badge / 8);
        let Some(says) = self.after.member(group, number) else { return self.joined_and_left(slot) };
        let holder = self.after.process(self.after.holder(slot.table));
        let is_new = self.before.member(group, number) != Some(says);
        let rights = Rights(slot.rights);
        let by = |source: &&&Slot| source.object == group && Rights(source.rights).contains(rights);
        is_new
            && holder.is_some_and(|holder| holder.key == says.key)
            && says.rights.contains(rights)
            && self.reach.iter().any(|source| by(&source))
    }

    /// Returns whether the slot can have the capability of a member that joined and, before the
    /// second picture, was removed or ended: the capability stays, without record.
    fn joined_and_left(&self, slot: &Slot) -> bool {
        let (group, rights) = (slot.object, Rights(slot.rights));
        let by = |source: &&Slot| source.object == group && Rights(source.rights).contains(rights);
        let holder = self.before.holder(slot.table);
        let again = self.before.thing(holder).and_then(|thing| self.after.again(thing));
        let ended = again.is_none_or(|thing| thing.ends);
        self.may_to(group, Rights::ADD)
            && (ended || self.may_to(group, Rights::REMOVE))
            && self.agreed(holder, group)
            && self.reach.iter().any(by)
            && !rights.contains(Rights::DELETE)
    }

    /// Returns whether the capability in `source`, which the acting processes held, may have come
    /// to `slot`, moved or as a copy.
    fn comes_from(&self, source: &Slot, slot: &Slot) -> bool {
        if source.object != slot.object || !Rights(source.rights).contains(Rights(slot.rights)) {
            return false;
        }
        let keeps = source.kind == ObjType::Group as u8 || source.badge != 0;
        if keeps && slot.badge != source.badge {
            return false;
        }
        let is_moved = !self.after.has_still(source, self.before) && source.rights == slot.rights;
        // Without GRANT a capability may be moved, never given and kept. An Untyped has one
        // capability.
        let copies = Rights(source.rights).contains(Rights::GRANT) && source.kind != ObjType::Untyped as u8;
        if !is_moved && !copies {
            return false;
        }
        let to = self.before.holder(slot.table);
        let offered = self.is_offered(to, self.before.number_in(to, slot), OfferKind::Slots);
        self.may_change(slot.table) || offered && self.may_tell(to, Rights::GRANT)
    }

    /// Checks that the label of the slot's table allows a capability that came from another CSpace.
    fn label_of(&mut self, slot: &Slot) {
        let (table, object) = (self.after.label(slot.table), self.after.label(slot.object));
        let own = |source: &&&Slot| {
            let same = self.before.holder(source.table) == self.after.holder(slot.table);
            source.object == slot.object && same
        };
        if self.after.allows(table, object, may::GRANT) || self.reach.iter().any(|source| own(&source)) {
            return;
        }
        // Within one CSpace nothing is asked; nor of a table that they own.
        if self.acts.contains(&self.after.holder(slot.table)) {
            return;
        }
        let (what, holder) = (self.object(slot.object), self.name(self.after.holder(slot.table)));
        self.excess("label", format!("{what} of label {object} came to {holder}, whose label is {table}"));
    }

    /// Checks a CNode that became part of a CSpace, with all that it holds.
    fn tables(&mut self) {
        let (before, after) = (self.before, self.after);
        for cnode in after.s.cnodes.iter().filter(|cnode| cnode.process != 0) {
            let known = after.thing(cnode.at).and_then(|thing| before.again(thing));
            if known.is_none() || before.holder(cnode.at) == cnode.process {
                continue;
            }
            let granted = self.may(cnode.at, Rights::GRANT);
            if !granted || !self.may_or_is(cnode.process, process_rights::CONFIGURE) {
                let (who, what) = (self.actors(), self.object(cnode.at));
                let to = self.name(cnode.process);
                self.excess("table", format!("{who} could not add {what} to the CSpace of {to}"));
            }
            let labels = (cnode.label, after.label(cnode.process));
            if cnode.label != labels.1 {
                self.excess(
                    "label",
                    format!("a CNode of label {} serves a process of label {}", labels.0, labels.1),
                );
            }
        }
    }
}
