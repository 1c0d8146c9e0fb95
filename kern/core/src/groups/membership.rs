//! Membership: the members of groups, and the watchers that learn of changes.
//!
//! # Records and lists
//! A member record names its process by key. Beside each record is a [`Membership`], linked in a
//! list of its process, so that a process that ends leaves all groups: the CPU that ends the
//! process removes the records, a bounded number in an entry. Record and membership change
//! together, under the root lock of the group and the lock of the list, in this order. A CPU that
//! starts from the list reads the position of the first record, and checks the record again under
//! the group's lock. A [key](kern_base::process::ProcessKey) names one process as long as a kernel
//! entry lasts, so a record with the key belongs to the process.
//!
//! A record names a process that has not ended: the end of a process removes its records, and a
//! process that ends is marked first and gets no record after that.
//!
//! # Watchers
//! A Notification that is exposed in a group as a watcher gets bits when the group has changed
//! ([`abi::membership`]). The bits travel by mail, through the Notification's coalescing node. That
//! needs no memory, so no bit is lost. To see the changes, a watcher lists the members with
//! [`abi::Op::GroupMember`]. A CPU that changes a record executes a fence and then checks for
//! watchers. The system call that exposes a watcher marks it and executes a fence; the watcher
//! lists the members after that. One of the two sees the other.

use abi::audit::may;
use core::mem::take;

use abi::membership::{ALONE, JOINED, LEFT, SEEN_AS_ADDER};
use abi::{Cap, Error, MEMBER_RIGHTS, ObjType, Op, Rights, Target};
use kern_base::group::{Group, Member, Membership};
use kern_base::header::FLAG_DYING;
use kern_base::limits::{MEMBER_LOOKS, RECORD_WORK, SEND_WORK};
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::objects::RawWord;
use kern_base::process::{Offered, Process};
use kern_base::slot::Slot;
use kern_base::task::Task;
use smp::door::Ref;
use smp::sync::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use smp::sync::fence;

use crate::args::Args;
use crate::rooms::Groups;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Groups<'k, M> {
    /// Makes a process a member at a free index, if its offer is still the one that was accepted.
    /// Uses up that consent.
    /// Requires: the group's root lock is held.
    fn enter_group(
        self,
        group: Ref<'k, Group>,
        index: usize,
        process: Ref<'k, Process>,
        member: Member,
        offered: Offered,
    ) -> Result<()> {
        let full = Refusal::from(Error::Full);
        let place = group.get().memberships.known().get(self.pin(), index).ok_or(full)?;
        let record = group.get().members.known().get(self.pin(), index).ok_or(full)?;
        {
            let list = process.get().memberships.lock(self.cpu, &process.get().header);
            refuse_if(process.get().header.has_flag(FLAG_DYING), Error::Dying)?;
            refuse_if(process.get().offer.get() != offered, Refusal::More)?;
            process.get().offer.set(Offered::NONE);
            let next = list.get(self.pin());
            place.get().group.set(Some(group));
            place.get().process.set(Some(process));
            place.get().prev.set(None);
            place.get().next.set(next);
            if let Some(next) = next {
                next.get().prev.set(Some(place));
            }
            list.set(Some(place));
        }
        record.get().store(member.0, Release);
        group.get().count.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Returns the first free index. Later entries do not check again what earlier entries found
    /// full, so one entry checks a bounded number of records.
    /// Requires: the group's root lock is held.
    fn free_record(self, group: &Group) -> Result<usize> {
        let (first, len) = (group.free.load(Relaxed) as usize, group.members.known().len());
        let end = len.min(first + MEMBER_LOOKS as usize);
        let is_free = |i: &usize| group.member(self.pin(), *i) == Some(Member::EMPTY);
        let found = (first..end).find(is_free);
        group.free.store(found.unwrap_or(end) as u32, Relaxed);
        match found {
            Some(index) => Ok(index),
            None if end == len => Err(Error::Full.into()),
            None => Err(Refusal::More),
        }
    }

    /// Ends a membership. Returns the bits for watchers, if the record was a member's.
    /// Requires: the group's root lock is held.
    pub fn leave_group(self, group: Ref<'k, Group>, index: usize) -> Option<u64> {
        let record = group.get().members.known().get(self.pin(), index)?;
        let member = Member(record.get().swap(Member::EMPTY.0, AcqRel));
        if member == Member::EMPTY {
            return None;
        }
        let place = group.get().memberships.known().get(self.pin(), index)?;
        if let Some(process) = place.get().process.get(self.pin()) {
            self.unlink_membership(process.get(), place);
        }
        group.get().free.fetch_min(index as u32, Relaxed);
        let left = group.get().count.fetch_sub(1, Relaxed) - 1;
        Some(if left == 1 { LEFT | ALONE } else { LEFT })
    }

    fn unlink_membership(self, process: &Process, place: Ref<'k, Membership>) {
        let list = process.memberships.lock(self.cpu, &process.header);
        let (next, prev) = (place.get().next.get(self.pin()), place.get().prev.get(self.pin()));
        match prev {
            Some(prev) => prev.get().next.set(next),
            None => list.set(next),
        }
        if let Some(next) = next {
            next.get().prev.set(prev);
        }
        place.get().group.set(None);
        place.get().process.set(None);
        place.get().next.set(None);
        place.get().prev.set(None);
    }

    /// Takes a dying process out of its groups; out of the first, with `at_once`, without asking
    /// for work. `actor` is its own task that ends it; `None`: the actor of this CPU ends it.
    pub fn leave_groups(
        self,
        process: Ref<'k, Process>,
        actor: Option<Ref<'k, Task>>,
        mut at_once: bool,
    ) -> Result<()> {
        loop {
            let first = process.get().memberships.lock(self.cpu, &process.get().header).get(self.pin());
            let Some(place) = first else { return Ok(()) };
            let Some(group) = place.get().group.get(self.pin()) else { return Err(Refusal::More) };
            let watchers = u64::from(group.get().watched.load(Relaxed).count_ones());
            // What is sent to watchers is counted where it is sent.
            let may = take(&mut at_once) || self.has_work(RECORD_WORK + watchers * SEND_WORK);
            refuse_if(!may, Refusal::More)?;
            self.bound_work();
            self.note_work(RECORD_WORK);
            let index = group.get().index_of(self.pin(), place);
            let told = {
                let _root = self.caps().lock_root(&group.get().header);
                let record = group.get().member(self.pin(), index);
                let is_its = record.is_some_and(|member| member.is_of(process.get().key_word()));
                if is_its { self.leave_group(group, index) } else { None }
            };
            if let Some(bits) = told {
                self.tell_watchers(group.get(), bits);
                self.security().audit_leave(group.get(), index, process.get(), actor);
            }
        }
    }

    /// Sends bits to the watchers of a group. Mail also carries bits to watchers on this CPU,
    /// because the current task continues.
    pub fn tell_watchers(self, group: &Group, bits: u64) {
        fence(SeqCst);
        let mut watched = group.watched.load(Relaxed);
        while watched != 0 {
            let index = watched.trailing_zeros() as usize;
            watched &= watched - 1;
            // Impossible: a watched exposure has an entry. An assertion would cost each change.
            let Some(entry) = group.exposures.known().get(self.pin(), index) else { return };
            let note = entry.get().slot.word.load(self.pin()).get::<Notification>();
            let shift = entry.get().watch.load(Acquire).checked_sub(1);
            if let Some((note, shift)) = note.zip(shift) {
                self.note_work(SEND_WORK);
                self.outbox().raise_remote(note, bits << shift);
            }
        }
    }

    /// Carries out [`abi::Op::GroupMember`].
    pub fn group_member(self, me: OpenTask<'k>, target: Target) -> Result<Answer> {
        let need = const { Op::GroupMember.needs(0, ObjType::Group) };
        let (slot, word) = self.caps().look(me, target.cap())?;
        let group = self.group_by(me, (slot, word), target.cap(), need)?.get();
        let first = target.index() as usize;
        let records = group.members_from(self.pin(), first, MEMBER_LOOKS as usize);
        let count = records.len();
        for (index, (record, place)) in (first..).zip(records) {
            let member = Member::read(record);
            if member == Member::EMPTY {
                continue;
            }
            if let Some(process) = place.process_of(self.pin(), member) {
                // Checked again: the caller may have been removed meanwhile, and must see no later
                // change.
                refuse_if(slot.get().word.load(self.pin()) != word, Refusal::More)?;
                self.group_by(me, (slot, word), target.cap(), need)?;
                let (rights, custom) = (u64::from(member.rights().0), u64::from(member.custom()));
                let identity = process.get().header.identity();
                return Ok(Answer::Values([identity, index as u64, rights, custom]));
            }
        }
        if count < MEMBER_LOOKS as usize {
            return Ok(Answer::DONE);
        }
        me.regs.rdi.set(Target::new(target.cap(), target.index() + MEMBER_LOOKS).0);
        Err(Refusal::More)
    }

    /// Carries out [`abi::Op::GroupAdd`].
    pub fn group_add(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let (group, rights) = (args.cap(), Rights(args.a2 as u32));
        let (slot, word) = self.caps().look(me, group)?;
        let object = self.caps().typed_operand::<Group, { Op::GroupAdd as u8 }, 0>(word, group)?;
        let addee = self.caps().operand::<Process, { Op::GroupAdd as u8 }, 1>(me, args.cap1())?;
        let custom = self.check_may_add(me, object, (slot, word), rights, args.a3)?;
        self.security().may(&addee.get().header, &object.get().header, may::JOIN)?;
        let offered = addee.get().offer.get();
        let agreed = [object.get().header.identity(), me.process(self.pin()).get().header.identity()];
        let no_consent = Refusal::from(Error::NoConsent);
        refuse_if(offered.slot == 0 || !agreed.contains(&offered.from), no_consent)?;
        let place = self.caps().place_of(addee, Cap(offered.slot)).ok_or(no_consent)?;
        let index = self.caps().claim_for(place, || {
            let root = self.caps().lock_root(&object.get().header);
            // Checked again: a member may have been removed.
            self.check_may_add(me, object, (slot, word), rights, u64::from(custom))?;
            self.caps().check_parent(&root, slot, word)?;
            let free = self.free_record(object.get())?;
            let member = Member::new(addee.get().key(), rights, custom);
            self.enter_group(object, free, addee, member, offered)?;
            // The member's capability allows in the group what its record says, and nothing on the
            // group itself.
            let cap_rights = rights.and(Rights(word.rights())).minus(Rights::DELETE);
            self.caps().fill_derived(place.slot, slot, word, cap_rights, free as u64 * 8);
            Ok(free as u64)
        })?;
        self.tell_watchers(object.get(), JOINED);
        self.security().audit_join(object.get(), addee.get(), rights, index);
        Ok(Answer::one(index))
    }

    /// Checks that the caller may add a member, and returns the custom bits. Any member with ADD
    /// may, and the maker of the group. No caller passes on rights that it lacks. A member passes
    /// on only the custom bits that it has itself, because servers identify clients by them. `word`
    /// is the slot's word: the slot may be empty by now, and its rights meaningless.
    fn check_may_add(
        self,
        me: OpenTask<'k>,
        group: Ref<'k, Group>,
        (slot, word): (Ref<'k, Slot>, RawWord<'k>),
        rights: Rights,
        custom: u64,
    ) -> Result<u16> {
        let held = Rights(word.rights());
        let excess = rights.minus(MEMBER_RIGHTS.and(held));
        refuse_if(excess != Rights::NONE, Refusal::new(Error::Amplifies, u64::from(excess.0)))?;
        let wrong = Refusal::argument(3);
        if held.contains(Rights::DELETE) {
            return u16::try_from(custom).map_err(|_| wrong);
        }
        let member = group.get().member_of(self.pin(), slot.get()).ok_or(Refusal::from(Error::NotMember))?;
        refuse_if(
            member.key() != me.process(self.pin()).get().key() || !member.rights().contains(Rights::ADD),
            Refusal::new(Error::NotMember, u64::from(Rights::ADD.0)),
        )?;
        let excess = rights.minus(member.rights());
        refuse_if(excess != Rights::NONE, Refusal::new(Error::Amplifies, u64::from(excess.0)))?;
        let own = custom == SEEN_AS_ADDER || custom == u64::from(member.custom());
        if own { Ok(member.custom()) } else { Err(wrong) }
    }
}
