//! Copies of large pages, which take several entries.
//!
//! `PageCopy` replaces a page that several spaces see by a page of a frame with equal contents. A
//! large page is copied in parts, before anything else changes: until all is copied, the space maps
//! the old page, and the new one is a page that nobody maps. The caller may end between two parts;
//! there is nothing to take back.
//!
//! # What makes the parts one copy
//! The old page must not change between two parts, and nothing else may be written to the new one.
//! Both are marked when the copy begins, and lose the mark by whatever could change them:
//!
//! - The old page's entry in this space. While the entry stays as it is, no other space can write
//!   the page, because a page that several pools have is read-only.
//! - The new page's record. Every other use of the page begins with clearing it, or puts it into a
//!   pool. The frame also knows the space in which the copy was begun.
//!
//! The space remembers the copy that was begun there last, and how far it is ([`Copying`]). A copy
//! that has lost one of its marks begins again.
//!
//! Several tasks may copy pages of one space at the same time. Then each first continues the copy
//! that the space remembers, and begins its own when that is complete. So they do not undo each
//! other's work for ever. If tasks of two spaces copy to one page, the task that began first is
//! refused with `InUse`, as if the other copy were complete.
//!
//! [`Copying`]: kern_base::memory::Copying

use abi::Error;
use kern_base::frames::{LockedFrame, WhyNot};
use kern_base::limits::CLEAR_PARTS;
use kern_base::machine::Machine;
use kern_base::memory::{Frame, VSpace};
use kern_base::paging::EntryName;
use kern_base::phys::PhysPage;
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;

use super::map::Page;
use crate::rooms::Mem;
use crate::tables::walk::Spot;
use crate::{OpenTask, Refusal, Result};

/// What an entry has done for a copy.
struct Progress {
    /// Parts that it has copied.
    copied: u64,
    is_complete: bool,
}

impl<'k, M: Machine> Mem<'k, M> {
    /// Copies the page at `spot` to `page`, the only page of `frame`, in parts.
    /// Requires: the VSpace's lock is held.
    /// Errors: [`Refusal::More`] until all is copied.
    pub fn copy_ahead(
        self,
        me: OpenTask<'k>,
        frame: Ref<'k, Frame>,
        page: PhysPage,
        spot: Spot<'k>,
        address: u64,
    ) -> Result<()> {
        let vspace = spot.vspace;
        let (from, to, _) = vspace.get().copy.get();
        let is_ours = from == spot.name() && to == page.at();
        match self.copy_parts(vspace) {
            Some(Progress { is_complete: true, .. }) if is_ours => return Ok(()),
            // Another task's copy was complete before: that task may not come any more.
            Some(Progress { copied: 0, .. }) | None => {}
            Some(_) => return Err(Refusal::More),
        }
        let info = self.info(page.at())?;
        let locked = info.lock(self.cpu);
        if is_ours && locked.counts.get().is_copying() && !self.is_copied(vspace, frame, &locked) {
            // A task of another space has begun to copy to it. One of the two has to give up.
            vspace.get().copy.begin(EntryName::NONE, page.at());
            return Err(Refusal::new(Error::InUse, address));
        }
        match self.why_not_pool(frame, &locked) {
            WhyNot::ItMay | WhyNot::Unclean => {}
            why_not => {
                drop(locked);
                return Err(self.refusal_of(me, Page { info, memory: page, address }, why_not));
            }
        }
        locked.set_copying();
        frame.get().copied_in.store(vspace.addr(), Relaxed);
        spot.store(spot.load().copying());
        vspace.get().copy.begin(spot.name(), page.at());
        Err(Refusal::More)
    }

    /// Returns whether the page of a frame has nothing but a copy that was made in this space.
    pub fn is_copied(self, vspace: Ref<'k, VSpace>, frame: Ref<'k, Frame>, locked: &LockedFrame<'_>) -> bool {
        locked.counts.get().is_copying() && frame.get().copied_in.load(Relaxed) == vspace.addr()
    }

    /// Continues the copy that a space remembers. Returns `None` if there is none, or it has lost a
    /// mark.
    fn copy_parts(self, vspace: Ref<'k, VSpace>) -> Option<Progress> {
        let (from, to, parts) = vspace.get().copy.get();
        if from.is_none() {
            return None;
        }
        let spot = self.tables().named(from).filter(|spot| spot.vspace == vspace)?;
        let entry = Some(spot.load()).filter(|entry| entry.is_copying())?;
        let source = entry.memory(spot.level)?;
        let info = self.info(to).ok()?;
        let frame = info.owner(self.pin()).get::<Frame>()?;
        let page = frame.get().memory(0).filter(|page| page.at() == to && page.log2() == source.log2())?;
        let locked = info.lock(self.cpu);
        if !self.is_copied(vspace, frame, &locked) {
            return None;
        }
        let end = (parts + CLEAR_PARTS).min(page.parts());
        for (from, to) in source.parts_in(parts..end).zip(page.parts_in(parts..end)) {
            self.k.machine.copy(from, to);
        }
        vspace.get().copy.set_parts(end);
        Some(Progress { copied: end - parts, is_complete: end == page.parts() })
    }
}
