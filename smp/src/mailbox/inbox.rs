//! The receiving end of a mailbox.

use core::marker::PhantomData;
use core::ptr;

use test_abi::trace::{Event, object_name};

use super::{DEFERRING, Idle, Mailbox, Node, RUNNING};
use crate::chaos::{self, Point};
use crate::cpu::Pin;
use crate::planted::{Fault, planted};
use crate::sync::{Ordering, fence_after_exchange};
use crate::trace;

/// What a pop found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Popped<P> {
    /// The oldest message. Its node now belongs to this CPU.
    Mail(P),
    /// There is mail that cannot be reached yet: a producer stands between exchange and link.
    Between,
    /// There is nothing.
    Empty,
}

/// How a drain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "mail that is left over announces itself to nobody"]
pub enum Drained {
    /// There is nothing left.
    Empty,
    /// Mail is left: drain again soon, because no interrupt will come for it.
    More,
}

/// Looks that a drain takes at a broken queue before it gives up for now. (Under loom, which tries
/// every moment to give up at, one is enough.)
const PATIENCE: usize = if cfg!(loom) { 1 } else { 64 };

/// What was found in the queue.
pub(super) enum Taken<'k, P> {
    Node(&'k Node<P>),
    /// There is a node that cannot be reached yet.
    Between,
    Empty,
}

/// A mailbox as its owner has it, for one step of a kernel entry.
pub struct Inbox<'k, P>(&'k Mailbox<P>, PhantomData<*const ()>);

impl<P> Clone for Inbox<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P> Copy for Inbox<'_, P> {}

impl<'k, P> Inbox<'k, P> {
    /// Returns the receiving end of `mailbox`.
    /// Requires: this CPU owns the mailbox.
    #[inline(always)]
    pub(crate) fn new(mailbox: &'k Mailbox<P>) -> Inbox<'k, P> {
        Inbox(mailbox, PhantomData)
    }

    /// Says that this CPU goes idle, and looks for mail once more. Returns `false` if there is
    /// mail: then the CPU is not idle and must drain. `true`: it may idle until [`Inbox::retract`];
    /// to halt, it enables interrupts and halts in one step, since they have been off until now.
    #[inline(always)]
    pub fn advertise(self, how: Idle) -> bool {
        self.0.idle.swap(how as u32, Ordering::SeqCst);
        fence_after_exchange();
        chaos::point(Point::IdleAdvertised);
        debug_assert!(!self.0.sorted.has_mail(), "a CPU idles with mail that it has set aside");
        if self.0.has_queued() {
            self.0.idle.store(RUNNING, Ordering::Release);
            return false;
        }
        true
    }

    /// Retracts the idle state. This is the first action of a CPU that leaves idle. If there is
    /// mail, the CPU drains before anything else.
    #[inline(always)]
    pub fn retract(self) {
        if planted(Fault::MissingFence) {
            // Without the fence this store may become visible only after the reads that follow it.
            // Loom tries that; elsewhere a look that finds nothing makes the store.
            #[cfg(loom)]
            self.0.idle.store(RUNNING, Ordering::Release);
            return;
        }
        chaos::point(Point::IdleRetracting);
        self.0.idle.swap(RUNNING, Ordering::SeqCst);
        fence_after_exchange();
    }

    /// Returns whether this CPU defers its mail.
    #[inline(always)]
    pub fn is_deferring(self) -> bool {
        self.deferred_for().is_some()
    }

    /// Returns the rank for which this CPU defers its mail, if it does.
    #[inline(always)]
    pub fn deferred_for(self) -> Option<u32> {
        self.0.idle.load(Ordering::Relaxed).checked_sub(DEFERRING)
    }

    /// Returns whether mail above the rank for which this CPU defers its mail waits, or may wait.
    pub fn has_urgent(self) -> bool {
        let best = self.0.best.load(Ordering::Relaxed).max(self.0.risen.load(Ordering::Relaxed));
        self.0.sorted.hurries() || self.deferred_for().is_some_and(|rank| best > rank)
    }

    /// Lets only pushes of mail above `rank` interrupt this CPU. The CPU sets a time at which it
    /// looks.
    ///
    /// Returns: whether mail above `rank` may wait already. Then the CPU looks again soon.
    pub fn defer(self, rank: u32) -> bool {
        let word = DEFERRING.saturating_add(rank);
        if planted(Fault::UnfencedDeferral) {
            self.0.idle.store(word, Ordering::Release);
        } else {
            let begins = self.0.idle.swap(word, Ordering::SeqCst) < DEFERRING;
            fence_after_exchange();
            if begins {
                // The mark is of an earlier deferral, whose mail was taken.
                self.0.sorted.unmark();
                if self.may_hide(rank) {
                    self.0.sorted.mark(self.0.newest(), u32::MAX);
                }
            } else {
                let forgotten = self.0.sorted.calm(rank);
                if forgotten != 0 {
                    // Below `rank`, and for a later deferral.
                    self.0.best.fetch_max(forgotten, Ordering::AcqRel);
                }
            }
        }
        let risen = self.0.risen.load(Ordering::Acquire) > rank;
        if risen {
            self.0.risen.swap(0, Ordering::AcqRel);
        }
        if risen || self.0.best.load(Ordering::Acquire) > rank {
            // First `best`, then `head`: the rank's message is the marked one or an older one.
            let best = self.0.best.swap(0, Ordering::AcqRel);
            self.0.sorted.mark(self.0.newest(), if risen { u32::MAX } else { best });
        }
        self.0.sorted.raise(rank, risen);
        self.0.sorted.hurries()
    }

    /// Returns whether the oldest message may be above a rank. If its push found the mailbox empty,
    /// before this CPU deferred its mail, the push noted no rank.
    fn may_hide(self, rank: u32) -> bool {
        if planted(Fault::HiddenRank) {
            return false;
        }
        match self.oldest_queued() {
            None => self.0.has_queued(),
            // Some nodes have no rank of their own.
            Some(oldest) => oldest.rank() == 0 || oldest.rank() > rank,
        }
    }

    /// Lets pushes interrupt this CPU again, if the mailbox is empty. Returns `false` if it is not:
    /// then the CPU defers again ([`Inbox::defer`]).
    pub fn end_deferral(self) -> bool {
        self.retract();
        !self.0.has_mail()
    }

    /// Returns whether the mailbox has a message, reachable or not.
    pub fn has_mail(self) -> bool {
        self.0.has_mail()
    }

    /// Returns whether there is mail besides what this CPU has set aside.
    #[inline(always)]
    pub fn has_queued(self) -> bool {
        self.0.has_queued()
    }

    /// Returns whether there is mail and none of it can be reached yet, because a producer stands
    /// between exchange and link. Then all that this CPU can do is to look again.
    pub fn is_broken(self) -> bool {
        self.oldest_queued().is_none() && self.0.has_queued() && !self.0.sorted.has_mail()
    }

    /// Returns the oldest node of the queue, if it can be reached.
    pub(super) fn oldest_queued(self) -> Option<&'k Node<P>> {
        // SAFETY: a queued node is part of a live object, see `enqueue`; only this CPU takes it
        // out.
        unsafe { self.0.first.load(Ordering::Acquire).as_ref() }
    }

    #[inline(always)]
    pub(super) fn mailbox(self) -> &'k Mailbox<P> {
        self.0
    }
}

/// A message that was alone in the mailbox and was taken out. It is opened apart, so that no code
/// has to ask of its payload whether there is one.
#[must_use = "the message is lost otherwise"]
pub struct Only<'k, P> {
    inbox: Inbox<'k, P>,
    node: &'k Node<P>,
}

impl<P: Send> Only<'_, P> {
    /// Returns the payload.
    #[inline(always)]
    pub fn open(self) -> P {
        self.inbox.open(self.node)
    }
}

impl<'k, P: Send> Inbox<'k, P> {
    /// Takes the message that is alone in the mailbox, which the caller then opens. Returns `None`
    /// if there is none, if there are more, or if the queue is broken; then use [`Inbox::pop`].
    /// Afterwards the mailbox is empty, so that the next CPU that pushes interrupts.
    /// Requires: this CPU has set no mail aside, and so does not defer its mail.
    #[inline(always)]
    pub fn pop_only(self) -> Option<Only<'k, P>> {
        debug_assert!(!self.0.sorted.has_mail(), "mail was set aside, and is older");
        let only = self.0.first.load(Ordering::Acquire);
        if only.is_null() {
            return None;
        }
        chaos::point(Point::PopRead);
        // SAFETY: a queued node is part of a live object, see `enqueue`.
        let node = unsafe { &*only };
        if !node.next.load(Ordering::Acquire).is_null() || !self.0.close(only) {
            return None;
        }
        Some(Only { inbox: self, node })
    }

    /// Returns the payload of a node that was just popped.
    #[inline(always)]
    pub(super) fn open(self, node: &Node<P>) -> P {
        // SAFETY: popped: nothing else reaches the node any more. Its producer's `set` came before
        // the link, by which the node was found.
        let payload = unsafe { node.payload.get().assume_init() };
        node.owner.store(self.0.owner.raw(), Ordering::Relaxed);
        // SAFETY: an inbox is used on its owner's CPU, in a kernel entry (`Inbox::new`).
        let pin = unsafe { Pin::new(self.0.owner) };
        trace::record(pin, || Event::MailTaken { node: object_name(ptr::from_ref(node).addr() as u64) });
        payload
    }

    /// Takes the oldest message out of the mailbox.
    #[inline]
    pub fn pop(self) -> Popped<P> {
        if let Some(node) = self.0.sorted.take() {
            return Popped::Mail(self.open(node));
        }
        match self.take_first() {
            Taken::Node(node) => Popped::Mail(self.open(node)),
            Taken::Between => Popped::Between,
            Taken::Empty => {
                self.0.sorted.unmark();
                self.0.found_empty()
            }
        }
    }

    /// Takes the oldest node out of the queue.
    pub(super) fn take_first(self) -> Taken<'k, P> {
        let Some(node) = self.oldest_queued() else {
            return if self.0.has_queued() { Taken::Between } else { Taken::Empty };
        };
        let mut next = node.next.load(Ordering::Acquire);
        if next.is_null() && !self.0.close(ptr::from_ref(node).cast_mut()) {
            next = node.next.load(Ordering::Acquire);
            if next.is_null() {
                return Taken::Between;
            }
        }
        if !next.is_null() {
            self.0.first.store(next, Ordering::Relaxed);
        }
        self.0.sorted.note_taken(node);
        Taken::Node(node)
    }

    /// Visits the messages, oldest first, and leaves them in the mailbox: for surveys. Messages
    /// after a producer between exchange and link are not reached.
    pub fn each_message(self, mut show: impl FnMut(&P)) {
        for first in [self.0.sorted.oldest(), self.oldest_queued()] {
            let mut at = first;
            while let Some(node) = at {
                node.look(&mut show);
                // SAFETY: a queued node is part of a live object, see `enqueue`; only this CPU
                // takes it out.
                at = unsafe { node.next.load(Ordering::Acquire).as_ref() };
            }
        }
    }

    /// Takes at most `bound` messages out of the mailbox, and hands each to `sort`.
    #[inline]
    pub fn drain(self, bound: usize, mut sort: impl FnMut(P)) -> Drained {
        for _ in 0..bound {
            match self.pop_patiently() {
                Popped::Mail(payload) => sort(payload),
                Popped::Between => return Drained::More,
                Popped::Empty => return Drained::Empty,
            }
        }
        if self.0.has_mail() { Drained::More } else { Drained::Empty }
    }

    /// Takes the oldest message, and gives a producer between exchange and link a moment to
    /// continue.
    fn pop_patiently(self) -> Popped<P> {
        for _ in 0..PATIENCE {
            match self.pop() {
                Popped::Between => core::hint::spin_loop(),
                found => return found,
            }
        }
        Popped::Between
    }
}
