//! Pages in messages: the sender's list and the receiver's list.
//!
//! A call or a reply with [`FLAG_PAGES`](crate::FLAG_PAGES) carries the ranges that the sender's
//! UTCB lists in [`Utcb::ranges`](crate::Utcb::ranges), as many as
//! [`Utcb::range_count`](crate::Utcb::range_count) says. They arrive one after another in the
//! window that the receiver's UTCB names ([`Utcb::window`](crate::Utcb::window)), each at the next
//! boundary of its page size; the receiver's list then has the addresses. The sender's count
//! becomes 0 as soon as the pages have been delivered.
//!
//! Only pages of the sender's pool can be sent: pages that [`Op::Map`](crate::Op::Map) with
//! [`MAP_POOL`] put there, or that arrived in a message. All arrive or none.

/// Ranges that a message can have.
pub const RANGES_MAX: usize = 8;
/// Pages that a message with one range can have, of whatever size, and without capabilities: as
/// many as the kernel moves or shares in one entry. [`pages_max`] is for all messages.
pub const MESSAGE_PAGES_MAX: u64 = 64;
/// Each further range takes the place of so many pages: it may be in other page tables.
pub const RANGE_PAGES: u64 = 6;
/// The capabilities of a message take the place of so many pages, however many they are.
pub const CAPS_PAGES: u64 = 20;

/// Returns how many pages a message with so many ranges can have.
pub const fn pages_max(ranges: usize, caps: bool) -> u64 {
    let further = ranges.saturating_sub(1) as u64;
    MESSAGE_PAGES_MAX - further * RANGE_PAGES - if caps { CAPS_PAGES } else { 0 }
}
const _: () = assert!(pages_max(RANGES_MAX, false) >= RANGES_MAX as u64);
const _: () = assert!(pages_max(RANGES_MAX - 1, true) >= RANGES_MAX as u64 - 1);

/// In the access of [`Op::Map`](crate::Op::Map): into the pool of the space, of which messages
/// carry pages.
pub const MAP_POOL: u64 = 1 << 2;

/// How pages go to the receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum PageMode {
    /// The sender has them no more.
    Move = 0,
    /// Both see them, and nobody writes them as long as more than one does.
    Share = 1,
    /// Shared read-only, but a process that wants to write a page may get a copy:
    /// [`Op::PageCopy`](crate::Op::PageCopy).
    Copy = 2,
}

impl PageMode {
    pub const ALL: [PageMode; 3] = [PageMode::Move, PageMode::Share, PageMode::Copy];
}

/// Some pages: where, how many, and how they go. Two words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRange {
    pub address: u64,
    pub count: u64,
    /// Pages of 2 MiB; else of 4 KiB.
    pub large: bool,
    pub mode: PageMode,
}

/// Most pages of a range that can be decoded. A message of more than [`MESSAGE_PAGES_MAX`] is
/// refused as too long, and so many pages have fewer than 2^64 bytes.
const COUNT_MAX: u64 = 1 << 30;
const MODE: u64 = 3;
const LARGE: u64 = 1 << 2;
const LOW: u64 = crate::PAGE_SIZE - 1;

impl PageRange {
    /// Pages of 4 KiB.
    pub const fn new(mode: PageMode, address: u64, count: u64) -> PageRange {
        PageRange { address, count, large: false, mode }
    }

    /// Encodes the range: address, mode in bits 0 and 1, size in bit 2; then the count.
    pub const fn words(self) -> [u64; 2] {
        [self.address | self.mode as u64 | if self.large { LARGE } else { 0 }, self.count]
    }

    /// Decodes words; `None` if no range has these [`PageRange::words`].
    pub const fn from_words(words: [u64; 2]) -> Option<PageRange> {
        let [first, count] = words;
        let (large, address) = (first & LARGE != 0, first & !LOW);
        let mode = match first & MODE {
            0 => PageMode::Move,
            1 => PageMode::Share,
            2 => PageMode::Copy,
            _ => return None,
        };
        let range = PageRange { address, count, large, mode };
        let fits = first & LOW & !(MODE | LARGE) == 0 && address & (range.page_size() - 1) == 0;
        if fits && count >= 1 && count <= COUNT_MAX { Some(range) } else { None }
    }

    pub const fn log2(self) -> u8 {
        if self.large { crate::LARGE_PAGE_LOG2 } else { crate::PAGE_LOG2 }
    }

    pub const fn page_size(self) -> u64 {
        1 << self.log2()
    }

    pub const fn bytes(self) -> u64 {
        self.count << self.log2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_survive_being_words() {
        for mode in PageMode::ALL {
            for large in [false, true] {
                let range = PageRange { address: 0x4020_0000, count: 5, large, mode };
                assert_eq!(PageRange::from_words(range.words()), Some(range));
            }
        }
        let wrong = [[0x1003, 1], [0x1008, 1], [0x1004, 1], [0x1000, 0], [0x1000, u64::MAX]];
        for words in wrong {
            assert_eq!(PageRange::from_words(words), None, "{words:x?}");
        }
    }
}
