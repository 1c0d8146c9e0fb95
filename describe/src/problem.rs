//! Problems of a description, and their report: file, line, column, what is wrong, what would be
//! right.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// A range of the file's bytes.
pub type Span = Range<usize>;

/// Columns of a report where the terminal does not tell its width.
const WIDTH: usize = 120;
/// Columns of the advice.
const HELP_WIDTH: usize = 100;

/// One mistake in a description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    span: Span,
    /// What is wrong, as a sentence without its full stop.
    title: String,
    /// A remark on the span, in a few words.
    label: String,
    /// Other places that belong to the mistake, each with its remark.
    also: Vec<(Span, String)>,
    /// What the person should do.
    fix: String,
}

/// The mistakes that were found.
pub type Problems = Vec<Problem>;

impl Problem {
    pub fn new(
        span: Span,
        title: impl Into<String>,
        label: impl Into<String>,
        fix: impl Into<String>,
    ) -> Problem {
        Problem { span, title: title.into(), label: label.into(), also: Vec::new(), fix: fix.into() }
    }

    /// Adds another place that belongs to the mistake.
    pub fn also(mut self, span: Span, remark: impl Into<String>) -> Problem {
        self.also.push((span, remark.into()));
        self
    }

    fn render(&self, report: &Report, renderer: &Renderer) -> String {
        let also = self
            .also
            .iter()
            .map(|(span, remark)| AnnotationKind::Context.span(report.inside(span)).label(remark.as_str()));
        let primary = AnnotationKind::Primary.span(report.inside(&self.span)).label(self.label.as_str());
        let snippet = Snippet::source(report.text.as_str()).path(report.file.as_str());
        let group = Level::ERROR
            .primary_title(self.title.as_str())
            .element(snippet.annotation(primary).annotations(also))
            .element(Level::HELP.message(wrapped(&self.fix)));
        renderer.render(&[group])
    }
}

/// Breaks a text into lines.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < HELP_WIDTH => {
                *line = format!("{line} {word}");
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// All mistakes of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    file: String,
    text: String,
    problems: Problems,
}

impl Report {
    /// Makes the report of a file's mistakes, in the order of the file.
    pub fn new(file: &str, text: &str, mut problems: Problems) -> Report {
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        problems.dedup_by(|a, b| a.span == b.span && a.title == b.title);
        Report { file: file.to_owned(), text: text.to_owned(), problems }
    }

    /// Returns how many mistakes there are, at least one.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// Returns the report as text, with colours for a terminal or without.
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() }.term_width(WIDTH);
        let texts = self.problems.iter().map(|problem| problem.render(self, &renderer));
        texts.collect::<Vec<_>>().join("\n\n") + "\n"
    }

    /// Returns a span that lies in the text, at the borders of characters.
    fn inside(&self, span: &Span) -> Span {
        let border = |mut at: usize| {
            at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        border(span.start)..border(span.end.max(span.start))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}
