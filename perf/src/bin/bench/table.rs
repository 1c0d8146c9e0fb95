//! The rows as a table, for a person: on a machine where `log=text` and no host tool makes one.
//!
//! A screen of 80 letters by 25 lines shows the end of it, behind the two letters that the kernel puts before each line.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use perf::stats::Summary;
use user_rt::report;

use crate::machine::Machine;
use crate::rows::Row;

/// Rows below each heading, so that a screen has one.
const ROWS: usize = 18;

/// The rows that have been measured.
#[derive(Default)]
pub struct Table {
    lines: Vec<(String, &'static str, Summary)>,
}

impl Table {
    pub fn add(&mut self, row: &Row, figures: Summary) {
        self.lines.push((row.name().into(), row.scope.name(), figures));
    }

    /// Reports the table, and below it what its figures are.
    pub fn report(&self, machine: &Machine) {
        let mut text = String::new();
        // A string takes all.
        let _ = write!(text, "{self}{machine}");
        for line in text.lines() {
            report!("{line}");
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for some in self.lines.chunks(ROWS) {
            let (min, p50, p99, max, n) = ("min", "median", "p99", "max", "n");
            let (name, scope) = ("name", "scope");
            writeln!(f, "{name:<28} {scope:<10} {n:>4} {min:>7} {p50:>7} {p99:>7} {max:>7}")?;
            for (name, scope, Summary { n, min, p50, p99, max, .. }) in some {
                writeln!(f, "{name:<28} {scope:<10} {n:>4} {min:>7} {p50:>7} {p99:>7} {max:>7}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters of a line on a screen, without the kernel's own.
    const WIDTH: usize = 80 - 2;

    #[test]
    fn every_row_has_its_line_and_each_line_fits() {
        let figures =
            Summary { n: 1000, min: 1_111_111, p50: 2_222_222, p99: 3, max: 4_444_444, overhead: 5 };
        let mut table = Table::default();
        let rows = crate::rows::all(4);
        rows.iter().for_each(|row| table.add(row, figures));
        let text = std::format!("{table}");
        assert_eq!(text.lines().count(), rows.len() + rows.len().div_ceil(ROWS));
        for line in text.lines() {
            assert!(line.len() <= WIDTH, "{line}");
        }
        for row in rows {
            assert!(text.lines().any(|line| line.split(' ').next() == Some(row.name())), "{}", row.name());
        }
    }
}
