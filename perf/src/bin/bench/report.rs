//! Rows and counters as report lines.

use core::fmt;

use abi::Counter;
use perf::stats::{figure, summarize};
use test_abi::lines::line_sum;
use user_rt::report;

use crate::CAPTURED;
use crate::rows::Row;
use crate::scenario::Outcome;
use crate::table::Table;

/// Whether every single sample is reported.
pub const ALL_SAMPLES: bool = matches!(env!("CARGO_BIN_NAME").as_bytes(), b"samples");
/// Samples in a report line.
const SAMPLES_IN_LINE: usize = 32;

/// Numbers, separated by blanks.
struct Numbers<'a>(&'a [u64]);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|number| write!(f, " {number}"))
    }
}

/// Prints the figure of every single sample, in the order in which the samples were taken, client
/// by client.
/// Requires: [`print()`], which sorts the samples, has not run yet.
pub fn print_samples(row: &Row, outcome: &Outcome) {
    for samples in outcome.samples.chunks(SAMPLES_IN_LINE) {
        let mut figures = [0; SAMPLES_IN_LINE];
        for (place, sample) in figures.iter_mut().zip(samples) {
            *place = figure(*sample, outcome.overhead, row.operations);
        }
        report!("samples row={}{}", row.name(), Numbers(&figures[..samples.len()]));
    }
}

/// Reports a line; if it is captured, with the sum of the text after its first word.
macro_rules! say {
    ($($part:tt)*) => {
        if $crate::CAPTURED {
            $crate::report::summed(format_args!($($part)*));
        } else {
            user_rt::report!($($part)*);
        }
    };
}
pub(crate) use say;

pub fn summed(line: fmt::Arguments<'_>) {
    let line = alloc::fmt::format(line);
    let (word, text) = line.split_once(' ').unwrap_or((&line, ""));
    report!("{word} sum={:04x} {text}", line_sum(text));
}

/// Prints a row's figures and what the kernel counted during it. Marker `mark` announced the row.
/// If the output is captured, the figures also go into the table.
pub fn print(row: &Row, outcome: &mut Outcome, mark: u64, table: &mut Table) {
    let scope = row.scope.name();
    // A row that was only traced has no samples.
    if let Some(figures) = summarize(&mut outcome.samples, outcome.overhead, row.operations) {
        if CAPTURED {
            table.add(row, figures);
        }
        say!(
            "row name={} unit=ticks scope={scope} n={} min={} p50={} p99={} max={} overhead={} operations={} mark={mark}",
            row.name(),
            figures.n,
            figures.min,
            figures.p50,
            figures.p99,
            figures.max,
            figures.overhead,
            row.operations
        );
    }
    for (cpu, counted) in &outcome.counters {
        for &counter in Counter::ALL {
            let value = counted[counter as usize];
            if value != 0 {
                say!("counter cpu={cpu} row={} name={} value={value}", row.name(), counter.name());
            }
        }
    }
}
