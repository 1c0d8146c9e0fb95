//! Grace periods: how a CPU learns that no CPU uses an unlinked object any more.
//!
//! # Quiescent points
//! The kernel never sleeps, and every reference that it loads is bound to its kernel entry. So a
//! CPU holds no such reference at the end of an entry: on return to user mode, and while it idles.
//! In code, a quiescent point is a place that has `&mut Entry`: all pins borrowed from the entry
//! are dead there.
//!
//! # Rounds
//! A **round** begins on one CPU, the initiator, and is over when every CPU has been at a quiescent
//! point since. The initiator pushes one node (there is one per pair of CPUs) into the mailbox of
//! each other CPU. The target takes the node out, and sends it back at its next quiescent point
//! ([`settle`]). No CPU waits: the CPU that has the node does the next step. The round skips these
//! CPUs:
//!
//! * CPUs that are idle ([`go_idle`]): an idle CPU is at a quiescent point all the time;
//! * CPUs that have left the kernel by IRET since the round was requested ([`left_by_iret`]). Exits
//!   are counted by a plain store. On x86 such a store might become visible only after loads of the
//!   *next* entry. IRET serialises, which prevents that; SYSRET does not, so exits by SYSRET are
//!   not counted.
//!
//! If no CPU remains, the round is over at the initiator's own next quiescent point.
//!
//! # Slots: the epoch
//! [`Epoch`] counts rounds: a round that began at epoch `e` raises it to at least `e + 1`. An
//! emptied slot is stamped with the epoch read *after* the emptying. It is reusable once the epoch
//! has reached `stamp + 2`: the round that raised it from `stamp + 1` began after the slot was seen
//! empty, so every kernel entry that may have read the old contents has ended. (`stamp + 1` is not
//! enough: the round from `stamp` may have begun before the emptying.) A round of any CPU counts
//! for all CPUs.
//!
//! # Memory: two rounds
//! Not only entries but also messages under way may refer to an object. After all stored references
//! to the object were unlinked:
//!
//! 1. a first round waits for the end of every entry that may still push a message about the
//!    object;
//! 2. a second round's nodes go through every mailbox. A CPU answers such a node after all mail
//!    that was pushed before it. So at its end all messages about the object have been taken out,
//!    and the entries that took them out have ended. This round skips no CPU because of its count
//!    of exits, and skips an idle CPU only if its mailbox is empty.
//!
//! Then nothing refers to the object, and its memory can be used again. The memory's region begins
//! the quiet period itself, and starts again at its end
//! ([`Region::begin_reset`](crate::door::Region::begin_reset)). Requires: a CPU that takes out a
//! message about a dead object sends no further message that refers to it. A CPU that keeps such
//! messages outside of its mailbox, to push them later, puts questions off until it has pushed
//! them, and has taken them out again ([`put_off`]).
//!
//! # Ranks
//! The nodes of a round have the [rank](Node::rank) that the kernel gives it when it begins
//! ([`Cpus::rank_of_round`]). An answer has the rank of its question. If a more urgent task begins
//! to wait while the round is under way, the initiator raises the ranks of the nodes that are not
//! back ([`hasten`]), wherever they are. Like a raise of bits whose node is under way, it writes a
//! node's rank first, and then tells both mailboxes in which the node may be. A push reads the rank
//! after the node is in the mailbox.
//!
//! # Memory ordering
//! Let CPU D unlink an object and read the epoch, CPU I run the round, and CPU T use the object.
//!
//! * D: stores, executes a full fence, loads the epoch. I: loads the epoch, executes a full fence,
//!   looks at T. If D read an older epoch than I, D's fence came first.
//! * T is asked by mail: a fence after it took the node out ([`fence_after_message`], free on x86)
//!   comes after I's, so T's later entries see D's store. T idle: [`end_idle`] is an exchange, a
//!   full fence; either I sees that T runs, or T's next entry sees D's store. T left by IRET: IRET
//!   is the fence.
//! * T's earlier accesses come before I's later ones: I reads T's node, idle word or count with
//!   `Acquire`, and T wrote it with `Release`. The epoch passes this order on to its readers.

use core::cell::Cell;

use crate::chaos::{self, Point};
use crate::cpu::{CpuId, Entry, MAX_CPUS, Pin};
use crate::cpuset::CpuSetCell;
use crate::door::{ObjWord, RIGHTS_SHIFT};
use crate::mailbox::{Idle, Node};
use crate::percpu::{self, BlockOf, Cpus, LocalEntry};
use crate::planted::{Fault, planted};
use crate::sync::{AtomicU64, Ordering, fence, fence_after_exchange, fence_after_message, fence_of_iret};

/// What a grace node says: `by` began a round and asks `at`. On its way back it says the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GraceMail {
    by: CpuId,
    at: CpuId,
}

impl GraceMail {
    /// Returns the CPU that asks the CPU `here` by this mail. Returns `None` if the mail answers
    /// `here`. The mail of a CPU to itself is a question.
    pub fn asker(self, here: CpuId) -> Option<CpuId> {
        (self.at == here).then_some(self.by)
    }
}

/// The count of rounds that all CPUs share.
pub struct Epoch(AtomicU64);

/// An emptied slot's note between the emptying and the stamp: reusable never.
const UNSTAMPED: u64 = u64::MAX >> RIGHTS_SHIFT;

impl Epoch {
    /// Makes an epoch in which a stamp of 0 (a slot never used) is old enough.
    pub(crate) fn new() -> Epoch {
        Epoch(AtomicU64::new(2))
    }

    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Empties a slot, and notes in it the epoch in which that was.
    pub fn retire<S>(&self, word: &ObjWord<S>) {
        word.set_empty(UNSTAMPED);
        chaos::point(Point::SlotEmptied);
        fence_after_exchange();
        word.set_note(self.now());
    }

    /// Returns the stamp for an object that was just emptied with a plain store.
    pub fn stamp(&self) -> u64 {
        fence(Ordering::SeqCst);
        self.now()
    }

    /// Returns whether memory or a slot that was emptied at `stamp` may be used again.
    #[inline(always)]
    pub fn is_reusable(&self, stamp: u64) -> bool {
        if planted(Fault::TornSlotRead) {
            return true;
        }
        let wait = if planted(Fault::HastyEpoch) { 1 } else { 2 };
        // No epoch gets to UNSTAMPED, and a stamp is far from the end of the numbers.
        stamp.wrapping_add(wait) <= self.now()
    }
}

/// What one CPU shows the others of its part in rounds.
#[derive(Default)]
pub(crate) struct GracePort {
    /// How often it left the kernel by IRET. Written by its CPU.
    exits: AtomicU64,
    /// Quiet periods it has completed. Written by its CPU.
    quiet: AtomicU64,
}

/// What one CPU, as initiator, has for another.
pub(crate) struct GracePair<P> {
    node: Node<P>,
    /// The other's `exits` when the next round was asked for. The initiator's own.
    exits: AtomicU64,
    /// The other was asked, and has not answered. The initiator's own, hence none of loom's words.
    asked: core::sync::atomic::AtomicBool,
}

impl<P> GracePair<P> {
    pub(crate) fn new(initiator: CpuId) -> GracePair<P> {
        let asked = core::sync::atomic::AtomicBool::new(false);
        GracePair { node: Node::new(initiator), exits: AtomicU64::new(0), asked }
    }
}

/// What a round is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// To end the entries of now.
    Entries,
    /// To end the entries of now, as the first round of a quiet period.
    BeforeFlush,
    /// To end entries, and to flush mailboxes: the second round of a quiet period.
    Flush,
}

/// A round under way.
#[derive(Clone, Copy)]
struct Round {
    kind: Kind,
    /// The epoch in which it began.
    epoch: u64,
    /// Nodes that are not back yet, and their rank.
    outstanding: u32,
    rank: u32,
}

/// What one CPU keeps of its own part in rounds. At home on that CPU.
#[derive(Default)]
pub struct GraceState {
    /// CPUs whose nodes this CPU has taken out and must return, and whether there are some.
    owed: CpuSetCell,
    owes: Cell<bool>,
    round: Cell<Option<Round>>,
    /// The epoch when the next round was asked for and `Pair::exits` were noted.
    start: Cell<Option<u64>>,
    wanted_epoch: Cell<u64>,
    /// Quiet periods asked for, and begun.
    wanted_quiet: Cell<u64>,
    begun_quiet: Cell<u64>,
    unsettled: Cell<bool>,
}

impl GraceState {
    /// Returns whether [`settle`] has something to do on this CPU. Checked on the way out of the
    /// kernel.
    #[inline(always)]
    pub fn is_unsettled(&self) -> bool {
        self.unsettled.get()
    }

    /// Returns whether this CPU waits for answers.
    #[inline(always)]
    fn asks(&self) -> bool {
        self.round.get().is_some()
    }

    /// Returns whether this CPU has a round under way or asked for. For dumps.
    pub fn is_busy(&self) -> bool {
        self.asks() || self.unsettled.get()
    }
}

/// A quiet period that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket {
    cpu: CpuId,
    number: u64,
}

impl Ticket {
    /// Returns the ticket as a number, which is not 0, for callers that keep it in a task's
    /// registers. See [`ticket`].
    pub const fn raw(self) -> u64 {
        self.number * MAX_CPUS as u64 + self.cpu.index() as u64
    }
}

/// Returns the ticket for a number; `None` if this CPU has given out no such ticket.
pub fn ticket<C: Cpus>(cpus: &C, pin: Pin<'_>, raw: u64) -> Option<Ticket> {
    let ticket = Ticket { cpu: pin.cpu(), number: raw / MAX_CPUS as u64 };
    let given_out = 1..=cpus.all().grace(pin).wanted_quiet.get();
    (ticket.raw() == raw && given_out.contains(&ticket.number)).then_some(ticket)
}

/// Returns how often this CPU has returned to user mode by IRET.
pub fn exits<C: Cpus>(cpus: &C, pin: Pin<'_>) -> u64 {
    port(cpus, pin, pin.cpu()).exits.load(Ordering::Relaxed)
}

/// Asks for the epoch to reach `target` (a stamp + 2). The caller runs [`settle`] before the entry
/// ends.
pub fn request_epoch<C: Cpus>(cpus: &C, pin: Pin<'_>, target: u64) {
    chaos::point(Point::EpochWanted);
    let now = cpus.all().epoch.now();
    if now >= target {
        return;
    }
    let state = cpus.all().grace(pin);
    // Stamps are never from the future, so no caller needs more.
    state.wanted_epoch.set(state.wanted_epoch.get().max(target.min(now + 2)));
    if state.start.get().is_none() {
        state.start.set(Some(note_exits(cpus, pin)));
    }
    state.unsettled.set(true);
}

/// Makes the round under way on this CPU at least as urgent as this rank, of a task that begins to
/// wait for it.
#[inline(always)]
pub fn hasten<C: Cpus>(cpus: &C, pin: Pin<'_>, rank: impl FnOnce() -> u32) {
    if cpus.all().grace(pin).asks() {
        hasten_round(cpus, pin, rank());
    }
}

#[cold]
#[inline(never)]
fn hasten_round<C: Cpus>(cpus: &C, pin: Pin<'_>, rank: u32) {
    let state = cpus.all().grace(pin);
    let Some(round) = state.round.get().filter(|round| round.rank < rank) else { return };
    state.round.set(Some(Round { rank, ..round }));
    let raise = || {
        let asked = every(cpus, pin).filter(|(_, _, pair)| pair.asked.load(Ordering::Relaxed));
        asked.for_each(|(_, _, pair)| pair.node.raise_rank(rank));
    };
    if !planted(Fault::LateRank) {
        raise();
    }
    for (at, _, pair) in every(cpus, pin) {
        // In its own mailbox are answers, and the question to itself.
        if at == pin.cpu() || pair.asked.load(Ordering::Relaxed) {
            percpu::announce_risen(cpus, pin, at, rank);
        }
    }
    if planted(Fault::LateRank) {
        raise();
    }
}

/// Asks for a quiet period, after which nothing refers to objects that were unlinked before this
/// call. The caller runs [`settle`] before the entry ends; [`is_quiet`] says when the period is
/// over.
pub fn request_quiet<C: Cpus>(cpus: &C, pin: Pin<'_>) -> Ticket {
    let state = cpus.all().grace(pin);
    let number = state.begun_quiet.get() + 1;
    state.wanted_quiet.set(number);
    // Noted again even if it was noted before: this caller's unlinking came after that.
    state.start.set(Some(note_exits(cpus, pin)));
    state.unsettled.set(true);
    Ticket { cpu: pin.cpu(), number }
}

/// Returns whether the quiet period of a ticket is over. Any CPU may call this.
pub fn is_quiet<C: Cpus>(cpus: &C, pin: Pin<'_>, ticket: Ticket) -> bool {
    port(cpus, pin, ticket.cpu).quiet.load(Ordering::Acquire) >= ticket.number
}

/// Takes in a [`GraceMail`] that this CPU's mailbox delivered. The caller runs [`settle`] before
/// the entry ends.
///
/// Panics where the mail is an answer that was taken in before, or has not come: it is a copy of
/// one.
pub fn receive<C: Cpus>(cpus: &C, pin: Pin<'_>, mail: GraceMail) {
    let state = cpus.all().grace(pin);
    if mail.by == pin.cpu() {
        let pair = &cpus.all().block(pin, mail.by).pair(pin, mail.at).get().grace;
        let is_answer = pair.node.is_here(pin) && pair.asked.load(Ordering::Relaxed);
        assert!(is_answer, "grace: {:?} has not answered, or answers twice", mail.at);
        pair.asked.store(false, Ordering::Relaxed);
        let round = state.round.get().map(|r| Round { outstanding: r.outstanding - 1, ..r });
        state.round.set(round);
    } else {
        state.owed.insert(mail.by);
        state.owes.set(true);
    }
    state.unsettled.set(true);
}

/// Puts a [`GraceMail`] that this CPU's mailbox delivered behind all mail that is there, with the
/// rank that it has. The round goes on when it comes again.
pub fn put_off<C: Cpus>(cpus: &C, pin: Pin<'_>, mail: GraceMail) {
    let pair = cpus.all().block(pin, mail.by).pair(pin, mail.at);
    let mailbox = cpus.all().block(pin, pin.cpu()).mailbox();
    if mailbox.push(pin, pair.map(|pair| &pair.grace.node), mail.into()).is_needed() {
        cpus.interrupt(pin.cpu());
    }
}

/// How far a [`settle`] came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "somebody may wait for the round that is over"]
pub enum Settled {
    /// No round of this CPU's has ended.
    Same,
    /// At least one has: check again the waiters for the epoch or for a quiet period.
    Advanced,
}

/// Settles at a quiescent point: answers the questions of other CPUs that this CPU has taken in,
/// and advances this CPU's own rounds as far as possible.
///
/// To be called before the end of every entry in which [`GraceState::is_unsettled`] became true;
/// what else the entry does afterwards starts with fresh pins.
pub fn settle<C: Cpus>(cpus: &C, entry: &mut Entry) -> Settled {
    let pin = entry.pin();
    let state = cpus.all().grace(pin);
    state.unsettled.set(false);
    if state.owes.take() {
        answer_all(cpus, pin);
    }
    let mut settled = Settled::Same;
    loop {
        match state.round.get() {
            Some(round) if round.outstanding > 0 => return settled,
            Some(round) => {
                finish(cpus, pin, round);
                settled = Settled::Advanced;
            }
            None if state.wanted_quiet.get() > state.begun_quiet.get() => {
                state.begun_quiet.set(state.wanted_quiet.get());
                begin(cpus, pin, Kind::BeforeFlush);
            }
            None if state.wanted_epoch.get() > cpus.all().epoch.now() => begin(cpus, pin, Kind::Entries),
            None => return settled,
        }
    }
}

/// Answers the questions that this CPU has taken in, with the ranks that the initiators have given
/// to the nodes.
#[inline(never)]
fn answer_all<C: Cpus>(cpus: &C, pin: Pin<'_>) {
    fence_after_message();
    for by in cpus.all().grace(pin).owed.take_all(cpus.all().len()) {
        send(cpus, pin, GraceMail { by, at: pin.cpu() }, by);
    }
}

/// Puts a CPU that has nothing to do at a quiescent point that lasts. Returns `false` if there is
/// something to do after all (drain, settle). See [`Inbox::advertise`].
///
/// [`Inbox::advertise`]: crate::mailbox::Inbox::advertise
#[inline(always)]
pub fn go_idle<O, S, P>(entry: &mut LocalEntry<O, S, P>, how: Idle) -> bool {
    !entry.here().grace().is_unsettled() && entry.here().inbox().advertise(how)
}

/// Ends the idle state of a CPU: its first action when it wakes. Then it drains. See
/// [`Inbox::retract`](crate::mailbox::Inbox::retract).
#[inline(always)]
pub fn end_idle<O, S, P>(entry: &mut LocalEntry<O, S, P>) {
    entry.here().inbox().retract();
}

/// Counts a return to user mode **by IRET**.
///
/// # Safety
/// The return is what the CPU does next.
#[inline(always)]
pub unsafe fn left_by_iret<O, S, P>(entry: &mut LocalEntry<O, S, P>) {
    let exits = &entry.block().grace_port.exits;
    exits.store(exits.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    if !planted(Fault::UnfencedExit) {
        fence_of_iret();
    }
}

/// Returns the epoch, with a full fence before the next reads.
fn fenced_epoch<C: Cpus>(cpus: &C) -> u64 {
    let epoch = cpus.all().epoch.now();
    if !planted(Fault::UnfencedRound) {
        fence(Ordering::SeqCst);
    }
    epoch
}

/// Notes the moment from which a round counts: the epoch, and how often each other CPU has returned
/// to user mode. Returns the epoch.
fn note_exits<C: Cpus>(cpus: &C, pin: Pin<'_>) -> u64 {
    let epoch = fenced_epoch(cpus);
    for (at, block, pair) in every(cpus, pin) {
        if at != pin.cpu() {
            pair.exits.store(block.grace_port.exits.load(Ordering::Acquire), Ordering::Relaxed);
        }
    }
    epoch
}

/// Returns every CPU, its block, and this CPU's node for asking it.
fn every<'a, C: Cpus>(
    cpus: &'a C,
    pin: Pin<'a>,
) -> impl Iterator<Item = (CpuId, &'a BlockOf<C>, &'a GracePair<C::Mail>)> + use<'a, C> {
    let own = cpus.all().block(pin, pin.cpu());
    let blocks = (0..).map_while(CpuId::new).zip(cpus.all().iter(pin));
    blocks.map(move |(at, block)| (at, block.get(), &own.pair(pin, at).get().grace))
}

fn port<'a, C: Cpus>(cpus: &'a C, pin: Pin<'a>, cpu: CpuId) -> &'a GracePort {
    &cpus.all().block(pin, cpu).grace_port
}

/// Begins a round: asks every CPU that has to be asked.
fn begin<C: Cpus>(cpus: &C, pin: Pin<'_>, kind: Kind) {
    let state = cpus.all().grace(pin);
    let epoch = match kind {
        // A flush asks whatever was counted, so what a waiting request has noted stays.
        Kind::Flush => fenced_epoch(cpus),
        _ => state.start.take().unwrap_or_else(|| note_exits(cpus, pin)),
    };
    chaos::point(Point::GraceStarted);
    let (mut outstanding, mut rank) = (0, 0);
    for (at, block, pair) in every(cpus, pin) {
        if must_ask::<C>(block, at == pin.cpu(), pair, kind) {
            if outstanding == 0 {
                rank = cpus.rank_of_round(pin);
            }
            outstanding += 1;
            pair.asked.store(true, Ordering::Relaxed);
            pair.node.set_rank(rank);
            send(cpus, pin, GraceMail { by: pin.cpu(), at }, at);
        }
    }
    state.round.set(Some(Round { kind, epoch, outstanding, rank }));
}

/// Returns whether a round must ask a CPU: the CPU may hold references from before the round, or,
/// in a flush, messages. `own` says that it is this CPU.
fn must_ask<C: Cpus>(block: &BlockOf<C>, own: bool, pair: &GracePair<C::Mail>, kind: Kind) -> bool {
    let mailbox = block.mailbox();
    if kind == Kind::Flush {
        // First the mailbox, then the idle word: if it is empty, and *then* its CPU is idle, the
        // entry that took the last message out has ended.
        let mail = mailbox.has_mail() && !planted(Fault::IdleWithMail);
        return mail || !(own || mailbox.is_idle());
    }
    // Here is a quiescent point of our own.
    let exits = || block.grace_port.exits.load(Ordering::Acquire);
    !own && exits() == pair.exits.load(Ordering::Relaxed) && !mailbox.is_idle()
}

/// Ends a round that all CPUs have answered.
fn finish<C: Cpus>(cpus: &C, pin: Pin<'_>, round: Round) {
    let state = cpus.all().grace(pin);
    cpus.all().epoch.0.fetch_max(round.epoch + 1, Ordering::AcqRel);
    state.round.set(None);
    match round.kind {
        Kind::Entries => {}
        Kind::BeforeFlush if !planted(Fault::UnflushedMailboxes) => begin(cpus, pin, Kind::Flush),
        Kind::BeforeFlush | Kind::Flush => {
            port(cpus, pin, pin.cpu()).quiet.store(state.begun_quiet.get(), Ordering::Release);
        }
    }
}

/// Pushes the node of a pair of CPUs into a mailbox: of the CPU that is asked, or of the asking
/// one.
fn send<C: Cpus>(cpus: &C, pin: Pin<'_>, mail: GraceMail, to: CpuId) {
    let node = cpus.all().block(pin, mail.by).pair(pin, mail.at).map(|pair| &pair.grace.node);
    let early = planted(Fault::EarlyRank).then(|| node.rank());
    percpu::send(cpus, pin, node, mail.into(), to, || early.unwrap_or_else(|| node.rank()));
}

#[cfg(all(test, not(loom)))]
mod tests;
