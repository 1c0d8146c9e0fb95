//! Marks: words that name their writer and their readers.
//!
//! A roomer writes marks wherever it can: in registers, in its UTCB, in pages. No roomer copies
//! another's word. So every mark that a roomer sees was put there by the kernel, and its writer
//! must have sent it there.

use super::ROOM_PROCESSES;

/// Upper bits of each mark. No number of the kernel begins so.
const TAG: u64 = 0xa5c3;
/// The room that shows a page to others, and the rooms that may see what it writes there.
const SHOWN_BY: usize = 2;

/// The readers of a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum For {
    /// No reader: it is in a register that no operation takes, or after the words of a message.
    Nobody = 1,
    /// The room: it is sent in a group of only this room, or is in a page of the room.
    Room,
    /// The room, and the rooms with which it exchanges messages.
    Peers,
    /// All rooms that see the page that the last room shows.
    Viewers,
}

impl For {
    const ALL: [For; 4] = [For::Nobody, For::Room, For::Peers, For::Viewers];
}

/// Returns the room of a process.
pub fn room_of(process: usize) -> usize {
    process / ROOM_PROCESSES
}

/// Returns a mark of a process, with a number of its own.
pub fn mark(process: usize, whom: For, number: u64) -> u64 {
    TAG << 48 | (whom as u64) << 40 | (process as u64) << 32 | number & 0xffff_ffff
}

/// Makes a word that is no mark of any word.
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
