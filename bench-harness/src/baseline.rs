//! The committed limits and exact values of icount figures: `perf/baseline.json`.
//!
//! Limits and ratios apply everywhere. Exact figures apply to one key of compiler, QEMU and guest
//! CPU model, because another compiler makes other code and another QEMU may count differently. An
//! unknown key is not a failure, but it is reported (`exact: 0 rows`).

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files;
use crate::host::Host;
use crate::machine::Mode;
use crate::report::{Row, Work};
use crate::results::{Results, Run};
use crate::rows;
use crate::testsum::{Cases, Tally};
use crate::trouble::Trouble;

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Baseline {
    schema: u32,
    limits: Vec<Limit>,
    ratios: Vec<Ratio>,
    /// The key of the figures that README and book show.
    shown: String,
    /// Key → number of CPUs → row → figures.
    exact: BTreeMap<String, BTreeMap<u32, BTreeMap<String, Figures>>>,
}

/// The median of a row may be at most so much. Without options it is at most 5 percent above the
/// exact figures.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
struct Limit {
    row: String,
    cpus: Vec<u32>,
    p50: u64,
    /// More words of the command line that it holds with, in place of the limit without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<String>,
}

/// How far above an exact figure its limit may lie, in percent, rounded down.
#[cfg(test)]
const ABOVE: u64 = 5;

/// The median of a row is within so many percent of another row's on one CPU.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
struct Ratio {
    row: String,
    cpus: u32,
    like: String,
    percent: u64,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    min: u64,
    pub p50: u64,
    p99: u64,
    pub max: u64,
    n: u64,
    #[serde(flatten)]
    pub work: Option<Work>,
}

/// How far above its committed figure the greatest sample may lie: two interrupts of the timer. In
/// which sample one comes changes with every instruction before it; and while all CPUs halt the
/// host decides when the clock goes on. The least sample is not gated, for the same reason: an
/// interrupt that comes just before a message finds a CPU awake that halts in all other samples. It
/// cannot lie above the median, which is.
const MAX_ABOVE: u64 = 700;
/// The largest difference for each kind of what ten samples take besides instructions.
const WORK_MAX_ABOVE: u64 = 4;
/// With so few samples, an interrupt or two decide the 99th percentile as they do the maximum.
const FEW_SAMPLES: u64 = 200;

impl Figures {
    /// Returns whether measured figures meet these, the demanded ones.
    fn holds(self, measured: Figures) -> bool {
        let has_few = self.n < FEW_SAMPLES && measured.p99 <= self.max + MAX_ABOVE;
        let p99 = if has_few { self.p99 } else { measured.p99 };
        let work = match (self.work, measured.work) {
            (Some(mine), Some(its)) if its.is_like(&mine, WORK_MAX_ABOVE) => self.work,
            _ => measured.work,
        };
        measured.max <= self.max + MAX_ABOVE
            && Figures { min: self.min, p99, max: self.max, work, ..measured } == self
    }

    /// Returns a figure of the row by its name: of the samples, or a median of the work besides
    /// instructions.
    pub fn field(&self, name: &str) -> Option<u64> {
        let samples = [("min", self.min), ("p50", self.p50), ("p99", self.p99), ("max", self.max)];
        let work = self.work.map_or(Vec::new(), |work| work.kinds().to_vec());
        let all = samples.into_iter().chain(work.into_iter().map(|(kind, [p50, _])| (kind, p50)));
        all.into_iter().find(|(field, _)| *field == name).map(|(_, figure)| figure)
    }
}

impl From<&Row> for Figures {
    fn from(row: &Row) -> Figures {
        Figures { min: row.min, p50: row.p50, p99: row.p99, max: row.max, n: row.n, work: row.work }
    }
}

/// What a check found.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Findings {
    /// Rows compared exactly.
    pub exact: usize,
    /// Limits and ratios that were held.
    pub held: usize,
    /// What was as demanded, by name.
    pub good: Vec<String>,
    pub failures: Vec<String>,
    /// Remarks that are no failures.
    pub remarks: Vec<String>,
}

impl Findings {
    /// Counts each demand that was checked as a test.
    pub fn tally(&self, cases: &Cases) -> Tally {
        let good = self.good.iter().map(|name| (name.as_str(), None));
        let bad =
            self.failures.iter().map(|why| (why.split(':').nth(1).unwrap_or(why).trim(), Some(why.clone())));
        let mut sum = Tally::default();
        good.chain(bad).for_each(|(name, wrong)| sum += cases.one(name, wrong));
        sum
    }

    /// Checks that every demand is met, and that there was one: otherwise nothing was checked for
    /// the user who asked for a check.
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

/// Returns the key of this machine's exact figures.
pub fn key(host: &Host) -> String {
    with_options(&format!("{} | QEMU {} | {}", host.rustc, host.qemu, host.guest_cpu), &host.options)
}

fn with_options(key: &str, options: &str) -> String {
    if options.is_empty() { key.to_owned() } else { format!("{key} | {options}") }
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
        files::write(path, text)
    }

    /// Returns the committed median of a row, if there is one for this machine.
    pub fn committed(&self, host: &Host, cpus: u32, row: &str) -> Option<u64> {
        Some(self.exact.get(&key(host))?.get(&cpus)?.get(row)?.p50)
    }

    /// Returns the rows that README and book show, for a number of CPUs.
    pub fn shown(&self, cpus: u32) -> Option<&BTreeMap<String, Figures>> {
        self.shown_with("", cpus)
    }

    /// Returns the shown figures that were measured with more words on the command line.
    pub fn shown_with(&self, options: &str, cpus: u32) -> Option<&BTreeMap<String, Figures>> {
        self.exact.get(&with_options(&self.shown, options))?.get(&cpus)
    }

    /// Returns whether the baseline has demands on runs with this number of CPUs.
    pub fn demands_of(&self, cpus: u32) -> bool {
        self.limits.iter().any(|limit| limit.cpus.contains(&cpus))
            || self.exact.values().any(|exact| exact.contains_key(&cpus))
    }

    /// Returns the key of the machine with which the shown figures were measured.
    pub fn shown_key(&self) -> &str {
        &self.shown
    }

    /// Makes the measured figures the exact ones of their machine's key, for every number of CPUs
    /// that was measured.
    pub fn update(&mut self, results: &Results) {
        let of_key = self.exact.entry(key(&results.host)).or_default();
        for run in icount(results) {
            of_key.insert(run.cpus, run.rows.iter().map(|row| (row.name.clone(), row.into())).collect());
        }
    }

    /// Compares measured figures with the demanded ones.
    pub fn check(&self, results: &Results) -> Findings {
        let mut findings = Findings::default();
        for run in icount(results) {
            let missing =
                rows::expected(run.mode, run.cpus).into_iter().filter(|name| run.row(name).is_none());
            findings
                .failures
                .extend(missing.map(|name| format!("{} CPUs: {name} was not measured", run.cpus)));
            self.check_limits(run, &results.host.options, &mut findings);
        }
        self.check_ratios(results, &mut findings);
        self.check_exact(results, &mut findings);
        findings
    }

    /// Returns the rows of a number of CPUs that have a limit.
    pub fn limited(&self, cpus: u32) -> Vec<&str> {
        self.limits
            .iter()
            .filter(|limit| limit.cpus.contains(&cpus))
            .map(|limit| limit.row.as_str())
            .collect()
    }

    /// Checks the limits of one run's figures. `options` are further words of its command line.
    pub fn check_one(&self, run: &Run, options: &str) -> Findings {
        let mut findings = Findings::default();
        self.check_limits(run, options, &mut findings);
        findings
    }

    fn check_limits(&self, run: &Run, options: &str, findings: &mut Findings) {
        let of_run = |limit: &&Limit| limit.cpus.contains(&run.cpus);
        let is_special = |limit: &Limit| limit.options.as_deref() == Some(options);
        let has_special =
            |row: &str| self.limits.iter().filter(of_run).any(|l| l.row == row && is_special(l));
        let holds = |limit: &&Limit| match limit.options {
            Some(_) => is_special(limit),
            None => !has_special(&limit.row),
        };
        for limit in self.limits.iter().filter(of_run).filter(holds) {
            // A missing row has been reported already.
            let Some(row) = run.row(&limit.row) else { continue };
            if row.p50 <= limit.p50 {
                findings.held += 1;
                findings.good.push(format!("{} CPUs: limit of {}", run.cpus, row.name));
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
                findings.good.push(format!("ratio of {} to {}", ratio.row, ratio.like));
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
                if measured.is_some_and(|measured| demanded.holds(measured)) {
                    findings.exact += 1;
                    findings.good.push(format!("{} CPUs: {name}", run.cpus));
                } else if let Some(measured) = measured {
                    let text = format!("{} CPUs: {name} moved: {}", run.cpus, moved(demanded, measured));
                    findings.failures.push(text);
                } else {
                    findings.failures.push(format!("{} CPUs: {name} is in the baseline only", run.cpus));
                }
            }
            let new = run.rows.iter().filter(|row| !rows.contains_key(&row.name));
            findings
                .failures
                .extend(new.map(|row| format!("{} CPUs: {} is not in the baseline", run.cpus, row.name)));
        }
    }
}

fn moved(from: Figures, to: Figures) -> String {
    let figures = |of: Figures| {
        [("min", of.min), ("p50", of.p50), ("p99", of.p99), ("max", of.max), ("n", of.n)]
            .map(|(name, figure)| (name.to_owned(), figure))
    };
    let work = |of: Figures| {
        let kinds = of.work.map_or(Vec::new(), |work| work.kinds().to_vec());
        kinds
            .into_iter()
            .flat_map(|(name, [p50, max])| [(format!("{name} p50"), p50), (format!("{name} max"), max)])
    };
    if from.work.is_some() != to.work.is_some() {
        return "what it takes besides instructions was counted only once".to_owned();
    }
    let all = |of: Figures| figures(of).into_iter().chain(work(of));
    let changed = all(from).zip(all(to)).filter(|(from, to)| from != to);
    changed.map(|((name, from), (_, to))| format!("{name} {from} → {to}")).collect::<Vec<_>>().join(", ")
}

/// Writes JSON with one line for each limit and each row, so that a change of figures reads well.
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

/// Returns whether a JSON value goes on one line: a number, a text, or a list or object that
/// contains nothing deeper than lists of those.
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

    fn results(rustc: &str, cross: u64, pairs: u64) -> Results {
        let run = |cpus: u32| {
            let names = rows::expected(Mode::Icount, cpus);
            let figure = |name: &str| match name {
                "call_reply_cross_as" => cross,
                "pairs_local_4" => pairs,
                _ => 10,
            };
            let rows = names.iter().map(|name| Row::example(name, figure(name))).collect();
            Run { mode: Mode::Icount, cpus, rows, counters: Vec::new() }
        };
        Results::new(Host::example(rustc), vec![run(1), run(4)])
    }

    fn baseline() -> Baseline {
        let limit = Limit { row: "call_reply_cross_as".into(), cpus: vec![1], p50: 160, options: None };
        let ratio =
            Ratio { row: "pairs_local_4".into(), cpus: 4, like: "call_reply_cross_as".into(), percent: 2 };
        let mut baseline = Baseline {
            schema: 1,
            limits: vec![limit],
            ratios: vec![ratio],
            shown: "rustc 1".to_owned(),
            exact: BTreeMap::new(),
        };
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
    fn a_limit_with_options_stands_in_place_of_the_other() {
        let mut baseline = baseline();
        let special = Limit { p50: 170, options: Some("label=1".into()), ..baseline.limits[0].clone() };
        baseline.limits.push(special);
        let run = &results("rustc 1", 165, 165).runs[0];
        assert_eq!(baseline.check_one(run, "label=1").held, 1);
        assert_eq!(baseline.check_one(run, "label=2").failures.len(), 1);
        assert_eq!(baseline.check_one(run, "").failures.len(), 1);
    }

    #[test]
    fn limits_are_close_to_the_exact_figures() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/baseline.json");
        let baseline = Baseline::read(&path).expect("committed");
        let mut looked_at = 0;
        for (limit, cpus) in
            baseline.limits.iter().flat_map(|limit| limit.cpus.iter().map(move |n| (limit, n)))
        {
            for of_key in baseline.exact.values().filter(|_| limit.options.is_none()) {
                let Some(exact) = of_key.get(cpus).and_then(|rows| rows.get(&limit.row)) else { continue };
                let most = exact.p50 * (100 + ABOVE) / 100;
                assert!(limit.p50 <= most, "{} on {cpus}: at most {most}, not {}", limit.row, limit.p50);
                looked_at += 1;
            }
        }
        assert!(looked_at >= baseline.limits.len() - 1, "{looked_at}");
    }

    #[test]
    fn the_greatest_sample_is_bounded_the_least_free_and_all_else_exact() {
        let with_max = |max| Figures { max, n: 1000, ..Figures::from(&Row::example("yield_to", 100)) };
        assert!(with_max(500).holds(with_max(500)) && with_max(500).holds(with_max(400)));
        assert!(with_max(500).holds(with_max(1200)) && !with_max(500).holds(with_max(1201)));
        assert!(with_max(500).holds(Figures { min: 90, ..with_max(500) }));
        assert!(!with_max(500).holds(Figures { p50: 101, ..with_max(500) }));
        assert!(!with_max(500).holds(Figures { p99: 101, ..with_max(500) }));
    }

    #[test]
    fn the_greatest_of_what_is_taken_besides_is_bounded() {
        let of = |p50, max| {
            let work = Some(Work { atomics: [p50, max], ..Work::default() });
            Figures { work, ..Figures::from(&Row::example("yield_to", 100)) }
        };
        assert!(of(2, 2).holds(of(2, 6)) && of(2, 9).holds(of(2, 2)));
        assert!(!of(2, 2).holds(of(2, 7)) && !of(2, 2).holds(of(3, 3)) && !of(2, 2).holds(of(1, 2)));
        assert!(!of(2, 2).holds(Figures { work: None, ..of(2, 2) }));
    }

    #[test]
    fn of_few_samples_the_99th_percentile_is_bounded_as_the_greatest() {
        let of = |n, p99| Figures { n, p99, max: p99, ..Figures::from(&Row::example("retype_sched", 100)) };
        assert!(of(60, 100).holds(of(60, 422)) && of(60, 422).holds(of(60, 100)));
        assert!(of(60, 100).holds(of(60, 800)) && !of(60, 100).holds(of(60, 801)));
        assert!(of(199, 100).holds(of(199, 422)) && !of(200, 100).holds(of(200, 422)));
        assert!(!of(60, 100).holds(Figures { p50: 101, ..of(60, 100) }));
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
            text.contains(
                "\n        \"null_syscall\": {\"max\":10,\"min\":10,\"n\":100,\"p50\":10,\"p99\":10},\n"
            ),
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
