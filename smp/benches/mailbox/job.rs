//! The job that every queue does: producers send their own messages to one consumer and get them
//! back.
//!
//! A message is a cache line that its producer fills in, sends as a pointer, and may fill in again
//! once the consumer has read it and has put a mark into it. All messages exist before the run, as
//! in a kernel whose messages are parts of its tasks. The consumer checks that it gets every
//! message of each producer, once and in order, in measured runs, too.
//!
//! With one message per producer the job measures the latency of a round trip; with many, the
//! throughput of a stream. A thread that finds nothing to do looks again after a PAUSE. After
//! [`LOOKS`] looks in vain it also yields its CPU each time.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use smp::mailbox::Node;

use crate::queues::{Queue, Receiver, Sender, cpu_of};

/// Messages of all producers of a stream.
pub const IN_FLIGHT: usize = 256;
/// Looks in vain before a thread gives up its CPU: some microseconds.
const LOOKS: u32 = 256;
/// A thread that waits so long waits for a message that is lost.
const LOST: Duration = Duration::from_secs(60);

/// One message, in a line of its own.
#[repr(align(64))]
pub struct Message {
    /// What a mailbox needs; the other queues leave it alone.
    pub node: Node<&'static Message>,
    pub producer: usize,
    /// Counts the producer's messages.
    number: AtomicU64,
    /// The consumer has read it.
    back: AtomicBool,
}

const _: () = assert!(size_of::<Message>() == 64);

/// The messages of each producer. They live for ever, as what is in a mailbox has to.
pub struct Messages(Vec<&'static [Message]>);

impl Messages {
    /// `each` messages for every producer.
    pub fn new(producers: usize, each: usize) -> Messages {
        let message = |producer| Message {
            node: Node::new(cpu_of(producer)),
            producer,
            number: AtomicU64::new(0),
            back: AtomicBool::new(true),
        };
        let of =
            |producer| -> &'static [Message] { Vec::leak((0..each).map(|_| message(producer)).collect()) };
        Messages((0..producers).map(of).collect())
    }

    pub fn producers(&self) -> usize {
        self.0.len()
    }

    /// The messages of a producer.
    pub fn of(&self, producer: usize) -> &'static [Message] {
        self.0[producer]
    }
}

/// Looks until something is found.
#[inline]
fn patiently<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return found;
        }
        std::hint::spin_loop();
    }
    yielding(look)
}

#[cold]
fn yielding<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        // Between two looks at the clock, so that looking at it costs nothing.
        for _ in 0..1024 {
            if let Some(found) = look() {
                return found;
            }
            thread::yield_now();
        }
        assert!(began.elapsed() < LOST, "a message was lost: waited {LOST:?} for it");
    }
}

/// [`patiently`], for what is done or not.
#[inline]
fn until(mut done: impl FnMut() -> bool) {
    patiently(|| done().then_some(()));
}

/// Sends messages numbered from 0 to `count`.
fn produce(sender: &mut impl Sender, messages: &'static [Message], count: u64) {
    for (number, message) in (0..count).zip(messages.iter().cycle()) {
        until(|| message.back.load(Ordering::Acquire));
        message.back.store(false, Ordering::Relaxed);
        message.number.store(number, Ordering::Relaxed);
        until(|| sender.push(message));
    }
    for message in messages {
        until(|| message.back.load(Ordering::Acquire));
    }
}

/// Receives `total` messages.
fn consume(receiver: &mut impl Receiver, producers: usize, total: u64) {
    let mut expected = vec![0; producers];
    for _ in 0..total {
        let message = patiently(|| receiver.pop());
        accept(message, &mut expected);
    }
    assert!(receiver.pop().is_none(), "a message came twice");
}

/// Reads a message and gives it back.
#[inline]
fn accept(message: &Message, expected: &mut [u64]) {
    let expected = &mut expected[message.producer];
    let number = message.number.load(Ordering::Relaxed);
    assert!(number == *expected, "message {number} of producer {} in place of {expected}", message.producer);
    *expected += 1;
    message.back.store(true, Ordering::Release);
}

/// Sends `total` messages, as equal a part from each producer as can be; how long that took at the
/// consumer, which is the calling thread. `place` puts a thread on its CPU: 0 is the consumer,
/// others are producers.
pub fn run<Q: Queue>(
    queue: &mut Q,
    messages: &Messages,
    total: u64,
    place: impl Fn(usize) + Sync,
) -> Duration {
    let producers = messages.producers();
    let (senders, mut receiver) = queue.ends();
    let (ready, go) = (&AtomicUsize::new(0), &AtomicBool::new(false));
    let place = &place;
    place(0);
    thread::scope(|scope| {
        for (producer, mut sender) in senders.into_iter().enumerate() {
            let mine = total / producers as u64 + u64::from((producer as u64) < total % producers as u64);
            let messages = messages.of(producer);
            scope.spawn(move || {
                place(producer + 1);
                ready.fetch_add(1, Ordering::SeqCst);
                until(|| go.load(Ordering::Acquire));
                produce(&mut sender, messages, mine);
            });
        }
        until(|| ready.load(Ordering::SeqCst) == producers);
        let began = Instant::now();
        go.store(true, Ordering::Release);
        consume(&mut receiver, producers, total);
        began.elapsed()
    })
}

/// Runs in one thread alone: `rounds` times, it sends all messages of one producer and then
/// receives them.
pub fn alone<Q: Queue>(queue: &mut Q, messages: &Messages, rounds: u64) -> Duration {
    let (mut senders, mut receiver) = queue.ends();
    let (sender, messages) = (&mut senders[0], messages.of(0));
    let mut expected = [0];
    let mut number = 0;
    let began = Instant::now();
    for _ in 0..rounds {
        for message in messages {
            message.back.store(false, Ordering::Relaxed);
            message.number.store(number, Ordering::Relaxed);
            number += 1;
            assert!(sender.push(message), "there is room for every message");
        }
        for _ in messages {
            accept(receiver.pop().expect("it was sent"), &mut expected);
        }
    }
    began.elapsed()
}

/// Which producer sends next: a sequence without a pattern that a CPU could learn, the same for
/// every queue.
pub fn turns(producers: usize) -> Vec<usize> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as usize % producers
    };
    std::iter::repeat_with(next).take(4096).collect()
}

/// In one thread, `rounds` times: the consumer goes idle, a producer sends one message, is told to
/// wake the consumer, and the consumer wakes and receives it.
pub fn wake<Q: Queue>(queue: &mut Q, messages: &Messages, turns: &[usize], rounds: u64) -> Duration {
    let (mut senders, mut receiver) = queue.ends();
    let mut expected = vec![0; messages.producers()];
    let mut numbers = expected.clone();
    let idle = &AtomicBool::new(false);
    let began = Instant::now();
    for (_, &producer) in (0..rounds).zip(turns.iter().cycle()) {
        assert!(receiver.go_idle(idle), "nothing was sent");
        let message = &messages.of(producer)[0];
        message.back.store(false, Ordering::Relaxed);
        message.number.store(numbers[producer], Ordering::Relaxed);
        numbers[producer] += 1;
        assert!(senders[producer].push_and_tell(message, idle), "the consumer is idle");
        receiver.leave_idle(idle);
        accept(receiver.pop().expect("it was sent"), &mut expected);
    }
    began.elapsed()
}
