//! What a scheduling policy sees without asking the kernel: a *status word* of 32 bytes for each
//! CPU and for each SchedContext that it watches, and events.
//!
//! Status words are in an event pool, which its process maps read-only. The pool's size says how
//! many there are ([`PoolSize`](crate::events::PoolSize)), and the policy says which word is whose.
//! [`Op::CpuWatch`](crate::Op::CpuWatch) gives a CPU a word, and makes the CPU report to the
//! pool. [`Op::SchedWatch`](crate::Op::SchedWatch) gives a SchedContext a word. It is written by
//! whichever CPU has the SchedContext, if that CPU reports to the pool.
//!
//! # Reading
//! One CPU at a time writes a word, and any CPU may read it. [`StatusWord::read`] reads again while
//! the kernel writes. The clock is the TSC. A SchedContext has used [`Status::ticks`] at
//! [`Status::since`]; while it runs it uses one tick per tick of the clock after that. A CPU has
//! idled for [`Status::ticks`] at [`Status::since`]; so it was busy for the rest of the time
//! between two readings.
//!
//! # Events
//! An event is a message in the pool from nobody: its exposure is [`KERNEL`], its label says what
//! happened ([`SchedEvent`]), and its custom bits are the CPU. Its first register has the number of
//! the status word, and the sequence number in the upper half; the second has the ticks used, the
//! third the time, and the fourth what the event says. The sender is the task that owns the
//! SchedContext. If the pool is full the event is lost, and
//! [`EventState::lost`](crate::events::EventState::lost) counts it: the policy has to read all
//! words again.
//!
//! # Sequence numbers
//! Each event that is reported of a SchedContext, and each setting of it, changes the sequence
//! number in its status word. SchedConfigure and TaskMove can name the number that their caller has
//! seen. If the number has changed since, they do nothing, and the error is
//! [`Stale`](crate::Error::Stale). So it is while nobody watches the SchedContext, and for a task
//! without one: then nothing is counted.
//! The idea is ghOSt's (Humphries et al., SOSP 2021).

use core::sync::atomic::{AtomicU64, Ordering, fence};

/// As an event's exposure: the kernel reports it.
pub const KERNEL: u32 = u32::MAX - 1;

/// What a SchedContext or a CPU does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Doing {
    /// Nothing was reported yet.
    #[default]
    Unknown = 0,
    /// A SchedContext: its task waits. A CPU: it idles.
    Rests = 1,
    /// A SchedContext whose task waits for the CPU.
    Ready = 2,
    /// A SchedContext: the CPU spends it, or it is under way with a message to another CPU, which
    /// reports it there. A CPU: it does not idle.
    Runs = 3,
    /// A SchedContext whose budget is used up: its task waits for the next window.
    Exhausted = 4,
    /// A SchedContext that a message has brought to another CPU, and that was not spent since.
    Waits = 5,
}

impl Doing {
    /// All of them, by their numbers.
    pub const ALL: [Doing; 6] =
        [Doing::Unknown, Doing::Rests, Doing::Ready, Doing::Runs, Doing::Exhausted, Doing::Waits];
}

/// What a policy can learn about a SchedContext: bits of what it wants to get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum SchedEvent {
    /// Its task waits, and the CPU does something else.
    Blocked = 1 << 0,
    /// Its task does not wait any more.
    Woken = 1 << 1,
    /// Its budget is used up. The fourth register has the time of the next window.
    Exhausted = 1 << 2,
    /// A task got it as its own.
    Created = 1 << 3,
    /// Its task lost it, or ended; or the SchedContext ends.
    Died = 1 << 4,
    /// Its task moves to another CPU: the fourth register has which.
    Moved = 1 << 5,
}

impl SchedEvent {
    pub const ALL: [SchedEvent; 6] = [
        SchedEvent::Blocked,
        SchedEvent::Woken,
        SchedEvent::Exhausted,
        SchedEvent::Created,
        SchedEvent::Died,
        SchedEvent::Moved,
    ];
    /// The bits of all events.
    pub const MASK: u16 = (1 << SchedEvent::ALL.len()) - 1;

    /// Returns the event that a message's label names.
    pub fn from_label(label: u32) -> Option<SchedEvent> {
        SchedEvent::ALL.into_iter().find(|event| *event as u32 == label)
    }
}

/// What a status word says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// How often the word was written. For telling two readings apart.
    pub version: u32,
    /// The CPU of a SchedContext. For a CPU: how many of the SchedContexts that have words here are
    /// ready there.
    pub place: u16,
    /// The priority of a SchedContext.
    pub priority: u8,
    pub doing: Doing,
    /// TSC ticks that a SchedContext has used, or that a CPU has idled, up to `since`.
    pub ticks: u64,
    /// TSC at the last change.
    pub since: u64,
    /// The sequence number of a SchedContext.
    pub sequence: u32,
    /// How often a SchedContext's budget was used up, or how often a CPU went idle.
    pub count: u32,
}

/// A status word in a pool's memory.
#[derive(Debug, Default)]
#[repr(C, align(32))]
pub struct StatusWord([AtomicU64; 4]);

const _: () = assert!(size_of::<StatusWord>() == 32);

const PLACE_SHIFT: u32 = 32;
const PRIORITY_SHIFT: u32 = 48;
const DOING_SHIFT: u32 = 56;
const COUNT_SHIFT: u32 = 32;

impl StatusWord {
    /// Writes the word. While it is being written, the lowest bit of its first word is set.
    /// Requires: no other CPU writes it.
    #[inline]
    pub fn write(&self, status: Status) {
        let first = u64::from(status.version << 1)
            | u64::from(status.place) << PLACE_SHIFT
            | u64::from(status.priority) << PRIORITY_SHIFT
            | (status.doing as u64) << DOING_SHIFT;
        let [head, ticks, since, numbers] = &self.0;
        head.store(first | 1, Ordering::Relaxed);
        // A reader that sees one of the next words sees the bit.
        fence(Ordering::Release);
        ticks.store(status.ticks, Ordering::Relaxed);
        since.store(status.since, Ordering::Relaxed);
        let count = u64::from(status.count) << COUNT_SHIFT;
        numbers.store(u64::from(status.sequence) | count, Ordering::Relaxed);
        head.store(first, Ordering::Release);
    }

    /// Reads the word, as it was between two writes. Returns `None` if the kernel was writing each
    /// time that it was tried.
    pub fn read(&self) -> Option<Status> {
        const TRIES: usize = 64;
        (0..TRIES).find_map(|_| self.try_read())
    }

    fn try_read(&self) -> Option<Status> {
        let [head, ticks, since, numbers] = &self.0;
        let first = head.load(Ordering::Acquire);
        let (ticks, since) = (ticks.load(Ordering::Relaxed), since.load(Ordering::Relaxed));
        let numbers = numbers.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let is_whole = first & 1 == 0 && head.load(Ordering::Relaxed) == first;
        let doing = Doing::ALL.get((first >> DOING_SHIFT) as usize).copied()?;
        is_whole.then_some(Status {
            version: first as u32 >> 1,
            place: (first >> PLACE_SHIFT) as u16,
            priority: (first >> PRIORITY_SHIFT) as u8,
            doing,
            ticks,
            since,
            sequence: numbers as u32,
            count: (numbers >> COUNT_SHIFT) as u32,
        })
    }
}

/// A sequence number that an operation may name: in the upper half of an argument, with a bit that
/// says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen(pub u32);

impl Seen {
    const BIT: u64 = 1 << 31;
    const SHIFT: u32 = 32;

    /// Returns `argument`, which is below 2³¹, with this sequence number.
    pub const fn with(self, argument: u64) -> u64 {
        argument | Seen::BIT | (self.0 as u64) << Seen::SHIFT
    }

    /// Returns `argument` with the sequence number, if there is one: what [`Seen::split`] splits.
    pub fn join(argument: u64, seen: Option<Seen>) -> u64 {
        seen.map_or(argument, |seen| seen.with(argument))
    }

    /// Splits an argument into itself and the sequence number that it names.
    pub const fn split(argument: u64) -> (u64, Option<Seen>) {
        if argument & Seen::BIT == 0 {
            return (argument, None);
        }
        (argument & (Seen::BIT - 1), Some(Seen((argument >> Seen::SHIFT) as u32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_survives_its_word() {
        let word = StatusWord::default();
        assert_eq!(word.read(), Some(Status::default()));
        let status = Status {
            version: (1 << 31) - 1,
            place: 0xbeef,
            priority: 255,
            doing: Doing::Waits,
            ticks: u64::MAX - 1,
            since: 1 << 63,
            sequence: u32::MAX,
            count: 0x8000_0001,
        };
        word.write(status);
        assert_eq!(word.read(), Some(status));
    }

    #[test]
    fn a_word_that_is_being_written_is_not_read() {
        let word = StatusWord::default();
        word.0[0].store(1, Ordering::Relaxed);
        assert_eq!(word.read(), None);
        word.0[0].store(7 << DOING_SHIFT, Ordering::Relaxed);
        assert_eq!(word.read(), None, "nothing has this number");
    }

    #[test]
    fn arguments_name_sequence_numbers() {
        assert_eq!(Seen::split(255), (255, None));
        assert_eq!(Seen::split(Seen(u32::MAX).with(255)), (255, Some(Seen(u32::MAX))));
        assert_eq!(Seen::split(1 << 40), (1 << 40, None), "a bad argument stays as it is");
    }

    #[test]
    fn labels_name_events() {
        for event in SchedEvent::ALL {
            assert_eq!(SchedEvent::from_label(event as u32), Some(event));
            assert!(event as u16 & SchedEvent::MASK != 0);
        }
        assert_eq!(SchedEvent::from_label(3), None);
    }
}
