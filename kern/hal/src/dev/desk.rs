//! The order in which records reach the log port.
//!
//! # Within one CPU
//! The kernel runs with interrupts off, but an NMI, a machine check or a fault of the kernel may
//! interrupt the writing of a record, and log, too. Each CPU has a [`Desk`] with a buffer for each
//! nesting depth. The outermost code sends its own record and then the records of the code that
//! interrupted it. So a CPU never waits for itself, and records of one CPU never mix.
//!
//! # Between CPUs
//! The outermost code of a CPU waits for the port's lock, in the order of asking, until the CPUs
//! before it have sent their records. No other code of a CPU waits.
//!
//! # At the end
//! A CPU that ends the machine closes the port and waits a bounded time for the CPU that sends.
//! From then on no other CPU sends.
//!
//! The buffers' bytes are atomics that only their CPU accesses. So the desk needs no unsafe code;
//! the cost does not matter for a log.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU8, AtomicUsize};

/// Bytes in front of a record's payload.
const HEAD: usize = 4;
/// The first of them.
const MARK: u8 = 0xa5;
/// Bytes of the longest payload.
pub const PAYLOAD: usize = 1024;
/// Bytes of a page: room for the longest record.
const PAGE: usize = HEAD + PAYLOAD;
/// Depths at which a CPU logs: ordinary code; an NMI or a fault in the middle of that; a machine
/// check or a double fault in the middle of that.
const PAGES: usize = 3;
/// Most bytes that are sent with one call.
const CHUNK: usize = 64;

/// Consecutive records of one depth.
struct Page {
    bytes: [AtomicU8; PAGE],
    /// Where the record in the making ends; beyond the page, if it has no room.
    end: AtomicUsize,
    /// Where the finished records end.
    done: AtomicUsize,
    /// How much of them was sent.
    sent: AtomicUsize,
}

impl Page {
    const fn new() -> Page {
        Page {
            bytes: [const { AtomicU8::new(0) }; PAGE],
            end: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
        }
    }

    fn begin(&self) {
        self.end.store(self.done.load(Relaxed) + HEAD, Relaxed);
    }

    fn append(&self, bytes: &[u8]) {
        let end = self.end.load(Relaxed);
        self.write(end, bytes);
        self.end.store(end + bytes.len(), Relaxed);
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        self.bytes.iter().skip(at).zip(bytes).for_each(|(to, byte)| to.store(*byte, Relaxed));
    }

    /// Adds the record in the making to the finished ones. Returns whether it had room.
    fn finish(&self, channel: u8) -> bool {
        let (done, end) = (self.done.load(Relaxed), self.end.load(Relaxed));
        let has_room = end <= PAGE;
        if has_room {
            let [low, high] = ((end - done - HEAD) as u16).to_le_bytes();
            self.write(done, &[MARK, channel, low, high]);
            self.done.store(end, Relaxed);
        }
        has_room
    }

    /// Sends the finished records of the page, and removes them; also those that an interruption
    /// adds meanwhile.
    fn send(&self, send: &mut impl FnMut(&[u8], usize)) {
        loop {
            let (sent, done) = (self.sent.load(Relaxed), self.done.load(Relaxed));
            if sent < done {
                let mut chunk = [0; CHUNK];
                let bytes = CHUNK.min(done - sent);
                let from = self.bytes.iter().skip(sent).take(bytes);
                chunk.iter_mut().zip(from).for_each(|(to, from)| *to = from.load(Relaxed));
                send(&chunk[..bytes], done - sent - bytes);
                self.sent.store(sent + bytes, Relaxed);
                continue;
            }
            // First this one: an interruption that comes in between then sees an empty page of
            // which nothing was sent.
            self.sent.store(0, Relaxed);
            if self.done.compare_exchange(done, 0, Relaxed, Relaxed).is_ok() {
                return;
            }
            self.sent.store(sent, Relaxed);
        }
    }

    fn is_empty(&self) -> bool {
        self.done.load(Relaxed) == 0
    }
}

/// Where one CPU puts its records together. Only that CPU uses it.
pub struct Desk {
    /// How many records of this CPU are being written.
    depth: AtomicUsize,
    pages: [Page; PAGES],
}

impl Default for Desk {
    fn default() -> Desk {
        Desk { depth: AtomicUsize::new(0), pages: [const { Page::new() }; PAGES] }
    }
}

impl Desk {
    /// Begins a record, which [`Desk::leave`] ends.
    pub fn enter(&self) {
        let depth = self.depth.fetch_add(1, Relaxed);
        if let Some(page) = self.pages.get(depth) {
            page.begin();
        }
    }

    /// Appends to the record that was begun last.
    pub fn append(&self, bytes: &[u8]) {
        if let Some(page) = self.page() {
            page.append(bytes);
        }
    }

    /// Completes the record that was begun last. Returns whether there was room for it.
    pub fn finish(&self, channel: u8) -> bool {
        self.page().is_some_and(|page| page.finish(channel))
    }

    /// Sends all completed records: calls `send` with at most [`CHUNK`] bytes, and with how many
    /// follow of the same page.
    pub fn send(&self, mut send: impl FnMut(&[u8], usize)) {
        self.pages.iter().for_each(|page| page.send(&mut send));
    }

    /// Returns whether the record that was begun last is the outermost: no other record was
    /// interrupted by it.
    pub fn is_outermost(&self) -> bool {
        self.depth.load(Relaxed) == 1
    }

    /// Ends the record that was begun last.
    ///
    /// Returns whether the outermost has ended and an interruption has left records since it sent
    /// all. Then it has not ended, and the caller sends once more.
    #[must_use]
    pub fn leave(&self) -> bool {
        let depth = self.depth.load(Relaxed) - 1;
        self.depth.store(depth, Relaxed);
        let goes_on = depth == 0 && !self.pages.iter().all(Page::is_empty);
        if goes_on {
            self.depth.store(1, Relaxed);
        }
        goes_on
    }

    /// Returns whether a part of a completed record was sent, and not all of it.
    pub fn is_cut(&self) -> bool {
        self.pages.iter().any(|page| page.sent.load(Relaxed) > 0)
    }

    fn page(&self) -> Option<&Page> {
        self.pages.get(self.depth.load(Relaxed).checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests;
