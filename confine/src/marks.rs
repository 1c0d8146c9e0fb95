//! Marks: words that name the process that wrote them and the processes that may see them.
//!
//! A process writes no word without its mark, and no process copies another's word. So if a mark
//! appears somewhere, the kernel has put it there, and its writer must have sent it.

/// The upper bits of each mark. No number that the kernel makes begins so.
const TAG: u64 = 0xa5c3 << 48;
const TAG_MASK: u64 = 0xffff << 48;
const PLACE_BITS: u32 = 8;

/// A word with a mark: in which act it was written, and at which place of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The number of the act.
    pub act: u32,
    /// The number of the word in the act.
    pub place: u8,
}

impl Mark {
    /// Returns the word that carries the mark.
    pub const fn word(self) -> u64 {
        TAG | (self.act as u64) << PLACE_BITS | self.place as u64
    }

    /// Decodes a word, if it carries a mark.
    pub const fn of(word: u64) -> Option<Mark> {
        if word & TAG_MASK != TAG || word >> PLACE_BITS & 0xff_0000_0000 != 0 {
            return None;
        }
        Some(Mark { act: (word >> PLACE_BITS) as u32, place: word as u8 })
    }
}

/// An act of writing: who wrote, and who may see what.
#[derive(Clone, Debug, Default)]
struct Act {
    /// The number of the process.
    writer: u32,
    /// How many words, from the first on, were sent.
    sent: u32,
    /// The processes to which they were sent: a bit each.
    readers: u64,
    /// Single words that others may see, too: place, and the processes.
    others: Vec<(u8, u64)>,
    /// The label of the object that was written to, where that was a page.
    label: Option<u32>,
}

/// Knows of each mark who may see it. Processes are numbers below 64.
#[derive(Default)]
pub struct Ledger {
    acts: Vec<Act>,
}

impl Ledger {
    /// Removes all acts from the ledger.
    pub fn clear(&mut self) {
        self.acts.clear();
    }

    /// Records that a process writes words, which no other process may see. Returns the number of
    /// this act of writing.
    pub fn write(&mut self, writer: u32, label: Option<u32>) -> u32 {
        self.acts.push(Act { writer, label, ..Act::default() });
        self.acts.len() as u32 - 1
    }

    /// Records that the first `words` words of an act are sent to the processes in the bit set
    /// `readers`.
    pub fn send(&mut self, act: u32, words: u32, readers: u64) {
        if let Some(act) = self.acts.get_mut(act as usize) {
            act.sent = act.sent.max(words);
            act.readers |= readers;
        }
    }

    /// Records that the processes in the bit set `readers` may see a word.
    pub fn show(&mut self, mark: Mark, readers: u64) {
        let Some(act) = self.acts.get_mut(mark.act as usize) else { return };
        match act.others.iter_mut().find(|(place, _)| *place == mark.place) {
            Some((_, known)) => *known |= readers,
            None => act.others.push((mark.place, readers)),
        }
    }

    /// Returns the process that wrote a word.
    pub fn writer(&self, mark: Mark) -> Option<u32> {
        self.acts.get(mark.act as usize).map(|act| act.writer)
    }

    /// Returns the label of the page to which a word was written.
    pub fn label(&self, mark: Mark) -> Option<u32> {
        self.acts.get(mark.act as usize)?.label
    }

    /// Returns whether a process may see a word. No process may see a word that no process wrote.
    pub fn may_see(&self, mark: Mark, process: u32) -> bool {
        let Some(act) = self.acts.get(mark.act as usize) else { return false };
        let bit = 1u64 << (process & 63);
        let sent = u32::from(mark.place) < act.sent && act.readers & bit != 0;
        let shown = |(place, readers): &(u8, u64)| *place == mark.place && readers & bit != 0;
        act.writer == process || sent || act.others.iter().any(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_a_word() {
        let mark = Mark { act: 77, place: 3 };
        assert_eq!(Mark::of(mark.word()), Some(mark));
        assert_eq!([0, u64::MAX, 77 << 8].map(Mark::of), [None; 3]);
    }

    #[test]
    fn words_are_seen_by_those_to_whom_they_were_sent() {
        let mut ledger = Ledger::default();
        let act = ledger.write(1, None);
        let mark = |place| Mark { act, place };
        assert!(ledger.may_see(mark(0), 1) && !ledger.may_see(mark(0), 2));
        ledger.send(act, 2, 1 << 2);
        assert_eq!([0, 1, 2].map(|place| ledger.may_see(mark(place), 2)), [true, true, false]);
        ledger.show(mark(9), 1 << 2);
        assert!(ledger.may_see(mark(9), 2) && !ledger.may_see(mark(9), 3));
        assert!(!ledger.may_see(Mark { act: 5, place: 0 }, 1), "nobody wrote that");
    }
}
