//! Rows and counters as report lines.

use abi::Counter;
use perf::stats::summarize;
use user_rt::report;

use crate::rows::Row;
use crate::scenario::Outcome;

/// Prints a row's figures and what the kernel counted meanwhile. It is the row that marker `mark` announced.
pub fn print(row: &Row, outcome: &mut Outcome, mark: u64) {
    let scope = row.scope.name();
    // A row that was only traced has no samples of its own.
    if let Some(figures) = summarize(&mut outcome.samples, outcome.overhead, row.operations) {
        report!(
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
                report!("counter cpu={cpu} row={} name={} value={value}", row.name(), counter.name());
            }
        }
    }
}
