//! Event pools: receives what others send to this process without waiting for an answer.
//!
//! ```text
//! let mut pool = Pool::bind(object, log2, &own_process, &reader, address, bits)?;   // once
//! loop {
//!     while let Some(event) = pool.read() { … }         // no system call, unless senders wait for room
//!     if pool.arm() { note.wait()?; }                    // the Notification bound to the reader
//! }
//! ```

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicU64, fence};

use abi::events::{CELL_WORDS, Event, Progress, Window, caps_at, cells_of, pages_at, stamp};
use abi::status::Status;
use abi::{
    FLAG_CAPS, FLAG_PAGES, GRANTS_MAX, Listening, MSG_UTCB_WORDS, Op, PageRange, RANGES_MAX, Received,
};

use crate::Result;
use crate::arch::memory::{EventPages, event_pages, status_words};
use crate::arch::{Args, syscall};
use crate::cap::{EventPool, Exposure, Group, Handle, Process, Task};
use crate::ipc::{Message, Patience};

/// This process's event pool, for the task that reads it.
#[derive(Debug)]
pub struct Pool {
    object: EventPool,
    pages: EventPages,
    cells_log2: u8,
    /// Position of the next event.
    head: u64,
    /// Cells of the event that was read last, which are still its own.
    held: u64,
}

/// An event that was read: its words stay in the pool until the next one is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Came<'a> {
    pub event: Event,
    pages: &'a EventPages,
    /// Position of its header, and what to do with it.
    at: u64,
    mask: u64,
}

impl Came<'_> {
    /// Returns the words of the event beside those in its registers.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        let count = self.event.info.words().min(MSG_UTCB_WORDS);
        (0..count).map(|n| self.word(1, n))
    }

    /// Returns the fates of the capabilities that the event carries.
    pub fn received(&self) -> impl Iterator<Item = Received> {
        let count = if self.event.info.has(FLAG_CAPS) { GRANTS_MAX } else { 0 };
        (0..count).map_while(|n| Received::from_words(self.pair(caps_at(self.event.info), n)))
    }

    /// Returns the ranges of the pages that the event carries.
    pub fn ranges(&self) -> impl Iterator<Item = PageRange> {
        let count = if self.event.info.has(FLAG_PAGES) { RANGES_MAX } else { 0 };
        (0..count).map_while(|n| PageRange::from_words(self.pair(pages_at(self.event.info), n)))
    }

    fn pair(&self, first: u64, n: usize) -> [u64; 2] {
        [2 * n, 2 * n + 1].map(|word| self.word(first, word))
    }

    /// Returns word `n` of the event, counted from its cell `first` on.
    fn word(&self, first: u64, n: usize) -> u64 {
        let cell = (self.at + first + (n / CELL_WORDS) as u64) & self.mask;
        self.pages.cells[cell as usize][n % CELL_WORDS].load(Relaxed)
    }
}

impl Pool {
    /// Makes a pool without a process this process's own: `reader` is the task that reads it, and
    /// `bits` are raised in the Notification bound to that task. The pool's pages are mapped at
    /// `address`.
    pub fn bind(
        object: EventPool,
        cells_log2: u8,
        process: &Process,
        reader: &Task,
        address: u64,
        bits: u64,
    ) -> Result<Pool> {
        let args = Args::plain(Op::PoolBind, object.arg(), process.arg(), reader.arg(), address);
        syscall(Args { r9: bits, ..args }).done()?;
        Ok(Pool { object, pages: event_pages(address, cells_log2), cells_log2, head: 0, held: 0 })
    }

    /// Reads the next event, if there is one. Gives up the event that was read before.
    #[inline]
    pub fn read(&mut self) -> Option<Came<'_>> {
        self.release();
        let mask = (1 << self.cells_log2) - 1;
        let cell = (self.head & mask) as usize;
        if self.pages.stamps[cell].load(Acquire) != stamp(self.head, self.cells_log2) {
            return None;
        }
        let event = Event::from_cell(&self.pages.cells[cell]);
        self.held = cells_of(event.info);
        Some(Came { event, pages: &self.pages, at: self.head, mask })
    }

    /// Returns the cells of the last read event to the pool. If senders wait for room, asks the
    /// kernel to let them in.
    #[inline]
    fn release(&mut self) {
        if self.held == 0 {
            return;
        }
        self.head += self.held;
        self.held = 0;
        self.pages.control.head.store(self.head, Release);
        fence(SeqCst);
        if self.pages.state.waiting.load(Relaxed) != 0 {
            // Refused: the pool has ended, and nobody waits.
            let _ = syscall(Args::plain(Op::PoolRoom, self.object.arg(), 0, 0, 0));
        }
    }

    /// Arms the pool, so that the next event wakes the reader. Returns whether to wait: false if an
    /// event is there already.
    pub fn arm(&mut self) -> bool {
        self.release();
        self.pages.control.armed.store(1, Relaxed);
        fence(SeqCst);
        let cell = self.head & ((1 << self.cells_log2) - 1);
        self.pages.stamps[cell as usize].load(Acquire) != stamp(self.head, self.cells_log2)
    }

    /// Offers slots for capabilities of events from now on. Returns the rest of the last offer.
    /// Requires: the new offer has no slot of that rest.
    pub fn listen(&self, offer: Listening) -> Listening {
        Listening::from_word(self.pages.control.listening.swap(offer.word(), Relaxed))
    }

    /// Offers a range of addresses, in which the kernel maps the pages that come with events from
    /// now on. Returns the rest of the range that was offered before.
    pub fn open_window(&self, window: Window) -> Window {
        Window::from_word(self.pages.control.window.swap(window.word(), Relaxed))
    }

    /// Returns what one of the pool's status words says now ([`abi::status`]), if the pool has it.
    pub fn status(&self, word: u16) -> Option<Status> {
        status_words(&self.pages).get(usize::from(word))?.read()
    }

    /// Returns how many events of the kernel have found no room in the pool.
    pub fn lost(&self) -> u64 {
        self.pages.state.lost.load(Relaxed)
    }

    pub fn object(&self) -> &EventPool {
        &self.object
    }
}

impl Exposure {
    /// Sends an event to the process of the task that is exposed here. Waits only for room.
    pub fn send(self, message: &Message) -> Result<()> {
        self.send_within(message, Patience::Forever)
    }

    pub fn send_within(self, message: &Message, patience: Patience) -> Result<()> {
        let mut args = message.args(Op::Send, self.0.0);
        patience.apply(&mut args);
        syscall(args).done()
    }
}

impl Group {
    /// Sends an event to every other process that listens in the group, from member `from` on.
    /// Returns how many got it. A refusal after the first member has the progress as its detail:
    /// [`Progress`].
    pub fn broadcast(&self, message: &Message, from: Progress, patience: Patience) -> Result<u64> {
        let mut args = message.args(Op::Broadcast, self.exposure(from.raw()).0.0);
        patience.apply(&mut args);
        Ok(syscall(args).check()?.rdi)
    }
}

/// One cell.
pub type Cell = [AtomicU64; CELL_WORDS];
