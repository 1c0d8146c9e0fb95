//! Messages of [`protocols`], by calls: four words in registers, up to 64 more in the UTCB. Longer
//! messages travel in pages, as [parcels](crate::parcel). Both kinds can carry capabilities.
//!
//! ```text
//! let store = store::Client(Line::to(exposure));
//! store.get(|mut get| get.set_slot(7))?;                        // ask
//!
//! let mut caps = Caps::of(&call.message);                         // answer
//! let answer = with_bytes(&call.message, |bytes| {
//!     store::serve(&mut server, &call, call.message.label, bytes, |answer| put(store::ANSWER, answer))
//! });
//! caps.discard();
//! ```
//!
//! # Where messages are read
//! - Words that came in registers and in the UTCB are copied before they are read: the receiver's
//!   next system call may overwrite them.
//! - A parcel whose pages were moved here, or shared read-only, is read in place ([`with_parcel`]):
//!   no other process can write there, so it is plain memory.
//! - A parcel in a tray is copied out of the tray first: its sender may still write there.

use core::fmt;
use core::sync::atomic::AtomicU8;
use core::sync::atomic::Ordering::Relaxed;

use protocols::capnp::traits::{HasStructSize, Owned};
use protocols::{
    Full, Given, REGISTERS, Transport, UTCB_WORDS, WORDS_MAX, Words, compose_giving_in, words_of,
};

use abi::Grant;

use crate::arch::Buffer;
use crate::cap::Exposure;
use crate::grants::Caps;
use crate::ipc::{Message, Patience};
use crate::parcel::Parcel;
use crate::spawn::own;
use crate::{Refusal, boot, pages, report, utcb};

const _: () = assert!(UTCB_WORDS == abi::MSG_UTCB_WORDS);

/// A line to the task that is exposed at an index.
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

/// A caller that wants capabilities in an answer [listens](crate::utcb::Current::listen) first. The
/// call then waits until the offered slots can be filled.
/// Capabilities that the reader does not take are deleted. Pages belong to no answer: if a window
/// is open for another purpose, pages that come with an answer are released, so that the window is
/// as it was.
impl Transport for Line {
    type Error = Refusal;
    type Grant = Grant;
    type Caps = Caps;

    fn call<R>(
        &self,
        label: u32,
        message: &[u8],
        grants: &[Grant],
        read: impl FnOnce(u32, &[u8], &mut Caps) -> R,
    ) -> Result<R, Refusal> {
        let listens = utcb::current().listening().count > 0;
        let request = Message { listens, ..put_giving(label, message, grants) };
        let answer = self.to.call_within(&request, self.patience)?;
        let mut caps = Caps::of(&answer);
        let done = with_bytes(&answer, |bytes| {
            pages::drop_all(&own::vspace(), &answer);
            read(answer.label, bytes, &mut caps)
        });
        caps.discard();
        Ok(done)
    }
}

/// Whether messages are reported: not known yet, no, yes.
static SHOWN: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const SILENT: u8 = 1;
const SAID: u8 = 2;
/// Words in a reported line.
const LINE_WORDS: usize = 16;

/// Whether the command line says `talk=show`: then all messages that programs send are reported, as
/// lines that `aurora-bench message` understands.
fn is_shown() -> bool {
    match SHOWN.load(Relaxed) {
        UNKNOWN => {
            let shown = boot::options().value("talk") == Some("show");
            SHOWN.store(if shown { SAID } else { SILENT }, Relaxed);
            shown
        }
        known => known == SAID,
    }
}

/// Reports a message, and the capabilities that it gives, as report lines.
pub fn show(label: u32, message: &[u8], grants: &[Grant]) {
    let utcb = utcb::current();
    // A fault's registers may be where records are put together.
    let mut kept = [0; abi::LOG_MAX / size_of::<u64>()];
    utcb.read_bulk(&mut kept);
    let task = utcb.task_id().raw();
    for (line, at) in message.chunks(LINE_WORDS * size_of::<u64>()).zip((0..).step_by(LINE_WORDS)) {
        let grants = Grants(if at == 0 { grants } else { &[] });
        report!("message task={task:#x} label={label:#x} at={at} words={}{grants}", Hex(line));
    }
    utcb.write_bulk(&kept);
}

/// Capabilities that a message gives.
struct Grants<'a>(&'a [Grant]);

impl fmt::Display for Grants<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (grant, n) in self.0.iter().zip(0..) {
            f.write_str(if n == 0 { " caps=" } else { "," })?;
            match grant {
                Grant::Copy { cap, rights, badge } => write!(f, "copy:{}:{:x}:{badge:x}", cap.0, rights.0)?,
                Grant::Move { cap } | Grant::Dispose { cap, .. } | Grant::Settled { cap, .. } => {
                    write!(f, "move:{}", cap.0)?;
                }
            }
        }
        Ok(())
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

/// Puts a message into the registers and the UTCB for the next system call. It has at most
/// [`WORDS_MAX`] words; further words are left out.
pub fn put(label: u32, message: &[u8]) -> Message {
    put_giving(label, message, &[])
}

/// Puts a message with capabilities into the registers and the UTCB for the next system call.
pub fn put_giving(label: u32, message: &[u8], grants: &[Grant]) -> Message {
    if is_shown() {
        show(label, message, grants);
    }
    let mut words = words_of(message);
    let regs = core::array::from_fn::<_, REGISTERS, _>(|_| words.next().unwrap_or(0));
    let rest = words.len().min(UTCB_WORDS);
    if rest > 0 {
        for (to, word) in utcb::current().message().iter().zip(words) {
            to.store(word, Relaxed);
        }
    }
    let put = Message::with_words(label, regs, rest as u8);
    if grants.is_empty() {
        return put;
    }
    utcb::current().send_grants(grants);
    put.with_caps()
}

/// Builds a message of any length in a buffer, from which it can be [sent](crate::parcel::Post)
/// with this label. Puts the capabilities that it gives into the UTCB for the next system call.
/// Returns how many bytes the message has, and whether it gives capabilities.
///
/// # Panics
/// Where it gets longer than the buffer.
pub fn write<T>(
    label: u32,
    buffer: &mut Buffer,
    fill: impl FnOnce(T::Builder<'_>, &mut Given<Grant>) -> Result<(), Full>,
) -> Result<(u64, bool), Full>
where
    T: Owned,
    for<'a> T::Builder<'a>: HasStructSize,
{
    let mut given = Given::nothing();
    let bytes = compose_giving_in::<T, Grant, Full>(buffer.bytes_mut(), &mut given, fill)?;
    if is_shown() {
        show(label, &buffer.bytes()[..bytes], given.grants());
    }
    utcb::current().send_grants(given.grants());
    Ok((bytes as u64, !given.grants().is_empty()))
}

/// Reads the message in a parcel. Reads it in place if no other process can write there, and
/// otherwise copies it to `copy` first. `None` if `copy` is too small.
pub fn with_parcel<R>(parcel: &Parcel<'_>, copy: &mut [u8], read: impl FnOnce(&[u8]) -> R) -> Option<R> {
    let bytes = match parcel {
        Parcel::Moved(buffer, bytes) => &buffer.bytes()[..*bytes as usize],
        Parcel::Shared(view, bytes) => &view.bytes()[..*bytes as usize],
        Parcel::Copied(tray) if tray.bytes() <= copy.len() as u64 => {
            let length = tray.copy_to(copy);
            &copy[..length]
        }
        Parcel::Copied(_) => return None,
    };
    Some(read(bytes))
}

/// Reads a copy of the words of a message that was just received.
pub fn with_bytes<R>(message: &Message, read: impl FnOnce(&[u8]) -> R) -> R {
    if message.words == 0 {
        return read(Words::<REGISTERS>::of(message.regs.into_iter()).bytes());
    }
    let count = usize::from(message.words).min(UTCB_WORDS);
    let rest = utcb::current().message()[..count].iter().map(|word| word.load(Relaxed));
    let words = Words::<WORDS_MAX>::of(message.regs.into_iter().chain(rest));
    read(&words.bytes()[..(REGISTERS + count) * size_of::<u64>()])
}
