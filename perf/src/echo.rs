//! The message that clients send and expect back.

pub const WORDS: [u64; 4] = [0x1111, 0x2222, 0x3333, 0x4444];

/// Compares the words with those of the message, register by register: a comparison of arrays would
/// store them in memory, in the middle of the measured code.
#[inline(always)]
pub fn same_words([a, b, c, d]: [u64; 4]) -> bool {
    (a ^ WORDS[0]) | (b ^ WORDS[1]) | (c ^ WORDS[2]) | (d ^ WORDS[3]) == 0
}
