//! Events that carry pages and capabilities.
//!
//! What a process takes is offered in its pool's first page, as a task's is in its UTCB: slots, and addresses. Any CPU may
//! put events there, so all that carry something go one after the other, under the pool's lock `taking`: from the first
//! look at the offers until they are what is left.
//!
//! # Order
//! A reservation cannot be given back. So it is the last of all that can fail: slots are claimed, pages looked at under
//! the locks of both spaces, then the cells are reserved; what follows cannot fail. An event that finds no room has changed
//! nothing, and nothing that it carries is disposed of before there is some.
//!
//! # Waiting
//! As any event waits, its capabilities in the sender's slots and its pages lent. It is tried again on the CPU of the pool's
//! reader. Its sender hears of what cannot go by then, and sends once more what has to wait for something else.

use abi::events::{BROADCAST, Event, Window, caps_at, cells_of, pages_at};
use abi::{Cap, Error, FLAG_CAPS, FLAG_PAGES, GRANTS_MAX, Listening, PAGE_SIZE, RANGES_MAX};
use kern_base::events::EventPool;
use kern_base::machine::Machine;
use kern_base::task::Task;
use smp::door::Ref;
use smp::events::Turn;
use smp::sync::Ordering::Relaxed;
#[expect(clippy::disallowed_types, reason = "user level shares it")]
use smp::sync::UserWord;

use crate::args::Args;
use crate::ipc::call::{SenderInfo, Words};
use crate::payload::carry::{CARRIES, rights_of};
use crate::payload::grants::Prepared;
use crate::payload::pages::{Landing, Ranges, is_early};
use crate::rooms::Events;
use crate::{Answer, Me, Result};

/// How often an offer that its process changes meanwhile is looked at again.
const TRIES: usize = 4;

/// An event, and where it goes.
struct Loaded<'a, 'k> {
    pool: Ref<'k, EventPool>,
    sender: Ref<'k, Task>,
    event: Event,
    /// The pages that it carries.
    ranges: &'a Ranges,
    turn: Turn,
}

/// Page ranges as the reader finds them.
type Arrived = [[u64; 2]; RANGES_MAX];

impl<'k, M: Machine> Events<'k, M> {
    /// [`abi::Op::Send`] of a message that carries something.
    #[inline(never)]
    pub fn send_loaded(self, me: Me<'k>, args: &Args, words: Words) -> Result<Answer> {
        if words.info.has(FLAG_CAPS) {
            self.payload().look_for_disposals(me)?;
        }
        let (pool, from) = self.pool_of_target(me, args, rights_of(words.info))?;
        let pages = words.info.has(FLAG_PAGES);
        let mut ranges = Ranges::new();
        if pages {
            self.payload().ranges_of(me.task, &mut ranges)?;
        }
        if pages && !self.payload().space_of(me.task)?.get().is_alone(self.id()) {
            self.payload().lend_ranges(me, &ranges)?;
        }
        let event = loaded_event(words, from, 0);
        let loaded = Loaded { pool, sender: me.task, event, ranges: &ranges, turn: Turn::Any };
        let mut put = self.put_loaded(&loaded);
        if pages && is_early(&put) {
            // Another space has a page, too, and CPUs may remember what it was there: that can be waited for.
            self.payload().lend_ranges(me, &ranges)?;
            put = self.put_loaded(&loaded);
        }
        if put? {
            me.hot.lends.set(false);
            return Ok(Answer::DONE);
        }
        if pages {
            self.payload().lend_ranges(me, &ranges)?;
        }
        self.wait_for_room(me, args, pool, words, from)
    }

    /// The same of a message that has waited for room.
    #[inline(never)]
    pub fn put_waiting_load(
        self,
        pool: Ref<'k, EventPool>,
        sender: Ref<'k, Task>,
        words: Words,
        from: SenderInfo,
        group: u64,
    ) -> Result<bool> {
        let event = loaded_event(words, from, group);
        let mut ranges = Ranges::new();
        if event.info.has(FLAG_PAGES) {
            self.payload().ranges_of(sender, &mut ranges)?;
        }
        let loaded = Loaded { pool, sender, event, ranges: &ranges, turn: Turn::Waiting };
        self.put_loaded(&loaded).map_err(|refusal| self.payload().later(refusal))
    }

    /// Gives one member its part of a broadcast: pages that were read once for all members.
    pub fn put_shares(
        self,
        pool: Ref<'k, EventPool>,
        sender: Ref<'k, Task>,
        (words, ranges): (Words, &Ranges),
        from: SenderInfo,
        group: u64,
    ) -> Result<bool> {
        let event = loaded_event(words, from, group);
        self.put_loaded(&Loaded { pool, sender, event, ranges, turn: Turn::Any })
    }

    /// Puts an event into a pool with all that it carries, or does nothing. Whether there was room.
    fn put_loaded(self, loaded: &Loaded<'_, 'k>) -> Result<bool> {
        let Loaded { pool, sender, event, turn, .. } = *loaded;
        let _taking = pool.get().taking.lock(self.cpu, &pool.get().header);
        let shown = pool.get().shown(self.pin());
        if !pool.get().reserved.has_room(&shown, cells_of(event.info), turn) {
            return Ok(false);
        }
        let [slots, _] = shown.offers();
        let offer = Listening::from_word(slots.load(Relaxed));
        let mut prepared = Prepared::none();
        if event.info.has(FLAG_CAPS) {
            let to = pool.get().process.get(self.pin()).ok_or(Error::Gone)?;
            self.payload().prepare_grants(sender, to, offer, &mut prepared)?;
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
        let text = &sender.get().utcb(self.pin()).msg;
        shown.write(at, event, text.iter().map(|word| word.load(Relaxed)));
        if pool.get().reserved.publish(&shown, at) {
            self.call_reader(pool);
        }
        Ok(true)
    }

    /// Cells for an event, when its pages have gone. `None`: there is no room, and they have not.
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
        let to = Landing { space, start: window.address, bytes: window.pages * PAGE_SIZE, shared };
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

fn loaded_event(words: Words, from: SenderInfo, group: u64) -> Event {
    let event = words.as_event(from, group);
    Event { info: event.info.flag(words.info.0 & CARRIES), ..event }
}

/// Takes off an offer what was used: of whatever has the same beginning, for its process may have made it longer.
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

#[expect(clippy::disallowed_types, reason = "user level shares it")]
fn take_slots(offer: &UserWord, was: Listening, left: Listening) {
    let taken = left.next.0.wrapping_sub(was.next.0);
    take_off(offer, |word| {
        let Listening { next, count } = Listening::from_word(word);
        let behind = Listening { next: Cap(next.0.wrapping_add(taken)), count: count.saturating_sub(taken) };
        (next == was.next).then(|| behind.word())
    });
}

#[expect(clippy::disallowed_types, reason = "user level shares it")]
fn take_pages(offer: &UserWord, was: Window, end: u64) {
    take_off(offer, |word| {
        let window = Window::from_word(word);
        (window.address == was.address).then(|| window.behind(end - was.address).word())
    });
}
