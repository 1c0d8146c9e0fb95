//! Capabilities in messages: pointers that say which of the capabilities that come along they mean.
//!
//! A field of type `Capability` is such a pointer on the wire, as the format has it: an index into the *capability
//! table*. The table travels beside the message, by the kernel's means; the kernel never looks into messages.
//!
//! Readers of the format know such pointers by objects on the heap, with promises of calls; what a pointer says is read
//! here instead, from the words of the message.

use capnp::raw::{get_struct_data_section, get_struct_pointer_section};
use capnp::traits::IntoInternalStructReader;

/// Capabilities that travel with a message, at most.
pub const TABLE_MAX: usize = 4;

/// Low half of a word that points to a capability; the index is the upper half.
const KIND: u32 = 3;

/// The word for a pointer to this place of the table.
pub const fn pointer(index: u32) -> u64 {
    KIND as u64 | (index as u64) << 32
}

/// The place in the table that a word points to, if it points to a capability.
pub const fn index(word: u64) -> Option<u32> {
    if word as u32 == KIND { Some((word >> 32) as u32) } else { None }
}

/// Which word of the message a struct's pointer is; `None` where it has no such pointer, or is not in these bytes, as a struct
/// that was left out is not.
pub fn word_of<'a, S>(message: &[u8], of: S, pointer: u32) -> Option<usize>
where
    S: IntoInternalStructReader<'a> + Clone,
{
    let data = get_struct_data_section(of.clone());
    let pointers = get_struct_pointer_section(of).len();
    let first = (data.as_ptr_range().end as usize).checked_sub(message.as_ptr() as usize)?;
    let place = first / 8 + pointer as usize;
    (pointer < pointers && first.is_multiple_of(8) && place < message.len() / 8).then_some(place)
}
