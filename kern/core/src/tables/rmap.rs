//! The reverse map: for each frame, the list of entries that map it. All functions need the frame's
//! lock.

use kern_base::frames::{FrameInfo, LockedFrame};
use kern_base::machine::Machine;
use kern_base::memory::VSpace;
use kern_base::paging::{EntryName, Links};
use smp::door::Ref;

use super::walk::Spot;
use crate::rooms::Tables;

/// An entry of a page table that is, or comes, into a frame's list of mappings.
#[derive(Clone, Copy)]
pub struct Linked<'k> {
    pub name: EntryName,
    pub links: &'k Links,
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

    /// Adds a page-table entry to the list of mappings of a frame, which has `other` already. That
    /// entry is mostly the first, and then need not be searched for by its name.
    #[inline(always)]
    pub fn link_beside(self, frame: &LockedFrame<'_>, new: Linked<'k>, other: Linked<'k>) {
        let first = frame.first();
        let neighbour = if first == other.name { other.links } else { self.links_at(first) };
        new.links.set_next(first);
        neighbour.set_prev(new.name);
        frame.set_first(new.name);
    }

    /// Returns the links of `count` entries of one table, from `spot` on.
    #[inline(always)]
    pub fn links_from(self, spot: Spot<'k>, count: usize) -> &'k [Links] {
        match spot.vspace.get().links.row(self.pin(), spot.index, count) {
            Some(links) => links,
            None => panic!("a page table has no links"),
        }
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

    /// Returns what [`Tables::links_at`] does. Out of line, since a page mostly has one mapping.
    #[inline(never)]
    fn links_named(self, name: EntryName) -> &'k Links {
        self.links_at(name)
    }

    /// Returns the links of an entry with a name that a list of mappings has.
    #[inline(always)]
    fn links_at(self, name: EntryName) -> &'k Links {
        let table = self.k.frames.get(self.pin(), name.table());
        let Some(vspace) = table.and_then(|table| table.get().owner(self.pin()).get::<VSpace>()) else {
            not_in_a_table(name)
        };
        let links = vspace.get().links.get(self.pin(), vspace.get().index_at(name.0));
        links.map_or_else(|| not_in_a_table(name), Ref::get)
    }
}

#[cold]
#[inline(never)]
fn not_in_a_table(name: EntryName) -> ! {
    panic!("a frame is mapped by {name:x?}, which is in no page table")
}
