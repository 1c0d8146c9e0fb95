//! Report lines with a checksum: `WORD sum=SUM TEXT`.
//!
//! A serial line may lose or change bytes, and a number that lacks a digit is still a valid number.
//! So the bench's lines have a checksum of their text, which `decode` checks in a capture.

/// Returns the sum of a line's text, by Fletcher: it detects a lost or changed byte, and two
/// neighbours in the wrong order.
pub fn line_sum(text: &str) -> u16 {
    let (low, high) = text.bytes().fold((0, 0), |(low, high): (u16, u16), byte| {
        let low = (low + u16::from(byte)) % 255;
        (low, (high + low) % 255)
    });
    high << 8 | low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_loses_shows() {
        // As RFC 1146's and others' examples have it.
        assert_eq!((line_sum("abcde"), line_sum("abcdef"), line_sum("abcdefgh")), (0xc8f0, 0x2057, 0x0627));
        let whole = line_sum("min=1200 p50=1300");
        for damaged in ["min=120 p50=1300", "min=1200 p50=130", "min=1020 p50=1300", "min=1200 p50=1308"] {
            assert_ne!(line_sum(damaged), whole, "{damaged}");
        }
    }
}
