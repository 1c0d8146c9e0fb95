//! Pages under way from one pool to another: moved, or shared by both.
//!
//! # Two halves
//! A transfer has two halves. The first is in the giving space: it takes pages to be moved out ([in
//! transit](Pte::in_transit)), and makes pages to be shared read-only. If CPUs may have other
//! translations, the sender waits for the shootdown ([`Mem::lend_row`]). The second half puts the
//! pages into the taking space ([`Mem::hand_over`]). Under both locks it first checks all pages,
//! and changes nothing if one is not right. A page whose shootdown is not over is not sent,
//! whichever task asks.
//!
//! If only this CPU can have the giving space loaded, one step does both halves. No CPU can use the
//! page between its entry in the one table and its entry in the other, nor afterwards, since this
//! CPU flushes the page before it leaves the kernel.
//!
//! # Cost
//! A page that only one pool has, and that was never shared, is moved with three stores and without
//! its own lock: under the locks of both spaces no other CPU changes the page's record.

use abi::audit::may;
use abi::{Error, PageMode};
use kern_base::frames::{FrameInfo, LockedFrame};
use kern_base::limits::FORGET_EACH;
use kern_base::machine::{Access, Machine};
use kern_base::memory::VSpace;
use kern_base::paging::{Entry, OwnKind, Pte};
use smp::door::Ref;
use smp::shootdown::Stamp;

use super::map::{LARGE, SMALL};
use super::pool::no_page;
use crate::rooms::Mem;
use crate::tables::walk::Spot;
use crate::{Refusal, Result};

/// Pages of one space, and their destination in another. All of one size.
#[derive(Clone, Copy)]
pub struct Row<'k> {
    pub from: Ref<'k, VSpace>,
    pub to: Ref<'k, VSpace>,
    pub source: u64,
    pub target: u64,
    pub count: u64,
    pub large: bool,
    pub mode: PageMode,
}

impl Row<'_> {
    const fn log2(&self) -> u8 {
        if self.large { abi::LARGE_PAGE_LOG2 } else { abi::PAGE_LOG2 }
    }
}

/// Entries of a row that are in one table on each side.
struct Part<'k> {
    source: Spot<'k>,
    target: Spot<'k>,
    sources: &'k [Entry],
    targets: &'k [Entry],
}

impl Part<'_> {
    /// Returns the kind of the first page, if it is a page of this pool that was never shared.
    #[inline(always)]
    fn kind(&self, large: bool) -> Option<OwnKind> {
        self.sources.first()?.load().own_kind(large)
    }
}

/// The state of all pages of a message that can take the fast path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    /// Present, in this pool alone, and never shared.
    There,
    /// Lent from that state.
    Lent,
    No,
}

/// Result of the first half: whether entries changed, and which shootdown must end.
struct Lent {
    changed: bool,
    stamp: Option<Stamp>,
}

impl<'k, M: Machine> Mem<'k, M> {
    /// Does the first half, for pages that are present. Returns the shootdown that must end before
    /// the second half, if there is one.
    pub fn lend_row(self, row: Row<'k>) -> Result<Option<Stamp>> {
        let _guard = row.from.get().lock(self.cpu);
        let mut lent = Lent { changed: false, stamp: None };
        let outcome = self.lend_pages_of(&row, &mut lent);
        if lent.changed {
            self.forget_rows(&[row]);
            if !row.from.get().is_alone(self.id()) {
                lent.stamp = Some(self.tlb().shoot_space(row.from));
            }
        }
        outcome.map(|()| lent.stamp)
    }

    #[inline(never)]
    fn lend_pages_of(self, row: &Row<'k>, lent: &mut Lent) -> Result<()> {
        let alone = row.from.get().is_alone(self.id());
        let mut number = 0;
        while number < row.count {
            let address = row.source + (number << row.log2());
            let first = self.spot_of(row.from, address, row.large).ok_or(no_page(address))?;
            let entries = self.tables().row_from(first, (row.count - number) as usize);
            let plain =
                if row.mode == PageMode::Move { self.lend_plain(row.large, entries, alone) } else { 0 };
            lent.changed |= plain > 0;
            for at in plain..entries.len() {
                let spot = self.tables().spot_behind(first, at).ok_or(Error::BadState)?;
                self.lend_page(spot, row.mode, address + ((at as u64) << row.log2()), alone, lent)?;
            }
            number += entries.len().max(1) as u64;
        }
        Ok(())
    }

    /// Takes pages out, from the first on, while they are of one kind and in this pool alone.
    /// Returns how many.
    #[inline(never)]
    fn lend_plain(self, large: bool, entries: &[Entry], alone: bool) -> usize {
        let Some(kind) = entries.first().and_then(|entry| entry.load().own_kind(large)) else { return 0 };
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

    /// Lends one page. CPUs flush its address afterwards.
    #[inline(always)]
    fn lend_page(
        self,
        spot: Spot<'k>,
        mode: PageMode,
        address: u64,
        alone: bool,
        lent: &mut Lent,
    ) -> Result<()> {
        let entry = spot.load();
        if !may_go(entry, mode) {
            return Err(no_page(address));
        }
        let info = self.info(entry.at())?;
        // Another address space's pending shootdown of this page.
        let before = info.stamp().filter(|stamp| !self.tlb().is_over(*stamp));
        lent.stamp = lent.stamp.or(before);
        if entry.is_in_transit() || mode != PageMode::Move && entry.access() == Access::Read {
            return Ok(());
        }
        let locked = info.lock(self.cpu);
        if mode == PageMode::Move {
            spot.store(entry.in_transit());
        } else {
            spot.store(entry.shared(mode == PageMode::Copy));
            locked.counts.set(locked.counts.get().without(Access::Write).with(Access::Read));
        }
        lent.changed = true;
        if !alone {
            self.tlb().stamp_frame(&locked);
        }
        Ok(())
    }

    /// Does both halves if only this CPU can have the giving space loaded, otherwise the second.
    /// All rows are between the same two spaces. Answers [`Refusal::More`] if the caller must try
    /// again with the first half: CPUs may still have a page's translation from a change in another
    /// space that has it, or a translation of the destination's earlier contents.
    pub fn hand_over(self, rows: &[Row<'k>]) -> Result<()> {
        self.hand_over_after(rows, || Ok(()))
    }

    /// Does the work of [`Mem::hand_over`], and then a last step that may be refused.
    #[inline(always)]
    pub fn hand_over_after(self, rows: &[Row<'k>], last: impl FnOnce() -> Result<()>) -> Result<()> {
        let Some(first) = rows.first() else { return last() };
        check_disjoint(rows)?;
        let (from, to) = (first.from, first.to);
        let (low, high) = if from.addr() <= to.addr() { (from, to) } else { (to, from) };
        let _low = low.get().lock(self.cpu);
        let _high = (low != high).then(|| high.get().lock(self.cpu));
        if !(from.get().is_plain() && to.get().is_plain()) {
            self.may_hand_over(rows, from.get(), to.get())?;
        }
        let alone = from.get().is_alone(self.id());
        let mut counted = 0;
        let checked = self.check_rows(rows, alone, &mut counted);
        let plain = match checked.and_then(|plain| last().map(|()| plain)) {
            Ok(plain) => plain,
            Err(refusal) => {
                self.uncount_views(rows, counted);
                return Err(refusal);
            }
        };
        for row in rows {
            self.each_part(row, |part, _| {
                match plain {
                    Plain::There => self.pass_plain(row.large, &part),
                    Plain::Lent => self.pass_lent(&part),
                    Plain::No => self.pass_rare(row, &part),
                }
                Ok(())
            })?;
        }
        if alone {
            self.forget_rows(rows);
        }
        Ok(())
    }

    /// Checks labels and death, if one of the spaces is dying or has a label.
    #[cold]
    fn may_hand_over(self, rows: &[Row<'k>], from: &VSpace, to: &VSpace) -> Result<()> {
        if from.is_dying() || to.is_dying() {
            return Err(Error::Dying.into());
        }
        if to.header.label() == 0 || !self.k.rules.confine(to.header.label(), may::READ | may::WRITE) {
            return Ok(());
        }
        rows.iter().try_for_each(|row| self.may_take_row(row, to))
    }

    /// Checks the labels of all pages; pages of one frame are checked once.
    fn may_take_row(self, row: &Row<'k>, to: &VSpace) -> Result<()> {
        let (mut number, mut allowed) = (0, None);
        while number < row.count {
            let address = |number| row.source + (number << row.log2());
            let first = self.spot_of(row.from, address(number), row.large).ok_or(no_page(address(number)))?;
            let entries = self.tables().row_from(first, (row.count - number) as usize);
            if entries.is_empty() {
                return Err(Error::BadState.into());
            }
            for entry in entries.iter().map(|entry| entry.load()) {
                if !may_go(entry, row.mode) {
                    return Err(no_page(address(number)));
                }
                let access = if row.mode == PageMode::Move { entry.pool_access() } else { Access::Read };
                let info = self.info(entry.at())?;
                let such = Some((info.owner(self.pin()), access));
                if allowed != such {
                    self.security().may_see(to, info, access)?;
                    allowed = such;
                }
                number += 1;
            }
        }
        Ok(())
    }

    /// Applies a function to each part of a row that is in one table on each side, with the number
    /// of pages before it.
    #[inline(always)]
    fn each_part(self, row: &Row<'k>, mut work: impl FnMut(Part<'k>, u64) -> Result<()>) -> Result<()> {
        let mut number = 0;
        while number < row.count {
            let (source, target) = self.pair_at(row, number)?;
            let targets = self.tables().row_from(target, (row.count - number) as usize);
            let sources = self.tables().row_from(source, targets.len());
            let targets = &targets[..sources.len().min(targets.len())];
            work(Part { source, target, sources, targets }, number)?;
            number += targets.len().max(1) as u64;
        }
        Ok(())
    }

    /// Returns the entries of a page of a row. Missing tables of the taking space are made.
    #[inline(never)]
    fn pair_at(self, row: &Row<'k>, number: u64) -> Result<(Spot<'k>, Spot<'k>)> {
        let offset = number << row.log2();
        let (source, target) = (row.source + offset, row.target + offset);
        let spot = self.spot_of(row.from, source, row.large).ok_or(no_page(source))?;
        let place = match self.spot_of(row.to, target, row.large) {
            Some(place) => place,
            None if row.large => {
                self.tables().grow::<LARGE>(None, row.to, target).map_err(|why| no_table(why, target))?
            }
            None => self.tables().grow::<SMALL>(None, row.to, target).map_err(|why| no_table(why, target))?,
        };
        Ok((spot, place))
    }

    /// Checks that all pages of a message may be sent now. Returns whether all of them, and their
    /// destinations, are `Plain`. Adds to `counted` the views that it has counted
    /// ([`Mem::count_view`]), also when it refuses.
    #[inline(always)]
    fn check_rows(self, rows: &[Row<'k>], alone: bool, counted: &mut u64) -> Result<Plain> {
        let mut plain = if alone { Plain::There } else { Plain::Lent };
        for row in rows {
            plain = self.check_row(row, alone, plain, counted)?;
        }
        Ok(plain)
    }

    #[inline(always)]
    fn check_row(self, row: &Row<'k>, alone: bool, plain: Plain, counted: &mut u64) -> Result<Plain> {
        let mut plain = if row.mode == PageMode::Move { plain } else { Plain::No };
        self.each_part(row, |part, number| {
            let first = match plain {
                Plain::There => self.plain_pages(row.large, &part),
                Plain::Lent => self.lent_pages(row.large, &part),
                Plain::No => 0,
            };
            if first == part.sources.len() {
                return Ok(());
            }
            plain = Plain::No;
            match row.mode {
                PageMode::Move => self.check_moved(row, &part, first, number, alone),
                _ => self.check_shared(row, &part, number, alone, counted),
            }
        })?;
        Ok(plain)
    }

    /// Checks pages to be moved, from one of the part on.
    #[inline(never)]
    fn check_moved(
        self,
        row: &Row<'k>,
        part: &Part<'k>,
        first: usize,
        number: u64,
        alone: bool,
    ) -> Result<()> {
        for (at, (source, target)) in part.sources.iter().zip(part.targets).enumerate().skip(first) {
            let number = number + at as u64;
            let info = self.check_rare(row, source.load(), target.load(), number, alone)?;
            if info.glance(self.cpu).is_leaving() {
                return Err(given_back(row.source + (number << row.log2())));
            }
        }
        Ok(())
    }

    /// Checks pages to be shared, and counts their views.
    #[inline(never)]
    fn check_shared(
        self,
        row: &Row<'k>,
        part: &Part<'k>,
        number: u64,
        alone: bool,
        counted: &mut u64,
    ) -> Result<()> {
        let mut at = 0;
        let checked = part.sources.iter().zip(part.targets).try_for_each(|(source, target)| {
            let info = self.check_rare(row, source.load(), target.load(), number + at, alone)?;
            self.count_view(info, row.source + ((number + at) << row.log2()))?;
            at += 1;
            Ok(())
        });
        *counted += at;
        checked
    }

    /// Counts a view that a message is to make of a page. The view is counted when the page is
    /// checked, not when it is mapped. A message may name one page in many places, and CPUs with
    /// the locks of other spaces may share the same page at the same time. A count that was only
    /// checked could pass its limit before it changes. A page with the most possible views is
    /// refused with the address `from`, at which the giving space has it. So is a page that a sweep
    /// takes out of all pools: the sweep would never end if other tasks added views faster than it
    /// removes them.
    fn count_view(self, info: &FrameInfo, from: u64) -> Result<()> {
        let locked = info.lock(self.cpu);
        let counts = locked.counts.get();
        if !counts.takes_view() {
            let full = Refusal::new(Error::Full, from);
            return Err(if counts.is_leaving() { given_back(from) } else { full });
        }
        locked.counts.set(counts.with(Access::Read));
        Ok(())
    }

    /// Takes back the first `counted` views of a refused message. The locks of both spaces are
    /// still held, so the entries are those that were counted.
    #[cold]
    fn uncount_views(self, rows: &[Row<'k>], mut counted: u64) {
        for row in rows.iter().filter(|row| row.mode != PageMode::Move) {
            for number in 0..row.count.min(counted) {
                let address = row.source + (number << row.log2());
                let Some(spot) = self.spot_of(row.from, address, row.large) else { return };
                let Ok(info) = self.info(spot.load().at()) else { return };
                let locked = info.lock(self.cpu);
                locked.counts.set(locked.counts.get().without(Access::Read));
            }
            counted -= row.count.min(counted);
        }
    }

    /// Returns how many pages from the first on are of one kind, in this pool alone, and have empty
    /// destinations.
    #[inline(never)]
    fn plain_pages(self, large: bool, part: &Part<'k>) -> usize {
        let Some(kind) = part.kind(large) else { return 0 };
        let exclusive = FrameInfo::exclusive(kind.access());
        let infos = self.k.frames.main(self.pin());
        let is_plain = |source: &Entry, target: &Entry| {
            let info = source.load().own_at(kind).and_then(|at| infos.at(at));
            info.is_some_and(|info| info.is(exclusive)) && target.load() == Pte::EMPTY
        };
        let mut pairs = part.sources.iter().zip(part.targets);
        pairs.position(|(source, target)| !is_plain(source, target)).unwrap_or(part.sources.len())
    }

    /// Sends pages that were found plain.
    #[inline(never)]
    fn pass_plain(self, large: bool, part: &Part<'k>) {
        let Some(kind) = part.kind(large) else { return };
        let infos = self.k.frames.main(self.pin());
        let mut name = part.target.name();
        for (source, target) in part.sources.iter().zip(part.targets) {
            let entry = source.load();
            let Some(info) = infos.at(kind.at(entry)) else { return };
            source.store(Pte::EMPTY);
            target.store(entry);
            info.move_to(name);
            name = name.next();
        }
    }

    /// Checks that one page of any kind may be sent now, and that its destination is free. Returns
    /// the page's record.
    #[inline(always)]
    fn check_rare(
        self,
        row: &Row<'k>,
        entry: Pte,
        target: Pte,
        number: u64,
        alone: bool,
    ) -> Result<&'k FrameInfo> {
        if !may_go(entry, row.mode) {
            return Err(no_page(row.source + (number << row.log2())));
        }
        // The first half should have done this, and has not.
        let as_it_was = entry.is_present() && (row.mode == PageMode::Move || entry.access() == Access::Write);
        let info = self.info(entry.at())?;
        let stale = info.stamp().is_some_and(|stamp| !self.tlb().is_over(stamp));
        if as_it_was && !alone || stale {
            return Err(Refusal::More);
        }
        if self.tlb().is_free(target) {
            return Ok(info);
        }
        // The destination's earlier page was unmapped, and some CPU may still have its translation.
        let gone = target.shootdown().is_some();
        Err(if gone { Refusal::More } else { no_room(row.target + (number << row.log2())) })
    }

    /// Returns how many pages from the first on were lent from the plain state, are flushed on all
    /// CPUs, and have empty destinations.
    #[inline(never)]
    fn lent_pages(self, large: bool, part: &Part<'k>) -> usize {
        let infos = self.k.frames.main(self.pin());
        let Some(entry) = part.sources.first().map(|entry| entry.load()) else { return 0 };
        let stamp =
            infos.at(entry.at()).and_then(FrameInfo::stamp).filter(|stamp| self.tlb().is_over(*stamp));
        let Some(stamp) = stamp else { return 0 };
        let lent = FrameInfo::exclusive(entry.pool_access()).stale();
        let is_lent = |source: &Entry, target: &Entry| {
            let other = source.load();
            other.is_lent_like(entry, large)
                && infos.at(other.at()).is_some_and(|info| info.is(lent) && info.stamp() == Some(stamp))
                && target.load() == Pte::EMPTY
        };
        let mut pairs = part.sources.iter().zip(part.targets);
        pairs.position(|(source, target)| !is_lent(source, target)).unwrap_or(part.sources.len())
    }

    /// Sends pages that were found so.
    #[inline(never)]
    fn pass_lent(self, part: &Part<'k>) {
        let infos = self.k.frames.main(self.pin());
        let mut name = part.target.name();
        for (source, target) in part.sources.iter().zip(part.targets) {
            let entry = source.load();
            let Some(info) = infos.at(entry.at()) else { return };
            source.store(Pte::EMPTY);
            let locked = info.lock(self.cpu);
            locked.set_stamp(None);
            locked.set_first(name);
            target.store(entry.arrived(entry.pool_access()));
            name = name.next();
        }
    }

    /// Sends pages of any kind. They were checked, so this cannot fail.
    #[inline(never)]
    fn pass_rare(self, row: &Row<'k>, part: &Part<'k>) {
        let sources = part.source.each_of(part.sources);
        for (source, target) in sources.zip(part.target.each_of(part.targets)) {
            let entry = source.load();
            if let Some(info) = self.k.frames.get(self.pin(), entry.at()) {
                self.pass_page(row.mode, source, entry, target, info.get());
            }
        }
    }

    #[inline(always)]
    fn pass_page(self, mode: PageMode, source: Spot<'k>, entry: Pte, target: Spot<'k>, info: &FrameInfo) {
        let locked = info.lock(self.cpu);
        if mode == PageMode::Move {
            source.store(Pte::EMPTY);
            self.tables().unlink(&locked, source);
            // Off all lists for a moment, so that the next link makes it the first again.
            self.tables().link(&locked, target);
            // A mark of another message in the giving space stays in that space.
            target.store(entry.arrived(entry.pool_access()).given());
            self.unstamp(&locked);
            return;
        }
        // The view is counted already.
        let copy = mode == PageMode::Copy;
        if entry.access() == Access::Write {
            source.store(entry.shared(copy).given());
            locked.counts.set(locked.counts.get().without(Access::Write).with(Access::Read));
        } else {
            source.store(entry.given());
        }
        self.tables().link_beside(&locked, target, source);
        target.store(entry.view(copy));
        self.unstamp(&locked);
    }

    /// Removes the stamp of a page if its shootdown is over. A third space may have dropped the
    /// page since the check.
    fn unstamp(self, locked: &LockedFrame<'_>) {
        if locked.stamp().is_some_and(|stamp| self.tlb().is_over(stamp)) {
            locked.set_stamp(None);
        }
    }

    /// Flushes on this CPU what rows changed in the giving space, and increases its generation for
    /// other CPUs.
    fn forget_rows(self, rows: &[Row<'k>]) {
        let Some(from) = rows.first().map(|row| row.from) else { return };
        let pages: u64 = rows.iter().map(|row| row.count).sum();
        if pages > FORGET_EACH {
            let here = self.cpu.vspace.is(from);
            if here {
                self.k.machine.forget_space();
            }
            self.tlb().bump(from.get(), here);
            return;
        }
        for row in rows {
            for number in 0..row.count {
                self.tlb().forget(from.get(), row.source + (number << row.log2()));
            }
        }
    }
}

/// Whether an entry is a page of the pool that can be sent in this mode. A page in transit can only
/// be moved.
fn may_go(entry: Pte, mode: PageMode) -> bool {
    entry.is_pooled() && (mode == PageMode::Move || entry.is_present())
}

/// Checks that no page is sent twice.
fn check_disjoint(rows: &[Row<'_>]) -> Result<()> {
    for (number, row) in rows.iter().enumerate() {
        let overlaps = |other: &&Row<'_>| {
            row.source < other.source + (other.count << other.log2())
                && other.source < row.source + (row.count << row.log2())
        };
        if let Some(other) = rows[..number].iter().find(overlaps) {
            return Err(no_page(row.source.max(other.source)));
        }
    }
    Ok(())
}

/// Returns the refusal for a page whose memory is being taken back.
fn given_back(address: u64) -> Refusal {
    Refusal::new(Error::InUse, address)
}

/// Returns the refusal for a missing table, for now or for good.
fn no_table(why: Refusal, address: u64) -> Refusal {
    if let Refusal::More = why { why } else { no_room(address) }
}

/// Returns the refusal for a full destination in the taking space.
pub fn no_room(address: u64) -> Refusal {
    Refusal::new(Error::NoRoom, address)
}
