//! Unused memory, and how objects are made of it.

use core::cell::Cell;
use core::mem::{align_of, size_of};

use super::{OBJECT_ALIGN, Ref, Table, Zeroed};
use crate::cpu::Pin;
use crate::percpu::Cpus;
use crate::quiesce::{self, Ticket};

/// An exclusive claim on a range of raw memory, carved from both ends: aligned blocks from the
/// bottom, small descriptors from the top. Owned by an Untyped object and used under its root lock.
pub struct Region {
    base: u64,
    size: u64,
    low: Cell<u64>,
    high: Cell<u64>,
    /// The reset that has begun: the quiet period that it waits for, and the values of `low` and
    /// `high`. During the reset both are the size, so that nothing is carved.
    reset: Cell<Option<(Ticket, u64, u64)>>,
}

/// A piece of raw memory to which nothing else refers.
pub struct Piece {
    base: u64,
    size: u64,
}

impl Region {
    /// # Safety
    /// `base..base + size` is mapped readable and writable for as long as the machine runs, aligned
    /// to [`OBJECT_ALIGN`], and nothing else refers to it.
    pub const unsafe fn new(base: u64, size: u64) -> Region {
        Region { base, size, low: Cell::new(0), high: Cell::new(size), reset: Cell::new(None) }
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn free(&self) -> u64 {
        self.high.get() - self.low.get()
    }

    pub fn is_unused(&self) -> bool {
        self.free() == self.size
    }

    /// Returns how many bytes are carved so far from the bottom, and from the top.
    pub fn used(&self) -> (u64, u64) {
        match self.reset.get() {
            Some((_, low, high)) => (low, self.size - high),
            None => (self.low.get(), self.size - self.high.get()),
        }
    }

    /// Carves `size` bytes aligned to `align` (a power of two) from the bottom.
    #[inline(always)]
    pub fn carve(&self, size: u64, align: u64) -> Option<Piece> {
        let at = (self.base + self.low.get()).checked_next_multiple_of(align)? - self.base;
        let end = at.checked_add(size)?;
        if end > self.high.get() {
            return None;
        }
        self.low.set(end);
        Some(Piece { base: self.base + at, size })
    }

    /// Carves `size` bytes, aligned to a cache line, from the top.
    pub fn carve_top(&self, size: u64) -> Option<Piece> {
        let at = self.high.get().checked_sub(size)? & !(OBJECT_ALIGN as u64 - 1);
        if at < self.low.get() {
            return None;
        }
        self.high.set(at);
        Some(Piece { base: self.base + at, size })
    }

    /// Begins a reset: requests a quiet period. The objects in the pieces are unlinked by now (rule
    /// 1), and no more pieces are taken until the reset ends or is given up. Then
    /// [`quiesce::settle`] must run before the entry ends.
    pub fn begin_reset<C: Cpus>(&self, cpus: &C, pin: Pin<'_>) {
        self.give_up_reset();
        self.reset.set(Some((quiesce::request_quiet(cpus, pin), self.low.get(), self.high.get())));
        self.low.set(self.size);
        self.high.set(self.size);
    }

    /// Takes every piece back into the region, if the quiet period of its reset is over.
    ///
    /// Returns: whether it is.
    pub fn end_reset<C: Cpus>(&self, cpus: &C, pin: Pin<'_>) -> bool {
        let is_over = self.reset.get().is_some_and(|(ticket, ..)| quiesce::is_quiet(cpus, pin, ticket));
        if is_over {
            self.start_again();
        }
        is_over
    }

    /// Gives up the region's reset: its pieces stay in use.
    pub fn give_up_reset(&self) {
        if let Some((_, low, high)) = self.reset.take() {
            self.low.set(low);
            self.high.set(high);
        }
    }

    pub(super) fn start_again(&self) {
        self.reset.set(None);
        self.low.set(0);
        self.high.set(self.size);
    }
}

impl Piece {
    pub fn base(&self) -> u64 {
        self.base
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Cuts `size` bytes off the front of the piece, and returns them as a piece; `None` if there
    /// are fewer.
    pub fn split(&mut self, size: u64) -> Option<Piece> {
        if size > self.size {
            return None;
        }
        let front = Piece { base: self.base, size };
        self.base += size;
        self.size -= size;
        Some(front)
    }

    /// Fills the piece with zeros.
    pub fn zero(&mut self) {
        // SAFETY: a piece is an exclusive, mapped and writable range (`Region::new`, carved once).
        unsafe { core::ptr::write_bytes(self.base as *mut u8, 0, self.size as usize) }
    }

    /// Copies bytes to the front of the piece, as many as fit.
    pub fn write(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(self.size as usize);
        // SAFETY: inside the exclusive, mapped and writable piece; `bytes` is borrowed, so
        // elsewhere.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base as *mut u8, len) }
    }

    /// Turns the piece into a region of its own (a child Untyped).
    pub fn into_region(self) -> Region {
        // SAFETY: the piece is exclusive, mapped and writable for the rest of the run
        // (`Region::new`, taken once), and gone.
        unsafe { Region::new(self.base, self.size) }
    }

    /// Returns the front of the piece as a place for a `T`; `None` if the piece is too small or not
    /// aligned for it.
    #[inline(always)]
    fn room_for<T>(&self) -> Option<*mut T> {
        let fits = self.size >= size_of::<T>() as u64 && self.base.is_multiple_of(align_of::<T>() as u64);
        fits.then_some(self.base as *mut T)
    }

    /// Makes an object at the front of the piece. The rest of the piece is unused from then on.
    ///
    /// `None` if the piece is too small or not aligned for the type.
    pub fn emplace<'k, T: 'static>(self, _pin: Pin<'k>, value: T) -> Option<Ref<'k, T>> {
        let at = self.room_for::<T>()?;
        // SAFETY: the piece is exclusive, mapped, large enough and aligned; it is consumed, so the
        // object is its only user from here on.
        unsafe { at.write(value) };
        // SAFETY: just written; lives until reclaim, which rule 1 orders after `'k`.
        Some(Ref(unsafe { &*at }))
    }

    /// Makes an object whose bytes are all zero at the front of the piece, in place.
    pub fn emplace_zeroed<'k, T: Zeroed>(self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        self.emplace_filled(pin, |_| {})
    }

    /// Makes an object at the front of the piece, and lets `fill` write it before any other CPU
    /// sees it.
    pub fn emplace_filled<'k, T: Zeroed>(
        mut self,
        _pin: Pin<'k>,
        fill: impl FnOnce(&mut T),
    ) -> Option<Ref<'k, T>> {
        let at = self.room_for::<T>()?;
        self.zero();
        // SAFETY: zeroed, which is a valid `T` (`Zeroed`), large enough, aligned and exclusive.
        fill(unsafe { &mut *at });
        // SAFETY: as in `emplace`; the exclusive reference is gone.
        Some(Ref(unsafe { &*at }))
    }

    /// Makes as many `T` as fit into the piece, each from `make(index)`: the tail of a
    /// variable-sized object.
    pub fn emplace_slice<T: 'static>(self, mut make: impl FnMut(usize) -> T) -> Option<Table<T>> {
        if !self.base.is_multiple_of(align_of::<T>() as u64) || size_of::<T>() == 0 {
            return None;
        }
        let len = self.size as usize / size_of::<T>();
        for i in 0..len {
            // SAFETY: inside the exclusive piece (i < len), aligned (base checked, stride is the
            // size).
            unsafe { (self.base as *mut T).add(i).write(make(i)) };
        }
        Some(Table { base: self.base as *const T, len })
    }
}
