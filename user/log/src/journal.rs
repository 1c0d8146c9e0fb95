//! The lines that the log keeps: the last ones, as many as there is room for.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Lines that are kept at most, and bytes of all their texts.
const LINES: usize = 512;
const BYTES: usize = 32 << 10;
/// A sender with more than this part of the lines makes room for its own.
const SHARES: usize = 8;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    pub number: u64,
    /// Microseconds.
    pub time: u64,
    pub sender: u16,
    pub level: u8,
    pub text: Vec<u8>,
}

/// The lines that a reader wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub from: u64,
    /// Not 0: of the last so many lines only.
    pub last: u32,
    pub sender: Option<u16>,
    pub level: u8,
}

pub struct Journal {
    lines: VecDeque<Line>,
    bytes: usize,
    /// The number of the next line.
    next: u64,
}

impl Journal {
    pub fn new() -> Journal {
        // It never grows: a heap that others fragment has no room for a larger one.
        Journal { lines: VecDeque::with_capacity(LINES + 1), bytes: 0, next: 0 }
    }

    pub fn push(&mut self, time: u64, sender: u16, level: u8, text: Vec<u8>) {
        self.bytes += text.len();
        self.lines.push_back(Line { number: self.next, time, sender, level, text });
        self.next += 1;
        while self.bytes > BYTES || self.lines.len() > LINES {
            let Some(line) = self.to_drop().and_then(|place| self.lines.remove(place)) else { break };
            self.bytes -= line.text.len();
        }
    }

    /// Returns the place of the line that goes first: the oldest of the last sender, if that has
    /// more than its share of the lines, and otherwise the oldest of all.
    fn to_drop(&self) -> Option<usize> {
        let sender = self.lines.back()?.sender;
        let is_its = |line: &&Line| line.sender == sender;
        let has_more = self.lines.iter().filter(is_its).count() > LINES / SHARES;
        if has_more { self.lines.iter().position(|line| line.sender == sender) } else { Some(0) }
    }

    pub fn find(&self, wanted: &Wanted) -> Option<&Line> {
        let from = match wanted.last {
            0 => wanted.from,
            last => wanted.from.max(self.next.saturating_sub(last.into())),
        };
        let fits = |line: &&Line| {
            let sent = wanted.sender.is_none_or(|sender| line.sender == sender);
            line.number >= from && line.level <= wanted.level && sent
        };
        self.lines.iter().find(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Wanted = Wanted { from: 0, last: 0, sender: None, level: u8::MAX };

    fn numbers(journal: &Journal, wanted: Wanted) -> Vec<u64> {
        let mut found = Vec::new();
        let mut wanted = wanted;
        while let Some(line) = journal.find(&wanted) {
            found.push(line.number);
            wanted.from = line.number + 1;
        }
        found
    }

    #[test]
    fn lines_are_found_by_sender_level_and_age() {
        let mut journal = Journal::new();
        for number in 0..10u8 {
            journal.push(number.into(), u16::from(number % 3), number % 4, vec![b'x'; 3]);
        }
        assert_eq!(numbers(&journal, ALL), (0..10).collect::<Vec<_>>());
        assert_eq!(numbers(&journal, Wanted { last: 3, ..ALL }), [7, 8, 9]);
        assert_eq!(numbers(&journal, Wanted { sender: Some(1), ..ALL }), [1, 4, 7]);
        assert_eq!(numbers(&journal, Wanted { level: 1, from: 2, ..ALL }), [4, 5, 8, 9]);
        assert_eq!(numbers(&journal, Wanted { from: u64::MAX, ..ALL }), []);
    }

    #[test]
    fn the_oldest_make_room() {
        let mut journal = Journal::new();
        (0..2 * LINES).for_each(|number| journal.push(0, number as u16, 0, Vec::new()));
        assert_eq!(numbers(&journal, ALL).first(), Some(&(LINES as u64)));
        (0..100).for_each(|_| journal.push(0, 7, 0, vec![b'x'; 400]));
        assert!(journal.bytes <= BYTES);
        journal.push(0, 8, 0, vec![b'x'; BYTES + 1]);
        assert_eq!((journal.lines.len(), journal.bytes), (0, 0), "what is too long is not kept");
    }

    #[test]
    fn many_lines_of_one_sender_push_out_its_own() {
        let mut journal = Journal::new();
        (0..LINES / 2).for_each(|_| journal.push(0, 1, 0, vec![b'x'; 8]));
        (0..10 * LINES).for_each(|_| journal.push(0, 2, 0, vec![b'y'; 8]));
        assert_eq!(numbers(&journal, Wanted { sender: Some(1), ..ALL }).len(), LINES / 2);
        assert_eq!(numbers(&journal, Wanted { sender: Some(2), ..ALL }).len(), LINES / 2);
    }
}
