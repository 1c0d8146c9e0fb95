//! Unused memory, and how objects are made of it.

use core::cell::Cell;
use core::mem::{align_of, size_of};
use core::ops::Range;

use super::{OBJECT_ALIGN, Ref, Table, Zeroed};
use crate::cpu::Pin;
use crate::percpu::Cpus;
use crate::quiesce::{self, Ticket};

/// An exclusive claim on a range of raw memory, carved from both ends: aligned blocks from the
/// bottom, small descriptors from the top. Owned by an Untyped object and used under its lock.
///
/// # Memory that is cleared ahead
/// A block that is long to clear is cleared in steps before it is carved
/// ([`Region::clear_ahead`]). The region remembers one range that is cleared. What is carved leaves
/// the range, and a region that starts again has none: its memory was in use.
pub struct Region {
    base: u64,
    size: u64,
    low: Cell<u64>,
    high: Cell<u64>,
    /// The first byte that is cleared ahead, and the first after it that is not.
    cleared: Cell<(u64, u64)>,
    /// While a reset waits for a quiet period, `low` and `high` are the size, so that nothing is
    /// carved; their values are here.
    closed: Cell<Option<(Ticket, u64, u64)>>,
}

/// A piece of raw memory to which nothing else refers.
pub struct Piece {
    base: u64,
    size: u64,
}

/// A piece of memory that is full of zeros.
pub struct Cleared(Piece);

impl Region {
    /// # Safety
    /// `base..base + size` is mapped readable and writable for as long as the machine runs, aligned
    /// to [`OBJECT_ALIGN`], and nothing else refers to it.
    pub const unsafe fn new(base: u64, size: u64) -> Region {
        let (low, high) = (Cell::new(0), Cell::new(size));
        Region { base, size, low, high, cleared: Cell::new((0, 0)), closed: Cell::new(None) }
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
        match self.closed.get() {
            Some((_, low, high)) => (low, self.size - high),
            None => (self.low.get(), self.size - self.high.get()),
        }
    }

    /// Returns where the next block of `size` bytes, aligned to `align` (a power of two), begins
    /// and ends.
    #[inline(always)]
    fn block(&self, size: u64, align: u64) -> Option<(u64, u64)> {
        self.block_below(self.high.get(), size, align)
    }

    #[inline(always)]
    fn block_below(&self, high: u64, size: u64, align: u64) -> Option<(u64, u64)> {
        // Not `next_multiple_of`: it would divide.
        let at = ((self.base + self.low.get()).checked_add(align - 1)? & !(align - 1)) - self.base;
        let end = at.checked_add(size)?;
        (end <= high).then_some((at, end))
    }

    /// Returns whether there is room for pieces of the sizes `tops` at the top, and for a block of
    /// `size` bytes, aligned to `align` (a power of two), at the bottom.
    #[inline(always)]
    pub fn has_room(&self, tops: &[u64], size: u64, align: u64) -> bool {
        let high = tops.iter().try_fold(self.high.get(), |high, top| Self::below(high, *top));
        high.is_some_and(|high| self.block_below(high, size, align).is_some())
    }

    /// Returns where a piece of `size` bytes begins that ends at `high`, or a little before.
    #[inline(always)]
    const fn below(high: u64, size: u64) -> Option<u64> {
        match high.checked_sub(size) {
            Some(at) => Some(at & !(OBJECT_ALIGN as u64 - 1)),
            None => None,
        }
    }

    /// Returns the range that is cleared ahead and not carved; `None` if it is empty.
    #[inline(always)]
    fn cleared(&self) -> Option<(u64, u64)> {
        let (from, to) = self.cleared.get();
        let (from, to) = (from.max(self.low.get()), to.min(self.high.get()));
        (from < to).then_some((from, to))
    }

    /// Carves `size` bytes aligned to `align` (a power of two) from the bottom.
    #[inline(always)]
    pub fn carve(&self, size: u64, align: u64) -> Option<Piece> {
        let (at, end) = self.block(size, align)?;
        self.low.set(end);
        Some(Piece { base: self.base + at, size })
    }

    /// Carves a block as [`Region::carve`] does. Returns its first `head` bytes, with any contents,
    /// and the rest, cleared as far as it is not cleared ahead.
    #[inline(always)]
    pub fn carve_cleared(&self, head: u64, size: u64, align: u64) -> Option<(Piece, Cleared)> {
        let (at, end) = self.block(size, align)?;
        let rest = at.checked_add(head).filter(|rest| *rest <= end)?;
        let done = match self.cleared() {
            Some((from, to)) if from <= rest && rest < to => to.min(end),
            _ => rest,
        };
        self.low.set(end);
        if done < end {
            Piece { base: self.base + done, size: end - done }.zero();
        }
        let head = Piece { base: self.base + at, size: head };
        Some((head, Cleared(Piece { base: self.base + rest, size: end - rest })))
    }

    /// Returns whether all but the first `head` bytes of the block that [`Region::carve_cleared`]
    /// would carve next is cleared ahead.
    #[inline(always)]
    pub fn is_ahead(&self, head: u64, size: u64, align: u64) -> bool {
        let (block, cleared) = (self.block(size, align), self.cleared());
        block.zip(cleared).is_some_and(|((at, end), (from, to))| from <= at + head && end <= to)
    }

    /// Clears at most `most` bytes of the block that [`Region::carve_cleared`] would carve next,
    /// behind its first `head` bytes. Returns their addresses; `None` if the region has no room, or
    /// the block is cleared.
    ///
    /// Several tasks may clear ahead in one region, each for a block of its own, and each may be
    /// gone before it carves the block. So the range that is cleared belongs to none of them: a
    /// task whose block begins in or after the range continues it, over what is between, and a task
    /// whose block begins before it starts a new one. The range begins where one of the blocks
    /// begins, and moves down only, until a block is carved. So the tasks do not undo each other's
    /// steps for ever.
    #[inline(always)]
    pub fn clear_ahead(&self, head: u64, size: u64, align: u64, most: u64) -> Option<Range<u64>> {
        let (at, end) = self.block(size, align)?;
        let at = at.checked_add(head)?;
        let (from, to) = self.cleared().filter(|(from, _)| *from <= at).unwrap_or((at, at));
        let next = end.min(to.checked_add(most)?);
        if next <= to {
            return None;
        }
        let piece = Piece { base: self.base + to, size: next - to };
        piece.zero();
        self.cleared.set((from, next));
        Some(piece.base..piece.end())
    }

    /// Forgets that memory was cleared ahead.
    pub fn forget_cleared(&self) {
        self.cleared.set((0, 0));
    }

    /// Carves `size` bytes, aligned to a cache line, from the top.
    pub fn carve_top(&self, size: u64) -> Option<Piece> {
        let at = Self::below(self.high.get(), size)?;
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
        let ticket = quiesce::request_quiet(cpus, pin);
        self.closed.set(Some((ticket, self.low.replace(self.size), self.high.replace(self.size))));
    }

    /// Takes every piece back into the region, if the quiet period of its reset is over.
    ///
    /// Returns: whether it is.
    pub fn end_reset<C: Cpus>(&self, cpus: &C, pin: Pin<'_>) -> bool {
        let is_over = self.closed.get().is_some_and(|(ticket, ..)| quiesce::is_quiet(cpus, pin, ticket));
        if is_over {
            self.start_again();
        }
        is_over
    }

    /// Gives up the region's reset: its pieces stay in use.
    pub fn give_up_reset(&self) {
        if let Some((_, low, high)) = self.closed.take() {
            self.low.set(low);
            self.high.set(high);
        }
    }

    pub(super) fn start_again(&self) {
        self.closed.set(None);
        self.cleared.set((0, 0));
        self.low.set(0);
        self.high.set(self.size);
    }
}

impl Piece {
    const fn end(&self) -> u64 {
        self.base + self.size
    }

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
    pub fn clear(self) -> Cleared {
        self.zero();
        Cleared(self)
    }

    fn zero(&self) {
        // SAFETY: a piece is an exclusive, mapped and writable range (`Region::new`, carved once).
        // Who clears memory that is not carved has the region's lock, since a region is for one CPU
        // at a time.
        unsafe { core::ptr::write_bytes(self.base as *mut u8, 0, self.size as usize) }
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

impl Cleared {
    pub fn base(&self) -> u64 {
        self.0.base
    }

    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Cuts `size` bytes off the front; `None` if there are fewer.
    #[inline(always)]
    pub fn split(&mut self, size: u64) -> Option<Cleared> {
        self.0.split(size).map(Cleared)
    }

    /// Returns the piece, to be filled by other means.
    pub fn into_piece(self) -> Piece {
        self.0
    }

    /// Copies bytes to the front, as many as fit.
    #[must_use]
    pub fn with_bytes(self, bytes: &[u8]) -> Piece {
        let len = bytes.len().min(self.0.size as usize);
        // SAFETY: inside the exclusive, mapped and writable piece; `bytes` is borrowed, so
        // elsewhere.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.base as *mut u8, len) }
        self.0
    }

    /// Makes an object whose bytes are all zero at the front, in place.
    pub fn emplace_zeroed<'k, T: Zeroed>(self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        self.emplace_filled(pin, |_| {})
    }

    /// Makes an object at the front, and lets `fill` write it before any other CPU sees it.
    pub fn emplace_filled<'k, T: Zeroed>(
        self,
        _pin: Pin<'k>,
        fill: impl FnOnce(&mut T),
    ) -> Option<Ref<'k, T>> {
        let at = self.0.room_for::<T>()?;
        // SAFETY: zeroed, which is a valid `T` (`Zeroed`), large enough, aligned and exclusive.
        fill(unsafe { &mut *at });
        // SAFETY: as in `Piece::emplace`; the exclusive reference is gone.
        Some(Ref(unsafe { &*at }))
    }

    /// Makes as many `T` as fit, whose bytes are all zero: the tail of a variable-sized object.
    /// Writes nothing.
    #[inline(always)]
    pub fn into_table<T: Zeroed>(self) -> Option<Table<T>> {
        if !self.0.base.is_multiple_of(align_of::<T>() as u64) || size_of::<T>() == 0 {
            return None;
        }
        // Zeros are a valid `T` (`Zeroed`), and the piece is exclusive.
        Some(Table { base: self.0.base as *const T, len: self.0.size as usize / size_of::<T>() })
    }
}
