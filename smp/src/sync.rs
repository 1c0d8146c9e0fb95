//! Atomics, a race-checked cell and the named fences: the only module that differs under loom.
//!
//! Under `--cfg loom` the same protocol code runs on loom's types, which explore every interleaving
//! and every reordering that the language's memory model allows; on the machine it compiles to the
//! instructions that x86 needs. Each fence that costs nothing on x86 has a named function, whose
//! comment says why.
//!
//! In host tests each word has [points](crate::chaos) around its reads and writes, so that a test
//! can stop a CPU there and let another one act. All data that CPUs share has one of these types:
//! clippy refuses the others above this crate.

#[cfg(not(loom))]
use core::cell::UnsafeCell;
#[cfg(not(loom))]
pub use core::sync::atomic::{Ordering, fence};
#[cfg(loom)]
use loom::cell::UnsafeCell;
#[cfg(loom)]
pub use loom::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence,
};
#[cfg(not(loom))]
pub use word::{AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64};

#[cfg(not(loom))]
mod word;

/// A word that user level shares with the kernel, and may change at any time: it has no points.
pub use core::sync::atomic::AtomicU64 as UserWord;

/// Makes a `const fn` on the machine, and a plain `fn` under loom, whose types register themselves
/// when made.
macro_rules! const_unless_loom {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty $body:block) => {
        #[cfg(not(loom))]
        $(#[$meta])*
        $vis const fn $name($($arg: $ty),*) -> $ret $body
        #[cfg(loom)]
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) -> $ret $body
    };
}
pub(crate) use const_unless_loom;

/// Fences fully where the target is not x86; on x86, no instruction is needed, and only the
/// compiler is held back.
#[inline(always)]
fn fence_unless_x86() {
    if cfg!(all(target_arch = "x86_64", not(loom))) {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// Fences fully between an atomic exchange and the loads that follow it.
///
/// x86: the exchange is a locked instruction and is that fence already, so only the compiler is
/// held back. Loom treats a sequentially consistent exchange as acquire-release, so there it is
/// needed.
#[inline(always)]
pub fn fence_after_exchange() {
    fence_unless_x86();
}

/// Fences fully between the receipt of a message and later loads of what a *third* CPU wrote.
///
/// X wrote and fenced, Y saw a sign of it and sent a message, we took the message: the language's
/// model wants a fence here before we are sure to see X's store. On x86 stores become visible to
/// all other CPUs at the same time and loads are done in order, so no instruction is needed. (Loom
/// cannot show a missing fence here: its full fences order more than the language says.)
#[inline(always)]
pub fn fence_after_message() {
    fence_unless_x86();
}

/// Stands for the full fence of an `IRET`, which serialises: every store before it is visible
/// before any later access, in user mode or in the next kernel entry. (`SYSRET` is no fence.)
#[inline(always)]
pub fn fence_of_iret() {
    fence_unless_x86();
}

/// A cell whose exclusive access a protocol ensures. Loom checks that it is exclusive.
pub(crate) struct ProtocolCell<T>(UnsafeCell<T>);

impl<T> ProtocolCell<T> {
    const_unless_loom! {
        pub fn new(value: T) -> Self {
            Self(UnsafeCell::new(value))
        }
    }

    /// Reads the value out.
    ///
    /// # Safety
    /// No other code reads or writes the cell at the same time. A value that is not `Copy` is read
    /// out once, or the copies are not used as such.
    #[inline(always)]
    pub unsafe fn get(&self) -> T {
        #[cfg(not(loom))]
        // SAFETY: the pointer is the cell's own; exclusive by this function's contract.
        return unsafe { self.0.get().read() };
        #[cfg(loom)]
        // SAFETY: as above; loom checks the claim.
        self.0.with(|at| unsafe { at.read() })
    }

    /// # Safety
    /// No other code reads or writes the cell at the same time.
    #[inline(always)]
    pub unsafe fn set(&self, value: T) {
        #[cfg(not(loom))]
        // SAFETY: the pointer is the cell's own; exclusive by this function's contract.
        unsafe {
            *self.0.get() = value;
        };
        #[cfg(loom)]
        // SAFETY: as above; loom checks the claim.
        self.0.with_mut(|at| unsafe { *at = value });
    }
}
