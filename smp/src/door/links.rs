//! References to objects: within one kernel entry, and stored between entries.

use core::cell::Cell;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;

use crate::chaos::{self, Point};
use crate::cpu::Pin;
use crate::sync::{AtomicU64, Ordering, const_unless_loom};

/// A kernel object as seen within one kernel entry.
#[repr(transparent)]
pub struct Ref<'k, T>(pub(super) &'k T);

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
    /// Compares identity, not contents.
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.0, other.0)
    }
}
impl<T> Eq for Ref<'_, T> {}

impl<'k, T> Ref<'k, T> {
    /// Makes a reference to an object that never dies (made at boot, or by a host test).
    pub const fn from_static(object: &'static T) -> Ref<'k, T> {
        Ref(object)
    }

    /// Returns the object's address: an identity for dumps and tags, never an access path.
    pub fn addr(self) -> u64 {
        core::ptr::from_ref(self.0) as u64
    }

    /// Returns the plain reference, for the duration of the entry.
    pub const fn get(self) -> &'k T {
        self.0
    }

    pub fn ptr(self) -> Ptr<T> {
        Ptr(NonNull::from(self.0))
    }

    /// Returns a reference to a part of the object. `field` captures nothing, so its result can
    /// only be in the object.
    #[inline(always)]
    pub fn map<U>(self, field: for<'a> fn(&'a T) -> &'a U) -> Ref<'k, U> {
        Ref(field(self.0))
    }
}

/// A stored reference, kept between kernel entries. Rule 1 above keeps it valid.
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

// SAFETY: a holder of a `Ptr` can only get a shared reference, on any CPU (`get`): so
// `T: Sync`, as for `&T`.
unsafe impl<T: Sync> Send for Ptr<T> {}
// SAFETY: as above: a shared `Ptr` can be copied.
unsafe impl<T: Sync> Sync for Ptr<T> {}

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

    /// Returns whether the link refers to `to`.
    pub fn is(&self, to: Ref<'_, T>) -> bool {
        self.0.get() == Some(to.ptr())
    }

    /// Returns the object's address, or 0 for a null link: for dumps.
    pub fn addr(&self) -> u64 {
        self.0.get().map_or(0, Ptr::addr)
    }
}

/// An optional reference that any CPU may read and that is written under a lock or once.
///
/// `Acquire`/`Release`: a CPU that sees the reference sees what was written before it was stored.
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

    /// Sets the link to `to` if it is null. Returns whether it was.
    pub fn claim(&self, to: Ref<'_, T>) -> bool {
        let claimed = self.0.compare_exchange(0, to.addr(), Ordering::AcqRel, Ordering::Relaxed).is_ok();
        chaos::point(Point::LinkClaimed);
        claimed
    }

    /// Sets the link to null if it refers to the object at address `at`. Returns whether it did.
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

    /// Returns whether the link refers to `to`, by a plain load.
    ///
    /// # Safety
    /// Only the calling CPU ever writes the link.
    #[cfg(not(loom))]
    #[inline(always)]
    pub unsafe fn is_own(&self, to: Ref<'_, T>) -> bool {
        // SAFETY: no write is concurrent with it (caller); others' atomic loads do no harm.
        unsafe { *self.0.as_ptr() == to.addr() }
    }
}
