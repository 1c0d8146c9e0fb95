//! Shootdowns: no CPU uses a removed translation after the removing CPU has learnt that all have
//! flushed it.
//!
//! Each broken variant removes one rule, and loom must find an error in it.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Counter;

use crate::common::{Blocks, Line, Object, model};
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use loom::thread;
use smp::cpu::{CpuId, Entry};
use smp::host_test::{cpu, entry};
use smp::mailbox::Drained;
use smp::percpu::{All, Cpus};
use smp::planted::{Fault, Planted};
use smp::quiesce::GraceMail;
use smp::shootdown::{self, Received, ShootMail, What};

#[derive(Clone, Copy)]
struct Mail(ShootMail);

impl From<GraceMail> for Mail {
    fn from(_: GraceMail) -> Mail {
        unreachable!("there are no grace periods here")
    }
}

impl From<(ShootMail, What)> for Mail {
    fn from((mail, _): (ShootMail, What)) -> Mail {
        Mail(mail)
    }
}

/// What all see of a CPU.
struct Seen {
    /// Which space the CPU shows: 1 is the one of the model.
    shown: AtomicU64,
    line: Line,
}

/// Two CPUs, and an address space with one page.
struct System {
    blocks: Blocks<Seen, Mail>,
    /// The only entry: whether it maps the frame.
    mapped: AtomicBool,
    generation: AtomicU64,
    /// Another owner has the frame by now.
    reused: AtomicBool,
}

impl System {
    fn new() -> System {
        System {
            blocks: Blocks::new(2, || Seen { shown: AtomicU64::new(0), line: Line::new() }),
            mapped: AtomicBool::new(true),
            generation: AtomicU64::new(0),
            reused: AtomicBool::new(false),
        }
    }
}

impl Cpus for System {
    type Own = ();
    type Shared = Seen;
    type Mail = Mail;

    fn all(&self) -> &All<(), Seen, Mail> {
        &self.blocks.all
    }
    fn interrupt(&self, cpu: CpuId) {
        self.blocks.block(cpu.index()).line.raise();
    }
}

/// What CPU 1 remembers, and the generation that it last saw.
struct Tlb {
    entry: Option<bool>,
    seen: u64,
}

impl Tlb {
    /// What a CPU does that compares the generation.
    fn look(&mut self, system: &System) {
        let generation = system.generation.load(Ordering::Acquire);
        if self.seen != generation {
            *self = Tlb { entry: None, seen: generation };
        }
    }

    /// The program uses the page, if it is mapped.
    fn touch(&mut self, system: &System) {
        let mapped = *self.entry.get_or_insert_with(|| system.mapped.load(Ordering::Relaxed));
        assert!(!mapped || !system.reused.load(Ordering::Relaxed), "a translation outlives its page");
    }
}

/// Takes the mail of a CPU that is interrupted: questions by `forget`. Whether its own shootdowns
/// are over.
fn drain(system: &System, entry: &Entry, mut forget: impl FnMut()) -> bool {
    let (pin, block) = (entry.pin(), system.blocks.block(entry.cpu().index()));
    let mut advanced = false;
    if block.line.take() {
        let drained =
            block.mailbox().inbox(pin).drain(8, |Mail(mail)| match shootdown::receive(system, pin, mail) {
                Received::Question => {
                    forget();
                    shootdown::answer(system, pin, mail);
                }
                Received::Same => {}
                Received::Advanced => advanced = true,
            });
        if drained == Drained::More {
            block.line.raise();
        }
    }
    advanced
}

/// CPU 1: enters the space, or is in it from the start; takes its mail at times; uses the page in
/// between.
fn uses(system: &System, tlb: &mut Tlb, inside: bool) {
    let entry = entry(1);
    if !inside {
        system.blocks.block(1).shown.store(1, Ordering::Release);
        // CR3 is written.
        fence(Ordering::SeqCst);
        tlb.look(system);
    }
    for _ in 0..2 {
        tlb.touch(system);
        drain(system, &entry, || tlb.look(system));
    }
    tlb.touch(system);
}

/// CPU 0 takes the page away, makes CPU 1 forget it, and gives the frame away when that is over.
/// CPU 1 remembers the page from when it was in the space before.
fn page_taken_away(inside: bool, preemptions: usize) {
    let (asked, avoided) = (Arc::new(Counter::new(0)), Arc::new(Counter::new(0)));
    let counters = (asked.clone(), avoided.clone());
    model(preemptions, move || {
        let system = Object::new(System::new());
        if inside {
            system.get().blocks.block(1).shown.store(1, Ordering::Relaxed);
        }
        let shared = system.get();
        let other = thread::spawn(move || {
            let mut tlb = Tlb { entry: Some(true), seen: 0 };
            uses(shared.get(), &mut tlb, inside);
            tlb
        });
        let (system, entry) = (shared.get(), entry(0));
        system.mapped.store(false, Ordering::Relaxed);
        system.generation.store(1, Ordering::Release);
        let is_there = |cpu: CpuId| system.blocks.block(cpu.index()).shown.load(Ordering::Relaxed) == 1;
        let begun = shootdown::begin(system, entry.pin(), What::Space, 0, (0..2).map(cpu), is_there);
        let counter = if begun.sent == 1 { &counters.0 } else { &counters.1 };
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        for _ in 0..2 {
            if shootdown::is_over(system, entry.pin(), begun.stamp) {
                system.reused.store(true, Ordering::Relaxed);
                break;
            }
            drain(system, &entry, || ());
        }
        let mut tlb = other.join().unwrap();
        drain(system, &smp::host_test::entry(1), || tlb.look(system));
        drain(system, &entry, || ());
        assert!(shootdown::is_over(system, entry.pin(), begun.stamp), "nobody answers");
    });
    assert!(asked.load(std::sync::atomic::Ordering::Relaxed) > 0, "CPU 1 is never asked");
    assert!(inside || avoided.load(std::sync::atomic::Ordering::Relaxed) > 0, "CPU 1 is always asked");
}

#[test]
fn page_of_a_cpu_that_is_in_the_space() {
    page_taken_away(true, 4);
}

#[test]
fn page_of_a_cpu_that_enters_the_space() {
    page_taken_away(false, 4);
}

#[test]
#[should_panic(expected = "a translation outlives its page")]
fn caught_shootdown_without_a_fence() {
    let _planted = Planted::new(Fault::UnfencedShootdown);
    page_taken_away(false, 4);
}
