//! The run queue of one CPU: 256 strict priorities, first come first served within one.
//!
//! A context that outranks all others is alone at the front. The others are in a queue for each
//! priority. A two-level bitmap records which queues are not empty, and a field has the highest of
//! them. So two tasks that take turns and outrank all others never use the queues. Every wake-up
//! must know whether a queued context outranks the running one; the front answers that. Every
//! operation takes a constant number of steps, and inserting or taking a context changes at most
//! one neighbour.
//!
//! The *running* context is not in the queue. The dispatcher takes it out and puts it back: at the
//! front if it was preempted (it keeps its turn), at the back if its slice is over.

use core::cell::Cell;

use smp::cpu::Pin;
use smp::door::{Link, Ref};
use smp::trace::record;
use test_abi::trace::{Event, object_name};

/// An object that can stand in a [`RunQueue`].
pub trait Queued: Sized {
    /// Returns the object's links in a run queue. The caller runs on the CPU that owns the queue,
    /// so the object's home is this CPU.
    fn run_links<'a>(&'a self, pin: Pin<'a>) -> &'a QueueLinks<Self>;
}

/// What a queued object carries. All null and zero while it is not queued; the links are also null
/// at the front.
#[repr(C)]
pub struct QueueLinks<T> {
    next: Link<T>,
    prev: Link<T>,
    /// Its rank, that is priority + 1, while it is queued; else 0.
    place: Cell<u32>,
}

impl<T> QueueLinks<T> {
    /// For assembly.
    pub const PLACE_OFFSET: usize = core::mem::offset_of!(QueueLinks<T>, place);

    /// Makes links of an object that is not queued.
    pub const fn new() -> QueueLinks<T> {
        QueueLinks { next: Link::null(), prev: Link::null(), place: Cell::new(0) }
    }

    /// Whether the object stands in a run queue.
    #[inline(always)]
    pub fn is_queued(&self) -> bool {
        self.place.get() != 0
    }

    /// Returns whether an object of the same priority has its turn before this one.
    pub fn has_equal_before(&self) -> bool {
        !self.prev.is_null()
    }

    /// Returns the addresses of the next and of the previous object, and the rank: for surveys.
    pub fn survey(&self) -> (u64, u64, u32) {
        (self.next.addr(), self.prev.addr(), self.place.get())
    }

    /// Returns the priority under which the object is queued, if it is queued.
    pub fn priority(&self) -> Option<u8> {
        self.place.get().checked_sub(1).map(|p| p as u8)
    }
}

/// One priority's queue. Both links are null or neither is.
struct Class<T> {
    first: Link<T>,
    last: Link<T>,
}

/// The SchedContexts that want one CPU.
#[repr(C)]
pub struct RunQueue<T> {
    /// The context that outranks all contexts in the classes. Null: the first context is in a
    /// class. Its links are null.
    front: Link<T>,
    /// Rank (priority + 1) of the highest class that is not empty; 0: all are.
    top: Cell<u32>,
    /// Bit w: `words[w]` is not zero.
    summary: Cell<u32>,
    /// Bit p % 64 of word p / 64: class p is not empty.
    words: [Cell<u64>; 4],
    classes: [Class<T>; 256],
}

impl<T> Default for RunQueue<T> {
    /// Returns an empty queue.
    fn default() -> Self {
        RunQueue {
            front: Link::null(),
            top: Cell::new(0),
            summary: Cell::new(0),
            words: [const { Cell::new(0) }; 4],
            classes: [const { Class { first: Link::null(), last: Link::null() } }; 256],
        }
    }
}

impl<T> RunQueue<T> {
    /// For assembly: an item whose rank is above `top` is queued by putting it into an empty
    /// `front`, and the first is taken by emptying that; its place is its rank or 0.
    pub const FRONT_OFFSET: usize = core::mem::offset_of!(RunQueue<T>, front);
    /// See [`RunQueue::FRONT_OFFSET`].
    pub const TOP_OFFSET: usize = core::mem::offset_of!(RunQueue<T>, top);

    /// Returns the address of the object at the front, the rank of the highest class that is not
    /// empty, and the two levels of the bitmap: for surveys.
    pub fn survey(&self) -> (u64, u32, u32, [u64; 4]) {
        (self.front.addr(), self.top.get(), self.summary.get(), self.words.each_ref().map(Cell::get))
    }

    /// Returns the addresses of the first and the last object of a priority. For surveys.
    pub fn ends(&self, priority: u8) -> [u64; 2] {
        let class = self.class(priority);
        [class.first.addr(), class.last.addr()]
    }

    /// Whether no object is queued.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.front.is_null() && self.top.get() == 0
    }

    #[inline(always)]
    fn class(&self, priority: u8) -> &Class<T> {
        &self.classes[usize::from(priority)]
    }

    #[inline(always)]
    fn mark(&self, priority: u8) {
        let word = usize::from(priority >> 6);
        self.words[word].set(self.words[word].get() | 1 << (priority & 63));
        self.summary.set(self.summary.get() | 1 << word);
        self.top.set(self.top.get().max(u32::from(priority) + 1));
    }

    #[inline(always)]
    fn unmark(&self, priority: u8) {
        let word = usize::from(priority >> 6);
        let bits = self.words[word].get() & !(1 << (priority & 63));
        self.words[word].set(bits);
        if bits == 0 {
            self.summary.set(self.summary.get() & !(1 << word));
        }
        if self.top.get() == u32::from(priority) + 1 {
            self.top.set(self.find_top());
        }
    }

    #[inline(always)]
    fn find_top(&self) -> u32 {
        match self.summary.get().checked_ilog2() {
            None => 0,
            Some(word) => {
                let bits = self.words[word as usize & 3].get();
                word * 64 + (u64::BITS - bits.leading_zeros())
            }
        }
    }
}

impl<T: Queued> RunQueue<T> {
    /// Returns the rank of the first object in the queue: its priority + 1; 0 if the queue is
    /// empty.
    #[inline(always)]
    pub fn first_rank(&self, pin: Pin<'_>) -> u32 {
        match self.front.get(pin) {
            Some(front) => front.get().run_links(pin).place.get(),
            None => self.top.get(),
        }
    }

    /// Whether a queued object must run before a task of `priority` continues.
    #[inline(always)]
    pub fn outranks(&self, pin: Pin<'_>, priority: u8) -> bool {
        self.first_rank(pin) > u32::from(priority) + 1
    }

    /// Whether a task of `priority` whose slice is over must let another run.
    #[inline(always)]
    pub fn has_at_least(&self, pin: Pin<'_>, priority: u8) -> bool {
        self.first_rank(pin) > u32::from(priority)
    }

    /// Queues `item` after all others of `priority`. Panics if it is queued already.
    #[inline]
    pub fn push_back(&self, pin: Pin<'_>, item: Ref<'_, T>, priority: u8) {
        let links = Self::claim(pin, item, priority);
        note_queued(pin, item, priority, false);
        if self.enters_front(pin, item, priority) {
            return;
        }
        let class = self.class(priority);
        match class.last.get(pin) {
            Some(last) => {
                last.get().run_links(pin).next.set(Some(item));
                links.prev.set(Some(last));
            }
            None => {
                class.first.set(Some(item));
                self.mark(priority);
            }
        }
        class.last.set(Some(item));
    }

    /// Queues `item` before all others of `priority`, because it was preempted and keeps its turn.
    /// Panics if it is queued already.
    #[inline]
    pub fn push_front(&self, pin: Pin<'_>, item: Ref<'_, T>, priority: u8) {
        Self::claim(pin, item, priority);
        note_queued(pin, item, priority, true);
        if !self.enters_front(pin, item, priority) {
            self.enter_class_first(pin, item, priority);
        }
    }

    /// Does what [`RunQueue::push_front`] does for an `item` that is not queued, with this rank
    /// (priority + 1). The usual case, in which it outranks all others, takes a few instructions.
    #[inline(always)]
    pub fn push_preempted(&self, pin: Pin<'_>, item: Ref<'_, T>, links: &QueueLinks<T>, rank: u32) {
        debug_assert!(!links.is_queued(), "the context that runs is queued");
        if self.front.is_null() && rank > self.top.get() {
            links.place.set(rank);
            self.front.set(Some(item));
            note_queued(pin, item, (rank - 1) as u8, true);
        } else {
            self.push_front_of_class(pin, item, (rank - 1) as u8);
        }
    }

    #[inline(never)]
    fn push_front_of_class(&self, pin: Pin<'_>, item: Ref<'_, T>, priority: u8) {
        self.push_front(pin, item, priority);
    }

    /// Puts a claimed `item` at the front of the queue, outside its class, if it outranks all
    /// others. Returns whether it did. An equal object at the front goes back into its class first,
    /// so that the two are in order there.
    #[inline(always)]
    fn enters_front(&self, pin: Pin<'_>, item: Ref<'_, T>, priority: u8) -> bool {
        let (rank, first) = (u32::from(priority) + 1, self.first_rank(pin));
        if rank < first {
            return false;
        }
        if let Some(front) = self.front.take(pin) {
            self.enter_class_first(pin, front, (first - 1) as u8);
        }
        if rank > first {
            self.front.set(Some(item));
        }
        rank > first
    }

    /// Puts a claimed `item` into the class of its priority, before all others.
    #[inline(never)]
    fn enter_class_first(&self, pin: Pin<'_>, item: Ref<'_, T>, priority: u8) {
        let class = self.class(priority);
        match class.first.get(pin) {
            Some(first) => {
                first.get().run_links(pin).prev.set(Some(item));
                item.get().run_links(pin).next.set(Some(first));
            }
            None => {
                class.last.set(Some(item));
                self.mark(priority);
            }
        }
        class.first.set(Some(item));
    }

    /// Takes the first object of the highest priority out of the queue.
    #[inline]
    pub fn pop_highest<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        if let Some(front) = self.front.take(pin) {
            front.get().run_links(pin).place.set(0);
            note_taken(pin, front);
            return Some(front);
        }
        self.pop_class(pin)
    }

    #[inline(never)]
    fn pop_class<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        let priority = self.top.get().checked_sub(1)? as u8;
        let class = self.class(priority);
        let item = class.first.get(pin)?;
        let links = item.get().run_links(pin);
        links.place.set(0);
        note_taken(pin, item);
        match links.next.take(pin) {
            Some(next) => {
                next.get().run_links(pin).prev.set(None);
                class.first.set(Some(next));
            }
            None => {
                class.first.set(None);
                class.last.set(None);
                self.unmark(priority);
            }
        }
        Some(item)
    }

    /// Takes `item` out of the queue, at any position. Returns whether it was queued.
    #[inline]
    pub fn remove(&self, pin: Pin<'_>, item: Ref<'_, T>) -> bool {
        let links = item.get().run_links(pin);
        let Some(priority) = links.priority() else {
            return false;
        };
        links.place.set(0);
        note_taken(pin, item);
        if self.front.is(item) {
            self.front.set(None);
        } else {
            self.leave_class(pin, links, priority);
        }
        true
    }

    #[inline(never)]
    fn leave_class(&self, pin: Pin<'_>, links: &QueueLinks<T>, priority: u8) {
        let class = self.class(priority);
        let (prev, next) = (links.prev.take(pin), links.next.take(pin));
        match prev {
            Some(prev) => prev.get().run_links(pin).next.set(next),
            None => class.first.set(next),
        }
        match next {
            Some(next) => next.get().run_links(pin).prev.set(prev),
            None => class.last.set(prev),
        }
        if prev.is_none() && next.is_none() {
            self.unmark(priority);
        }
    }

    /// Whether `item` waits in this CPU's queue.
    #[inline]
    pub fn contains(&self, pin: Pin<'_>, item: Ref<'_, T>) -> bool {
        item.get().run_links(pin).is_queued()
    }

    /// Moves a queued `item` to the end of another priority. Returns whether it was queued.
    #[inline]
    pub fn change_priority(&self, pin: Pin<'_>, item: Ref<'_, T>, priority: u8) -> bool {
        let (links, rank) = (item.get().run_links(pin), u32::from(priority) + 1);
        if !links.is_queued() {
            return false;
        }
        if self.front.is(item) && rank > self.top.get() {
            // It outranks all others still, and stays where it is.
            note_taken(pin, item);
            note_queued(pin, item, priority, false);
            links.place.set(rank);
        } else {
            self.change_class(pin, item, priority);
        }
        true
    }

    #[inline(never)]
    fn change_class(&self, pin: Pin<'_>, item: Ref<'_, T>, priority: u8) {
        self.remove(pin, item);
        self.push_back(pin, item, priority);
    }

    #[inline(always)]
    fn claim<'a>(pin: Pin<'a>, item: Ref<'a, T>, priority: u8) -> &'a QueueLinks<T> {
        let links = item.get().run_links(pin);
        if links.is_queued() {
            queued_twice(links.place.get() - 1, priority);
        }
        links.place.set(u32::from(priority) + 1);
        links
    }
}

/// Records in the trace that an object was queued; `before`: at the front of its priority.
#[inline(always)]
fn note_queued<T>(pin: Pin<'_>, item: Ref<'_, T>, priority: u8, before: bool) {
    record(pin, || Event::Enqueued { context: object_name(item.addr()), priority, before });
}

/// Records in the trace that an object was taken out of the queue.
#[inline(always)]
fn note_taken<T>(pin: Pin<'_>, item: Ref<'_, T>) {
    record(pin, || Event::Dequeued { context: object_name(item.addr()) });
}

#[cold]
#[inline(never)]
fn queued_twice(old: u32, new: u8) -> ! {
    panic!("run queue: queued for priority {new} while it waits at priority {old}");
}
