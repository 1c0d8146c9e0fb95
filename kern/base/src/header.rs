//! The header that every kernel object starts with.

use smp::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use core::fmt;

use abi::ObjType;

use crate::methods::methods;

/// Which boot Untyped an object descends from: the index of its derivation lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct RootId(pub u16);

impl RootId {
    /// Returns the root's index in tables that have one element per root.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Bits of an object's number among its root's objects, in its identity.
pub const SERIAL_BITS: u32 = 56;

/// Being destroyed: no new reference may be made to the object.
pub const FLAG_DYING: u16 = 1 << 0;
/// Destroyed: an inert shell until its Untyped is reset.
pub const FLAG_DEAD: u16 = 1 << 1;

/// Type, root of its memory, flags, reference count, security label; then its identity.
#[repr(C)]
pub struct Header {
    object_type: u8,
    root: u8,
    flags: AtomicU16,
    /// Capability slots that refer to the object, exposures included.
    refs: AtomicU32,
    /// Security label; 0 = none.
    label: AtomicU32,
    /// How far the destruction of the object's table has come: nothing is left below.
    swept: AtomicU32,
    /// See [`Header::identity`].
    identity: AtomicU64,
}

methods! { Header:
    fn object_type(self) -> Option<ObjType> = ObjType::from_raw(self.object_type);
    fn root(self) -> RootId = RootId(u16::from(self.root));
    fn label(self) -> u32 = self.label.load(Ordering::Relaxed);
    fn set_label(self, label: u32) = self.label.store(label, Ordering::Release);
    fn refs(self) -> u32 = self.refs.load(Ordering::Relaxed);
    /// Counts one more slot that refers to the object.
    /// Requires: the root lock is held.
    fn add_ref(self) = { self.refs.fetch_add(1, Ordering::Relaxed); };
    /// Counts one less slot that refers to the object.
    /// Requires: the root lock is held.
    fn drop_ref(self) = { self.refs.fetch_sub(1, Ordering::Relaxed); };
    fn has_flag(self, flag: u16) -> bool = self.flags.load(Ordering::Acquire) & flag != 0;
    /// Sets a flag of the object. Returns whether the flag was clear before.
    fn set_flag(self, flag: u16) -> bool = self.flags.fetch_or(flag, Ordering::AcqRel) & flag == 0;
    /// Clears a flag of the object.
    fn clear_flag(self, flag: u16) = { self.flags.fetch_and(!flag, Ordering::AcqRel); };
    fn swept(self) -> usize = self.swept.load(Ordering::Relaxed) as usize;
    /// Notes that entry `at` of the object's table, and all entries before it, are empty for good.
    fn sweep(self, at: usize) = self.sweep_below(at + 1);
    /// Notes that all entries of the object's table before `end` are empty for good.
    fn sweep_below(self, end: usize) = { self.swept.fetch_max(end as u32, Ordering::Relaxed); };
    /// Notes that the object continues to live: any entry of its table may be full again.
    fn unsweep(self) = self.swept.store(0, Ordering::Relaxed);
}

impl Header {
    /// The offset of the flags, for assembly.
    pub const FLAGS_OFFSET: usize = core::mem::offset_of!(Header, flags);

    pub const fn new(object_type: ObjType, root: RootId) -> Header {
        Header {
            object_type: object_type as u8,
            root: root.0 as u8,
            flags: AtomicU16::new(0),
            refs: AtomicU32::new(0),
            label: AtomicU32::new(0),
            swept: AtomicU32::new(0),
            identity: AtomicU64::new(0),
        }
    }

    /// Returns a number that distinguishes the object from every earlier and later one: its root,
    /// and its number among the root's objects (56 bits, from 1). It does not reveal the object's
    /// address.
    pub fn identity(&self) -> u64 {
        self.identity.load(Ordering::Relaxed)
    }

    /// Gives the object its number among the objects of its root, before its first capability
    /// exists.
    pub fn number(&self, serial: u64) {
        self.identity.store(u64::from(self.root) << SERIAL_BITS | serial, Ordering::Relaxed);
    }
}

impl fmt::Debug for Header {
    /// Prints the object and its state, for reports about errors of the kernel.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object_type = self.object_type;
        let flags = self.flags.load(Ordering::Relaxed);
        let (refs, root) = (self.refs(), self.root);
        write!(
            f,
            "object of type {object_type}, flags {flags:#x}, {refs} slots, root {root}, swept {}",
            self.swept()
        )
    }
}

const _: () = assert!(core::mem::size_of::<Header>() == 24);
