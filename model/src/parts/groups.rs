//! GroupAdd, GroupRemove and Expose in parts.
//!
//! GroupAdd looks at everything without a lock, claims the slot that the process offers, and looks
//! again under the root lock. Then three words change one after the other: it takes the offer back,
//! writes the record, and fills the slot. Tasks that need no lock see each change. If the offer has
//! changed by then, or the kernel has looked at as many records as it may in one entry, it releases
//! the claimed slot, and the operation begins again.
//!
//! A new exposure is immediately visible to others. Then the kernel checks whether the caller still
//! has the right, and withdraws the exposure if not.

use abi::{Error, Rights};

use super::{At, Fill, Removal, Running, Seen, System, filled};
use crate::caps::Found;
use crate::object::{Member, Offer};
use crate::{Id, Place, Result};

/// A member that is added: its slot is claimed, and its process's offer was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Joins {
    from: Place,
    seen: Seen,
    to: Place,
    member: Member,
    /// Its record.
    pub index: u64,
    /// It is written.
    pub is_member: bool,
}

impl System {
    /// Returns whether another task's operation holds the lock of the root between two of its
    /// parts. All objects of a history have one root.
    pub(super) fn is_locked(&self, me: Id) -> bool {
        self.locked.is_some_and(|by| by != me)
    }

    pub(super) fn look_add(&self, running: &Running) -> Result<At> {
        let (found, addee, member) = self.model.look_add(running.me, &running.args)?;
        Ok(At::Offer { found, addee, member })
    }

    pub(super) fn look_expose(&self, running: &Running) -> Result<At> {
        let (group, source) = self.model.look_expose(running.me, &running.args)?;
        Ok(filled(Fill::Expose, source, Place::Exposure(group, running.target(0).index())))
    }

    pub(super) fn look_remove(&self, running: &Running) -> Result<At> {
        let (me, index) = (running.me, running.target(0).index());
        let place = self.model.slot_of(self.model.process_of(me), running.cap(0))?;
        let group = self.model.group_for(me, running.cap(0), Rights::REMOVE)?;
        self.model.check_record(group, index)?;
        let seen = self.now(place).ok_or(Error::NoCapability)?;
        Ok(At::Remove { from: place, seen })
    }

    pub(super) fn look_withdraw(&self, running: &Running) -> Result<At> {
        let place = self.model.look_withdraw(running.me, &running.args)?;
        Ok(At::Delete { removal: Removal { only: self.now(place), ..Removal::of(place) } })
    }

    /// Reads the slot that a process offers.
    pub(super) fn look_offer(&self, me: Id, found: Found, addee: Id, member: Member) -> Result<At> {
        let offer = self.model.offer_to(me, found.object, addee).ok_or(Error::NoConsent)?;
        let to = self.model.slot_of(addee, offer.slot).map_err(|_| Error::NoConsent)?;
        Ok(filled(Fill::Member { found, member, offer }, found, to))
    }

    /// Checks everything again under the lock, and withdraws the offer. If the process has made
    /// another offer meanwhile, the operation begins again.
    pub(super) fn begin_joining(&mut self, me: Id, joins: (Found, Member, Offer), to: Place) -> Result<At> {
        let (found, member, offer) = joins;
        let (from, seen) = (found.place, Seen { object: found.object, rights: found.rights });
        self.model.check_may_add(me, found, member.rights, u64::from(member.custom))?;
        if !self.sees(from, seen) || self.model.is_dying(seen.object) {
            return Err(Error::Dying.into());
        }
        let index = self.model.free_record(seen.object, member)?;
        let process = self.model.process_mut(member.process);
        if process.offer != Some(offer) {
            return Ok(At::Begun);
        }
        process.offer = None;
        self.claimed.push(to);
        self.locked = Some(me);
        Ok(At::Joins(Joins { from, seen, to, member, index, is_member: false }))
    }

    /// Writes the record first, then fills the slot. Returns whether both are done.
    pub(super) fn go_on_joining(&mut self, joins: &mut Joins) -> bool {
        let Joins { from, seen, to, member, index, is_member } = *joins;
        if !is_member {
            self.model.group_mut(seen.object).members[index as usize] = Some(member);
            joins.is_member = true;
            return false;
        }
        self.claimed.retain(|it| *it != to);
        let rights = member.rights.and(seen.rights).minus(Rights::DELETE);
        self.model.derive(to, from, seen.object, rights, index * 8);
        self.locked = None;
        true
    }

    /// Checks that an exposure which was just made stays.
    pub(super) fn look_again_at_exposed(&mut self, running: &Running, place: Place) -> Result<()> {
        self.locked = None;
        let may = self.model.group_for(running.me, running.cap(0), Rights::LISTEN);
        if may.is_err() {
            self.model.unlink(place);
        }
        may.map(drop)
    }

    /// Empties a member record under the lock, if the caller still has the right.
    pub(super) fn remove_member(&mut self, running: &Running, seen: Seen, from: Place) -> Result<()> {
        if !self.sees(from, seen) {
            return Err(Error::Dying.into());
        }
        let group = self.model.group_for(running.me, running.cap(0), Rights::REMOVE)?;
        self.model.take_member(group, running.target(0).index()).map(drop)
    }
}
