//! CPU numbers, the kernel entry and the pin guard.
//!
//! The kernel runs each entry to its end on one CPU with interrupts off. [`Pin`] is the proof of
//! that: it cannot be stored, sent, or outlive the entry (its lifetime `'k`). Every access to state
//! that belongs to one CPU takes a pin.
//!
//! An [`Entry`] is the whole of one kernel entry. Pins are borrowed from it, so a function that
//! takes `&mut Entry` has the compiler's proof that nothing loaded through an earlier pin is still
//! in use: a *quiescent point*. [`crate::quiesce`] builds on that.

use core::fmt;
use core::marker::PhantomData;

/// Most CPUs that one machine may have; static tables are never sized by it, only id encodings are.
pub const MAX_CPUS: usize = 1024;

/// A CPU, numbered from 0 in the order in which boot found them (not the APIC id).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct CpuId(u32);

impl CpuId {
    pub const BOOT: CpuId = CpuId(0);

    /// Returns the CPU's id; `None` if `n` is not below [`MAX_CPUS`].
    pub const fn new(n: usize) -> Option<CpuId> {
        if n < MAX_CPUS { Some(CpuId(n as u32)) } else { None }
    }

    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub const fn raw(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for CpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu{}", self.0)
    }
}

/// One kernel entry, from the trap to the return to user mode or idle.
///
/// Neither `Copy` nor `Send`: trap code makes one and hands it down by `&mut`.
pub struct Entry {
    cpu: CpuId,
    _here: PhantomData<*const ()>,
}

impl Entry {
    /// Makes the proof that a kernel entry has begun on `cpu`.
    ///
    /// # Safety
    /// The caller runs on `cpu` in kernel mode with interrupts off for as long as the entry lives,
    /// and no other `Entry`, nor a [`Pin`] made by [`Pin::new`], lives on this CPU meanwhile.
    pub const unsafe fn new(cpu: CpuId) -> Entry {
        Entry { cpu, _here: PhantomData }
    }

    /// Makes a pin for one step of the entry. What is loaded through it is given up before the
    /// entry's next quiescent point.
    #[inline(always)]
    pub const fn pin(&self) -> Pin<'_> {
        Pin { cpu: self.cpu, _entry: PhantomData }
    }

    pub const fn cpu(&self) -> CpuId {
        self.cpu
    }
}

/// Proof that the holder runs on one CPU, within one kernel entry that lasts `'k`.
///
/// Not `Send`, not `Sync`. While a `Pin<'k>` exists no reclaim can free what was reached through
/// it: see [`crate::quiesce`].
#[derive(Clone, Copy)]
pub struct Pin<'k> {
    cpu: CpuId,
    _entry: PhantomData<(&'k (), *const ())>,
}

impl<'k> Pin<'k> {
    /// Makes a proof that the code runs on `cpu`, within one kernel entry.
    ///
    /// # Safety
    /// The caller runs on `cpu` in kernel mode with interrupts off until the end of `'k`, no other
    /// live `Pin` of another entry exists on this CPU, and the CPU passes a quiescent point
    /// (return to user mode or idle) only after `'k`.
    pub const unsafe fn new(cpu: CpuId) -> Pin<'k> {
        Pin { cpu, _entry: PhantomData }
    }

    #[inline(always)]
    pub const fn cpu(self) -> CpuId {
        self.cpu
    }
}
