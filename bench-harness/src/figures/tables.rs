//! The README's table and those of the book's chapter on results.

use std::fmt::Write;

use super::data::Data;
use super::grouped;
use super::versus::{self, Of, PAIRS, Pair};
use crate::baseline::Figures;
use crate::lab::Job;
use crate::rows;
use crate::table::besides;

/// The configurations of the other kernel that have a column, and its heading.
const COLUMNS: [(&str, &str); 2] = [("uniprocessor", "seL4"), ("smp", "seL4, SMP")];

/// Makes the README's table, with its footnotes.
pub fn readme(data: &Data) -> String {
    let mut text = format!("| row | | Aurora |{}\n|---|---|---:|---:|---:|\n", headings());
    let mut notes = Notes::default();
    for pair in PAIRS {
        let Some(cpus) = pair.readme else { continue };
        let Some(figures) = data.baseline.shown(cpus).and_then(|rows| rows.get(pair.row)) else { continue };
        let mark = notes.mark(pair.note);
        let what = rows::what(pair.row, cpus).unwrap_or_default();
        let _ = write!(text, "| `{}` | {what}{mark} | {} |", pair.row, grouped(figures.p50));
        text += &others(data, pair);
        text.push('\n');
    }
    text.push('\n');
    text += &notes.text(data);
    let _ = writeln!(
        text,
        "\nAurora: {}. seL4 {}: {}.",
        data.baseline.shown_key(),
        data.peers.version,
        data.peers.host.compiler
    );
    text
}

/// Makes the tables of all rows in the book's chapter.
pub fn results(data: &Data) -> String {
    let mut text = format!(
        "Aurora: {}. seL4 {}: {}.\n",
        data.baseline.shown_key(),
        data.peers.version,
        data.peers.host.compiler
    );
    let mut notes = Notes::default();
    for cpus in [1, 2, 4] {
        let Some(figures) = data.baseline.shown(cpus) else { continue };
        let _ = writeln!(
            text,
            "\n### {}\n\n| row | | median | max | besides |{}",
            Job::cpus_text(cpus),
            headings()
        );
        text += "|---|---|---:|---:|---|---:|---:|\n";
        for known in rows::ROWS {
            let name = known.name_on(cpus);
            if let Some(figures) = figures.get(&name) {
                text += &result(data, &name, known.what, figures, &mut notes);
            }
        }
    }
    text.push('\n');
    text + &notes.text(data)
}

fn headings() -> String {
    COLUMNS.map(|(_, heading)| format!(" {heading} |")).concat()
}

fn result(data: &Data, name: &str, what: &str, figures: &Figures, notes: &mut Notes) -> String {
    let pair = versus::of(name);
    let mark = notes.mark(pair.and_then(|pair| pair.note));
    let besides = figures.work.map_or_else(String::new, |work| besides(&work));
    let (median, max) = (grouped(figures.p50), grouped(figures.max));
    let others = pair.map_or_else(|| " – |".repeat(COLUMNS.len()), |pair| others(data, pair));
    format!("| `{name}` | {what}{mark} | {median} | {max} | {besides} |{others}\n")
}

/// Returns the cells of a row that show the other kernel.
fn others(data: &Data, pair: &Pair) -> String {
    let cell = |(configuration, _): &(&str, &str)| {
        let of = |row: &str| data.of_peer(configuration, row);
        let figure = match pair.other {
            Of::Nothing => None,
            Of::Row(row) => of(row),
            Of::Half(row) => of(row).map(|figure| figure / 2),
            Of::Sum(one, other) => of(one).zip(of(other)).map(|(one, other)| one + other),
        };
        format!(" {} |", figure.map_or_else(|| "–".to_owned(), grouped))
    };
    COLUMNS.iter().map(cell).collect()
}

/// Footnotes, each once.
#[derive(Default)]
struct Notes(Vec<&'static str>);

impl Notes {
    /// Returns the reference to a note.
    fn mark(&mut self, note: Option<&'static str>) -> String {
        let Some(note) = note else { return String::new() };
        let at = self.0.iter().position(|other| *other == note).unwrap_or_else(|| {
            self.0.push(note);
            self.0.len() - 1
        });
        format!(" ({})", at + 1)
    }

    fn text(&self, data: &Data) -> String {
        let numbered = |(at, note): (usize, &&str)| format!("{}. {}\n", at + 1, filled(data, note));
        self.0.iter().enumerate().map(numbered).collect()
    }
}

/// Returns a note with the committed figures in place of their names in braces.
fn filled(data: &Data, note: &str) -> String {
    let mut parts = note.split('{');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        let figure = data.figure(name).unwrap_or_else(|error| panic!("a note of versus.rs: {error}"));
        text += &grouped(figure);
        text += rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::data::tests::committed;

    #[test]
    fn the_readme_has_both_kernels_and_the_notes() {
        let table = readme(&committed());
        let line =
            |row: &str| table.lines().find(|line| line.starts_with(&format!("| `{row}` |"))).expect("a row");
        assert!(line("call_reply_cross_as").ends_with("| 453 | 622 |"), "{table}");
        assert!(
            line("remap_move_1p").contains("(") && line("remap_move_1p").ends_with("| – | – |"),
            "{table}"
        );
        assert!(line("map_unmap_512p").contains("663,050"), "{table}");
        assert!(line("shootdown_2cpu").ends_with("| – | – |"), "{table}");
        assert!(table.contains("\n1. The promises differ"), "{table}");
    }

    #[test]
    fn a_note_stands_once() {
        let mut notes = Notes::default();
        assert_eq!(
            [Some("a"), Some("b"), None, Some("a")].map(|note| notes.mark(note)),
            [" (1)", " (2)", "", " (1)"]
        );
        assert_eq!(notes.text(&committed()), "1. a\n2. b\n");
    }

    #[test]
    fn the_chapter_has_every_committed_row() {
        let data = committed();
        let text = results(&data);
        let rows = [1, 2, 4]
            .iter()
            .filter_map(|cpus| data.baseline.shown(*cpus))
            .map(|rows| rows.len())
            .sum::<usize>();
        assert!(rows > 150 && text.matches("\n| `").count() == rows, "{rows}: {text}");
    }
}
