//! Groups: members, their rights and custom bits, consent, and exposures.

use abi::Rights;
use abi::audit::may;
use abi::membership::{ALONE, JOINED, LEFT, WITHDRAWN};
use snapshot::{Exposure, Member, Slot};

use crate::change::Change;
use crate::picture::{Picture, Says};

impl Change<'_> {
    /// Checks that every new member was added by right, with rights and custom bits that its adder
    /// may give, and that every missing one was removed by right.
    pub fn members(&mut self) {
        let (before, after) = (self.before, self.after);
        for member in &after.s.members {
            let (group, number) = (member.group, u64::from(member.number));
            let says = Says::of(member);
            if let Some(says) = says.filter(|_| before.member(group, number) != says) {
                self.joined(member, says);
            }
        }
        for member in &before.s.members {
            let (group, number) = (member.group, u64::from(member.number));
            let says = Says::of(member);
            if let Some(says) = says.filter(|says| after.member(group, number) != Some(*says)) {
                self.left(member, says);
            }
        }
    }

    fn joined(&mut self, member: &Member, says: Says) {
        let group = member.group;
        let by = |slot: &&&Slot| slot.object == group && Rights(slot.rights).contains(Rights::ADD);
        let gives = |slot: &Slot| {
            if Rights(slot.rights).contains(Rights::DELETE) {
                return Rights(slot.rights).contains(says.rights);
            }
            let own = self.record(slot).filter(|own| own.rights.contains(Rights::ADD));
            let most = |own: Says| own.rights.and(Rights(slot.rights));
            own.is_some_and(|own| most(own).contains(says.rights) && own.custom == says.custom)
        };
        let process = self.after.process_with(says.key).map_or(0, |process| process.at);
        let rights = says.rights.0;
        let what = format!(
            "{} is a member of {} with rights {rights:#x}, bits {:#x}",
            self.name(process),
            self.object(group),
            says.custom
        );
        if !self.reach.iter().filter(by).any(|slot| gives(slot)) {
            let who = self.actors();
            self.excess("member", format!("{what}, which {who} could not give"));
        }
        if !self.agreed(process, group) {
            self.excess("consent", format!("{what}, and did not agree"));
        }
        let (subject, object) = (self.after.label(process), self.after.label(group));
        if !self.before.allows(subject, object, may::JOIN) {
            self.excess("label", format!("{what}, of label {object}; its own is {subject}"));
        }
    }

    /// Returns whether a process offered a slot for a membership of this group, or of any group to
    /// an acting process.
    pub fn agreed(&self, process: u64, group: u64) -> bool {
        let Some(process) = self.before.process(process) else { return false };
        let is = |at: u64| self.before.thing(at).is_some_and(|thing| thing.identity == process.offer_from);
        process.offer_slot != 0 && (is(group) || self.acts.iter().any(|by| is(*by)))
    }

    fn left(&mut self, member: &Member, says: Says) {
        let ended = |at: u64| {
            let thing = self.before.thing(at).and_then(|thing| self.after.again(thing));
            thing.is_none_or(|thing| thing.ends)
        };
        let process = self.before.process_with(says.key).map_or(0, |process| process.at);
        if self.may_to(member.group, Rights::REMOVE) || ended(member.group) || ended(process) {
            return;
        }
        let (who, what) = (self.actors(), self.object(member.group));
        let name = self.name(process);
        self.excess("member", format!("{who} could not remove {name} from {what}"));
    }

    /// Checks that every new exposure was made by right, and that every missing one was withdrawn
    /// by right.
    pub fn exposures(&mut self) {
        let (before, after) = (self.before, self.after);
        for exposure in &after.s.exposures {
            let was = before.exposure(exposure.group, exposure.number);
            if !was.is_some_and(|was| self.is_same(was, exposure)) {
                self.exposed_now(exposure);
            }
        }
        for was in &before.s.exposures {
            let now = after.exposure(was.group, was.number);
            if !now.is_some_and(|now| self.is_same(was, now)) {
                self.withdrawn(was);
            }
        }
    }

    /// Returns the process that made an exposure; 0 if there is none.
    fn owner_of(&self, exposure: &Exposure) -> u64 {
        let mut all = self.before.s.processes.iter();
        all.find(|process| process.identity == exposure.owner).map_or(0, |process| process.at)
    }

    /// Returns whether an exposure shows the same object as before, and is of the same kind.
    fn is_same(&self, was: &Exposure, now: &Exposure) -> bool {
        let (old, new) = (self.before.exposed(was), self.after.exposed(now));
        let identity = |picture: &Picture, at| picture.thing(at).map(|thing| thing.identity);
        old == new
            && identity(self.before, old) == identity(self.after, new)
            && (was.per_cpu, was.watch) == (now.per_cpu, now.watch)
    }

    fn exposed_now(&mut self, exposure: &Exposure) {
        let Exposure { group, number, .. } = *exposure;
        let shown = self.after.exposed(exposure);
        let old = self.before.exposure(group, number);
        let begins = exposure.per_cpu != 0 && old.is_none_or(|old| old.per_cpu != exposure.per_cpu);
        let was = old.map_or(0, |old| self.before.exposed(old));
        let who = self.actors();
        let what = format!("{} shows {} at {number}", self.object(group), self.object(shown));
        if shown != 0 && shown != was {
            if !self.may_to(group, Rights::LISTEN) || !self.may(shown, Rights::LISTEN) {
                self.excess("exposure", format!("{what}, which {who} could not expose"));
            }
            let (subject, object) = (self.after.label(shown), self.after.label(group));
            if !self.before.allows(subject, object, may::JOIN) {
                self.excess("label", format!("{what}, of label {object}; its own is {subject}"));
            }
        } else if begins && !self.may_to(group, Rights::LISTEN) {
            self.excess("exposure", format!("{what}, which {who} could not make"));
        }
        if shown != 0 {
            self.within_anothers(exposure, &what);
        }
    }

    /// Checks that an entry of an exposure with one task for each CPU was changed by the owner of
    /// that exposure, even if the entry was free.
    fn within_anothers(&mut self, exposure: &Exposure, what: &str) {
        let Exposure { group, number, .. } = *exposure;
        let cpus = self.before.s.cpus.len() as u32;
        let covers = |head: &&Exposure| {
            let first = head.per_cpu.wrapping_sub(1);
            head.group == group && head.per_cpu != 0 && (first..first + cpus).contains(&number)
        };
        let Some(head) = self.before.s.exposures.iter().find(covers) else { return };
        let owner = self.owner_of(head);
        if !self.acts.contains(&owner) {
            let (who, of) = (self.actors(), self.name(owner));
            self.excess(
                "exposure",
                format!("{what}, which belongs to {of}'s exposure {}; {who}", head.number),
            );
        }
    }

    fn withdrawn(&mut self, was: &Exposure) {
        let Exposure { group, number, .. } = *was;
        let ended = |at: u64| {
            let thing = self.before.thing(at).and_then(|thing| self.after.again(thing));
            at == 0 || thing.is_none_or(|thing| thing.ends)
        };
        let owner = self.owner_of(was);
        let shown = self.before.exposed(was);
        let task = self.before.task(shown);
        let of_dead = task.is_some_and(|task| ended(task.owner) || ended(task.at));
        let is_entry = shown == 0 && was.per_cpu == 0;
        let may = self.acts.contains(&owner)
            || is_entry
            || task.is_some_and(|task| self.acts.contains(&task.owner))
            || self.may_to(group, Rights::REMOVE)
            || ended(group)
            || shown != 0 && (ended(shown) || of_dead)
            || shown == 0 && owner != 0 && ended(owner)
            || self.before.slot(was.slot).is_some_and(|slot| self.may_take(slot));
        if !may {
            let (who, what) = (self.actors(), self.object(group));
            let of = self.name(owner);
            self.excess("exposure", format!("{who} could not take back {number} of {what}, which is {of}'s"));
        }
    }

    // --- bits ------------------------------------------------------------------------------------

    /// Returns whether the acting processes may raise bits of a Notification.
    pub fn may_notify(&self, notification: u64) -> bool {
        let shows = |it: &&Exposure| self.before.exposed(it) == notification;
        let groups = self.before.s.exposures.iter().filter(shows).map(|it| it.group);
        let mut groups = groups;
        self.may(notification, Rights::NOTIFY) || groups.any(|group| self.may_in(group, Rights::NOTIFY))
    }

    /// Returns the bits that the kernel itself may raise in a Notification, because of events in
    /// the groups that it watches.
    pub fn told_of_groups(&self, notification: u64) -> u64 {
        let pictures = [self.before, self.after];
        pictures.into_iter().fold(0, |bits, picture| {
            let watches = |it: &&Exposure| it.watch != 0 && picture.exposed(it) == notification;
            let shift = |it: &Exposure| (JOINED | LEFT | ALONE | WITHDRAWN) << (it.watch - 1);
            picture.s.exposures.iter().filter(watches).fold(bits, |bits, it| bits | shift(it))
        })
    }

    /// Checks that every new bit of a Notification was raised by right. `pool_bits` are the bits
    /// that pools raise.
    pub fn bits(&mut self, pool_bits: u64) {
        for now in &self.after.s.notifications {
            let thing = self.after.thing(now.at).and_then(|thing| self.before.again(thing));
            let was = thing.and_then(|thing| self.before.s.notifications.get(thing.number));
            let new = (now.bits | now.remote) & !was.map_or(0, |was| was.bits | was.remote);
            if was.is_some()
                && new & !pool_bits & !self.told_of_groups(now.at) != 0
                && !self.may_notify(now.at)
            {
                let (who, what) = (self.actors(), self.object(now.at));
                self.excess("bits", format!("{who} could not raise {new:#x} in {what}"));
            }
        }
    }
}
