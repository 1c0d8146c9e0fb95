//! The interfaces that the policy needs: address spaces, frames, files, a store, an out-of-memory
//! policy.

use alloc::vec::Vec;

use user_rt::cap::Access;
use user_rt::paging::{Advice, Denial, Question, StoreError};

use crate::Client;
use crate::seal::Seal;

/// A frame of the pager's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct FrameId(pub u32);

/// A page of a client's address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct At {
    pub client: Client,
    pub address: u64,
}

/// Bytes of a file: those of a region, or those of one page, which may be fewer than the page has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub struct Bytes {
    pub file: u64,
    pub first: u64,
    pub count: u64,
}

/// A page in the store, and what tells its contents from all others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Stored {
    pub slot: u64,
    pub seal: Seal,
}

pub trait Machine {
    /// Maps a frame where nothing is mapped.
    fn map(&mut self, at: At, frame: FrameId, access: Access) -> Result<(), Denial>;
    /// Changes what a mapping allows.
    fn protect(&mut self, at: At, frame: FrameId, access: Access) -> Result<(), Denial>;
    /// Unmaps it: whether it is certain that nobody sees it there any more.
    fn unmap(&mut self, at: At, frame: FrameId) -> bool;
    /// Notes that no task uses a client's address space any more: pages that cannot be unmapped
    /// need not be.
    fn gone(&mut self, client: Client);
    /// Whether there is no way to a client's address space any more. It may still be there.
    fn is_lost(&mut self, client: Client) -> bool;
    /// Whether it is certain that nobody at all sees a frame. Its contents may be lost then.
    fn is_unseen(&mut self, frame: FrameId) -> bool;
    /// Whether it was used through this mapping since this was asked last.
    fn accessed(&mut self, at: At, frame: FrameId) -> bool;

    /// Fills a frame, of which nobody has a mapping: with zeroes, with what another one has, with
    /// bytes of a file and zeroes behind them.
    fn clear(&mut self, frame: FrameId);
    fn copy(&mut self, from: FrameId, to: FrameId);
    fn load(&mut self, bytes: Bytes, frame: FrameId);

    /// Puts the contents of up to [`WINDOW_PAGES`](user_rt::paging::WINDOW_PAGES) frames into the
    /// store, or of some of them from the first on.
    fn put(&mut self, frames: &[FrameId]) -> Result<Vec<Stored>, StoreError>;
    /// Gets them back. What does not fit the seal fails.
    fn get(&mut self, stored: Stored, frame: FrameId) -> Result<(), StoreError>;
    fn free(&mut self, stored: Stored);

    /// Asks the out-of-memory policy.
    fn advise(&mut self, question: &Question<'_>) -> Advice;
}
