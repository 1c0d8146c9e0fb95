//! CPU numbers, the kernel entry and the pin guard.
//!
//! The kernel runs each entry to its end on one CPU with interrupts off. [`Pin`] is the proof of
//! that: it can't be stored, sent or outlive the entry (its lifetime `'k`), and every access to
//! state that belongs to one CPU asks for it.
//!
//! An [`Entry`] is the whole of one kernel entry. Pins are borrowed from it, so whoever asks for
//! `&mut Entry` asks the compiler for a proof that nothing loaded through an earlier pin is still in
//! use: a *quiescent point*. [`crate::quiesce`] builds on that.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;

use crate::mailbox::{Inbox, Mailbox};
use crate::sync::const_unless_loom;

/// Most CPUs that one machine may have; static tables are never sized by it, only id encodings are.
pub const MAX_CPUS: usize = 1024;

/// A CPU, numbered from 0 in the order in which boot found them (not the APIC id).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct CpuId(u32);

impl CpuId {
    pub const BOOT: CpuId = CpuId(0);

    /// `None` where `n` is not below [`MAX_CPUS`].
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
    /// # Safety
    /// The caller runs on `cpu` in kernel mode with interrupts off for as long as the entry lives,
    /// and no other `Entry`, nor a [`Pin`] made by [`Pin::new`], lives on this CPU meanwhile.
    pub const unsafe fn new(cpu: CpuId) -> Entry {
        Entry { cpu, _here: PhantomData }
    }

    /// A pin for one step of the entry: what is loaded through it is given up before the next
    /// quiescent point.
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
/// Not `Send`, not `Sync`. While a `Pin<'k>` exists no reclaim can free what was reached through it:
/// see [`crate::quiesce`].
#[derive(Clone, Copy)]
pub struct Pin<'k> {
    cpu: CpuId,
    _entry: PhantomData<(&'k (), *const ())>,
}

impl<'k> Pin<'k> {
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

/// What each CPU has one of: `own` for that CPU alone, its mailbox, and `shared` for all.
#[repr(C)]
pub struct PerCpu<O, S, P> {
    own: O,
    id: CpuId,
    mailbox: Mailbox<P>,
    shared: S,
}

// SAFETY: `own` is reached only through a `Pin` of the CPU `id`, which never changes; so one CPU at a time
// has access. It moves to that CPU after it was made, hence `Send`.
unsafe impl<O: Send, S: Sync, P: Send> Sync for PerCpu<O, S, P> {}

impl<O, S, P> PerCpu<O, S, P> {
    /// Offset of `own`, for assembly.
    pub const OWN_OFFSET: usize = core::mem::offset_of!(PerCpu<O, S, P>, own);
    /// Offset of the CPU's number, for assembly.
    pub const ID_OFFSET: usize = core::mem::offset_of!(PerCpu<O, S, P>, id);
    /// Offset of `shared`, for assembly.
    pub const SHARED_OFFSET: usize = core::mem::offset_of!(PerCpu<O, S, P>, shared);

    const_unless_loom! {
        pub fn new(id: CpuId, own: O, shared: S) -> PerCpu<O, S, P> {
            PerCpu { own, id, mailbox: Mailbox::new(id), shared }
        }
    }

    /// For those who send.
    #[inline(always)]
    pub fn mailbox(&self) -> &Mailbox<P> {
        &self.mailbox
    }

    pub const fn id(&self) -> CpuId {
        self.id
    }

    /// For the CPU whose it is.
    #[inline(always)]
    pub fn here<'k>(&'k self, pin: Pin<'k>) -> Option<Here<'k, O, S, P>> {
        (self.id == pin.cpu).then_some(Here { this: self, _here: PhantomData })
    }
}

impl<O, S, P> Deref for PerCpu<O, S, P> {
    type Target = S;
    #[inline(always)]
    fn deref(&self) -> &S {
        &self.shared
    }
}

/// A [`PerCpu`] of the CPU that runs this entry, and a [`Pin`] of that entry: both in one word.
pub struct Here<'k, O, S, P> {
    this: &'k PerCpu<O, S, P>,
    _here: PhantomData<*const ()>,
}

impl<O, S, P> Clone for Here<'_, O, S, P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<O, S, P> Copy for Here<'_, O, S, P> {}

impl<'k, O, S, P> Here<'k, O, S, P> {
    #[inline(always)]
    pub fn pin(self) -> Pin<'k> {
        Pin { cpu: self.this.id, _entry: PhantomData }
    }

    /// This CPU's end of its mailbox.
    #[inline(always)]
    pub fn inbox(self) -> Inbox<'k, P> {
        Inbox::new(&self.this.mailbox)
    }

    #[inline(always)]
    pub fn own(self) -> &'k O {
        &self.this.own
    }

    #[inline(always)]
    pub fn shared(self) -> &'k S {
        &self.this.shared
    }
}

impl<O, S, P> Deref for Here<'_, O, S, P> {
    type Target = S;
    #[inline(always)]
    fn deref(&self) -> &S {
        &self.this.shared
    }
}

/// An [`Entry`] on the CPU of a [`PerCpu`], which it knows without looking.
pub struct LocalEntry<O: 'static, S: 'static, P: 'static> {
    entry: Entry,
    block: &'static PerCpu<O, S, P>,
}

impl<O, S, P> LocalEntry<O, S, P> {
    /// # Safety
    /// As [`Entry::new`], for the CPU whose `block` is.
    #[inline(always)]
    pub const unsafe fn new(block: &'static PerCpu<O, S, P>) -> LocalEntry<O, S, P> {
        // SAFETY: the caller's promise.
        LocalEntry { entry: unsafe { Entry::new(block.id) }, block }
    }

    /// For one step of the entry, like [`Entry::pin`].
    #[inline(always)]
    pub fn here(&self) -> Here<'_, O, S, P> {
        Here { this: self.block, _here: PhantomData }
    }

    #[inline(always)]
    pub fn block(&self) -> &'static PerCpu<O, S, P> {
        self.block
    }

    /// Everything loaded so far is given up: for a quiescent point.
    #[inline(always)]
    pub fn quiescent(&mut self) -> &mut Entry {
        &mut self.entry
    }
}
