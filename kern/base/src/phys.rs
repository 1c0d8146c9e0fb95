//! Physical memory: its addresses, and the pages that may be mapped, cleared and copied.
//!
//! A [`Phys`] is a number, for comparisons, look-ups and addresses. To map, clear or copy memory,
//! code needs its [`PhysPage`], which cannot be made from a number. A `PhysPage` comes from a
//! frame, from a piece of carved memory, from an address space's own tables, from device memory
//! that the machine knows, or from an entry that already maps the page.
//!
//! Other modules of this crate make one only through the public functions here. The exceptions are
//! the types that contain one: [`Frame`](crate::memory::Frame) and
//! [`VSpace`](crate::memory::VSpace) by [`PhysRange`], and entries of page tables
//! ([`Pte`](crate::paging::Pte)).

use core::ops::Range;

use smp::door::{Piece, Vouched};

use crate::machine::Machine;

/// A physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct Phys(pub u64);

/// A page of physical memory that may be mapped, cleared and copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhysPage {
    at: Phys,
    log2: u8,
}

impl PhysPage {
    /// Makes a page of 4 KiB at an address for which unsafe code vouches.
    pub const fn vouched(at: Vouched<u64>) -> PhysPage {
        PhysPage { at: Phys(at.get()), log2: abi::PAGE_LOG2 }
    }

    /// Makes a page of 2^`log2` bytes. The caller, a type of this crate, knows that its memory
    /// exists: by an entry that maps it, or as a task's UTCB.
    pub(crate) const fn trusted(at: Phys, log2: u8) -> PhysPage {
        PhysPage { at, log2 }
    }

    pub const fn at(self) -> Phys {
        self.at
    }

    /// Returns the page's size in bytes, as a base-2 logarithm.
    pub const fn log2(self) -> u8 {
        self.log2
    }

    /// Returns how many parts of 4 KiB the page has.
    pub const fn parts(self) -> u64 {
        1 << (self.log2 - abi::PAGE_LOG2)
    }

    /// Returns some of the page's parts of 4 KiB, as far as there are so many.
    pub fn parts_in(self, numbers: Range<u64>) -> impl Iterator<Item = PhysPage> {
        let numbers = numbers.start..numbers.end.min(self.parts());
        numbers.map(move |number| {
            PhysPage::trusted(Phys(self.at.0 + (number << abi::PAGE_LOG2)), abi::PAGE_LOG2)
        })
    }
}

/// Physical memory in one piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhysRange {
    base: Phys,
    bytes: u64,
}

impl PhysRange {
    /// Returns the memory of a piece. The piece is used up, so nothing else can be made of it.
    #[expect(clippy::needless_pass_by_value, reason = "the piece is used up")]
    pub fn of_piece(machine: &impl Machine, piece: Piece) -> PhysRange {
        PhysRange { base: machine.phys(piece.base()), bytes: piece.size() }
    }

    /// Makes a range of memory. The caller, a type of this crate, knows that the memory exists.
    pub(crate) const fn trusted(base: Phys, bytes: u64) -> PhysRange {
        PhysRange { base, bytes }
    }

    /// Makes a range of device memory; `None` if a part of it is RAM or is used by the kernel.
    pub fn of_device(machine: &impl Machine, base: Phys, bytes: u64) -> Option<PhysRange> {
        machine.is_device(base, bytes).then_some(PhysRange { base, bytes })
    }

    pub const fn base(self) -> Phys {
        self.base
    }

    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Returns the range's page `number`, of `1 << log2` bytes, if the range has that many pages.
    #[inline(always)]
    pub const fn page(self, number: u64, log2: u8) -> Option<PhysPage> {
        if number >= self.bytes >> log2 {
            return None;
        }
        Some(PhysPage { at: Phys(self.base.0 + (number << log2)), log2 })
    }
}
