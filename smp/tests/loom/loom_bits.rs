//! Coalesced bits: every raised bit is taken exactly once, whichever CPU raises it, at any time.

use crate::common::{Line, Object, model};
use loom::cell::UnsafeCell;
use loom::thread;
use smp::cpu::Entry;
use smp::door::Ref;
use smp::host_test::{cpu, entry, pin};
use smp::mailbox::{CoalescedBits, Drained, Mailbox};
use smp::planted::{Fault, Planted};

/// What the raisers did before they raised, which the taker must see.
struct Deeds([UnsafeCell<u64>; 2]);

// SAFETY: each is written by one raiser before it raises and read by the taker of its bit; loom
// checks.
unsafe impl Sync for Deeds {}

struct Taker {
    mailbox: Ref<'static, Mailbox<()>>,
    bits: Ref<'static, CoalescedBits<()>>,
    line: Ref<'static, Line>,
    deeds: Ref<'static, Deeds>,
    got: Vec<u64>,
}

impl Taker {
    fn drain(&mut self, entry: &mut Entry) {
        let (bits, got) = (self.bits, &mut self.got);
        let pin = entry.pin();
        let drained = self.mailbox.inbox(pin).drain(8, |()| got.push(bits.take(pin)));
        if drained == Drained::More {
            self.line.raise();
        }
        for n in 0..2 {
            if self.got.iter().any(|bits| bits & 1 << n != 0) {
                // SAFETY: its raiser is done with it.
                let deed = self.deeds.0[n].with(|at| unsafe { *at });
                assert_eq!(deed, 7, "a bit came before what was done for it");
            }
        }
    }

    fn take_interrupt(&mut self) -> bool {
        let up = self.line.take();
        if up {
            self.drain(&mut entry(0));
        }
        up
    }
}

/// CPUs 1 and 2 raise a bit each, `again` raises a third one from CPU 1.
fn explore(again: bool, preemptions: usize) {
    model(preemptions, move || {
        let mailbox = Object::new(Mailbox::new(cpu(0)));
        let bits = Object::new(CoalescedBits::new());
        let line = Object::new(Line::new());
        let deeds = Object::new(Deeds([UnsafeCell::new(0), UnsafeCell::new(0)]));
        let mut taker = Taker {
            mailbox: mailbox.get(),
            bits: bits.get(),
            line: line.get(),
            deeds: deeds.get(),
            got: Vec::new(),
        };
        let (to, at, line, deeds) = (taker.mailbox, taker.bits, taker.line, taker.deeds);
        let raise = move |n: usize, bit: u64| {
            if to.raise(pin(n), at, bit, || ((), 0), |_| to.get()).1.is_needed() {
                line.raise();
            }
        };
        let raiser = move |n: usize| {
            // SAFETY: nobody else touches it before the bit is taken.
            deeds.0[n].with_mut(|deed| unsafe { *deed = 7 });
            raise(n + 1, 1 << n);
            if again && n == 0 {
                raise(n + 1, 4);
            }
        };
        let threads = [thread::spawn(move || raiser(0)), thread::spawn(move || raiser(1))];
        taker.take_interrupt();
        taker.take_interrupt();
        for thread in threads {
            thread.join().unwrap();
        }
        while taker.take_interrupt() {}
        let (sum, any) = (taker.got.iter().sum::<u64>(), taker.got.iter().fold(0, |a, b| a | b));
        assert_eq!((sum, any), (if again { (7, 7) } else { (3, 3) }), "a bit is lost or doubled");
        assert!(taker.got.iter().all(|bits| *bits != 0), "a node came for nothing");
    });
}

#[test]
fn two_raisers() {
    explore(false, 8);
}

#[test]
fn raised_again() {
    explore(true, 6);
}

#[test]
#[should_panic(expected = "a bit is lost or doubled")]
fn caught_bits_taken_in_two_steps() {
    let _planted = Planted::new(Fault::LostRecall);
    explore(false, 8);
}

#[test]
#[should_panic(expected = "a bit is lost or doubled")]
fn caught_raise_that_trusts_an_earlier_look() {
    let _planted = Planted::new(Fault::LostWake);
    explore(false, 8);
}

/// CPUs 1 and 2 raise a bit each, with ranks 1 and 2. The bits are taken later, together.
fn explore_ranks() {
    model(8, || {
        let mailbox = Object::new(Mailbox::new(cpu(0)));
        let bits = Object::new(CoalescedBits::new());
        let (to, at) = (mailbox.get(), bits.get());
        let raise = move |n: usize| {
            let _ = to.raise(pin(n), at, 1 << n, || ((), n as u32), |_| to.get());
        };
        let threads = [thread::spawn(move || raise(1)), thread::spawn(move || raise(2))];
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(to.get().inbox(pin(0)).drain(8, |()| {}), Drained::Empty);
        assert_eq!(at.get().rank(), 2, "the better raise does not count");
        assert_eq!((at.get().take(pin(0)), at.get().rank()), (6, 0));
    });
}

#[test]
fn the_better_raise_counts() {
    explore_ranks();
}

#[test]
#[should_panic(expected = "the better raise does not count")]
fn caught_rank_that_is_overwritten() {
    let _planted = Planted::new(Fault::LostRank);
    explore_ranks();
}

/// The rank for which both CPUs defer their mail.
const DEFERRED_FOR: u32 = 1;

/// CPUs 2 and 3 raise a bit each, into the mailboxes of CPUs 0 and 1, which defer their mail: the
/// owner of the bits moves meanwhile. One of the bits is urgent.
fn explore_places() {
    model(6, || {
        let mailboxes = [0, 1].map(|n| Object::new(Mailbox::new(cpu(n))));
        let bits = Object::new(CoalescedBits::new());
        let (to, at) = (mailboxes.each_ref().map(|mailbox| mailbox.get()), bits.get());
        for (n, mailbox) in to.iter().enumerate() {
            assert!(!mailbox.inbox(pin(n)).defer(DEFERRED_FOR));
        }
        let raise = move |n: usize, rank: u32| {
            let others = |cpu: smp::cpu::CpuId| to[cpu.index()].get();
            let (there, wake) = to[n].get().raise(pin(n + 2), at, 1 << n, || ((), rank), others);
            wake.is_needed().then_some(there)
        };
        let threads = [(0, 0), (1, DEFERRED_FOR + 1)].map(|(n, rank)| thread::spawn(move || raise(n, rank)));
        let woken = threads.map(|thread| thread.join().unwrap());
        let has_node = to.iter().position(|mailbox| mailbox.has_mail()).expect("one has the node");
        assert!(woken.contains(&Some(cpu(has_node))), "the CPU that has the node is not told");
        for (n, mailbox) in to.iter().enumerate() {
            let _ = mailbox.inbox(pin(n)).drain(8, |()| _ = at.take(pin(n)));
        }
    });
}

#[test]
fn the_cpu_with_the_node_is_told() {
    explore_places();
}

#[test]
#[should_panic(expected = "the CPU that has the node is not told")]
fn caught_raise_that_tells_the_wrong_cpu() {
    let _planted = Planted::new(Fault::WrongMailbox);
    explore_places();
}
