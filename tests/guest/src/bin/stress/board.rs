//! The shared memory of a run: what every seat does, what went wrong, what was sent to whom.
//!
//! Words are atomics. Each word of a seat and of a pair has one writer at a time (the seat's task, or
//! the director while there is none), except those counted up by several, which are changed by atomic
//! additions. What one task must see of another's writes before a message that passes between them is
//! ordered by the system calls.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use abi::PAGE_SIZE;
use guest_tests::run::Run;
use user_rt::arch::shared;
use user_rt::cap::Notification;
use user_rt::{arch, boot, report};

use guest_tests::random::mix;

/// Most seats of a run: with the supervisor's, their bits fit a Notification by twos.
pub const SEATS_MAX: usize = 96;
/// Bits of a Notification that seats use: seat `n` raises bit `n % NOTE_BITS`.
pub const NOTE_BITS: usize = 48;

const TOTAL_WORDS: usize = 512;
const SEAT_WORDS: usize = 64;
const SEATS_AT: usize = TOTAL_WORDS;
const PAIRS_AT: usize = SEATS_AT + SEATS_MAX * SEAT_WORDS;
const PAIR_WORDS: usize = SEATS_MAX * SEATS_MAX;
const WORDS: usize = PAIRS_AT + Pair::COUNT * PAIR_WORDS;
pub const PAGES: u32 = (WORDS * 8).div_ceil(PAGE_SIZE as usize) as u32;

/// Events that a seat remembers for the report of a run that stalls.
const MEMORY: usize = 8;
const MEMORY_AT: usize = 32;

/// Words of the whole run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Total {
    Seed = 0,
    Seats,
    /// Messages to send in this round, and how many have been begun.
    Goal,
    Begun,
    /// Over all rounds.
    Sent,
    Kills,
    /// Whether events go into the hash, and the hash.
    Hashing,
    Hash,
    Lost,
    Duplicated,
    Reordered,
    Corrupted,
    Unanswered,
    LeakedPages,
    /// Complaints printed.
    Complaints,
    /// The director is through: the watchdog sleeps.
    Over,
    /// What the director does.
    Director,
    /// Goes up with everything that anybody does.
    Life,
    Cancels,
    Suspensions,
    Churns,
    /// First of the messages served by CPU.
    ServedBy = 128,
}

/// Words of a seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Of {
    /// Id of the task in it, and of the one that was killed last.
    Id = 0,
    Doomed,
    Incarnation,
    Process,
    Cpu,
    Priority,
    /// What it does: an [`Event`], with whom, since when.
    Doing,
    Since,
    /// Kills begun and births done: equal while a task sits there.
    Kills,
    Births,
    CancelsAsked,
    CancelsSeen,
    Suspended,
    Finished,
    /// 1 + the seat it is about to notify.
    Intent,
    Sent,
    Served,
    /// Notifications that came, for all bits.
    Events,
}

/// Words of a pair: by sender and receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Pair {
    /// Number of the last message sent.
    Sent = 0,
    /// Number of the last one that came, and of the last one that was answered.
    Came,
    Answered,
    /// Notifications begun.
    Noted,
    /// What of those the receiver has heard of, or need not.
    Heard,
    /// Bits that came, counted at the first seat of each bit.
    Bits,
}

impl Pair {
    const COUNT: usize = 6;
}

/// What a seat does or did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Event {
    Born = 1,
    Call,
    Answered,
    Refused,
    Notify,
    Notified,
    Receive,
    Came,
    Bits,
    Reply,
    Forward,
    Save,
    Churn,
    YieldTo,
    RaisePriority,
    Kill,
    Make,
    Cancel,
    Suspend,
    Resume,
    RoundMade,
    RoundOver,
}

impl Event {
    const ALL: [Event; 22] = [
        Event::Born,
        Event::Call,
        Event::Answered,
        Event::Refused,
        Event::Notify,
        Event::Notified,
        Event::Receive,
        Event::Came,
        Event::Bits,
        Event::Reply,
        Event::Forward,
        Event::Save,
        Event::Churn,
        Event::YieldTo,
        Event::RaisePriority,
        Event::Kill,
        Event::Make,
        Event::Cancel,
        Event::Suspend,
        Event::Resume,
        Event::RoundMade,
        Event::RoundOver,
    ];

    fn from_raw(raw: u64) -> Option<Event> {
        Event::ALL.into_iter().find(|event| *event as u64 == raw)
    }
}

/// Whom an event is about where it is about nobody.
pub const NOBODY: usize = 0xfff;
/// The director as the one who does something.
pub const DIRECTOR: usize = 0xffe;

#[derive(Clone, Copy)]
pub struct Board {
    words: &'static [AtomicU64],
}

impl Run for Board {
    type Total = Total;

    const PROGRAM: &'static str = "stress";
    const WRONG: &'static [Total] = &[
        Total::Lost,
        Total::Duplicated,
        Total::Reordered,
        Total::Corrupted,
        Total::Unanswered,
        Total::LeakedPages,
    ];
    const STUCK: Total = Total::Unanswered;
    const LIFE: Total = Total::Life;
    const OVER: Total = Total::Over;
    const COMPLAINTS: Total = Total::Complaints;

    /// The board, in any process of the run.
    fn open() -> Board {
        // SAFETY: the program made `PAGES` pages of shared memory before anything else and maps them
        // in every process it starts.
        Board { words: unsafe { shared::words(0, WORDS) } }
    }

    fn total(self, which: Total) -> &'static AtomicU64 {
        &self.words[which as usize]
    }

    fn print(self) {
        let get = |which| self.get(which);
        let hash = Hash(self);
        report!(
            "stress seed={} cpus={} messages={} kills={} lost={} duplicated={} reordered={} corrupted={} \
             unanswered={} leaked_pages={} hash={hash} cancels={} suspensions={} churns={}",
            get(Total::Seed),
            user_rt::boot::facts().cpus,
            get(Total::Sent),
            get(Total::Kills),
            get(Total::Lost),
            get(Total::Duplicated),
            get(Total::Reordered),
            get(Total::Corrupted),
            get(Total::Unanswered),
            get(Total::LeakedPages),
            get(Total::Cancels),
            get(Total::Suspensions),
            get(Total::Churns),
        );
    }

    fn print_state(self, alarm: &Notification) {
        self.print_director();
        (0..self.seats()).for_each(|seat| self.print_seat(seat));
        crate::tellers::tell_all(alarm);
    }

    /// Where instructions are counted, four seconds of the guest; elsewhere its CPUs share the host's with others.
    fn patience(self) -> u64 {
        let seconds = if self.get(Total::Hashing) != 0 { 4 } else { 30 };
        seconds * boot::facts().tsc_hz
    }
}

impl Board {
    pub fn served_by(self, cpu: usize) -> &'static AtomicU64 {
        &self.words[Total::ServedBy as usize + cpu % (TOTAL_WORDS - Total::ServedBy as usize)]
    }

    pub fn seat(self, seat: usize, which: Of) -> &'static AtomicU64 {
        &self.words[SEATS_AT + seat * SEAT_WORDS + which as usize]
    }

    pub fn of(self, seat: usize, which: Of) -> u64 {
        self.seat(seat, which).load(Acquire)
    }

    pub fn set_of(self, seat: usize, which: Of, value: u64) {
        self.seat(seat, which).store(value, Release);
    }

    pub fn pair(self, which: Pair, from: usize, to: usize) -> &'static AtomicU64 {
        &self.words[PAIRS_AT + which as usize * PAIR_WORDS + from * SEATS_MAX + to]
    }

    pub fn seats(self) -> usize {
        self.get(Total::Seats) as usize
    }

    /// Forgets the last round's seats and pairs.
    pub fn clear_round(self) {
        for word in &self.words[SEATS_AT..] {
            word.store(0, Relaxed);
        }
        self.set(Total::Begun, 0);
        // Nobody sits there yet: as if the seat's task had been killed.
        (0..self.seats()).for_each(|seat| self.set_of(seat, Of::Kills, 1));
    }

    /// A seat's word on what it does now.
    pub fn event(self, seat: usize, event: Event, peer: usize, detail: u64) {
        let stamp = arch::now();
        let word = event as u64 | (peer as u64 & 0xfff) << 8 | (detail & 0xffff_ffff) << 20;
        if seat < SEATS_MAX {
            let number = self.seat(seat, Of::Events).fetch_add(1, Relaxed) as usize % MEMORY;
            let base = SEATS_AT + seat * SEAT_WORDS + MEMORY_AT + 2 * number;
            self.words[base].store(word, Relaxed);
            self.words[base + 1].store(stamp, Relaxed);
            self.set_of(seat, Of::Doing, word);
            self.set_of(seat, Of::Since, stamp);
        } else {
            self.set(Total::Director, word);
        }
        self.total(Total::Life).fetch_add(1, Relaxed);
        self.hash(seat, word, stamp);
    }

    /// Adds an event to the hash of all events in their order.
    fn hash(self, seat: usize, word: u64, stamp: u64) {
        if self.get(Total::Hashing) == 0 {
            return;
        }
        let term = mix(stamp) ^ mix(word ^ (seat as u64) << 52);
        let cell = self.total(Total::Hash);
        let mut old = cell.load(Relaxed);
        while let Err(now) = cell.compare_exchange(old, mix(old ^ term), AcqRel, Relaxed) {
            old = now;
        }
    }

    /// One seat's state, for the report of a run that stalls.
    pub fn print_seat(self, seat: usize) {
        let of = |which| self.of(seat, which);
        report!(
            "state seat={seat} task={:#x} process={} cpu={} priority={} kills={} births={} suspended={} \
             finished={} sent={} served={} doing: {}",
            of(Of::Id),
            of(Of::Process),
            of(Of::Cpu),
            of(Of::Priority),
            of(Of::Kills),
            of(Of::Births),
            of(Of::Suspended),
            of(Of::Finished),
            of(Of::Sent),
            of(Of::Served),
            Doing { word: of(Of::Doing), since: of(Of::Since) },
        );
        let events = of(Of::Events) as usize;
        for number in events.saturating_sub(MEMORY)..events.saturating_sub(1) {
            let base = SEATS_AT + seat * SEAT_WORDS + MEMORY_AT + 2 * (number % MEMORY);
            let (word, since) = (self.words[base].load(Relaxed), self.words[base + 1].load(Relaxed));
            report!("state seat={seat} before: {}", Doing { word, since });
        }
    }

    pub fn print_director(self) {
        report!("state director: {}", Doing { word: self.get(Total::Director), since: 0 });
    }
}

/// An event as a person reads it.
struct Doing {
    word: u64,
    since: u64,
}

impl core::fmt::Display for Doing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match Event::from_raw(self.word & 0xff) {
            Some(event) => write!(f, "{event:?}")?,
            None => f.write_str("nothing yet")?,
        }
        let peer = self.word as usize >> 8 & 0xfff;
        if peer != NOBODY {
            write!(f, " seat {peer}")?;
        }
        write!(f, " ({:#x}) at {}", self.word >> 20 & 0xffff_ffff, self.since)
    }
}

struct Hash(Board);

impl core::fmt::Display for Hash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.0.get(Total::Hashing) == 0 {
            return f.write_str("-");
        }
        write!(f, "{:016x}", self.0.get(Total::Hash))
    }
}
