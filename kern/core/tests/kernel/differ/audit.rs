//! Compares the whole state at the end: each capability with its rights, badge and parent, each
//! member record and exposure, each Untyped's bytes.

use std::collections::BTreeMap;

use abi::Rights;
use kern_base::events::EventPool;
use kern_base::group::{Group, Member};
use kern_base::header::RootId;
use kern_base::irq::IrqHandler;
use kern_base::memory::Untyped;
use kern_base::notification::Notification;
use kern_base::objects::header_of;
use kern_base::port::IoPort;
use kern_base::process::Process;
use kern_base::roots::MAX_ROOTS;
use kern_base::slot::{CNode, Slot};
use model::{Id, Kind, Place};
use smp::door::Ref;
use smp::host_test;

use super::pair::{Outcome, Pair};

impl Pair {
    pub fn audit(&self) -> Outcome {
        let places = self.locate();
        let at: BTreeMap<u64, Place> = places.iter().map(|(place, slot)| (slot.addr(), *place)).collect();
        for place in places.keys() {
            self.audit_slot(*place, &places, &at).map_err(|why| format!("{place:?}: {why}"))?;
        }
        for (index, object) in self.model.objects.iter().enumerate() {
            let Some(slot) = self.reach(&places, Id(index)) else { continue };
            let why = |why: String| format!("{:?} at {:#x}: {why}", object.kind.object_type(), object.at);
            self.audit_object(Id(index), slot).map_err(why)?;
        }
        Ok(())
    }

    /// The process with an identity, if it has not ended.
    fn living(&self, identity: u64) -> Option<Ref<'static, Process>> {
        let roots = (0..MAX_ROOTS as u16).map(RootId);
        let mut all = roots.flat_map(|root| self.world.k.roots.processes(host_test::pin(0), root));
        all.find(|process| process.get().header.identity() == identity)
    }

    /// A slot that refers to an object.
    pub fn reach(
        &self,
        places: &BTreeMap<Place, Ref<'static, Slot>>,
        object: Id,
    ) -> Option<Ref<'static, Slot>> {
        let refers = |place: &&Place| self.model.slots.get(place).is_some_and(|it| it.object == object);
        places.keys().find(refers).map(|place| places[place])
    }

    fn audit_slot(
        &self,
        place: Place,
        places: &BTreeMap<Place, Ref<'static, Slot>>,
        at: &BTreeMap<u64, Place>,
    ) -> Outcome {
        let (pin, slot) = (host_test::pin(0), places[&place]);
        let word = slot.get().word.load(pin);
        let Some(it) = self.model.slots.get(&place) else {
            return match word.object_type() {
                0 => Ok(()),
                other => Err(format!("is empty in the model, has a {other} in the kernel")),
            };
        };
        let object = &self.model.objects[it.object.0];
        let (expected, found) = (object.kind.object_type() as u8, word.object_type());
        if expected != found || word.addr() != object.at {
            return Err(format!("has type {expected} in the model, {found} in the kernel"));
        }
        if (Rights(word.rights()), slot.get().badge()) != (it.rights, it.badge) {
            let found = (word.rights(), slot.get().badge());
            return Err(format!("has {it:x?} in the model, {found:x?} in the kernel"));
        }
        // Its parent is the last before it whose depth is less than all floors from there on.
        let before = std::iter::successors(slot.get().prev.get(pin), |slot| slot.get().prev.get(pin));
        let mut floor = slot.get().floor();
        let mut above = before.filter(|other| {
            let is_parent = other.get().depth() < floor;
            floor = floor.min(other.get().floor());
            is_parent
        });
        let parent = above.next().and_then(|slot| at.get(&slot.addr())).copied();
        // Nobody reaches what only stands in a table that nobody reaches.
        let expected = it.parent.filter(|expected| places.contains_key(expected));
        if parent != expected {
            return Err(format!("has parent {expected:?} in the model, {parent:?} in the kernel"));
        }
        Ok(())
    }

    fn audit_object(&self, id: Id, slot: Ref<'static, Slot>) -> Outcome {
        let pin = host_test::pin(0);
        let word = slot.get().word.load(pin);
        let (label, found) = (self.model.label(id), header_of(word));
        if found.is_none_or(|header| header.label() != label) {
            return Err(format!(
                "has label {label} in the model, {:?} in the kernel",
                found.map(|it| it.label())
            ));
        }
        match &self.model.objects[id.0].kind {
            Kind::Untyped(it) => {
                let Some(found) = word.get::<Untyped>() else { return Err("is none".to_owned()) };
                let used = found.get().lock(pin).region.used();
                if used != (it.low, it.size - it.high) {
                    return Err(format!("used {used:x?} in the kernel, {it:x?} in the model"));
                }
            }
            Kind::IrqHandler(it) => {
                let Some(found) = word.get::<IrqHandler>() else { return Err("is none".to_owned()) };
                let found = found.get();
                let line = found.line().map(|line| u64::from(line.number));
                let cpu = found.route().map(|route| route.cpu.index());
                if (line, cpu) != (it.line, it.cpu) {
                    return Err(format!("line {line:?} on {cpu:?} in the kernel, {it:?} in the model"));
                }
                let wired = found.line().and_then(|line| self.world.wired(line.number));
                if wired != found.route() {
                    return Err(format!("goes to {:?}, and its line to {wired:?}", found.route()));
                }
            }
            Kind::IoPort(it) => {
                let found = word.get::<IoPort>().map(|found| found.get().range());
                if found != Some((it.first, it.count)) {
                    return Err(format!("{found:?} in the kernel, {it:?} in the model"));
                }
            }
            Kind::CNode(it) => {
                let Some(found) = word.get::<CNode>() else { return Err("is none".to_owned()) };
                let full = |slot: Ref<'_, Slot>| slot.get().word.load(pin).object_type() != 0;
                let count = found.get().slots.known().iter(pin).filter(|slot| full(*slot)).count();
                let known = (1..it.slots).filter(|n| self.model.slots.contains_key(&Place::Slot(id, *n)));
                // Process 1 has more than the model knows of.
                if id != Id(0) && count != known.count() {
                    return Err(format!("{count} slots are full in the kernel, not in the model"));
                }
                let next = found.get().more.get(pin).map(Ref::addr);
                let expected = self.model.tables_from(id).get(1).map(|table| self.model.objects[table.0].at);
                if next != expected {
                    return Err(format!("{expected:x?} follows in the model, {next:x?} in the kernel"));
                }
            }
            Kind::EventPool(it) => {
                let Some(found) = word.get::<EventPool>() else { return Err("is none".to_owned()) };
                let found = found.get().process.get(pin).map(Ref::addr);
                if found != it.process.map(|process| self.model.objects[process.0].at) {
                    return Err(format!("is {found:x?}'s in the kernel, {:?}'s in the model", it.process));
                }
            }
            Kind::Group(it) => self.audit_group(id, it, word.get::<Group>())?,
            Kind::Notification(it) => {
                let Some(found) = word.get::<Notification>() else { return Err("is none".to_owned()) };
                let home = found.get().hot.home().index();
                let hot = found.get().hot.here(host_test::pin(home));
                if (home, hot.bits.get()) != (it.home, it.bits) {
                    let found = (home, hot.bits.get());
                    return Err(format!("has {found:x?} in the kernel, {it:x?} in the model"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn audit_group(&self, id: Id, it: &model::object::Group, found: Option<Ref<'_, Group>>) -> Outcome {
        let pin = host_test::pin(0);
        let Some(group) = found else { return Err("is none".to_owned()) };
        for (index, expected) in it.members.iter().enumerate() {
            let found = group.get().member(pin, index).filter(|record| *record != Member::EMPTY);
            let found = found.map(|record| (record.rights(), record.custom()));
            if found != expected.map(|member| (member.rights, member.custom)) {
                return Err(format!(
                    "member {index} is {found:x?} in the kernel, {expected:x?} in the model"
                ));
            }
        }
        for (index, exposure) in group.get().exposures.known().iter(pin).enumerate() {
            let first = exposure.get().per_cpu.load(std::sync::atomic::Ordering::Relaxed).checked_sub(1);
            let full = exposure.get().slot.word.load(pin).object_type() != 0;
            let known = self.model.slots.contains_key(&Place::Exposure(id, index as u32));
            if first != it.exposures[index].per_cpu || full != known {
                return Err(format!("exposure {index} differs: {first:?}, full {full}"));
            }
            let owner = exposure.get().owner.load(std::sync::atomic::Ordering::Relaxed);
            let known = it.exposures[index].owner.map(|it| self.model.objects[it.0].at);
            let at = self.living(owner).map(Ref::addr);
            if (full || first.is_some()) && at.is_some() && at != known {
                return Err(format!("exposure {index} is of {at:x?} in the kernel, {known:x?} in the model"));
            }
        }
        Ok(())
    }
}
