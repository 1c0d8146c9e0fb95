//! Finds and writes entries of page tables. All functions need the lock of the VSpace, except those
//! for the list of entries that map a page: they need the page's lock.
//!
//! A VSpace's tables are one array. An entry that points to a table has the table's address. The
//! kernel follows only addresses of the VSpace's own tables.

use abi::Error;
use kern_base::frames::{FrameInfo, LockedFrame};
use kern_base::header::FLAG_DYING;
use kern_base::limits::{LOCK_WORK, STAMPS_SETTLED, UNMAP_WORK};
use kern_base::machine::{Access, Machine};
use kern_base::memory::VSpace;
use kern_base::objects::header_of;
use kern_base::paging::{ENTRIES, Entry, EntryName, LEVELS, Links, Pte, TableNote, index_of};
use kern_base::phys::{Phys, PhysPage};
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;

use crate::rooms::Tables;
use crate::work::LOOK_WORK;
use crate::{OpenTask, Refusal, Result, refuse_if};

/// The last page table that was used: its number in the low bits, and above these the 2 MiB that it
/// maps.
const LEAF_BITS: u32 = 16;
const LEAF_MASK: u64 = (1 << LEAF_BITS) - 1;

/// An entry of a page table.
#[derive(Clone, Copy)]
pub struct Spot<'k> {
    pub vspace: Ref<'k, VSpace>,
    pub entry: &'k Entry,
    /// Index among the VSpace's entries.
    pub index: usize,
    pub level: u32,
}

impl<'k> Spot<'k> {
    #[inline(always)]
    pub fn load(self) -> Pte {
        self.entry.load()
    }

    #[inline(always)]
    pub fn store(self, entry: Pte) {
        self.entry.store(entry);
    }

    /// Changes the access that this page-table entry allows; the hardware's bits stay.
    pub fn allow(self, access: Access) {
        self.entry.update(|entry| entry.allowing(access));
    }

    /// Returns a spot for each of `entries`, which begin with this one ([`Tables::row_from`]).
    #[inline(always)]
    pub fn each_of(self, entries: &'k [Entry]) -> impl ExactSizeIterator<Item = Spot<'k>> {
        entries.iter().enumerate().map(move |(at, entry)| Spot { entry, index: self.index + at, ..self })
    }

    #[inline(always)]
    pub fn name(self) -> EntryName {
        self.vspace.get().name_of(self.index)
    }
}

impl<'k, M: Machine> Tables<'k, M> {
    /// Returns the entry for an address in its table of a level, or `None` if that table does not
    /// exist. It looks first into the page table that was used last, because pages come in rows.
    #[inline(always)]
    pub fn spot<const LEVEL: u32>(self, vspace: Ref<'k, VSpace>, address: u64) -> Option<Spot<'k>> {
        if LEVEL == 1
            && let Some(spot) = self.spot_of_last(vspace, address)
        {
            return Some(spot);
        }
        self.find_spot::<LEVEL>(vspace, address)
    }

    #[inline(always)]
    fn spot_of_last(self, vspace: Ref<'k, VSpace>, address: u64) -> Option<Spot<'k>> {
        let last = vspace.get().last_leaf.load(Relaxed);
        if last >> LEAF_BITS != address >> abi::LARGE_PAGE_LOG2 {
            return None;
        }
        let table = (last & LEAF_MASK) as usize * ENTRIES;
        self.spot_at(vspace, table + index_of(address, 1), 1)
    }

    fn find_spot<const LEVEL: u32>(self, vspace: Ref<'k, VSpace>, address: u64) -> Option<Spot<'k>> {
        let space = vspace.get();
        let (mut table, mut level) = (0, LEVELS);
        while level > LEVEL {
            let entry = space.entries.get(self.pin(), table + index_of(address, level))?.get().load();
            if !entry.is_present() || entry.is_page(level) {
                return None;
            }
            table = space.index_at(entry.at().0);
            level -= 1;
        }
        self.spot_in(vspace, table, address, LEVEL)
    }

    /// Returns the entry for an address in one table; `table` is the index of the table's first
    /// entry.
    #[inline(always)]
    fn spot_in(self, vspace: Ref<'k, VSpace>, table: usize, address: u64, level: u32) -> Option<Spot<'k>> {
        if level == 1 {
            let region = address >> abi::LARGE_PAGE_LOG2;
            vspace.get().last_leaf.store(region << LEAF_BITS | (table / ENTRIES) as u64, Relaxed);
        }
        self.spot_at(vspace, table + index_of(address, level), level)
    }

    /// Returns the entry at an index among a VSpace's entries.
    #[inline(always)]
    pub fn spot_at(self, vspace: Ref<'k, VSpace>, index: usize, level: u32) -> Option<Spot<'k>> {
        Some(Spot { vspace, entry: vspace.get().entries.get(self.pin(), index)?.get(), index, level })
    }

    /// Returns up to `count` entries of one table, from `spot` on.
    #[inline(always)]
    pub fn row_from(self, spot: Spot<'k>, count: usize) -> &'k [Entry] {
        let count = count.min(ENTRIES - spot.index % ENTRIES);
        match spot.vspace.get().entries.row(self.pin(), spot.index, count) {
            Some(entries) => entries,
            None => panic!("a page table is not whole"),
        }
    }

    /// Returns the entry for an address as [`Tables::spot`] does, and makes the missing tables.
    #[cold]
    pub fn grow(
        self,
        me: Option<OpenTask<'k>>,
        vspace: Ref<'k, VSpace>,
        address: u64,
        level: u32,
    ) -> Result<Spot<'k>> {
        let mut table = 0;
        for above in (level + 1..=LEVELS).rev() {
            let index = table + index_of(address, above);
            let spot = self.spot_at(vspace, index, above).ok_or(Error::NoTables)?;
            if let Some(stamp) = spot.load().shootdown().filter(|stamp| !self.tlb().is_over(*stamp)) {
                return Err(self.tlb().wait_free(me, stamp));
            }
            if spot.load().has_page(above) {
                // A large page is here, or is in transit and may come back.
                return Err(Refusal::new(Error::Mapped, address));
            }
            if !spot.load().is_present() {
                let table = self.take_table(vspace, above - 1, address).ok_or(Error::NoTables)?;
                spot.store(Pte::table(table));
            }
            table = vspace.get().index_at(spot.load().at().0);
        }
        self.spot_in(vspace, table, address, level).ok_or(Error::NoTables.into())
    }

    /// Takes a free table for page-table level `level`, to map the addresses around `address`.
    fn take_table(self, vspace: Ref<'k, VSpace>, level: u32, address: u64) -> Option<PhysPage> {
        let number = vspace.get().used.load(Relaxed);
        let table = vspace.get().table(number as usize)?;
        self.k.frames.get(self.pin(), table.at())?.get().give(
            self.cpu,
            vspace,
            TableNote::new(level, address).raw(),
        );
        vspace.get().used.store(number + 1, Relaxed);
        Some(table)
    }

    /// Returns the VSpace and the note of the table at a physical address; `None` if that is no
    /// table in use.
    fn table_at(self, at: Phys) -> Option<(Ref<'k, VSpace>, TableNote)> {
        let info = self.k.frames.get(self.pin(), at)?.get();
        Some((info.owner(self.pin()).get::<VSpace>()?, TableNote::from_raw(info.note())))
    }

    /// Returns the entry with a name that a list of mappings has. The list keeps the entry's table
    /// in use.
    pub fn named(self, name: EntryName) -> Option<Spot<'k>> {
        let (vspace, note) = self.table_at(name.table())?;
        self.spot_at(vspace, vspace.get().index_at(name.0), note.level())
    }

    #[inline(always)]
    pub fn links(self, spot: Spot<'k>) -> &'k Links {
        match spot.vspace.get().links.get(self.pin(), spot.index) {
            Some(links) => links.get(),
            None => panic!("a page table has no links"),
        }
    }

    /// Returns the first entry that is not free, in the table to which `entry` leads. Empties free
    /// ones before it whose shootdown is over.
    /// Errors: [`Refusal::More`] after as many of those as one entry may settle.
    pub fn first_taken(self, vspace: Ref<'k, VSpace>, entry: Pte) -> Result<Option<Pte>> {
        let first = vspace.get().index_at(entry.at().0);
        let Some(entries) = vspace.get().entries.row(self.pin(), first, ENTRIES) else { return Ok(None) };
        let mut settled = 0;
        for place in entries {
            let entry = place.load();
            if entry == Pte::EMPTY {
                continue;
            }
            if !self.tlb().is_free(entry) {
                return Ok(Some(entry));
            }
            place.store(Pte::EMPTY);
            settled += 1;
            refuse_if(settled == STAMPS_SETTLED, Refusal::More)?;
        }
        Ok(None)
    }

    /// Returns the address that an entry maps.
    pub fn address_of(self, spot: Spot<'k>) -> u64 {
        self.table_at(spot.name().table()).map_or(0, |(_, note)| note.address(spot.index))
    }

    /// Visits every page that one of a VSpace's tables maps.
    pub fn pages_of(self, vspace: Ref<'k, VSpace>, number: usize, mut show: impl FnMut(u64, Spot<'k>)) {
        // There is no such table, or no longer.
        let Some((_, note)) = self.table_at(vspace.get().place_of(number)) else { return };
        let first = number * ENTRIES;
        for spot in (first..first + ENTRIES).filter_map(|index| self.spot_at(vspace, index, note.level())) {
            let entry = spot.load();
            if entry.has_page(spot.level) {
                show(note.address(spot.index), spot);
            }
        }
    }

    /// Releases frames that a dying VSpace maps by the entries of one table, from the entry `first`
    /// on, with the work of a lock. Returns the first entry that is left. A table of which none is
    /// left is free.
    pub fn let_go(self, vspace: Ref<'k, VSpace>, first: usize) -> usize {
        let number = first / ENTRIES;
        let end = (number + 1) * ENTRIES;
        let table = vspace.get().place_of(number);
        // There is no such table, or no longer.
        let Some((_, note)) = self.table_at(table) else { return end };
        let (mut at, mut left) = (first, LOCK_WORK);
        while at < end && left > 0 {
            let spot = self.spot_at(vspace, at, note.level());
            let maps = spot.filter(|spot| spot.load().has_page(spot.level));
            maps.into_iter().for_each(|spot| self.let_page_go(spot));
            left = left.saturating_sub(if maps.is_some() { UNMAP_WORK } else { LOOK_WORK });
            at += 1;
        }
        if at == end
            && let Some(info) = self.k.frames.get(self.pin(), table)
        {
            info.get().lock(self.cpu).take_back();
        }
        at
    }

    /// Releases the frame that an entry of a dying VSpace maps.
    fn let_page_go(self, spot: Spot<'k>) {
        let entry = spot.load();
        if !entry.is_plain()
            && let Some(info) = self.k.frames.get(self.pin(), entry.at())
        {
            let locked = info.get().lock(self.cpu);
            self.unlink(&locked, spot);
            if entry.is_pooled() {
                self.leave_pool(info.get(), &locked, entry.pool_access());
            } else {
                locked.counts.set(locked.counts.get().without(entry.access()));
            }
        }
        spot.store(Pte::EMPTY);
    }

    /// Subtracts one from the count of pools that have a page. With the last pool the page is its
    /// Frame's again. If that Frame is being deleted, the page belongs to no object: the deletion
    /// skips pages that pools have, so the Frame's capability, which may still be there, must not
    /// map the page from here on.
    pub fn leave_pool(self, info: &FrameInfo, locked: &LockedFrame<'_>, access: Access) {
        locked.counts.set(locked.counts.get().without(access));
        if locked.counts.get().mapped() != 0 {
            return;
        }
        locked.set_pooled(false);
        if header_of(info.owner(self.pin())).is_some_and(|frame| frame.has_flag(FLAG_DYING)) {
            locked.set_dying();
            locked.take_back();
        }
    }
}
