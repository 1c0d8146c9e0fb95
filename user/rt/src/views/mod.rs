//! Views of sensitive memory: the registers and memory of devices, which one process keeps and
//! lends to others.
//!
//! The *keeper* of views is a process that may make frames of device memory: process 1, or a parent
//! that process 1 trusts with all devices. The keeper never gives such a frame away: a *holder*
//! gets a copy of the capability, with the rights that it asked for, if it may have them. A list of
//! [`Grant`]s says what a holder may have. That list comes from the keeper's table, not from the
//! holder.
//!
//! # Rules
//! - No two views have a page in common.
//! - A view has one holder at a time, or several that only read and have all asked to share it.
//! - When the last holder gives a view back, or ends, the keeper makes the frame again. Every copy
//!   of the holder's capability is gone, in every process, and so is every mapping, on every CPU.
//!   Then only the keeper has the view.
//! - A holder keeps a view with a pinned page until the keeper declares that the device has
//!   stopped.
//!
//! If several holders share a view and one gives it back, that holder immediately loses its
//! capability and everything derived from it. If it had mapped the view into an address space other
//! than its own, that mapping can be read until the last holder has left.
//!
//! [`Views`] is the table, for any [`Keeper`]; [`Frames`] is the keeper that uses the kernel.

mod frames;
#[cfg(test)]
mod tests;

pub use frames::{Frames, NURSERY_LOG2, NURSERY_SLOTS};

use crate::paging::numbered;

/// Views that are kept at a time, and holders of one.
pub const VIEWS_MAX: usize = 16;
pub const HOLDERS_MAX: usize = 8;
/// Pages of a view.
pub const PAGES_MAX: u32 = 512;
/// Physical pages that a number may name: more than any CPU can address.
const FRAMES_END: u64 = 1 << 40;

numbered! {
    /// Why there is no view.
    ViewDenial {
        /// No pages, too many, or none that there could be; or to be shared and written.
        BadRequest = 1;
        /// The program's description does not have it.
        NotAllowed = 2;
        /// Somebody has a page of it.
        InUse = 3;
        /// It is memory, or the CPUs' interrupt controllers.
        NoDevice = 4;
        /// There are as many views as there can be, or as many holders of this one.
        Full = 5;
        /// The slot is not empty, or there is no such slot.
        BadSlot = 6;
        /// A page is pinned for a device.
        Pinned = 7;
        /// It is not the caller's.
        NotHeld = 8;
        /// The parent keeps no views, or could not be reached.
        NoKeeper = 9;
        /// The kernel refused for another reason.
        Refused = 10;
    }
}

impl core::fmt::Display for ViewDenial {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl core::error::Error for ViewDenial {}

/// Physical pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Number of the first.
    pub first: u64,
    pub pages: u32,
}

impl Range {
    /// Makes a range of pages from a physical address on.
    pub const fn at(address: u64, pages: u32) -> Range {
        Range { first: address / abi::PAGE_SIZE, pages }
    }

    pub const fn address(self) -> u64 {
        self.first * abi::PAGE_SIZE
    }

    /// Returns the number of the first page behind the range.
    /// Requires: the range is valid.
    const fn end(self) -> u64 {
        self.first + self.pages as u64
    }

    const fn is_sound(self) -> bool {
        let fits = self.first < FRAMES_END && self.first + self.pages as u64 <= FRAMES_END;
        fits && self.pages > 0 && self.pages <= PAGES_MAX
    }

    const fn overlaps(self, other: Range) -> bool {
        self.first < other.end() && other.first < self.end()
    }

    const fn covers(self, other: Range) -> bool {
        self.first <= other.first && other.end() <= self.end()
    }
}

/// What a view allows, besides reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Allows {
    pub write: bool,
    /// Pinning for another device.
    pub dma: bool,
}

impl Allows {
    pub const READ: Allows = Allows { write: false, dma: false };
    pub const WRITE: Allows = Allows { write: true, dma: false };

    const fn covers(self, other: Allows) -> bool {
        (self.write || !other.write) && (self.dma || !other.dma)
    }
}

/// What somebody may ask for: any part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    pub range: Range,
    pub allows: Allows,
    /// It is mapped write-combining, and uncached otherwise.
    pub combining: bool,
}

impl Grant {
    pub const fn new(range: Range, allows: Allows) -> Grant {
        Grant { range, allows, combining: false }
    }
}

/// What somebody asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub range: Range,
    pub allows: Allows,
    /// Others who only read it may have it, too.
    pub shared: bool,
}

impl Wanted {
    pub const fn new(range: Range, allows: Allows) -> Wanted {
        Wanted { range, allows, shared: false }
    }

    /// Makes a request to read a range that other holders may read, too.
    pub const fn shared(range: Range) -> Wanted {
        Wanted { range, allows: Allows::READ, shared: true }
    }

    /// Returns the request, if its range and access can be served at all.
    pub fn sound(self) -> Result<Wanted, ViewDenial> {
        if self.is_sound() { Ok(self) } else { Err(ViewDenial::BadRequest) }
    }

    fn is_sound(self) -> bool {
        self.range.is_sound() && !(self.shared && self.allows != Allows::READ)
    }
}

/// The maker of frames and of their copies. Views and leases are numbered as in the table.
pub trait Keeper {
    /// Where a holder wants its capability.
    type Place: Copy;

    /// Makes the frame of the view with this number, of a physical range; `combining`: that is
    /// mapped write-combining.
    fn make(&mut self, view: usize, range: Range, combining: bool) -> Result<(), ViewDenial>;
    /// Ends a view's frame: no copy and no mapping of it is left. Pins prevent that, unless no
    /// device is active (`devices_are_still`).
    fn unmake(&mut self, view: usize, devices_are_still: bool) -> Result<(), ViewDenial>;
    /// Gives a holder a capability of a view's frame, in `to`. If that fails, no capability is
    /// left.
    fn lend(&mut self, view: usize, lease: usize, allows: Allows, to: Self::Place) -> Result<(), ViewDenial>;
    /// Takes back the capability that [`Keeper::lend`] gave, and all that were derived from it.
    fn recall(&mut self, view: usize, lease: usize) -> Result<(), ViewDenial>;
}

/// A view that there is.
#[derive(Clone, Copy)]
struct View {
    range: Range,
    combining: bool,
    shared: bool,
    holders: [Option<u16>; HOLDERS_MAX],
}

impl View {
    fn is_held(&self) -> bool {
        self.holders.iter().any(Option::is_some)
    }

    fn lease_of(&self, holder: u16) -> Option<usize> {
        self.holders.iter().position(|one| *one == Some(holder))
    }
}

/// The views that a process keeps, and their holders.
pub struct Views<K> {
    keeper: K,
    table: [Option<View>; VIEWS_MAX],
}

impl<K: Keeper> Views<K> {
    pub const fn new(keeper: K) -> Views<K> {
        Views { keeper, table: [None; VIEWS_MAX] }
    }

    /// Lends a view to a holder, if `granted` allows what it wants.
    pub fn lend(
        &mut self,
        holder: u16,
        wanted: &Wanted,
        granted: &[Grant],
        to: K::Place,
    ) -> Result<(), ViewDenial> {
        if !wanted.is_sound() {
            return Err(ViewDenial::BadRequest);
        }
        let fits = |grant: &Grant| grant.range.covers(wanted.range) && grant.allows.covers(wanted.allows);
        let grant = granted.iter().find(|grant| fits(grant)).ok_or(ViewDenial::NotAllowed)?;
        let (view, lease) = self.room_for(holder, wanted, grant.combining)?;
        self.keeper.lend(view, lease, wanted.allows, to)?;
        if let Some(it) = &mut self.table[view] {
            it.shared = wanted.shared;
            it.holders[lease] = Some(holder);
        }
        Ok(())
    }

    /// Takes back a view that its holder does not want any more.
    pub fn give_back(&mut self, holder: u16, range: Range) -> Result<(), ViewDenial> {
        let held = |view: &View| view.range == range && view.lease_of(holder).is_some();
        let view = self.position(held).ok_or(ViewDenial::NotHeld)?;
        self.take_back(view, holder, false)
    }

    /// Takes back all views of a holder that has ended. Returns how many there were. Views that
    /// cannot be taken back stay the holder's; the first reason is returned.
    pub fn ended(&mut self, holder: u16, devices_are_still: bool) -> Result<usize, ViewDenial> {
        let (mut taken, mut failed) = (0, None);
        for view in 0..VIEWS_MAX {
            if self.table[view].is_none_or(|it| it.lease_of(holder).is_none()) {
                continue;
            }
            match self.take_back(view, holder, devices_are_still) {
                Ok(()) => taken += 1,
                Err(denial) => failed = failed.or(Some(denial)),
            }
        }
        failed.map_or(Ok(taken), Err)
    }

    /// Ends the frames of views without holders, so that other processes can make frames of their
    /// memory.
    pub fn drop_idle(&mut self) -> Result<(), ViewDenial> {
        for view in 0..VIEWS_MAX {
            self.drop_if_idle(view)?;
        }
        Ok(())
    }

    /// Returns the holders of views of exactly these pages.
    pub fn holders(&self, range: Range) -> impl Iterator<Item = u16> {
        let views = self.table.iter().flatten().filter(move |view| view.range == range);
        views.flat_map(|view| view.holders.iter().flatten().copied())
    }

    /// Returns whether the table has a view of exactly these pages without holders.
    pub fn is_idle(&self, range: Range) -> bool {
        self.table.iter().flatten().any(|view| view.range == range && !view.is_held())
    }

    // --- the parts -------------------------------------------------------------------------------

    fn position(&self, so: impl Fn(&View) -> bool) -> Option<usize> {
        self.table.iter().position(|view| view.as_ref().is_some_and(&so))
    }

    /// Returns the number of the wanted view, which is made if necessary, and that of a free lease
    /// of it.
    fn room_for(
        &mut self,
        holder: u16,
        wanted: &Wanted,
        combining: bool,
    ) -> Result<(usize, usize), ViewDenial> {
        let is_it = |view: &View| view.range == wanted.range && view.combining == combining;
        for view in self.table.iter().flatten().filter(|view| view.is_held()) {
            let together = is_it(view) && view.shared && wanted.shared;
            let twice = view.lease_of(holder).is_some();
            if view.range.overlaps(wanted.range) && (!together || twice) {
                return Err(ViewDenial::InUse);
            }
        }
        if let Some(view) = self.position(is_it) {
            let lease = self.table[view].and_then(|it| it.holders.iter().position(Option::is_none));
            return Ok((view, lease.ok_or(ViewDenial::Full)?));
        }
        // Those that nobody has make way.
        while let Some(view) = self.position(|view| view.range.overlaps(wanted.range)) {
            self.drop_if_idle(view)?;
        }
        let view = match self.table.iter().position(Option::is_none) {
            Some(view) => view,
            None => {
                let idle = self.position(|view| !view.is_held()).ok_or(ViewDenial::Full)?;
                self.drop_if_idle(idle)?;
                idle
            }
        };
        self.keeper.make(view, wanted.range, combining)?;
        let (range, holders) = (wanted.range, [None; HOLDERS_MAX]);
        self.table[view] = Some(View { range, combining, shared: false, holders });
        Ok((view, 0))
    }

    fn drop_if_idle(&mut self, view: usize) -> Result<(), ViewDenial> {
        if self.table[view].is_some_and(|it| !it.is_held()) {
            self.keeper.unmake(view, false)?;
            self.table[view] = None;
        }
        Ok(())
    }

    fn take_back(&mut self, view: usize, holder: u16, devices_are_still: bool) -> Result<(), ViewDenial> {
        let Some(mut it) = self.table[view] else { return Err(ViewDenial::NotHeld) };
        let lease = it.lease_of(holder).ok_or(ViewDenial::NotHeld)?;
        it.holders[lease] = None;
        if it.is_held() {
            self.keeper.recall(view, lease)?;
            self.table[view] = Some(it);
            return Ok(());
        }
        self.keeper.unmake(view, devices_are_still)?;
        // If another process was faster, it has the view.
        self.table[view] = self.keeper.make(view, it.range, it.combining).is_ok().then_some(it);
        Ok(())
    }
}
