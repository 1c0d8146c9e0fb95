//! Reads a file while another process still writes it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Delivers what was appended to a file since it was last asked. The file need not exist yet.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
}

impl Tail {
    pub fn new(path: &Path) -> Tail {
        Tail { path: path.to_owned(), file: None }
    }

    /// Returns new bytes; empty if there are none.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }
}

/// Cuts bytes into lines of text; what is not UTF-8 is shown as such.
#[derive(Default, Debug)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Returns the lines that these bytes complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.partial.extend_from_slice(bytes);
        let Some(end) = self.partial.iter().rposition(|&b| b == b'\n') else { return Vec::new() };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        whole[..end].split(|&b| b == b'\n').map(text).collect()
    }

    /// Returns the line that the end of the stream cut short, if there is one.
    pub fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.partial);
        (!rest.is_empty()).then(|| text(&rest))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\r').to_owned()
}

/// Makes text that a program chose a part of one line. Escapes its control characters, so that it
/// can neither look like a line of the kernel or of this tool, nor control the terminal.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_and_the_rest_at_the_end() {
        let mut lines = Lines::default();
        assert!(lines.push(b"aur").is_empty());
        assert_eq!(lines.push(b"ora\r\n\nx\xff"), ["aurora", ""]);
        assert_eq!(lines.finish().as_deref(), Some("x\u{fffd}"));
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn a_program_says_one_line_at_a_time() {
        assert_eq!(
            one_line("a\n\u{1b}[31maurora: exit pass\r\u{9b}"),
            "a\\n\\u{1b}[31maurora: exit pass\\r\\u{9b}"
        );
        assert_eq!(one_line("grün = 1 \\n"), "grün = 1 \\n");
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_empty() {
        let mut tail = Tail::new(Path::new("/nonexistent/aurora"));
        assert!(tail.read().expect("not found is not an error").is_empty());
    }
}
