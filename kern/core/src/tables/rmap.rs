//! The reverse map: for each frame, the list of entries that map it. All functions need the frame's
//! lock.

use kern_base::frames::{FrameInfo, LockedFrame};
use kern_base::machine::Machine;
use kern_base::paging::{EntryName, Links};

use super::walk::Spot;
use crate::rooms::Tables;

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
    /// the first, and then need not be searched for by its name.
    #[inline(always)]
    pub fn link_beside(self, frame: &LockedFrame<'_>, spot: Spot<'k>, other: Spot<'k>) {
        if frame.first() != other.name() {
            return self.link(frame, spot);
        }
        self.links(spot).set_next(other.name());
        self.links(other).set_prev(spot.name());
        frame.set_first(spot.name());
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
            None => panic!("a frame is mapped by {name:x?}, which is in no page table"),
        }
    }
}
