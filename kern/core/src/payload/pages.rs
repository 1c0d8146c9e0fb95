//! Pages in messages, and pages that a task transfers between two spaces that it holds.
//!
//! # When pages are transferred
//! If the receiver waits on this CPU, and only this CPU can have the sender's space loaded, the
//! pages go from page table to page table together with the message. Otherwise the sender lends
//! them first: its system call restarts until no CPU can use them any more. Then the call is queued
//! or sent, with its pages in transit, and the CPU that receives the call transfers them. If a call
//! ends without being received, its pages return to the sender's space. So do the pages of a call
//! whose receiver has no room for them: that call fails.
//!
//! The pages of a reply are transferred before the reply is sent. If that is not possible, the
//! reply is sent without its payload. A list that is wrong by itself (malformed, or with a page in
//! two ranges) is the replier's error. A page that is gone is not: the caller may have ended its
//! memory.

use abi::{Error, FLAG_CAPS, MsgInfo, Op, PageMode, PageRange, RANGE_PAGES, RANGES_MAX};
use kern_base::limits::{LENT_AND_SENT, MESSAGE_PAGES_MAX};
use kern_base::machine::Machine;
use kern_base::memory::VSpace;
use kern_base::task::Task;
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;

use crate::args::Args;
use crate::begun::{is_again, mark_again, mark_first};
use crate::mem::map::check_user_range;
use crate::mem::pool::no_page;
use crate::mem::transfer::{Row, check_disjoint, no_room};
use crate::payload::carry::store;
use crate::payload::grants::Patience;
use crate::rooms::Payload;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// Entries of one reply that may wait until CPUs have no old translation of its pages: two for each
/// range.
const REPLY_WAITS: u8 = 2 * RANGES_MAX as u8;
/// Work of a page that was lent, and is its sender's again, where other CPUs may remember it.
const BACK_WORK: u64 = 85;
/// The refusal of a reply whose pages cannot go because of what other processes do with them.
const NOT_READY: Refusal = Refusal::NotReady { epoch: 0 };

/// Whether this entry has checked the pages before, and found that CPUs may have old translations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum InVain {
    No,
    Yes,
}

/// The ranges that a sender lists, and the rows of pages that they name. They are filled in place,
/// because they are long.
pub type Ranges = heapless::Vec<PageRange, RANGES_MAX>;
type Rows = heapless::Vec<Row, RANGES_MAX>;

/// The addresses at which a message's pages arrive.
pub struct ReceiveWindow<'k> {
    pub space: Ref<'k, VSpace>,
    pub start: u64,
    pub bytes: u64,
    /// Other receivers get the same pages, too: none is moved, and the sender's list stays.
    pub shared: bool,
}

impl<'k, M: Machine> Payload<'k, M> {
    /// Reads the ranges that a task's UTCB lists for a message. Each word is read once. Another
    /// thread may write other ranges there at any time, so a check holds only for the ranges of the
    /// same reading.
    pub fn ranges_of(self, task: Ref<'k, Task>, info: MsgInfo, ranges: &mut Ranges) -> Result<()> {
        let utcb = task.get().utcb(self.pin());
        let count = utcb.range_count.load(Relaxed);
        let count = usize::try_from(count).ok().filter(|count| *count <= RANGES_MAX);
        let count = count.ok_or(Refusal::new(Error::TooLong, RANGES_MAX as u64))?;
        let mut pages = 0;
        for words in &utcb.ranges[..count] {
            let words = [0, 1].map(|n: usize| words[n].load(Relaxed));
            let range = PageRange::from_words(words).ok_or(Refusal::new(Error::NoPage, words[0]))?;
            check_user_range(range.address, range.bytes(), range.page_size())?;
            pages += range.count;
            let _ = ranges.push(range);
        }
        let most = abi::pages_max(count, info.has(FLAG_CAPS)).min(MESSAGE_PAGES_MAX);
        refuse_if(pages > most, Refusal::new(Error::TooLong, most))
    }

    /// Reads the ranges that a task's UTCB lists, and refuses ranges to be moved.
    /// Returns: the number of pages.
    pub fn ranges_to_share(self, task: Ref<'k, Task>, info: MsgInfo, ranges: &mut Ranges) -> Result<u64> {
        self.ranges_of(task, info, ranges)?;
        match ranges.iter().find(|range| range.mode == PageMode::Move) {
            Some(range) => Err(no_page(range.address)),
            None => Ok(pages_in(ranges)),
        }
    }

    pub fn space_of(self, task: Ref<'k, Task>) -> Result<Ref<'k, VSpace>> {
        task.get().space(self.pin()).ok_or(Error::Dying.into())
    }

    /// Assigns addresses in the receiver's window to the pages of the ranges, and puts them into
    /// `rows`. Returns: the end of the last range in the window.
    #[inline(always)]
    fn lay_out(self, to: &ReceiveWindow<'k>, ranges: &Ranges, rows: &mut Rows) -> Result<u64> {
        let ReceiveWindow { start, bytes, shared, .. } = *to;
        let end = start.checked_add(bytes).ok_or(no_room(start))?;
        let mut target = start;
        for range in ranges {
            refuse_if(shared && range.mode == PageMode::Move, no_page(range.address))?;
            let at = target.checked_next_multiple_of(range.page_size());
            let at = at.filter(|at| end.checked_sub(*at).is_some_and(|room| room >= range.bytes()));
            target = at.ok_or(Refusal::new(Error::NoRoom, range.bytes()))?;
            check_user_range(target, range.bytes(), range.page_size()).map_err(|_| no_room(target))?;
            let _ = rows.push(Row { range: *range, target });
            target += range.bytes();
        }
        Ok(target)
    }

    /// Transfers all pages of a message to its receiver, or none.
    /// Runs `last` before the transfer, when no other check can fail; `last` may still refuse.
    #[inline(always)]
    pub fn pass_pages(
        self,
        sender: Ref<'k, Task>,
        receiver: Ref<'k, Task>,
        info: MsgInfo,
        patience: Patience,
        last: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let utcb = receiver.get().utcb(self.pin());
        let [start, bytes] = [0, 1].map(|n: usize| utcb.window[n].load(Relaxed));
        let to = ReceiveWindow { space: self.space_of(receiver)?, start, bytes, shared: false };
        let tell = |place: usize, words| store(&utcb.ranges[place], words);
        let mut ranges = Ranges::new();
        self.ranges_of(sender, info, &mut ranges)?;
        let passed = self.pass_pages_to(sender, &ranges, &to, last, tell);
        let (count, _) = passed.map_err(|refusal| of_message(refusal, &ranges, patience))?;
        utcb.range_count.store(count, Relaxed);
        Ok(())
    }

    /// Transfers ranges that were read from the sender's UTCB. `tell` gets each range at its new
    /// address, for the receiver. `last` runs when no other check can fail.
    /// Returns: the number of ranges, and the end of the last one.
    #[inline(always)]
    pub fn pass_pages_to(
        self,
        sender: Ref<'k, Task>,
        ranges: &Ranges,
        to: &ReceiveWindow<'k>,
        last: impl FnOnce() -> Result<()>,
        mut tell: impl FnMut(usize, [u64; 2]),
    ) -> Result<(u64, u64)> {
        let mut rows = Rows::new();
        let from = self.space_of(sender)?;
        let end = self.lay_out(to, ranges, &mut rows)?;
        self.mem().hand_over((from, to.space), &rows, last)?;
        if !to.shared {
            sender.get().utcb(self.pin()).range_count.store(0, Relaxed);
        }
        for (place, Row { range, target }) in rows.iter().enumerate() {
            tell(place, PageRange { address: *target, ..*range }.words());
        }
        Ok((rows.len() as u64, end))
    }

    /// Lends the pages of the running task's message, as a transfer needs whose giving space other
    /// CPUs may have loaded. The task may have to wait.
    /// Returns: whether this was the work of an entry.
    pub fn lend_pages(
        self,
        me: OpenTask<'k>,
        info: MsgInfo,
        patience: Patience,
        in_vain: InVain,
    ) -> Result<bool> {
        let mut ranges = Ranges::new();
        self.ranges_of(me.object(), info, &mut ranges)?;
        self.lend_ranges(me, &ranges, in_vain).map_err(|refusal| of_message(refusal, &ranges, patience))
    }

    /// Lends the pages of ranges that were read from the running task's UTCB.
    /// Returns: whether this was the work of an entry.
    pub fn lend_ranges(self, me: OpenTask<'k>, ranges: &Ranges, in_vain: InVain) -> Result<bool> {
        let from = self.space_of(me.object())?;
        if in_vain == InVain::Yes && is_long_to_lend(ranges) {
            ranges.iter().try_for_each(|range| self.mem().wait_for_flushes(me, from, range))?;
            me.forget_lent_pages();
            return Err(Refusal::More);
        }
        me.set_lends_pages(true);
        for (left, range) in (0..ranges.len()).rev().zip(ranges) {
            self.mem().lend(me, from, range).inspect_err(|refusal| {
                if left == 0 && *refusal == Refusal::Again {
                    // All are lent, and the task waits for CPUs that may still have translations.
                    me.note_lent_pages();
                }
            })?;
        }
        let is_long = is_long_to_lend(ranges);
        if is_long {
            me.note_lent_pages();
        }
        Ok(is_long)
    }

    /// Restores pages that a task of this CPU has lent and that were not transferred, because its
    /// system call was refused, its call ended otherwise, or the caller to reply to is gone.
    #[inline(always)]
    pub fn take_pages_back(self, task: OpenTask<'k>) {
        if task.lends_pages() {
            self.take_lent_back(task);
        }
    }

    #[cold]
    fn take_lent_back(self, task: OpenTask<'k>) {
        task.set_lends_pages(false);
        let mut ranges = Ranges::new();
        // Ranges before the first malformed one were lent.
        let _ = self.ranges_of(task.object(), MsgInfo(0), &mut ranges);
        // A process whose address space has ended has no pages to take back.
        let Ok(space) = self.space_of(task.object()) else { return };
        self.note_work(pages_in(&ranges) * BACK_WORK);
        ranges.iter().for_each(|range| self.mem().take_back(space, range));
    }

    /// Transfers the payload of the running task's message, pages included, to the receiver now.
    #[inline(never)]
    pub fn give_pages(
        self,
        me: OpenTask<'k>,
        receiver: Ref<'k, Task>,
        info: MsgInfo,
        patience: Patience,
    ) -> Result<()> {
        let pass = || self.pass_payload(me.object(), receiver, info, patience);
        // Other processes may keep dropping pages that they share with a replier.
        let may_wait = patience == Patience::Wait || me.count_reply_wait(REPLY_WAITS);
        let lend = |in_vain| if may_wait { self.lend_pages(me, info, patience, in_vain) } else { Ok(false) };
        match self.in_one_or_two(self.space_of(me.object())?, me.has_lent_pages(), lend, pass) {
            Ok(()) => me.set_lends_pages(false),
            Err(Refusal::AT_ONCE | Refusal::More) if !may_wait => return Err(NOT_READY),
            Err(refusal) => return Err(refusal),
        }
        Ok(())
    }

    /// Transfers pages of space `from` by `pass`. If other CPUs can have the space loaded, calls
    /// `lend` before, unless an earlier entry has seen that all are `lent`. If `lend` was the work
    /// of an entry, the next one sends the pages. If many pages were checked in vain, `lend` only
    /// waits for what they need, and the next entry begins again.
    #[inline(always)]
    pub fn in_one_or_two<T>(
        self,
        from: Ref<'k, VSpace>,
        lent: bool,
        lend: impl Fn(InVain) -> Result<bool>,
        pass: impl Fn() -> Result<T>,
    ) -> Result<T> {
        let lend_some = |in_vain| refuse_if(lend(in_vain)?, Refusal::More);
        if !lent && !from.get().is_alone(self.id()) {
            lend_some(InVain::No)?;
        }
        let mut again = true;
        loop {
            match pass() {
                // Another space maps one of the pages, too, and other CPUs may still have an older
                // translation of it. A shootdown ends that, so wait for it.
                Err(Refusal::More) if again => lend_some(InVain::Yes)?,
                passed => return passed,
            }
            again = false;
        }
    }

    // --- between spaces --------------------------------------------------------------------------

    /// Carries out [`abi::Op::PageTransfer`].
    pub fn page_transfer(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let from = self.caps().operand::<VSpace, { Op::PageTransfer as u8 }, 0>(me, args.cap())?;
        let range =
            PageRange::from_words([args.a2, args.a4]).filter(|range| range.count <= MESSAGE_PAGES_MAX);
        let to = self.caps().operand::<VSpace, { Op::PageTransfer as u8 }, 1>(me, args.cap1());
        let to = to.inspect_err(|_| {
            // The capability may have gone while this call waited with the pages lent.
            let lent = range.filter(|range| check_user_range(range.address, range.bytes(), 1).is_ok());
            lent.iter().for_each(|range| self.mem().take_back(from, range));
        })?;
        let range = range.ok_or(Refusal::argument(2))?;
        let target = args.a3;
        check_user_range(range.address, range.bytes(), range.page_size())?;
        check_user_range(target, range.bytes(), range.page_size())?;
        let lend = |in_vain| {
            let is_long = is_long_to_lend(&[range]);
            if in_vain == InVain::Yes && is_long {
                self.mem().wait_for_flushes(me, from, &range)?;
                mark_first(me.part());
                return Err(Refusal::More);
            }
            self.mem().lend(me, from, &range)?;
            if is_long {
                mark_again(me.part());
            }
            Ok(is_long)
        };
        let pass = || self.mem().hand_over((from, to), &[Row { range, target }], || Ok(()));
        let gone = self.in_one_or_two(from, is_again(me.part()), lend, pass);
        if let Err(Refusal::Error { .. }) = gone {
            self.mem().take_back(from, &range);
        }
        gone.map(|()| Answer::DONE)
    }
}

/// Returns how many pages these ranges have.
pub fn pages_in(ranges: &[PageRange]) -> u64 {
    ranges.iter().map(|range| range.count).sum()
}

/// Returns whether lending the pages of these ranges is the work of an entry. Pages that are moved
/// do not count: sending them is short. But each further range counts as in a message's length.
fn is_long_to_lend(ranges: &[PageRange]) -> bool {
    let shared = ranges.iter().filter(|range| range.mode != PageMode::Move);
    let further = ranges.len().saturating_sub(1) as u64 * RANGE_PAGES;
    shared.map(|range| range.count).sum::<u64>() + further > LENT_AND_SENT
}

/// Returns what a refused transfer of ranges means for their message. Others may have mapped a page
/// of a reply as often as possible, may be taking it away, or have ended its memory: then the reply
/// goes without its payload.
#[cold]
fn of_message(refusal: Refusal, ranges: &Ranges, patience: Patience) -> Refusal {
    let is_by_others = match refusal {
        Refusal::Error { error: Error::Full | Error::InUse, .. } => true,
        // The list itself may have a page twice.
        Refusal::Error { error: Error::NoPage, .. } => {
            let rows: Rows = ranges.iter().map(|range| Row { range: *range, target: 0 }).collect();
            check_disjoint(&rows).is_ok()
        }
        _ => false,
    };
    if is_by_others && patience == Patience::Reply { NOT_READY } else { refusal }
}
