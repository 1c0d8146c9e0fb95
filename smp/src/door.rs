//! The doors between safe code and raw kernel memory.
//!
//! # What makes them sound
//! Kernel objects live in memory that user level donated ([`Region`]), so the borrow checker cannot
//! know how long they live. Four rules, held by `kern/core` and checked by its tests, take its place:
//!
//! 1. **An object dies only after its links.** Reclaim first cuts every stored [`Link`], [`Ptr`] and
//!    [`ObjWord`] to an object, then waits until every CPU has left the kernel entries that may have
//!    loaded one ([`crate::quiesce`]), then hands the memory back. A loaded [`Ref<'k, T>`] is bound to
//!    the entry `'k`, so it cannot outlive that wait.
//! 2. **Only the home CPU looks inside.** State that one CPU owns is wrapped in [`Homed`], which opens
//!    only to a [`Pin`] of that CPU. Everything else that CPUs share is an atomic.
//! 3. **Memory is carved once.** A [`Region`] hands out disjoint pieces and starts again only with a
//!    [`Quiet`] token, which a completed grace period makes.
//! 4. **Who sends lets go.** Once state is on its way to another CPU ([`Homed::set_home`],
//!    [`Held::leave_for`], a push of the node that carries it), the entry that sent it no longer uses what it opened
//!    before.
//!
//! # Memory ordering
//! [`ObjWord`] stores with `Release` and loads with `Acquire`: who sees the word sees the object's
//! initial contents and the slot's other words. `Link` is a plain cell: it belongs to its home CPU.

use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::{align_of, size_of};
use core::ops::Deref;
use core::ptr::NonNull;

use crate::chaos::{self, Point};
use crate::cpu::Pin;
use crate::sync::{AtomicU64, Ordering, const_unless_loom};

mod homed;

pub use homed::{Held, Homed};

/// Objects start on a cache line; the low bits of their addresses carry tags.
pub const OBJECT_ALIGN: usize = 64;

/// A kernel object as seen within one kernel entry.
#[repr(transparent)]
pub struct Ref<'k, T>(&'k T);

impl<T> Clone for Ref<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ref<'_, T> {}

impl<T> Deref for Ref<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0
    }
}

impl<T> PartialEq for Ref<'_, T> {
    /// Identity, not contents.
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.0, other.0)
    }
}
impl<T> Eq for Ref<'_, T> {}

impl<'k, T> Ref<'k, T> {
    /// For objects that never die (made at boot, or by a host test).
    pub const fn from_static(object: &'static T) -> Ref<'k, T> {
        Ref(object)
    }

    /// The object's address: an identity for dumps and tags, never an access path.
    pub fn addr(self) -> u64 {
        core::ptr::from_ref(self.0) as u64
    }

    /// The plain reference, for as long as the entry lasts.
    pub const fn get(self) -> &'k T {
        self.0
    }

    pub fn ptr(self) -> Ptr<T> {
        Ptr(NonNull::from(self.0))
    }

    /// A part of the object (`field` captures nothing, so what it returns can only come from there).
    #[inline(always)]
    pub fn map<U>(self, field: for<'a> fn(&'a T) -> &'a U) -> Ref<'k, U> {
        Ref(field(self.0))
    }
}

/// A reference at rest between kernel entries. Rule 1 above keeps it valid.
#[repr(transparent)]
pub struct Ptr<T>(NonNull<T>);

impl<T> Clone for Ptr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ptr<T> {}
impl<T> PartialEq for Ptr<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Ptr<T> {}

// SAFETY: a `Ptr` is inert; it is opened only by `get`, whose `Pin` and the rules above govern access.
unsafe impl<T> Send for Ptr<T> {}
// SAFETY: as above; a shared `Ptr` gives no access without a `Pin`.
unsafe impl<T> Sync for Ptr<T> {}

impl<T> Ptr<T> {
    #[inline(always)]
    pub fn get<'k>(self, _pin: Pin<'k>) -> Ref<'k, T> {
        // SAFETY: made from a `Ref` and stored under rule 1: the object lives at least until the
        // grace period that follows the removal of this pointer, so at least until `'k` ends.
        Ref(unsafe { self.0.as_ref() })
    }

    pub fn addr(self) -> u64 {
        self.0.as_ptr() as u64
    }
}

/// An optional reference stored in an object, read and written by one CPU (the object's home).
#[repr(transparent)]
pub struct Link<T>(Cell<Option<Ptr<T>>>);

impl<T> Default for Link<T> {
    fn default() -> Self {
        Self::null()
    }
}

impl<T> Link<T> {
    pub const fn null() -> Link<T> {
        Link(Cell::new(None))
    }

    #[inline(always)]
    pub fn get<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        self.0.get().map(|p| p.get(pin))
    }

    #[inline(always)]
    pub fn set(&self, to: Option<Ref<'_, T>>) {
        self.0.set(to.map(Ref::ptr));
    }

    #[inline(always)]
    pub fn take<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        self.0.take().map(|p| p.get(pin))
    }

    pub fn is_null(&self) -> bool {
        self.0.get().is_none()
    }

    /// Whether it refers to `to`.
    pub fn is(&self, to: Ref<'_, T>) -> bool {
        self.0.get() == Some(to.ptr())
    }

    /// Address or 0, for dumps.
    pub fn addr(&self) -> u64 {
        self.0.get().map_or(0, Ptr::addr)
    }
}

/// An optional reference that any CPU may read and that is written under a lock or once.
///
/// `Acquire`/`Release`: who sees the reference sees what was written before it was stored.
#[repr(transparent)]
pub struct AtomicLink<T>(AtomicU64, PhantomData<Ptr<T>>);

impl<T> Default for AtomicLink<T> {
    fn default() -> Self {
        Self::null()
    }
}

impl<T> AtomicLink<T> {
    const_unless_loom! {
        pub fn null() -> AtomicLink<T> {
            AtomicLink(AtomicU64::new(0), PhantomData)
        }
    }

    #[inline(always)]
    pub fn get<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        let raw = self.0.load(Ordering::Acquire);
        NonNull::new(raw as *mut T).map(|p| Ptr(p).get(pin))
    }

    #[inline(always)]
    pub fn set(&self, to: Option<Ref<'_, T>>) {
        self.0.store(to.map_or(0, Ref::addr), Ordering::Release);
    }

    /// Stores `to` where it was null; whether it did.
    pub fn claim(&self, to: Ref<'_, T>) -> bool {
        let claimed = self.0.compare_exchange(0, to.addr(), Ordering::AcqRel, Ordering::Relaxed).is_ok();
        chaos::point(Point::LinkClaimed);
        claimed
    }

    /// Makes it null where it refers to what is `at` an address; whether it did.
    pub fn cut(&self, at: u64) -> bool {
        self.0.compare_exchange(at, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    pub fn is_null(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    pub fn is(&self, to: Ref<'_, T>) -> bool {
        self.0.load(Ordering::Relaxed) == to.addr()
    }

    pub fn addr(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// As [`AtomicLink::is`], by a plain load.
    ///
    /// # Safety
    /// Nobody but the calling CPU ever writes the link.
    #[cfg(not(loom))]
    #[inline(always)]
    pub unsafe fn is_own(&self, to: Ref<'_, T>) -> bool {
        // SAFETY: no write is concurrent with it (caller); others' atomic loads do no harm.
        unsafe { *self.0.as_ptr() == to.addr() }
    }
}

/// A type of kernel object. `TYPE` is unique among all types that are ever stored in an
/// [`ObjWord`]; `kern/base` holds the list and a test that no two agree.
pub trait KernelObject: Sized + 'static {
    const TYPE: u8;
    /// What a capability of such an object can allow.
    type Rights: Into<abi::Rights>;
}

/// Word 0 of a capability slot: object pointer, rights and type in one atomic word.
///
/// ```text
///  63                      22 21            5 4     0
/// +--------------------------+---------------+-------+
/// | object address bits 47:6 |  rights (17)  | type  |
/// +--------------------------+---------------+-------+
/// ```
/// Type 0 is "no object": the other bits then belong to the slot's owner (see [`RawWord`]).
#[repr(transparent)]
pub struct ObjWord(AtomicU64);

/// Bits of rights in an [`ObjWord`].
pub const RIGHTS_BITS: u32 = 17;
/// Where the rights start.
pub const RIGHTS_SHIFT: u32 = 5;
/// Mask of the type.
pub const TYPE_MASK: u64 = 0x1f;
const RIGHTS_MASK: u64 = ((1 << RIGHTS_BITS) - 1) << RIGHTS_SHIFT;
/// How far the address is shifted up; an arithmetic shift back restores the canonical upper half.
pub const ADDR_SHIFT: u32 = 16;

/// One reading of an [`ObjWord`]. All decisions of one kernel entry use one reading.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RawWord<'k> {
    word: u64,
    _entry: PhantomData<Pin<'k>>,
}

impl core::fmt::Debug for RawWord<'_> {
    /// For reports of faults of the kernel.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "object of type {} at {:#x}, rights {:#x}", self.object_type(), self.addr(), self.rights())
    }
}

impl<'k> RawWord<'k> {
    pub fn object_type(self) -> u8 {
        (self.word & TYPE_MASK) as u8
    }

    pub fn rights(self) -> u32 {
        ((self.word & RIGHTS_MASK) >> RIGHTS_SHIFT) as u32
    }

    pub fn addr(self) -> u64 {
        ((self.word as i64 >> ADDR_SHIFT) as u64) & !(OBJECT_ALIGN as u64 - 1)
    }

    /// The object, where the word is of its type.
    #[inline(always)]
    pub fn get<T: KernelObject>(self) -> Option<Ref<'k, T>> {
        if self.object_type() != T::TYPE {
            return None;
        }
        // SAFETY: a word of type `T::TYPE` is only ever made by `ObjWord::set` from a `Ref<T>`
        // (`TYPE` is unique), and rule 1 keeps the object alive for the entry that loaded the word.
        Some(Ref(unsafe { &*(self.addr() as *const T) }))
    }

    /// The same, where the word also has these rights: one comparison for both.
    #[inline(always)]
    pub fn get_with<T: KernelObject>(self, rights: u32) -> Option<Ref<'k, T>> {
        let wanted = (u64::from(rights) << RIGHTS_SHIFT) & RIGHTS_MASK | u64::from(T::TYPE);
        if self.word & (wanted | TYPE_MASK) != wanted {
            return None;
        }
        // SAFETY: as in `get`: the word is of type `T::TYPE`, so it has an object.
        unsafe {
            core::hint::assert_unchecked(self.addr() != 0);
            Some(Ref(&*(self.addr() as *const T)))
        }
    }

    /// For type 0: the value that [`ObjWord::set_empty`] stored.
    pub fn empty_value(self) -> u64 {
        self.word >> RIGHTS_SHIFT
    }

    pub fn bits(self) -> u64 {
        self.word
    }
}

impl ObjWord {
    const_unless_loom! {
        pub fn empty() -> ObjWord {
            ObjWord(AtomicU64::new(0))
        }
    }

    #[inline(always)]
    pub fn load<'k>(&self, _pin: Pin<'k>) -> RawWord<'k> {
        let word = self.0.load(Ordering::Acquire);
        chaos::point(Point::SlotRead);
        RawWord { word, _entry: PhantomData }
    }

    /// As [`ObjWord::load`], for those who only look, while nobody changes anything: no labelled point.
    #[inline(always)]
    pub fn glance<'k>(&self, _pin: Pin<'k>) -> RawWord<'k> {
        RawWord { word: self.0.load(Ordering::Acquire), _entry: PhantomData }
    }

    /// Whether the word has no object, and its owner's note is below `limit`. For surveys, which look at many.
    #[inline(always)]
    pub fn is_empty_below(&self, limit: u64) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word & TYPE_MASK == 0 && word >> RIGHTS_SHIFT < limit
    }

    pub fn set<T: KernelObject>(&self, to: Ref<'_, T>, rights: u32) {
        self.0.store(Self::pack(to, rights), Ordering::Release);
    }

    /// Copies a word that was read in this entry, with the rights given.
    pub fn set_raw(&self, from: RawWord<'_>, rights: u32) {
        let bits = (u64::from(rights) << RIGHTS_SHIFT) & RIGHTS_MASK;
        self.0.store((from.word & !RIGHTS_MASK) | bits, Ordering::Release);
    }

    /// Claims an empty word for filling: `from` (read in this entry) becomes the empty `value`.
    /// `false` where somebody else was first.
    pub fn claim(&self, from: RawWord<'_>, value: u64) -> bool {
        from.object_type() == 0
            && self
                .0
                .compare_exchange(from.word, value << RIGHTS_SHIFT, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// The same of a word that was read as empty since `stamp`: it fails where the word has an object.
    #[inline(always)]
    pub fn claim_since(&self, stamp: u64, value: u64) -> bool {
        let (from, to) = (stamp << RIGHTS_SHIFT, value << RIGHTS_SHIFT);
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Changes the note of an empty word, by the CPU that emptied it: no fence.
    pub fn set_note(&self, value: u64) {
        self.0.store(value << RIGHTS_SHIFT, Ordering::Release);
    }

    /// Empties the word; `value` (59 bits) is the owner's note, read back by [`RawWord::empty_value`].
    /// Sequentially consistent: the emptying is ordered before a later read of the grace epoch.
    pub fn set_empty(&self, value: u64) {
        self.0.store(value << RIGHTS_SHIFT, Ordering::SeqCst);
    }

    fn pack<T: KernelObject>(to: Ref<'_, T>, rights: u32) -> u64 {
        debug_assert!(T::TYPE != 0 && u64::from(T::TYPE) <= TYPE_MASK);
        debug_assert!(to.addr().is_multiple_of(OBJECT_ALIGN as u64), "object off its cache line");
        (to.addr() << ADDR_SHIFT) | ((u64::from(rights) << RIGHTS_SHIFT) & RIGHTS_MASK) | u64::from(T::TYPE)
    }
}

/// Proof of a completed grace period: what was unlinked before it began is now unreachable.
/// Made only by [`crate::quiesce`] (and by `host_test` in tests).
pub struct Quiet {
    _private: (),
}

impl Quiet {
    pub(crate) const fn new() -> Quiet {
        Quiet { _private: () }
    }

    /// For host tests, where one thread plays every CPU in turn.
    #[cfg(feature = "host-test")]
    pub const fn host_test() -> Quiet {
        Quiet { _private: () }
    }
}

/// Bytes that only the machine layer interprets (vector state): inert in safe code.
#[repr(C, align(64))]
pub struct RawBytes<const N: usize>(core::cell::UnsafeCell<[u8; N]>);

// SAFETY: safe code can only take the address; who dereferences it says why it may.
unsafe impl<const N: usize> Sync for RawBytes<N> {}

impl<const N: usize> Default for RawBytes<N> {
    fn default() -> Self {
        RawBytes(core::cell::UnsafeCell::new([0; N]))
    }
}

impl<const N: usize> RawBytes<N> {
    /// The same as words. What the machine layer writes by itself it writes on the CPU that looks, at another time.
    pub const fn words(&self) -> &[AtomicU64] {
        // SAFETY: aligned for words, and as many bytes are ours as there are words; all that is written while they are
        // borrowed is written by atomics, as the machine layer has to say where it dereferences the address.
        unsafe { core::slice::from_raw_parts(self.as_ptr().cast::<AtomicU64>(), N / 8) }
    }

    pub const fn as_ptr(&self) -> *mut u8 {
        self.0.get().cast()
    }
}

/// Types for which all zeros is a valid value, for large objects that are never built on a stack.
///
/// # Safety
/// Memory full of zeros is a valid value of the type.
pub unsafe trait Zeroed: Sized + 'static {}

// SAFETY: bytes.
unsafe impl<const N: usize> Zeroed for RawBytes<N> {}
// SAFETY: integers.
unsafe impl Zeroed for abi::BootPage {}
// SAFETY: integers, all of them atomic.
#[cfg(not(loom))]
unsafe impl Zeroed for abi::Utcb {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl Zeroed for abi::events::EventControl {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl Zeroed for abi::events::EventState {}

/// An exclusive claim on a range of raw memory, carved from both ends: aligned blocks from the
/// bottom, small descriptors from the top. Owned by an Untyped object and used under its root lock.
pub struct Region {
    base: u64,
    size: u64,
    low: Cell<u64>,
    high: Cell<u64>,
}

/// A piece of raw memory that nobody else refers to.
pub struct Piece {
    base: u64,
    size: u64,
}

impl Region {
    /// # Safety
    /// `base..base + size` is mapped readable and writable for as long as the machine runs, aligned
    /// to [`OBJECT_ALIGN`], and nothing else refers to it.
    pub const unsafe fn new(base: u64, size: u64) -> Region {
        Region { base, size, low: Cell::new(0), high: Cell::new(size) }
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

    /// Bytes carved so far from the bottom and from the top.
    pub fn used(&self) -> (u64, u64) {
        (self.low.get(), self.size - self.high.get())
    }

    /// Carves `size` bytes aligned to `align` (a power of two) from the bottom.
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

    /// Takes every piece back: what stood in them was unlinked before the grace period that `_quiet`
    /// proves (rule 1), so nobody refers to it any more.
    pub fn reset(&self, _quiet: &Quiet) {
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

    /// Cuts `size` bytes off the front.
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
        // SAFETY: inside the exclusive, mapped and writable piece; `bytes` is borrowed, so elsewhere.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base as *mut u8, len) }
    }

    /// Turns the piece into a region of its own (a child Untyped).
    pub fn into_region(self) -> Region {
        Region { base: self.base, size: self.size, low: Cell::new(0), high: Cell::new(self.size) }
    }

    /// Makes an object at the front of the piece; the rest is lost to it (objects know their size).
    ///
    /// `None` where the piece is too small or off the type's alignment.
    pub fn emplace<'k, T: 'static>(self, _pin: Pin<'k>, value: T) -> Option<Ref<'k, T>> {
        if self.size < size_of::<T>() as u64 || !self.base.is_multiple_of(align_of::<T>() as u64) {
            return None;
        }
        let at = self.base as *mut T;
        // SAFETY: the piece is exclusive, mapped, large enough and aligned; it is consumed, so the
        // object is its only user from here on.
        unsafe { at.write(value) };
        // SAFETY: just written; lives until reclaim, which rule 1 orders after `'k`.
        Some(Ref(unsafe { &*at }))
    }

    /// Makes an object of zeros at the front of the piece, in place.
    pub fn emplace_zeroed<'k, T: Zeroed>(self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        self.emplace_filled(pin, |_| {})
    }

    /// The same, filled in before anybody sees it.
    pub fn emplace_filled<'k, T: Zeroed>(
        mut self,
        _pin: Pin<'k>,
        fill: impl FnOnce(&mut T),
    ) -> Option<Ref<'k, T>> {
        if self.size < size_of::<T>() as u64 || !self.base.is_multiple_of(align_of::<T>() as u64) {
            return None;
        }
        self.zero();
        // SAFETY: zeroed, which is a valid `T` (`Zeroed`), large enough, aligned and exclusive.
        fill(unsafe { &mut *(self.base as *mut T) });
        // SAFETY: as in `emplace`; the exclusive reference is gone.
        Some(Ref(unsafe { &*(self.base as *const T) }))
    }

    /// Makes as many `T` as fit, each from `make(index)`: the tail of a variable-sized object.
    pub fn emplace_slice<T: 'static>(self, mut make: impl FnMut(usize) -> T) -> Option<Table<T>> {
        if !self.base.is_multiple_of(align_of::<T>() as u64) || size_of::<T>() == 0 {
            return None;
        }
        let len = self.size as usize / size_of::<T>();
        for i in 0..len {
            // SAFETY: inside the exclusive piece (i < len), aligned (base checked, stride is the size).
            unsafe { (self.base as *mut T).add(i).write(make(i)) };
        }
        Some(Table { base: self.base as *const T, len })
    }
}

/// A table that follows its object in the same retype (capability slots, members, exposures): fixed
/// in size, as long-lived as the object that holds this handle. `repr(C)`: assembly reads both words.
#[repr(C)]
pub struct Table<T> {
    base: *const T,
    len: usize,
}

// SAFETY: the handle is immutable; elements are shared only as `&T`, so `T: Sync` is what sharing asks.
unsafe impl<T: Sync> Sync for Table<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Send for Table<T> {}

impl<T> Table<T> {
    /// Offset of the base pointer, for assembly.
    pub const BASE_OFFSET: usize = core::mem::offset_of!(Table<T>, base);
    /// Offset of the length (in elements), for assembly.
    pub const LEN_OFFSET: usize = core::mem::offset_of!(Table<T>, len);

    pub const fn empty() -> Table<T> {
        Table { base: NonNull::dangling().as_ptr(), len: 0 }
    }

    /// A table that never dies (made at boot, or by a host test).
    pub const fn from_static(elements: &'static [T]) -> Table<T> {
        Table { base: elements.as_ptr(), len: elements.len() }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements `first` to `first + count - 1`.
    #[inline(always)]
    pub fn row<'k>(&self, pin: Pin<'k>, first: usize, count: usize) -> Option<&'k [T]> {
        if count == 0 || first.checked_add(count)? > self.len {
            return None;
        }
        // SAFETY: the first one's index is below the length, since there are elements from there on.
        let start = unsafe { self.at(pin, first) }.get();
        // SAFETY: the elements are one array, and these are in it; what `at` promises of one holds of all.
        Some(unsafe { core::slice::from_raw_parts(start, count) })
    }

    #[inline(always)]
    pub fn get<'k>(&self, pin: Pin<'k>, index: usize) -> Option<Ref<'k, T>> {
        // SAFETY: the index is below the length.
        if index >= self.len { None } else { Some(unsafe { self.at(pin, index) }) }
    }

    /// # Safety
    /// `index` is less than the table's length.
    #[inline(always)]
    unsafe fn at<'k>(&self, _pin: Pin<'k>, index: usize) -> Ref<'k, T> {
        // SAFETY: in bounds (caller) of the table that `emplace_slice` made, which is not at address 0; it lives as
        // long as the object that holds the handle, which a `Ref` of this entry led to (rule 1).
        unsafe {
            core::hint::assert_unchecked(!self.base.is_null());
            Ref(&*self.base.add(index))
        }
    }

    pub fn iter<'k>(&self, pin: Pin<'k>) -> impl Iterator<Item = Ref<'k, T>> + use<'_, 'k, T>
    where
        T: 'k,
    {
        (0..self.len).filter_map(move |i| self.get(pin, i))
    }
}

pub mod masked;
#[cfg(all(test, not(loom)))]
mod tests;
