//! The memory that objects take, and the work of making them. The memory of long objects is cleared
//! before they are made.
//!
//! # Work
//! One kernel entry does [`ENTRY_WORK`] at most ([`crate::work`]), and holds a lock for
//! [`LOCK_WORK`]. Memory is carved and cleared under the lock of its Untyped. The lock of the root,
//! for which CPUs may wait that use other memory, is taken afterwards.
//!
//! # Steps
//! An object whose block is more than [`CLEAR_BYTES`] is *long*: its block is cleared in steps. The
//! region keeps how far it is ([`Region::clear_ahead`]), so the steps need no other state: the
//! caller may end between two of them, another task continues for its own object, and a reset
//! forgets them.
//!
//! # Pages
//! A page that becomes a frame's has a record in the [frame table](kern_base::frames), which knows
//! its earlier use until then. The step that clears the page's first byte makes the kernel forget
//! that use, too, and what is cleared otherwise is carved or forgotten before the Untyped's lock is
//! released. So the earlier use of all pages that begin in the region's cleared range is forgotten.
//! Nothing uses the page before it is carved, so the record stays so.

use core::ops::Range;

use abi::PAGE_SIZE;
use kern_base::limits::{CLEAR_BYTES, ENTRY_WORK, LOCK_WORK};
use kern_base::machine::Machine;
use smp::door::Region;

use super::slots::UntypedCap;
use crate::Result;
use crate::rooms::Caps;

/// Bytes that a unit of work clears.
const WORK_BYTES: u64 = 8;
/// Work of an object besides its memory: its slot, its place in the tree, its record of the audit.
const OBJECT_WORK: u64 = 128;

/// The memory that an object takes of its Untyped: pieces at the top, and a block at the bottom.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Bytes of the pieces at the top; 0: there is none.
    pub tops: [u64; 2],
    /// Bytes at the block's front that the object itself writes.
    pub head: u64,
    /// Bytes and alignment of the block.
    pub size: u64,
    pub align: u64,
    /// Whether the block starts as zeros.
    is_cleared: bool,
    /// The work of making the object, once the block of a long object is cleared.
    pub work: u64,
}

impl Layout {
    /// Returns a block of objects that start as zeros behind the head.
    pub const fn cleared(tops: [u64; 2], head: u64, size: u64, align: u64) -> Layout {
        let inside = if size > CLEAR_BYTES { 0 } else { size / WORK_BYTES };
        Layout { tops, head, size, align, is_cleared: true, work: OBJECT_WORK + inside }
    }

    /// Returns a block of objects that write it themselves, or leave it as it is.
    pub const fn plain(tops: [u64; 2], size: u64, align: u64) -> Layout {
        Layout { tops, head: 0, size, align, is_cleared: false, work: OBJECT_WORK }
    }

    #[must_use]
    pub fn and_work(self, work: u64) -> Layout {
        // One object is always possible.
        Layout { work: (self.work + work).min(ENTRY_WORK), ..self }
    }

    /// Returns whether the block takes several steps to clear.
    #[inline(always)]
    pub const fn is_long(&self) -> bool {
        self.is_cleared && self.size > CLEAR_BYTES
    }

    /// Returns how many such objects are made while locks are held once.
    #[inline(always)]
    pub fn at_once(&self) -> u64 {
        if self.is_long() { 1 } else { (LOCK_WORK / self.work).max(1) }
    }

    /// Clears the blocks of `count` objects, unless they are long: of all of them, or of one if
    /// there is no room for all. Nobody forgets the earlier use of pages in these blocks, so the
    /// region [must not remember](Region::forget_cleared) those that are not carved immediately.
    #[inline(always)]
    pub fn clear(&self, region: &Region, count: u64) {
        if !self.is_cleared || self.is_long() {
            return;
        }
        let Layout { head, size, align, .. } = *self;
        // The alignment is a power of two, and to divide takes long.
        let before = (count - 1) * ((size + align - 1) & !(align - 1));
        if region.clear_ahead(head, before + size, align, CLEAR_BYTES).is_none() && count > 1 {
            region.clear_ahead(head, size, align, CLEAR_BYTES);
        }
    }

    /// Returns whether a region has room for everything. Code that takes more than one piece asks
    /// first, so that a failure loses no memory.
    #[inline(always)]
    pub fn fits(&self, region: &Region) -> bool {
        region.has_room(&self.tops, self.size, self.align)
    }

    /// Returns whether the object can be made now: its block is short, or is cleared ahead, or does
    /// not fit.
    #[inline(always)]
    pub fn is_ahead(&self, region: &Region) -> bool {
        !self.is_long() || !self.fits(region) || region.is_ahead(self.head, self.size, self.align)
    }
}

impl<'k, M: Machine> Caps<'k, M> {
    /// Clears the block of a long object ahead, as much as the entry may do.
    /// Errors: [`Refusal::More`](crate::Refusal::More) if some of it is left. A block that does not
    /// fit is none of this function's business.
    pub fn clear_ahead(self, from: UntypedCap<'k>, layout: Layout) -> Result<()> {
        loop {
            let guard = self.open_or_leave(from.untyped)?;
            if layout.is_ahead(&guard.region) {
                return Ok(());
            }
            // Only to save work: the root's lock is not held, so the answer may change immediately.
            self.check_open(from)?;
            self.afford(LOCK_WORK)?;
            let Some(cleared) = guard.region.clear_ahead(layout.head, layout.size, layout.align, CLEAR_BYTES)
            else {
                return Ok(());
            };
            self.forget_uses(cleared);
        }
    }

    /// Forgets the earlier use of the pages that begin in a range of addresses.
    fn forget_uses(self, range: Range<u64>) {
        let first = range.start.next_multiple_of(PAGE_SIZE);
        if first >= range.end {
            return;
        }
        let pages = (range.end - first).div_ceil(PAGE_SIZE);
        for info in self.k.frames.row(self.pin(), self.k.machine.phys(first), pages as usize) {
            if !info.is_blank() {
                info.forget_use(self.cpu);
            }
        }
    }
}
