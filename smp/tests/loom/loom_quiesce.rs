//! Grace periods: no slot is filled again and no memory freed while another CPU uses the old
//! contents.
//!
//! Each broken variant removes one rule, and loom must find an error in it.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Counter;

use crate::common::{Blocks, Line, Object, model};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;
use smp::cpu::{CpuId, Pin};
use smp::door::{ObjWord, Ref};
use smp::host_test::{cpu, left_by_iret, local_entry};
use smp::mailbox::{Drained, Idle, Node, Order, Picked};
use smp::percpu::{All, Cpus, LocalEntry};
use smp::planted::{Fault, Planted};
use smp::quiesce::{self, Epoch, GraceMail};
use smp::shootdown::{ShootMail, What};

#[derive(Clone, Copy)]
enum Mail {
    Grace(GraceMail),
    /// About [`Victim`].
    About,
}

impl From<GraceMail> for Mail {
    fn from(mail: GraceMail) -> Mail {
        Mail::Grace(mail)
    }
}

impl From<(ShootMail, What)> for Mail {
    fn from(_: (ShootMail, What)) -> Mail {
        unreachable!("there are no shootdowns here")
    }
}

type OwnEntry = LocalEntry<(), Line, Mail>;

struct System(Blocks<Line, Mail>);

impl System {
    fn new(count: usize) -> System {
        System(Blocks::new(count, Line::new))
    }

    fn epoch(&self) -> &Epoch {
        &self.0.all.epoch
    }

    /// Begins a kernel entry of a CPU.
    fn entry(&self, n: usize) -> OwnEntry {
        local_entry(self.0.block(n))
    }
}

impl Cpus for System {
    type Own = ();
    type Shared = Line;
    type Mail = Mail;

    fn all(&self) -> &All<(), Line, Mail> {
        &self.0.all
    }
    fn interrupt(&self, cpu: CpuId) {
        self.0.block(cpu.index()).raise();
    }
    fn rank_of_round(&self, _pin: Pin<'_>) -> u32 {
        RANK_OF_ROUNDS
    }
}

/// The rank with which rounds begin.
const RANK_OF_ROUNDS: u32 = 1;

/// The start of a kernel entry by interrupt, if the line is up: drains.
fn drain(system: &System, entry: &mut OwnEntry, about: impl Fn()) {
    let here = entry.here();
    if !here.take() {
        return;
    }
    let drained = here.inbox().drain(8, |mail| match mail {
        Mail::Grace(mail) => quiesce::receive(system, here.pin(), mail),
        Mail::About => about(),
    });
    if drained == Drained::More {
        here.raise();
    }
}

/// The end of a kernel entry: settles if it must.
fn leave(system: &System, entry: &mut OwnEntry) {
    if entry.here().grace().is_unsettled() {
        let _ = quiesce::settle(system, entry.quiescent());
    }
}

#[repr(C, align(64))]
struct Thing {
    header: u64,
}

smp::kernel_objects! {
    enum Objects(header: u64) {
        Thing = 1, abi::SharedRights;
    }
}

/// A capability slot: the word, and another word that belongs to it.
struct Slot {
    word: ObjWord<Objects>,
    badge: AtomicU64,
}

/// How the reader comes to its kernel entries.
#[derive(Clone, Copy, PartialEq)]
enum Reader {
    /// By system calls and interrupts, leaving by SYSRET.
    Calls,
    /// Is interrupted twice, leaving by IRET, before a system call that reads.
    Interrupted,
    /// Out of idle.
    Idle,
}

/// Reads word 0 once, then the word that belongs to it.
fn read(slot: Ref<'static, Slot>, entry: &OwnEntry) {
    let word = slot.word.load(entry.here().pin());
    if word.object_type() != 0 {
        let badge = slot.badge.load(Ordering::Relaxed);
        assert_eq!(u64::from(word.rights()), badge, "halves of two capabilities");
    }
}

/// CPU 1 reads a slot in its kernel entries. CPU 0 empties it and fills it again when it may;
/// `early`: a round of CPU 0's is under way already when it empties it.
fn slot_reuse(reader: Reader, early: bool, preemptions: usize) {
    let reused = Arc::new(Counter::new(0));
    let counter = reused.clone();
    model(preemptions, move || {
        let system = Object::new(System::new(2));
        let thing = Object::new(Thing { header: 0 });
        let slot = Object::new(Slot { word: ObjWord::empty(), badge: AtomicU64::new(1) });
        slot.get().word.set(thing.get(), 1);
        if reader == Reader::Idle {
            assert!(quiesce::go_idle(&mut system.get().entry(1), Idle::Halt));
        }
        let (shared, there) = (system.get(), slot.get());
        let other = thread::spawn(move || reads(shared.get(), there, reader));
        if refills(system.get().get(), slot.get(), thing.get(), early) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        other.join().unwrap();
    });
    assert!(reused.load(Ordering::Relaxed) > 0, "the slot is never filled anew");
}

fn reads(system: &System, slot: Ref<'static, Slot>, reader: Reader) {
    let mut entry = system.entry(1);
    match reader {
        Reader::Idle => {
            quiesce::end_idle(&mut entry);
        }
        Reader::Interrupted => {
            left_by_iret(&mut entry);
            left_by_iret(&mut entry);
        }
        Reader::Calls => {}
    }
    let entries = if reader == Reader::Calls { 4 } else { 1 };
    for _ in 0..entries {
        drain(system, &mut entry, || ());
        read(slot, &entry);
        leave(system, &mut entry);
    }
}

/// Whether it came to fill the slot again.
fn refills(system: &System, slot: Ref<'static, Slot>, thing: Ref<'static, Thing>, early: bool) -> bool {
    let mut entry = system.entry(0);
    if early {
        quiesce::request_epoch(system, entry.here().pin(), system.epoch().now() + 1);
        leave(system, &mut entry);
    }
    system.epoch().retire(&slot.word);
    let stamp = slot.word.load(entry.here().pin()).empty_value();
    quiesce::request_epoch(system, entry.here().pin(), stamp + 2);
    for _ in 0..4 {
        leave(system, &mut entry);
        if system.epoch().is_reusable(stamp) {
            slot.badge.store(2, Ordering::Relaxed);
            slot.word.set(thing, 2);
            return true;
        }
        drain(system, &mut entry, || ());
    }
    false
}

/// CPU 2 empties a slot, idles for a while, and fills it again when it may; CPU 0 runs the rounds;
/// CPU 1 reads. So the reader learns of the emptying from a message of a CPU that has only seen the
/// epoch.
fn slot_reuse_by_a_third(preemptions: usize) {
    let reused = Arc::new(Counter::new(0));
    let counter = reused.clone();
    model(preemptions, move || {
        let system = Object::new(System::new(3));
        let thing = Object::new(Thing { header: 0 });
        let slot = Object::new(Slot { word: ObjWord::empty(), badge: AtomicU64::new(1) });
        slot.get().word.set(thing.get(), 1);
        let (shared, there) = (system.get(), slot.get());
        // A first round has been answered by both, but its initiator hasn't seen that yet.
        let mut initiator = shared.entry(0);
        quiesce::request_epoch(shared.get(), initiator.here().pin(), shared.epoch().now() + 2);
        leave(shared.get(), &mut initiator);
        for n in 1..3 {
            drain(shared.get(), &mut shared.entry(n), || ());
            leave(shared.get(), &mut shared.entry(n));
        }
        let rounds = thread::spawn(move || {
            for _ in 0..2 {
                drain(shared.get(), &mut shared.entry(0), || ());
                leave(shared.get(), &mut shared.entry(0));
            }
        });
        let reader = thread::spawn(move || {
            drain(shared.get(), &mut shared.entry(1), || ());
            leave(shared.get(), &mut shared.entry(1));
            read(there, &shared.entry(1));
        });
        if empties_idles_refills(shared.get(), there, thing.get()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        rounds.join().unwrap();
        reader.join().unwrap();
    });
    assert!(reused.load(Ordering::Relaxed) > 0, "the slot is never filled anew");
}

/// Whether it came to fill the slot again.
fn empties_idles_refills(system: &System, slot: Ref<'static, Slot>, thing: Ref<'static, Thing>) -> bool {
    let mut entry = system.entry(2);
    system.epoch().retire(&slot.word);
    let stamp = slot.word.load(entry.here().pin()).empty_value();
    if quiesce::go_idle(&mut entry, Idle::Halt) {
        quiesce::end_idle(&mut entry);
    }
    let reusable = system.epoch().is_reusable(stamp);
    if reusable {
        slot.badge.store(2, Ordering::Relaxed);
        slot.word.set(thing, 2);
    }
    drain(system, &mut entry, || ());
    leave(system, &mut entry);
    reusable
}

#[test]
fn slot_read_by_a_running_cpu() {
    slot_reuse(Reader::Calls, false, 4);
}

#[test]
fn slot_read_while_an_older_round_is_under_way() {
    slot_reuse(Reader::Calls, true, 5);
}

#[test]
fn slot_read_by_a_cpu_that_wakes() {
    slot_reuse(Reader::Idle, false, 6);
}

#[test]
fn slot_read_by_a_cpu_that_is_interrupted() {
    slot_reuse(Reader::Interrupted, false, 6);
}

#[test]
#[should_panic(expected = "halves of two capabilities")]
fn caught_slot_reused_at_once() {
    let _planted = Planted::new(Fault::TornSlotRead);
    slot_reuse(Reader::Calls, false, 4);
}

#[test]
#[should_panic(expected = "halves of two capabilities")]
fn caught_slot_reused_after_one_epoch() {
    let _planted = Planted::new(Fault::HastyEpoch);
    slot_reuse(Reader::Calls, true, 5);
}

#[test]
#[should_panic(expected = "halves of two capabilities")]
fn caught_cpu_that_wakes_without_a_fence() {
    let _planted = Planted::new(Fault::MissingFence);
    slot_reuse(Reader::Idle, false, 6);
}

#[test]
#[should_panic(expected = "halves of two capabilities")]
fn caught_exit_counted_without_a_fence() {
    let _planted = Planted::new(Fault::UnfencedExit);
    slot_reuse(Reader::Interrupted, false, 6);
}

#[test]
fn slot_emptied_by_a_third_cpu() {
    slot_reuse_by_a_third(3);
}

/// The rank for which CPUs defer their mail.
const DEFERRED_FOR: u32 = RANK_OF_ROUNDS + 1;
/// Looks of a CPU beside the other one.
const LOOKS: usize = 2;

/// A CPU whose program runs on, and whose timer never fires.
struct Deferring {
    system: Arc<System>,
    n: usize,
    /// It looks again soon.
    hurries: bool,
}

impl Deferring {
    /// Looks into its mailbox if it is interrupted, or hurries. Returns whether it did.
    fn acts(&mut self) -> bool {
        let acts = self.hurries || self.system.0.block(self.n).take();
        if acts {
            self.look();
        }
        acts
    }

    /// Takes all mail.
    fn take_all(&self) {
        let mut entry = self.system.entry(self.n);
        entry.here().raise();
        drain(&self.system, &mut entry, || {});
        leave(&self.system, &mut entry);
    }

    fn look(&mut self) {
        let mut entry = self.system.entry(self.n);
        let (inbox, pin) = (entry.here().inbox(), entry.here().pin());
        if inbox.has_urgent() {
            let _ = inbox.defer(DEFERRED_FOR);
            loop {
                match inbox.pick(|_| Order::ByRank) {
                    Picked::Mail(Mail::Grace(mail)) => quiesce::receive(&*self.system, pin, mail),
                    Picked::Mail(Mail::About) | Picked::Aside => {}
                    Picked::Over => break,
                }
            }
        }
        self.hurries = inbox.defer(DEFERRED_FOR);
        leave(&self.system, &mut entry);
    }
}

/// CPU 0 asks CPU 1, and nothing about that is urgent. Then a task begins to wait for the answer
/// that outranks the programs of both. Meanwhile CPU 1 may find the question by itself.
fn hastened_round(finds: bool, preemptions: usize) {
    model(preemptions, move || {
        let system = Arc::new(System::new(2));
        let cpu = |n| Deferring { system: Arc::clone(&system), n, hurries: false };
        for n in [0, 1] {
            assert!(!system.entry(n).here().inbox().defer(DEFERRED_FOR));
        }
        let mut entry = system.entry(0);
        let before = system.epoch().now();
        quiesce::request_epoch(&*system, entry.here().pin(), before + 1);
        leave(&system, &mut entry);
        let (mut asking, mut asked) = (cpu(0), cpu(1));
        assert!(!asked.acts(), "the question is urgent");
        let other = thread::spawn(move || {
            if finds {
                asked.take_all();
            }
            (0..LOOKS).for_each(|_| _ = asked.acts());
            asked
        });
        quiesce::hasten(&*system, entry.here().pin(), || DEFERRED_FOR + 1);
        drop(entry);
        (0..LOOKS).for_each(|_| _ = asking.acts());
        let mut asked = other.join().unwrap();
        while asking.acts() | asked.acts() {}
        assert!(system.epoch().now() > before, "an urgent round waits for a timer");
    });
}

#[test]
fn question_that_becomes_urgent() {
    hastened_round(false, 4);
}

#[test]
fn answer_that_becomes_urgent() {
    hastened_round(true, 4);
}

#[test]
#[should_panic(expected = "an urgent round waits for a timer")]
fn caught_rank_that_is_raised_late() {
    let _planted = Planted::new(Fault::LateRank);
    hastened_round(false, 4);
}

#[test]
#[should_panic(expected = "an urgent round waits for a timer")]
fn caught_rank_that_is_read_early() {
    let _planted = Planted::new(Fault::EarlyRank);
    hastened_round(true, 4);
}

/// An object that is destroyed.
struct Victim {
    linked: AtomicBool,
    /// Its memory. Loom sees whether somebody reads it while it is written, or without an order to
    /// that.
    memory: UnsafeCell<u64>,
}

// SAFETY: `memory` is written only when the protocol says that nobody reads it; loom checks.
unsafe impl Sync for Victim {}

impl Victim {
    fn touch(&self) {
        // SAFETY: linked when it was loaded, or named by a message; loom checks.
        assert_eq!(self.memory.with(|at| unsafe { *at }), 1, "used after it was freed");
    }

    fn free(&self) {
        // SAFETY: the quiet period is over; loom checks.
        self.memory.with_mut(|at| unsafe { *at = 0 });
    }
}

/// One of the two CPUs that use the victim.
struct User {
    number: usize,
    idle: bool,
    system: Ref<'static, System>,
    victim: Ref<'static, Victim>,
}

impl User {
    fn take_interrupt(&mut self) {
        let (system, victim) = (self.system.get(), self.victim);
        if !system.0.block(self.number).is_up() {
            return;
        }
        let mut entry = system.entry(self.number);
        if core::mem::take(&mut self.idle) {
            quiesce::end_idle(&mut entry);
        }
        drain(system, &mut entry, || victim.touch());
        leave(system, &mut entry);
    }

    /// Goes idle, unless there is something to do.
    fn go_idle(&mut self) {
        self.idle = quiesce::go_idle(&mut self.system.entry(self.number), Idle::Halt);
    }

    /// A system call that finds the victim and sends CPU 2 a message about it.
    fn tell(&self, node: Ref<'static, Node<Mail>>) {
        let system = self.system.get();
        let mut entry = system.entry(self.number);
        if self.victim.linked.load(Ordering::Acquire) {
            if system.0.block(2).mailbox().push(entry.here().pin(), node, Mail::About).is_needed() {
                system.interrupt(cpu(2));
            }
            self.victim.touch();
        }
        leave(system, &mut entry);
    }
}

/// CPU 1 finds an object and sends CPU 2 a message about it, while CPU 0 destroys it.
fn destroy(idle: bool, preemptions: usize) {
    let freed_early = Arc::new(Counter::new(0));
    let counter = freed_early.clone();
    model(preemptions, move || {
        let system = Object::new(System::new(3));
        let victim = Object::new(Victim { linked: AtomicBool::new(true), memory: UnsafeCell::new(1) });
        let node = Object::new(Node::new(cpu(1)));
        if idle {
            assert!(quiesce::go_idle(&mut system.get().entry(2), Idle::Halt));
        }
        let user = |number, idle| User { number, idle, system: system.get(), victim: victim.get() };
        let (mut first, mut second, letter) = (user(1, false), user(2, idle), node.get());
        let first = thread::spawn(move || {
            first.tell(letter);
            first.take_interrupt();
            first.go_idle();
            first
        });
        let second = thread::spawn(move || {
            second.take_interrupt();
            second.take_interrupt();
            second
        });

        let (shared, object) = (system.get().get(), victim.get());
        let mut entry = shared.entry(0);
        object.linked.store(false, Ordering::Relaxed);
        let ticket = quiesce::request_quiet(shared, entry.here().pin());
        let mut freed = false;
        let mut free_if_quiet = |entry: &mut OwnEntry| {
            drain(shared, entry, || ());
            leave(shared, entry);
            if !freed && quiesce::is_quiet(shared, entry.here().pin(), ticket) {
                object.free();
                freed = true;
            }
            freed
        };
        if (0..3).any(|_| free_if_quiet(&mut entry)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let (mut first, mut second) = (first.join().unwrap(), second.join().unwrap());
        for _ in 0..4 {
            first.take_interrupt();
            second.take_interrupt();
            free_if_quiet(&mut entry);
        }
        assert!(freed, "the quiet period does not end");
    });
    assert!(freed_early.load(Ordering::Relaxed) > 0, "memory is never freed while the others run");
}

/// CPU 1 wakes and finds an object, while CPU 0 destroys it.
fn destroy_before_a_waking_cpu(preemptions: usize) {
    model(preemptions, move || {
        let system = Object::new(System::new(2));
        let victim = Object::new(Victim { linked: AtomicBool::new(true), memory: UnsafeCell::new(1) });
        assert!(quiesce::go_idle(&mut system.get().entry(1), Idle::Halt));
        let (shared, object) = (system.get().get(), victim.get());
        let finder = thread::spawn(move || {
            let mut entry = shared.entry(1);
            quiesce::end_idle(&mut entry);
            if object.linked.load(Ordering::Acquire) {
                object.touch();
            }
            drain(shared, &mut entry, || ());
            leave(shared, &mut entry);
        });
        let mut entry = shared.entry(0);
        object.linked.store(false, Ordering::Release);
        let ticket = quiesce::request_quiet(shared, entry.here().pin());
        leave(shared, &mut entry);
        if quiesce::is_quiet(shared, entry.here().pin(), ticket) {
            object.free();
        }
        finder.join().unwrap();
    });
}

#[test]
fn memory_found_by_a_cpu_that_wakes() {
    destroy_before_a_waking_cpu(6);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn caught_round_that_begins_without_a_fence() {
    let _planted = Planted::new(Fault::UnfencedRound);
    destroy_before_a_waking_cpu(6);
}

#[test]
fn memory_named_by_a_message_under_way() {
    destroy(false, 3);
}

#[test]
fn memory_named_by_mail_of_an_idle_cpu() {
    destroy(true, 3);
}

#[test]
#[should_panic(expected = "used after it was freed")]
fn caught_memory_freed_before_mailboxes_are_flushed() {
    let _planted = Planted::new(Fault::UnflushedMailboxes);
    destroy(false, 3);
}

#[test]
#[should_panic(expected = "used after it was freed")]
fn caught_mail_of_an_idle_cpu_forgotten() {
    let _planted = Planted::new(Fault::IdleWithMail);
    destroy(true, 3);
}
