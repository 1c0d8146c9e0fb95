//! Checks whether a log frame may be given to the decoder.
//!
//! [`defmt_decoder`] trusts each length of a slice, and follows each nested format. A program may
//! build a frame by hand: 24 bytes with a length of 4 billion would take all memory of the host,
//! and 1,000 bytes of nested formats a thread's stack. Either would end the harness without a
//! verdict on the run.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use anyhow::Result;
use defmt_parser::{Fragment, ParserMode, Type};
use object::{Object, ObjectSection, ObjectSymbol};

/// Formats within formats at most.
const DEPTH_MAX: usize = 32;
/// The most elements of all slices of a frame, except slices of bytes.
const ELEMENTS_MAX: usize = 4096;

/// The format strings of a program, by their index.
pub struct Formats {
    timestamp: String,
    by_index: BTreeMap<usize, String>,
}

impl Formats {
    pub fn read(elf: &[u8]) -> Result<Formats> {
        let file = object::File::parse(elf)?;
        let mut formats = Formats { timestamp: String::new(), by_index: BTreeMap::new() };
        let sections =
            file.sections().filter(|section| section.name().is_ok_and(|it| it.starts_with(".defmt")));
        let sections: Vec<_> = sections.map(|section| section.index()).collect();
        let is_there = |index| sections.contains(&index);
        for symbol in file.symbols().filter(|symbol| symbol.section_index().is_some_and(is_there)) {
            let entry = symbol.name().ok().and_then(|name| serde_json::from_str(name).ok());
            let Some(serde_json::Value::Object(entry)) = entry else { continue };
            let text = |key| entry.get(key).and_then(serde_json::Value::as_str);
            match (text("tag"), text("data")) {
                (Some("defmt_timestamp"), Some(format)) => formats.timestamp = format.to_owned(),
                (_, Some(format)) => {
                    drop(formats.by_index.insert(symbol.address() as usize, format.to_owned()))
                }
                _ => {}
            }
        }
        Ok(formats)
    }

    /// Returns whether the frame at the beginning of a record is nested deeper, or has more
    /// elements, than any that a guest sends.
    pub fn is_excessive(&self, frame: &[u8]) -> bool {
        let mut walk = Walk { formats: self, rest: frame, elements: ELEMENTS_MAX };
        walk.frame() == Err(Stop::Excess)
    }
}

/// Why a walk ends early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    Excess,
    /// The frame is cut short or malformed: its decoder says so, and at this place.
    NoFrame,
}

/// Passes over the values of a frame in the order in which the decoder reads them.
struct Walk<'f, 'b> {
    formats: &'f Formats,
    rest: &'b [u8],
    /// How many elements the rest may have.
    elements: usize,
}

impl<'f> Walk<'f, '_> {
    fn frame(&mut self) -> Result<(), Stop> {
        let format = self.number(2).map(|index| self.formats.by_index.get(&index))?;
        self.values(&self.formats.timestamp, DEPTH_MAX)?;
        self.values(format.ok_or(Stop::NoFrame)?, DEPTH_MAX)
    }

    fn pass(&mut self, count: usize) -> Result<(), Stop> {
        self.rest = self.rest.get(count..).ok_or(Stop::NoFrame)?;
        Ok(())
    }

    fn number(&mut self, count: usize) -> Result<usize, Stop> {
        let bytes = self.rest.get(..count).ok_or(Stop::NoFrame)?;
        self.pass(count)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn format(&mut self) -> Result<&'f str, Stop> {
        let index = self.number(2)?;
        self.formats.by_index.get(&index).map(String::as_str).ok_or(Stop::NoFrame)
    }

    /// Returns the part of an enumeration's format that counts, or the whole format if it is none.
    fn variant(&mut self, format: &'f str) -> Result<&'f str, Stop> {
        let bars = format.matches('|').count();
        if bars == 0 {
            return Ok(format);
        }
        let number = self.number(if bars <= usize::from(u8::MAX) { 1 } else { 2 })?;
        format.split('|').nth(number).ok_or(Stop::NoFrame)
    }

    fn values(&mut self, format: &str, depth: usize) -> Result<(), Stop> {
        let depth = depth.checked_sub(1).ok_or(Stop::Excess)?;
        types(format)?.into_values().try_for_each(|of| self.value(&of, depth))
    }

    fn value(&mut self, of: &Type, depth: usize) -> Result<(), Stop> {
        match of {
            Type::Bool | Type::I8 | Type::U8 => self.pass(1),
            Type::I16 | Type::U16 | Type::IStr => self.pass(2),
            Type::I32 | Type::U32 | Type::Isize | Type::Usize | Type::F32 | Type::Char => self.pass(4),
            Type::I64 | Type::U64 | Type::F64 => self.pass(8),
            Type::I128 | Type::U128 => self.pass(16),
            Type::BitField(bits) => self.pass(bytes_of(bits)),
            Type::Str | Type::U8Slice => self.number(4).and_then(|count| self.pass(count)),
            Type::U8Array(count) => self.pass(*count),
            Type::Debug | Type::Display => {
                let end = self.rest.iter().position(|byte| *byte == u8::MAX).ok_or(Stop::NoFrame)?;
                self.pass(end + 1)
            }
            Type::Format => {
                let format = self.format()?;
                let variant = self.variant(format)?;
                self.values(variant, depth)
            }
            Type::FormatSlice => self.number(4).and_then(|count| self.slice(count, depth)),
            Type::FormatArray(count) => self.slice(*count, depth),
            Type::FormatSequence => self.sequence(depth),
        }
    }

    fn slice(&mut self, count: usize, depth: usize) -> Result<(), Stop> {
        self.elements = self.elements.checked_sub(count).ok_or(Stop::Excess)?;
        let format = self.format()?;
        (0..count).try_for_each(|_| {
            let variant = self.variant(format)?;
            self.values(variant, depth)
        })
    }

    fn sequence(&mut self, depth: usize) -> Result<(), Stop> {
        while self.rest.get(..2) != Some(&[0, 0]) {
            let format = self.format()?;
            self.values(format, depth)?;
        }
        self.pass(2)
    }
}

/// Returns the type of each argument of a format. Bits of one argument are read together.
fn types(format: &str) -> Result<BTreeMap<usize, Type>, Stop> {
    let fragments = defmt_parser::parse(format, ParserMode::ForwardsCompatible).map_err(|_| Stop::NoFrame)?;
    let mut types = BTreeMap::new();
    for fragment in fragments {
        let Fragment::Parameter(parameter) = fragment else { continue };
        match (types.entry(parameter.index), parameter.ty) {
            (Entry::Vacant(place), of) => drop(place.insert(of)),
            (Entry::Occupied(mut known), Type::BitField(more)) => {
                if let Type::BitField(bits) = known.get_mut() {
                    *bits = bits.start.min(more.start)..bits.end.max(more.end);
                }
            }
            _ => {}
        }
    }
    Ok(types)
}

/// Returns the bytes in which an argument's bits are sent.
fn bytes_of(bits: &Range<u8>) -> usize {
    let first = usize::from(bits.start) / 8;
    (usize::from(bits.end).div_ceil(8) - first).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats(strings: &[&str]) -> Formats {
        let by_index = (1..).zip(strings.iter().map(|it| (*it).to_owned())).collect();
        Formats { timestamp: "{=u32:us} {=u8}".to_owned(), by_index }
    }

    /// Makes a frame of a format, with its time stamp.
    fn frame(index: u8, values: &[u8]) -> Vec<u8> {
        [&[index, 0, 1, 2, 3, 4, 5], values].concat()
    }

    /// Walks over a whole frame. Returns the result, and how many bytes it leaves.
    fn walk(formats: &Formats, frame: &[u8]) -> (Result<(), Stop>, usize) {
        let mut walk = Walk { formats, rest: frame, elements: ELEMENTS_MAX };
        (walk.frame(), walk.rest.len())
    }

    #[test]
    fn a_slice_is_as_long_as_a_record_can_be() {
        let formats = formats(&["{=[?]}", "{=u8}", "nothing", "{=[?;5000]}"]);
        let slice = |count: u32, of: u8| frame(1, &[&count.to_le_bytes()[..], &[of, 0]].concat());
        assert_eq!(walk(&formats, &[&slice(3, 2)[..], &[7, 8, 9, 10]].concat()), (Ok(()), 1));
        assert!(!formats.is_excessive(&slice(ELEMENTS_MAX as u32, 3)));
        for (count, of) in [(u32::MAX, 2), (ELEMENTS_MAX as u32 + 1, 3)] {
            assert!(formats.is_excessive(&slice(count, of)), "{count} of {of}");
        }
        assert!(formats.is_excessive(&frame(4, &[3, 0])));
        assert_eq!(walk(&formats, &slice(9, 2)).0, Err(Stop::NoFrame), "it is cut short");
    }

    #[test]
    fn a_frame_is_as_deep_as_a_program_has_reason_for() {
        let formats = formats(&["{}", "{=__internal_FormatSequence}", "end"]);
        for index in [1, 2] {
            let chain =
                |depth: usize| frame(index, &[[index, 0].repeat(depth), [3, 0, 0, 0].to_vec()].concat());
            assert!(!formats.is_excessive(&chain(DEPTH_MAX - 3)), "{index}");
            assert!(formats.is_excessive(&chain(DEPTH_MAX)), "{index}");
            assert!(formats.is_excessive(&chain(500)), "{index}");
        }
    }

    #[test]
    fn each_value_takes_its_bytes() {
        let formats = formats(&[
            "{=u16} {=str} {} {=bool} {=istr} {=char}",
            "a|b({=u64})",
            "{0=0..3} {0=9..17} {1=u8}",
            "{=__internal_Display}",
        ]);
        let values =
            [&[0; 2][..], &[2, 0, 0, 0], b"xy", &[2, 0, 1], &[0; 8], &[1], &[3, 0], &[0; 4]].concat();
        assert_eq!(walk(&formats, &frame(1, &values)), (Ok(()), 0));
        assert_eq!(walk(&formats, &frame(3, &[0; 5])), (Ok(()), 0));
        assert_eq!(walk(&formats, &frame(4, b"text\xffmore")), (Ok(()), 4));
        for cut in 0..values.len() {
            assert_eq!(walk(&formats, &frame(1, &values[..cut])).0, Err(Stop::NoFrame), "{cut}");
        }
    }
}
