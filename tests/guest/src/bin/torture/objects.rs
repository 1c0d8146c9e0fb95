//! The frames of a worker, and runs of their pages at addresses.

use abi::Cap;

use crate::cast::{FRAMES, GLOBALS, frame_slot, global_slot};
use crate::word::{GLOBAL, Pool, Thing};

/// Most pages of a frame of small pages: a bit for each.
pub const PAGES_MAX: u64 = 8;

/// A frame that can be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Object {
    pub id: u32,
    pub cap: Cap,
    pub large: bool,
    /// Small pages; 1 for a large frame.
    pub pages: u32,
    /// Which of its pages are filled.
    filled: u8,
    /// Which of its pages are in pools, as far as is known. The words of their places describe
    /// their contents.
    pooled: u8,
    /// Which of its pages may be in a pool: its space ended at that moment.
    doubtful: u8,
    /// Which of its pages were ever in a pool.
    cleared: u8,
}

impl Object {
    pub fn thing(&self, page: u32) -> Thing {
        Thing { id: self.id, page, large: self.large, filled: self.is_filled(page), pool: Pool::No }
    }

    /// Whether a page is filled. A page that may just have left all pools is clear, or will be.
    pub fn is_filled(&self, page: u32) -> bool {
        self.filled & !self.pooled & !self.doubtful & 1 << page != 0
    }

    pub fn may_be_pooled(&self, page: u32) -> bool {
        (self.pooled | self.doubtful) & 1 << page != 0
    }

    pub fn is_doubtful(&self, page: u32) -> bool {
        self.doubtful & 1 << page != 0
    }

    pub fn was_cleared(&self, page: u32) -> bool {
        self.cleared & 1 << page != 0
    }

    pub fn is_global(&self) -> bool {
        self.id & GLOBAL != 0
    }

    /// Returns one of the frames that all processes have.
    pub fn global(which: usize) -> Object {
        let pages = GLOBALS[which % GLOBALS.len()];
        Object {
            id: GLOBAL | which as u32,
            cap: global_slot(which),
            large: pages == 0,
            pages: u32::from(pages.max(1)),
            filled: u8::MAX,
            pooled: 0,
            doubtful: 0,
            cleared: 0,
        }
    }
}

/// A worker's own frames, by slot.
pub struct Objects {
    local: u32,
    slots: [Option<Object>; FRAMES],
    next: usize,
}

impl Objects {
    pub fn new(local: u32) -> Objects {
        Objects { local, slots: [None; FRAMES], next: 0 }
    }

    /// Returns the next slot, if it is free: a slot that was just emptied can be filled only after
    /// a while.
    pub fn free(&self) -> Option<Cap> {
        self.slots[self.next].is_none().then(|| frame_slot(self.local, self.next))
    }

    /// Adds a frame that was made in that slot.
    pub fn put(&mut self, id: u32, large: bool, pages: u32) -> Object {
        let cap = frame_slot(self.local, self.next);
        let object = Object { id, cap, large, pages, filled: 0, pooled: 0, doubtful: 0, cleared: 0 };
        self.slots[self.next] = Some(object);
        self.next = (self.next + 1) % FRAMES;
        object
    }

    fn change(&mut self, id: u32, change: impl Fn(&mut Object)) {
        self.slots.iter_mut().flatten().filter(|object| object.id == id).for_each(change);
    }

    pub fn fill(&mut self, id: u32, page: u32) {
        self.change(id, |object| object.filled |= 1 << page);
    }

    /// Notes that a page has come into a pool.
    pub fn enter_pool(&mut self, id: u32, page: u32) {
        self.change(id, |object| object.pooled |= 1 << page);
    }

    /// Notes that a page may have come into a pool.
    pub fn doubt(&mut self, id: u32, page: u32) {
        self.change(id, |object| object.doubtful |= 1 << page);
    }

    /// Notes that no pool has a page any more: its contents are gone.
    pub fn leave_pools(&mut self, id: u32, page: u32) {
        let bit = 1 << page;
        self.change(id, |object| {
            (object.filled, object.pooled) = (object.filled & !bit, object.pooled & !bit);
            object.cleared |= bit;
        });
    }

    pub fn remove(&mut self, id: u32) {
        self.slots
            .iter_mut()
            .filter(|slot| slot.is_some_and(|object| object.id == id))
            .for_each(|slot| *slot = None);
    }

    pub fn clear(&mut self) {
        self.slots = [None; FRAMES];
    }

    /// Picks a frame by a random number.
    pub fn pick(&self, random: u64) -> Option<Object> {
        let count = self.slots.iter().flatten().count() as u64;
        if count == 0 {
            return None;
        }
        self.slots.iter().flatten().nth((random % count) as usize).copied()
    }

    /// Finds a frame by its number, including those that all processes have.
    pub fn find(&self, id: u32) -> Option<Object> {
        if id & GLOBAL != 0 {
            return Some(Object::global((id & !GLOBAL) as usize));
        }
        self.slots.iter().flatten().find(|object| object.id == id).copied()
    }
}

/// Pages of a frame at addresses of the worker's, in a space of some era.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub space: usize,
    pub era: u64,
    pub place: usize,
    pub object: Object,
    pub first: u32,
    pub count: u32,
    /// How the pages are, or will be, in the pool of the space.
    pub pool: Pool,
}

impl Run {
    /// Returns its places, and the thing that is, or will be, mapped at each.
    pub fn pages(&self) -> impl Iterator<Item = (usize, Thing)> + use<> {
        let Run { place, object, first, count, pool, .. } = *self;
        (0..count).map(move |n| (place + n as usize, Thing { pool, ..object.thing(first + n) }))
    }

    pub fn sub(&self, first: u32, count: u32) -> Run {
        Run { place: self.place + first as usize, first: self.first + first, count, ..*self }
    }
}
