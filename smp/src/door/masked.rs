//! Lookups by an index that user level chose.
//!
//! A CPU that mispredicts `index < len` continues for some hundred instructions with any index
//! (Spectre v1). The caches then reveal the loaded values, and what the CPU loaded through them. So
//! after the comparison a conditional move, which no CPU predicts, replaces an index past the
//! table's end by 0. Look-ups by an index from a user register or from user memory use these
//! functions; [`Table::get`] is for indices that the kernel chose.
//!
//! The fastpaths do the same in assembly (`ipc-fast/src/common.s`).

use super::{Ref, Table};
use crate::cpu::Pin;

/// Returns `index` if it is less than `len`, else 0, without a branch that a CPU could predict.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
pub fn mask_index(index: usize, len: usize) -> usize {
    /// In memory, it takes no register and no instruction.
    static FIRST: usize = 0;
    let masked: usize;
    // SAFETY: computes a register from two others and a static.
    unsafe {
        core::arch::asm!(
            "cmp {index}, {len}",
            "cmovae {index}, qword ptr [rip + {first}]",
            index = inout(reg) index => masked,
            len = in(reg) len,
            first = sym FIRST,
            options(pure, readonly, nostack)
        );
    }
    masked
}

/// Returns `index` where it is less than `len`, else 0.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
pub fn mask_index(index: usize, len: usize) -> usize {
    if index < len { index } else { 0 }
}

impl<T> Table<T> {
    /// Returns an index that user level chose, if the table has an element with that index.
    #[inline(always)]
    pub fn masked(&self, index: usize) -> Option<usize> {
        if index >= self.len { None } else { Some(mask_index(index, self.len)) }
    }

    /// Finds the element at an index that user level chose.
    #[inline(always)]
    pub fn get_masked<'k>(&self, pin: Pin<'k>, index: usize) -> Option<Ref<'k, T>> {
        // SAFETY: `masked` answers with an index that is below the length.
        self.masked(index).map(|index| unsafe { self.at(pin, index) })
    }
}

/// A table whose elements user level names by their index.
#[repr(transparent)]
pub struct NamedTable<T>(Table<T>);

impl<T> NamedTable<T> {
    /// Offset of the base pointer, for assembly.
    pub const BASE_OFFSET: usize = Table::<T>::BASE_OFFSET;
    /// Offset of the length (in elements), for assembly.
    pub const LEN_OFFSET: usize = Table::<T>::LEN_OFFSET;

    pub const fn new(table: Table<T>) -> NamedTable<T> {
        NamedTable(table)
    }

    /// Finds the element at an index that user level chose.
    #[inline(always)]
    pub fn get<'k>(&self, pin: Pin<'k>, index: usize) -> Option<Ref<'k, T>> {
        self.0.get_masked(pin, index)
    }

    /// Returns an index that user level chose, if the table has an element with that index.
    #[inline(always)]
    pub fn masked(&self, index: usize) -> Option<usize> {
        self.0.masked(index)
    }

    /// Finds at most `most` elements, from the index `first` on, which user level chose.
    #[inline(always)]
    pub fn get_from<'k>(&self, pin: Pin<'k>, first: usize, most: usize) -> &'k [T] {
        let Some(first) = self.masked(first) else { return &[] };
        // SAFETY: `masked` answers with an index that is below the length.
        let start = unsafe { self.0.at(pin, first) }.get();
        // SAFETY: the elements are one array, and no more of them than there are from the first on;
        // what `at` promises of one holds of all.
        unsafe { core::slice::from_raw_parts(start, most.min(self.0.len - first)) }
    }

    /// Returns the table, for indices that the kernel chose.
    #[inline(always)]
    pub const fn known(&self) -> &Table<T> {
        &self.0
    }
}

/// A table whose elements user level names by their index, and whose first element never holds
/// anything: an index that does not exist leads there, and the caller needs no comparison of its
/// own.
#[repr(transparent)]
pub struct FilledTable<T>(Table<T>);

impl<T> FilledTable<T> {
    /// Makes a filled table of a table; `None` if that is empty.
    pub fn new(table: Table<T>) -> Option<FilledTable<T>> {
        (!table.is_empty()).then_some(FilledTable(table))
    }

    /// Finds the element at an index that user level chose; the first one where the table has no
    /// such element.
    #[inline(always)]
    pub fn get_or_first<'k>(&self, pin: Pin<'k>, index: usize) -> Ref<'k, T> {
        // SAFETY: `mask_index` answers with an index below the length, or with 0, and there is an
        // element 0.
        unsafe { self.0.at(pin, mask_index(index, self.0.len)) }
    }

    /// Finds the element at an index that user level chose, other than the first one.
    #[inline(always)]
    pub fn get_but_first<'k>(&self, pin: Pin<'k>, index: usize) -> Option<Ref<'k, T>> {
        match mask_index(index, self.0.len) {
            0 => None,
            // SAFETY: as above.
            index => Some(unsafe { self.0.at(pin, index) }),
        }
    }

    /// Returns the table, for indices that the kernel chose.
    #[inline(always)]
    pub const fn known(&self) -> &Table<T> {
        &self.0
    }
}
