//! Queue, idle word and interrupt: no message stays in a mailbox into which no CPU will look, and
//! better mail does not wait for the timer of a CPU that defers its mail.
//!
//! Each broken variant removes one rule, and loom must find an error in it.

use crate::common::{Line, Object, model};
use loom::thread;
use smp::cpu::Entry;
use smp::door::Ref;
use smp::host_test::{cpu, entry, pin};
use smp::mailbox::{Drained, Idle, Mailbox, Node, Order, Picked};
use smp::planted::{Fault, Planted};

/// What the consumer does between the start and its stay in user mode.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    /// Runs in user mode all the time.
    User,
    /// Runs in user mode, and forgets that a drain left something.
    Forgetful,
    /// Halts until an interrupt.
    Halt,
    /// Polls; then something else wakes it (a timer), and it goes to user mode.
    PollThenUser,
    /// Polls; then saves power and halts.
    PollThenHalt,
    /// Runs in user mode, and defers its mail after an interrupt.
    Defer,
    /// Defers its mail, and ends that with no look after the advertisement is withdrawn.
    DeferThenTrust,
    /// Defers its mail; before the timer fires its program stops, and it halts.
    DeferThenHalt,
}

struct World {
    mailbox: Object<Mailbox<u32>>,
    line: Object<Line>,
    nodes: Vec<Object<Node<u32>>>,
}

/// The consumer: CPU 0.
struct Consumer {
    script: Script,
    mailbox: Ref<'static, Mailbox<u32>>,
    line: Ref<'static, Line>,
    got: Vec<u32>,
    /// The CPU looks again without waiting for its timer.
    hurries: bool,
}

/// The rank for which a consumer defers its mail.
const DEFERRED_FOR: u32 = 1;
/// Looks of a deferring consumer beside the producers. Later looks find no producer.
const LOOKS: usize = 2;

impl Consumer {
    /// What a CPU that defers does when its timer fires, or when it is interrupted.
    fn look(&mut self) {
        let inbox_entry = entry(0);
        let inbox = self.mailbox.inbox(inbox_entry.pin());
        let got = &mut self.got;
        let was = got.len();
        let drained = inbox.drain(1, |n| got.push(n));
        let is_stuck = drained == Drained::More && got.len() == was;
        self.hurries = if drained == Drained::More || got.len() > was {
            inbox.defer(DEFERRED_FOR) || is_stuck
        } else if self.script == Script::DeferThenTrust {
            inbox.retract();
            false
        } else {
            !inbox.end_deferral() && inbox.defer(DEFERRED_FOR)
        };
    }

    /// What a CPU that defers does when it is interrupted before its timer fires: it sets mail
    /// aside that is not above its rank.
    fn look_before_time(&mut self) {
        let inbox_entry = entry(0);
        let inbox = self.mailbox.inbox(inbox_entry.pin());
        if !inbox.is_deferring() {
            return self.look();
        }
        if inbox.has_urgent() {
            let _ = inbox.defer(DEFERRED_FOR);
            loop {
                match inbox.pick(|_| Order::ByRank) {
                    Picked::Mail(n) => self.got.push(n),
                    Picked::Aside => {}
                    Picked::Over => break,
                }
            }
        }
        self.hurries = inbox.defer(DEFERRED_FOR);
    }

    fn defers(&self) -> bool {
        self.mailbox.inbox(entry(0).pin()).is_deferring()
    }

    /// In user mode: interrupts come, and the timer of a CPU that defers.
    fn run_deferring(&mut self) {
        for _ in 0..LOOKS {
            let up = self.line.take();
            if up || self.defers() {
                self.look();
            }
        }
    }

    fn drain(&mut self, entry: &mut Entry) {
        let got = &mut self.got;
        let drained = self.mailbox.inbox(entry.pin()).drain(8, |n| got.push(n));
        if drained == Drained::More && self.script != Script::Forgetful {
            self.line.raise();
        }
    }

    fn take_interrupt(&mut self) -> bool {
        let up = self.line.take();
        if up {
            self.drain(&mut entry(0));
        }
        up
    }

    /// Idles for a moment, if there is nothing to do; says whether it did.
    fn idle(&mut self, how: Idle) -> bool {
        let mut entry = entry(0);
        self.drain(&mut entry);
        if !self.mailbox.inbox(entry.pin()).advertise(how) {
            self.drain(&mut entry);
            return false;
        }
        true
    }

    fn run(&mut self) {
        match self.script {
            Script::User | Script::Forgetful => {
                self.take_interrupt();
                self.take_interrupt();
            }
            Script::Halt => {
                self.idle(Idle::Halt);
            }
            Script::PollThenUser | Script::PollThenHalt => {
                if self.idle(Idle::Poll) {
                    self.mailbox.inbox(entry(0).pin()).retract();
                    self.drain(&mut entry(0));
                }
                if self.script == Script::PollThenHalt {
                    self.idle(Idle::Halt);
                }
            }
            Script::Defer | Script::DeferThenTrust => self.run_deferring(),
            Script::DeferThenHalt => {
                let _ = self.mailbox.inbox(entry(0).pin()).defer(DEFERRED_FOR);
                self.idle(Idle::Halt);
            }
        }
    }

    /// Whether the consumer acts although nothing is pushed any more: it is interrupted, or its
    /// timer fires.
    fn acts(&mut self) -> bool {
        if !matches!(self.script, Script::Defer | Script::DeferThenTrust) {
            return self.take_interrupt();
        }
        let acts = self.line.take() || self.defers();
        if acts {
            self.look();
        }
        acts
    }
}

/// Producers 1 and up push one message each.
fn explore(script: Script, producers: usize, preemptions: usize) {
    model(preemptions, move || {
        let world = World {
            mailbox: Object::new(Mailbox::new(cpu(0))),
            line: Object::new(Line::new()),
            nodes: (1..=producers).map(|n| Object::new(Node::new(cpu(n)))).collect(),
        };
        let (mailbox, line) = (world.mailbox.get(), world.line.get());
        let threads: Vec<_> = (1..=producers)
            .map(|n| {
                let node = world.nodes[n - 1].get();
                thread::spawn(move || {
                    if mailbox.push(pin(n), node, n as u32).is_needed() {
                        line.raise();
                    }
                })
            })
            .collect();
        let mut consumer = Consumer { script, mailbox, line, got: Vec::new(), hurries: false };
        consumer.run();
        for thread in threads {
            thread.join().unwrap();
        }
        // From here on the consumer acts only if it is interrupted, or if its timer fires.
        while consumer.acts() {}
        let mut got = consumer.got;
        got.sort();
        assert_eq!(got, (1..=producers as u32).collect::<Vec<_>>(), "a message nobody will look for");
    });
}

#[test]
fn in_user_mode() {
    explore(Script::User, 2, 8);
}

#[test]
fn halted() {
    explore(Script::Halt, 2, 4);
}

#[test]
fn polling_then_user_mode() {
    explore(Script::PollThenUser, 2, 4);
}

#[test]
fn polling_then_halted() {
    explore(Script::PollThenHalt, 2, 3);
}

#[test]
fn deferring() {
    explore(Script::Defer, 2, 5);
}

#[test]
fn deferring_then_halted() {
    explore(Script::DeferThenHalt, 2, 4);
}

/// A push before the advertisement was withdrawn has left its interrupt out.
#[test]
#[should_panic(expected = "a message nobody will look for")]
fn caught_no_look_after_deferral() {
    explore(Script::DeferThenTrust, 2, 6);
}

#[test]
#[should_panic(expected = "a message nobody will look for")]
fn caught_missing_fence_after_deferral() {
    let _planted = Planted::new(Fault::MissingFence);
    explore(Script::Defer, 2, 6);
}

/// Producers push messages of these ranks. The consumer's timer never fires.
fn explore_urgent(ranks: [u32; 2], preemptions: usize) {
    model(preemptions, move || {
        let nodes = [1, 2].map(|n| Object::new(Node::new(cpu(n))));
        let (mailbox, line) = (Object::new(Mailbox::new(cpu(0))), Object::new(Line::new()));
        let (to, at) = (mailbox.get(), line.get());
        let threads = [1, 2].map(|n: usize| {
            let node = nodes[n - 1].get();
            thread::spawn(move || {
                node.get().set_rank(ranks[n - 1]);
                if to.push(pin(n), node, n as u32).is_needed() {
                    at.raise();
                }
            })
        });
        let mut consumer =
            Consumer { script: Script::Defer, mailbox: to, line: at, got: Vec::new(), hurries: false };
        for _ in 0..LOOKS {
            if at.take() || consumer.hurries {
                consumer.look_before_time();
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
        while at.take() || consumer.hurries {
            consumer.look_before_time();
        }
        let urgent = (1..=2).filter(|n| ranks[n - 1] > DEFERRED_FOR);
        urgent.for_each(|n| assert!(consumer.got.contains(&(n as u32)), "better mail waits for the timer"));
        // Now it fires.
        while consumer.acts() {}
        consumer.got.sort();
        assert_eq!(consumer.got, [1, 2], "a message nobody will look for");
    });
}

/// One that is not above the rank for which the consumer defers, and one that is.
const MIXED: [u32; 2] = [DEFERRED_FOR, DEFERRED_FOR + 1];
const URGENT: [u32; 2] = [DEFERRED_FOR + 1; 2];

#[test]
fn better_mail_ends_a_rest() {
    explore_urgent(MIXED, 5);
}

#[test]
fn much_better_mail_ends_a_rest() {
    explore_urgent(URGENT, 5);
}

/// A push to an empty mailbox interrupts a CPU that has begun to defer meanwhile.
#[test]
#[should_panic(expected = "better mail waits for the timer")]
fn caught_hidden_rank() {
    let _planted = Planted::new(Fault::HiddenRank);
    explore_urgent(URGENT, 5);
}

#[test]
#[should_panic(expected = "better mail waits for the timer")]
fn caught_no_fence_before_the_look_for_better_mail() {
    let _planted = Planted::new(Fault::UnfencedDeferral);
    explore_urgent(MIXED, 5);
}

#[test]
fn three_producers() {
    explore(Script::User, 3, 3);
}

#[test]
#[should_panic(expected = "a message nobody will look for")]
fn caught_missing_fence() {
    let _planted = Planted::new(Fault::MissingFence);
    explore(Script::PollThenUser, 1, 6);
}

#[test]
#[should_panic(expected = "a message nobody will look for")]
fn caught_dropped_interrupt() {
    let _planted = Planted::new(Fault::DroppedInterrupt);
    explore(Script::User, 1, 6);
}

/// "There is more" is not just advice: with a producer between exchange and link, later pushes find
/// the queue non-empty and leave the interrupt to it, and its own may be over already.
#[test]
#[should_panic(expected = "a message nobody will look for")]
fn caught_forgotten_rest() {
    explore(Script::Forgetful, 2, 6);
}
