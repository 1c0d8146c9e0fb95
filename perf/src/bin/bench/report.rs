//! Rows and counters as report lines.

use core::fmt;

use abi::{Counter, line_sum};
use perf::stats::{Summary, summarize};
use user_rt::report;

use crate::rows::Row;
use crate::scenario::Outcome;

/// Reports a line with the sum of what it says.
pub fn summed(word: &str, said: fmt::Arguments<'_>) {
    let text = alloc::fmt::format(said);
    report!("{word} sum={:04x} {text}", line_sum(&text));
}

/// Prints a row's figures and what the kernel counted meanwhile. It is the row that marker `mark` announced. Gives the
/// figures; a row that was only traced has none.
pub fn print(row: &Row, outcome: &mut Outcome, mark: u64) -> Option<Summary> {
    let (name, scope, operations) = (row.name(), row.scope.name(), row.operations);
    let figures = summarize(&mut outcome.samples, outcome.overhead, operations);
    if let Some(Summary { n, min, p50, p99, max, overhead }) = figures {
        let what = format_args!("name={name} unit=ticks scope={scope}");
        let how = format_args!("overhead={overhead} operations={operations} mark={mark}");
        summed("row", format_args!("{what} n={n} min={min} p50={p50} p99={p99} max={max} {how}"));
    }
    for (cpu, counted) in &outcome.counters {
        for &counter in Counter::ALL {
            let value = counted[counter as usize];
            if value != 0 {
                summed("counter", format_args!("cpu={cpu} row={name} name={} value={value}", counter.name()));
            }
        }
    }
    figures
}
