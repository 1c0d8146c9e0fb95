//! The guest's markers: eight-byte no-operations with a magic displacement.

/// Length of a marker, which is one instruction.
pub const LENGTH: usize = 8;

/// `nop dword [rax + rax*1 + disp32]`.
const OPCODE: [u8; 4] = [0x0f, 0x1f, 0x84, 0x00];
/// Upper half of the displacement.
const MAGIC: [u8; 2] = [0x52, 0x41];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Marker {
    /// The CPU works for this region from here on.
    Begin(u8),
    /// … up to here.
    End(u8),
    /// One operation of the region is complete.
    Op(u8),
    /// So many bytes, this marker's included, are never counted.
    Skip(u8),
    /// The samples that follow are of another row.
    Row,
    /// A task of this CPU waits until a time.
    Due,
    /// That task runs again, in this region.
    Woke(u8),
    /// The CPU works for this region from its next interrupt on, to the region's next operation.
    Gate(u8),
    /// Stretches with interrupts off count from here on, on all CPUs, and those before do not; 0:
    /// no more of them count.
    Stretches(u8),
}

impl Marker {
    /// Decodes an instruction that is a marker; `None` for other instructions.
    pub fn decode(instruction: &[u8]) -> Option<Marker> {
        let bytes: [u8; LENGTH] = instruction.try_into().ok()?;
        let [a, b, c, d, argument, kind, low, high] = bytes;
        if [a, b, c, d] != OPCODE || [low, high] != MAGIC {
            return None;
        }
        Marker::from_parts(kind, argument)
    }

    /// Returns the marker's kind and argument, as they are in the instruction's displacement.
    pub fn parts(self) -> (u8, u8) {
        match self {
            Marker::Begin(id) => (1, id),
            Marker::End(id) => (2, id),
            Marker::Op(id) => (3, id),
            Marker::Skip(length) => (4, length),
            Marker::Row => (5, 0),
            Marker::Due => (6, 0),
            Marker::Woke(id) => (7, id),
            Marker::Stretches(count) => (8, count),
            Marker::Gate(id) => (9, id),
        }
    }

    pub fn from_parts(kind: u8, argument: u8) -> Option<Marker> {
        match kind {
            1 => Some(Marker::Begin(argument)),
            2 => Some(Marker::End(argument)),
            3 => Some(Marker::Op(argument)),
            4 => Some(Marker::Skip(argument)),
            5 => Some(Marker::Row),
            6 => Some(Marker::Due),
            7 => Some(Marker::Woke(argument)),
            8 => Some(Marker::Stretches(argument)),
            9 => Some(Marker::Gate(argument)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_told_from_padding() {
        assert_eq!(Marker::decode(&[0x0f, 0x1f, 0x84, 0, 0x14, 3, 0x52, 0x41]), Some(Marker::Op(0x14)));
        assert_eq!(Marker::decode(&[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]), None);
        assert_eq!(Marker::decode(&[0x0f, 0x1f, 0x84, 0, 1, 10, 0x52, 0x41]), None);
        assert_eq!(Marker::decode(&[0x90]), None);
    }

    #[test]
    fn parts_make_the_marker_again() {
        let all = [Marker::Begin(1), Marker::End(2), Marker::Op(3), Marker::Skip(4), Marker::Row];
        for marker in
            all.into_iter().chain([Marker::Due, Marker::Woke(7), Marker::Stretches(1), Marker::Gate(9)])
        {
            let (kind, argument) = marker.parts();
            assert_eq!(Marker::from_parts(kind, argument), Some(marker));
        }
    }
}
