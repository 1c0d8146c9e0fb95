//! Edits one line, and remembers the last ones. It works on any terminal: it only prints
//! characters, and moves the cursor back by backspaces. A line is so short that it stays within
//! one line of a terminal.

use core::fmt::{self, Write};

use heapless::{Deque, String, Vec};

use crate::keys::Key;

/// Characters of a line: with the prompt it fits in 79 columns.
pub const LINE_MAX: usize = 71;
/// Lines that are remembered.
const HISTORY: usize = 32;
const BELL: char = '\x07';
const BACK: char = '\x08';

pub type Line = String<LINE_MAX>;

/// What a key led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The line is not complete.
    More,
    Line(Line),
    /// The person dropped it.
    Cancelled,
    /// There will be no more lines.
    End,
}

#[derive(Default)]
pub struct Editor {
    line: Vec<u8, LINE_MAX>,
    cursor: usize,
    history: Deque<Line, HISTORY>,
    /// How far back in the history the shown line is; 0: it is a new one.
    back: usize,
    /// The new line, while an earlier one is shown.
    kept: Vec<u8, LINE_MAX>,
}

impl Editor {
    /// Acts on a key, and prints what a person is to see of it.
    pub fn press(&mut self, key: Key, out: &mut impl Write) -> Result<Outcome, fmt::Error> {
        match key {
            Key::Letter(letter) => self.insert(letter, out)?,
            Key::Enter => return self.enter(out),
            Key::Backspace => self.remove(self.cursor.saturating_sub(1)..self.cursor, out)?,
            Key::Delete => self.remove(self.cursor..(self.cursor + 1).min(self.line.len()), out)?,
            Key::Left => self.go(self.cursor.saturating_sub(1), out)?,
            Key::Right => self.go((self.cursor + 1).min(self.line.len()), out)?,
            Key::Home => self.go(0, out)?,
            Key::End => self.go(self.line.len(), out)?,
            Key::Up => self.browse(self.back + 1, out)?,
            Key::Down => match self.back.checked_sub(1) {
                Some(back) => self.browse(back, out)?,
                None => out.write_char(BELL)?,
            },
            Key::KillRest => self.remove(self.cursor..self.line.len(), out)?,
            Key::KillBefore => self.remove(0..self.cursor, out)?,
            Key::KillWord => self.remove(self.word_begin()..self.cursor, out)?,
            Key::Redraw => self.redraw(self.line.len(), out)?,
            Key::Cancel => {
                out.write_char('\n')?;
                self.clear();
                return Ok(Outcome::Cancelled);
            }
            Key::Eof if self.line.is_empty() => return Ok(Outcome::End),
            Key::Eof => self.remove(self.cursor..(self.cursor + 1).min(self.line.len()), out)?,
            Key::Other => out.write_char(BELL)?,
        }
        Ok(Outcome::More)
    }

    fn enter(&mut self, out: &mut impl Write) -> Result<Outcome, fmt::Error> {
        out.write_char('\n')?;
        let line = self.line.iter().map(|letter| char::from(*letter)).collect::<Line>();
        self.clear();
        let is_new = self.history.back() != Some(&line);
        if !line.trim().is_empty() && is_new {
            if self.history.is_full() {
                self.history.pop_front();
            }
            _ = self.history.push_back(line.clone());
        }
        Ok(Outcome::Line(line))
    }

    fn clear(&mut self) {
        self.line.clear();
        self.kept.clear();
        (self.cursor, self.back) = (0, 0);
    }

    fn insert(&mut self, letter: u8, out: &mut impl Write) -> fmt::Result {
        if self.line.insert(self.cursor, letter).is_err() {
            return out.write_char(BELL);
        }
        self.cursor += 1;
        out.write_char(char::from(letter))?;
        self.rest(0, out)
    }

    /// Removes letters, which end or begin at the cursor.
    fn remove(&mut self, range: core::ops::Range<usize>, out: &mut impl Write) -> fmt::Result {
        if range.is_empty() {
            return out.write_char(BELL);
        }
        self.go(range.start, out)?;
        let count = range.len();
        self.line.copy_within(range.end.., range.start);
        self.line.truncate(self.line.len() - count);
        self.rest(count, out)
    }

    fn go(&mut self, to: usize, out: &mut impl Write) -> fmt::Result {
        for _ in to..self.cursor {
            out.write_char(BACK)?;
        }
        for letter in self.line.get(self.cursor..to).into_iter().flatten() {
            out.write_char(char::from(*letter))?;
        }
        self.cursor = to;
        Ok(())
    }

    /// Prints the letters from the cursor on, and blanks where `gone` more were.
    fn rest(&mut self, gone: usize, out: &mut impl Write) -> fmt::Result {
        for letter in &self.line[self.cursor..] {
            out.write_char(char::from(*letter))?;
        }
        for _ in 0..gone {
            out.write_char(' ')?;
        }
        for _ in 0..self.line.len() - self.cursor + gone {
            out.write_char(BACK)?;
        }
        Ok(())
    }

    /// Prints the whole line where one of `shown` letters is.
    fn redraw(&mut self, shown: usize, out: &mut impl Write) -> fmt::Result {
        let cursor = self.cursor;
        self.go(0, out)?;
        self.rest(shown.saturating_sub(self.line.len()), out)?;
        self.go(cursor, out)
    }

    /// Shows the line that is so far back in the history.
    fn browse(&mut self, back: usize, out: &mut impl Write) -> fmt::Result {
        if back > self.history.len() {
            return out.write_char(BELL);
        }
        if self.back == 0 {
            self.kept.clone_from(&self.line);
        }
        let shown = self.line.len();
        self.go(0, out)?;
        self.back = back;
        match self.history.len().checked_sub(back).and_then(|place| self.history.get(place)) {
            Some(earlier) => self.line = Vec::from_slice(earlier.as_bytes()).unwrap_or_default(),
            None => self.line.clone_from(&self.kept),
        }
        self.rest(shown.saturating_sub(self.line.len()), out)?;
        self.go(self.line.len(), out)
    }

    /// Returns where the word before the cursor begins.
    fn word_begin(&self) -> usize {
        let before = &self.line[..self.cursor];
        let end = before.iter().rposition(|letter| *letter != b' ').map_or(0, |last| last + 1);
        before[..end].iter().rposition(|letter| *letter == b' ').map_or(0, |blank| blank + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;

    /// A terminal that knows only characters, backspace and the end of a line.
    #[derive(Default)]
    struct Screen {
        line: std::vec::Vec<char>,
        cursor: usize,
        bells: u32,
    }

    impl Write for Screen {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for letter in text.chars() {
                match letter {
                    BACK => self.cursor -= 1,
                    BELL => self.bells += 1,
                    '\n' => *self = Screen { bells: self.bells, ..Screen::default() },
                    _ => {
                        assert!(self.cursor < LINE_MAX, "it does not wrap");
                        if self.cursor == self.line.len() {
                            self.line.push(' ');
                        }
                        self.line[self.cursor] = letter;
                        self.cursor += 1;
                    }
                }
            }
            Ok(())
        }
    }

    impl Screen {
        fn text(&self) -> std::string::String {
            self.line.iter().collect::<std::string::String>().trim_end().to_owned()
        }
    }

    fn press(editor: &mut Editor, screen: &mut Screen, bytes: &[u8]) -> std::vec::Vec<Outcome> {
        let mut keys = Keys::default();
        let mut outcomes = std::vec::Vec::new();
        for key in bytes.iter().filter_map(|byte| keys.push(*byte)) {
            let outcome = editor.press(key, screen).expect("the screen takes all");
            let line = std::string::String::from_utf8(editor.line.to_vec()).expect("ASCII");
            assert_eq!((screen.text(), screen.cursor), (line.trim_end().to_owned(), editor.cursor));
            if outcome != Outcome::More {
                outcomes.push(outcome);
            }
        }
        outcomes
    }

    fn lines(bytes: &[u8]) -> std::vec::Vec<std::string::String> {
        let outcomes = press(&mut Editor::default(), &mut Screen::default(), bytes);
        let lines = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Line(line) => Some(line.to_string()),
            _ => None,
        });
        lines.collect()
    }

    #[test]
    fn letters_are_put_in_and_removed_at_the_cursor() {
        assert_eq!(lines(b"hallo\x1b[D\x1b[D\x1b[D\x7fe\r"), ["hello"]);
        assert_eq!(lines(b"bc\x01a\x05d\r"), ["abcd"]);
        assert_eq!(lines(b"one two three\x17\x174\r"), ["one 4"]);
        assert_eq!(lines(b"one two\x1b[D\x1b[D\x0b!\r"), ["one t!"]);
        assert_eq!(lines(b"one two\x1b[D\x15!\r"), ["!o"]);
        assert_eq!(lines(b"abc\x01\x1b[3~\x04\r"), ["c"]);
    }

    #[test]
    fn earlier_lines_come_back() {
        assert_eq!(lines(b"one\rtwo\rtwo\r\rnew\x1b[A\x1b[A\r"), ["one", "two", "two", "", "one"]);
        assert_eq!(lines(b"one\rnew\x1b[A\x1b[B\r"), ["one", "new"]);
        assert_eq!(lines(b"one\rtwo\r\x1b[A\x1b[A\x1b[A\x1b[A\x7f\r"), ["one", "two", "on"]);
        let mut many = std::vec::Vec::new();
        (0..40).for_each(|n| many.extend(format!("line {n}\r").bytes()));
        many.extend(b"\x1b[A".repeat(50));
        many.push(b'\r');
        assert_eq!(lines(&many).last().map(|line| line.as_str()), Some("line 8"));
    }

    #[test]
    fn what_cannot_be_done_rings() {
        let mut editor = Editor::default();
        let mut screen = Screen::default();
        press(&mut editor, &mut screen, &[b'x'; LINE_MAX + 5]);
        assert_eq!((screen.bells, editor.line.len()), (5, LINE_MAX));
        press(&mut editor, &mut screen, b"\x1b[B\x0b\x09");
        assert_eq!(screen.bells, 8);
        press(&mut editor, &mut screen, b"\x0c\x01\x7f");
        assert_eq!(screen.bells, 9);
    }

    #[test]
    fn a_line_is_dropped_and_the_end_is_seen() {
        let mut editor = Editor::default();
        let mut screen = Screen::default();
        let outcomes = press(&mut editor, &mut screen, b"abc\x03\x04");
        assert_eq!(outcomes, [Outcome::Cancelled, Outcome::End]);
    }

    #[test]
    fn any_bytes_do_no_harm() {
        let mut seed = 12345u32;
        let mut editor = Editor::default();
        let mut screen = Screen::default();
        let mut bytes = std::vec::Vec::new();
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes.push((seed >> 24) as u8 & 0x7f);
        }
        press(&mut editor, &mut screen, &bytes);
    }
}
