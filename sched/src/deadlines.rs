//! The deadlines of one CPU, ordered by time.
//!
//! The structure is a leftist heap: a binary tree in which no node is later than its children, and
//! in which the right-hand path from each node is the shortest path to an empty child. That path
//! has at most log2(n + 1) steps, and all operations merge two trees along it. So inserting, taking
//! the earliest and removing *any* deadline take O(log n) steps at worst, not just on average. A
//! kernel with interrupts off needs that. No function recurses.
//!
//! # Priorities
//! A CPU has a heap for each priority ([`Deadlines`]). So when many deadlines have passed, those of
//! the highest priority come first, however many others were due before them.
//!
//! There are eight bands of 32 priorities, and a bit for each band that may have deadlines. A
//! search looks at those bands. Each has a bound that no deadline of it precedes, and a bit for
//! each priority whose heap may have deadlines. An insertion updates all this. A removal changes
//! nothing of it, so that it stays cheap: a search that looks at the whole band corrects it. The
//! number of steps of a search depends only on how many priorities are in use.
//!
//! # The next deadline
//! The everyday interrupt of the timer ends one wait. So the soonest of all deadlines is kept, with
//! a bound that none of the others precedes, as far as both are known without a search. An object
//! that is inserted before all others is the next one. After the next one is gone, the bound of the
//! others is the bound of all. [`Deadlines::expired`] searches if the next deadline is unknown.
//! [`Deadlines::take_next`] takes it out.
//!
//! Times are TSC values. The order of equal deadlines depends only on the history of calls.

use core::cell::Cell;
use core::iter::from_fn;
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
    /// The priority whose queue has the deadline, if it is in one of several.
    priority: Cell<u32>,
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
            priority: Cell::new(0),
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

    /// Returns the deadline that is set, or was set last.
    pub fn last(&self) -> u64 {
        self.deadline.get()
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
}

impl<T> Default for DeadlineQueue<T> {
    /// Returns an empty queue.
    fn default() -> Self {
        DeadlineQueue::empty()
    }
}

impl<T> DeadlineQueue<T> {
    const fn empty() -> Self {
        DeadlineQueue { root: Link::null() }
    }

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
}

impl<T: Timed> DeadlineQueue<T> {
    /// Returns the soonest deadline, or `u64::MAX` if there is none: the value for the timer.
    #[inline]
    pub fn soonest(&self, pin: Pin<'_>) -> u64 {
        self.root.get(pin).map_or(u64::MAX, |root| root.deadline_links(pin).deadline.get())
    }

    /// Sets a deadline for `item`. Panics if `item` has one already.
    pub fn insert(&self, pin: Pin<'_>, item: Ref<'_, T>, deadline: u64) {
        let links = item.deadline_links(pin);
        if links.is_queued() {
            queued_twice(links.deadline.get(), deadline);
        }
        links.deadline.set(deadline);
        links.rank.set(1);
        let others = self.root.get(pin);
        self.root.set(if others.is_none() { Some(item) } else { merge(pin, others, Some(item)) });
    }

    /// Returns the item with the soonest deadline.
    pub fn first<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        self.root.get(pin)
    }

    /// Takes the object with the soonest deadline out of the queue, if that deadline is not after
    /// `now`.
    pub fn pop_expired<'k>(&self, pin: Pin<'k>, now: u64) -> Option<Ref<'k, T>> {
        let first = self.root.get(pin).filter(|first| first.deadline_links(pin).deadline.get() <= now)?;
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
        let orphans = orphans(pin, links);
        match links.parent.take(pin) {
            None => self.root.set(orphans),
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
}

/// Priorities.
pub const PRIORITIES: usize = u8::MAX as usize + 1;
/// Bands of priorities.
const BANDS: usize = 8;
/// Priorities of a band.
const WIDTH: usize = PRIORITIES / BANDS;

/// Returns the band of a priority.
#[inline(always)]
const fn band_of(priority: u8) -> usize {
    priority as usize / WIDTH
}

/// A band of priorities: where deadlines are searched.
struct Band {
    /// No deadline of the band is sooner. The soonest one may be later, after others were removed.
    bound: Cell<u64>,
    /// Priorities whose queues may have deadlines: a bit each.
    used: Cell<u32>,
}

impl Band {
    const fn empty() -> Band {
        Band { bound: Cell::new(u64::MAX), used: Cell::new(0) }
    }

    /// Returns those of some priorities of this band whose queues may have deadlines, the highest
    /// first.
    #[inline(always)]
    fn used(&self, its: Range<usize>) -> impl Iterator<Item = usize> + use<> {
        let base = its.start / WIDTH * WIDTH % PRIORITIES;
        let below = |end: usize| (1u64 << (end - base)) as u32;
        let wanted = if its.is_empty() { 0 } else { below(its.end).wrapping_sub(below(its.start)) };
        bits(wanted & self.used.get()).map(move |bit| base + bit)
    }
}

/// Returns the numbers of the bits that are set, the highest first.
#[inline(always)]
fn bits(mut left: u32) -> impl Iterator<Item = usize> {
    from_fn(move || {
        let bit = left.checked_ilog2()?;
        left &= !(1 << bit);
        Some(bit as usize)
    })
}

/// Returns those of some priorities that are in a band, the one with this number.
fn part(band: usize, priorities: &Range<usize>) -> Range<usize> {
    let low = band * WIDTH;
    priorities.start.max(low)..priorities.end.min(low + WIDTH)
}

/// What has passed of the deadlines of a CPU.
pub enum Expired<'k, T> {
    /// No deadline.
    None,
    /// The deadline of this object alone: [`Deadlines::take_next`] takes it.
    Next(Ref<'k, T>),
    /// More than one deadline.
    Several,
}

/// The deadlines of one CPU: a queue for each priority.
#[repr(C)]
pub struct Deadlines<T> {
    /// No deadline precedes this.
    bound: Cell<u64>,
    /// The object with the soonest deadline, which is `bound` then, if it is known.
    next: Link<T>,
    /// If `next` is known: no deadline of another object precedes this.
    later: Cell<u64>,
    /// Bands that may have deadlines: a bit each.
    used: Cell<u32>,
    bands: [Band; BANDS],
    queues: [DeadlineQueue<T>; PRIORITIES],
}

impl<T> Default for Deadlines<T> {
    /// Returns empty queues.
    fn default() -> Self {
        Deadlines {
            bound: Cell::new(u64::MAX),
            next: Link::null(),
            later: Cell::new(u64::MAX),
            used: Cell::new(0),
            bands: [const { Band::empty() }; BANDS],
            queues: [const { DeadlineQueue::empty() }; PRIORITIES],
        }
    }
}

impl<T: Timed> Deadlines<T> {
    /// Returns a moment that no deadline precedes, or `u64::MAX` if there is none: the value for
    /// the timer. It may be earlier than the soonest deadline after another one was removed. When
    /// it has passed, [`Deadlines::best_expired`] corrects it.
    #[inline(always)]
    pub fn bound(&self) -> u64 {
        self.bound.get()
    }

    /// Computes the bound of all deadlines from those of the bands.
    fn renew_bound(&self) {
        let bounds = bits(self.used.get()).map(|n| self.bands[n % BANDS].bound.get());
        self.bound.set(bounds.min().unwrap_or(u64::MAX));
        self.next.set(None);
    }

    /// Returns what has passed at `now`.
    /// Requires: [`Deadlines::bound`] is not after `now`.
    #[inline(always)]
    pub fn expired<'k>(&self, pin: Pin<'k>, now: u64) -> Expired<'k, T> {
        match self.next.get(pin) {
            Some(next) if self.later.get() > now => Expired::Next(next),
            _ => self.search_expired(pin, now),
        }
    }

    /// Does what [`Deadlines::expired`] does, by a search. If one deadline alone has passed, that
    /// is the next one.
    #[inline(never)]
    fn search_expired<'k>(&self, pin: Pin<'k>, now: u64) -> Expired<'k, T> {
        let (mut first, mut later) = (None, u64::MAX);
        for n in bits(self.used.get()) {
            let band = &self.bands[n % BANDS];
            if band.bound.get() > now {
                later = later.min(band.bound.get());
                continue;
            }
            let (mut soonest, mut used) = (u64::MAX, 0);
            for bit in bits(band.used.get()) {
                let Some(root) = self.queues[(n * WIDTH + bit) % PRIORITIES].root.get(pin) else { continue };
                let links = root.get().deadline_links(pin);
                let at = links.deadline.get();
                used |= 1 << bit;
                soonest = soonest.min(at);
                if at > now {
                    later = later.min(at);
                    continue;
                }
                let children = [links.left.get(pin), links.right.get(pin)].into_iter().flatten();
                let below = children.map(|child| child.get().deadline_links(pin).deadline.get());
                let below = below.min().unwrap_or(u64::MAX);
                if below <= now || first.replace((root, at)).is_some() {
                    return Expired::Several;
                }
                later = later.min(below);
            }
            self.note(n, soonest, used);
        }
        let Some((root, at)) = first else {
            self.renew_bound();
            return Expired::None;
        };
        self.bound.set(at);
        self.next.set(Some(root));
        self.later.set(later);
        Expired::Next(root)
    }

    /// Takes the object that [`Deadlines::expired`] has returned out of its queue. Its priority and
    /// its band stay marked as used.
    #[inline(always)]
    pub fn take_next(&self, pin: Pin<'_>, next: Ref<'_, T>) {
        let links = next.get().deadline_links(pin);
        let queue = &self.queues[links.priority.get() as usize % PRIORITIES];
        debug_assert!(queue.root.is(next), "the soonest of all deadlines is the soonest of its priority");
        links.rank.set(0);
        queue.root.set(orphans(pin, links));
        self.next.set(None);
        self.bound.set(self.later.get());
    }

    /// Returns the soonest deadline of some priorities, or `u64::MAX` if there is none.
    pub fn soonest(&self, pin: Pin<'_>, priorities: Range<usize>) -> u64 {
        bits(self.used.get()).fold(u64::MAX, |soonest, n| {
            let may = self.bands[n % BANDS].bound.get() < soonest;
            if may { soonest.min(self.soonest_in(pin, n, part(n, &priorities))) } else { soonest }
        })
    }

    /// Returns the highest of these priorities that has a deadline which is not after `now`.
    pub fn best_expired(&self, pin: Pin<'_>, now: u64, priorities: Range<usize>) -> Option<usize> {
        let best = bits(self.used.get()).find_map(|n| {
            let band = &self.bands[n % BANDS];
            if band.bound.get() > now {
                return None;
            }
            let has_expired = |priority: &usize| self.queues[*priority].soonest(pin) <= now;
            let best = band.used(part(n, &priorities)).find(has_expired);
            if best.is_none() {
                self.correct(pin, n);
            }
            best
        });
        if best.is_none() && self.bound.get() <= now {
            self.renew_bound();
        }
        best
    }

    /// Corrects what is noted of the band with number `n`.
    #[cold]
    #[inline(never)]
    fn correct(&self, pin: Pin<'_>, n: usize) {
        self.soonest_in(pin, n, part(n, &(0..PRIORITIES)));
    }

    /// Returns the soonest deadline of a part of the band with number `n`. If the part is the whole
    /// band, corrects what is noted of the band.
    fn soonest_in(&self, pin: Pin<'_>, n: usize, its: Range<usize>) -> u64 {
        let band = &self.bands[n % BANDS];
        let (mut soonest, mut used) = (u64::MAX, 0);
        for priority in band.used(its.clone()) {
            let queue = &self.queues[priority];
            soonest = soonest.min(queue.soonest(pin));
            used |= u32::from(!queue.is_empty()) << (priority % WIDTH);
        }
        if its.len() == WIDTH {
            self.note(n, soonest, used);
        }
        soonest
    }

    /// Notes the soonest deadline of the band with number `n`, and which of its priorities have
    /// deadlines.
    #[inline(always)]
    fn note(&self, n: usize, soonest: u64, used: u32) {
        let band = &self.bands[n % BANDS];
        band.bound.set(soonest);
        band.used.set(used);
        if used == 0 {
            self.used.set(self.used.get() & !(1 << n));
        }
    }

    /// Returns the queues, those of the lowest priorities first. For surveys.
    pub const fn queues(&self) -> &[DeadlineQueue<T>] {
        &self.queues
    }

    /// Sets a deadline for `item`, which waits at this priority. Panics if `item` has one already.
    pub fn insert(&self, pin: Pin<'_>, item: Ref<'_, T>, deadline: u64, priority: u8) {
        self.queues[usize::from(priority)].insert(pin, item, deadline);
        item.deadline_links(pin).priority.set(u32::from(priority));
        self.used.set(self.used.get() | 1 << band_of(priority));
        let band = &self.bands[band_of(priority)];
        band.used.set(band.used.get() | 1 << (usize::from(priority) % WIDTH));
        band.bound.set(band.bound.get().min(deadline));
        if deadline < self.bound.get() {
            self.later.set(self.bound.replace(deadline));
            self.next.set(Some(item));
        } else if deadline < self.later.get() {
            self.later.set(deadline);
        }
    }

    /// Takes the object with the soonest deadline of the highest of these priorities in which a
    /// deadline is not after `now` out of its queue. Returns also that priority.
    pub fn pop_expired<'k>(
        &self,
        pin: Pin<'k>,
        now: u64,
        priorities: Range<usize>,
    ) -> Option<(Ref<'k, T>, u8)> {
        let priority = self.best_expired(pin, now, priorities)? % PRIORITIES;
        let queue = &self.queues[priority];
        let item = queue.pop_expired(pin, now)?;
        self.forget_next(item);
        if queue.is_empty() {
            self.note_empty(priority as u8);
        }
        Some((item, priority as u8))
    }

    /// Notes that an object leaves its queue. If it is the next one, its deadline stays the bound.
    #[inline(always)]
    fn forget_next(&self, item: Ref<'_, T>) {
        if self.next.is(item) {
            self.next.set(None);
        }
    }

    /// Notes that a priority has no deadlines any more.
    #[inline(always)]
    fn note_empty(&self, priority: u8) {
        let n = band_of(priority);
        let band = &self.bands[n];
        band.used.set(band.used.get() & !(1 << (usize::from(priority) % WIDTH)));
        if band.used.get() == 0 {
            band.bound.set(u64::MAX);
            self.used.set(self.used.get() & !(1 << n));
        }
    }

    /// Takes `item` out of its queue. Returns whether it had a deadline.
    pub fn remove(&self, pin: Pin<'_>, item: Ref<'_, T>) -> bool {
        self.forget_next(item);
        let priority = item.deadline_links(pin).priority.get() as u8;
        self.queues[usize::from(priority)].remove(pin, item)
    }
}

/// Takes the heaps below an object that leaves its heap. Returns the root of the heap that they
/// make together.
#[inline(always)]
fn orphans<'k, T: Timed>(pin: Pin<'k>, links: &DeadlineLinks<T>) -> Option<Ref<'k, T>> {
    // Without a left child there is no right one.
    if links.left.is_null() { None } else { merge_below(pin, links) }
}

#[inline(never)]
fn merge_below<'k, T: Timed>(pin: Pin<'k>, links: &DeadlineLinks<T>) -> Option<Ref<'k, T>> {
    let (left, right) = (links.left.take(pin), links.right.take(pin));
    for child in [left, right].into_iter().flatten() {
        child.deadline_links(pin).parent.set(None);
    }
    merge(pin, left, right)
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
