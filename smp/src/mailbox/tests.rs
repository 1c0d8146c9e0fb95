//! Host tests of the mailbox: its states one by one, and real threads as CPUs. loom tests all
//! interleavings (`tests/loom`).

use super::*;
use crate::host_test::{cpu, leak, pin};
use crate::sync::AtomicBool;
use core::mem::offset_of;
use std::thread;
use std::vec::Vec;

type Letter = Ref<'static, Node<u32>>;

fn mailbox(owner: usize) -> Ref<'static, Mailbox<u32>> {
    leak(Mailbox::new(cpu(owner)))
}

fn letter(owner: usize) -> Letter {
    leak(Node::new(cpu(owner)))
}

#[test]
fn one_line_for_a_push_and_a_pop() {
    assert_eq!((offset_of!(Mailbox<u64>, sorted), align_of::<Mailbox<u64>>()), (64, 64));
    let mailbox = mailbox(0);
    assert_eq!(mailbox.line(), mailbox.addr());
}

#[test]
fn mail_comes_out_in_order() {
    let mailbox = mailbox(0);
    assert_eq!(mailbox.inbox(pin(0)).pop(), Popped::Empty);
    for round in 0..3 {
        assert_eq!(mailbox.push(pin(1), letter(1), round), Wake::Interrupt);
        assert_eq!(mailbox.push(pin(2), letter(2), round + 10), Wake::NotNeeded);
        assert_eq!(mailbox.push(pin(0), letter(0), round + 20), Wake::NotNeeded);
        for n in [round, round + 10, round + 20] {
            assert!(mailbox.has_mail());
            assert_eq!(mailbox.inbox(pin(0)).pop(), Popped::Mail(n));
        }
        assert!(!mailbox.has_mail());
        assert_eq!(mailbox.inbox(pin(0)).pop(), Popped::Empty);
    }
}

#[test]
fn the_popper_owns_the_node() {
    let (there, back, node) = (mailbox(1), mailbox(0), letter(0));
    assert!(node.is_here(pin(0)) && !node.is_here(pin(1)));
    for n in 0..3 {
        assert!(there.push(pin(0), node, n).is_needed());
        assert!(!node.is_here(pin(0)) && !node.is_here(pin(1)));
        assert_eq!(there.inbox(pin(1)).pop(), Popped::Mail(n));
        assert!(node.is_here(pin(1)));
        assert!(back.push(pin(1), node, n + 100).is_needed());
        assert_eq!(back.inbox(pin(0)).pop(), Popped::Mail(n + 100));
    }
    node.hand_to(pin(0), cpu(5));
    assert!(node.is_here(pin(5)));
}

#[test]
#[should_panic(expected = "used as if it belongs to cpu0, but it is in a mailbox already")]
fn pushing_a_queued_node_is_refused() {
    let (mailbox, node) = (mailbox(1), letter(0));
    let _ = mailbox.push(pin(0), node, 1);
    let _ = mailbox.push(pin(0), node, 2);
}

#[test]
#[should_panic(expected = "used as if it belongs to cpu2, but it belongs to cpu0")]
fn pushing_anothers_node_is_refused() {
    let _ = mailbox(1).push(pin(2), letter(0), 1);
}

#[test]
#[should_panic(expected = "cpu1 took mail from the mailbox of cpu0")]
fn only_the_owner_pops() {
    mailbox(0).inbox(pin(1)).pop();
}

#[test]
fn polling_saves_the_interrupt_and_nothing_else_does() {
    let mailbox = mailbox(0);
    assert!(mailbox.inbox(pin(0)).advertise(Idle::Halt) && mailbox.is_idle());
    assert_eq!(mailbox.push(pin(1), letter(1), 1), Wake::Interrupt);
    assert!(!mailbox.inbox(pin(0)).advertise(Idle::Halt), "it has mail");
    assert!(!mailbox.is_idle());
    assert_eq!(mailbox.inbox(pin(0)).pop(), Popped::Mail(1));
    assert!(mailbox.inbox(pin(0)).advertise(Idle::Poll));
    assert_eq!(mailbox.push(pin(1), letter(1), 2), Wake::NotNeeded);
    mailbox.inbox(pin(0)).retract();
    assert!(mailbox.has_mail());
    assert_eq!(mailbox.inbox(pin(0)).pop(), Popped::Mail(2));
    assert!(mailbox.inbox(pin(0)).advertise(Idle::Poll));
    mailbox.inbox(pin(0)).retract();
    assert!(!mailbox.has_mail() && !mailbox.is_idle());
    assert_eq!(mailbox.push(pin(1), letter(1), 3), Wake::Interrupt);
}

#[test]
fn a_batch_goes_in_at_once() {
    let mailbox = mailbox(0);
    assert_eq!(mailbox.get().batch(pin(1)).push(), Wake::NotNeeded, "of nothing");
    let mut next = 0;
    for waits in [false, true] {
        let mut batch = mailbox.get().batch(pin(1));
        let nodes = [(); 3].map(|()| letter(1));
        for node in nodes {
            batch.add(node, next + 1);
            next += 1;
            assert!(!node.is_here(pin(1)) && !mailbox.has_mail());
        }
        if waits {
            let _ = mailbox.push(pin(2), letter(2), 0);
        }
        assert_eq!(batch.push().is_needed(), !waits);
        let _ = mailbox.push(pin(2), letter(2), 9);
        let mut got = Vec::new();
        assert_eq!(mailbox.inbox(pin(0)).drain(8, |n| got.push(n)), Drained::Empty);
        let first = if waits { &[0][..] } else { &[] };
        assert_eq!(got, [first, &[next - 2, next - 1, next, 9]].concat());
        assert!(nodes.iter().all(|node| node.is_here(pin(0))));
    }
    assert!(mailbox.inbox(pin(0)).advertise(Idle::Poll));
    let mut batch = mailbox.get().batch(pin(1));
    batch.add(letter(1), 1);
    assert_eq!(batch.push(), Wake::NotNeeded, "it polls");
}

#[test]
#[should_panic(expected = "used as if it belongs to cpu1, but it is in a mailbox already")]
fn a_node_is_in_a_batch_once() {
    let (mailbox, node) = (mailbox(0), letter(1));
    let mut batch = mailbox.get().batch(pin(1));
    batch.add(node, 1);
    batch.add(node, 2);
}

#[test]
fn a_drain_is_bounded_and_says_what_is_left() {
    let mailbox = mailbox(0);
    let mut got = Vec::new();
    assert_eq!(mailbox.inbox(pin(0)).drain(4, |n| got.push(n)), Drained::Empty);
    for n in 0..7 {
        let _ = mailbox.push(pin(1), letter(1), n);
    }
    assert_eq!(mailbox.inbox(pin(0)).drain(3, |n| got.push(n)), Drained::More);
    assert_eq!(mailbox.inbox(pin(0)).drain(4, |n| got.push(n)), Drained::Empty);
    assert_eq!(got, (0..7).collect::<Vec<_>>());
}

#[test]
fn a_producer_in_the_middle_is_seen() {
    let (mailbox, node) = (mailbox(0), letter(1));
    // What a push has done between its exchange and its link.
    node.claim(1, QUEUED);
    let this = ptr::from_ref(node.get()).cast_mut();
    mailbox.head.store(this, Ordering::SeqCst);
    assert_eq!(mailbox.inbox(pin(0)).pop(), Popped::Between);
    assert!(!mailbox.inbox(pin(0)).advertise(Idle::Halt), "no CPU idles meanwhile");
    assert_eq!(mailbox.inbox(pin(0)).drain(8, |_| panic!("unreachable mail")), Drained::More);
}

#[test]
fn bits_are_announced_once_and_taken_together() {
    let (mailbox, bits) = (mailbox(0), leak(CoalescedBits::new()));
    for round in 0..3 {
        let raise = |n: usize, bit: u64| mailbox.raise(pin(n), bits, bit, || (7, 0), |_| mailbox.get());
        assert_eq!(raise(1, 1), (cpu(0), Wake::Interrupt));
        assert_eq!(raise(2, 4), (cpu(0), Wake::NotNeeded));
        assert_eq!((bits.glance(), mailbox.inbox(pin(0)).pop()), (5, Popped::Mail(7)), "round {round}");
        assert_eq!(raise(1, 2), (cpu(0), Wake::NotNeeded));
        assert_eq!(mailbox.inbox(pin(0)).pop(), Popped::Empty);
        assert_eq!((bits.take(pin(0)), bits.glance()), (7, 0));
    }
}

#[test]
fn bits_follow_an_object_that_moved() {
    let (old, new, bits) = (mailbox(0), mailbox(3), leak(CoalescedBits::new()));
    let others = |_| new.get();
    let _ = old.raise(pin(1), bits, 8, || (9, 0), others);
    assert_eq!(old.inbox(pin(0)).pop(), Popped::Mail(9));
    assert_eq!(new.pass_on(pin(0), bits, 9), Wake::Interrupt);
    assert_eq!(old.raise(pin(1), bits, 1, || (9, 0), others), (cpu(3), Wake::NotNeeded), "it is there");
    assert_eq!((new.inbox(pin(3)).pop(), bits.take(pin(3))), (Popped::Mail(9), 9));
}

#[test]
#[should_panic(expected = "used as if it belongs to cpu0, but it is free")]
fn bits_are_taken_after_their_node_was_popped() {
    let bits: CoalescedBits<u32> = CoalescedBits::new();
    bits.take(pin(0));
}

/// Three producer threads, one consumer thread: nothing is lost, doubled or out of order, and every
/// sleep of the consumer is ended by an interrupt or by mail it polls for.
/// Puts a message of a rank into a mailbox of CPU 0.
fn ranked(mailbox: Ref<'static, Mailbox<u32>>, rank: u32) -> Wake {
    let letter = letter(1);
    letter.set_rank(rank);
    mailbox.push(pin(1), letter, rank)
}

/// Mail that was urgent for one program is not for a better one, and is again for the first.
#[test]
fn a_higher_rank_calms_and_a_lower_one_hurries_again() {
    // In the queue, or set aside behind the owner's back.
    for aside in [false, true] {
        let mailbox = mailbox(0);
        let inbox = mailbox.inbox(pin(0));
        let _ = ranked(mailbox, 1);
        assert!(!inbox.defer(4));
        assert_eq!((ranked(mailbox, 2), ranked(mailbox, 6)), (Wake::NotNeeded, Wake::Interrupt));
        assert!(inbox.defer(4) && inbox.has_urgent());
        for _ in 0..if aside { 3 } else { 0 } {
            assert!(matches!(inbox.pick(|_| Order::Behind), Picked::Aside));
        }
        assert!(inbox.has_urgent());
        assert!(!inbox.defer(6) && !inbox.has_urgent(), "aside: {aside}");
        assert!(matches!(inbox.pick(|_| Order::ByRank), Picked::Over), "there is nothing to hurry for");
        assert!(inbox.defer(5) && inbox.has_urgent(), "aside: {aside}");
        let mut got = Vec::new();
        loop {
            match inbox.pick(|_| Order::Behind) {
                Picked::Mail(rank) => got.push(rank),
                Picked::Aside => {}
                Picked::Over => break,
            }
        }
        assert_eq!(got, [1, 2, 6], "what is behind others brings them along");
    }
}

/// A message that everything has to wait for stays urgent, however high the rank is.
#[test]
fn what_overtakes_always_hurries_for_every_rank() {
    let mailbox = mailbox(0);
    let inbox = mailbox.inbox(pin(0));
    for rank in [6, 1] {
        let _ = ranked(mailbox, rank);
    }
    assert!(inbox.defer(4));
    assert!(matches!(inbox.pick(|_| Order::Barrier), Picked::Aside));
    assert!(matches!(inbox.pick(|_| Order::Always), Picked::Aside), "not before the barrier");
    assert!(inbox.defer(100) && inbox.has_urgent());
}

#[test]
fn threads_as_cpus() {
    const EACH: u32 = if cfg!(miri) { 40 } else { 20_000 };
    const PRODUCERS: u32 = 3;
    let mailbox = mailbox(0).get();
    let interrupt = leak(AtomicBool::new(false)).get();
    let producer = move |number: u32| {
        let k = pin(number as usize + 1);
        for n in 0..EACH {
            if mailbox.push(k, letter(number as usize + 1), number * EACH + n).is_needed() {
                interrupt.store(true, Ordering::SeqCst);
            }
        }
    };
    let producers: Vec<_> = (0..PRODUCERS).map(|n| thread::spawn(move || producer(n))).collect();
    let (mut next, mut sleeps) = ([0; PRODUCERS as usize], 0);
    let all_came = |next: &[u32; PRODUCERS as usize]| next.iter().sum::<u32>() == EACH * PRODUCERS;
    while !all_came(&next) {
        let drained = mailbox.inbox(pin(0)).drain(16, |n| {
            let (from, n) = (n / EACH, n % EACH);
            assert_eq!(core::mem::replace(&mut next[from as usize], n + 1), n, "order of producer {from}");
        });
        // After the last letter nothing would end a sleep.
        if drained == Drained::More || all_came(&next) {
            continue;
        }
        sleeps += 1;
        let how = if sleeps % 2 == 0 { Idle::Halt } else { Idle::Poll };
        if mailbox.inbox(pin(0)).advertise(how) {
            let polled = || how == Idle::Poll && mailbox.has_mail();
            while !interrupt.load(Ordering::SeqCst) && !polled() {
                thread::yield_now();
            }
            interrupt.store(false, Ordering::SeqCst);
            mailbox.inbox(pin(0)).retract();
        }
    }
    for producer in producers {
        producer.join().expect("no producer panics");
    }
}
