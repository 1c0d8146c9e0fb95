//! Waiters in order of priority, and in order of arrival within one.
//!
//! The list holds any number of queued senders. Inserting still takes at most 256 steps, because a
//! second chain runs through the first waiter of each priority:
//!
//! ```text
//!  order   9a <-> 9b <-> 9c <-> 7a <-> 4a <-> 4b
//!  chain   9a <---------------> 7a <-> 4a
//! ```
//! An insertion walks the chain to the end of the item's priority, and links the item into the
//! order there. A change of priority inserts again. [`PrioList::find_first`] walks the chain, too.
//! [`PrioList::append`] inserts each priority of the other list as a whole, and walks the chain
//! once for all of them. All other operations take a constant number of steps.

use core::cell::Cell;

use smp::cpu::Pin;
use smp::door::{Link, Ref};

/// An object that can wait in a [`PrioList`].
pub trait PrioQueued: Sized {
    /// Returns the object's links in a list of waiters. The caller runs on the CPU that owns the
    /// list, so the object's home is this CPU.
    fn prio_links<'a>(&'a self, pin: Pin<'a>) -> &'a PrioLinks<Self>;
}

/// Where a waiter stands.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Place {
    Out,
    /// First of its priority: part of the chain.
    First,
    /// Behind another of its priority.
    Follower,
}

/// What a waiter carries. All null while it does not wait.
#[repr(C)]
pub struct PrioLinks<T> {
    /// The order.
    next: Link<T>,
    prev: Link<T>,
    /// The chain: the first of the next lower and of the next higher priority. Null in followers.
    lower: Link<T>,
    higher: Link<T>,
    place: Cell<Place>,
    priority: Cell<u8>,
}

impl<T> Default for PrioLinks<T> {
    /// Returns links of an object that does not wait.
    fn default() -> Self {
        PrioLinks {
            next: Link::null(),
            prev: Link::null(),
            lower: Link::null(),
            higher: Link::null(),
            place: Cell::new(Place::Out),
            priority: Cell::new(0),
        }
    }
}

impl<T> PrioLinks<T> {
    /// Whether the object waits.
    pub fn is_waiting(&self) -> bool {
        self.place.get() != Place::Out
    }

    /// Returns the links, the priority and the place, for surveys. The links are the addresses of
    /// the next and the previous waiter in the order, and of the lower and the higher one in the
    /// chain. The place is 0 if the object does not wait, 1 if it is the first of its priority, and
    /// 2 after another of its priority.
    pub fn survey(&self) -> ([u64; 4], u8, u32) {
        let links = [&self.next, &self.prev, &self.lower, &self.higher].map(Link::addr);
        (links, self.priority.get(), self.place.get() as u32)
    }

    /// Returns the priority under which the object waits, if it waits.
    pub fn priority(&self) -> Option<u8> {
        self.is_waiting().then(|| self.priority.get())
    }
}

/// A queue by priority.
#[repr(C)]
pub struct PrioList<T> {
    first: Link<T>,
    last: Link<T>,
}

impl<T> Default for PrioList<T> {
    /// Returns an empty list.
    fn default() -> Self {
        PrioList { first: Link::null(), last: Link::null() }
    }
}

impl<T> PrioList<T> {
    /// Returns the addresses of the first and of the last waiter. For surveys.
    pub fn ends(&self) -> [u64; 2] {
        [self.first.addr(), self.last.addr()]
    }

    /// Whether there is no waiter.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.first.is_null()
    }
}

impl<T: PrioQueued> PrioList<T> {
    /// Returns the first waiter.
    #[inline]
    pub fn first<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        self.first.get(pin)
    }

    /// Returns the waiter if there is one alone.
    #[inline]
    pub fn only<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        self.first.get(pin).filter(|first| self.last.is(*first))
    }

    /// Returns the waiter after `item`, which waits here.
    pub fn after<'k>(&self, pin: Pin<'k>, item: Ref<'_, T>) -> Option<Ref<'k, T>> {
        item.prio_links(pin).next.get(pin)
    }

    /// Adds `item` to the list, after all other waiters of `priority`. Panics if it waits already.
    pub fn insert(&self, pin: Pin<'_>, item: Ref<'_, T>, priority: u8) {
        let links = item.prio_links(pin);
        if links.is_waiting() {
            waits_twice(links.priority.get(), priority);
        }
        links.priority.set(priority);
        self.enter(pin, item, item);
    }

    /// Adds waiters of one priority, from `first` to `last`, after all others of that priority.
    #[inline(always)]
    fn enter(&self, pin: Pin<'_>, first: Ref<'_, T>, last: Ref<'_, T>) {
        if self.is_empty() {
            // As is common. The waiters have no neighbours.
            first.prio_links(pin).place.set(Place::First);
            self.first.set(Some(first));
            self.last.set(Some(last));
        } else {
            let _ = self.enter_among(pin, first, last, None);
        }
    }

    /// Adds waiters of one priority to others. The search for their place begins in the chain at
    /// `from`, which has a higher priority, or else at the first waiter. Returns the first waiter
    /// of their priority.
    fn enter_among<'k>(
        &self,
        pin: Pin<'k>,
        first: Ref<'k, T>,
        last: Ref<'_, T>,
        from: Option<Ref<'k, T>>,
    ) -> Ref<'k, T> {
        let links = first.prio_links(pin);
        let (higher, lower) = self.neighbours(pin, links.priority.get(), from);
        let class = match higher {
            Some(class) if class.prio_links(pin).priority.get() == links.priority.get() => {
                links.place.set(Place::Follower);
                class
            }
            _ => {
                links.place.set(Place::First);
                self.enter_chain(pin, first, higher, lower);
                first
            }
        };
        self.enter_order(pin, first, last, lower);
        class
    }

    /// Moves all waiters of `other` into this list, those of each priority after all that are here.
    /// The number of steps is at most that of the priorities in both lists, however many waiters
    /// there are.
    pub fn append(&self, pin: Pin<'_>, other: &PrioList<T>) {
        if self.is_empty() {
            self.first.set(other.first.take(pin));
            self.last.set(other.last.take(pin));
            return;
        }
        let (mut class, mut from) = (other.first.take(pin), None);
        while let Some(first) = class {
            let links = first.prio_links(pin);
            class = links.lower.take(pin);
            let last = match class {
                Some(lower) => {
                    lower.prio_links(pin).higher.set(None);
                    lower.prio_links(pin).prev.take(pin)
                }
                None => other.last.take(pin),
            };
            if let Some(last) = last {
                from = Some(self.enter_among(pin, first, last, from));
            }
        }
    }

    /// Looks at the first waiter of each priority, the highest first, and at no more than `looks`
    /// of them. Returns the first one that is wanted.
    pub fn find_first<'k>(
        &self,
        pin: Pin<'k>,
        looks: usize,
        is_wanted: impl Fn(Ref<'k, T>) -> bool,
    ) -> Option<Ref<'k, T>> {
        let mut class = self.first.get(pin);
        for _ in 0..looks {
            let first = class?;
            if is_wanted(first) {
                return Some(first);
            }
            class = first.prio_links(pin).lower.get(pin);
        }
        None
    }

    /// Returns whether [`PrioList::remove`] may take out `item`, which waits in this list or in
    /// another one: it waits here, or between two others, which are the only ones that change.
    pub fn is_removable(&self, pin: Pin<'_>, item: Ref<'_, T>) -> bool {
        let links = item.prio_links(pin);
        (!links.prev.is_null() || self.first.is(item)) && (!links.next.is_null() || self.last.is(item))
    }

    /// Takes the first waiter of the highest priority out of the list.
    #[inline]
    pub fn pop_highest<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, T>> {
        let first = self.first.get(pin)?;
        self.remove(pin, first);
        Some(first)
    }

    /// Moves all waiters into a list of their own.
    pub fn take_all(&self, pin: Pin<'_>) -> PrioList<T> {
        let all = PrioList::default();
        all.first.set(self.first.take(pin));
        all.last.set(self.last.take(pin));
        all
    }

    /// Takes `item` out of the list, at any position. Returns whether it was waiting.
    /// Requires: it does not wait in another list, or [`PrioList::is_removable`] has returned true.
    pub fn remove(&self, pin: Pin<'_>, item: Ref<'_, T>) -> bool {
        let links = item.prio_links(pin);
        if self.first.is(item) && self.last.is(item) {
            // As is common. It has no neighbours.
            self.first.set(None);
            self.last.set(None);
            links.place.set(Place::Out);
            return true;
        }
        match links.place.replace(Place::Out) {
            Place::Out => return false,
            Place::First => Self::leave_chain(pin, item),
            Place::Follower => {}
        }
        let (prev, next) = (links.prev.take(pin), links.next.take(pin));
        match prev {
            Some(prev) => prev.prio_links(pin).next.set(next),
            None => self.first.set(next),
        }
        match next {
            Some(next) => next.prio_links(pin).prev.set(prev),
            None => self.last.set(prev),
        }
        true
    }

    /// Moves a waiting `item` to the end of another priority; with its own priority, changes
    /// nothing. Returns whether it was waiting.
    pub fn change_priority(&self, pin: Pin<'_>, item: Ref<'_, T>, priority: u8) -> bool {
        let old = item.prio_links(pin).priority();
        if old.is_some_and(|old| old != priority) {
            self.remove(pin, item);
            self.insert(pin, item, priority);
        }
        old.is_some()
    }

    /// Returns the last waiter in the chain whose priority is at least `priority`, and the waiter
    /// after it in the chain. The chain has the first waiter of each priority. The search begins at
    /// `from`, which has a higher priority, or else at the first waiter.
    fn neighbours<'k>(
        &self,
        pin: Pin<'k>,
        priority: u8,
        from: Option<Ref<'k, T>>,
    ) -> (Option<Ref<'k, T>>, Option<Ref<'k, T>>) {
        let after = from.map_or(&self.first, |from| &from.get().prio_links(pin).lower);
        let (mut higher, mut lower) = (from, after.get(pin));
        while let Some(class) = lower {
            if class.prio_links(pin).priority.get() < priority {
                break;
            }
            higher = lower;
            lower = class.prio_links(pin).lower.get(pin);
        }
        (higher, lower)
    }

    fn enter_chain(
        &self,
        pin: Pin<'_>,
        item: Ref<'_, T>,
        higher: Option<Ref<'_, T>>,
        lower: Option<Ref<'_, T>>,
    ) {
        let links = item.prio_links(pin);
        links.higher.set(higher);
        links.lower.set(lower);
        if let Some(higher) = higher {
            higher.prio_links(pin).lower.set(Some(item));
        }
        if let Some(lower) = lower {
            lower.prio_links(pin).higher.set(Some(item));
        }
    }

    /// Puts waiters, which are in order from `first` to `last`, into the order of all waiters
    /// before `next`, or at the end.
    fn enter_order(&self, pin: Pin<'_>, first: Ref<'_, T>, last: Ref<'_, T>, next: Option<Ref<'_, T>>) {
        let before = next.map_or(&self.last, |next| &next.get().prio_links(pin).prev);
        let prev = before.get(pin);
        before.set(Some(last));
        match prev {
            Some(prev) => prev.prio_links(pin).next.set(Some(first)),
            None => self.first.set(Some(first)),
        }
        first.prio_links(pin).prev.set(prev);
        last.prio_links(pin).next.set(next);
    }

    /// Takes the first waiter of a priority out of the chain: the next waiter of that priority
    /// takes its place in the chain, or the chain closes. The order of all waiters stays.
    fn leave_chain(pin: Pin<'_>, item: Ref<'_, T>) {
        let links = item.prio_links(pin);
        let (higher, lower) = (links.higher.take(pin), links.lower.take(pin));
        let heir = links.next.get(pin).filter(|next| next.prio_links(pin).place.get() == Place::Follower);
        if let Some(heir) = heir {
            let heir = heir.prio_links(pin);
            heir.place.set(Place::First);
            heir.higher.set(higher);
            heir.lower.set(lower);
        }
        if let Some(higher) = higher {
            higher.prio_links(pin).lower.set(heir.or(lower));
        }
        if let Some(lower) = lower {
            lower.prio_links(pin).higher.set(heir.or(higher));
        }
    }
}

#[cold]
#[inline(never)]
fn waits_twice(old: u8, new: u8) -> ! {
    panic!("priority list: inserted with priority {new} while it waits with priority {old}");
}
