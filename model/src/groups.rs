//! Groups: members and exposures.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use abi::membership::{
    ALONE, EXPOSE_PER_CPU, EXPOSE_WATCH, JOINED, LEFT, SEEN_AS_ADDER, SHIFT_MAX, WATCHERS, WITHDRAWN,
};
use abi::{Cap, Error, MEMBER_RIGHTS, ObjType, Rights, Target, TaskId};

use crate::caps::{Found, has};
use crate::object::{Member, Offer};
use crate::reclaim::Pins;
use crate::{Answer, Args, Id, Kind, Model, Place, Refusal, Result};

/// Refuses a caller that may not act in a group; the detail has the rights that the record lacks,
/// if it is the caller's.
fn not_member(detail: Option<u64>) -> Refusal {
    Refusal { error: Error::NotMember, detail, who: TaskId::NONE }
}

impl Model {
    /// Returns the caller's own member record that a group capability names, if it has the rights.
    fn record(&self, me: Id, found: Found, need: Rights) -> Result<Member> {
        let index = (found.badge as u32 / 8) as usize;
        let members = &self.group(found.object).members;
        let record = members.get(index).ok_or(not_member(Some(0)))?;
        let Some(member) = record.filter(|it| it.process == self.process_of(me)) else {
            return Err(not_member(None));
        };
        let missing = need.minus(member.rights);
        if missing != Rights::NONE {
            return Err(not_member(Some(u64::from(missing.0))));
        }
        Ok(member)
    }

    /// Returns a group by capability and member record, if both have the rights.
    pub fn find_group(&self, me: Id, cap: Cap, need: Rights) -> Result<(Id, Member)> {
        let found = self.find(me, cap, ObjType::Group, need)?;
        Ok((found.object, self.record(me, found, need)?))
    }

    /// Finds a group for an operation on the group itself: a holder of DELETE, at first its maker,
    /// needs no record.
    pub(crate) fn group_for(&self, me: Id, cap: Cap, need: Rights) -> Result<Id> {
        let found = self.find(me, cap, ObjType::Group, need)?;
        if !found.rights.contains(Rights::DELETE) {
            self.record(me, found, need)?;
        }
        Ok(found.object)
    }

    /// Returns the object exposed at an index, for a task of a CPU.
    pub fn exposed(&self, group: Id, index: u32, cpu: usize) -> Option<Id> {
        let exposure = self.group(group).exposures.get(index as usize)?;
        let at = exposure.per_cpu.map_or(index, |first| first + cpu as u32);
        Some(self.slots.get(&Place::Exposure(group, at))?.object)
    }

    /// Returns the task that a target names, and the custom bits that its receiver gets.
    pub fn resolve_task(&self, me: Id, target: Target, need: Rights) -> Result<(Id, u16)> {
        let (group, member) = self.find_group(me, target.cap(), need)?;
        let exposed = self.exposed(group, target.index(), self.task(me).home);
        match exposed.filter(|it| self.object_type(*it) == ObjType::Task) {
            Some(task) => Ok((task, member.custom)),
            None => Err(Refusal::new(Error::NoExposure, u64::from(target.index()))),
        }
    }

    pub fn group_add(&mut self, me: Id, args: &Args) -> Result {
        let (found, addee, member) = self.look_add(me, args)?;
        let offer = self.offer_to(me, found.object, addee).ok_or(Error::NoConsent)?;
        let place = self.slot_of(addee, offer.slot).map_err(|_| Error::NoConsent)?;
        self.check_empty(place)?;
        if self.is_dying(found.object) {
            return Err(Error::Dying.into());
        }
        let free = self.free_record(found.object, member)?;
        self.group_mut(found.object).members[free as usize] = Some(member);
        // Its capability does in the group what its record says, and nothing to the group itself.
        let rights = member.rights.and(found.rights).minus(Rights::DELETE);
        self.derive(place, found.place, found.object, rights, free * 8);
        self.process_mut(addee).offer = None;
        self.tell_watchers(found.object, JOINED);
        Ok(Answer::one(free))
    }

    /// Returns the group, the process to be added, and its record, if the caller may add it.
    pub(crate) fn look_add(&self, me: Id, args: &Args) -> Result<(Found, Id, Member)> {
        let [_, _, rights, custom, ..] = args.0;
        let found = self.find(me, args.cap(0), ObjType::Group, Rights::ADD)?;
        let process = self.find(me, args.cap(1), ObjType::Process, Rights::NONE)?.object;
        let rights = Rights(rights as u32);
        let custom = self.check_may_add(me, found, rights, custom)?;
        self.may_join(process, found.object)?;
        Ok((found, process, Member { process, rights, custom }))
    }

    /// Returns the first free record, if the new member is alive.
    pub(crate) fn free_record(&self, group: Id, member: Member) -> Result<u64> {
        let free = self.group(group).members.iter().position(Option::is_none).ok_or(Error::Full)?;
        if self.is_dying(member.process) {
            return Err(Error::Dying.into());
        }
        Ok(free as u64)
    }

    /// Ends all memberships of a process.
    pub fn leave_groups(&mut self, process: Id) {
        for group in (0..self.objects.len()).map(Id) {
            let Kind::Group(it) = &self.objects[group.0].kind else { continue };
            let records = it.members.iter().enumerate();
            let is_its = |member: &Option<Member>| member.is_some_and(|it| it.process == process);
            let its: Vec<usize> = records.filter(|(_, it)| is_its(it)).map(|(index, _)| index).collect();
            its.into_iter().for_each(|index| self.leave(group, index));
        }
    }

    fn leave(&mut self, group: Id, index: usize) {
        let members = &mut self.group_mut(group).members;
        members[index] = None;
        let is_alone = members.iter().flatten().count() == 1;
        self.tell_watchers(group, if is_alone { LEFT | ALONE } else { LEFT });
    }

    /// Raises bits in the Notifications that watch a group; each gets all its bits together.
    fn tell_watchers(&mut self, group: Id, bits: u64) {
        let mut told: BTreeMap<Id, u64> = BTreeMap::new();
        for (object, shift) in self.watchers(group) {
            *told.entry(object).or_default() |= bits << shift;
        }
        told.into_iter().for_each(|(object, bits)| self.raise(object, bits));
    }

    /// Returns the Notifications that watch a group, and by how much their bits are shifted.
    pub fn watchers(&self, group: Id) -> impl Iterator<Item = (Id, u32)> {
        let exposures = self.group(group).exposures.iter().zip(0..WATCHERS);
        exposures.filter_map(move |(it, index)| {
            Some((self.slots.get(&Place::Exposure(group, index))?.object, it.watch?))
        })
    }

    pub fn group_member(&self, me: Id, args: &Args) -> Result {
        let group = self.group_for(me, args.cap(0), Rights::LISTEN)?;
        let from = args.target(0).index() as usize;
        let members = self.group(group).members.iter().enumerate().skip(from);
        let Some((index, member)) = members.flat_map(|(index, it)| Some((index, (*it)?))).next() else {
            return Ok(Answer::DONE);
        };
        let (rights, custom) = (u64::from(member.rights.0), u64::from(member.custom));
        Ok(Answer::Free([0, index as u64, rights, custom], 1))
    }

    /// Returns the slot that a process offers to a group, or to the process that adds it there.
    pub(crate) fn offer_to(&self, me: Id, group: Id, addee: Id) -> Option<Offer> {
        self.process(addee).offer.filter(|it| it.from == group || it.from == self.process_of(me))
    }

    /// Checks that an adder has all rights that it passes on, and that a member passes on only its
    /// own custom bits. Returns the new member's custom bits.
    pub(crate) fn check_may_add(&self, me: Id, found: Found, rights: Rights, custom: u64) -> Result<u16> {
        let most = MEMBER_RIGHTS.and(found.rights);
        let amplifies = |most: Rights| match rights.minus(most) {
            Rights::NONE => Ok(()),
            excess => Err(Refusal::new(Error::Amplifies, u64::from(excess.0))),
        };
        amplifies(most)?;
        if found.rights.contains(Rights::DELETE) {
            return u16::try_from(custom).map_err(|_| Refusal::argument(3));
        }
        let record = self.record(me, found, Rights::ADD)?;
        amplifies(record.rights)?;
        let own = custom == SEEN_AS_ADDER || custom == u64::from(record.custom);
        if own { Ok(record.custom) } else { Err(Refusal::argument(3)) }
    }

    pub fn group_remove(&mut self, me: Id, args: &Args) -> Result {
        let group = self.group_for(me, args.cap(0), Rights::REMOVE)?;
        self.take_member(group, args.target(0).index())
    }

    pub(crate) fn check_record(&self, group: Id, index: u32) -> Result<()> {
        let is_there = (index as usize) < self.group(group).members.len();
        if is_there { Ok(()) } else { Err(Refusal::argument(0)) }
    }

    pub(crate) fn take_member(&mut self, group: Id, index: u32) -> Result {
        self.check_record(group, index)?;
        if self.group(group).members[index as usize].is_none() {
            return Err(not_member(Some(u64::from(index))));
        }
        self.leave(group, index as usize);
        Ok(Answer::DONE)
    }

    pub fn expose(&mut self, me: Id, args: &Args) -> Result {
        let (index, how) = (args.target(0).index(), args.0[2]);
        let (group, source) = self.look_expose(me, args)?;
        let (entry, watch) = match how as u32 {
            0 if how == 0 => (index, None),
            EXPOSE_PER_CPU => (self.per_cpu_entry(me, group, source, index, how >> 32)?, None),
            EXPOSE_WATCH => (index, Some(self.look_watch(source, index, how >> 32)?)),
            _ => return Err(Refusal::argument(2)),
        };
        let per_cpu = (how as u32 == EXPOSE_PER_CPU).then_some((index, (how >> 32) as u32));
        self.fill_exposure(me, group, entry, source, per_cpu)?;
        let owner = Some(self.process_of(me));
        let exposures = &mut self.group_mut(group).exposures;
        exposures[entry as usize].watch = watch;
        exposures[entry as usize].owner = owner;
        if let Some((head, first)) = per_cpu {
            exposures[head as usize].per_cpu = Some(first);
            exposures[head as usize].owner = owner;
        }
        Ok(Answer::DONE)
    }

    /// Returns by how much a watcher's bits are to be shifted.
    fn look_watch(&self, source: Found, index: u32, shift: u64) -> Result<u32> {
        match self.object_type(source.object) {
            ObjType::Notification if index >= WATCHERS => Err(Refusal::argument(0)),
            ObjType::Notification if shift > SHIFT_MAX => Err(Refusal::argument(2)),
            ObjType::Notification => Ok(shift as u32),
            other => Err(Refusal::new(Error::WrongType, other as u64)),
        }
    }

    /// Returns the group, and the capability to be exposed there.
    pub(crate) fn look_expose(&self, me: Id, args: &Args) -> Result<(Id, Found)> {
        let group = self.group_for(me, args.cap(0), Rights::LISTEN)?;
        let source = self.find_any(me, args.cap(1))?;
        match self.object_type(source.object) {
            ObjType::Task | ObjType::Notification => has(source.rights, Rights::LISTEN)?,
            other => return Err(Refusal::new(Error::WrongType, other as u64)),
        }
        self.check_index(group, u64::from(args.target(0).index()))?;
        Ok((group, source))
    }

    fn check_index(&self, group: Id, index: u64) -> Result<()> {
        if index < self.group(group).exposures.len() as u64 {
            Ok(())
        } else {
            Err(Refusal::new(Error::NoExposure, index))
        }
    }

    /// Returns the entry of a task in an exposure with one task per CPU, whose entries start at
    /// `first`.
    fn per_cpu_entry(&self, me: Id, group: Id, source: Found, index: u32, first: u64) -> Result<u32> {
        if self.object_type(source.object) != ObjType::Task {
            return Err(Refusal::new(Error::WrongType, self.object_type(source.object) as u64));
        }
        let exposures = &self.group(group).exposures;
        let entries = first..first + self.cpus as u64;
        if entries.end > exposures.len() as u64 || entries.contains(&u64::from(index)) {
            return Err(Refusal::argument(2));
        }
        let other = exposures[index as usize].per_cpu.is_some_and(|at| u64::from(at) != first);
        if other || self.slots.contains_key(&Place::Exposure(group, index)) {
            return Err(Error::SlotOccupied.into());
        }
        let task = self.task(source.object);
        // One that has not run yet, or is to move, will run elsewhere; its CPU until then knows
        // that.
        let starts = task.home == self.task(me).home;
        Ok(first as u32 + if starts { task.start_on } else { task.home } as u32)
    }

    /// Fills an exposure with one task per CPU: its index, and the start of its entries.
    fn fill_exposure(
        &mut self,
        me: Id,
        group: Id,
        index: u32,
        source: Found,
        per_cpu: Option<(u32, u32)>,
    ) -> Result<()> {
        let place = Place::Exposure(group, index);
        if self.group(group).exposures[index as usize].per_cpu.is_some() {
            return Err(Error::SlotOccupied.into());
        }
        let is_task = self.object_type(source.object) == ObjType::Task;
        if is_task && self.task(source.object).id == TaskId::NONE {
            return Err(Error::BadState.into());
        }
        self.may_join(source.object, group)?;
        self.check_empty(place)?;
        if self.is_dying(source.object) {
            return Err(Error::Dying.into());
        }
        let agrees = match per_cpu {
            None => self.head_of(group, index).is_none(),
            Some((head, first)) => self.may_be_head(me, group, head, first),
        };
        if !agrees {
            return Err(Error::SlotOccupied.into());
        }
        self.derive(place, source.place, source.object, Rights::NONE, 0);
        Ok(())
    }

    /// Returns the exposure with one task per CPU to which an entry belongs.
    fn head_of(&self, group: Id, index: u32) -> Option<u32> {
        let heads = (0..).zip(&self.group(group).exposures);
        let mut heads = heads.filter_map(|(head, it)| Some((head, it.per_cpu?)));
        heads.find(|(_, first)| (*first..first + self.cpus as u32).contains(&index)).map(|(head, _)| head)
    }

    /// Returns whether a process adds to its own exposure with one task per CPU, or may make the
    /// exposure one.
    fn may_be_head(&self, me: Id, group: Id, head: u32, first: u32) -> bool {
        let exposures = &self.group(group).exposures;
        if exposures[head as usize].per_cpu.is_some() {
            return exposures[head as usize].owner == Some(self.process_of(me));
        }
        let mut entries = first..first + self.cpus as u32;
        let is_free = |at: u32| {
            let full = self.slots.contains_key(&Place::Exposure(group, at));
            !full && exposures[at as usize].per_cpu.is_none() && self.head_of(group, at).is_none()
        };
        self.head_of(group, head).is_none() && entries.all(is_free)
    }

    pub fn withdraw(&mut self, me: Id, args: &Args) -> Result {
        match self.look_withdraw(me, args) {
            Ok(place) => {
                self.delete(me, place, Pins::Hold)?;
                if let Place::Exposure(group, _) = place {
                    self.tell_watchers(group, WITHDRAWN);
                }
                Ok(Answer::DONE)
            }
            // Nothing is there: one with a task per CPU is no more one.
            Err(Refusal { error: Error::NoExposure, detail: Some(index), .. }) => {
                let found = self.find(me, args.cap(0), ObjType::Group, Rights::NONE)?;
                let group = found.object;
                let head = self.group(group).exposures.get(index as usize);
                head.and_then(|it| it.per_cpu).ok_or(Refusal::new(Error::NoExposure, index))?;
                let own = self.group(group).exposures[index as usize].owner == Some(self.process_of(me));
                if !found.rights.contains(Rights::REMOVE) && !own {
                    return Err(Refusal::new(Error::NoRight, u64::from(Rights::REMOVE.0)));
                }
                self.group_mut(group).exposures[index as usize].per_cpu = None;
                self.tell_watchers(group, WITHDRAWN);
                Ok(Answer::DONE)
            }
            Err(why) => Err(why),
        }
    }

    /// Returns the exposure to be withdrawn, if the caller may do that and it is not empty.
    pub(crate) fn look_withdraw(&self, me: Id, args: &Args) -> Result<Place> {
        let index = args.target(0).index();
        let found = self.find(me, args.cap(0), ObjType::Group, Rights::NONE)?;
        let may_all = found.rights.contains(Rights::REMOVE);
        let group = self.group_for(me, args.cap(0), if may_all { Rights::REMOVE } else { Rights::LISTEN })?;
        self.check_index(group, u64::from(index))?;
        let place = Place::Exposure(group, index);
        let it = self.slots.get(&place).ok_or(Refusal::new(Error::NoExposure, u64::from(index)))?;
        if !may_all && !self.owns(me, group, index, it.object) {
            return Err(Refusal::new(Error::NoRight, u64::from(Rights::REMOVE.0)));
        }
        Ok(place)
    }

    /// Returns whether the caller may withdraw an exposure: its process has made it, or the exposed
    /// object is a task of that process.
    fn owns(&self, me: Id, group: Id, index: u32, object: Id) -> bool {
        let own_task = || self.task(object).born_in == Some(self.process_of(me));
        self.group(group).exposures[index as usize].owner == Some(self.process_of(me))
            || self.object_type(object) == ObjType::Task && own_task()
    }
}
