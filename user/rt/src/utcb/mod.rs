//! This task's UTCB.
//!
//! Words are atomics, since the kernel also writes them, during this task's system calls. All
//! accesses are `Relaxed`; the system call orders them. No other task touches the page, so the
//! kernel finds there what this task wrote.

#[cfg(target_os = "none")]
mod defmt_sink;

use core::sync::atomic::Ordering::Relaxed;

use abi::{
    Fate, GRANTS_MAX, Grant, LOG_MAX, Listening, MSG_UTCB_WORDS, PageRange, RANGES_MAX, Received, TaskId,
    Utcb,
};

use crate::arch;

/// Words of [`Utcb::user`] that the runtime uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Local {
    /// Slot of this task's own capability.
    OwnTask = 0,
    /// Bytes of the log record in the making.
    LogLength = 1,
    /// Lowest address of the stack or stacklet that this task runs on; 0: process 1's first one.
    StackLow = 2,
    /// Lowest address and top of a stacklet that it has to spare; 0: none.
    SpareLow = 3,
    SpareTop = 4,
    /// First word that a program may use.
    Program = 8,
}

/// The UTCB of the running task.
#[derive(Clone, Copy)]
pub struct Current {
    page: &'static Utcb,
}

/// Returns the running task's own UTCB.
#[inline(always)]
pub fn current() -> Current {
    let address = arch::fs_base();
    // SAFETY: every task of this runtime has its UTCB's address as FS base (`arch::start` sees to
    // it), the kernel restores it, and the page is mapped for as long as the task lives. All fields
    // are atomics.
    Current { page: unsafe { &*(address as *const Utcb) } }
}

impl Current {
    /// Returns the UTCB's message words, which follow those in the registers.
    pub fn message(self) -> &'static [core::sync::atomic::AtomicU64; MSG_UTCB_WORDS] {
        &self.page.msg
    }

    pub fn task_id(self) -> TaskId {
        TaskId::from_raw(self.page.task_id.load(Relaxed))
    }

    /// Asks the kernel for a notice at the end of each slice, or for none.
    /// [`yield_if_asked`](crate::invoke::yield_if_asked) says what a task does then.
    pub fn want_notice(self, wants: bool) {
        self.page.wants_notice.store(wants.into(), Relaxed);
    }

    /// Returns until when this task may run on although its slice is over, if the kernel has given
    /// notice.
    #[inline(always)]
    pub fn preempt_pending(self) -> Option<u64> {
        Some(self.page.preempt_pending.load(Relaxed)).filter(|until| *until != 0)
    }

    /// Forgets a notice: the task is about to yield.
    #[inline(always)]
    pub fn heed_notice(self) {
        self.page.preempt_pending.store(0, Relaxed);
    }

    pub fn home_cpu(self) -> u32 {
        self.page.home_cpu.load(Relaxed) as u32
    }

    pub fn local(self, word: Local) -> u64 {
        self.page.user[word as usize].load(Relaxed)
    }

    pub fn set_local(self, word: Local, value: u64) {
        self.page.user[word as usize].store(value, Relaxed);
    }

    /// Opens a window: the pages of received messages are mapped in these bytes.
    pub fn open_window(self, address: u64, bytes: u64) {
        let [start, length] = &self.page.window;
        start.store(address, Relaxed);
        length.store(bytes, Relaxed);
    }

    /// Sets the ranges of the next message with pages: at most [`abi::RANGES_MAX`].
    pub fn send_ranges(self, ranges: &[PageRange]) {
        for (range, words) in ranges.iter().zip(&self.page.ranges) {
            let [address, count] = range.words();
            words[0].store(address, Relaxed);
            words[1].store(count, Relaxed);
        }
        self.page.range_count.store(ranges.len().min(RANGES_MAX) as u64, Relaxed);
    }

    /// Returns the ranges of pages that arrived with the last message that had pages.
    pub fn ranges(self) -> impl Iterator<Item = PageRange> {
        let count = self.page.range_count.load(Relaxed).min(RANGES_MAX as u64) as usize;
        let words = |n: usize| [0, 1].map(|word: usize| self.page.ranges[n][word].load(Relaxed));
        (0..count).filter_map(move |n| PageRange::from_words(words(n)))
    }

    /// Returns whether the ranges that were set for the next message are still to be sent.
    pub fn has_ranges(self) -> bool {
        self.page.range_count.load(Relaxed) != 0
    }

    /// Sets the capabilities that the next message gives: at most [`abi::GRANTS_MAX`].
    pub fn send_grants(self, grants: &[Grant]) {
        for (grant, words) in grants.iter().zip(&self.page.grants) {
            words.iter().zip(grant.words()).for_each(|(word, value)| word.store(value, Relaxed));
        }
        self.page.grant_count.store(grants.len().min(GRANTS_MAX) as u64, Relaxed);
    }

    /// Offers slots for the capabilities of received messages. The kernel takes used slots off the
    /// offer.
    pub fn listen(self, offer: Listening) {
        self.page.listening.store(offer.word(), Relaxed);
    }

    /// Returns the rest of the offer of slots.
    pub fn listening(self) -> Listening {
        Listening::from_word(self.page.listening.load(Relaxed))
    }

    /// Returns the fate of each capability of the last received message that had some.
    pub fn received(self) -> impl Iterator<Item = Received> {
        let count = self.page.grant_count.load(Relaxed).min(GRANTS_MAX as u64) as usize;
        let words = |n: usize| [0, 1].map(|word: usize| self.page.grants[n][word].load(Relaxed));
        (0..count).filter_map(move |n| Received::from_words(words(n)))
    }

    /// Returns the fate of the capability at a place in the list that was sent last.
    pub fn fate(self, place: usize) -> Option<Fate> {
        Fate::in_word(self.page.grant_fates.load(Relaxed), place)
    }

    pub fn write_bulk(self, words: &[u64]) {
        for (to, from) in self.page.bulk.iter().zip(words) {
            to.store(*from, Relaxed);
        }
    }

    pub fn read_bulk(self, words: &mut [u64]) {
        for (to, from) in words.iter_mut().zip(&self.page.bulk) {
            *to = from.load(Relaxed);
        }
    }

    /// Copies bytes to the bulk area at `offset`. Returns false, and copies nothing, if they do not
    /// fit a log record.
    pub fn write_bytes(self, offset: usize, bytes: &[u8]) -> bool {
        if offset > LOG_MAX || bytes.len() > LOG_MAX - offset {
            return false;
        }
        let bulk = self.page.bulk.as_ptr().cast::<u8>().cast_mut();
        // SAFETY: the range lies in `bulk` (checked against LOG_MAX, which is smaller). The words
        // are interior-mutable, and only this task writes them; the kernel reads them in its system
        // calls.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), bulk.add(offset), bytes.len()) };
        true
    }
}

const _: () = assert!(LOG_MAX <= 256 * 8, "a log record fits the bulk area");
