//! Prints results as tables for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use abi::Counter as Known;
use console::style;

use crate::lab::Job;
use crate::report::{Counter, Row, Work};
use crate::results::{Results, Run};

/// Writes all runs, one table for each, with the counters of the fast path below.
pub fn render(results: &Results) -> String {
    let mut text = String::new();
    let host = &results.host;
    let _ = match host.captured.as_str() {
        "" => writeln!(text, "{}; QEMU {}; {}", host.rustc, host.qemu, host.cpu),
        captured => writeln!(text, "captured: {}; {captured}", host.cpu),
    };
    if !host.mitigations.is_empty() {
        let _ = writeln!(text, "mitigations: {}", host.mitigations.join("; "));
    }
    if !host.options.is_empty() {
        let _ = writeln!(text, "options: {}", host.options);
    }
    for run in &results.runs {
        text.push('\n');
        render_run(&mut text, run);
    }
    let _ = writeln!(text, "\n{LEGEND}");
    text
}

fn render_run(text: &mut String, run: &Run) {
    let title = format!("{}, {}: {}", run.mode, Job::cpus_text(run.cpus), run.mode.unit());
    let heading = format!(
        "{title:<32} {:>9} {:>9} {:>9} {:>9} {:>6}  {:<10} {:<24} {}",
        "min", "median", "p99", "max", "n", "scope", "besides", "fastpath"
    );
    let _ = writeln!(text, "{}", style(heading).bold());
    for row in &run.rows {
        let _ = writeln!(text, "{}", render_row(row, &run.counters));
    }
    let totals = totals(run.counters.iter().filter(|counter| counter.row.is_none()));
    if !totals.is_empty() {
        let _ = writeln!(text, "  since boot: {}", fastpath(&totals).unwrap_or_else(|| "no IPC".to_owned()));
        let rest = totals
            .iter()
            .filter(|(name, _)| !is_fastpath(name))
            .map(|(name, value)| format!("{name} {value}"));
        let _ = writeln!(text, "              {}", rest.collect::<Vec<_>>().join(", "));
    }
}

fn render_row(row: &Row, counters: &[Counter]) -> String {
    let unit = if row.unit == "lines" { " (lines)" } else { "" };
    let of_row = totals(counters.iter().filter(|counter| counter.row.as_deref() == Some(&row.name)));
    let line = format!(
        "  {:<30} {:>9} {:>9} {:>9} {:>9} {:>6}  {:<10} {:<24} {}",
        format!("{}{unit}", row.name),
        row.min,
        row.p50,
        row.p99,
        row.max,
        row.n,
        row.scope,
        row.work.map_or_else(String::new, |work| besides(&work)),
        fastpath(&of_row).unwrap_or_default()
    );
    line.trim_end().to_owned()
}

/// Returns the work of a row besides instructions: the medians, by the letters of the line below
/// the tables.
pub fn besides(work: &Work) -> String {
    let counted = work.kinds().into_iter().zip(LETTERS).filter(|((_, [p50, _]), _)| *p50 > 0);
    counted.map(|((_, [p50, _]), letter)| format!("{letter}{p50}")).collect::<Vec<_>>().join(" ")
}

/// In the order of [`Work::kinds`].
const LETTERS: [char; 5] = ['A', 'C', 'M', 'S', 'L'];
const LEGEND: &str = "besides, of each operation: A atomic instructions, C writes of control registers, M of MSRs, S serialising \
                      instructions, L cache lines that changed hands";

/// Writes one line for each row.
pub fn csv(results: &Results) -> String {
    let kinds = Work::default().kinds().map(|(name, _)| format!(",{name}_p50,{name}_max")).concat();
    let mut text = format!("mode,cpus,row,unit,scope,min,p50,p99,max,n{kinds}\n");
    for run in &results.runs {
        for row in &run.rows {
            let Row { name, unit, scope, min, p50, p99, max, n, .. } = row;
            let _ =
                write!(text, "{},{},{name},{unit},{scope},{min},{p50},{p99},{max},{n}", run.mode, run.cpus);
            let work =
                row.work.map(|work| work.kinds().map(|(_, [p50, max])| format!(",{p50},{max}")).concat());
            text += &work.unwrap_or_else(|| ",,".repeat(LETTERS.len()));
            text.push('\n');
        }
    }
    text
}

type Totals = BTreeMap<String, u64>;

/// Returns the counters summed over CPUs.
fn totals<'a>(counters: impl Iterator<Item = &'a Counter>) -> Totals {
    let mut totals = Totals::new();
    for counter in counters {
        *totals.entry(counter.name.clone()).or_default() += counter.value;
    }
    totals
}

const MISS: &str = "miss_";
/// What the fastpath took: to its end, or up to the message for another CPU.
const HITS: [Known; 4] = [Known::FastCall, Known::FastReply, Known::ExpressCall, Known::ExpressReply];

fn is_fastpath(name: &str) -> bool {
    HITS.iter().any(|hit| name == hit.name()) || name.starts_with(MISS)
}

/// Returns the hits of the fast path, and its misses by reason; `None` if there was no IPC.
fn fastpath(totals: &Totals) -> Option<String> {
    let hits: u64 = HITS.iter().filter_map(|hit| totals.get(hit.name())).sum();
    let misses = totals.iter().filter(|(name, value)| name.starts_with(MISS) && **value > 0);
    let reasons: Vec<String> =
        misses.clone().map(|(name, value)| format!("{} {value}", &name[MISS.len()..])).collect();
    let missed: u64 = misses.map(|(_, value)| value).sum();
    if hits + missed == 0 {
        return None;
    }
    let percent = percent(hits, hits + missed);
    let because = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    Some(format!("{percent} % of {}{because}", hits + missed))
}

/// Returns a percentage, rounded down, so that 100 means all.
fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100) / whole.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::machine::Mode;

    fn counter(row: Option<&str>, name: &str, value: u64) -> Counter {
        Counter { cpu: 0, row: row.map(str::to_owned), name: name.to_owned(), value }
    }

    #[test]
    fn the_table_shows_hits_and_reasons() {
        let row = Row::example("call_reply_64w", 590);
        let name = Some("call_reply_64w");
        let counters = vec![
            counter(name, "fast_call", 1),
            counter(name, "miss_call_message", 999),
            counter(None, "fast_call", 5000),
            counter(None, "idle", 3),
        ];
        let run = Run { mode: Mode::Icount, cpus: 1, rows: vec![row], counters };
        let text = render(&Results::new(Host::example("rustc 1"), vec![run]));
        assert!(text.contains("icount, 1 CPU: instructions"), "{text}");
        assert!(text.contains("0 % of 1000 (call_message 999)"), "{text}");
        assert!(text.contains("since boot: 100 % of 5000"), "{text}");
        assert!(text.contains("idle 3"), "{text}");
    }
}
