//! Memory that a program shares with the processes it starts: words at the same address in all.
//!
//! All words are atomics: any task of any of the processes may write them. A flag that publishes
//! data to another CPU is stored with `Release` and read with `Acquire`. Data that is read after a
//! Notification needs no ordering of its own, since the system calls are full barriers.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::Result;
use crate::arch::{self, memory};
use crate::cap::{Access, Frame, VSpace};
use crate::layout::SHARED_VA;
use crate::spawn::{Many, Nursery, own};
use abi::{Cap, PAGE_SIZE};

/// A program's shared memory, as its first process sees it.
pub struct Shared {
    frames: Many,
    words: &'static [AtomicU64],
}

impl Shared {
    /// Makes a program's shared pages, and maps them in this process; a program calls it once.
    pub fn new(nursery: &mut Nursery, pages: u32) -> Result<Shared> {
        let frames = nursery.make_pages(pages)?;
        let words = memory::map_words(&own::vspace(), frames.iter::<Frame>(), SHARED_VA)?;
        Ok(Shared { frames, words })
    }

    /// Returns the capability of the frame of the first shared page. The capabilities of the other
    /// pages follow it.
    pub fn first(&self) -> Cap {
        self.frames.nth(0)
    }

    /// Maps the shared pages in another process, at the same address.
    pub fn map_into(&self, vspace: &VSpace) -> Result<()> {
        for (page, frame) in (0u64..).zip(self.frames.iter::<Frame>()) {
            vspace.map(&frame, SHARED_VA + page * PAGE_SIZE, Access::Write)?;
        }
        Ok(())
    }

    pub fn words(&self) -> &'static [AtomicU64] {
        self.words
    }
}

/// Returns `count` words of the shared memory from word `first` on, for any process of the program.
///
/// # Safety
/// The first process made at least `first + count` words ([`Shared::new`]) and, where the caller is
/// another process, mapped them there ([`Shared::map_into`]).
pub unsafe fn words(first: usize, count: usize) -> &'static [AtomicU64] {
    // SAFETY: the caller says that they are mapped; they stay so while the process lives, and all
    // users see atomics.
    unsafe { memory::mapped_words(SHARED_VA + first as u64 * 8, count) }
}

/// Waits until `parties` tasks have arrived at `barrier`, without sleeping: each task has a CPU of
/// its own.
pub fn meet(barrier: &AtomicU64, parties: u64) {
    barrier.fetch_add(1, Ordering::AcqRel);
    while barrier.load(Ordering::Acquire) < parties {
        arch::pause();
    }
}
