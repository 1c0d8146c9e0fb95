//! The protocols between pagers, paging stores, out-of-memory policies and their clients. The
//! programs are `user/pager`, `user/store` and `user/oom`; the book's chapter on the pager explains
//! them.
//!
//! ```text
//!   client ──fault, request──▶ pager ──put, get, free──▶ store
//!                                │
//!   manager ──register, …──▶     └──────ask────────────▶ policy
//! ```
//!
//! All of them are calls, answered immediately. The *custom bits* of the caller's member record
//! identify the caller. The process that added it chose them, and no client can forge them: 0 is
//! the manager, others are clients. So membership is the right to use an account: to hold memory up
//! to the account's limits.

mod client;
mod manager;
mod oom;
mod start;
mod store;

pub use client::{Account, Pager, Region};
pub use manager::{Counts, Fate, Limits, Manager};
pub use oom::{Advice, HOLDERS_MAX, Holder, Policy, Question, Shortage, advise, question};
pub use start::{
    Service, ServiceSpec, connect_policy, connect_store, entrust, entrust_part, pager, policy, store,
};
pub use store::{Faulty, Store, StoreCounts, StoreError};

use abi::Cap;
use protocols::{Failure, pager};

use crate::Refusal;
use crate::cap::Access;
use crate::layout::FREE_SLOTS;

/// Exposure of the pager, the store, the policy in the group of each.
pub const SERVER: u32 = 0;
/// Custom bits of the manager, which registers clients with a pager and sets up a store.
pub const MANAGER: u16 = 0;
/// Clients of a pager: 1 to this.
pub const CLIENTS_MAX: u16 = 64;
/// Pages that go to a store at a time: those of a window.
pub const WINDOW_PAGES: usize = 8;
/// What a window is made of: the size of its frame.
pub const WINDOW_SIZE: u64 = abi::PAGE_LOG2 as u64 | (WINDOW_PAGES as u64) << 8;
/// Pagers of a store: 1 to this.
pub const PAGERS_MAX: u16 = 4;

/// Slots of a pager's CSpace that its maker fills.
pub mod pager_slot {
    use super::*;
    use crate::layout::slot;

    /// The store's group, and the policy's.
    pub const STORE: Cap = slot::GROUPS;
    pub const POLICY: Cap = Cap(slot::GROUPS.0 + 1);
    /// The page that it shares with the store.
    pub const WINDOW: Cap = Cap(slot::GROUPS.0 + 2);

    /// Returns the slot of a pager's CSpace for the address space of a client.
    pub const fn vspace(client: u16) -> Cap {
        Cap(FREE_SLOTS + client as u32)
    }

    /// The first that is the pager's own.
    pub const FREE: u32 = FREE_SLOTS + CLIENTS_MAX as u32 + 1;
}

/// What a pager is told when it is started: its main function's argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PagerSetup {
    /// Frames that it makes of its Untyped and serves its clients from.
    pub frames: u32,
    /// Pages of its heap, of which [`HEAP_PER_PAGE`] bytes are needed for each page that clients'
    /// limits promise.
    pub heap_pages: u16,
    /// Its heap comes from a pager of its own.
    pub paged: bool,
}

/// The most heap that a pager needs for a page of a client's regions: a region and an object of its
/// own, bytes of a file of its own with their object, two pages, a mapping, a client that shares
/// it, and fragmentation.
pub const HEAP_PER_PAGE: u64 = 1536;
/// Heap that it needs for each of its frames: where it is in the list of free ones.
pub const HEAP_PER_FRAME: u64 = 4;
/// Heap that it needs for all accounts, with nothing in them, and for what it copies.
pub const HEAP_FIXED: u64 = 32 << 10;
/// A pager makes so many frames at a time.
pub const FRAMES_TOGETHER: u32 = 64;

impl PagerSetup {
    pub const fn argument(self) -> u64 {
        self.frames as u64 | (self.heap_pages as u64) << 32 | (self.paged as u64) << 48
    }

    pub const fn of_argument(argument: u64) -> PagerSetup {
        let heap_pages = (argument >> 32) as u16;
        PagerSetup { frames: argument as u32, heap_pages, paged: argument >> 48 & 1 != 0 }
    }

    /// Returns a setup with a heap for so many pages of regions; `None` if that is too large.
    pub fn for_pages(frames: u32, pages: u32) -> Option<PagerSetup> {
        let records = u64::from(pages) * HEAP_PER_PAGE;
        let list = u64::from(frames).next_multiple_of(FRAMES_TOGETHER.into()) * HEAP_PER_FRAME;
        let heap_pages = (HEAP_FIXED + list + records).div_ceil(abi::PAGE_SIZE);
        Some(PagerSetup { frames, heap_pages: u16::try_from(heap_pages).ok()?, paged: false })
    }

    /// Returns for how many pages of regions the pager's heap has enough memory.
    pub const fn capacity(self) -> u32 {
        let frames = (self.frames as u64).next_multiple_of(FRAMES_TOGETHER as u64);
        let before = HEAP_FIXED + frames * HEAP_PER_FRAME;
        ((self.heap_pages as u64 * abi::PAGE_SIZE).saturating_sub(before) / HEAP_PER_PAGE) as u32
    }
}

/// What a store is told: its main function's argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreSetup {
    /// Pages that it keeps.
    pub slots: u32,
    /// Pagers that use it, and have a window each.
    pub pagers: u16,
}

impl StoreSetup {
    pub const fn argument(self) -> u64 {
        self.slots as u64 | (self.pagers as u64) << 32
    }

    pub const fn of_argument(argument: u64) -> StoreSetup {
        StoreSetup { slots: argument as u32, pagers: (argument >> 32) as u16 }
    }
}

/// Returns the slot of a store's CSpace for the page that the store shares with a pager. The
/// store's maker fills it.
pub const fn store_window(pager: u16) -> Cap {
    Cap(FREE_SLOTS + pager as u32)
}

/// The first slot that is the store's own.
pub const STORE_FREE_SLOT: u32 = FREE_SLOTS + PAGERS_MAX as u32 + 1;

/// Where a pager puts regions that do not say where they want to be.
pub const REGIONS_VA: u64 = 0x1_0000_0000;
pub const REGIONS_END: u64 = 0x10_0000_0000;

macro_rules! numbered {
    ($($(#[doc = $outer:expr])* $name:ident { $($(#[doc = $doc:expr])* $value:ident = $number:literal;)* })*) => {$(
        $(#[doc = $outer])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum $name { $($(#[doc = $doc])* $value = $number,)* }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$value,)*];

            /// Returns the value with a number, or `None` if there is none.
            pub fn from_raw(raw: u32) -> Option<$name> {
                Self::ALL.iter().copied().find(|one| *one as u32 == raw)
            }
        }
    )*};
}
pub(crate) use numbered;

numbered! {
    /// Why a pager does not do what was asked; its number is what a client's error handler is told.
    Denial {
        /// There is no such request, or an argument is out of range.
        BadRequest = 1;
        /// The caller is not registered, or may not ask this.
        NotYou = 2;
        /// No region is there.
        NoRegion = 3;
        /// The region does not allow this access.
        Access = 4;
        /// The paging store lost the page, or gave back something else.
        Lost = 5;
        /// The account's limit.
        Limit = 6;
        /// There is no memory, and the policy said no.
        Memory = 7;
        /// The client was ended to make room.
        Ended = 8;
        /// No such file.
        NoFile = 9;
        /// No such key, or it is not shared with the caller.
        NotShared = 10;
        /// Something is mapped there that the pager did not map, or another region is there.
        Occupied = 11;
        /// The address space has no page table left.
        NoTables = 12;
        /// The address space is no more.
        Gone = 13;
        /// The client is registered already, or there is no room for more.
        Full = 14;
        /// The fault is none of memory.
        NotMemory = 15;
        /// The pager could not be reached, or did not answer.
        NoPager = 16;
        /// The account was a part of one that closed it, or is no more.
        Closed = 17;
    }
}

macro_rules! refusals {
    ($($name:ident)*) => {
        impl From<Denial> for pager::Refusal {
            fn from(denial: Denial) -> pager::Refusal {
                match denial { $(Denial::$name => pager::Refusal::$name,)* }
            }
        }

        impl From<pager::Refusal> for Denial {
            fn from(refusal: pager::Refusal) -> Denial {
                match refusal { $(pager::Refusal::$name => Denial::$name,)* }
            }
        }
    };
}

refusals! {
    BadRequest NotYou NoRegion Access Lost Limit Memory Ended NoFile NotShared Occupied NoTables Gone Full NotMemory NoPager
    Closed
}

impl From<Failure<pager::Refusal, Refusal>> for Denial {
    fn from(failure: Failure<pager::Refusal, Refusal>) -> Denial {
        match failure {
            Failure::Refused(refusal) => refusal.into(),
            Failure::Malformed | Failure::Transport(_) => Denial::NoPager,
        }
    }
}

impl From<Access> for pager::Access {
    fn from(access: Access) -> pager::Access {
        match access {
            Access::Read => pager::Access::Read,
            Access::Write => pager::Access::Write,
            Access::Execute => pager::Access::Execute,
        }
    }
}

impl From<pager::Access> for Access {
    fn from(access: pager::Access) -> Access {
        match access {
            pager::Access::Read => Access::Read,
            pager::Access::Write => Access::Write,
            pager::Access::Execute => Access::Execute,
        }
    }
}

impl core::fmt::Display for Denial {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl core::error::Error for Denial {}

/// Longest name of a file.
pub const NAME_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setups_survive_their_arguments() {
        for setup in [
            PagerSetup { frames: 4096, heap_pages: 512, paged: true },
            PagerSetup { frames: u32::MAX, heap_pages: u16::MAX, paged: false },
        ] {
            assert_eq!(PagerSetup::of_argument(setup.argument()), setup);
        }
        for (frames, pages) in [(1, 1), (64, 256), (4096, 100_000)] {
            let setup = PagerSetup::for_pages(frames, pages).expect("a heap that is not too large");
            assert!((pages..pages + 3).contains(&setup.capacity()), "{setup:?} for {pages} pages");
        }
        assert_eq!(PagerSetup::for_pages(64, u32::MAX), None);
        let setup = StoreSetup { slots: 1 << 20, pagers: 3 };
        assert_eq!(StoreSetup::of_argument(setup.argument()), setup);
    }

    #[test]
    fn numbers_round_trip() {
        for &denial in Denial::ALL {
            assert_eq!(Denial::from_raw(denial as u32), Some(denial));
            assert_eq!(Denial::from(pager::Refusal::from(denial)), denial);
        }
        assert_eq!(Denial::from_raw(0), None, "no denial is success");
        for access in [Access::Read, Access::Write, Access::Execute] {
            assert_eq!(Access::from(pager::Access::from(access)), access);
        }
    }
}
