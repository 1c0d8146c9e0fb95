//! Prints the rows as a table for people, on machines with `log=text` and without a host tool.
//!
//! The table has pages that fit on a screen of 80 columns and 25 lines. Each page stays for a
//! while, because the screen cannot scroll back. The kernel puts two characters before each line.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use perf::stats::Summary;
use user_rt::{boot, report};

use crate::machine::Machine;
use crate::rows::Row;
use crate::scenario::Stage;

/// Rows of a page. The page also has a heading, three lines on the machine, and its number; two
/// more lines follow the last page.
const ROWS: usize = 17;

/// Seconds that a page stays, unless the command line sets it.
const PAGE_SECONDS: u64 = 10;

/// A measured row: its name, its scope, its figures.
type Line = (String, &'static str, Summary);

/// The rows that have been measured.
#[derive(Default)]
pub struct Table {
    lines: Vec<Line>,
}

impl Table {
    pub fn add(&mut self, row: &Row, figures: Summary) {
        self.lines.push((row.name().into(), row.scope.name(), figures));
    }

    /// Reports the table, and below each page the machine of its figures, if report lines are text.
    pub fn report(&self, stage: &Stage, machine: &Machine) {
        let options = boot::options();
        if options.value("log") != Some("text") {
            return;
        }
        // The program refused values that are no numbers before it started the bench.
        let seconds = options.number("page", PAGE_SECONDS).unwrap_or(PAGE_SECONDS);
        let pages = self.lines.len().div_ceil(ROWS);
        for (lines, page) in self.lines.chunks(ROWS).zip(1..) {
            let mut text = String::new();
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{machine}", Page(lines));
            text.lines().for_each(|line| report!("{line}"));
            match pages {
                1 => {}
                _ if page == pages => report!("page {page} of {pages}"),
                _ => {
                    report!("page {page} of {pages}; the next one comes in {seconds} s");
                    stage.pause(seconds);
                }
            }
        }
    }
}

/// Rows below their heading.
struct Page<'t>(&'t [Line]);

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, scope, n, [min, p50, p99, max]) = ("name", "scope", "n", ["min", "median", "p99", "max"]);
        writeln!(f, "{name:<28} {scope:<10} {n:>4} {min:>7} {p50:>7} {p99:>7} {max:>7}")?;
        for (name, scope, Summary { n, min, p50, p99, max, .. }) in self.0 {
            writeln!(f, "{name:<28} {scope:<10} {n:>4} {min:>7} {p50:>7} {p99:>7} {max:>7}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns of a screen, without the kernel's characters before each line.
    const WIDTH: usize = 80 - 2;
    const HEIGHT: usize = 25;

    #[test]
    fn every_row_has_its_line_and_each_line_fits() {
        let figures =
            Summary { n: 1000, min: 1_111_111, p50: 2_222_222, p99: 3, max: 4_444_444, overhead: 5 };
        let mut table = Table::default();
        let rows = crate::rows::all(4, false);
        rows.iter().for_each(|row| table.add(row, figures));
        let pages: Vec<String> =
            table.lines.chunks(ROWS).map(|lines| std::format!("{}", Page(lines))).collect();
        let lines: Vec<&str> = pages.iter().flat_map(|page| page.lines()).collect();
        assert_eq!(lines.len(), rows.len() + pages.len());
        for line in &lines {
            assert!(line.len() <= WIDTH, "{line}");
        }
        for row in rows {
            assert!(lines.iter().any(|line| line.split(' ').next() == Some(row.name())), "{}", row.name());
        }
        // The machine, the page's number, the ends of the bench and of the kernel, and the line of
        // the cursor.
        assert!(pages[0].lines().count() + 3 + 1 + 2 < HEIGHT);
    }
}
