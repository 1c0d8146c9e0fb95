//! The mailbox and the queues with which it is compared, behind one trait: many producers, one
//! consumer. Messages are pointers to memory that exists before the run.
//!
//! Each queue is used through its fastest interface for single messages. Of queues for a single
//! producer there is one per producer, and the consumer looks at them in turn. Bounded queues have
//! room for all messages; a mailbox needs no such room, since its nodes are part of the messages.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_queue::{ArrayQueue, SegQueue};
use crossbeam_utils::CachePadded;
use heapless::{mpmc, spsc};
use smp::cpu::{CpuId, Pin};
use smp::door::Ref;
use smp::mailbox::{Idle, Mailbox, Popped};

use crate::job::{IN_FLIGHT, Message};

/// The CPU that the consumer plays; producer `n` plays `n + 1`.
pub const CONSUMER: CpuId = CpuId::BOOT;

/// The CPU that a producer plays.
pub fn cpu_of(producer: usize) -> CpuId {
    CpuId::new(producer + 1).expect("there are fewer producers than CPU numbers")
}

/// A queue, or as many as there are producers.
pub trait Queue {
    const NAME: &'static str;
    type Sender<'q>: Sender + Send
    where
        Self: 'q;
    type Receiver<'q>: Receiver
    where
        Self: 'q;

    fn new(producers: usize) -> Self;

    /// A sender for each producer, and the receiver.
    fn ends(&mut self) -> (Vec<Self::Sender<'_>>, Self::Receiver<'_>);
}

pub trait Sender {
    /// `false`: refused, as bounded queues may.
    fn push(&mut self, message: &'static Message) -> bool;

    /// Pushes, and says whether the consumer has to be woken. Queues that don't know need a full
    /// fence before the look at `idle`: either this look sees that the consumer idles, or its last
    /// look sees the message.
    #[inline]
    fn push_and_tell(&mut self, message: &'static Message, idle: &AtomicBool) -> bool {
        assert!(self.push(message), "there is room for every message");
        fence(Ordering::SeqCst);
        idle.load(Ordering::Relaxed)
    }
}

pub trait Receiver {
    /// The oldest message, or nothing, or nothing that can be reached yet.
    fn pop(&mut self) -> Option<&'static Message>;

    /// Announces that the consumer idles, and then looks into the queue once more. Returns whether
    /// the queue is empty, so that the consumer may idle. By default it looks by taking a message,
    /// which is lost: callers treat a message here as an error.
    #[inline]
    fn go_idle(&mut self, idle: &AtomicBool) -> bool {
        idle.swap(true, Ordering::SeqCst);
        self.pop().is_none()
    }

    /// The consumer has been woken. It looks before it idles again, so who still sees it idle only
    /// wakes it once more.
    #[inline]
    fn leave_idle(&mut self, idle: &AtomicBool) {
        idle.store(false, Ordering::Release);
    }
}

/// This kernel's.
pub struct Ours {
    mailbox: CachePadded<Mailbox<&'static Message>>,
    producers: usize,
}

/// The mailbox as one producer has it.
pub struct OursSender<'q>(&'q Mailbox<&'static Message>, CpuId);

/// The mailbox as its owner has it.
pub struct OursReceiver<'q>(&'q Mailbox<&'static Message>);

impl Queue for Ours {
    const NAME: &'static str = "mailbox";
    type Sender<'q> = OursSender<'q>;
    type Receiver<'q> = OursReceiver<'q>;

    fn new(producers: usize) -> Ours {
        Ours { mailbox: CachePadded::new(Mailbox::new(CONSUMER)), producers }
    }

    fn ends(&mut self) -> (Vec<OursSender<'_>>, OursReceiver<'_>) {
        let mailbox = &*self.mailbox;
        let senders = (0..self.producers).map(|producer| OursSender(mailbox, cpu_of(producer)));
        (senders.collect(), OursReceiver(mailbox))
    }
}

impl Sender for OursSender<'_> {
    #[inline]
    fn push(&mut self, message: &'static Message) -> bool {
        // SAFETY: not literally so: this is no kernel. One thread plays this CPU, it holds no other
        // pin while this one lives, and messages are never reclaimed.
        let pin = unsafe { Pin::new(self.1) };
        // The consumer looks all the time, as the CPU of a kernel does at each entry: nobody sleeps
        // here.
        let _ = self.0.push(pin, Ref::from_static(&message.node), message);
        true
    }

    #[inline]
    fn push_and_tell(&mut self, message: &'static Message, _: &AtomicBool) -> bool {
        // SAFETY: as in `push`.
        let pin = unsafe { Pin::new(self.1) };
        self.0.push(pin, Ref::from_static(&message.node), message).is_needed()
    }
}

impl Receiver for OursReceiver<'_> {
    #[inline]
    fn pop(&mut self) -> Option<&'static Message> {
        // SAFETY: as in `push`; the thread that has the receiver plays the mailbox's owner.
        let pin = unsafe { Pin::new(CONSUMER) };
        let Popped::Mail(message) = self.0.inbox(pin).pop() else { return None };
        message.node.hand_to(pin, cpu_of(message.producer));
        Some(message)
    }

    #[inline]
    fn go_idle(&mut self, _: &AtomicBool) -> bool {
        // SAFETY: as in `pop`.
        self.0.inbox(unsafe { Pin::new(CONSUMER) }).advertise(Idle::Halt)
    }

    #[inline]
    fn leave_idle(&mut self, _: &AtomicBool) {
        // SAFETY: as in `pop`.
        self.0.inbox(unsafe { Pin::new(CONSUMER) }).retract();
    }
}

/// The adapters of queues whose both ends are a shared reference to one object.
macro_rules! shared_queue {
    ($adapter:ident, $sender:ident, $receiver:ident, $name:literal, $inner:ty, $new:expr,
     push: $push:expr, pop: $pop:expr) => {
        pub struct $adapter {
            queue: Box<CachePadded<$inner>>,
            producers: usize,
        }
        pub struct $sender<'q>(&'q $inner);
        pub struct $receiver<'q>(&'q $inner);

        impl Queue for $adapter {
            const NAME: &'static str = $name;
            type Sender<'q> = $sender<'q>;
            type Receiver<'q> = $receiver<'q>;

            fn new(producers: usize) -> Self {
                Self { queue: Box::new(CachePadded::new($new)), producers }
            }

            fn ends(&mut self) -> (Vec<$sender<'_>>, $receiver<'_>) {
                let queue: &$inner = &self.queue;
                ((0..self.producers).map(|_| $sender(queue)).collect(), $receiver(queue))
            }
        }

        impl Sender for $sender<'_> {
            #[inline]
            fn push(&mut self, message: &'static Message) -> bool {
                ($push)(self.0, message)
            }
        }

        impl Receiver for $receiver<'_> {
            #[inline]
            fn pop(&mut self) -> Option<&'static Message> {
                ($pop)(self.0)
            }
        }
    };
}

type Letter = &'static Message;
/// heapless takes its size at compile time.
type HeaplessMpmc = mpmc::Queue<Letter, IN_FLIGHT>;

/// Deprecated, since a thread that is stopped between two steps makes it look full or empty to all
/// others meanwhile; here they try again.
#[expect(deprecated)]
const fn heapless_mpmc() -> HeaplessMpmc {
    mpmc::Queue::new()
}

shared_queue!(Seg, SegSender, SegReceiver, "crossbeam SegQueue", SegQueue<Letter>, SegQueue::new(),
    push: |queue: &SegQueue<Letter>, message| { queue.push(message); true },
    pop: |queue: &SegQueue<Letter>| queue.pop());
shared_queue!(Array, ArraySender, ArrayReceiver, "crossbeam ArrayQueue", ArrayQueue<Letter>,
    ArrayQueue::new(IN_FLIGHT),
    push: |queue: &ArrayQueue<Letter>, message| queue.push(message).is_ok(),
    pop: |queue: &ArrayQueue<Letter>| queue.pop());
shared_queue!(Mpmc, MpmcSender, MpmcReceiver, "heapless mpmc", HeaplessMpmc, heapless_mpmc(),
    push: |queue: &HeaplessMpmc, message| queue.enqueue(message).is_ok(),
    pop: |queue: &HeaplessMpmc| queue.dequeue());
shared_queue!(Locked, LockedSender, LockedReceiver, "mutexed VecDeque", Mutex<VecDeque<Letter>>,
    Mutex::new(VecDeque::with_capacity(IN_FLIGHT)),
    push: |queue: &Mutex<VecDeque<Letter>>, message| {
        queue.lock().expect("nobody panics with the lock").push_back(message);
        true
    },
    pop: |queue: &Mutex<VecDeque<Letter>>| queue.lock().expect("nobody panics with the lock").pop_front());

/// One ring a producer, and which one the consumer looks into next.
pub struct Rings<C> {
    rings: Vec<C>,
    next: usize,
}

impl<C> Rings<C> {
    /// The first message that is found, going round from the ring after the last one looked into.
    #[inline]
    fn go_round(&mut self, mut pop: impl FnMut(&mut C) -> Option<Letter>) -> Option<Letter> {
        for _ in 0..self.rings.len() {
            let at = self.next;
            self.next = if at + 1 == self.rings.len() { 0 } else { at + 1 };
            if let Some(message) = pop(&mut self.rings[at]) {
                return Some(message);
            }
        }
        None
    }
}

/// `rtrb`, one ring a producer.
pub struct Rtrb(Vec<(rtrb::Producer<Letter>, rtrb::Consumer<Letter>)>);

impl Queue for Rtrb {
    const NAME: &'static str = "rtrb, a ring each";
    type Sender<'q> = &'q mut rtrb::Producer<Letter>;
    type Receiver<'q> = Rings<&'q mut rtrb::Consumer<Letter>>;

    fn new(producers: usize) -> Rtrb {
        Rtrb((0..producers).map(|_| rtrb::RingBuffer::new(IN_FLIGHT)).collect())
    }

    fn ends(&mut self) -> (Vec<Self::Sender<'_>>, Self::Receiver<'_>) {
        let (senders, rings) = self.0.iter_mut().map(|(sender, ring)| (sender, ring)).unzip();
        (senders, Rings { rings, next: 0 })
    }
}

impl Sender for &mut rtrb::Producer<Letter> {
    #[inline]
    fn push(&mut self, message: Letter) -> bool {
        rtrb::Producer::push(self, message).is_ok()
    }
}

impl Receiver for Rings<&mut rtrb::Consumer<Letter>> {
    #[inline]
    fn pop(&mut self) -> Option<Letter> {
        self.go_round(|ring| ring.pop().ok())
    }
}

/// A power of two, as it is fastest; a ring of `N` holds one less.
const SPSC: usize = 2 * IN_FLIGHT;

/// `heapless::spsc`, one a producer.
pub struct Spsc(Vec<Box<CachePadded<spsc::Queue<Letter, SPSC>>>>);

impl Queue for Spsc {
    const NAME: &'static str = "heapless spsc, one each";
    type Sender<'q> = spsc::Producer<'q, Letter>;
    type Receiver<'q> = Rings<spsc::Consumer<'q, Letter>>;

    fn new(producers: usize) -> Spsc {
        Spsc((0..producers).map(|_| Box::new(CachePadded::new(spsc::Queue::new()))).collect())
    }

    fn ends(&mut self) -> (Vec<Self::Sender<'_>>, Self::Receiver<'_>) {
        let (senders, rings) = self.0.iter_mut().map(|queue| queue.split()).unzip();
        (senders, Rings { rings, next: 0 })
    }
}

impl Sender for spsc::Producer<'_, Letter> {
    #[inline]
    fn push(&mut self, message: Letter) -> bool {
        self.enqueue(message).is_ok()
    }
}

impl Receiver for Rings<spsc::Consumer<'_, Letter>> {
    #[inline]
    fn pop(&mut self) -> Option<Letter> {
        self.go_round(|ring| ring.dequeue())
    }
}

/// Calls `$job!(Adapter)` for each queue, the mailbox first.
#[macro_export]
macro_rules! for_each_queue {
    ($job:ident) => {
        $job!(queues::Ours);
        $job!(queues::Seg);
        $job!(queues::Array);
        $job!(queues::Mpmc);
        $job!(queues::Locked);
        $job!(queues::Rtrb);
        $job!(queues::Spsc);
    };
}
