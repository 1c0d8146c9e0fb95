//! The reverse map: for each frame, the list of entries that map it. All functions need the frame's
//! lock.

use kern_base::frames::{FrameInfo, LockedFrame};
use kern_base::machine::Machine;
use kern_base::paging::{ENTRIES, EntryName, Links};
use kern_base::phys::Phys;

use super::walk::Spot;
use crate::rooms::Tables;

/// The links of the entries of one page table, which is that table as long as this entry lasts.
pub struct LinksOfTable<'k> {
    table: Phys,
    links: &'k [Links],
}

impl LinksOfTable<'_> {
    /// Returns those of no table.
    pub const fn none() -> Self {
        LinksOfTable { table: Phys(u64::MAX), links: &[] }
    }
}

impl<'k, M: Machine> Tables<'k, M> {
    /// Adds a page-table entry to a frame's list of mappings.
    #[inline(always)]
    pub fn link(self, frame: &LockedFrame<'_>, spot: Spot<'k>) {
        let first = frame.first();
        if !first.is_none() {
            self.links(spot).set_next(first);
            self.links_named(first).set_prev(spot.name());
        }
        frame.set_first(spot.name());
    }

    /// Adds a page-table entry to a frame's list of mappings, beside `other`. That entry is mostly
    /// the first, and then need not be searched for by its name. If not, the first is mostly in the
    /// `last` table in which the loop over a message's pages has found one.
    #[inline(always)]
    pub fn link_beside(
        self,
        frame: &LockedFrame<'_>,
        spot: Spot<'k>,
        other: Spot<'k>,
        last: &mut LinksOfTable<'k>,
    ) {
        let (first, links) = (frame.first(), self.links(spot));
        let neighbour = if first == other.name() { self.links(other) } else { self.links_in(first, last) };
        links.set_next(first);
        neighbour.set_prev(spot.name());
        frame.set_first(spot.name());
    }

    /// Returns the links of an entry with a name that a list of mappings has.
    #[inline(always)]
    fn links_in(self, name: EntryName, last: &mut LinksOfTable<'k>) -> &'k Links {
        if last.table != name.table() {
            *last = self.links_of_table(name);
        }
        last.links.get(name.index()).unwrap_or_else(|| not_in_a_table(name))
    }

    #[cold]
    #[inline(never)]
    fn links_of_table(self, name: EntryName) -> LinksOfTable<'k> {
        let Some(spot) = self.named(name) else { not_in_a_table(name) };
        let first = spot.index - name.index();
        let links = spot.vspace.get().links.row(self.pin(), first, ENTRIES).unwrap_or(&[]);
        LinksOfTable { table: name.table(), links }
    }

    /// Takes a page-table entry off its frame's list of mappings. A single entry has no neighbours.
    #[inline(always)]
    pub fn unlink(self, frame: &LockedFrame<'_>, spot: Spot<'k>) {
        if frame.counts.get().mapped() == 1 {
            frame.set_first(EntryName::NONE);
        } else {
            self.unlink_between(frame, self.links(spot));
        }
    }

    #[cold]
    fn unlink_between(self, frame: &LockedFrame<'_>, links: &Links) {
        let (next, prev) = (links.next(), links.prev());
        if prev.is_none() {
            frame.set_first(next);
        } else {
            self.links_named(prev).set_next(next);
        }
        if !next.is_none() {
            self.links_named(next).set_prev(prev);
        }
        links.set_next(EntryName::NONE);
        links.set_prev(EntryName::NONE);
    }

    /// Returns an entry that maps a page of a dying frame. Returns `None`, and never an entry
    /// again, when none is left, or when pools have the page: it stays there, and the CPU that
    /// takes it out of the last pool sees that the frame is dying ([`Tables::leave_pool`]). Until
    /// the lock of its VSpace is taken, the entry may change to map something else.
    pub fn first_spot(self, info: &FrameInfo) -> Option<Spot<'k>> {
        let locked = info.lock(self.cpu);
        if locked.counts.get().is_pooled() {
            return None;
        }
        locked.set_dying();
        let first = locked.first();
        if first.is_none() { None } else { self.named(first) }
    }

    fn links_named(self, name: EntryName) -> &'k Links {
        match self.named(name) {
            Some(spot) => self.links(spot),
            None => not_in_a_table(name),
        }
    }
}

#[cold]
#[inline(never)]
fn not_in_a_table(name: EntryName) -> ! {
    panic!("a frame is mapped by {name:x?}, which is in no page table")
}
