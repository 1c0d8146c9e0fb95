//! Marks: words that say who wrote them, and for whom.
//!
//! A roomer writes a mark wherever it can: in registers, in its UTCB, in pages. Nobody copies another's word. So where a
//! mark turns up, the kernel has brought it, and its writer must have sent it there.

use super::ROOM_PROCESSES;

/// The upper bits of each mark. No number that the kernel makes begins so.
const TAG: u64 = 0xa5c3;
/// The room whose page is shown to others, and those that may see what it writes there.
const SHOWN_BY: usize = 2;

/// For whom a mark was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum For {
    /// For nobody: it is in a register that no operation takes, or behind the words that a message has.
    Nobody = 1,
    /// For the room: it is sent in a group that only the room has, or stands in a page of the room's.
    Room,
    /// For the room, and for those with whom it exchanges messages.
    Peers,
    /// For whoever sees the page that the last room shows.
    Viewers,
}

impl For {
    const ALL: [For; 4] = [For::Nobody, For::Room, For::Peers, For::Viewers];
}

/// The room that a process is of.
pub fn room_of(process: usize) -> usize {
    process / ROOM_PROCESSES
}

/// The mark of a process, with a number of its own.
pub fn mark(process: usize, whom: For, number: u64) -> u64 {
    TAG << 48 | (whom as u64) << 40 | (process as u64) << 32 | number & 0xffff_ffff
}

/// A word that is no mark, whatever it was.
pub fn unmarked(word: u64) -> u64 {
    if word >> 48 == TAG { word & 0xffff } else { word }
}

/// Whether a process may see a word.
pub fn may_see(process: usize, word: u64) -> bool {
    if word >> 48 != TAG {
        return true;
    }
    let writer = (word >> 32 & 0xff) as usize;
    let (from, to) = (room_of(writer), room_of(process));
    match For::ALL.into_iter().find(|whom| *whom as u64 == word >> 40 & 0xff) {
        Some(For::Nobody) => writer == process,
        Some(For::Room) => from == to,
        Some(For::Peers) => from == to || from < SHOWN_BY && to < SHOWN_BY,
        Some(For::Viewers) => from == SHOWN_BY,
        None => false,
    }
}
