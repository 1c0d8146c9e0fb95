//! A task moves to the CPU where it starts, with the Notification that is bound to it, while a
//! third CPU raises bits. The new home can open both when it gets the message. The bits arrive
//! after that message, and the task gets them.
//!
//! The model also checks batches: the nodes of one batch stay together.

use crate::common::{Line, Object, model};
use loom::cell::Cell;
use loom::thread;
use smp::cpu::Pin;
use smp::door::{Homed, Ref};
use smp::host_test::{cpu, entry, pin};
use smp::mailbox::{CoalescedBits, Drained, Mailbox, Node, Wake};

/// Which rule is broken.
#[derive(Clone, Copy, PartialEq)]
enum Broken {
    Nothing,
    /// The source makes the destination the home of one part after the other.
    OneByOne,
    /// The message is sent before the last part is given up.
    SentEarly,
    /// The source drops what comes for a part that is under way.
    NotSentOn,
}

#[derive(Clone, Copy)]
enum Mail {
    Arrival,
    Bits,
}

/// The task and the Notification: whether they know of bits. Loom sees to it that one CPU at a time
/// looks.
struct Parts {
    task: Homed<Cell<u64>>,
    note: Homed<Cell<u64>>,
    node: Node<Mail>,
    remote: CoalescedBits<Mail>,
}

#[derive(Clone)]
struct Cpu {
    number: usize,
    broken: Broken,
    parts: Ref<'static, Parts>,
    mailboxes: [Ref<'static, Mailbox<Mail>>; 2],
    lines: [Ref<'static, Line>; 2],
}

impl Cpu {
    fn woken(&self, to: usize, wake: Wake) {
        if wake.is_needed() {
            self.lines[to].raise();
        }
    }

    /// As the source: the task is resumed for the first time.
    fn resume(&self) {
        let entry = entry(self.number);
        let (pin, to) = (entry.pin(), cpu(1));
        let parts = self.parts.get();
        if self.broken == Broken::OneByOne {
            parts.note.hold_here(pin).hand_to_with(Some(parts.task.hold_here(pin)), to);
            return;
        }
        let (Some(task), Some(note)) = (parts.task.hold(pin), parts.note.hold(pin)) else {
            panic!("the source is their home");
        };
        let send = || {
            let mut batch = self.mailboxes[1].get().batch(pin);
            batch.add(self.parts.map(|parts| &parts.node), Mail::Arrival);
            self.woken(1, batch.push());
        };
        task.leave_for(to);
        if self.broken == Broken::SentEarly {
            send();
            note.leave_for(to);
        } else {
            note.leave_for(to);
            send();
        }
    }

    /// Raises bits of the Notification, as any CPU may.
    fn raise(&self, pin: Pin<'_>) {
        let parts = self.parts.get();
        if let Some(note) = parts.note.open(pin) {
            note.set(1);
            if let Some(task) = parts.task.open(pin) {
                task.set(1);
            }
            return;
        }
        let to = parts.note.mail_target(pin).index();
        let bits = self.parts.map(|parts| &parts.remote);
        let others = |cpu: smp::cpu::CpuId| self.mailboxes[cpu.index()].get();
        let (to, wake) = self.mailboxes[to].get().raise(pin, bits, 1, || (Mail::Bits, 0), others);
        self.woken(to.index(), wake);
    }

    fn take_interrupt(&self) -> bool {
        if !self.lines[self.number].take() {
            return false;
        }
        let entry = entry(self.number);
        let pin = entry.pin();
        let sort = |mail| match mail {
            Mail::Arrival => {
                let parts = self.parts.get();
                assert!(parts.task.arrive(pin) && parts.note.arrive(pin), "a part has not come along");
            }
            Mail::Bits => {
                let bits = self.parts.get().remote.take(pin);
                assert_eq!(bits, 1);
                if self.broken != Broken::NotSentOn || self.parts.get().note.open(pin).is_some() {
                    self.raise(pin);
                }
            }
        };
        if self.mailboxes[self.number].inbox(pin).drain(8, sort) == Drained::More {
            self.lines[self.number].raise();
        }
        true
    }
}

fn explore(broken: Broken, preemptions: usize) {
    model(preemptions, move || {
        let parts = Object::new(Parts {
            task: Homed::new(cpu(0), Cell::new(0)),
            note: Homed::new(cpu(0), Cell::new(0)),
            node: Node::new(cpu(0)),
            remote: CoalescedBits::new(),
        });
        let mailboxes = [0, 1].map(|n| Object::new(Mailbox::new(cpu(n))));
        let lines = [0, 1].map(|_| Object::new(Line::new()));
        let on = |number| Cpu {
            number,
            broken,
            parts: parts.get(),
            mailboxes: mailboxes.each_ref().map(Object::get),
            lines: lines.each_ref().map(Object::get),
        };
        let (source, destination, third) = (on(0), on(1), on(2));
        let there = thread::spawn(move || {
            destination.take_interrupt();
            destination.take_interrupt();
            destination
        });
        let elsewhere = thread::spawn(move || third.raise(pin(2)));
        source.resume();
        source.take_interrupt();
        elsewhere.join().unwrap();
        let destination = there.join().unwrap();
        while source.take_interrupt() | destination.take_interrupt() {}
        let known = [&parts.get().get().task, &parts.get().get().note]
            .map(|part| part.open(pin(1)).expect("it is at its new home").get());
        assert_eq!(known, [1, 1], "the task does not hear of the bits");
    });
}

#[test]
fn bits_come_behind_the_task() {
    explore(Broken::Nothing, 4);
}

#[test]
#[should_panic(expected = "the task does not hear of the bits")]
fn caught_parts_that_move_one_by_one() {
    explore(Broken::OneByOne, 4);
}

#[test]
#[should_panic(expected = "a part has not come along")]
fn caught_a_message_before_the_last_part() {
    explore(Broken::SentEarly, 4);
}

#[test]
#[should_panic(expected = "the task does not hear of the bits")]
fn caught_mail_that_is_not_sent_on() {
    explore(Broken::NotSentOn, 4);
}

/// CPU 1 pushes a batch, CPU 2 one message, and CPU 0 looks once in the middle.
#[test]
fn a_batch_stays_together() {
    model(4, || {
        let mailbox = Object::new(Mailbox::new(cpu(0)));
        let line = Object::new(Line::new());
        let nodes = [1, 1, 1, 2].map(|n| Object::new(Node::new(cpu(n))));
        let (to, interrupt) = (mailbox.get(), line.get());
        let [first, second, third, other] = nodes.each_ref().map(Object::get);
        let batch = thread::spawn(move || {
            let entry = entry(1);
            let mut batch = to.get().batch(entry.pin());
            for (node, payload) in [(first, 1), (second, 2), (third, 3)] {
                batch.add(node, payload);
            }
            if batch.push().is_needed() {
                interrupt.raise();
            }
        });
        let single = thread::spawn(move || {
            if to.push(pin(2), other, 9).is_needed() {
                interrupt.raise();
            }
        });
        let mut got: Vec<u32> = Vec::new();
        let mut look = || {
            let up = interrupt.take();
            if up && to.inbox(entry(0).pin()).drain(8, |n| got.push(n)) == Drained::More {
                interrupt.raise();
            }
            up
        };
        look();
        batch.join().unwrap();
        single.join().unwrap();
        while look() {}
        let at = got.iter().position(|n| *n == 1).expect("the first is there");
        assert_eq!(got.get(at..at + 3), Some(&[1, 2, 3][..]), "something came between");
        assert_eq!(got.len(), 4, "a message nobody will look for");
    });
}
