//! The shared memory of a run: what every seat does, failures, and sent messages.
//!
//! Words are atomics. Each word of a seat and of a pair has one writer at a time (the seat's task,
//! or the director while the seat is empty). Only the words that several tasks count up are changed
//! by atomic additions. If a message passes between two tasks, the system calls order the writes of
//! one before the reads of the other.

use core::fmt;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};

use guest_tests::board::{Part as _, Row};
use guest_tests::random::mix;
use guest_tests::run::{Figure, Run};
use guest_tests::{board, words};
use user_rt::cap::Notification;
use user_rt::{arch, boot, report};

/// Most seats of a run: with the supervisor's, their bits fit a Notification by twos.
pub const SEATS_MAX: usize = 96;
/// Bits of a Notification that seats use: seat `n` raises bit `n % NOTE_BITS`.
pub const NOTE_BITS: usize = 48;

/// CPUs whose messages are counted.
const CPUS_MAX: usize = 64;
/// Events that a seat remembers for the report of a run that stalls.
const MEMORY: usize = 8;

words! {
    /// Words of the whole run.
    pub enum Total: Sequential {
        Seed,
        Seats,
        /// Messages of this round: to send, and begun.
        Goal,
        Begun,
        /// Messages over all rounds.
        Sent,
        Kills,
        /// Whether events go into the hash; the hash.
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
        /// Whether the director is done: the watchdog sleeps.
        Over,
        /// What the director does.
        Director,
        /// Increases with every action of any task.
        Life,
        Cancels,
        Suspensions,
        Churns,
        /// Tasks that have moved to another CPU, and that were to move later.
        Moves,
        Later,
    }

    /// Words of a seat.
    pub enum Of: Published {
        /// Id of the seat's task, and of the task that was killed last.
        Id,
        Doomed,
        Incarnation,
        Process,
        Cpu,
        Priority,
        /// Its action: an [`Event`], the peer, the begin.
        Doing,
        Since,
        /// Kills begun and tasks made: equal while a task is in the seat.
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
        /// Bits received, over all bits.
        Events,
    }

    /// Words of a pair: by sender and receiver.
    pub enum Pair: Published {
        /// Number of the last message sent.
        Sent,
        /// Number of the last message that came, and of the last one that was answered.
        Came,
        Answered,
        /// Notifications begun.
        Noted,
        /// Notifications that the receiver has received, or need not receive.
        Heard,
        /// Bits received, counted at the first seat of each bit.
        Bits,
    }
}

/// An action of a seat.
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
    Move,
}

impl Event {
    const ALL: [Event; 23] = [
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
        Event::Move,
    ];

    fn from_raw(raw: u64) -> Option<Event> {
        Event::ALL.into_iter().find(|event| *event as u64 == raw)
    }
}

/// Peer of an event that has none.
pub const NOBODY: usize = 0xfff;
/// The director as an actor.
pub const DIRECTOR: usize = 0xffe;

board! {
    /// The board of a run.
    pub struct Board {
        totals: Row<Total>,
        /// Messages served by each CPU.
        served_by: [AtomicU64; CPUS_MAX],
        pub seats: [Row<Of>; SEATS_MAX],
        /// The last events of each seat, in a ring: what, and when.
        memories: [[[AtomicU64; 2]; MEMORY]; SEATS_MAX],
        /// By sender, by receiver.
        pairs: [[Row<Pair>; SEATS_MAX]; SEATS_MAX],
    }
}

pub const PAGES: u32 = board::pages::<Board>();

const FIGURES: &[Figure<Board>] = &[
    Figure::Total("seed", Total::Seed),
    Figure::Text("cpus", |_, f| write!(f, "{}", boot::facts().cpus)),
    Figure::Total("messages", Total::Sent),
    Figure::Total("kills", Total::Kills),
    Figure::Total("lost", Total::Lost),
    Figure::Total("duplicated", Total::Duplicated),
    Figure::Total("reordered", Total::Reordered),
    Figure::Total("corrupted", Total::Corrupted),
    Figure::Total("unanswered", Total::Unanswered),
    Figure::Total("leaked_pages", Total::LeakedPages),
    Figure::Text("hash", Board::write_hash),
    Figure::Total("cancels", Total::Cancels),
    Figure::Total("suspensions", Total::Suspensions),
    Figure::Total("churns", Total::Churns),
    Figure::Total("moves", Total::Moves),
    Figure::Total("later", Total::Later),
];

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

    fn open() -> &'static Board {
        // SAFETY: the program made `PAGES` pages of shared memory before anything else and maps
        // them in every process it starts.
        unsafe { board::open() }
    }

    fn totals(&self) -> &Row<Total> {
        &self.totals
    }

    fn result(&self) -> (&'static str, &'static [Figure<Board>]) {
        (Board::PROGRAM, FIGURES)
    }

    fn print_state(&self, alarm: &Notification) {
        self.print_director();
        (0..self.seat_count()).for_each(|seat| self.print_seat(seat));
        crate::tellers::ask_all(alarm);
    }

    /// Returns four seconds of the guest if instructions are counted; elsewhere longer, because its
    /// CPUs share the host's with others.
    fn patience(&self) -> u64 {
        let seconds = if self.get(Total::Hashing) != 0 { 4 } else { 30 };
        seconds * boot::facts().tsc_hz
    }
}

impl Board {
    pub fn served_by(&self, cpu: usize) -> &AtomicU64 {
        &self.served_by[cpu % CPUS_MAX]
    }

    pub fn pair(&self, which: Pair, from: usize, to: usize) -> &AtomicU64 {
        self.pairs[from][to].word(which)
    }

    pub fn seat_count(&self) -> usize {
        self.get(Total::Seats) as usize
    }

    /// Clears the last round's seats and pairs.
    pub fn clear_round(&self) {
        self.seats.clear();
        self.memories.clear();
        self.pairs.clear();
        self.set(Total::Begun, 0);
        // The seats are empty, as if their tasks had been killed.
        (0..self.seat_count()).for_each(|seat| self.seats[seat].set(Of::Kills, 1));
    }

    /// Notes what a seat does now.
    pub fn event(&self, seat: usize, event: Event, peer: usize, detail: u64) {
        let stamp = arch::now();
        let word = event as u64 | (peer as u64 & 0xfff) << 8 | (detail & 0xffff_ffff) << 20;
        if seat < SEATS_MAX {
            let of = &self.seats[seat];
            let number = of.word(Of::Events).fetch_add(1, Relaxed) as usize % MEMORY;
            let [what, when] = &self.memories[seat][number];
            what.store(word, Relaxed);
            when.store(stamp, Relaxed);
            of.set(Of::Doing, word);
            of.set(Of::Since, stamp);
        } else {
            self.set(Total::Director, word);
        }
        self.totals.word(Total::Life).fetch_add(1, Relaxed);
        self.hash(seat, word, stamp);
    }

    /// Adds an event to the hash of all events in their order.
    fn hash(&self, seat: usize, word: u64, stamp: u64) {
        if self.get(Total::Hashing) == 0 {
            return;
        }
        let term = mix(stamp) ^ mix(word ^ (seat as u64) << 52);
        let cell = self.totals.word(Total::Hash);
        let mut old = cell.load(Relaxed);
        while let Err(now) = cell.compare_exchange(old, mix(old ^ term), AcqRel, Relaxed) {
            old = now;
        }
    }

    /// Prints one seat's state, for the report of a run that stalls.
    pub fn print_seat(&self, seat: usize) {
        let of = |which| self.seats[seat].get(which);
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
            let [word, since] =
                self.memories[seat][number % MEMORY].each_ref().map(|word| word.load(Relaxed));
            report!("state seat={seat} before: {}", Doing { word, since });
        }
    }

    pub fn print_director(&self) {
        report!("state director: {}", Doing { word: self.get(Total::Director), since: 0 });
    }

    fn write_hash(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.get(Total::Hashing) == 0 {
            return f.write_str("-");
        }
        write!(f, "{:016x}", self.get(Total::Hash))
    }
}

/// An event in words.
struct Doing {
    word: u64,
    since: u64,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
