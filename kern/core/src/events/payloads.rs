//! Events that carry pages and capabilities.
//!
//! A process offers slots and addresses in the first page of its pool, as a task does in its UTCB.
//! Any CPU may put events there. So events with a payload are transferred one after the other,
//! under the pool's lock `taking`. A CPU holds it from the time at which it reads the offers until
//! it has removed the used slots and addresses from them.
//!
//! # Order
//! A reservation of cells cannot be undone. So it is the last step that can fail: first the slots
//! are claimed, then the pages are checked under the locks of both spaces, then the cells are
//! reserved. An event that finds no room has changed nothing. Capabilities are disposed of only
//! once there is room for the event.
//!
//! # Waiting
//! An event with a payload waits as any event does. Its capabilities stay in the sender's slots,
//! and its pages are lent. The CPU of the pool's reader tries again to transfer it. Permanent
//! failures are reported to the sender. Transient ones make the sender send again.

use abi::events::{BROADCAST, Event, Window, caps_at, cells_of, pages_at};
use abi::{
    Cap, Error, FLAG_CAPS, FLAG_NONBLOCK, FLAG_PAGES, GRANTS_MAX, Listening, MsgInfo, PAGE_SIZE, RANGES_MAX,
};
use kern_base::events::EventPool;
use kern_base::limits::LEND_WORK;
use kern_base::machine::Machine;
use kern_base::task::Task;
use smp::door::Ref;
use smp::events::Turn;
use smp::sync::Ordering::Relaxed;
#[expect(clippy::disallowed_types, reason = "user level shares it")]
use smp::sync::UserWord;

use crate::args::Args;
use crate::ipc::call::{SenderInfo, Words};
use crate::payload::carry::{PAYLOAD_FLAGS, rights_of};
use crate::payload::grants::{Patience, Prepared};
use crate::payload::pages::{InVain, Ranges, ReceiveWindow, pages_in};
use crate::rooms::Events;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// How often the kernel tries to reduce an offer that its process changes meanwhile.
const TRIES: usize = 4;

/// An event with its payload and its destination.
pub struct Loaded<'a, 'k> {
    pub pool: Ref<'k, EventPool>,
    pub sender: Ref<'k, Task>,
    pub event: Event,
    /// The pages that the event carries.
    pub ranges: &'a Ranges,
    pub turn: Turn,
}

/// Page ranges at the reader's addresses.
type Arrived = [[u64; 2]; RANGES_MAX];

impl<'k, M: Machine> Events<'k, M> {
    /// Carries out [`abi::Op::Send`] of a message with a payload.
    #[inline(never)]
    pub fn send_with_payload(self, me: OpenTask<'k>, args: &Args, words: Words) -> Result<Answer> {
        if words.info.has(FLAG_CAPS) {
            self.payload().look_for_disposals(me)?;
        }
        let (pool, from) = self.pool_of_target(me, args, rights_of(words.info))?;
        let pages = words.info.has(FLAG_PAGES);
        let mut ranges = Ranges::new();
        if pages {
            self.payload().ranges_of(me.object(), words.info, &mut ranges)?;
        }
        let lend = |in_vain| {
            if pages { self.payload().lend_ranges(me, &ranges, in_vain) } else { Ok(false) }
        };
        let event = loaded_event(words, from, 0);
        let loaded = Loaded { pool, sender: me.object(), event, ranges: &ranges, turn: Turn::Any };
        let from_space = self.payload().space_of(me.object())?;
        let put =
            self.payload().in_one_or_two(from_space, me.has_lent_pages(), lend, || self.put_loaded(&loaded));
        if put.map_err(|refusal| self.patience_of(args, refusal))? {
            me.set_lends_pages(false);
            return Ok(Answer::DONE);
        }
        refuse_if(MsgInfo(args.info).has(FLAG_NONBLOCK), Error::WouldBlock)?;
        if !me.lends_pages() {
            // This entry may have checked all pages in vain.
            self.afford(pages_in(&ranges) * LEND_WORK)?;
            lend(InVain::No)?;
        }
        self.wait_for_room(me, args, pool, words, from)
    }

    /// Returns the refusal of an event that its reader cannot take now: the sender waits for the
    /// reader as it waits for room, if its flags and its deadline allow.
    pub fn patience_of(self, args: &Args, refusal: Refusal) -> Refusal {
        let Refusal::NotReady { .. } = refusal else { return refusal };
        if MsgInfo(args.info).has(FLAG_NONBLOCK) {
            return Error::WouldBlock.into();
        }
        if args.deadline().is_some_and(|at| at <= self.k.machine.now()) {
            return Error::Timeout.into();
        }
        refusal
    }

    /// Puts an event that has waited for room, and its payload, into a pool. Returns whether there
    /// was room.
    #[inline(never)]
    pub fn put_waiting_load(
        self,
        pool: Ref<'k, EventPool>,
        sender: Ref<'k, Task>,
        event: Event,
    ) -> Result<bool> {
        let mut ranges = Ranges::new();
        if event.info.has(FLAG_PAGES) {
            self.payload().ranges_of(sender, event.info, &mut ranges)?;
        }
        let loaded = Loaded { pool, sender, event, ranges: &ranges, turn: Turn::Waiting };
        self.put_loaded(&loaded).map_err(|refusal| self.payload().later(refusal))
    }

    /// Puts an event into a pool with its whole payload, or does nothing. Returns whether there was
    /// room.
    pub fn put_loaded(self, loaded: &Loaded<'_, 'k>) -> Result<bool> {
        let Loaded { pool, sender, event, turn, .. } = *loaded;
        let _taking = pool.get().taking.lock(self.cpu, &pool.get().header);
        let shown = pool.get().shown(self.pin());
        if !pool.get().reserved.has_room(&shown, cells_of(event.info), turn) {
            return Ok(false);
        }
        let [slots, _] = shown.offers();
        let offer = Listening::from_word(slots.load(Relaxed));
        let mut prepared = Prepared::with_offer(offer);
        if event.info.has(FLAG_CAPS) {
            let to = pool.get().process.get(self.pin()).ok_or(Error::Gone)?;
            self.payload().prepare_grants(sender, to, Patience::Wait, &mut prepared)?;
        }
        let mut arrived: Arrived = [[0; 2]; RANGES_MAX];
        let at = match self.reserve_and_pass_pages(loaded, &prepared, &mut arrived) {
            Ok(Some(at)) => at,
            otherwise => {
                self.payload().unprepare_grants(&prepared);
                return otherwise.map(|_| false);
            }
        };
        if event.info.has(FLAG_CAPS) {
            let mut list = [[0; 2]; GRANTS_MAX];
            let (_, left) = self.payload().pass_grants(sender, &prepared, |place, words| list[place] = words);
            take_slots(slots, offer, left);
            shown.write_list(at + caps_at(event.info), &list);
        }
        if event.info.has(FLAG_PAGES) {
            shown.write_list(at + pages_at(event.info), &arrived);
        }
        shown.write(at, event, &sender.get().utcb(self.pin()).msg);
        if pool.get().reserved.publish(&shown, at) {
            self.call_reader(pool);
        }
        Ok(true)
    }

    /// Transfers an event's pages and reserves its cells. Returns the first cell, or `None` if
    /// there is no room; then no page was transferred.
    fn reserve_and_pass_pages(
        self,
        loaded: &Loaded<'_, 'k>,
        prepared: &Prepared<'k>,
        arrived: &mut Arrived,
    ) -> Result<Option<u64>> {
        let Loaded { pool, sender, event, ranges, turn } = *loaded;
        let shown = pool.get().shown(self.pin());
        let reserve = || pool.get().reserved.reserve(&shown, cells_of(event.info), turn).ok();
        if !event.info.has(FLAG_PAGES) {
            self.payload().mark_disposals(sender, prepared)?;
            return Ok(reserve());
        }
        let process = pool.get().process.get(self.pin()).ok_or(Error::Gone)?;
        let space = process.get().vspace.get(self.pin()).ok_or(Error::Gone)?;
        let [_, addresses] = shown.offers();
        let window = Window::from_word(addresses.load(Relaxed));
        let shared = event.exposure == BROADCAST;
        let to = ReceiveWindow { space, start: window.address, bytes: window.pages * PAGE_SIZE, shared };
        let mut reserved = None;
        let place = &mut reserved;
        let last = move || {
            self.payload().mark_disposals(sender, prepared)?;
            place.insert(reserve()).map(drop).ok_or(Error::WouldBlock.into())
        };
        let passed =
            self.payload().pass_pages_to(sender, ranges, &to, last, |place, words| arrived[place] = words);
        match (passed, reserved) {
            (Ok((_, end)), Some(at)) => {
                take_pages(addresses, window, end);
                Ok(at)
            }
            (Err(_), Some(None)) => Ok(None),
            (Err(refusal), _) => Err(refusal),
            (Ok(_), None) => Ok(None),
        }
    }
}

/// Makes an event of a message, with the flags of its payload.
pub fn loaded_event(words: Words, from: SenderInfo, group: u64) -> Event {
    let event = words.as_event(from, group);
    Event { info: event.info.flag(words.info.0 & PAYLOAD_FLAGS), ..event }
}

/// Replaces the word of an offer by what `behind` makes of it; `None` leaves it. The process may
/// write the word at the same time, so this tries a bounded number of times.
#[expect(clippy::disallowed_types, reason = "user level shares it")]
fn take_off(offer: &UserWord, behind: impl Fn(u64) -> Option<u64>) {
    for _ in 0..TRIES {
        let word = offer.load(Relaxed);
        let Some(left) = behind(word) else { return };
        if offer.compare_exchange(word, left, Relaxed, Relaxed).is_ok() {
            return;
        }
    }
}

/// Takes slots that an event has used off the offer of a process, if the offer still begins at the
/// same slot.
#[expect(clippy::disallowed_types, reason = "user level shares it")]
fn take_slots(offer: &UserWord, was: Listening, left: Listening) {
    let taken = left.next.0.wrapping_sub(was.next.0);
    take_off(offer, |word| {
        let Listening { next, count } = Listening::from_word(word);
        let behind = Listening { next: Cap(next.0.wrapping_add(taken)), count: count.saturating_sub(taken) };
        (next == was.next).then(|| behind.word())
    });
}

/// Takes addresses that an event has used, up to `end`, off the offer of a process, if the offer
/// still begins at the same address.
#[expect(clippy::disallowed_types, reason = "user level shares it")]
fn take_pages(offer: &UserWord, was: Window, end: u64) {
    take_off(offer, |word| {
        let window = Window::from_word(word);
        (window.address == was.address).then(|| window.behind(end - was.address).word())
    });
}
