//! The events that a tracing kernel writes, and how each is encoded: the only definition, which
//! kernel, assembly and host share.
//!
//! An event takes four words, 32 bytes: the time (TSC), and the three words of [`Event::encode`].
//! The first of these has the kind and small fields:
//!
//! ```text
//!  63            32 31      16 15     8 7      0
//! +----------------+----------+--------+--------+
//! |       C        |    B     |   A    |  kind  |
//! +----------------+----------+--------+--------+
//! ```
//!
//! Objects other than tasks are named by their address without the upper half, which distinguishes
//! objects that exist at the same time.

use abi::TaskId;

/// Words of an event in a ring, the time among them.
pub const EVENT_WORDS: usize = 4;
/// Bytes of an event.
pub const EVENT_BYTES: usize = 8 * EVENT_WORDS;
/// Events that a ring keeps if the boot option `trace_events` does not say otherwise.
pub const RING_EVENTS: u32 = 1 << 14;
/// Most that it can keep.
pub const RING_EVENTS_MAX: u32 = 1 << 20;
/// The log port's channel that rings leave the machine on.
pub const TRACE_CHANNEL: u8 = 0x82;

/// An event without its time: kind and small fields, two words.
pub type Words = [u64; 3];

/// What can stand in an event.
trait Field: Sized {
    fn into_raw(self) -> u64;
    fn from_raw(raw: u64) -> Option<Self>;
}

macro_rules! plain_fields {
    ($($number:ty)*) => {
        $(impl Field for $number {
            fn into_raw(self) -> u64 { self.into() }
            fn from_raw(raw: u64) -> Option<Self> { raw.try_into().ok() }
        })*
    };
}

plain_fields! { u8 u32 u64 }

impl Field for bool {
    fn into_raw(self) -> u64 {
        self.into()
    }
    fn from_raw(raw: u64) -> Option<Self> {
        (raw < 2).then_some(raw == 1)
    }
}

impl Field for TaskId {
    fn into_raw(self) -> u64 {
        self.raw()
    }
    fn from_raw(raw: u64) -> Option<Self> {
        Some(TaskId::from_raw(raw))
    }
}

/// Where a field stands.
trait Place {
    fn put(words: &mut Words, raw: u64);
    fn take(words: &Words) -> u64;
}

struct A;
struct B;
struct C;
struct First;
struct Second;

macro_rules! places {
    ($($name:ident: word $word:literal, bits $low:literal to $high:literal;)*) => {
        $(impl Place for $name {
            #[inline(always)]
            fn put(words: &mut Words, raw: u64) {
                words[$word] |= raw << $low;
            }
            fn take(words: &Words) -> u64 {
                words[$word] << (63 - $high) >> (63 - $high + $low)
            }
        })*
    };
}

places! {
    A: word 0, bits 8 to 15;
    B: word 0, bits 16 to 31;
    C: word 0, bits 32 to 63;
    First: word 1, bits 0 to 63;
    Second: word 2, bits 0 to 63;
}

macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:expr])* $value:ident = $number:literal $text:literal,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, PartialEq, Eq, Debug)]
            #[repr(u8)]
            pub enum $name { $($(#[doc = $doc])* $value = $number,)* }

            impl $name {
                pub const ALL: &'static [$name] = &[$($name::$value,)*];

                /// As a person reads it.
                pub const fn text(self) -> &'static str {
                    match self { $($name::$value => $text,)* }
                }

                pub const fn from_number(number: u8) -> Option<$name> {
                    match number { $($number => Some($name::$value),)* _ => None }
                }
            }

            impl Field for $name {
                fn into_raw(self) -> u64 { self as u64 }
                fn from_raw(raw: u64) -> Option<Self> { $name::from_number(u8::try_from(raw).ok()?) }
            }
        )*
    };
}

choices! {
    /// Why a task stopped running.
    Why {
        /// It waits for something, as its state says.
        Blocked = 0 "blocked",
        /// A context of higher priority came.
        Preempted = 1 "preempted",
        /// Its slice is over, and an equal waits.
        SliceOver = 2 "slice over",
        /// It gave its turn up.
        Yielded = 3 "yielded",
        /// Its CPU time was taken away: it was suspended or killed, or the time belonged to another
        /// task.
        Withdrawn = 4 "time withdrawn",
        /// It handed its CPU time over, by a call or a reply.
        HandedOver = 5 "handed over",
        /// It faulted.
        Faulted = 6 "faulted",
        /// It has used up the budget of its CPU time.
        Exhausted = 7 "budget used up",
    }
    /// The state of a task: the kernel's own numbers.
    TaskState {
        /// …
        Fresh = 0 "fresh",
        /// …
        Ready = 1 "ready",
        /// …
        Recv = 2 "receiving",
        /// …
        RecvTimed = 3 "receiving with a deadline",
        /// …
        Sending = 4 "queued at a callee",
        /// …
        Await = 5 "awaiting a reply",
        /// …
        AwaitTimed = 6 "awaiting a reply with a deadline",
        /// …
        AwaitRemote = 7 "awaiting a reply from another CPU",
        /// …
        WaitBits = 8 "waiting for bits",
        /// …
        Restart = 9 "waiting to restart a system call",
        /// …
        Faulted = 10 "faulted",
        /// …
        Exhausted = 11 "waiting for its budget's next window",
        /// …
        Dead = 12 "dead",
    }
    /// The stage of a message block: the kernel's own numbers.
    Stage {
        /// …
        Home = 0 "at its task",
        /// …
        Queued = 1 "queued at a callee",
        /// …
        Owed = 2 "received",
        /// …
        Out = 3 "in a mailbox",
        /// …
        Back = 4 "in a mailbox, on its way back",
        /// …
        Ask = 5 "with a request, in a mailbox",
        /// …
        AskDone = 6 "with a request that was served",
        /// …
        Kept = 7 "with a request that is kept",
    }
    /// An interrupt that was taken.
    Irq {
        /// The CPU's own timer.
        Timer = 0 "timer",
        /// Another CPU put something into the mailbox, or this one left something there.
        Mail = 1 "mail",
        /// …
        Other = 2 "other",
        /// A device.
        Device = 3 "device",
    }
    /// How a CPU idles.
    IdleHow {
        /// Stopped until an interrupt comes.
        Halt = 1 "halted",
        /// Looking at its mailbox.
        Poll = 2 "polling",
    }
    /// What a mailbox message is about.
    MailKind {
        /// A call, a request, or either coming back.
        Message = 0 "message",
        /// Kill, suspend, resume and the like.
        Control = 1 "control",
        /// Bits of a Notification.
        Bits = 2 "bits",
        /// A grace period.
        Grace = 3 "grace",
        /// A shootdown.
        Shootdown = 4 "shootdown",
        /// A task that is to run here.
        Arrival = 5 "arrival",
        /// A question whether the CPU is alive.
        Sign = 6 "sign",
    }
    /// Which way a message took in the kernel.
    Path {
        /// The assembly fastpath.
        Fast = 0 "fastpath",
        /// The express path behind it, to another CPU.
        Express = 1 "express path",
        /// The general path.
        Slow = 2 "general path",
    }
    /// How far a call or a reply got immediately.
    How {
        /// To its receiver.
        Delivered = 0 "delivered",
        /// Into the callee's queue.
        Queued = 1 "queued",
        /// On its way to another CPU.
        Sent = 2 "sent",
    }
}

macro_rules! events {
    ($($(#[doc = $doc:expr])* $name:ident = $number:literal { $($field:ident: $type:ty => $place:ident),* };)*) => {
        /// Number of an event's kind.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Kind { $($(#[doc = $doc])* $name = $number,)* }

        /// What happened. The CPU is that of the ring.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Event { $($(#[doc = $doc])* $name { $($field: $type),* },)* }

        impl Event {
            /// Everything but the time.
            #[inline(always)]
            #[allow(unused_mut, reason = "some events have no fields")]
            pub fn encode(self) -> Words {
                match self {
                    $(Event::$name { $($field),* } => {
                        let mut words = [$number, 0, 0];
                        $($place::put(&mut words, $field.into_raw());)*
                        words
                    })*
                }
            }

            /// `None` where no kernel writes such words.
            pub fn decode(words: &Words) -> Option<Event> {
                match words[0] as u8 {
                    $($number => Some(Event::$name { $($field: Field::from_raw($place::take(words))?),* }),)*
                    _ => None,
                }
            }
        }
    };
}

events! {
    /// A task runs from here on, with a context of this priority; or it goes on, and either is
    /// another now.
    Run = 1 { task: TaskId => First, context: u64 => Second, priority: u8 => A };
    /// The task that ran stopped.
    Stop = 2 { task: TaskId => First, why: Why => A, state: TaskState => B };
    /// A context stands in the run queue, before its equals or behind them.
    Enqueued = 3 { context: u64 => First, priority: u8 => A, before: bool => B };
    /// A context left the run queue, to run or otherwise.
    Dequeued = 4 { context: u64 => First };
    /// The CPU has nothing to do.
    Idle = 5 { how: IdleHow => A };
    /// The CPU stopped idling.
    Woken = 6 {};
    /// An interrupt was taken.
    Interrupt = 7 { irq: Irq => A };
    /// A CPU was interrupted.
    IpiSent = 8 { to: u32 => C };
    /// A message went into the mailbox of a CPU, which was empty or not, and polls or not.
    MailPushed = 9 { node: u64 => First, to: u32 => C, empty: bool => A, polls: bool => B };
    /// A message was taken from the own mailbox.
    MailTaken = 10 { node: u64 => First };
    /// What the message just taken is about: a task's id or an object.
    MailOpened = 11 { about: u64 => First, kind: MailKind => A };
    /// The running task calls.
    Call = 12 { caller: TaskId => First, callee: TaskId => Second, path: Path => A, how: How => B };
    /// A call that was queued or sent is received.
    Received = 13 { caller: TaskId => First, callee: TaskId => Second };
    /// A call was answered, with an error number or 0.
    Reply = 14 { caller: TaskId => First, callee: TaskId => Second, path: Path => A, how: How => B, error: u8 => C };
    /// A call is over otherwise than by a reply of this CPU: the reply came from another, or there
    /// was none.
    CallOver = 15 { caller: TaskId => First, error: u8 => C };
    /// A received call was handed on.
    Forward = 16 { caller: TaskId => First, callee: TaskId => Second };
    /// Bits were raised in a Notification, or are about to be at one whose home is another CPU.
    Notified = 17 { object: u64 => First, bits: u64 => Second, remote: bool => A };
    /// A task got bits of a Notification.
    BitsTaken = 18 { task: TaskId => First, object: u64 => Second };
    /// A shootdown began, which makes CPUs forget translations: its stamp, and how many were asked.
    ShootdownBegun = 19 { number: u64 => First, asked: u32 => C };
    /// This CPU forgot what another asked it to.
    ShootdownServed = 20 {};
    /// Shootdowns of this CPU are over: all up to this stamp.
    ShootdownOver = 21 { number: u64 => First };
    /// The running task faulted.
    Fault = 22 { task: TaskId => First, address: u64 => Second, vector: u8 => A };
    /// A task got its id, and the CPU where it will run.
    TaskMade = 23 { task: TaskId => First, cpu: u32 => C };
    /// A task is dead.
    TaskDead = 24 { task: TaskId => First };
    /// The running task says something, by `Op::MachineTrace`.
    User = 25 { first: u64 => First, second: u64 => Second };
    /// A message was taken out of the own mailbox's queue, and waits there for the next look.
    MailAside = 26 { node: u64 => First };
}

/// Where field A stands, for assembly.
pub const FIELD_A: u32 = 8;
const FIELD_B: u32 = 16;

/// Kind and small fields of [`Event::Stop`], for assembly.
pub const fn stop_word(why: Why, state: TaskState) -> u32 {
    Kind::Stop as u32 | (why as u32) << FIELD_A | (state as u32) << FIELD_B
}

/// Kind and small fields of [`Event::Call`] and [`Event::Reply`], for assembly.
pub const fn message_word(kind: Kind, path: Path, how: How) -> u32 {
    kind as u32 | (path as u32) << FIELD_A | (how as u32) << FIELD_B
}

/// An object's name in events.
#[inline(always)]
pub const fn object_name(address: u64) -> u64 {
    address & 0xffff_ffff_ffff
}

/// The beginning of a record on [`TRACE_CHANNEL`]; events in ring order follow, the number given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingPart {
    /// Whose ring.
    pub cpu: u32,
    /// Events in this record; 0: the ring is over.
    pub events: u32,
    /// Number of the first of them: how many that CPU wrote before.
    pub first: u64,
    /// TSC ticks a second.
    pub tsc_hz: u64,
    /// TSC when tracing stopped.
    pub stopped: u64,
}

impl RingPart {
    pub const BYTES: usize = 32;

    pub fn encode(self) -> [u8; Self::BYTES] {
        let words =
            [u64::from(self.cpu) | u64::from(self.events) << 32, self.first, self.tsc_hz, self.stopped];
        let mut bytes = [0; Self::BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The head, and the bytes of its events; `None` where they are not as many as it says.
    pub fn decode(record: &[u8]) -> Option<(RingPart, &[u8])> {
        let (head, events) = record.split_at_checked(Self::BYTES)?;
        let mut words =
            head.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        let mut next = || words.next().unwrap_or_default();
        let (both, first, tsc_hz, stopped) = (next(), next(), next(), next());
        let part = RingPart { cpu: both as u32, events: (both >> 32) as u32, first, tsc_hz, stopped };
        (events.len() == part.events as usize * EVENT_BYTES).then_some((part, events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId::from_raw(0xfedc_ba98_7654_3210);

    #[test]
    fn events_survive_their_encoding() {
        let all = [
            Event::Run { task: TASK, context: u64::MAX, priority: 255 },
            Event::Stop { task: TASK, why: Why::Faulted, state: TaskState::Dead },
            Event::Enqueued { context: 1, priority: 0, before: true },
            Event::Idle { how: IdleHow::Poll },
            Event::Woken {},
            Event::IpiSent { to: u32::MAX },
            Event::MailPushed { node: 7, to: 1023, empty: true, polls: false },
            Event::Call { caller: TASK, callee: TaskId::from_raw(1), path: Path::Slow, how: How::Sent },
            Event::Reply { caller: TASK, callee: TASK, path: Path::Fast, how: How::Delivered, error: 200 },
            Event::Notified { object: 1, bits: u64::MAX, remote: true },
            Event::User { first: u64::MAX, second: 0 },
        ];
        for event in all {
            assert_eq!(Event::decode(&event.encode()), Some(event));
        }
    }

    #[test]
    fn words_for_assembly_are_those_of_the_encoding() {
        let (task, why, state) = (TASK, Why::HandedOver, TaskState::Recv);
        assert_eq!(Event::Stop { task, why, state }.encode()[0], u64::from(stop_word(why, state)));
        let (path, how) = (Path::Slow, How::Sent);
        let call = Event::Call { caller: TASK, callee: TASK, path, how };
        assert_eq!(call.encode()[0], u64::from(message_word(Kind::Call, path, how)));
        let run = Event::Run { task, context: 1, priority: 7 };
        assert_eq!(run.encode()[0], Kind::Run as u64 | 7 << FIELD_A);
    }

    #[test]
    fn nonsense_is_no_event() {
        assert_eq!(Event::decode(&[0, 0, 0]), None);
        assert_eq!(Event::decode(&[255, 0, 0]), None);
        // No such reason, and not a bool.
        assert_eq!(Event::decode(&[Kind::Stop as u64 | 99 << 8, 1, 0]), None);
        assert_eq!(Event::decode(&[Kind::Enqueued as u64 | 2 << 16, 1, 0]), None);
    }

    #[test]
    fn ring_parts_survive_and_have_all_their_events() {
        let part = RingPart { cpu: 3, events: 1, first: u64::MAX, tsc_hz: 5, stopped: 6 };
        let mut record = [0; RingPart::BYTES + EVENT_BYTES];
        record[..RingPart::BYTES].copy_from_slice(&part.encode());
        record[RingPart::BYTES] = 9;
        let (read, events) = RingPart::decode(&record).expect("a whole record");
        assert_eq!((read, events[0], events.len()), (part, 9, EVENT_BYTES));
        assert_eq!(RingPart::decode(&record[..40]), None);
        assert_eq!(RingPart::decode(&record[..8]), None);
    }
}
