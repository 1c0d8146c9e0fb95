//! Tests the queues that `benches/mailbox` measures: each queue delivers every message to the
//! consumer, once, and in its producer's order. Nothing is timed here.
#![cfg(not(loom))]

#[path = "../benches/mailbox/job.rs"]
mod job;
#[path = "../benches/mailbox/queues.rs"]
mod queues;

use job::{IN_FLIGHT, Messages};
use queues::{Queue, Receiver, Sender};

/// Messages of a run; the streams go round their messages several times.
const TOTAL: u64 = if cfg!(miri) { 300 } else { 5_000 };

fn check<Q: Queue>() {
    for producers in [1, 2, 3, 5] {
        for each in [1, IN_FLIGHT / producers] {
            let (mut queue, messages) = (Q::new(producers), Messages::new(producers, each));
            // Twice: a run leaves the queue empty and the messages with their producers.
            for _ in 0..2 {
                job::run(&mut queue, &messages, TOTAL, |_| {});
            }
        }
    }
    for together in [1, 32] {
        job::alone(&mut Q::new(1), &Messages::new(1, together), 100);
    }
    for producers in [1, 4] {
        let messages = Messages::new(producers, 1);
        job::wake(&mut Q::new(producers), &messages, &job::turns(producers), 100);
    }
}

#[test]
fn every_queue_does_the_job() {
    macro_rules! check {
        ($queue:ty) => {
            println!("{}", <$queue>::NAME);
            check::<$queue>()
        };
    }
    for_each_queue!(check);
}

/// A mailbox whose consumer does something wrong with every thousandth message.
struct Faulty<const FAULT: u8>(queues::Ours);
struct FaultyReceiver<R, const FAULT: u8> {
    receiver: R,
    count: u64,
    held: Option<&'static job::Message>,
}

const DOUBLED: u8 = 0;
const SWAPPED: u8 = 1;

impl<const FAULT: u8> Queue for Faulty<FAULT> {
    const NAME: &'static str = "faulty";
    type Sender<'q> = <queues::Ours as Queue>::Sender<'q>;
    type Receiver<'q> = FaultyReceiver<<queues::Ours as Queue>::Receiver<'q>, FAULT>;

    fn new(producers: usize) -> Self {
        Faulty(queues::Ours::new(producers))
    }

    fn ends(&mut self) -> (Vec<Self::Sender<'_>>, Self::Receiver<'_>) {
        let (senders, receiver) = self.0.ends();
        (senders, FaultyReceiver { receiver, count: 0, held: None })
    }
}

impl<R: Receiver, const FAULT: u8> Receiver for FaultyReceiver<R, FAULT> {
    fn pop(&mut self) -> Option<&'static job::Message> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        let message = self.receiver.pop()?;
        self.count += 1;
        if self.count != 100 {
            return Some(message);
        }
        match FAULT {
            DOUBLED => self.held = Some(message),
            _ => {
                self.held = Some(message);
                return self.receiver.pop();
            }
        }
        Some(message)
    }
}

/// One thread, which has no thread to leave behind when it panics.
#[test]
#[should_panic(expected = "in place of")]
fn a_message_that_comes_twice_is_noticed() {
    job::alone(&mut Faulty::<DOUBLED>::new(1), &Messages::new(1, 32), 100);
}

#[test]
#[should_panic(expected = "message 100 of producer 0 in place of 99")]
fn messages_out_of_order_are_noticed() {
    job::alone(&mut Faulty::<SWAPPED>::new(1), &Messages::new(1, 32), 100);
}

#[test]
#[should_panic(expected = "it was sent")]
fn a_message_that_is_lost_is_noticed() {
    /// A sender that drops every message.
    struct Nowhere;
    impl Sender for Nowhere {
        fn push(&mut self, _: &'static job::Message) -> bool {
            true
        }
    }
    struct Lost(queues::Ours);
    impl Queue for Lost {
        const NAME: &'static str = "lost";
        type Sender<'q> = Nowhere;
        type Receiver<'q> = <queues::Ours as Queue>::Receiver<'q>;

        fn new(producers: usize) -> Lost {
            Lost(queues::Ours::new(producers))
        }

        fn ends(&mut self) -> (Vec<Nowhere>, Self::Receiver<'_>) {
            (vec![Nowhere], self.0.ends().1)
        }
    }
    job::alone(&mut Lost::new(1), &Messages::new(1, 1), 1);
}
