//! Reports what is no TOML: the parser's terse messages become sentences with advice.

use toml::de::{DeTable, DeValue, Error};

use crate::problem::{Problem, Problems, Span};
use crate::values::in_order;

/// Advice for the parser's messages, by their beginnings.
const ADVICE: &[(&str, &str, &str)] = &[
    ("invalid basic string", "a string does not end", "close it with `\"` on the same line"),
    ("invalid literal string", "a string does not end", "close it with `'` on the same line"),
    ("unclosed table", "a section's heading does not end", "close it with `]`"),
    ("unclosed array table", "a section's heading does not end", "close it with `]]`"),
    ("unclosed array", "a list does not end", "close it with `]`"),
    ("unclosed inline table", "a table does not end", "close it with `}`"),
    ("key with no value", "a key has no value", "write `key = value`; a section's heading is `[NAME]`"),
    ("missing value", "a key has no value", "write a value behind `=`"),
    ("missing comma", "two values have no comma between them", "write `,` between them"),
    ("missing key", "a table has a comma without an entry", "write `key = value`, or remove the comma"),
    ("missing assignment", "a table's entry has no value", "write `key = value`"),
    ("extra comma", "there is a comma too many", "remove it"),
    ("extra `=`", "there is `=` twice", "remove one of them"),
    (
        "unexpected key or value",
        "a line goes on behind its value",
        "begin a new line, or put a string in quotes",
    ),
    ("invalid table", "a section's heading has no name", "write `[processes.NAME]`, without an empty part"),
    ("invalid unquoted key", "a key has a letter that keys cannot have", "use `a-z`, `0-9` and `-`"),
    ("missing escaped value", "`\\` in a string begins an escape that is none", "write `\\\\` for one `\\`"),
    ("missing opening quote", "a string does not begin", "write `\"` before it"),
    ("unexpected leading zero", "a number begins with 0", "remove the zero; write hexadecimal as `0x10`"),
    ("unquoted keys cannot be empty", "a name is empty", "write a name behind the dot"),
    ("radix must be lowercase", "a number begins with a capital letter behind 0", "write `0x`"),
    ("invalid", "this is no value", "write a number, a string in quotes, `true`, `false`, `[…]` or `{…}`"),
];

/// Returns the problems that the parser found, one for each line. What follows from an earlier one
/// is left out.
pub fn problems(text: &str, table: &DeTable<'_>, errors: &[Error]) -> Problems {
    let mut problems = Problems::new();
    let mut last_line = None;
    let mut skipped = 0;
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let line = line_at(text, span.start);
        if last_line.as_ref() == Some(&line) || span.start < skipped {
            continue;
        }
        let is_heading = text[line.clone()].trim_start().starts_with('[');
        if is_heading && error.message().starts_with("missing comma") {
            let title = "a list does not end before the next section";
            problems.push(Problem::new(span, title, "the next section", "close the list with `]`"));
            break;
        }
        if is_heading && error.message().starts_with("duplicate key") {
            // Keys of the section are there twice, too.
            skipped = text[line.end..].find("\n[").map_or(text.len(), |next| line.end + next);
        }
        last_line = Some(line.clone());
        problems.push(problem(text, table, error, span, line));
    }
    problems
}

fn problem(text: &str, table: &DeTable<'_>, error: &Error, span: Span, line: Span) -> Problem {
    let message = error.message();
    if message.starts_with("duplicate key") {
        return duplicate(text, table, span);
    }
    if message.starts_with("cannot extend value") {
        let title = "a section or key goes into a value that is no table of sections";
        let fix = "remove the value, or write its keys inside its braces";
        return Problem::new(span, title, "it has a value already", fix);
    }
    let written = text.get(span.clone()).unwrap_or_default().trim();
    if message.starts_with("string values must be quoted") && !written.is_empty() {
        return unquoted(written, span);
    }
    let line = text[line].trim();
    let is_heading = line.starts_with('[') && line.ends_with(']');
    let (title, fix) = match message {
        _ if message.starts_with("string values") => ("a key has no value", "write a value behind `=`"),
        _ if line.starts_with("//") => ("a comment begins with `//`", "write `#` for `//`"),
        _ if message.starts_with("key with no value") && line.contains(':') => {
            ("a key and its value have `:` between them", "write `=` for `:`")
        }
        _ if message.starts_with("unclosed table") && is_heading => {
            ("the name of a section has a blank or a strange character", "write `-` for it")
        }
        _ => {
            let known = ADVICE.iter().find(|(begins, _, _)| message.starts_with(begins));
            known.map_or((message, "see the book's page Systems"), |(_, title, fix)| (*title, *fix))
        }
    };
    Problem::new(span, title, "here", fix)
}

/// Reports a value without quotes, or numbers without commas.
fn unquoted(written: &str, span: Span) -> Problem {
    if written.split_whitespace().all(|word| word.parse::<u64>().is_ok()) {
        let commas = written.split_whitespace().collect::<Vec<_>>().join(", ");
        let title = "two values have no comma between them";
        return Problem::new(span, title, "no comma", format!("write `{commas}`"));
    }
    let lower = written.to_lowercase();
    let fix = match lower.as_str() {
        "true" | "false" => format!("write `{lower}`"),
        _ => format!("write `\"{written}\"`"),
    };
    Problem::new(span, format!("`{written}` is no value without quotes"), "here", fix)
}

/// Reports a key or section that the file has twice.
fn duplicate(text: &str, table: &DeTable<'_>, span: Span) -> Problem {
    let name = &text[span.clone()];
    let line = line_at(text, span.start);
    let is_heading = text[line.clone()].trim_start().starts_with('[');
    let key = || {
        let mut found = None;
        last_key(table, name, span.start, &mut found);
        found
    };
    let first = if is_heading { earlier_heading(text, &line).or_else(key) } else { key() };
    let (what, fix) = match is_heading {
        true => ("the section", "give one of them another name, or join them"),
        false => ("the key", "remove one of them"),
    };
    let problem = Problem::new(span.clone(), format!("{what} `{name}` is there twice"), "the second", fix);
    match first {
        Some(first) => problem.also(first, "the first"),
        None => problem,
    }
}

/// Returns the line that has the byte at `at`.
fn line_at(text: &str, at: usize) -> Span {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    start..end
}

/// Returns the heading before a line that equals it.
fn earlier_heading(text: &str, line: &Span) -> Option<Span> {
    let heading = text[line.clone()].trim();
    let mut start = 0;
    for before in text[..line.start].split_inclusive('\n') {
        if before.trim() == heading {
            return Some(start..start + before.trim_end().len());
        }
        start += before.len();
    }
    None
}

/// Finds the last key of this name before a place.
fn last_key(table: &DeTable<'_>, name: &str, before: usize, found: &mut Option<Span>) {
    for (key, value) in in_order(table) {
        let is_later = found.as_ref().is_none_or(|found| found.start < key.span.start);
        if key.value == name && key.span.start < before && is_later {
            *found = Some(key.span);
        }
        if let DeValue::Table(inner) = value.get_ref() {
            last_key(inner, name, before, found);
        }
    }
}
