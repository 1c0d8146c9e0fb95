//! Mailboxes: one queue per CPU, into which any CPU puts messages for that CPU.
//!
//! # Shape
//! The mailbox is an intrusive multi-producer, single-consumer queue after Vyukov. A message's node
//! is part of the object that the message is about, so a push allocates nothing and cannot fail.
//!
//! ```text
//!   first ──> oldest ──next──> ... ──next──> newest <── head
//! ```
//! A push exchanges `head` for its node, which is its only atomic operation. If it found a node
//! there, it stores the link from that node to its own; if it found null, it makes its own node the
//! first. Between the two steps the queue is broken: `head` names mail that cannot be reached yet
//! ([`Popped::Between`]). `head` is null exactly while the queue is empty, so a push knows whether
//! it made the queue non-empty.
//!
//! Nodes that are linked beforehand enter by one exchange ([`Batch`]) and stay together.
//!
//! # Owners of nodes
//! A node names the CPU that owns it, and only that CPU may push it. The CPU that pops a node
//! becomes its owner, and owns the node's message block, too. So a node is in at most one queue,
//! once, and its payload needs no atomics. A push by another CPU breaks the protocol and panics.
//!
//! # Waking
//! Every push that makes the queue non-empty asks for an interrupt ([`Wake::Interrupt`]), whatever
//! the target is doing, even if it is in the kernel. The push omits the interrupt only if the
//! target has advertised that it polls. The consumer follows these rules:
//!
//! * A CPU idles only after [`Inbox::advertise`] has found no mail. While `head` is not null it
//!   does not idle, even if a producer is between exchange and link.
//! * After [`Inbox::retract`] it first drains the mailbox, since a producer may have left its
//!   interrupt out until then.
//! * If the consumer took a message that was alone ([`Inbox::pop_only`]), the mailbox is empty. The
//!   next push will interrupt, and the consumer need not look again.
//! * If a drain returns [`Drained::More`], the CPU must drain again: it interrupts itself, loops,
//!   or defers. Later pushes find the queue non-empty and do not interrupt.
//!
//! # Deferring
//! Without a bound, CPUs that push all the time would interrupt the target before each of its
//! instructions. So a CPU that runs a program may *defer* its mail ([`Inbox::defer`]) for a rank:
//! no push of mail up to this rank interrupts it, and it sets a timer at which it looks. The rules:
//!
//! * A CPU that defers always has a time at which it looks.
//! * It ends that only by [`Inbox::end_deferral`], which withdraws the advertisement, executes a
//!   full fence, and looks once more. While there is mail, the CPU continues to defer.
//! * A push of mail above the rank interrupts the CPU, also if the mailbox is not empty.
//! * A push that interrupts nobody because the mailbox is not empty, or because its owner defers,
//!   first notes its rank in the mailbox (`best`). A CPU that begins to defer looks at that. So
//!   mail above its rank that came before is known, too.
//! * A push to an empty mailbox notes no rank, and interrupts a CPU that does not defer. The CPU
//!   may begin to defer before it takes that interrupt, and then leaves its mail alone. So a CPU
//!   that begins to defer looks at the rank of the oldest message, too.
//! * A CPU that knows of such mail marks the newest message. [`Inbox::defer`] says that it has to
//!   hurry until it has taken that one. Mail that comes later makes it hurry only by a rank of its
//!   own.
//! * A CPU that hurries sorts its mail up to the mark ([`Inbox::pick`]): it serves what is above
//!   its rank, and sets the rest aside, in order. Mail that may overtake nothing ([`Order`]) is
//!   set aside in any case, and if it is above the rank, the CPU hurries until it has served it.
//! * The rank of a message may rise after its push ([`CoalescedBits`]). The CPU does not look for
//!   that message: it hurries for all mail that is there.
//! * At its time, and when it does not defer, a CPU takes its mail in order: first what it has set
//!   aside, then the queue.
//!
//! Only the receiver sorts. So a push to a mailbox, and a pop where no mail is deferred, cost what
//! they would cost without ranks.
//!
//! # Memory ordering
//! * The CPU that pops sees the payload and everything written before the push: the link is stored
//!   with `Release` and loaded with `Acquire`. The exchange has both orderings, since it passes one
//!   producer's node to the next producer, which writes the link in that node.
//! * Producer: exchange `head`, *full fence*, load `idle`. Consumer: store `idle`, *full fence*,
//!   load `head`. One of the two sees the other's store: either the producer sees that the target
//!   does not poll, and interrupts, or the consumer sees the mail. The producer's fence is
//!   [`fence_after_exchange`], free on x86; the consumer changes `idle` by an exchange as well.
//! * Deferring: the producer changes `best` or `risen`, fences fully, and loads `idle`. The
//!   consumer exchanges `idle`, fences fully, and loads both. So one of the two sees the other's
//!   store.

use core::mem::MaybeUninit;
use core::ptr;

use test_abi::trace::{Event, object_name};

use crate::chaos::{self, Point};
use crate::cpu::{CpuId, Pin};
use crate::door::Ref;
use crate::planted::{Fault, drop_this_interrupt, planted};
use crate::sync::{AtomicPtr, AtomicU32, Ordering, ProtocolCell, fence_after_exchange};
use crate::trace;

mod inbox;
mod sorted;

/// `Node::owner`: in a mailbox.
const QUEUED: u32 = u32::MAX;
/// `Node::owner` of a node that announces [`CoalescedBits`]: this plus the CPU in whose mailbox it
/// is, or is about to be. Other CPUs raise more bits meanwhile, and tell that CPU.
const QUEUED_AT: u32 = 1 << 31;
/// `Node::owner`: no owner; [`CoalescedBits`] determines which CPU may take it.
pub const FREE: u32 = u32::MAX - 1;

pub use crate::coalesced::CoalescedBits;
pub use inbox::{Drained, Inbox, Popped};
pub use sorted::{Order, Picked};

use sorted::Sorted;

/// What a message travels in: part of a kernel object, or of a table made at boot.
#[repr(C)]
pub struct Node<P> {
    next: AtomicPtr<Node<P>>,
    /// A CPU, [`QUEUED`], [`QUEUED_AT`] and more, or [`FREE`]. Written by the CPU that gets the
    /// node, read by a CPU that is about to push it; the queue orders these, so `Relaxed` will do.
    owner: AtomicU32,
    /// How urgent the message is, for the kernel that uses the mailbox. Written by the CPU that
    /// owns the node, before its push.
    rank: AtomicU32,
    payload: ProtocolCell<MaybeUninit<P>>,
}

// SAFETY: `next`, `owner` and `rank` are atomics. `payload` is written by the one CPU that owns the
// node, and read by the one that pops it; the queue orders the two (`Release` link, `Acquire`
// load). The payload moves from CPU to CPU, hence `Send`.
unsafe impl<P: Send> Sync for Node<P> {}

impl<P> Node<P> {
    /// Makes a node that `owner` may push first.
    pub fn new(owner: CpuId) -> Node<P> {
        Self::owned(owner.raw())
    }

    /// Makes a node without an owner.
    pub(crate) fn free() -> Node<P> {
        Self::owned(FREE)
    }

    fn owned(owner: u32) -> Node<P> {
        Node {
            next: AtomicPtr::new(ptr::null_mut()),
            owner: AtomicU32::new(owner),
            rank: AtomicU32::new(0),
            payload: ProtocolCell::new(MaybeUninit::uninit()),
        }
    }

    /// Takes the node from `owner` and puts a message into it. Returns the node as a queue's link.
    #[inline(always)]
    fn fill(&self, owner: u32, payload: P, queued: u32) -> *mut Node<P> {
        self.claim(owner, queued);
        // SAFETY: `claim` took the node from its owner, which is us (or, for a free node, no other
        // code by the protocol of `CoalescedBits`); no other code sees it before the exchange that
        // pushes it.
        unsafe { self.payload.set(MaybeUninit::new(payload)) };
        self.next.store(ptr::null_mut(), Ordering::Relaxed);
        ptr::from_ref(self).cast_mut()
    }

    /// Whether this CPU owns the node: it is not under way, and this CPU may push it.
    #[inline(always)]
    pub fn is_here(&self, pin: Pin<'_>) -> bool {
        self.owner.load(Ordering::Relaxed) == pin.cpu().raw()
    }

    /// Returns whether the node is in a mailbox. A glance: it may be taken out immediately.
    pub fn is_queued(&self) -> bool {
        let owner = self.owner.load(Ordering::Relaxed);
        owner >= QUEUED_AT && owner != FREE
    }

    /// Returns the CPU in whose mailbox a node with [`CoalescedBits`] is. A glance.
    pub(crate) fn place(&self) -> Option<CpuId> {
        self.owner.load(Ordering::Relaxed).checked_sub(QUEUED_AT).and_then(|cpu| CpuId::new(cpu as usize))
    }

    /// Returns the node's owner as a word: a CPU's number, all ones for a mailbox, [`FREE`] without
    /// an owner. A glance.
    pub fn owner(&self) -> u32 {
        if self.is_queued() { QUEUED } else { self.owner.load(Ordering::Relaxed) }
    }

    /// Returns the rank of the node's message.
    #[inline(always)]
    pub fn rank(&self) -> u32 {
        self.rank.load(Ordering::Relaxed)
    }

    /// Sets the rank of the node's next message.
    /// Requires: this CPU owns the node.
    #[inline(always)]
    pub fn set_rank(&self, rank: u32) {
        self.rank.store(rank, Ordering::Relaxed);
    }

    /// Sets the rank of the node's next message to at least `rank`, also on a CPU that does not own
    /// the node.
    pub(crate) fn raise_rank(&self, rank: u32) {
        self.rank.fetch_max(rank, Ordering::Relaxed);
    }

    /// Sets the rank of the node's next message, but keeps a higher one that another CPU has set.
    #[inline(always)]
    pub(crate) fn begin_rank(&self, rank: u32) {
        if planted(Fault::LostRank) {
            self.set_rank(rank);
            return;
        }
        let other = self.rank.swap(rank, Ordering::Relaxed);
        if other > rank {
            self.raise_rank(other);
        }
    }

    /// Makes `to` the owner of a node that this CPU owns: its object moves there. Whatever tells
    /// `to` of the move orders this before `to`'s use of the node.
    pub fn hand_to(&self, pin: Pin<'_>, to: CpuId) {
        self.claim(pin.cpu().raw(), to.raw());
    }

    /// Gives up a node that this CPU popped.
    pub(crate) fn set_free(&self, pin: Pin<'_>) {
        self.claim(pin.cpu().raw(), FREE);
    }

    /// Shows the message in a node that is queued in this CPU's mailbox, or was set aside there.
    fn look<R>(&self, show: impl FnOnce(&P) -> R) -> R {
        // SAFETY: the node was found by a link, before which its producer's `set` came, and no code
        // writes the payload while the node is queued. The copy of its bits is only shown, and
        // never used or dropped as a message.
        let payload = unsafe { self.payload.get() };
        // SAFETY: as above.
        show(unsafe { payload.assume_init_ref() })
    }

    /// Takes the node from its owner, for the next one. Panics if `owner` does not own it.
    #[inline(always)]
    fn claim(&self, owner: u32, next: u32) {
        let present = self.owner.load(Ordering::Relaxed);
        if present != owner {
            wrong_owner(owner, present);
        }
        self.owner.store(next, Ordering::Relaxed);
    }
}

#[cold]
#[inline(never)]
fn wrong_owner(expected: u32, present: u32) -> ! {
    struct Owner(u32);
    impl core::fmt::Display for Owner {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            match self.0 {
                FREE => f.write_str("is free"),
                QUEUED_AT.. => f.write_str("is in a mailbox already"),
                cpu => write!(f, "belongs to cpu{cpu}"),
            }
        }
    }
    panic!("mailbox: a node was used as if it {}, but it {}", Owner(expected), Owner(present));
}

/// What a push asks of its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a CPU that is not interrupted may never look into its mailbox"]
pub enum Wake {
    /// Interrupt the target.
    Interrupt,
    /// The target looks by itself.
    NotNeeded,
}

impl Wake {
    #[inline(always)]
    pub fn is_needed(self) -> bool {
        self == Wake::Interrupt
    }
}

/// How a CPU waits for mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Idle {
    /// Stopped until an interrupt.
    Halt = 1,
    /// Looking at [`Mailbox::has_mail`] all the time, or monitoring its line: needs no interrupt.
    Poll = 2,
}

/// `Mailbox::idle`: not idle.
const RUNNING: u32 = 0;
const POLLING: u32 = Idle::Poll as u32;
/// Not idle, and looks by itself, later: this plus the rank for which the CPU defers.
const DEFERRING: u32 = 3;
/// The mailbox of one CPU. A push and a pop need only its first cache line.
#[repr(C, align(64))]
pub struct Mailbox<P> {
    /// The newest node; null while empty. Producers exchange it.
    head: AtomicPtr<Node<P>>,
    /// The oldest node, or null where it isn't linked yet. Written by the consumer, and by the
    /// producer that found `head` null; never by both at a time, since the consumer doesn't write
    /// it while it is null and `head` is not.
    first: AtomicPtr<Node<P>>,
    /// [`RUNNING`], an [`Idle`], or [`DEFERRING`] and more. Written by the owner.
    idle: AtomicU32,
    owner: CpuId,
    /// The highest rank of mail whose push interrupted nobody, since the owner last looked at this.
    best: AtomicU32,
    /// The highest rank that was given to a message after its push, since the owner last looked at
    /// this.
    risen: AtomicU32,
    sorted: Sorted<P>,
}

impl<P> Mailbox<P> {
    /// Makes the empty mailbox of a CPU that runs.
    pub fn new(owner: CpuId) -> Mailbox<P> {
        Mailbox {
            head: AtomicPtr::new(ptr::null_mut()),
            first: AtomicPtr::new(ptr::null_mut()),
            idle: AtomicU32::new(RUNNING),
            owner,
            best: AtomicU32::new(0),
            risen: AtomicU32::new(0),
            sorted: Sorted::new(),
        }
    }

    /// Returns the CPU that takes messages out of the mailbox.
    #[inline(always)]
    pub const fn owner(&self) -> CpuId {
        self.owner
    }

    /// Returns whether the mailbox has a message, reachable or not. Any CPU may ask.
    #[inline(always)]
    pub fn has_mail(&self) -> bool {
        self.has_queued() || self.sorted.has_mail()
    }

    /// Returns whether the queue has a message, reachable or not. An idle CPU, which has set no
    /// mail aside, polls this.
    #[inline(always)]
    pub fn has_queued(&self) -> bool {
        !self.newest().is_null()
    }

    /// Returns the newest message of the queue; null if there is none.
    #[inline(always)]
    fn newest(&self) -> *mut Node<P> {
        self.head.load(Ordering::Acquire)
    }

    /// Returns the address to which a push writes, and which a waiting CPU monitors.
    pub fn line(&self) -> u64 {
        ptr::from_ref(self).addr() as u64
    }

    /// Returns whether the mailbox's owner is idle. `Acquire`: the caller sees everything that the
    /// owner did before it idled.
    #[inline]
    pub fn is_idle(&self) -> bool {
        let idle = self.idle.load(Ordering::Acquire);
        idle != RUNNING && idle < DEFERRING
    }

    /// Returns the mailbox's receiving end, for its owner.
    #[inline(always)]
    pub fn inbox<'k>(&'k self, pin: Pin<'k>) -> Inbox<'k, P> {
        let (cpu, owner) = (pin.cpu(), self.owner);
        assert!(cpu == owner, "mailbox: {cpu:?} took mail from the mailbox of {owner:?}");
        Inbox::new(self)
    }
}

impl<P: Send> Mailbox<P> {
    /// Puts a message into the mailbox; `node` must belong to this CPU.
    ///
    /// After a push the target owns the node and its payload.
    #[inline(always)]
    pub fn push(&self, pin: Pin<'_>, node: Ref<'_, Node<P>>, payload: P) -> Wake {
        self.enqueue(pin, node, (pin.cpu().raw(), QUEUED), payload, || node.rank())
    }

    /// Puts a message into the mailbox as [`Mailbox::push`] does, with a rank that is computed only
    /// where it is needed.
    #[inline(always)]
    pub(crate) fn push_ranked(
        &self,
        pin: Pin<'_>,
        node: Ref<'_, Node<P>>,
        payload: P,
        rank: impl FnOnce() -> u32,
    ) -> Wake {
        self.enqueue(pin, node, (pin.cpu().raw(), QUEUED), payload, rank)
    }

    /// Pushes the node of bits, which has no owner and whose protocol lets the caller take it.
    #[inline]
    pub(crate) fn push_free(&self, pin: Pin<'_>, node: Ref<'_, Node<P>>, payload: P) -> Wake {
        self.enqueue(pin, node, (FREE, self.place_here()), payload, || node.rank())
    }

    /// Pushes the node of bits, which belongs to this CPU.
    pub(crate) fn push_on(&self, pin: Pin<'_>, node: Ref<'_, Node<P>>, payload: P) -> Wake {
        self.enqueue(pin, node, (pin.cpu().raw(), self.place_here()), payload, || node.rank())
    }

    /// Returns whether a node with [`CoalescedBits`] is in this mailbox. A glance.
    #[inline(always)]
    pub(crate) fn has(&self, node: &Node<P>) -> bool {
        node.owner.load(Ordering::Relaxed) == self.place_here()
    }

    /// Returns what the owner word of a node with bits says in this mailbox.
    #[inline(always)]
    fn place_here(&self) -> u32 {
        QUEUED_AT + self.owner.raw()
    }

    #[inline(always)]
    fn enqueue(
        &self,
        pin: Pin<'_>,
        node: Ref<'_, Node<P>>,
        (owner, queued): (u32, u32),
        payload: P,
        rank: impl FnOnce() -> u32,
    ) -> Wake {
        let began = trace::begin();
        let this = node.fill(owner, payload, queued);
        // A node's rank is read after the push. If the owner has taken the node by then, the rank
        // may be of another message, but is no longer needed.
        let (empty, polls, wake) = self.publish(this, this, rank);
        trace::record_since(pin, began, || Event::MailPushed {
            node: object_name(node.addr()),
            to: self.owner.raw(),
            empty,
            polls,
        });
        wake
    }

    /// Appends nodes that are linked with each other, from the first to the last. `rank` is asked
    /// for only if the owner may not come to them soon.
    ///
    /// Returns: whether the mailbox was empty, and if so whether its owner polls or defers.
    #[inline(always)]
    fn publish(
        &self,
        first: *mut Node<P>,
        last: *mut Node<P>,
        rank: impl FnOnce() -> u32,
    ) -> (bool, bool, Wake) {
        let previous = self.head.swap(last, Ordering::SeqCst);
        chaos::point(Point::PushExchanged);
        if previous.is_null() {
            self.first.store(first, Ordering::Release);
        } else {
            // SAFETY: a queued node is part of a live object (an object is reclaimed only after a
            // grace period that flushes the mailboxes), and `previous` is queued: the consumer
            // doesn't pop it before it sees the link that is stored here.
            unsafe { &*previous }.next.store(first, Ordering::Release);
        }
        fence_after_exchange();
        chaos::point(Point::PushLinked);
        // Read once: the trace reports the value that decides.
        let (empty, idle) = (previous.is_null(), self.idle.load(Ordering::Relaxed));
        if empty && idle < POLLING {
            return (true, false, Self::wake_for(true));
        }
        if empty && idle == POLLING {
            return (true, true, Wake::NotNeeded);
        }
        (empty, empty, self.announce(rank()))
    }

    #[inline(always)]
    fn wake_for(needed: bool) -> Wake {
        if needed && !drop_this_interrupt() { Wake::Interrupt } else { Wake::NotNeeded }
    }

    /// Notes the rank of mail that waits behind other mail, or for the end of a deferral.
    /// Returns: whether it interrupts the owner, because it is above the rank of the deferral.
    #[cold]
    #[inline(never)]
    fn announce(&self, rank: u32) -> Wake {
        self.tell(&self.best, rank)
    }

    /// Notes that a message that may be in the mailbox already has this rank now. Returns whether
    /// that interrupts the owner.
    #[cold]
    #[inline(never)]
    pub(crate) fn announce_risen(&self, rank: u32) -> Wake {
        self.tell(&self.risen, rank)
    }

    fn tell(&self, noted: &AtomicU32, rank: u32) -> Wake {
        noted.fetch_max(rank, Ordering::SeqCst);
        fence_after_exchange();
        chaos::point(Point::PushLinked);
        let deferred_for = self.idle.load(Ordering::Relaxed).checked_sub(DEFERRING);
        Self::wake_for(deferred_for.is_some_and(|deferred_for| rank > deferred_for))
    }

    /// Begins a batch for this mailbox.
    pub fn batch<'k>(&'k self, pin: Pin<'k>) -> Batch<'k, P> {
        Batch { to: self, pin, first: ptr::null_mut(), last: ptr::null_mut(), rank: 0 }
    }

    #[inline(always)]
    fn found_empty(&self) -> Popped<P> {
        // Off loom, the store that `Inbox::retract` left out becomes visible now.
        if !cfg!(loom) && planted(Fault::MissingFence) {
            chaos::point(Point::IdleRetracting);
            self.idle.store(RUNNING, Ordering::Release);
        }
        Popped::Empty
    }

    /// Takes out the node that seems to be the last: empties the queue, unless a producer has
    /// pushed since. Returns whether the queue is empty.
    #[inline(always)]
    fn close(&self, last: *mut Node<P>) -> bool {
        // `first` must be null before `head` is: then a producer may write it at any time. While
        // `head` is not null no other code does, so it can be restored.
        self.first.store(ptr::null_mut(), Ordering::Relaxed);
        let closed =
            self.head.compare_exchange(last, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !closed {
            self.first.store(last, Ordering::Relaxed);
        }
        closed
    }
}

/// Messages that go into one mailbox by one exchange. The owner takes them out consecutively: no
/// message of others comes between them.
#[must_use = "the nodes are in no mailbox before the batch is pushed"]
pub struct Batch<'k, P> {
    to: &'k Mailbox<P>,
    pin: Pin<'k>,
    first: *mut Node<P>,
    last: *mut Node<P>,
    /// The highest rank of the messages.
    rank: u32,
}

impl<'k, P: Send> Batch<'k, P> {
    /// Appends a message to the batch. `node` must belong to this CPU.
    pub fn add(&mut self, node: Ref<'k, Node<P>>, payload: P) {
        let this = node.fill(self.pin.cpu().raw(), payload, QUEUED);
        if self.last.is_null() {
            self.first = this;
        } else {
            // SAFETY: the last node that was added. It is part of an object that lives as long as
            // this entry, for which the batch is borrowed, and is not pushed yet. What pushes it
            // orders this store.
            unsafe { &*self.last }.next.store(this, Ordering::Relaxed);
        }
        self.last = this;
        self.rank = self.rank.max(node.rank());
        // A CPU that begins to defer its mail looks at the oldest message alone.
        // SAFETY: the first node that was added, as above; it may be this one.
        unsafe { &*self.first }.set_rank(self.rank);
        // Before the push: after it the consumer may have the nodes already.
        let (node, to) = (object_name(node.addr()), self.to.owner.raw());
        trace::record(self.pin, || Event::MailPushed { node, to, empty: false, polls: false });
    }

    /// Puts all messages of the batch into the mailbox.
    pub fn push(self) -> Wake {
        if self.first.is_null() {
            return Wake::NotNeeded;
        }
        let (_, _, wake) = self.to.publish(self.first, self.last, || self.rank);
        wake
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
