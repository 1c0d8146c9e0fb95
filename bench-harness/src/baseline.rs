//! The committed demands on icount figures: `perf/baseline.json`.
//!
//! Limits and ratios hold everywhere. Exact figures hold under a key of compiler, QEMU and guest
//! CPU model, because another compiler makes other code and another QEMU may count otherwise; an
//! unknown key is no failure, but it is said (`exact: 0 rows`).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::host::Host;
use crate::machine::Mode;
use crate::plan;
use crate::report::Row;
use crate::results::{Results, Run};
use crate::trouble::Trouble;

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Baseline {
    schema: u32,
    limits: Vec<Limit>,
    ratios: Vec<Ratio>,
    /// Key → number of CPUs → row → figures.
    exact: BTreeMap<String, BTreeMap<u32, BTreeMap<String, Figures>>>,
}

/// The median of a row may be at most so much.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
struct Limit {
    row: String,
    cpus: Vec<u32>,
    p50: u64,
}

/// The median of a row is within so many percent of another row's on one CPU.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
struct Ratio {
    row: String,
    cpus: u32,
    like: String,
    percent: u64,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
struct Figures {
    min: u64,
    p50: u64,
    p99: u64,
    n: u64,
}

impl From<&Row> for Figures {
    fn from(row: &Row) -> Figures {
        Figures { min: row.min, p50: row.p50, p99: row.p99, n: row.n }
    }
}

/// What a check found.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Findings {
    /// Rows compared exactly.
    pub exact: usize,
    /// Limits and ratios that were held.
    pub held: usize,
    pub failures: Vec<String>,
    /// Remarks that are no failures.
    pub remarks: Vec<String>,
}

impl Findings {
    /// An error if something is not as demanded, or nothing was: who asked for a check did not get one.
    pub fn verdict(&self) -> Result<(), Trouble> {
        if !self.failures.is_empty() {
            let text = format!("{} figures are not as demanded", self.failures.len());
            return Err(Trouble::CheckFailed(text));
        }
        if self.exact == 0 && self.held == 0 {
            let text = "nothing is demanded of what was measured: check icount figures of 1, 2 or 4 CPUs";
            return Err(Trouble::CheckFailed(text.to_owned()));
        }
        Ok(())
    }
}

/// The key under which exact figures of this machine stand.
pub fn key(host: &Host) -> String {
    let key = format!("{} | QEMU {} | {}", host.rustc, host.qemu, host.guest_cpu);
    if host.options.is_empty() { key } else { format!("{key} | {}", host.options) }
}

fn icount(results: &Results) -> impl Iterator<Item = &Run> {
    results.runs.iter().filter(|run| run.mode == Mode::Icount)
}

impl Baseline {
    pub fn read(path: &Path) -> Result<Baseline> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a baseline", path.display()))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = layout(&serde_json::to_value(self)?, 0) + "\n";
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// The committed median of a row, if there is one for this machine.
    pub fn committed(&self, host: &Host, cpus: u32, row: &str) -> Option<u64> {
        Some(self.exact.get(&key(host))?.get(&cpus)?.get(row)?.p50)
    }

    /// Takes the figures of every number of CPUs measured as the exact ones of this key.
    pub fn update(&mut self, results: &Results) {
        let of_key = self.exact.entry(key(&results.host)).or_default();
        for run in icount(results) {
            of_key.insert(run.cpus, run.rows.iter().map(|row| (row.name.clone(), row.into())).collect());
        }
    }

    /// Compares what was measured with what is demanded.
    pub fn check(&self, results: &Results) -> Findings {
        let mut findings = Findings::default();
        for run in icount(results) {
            let missing =
                plan::expected(run.mode, run.cpus).into_iter().filter(|name| run.row(name).is_none());
            findings
                .failures
                .extend(missing.map(|name| format!("{} CPUs: {name} was not measured", run.cpus)));
            self.check_limits(run, &mut findings);
        }
        self.check_ratios(results, &mut findings);
        self.check_exact(results, &mut findings);
        findings
    }

    /// The rows of a number of CPUs that have a limit.
    pub fn limited(&self, cpus: u32) -> Vec<&str> {
        self.limits
            .iter()
            .filter(|limit| limit.cpus.contains(&cpus))
            .map(|limit| limit.row.as_str())
            .collect()
    }

    /// The limits of what one run measured.
    pub fn check_one(&self, run: &Run) -> Findings {
        let mut findings = Findings::default();
        self.check_limits(run, &mut findings);
        findings
    }

    fn check_limits(&self, run: &Run, findings: &mut Findings) {
        for limit in self.limits.iter().filter(|limit| limit.cpus.contains(&run.cpus)) {
            // A missing row has been reported already.
            let Some(row) = run.row(&limit.row) else { continue };
            if row.p50 <= limit.p50 {
                findings.held += 1;
            } else {
                let text =
                    format!("{} CPUs: {} is {}, at most {} allowed", run.cpus, row.name, row.p50, limit.p50);
                findings.failures.push(text);
            }
        }
    }

    fn check_ratios(&self, results: &Results, findings: &mut Findings) {
        let find = |cpus: u32, name: &str| icount(results).find(|run| run.cpus == cpus)?.row(name);
        for ratio in &self.ratios {
            let (Some(row), Some(like)) = (find(ratio.cpus, &ratio.row), find(1, &ratio.like)) else {
                continue;
            };
            if row.p50.abs_diff(like.p50) * 100 <= like.p50 * ratio.percent {
                findings.held += 1;
            } else {
                let Ratio { row: name, percent, like: other, .. } = ratio;
                let text = format!("{name} is {}, not within {percent} % of {other}, {}", row.p50, like.p50);
                findings.failures.push(text);
            }
        }
    }

    fn check_exact(&self, results: &Results, findings: &mut Findings) {
        let Some(of_key) = self.exact.get(&key(&results.host)) else {
            findings.remarks.push(format!("no figures are committed for: {}", key(&results.host)));
            return;
        };
        for run in icount(results) {
            let Some(rows) = of_key.get(&run.cpus) else {
                findings.remarks.push(format!("no figures are committed for {} CPUs", run.cpus));
                continue;
            };
            for (name, &demanded) in rows {
                let measured = run.row(name).map(Figures::from);
                if measured == Some(demanded) {
                    findings.exact += 1;
                } else if let Some(measured) = measured {
                    let text = format!("{} CPUs: {name} moved: {}", run.cpus, moved(demanded, measured));
                    findings.failures.push(text);
                } else {
                    findings.failures.push(format!("{} CPUs: {name} is in the baseline only", run.cpus));
                }
            }
            let new = run.rows.iter().filter(|row| !rows.contains_key(&row.name));
            findings
                .remarks
                .extend(new.map(|row| format!("{} CPUs: {} is not in the baseline", run.cpus, row.name)));
        }
    }
}

fn moved(from: Figures, to: Figures) -> String {
    let fields = [
        ("min", from.min, to.min),
        ("p50", from.p50, to.p50),
        ("p99", from.p99, to.p99),
        ("n", from.n, to.n),
    ];
    let changed = fields.iter().filter(|(_, from, to)| from != to);
    changed.map(|(name, from, to)| format!("{name} {from} → {to}")).collect::<Vec<_>>().join(", ")
}

/// JSON with one line for each limit and each row, so that a change of figures reads well.
fn layout(value: &Value, depth: usize) -> String {
    let lines: Vec<String> = match value {
        Value::Object(fields) if !is_leaf(value) => fields
            .iter()
            .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), layout(value, depth + 1)))
            .collect(),
        Value::Array(items) if !is_leaf(value) => items.iter().map(|item| layout(item, depth + 1)).collect(),
        leaf => return leaf.to_string(),
    };
    let (open, close) = if value.is_object() { ('{', '}') } else { ('[', ']') };
    let (inner, outer) = ("  ".repeat(depth + 1), "  ".repeat(depth));
    format!("{open}\n{inner}{}\n{outer}{close}", lines.join(&format!(",\n{inner}")))
}

/// Numbers, text, and what holds nothing deeper than a list of them.
fn is_leaf(value: &Value) -> bool {
    let flat = |value: &Value| !value.is_object() && !value.is_array();
    let shallow = |value: &Value| flat(value) || value.as_array().is_some_and(|items| items.iter().all(flat));
    match value {
        Value::Object(fields) => fields.values().all(shallow),
        Value::Array(items) => items.iter().all(flat),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, p50: u64) -> Row {
        let text = |s: &str| s.to_owned();
        Row {
            name: text(name),
            unit: text("instructions"),
            scope: text("round-trip"),
            min: p50,
            p50,
            p99: p50,
            n: 100,
            overhead: 9,
            operations: 1,
        }
    }

    fn results(rustc: &str, cross: u64, pairs: u64) -> Results {
        let run = |cpus: u32| {
            let names = plan::expected(Mode::Icount, cpus);
            let figure = |name: &str| match name {
                "call_reply_cross_as" => cross,
                "pairs_local_4" => pairs,
                _ => 10,
            };
            let rows = names.iter().map(|name| row(name, figure(name))).collect();
            Run { mode: Mode::Icount, cpus, rows, counters: Vec::new() }
        };
        Results::new(Host::example(rustc), vec![run(1), run(4)])
    }

    fn baseline() -> Baseline {
        let limit = Limit { row: "call_reply_cross_as".into(), cpus: vec![1], p50: 160 };
        let ratio =
            Ratio { row: "pairs_local_4".into(), cpus: 4, like: "call_reply_cross_as".into(), percent: 2 };
        let mut baseline =
            Baseline { schema: 1, limits: vec![limit], ratios: vec![ratio], exact: BTreeMap::new() };
        baseline.update(&results("rustc 1", 150, 150));
        baseline
    }

    #[test]
    fn a_known_key_is_compared_exactly() {
        let found = baseline().check(&results("rustc 1", 150, 150));
        assert_eq!(found.failures, Vec::<String>::new());
        assert!(found.exact > 20);
        let committed = |row| baseline().committed(&Host::example("rustc 1"), 1, row);
        assert_eq!((committed("call_reply_cross_as"), committed("no_row")), (Some(150), None));
        assert_eq!(found.held, 2);
        let found = baseline().check(&results("rustc 1", 151, 151));
        assert!(found.failures.iter().any(|f| f.contains("min 150 → 151, p50 150 → 151")), "{found:?}");
    }

    #[test]
    fn an_unknown_key_leaves_the_limits() {
        let found = baseline().check(&results("rustc 2", 161, 161));
        assert_eq!(found.exact, 0);
        assert_eq!(found.failures, ["1 CPUs: call_reply_cross_as is 161, at most 160 allowed"]);
    }

    #[test]
    fn ratios_are_kept() {
        let found = baseline().check(&results("rustc 2", 100, 103));
        assert_eq!(found.failures, ["pairs_local_4 is 103, not within 2 % of call_reply_cross_as, 100"]);
        assert!(baseline().check(&results("rustc 2", 100, 98)).failures.is_empty());
    }

    #[test]
    fn a_missing_row_is_a_failure() {
        let mut results = results("rustc 1", 150, 150);
        results.runs[0].rows.retain(|row| row.name != "yield_to");
        let found = baseline().check(&results);
        assert!(found.failures.contains(&"1 CPUs: yield_to was not measured".to_owned()), "{found:?}");
    }

    #[test]
    fn the_committed_file_is_read_and_written_alike() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/baseline.json");
        let text = std::fs::read_to_string(&path).expect("committed");
        let baseline = Baseline::read(&path).expect("parses");
        assert_eq!(layout(&serde_json::to_value(baseline).expect("serialises"), 0) + "\n", text);
    }

    #[test]
    fn updating_one_key_leaves_the_others() {
        let mut baseline = baseline();
        baseline.update(&results("rustc 2", 140, 140));
        assert_eq!(baseline.exact.len(), 2);
        assert!(baseline.check(&results("rustc 1", 150, 150)).failures.is_empty());
        let text = layout(&serde_json::to_value(&baseline).expect("serialises"), 0);
        assert!(
            text.contains("\n        \"null_syscall\": {\"min\":10,\"n\":100,\"p50\":10,\"p99\":10},\n"),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Baseline>(&text).expect("parses"), baseline);
    }

    #[test]
    fn nothing_demanded_is_no_success() {
        let findings = |exact, failures: &[&str]| Findings {
            exact,
            failures: failures.iter().map(|text| (*text).to_owned()).collect(),
            ..Findings::default()
        };
        assert!(findings(1, &[]).verdict().is_ok());
        assert!(findings(0, &[]).verdict().is_err());
        assert!(findings(1, &["moved"]).verdict().is_err());
    }
}
