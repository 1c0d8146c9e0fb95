//! Splits pages and Rust sources into paragraphs of prose, each with its line numbers.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// What kind of file a text is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Every line is prose, except in code blocks.
    Markdown,
    /// Only whole-line comments are prose.
    Rust,
}

/// A paragraph, an item of a list or a cell of a table. Code in it is filled with `x`.
#[derive(Debug)]
pub struct Paragraph {
    pub text: String,
    /// Whether the paragraph is the first of a doc comment.
    pub opens_doc: bool,
    /// Where each line of the file begins in `text`, and the line's number.
    lines: Vec<(usize, usize)>,
}

impl Paragraph {
    /// Returns the number of the file's line that has the byte at `offset`.
    pub fn line(&self, offset: usize) -> usize {
        let behind = self.lines.partition_point(|(start, _)| *start <= offset);
        self.lines[behind - 1].1
    }

    /// Returns where the paragraph's sentences are.
    pub fn sentences(&self) -> Vec<Range<usize>> {
        static END: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r#"[.!?][)"*]*\s+[A-Z`*\[(]"#).expect("a pattern"));
        let mut from = 0;
        let mut found = Vec::new();
        for end in END.find_iter(&self.text) {
            found.push(from..end.start() + 1);
            from = end.end() - 1;
        }
        found.push(from..self.text.len());
        found
    }
}

/// Collects lines into paragraphs.
#[derive(Default)]
struct Collector {
    done: Vec<Paragraph>,
    open: Option<Paragraph>,
    /// Inside a block of code.
    code: bool,
}

impl Collector {
    fn close(&mut self) {
        if let Some(mut paragraph) = self.open.take() {
            paragraph.text = without_code(&paragraph.text);
            self.done.push(paragraph);
        }
    }

    fn open(&mut self, number: usize, text: &str, opens_doc: bool) {
        self.close();
        self.open = Some(Paragraph { text: text.to_owned(), opens_doc, lines: vec![(0, number)] });
    }

    /// Takes one line of prose. `starts_doc`: the line is the first of a doc comment.
    fn line(&mut self, number: usize, line: &str, starts_doc: bool) {
        let line = line.trim();
        if line.starts_with("```") {
            self.close();
            self.code = !self.code;
        } else if self.code {
        } else if line.is_empty() || line.starts_with("<!-- ") {
            self.close();
        } else if let Some(row) = line.strip_prefix('|') {
            row.split('|').for_each(|cell| self.open(number, cell.trim(), false));
            self.close();
        } else if line.starts_with('#') {
            self.open(number, line, false);
            self.close();
        } else if starts_doc || begins_item(line) || self.open.is_none() {
            self.open(number, line, starts_doc);
        } else if let Some(open) = &mut self.open {
            open.text.push(' ');
            open.lines.push((open.text.len(), number));
            open.text.push_str(line);
        }
    }

    /// Ends a comment.
    fn end_comment(&mut self) {
        self.close();
        self.code = false;
    }
}

fn begins_item(line: &str) -> bool {
    static ITEM: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^([-*]|[0-9]+\.) ").expect("a pattern"));
    ITEM.is_match(line)
}

/// Fills code between backticks, targets of links and HTML comments with `x`.
fn without_code(text: &str) -> String {
    static CODE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->").expect("a pattern"));
    CODE.replace_all(text, |found: &regex::Captures<'_>| "x".repeat(found[0].len())).into_owned()
}

/// A comment line of a Rust source.
pub struct Comment<'a> {
    /// `//`, `///` or `//!`.
    pub marker: &'a str,
    pub text: &'a str,
}

/// Returns the comment of a line that is nothing else.
pub fn comment(line: &str) -> Option<Comment<'_>> {
    let line = line.trim_start();
    let marker = ["///", "//!", "//"].into_iter().find(|marker| line.starts_with(marker))?;
    Some(Comment { marker, text: &line[marker.len()..] })
}

/// Returns all paragraphs of a file.
pub fn paragraphs(text: &str, kind: Kind) -> Vec<Paragraph> {
    let mut collector = Collector::default();
    let mut marker_before = "";
    for (number, line) in (1..).zip(text.lines()) {
        match kind {
            Kind::Markdown => collector.line(number, line, false),
            Kind::Rust => match comment(line) {
                None => {
                    collector.end_comment();
                    marker_before = "";
                }
                Some(Comment { marker, text }) => {
                    if marker != marker_before {
                        collector.end_comment();
                    }
                    collector.line(number, text, marker != "//" && marker != marker_before);
                    marker_before = marker;
                }
            },
        }
    }
    collector.close();
    collector.done
}

#[test]
fn a_source_has_its_comments_paragraphs() {
    let source = "//! One\n//! two.\n//!\n//! - Three.\n\nfn f() {} // not this\n/// Four `five six`.\n";
    let found: Vec<(String, bool, usize)> = paragraphs(source, Kind::Rust)
        .into_iter()
        .map(|p| (p.text.clone(), p.opens_doc, p.line(p.text.len() - 1)))
        .collect();
    let wanted = [("One two.", true, 2), ("- Three.", false, 4), ("Four xxxxxxxxxx.", true, 7)];
    assert_eq!(found, wanted.map(|(text, opens, line)| (text.to_owned(), opens, line)));
}

#[test]
fn a_page_has_cells_and_no_code_blocks() {
    let page = "# Title\n\nOne. Two!\n\n```text\nnot this\n```\n| a | b |\n";
    let found = paragraphs(page, Kind::Markdown);
    let texts: Vec<&str> = found.iter().map(|p| p.text.as_str()).filter(|t| !t.is_empty()).collect();
    assert_eq!(texts, ["# Title", "One. Two!", "a", "b"]);
    let two = found.iter().find(|p| p.text == "One. Two!").expect("the paragraph");
    assert_eq!(two.sentences(), [0..4, 5..9]);
}
