//! Arrays that follow objects in memory.

use core::ptr::NonNull;

use super::Ref;
use crate::cpu::Pin;

/// A table that follows its object in the same retype (capability slots, members, exposures): fixed
/// in size, as long-lived as the object that holds this handle. `repr(C)`: assembly reads both
/// words.
#[repr(C)]
pub struct Table<T> {
    pub(super) base: *const T,
    pub(super) len: usize,
}

// SAFETY: the handle is immutable; elements are shared only as `&T`, so `T: Sync` is what sharing
// asks.
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

    /// Makes a table that never dies (made at boot, or by a host test).
    pub const fn from_static(elements: &'static [T]) -> Table<T> {
        Table { base: elements.as_ptr(), len: elements.len() }
    }

    /// Returns the address of the first element: for reports.
    pub(crate) fn addr(&self) -> u64 {
        self.base as u64
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the elements `first` to `first + count - 1`, if the table has them all.
    #[inline(always)]
    pub fn row<'k>(&self, pin: Pin<'k>, first: usize, count: usize) -> Option<&'k [T]> {
        if count == 0 || first.checked_add(count)? > self.len {
            return None;
        }
        // SAFETY: the first one's index is below the length, since there are elements from there
        // on.
        let start = unsafe { self.at(pin, first) }.get();
        // SAFETY: the elements are one array, and these are in it; what `at` promises of one holds
        // of all.
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
    pub(super) unsafe fn at<'k>(&self, _pin: Pin<'k>, index: usize) -> Ref<'k, T> {
        // SAFETY: in bounds (caller) of the table that `emplace_slice` made, which is not at
        // address 0; it lives as long as the object that holds the handle, which a `Ref` of this
        // entry led to (rule 1).
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
