//! Bytes that the kernel passes on without reading them, and types for which all zeros are a value.

use crate::sync::AtomicU64;

/// Bytes that only the machine layer interprets (vector state): inert in safe code.
#[repr(C, align(64))]
pub struct RawBytes<const N: usize>(core::cell::UnsafeCell<[u8; N]>);

// SAFETY: safe code can only take the address; code that dereferences it says why it may.
unsafe impl<const N: usize> Sync for RawBytes<N> {}

impl<const N: usize> Default for RawBytes<N> {
    fn default() -> Self {
        RawBytes(core::cell::UnsafeCell::new([0; N]))
    }
}

impl<const N: usize> RawBytes<N> {
    /// Returns the memory as words. The machine layer writes it only on the CPU that reads it, at
    /// another time.
    pub const fn words(&self) -> &[AtomicU64] {
        // SAFETY: aligned for words, and as many bytes are ours as there are words; all that is
        // written while they are borrowed is written by atomics, as the machine layer has to say
        // where it dereferences the address.
        unsafe { core::slice::from_raw_parts(self.as_ptr().cast::<AtomicU64>(), N / 8) }
    }

    pub const fn as_ptr(&self) -> *mut u8 {
        self.0.get().cast()
    }
}

/// A value that unsafe code vouches for: for types of safe crates that code must not make of
/// numbers.
pub struct Vouched<T>(T);

impl<T: Copy> Vouched<T> {
    /// # Safety
    /// The value must satisfy the requirements of the function that takes it.
    pub const unsafe fn new(value: T) -> Vouched<T> {
        Vouched(value)
    }

    pub const fn get(self) -> T {
        self.0
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
