//! Messages of [`protocols`], by calls: four words in registers, up to 64 behind them in the UTCB; longer ones by
//! [parcels](crate::parcel).
//!
//! ```text
//! let store = store::Client(Line::to(exposure));
//! store.get(|mut get| get.set_slot(7))?;                        // ask
//!
//! with_bytes(&call.message, |bytes| {                             // answer
//!     store::serve(&mut server, &call, call.message.label, bytes, |answer| put(store::ANSWER, answer))
//! })
//! ```
//!
//! # Where messages are read
//! Words that came in registers and in the UTCB are the receiver's own only until its next system call, so they are copied,
//! as many as came, before they are read. A parcel whose pages moved is read [where it came](crate::parcel::Parcel::Moved):
//! nobody else can write there, so it is plain memory. One that was copied to a tray is copied out of it first
//! ([`crate::parcel::Tray::copy_to`]): its sender may still write there.

use core::fmt;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use protocols::{REGISTERS, Transport, UTCB_WORDS, WORDS_MAX, Words, words_of};

use crate::cap::Exposure;
use crate::ipc::{Message, Patience};
use crate::{Refusal, report, utcb};

const _: () = assert!(UTCB_WORDS == abi::MSG_UTCB_WORDS);

/// Asks whoever is exposed somewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    to: Exposure,
    patience: Patience,
}

impl Line {
    pub const fn to(to: Exposure) -> Line {
        Line { to, patience: Patience::Forever }
    }

    pub const fn within(self, patience: Patience) -> Line {
        Line { patience, ..self }
    }
}

impl Transport for Line {
    type Error = Refusal;

    fn call<R>(&self, label: u32, message: &[u8], read: impl FnOnce(u32, &[u8]) -> R) -> Result<R, Refusal> {
        let answer = self.to.call_within(&put(label, message), self.patience)?;
        Ok(with_bytes(&answer, |bytes| read(answer.label, bytes)))
    }
}

/// Whether messages are reported.
static SHOWN: AtomicBool = AtomicBool::new(false);
/// Words in a reported line.
const LINE_WORDS: usize = 16;

/// From now on all messages that this process sends are reported, as lines that `aurora-bench message` understands.
pub fn report_all() {
    SHOWN.store(true, Relaxed);
}

/// Reports a message.
pub fn show(label: u32, message: &[u8]) {
    for (line, at) in message.chunks(LINE_WORDS * size_of::<u64>()).zip((0..).step_by(LINE_WORDS)) {
        report!("message label={label:#x} at={at} words={}", Hex(line));
    }
}

/// Words in hexadecimal.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (word, n) in words_of(self.0).zip(0..) {
            write!(f, "{}{word:x}", if n == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Puts a message where the next system call finds it: all of [`WORDS_MAX`] words at most, the rest is left out.
pub fn put(label: u32, message: &[u8]) -> Message {
    if SHOWN.load(Relaxed) {
        show(label, message);
    }
    let mut words = words_of(message);
    let regs = core::array::from_fn::<_, REGISTERS, _>(|_| words.next().unwrap_or(0));
    let rest = words.len().min(UTCB_WORDS);
    if rest > 0 {
        for (to, word) in utcb::current().message().iter().zip(words) {
            to.store(word, Relaxed);
        }
    }
    Message::with_words(label, regs, rest as u8)
}

/// The words of a message that has just come, copied.
pub fn with_bytes<R>(message: &Message, read: impl FnOnce(&[u8]) -> R) -> R {
    if message.words == 0 {
        return read(Words::<REGISTERS>::of(message.regs.into_iter()).bytes());
    }
    let count = usize::from(message.words).min(UTCB_WORDS);
    let rest = utcb::current().message()[..count].iter().map(|word| word.load(Relaxed));
    let words = Words::<WORDS_MAX>::of(message.regs.into_iter().chain(rest));
    read(&words.bytes()[..(REGISTERS + count) * size_of::<u64>()])
}
