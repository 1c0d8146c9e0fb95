//! A message of the run: sender, receiver, number, kind, and a checksum over all of it.
//!
//! | register | holds |
//! |---|---|
//! | label | salt, of which the UTCB words are made |
//! | 0 | sender, receiver, kind, group |
//! | 1 | number between this sender and receiver |
//! | 2 | by kind: the sender's id, or where to forward it and its number there |
//! | 3 | checksum |

use core::sync::atomic::Ordering::Relaxed;

use user_rt::ipc::Message;
use user_rt::utcb;

use guest_tests::random::mix;

/// The request in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Answer it.
    Plain = 1,
    /// Call another seat before answering.
    Nested,
    /// Keep it in the Reply object, receive, then answer.
    Kept,
    /// Forward it.
    Forward,
    /// It was forwarded: answer it.
    Forwarded,
    /// An answer.
    Answer,
    /// The answer of a seat that could not forward it.
    NotForwarded,
}

impl Kind {
    fn from_raw(raw: u8) -> Option<Kind> {
        use Kind::*;
        [Plain, Nested, Kept, Forward, Forwarded, Answer, NotForwarded]
            .into_iter()
            .find(|kind| *kind as u8 == raw)
    }
}

/// The contents of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Letter {
    pub from: usize,
    pub to: usize,
    pub kind: Kind,
    /// Custom bits that the receiver will see; 0: any.
    pub custom: u16,
    pub number: u64,
    pub extra: u64,
    pub salt: u32,
    pub words: u8,
}

/// Damage to a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// The checksum is wrong.
    Checksum { said: u64, is: u64 },
    /// This word of the UTCB is not the one that the sender put there.
    Word(usize),
    /// The kind does not exist.
    Kind(u8),
}

impl Letter {
    /// Writes the words to the UTCB, and returns the message.
    pub fn write(&self) -> Message {
        let words = utcb::current().message();
        for (index, word) in words.iter().take(usize::from(self.words)).enumerate() {
            word.store(self.word(index), Relaxed);
        }
        self.message()
    }

    /// Returns the message with the words that are in the UTCB already.
    pub fn message(&self) -> Message {
        let head = self.from as u64
            | (self.to as u64) << 12
            | (self.kind as u64) << 24
            | u64::from(self.custom) << 32;
        let regs = [head, self.number, self.extra, 0];
        let sum = self.checksum(&regs, |index| self.word(index));
        Message::with_words(self.salt, [head, self.number, self.extra, sum], self.words)
    }

    /// Reads a received message with its words in the UTCB, and checks all of it.
    pub fn read(message: &Message) -> Result<Letter, Damage> {
        let [head, number, extra, said] = message.regs;
        let raw = (head >> 24) as u8;
        let letter = Letter {
            from: head as usize & 0xfff,
            to: head as usize >> 12 & 0xfff,
            kind: Kind::from_raw(raw).ok_or(Damage::Kind(raw))?,
            custom: (head >> 32) as u16,
            number,
            extra,
            salt: message.label,
            words: message.words,
        };
        let words = utcb::current().message();
        let is = letter.checksum(&message.regs, |index| words[index].load(Relaxed));
        if is == said {
            return Ok(letter);
        }
        let wrong = (0..usize::from(letter.words)).find(|i| words[*i].load(Relaxed) != letter.word(*i));
        Err(wrong.map_or(Damage::Checksum { said, is }, Damage::Word))
    }

    /// Returns the sender's contents of a word of the UTCB.
    fn word(&self, index: usize) -> u64 {
        mix((u64::from(self.salt) << 8) + index as u64)
    }

    fn checksum(&self, regs: &[u64; 4], word: impl Fn(usize) -> u64) -> u64 {
        let mut sum = mix(u64::from(self.salt) << 8 | u64::from(self.words));
        for register in &regs[..3] {
            sum = sum.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ register;
        }
        for index in 0..usize::from(self.words) {
            sum = sum.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word(index);
        }
        mix(sum)
    }
}
