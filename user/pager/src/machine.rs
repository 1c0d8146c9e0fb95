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
    /// Maps a frame in a client's address space, where nothing is mapped.
    fn map(&mut self, at: At, frame: FrameId, access: Access) -> Result<(), Denial>;
    /// Changes the access that a mapping allows.
    fn protect(&mut self, at: At, frame: FrameId, access: Access) -> Result<(), Denial>;
    /// Unmaps a frame. Returns whether it is certain that no task sees the frame there any more.
    fn unmap(&mut self, at: At, frame: FrameId) -> bool;
    /// Notes that no task uses a client's address space any more, so that pages that cannot be
    /// unmapped need not be.
    fn gone(&mut self, client: Client);
    /// Returns whether the pager has no capability of a client's address space any more. The space
    /// may still exist.
    fn is_lost(&mut self, client: Client) -> bool;
    /// Returns whether it is certain that no task sees a frame. The frame's contents may be lost
    /// then.
    fn is_unseen(&mut self, frame: FrameId) -> bool;
    /// Returns whether a frame was used through this mapping since the last call.
    fn accessed(&mut self, at: At, frame: FrameId) -> bool;

    /// Fills a frame with zeroes. Requires, here and for the next two: the frame is mapped nowhere.
    fn clear(&mut self, frame: FrameId);
    fn copy(&mut self, from: FrameId, to: FrameId);
    fn load(&mut self, bytes: Bytes, frame: FrameId);

    /// Writes the contents of up to [`WINDOW_PAGES`](user_rt::paging::WINDOW_PAGES) frames to the
    /// store. Returns what was stored: all, or some from the first on.
    fn put(&mut self, frames: &[FrameId]) -> Result<Vec<Stored>, StoreError>;
    /// Reads stored contents back into a frame.
    /// Errors: they do not fit their seal.
    fn get(&mut self, stored: Stored, frame: FrameId) -> Result<(), StoreError>;
    fn free(&mut self, stored: Stored);

    /// Asks the out-of-memory policy what to do.
    fn advise(&mut self, question: &Question<'_>) -> Advice;
}
