//! The heap: memory that the program maps and adds; allocation is first fit.
//!
//! A program has no heap until it calls [`add`]; an allocation before that fails, which ends the
//! program with a message. Tasks that share the heap take [turns](crate::turn), so allocate only
//! during setup. A task that waits for its turn in vain panics.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};

use abi::{Error, PAGE_SIZE};
use linked_list_allocator::Heap;

use crate::cap::{Access, Frame, Handle, VSpace};
use crate::layout::HEAP_VA;
use crate::paging::Region;
use crate::spawn::Nursery;
use crate::turn::Turns;
use crate::{Refusal, Result};

struct Locked {
    turns: Turns,
    heap: UnsafeCell<Heap>,
}

// SAFETY: the heap inside is only reached by `Locked::with`, one task at a time.
unsafe impl Sync for Locked {}

impl Locked {
    fn with<R>(&self, work: impl FnOnce(&mut Heap) -> R) -> R {
        let turn = self.turns.wait();
        assert!(turn.is_some(), "the heap is locked by a task that does not get to run");
        // SAFETY: it is this task's turn until `turn` goes; `work` cannot get here again
        // (it is one of the allocator's own functions, which allocate nothing).
        work(unsafe { &mut *self.heap.get() })
    }
}

// SAFETY: memory comes from `linked_list_allocator`, under the lock; blocks are disjoint and stay
// where they are until given back.
unsafe impl GlobalAlloc for Locked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.with(|heap| heap.allocate_first_fit(layout)).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else { return };
        // SAFETY: the caller got the block from `alloc` with this layout.
        self.with(|heap| unsafe { heap.deallocate(block, layout) });
    }
}

#[cfg_attr(target_os = "none", global_allocator)]
static HEAP: Locked = Locked { turns: Turns::new(), heap: UnsafeCell::new(Heap::empty()) };

/// Gives the heap `pages` more pages, made from `nursery`.
pub fn add(own: &VSpace, nursery: &mut Nursery, pages: u32) -> Result<()> {
    let frames = nursery.make_many::<Frame>(u64::from(PAGE_SIZE.trailing_zeros()), pages)?;
    let start = HEAP_VA + HEAP.with(|heap| heap.size() as u64);
    for index in 0..pages {
        let frame = Frame::at(frames.nth(index));
        own.map(&frame, start + u64::from(index) * PAGE_SIZE, Access::Write)?;
    }
    let bytes = u64::from(pages) * PAGE_SIZE;
    HEAP.with(|heap| {
        if heap.size() == 0 {
            // SAFETY: the pages from `start` on were just mapped, writable, for good, and belong to
            // nobody else.
            unsafe { heap.init(start as *mut u8, bytes as usize) };
        } else {
            // SAFETY: as above; they follow the heap's end directly.
            unsafe { heap.extend(bytes as usize) };
        }
    });
    Ok(())
}

/// Makes a region that a pager serves the heap of a program that has none yet. The heap never gives
/// the region back.
pub fn adopt(region: Region) -> Result<()> {
    let bytes = region.pages() * PAGE_SIZE;
    HEAP.with(|heap| {
        if heap.size() != 0 {
            return Err(Refusal::local(Error::BadState, heap.size() as u64));
        }
        // SAFETY: the region is this process's, writable as the caller had it made, and stays: it
        // was given away here. If it cannot be written, or the pager fails, the access faults.
        unsafe { heap.init(region.address() as *mut u8, bytes as usize) };
        Ok(())
    })
}
