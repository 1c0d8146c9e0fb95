//! Prints a message without its schema: its structs and lists, and their words.
//!
//! The format's pointers describe what they point to: a struct with its numbers of words and
//! pointers, a list with the size of its elements, or a capability. They do not contain names and
//! types of fields.

use core::fmt::{self, Formatter};

use crate::{capability, words_of};

/// Pointers that are followed, at most, and how deep.
const POINTERS_MAX: u32 = 512;
const DEPTH_MAX: usize = 16;
/// Words of a list that are shown.
const WORDS_MAX: usize = 32;

/// Shows a message of one segment, beginning with its root pointer.
pub fn show(message: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    let mut walk = Walk { message, left: POINTERS_MAX };
    walk.pointer("root", 0, 1, f)
}

/// Returns whether bytes begin as a message does: with a pointer to a struct in the message. Few
/// other bytes do.
pub fn is_message(message: &[u8]) -> bool {
    let walk = Walk { message, left: 0 };
    walk.word(0).is_some_and(|root| {
        let shape = Shape::of(root);
        root != 0 && root & 3 == 0 && walk.target(0, root, shape.data + shape.pointers).is_some()
    })
}

struct Walk<'a> {
    message: &'a [u8],
    left: u32,
}

/// Words and pointers of a struct, or of each element of a list.
#[derive(Clone, Copy)]
struct Shape {
    data: usize,
    pointers: usize,
}

impl Shape {
    /// Decodes the shape of a struct from the upper half of its pointer.
    const fn of(word: u64) -> Shape {
        Shape { data: (word >> 32) as u16 as usize, pointers: (word >> 48) as usize }
    }
}

impl Walk<'_> {
    fn word(&self, at: usize) -> Option<u64> {
        words_of(self.message).nth(at)
    }

    /// Where the pointer in word `at` points: behind it by its offset, if so many words are there.
    fn target(&self, at: usize, word: u64, words: usize) -> Option<usize> {
        let offset = (word as u32 as i32) >> 2;
        let target = (at + 1).checked_add_signed(offset as isize)?;
        (target.checked_add(words)? <= self.message.len() / 8).then_some(target)
    }

    fn pointer(
        &mut self,
        name: impl fmt::Display,
        at: usize,
        depth: usize,
        f: &mut Formatter<'_>,
    ) -> fmt::Result {
        (0..depth).try_for_each(|_| f.write_str("  "))?;
        write!(f, "{name}: ")?;
        let Some(word) = self.word(at) else { return f.write_str("behind the end of the message\n") };
        if word == 0 {
            return f.write_str("nothing\n");
        }
        if self.left == 0 || depth > DEPTH_MAX {
            return f.write_str("…\n");
        }
        self.left -= 1;
        match word & 3 {
            0 => {
                let shape = Shape::of(word);
                match self.target(at, word, shape.data + shape.pointers) {
                    Some(target) => self.structure(target, shape, depth, f),
                    None => writeln!(f, "a struct outside the message ({word:#018x})"),
                }
            }
            1 => self.list(at, word, depth, f),
            2 => writeln!(f, "in another segment ({word:#018x})"),
            _ => match capability::place(word) {
                Some(place) => writeln!(f, "capability {place} of those that came along"),
                None => writeln!(f, "no pointer that is known ({word:#018x})"),
            },
        }
    }

    fn structure(&mut self, at: usize, shape: Shape, depth: usize, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "struct of {} words, {} pointers:", shape.data, shape.pointers)?;
        self.words(at, shape.data, f)?;
        (0..shape.pointers).try_for_each(|n| self.pointer(Numbered(n), at + shape.data + n, depth + 1, f))
    }

    fn words(&self, at: usize, count: usize, f: &mut Formatter<'_>) -> fmt::Result {
        for word in words_of(self.message).skip(at).take(count.min(WORDS_MAX)) {
            write!(f, " {word:#x}")?;
        }
        f.write_str(if count > WORDS_MAX { " …\n" } else { "\n" })
    }

    fn list(&mut self, at: usize, word: u64, depth: usize, f: &mut Formatter<'_>) -> fmt::Result {
        let (kind, count) = ((word >> 32) as usize & 7, (word >> 35) as usize);
        const BITS: [usize; 7] = [0, 1, 8, 16, 32, 64, 64];
        let words = match BITS.get(kind) {
            Some(bits) => (count * bits).div_ceil(64),
            // Of structs: the count is of words behind the tag.
            None => count + 1,
        };
        let Some(target) = self.target(at, word, words) else {
            return writeln!(f, "a list outside the message ({word:#018x})");
        };
        match kind {
            7 => self.structs(target, count, depth, f),
            6 => {
                writeln!(f, "list of {count} pointers")?;
                (0..count)
                    .take(WORDS_MAX)
                    .try_for_each(|n| self.pointer(Numbered(n), target + n, depth + 1, f))
            }
            2 => {
                write!(f, "list of {count} bytes: ")?;
                self.bytes(target, count, f)
            }
            _ => {
                write!(f, "list of {count} elements of {} bits:", BITS[kind])?;
                self.words(target, words, f)
            }
        }
    }

    /// Writes a list of structs, with all that they point to. The list's first word says how many
    /// structs there are, and the size of each.
    fn structs(&mut self, at: usize, words: usize, depth: usize, f: &mut Formatter<'_>) -> fmt::Result {
        let tag = self.word(at).unwrap_or(0);
        let (count, shape) = ((tag as u32 >> 2) as usize, Shape::of(tag));
        if count.saturating_mul(shape.data + shape.pointers) > words {
            return writeln!(f, "a list with more structs than words ({tag:#018x})");
        }
        writeln!(f, "list of {count} structs")?;
        for n in (0..count).take(WORDS_MAX) {
            (0..=depth).try_for_each(|_| f.write_str("  "))?;
            write!(f, "[{n}]: ")?;
            self.structure(at + 1 + n * (shape.data + shape.pointers), shape, depth + 1, f)?;
        }
        Ok(())
    }

    fn bytes(&self, at: usize, count: usize, f: &mut Formatter<'_>) -> fmt::Result {
        let bytes = &self.message[at * 8..at * 8 + count];
        let shown = &bytes[..count.min(8 * WORDS_MAX)];
        let text = shown.strip_suffix(&[0]).unwrap_or(shown);
        match core::str::from_utf8(text) {
            Ok(text) if !text.contains(|letter: char| letter.is_control()) => writeln!(f, "{text:?}"),
            _ => {
                shown.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("\n")
            }
        }
    }
}

/// A place in a list, or among pointers.
struct Numbered(usize);

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0)
    }
}
