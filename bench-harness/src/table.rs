//! Results as a person reads them.

use std::collections::BTreeMap;
use std::fmt::Write;

use abi::Counter as Known;
use console::style;

use crate::lab::Job;
use crate::report::{Counter, Row};
use crate::results::{Results, Run};

/// All runs, one table each, with the counters of the fastpath below.
pub fn render(results: &Results) -> String {
    let mut text = String::new();
    let host = &results.host;
    let _ = writeln!(text, "{}; QEMU {}; {}", host.rustc, host.qemu, host.cpu);
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
    text
}

fn render_run(text: &mut String, run: &Run) {
    let title = format!("{}, {}: {}", run.mode, Job::cpus_text(run.cpus), run.mode.unit());
    let heading = format!(
        "{title:<32} {:>10} {:>10} {:>10} {:>9} {:>7}  {:<10} {}",
        "min", "median", "p99", "overhead", "n", "scope", "fastpath"
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
        "  {:<30} {:>10} {:>10} {:>10} {:>9} {:>7}  {:<10} {}",
        format!("{}{unit}", row.name),
        row.min,
        row.p50,
        row.p99,
        row.overhead,
        row.n,
        row.scope,
        fastpath(&of_row).unwrap_or_default()
    );
    line.trim_end().to_owned()
}

type Totals = BTreeMap<String, u64>;

/// Counters summed over CPUs.
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

/// Hits, and misses by reason; nothing where there was no IPC.
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

/// Rounded down, so that 100 means all.
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
        let row = Row {
            name: "call_reply_64w".into(),
            unit: "instructions".into(),
            scope: "round-trip".into(),
            min: 580,
            p50: 590,
            p99: 600,
            n: 1000,
            overhead: 11,
            operations: 1,
        };
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
