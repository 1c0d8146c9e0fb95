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

/// What shows letters.
pub trait Cells {
    /// Shows a letter of ASCII in a cell, counted from the top left, below [`COLUMNS`] times
    /// [`ROWS`].
    fn show(&mut self, cell: usize, letter: u8);
}

/// Lines of text that scroll.
pub struct Screen<C> {
    cells: C,
    text: [[u8; COLUMNS]; ROWS],
    row: usize,
    column: usize,
}

impl<C: Cells> Screen<C> {
    pub const fn new(cells: C) -> Screen<C> {
        Screen { cells, text: [[BLANK; COLUMNS]; ROWS], row: 0, column: 0 }
    }

    /// Redraws everything, whatever was on the screen before.
    pub fn redraw(&mut self) {
        for (cell, &letter) in self.text.as_flattened().iter().enumerate() {
            self.cells.show(cell, letter);
        }
    }

    fn put(&mut self, letter: u8) {
        // A line that is exactly full is followed by no empty one.
        if self.column == COLUMNS {
            self.end_line();
        }
        self.text[self.row][self.column] = letter;
        self.cells.show(self.row * COLUMNS + self.column, letter);
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

impl<C: Cells> fmt::Write for Screen<C> {
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

/// The memory of a PC's text screen, as the direct map shows it.
#[cfg(target_os = "none")]
pub struct TextMemory(());

#[cfg(target_os = "none")]
impl TextMemory {
    /// # Safety
    /// From now on there is a text screen at [`TEXT_SCREEN`](crate::boot::info::TEXT_SCREEN), which
    /// the direct map shows.
    pub const unsafe fn new() -> TextMemory {
        TextMemory(())
    }
}

#[cfg(target_os = "none")]
impl Cells for TextMemory {
    fn show(&mut self, cell: usize, letter: u8) {
        /// Light grey on black.
        const LOOK: u16 = 0x0700;
        assert!(cell < COLUMNS * ROWS, "cell {cell} is not on the screen");
        let first = (crate::layout::DIRECT_MAP + crate::boot::info::TEXT_SCREEN) as *mut u16;
        // SAFETY: the cells are in the page that the direct map shows (`new`), which nothing refers
        // to.
        unsafe { first.add(cell).write_volatile(LOOK | u16::from(letter)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use std::string::{String, ToString};
    use std::vec::Vec;

    /// A screen on which something was before.
    struct Seen([u8; COLUMNS * ROWS]);

    impl Cells for Seen {
        fn show(&mut self, cell: usize, letter: u8) {
            self.0[cell] = letter;
        }
    }

    fn screen() -> Screen<Seen> {
        let mut screen = Screen::new(Seen([b'#'; COLUMNS * ROWS]));
        screen.redraw();
        screen
    }

    fn lines(screen: &Screen<Seen>) -> Vec<String> {
        let line = |cells: &[u8]| String::from_utf8_lossy(cells).trim_end().to_string();
        screen.cells.0.chunks(COLUMNS).map(line).collect()
    }

    #[test]
    fn what_was_there_before_is_gone() {
        let mut screen = screen();
        write!(screen, "a\nb\tü").unwrap();
        let seen = lines(&screen);
        assert_eq!(seen[..2], ["a", "b??"]);
        assert!(seen[2..].iter().all(String::is_empty), "{seen:?}");
    }

    #[test]
    fn the_last_lines_stay() {
        let mut screen = screen();
        for line in 0..60 {
            writeln!(screen, "line {line}").unwrap();
        }
        let seen = lines(&screen);
        assert_eq!((seen[0].as_str(), seen[ROWS - 2].as_str()), ("line 36", "line 59"));
        assert_eq!(seen[ROWS - 1], "", "the next line");
    }

    #[test]
    fn long_lines_go_on_below_and_full_ones_do_not() {
        let mut screen = screen();
        writeln!(screen, "{}", "x".repeat(COLUMNS)).unwrap();
        writeln!(screen, "{}!", "y".repeat(COLUMNS)).unwrap();
        write!(screen, "end").unwrap();
        let seen = lines(&screen);
        assert_eq!((seen[0].len(), seen[1].len()), (COLUMNS, COLUMNS));
        assert_eq!(seen[2..4], ["!", "end"]);
    }
}
