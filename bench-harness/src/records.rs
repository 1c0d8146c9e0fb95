//! The record stream of the log port: framing, and resynchronisation.
//!
//! A record is `0xA5, channel: u8, length: u16 LE, payload`. Channel 0 is the kernel's log.
//! Channels 1 to 0x7f are the logs of the programs of the boot archive, in its order. Channel 0x80
//! has report lines, 0x82 the events of a tracing kernel. Channel 0x83 has snapshots of kernel
//! state, 0x84 the number of lines that COM1 has got. Bytes outside records are skipped one at a
//! time until a header fits again, and counted, so that a lost byte costs a record and not the rest
//! of the run.

/// First byte of every record.
pub const MAGIC: u8 = 0xA5;
/// Channel of the kernel's log.
pub const KERNEL: u8 = 0;
/// Channel of report lines.
pub const REPORT: u8 = 0x80;
/// Channel of traced events.
pub const TRACE: u8 = test_abi::trace::TRACE_CHANNEL;
/// Channel of snapshots of kernel state: records in a row are texts, one behind the other.
pub const SNAPSHOT: u8 = 0x83;
/// Channel of how many lines COM1 has got (u32, little-endian): where they stand among the records.
pub const LINES: u8 = 0x84;
/// Highest channel that there is.
const HIGHEST: u8 = LINES;
/// Longest payload that is believed; guests build records in one page.
pub const LONGEST: usize = 4096;

const HEADER: usize = 4;

/// One record, or a stretch of bytes that was none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    Record { channel: u8, payload: Vec<u8> },
    Skipped(usize),
}

/// Cuts a byte stream, delivered in arbitrary chunks, into pieces.
#[derive(Default, Debug)]
pub struct Splitter {
    bytes: Vec<u8>,
    start: usize,
}

impl Splitter {
    pub fn push(&mut self, chunk: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(chunk);
    }

    /// Returns how many bytes wait for the rest of their record.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Skips the beginning of a record that never ends, because no more bytes come. Returns whether
    /// there was such a beginning.
    pub fn give_up(&mut self) -> bool {
        let is_waiting = self.pending() > 0;
        if is_waiting {
            self.skip();
        }
        is_waiting
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn skip(&mut self) -> Piece {
        let rest = self.rest();
        let next = rest[1..].iter().position(|&b| b == MAGIC).map_or(rest.len(), |at| at + 1);
        self.start += next;
        Piece::Skipped(next)
    }
}

impl Iterator for Splitter {
    type Item = Piece;

    /// Returns the next piece, or `None` until more bytes are pushed.
    fn next(&mut self) -> Option<Piece> {
        let rest = self.rest();
        if *rest.first()? != MAGIC {
            return Some(self.skip());
        }
        if *rest.get(1)? > HIGHEST {
            return Some(self.skip());
        }
        let header: [u8; HEADER] = rest.get(..HEADER)?.try_into().ok()?;
        let [_, channel, low, high] = header;
        let length = usize::from(u16::from_le_bytes([low, high]));
        if length > LONGEST {
            return Some(self.skip());
        }
        let payload = rest.get(HEADER..HEADER + length)?.to_vec();
        self.start += HEADER + length;
        Some(Piece::Record { channel, payload })
    }
}

/// Returns the bytes of one record, as a guest would send them.
pub fn encode(channel: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a record's payload is at most 4096 bytes");
    let mut bytes = vec![MAGIC, channel];
    bytes.extend(length.to_le_bytes());
    bytes.extend(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<Piece> {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        for chunk in chunks {
            splitter.push(chunk);
            pieces.extend(splitter.by_ref());
        }
        pieces
    }

    #[test]
    fn garbage_costs_itself_only() {
        let mut bytes = b"noise".to_vec();
        bytes.extend(encode(REPORT, b"done"));
        bytes.extend([MAGIC, 0xff, 0, 0]);
        bytes.extend(encode(KERNEL, &[1, 2]));
        assert_eq!(
            split(&[&bytes]),
            [
                Piece::Skipped(5),
                Piece::Record { channel: REPORT, payload: b"done".to_vec() },
                Piece::Skipped(4),
                Piece::Record { channel: KERNEL, payload: vec![1, 2] },
            ]
        );
    }

    #[test]
    fn absurd_length_is_not_waited_for() {
        let mut bytes = vec![MAGIC, 0, 0xff, 0xff];
        bytes.extend(encode(1, b"x"));
        assert_eq!(split(&[&bytes])[1], Piece::Record { channel: 1, payload: b"x".to_vec() });
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_records(
            records in prop::collection::vec((0u8..=HIGHEST, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            chunk in 1usize..17,
        ) {
            let bytes: Vec<u8> = records.iter().flat_map(|(c, p)| encode(*c, p)).collect();
            let chunks: Vec<&[u8]> = bytes.chunks(chunk).collect();
            let expected: Vec<Piece> = records
                .into_iter()
                .map(|(channel, payload)| Piece::Record { channel, payload })
                .collect();
            prop_assert_eq!(split(&chunks), expected);
        }

        #[test]
        fn no_bytes_make_it_panic_or_lose_count(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut splitter = Splitter::default();
            splitter.push(&bytes);
            let seen: usize = splitter.by_ref().map(|piece| match piece {
                Piece::Record { payload, .. } => HEADER + payload.len(),
                Piece::Skipped(n) => n,
            }).sum();
            prop_assert_eq!(seen + splitter.pending(), bytes.len());
        }
    }
}
