//! Parcels: any number of bytes from one process to another, by a call. Few bytes are copied; many
//! are sent by moving their pages.
//!
//! Two processes that exchange parcels share a *tray*, memory that both may write. A parcel with
//! too few pages to be worth moving ([`REMAP_FROM`]) is copied there. The receiver copies it out
//! before it reads it, since the sender may still write to the tray. The pages of a longer parcel
//! are moved ([`PageMode::Move`]) and read in place, since no other process can write them. A
//! sender that wants to go on reading [shares](Post::share) its pages ([`PageMode::Share`]); then
//! neither side can write.
//!
//! ```text
//! let sent = Post::new(exposure, tray, Seen::ByThisCpu).send(buffer, bytes, label, [0; 3])?;
//!
//! intake.open()?;                                      // before each receive
//! let parcel = intake.take(&call.message)?;            // Copied, Moved or Shared
//! ```
//! The message's first register is the number of bytes; the caller chooses label and other
//! registers.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::{Error, MESSAGE_PAGES_MAX, PAGE_SIZE, PageMode, PageRange};

use crate::Refusal;
use crate::arch::{Buffer, View, moved_here, shared_here};
use crate::cap::{Exposure, VSpace};
use crate::ipc::{Message, Patience};
use crate::pages::{Pooled, drop_all};
use crate::utcb;

/// Most bytes of a parcel.
pub const BYTES_MAX: u64 = MESSAGE_PAGES_MAX * PAGE_SIZE;

/// From how many pages on moving them is cheaper than copying, in instructions:
/// `./justw bench --plot` measures it, and the book's page on pages in messages has the figures.
/// Sending less moved would be no error, only slower.
pub const REMAP_FROM: u64 = 3;
/// The number of pages from which moving is cheaper, if other CPUs must flush the pages.
pub const REMAP_FROM_SEEN: u64 = 11;

/// The CPUs that may have translations of the sender's address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// All tasks of its process have this CPU as their home.
    ByThisCpu,
    ByOthers,
}

/// Where parcels are sent from.
#[derive(Clone, Copy, Debug)]
pub struct Post {
    to: Exposure,
    tray: &'static [AtomicU64],
    remap_from: u64,
    caps: bool,
}

/// A parcel that has been answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    pub reply: Message,
    /// The buffer, where its bytes were copied; else its pages are the receiver's.
    pub kept: Option<Buffer>,
}

/// A parcel that has not been answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Unsent {
    pub refusal: Refusal,
    /// The buffer, where it has not gone: the receiver may have died, or time may have run out,
    /// when it had arrived.
    pub kept: Option<Buffer>,
}

/// A parcel that was shared and has not been answered. The pages can be read, and may be seen by
/// the receiver.
#[derive(Debug, PartialEq, Eq)]
pub struct Unshared {
    pub refusal: Refusal,
    pub kept: View,
}

impl Post {
    /// Makes a sender of parcels to `to`. Parcels that fit into `tray` are copied, larger ones are
    /// moved.
    pub fn new(to: Exposure, tray: &'static [AtomicU64], seen: Seen) -> Post {
        let worth = match seen {
            Seen::ByThisCpu => REMAP_FROM,
            Seen::ByOthers => REMAP_FROM_SEEN,
        };
        Post { to, tray, remap_from: worth.min(1 + tray.len() as u64 * 8 / PAGE_SIZE), caps: false }
    }

    /// Adds the capabilities that the UTCB lists to each parcel.
    pub const fn with_caps(self) -> Post {
        Post { caps: true, ..self }
    }

    fn message(&self, bytes: u64, label: u32, regs: [u64; 3]) -> Message {
        Message { caps: self.caps, ..Message::new(label, [bytes, regs[0], regs[1], regs[2]]) }
    }

    /// Returns whether a parcel of so many bytes is moved, and not copied.
    pub const fn moves(&self, bytes: u64) -> bool {
        bytes.div_ceil(PAGE_SIZE) >= self.remap_from
    }

    /// Sends the first `bytes` of a buffer, and waits for the reply. If the buffer is moved, its
    /// pages behind those bytes are the receiver's, too.
    pub fn send(&self, buffer: Buffer, bytes: u64, label: u32, regs: [u64; 3]) -> Result<Sent, Unsent> {
        self.send_within(buffer, bytes, label, regs, Patience::Forever)
    }

    pub fn send_within(
        &self,
        buffer: Buffer,
        bytes: u64,
        label: u32,
        regs: [u64; 3],
        patience: Patience,
    ) -> Result<Sent, Unsent> {
        if bytes > buffer.pages() * PAGE_SIZE || buffer.pages() > MESSAGE_PAGES_MAX {
            let refusal = Refusal::local(Error::TooLong, buffer.pages() * PAGE_SIZE);
            return Err(Unsent { refusal, kept: Some(buffer) });
        }
        let message = self.message(bytes, label, regs);
        if !self.moves(bytes) {
            put(self.tray, &buffer.bytes()[..bytes as usize]);
            return match self.to.call_within(&message, patience) {
                Ok(reply) => Ok(Sent { reply, kept: Some(buffer) }),
                Err(refusal) => Err(Unsent { refusal, kept: Some(buffer) }),
            };
        }
        let utcb = utcb::current();
        utcb.send_ranges(&[PageRange::new(PageMode::Move, buffer.address(), buffer.pages())]);
        match self.to.call_within(&message.with_pages(), patience) {
            Ok(reply) => Ok(Sent { reply, kept: None }),
            // The kernel empties the list when the pages have gone.
            Err(refusal) => Err(Unsent { refusal, kept: utcb.has_ranges().then_some(buffer) }),
        }
    }

    /// Lets the receiver read the first `bytes` of a buffer in place, and waits for the reply.
    /// Until the receiver has released the pages, nobody can write them.
    pub fn share(
        &self,
        buffer: Buffer,
        bytes: u64,
        label: u32,
        regs: [u64; 3],
    ) -> Result<(Message, View), Unshared> {
        let kept = shared_here(buffer.pooled());
        if bytes > buffer.pages() * PAGE_SIZE || buffer.pages() > MESSAGE_PAGES_MAX {
            return Err(Unshared {
                refusal: Refusal::local(Error::TooLong, buffer.pages() * PAGE_SIZE),
                kept,
            });
        }
        utcb::current().send_ranges(&[PageRange::new(PageMode::Share, buffer.address(), buffer.pages())]);
        match self.to.call(&self.message(bytes, label, regs).with_pages()) {
            Ok(reply) => Ok((reply, kept)),
            Err(refusal) => Err(Unshared { refusal, kept }),
        }
    }
}

/// Copies bytes to words, and fills the last word with zeroes.
fn put(tray: &[AtomicU64], bytes: &[u8]) {
    for (to, from) in tray.iter().zip(bytes.chunks(8)) {
        let mut word = [0; 8];
        word[..from.len()].copy_from_slice(from);
        to.store(u64::from_le_bytes(word), Relaxed);
    }
}

/// Places for parcels that come: each has room for the largest.
pub const PLACES_MAX: usize = 64;

/// Where parcels are received.
#[derive(Debug)]
pub struct Intake {
    tray: &'static [AtomicU64],
    /// The first place, and how many there are.
    first: u64,
    places: usize,
    /// A bit for each that has something.
    taken: u64,
}

/// What came.
#[derive(Debug)]
pub enum Parcel<'a> {
    /// So many bytes in the tray, where the sender may still write.
    Copied(Tray<'a>),
    /// The first so many bytes of a buffer.
    Moved(Buffer, u64),
    /// The first so many bytes of pages that the sender may read, too, and nobody can write.
    Shared(View, u64),
}

/// Bytes in a tray: to be copied before anything is concluded from them.
#[derive(Clone, Copy, Debug)]
pub struct Tray<'a> {
    words: &'a [AtomicU64],
    bytes: u64,
}

impl Tray<'_> {
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Copies the tray's bytes to the front of `to`. Returns how many were copied: as many as fit.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        let length = (self.bytes as usize).min(to.len());
        for (part, word) in to[..length].chunks_mut(8).zip(self.words) {
            part.copy_from_slice(&word.load(Relaxed).to_le_bytes()[..part.len()]);
        }
        length
    }
}

/// What came is no parcel. What pages it brought are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoParcel;

impl Intake {
    /// Makes an intake with up to [`PLACES_MAX`] places of [`BYTES_MAX`] each, from `first` on,
    /// where nothing is mapped.
    pub fn new(tray: &'static [AtomicU64], first: u64, places: usize) -> Intake {
        Intake { tray, first, places: places.min(PLACES_MAX), taken: 0 }
    }

    fn place(&self, number: usize) -> u64 {
        self.first + number as u64 * BYTES_MAX
    }

    fn free_place(&self) -> Option<usize> {
        (0..self.places).find(|number| self.taken >> number & 1 == 0)
    }

    /// Opens the task's window for the next message's pages.
    /// Errors: [`Error::NoRoom`] if all places are taken.
    pub fn open(&self) -> crate::Result<()> {
        let number = self.free_place().ok_or(Refusal::local(Error::NoRoom, self.places as u64))?;
        utcb::current().open_window(self.place(number), BYTES_MAX);
        Ok(())
    }

    /// Takes the parcel of a message that was just received.
    pub fn take(&mut self, own: &VSpace, message: &Message) -> Result<Parcel<'_>, NoParcel> {
        let bytes = message.regs[0];
        if !message.pages {
            let fits = bytes <= self.tray.len() as u64 * 8;
            let tray = Tray { words: self.tray, bytes };
            return if fits { Ok(Parcel::Copied(tray)) } else { Err(NoParcel) };
        }
        let ranges = utcb::current().ranges();
        match self.free_place().and_then(|number| Some((number, whole(ranges, self.place(number), bytes)?))) {
            Some((number, (mode, pages))) => {
                self.taken |= 1 << number;
                Ok(match mode {
                    PageMode::Move => Parcel::Moved(moved_here(pages), bytes),
                    _ => Parcel::Shared(shared_here(pages), bytes),
                })
            }
            None => {
                drop_all(own, message);
                Err(NoParcel)
            }
        }
    }

    /// Gives back a received buffer that is no longer needed.
    pub fn give_back(&mut self, own: &VSpace, buffer: Buffer) -> crate::Result<()> {
        let address = buffer.address();
        buffer.give_back(own)?;
        self.vacate(address);
        Ok(())
    }

    /// Gives back the pages of a shared parcel.
    pub fn give_back_view(&mut self, own: &VSpace, view: View) -> crate::Result<()> {
        let address = view.address();
        view.give_back(own)?;
        self.vacate(address);
        Ok(())
    }

    /// Frees the place of a received buffer that was sent on; `address` is the buffer's.
    pub fn vacate(&mut self, address: u64) {
        if let Some(offset) = address.checked_sub(self.first)
            && let number @ 0..64 = offset / BYTES_MAX
        {
            self.taken &= !(1 << number);
        }
    }
}

/// Returns the pages of a parcel, if they are one range, moved or shared, long enough for the
/// bytes, and at the front of the window.
fn whole(mut ranges: impl Iterator<Item = PageRange>, at: u64, bytes: u64) -> Option<(PageMode, Pooled)> {
    let range = ranges.next()?;
    let whole = ranges.next().is_none()
        && matches!(range.mode, PageMode::Move | PageMode::Share)
        && !range.large
        && range.address == at
        && bytes <= range.bytes();
    whole.then_some((range.mode, Pooled::of(&range)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: usize) -> &'static [AtomicU64] {
        std::vec::Vec::leak((0..count).map(|_| AtomicU64::new(u64::MAX)).collect())
    }

    #[test]
    fn bytes_survive_the_tray() {
        let tray = words(4);
        for length in 0..=32u8 {
            let bytes: std::vec::Vec<u8> = (1..=length).collect();
            put(tray, &bytes);
            let copied = Tray { words: tray, bytes: u64::from(length) };
            let mut out = [0xee; 33];
            assert_eq!(copied.copy_to(&mut out), bytes.len());
            assert_eq!(out[..bytes.len()], bytes);
            assert!(out[bytes.len()..].iter().all(|byte| *byte == 0xee), "nothing behind");
            let mut few = [0; 5];
            assert_eq!(copied.copy_to(&mut few), bytes.len().min(5));
        }
    }

    #[test]
    fn what_is_moved_depends_on_who_sees_it_and_on_the_tray() {
        let to = Exposure(abi::Target(0));
        let from = |tray_pages: usize, seen| {
            let post = Post::new(to, words(tray_pages * 512), seen);
            (0..=20).find(|pages| post.moves(pages * PAGE_SIZE)).unwrap()
        };
        assert_eq!(from(16, Seen::ByThisCpu), REMAP_FROM);
        assert_eq!(from(16, Seen::ByOthers), REMAP_FROM_SEEN);
        assert_eq!(from(1, Seen::ByOthers), 2, "what does not fit the tray is moved");
        let post = Post::new(to, words(512), Seen::ByThisCpu);
        assert!(!post.moves(PAGE_SIZE) && post.moves(PAGE_SIZE + 1));
    }

    #[test]
    fn only_what_post_sends_is_a_parcel() {
        let range = PageRange::new(PageMode::Move, 0x10_0000, 4);
        let good = |range: PageRange, bytes| whole([range].into_iter(), 0x10_0000, bytes);
        assert_eq!(good(range, 4 * PAGE_SIZE), Some((PageMode::Move, Pooled::new(0x10_0000, 4))));
        assert_eq!(good(range, 4 * PAGE_SIZE + 1), None, "more than came");
        let shared = good(PageRange { mode: PageMode::Share, ..range }, 1);
        assert_eq!(shared, Some((PageMode::Share, Pooled::new(0x10_0000, 4))));
        let copied = PageRange { mode: PageMode::Copy, ..range };
        assert_eq!(good(copied, 1), None, "that is for those who write");
        assert_eq!(good(PageRange { large: true, ..range }, 1), None);
        assert_eq!(good(PageRange { address: 0x20_0000, ..range }, 1), None);
        assert_eq!(whole([range, range].into_iter(), 0x10_0000, 1), None);
        assert_eq!(whole([].into_iter(), 0x10_0000, 0), None);
    }

    #[test]
    fn places_are_reused() {
        let mut intake = Intake::new(words(1), 0x4000_0000, 3);
        intake.taken = 0b101;
        assert_eq!(intake.free_place(), Some(1));
        intake.vacate(0x4000_0000 + 2 * BYTES_MAX);
        intake.vacate(0x3fff_0000);
        intake.vacate(u64::MAX);
        assert_eq!(intake.taken, 0b001);
        intake.taken = 0b111;
        assert_eq!(intake.free_place(), None);
    }
}
