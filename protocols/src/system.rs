//! The description of a system, as process 1 reads it in place: `schema/system.capnp`.
//!
//! ```
//! # fn all(file: &[u8]) -> protocols::capnp::Result<()> {
//! let message = protocols::system::open(file);
//! for process in message.get_root::<protocols::system::system::Reader<'_>>()?.get_processes()? {
//!     let (name, priority) = (protocols::system::text(process.get_name()), process.get_priority());
//! #   let _ = (name, priority);
//! }
//! # Ok(())
//! # }
//! ```

use capnp::message::{Reader, ReaderOptions};
use capnp::primitive_list;

use crate::{NESTING_MAX, Segment};

pub use crate::stubs::system::*;

/// Returns the reader of a compiled description: whole words, and aligned, or else reading it is an
/// error.
///
/// The reader visits as many words as it is asked for, since process 1 keeps it as long as the
/// machine runs. So the description must be trusted, as a file of the boot archive is.
pub fn open(message: &[u8]) -> Reader<Segment<'_>> {
    let limits = ReaderOptions { traversal_limit_in_words: None, nesting_limit: NESTING_MAX };
    Reader::new(Segment(message), limits)
}

/// Returns a text of a description; an empty one if it cannot be read, which the host tool does not
/// write.
pub fn text<'a>(field: capnp::Result<capnp::text::Reader<'a>>) -> &'a str {
    field.ok().and_then(|text| text.to_str().ok()).unwrap_or_default()
}

/// Returns the CPUs of a process from `first` on, a multiple of 64, as SchedAllow takes them: bit 0
/// is `first`.
pub fn cpus_from(cpus: primitive_list::Reader<'_, u64>, first: u32) -> u64 {
    if cpus.is_empty() {
        return u64::MAX;
    }
    let word = first / u64::BITS;
    if word < cpus.len() { cpus.get(word) } else { 0 }
}
