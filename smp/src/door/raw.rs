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

/// Implements [`Zeroed`] for structures. Each is named with all its fields, and does not compile
/// if it has another one, or one of a type that is not [`Zeroed`] itself.
#[macro_export]
macro_rules! zeroed {
    ($($type:ident { $($field:tt),* })*) => { $(
        // SAFETY: zeros are a value of each field, as the function below makes sure.
        unsafe impl $crate::door::Zeroed for $type {}

        const _: fn(&$type) = |value| {
            let $type { $($field: _),* } = value;
            $($crate::door::is_zeroed(&value.$field);)*
        };
    )* };
}

/// Compiles for types that are [`Zeroed`] only.
pub const fn is_zeroed<T: Zeroed>(_: &T) {}

// SAFETY: bytes.
unsafe impl<const N: usize> Zeroed for RawBytes<N> {}
// SAFETY: integers.
unsafe impl Zeroed for abi::BootPage {}

/// Structures of atomics. Those of loom are no bare words.
#[cfg(not(loom))]
mod atomics {
    use super::Zeroed;
    use crate::door::{AtomicLink, ObjWord};
    use crate::sync::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, UserWord};

    /// Implements it for types that are integers inside, all of them atomic.
    macro_rules! words {
        ($($type:ty $(, $parameter:ident)?;)*) => { $(
            // SAFETY: one integer, or several; of a link and of a capability's word, 0 is the
            // empty one.
            unsafe impl $(<$parameter: 'static>)? Zeroed for $type {}
        )* };
    }

    words! {
        AtomicU8;
        AtomicU16;
        AtomicU32;
        AtomicU64;
        AtomicLink<T>, T;
        ObjWord<S>, S;
        UserWord;
        abi::Utcb;
        abi::events::EventControl;
        abi::events::EventState;
        abi::status::StatusWord;
    }

    // SAFETY: zeros are a value of each element.
    unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}
}
