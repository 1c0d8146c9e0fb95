//! Records as lines of text.
//!
//! ```text
//! :slot at table number …
//! slot 3f40 1000 5 …
//! ```
//! A text ends with the line [`END`]; without that line it is incomplete. Before the first record
//! of a type, a line names the type's fields. So a reader that knows more or fewer fields still
//! understands the others. A field that is 0 is `-`; fields that are 0 at the end of a line are
//! left out.

use crate::record::{Record, Sink};

/// The last line of a text.
pub const END: &str = ":end";

/// Writes records as text. Each piece of text goes to a closure, which needs no memory for it.
pub struct Writer<W: FnMut(&str)> {
    write: W,
    /// Which types have had their line of fields: a bit each, by their place in the list of all.
    named: u64,
}

impl<W: FnMut(&str)> Writer<W> {
    /// Makes a writer that has written nothing, and passes each piece of text to `write`.
    pub const fn new(write: W) -> Writer<W> {
        Writer { write, named: 0 }
    }

    /// Writes the last line, which marks the text as complete.
    pub fn finish(mut self) {
        (self.write)(END);
        (self.write)("\n");
    }

    fn line<R: Record>(&mut self, number: u32, record: &R) {
        if self.named & 1 << number == 0 {
            self.named |= 1 << number;
            (self.write)(":");
            (self.write)(R::NAME);
            for field in R::FIELDS {
                (self.write)(" ");
                (self.write)(field);
            }
            (self.write)("\n");
        }
        (self.write)(R::NAME);
        let mut zeros = 0;
        record.each_word(|word| {
            if word == 0 {
                zeros += 1;
                return;
            }
            for _ in 0..core::mem::take(&mut zeros) {
                (self.write)(" -");
            }
            self.number(word);
        });
        (self.write)("\n");
    }

    fn number(&mut self, word: u64) {
        let mut digits = [b' '; 17];
        let mut at = digits.len();
        let mut rest = word;
        while rest != 0 {
            at -= 1;
            digits[at] = b"0123456789abcdef"[(rest & 15) as usize];
            rest >>= 4;
        }
        if let Ok(text) = core::str::from_utf8(&digits[at - 1..]) {
            (self.write)(text);
        }
    }
}

macro_rules! write_each {
    ($($type:ident $method:ident $list:ident;)*) => {
        /// The place of each type in the list of all.
        #[allow(non_camel_case_types, reason = "named as the methods of a sink are")]
        #[derive(Clone, Copy)]
        enum Number { $($method,)* }

        impl<W: FnMut(&str)> Sink for Writer<W> {
            $(
                fn $method(&mut self, record: &crate::$type) {
                    self.line(Number::$method as u32, record);
                }
            )*
        }
    };
}

for_each_record!(write_each);
