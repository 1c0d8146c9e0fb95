//! A line of the text: words, with blanks between them.

use std::fmt::{Display, Write};

/// A line.
pub struct Line(String);

impl Line {
    /// Begins a line with a word.
    pub fn new(word: &str) -> Line {
        Line(word.to_owned())
    }

    pub fn into_text(self) -> String {
        self.0
    }

    /// Adds a word.
    pub fn word(&mut self, word: impl Display) {
        // Writing to a string does not fail.
        let _ = write!(self.0, " {word}");
    }

    /// Adds a word if `on`.
    pub fn flag(&mut self, word: &str, on: bool) {
        if on {
            self.word(word);
        }
    }

    /// Adds `key=value`.
    pub fn value(&mut self, key: &str, value: impl Display) {
        self.word(format_args!("{key}={value}"));
    }

    /// Adds a decimal number.
    pub fn number(&mut self, key: &str, value: impl Into<u64>) {
        self.value(key, value.into());
    }

    /// Adds a hexadecimal number.
    pub fn hex(&mut self, key: &str, value: impl Into<u64>) {
        self.word(format_args!("{key}={:x}", value.into()));
    }

    /// Adds a list, also if it is empty: a missing list would look like one that was not read.
    pub fn list(&mut self, key: &str, items: impl IntoIterator<Item = String>) {
        let items: Vec<String> = items.into_iter().collect();
        self.word(format_args!("{key}=[{}]", items.join(" ")));
    }
}
