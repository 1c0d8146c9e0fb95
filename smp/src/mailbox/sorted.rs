//! Mail that a CPU has taken out of its queue and not served: it waits for the CPU's next look,
//! while better mail that came later is served.
//!
//! Only the mailbox's owner uses what is here. Its words are atomics only because other CPUs may
//! ask whether there is mail. So loom need not try their orders, and they are atomics of `core`.
//!
//! # Invariants
//! * What was set aside is older than all that is in the queue. So a CPU that takes its mail in
//!   order takes what was set aside first.
//! * Between entries, a CPU that has set mail aside defers its mail.
//! * No message is taken before an older one that was set aside with [`Order::Barrier`].

use core::ptr;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicPtr, AtomicU32};

use test_abi::trace::{Event, object_name};

use super::inbox::Taken;
use super::{Inbox, Node};
use crate::cpu::Pin;
use crate::trace;

/// What a message may overtake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Everything, if its rank is above the one for which its owner defers mail.
    ByRank,
    /// Everything, whatever its rank is.
    Always,
    /// Nothing.
    Behind,
    /// Nothing, and nothing may overtake it.
    Barrier,
}

/// What [`Inbox::pick`] did.
#[derive(Debug)]
pub enum Picked<P> {
    /// It took this message, which is to be served now.
    Mail(P),
    /// It set a message aside.
    Aside,
    /// There was none to decide about, or none that can be reached.
    Over,
}

/// A message for which the owner hurries, and for all before it.
#[repr(C)]
struct Flag<P> {
    /// Null: there is none.
    newest: AtomicPtr<Node<P>>,
    /// The highest rank that one of these messages may have.
    rank: AtomicU32,
}

impl<P> Flag<P> {
    fn new() -> Flag<P> {
        Flag { newest: AtomicPtr::new(ptr::null_mut()), rank: AtomicU32::new(0) }
    }

    fn is_down(&self) -> bool {
        self.newest.load(Relaxed).is_null()
    }

    /// Raises the flag for a message, since it or an older one may have this rank.
    fn raise(&self, newest: *mut Node<P>, rank: u32) {
        let before = if self.is_down() { 0 } else { self.rank.load(Relaxed) };
        self.newest.store(newest, Relaxed);
        self.rank.store(before.max(rank), Relaxed);
    }

    /// Lowers the flag if none of its messages may be above `rank`. Returns the highest rank that
    /// one of them may have; 0: the flag was down, or stays up.
    fn calm(&self, rank: u32) -> u32 {
        let highest = self.rank.load(Relaxed);
        if self.is_down() || highest > rank {
            return 0;
        }
        self.newest.store(ptr::null_mut(), Relaxed);
        highest
    }
}

/// The messages that were set aside, oldest first, linked as in the queue.
#[repr(C, align(64))]
pub(super) struct Sorted<P> {
    first: AtomicPtr<Node<P>>,
    last: AtomicPtr<Node<P>>,
    /// The newest message of the queue when the owner learned of mail there above the rank for
    /// which it defers, until the owner takes that message out of the queue.
    mark: Flag<P>,
    /// The newest message here above the rank for which the owner defers, until it is served.
    hurry: Flag<P>,
    /// The newest message here that must not be overtaken, until it is served; else null.
    barrier: AtomicPtr<Node<P>>,
    /// The highest rank of a message here that `hurry` does not stand for.
    best: AtomicU32,
}

impl<P> Sorted<P> {
    pub(super) fn new() -> Sorted<P> {
        let null = || AtomicPtr::new(ptr::null_mut());
        Sorted {
            first: null(),
            last: null(),
            mark: Flag::new(),
            hurry: Flag::new(),
            barrier: null(),
            best: AtomicU32::new(0),
        }
    }

    /// Returns whether messages were set aside.
    #[inline(always)]
    pub(super) fn has_mail(&self) -> bool {
        !self.first.load(Relaxed).is_null()
    }

    /// Returns whether the queue or what was set aside may have mail above the rank for which the
    /// owner defers mail.
    pub(super) fn hurries(&self) -> bool {
        !(self.mark.is_down() && self.hurry.is_down())
    }

    /// Marks the newest message of the queue, since it or an older one may have this rank.
    pub(super) fn mark(&self, newest: *mut Node<P>, rank: u32) {
        self.mark.raise(newest, rank);
    }

    /// Forgets the marked message.
    #[inline(always)]
    pub(super) fn unmark(&self) {
        self.mark.newest.store(ptr::null_mut(), Relaxed);
    }

    /// Notes that a message of the queue is taken out.
    #[inline(always)]
    pub(super) fn note_taken(&self, node: &Node<P>) {
        Self::forget(&self.mark.newest, node);
    }

    /// Ends the hurry for messages that are not above `rank`, for which the owner defers mail now:
    /// it may have hurried for the sake of a lower rank. Returns the highest rank that a message of
    /// the queue may have whose mark is forgotten by that; else 0.
    pub(super) fn calm(&self, rank: u32) -> u32 {
        self.best.store(self.best.load(Relaxed).max(self.hurry.calm(rank)), Relaxed);
        self.mark.calm(rank)
    }

    /// Makes the owner hurry for all that was set aside, if some of it may be above `rank`. With
    /// `risen`, a message may have a higher rank than when it was set aside.
    pub(super) fn raise(&self, rank: u32, risen: bool) {
        let best = self.best.load(Relaxed);
        if risen || best > rank {
            self.best.store(0, Relaxed);
            self.hurry.raise(self.last.load(Relaxed), if risen { u32::MAX } else { best });
        }
    }

    /// Adds a message of this rank that was taken out of the queue.
    fn add(&self, node: &Node<P>, rank: u32, hurries: bool, is_barrier: bool) {
        let this = ptr::from_ref(node).cast_mut();
        node.next.store(ptr::null_mut(), Relaxed);
        // SAFETY: a message that was set aside is part of a live object, as a queued one is, and
        // only the owner takes it out.
        match unsafe { self.last.load(Relaxed).as_ref() } {
            Some(last) => last.next.store(this, Relaxed),
            None => self.first.store(this, Relaxed),
        }
        self.last.store(this, Relaxed);
        if hurries {
            self.hurry.raise(this, rank);
        } else {
            self.best.store(self.best.load(Relaxed).max(rank), Relaxed);
        }
        if is_barrier {
            self.barrier.store(this, Relaxed);
        }
    }

    /// Takes out the oldest message.
    pub(super) fn take(&self) -> Option<&Node<P>> {
        let node = self.oldest()?;
        let next = node.next.load(Relaxed);
        self.first.store(next, Relaxed);
        if next.is_null() {
            self.last.store(next, Relaxed);
            self.best.store(0, Relaxed);
        }
        Self::forget(&self.hurry.newest, node);
        Self::forget(&self.barrier, node);
        Some(node)
    }

    #[inline(always)]
    fn forget(place: &AtomicPtr<Node<P>>, node: &Node<P>) {
        if ptr::eq(place.load(Relaxed), node) {
            place.store(ptr::null_mut(), Relaxed);
        }
    }

    /// Returns the oldest message.
    pub(super) fn oldest(&self) -> Option<&Node<P>> {
        // SAFETY: as in `add`.
        unsafe { self.first.load(Relaxed).as_ref() }
    }
}

impl<P: Send> Inbox<'_, P> {
    /// Takes a message that better mail may wait behind. If there may be better mail in the queue,
    /// that is the queue's oldest one: to serve it now, or to set it aside. `order` says what it
    /// may overtake. Otherwise it is the oldest one that was set aside, if one of those is better.
    /// Repeated until it says [`Picked::Over`], this finds all that was pushed until the last
    /// [`Inbox::defer`].
    pub fn pick(self, order: impl FnOnce(&P) -> Order) -> Picked<P> {
        let sorted = &self.mailbox().sorted;
        if sorted.mark.is_down() {
            return self.pick_aside();
        }
        let Taken::Node(node) = self.take_first() else { return self.pick_aside() };
        let order = node.look(order);
        let rank = if order == Order::Always { u32::MAX } else { node.rank() };
        let is_better = self.deferred_for().is_some_and(|its| rank > its);
        let overtakes = matches!(order, Order::Always | Order::ByRank);
        if is_better && overtakes && sorted.barrier.load(Relaxed).is_null() {
            return Picked::Mail(self.open(node));
        }
        sorted.add(node, rank, is_better, order == Order::Barrier);
        // SAFETY: an inbox is used on its owner's CPU, in a kernel entry (`Inbox::new`).
        let pin = unsafe { Pin::new(self.mailbox().owner()) };
        trace::record(pin, || Event::MailAside { node: object_name(ptr::from_ref(node).addr() as u64) });
        Picked::Aside
    }

    fn pick_aside(self) -> Picked<P> {
        let sorted = &self.mailbox().sorted;
        if sorted.hurry.is_down() {
            return Picked::Over;
        }
        sorted.take().map_or(Picked::Over, |node| Picked::Mail(self.open(node)))
    }

    /// Shows the message that [`Inbox::pick`] would take.
    pub fn peek_picked<R>(self, show: impl FnOnce(&P) -> R) -> Option<R> {
        let sorted = &self.mailbox().sorted;
        let queued = self.oldest_queued().filter(|_| !sorted.mark.is_down());
        queued.or_else(|| sorted.oldest()).map(|node| node.look(show))
    }

    /// Shows the message that [`Inbox::pop`] would take.
    pub fn peek<R>(self, show: impl FnOnce(&P) -> R) -> Option<R> {
        let aside = self.mailbox().sorted.oldest();
        aside.or_else(|| self.oldest_queued()).map(|node| node.look(show))
    }
}
