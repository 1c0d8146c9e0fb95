//! The figures as the book's table: three rows for each load, a column for each number of CPUs.

use std::fmt::Write;

use super::{Point, Series};
use crate::figures::grouped;

/// What a row shows of a point.
type Show = fn(&Point) -> String;

/// The rows of a load.
const ROWS: [(&str, Show); 3] = [
    ("instructions", |point| grouped(point.instructions.round() as u64)),
    ("interrupts", |point| format!("{:.2}", point.interrupts())),
    ("lines moved", |point| lines(point.lines)),
];

/// Writes the table of all loads.
pub fn render(series: &[Series]) -> String {
    let Some(first) = series.first() else { return String::new() };
    let mut text = String::from("| load | |");
    for point in &first.points {
        let _ = write!(text, " {} |", point.cpus);
    }
    text += "\n|---|---|";
    text += &"---:|".repeat(first.points.len());
    text.push('\n');
    for Series { load, points, .. } in series {
        for (row, (name, show)) in ROWS.iter().enumerate() {
            let load = if row == 0 { format!("`{load}`") } else { String::new() };
            let cells: Vec<String> = points.iter().map(show).collect();
            let _ = writeln!(text, "| {load} | {name} | {} |", cells.join(" | "));
        }
    }
    text
}

/// Formats a number of lines as whole lines, or with a fraction below one.
fn lines(lines: f64) -> String {
    if lines > 0.0 && lines < 0.995 { format!("{lines:.2}") } else { format!("{lines:.0}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_load_has_its_rows() {
        let point = |cpus, instructions, lines| Point {
            load: "x".to_owned(),
            cpus,
            clients: cpus,
            operations: 9,
            instructions,
            lines,
            counted: BTreeMap::from([("interrupt".to_owned(), 0.5)]),
        };
        let points = vec![point(1, 165.6, 0.0), point(32, 1130.2, 37.6), point(64, 2.0, 0.013)];
        let text = render(&[Series { load: "x".to_owned(), points, words: String::new() }]);
        let expected = "\
            | load | | 1 | 32 | 64 |\n\
            |---|---|---:|---:|---:|\n\
            | `x` | instructions | 166 | 1,130 | 2 |\n\
            |  | interrupts | 0.50 | 0.50 | 0.50 |\n\
            |  | lines moved | 0 | 38 | 0.01 |\n";
        assert_eq!(text, expected);
    }
}
