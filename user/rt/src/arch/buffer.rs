//! Pages that only one process has, as bytes.

use abi::PAGE_SIZE;

use crate::Result;
use crate::cap::{Access, Frame, VSpace};
use crate::pages::Pooled;

/// Pages of 4 KiB in the pool of this process, which nobody else has and no other value speaks of.
///
/// Dropping it does not give it back: its owner sends it on, or gives it to [`Buffer::give_back`].
#[derive(Debug, PartialEq, Eq)]
pub struct Buffer {
    address: u64,
    pages: u64,
}

impl Buffer {
    /// Puts all pages of a frame of 4 KiB pages into the pool, at `address`.
    pub fn make(own: &VSpace, frame: &Frame, pages: u64, address: u64) -> Result<Buffer> {
        own.map_pool_pages(frame, address, crate::invoke::Pages { first: 0, count: pages })?;
        Ok(Buffer { address, pages })
    }

    pub const fn address(&self) -> u64 {
        self.address
    }

    pub const fn pages(&self) -> u64 {
        self.pages
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: they are there, and nobody else writes them: the kernel lets no capability map a
        // page of a pool, and one that others see cannot be written, nor moved here. They go with
        // `self`. If their memory is taken away by a revoke the access faults.
        unsafe { core::slice::from_raw_parts(self.address as *const u8, (self.pages * PAGE_SIZE) as usize) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { core::slice::from_raw_parts_mut(self.address as *mut u8, (self.pages * PAGE_SIZE) as usize) }
    }

    /// Releases the buffer's pages from the pool of this process. Their frame can be mapped again.
    pub fn give_back(self, own: &VSpace) -> Result<()> {
        own.drop_pages(self.pooled())
    }

    pub const fn pooled(&self) -> Pooled {
        Pooled::new(self.address, self.pages)
    }
}

/// Pages of 4 KiB in the pool of this process, which others see, too, but nobody can write.
///
/// Like a [`Buffer`] it is not given back by being dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct View {
    address: u64,
    pages: u64,
}

impl View {
    pub const fn address(&self) -> u64 {
        self.address
    }

    pub const fn pages(&self) -> u64 {
        self.pages
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the pages are mapped, and no process writes them. No capability maps a page of a
        // pool. A page that several pools see is read-only in all of them, and the kernel does not
        // make it writable while this pool shares it. If only this pool still has it, only this
        // process could ask for that, and the holder of this value does not. If a revoke takes the
        // memory away, the access faults.
        unsafe { core::slice::from_raw_parts(self.address as *const u8, (self.pages * PAGE_SIZE) as usize) }
    }

    /// Returns the view as a writable buffer, if no other process sees its pages any more.
    pub fn into_buffer(self, own: &VSpace) -> core::result::Result<Buffer, View> {
        match own.protect_pooled(Pooled::new(self.address, self.pages), Access::Write) {
            Ok(()) => Ok(Buffer { address: self.address, pages: self.pages }),
            Err(_) => Err(self),
        }
    }

    /// Releases the view's pages from the pool of this process.
    pub fn give_back(self, own: &VSpace) -> Result<()> {
        own.drop_pages(Pooled::new(self.address, self.pages))
    }
}

/// Makes a view of 4 KiB pages that a message has just shared read-only, with this process or by
/// it.
pub(crate) fn shared_here(pages: Pooled) -> View {
    View { address: pages.address, pages: pages.count }
}

/// Makes a buffer of 4 KiB pages that a message has just moved here. The kernel reports each move
/// once, and the callers of this function rely on that.
pub(crate) fn moved_here(pages: Pooled) -> Buffer {
    Buffer { address: pages.address, pages: pages.count }
}
