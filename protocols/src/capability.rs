//! Capabilities in messages: pointers to the capabilities that a message carries.
//!
//! A field of type `Capability` is a capability pointer of the format: an index into the
//! *capability table*. The table is the message's list of capabilities, which the kernel transfers;
//! the kernel never looks into messages.
//!
//! The crate `capnp` represents such pointers by objects on the heap, with promises of calls. Here
//! functions that are generated for each such field read and write them as plain words. `grant_…`
//! puts a capability into the table of a message that is being made ([`Given`]). `granted_…`
//! returns a place in the table of a received message. The receiver of the table knows which
//! capability is at that place, if any.

use capnp::raw::{get_list_bytes, get_struct_pointer_section};
use capnp::traits::IntoInternalStructReader;
use heapless::Vec;

/// Capabilities that travel with a message, at most.
pub const TABLE_MAX: usize = 4;

/// Low half of a word that points to a capability; the index is the upper half.
const KIND: u32 = 3;

/// The word for a pointer to this place of the table.
pub const fn pointer(place: u32) -> u64 {
    KIND as u64 | (place as u64) << 32
}

/// The place in the table that a word points to, if it points to a capability.
pub const fn place(word: u64) -> Option<u32> {
    if word as u32 == KIND { Some((word >> 32) as u32) } else { None }
}

/// The words of a struct that are pointers.
fn pointers<'a>(of: impl IntoInternalStructReader<'a>) -> &'a [[u8; 8]] {
    get_list_bytes(get_struct_pointer_section(of)).as_chunks().0
}

/// The place that a struct's pointer says, by its number; `None` where it has none, or it points to
/// something else.
pub fn of_field<'a>(of: impl IntoInternalStructReader<'a>, number: usize) -> Option<u32> {
    place(u64::from_le_bytes(*pointers(of).get(number)?))
}

/// More capabilities than a message can have, [`TABLE_MAX`], or a pointer that the struct does not
/// have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// The capabilities for a message that is being made, in the kernel's form, and the words that
/// point to them.
#[derive(Debug)]
pub struct Given<G> {
    grants: Vec<G, TABLE_MAX>,
    /// Where these words are: their addresses, which are not followed.
    words: Vec<usize, TABLE_MAX>,
}

impl<G> Given<G> {
    pub const fn nothing() -> Given<G> {
        Given { grants: Vec::new(), words: Vec::new() }
    }

    /// Gives a capability by a struct's pointer, in place of what it gave before.
    pub fn point<'a>(
        &mut self,
        of: impl IntoInternalStructReader<'a>,
        number: usize,
        grant: G,
    ) -> Result<(), Full> {
        let word = pointers(of).get(number).ok_or(Full)?.as_ptr() as usize;
        if let Some(place) = self.words.iter().position(|known| *known == word) {
            self.grants[place] = grant;
            return Ok(());
        }
        self.grants.push(grant).map_err(|_| Full)?;
        self.words.push(word).map_err(|_| Full)
    }

    /// Writes the pointers into the message, now that it is made.
    pub(crate) fn write(&self, message: &mut [u8]) {
        let start = message.as_ptr() as usize;
        for (word, place) in self.words.iter().zip(0..) {
            let at = word.checked_sub(start).map(|offset| offset / 8);
            if let Some(to) = at.and_then(|at| message.as_chunks_mut().0.get_mut(at)) {
                *to = pointer(place).to_le_bytes();
            }
        }
    }

    /// Returns the capabilities that the message gives, for the system call.
    pub fn grants(&self) -> &[G] {
        &self.grants
    }
}
