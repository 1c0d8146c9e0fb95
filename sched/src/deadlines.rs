//! The deadlines of one CPU, ordered by time.
//!
//! The structure is a leftist heap: a binary tree in which no node is later than its children, and
//! in which the right-hand path from each node is the shortest path to an empty child. That path
//! has at most log2(n + 1) steps, and all operations merge two trees along it. So inserting, taking
//! the earliest and removing *any* deadline take O(log n) steps at worst, not just on average. A
//! kernel with interrupts off needs that. No function recurses.
//!
//! # Bands
//! A CPU has a heap for each band of priorities ([`DeadlineBands`]). So when many deadlines have
//! passed, those of high priority come first, however many others were due before them.
//!
//! Times are TSC values. The order of equal deadlines depends only on the history of calls.

use core::cell::Cell;
use core::ops::Range;

use smp::cpu::Pin;
use smp::door::{Link, Ref};

/// An object that can have a deadline.
pub trait Timed: Sized {
    /// Returns the object's links in a deadline queue. The caller runs on the CPU that owns the
    /// queue, so the object's home is this CPU.
    fn deadline_links<'a>(&'a self, pin: Pin<'a>) -> &'a DeadlineLinks<Self>;
}

/// What an object with a deadline carries. All null and zero while it has none.
#[repr(C)]
pub struct DeadlineLinks<T> {
    parent: Link<T>,
    left: Link<T>,
    right: Link<T>,
    deadline: Cell<u64>,
    /// Nodes on the shortest way out of this subtree; 0: not queued.
    rank: Cell<u32>,
    /// The band that has the deadline, if it is in one of several.
    band: Cell<u32>,
}

impl<T> Default for DeadlineLinks<T> {
    /// Returns links of an object without a deadline.
    fn default() -> DeadlineLinks<T> {
        DeadlineLinks {
            parent: Link::null(),
            left: Link::null(),
            right: Link::null(),
            deadline: Cell::new(0),
            rank: Cell::new(0),
            band: Cell::new(0),
        }
    }
}

impl<T> DeadlineLinks<T> {
    /// Whether a deadline is set.
    #[inline(always)]
    pub fn is_queued(&self) -> bool {
        self.rank.get() != 0
    }

    /// Returns the addresses of parent, left child and right child, the deadline, and the rank: for
    /// surveys.
    pub fn survey(&self) -> ([u64; 3], u64, u32) {
        let links = [self.parent.addr(), self.left.addr(), self.right.addr()];
        (links, self.deadline.get(), self.rank.get())
    }

    /// Returns the deadline, if one is set.
    pub fn deadline(&self) -> Option<u64> {
        self.is_queued().then(|| self.deadline.get())
    }
}

/// Deadlines, ordered by time.
#[repr(C)]
pub struct DeadlineQueue<T> {
    root: Link<T>,
    /// The root's deadline; `u64::MAX` where there is none.
    soonest: Cell<u64>,
}

impl<T> Default for DeadlineQueue<T> {
    /// Returns an empty queue.
    fn default() -> Self {
        DeadlineQueue { root: Link::null(), soonest: Cell::new(u64::MAX) }
    }
}

impl<T> DeadlineQueue<T> {
    /// Whether no object has a deadline.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.root.is_null()
    }

    /// Returns the address of the object with the soonest deadline, the root of the heap. For
    /// surveys.
    pub fn root_addr(&self) -> u64 {
        self.root.addr()
    }

    /// Returns the soonest deadline, or `u64::MAX` if there is none: the value for the timer.
    #[inline(always)]
    pub fn soonest(&self) -> u64 {
        self.soonest.get()
    }
}

impl<T: Timed> DeadlineQueue<T> {
    /// Sets a deadline for `item`. Panics if `item` has one already.
    pub fn insert(&self, pin: Pin<'_>, item: Ref<'_, T>, deadline: u64) {
        let links = item.deadline_links(pin);
        if links.is_queued() {
            queued_twice(links.deadline.get(), deadline);
        }
        links.deadline.set(deadline);
        links.rank.set(1);
        self.set_root(pin, merge(pin, self.root.get(pin), Some(item)));
    }

    /// Returns the item with the soonest deadline.
    pub fn first<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        self.root.get(pin)
    }

    /// Takes the object with the soonest deadline out of the queue, if that deadline is not after
    /// `now`.
    pub fn pop_expired<'k>(&self, pin: Pin<'k>, now: u64) -> Option<Ref<'k, T>> {
        let first = self.root.get(pin).filter(|_| self.soonest.get() <= now)?;
        self.remove(pin, first);
        Some(first)
    }

    /// Takes `item` out of the queue. Returns whether it had a deadline.
    pub fn remove(&self, pin: Pin<'_>, item: Ref<'_, T>) -> bool {
        let links = item.deadline_links(pin);
        if !links.is_queued() {
            return false;
        }
        links.rank.set(0);
        let (left, right) = (links.left.take(pin), links.right.take(pin));
        for child in [left, right].into_iter().flatten() {
            child.deadline_links(pin).parent.set(None);
        }
        let orphans = merge(pin, left, right);
        match links.parent.take(pin) {
            None => self.set_root(pin, orphans),
            Some(parent) => {
                let parent_links = parent.deadline_links(pin);
                let side = if parent_links.left.is(item) { &parent_links.left } else { &parent_links.right };
                side.set(orphans);
                if let Some(orphans) = orphans {
                    orphans.deadline_links(pin).parent.set(Some(parent));
                }
                restore_ranks(pin, parent, Ancestors::UntilUnchanged);
            }
        }
        true
    }

    fn set_root(&self, pin: Pin<'_>, root: Option<Ref<'_, T>>) {
        self.root.set(root);
        self.soonest.set(root.map_or(u64::MAX, |root| root.deadline_links(pin).deadline.get()));
    }
}

/// Bands of priorities.
pub const BANDS: usize = 8;

/// Returns the band of a priority.
#[inline(always)]
pub const fn band_of(priority: u8) -> usize {
    priority as usize * BANDS / (u8::MAX as usize + 1)
}

/// The deadlines of one CPU: a queue for each band of priorities.
#[repr(C)]
pub struct DeadlineBands<T>([DeadlineQueue<T>; BANDS]);

impl<T> Default for DeadlineBands<T> {
    /// Returns empty queues.
    fn default() -> Self {
        DeadlineBands(Default::default())
    }
}

impl<T> DeadlineBands<T> {
    /// Returns the soonest deadline of some bands, or `u64::MAX` if there is none.
    pub fn soonest(&self, bands: Range<usize>) -> u64 {
        self.0[bands].iter().fold(u64::MAX, |soonest, queue| soonest.min(queue.soonest()))
    }

    /// Returns the queues, those of the lowest priorities first. For surveys.
    pub const fn queues(&self) -> &[DeadlineQueue<T>] {
        &self.0
    }
}

impl<T: Timed> DeadlineBands<T> {
    /// Sets a deadline for `item`, which waits at this priority. Panics if `item` has one already.
    pub fn insert(&self, pin: Pin<'_>, item: Ref<'_, T>, deadline: u64, priority: u8) {
        let band = band_of(priority);
        self.0[band].insert(pin, item, deadline);
        item.deadline_links(pin).band.set(band as u32);
    }

    /// Takes the object with the soonest deadline of the highest of these bands in which a deadline
    /// is not after `now` out of its queue.
    pub fn pop_expired<'k>(&self, pin: Pin<'k>, now: u64, bands: Range<usize>) -> Option<Ref<'k, T>> {
        self.0[bands].iter().rev().find_map(|queue| queue.pop_expired(pin, now))
    }

    /// Takes `item` out of its queue. Returns whether it had a deadline.
    pub fn remove(&self, pin: Pin<'_>, item: Ref<'_, T>) -> bool {
        let band = item.deadline_links(pin).band.get() as usize;
        self.0.get(band).is_some_and(|queue| queue.remove(pin, item))
    }
}

/// Merges two heaps whose roots have no parents. Returns the root of the merged heap.
fn merge<'k, T: Timed>(pin: Pin<'k>, a: Option<Ref<'k, T>>, b: Option<Ref<'k, T>>) -> Option<Ref<'k, T>> {
    let (Some(a), Some(b)) = (a, b) else {
        return a.or(b);
    };
    let (root, mut rest) = sooner_first(pin, a, b);
    let mut top = root;
    // Down the right-hand side: each step keeps the sooner of two trees and merges the other into
    // what stood to its right.
    while let Some(right) = top.deadline_links(pin).right.get(pin) {
        let (sooner, later) = sooner_first(pin, right, rest);
        adopt(pin, top, sooner);
        top = sooner;
        rest = later;
    }
    adopt(pin, top, rest);
    restore_ranks(pin, top, Ancestors::All);
    Some(root)
}

fn sooner_first<'k, T: Timed>(pin: Pin<'_>, a: Ref<'k, T>, b: Ref<'k, T>) -> (Ref<'k, T>, Ref<'k, T>) {
    if b.deadline_links(pin).deadline.get() < a.deadline_links(pin).deadline.get() { (b, a) } else { (a, b) }
}

fn adopt<T: Timed>(pin: Pin<'_>, parent: Ref<'_, T>, child: Ref<'_, T>) {
    parent.deadline_links(pin).right.set(Some(child));
    child.deadline_links(pin).parent.set(Some(parent));
}

/// How far [`restore_ranks`] goes.
#[derive(PartialEq)]
enum Ancestors {
    /// Every node up to the root: after a merge, which leaves a path of log n.
    All,
    /// Until a rank comes out as it was: the rest of the way up is as it was, too. Ranks that
    /// change grow on the way, so that is log n steps again.
    UntilUnchanged,
}

/// Walks up from `from`: makes the child with the smaller rank the right child, and corrects the
/// ranks.
fn restore_ranks<'k, T: Timed>(pin: Pin<'k>, from: Ref<'k, T>, which: Ancestors) {
    let mut at = Some(from);
    while let Some(node) = at {
        let links = node.deadline_links(pin);
        let (left, right) = (links.left.get(pin), links.right.get(pin));
        let rank = |child: Option<Ref<'_, T>>| child.map_or(0, |c| c.deadline_links(pin).rank.get());
        let (left_rank, right_rank) = (rank(left), rank(right));
        if left_rank < right_rank {
            links.left.set(right);
            links.right.set(left);
        }
        let new = left_rank.min(right_rank) + 1;
        if links.rank.replace(new) == new && which == Ancestors::UntilUnchanged {
            return;
        }
        at = links.parent.get(pin);
    }
}

#[cold]
#[inline(never)]
fn queued_twice(old: u64, new: u64) -> ! {
    panic!("deadline queue: deadline {new} set while deadline {old} stands");
}
