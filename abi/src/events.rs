//! Event pools: the memory that a process sees, and how it reads events.
//!
//! The whole memory of a pool is mapped in its process. The first page is written by the process
//! ([`EventControl`]). Then follow the kernel's state, read-only ([`EventState`] and the stamps
//! after it), and the *cells*: 64 bytes each, their number a power of two. An event is a header
//! cell and the cells of its words, eight words in a cell. The cells form a ring. A pool may have
//! pages of [status words](crate::status) after its cells.
//!
//! # Reading
//! Positions count cells from 0 and never wrap. The event at position `p` is complete when the
//! stamp of cell `p % cells` is [`stamp`]`(p)`; load the stamp with `Acquire`. When the event has
//! been read, [`EventControl::head`] becomes the position after it (`Release`).
//!
//! **To wait**: store 1 to [`EventControl::armed`], execute a full fence, and look at the stamp
//! again. If there is still no event, wait for the Notification that is bound to the pool's reader.
//! The kernel raises its bits for the next event, and disarms.
//!
//! **To take capabilities and pages**: [`EventControl::listening`] offers slots
//! ([`Listening`](crate::Listening)), [`EventControl::window`] addresses ([`Window`]). Capabilities
//! and pages of an event take the first slots and addresses, and the kernel removes these from the
//! offer by compare-and-exchange. The process may extend an offer in the same way, or replace it by
//! an offer of other free slots and addresses with another first one. After its words such an event
//! has a cell with the fate of each capability, and two with the page ranges and their addresses:
//! see [`caps_at`] and [`pages_at`].
//!
//! **To let waiting senders continue**: after storing `head`, execute a full fence, then load
//! [`EventState::waiting`]. If it is not 0, call [`Op::PoolRoom`](crate::Op::PoolRoom).
//!
//! The kernel trusts nothing that the process writes: if the head has an impossible value, it
//! treats the pool as full.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::status::StatusWord;
use crate::{FLAG_CAPS, FLAG_PAGES, GRANTS_MAX, MSG_UTCB_WORDS, MsgInfo, PAGE_SIZE, RANGES_MAX, TaskId};

/// As an event's exposure: it was sent to all that listen in a group.
pub const BROADCAST: u32 = u32::MAX;

/// Base-2 logarithm of the number of cells: at least, and at most.
pub const CELLS_LOG2_MIN: u8 = 6;
pub const CELLS_LOG2_MAX: u8 = 14;
/// Words of a cell.
pub const CELL_WORDS: usize = 8;
const CELL_BYTES: u64 = 64;

/// What the process writes. One page.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct EventControl {
    /// The position of the first event that was not read yet.
    pub head: AtomicU64,
    /// Not 0: the next event wakes the reader.
    pub armed: AtomicU64,
    /// Where capabilities may arrive.
    pub listening: AtomicU64,
    /// Where pages may arrive.
    pub window: AtomicU64,
    _reserved: [AtomicU64; 508],
}

/// What the kernel writes, before the stamps.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct EventState {
    /// Not 0: senders wait for room.
    pub waiting: AtomicU64,
    /// Base-2 logarithm of the number of cells.
    pub cells_log2: AtomicU64,
    /// How many events of the kernel found no room ([`crate::status`]).
    pub lost: AtomicU64,
    /// How many pages of status words follow the cells.
    pub status_pages: AtomicU64,
    _reserved: [AtomicU64; 4],
}

const _: () = assert!(size_of::<EventControl>() as u64 == PAGE_SIZE && size_of::<EventState>() == 64);

impl EventControl {
    /// Pages that the process may write: the first ones.
    pub const PAGES: u64 = 1;
}

impl EventState {
    /// Pages of state and stamps.
    pub const fn pages(cells_log2: u8) -> u64 {
        (size_of::<EventState>() as u64 + (4 << cells_log2)).div_ceil(PAGE_SIZE)
    }
}

/// Pages of a pool without status words.
pub const fn pool_pages(cells_log2: u8) -> u64 {
    EventControl::PAGES + EventState::pages(cells_log2) + (CELL_BYTES << cells_log2) / PAGE_SIZE
}

/// Most pages of status words that a pool has.
pub const STATUS_PAGES_MAX: u8 = 64;
/// Status words of a page.
pub const STATUS_PER_PAGE: usize = PAGE_SIZE as usize / size_of::<StatusWord>();

/// How large a pool is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolSize {
    pub cells_log2: u8,
    /// Pages of [status words](crate::status), after the cells.
    pub status_pages: u8,
}

impl PoolSize {
    const STATUS_SHIFT: u32 = 8;

    /// Returns the size that Retype takes.
    pub const fn raw(self) -> u64 {
        self.cells_log2 as u64 | (self.status_pages as u64) << PoolSize::STATUS_SHIFT
    }

    /// Returns the size that Retype was given, if a pool can have it.
    pub fn from_raw(raw: u64) -> Option<PoolSize> {
        let (cells_log2, status_pages) = (raw as u8, u8::try_from(raw >> PoolSize::STATUS_SHIFT).ok()?);
        let fits = (CELLS_LOG2_MIN..=CELLS_LOG2_MAX).contains(&cells_log2);
        (fits && status_pages <= STATUS_PAGES_MAX).then_some(PoolSize { cells_log2, status_pages })
    }

    /// Returns the pages of the whole pool.
    pub const fn pages(self) -> u64 {
        pool_pages(self.cells_log2) + self.status_pages as u64
    }

    /// Returns how many status words the pool has.
    pub const fn status_words(self) -> usize {
        self.status_pages as usize * STATUS_PER_PAGE
    }
}

/// Returns the stamp of an event's first cell when the event at a position is there: the round of
/// the pool, from 1 on.
pub const fn stamp(position: u64, cells_log2: u8) -> u32 {
    (position >> cells_log2) as u32 + 1
}

/// Cells of an event with so many words.
pub const fn cells(words: usize) -> u64 {
    1 + words.div_ceil(CELL_WORDS) as u64
}

/// Cells of the list of capabilities, and of that of page ranges: two words each.
const CAPS_CELLS: u64 = (2 * GRANTS_MAX / CELL_WORDS) as u64;
const PAGES_CELLS: u64 = (2 * RANGES_MAX / CELL_WORDS) as u64;
const _: () = assert!(2 * GRANTS_MAX == CELL_WORDS && 2 * RANGES_MAX == 2 * CELL_WORDS);

/// Cells of an event with such a message word.
#[inline]
pub const fn cells_of(info: MsgInfo) -> u64 {
    if !info.has(FLAG_CAPS | FLAG_PAGES) {
        return cells(info.words());
    }
    pages_at(info) + if info.has(FLAG_PAGES) { PAGES_CELLS } else { 0 }
}

/// Returns the number of cells before the fates of an event's capabilities:
/// [`Received`](crate::Received) each, zeros after the last.
pub const fn caps_at(info: MsgInfo) -> u64 {
    cells(info.words())
}

/// Cells before an event's page ranges, as they arrived: [`PageRange`](crate::PageRange) each.
pub const fn pages_at(info: MsgInfo) -> u64 {
    caps_at(info) + if info.has(FLAG_CAPS) { CAPS_CELLS } else { 0 }
}

/// Most cells of an event.
pub const EVENT_CELLS_MAX: u64 = cells(MSG_UTCB_WORDS) + CAPS_CELLS + PAGES_CELLS;

/// Addresses where pages may arrive: the first, and how many of 4 KiB there are. One word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    pub address: u64,
    pub pages: u64,
}

impl Window {
    const PAGES_BITS: u32 = 28;

    pub const fn word(self) -> u64 {
        (self.address / PAGE_SIZE) << Window::PAGES_BITS | self.pages & ((1 << Window::PAGES_BITS) - 1)
    }

    pub const fn from_word(word: u64) -> Window {
        Window {
            address: (word >> Window::PAGES_BITS) * PAGE_SIZE,
            pages: word & ((1 << Window::PAGES_BITS) - 1),
        }
    }

    /// Returns the rest of the window, after this many bytes.
    #[must_use]
    pub const fn behind(self, bytes: u64) -> Window {
        let pages = bytes.div_ceil(PAGE_SIZE);
        Window { address: self.address + pages * PAGE_SIZE, pages: self.pages.saturating_sub(pages) }
    }
}

/// The words of an event's first cell: label and words; the sender; exposure and, above it, custom
/// bits; of a broadcast, in which group; the message registers.
pub const INFO: usize = 0;
pub const SENDER: usize = 1;
pub const WAY: usize = 2;
pub const GROUP: usize = 3;
pub const REGS: usize = 4;
/// Where in [`WAY`] the custom bits are.
pub const CUSTOM_SHIFT: u32 = 32;

/// How far a broadcast has come: the lower half of its first argument. Where it stops it tells how
/// it is to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// The member that comes next.
    pub next: u16,
    /// How many have got the message.
    pub sent: u16,
}

impl Progress {
    pub const fn from_raw(raw: u32) -> Progress {
        Progress { next: raw as u16, sent: (raw >> 16) as u16 }
    }

    pub const fn raw(self) -> u32 {
        self.next as u32 | (self.sent as u32) << 16
    }

    /// Moves past the next member, which got the event or does not listen.
    #[must_use]
    pub const fn past(self, sent: bool) -> Progress {
        Progress { next: self.next.wrapping_add(1), sent: self.sent.wrapping_add(sent as u16) }
    }
}

/// An event's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// Label and words.
    pub info: MsgInfo,
    pub sender: TaskId,
    /// Through which exposure it came; [`BROADCAST`]: through none.
    pub exposure: u32,
    /// The sender's custom bits in that group.
    pub custom: u16,
    /// The group of a broadcast, by the identity that [`Op::CapInspect`](crate::Op::CapInspect)
    /// reports; else 0.
    pub group: u64,
    pub regs: [u64; 4],
}

impl Event {
    /// Writes a cell.
    #[inline(always)]
    pub fn write(self, cell: &[AtomicU64; CELL_WORDS]) {
        let way = u64::from(self.exposure) | u64::from(self.custom) << CUSTOM_SHIFT;
        cell[INFO].store(self.info.0, Relaxed);
        cell[SENDER].store(self.sender.raw(), Relaxed);
        cell[WAY].store(way, Relaxed);
        cell[GROUP].store(self.group, Relaxed);
        for (word, value) in cell[REGS..].iter().zip(self.regs) {
            word.store(value, Relaxed);
        }
    }

    /// Decodes a cell.
    pub fn from_cell(cell: &[AtomicU64; CELL_WORDS]) -> Event {
        let word = |n: usize| cell[n].load(Relaxed);
        Event {
            info: MsgInfo(word(INFO)),
            sender: TaskId::from_raw(word(SENDER)),
            exposure: word(WAY) as u32,
            custom: (word(WAY) >> CUSTOM_SHIFT) as u16,
            group: word(GROUP),
            regs: [word(REGS), word(REGS + 1), word(REGS + 2), word(REGS + 3)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_their_cells() {
        let event = Event {
            info: MsgInfo::new(7, 3),
            sender: TaskId::from_raw(0x1234_5678_9abc_def0),
            exposure: u32::MAX,
            custom: 0xbeef,
            group: 0x77,
            regs: [1, 2, 3, 4],
        };
        let cell = [const { AtomicU64::new(u64::MAX) }; CELL_WORDS];
        event.write(&cell);
        assert_eq!(Event::from_cell(&cell), event);
    }

    #[test]
    fn windows_survive_being_words() {
        let window = Window { address: crate::USER_TOP - 7 * PAGE_SIZE, pages: 1 << 27 };
        assert_eq!(Window::from_word(window.word()), window);
        let behind = Window { address: 0x7000_0000, pages: 5 }.behind(PAGE_SIZE + 1);
        assert_eq!(behind, Window { address: 0x7000_2000, pages: 3 });
        assert_eq!(behind.behind(1 << 20).pages, 0);
    }

    #[test]
    fn sizes_are_whole_pages() {
        assert_eq!(pool_pages(6), 1 + 1 + 1);
        assert_eq!(pool_pages(10), 1 + 2 + 16);
        assert_eq!(PoolSize { cells_log2: 6, status_pages: 2 }.pages(), 5);
        assert_eq!(PoolSize::from_raw(10), Some(PoolSize { cells_log2: 10, status_pages: 0 }));
        let largest = PoolSize { cells_log2: CELLS_LOG2_MAX, status_pages: STATUS_PAGES_MAX };
        assert_eq!(PoolSize::from_raw(largest.raw()), Some(largest));
        assert_eq!((PoolSize::from_raw(5), PoolSize::from_raw(largest.raw() + 256)), (None, None));
        assert_eq!((cells(0), cells(1), cells(8), cells(9), EVENT_CELLS_MAX), (1, 2, 2, 3, 12));
        let carries = MsgInfo::new(0, 9).flag(FLAG_CAPS | FLAG_PAGES);
        assert_eq!((caps_at(carries), pages_at(carries), cells_of(carries)), (3, 4, 6));
        assert_eq!(cells_of(MsgInfo::new(7, 9)), 3);
        assert_eq!((stamp(63, 6), stamp(64, 6)), (1, 2));
        const { assert!(EVENT_CELLS_MAX < 1 << CELLS_LOG2_MIN) };
    }
}
