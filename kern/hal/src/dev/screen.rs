//! The text screen: the last lines of COM1's output, for a person who has no serial line.
//!
//! It is used only if the loader left a PC's text screen on. The kernel sets no mode, no colours
//! and no cursor. Lines that scroll off are gone. The text is kept in memory, too, because reading
//! a screen's memory takes far longer than writing it.

use core::fmt;

/// Letters of a line.
pub const COLUMNS: usize = 80;
/// Lines.
pub const ROWS: usize = 25;
/// Bytes of a line, letters of a line, lines: what a loader says of such a screen.
pub const SHAPE: [u32; 3] = [2 * COLUMNS as u32, COLUMNS as u32, ROWS as u32];

const BLANK: u8 = b' ';

/// Lines of text that scroll.
pub struct Screen<S> {
    /// Shows a letter of ASCII in a cell, counted from the top left.
    show: S,
    text: [[u8; COLUMNS]; ROWS],
    row: usize,
    column: usize,
}

impl<S: FnMut(usize, u8)> Screen<S> {
    pub const fn new(show: S) -> Screen<S> {
        Screen { show, text: [[BLANK; COLUMNS]; ROWS], row: 0, column: 0 }
    }

    /// Draws the whole screen again, whatever was on it before.
    pub fn redraw(&mut self) {
        for (cell, &letter) in self.text.as_flattened().iter().enumerate() {
            (self.show)(cell, letter);
        }
    }

    fn put(&mut self, letter: u8) {
        // A line that is exactly full is followed by no empty one.
        if self.column == COLUMNS {
            self.end_line();
        }
        self.text[self.row][self.column] = letter;
        (self.show)(self.row * COLUMNS + self.column, letter);
        self.column += 1;
    }

    fn end_line(&mut self) {
        self.column = 0;
        if self.row + 1 < ROWS {
            self.row += 1;
            return;
        }
        self.text.copy_within(1.., 0);
        self.text[ROWS - 1] = [BLANK; COLUMNS];
        self.redraw();
    }
}

impl<S: FnMut(usize, u8)> fmt::Write for Screen<S> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '\n' => self.end_line(),
                ' '..='~' => self.put(letter as u8),
                _ => self.put(b'?'),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use std::string::{String, ToString};
    use std::vec::Vec;

    /// Returns the lines that a person sees on a screen on which something was before.
    fn lines(print: impl FnOnce(&mut dyn Write)) -> Vec<String> {
        let mut seen = [b'#'; COLUMNS * ROWS];
        let mut screen = Screen::new(|cell, letter| seen[cell] = letter);
        screen.redraw();
        print(&mut screen);
        let line = |cells: &[u8]| String::from_utf8_lossy(cells).trim_end().to_string();
        seen.chunks(COLUMNS).map(line).collect()
    }

    #[test]
    fn what_was_there_before_is_gone() {
        let seen = lines(|screen| write!(screen, "a\nb\tü").unwrap());
        assert_eq!(seen[..2], ["a", "b??"]);
        assert!(seen[2..].iter().all(String::is_empty), "{seen:?}");
    }

    #[test]
    fn the_last_lines_stay() {
        let seen = lines(|screen| (0..60).for_each(|line| writeln!(screen, "line {line}").unwrap()));
        assert_eq!((seen[0].as_str(), seen[ROWS - 2].as_str()), ("line 36", "line 59"));
        assert_eq!(seen[ROWS - 1], "", "the next line");
    }

    #[test]
    fn long_lines_go_on_below_and_full_ones_do_not() {
        let (full, long) = ("x".repeat(COLUMNS), "y".repeat(COLUMNS));
        let seen = lines(|screen| write!(screen, "{full}\n{long}!\nend").unwrap());
        assert_eq!((seen[0].len(), seen[1].len()), (COLUMNS, COLUMNS));
        assert_eq!(seen[2..4], ["!", "end"]);
    }
}
