//! Transfers of pages from one pool to another: the pages are moved, or shared by both pools.
//!
//! # Two phases
//! The first phase works on the giving space: it unmaps pages that are to be moved ([in
//! transit](Pte::in_transit)), and makes pages that are to be shared read-only. If CPUs may have
//! older translations, the sender waits for the shootdown ([`Mem::lend`]). The second phase puts
//! the pages into the taking space ([`Mem::hand_over`]). Under both locks it first checks all
//! pages, and changes nothing if one check fails. A page whose shootdown is not over is not sent,
//! whichever task asks, unless it is shared and several pools have it: then no CPU can write it.
//!
//! If only this CPU can have the giving space loaded, the second phase does the work of both. Then
//! no CPU can use an old translation, since this CPU flushes the page before it leaves the kernel.
//!
//! # Two code paths
//! The common path is for pages that are moved, that only one pool has, and that were never shared.
//! It moves such a page, lent or not, with three stores and without the page's lock: as long as the
//! locks of both spaces are held, no other CPU changes the page's record. Only the stamp of a lent
//! page is removed under the page's lock, when the page is checked. The general path is for
//! all other pages, and for all pages of a message that has one of those. It takes the lock of each
//! page.

use core::cell::Cell;

use abi::audit::may;
use abi::{Error, PageMode, PageRange, RANGES_MAX};
use kern_base::frames::{Counts, FrameInfo, LockedFrame};
use kern_base::limits::{FORGET_EACH, STAMPS_SETTLED, VAIN_WORK};
use kern_base::machine::{Access, Machine};
use kern_base::memory::VSpace;
use kern_base::objects::RawWord;
use kern_base::paging::{Entry, OwnKind, Pte};
use smp::door::Ref;
use smp::shootdown::Stamp;

use super::map::{LARGE, SMALL};
use super::pool::no_page;
use crate::rooms::Mem;
use crate::tables::rmap::Linked;
use crate::tables::walk::Spot;
use crate::{OpenTask, Refusal, Result, refuse_if};

/// Pages of one space, and their destination in another.
#[derive(Clone, Copy)]
pub struct Row {
    pub range: PageRange,
    pub target: u64,
}

/// All rows of a message, between two spaces whose locks are held.
#[derive(Clone, Copy)]
struct Transfer<'a, 'k> {
    from: Ref<'k, VSpace>,
    to: Ref<'k, VSpace>,
    rows: &'a [Row],
    /// Only this CPU can have the giving space loaded.
    alone: bool,
}

/// Entries of a row that are in one table on each side.
struct Part<'k> {
    /// The number of pages of the row before them.
    number: u64,
    source: Spot<'k>,
    target: Spot<'k>,
    sources: &'k [Entry],
    targets: &'k [Entry],
}

/// Where the first page of each row is in the page tables: indices in the giving and in the taking
/// space. The locks of both are held until the rows are passed, so a table stays where it is.
type Starts = [Cell<Option<(u32, u32)>>; RANGES_MAX];

/// What the checks of a message's pages have changed.
struct Checks {
    /// Views of pages that are counted.
    counted: u64,
    /// Stamps of shootdowns that are over, and are removed from pages and destinations.
    settled: u64,
}

/// Why a page of a message cannot be sent now.
#[derive(Clone, Copy)]
enum Why {
    NoPage,
    /// CPUs may have an old translation of it.
    NotLent,
    /// CPUs may have a translation of the destination's earlier page.
    NotYet,
    NoRoom,
    /// A sweep takes it out of all pools.
    Leaving,
    /// It has the most views that it can have.
    Full,
    /// The checks were the work of an entry.
    AtOnce,
}

impl Part<'_> {
    /// Returns the kind of the part's first page, if it is a page of the giving space's pool that
    /// was never shared.
    #[inline(always)]
    fn kind(&self, large: bool) -> Option<OwnKind> {
        self.sources.first()?.load().own_kind(large)
    }
}

impl<'k, M: Machine> Mem<'k, M> {
    // --- the first half --------------------------------------------------------------------------

    /// Prepares pages of a space for a transfer: unmaps those to be moved, and makes those to be
    /// shared read-only. Waits for the shootdown that must end before [`Mem::hand_over`].
    pub fn lend(self, me: OpenTask<'k>, from: Ref<'k, VSpace>, range: &PageRange) -> Result<()> {
        let guard = from.get().lock(self.cpu);
        let alone = from.get().is_alone(self.id());
        let (mut changed, mut stamp) = (false, None);
        let outcome = self.each_row(from, range, |first, entries, number| {
            let moves = range.mode == PageMode::Move;
            let common = if moves { self.lend_common(range.large, entries, alone) } else { 0 };
            changed |= common > 0;
            for (spot, number) in first.each_of(entries).zip(number..).skip(common) {
                let entry = spot.load();
                let address = address_in(range.address, range, number);
                let locked = self.page_to_send(entry, moves, address)?.lock(self.cpu);
                let _ = self.unstamp(&locked);
                // Another address space's pending shootdown of this page, or an earlier lending's.
                if moves || waits_to_share(locked.counts.get()) {
                    stamp = stamp.or(locked.stamp());
                }
                if let Some(lent) = lend_page(entry, range.mode, &locked) {
                    spot.store(lent);
                    changed = true;
                    if !alone {
                        self.tlb().stamp_frame(&locked);
                    }
                }
            }
            Ok(())
        });
        if changed {
            self.forget_ranges(from, core::iter::once(range));
            if !alone {
                stamp = Some(self.tlb().shoot_space(from));
            }
        }
        drop(guard);
        outcome?;
        stamp.map_or(Ok(()), |stamp| self.tlb().wait_over(me, stamp))
    }

    /// Waits for the first shootdown under way for which the pages of a range have to wait.
    #[cold]
    #[inline(never)]
    pub fn wait_for_flushes(self, me: OpenTask<'k>, from: Ref<'k, VSpace>, range: &PageRange) -> Result<()> {
        let guard = from.get().lock(self.cpu);
        let mut stamp = None;
        self.each_entry(from, range, |spot, address| {
            let info = self.page_to_send(spot.load(), range.mode == PageMode::Move, address)?;
            stamp = stamp.or_else(|| info.stamp().filter(|stamp| !self.tlb().is_over(*stamp)));
            Ok(())
        })?;
        drop(guard);
        stamp.map_or(Ok(()), |stamp| self.tlb().wait_over(me, stamp))
    }

    /// Lends pages on the common path (moved, in this pool alone, never shared), from the first on,
    /// as far as they are of one kind. Returns how many were lent. `alone`: only this CPU can have
    /// the space loaded.
    #[inline(never)]
    fn lend_common(self, large: bool, entries: &[Entry], alone: bool) -> usize {
        let kind = entries.first().and_then(|entry| entry.load().own_kind(large));
        let Some(kind) = kind.filter(|kind| kind.is_present()) else { return 0 };
        let exclusive = FrameInfo::exclusive(kind.access());
        let infos = self.k.frames.main(self.pin());
        let stamp = self.tlb().next_stamp();
        for (number, entry) in entries.iter().enumerate() {
            let was = entry.load();
            let info = was.own_at(kind).and_then(|at| infos.at(at)).filter(|info| info.is(exclusive));
            let Some(info) = info else { return number };
            entry.store(was.in_transit());
            if !alone {
                info.lock(self.cpu).set_stamp(Some(stamp));
            }
        }
        entries.len()
    }

    /// Restores pages that were lent and not sent.
    pub fn take_back(self, from: Ref<'k, VSpace>, range: &PageRange) {
        let _guard = from.get().lock(self.cpu);
        let stamp = (!from.get().is_alone(self.id())).then(|| self.tlb().next_stamp());
        let mut stale = false;
        // A page without a table was not lent, nor was any page after it.
        let _ = self.each_row(from, range, |_, entries, _| {
            for entry in entries {
                stale |= self.take_back_page(entry, stamp);
            }
            Ok(())
        });
        if stale {
            self.forget_ranges(from, core::iter::once(range));
            if stamp.is_some() {
                self.tlb().shoot_space(from);
            }
        }
    }

    /// Restores a page that is in transit, or was made read-only to be shared, and was not sent.
    /// Returns whether CPUs may have the translation that forbids writing. The caller makes them
    /// flush it, and no task waits for that: `stamp` is the shootdown's, if other CPUs may have the
    /// space loaded.
    #[inline(always)]
    fn take_back_page(self, place: &Entry, stamp: Option<Stamp>) -> bool {
        let entry = place.load();
        let Some(info) = self.pooled(entry, true) else { return false };
        if entry.is_in_transit() {
            place.store(entry.arrived(entry.pool_access()));
            return false;
        }
        if !entry.is_lent() {
            return false;
        }
        // No other pool has had it since. If another message shares it, that message must not share
        // it any more.
        let locked = info.lock(self.cpu);
        locked.counts.set(locked.counts.get().without(Access::Read).with(Access::Write));
        place.store(entry.arrived(Access::Write).unshared());
        if let Some(stamp) = stamp {
            self.tlb().stamp_with(&locked, stamp);
        }
        true
    }

    /// Applies a function to the entry of each page of a range, with its address.
    #[inline(always)]
    fn each_entry(
        self,
        space: Ref<'k, VSpace>,
        range: &PageRange,
        mut work: impl FnMut(Spot<'k>, u64) -> Result<()>,
    ) -> Result<()> {
        self.each_row(space, range, |first, entries, number| {
            let mut spots = first.each_of(entries).zip(number..);
            spots.try_for_each(|(spot, number)| work(spot, address_in(range.address, range, number)))
        })
    }

    /// Applies a function to the entries of a range, table by table. It gets the first entry of a
    /// table, all entries of the range in that table, and the number of pages before them.
    #[inline(always)]
    fn each_row(
        self,
        space: Ref<'k, VSpace>,
        range: &PageRange,
        mut work: impl FnMut(Spot<'k>, &'k [Entry], u64) -> Result<()>,
    ) -> Result<()> {
        let mut number = 0;
        while number < range.count {
            let address = address_in(range.address, range, number);
            let first = self.spot_of(space, address, range.large).ok_or(no_page(address))?;
            let entries = self.tables().row_from(first, (range.count - number) as usize);
            work(first, entries, number)?;
            number += entries.len() as u64;
        }
        Ok(())
    }

    /// Returns the record of a page of the pool that can be moved, or shared. A page in transit can
    /// only be moved.
    #[inline(always)]
    fn page_to_send(self, entry: Pte, moves: bool, address: u64) -> Result<&'k FrameInfo> {
        self.pooled(entry, moves).ok_or(no_page(address))
    }

    #[inline(always)]
    fn pooled(self, entry: Pte, moves: bool) -> Option<&'k FrameInfo> {
        if !(if moves { entry.is_pooled() } else { entry.is_pooled_and_present() }) {
            return None;
        }
        self.k.frames.get(self.pin(), entry.at()).map(Ref::get)
    }

    /// Removes the stamp of a page if its shootdown is over. Returns whether it was.
    #[inline(always)]
    fn unstamp(self, locked: &LockedFrame<'_>) -> bool {
        let is_over = locked.stamp().is_some_and(|stamp| self.tlb().is_over(stamp));
        if is_over {
            locked.set_stamp(None);
        }
        is_over
    }

    /// Flushes on this CPU what changed in the giving space, and increases its generation for other
    /// CPUs.
    fn forget_ranges<'a>(self, from: Ref<'k, VSpace>, ranges: impl Iterator<Item = &'a PageRange> + Clone) {
        let pages: u64 = ranges.clone().map(|range| range.count).sum();
        if pages > FORGET_EACH {
            let here = self.cpu.vspace.is(from);
            if here {
                self.k.machine.forget_space();
            }
            self.tlb().bump(from.get(), here);
            return;
        }
        for &range in ranges {
            let step = range.page_size();
            for number in 0..range.count {
                self.tlb().forget(from.get(), range.address + number * step);
            }
        }
    }

    // --- the second half -------------------------------------------------------------------------

    /// Transfers lent pages; if only this CPU can have the giving space loaded, they need not be
    /// lent. Runs `last` when no other check can fail; `last` may still refuse.
    /// Errors: [`Refusal::More`] if CPUs may have an old translation of a page: the caller lends
    /// the pages again. [`Refusal::NotReady`] if they may have one of a destination.
    /// [`Refusal::AT_ONCE`] if the checks were the work of an entry.
    #[inline(always)]
    pub fn hand_over(
        self,
        (from, to): (Ref<'k, VSpace>, Ref<'k, VSpace>),
        rows: &[Row],
        last: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if rows.is_empty() {
            return last();
        }
        check_disjoint(rows)?;
        let (low, high) = if from.addr() <= to.addr() { (from, to) } else { (to, from) };
        let _low = low.get().lock(self.cpu);
        let _high = (low != high).then(|| high.get().lock(self.cpu));
        let all = Transfer { from, to, rows, alone: from.get().is_alone(self.id()) };
        if !(from.get().is_plain() && to.get().is_plain()) {
            self.may_hand_over(all)?;
        }
        let mut checks = Checks { counted: 0, settled: 0 };
        let starts = [const { Cell::new(None) }; RANGES_MAX];
        let checked = self.check_rows(all, &starts, &mut checks);
        let common = match checked.and_then(|common| last().map(|()| common)) {
            Ok(common) => common,
            Err(refusal) => {
                self.uncount_views(all, checks.counted);
                return Err(refusal);
            }
        };
        for (row, start) in rows.iter().zip(&starts) {
            self.each_part(all, row, start, |part| {
                match row.range.mode {
                    _ if common => self.pass_common(row.range.large, &part),
                    PageMode::Move => self.pass_moved(&part),
                    PageMode::Share => self.pass_shared::<false>(&part),
                    PageMode::Copy => self.pass_shared::<true>(&part),
                }
                Ok(())
            })?;
        }
        if all.alone {
            self.forget_ranges(from, rows.iter().map(|row| &row.range));
        }
        Ok(())
    }

    /// Checks labels and death, if one of the spaces is dying or has a label. Pages of one frame
    /// are checked once.
    #[cold]
    fn may_hand_over(self, all: Transfer<'_, 'k>) -> Result<()> {
        let (from, to) = (all.from.get(), all.to.get());
        refuse_if(from.is_dying() || to.is_dying(), Error::Dying)?;
        if to.header.label() == 0 || !self.k.rules.confine(to.header.label(), may::READ | may::WRITE) {
            return Ok(());
        }
        let mut allowed = None;
        all.rows.iter().try_for_each(|Row { range, .. }| {
            self.each_row(all.from, range, |_, entries, _| match range.mode {
                PageMode::Move => self.may_take::<true>(to, entries, &mut allowed),
                _ => self.may_take::<false>(to, entries, &mut allowed),
            })
        })
    }

    /// Checks the label of a space against the pages of some entries. `allowed` is what was allowed
    /// last: the owner of a page, and the access to it.
    fn may_take<const MOVES: bool>(
        self,
        to: &VSpace,
        entries: &[Entry],
        allowed: &mut Option<(RawWord<'k>, Access)>,
    ) -> Result<()> {
        let mut rest = entries;
        while let Some((first, others)) = rest.split_first() {
            self.may_take_page::<MOVES>(to, first.load(), allowed)?;
            rest = match *allowed {
                Some(last) if !others.is_empty() => self.skip_like::<MOVES>(others, last),
                _ => others,
            };
        }
        Ok(())
    }

    /// Returns the entries from the first on that is not of this owner, or not with this access.
    /// Most pages of a message are of one frame.
    #[inline(never)]
    fn skip_like<'e, const MOVES: bool>(
        self,
        entries: &'e [Entry],
        (owner, access): (RawWord<'k>, Access),
    ) -> &'e [Entry] {
        let infos = self.k.frames.main(self.pin());
        let is_like = |entry: &Entry| {
            let entry = entry.load();
            let info = infos.at(entry.at());
            info.is_some_and(|info| info.owner(self.pin()) == owner)
                && (!MOVES || entry.pool_access() == access)
        };
        let alike = entries.iter().take_while(|entry| is_like(entry)).count();
        &entries[alike..]
    }

    /// Checks the label of a space against one page.
    #[inline(always)]
    fn may_take_page<const MOVES: bool>(
        self,
        to: &VSpace,
        entry: Pte,
        allowed: &mut Option<(RawWord<'k>, Access)>,
    ) -> Result<()> {
        // What is no page of the pool is refused by a later check.
        let info = Some(entry).filter(|entry| entry.is_pooled());
        let Some(info) = info.and_then(|entry| self.k.frames.get(self.pin(), entry.at())) else {
            return Ok(());
        };
        let access = if MOVES { entry.pool_access() } else { Access::Read };
        let like = (info.get().owner(self.pin()), access);
        if *allowed != Some(like) {
            self.security().may_see(to, info.get(), access)?;
            *allowed = Some(like);
        }
        Ok(())
    }

    /// Applies a function to each part of a row that is in one table on each side.
    #[inline(always)]
    fn each_part(
        self,
        all: Transfer<'_, 'k>,
        row: &Row,
        start: &Cell<Option<(u32, u32)>>,
        mut work: impl FnMut(Part<'k>) -> Result<()>,
    ) -> Result<()> {
        let mut number = 0;
        while number < row.range.count {
            let known = start.get().filter(|_| number == 0).and_then(|start| self.pair_of(all, row, start));
            let (source, target) = match known {
                Some(pair) => pair,
                None => self.pair_at(all, row, number)?,
            };
            if number == 0 {
                start.set(Some((source.index as u32, target.index as u32)));
            }
            let targets = self.tables().row_from(target, (row.range.count - number) as usize);
            let sources = self.tables().row_from(source, targets.len());
            let targets = &targets[..sources.len().min(targets.len())];
            work(Part { number, source, target, sources, targets })?;
            number += targets.len() as u64;
        }
        Ok(())
    }

    /// Returns the entries of the first page of a row, which were found before.
    #[inline(always)]
    fn pair_of(
        self,
        all: Transfer<'_, 'k>,
        row: &Row,
        (source, target): (u32, u32),
    ) -> Option<(Spot<'k>, Spot<'k>)> {
        let level = if row.range.large { LARGE } else { SMALL };
        let source = self.tables().spot_at(all.from, source as usize, level)?;
        Some((source, self.tables().spot_at(all.to, target as usize, level)?))
    }

    /// Returns the entries of page `number` of a row, in the giving and in the taking space. Makes
    /// missing tables of the taking space.
    #[inline(never)]
    fn pair_at(self, all: Transfer<'_, 'k>, row: &Row, number: u64) -> Result<(Spot<'k>, Spot<'k>)> {
        let Row { ref range, target } = *row;
        let (source, target) = (address_in(range.address, range, number), address_in(target, range, number));
        let level = if range.large { LARGE } else { SMALL };
        let spot = self.spot_of(all.from, source, range.large).ok_or(no_page(source))?;
        let place = match self.spot_of(all.to, target, range.large) {
            Some(place) => place,
            None => self.tables().grow(None, all.to, target, level).map_err(|why| {
                // There is no table for now, or none at all.
                if why == Refusal::More { Refusal::NotReady { epoch: 0 } } else { no_room(target) }
            })?,
        };
        Ok((spot, place))
    }

    /// Checks that all pages of a message may be sent now. Returns whether all of them can take the
    /// common way. Counts in `checks` what it has changed, also when it refuses.
    #[inline(always)]
    fn check_rows(self, all: Transfer<'_, 'k>, starts: &Starts, checks: &mut Checks) -> Result<bool> {
        let mut common = true;
        for (row, start) in all.rows.iter().zip(starts) {
            self.each_part(all, row, start, |part| {
                if row.range.mode != PageMode::Move {
                    common = false;
                    return self.check_general::<false>(all.alone, row, &part, 0, checks);
                }
                let first = match common {
                    true if all.alone => self.common_pages(row.range.large, &part),
                    true => self.common_lent(row.range.large, &part),
                    false => 0,
                };
                if first == part.sources.len() {
                    return Ok(());
                }
                common = false;
                self.check_general::<true>(all.alone, row, &part, first, checks)
            })?;
        }
        Ok(common)
    }

    /// Takes back the first `counted` views of a refused message. The locks of both spaces are
    /// still held, so the entries are those that were counted.
    #[cold]
    fn uncount_views(self, all: Transfer<'_, 'k>, mut counted: u64) {
        self.note_work(counted * VAIN_WORK);
        for Row { range, .. } in all.rows.iter().filter(|row| row.range.mode != PageMode::Move) {
            let range = PageRange { count: range.count.min(counted), ..*range };
            counted -= range.count;
            let _ = self.each_entry(all.from, &range, |spot, _| {
                let locked = self.info(spot.load().at())?.lock(self.cpu);
                locked.counts.set(locked.counts.get().without(Access::Read));
                Ok(())
            });
        }
    }

    // --- the common way --------------------------------------------------------------------------

    /// Returns how many pages from the first on are of one kind, in this pool alone, and have empty
    /// destinations, where only this CPU can have the giving space loaded.
    #[inline(never)]
    fn common_pages(self, large: bool, part: &Part<'k>) -> usize {
        let Some(kind) = part.kind(large) else { return 0 };
        let exclusive = FrameInfo::exclusive(kind.access());
        let infos = self.k.frames.main(self.pin());
        let is_common = |source: &Entry, target: &Entry| {
            let info = source.load().own_at(kind).and_then(|at| infos.at(at));
            info.is_some_and(|info| info.is(exclusive)) && target.load() == Pte::EMPTY
        };
        let mut pairs = part.sources.iter().zip(part.targets);
        pairs.position(|(source, target)| !is_common(source, target)).unwrap_or(part.sources.len())
    }

    /// Returns how many pages from the first on are of one kind, in this pool alone, were lent and
    /// are flushed on all CPUs, and have empty destinations. Removes the stamps of the pages.
    #[inline(never)]
    fn common_lent(self, large: bool, part: &Part<'k>) -> usize {
        let Some(kind) = part.kind(large).filter(|kind| !kind.is_present()) else { return 0 };
        let exclusive = FrameInfo::exclusive(kind.access());
        let infos = self.k.frames.main(self.pin());
        // The pages of one message mostly have the stamp of one shootdown.
        let mut over = None;
        let mut is_flushed = |info: &FrameInfo| {
            let Some(stamp) = info.stamp().filter(|_| info.is(exclusive.stale())) else { return false };
            if over != Some(stamp) && !self.tlb().is_over(stamp) {
                return false;
            }
            over = Some(stamp);
            info.lock(self.cpu).set_stamp(None);
            true
        };
        let mut is_common = |source: &Entry, target: &Entry| {
            let info = source.load().own_at(kind).and_then(|at| infos.at(at));
            info.is_some_and(|info| info.is(exclusive) || is_flushed(info)) && target.load() == Pte::EMPTY
        };
        let mut pairs = part.sources.iter().zip(part.targets);
        pairs.position(|(source, target)| !is_common(source, target)).unwrap_or(part.sources.len())
    }

    /// Sends the pages of a part on the common path, for which they were checked.
    #[inline(never)]
    fn pass_common(self, large: bool, part: &Part<'k>) {
        // A part may be empty.
        let Some(kind) = part.kind(large) else { return };
        let infos = self.k.frames.main(self.pin());
        let mut name = part.target.name();
        for (source, target) in part.sources.iter().zip(part.targets) {
            let entry = source.load();
            let Some(info) = infos.at(kind.at(entry)) else { no_record() };
            source.store(Pte::EMPTY);
            target.store(if kind.is_present() { entry } else { entry.arrived(kind.access()) });
            info.move_to(name);
            name = name.next();
        }
    }

    // --- the general way -------------------------------------------------------------------------

    /// Checks pages of a part on the general path, from number `first` on, and counts the views of
    /// pages to be shared.
    ///
    /// A view is counted when the page is checked, not when it is mapped. A message may name one
    /// page in many places, and CPUs with the locks of other spaces may share the same page at the
    /// same time. A count that was only checked could pass its limit before it changes. A page with
    /// the most possible views is refused with the address at which the giving space has it. So is
    /// a page that a sweep takes out of all pools: the sweep would never end if other tasks added
    /// views faster than it removes them.
    #[inline(never)]
    fn check_general<const MOVES: bool>(
        self,
        alone: bool,
        row: &Row,
        part: &Part<'k>,
        first: usize,
        checks: &mut Checks,
    ) -> Result<()> {
        let mut done = 0;
        let mut pairs = part.sources[first..].iter().zip(&part.targets[first..]);
        let checked = pairs.try_for_each(|(source, target)| {
            self.check_page::<MOVES>(source.load(), target, alone, &mut checks.settled)?;
            done += 1;
            Ok(())
        });
        if !MOVES {
            checks.counted += done;
        }
        checked.map_err(|why| refusal_of(why, row, part.number + first as u64 + done))
    }

    /// Checks that a page of any kind can be sent: it was lent, no shootdown of it is under way for
    /// which this transfer has to wait, and its destination is empty. Counts the view of a page to
    /// be shared. Counts in `settled` the stamps that it removes.
    #[inline(always)]
    fn check_page<const MOVES: bool>(
        self,
        entry: Pte,
        target: &Entry,
        alone: bool,
        settled: &mut u64,
    ) -> core::result::Result<(), Why> {
        let locked = self.pooled(entry, MOVES).ok_or(Why::NoPage)?.lock(self.cpu);
        // The first half should have done this, and has not.
        if entry.is_present() && (MOVES || entry.is_writable()) && !alone {
            return Err(Why::NotLent);
        }
        if locked.counts.get().is_stale() {
            if self.unstamp(&locked) {
                settle(settled)?;
            }
            let counts = locked.counts.get();
            if counts.is_stale() && (MOVES || waits_to_share(counts)) {
                return Err(Why::NotLent);
            }
        }
        if target.load() != Pte::EMPTY {
            self.empty_place(target, settled)?;
        }
        let counts = locked.counts.get();
        if !counts.takes_view() {
            check_views::<MOVES>(counts, entry)?;
        }
        if !MOVES {
            locked.counts.set(counts.with(Access::Read));
        }
        Ok(())
    }

    /// Empties the destination of a page, whose earlier page was unmapped and whose shootdown is
    /// over.
    #[cold]
    #[inline(never)]
    fn empty_place(self, place: &Entry, settled: &mut u64) -> core::result::Result<(), Why> {
        let stamp = place.load().shootdown().ok_or(Why::NoRoom)?;
        if !self.tlb().is_over(stamp) {
            return Err(Why::NotYet);
        }
        place.store(Pte::EMPTY);
        settle(settled)
    }

    /// Moves the pages of a part on the general path. They were checked, so this cannot fail.
    #[inline(never)]
    fn pass_moved(self, part: &Part<'k>) {
        let sources = part.source.each_of(part.sources);
        for (source, target) in sources.zip(part.target.each_of(part.targets)) {
            let entry = source.load();
            let locked = self.checked(entry).lock(self.cpu);
            source.store(Pte::EMPTY);
            self.tables().unlink(&locked, source);
            // Off all lists for a moment, so that the next link makes it the first again.
            self.tables().link(&locked, target);
            // A mark of another message in the giving space stays in that space.
            target.store(entry.arrived(entry.pool_access()).given());
        }
    }

    /// Shares the pages of a part; with `COPY`, a write copies a page. They were checked, and their
    /// views are counted, so this cannot fail.
    #[inline(never)]
    fn pass_shared<const COPY: bool>(self, part: &Part<'k>) {
        let count = part.targets.len();
        let (mut from, mut to) = (part.source.name(), part.target.name());
        let links = self.tables().links_from(part.source, count);
        let links = links.iter().zip(self.tables().links_from(part.target, count));
        for ((source, target), (other, new)) in part.sources.iter().zip(part.targets).zip(links) {
            let entry = source.load();
            let locked = self.checked(entry).lock(self.cpu);
            source.store(lend_to_share(entry, COPY, &locked).given());
            let (new, other) = (Linked { name: to, links: new }, Linked { name: from, links: other });
            self.tables().link_beside(&locked, new, other);
            target.store(entry.view(COPY));
            (from, to) = (from.next(), to.next());
        }
    }

    /// Returns the record of a page that was checked.
    #[inline(always)]
    fn checked(self, entry: Pte) -> &'k FrameInfo {
        self.k.frames.get(self.pin(), entry.at()).map_or_else(|| no_record(), Ref::get)
    }
}

/// Stops the kernel, because a page of a pool has no record. It takes no argument, so that the
/// loops over pages keep none for it.
#[cold]
#[inline(never)]
fn no_record() -> ! {
    panic!("a page that was checked, and is being sent, has no record");
}

/// Checks whether a page can be sent that leaves its pools, or has many views.
#[cold]
#[inline(never)]
fn check_views<const MOVES: bool>(counts: Counts, entry: Pte) -> core::result::Result<(), Why> {
    match counts {
        _ if counts.is_leaving() => Err(Why::Leaving),
        _ if !MOVES && counts.is_full_for(entry.is_view()) => Err(Why::Full),
        _ => Ok(()),
    }
}

/// Counts a stamp that is removed, up to as many as one entry may remove.
#[inline(always)]
fn settle(settled: &mut u64) -> core::result::Result<(), Why> {
    *settled += 1;
    if *settled == STAMPS_SETTLED { Err(Why::AtOnce) } else { Ok(()) }
}

/// Returns the refusal of a message because of page `number` of a row.
#[cold]
#[inline(never)]
fn refusal_of(why: Why, row: &Row, number: u64) -> Refusal {
    let Row { range, target } = row;
    let source = address_in(range.address, range, number);
    match why {
        Why::NoPage => no_page(source),
        Why::NotLent => Refusal::More,
        Why::NotYet => Refusal::NotReady { epoch: 0 },
        Why::NoRoom => no_room(address_in(*target, range, number)),
        Why::Leaving => Refusal::new(Error::InUse, source),
        Why::Full => Refusal::new(Error::Full, source),
        Why::AtOnce => Refusal::AT_ONCE,
    }
}

/// Lends a page: makes it read-only if others are to see it, too. Returns its entry in the giving
/// space, if that changes.
#[inline(always)]
fn lend_page(entry: Pte, mode: PageMode, locked: &LockedFrame<'_>) -> Option<Pte> {
    if mode == PageMode::Move {
        return entry.is_present().then(|| entry.in_transit());
    }
    entry.is_writable().then(|| lend_to_share(entry, mode == PageMode::Copy, locked))
}

/// Makes a page that others are to see, too, read-only; with `copy`, a write copies it. Returns
/// its entry in the giving space.
#[inline(always)]
fn lend_to_share(entry: Pte, copy: bool, locked: &LockedFrame<'_>) -> Pte {
    locked.counts.set(locked.counts.get().read_only(entry));
    entry.shared(copy)
}

/// Returns whether a page with these counts, of a pool, can be shared only when CPUs have flushed
/// it. While several pools have a page, no CPU has a translation that lets it write: then the flush
/// that another space's drop of the page began is no reason to wait.
const fn waits_to_share(counts: Counts) -> bool {
    counts.mapped() == 1
}

/// Returns the address that is `number` pages, of the size in `range`, after `first`.
#[inline(always)]
const fn address_in(first: u64, range: &PageRange, number: u64) -> u64 {
    first + (number << range.log2())
}

/// Checks that no page is in two of the rows.
pub fn check_disjoint(rows: &[Row]) -> Result<()> {
    for (number, Row { range, .. }) in rows.iter().enumerate() {
        let overlaps = |other: &&Row| {
            range.address < other.range.address + other.range.bytes()
                && other.range.address < range.address + range.bytes()
        };
        if let Some(other) = rows[..number].iter().find(overlaps) {
            return Err(no_page(range.address.max(other.range.address)));
        }
    }
    Ok(())
}

/// Returns the refusal for a full destination in the taking space.
pub fn no_room(address: u64) -> Refusal {
    Refusal::new(Error::NoRoom, address)
}
