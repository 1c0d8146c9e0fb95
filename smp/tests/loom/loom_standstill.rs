//! Standstill: the CPU that stops all others sees everything that they wrote, and no other CPU acts
//! meanwhile.

use std::sync::Arc;

use crate::common::{Blocks, Line, model};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use smp::cpu::CpuId;
use smp::host_test::pin;
use smp::percpu::{All, Cpus};
use smp::quiesce::GraceMail;
use smp::shootdown::{ShootMail, What};
use smp::standstill::Standstill;

/// No mail is sent here.
struct Mail;

impl From<GraceMail> for Mail {
    fn from(_: GraceMail) -> Mail {
        Mail
    }
}

impl From<(ShootMail, What)> for Mail {
    fn from(_: (ShootMail, What)) -> Mail {
        Mail
    }
}

struct System {
    standstill: Standstill,
    blocks: Blocks<Line, Mail>,
    /// What each CPU owns: two words that are equal between entries.
    own: Vec<[UnsafeCell<u64>; 2]>,
    /// How many have stopped the others so far.
    stopped: AtomicUsize,
}

impl Cpus for System {
    type Own = ();
    type Shared = Line;
    type Mail = Mail;

    fn all(&self) -> &All<(), Line, Mail> {
        &self.blocks.all
    }
    fn interrupt(&self, cpu: CpuId) {
        self.blocks.block(cpu.index()).raise();
    }
}

// SAFETY: a CPU writes what it owns; others read it while it stands still; loom checks.
unsafe impl Sync for System {}

impl System {
    fn new(cpus: usize) -> System {
        System {
            standstill: Standstill::new(),
            blocks: Blocks::new(cpus, Line::new),
            own: (0..cpus).map(|_| [UnsafeCell::new(0), UnsafeCell::new(0)]).collect(),
            stopped: AtomicUsize::new(0),
        }
    }

    fn take_interrupt(&self, n: usize) {
        if self.blocks.block(n).take() {
            self.standstill.stand(pin(n));
        }
    }

    /// A kernel entry, with interrupts off.
    fn entry(&self, n: usize) {
        for word in &self.own[n] {
            // SAFETY: this CPU's own.
            word.with_mut(|at| unsafe { *at += 1 });
        }
    }

    fn stop(&self, n: usize) {
        loop {
            if let Some(_stopped) = self.standstill.stop(self, pin(n)) {
                for own in &self.own {
                    // SAFETY: all others stand still.
                    let [first, second] = [&own[0], &own[1]].map(|word| word.with(|at| unsafe { *at }));
                    assert_eq!(first, second, "a CPU stands still in the middle of an entry");
                }
                break;
            }
            self.take_interrupt(n);
            thread::yield_now();
        }
        self.stopped.fetch_add(1, Ordering::Release);
    }

    /// Takes interrupts until that many have stopped the others.
    fn serve(&self, n: usize, stoppers: usize) {
        while self.stopped.load(Ordering::Acquire) < stoppers {
            self.take_interrupt(n);
            thread::yield_now();
        }
    }
}

/// CPU 0 does something, and CPU 1 stops all others.
fn explore(act: fn(&System), stoppers: usize, preemptions: usize) {
    model(preemptions, move || {
        let system = Arc::new(System::new(2));
        let other = Arc::clone(&system);
        let other = thread::spawn(move || {
            other.stop(1);
            other.serve(1, stoppers);
        });
        act(&system);
        system.serve(0, stoppers);
        other.join().unwrap();
    });
}

#[test]
fn nobody_is_in_the_middle_of_an_entry() {
    let entries = |system: &System| {
        for _ in 0..2 {
            system.entry(0);
            system.take_interrupt(0);
        }
    };
    explore(entries, 1, 3);
}

#[test]
fn two_who_stop_each_other_come_one_after_the_other() {
    let stops = |system: &System| {
        system.entry(0);
        system.stop(0);
    };
    explore(stops, 2, 2);
}
