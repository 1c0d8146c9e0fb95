//! Bits that any CPU may raise, and that one mailbox message announces, however many were raised.
//!
//! A task's control bits and a Notification's remote bits are of this kind: the CPU that raises the
//! first bit pushes the node, later CPUs add bits to the word, and the CPU that pops the node takes
//! them all.
//!
//! # Protocol
//! The node has no owner while the word is zero. The CPU whose raise finds zero owns the node until
//! it pushes it. The CPU that pops the node owns it until it takes the bits, and gives the node up
//! just before the word becomes zero again. So the word decides which CPU may touch the node. The
//! node's rank is the exception: a CPU whose raise finds bits up raises the rank in place, and
//! informs the CPU in whose mailbox the node is. That may be another one than the raise would push
//! to: the owner of the bits, or what they are about, may have moved.
//!
//! # Memory ordering
//! Raising and taking are `AcqRel` exchanges of one word. So a CPU that takes a bit sees everything
//! that the raising CPU wrote before, and a CPU that raises from zero sees that the node was given
//! up.
//!
//! A CPU that pushes the node writes its place, fences fully by its push, and reads the rank. A CPU
//! that finds bits up raises the rank, fences fully, and reads the place. So one of the two sees
//! the other's store.

use crate::chaos::{self, Point};
use crate::cpu::{CpuId, Pin};
use crate::door::Ref;
use crate::mailbox::{Mailbox, Node, Wake};
use crate::planted::{Fault, planted};
use crate::sync::{AtomicU64, Ordering, fence_after_exchange};

/// An OR-able word and the node that announces it.
#[repr(C)]
pub struct CoalescedBits<P> {
    bits: AtomicU64,
    node: Node<P>,
}

impl<P> CoalescedBits<P> {
    pub fn new() -> CoalescedBits<P> {
        CoalescedBits { bits: AtomicU64::new(0), node: Node::free() }
    }
}

impl<P: Send> Mailbox<P> {
    /// Raises `bits` (not none) and, where none was up, pushes their node.
    ///
    /// The payload names the owner of the bits for the target, so it is the same for every raise.
    /// The rank beside it is how urgent the raise is. The message has the highest rank of the
    /// raises that it announces. A raise while the bits are being taken may count for the next
    /// message.
    ///
    /// If bits are up, their node may be in the mailbox of another CPU, which `others` returns:
    /// then that CPU learns the rank.
    ///
    /// Returns: the CPU that may have to be interrupted, and whether it has to.
    #[inline]
    pub fn raise<'m>(
        &'m self,
        pin: Pin<'_>,
        at: Ref<'_, CoalescedBits<P>>,
        bits: u64,
        ranked: impl FnOnce() -> (P, u32),
        others: impl FnOnce(CpuId) -> &'m Mailbox<P>,
    ) -> (CpuId, Wake) {
        debug_assert!(bits != 0, "raising no bit would leave the node to nobody");
        let was_up = planted(Fault::LostWake) && at.look_too_early();
        let (payload, rank) = ranked();
        if at.bits.fetch_or(bits, Ordering::AcqRel) != 0 || was_up {
            at.get().node.raise_rank(rank);
            fence_after_exchange();
            // The raise that has found no bit up says where it pushes the node, then pushes it, and
            // then reads its rank. So does a CPU that passes it on.
            let there = if self.has(&at.get().node) { self } else { self.place_of(&at.get().node, others) };
            return (there.owner(), there.announce_risen(rank));
        }
        chaos::point(Point::BitsRaised);
        at.get().node.begin_rank(rank);
        (self.owner(), self.push_free(pin, at.map(|at| &at.node), payload))
    }

    /// Returns the mailbox in which a node of bits is, or this one if it is in none.
    #[cold]
    fn place_of<'m>(
        &'m self,
        node: &Node<P>,
        others: impl FnOnce(CpuId) -> &'m Mailbox<P>,
    ) -> &'m Mailbox<P> {
        node.place().filter(|_| !planted(Fault::WrongMailbox)).map_or(self, others)
    }

    /// Pushes a popped node into this mailbox, with its bits still raised, because their object has
    /// moved to this mailbox's CPU.
    pub fn pass_on(&self, pin: Pin<'_>, at: Ref<'_, CoalescedBits<P>>, payload: P) -> Wake {
        self.push_on(pin, at.map(|at| &at.node), payload)
    }
}

impl<P: Send> CoalescedBits<P> {
    /// Takes all bits, on the CPU that popped the node.
    #[inline]
    pub fn take(&self, pin: Pin<'_>) -> u64 {
        chaos::point(Point::BitsPopped);
        if planted(Fault::LostRecall) {
            // The planted bug: a bit raised between the two found the word non-zero, so no node
            // came for it, and is wiped out.
            let bits = self.bits.load(Ordering::Acquire);
            chaos::point(Point::BitsPopped);
            self.node.set_rank(0);
            self.node.set_free(pin);
            self.bits.store(0, Ordering::Release);
            return bits;
        }
        self.node.set_rank(0);
        self.node.set_free(pin);
        self.bits.swap(0, Ordering::AcqRel)
    }

    /// Returns whether a bit is raised, as a planted bug too early: a CPU that takes the bits
    /// between this check and the raise has popped the node that the raiser counts on.
    fn look_too_early(&self) -> bool {
        let was_up = self.bits.load(Ordering::Acquire) != 0;
        chaos::point(Point::BitsRaised);
        was_up
    }

    /// Returns the rank of the node's message.
    /// Requires: this CPU has popped the node, and has not taken the bits.
    pub fn rank(&self) -> u32 {
        self.node.rank()
    }

    /// Returns the node's owner, as [`Node::owner`] does.
    pub fn node_owner(&self) -> u32 {
        self.node.owner()
    }

    /// Returns the raised bits that no CPU has taken yet. A glance: they may change immediately.
    #[inline(always)]
    pub fn glance(&self) -> u64 {
        self.bits.load(Ordering::Acquire)
    }
}
