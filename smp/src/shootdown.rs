//! TLB shootdowns: how a CPU learns that others have flushed translations.
//!
//! # Which CPUs are asked
//! Each CPU publishes the address space that it is in. A CPU that has removed a translation
//! increments the space's generation, and then asks only the CPUs that are in the space at that
//! moment. All other CPUs compare the generation when they enter the space, and then flush
//! translations that they kept under the space's PCID.
//!
//! The request does not name a translation. The target compares the generation of the space that it
//! is in with the last one that it saw, and flushes the whole space if the generation has changed.
//! So if several requests follow while the node is under way, one further request serves all of
//! them. For more than one space, or a space that is ending, the request is to flush
//! [`Everything`](What::Everything).
//!
//! # Numbers
//! Each CPU numbers the shootdowns that it begins. A shootdown is over when every asked CPU has
//! answered. A [`Stamp`] has the CPU and the number, so that any CPU can check whether the
//! shootdown is over. A task that must wait does so on the CPU that began the shootdown. Shootdowns
//! end in order: when one is over, all with lower numbers of that CPU are over.
//!
//! One node for each pair of CPUs carries the request there and the answer back. While it is under
//! way, further shootdowns record that the target must be asked again ([`Begun::batched`]).
//!
//! # Memory ordering
//! * Initiator: changes the entry, increments the generation, executes a *full fence*, reads the
//!   target's published space. Target: publishes the space, writes CR3 (*a full fence*), reads the
//!   generation. One of the two sees the other: the target is asked, or finds the new generation.
//! * A target that is in the space gets the node through its mailbox, which orders the increment
//!   before the target's read of the generation. It sends its answer, by mail, after it has
//!   flushed. `done` is a `Release` that its readers `Acquire`.

use crate::cpu::{CpuId, MAX_CPUS, Pin};
use crate::door::Ref;
use crate::mailbox::Node;
use crate::percpu::{BlockOf, Cpus, PerCpu, announce_risen, send};
use crate::planted::{Fault, planted};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// What a shootdown node says: `by` asks `at`. On its way back it says the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShootMail {
    by: CpuId,
    at: CpuId,
}

/// What the target is to forget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// What it remembers of the space that it is in, if that changed.
    Space,
    /// All user translations, of whatever space.
    Everything,
}

/// What one CPU shows the others of the shootdowns that it began.
#[derive(Default)]
pub(crate) struct ShootPort {
    /// All up to this number are over. Written by its CPU.
    done: AtomicU64,
    /// The highest number that has begun. Written by its CPU.
    begun: AtomicU64,
    /// Pairs whose node is under way. The CPU's own.
    busy: AtomicU64,
}

impl ShootPort {
    pub(crate) fn numbers(&self) -> (u64, u64) {
        (self.done.load(Ordering::Acquire), self.begun.load(Ordering::Relaxed))
    }
}

/// What one CPU, as initiator, has for another. All but the node is the initiator's own.
pub(crate) struct ShootPair<P> {
    node: Node<P>,
    /// The lowest number that the node under way is about; 0 = it is here.
    asked: AtomicU64,
    /// The lowest number that came since, for which the target is asked again when the node is
    /// back; 0 = none.
    again: AtomicU64,
    /// What that is: whether everything.
    everything: AtomicU64,
    /// The highest rank of the tasks that wait for that.
    rank: AtomicU32,
}

impl<P> ShootPair<P> {
    pub(crate) fn new(initiator: CpuId) -> ShootPair<P> {
        ShootPair {
            node: Node::new(initiator),
            asked: AtomicU64::new(0),
            again: AtomicU64::new(0),
            everything: AtomicU64::new(0),
            rank: AtomicU32::new(0),
        }
    }
}

/// Which shootdown: of which CPU, and its number there. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(u64);

const NUMBER_BITS: u32 = 48;
/// Bits of a stamp.
pub const STAMP_BITS: u32 = NUMBER_BITS + MAX_CPUS.ilog2();

impl Stamp {
    fn new(by: CpuId, number: u64) -> Stamp {
        Stamp((by.index() as u64) << NUMBER_BITS | number)
    }

    /// Decodes a stamp; `None` for 0, which is no stamp.
    pub const fn from_raw(raw: u64) -> Option<Stamp> {
        if raw == 0 { None } else { Some(Stamp(raw)) }
    }

    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Returns the CPU that began the shootdown; `None` if that CPU does not exist.
    pub fn by(self) -> Option<CpuId> {
        CpuId::new((self.0 >> NUMBER_BITS) as usize)
    }

    const fn number(self) -> u64 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }

    /// Returns the later one of two stamps of shootdowns that the same CPU began.
    #[must_use]
    pub const fn later(self, other: Stamp) -> Stamp {
        if self.number() >= other.number() { self } else { other }
    }
}

/// The fate of a shootdown when it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begun {
    pub stamp: Stamp,
    /// CPUs that were sent the node.
    pub sent: u64,
    /// CPUs that will be asked when the node, which is under way, is back.
    pub batched: u64,
    /// CPUs that need not be asked.
    pub avoided: u64,
}

/// Returns the stamp that the next shootdown of this CPU will have.
pub fn next_stamp<C: Cpus>(cpus: &C, pin: Pin<'_>) -> Stamp {
    let begun = own(cpus, pin).shoot_port.begun.load(Ordering::Relaxed);
    Stamp::new(pin.cpu(), begun + 1)
}

/// Begins a shootdown: asks the CPUs in `among`, except this one, for which `must` returns true
/// after a full fence. `rank` is that of the questions.
pub fn begin<C: Cpus>(
    cpus: &C,
    pin: Pin<'_>,
    what: What,
    rank: u32,
    among: impl Iterator<Item = CpuId>,
    must: impl Fn(CpuId) -> bool,
) -> Begun {
    let own = own(cpus, pin);
    let port = &own.shoot_port;
    let number = port.begun.load(Ordering::Relaxed) + 1;
    port.begun.store(number, Ordering::Relaxed);
    let mut begun = Begun { stamp: Stamp::new(pin.cpu(), number), sent: 0, batched: 0, avoided: 0 };
    if !planted(Fault::UnfencedShootdown) {
        fence(Ordering::SeqCst);
    }
    for at in among.filter(|at| *at != pin.cpu()) {
        let pair = own.pair(pin, at).map(|pair| &pair.shoot);
        if !must(at) {
            begun.avoided += 1;
        } else if pair.asked.load(Ordering::Relaxed) == 0 {
            begun.sent += 1;
            port.busy.store(port.busy.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            ask(cpus, pin, pair, at, number, what, rank);
        } else {
            begun.batched += 1;
            pair.ask_again(number, what, rank);
            // The question under way comes first.
            announce_risen(cpus, pin, at, rank);
        }
    }
    advance(own, pin);
    begun
}

impl<P> ShootPair<P> {
    fn ask_again(&self, number: u64, what: What, rank: u32) {
        if self.again.load(Ordering::Relaxed) == 0 {
            self.again.store(number, Ordering::Relaxed);
            self.everything.store(0, Ordering::Relaxed);
            self.rank.store(0, Ordering::Relaxed);
        }
        self.rank.store(self.rank.load(Ordering::Relaxed).max(rank), Ordering::Relaxed);
        if what == What::Everything {
            self.everything.store(1, Ordering::Relaxed);
        }
    }
}

/// Returns the block of this CPU.
fn own<'a, C: Cpus>(cpus: &'a C, pin: Pin<'a>) -> &'a BlockOf<C> {
    cpus.all().block(pin, pin.cpu())
}

/// Sends the node for asking CPU `at`, which is not under way, with the question for shootdown
/// `number`.
#[inline(always)]
fn ask<C: Cpus>(
    cpus: &C,
    pin: Pin<'_>,
    pair: Ref<'_, ShootPair<C::Mail>>,
    at: CpuId,
    number: u64,
    what: What,
    rank: u32,
) {
    pair.asked.store(number, Ordering::Relaxed);
    let mail = (ShootMail { by: pin.cpu(), at }, what).into();
    pair.node.set_rank(rank);
    send(cpus, pin, pair.map(|pair| &pair.node), mail, at, || rank);
}

/// Publishes up to which number this CPU's shootdowns are over. Returns whether that is more than
/// before.
fn advance<O, S, P>(own: &PerCpu<O, S, P>, pin: Pin<'_>) -> bool {
    let port = &own.shoot_port;
    let done = if port.busy.load(Ordering::Relaxed) == 0 {
        port.begun.load(Ordering::Relaxed)
    } else {
        let asked = own.pairs.iter(pin).map(|pair| pair.get().shoot.asked.load(Ordering::Relaxed));
        asked.filter(|number| *number != 0).min().unwrap_or(1) - 1
    };
    let more = done > port.done.load(Ordering::Relaxed);
    port.done.store(done, Ordering::Release);
    more
}

/// What a node that the mailbox delivered asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "somebody waits for the answer"]
pub enum Received {
    /// This CPU is asked: it forgets, and then [answers](answer).
    Question,
    /// An answer: nothing is over that was not before.
    Same,
    /// An answer, and shootdowns of this CPU are over: check their waiters.
    Advanced,
}

/// Takes in a [`ShootMail`] that this CPU's mailbox delivered.
pub fn receive<C: Cpus>(cpus: &C, pin: Pin<'_>, mail: ShootMail) -> Received {
    if mail.by != pin.cpu() {
        return Received::Question;
    }
    let own = own(cpus, pin);
    let (port, pair) = (&own.shoot_port, own.pair(pin, mail.at).map(|pair| &pair.shoot));
    let (again, everything) = (&pair.again, pair.everything.load(Ordering::Relaxed) != 0);
    match again.load(Ordering::Relaxed) {
        0 => {
            pair.asked.store(0, Ordering::Relaxed);
            port.busy.store(port.busy.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        }
        number => {
            again.store(0, Ordering::Relaxed);
            let what = if everything { What::Everything } else { What::Space };
            ask(cpus, pin, pair, mail.at, number, what, pair.rank.load(Ordering::Relaxed));
        }
    }
    if advance(own, pin) { Received::Advanced } else { Received::Same }
}

/// Answers a question of another CPU's shootdown: sends its node back. The answer is urgent,
/// whatever runs there: a better task may wait for it by now, and no CPU gets more answers than it
/// has asked questions. Returns the rank of the question.
/// Requires: this CPU has dropped the translations that the question names.
pub fn answer<C: Cpus>(cpus: &C, pin: Pin<'_>, mail: ShootMail) -> u32 {
    let node = cpus.all().block(pin, mail.by).pair(pin, mail.at).map(|pair| &pair.shoot.node);
    let rank = node.get().rank();
    // A CPU that begins to defer its mail reads the rank of the oldest message from its node.
    node.get().set_rank(u32::MAX);
    send(cpus, pin, node, (mail, What::Space).into(), mail.by, || u32::MAX);
    rank
}

/// Returns the port of the CPU that began a shootdown, if that CPU exists.
#[inline(always)]
fn port_of<'a, C: Cpus>(cpus: &'a C, pin: Pin<'a>, stamp: Stamp) -> Option<&'a ShootPort> {
    Some(&cpus.all().get(pin, stamp.by()?.index())?.get().shoot_port)
}

/// Returns whether a shootdown is over. A shootdown that has not begun is not over, nor is one of a
/// CPU that does not exist: no task waits for such a shootdown ([`has_begun`]).
#[inline(always)]
pub fn is_over<C: Cpus>(cpus: &C, pin: Pin<'_>, stamp: Stamp) -> bool {
    let port = port_of(cpus, pin, stamp);
    port.is_some_and(|port| port.done.load(Ordering::Acquire) >= stamp.number())
}

/// Returns the last of this CPU's shootdowns that is over. For traces.
pub fn last_over<C: Cpus>(cpus: &C, pin: Pin<'_>) -> Stamp {
    Stamp::new(pin.cpu(), own(cpus, pin).shoot_port.done.load(Ordering::Relaxed))
}

/// Returns whether the shootdown with this stamp has begun.
pub fn has_begun<C: Cpus>(cpus: &C, pin: Pin<'_>, stamp: Stamp) -> bool {
    let port = port_of(cpus, pin, stamp);
    port.is_some_and(|port| port.begun.load(Ordering::Relaxed) >= stamp.number())
}
