//! Broadcast: one message to every process that listens in a group.
//!
//! The kernel visits the members in the order of their records, a bounded number in one entry. One
//! of the caller's argument registers holds the progress of the broadcast ([`Progress`]). An entry
//! ends early at its bound, or when the caller must wait for room in a member's pool. To continue,
//! the system call only has to restart with these registers.
//!
//! Each record is visited once, so each member gets the message at most once. A member whose record
//! exists during the whole broadcast is always visited. If a member cannot get the message, the
//! call stops there and reports the member.
//!
//! A caller waits for room as in a [send](crate::events::pools): its message block is queued at the
//! pool's reader. When the message is in the pool, the caller's CPU advances the register. If the
//! wait ends in another way, the register keeps its value.
//!
//! # Pages
//! Each member that opened a window shares the pages that the message names, as with an event that
//! carries pages ([`crate::events::payloads`]). Pages cannot be moved. They are lent once: the
//! share for the first member makes them read-only for all CPUs. So only the first share waits for
//! a shootdown, and no member gets anything before the shootdown is over. One entry serves as many
//! members as its [work](crate::work) allows for these ranges and pages, and always completes one
//! member's share. It reads the list of pages once.

use abi::events::{BROADCAST, Event, Progress};
use abi::{Error, FLAG_CAPS, MsgInfo, Rights, Target};
use core::convert::Infallible;
use kern_base::block::Block;
use kern_base::events::EventPool;
use kern_base::group::{Group, Member, Membership};
use kern_base::header::FLAG_DYING;
use kern_base::limits::{
    BROADCAST_LOOKS, BROADCAST_STEPS, BROADCAST_WORDS, ENTRY_WORK, LOAD_WORK, RANGE_WORK, SHARED_PAGE_WORK,
};
use kern_base::machine::Machine;
use smp::door::Ref;
use smp::events::Turn;
use smp::sync::Ordering::Relaxed;

use crate::args::Args;
use crate::caps::slots::InGroup;
use crate::events::payloads::{Loaded, loaded_event};
use crate::ipc::call::{SenderInfo, Words};
use crate::ipc::ends::set_progress;
use crate::payload::carry::{PAYLOAD_FLAGS, rights_of, rights_of_words};
use crate::payload::pages::{InVain, Ranges};
use crate::rooms::Events;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// Makes a member's refusal report the broadcast's progress as its detail. Errors in the pages
/// themselves keep their own detail.
fn of_member(refusal: Refusal, progress: Progress) -> Refusal {
    match refusal {
        Refusal::Error { error: Error::NoPage | Error::TooLong | Error::BadAddress, .. } => refusal,
        Refusal::Error { error, who, .. } => Refusal::Error { error, detail: u64::from(progress.raw()), who },
        other => other,
    }
}

/// How one entry's part of a broadcast ended.
enum Part<'k, R> {
    /// No members are left.
    Over,
    /// Members may be left.
    More,
    /// The next member's pool has no room.
    Full(Ref<'k, EventPool>),
    /// The next member cannot get the payload, or not yet.
    Refused(R),
}

impl<'k, M: Machine> Events<'k, M> {
    /// Carries out [`abi::Op::Broadcast`]. Out of line, so that its loop has the registers for
    /// itself.
    #[inline(never)]
    pub fn broadcast(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let words = args.words()?;
        if MsgInfo(args.info).has(PAYLOAD_FLAGS) {
            return self.broadcast_loaded(me, args, args.with_payload(words));
        }
        let (group, from) = self.group_to_tell(me, args, rights_of_words(words.info))?;
        let begun = Progress::from_raw(Target(args.a0).index());
        let event = words.as_event(from, group.get().header.identity());
        let (part, progress) = if event.info.words() == 0 {
            let put = |pool| Ok(self.put_registers(pool, event));
            self.send_to_some::<Infallible>(me, group, begun, BROADCAST_STEPS, put)
        } else {
            self.send_words_to_some(me, group, begun, event)
        };
        set_progress(me.part(), progress);
        match part {
            Part::Over => Ok(Answer::one(u64::from(progress.sent))),
            Part::More => Err(Refusal::More),
            // A member that got the event may already be running. The caller waits for room in an
            // entry of its own.
            Part::Full(_) if progress != begun => Err(Refusal::More),
            Part::Full(pool) => {
                // Taken again, so that the loop has their registers.
                let words = args.words()?;
                self.wait_for_member(me, args, group, pool, words, from, progress)
            }
        }
    }

    /// Sends an event with UTCB words to the next members.
    #[inline(never)]
    fn send_words_to_some(
        self,
        me: OpenTask<'k>,
        group: Ref<'k, Group>,
        begun: Progress,
        event: Event,
    ) -> (Part<'k, Infallible>, Progress) {
        let put = |pool| Ok(self.put_event(pool, me.object(), event, Turn::Any));
        let bound = BROADCAST_STEPS / (1 + event.info.words() as u16 / BROADCAST_WORDS);
        self.send_to_some(me, group, begun, bound.max(1), put)
    }

    /// Broadcasts a message that carries pages.
    #[inline(never)]
    fn broadcast_loaded(self, me: OpenTask<'k>, args: &Args, words: Words) -> Result<Answer> {
        refuse_if(words.info.has(FLAG_CAPS), Refusal::new(Error::NoCapability, 0))?;
        let (group, from) = self.group_to_tell(me, args, rights_of(words.info))?;
        let begun = Progress::from_raw(Target(args.a0).index());
        let mut ranges = Ranges::new();
        let pages = self.payload().ranges_to_share(me.object(), words.info, &mut ranges)?;
        let work = LOAD_WORK + ranges.len() as u64 * RANGE_WORK + pages * SHARED_PAGE_WORK;
        let bound = (ENTRY_WORK / work).clamp(1, u64::from(BROADCAST_STEPS)) as u16;
        let (sender, event) = (me.object(), loaded_event(words, from, group.get().header.identity()));
        let put = |pool| self.put_loaded(&Loaded { pool, sender, event, ranges: &ranges, turn: Turn::Any });
        let (part, progress) = self.send_to_some(me, group, begun, bound, put);
        set_progress(me.part(), progress);
        let went_on = progress != begun;
        match part {
            Part::Over if went_on && me.lends_pages() => Err(Refusal::More),
            Part::Over => {
                // Some of the lent pages may have gone to no member.
                self.payload().take_pages_back(me);
                me.get().utcb(self.pin()).range_count.store(0, Relaxed);
                Ok(Answer::one(u64::from(progress.sent)))
            }
            Part::More => Err(Refusal::More),
            Part::Full(_) | Part::Refused(Refusal::More) if went_on => Err(Refusal::More),
            Part::Full(pool) => {
                self.payload().lend_ranges(me, &ranges, InVain::No)?;
                self.wait_for_member(me, args, group, pool, words, from, progress)
            }
            Part::Refused(Refusal::More) => {
                self.payload().lend_ranges(me, &ranges, InVain::No)?;
                Err(Refusal::More)
            }
            // The member's pool, or its process, ends.
            Part::Refused(Refusal::Error { error: Error::Gone, .. }) => {
                set_progress(me.part(), progress.past(false));
                Err(Refusal::More)
            }
            Part::Refused(refusal) => Err(of_member(self.patience_of(args, refusal), progress)),
        }
    }

    /// Returns the group to send to, and what its members learn about the sender.
    #[inline(always)]
    fn group_to_tell(
        self,
        me: OpenTask<'k>,
        args: &Args,
        need: Rights,
    ) -> Result<(Ref<'k, Group>, SenderInfo)> {
        let InGroup { group, custom } = self.caps().find_group(me, args.cap(), need)?;
        let target = Target::new(args.cap(), BROADCAST);
        Ok((group, SenderInfo { sender: me.get().id(), target, custom }))
    }

    /// Sends to the next members, at most `bound` of them. `put` returns whether a pool had room.
    #[inline(always)]
    fn send_to_some<R>(
        self,
        me: OpenTask<'k>,
        group: Ref<'k, Group>,
        begun: Progress,
        bound: u16,
        put: impl Fn(Ref<'k, EventPool>) -> core::result::Result<bool, R>,
    ) -> (Part<'k, R>, Progress) {
        let own = me.process(self.pin()).get().key_word();
        let at = |next: usize, sent: u16| Progress { next: next as u16, sent: begun.sent.wrapping_add(sent) };
        let first = usize::from(begun.next);
        let last = group.get().members.known().len().min(first + BROADCAST_LOOKS);
        let mut rest = group.get().members_from(self.pin(), first, BROADCAST_LOOKS);
        let mut sent = 0;
        while let Some((record, place)) = rest.next() {
            let member = Member::read(record);
            if !member.listens_besides(own) {
                continue;
            }
            let Some(pool) = self.pool_of_member(place, member) else { continue };
            let next = last - rest.len() - 1;
            if sent == bound {
                return (Part::More, at(next, sent));
            }
            match put(pool) {
                Ok(true) => sent += 1,
                Ok(false) => return (Part::Full(pool), at(next, sent)),
                Err(refusal) => return (Part::Refused(refusal), at(next, sent)),
            }
        }
        (if last < first + BROADCAST_LOOKS { Part::Over } else { Part::More }, at(last, sent))
    }

    /// Returns the pool of a member's process, if the process lives and has a pool.
    #[inline(always)]
    fn pool_of_member(self, place: &Membership, member: Member) -> Option<Ref<'k, EventPool>> {
        place.process_of(self.pin(), member)?.get().pool.get(self.pin())
    }

    /// Blocks the caller until the next member's pool has room.
    /// Requires: this entry has sent to no member.
    #[cold]
    #[inline(never)]
    #[allow(clippy::too_many_arguments, reason = "one decoded system call")]
    fn wait_for_member(
        self,
        me: OpenTask<'k>,
        args: &Args,
        group: Ref<'k, Group>,
        pool: Ref<'k, EventPool>,
        words: Words,
        from: SenderInfo,
        progress: Progress,
    ) -> Result<Answer> {
        let ends = || {
            let process = pool.get().process.get(self.pin());
            let headers = [Some(&pool.get().header), process.map(|process| &process.get().header)];
            headers.iter().any(|header| header.is_none_or(|header| header.has_flag(FLAG_DYING)))
        };
        let pass_over = || {
            // The process is no member any more, though its record is still there.
            set_progress(me.part(), progress.past(false));
            Refusal::More
        };
        if ends() {
            return Err(pass_over());
        }
        let block = Block::take(me.object(), self.pin());
        block.set_group(group.get().header.identity());
        block.rest();
        self.wait_for_room(me, args, pool, words, from).map_err(|refusal| match refusal {
            // It has begun to end since.
            Refusal::Error { error: Error::Gone, .. } if ends() => pass_over(),
            other => of_member(other, progress),
        })
    }
}
