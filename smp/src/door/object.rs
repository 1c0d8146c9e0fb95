//! Capability slots' first words, and the types of objects that they can refer to.
//!
//! # Why a word never gives an object as another type
//! A word has a type number. Each [`ObjWord`] belongs to one set of types (`S`), and the set has at
//! most one type for a number: a type is added to a set by an implementation of [`Holds`]. Two
//! implementations for one number overlap, which the compiler refuses. [`KernelObject`] requires
//! the reverse: the type's number must lead back to the type. No implementation can break either
//! requirement, so both are safe traits. [`kernel_objects`](crate::kernel_objects) implements both
//! for a whole set.

use core::marker::PhantomData;
use core::mem::align_of;

use super::{OBJECT_ALIGN, Ref};
use crate::chaos::{self, Point};
use crate::cpu::Pin;
use crate::sync::{AtomicU64, Ordering, const_unless_loom};

/// The number of a type of kernel objects. Nothing but a name: there are no values.
pub enum Numbered<const N: u8> {}

mod sealed {
    pub trait TypeNumber {
        const NUMBER: u8;
    }
}

impl<const N: u8> sealed::TypeNumber for Numbered<N> {
    const NUMBER: u8 = {
        assert!(N != 0 && N as u64 <= TYPE_MASK, "a type's number is from 1 to 31");
        N
    };
}

/// What a set of types has under a number: one type at most, since one implementation at most.
pub trait Holds<N> {
    type Object;
}

/// A type of kernel objects: of one set, under one number there.
///
/// `Sync`: every CPU gets a reference to the object by a word.
pub trait KernelObject: Sized + Sync + 'static {
    type Set: Holds<Self::Number, Object = Self>;
    /// A [`Numbered`].
    type Number: sealed::TypeNumber;
    /// What a capability of such an object can allow.
    type Rights: Into<abi::Rights> + From<abi::Rights>;
}

/// Returns the number of a type, checked with its alignment: words have no room for the lowest bits
/// of an address.
pub const fn number_of<T: KernelObject>() -> u8 {
    const {
        assert!(align_of::<T>() >= OBJECT_ALIGN, "kernel objects start on a cache line");
        <T::Number as sealed::TypeNumber>::NUMBER
    }
}

/// Declares all types of kernel objects, as one set: which number each has, and what capabilities
/// of it allow.
///
/// What it checks, beside the numbers: each type starts with its header (a field of that name), on
/// a cache line.
///
/// ```
/// #[repr(C, align(64))]
/// pub struct Thing {
///     header: u64,
/// }
/// smp::kernel_objects! {
///     /// All types of this example.
///     pub enum Objects(header: u64) {
///         Thing = 1, abi::SharedRights;
///     }
/// }
/// ```
#[macro_export]
macro_rules! kernel_objects {
    (
        $(#[$meta:meta])*
        $vis:vis enum $set:ident($field:ident: $header:ty) { $($object:ty = $number:expr, $rights:ty;)* }
    ) => {
        $(#[$meta])*
        $vis enum $set {}

        $(
            impl $crate::door::Holds<$crate::door::Numbered<{ $number }>> for $set {
                type Object = $object;
            }

            impl $crate::door::KernelObject for $object {
                type Set = $set;
                type Number = $crate::door::Numbered<{ $number }>;
                type Rights = $rights;
            }

            const _: () = {
                assert!($number != 0 && $number as u64 <= $crate::door::TYPE_MASK, "a type's number is from 1 to 31");
                assert!(
                    ::core::mem::align_of::<$object>() >= $crate::door::OBJECT_ALIGN,
                    "kernel objects start on a cache line"
                );
                assert!(::core::mem::offset_of!($object, $field) == 0, "kernel objects start with their header");
                let _: fn(&$object) -> &$header = |object| &object.$field;
            };
        )*
    };
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
pub struct ObjWord<S>(AtomicU64, PhantomData<fn() -> S>);

/// Bits of rights in an [`ObjWord`].
pub const RIGHTS_BITS: u32 = 17;
/// Where the rights start.
pub const RIGHTS_SHIFT: u32 = 5;
/// Mask of the type.
pub const TYPE_MASK: u64 = 0x1f;
const RIGHTS_MASK: u64 = ((1 << RIGHTS_BITS) - 1) << RIGHTS_SHIFT;
/// How far the address is shifted up; an arithmetic shift back restores the canonical upper half.
pub const ADDR_SHIFT: u32 = 16;

/// Returns rights, shifted to their place in an object word.
#[inline(always)]
const fn rights_part(rights: u32) -> u64 {
    (rights as u64) << RIGHTS_SHIFT & RIGHTS_MASK
}

/// One reading of an [`ObjWord`]. All decisions of one kernel entry use one reading.
pub struct RawWord<'k, S> {
    word: u64,
    _entry: PhantomData<(Pin<'k>, fn() -> S)>,
}

impl<S> Clone for RawWord<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for RawWord<'_, S> {}

impl<S> PartialEq for RawWord<'_, S> {
    fn eq(&self, other: &Self) -> bool {
        self.word == other.word
    }
}
impl<S> Eq for RawWord<'_, S> {}

impl<S> core::fmt::Debug for RawWord<'_, S> {
    /// Prints the word, for reports of faults of the kernel.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "object of type {} at {:#x}, rights {:#x}", self.object_type(), self.addr(), self.rights())
    }
}

impl<'k, S> RawWord<'k, S> {
    pub(super) const fn new(word: u64) -> RawWord<'k, S> {
        RawWord { word, _entry: PhantomData }
    }

    pub fn object_type(self) -> u8 {
        (self.word & TYPE_MASK) as u8
    }

    pub fn rights(self) -> u32 {
        ((self.word & RIGHTS_MASK) >> RIGHTS_SHIFT) as u32
    }

    pub fn addr(self) -> u64 {
        ((self.word as i64 >> ADDR_SHIFT) as u64) & !(OBJECT_ALIGN as u64 - 1)
    }

    /// Returns the object, if the word is of its type.
    #[inline(always)]
    pub fn get<T: KernelObject<Set = S>>(self) -> Option<Ref<'k, T>> {
        if self.object_type() != number_of::<T>() {
            return None;
        }
        // SAFETY: a word with the number of `T` is only ever made by `ObjWord::set` from a
        // `Ref<T>`: the set `S` has no other type with that number (`Holds`). Rule 1 keeps the
        // object alive for the entry that loaded the word.
        Some(Ref(unsafe { &*(self.addr() as *const T) }))
    }

    /// Returns the object if the word has its type and these rights: one comparison checks both.
    #[inline(always)]
    pub fn get_with<T: KernelObject<Set = S>>(self, rights: u32) -> Option<Ref<'k, T>> {
        let wanted = rights_part(rights) | u64::from(number_of::<T>());
        if self.word & (wanted | TYPE_MASK) != wanted {
            return None;
        }
        // SAFETY: as in `get`: the word has the number of `T`, so it has an object.
        unsafe {
            core::hint::assert_unchecked(self.addr() != 0);
            Some(Ref(&*(self.addr() as *const T)))
        }
    }

    /// Returns the value that [`ObjWord::set_empty`] stored, for a word without an object.
    pub fn empty_value(self) -> u64 {
        self.word >> RIGHTS_SHIFT
    }

    pub fn bits(self) -> u64 {
        self.word
    }
}

impl<S> Default for ObjWord<S> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<S> ObjWord<S> {
    const_unless_loom! {
        pub fn empty() -> ObjWord<S> {
            ObjWord(AtomicU64::new(0), PhantomData)
        }
    }

    #[inline(always)]
    pub fn load<'k>(&self, _pin: Pin<'k>) -> RawWord<'k, S> {
        let word = self.0.load(Ordering::Acquire);
        chaos::point(Point::SlotRead);
        RawWord::new(word)
    }

    /// Reads the word as [`ObjWord::load`] does, but without a labelled point: for callers that
    /// only look while nothing changes.
    #[inline(always)]
    pub fn glance<'k>(&self, _pin: Pin<'k>) -> RawWord<'k, S> {
        RawWord::new(self.0.load(Ordering::Acquire))
    }

    /// Returns whether the word has no object, and its owner's note is below `limit`. For surveys,
    /// which look at many words.
    #[inline(always)]
    pub fn is_empty_below(&self, limit: u64) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word & TYPE_MASK == 0 && word >> RIGHTS_SHIFT < limit
    }

    pub fn set<T: KernelObject<Set = S>>(&self, to: Ref<'_, T>, rights: u32) {
        let word = to.addr() << ADDR_SHIFT | rights_part(rights) | u64::from(number_of::<T>());
        self.0.store(word, Ordering::Release);
    }

    /// Stores a copy of the word `from`, which was read in this entry, with these rights.
    pub fn set_raw(&self, from: RawWord<'_, S>, rights: u32) {
        self.0.store(from.word & !RIGHTS_MASK | rights_part(rights), Ordering::Release);
    }

    /// Claims an empty word for filling: replaces `from` (read in this entry) by the empty `value`.
    /// Returns `false` if another CPU was first.
    pub fn claim(&self, from: RawWord<'_, S>, value: u64) -> bool {
        from.object_type() == 0
            && self
                .0
                .compare_exchange(from.word, value << RIGHTS_SHIFT, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Changes the note of an empty word, without a fence.
    /// Requires: this CPU emptied the word.
    pub fn set_note(&self, value: u64) {
        self.0.store(value << RIGHTS_SHIFT, Ordering::Release);
    }

    /// Empties the word; `value` (59 bits) is the owner's note, read back by
    /// [`RawWord::empty_value`]. Sequentially consistent: the emptying is ordered before a later
    /// read of the grace epoch.
    pub fn set_empty(&self, value: u64) {
        self.0.store(value << RIGHTS_SHIFT, Ordering::SeqCst);
    }
}
