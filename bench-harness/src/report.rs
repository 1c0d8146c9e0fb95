//! Report lines: the guest's results, as text on channel 0x80.
//!
//! The grammar is in the book's chapter on measuring. Lines that do not follow it are kept as
//! [`Report::Other`] and are no error: the guest may report more than this harness knows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Statistics of one measured operation, overhead subtracted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Row {
    pub name: String,
    pub unit: String,
    pub scope: String,
    pub min: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
    pub n: u64,
    /// What it takes besides instructions, where the plugin has counted that.
    #[serde(flatten)]
    pub work: Option<Work>,
    /// What every single sample says of one operation, in the order in which they were taken, where
    /// that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<u64>,
    /// What was subtracted from every sample.
    #[serde(skip)]
    pub overhead: u64,
    /// Operations of one sample, by which the figures were divided.
    #[serde(skip)]
    pub operations: u64,
    /// The number of the marker that announced it to the plugin.
    #[serde(skip)]
    pub mark: Option<u64>,
}

/// What a sample takes that a processor waits for, of all CPUs: the median, and the most.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Work {
    pub atomics: [u64; 2],
    pub cr_writes: [u64; 2],
    pub msr_writes: [u64; 2],
    pub serialising: [u64; 2],
    /// Cache lines that changed hands.
    pub lines: [u64; 2],
}

impl Work {
    /// Returns whether the medians equal those of `other`, and each maximum exceeds that of `other`
    /// by `above` at most.
    pub fn is_like(&self, other: &Work, above: u64) -> bool {
        let mut pairs = self.kinds().into_iter().zip(other.kinds());
        pairs.all(|((_, its), (_, others))| its[0] == others[0] && its[1] <= others[1] + above)
    }

    /// Returns each kind with its name.
    pub fn kinds(&self) -> [(&'static str, [u64; 2]); 5] {
        [
            ("atomics", self.atomics),
            ("cr_writes", self.cr_writes),
            ("msr_writes", self.msr_writes),
            ("serialising", self.serialising),
            ("lines", self.lines),
        ]
    }
}

#[cfg(test)]
impl Row {
    /// Makes a row whose samples are all alike.
    pub fn example(name: &str, figure: u64) -> Row {
        Row {
            name: name.to_owned(),
            unit: "instructions".to_owned(),
            scope: "round-trip".to_owned(),
            min: figure,
            p50: figure,
            p99: figure,
            max: figure,
            n: 100,
            work: None,
            samples: Vec::new(),
            overhead: 9,
            operations: 1,
            mark: None,
        }
    }
}

/// A per-CPU event counter, since boot or while one row was measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counter {
    pub cpu: u32,
    pub row: Option<String>,
    pub name: String,
    pub value: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Ok,
    Failed(String),
    /// The machine lacks what the test is about.
    Skipped(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    Row(Box<Row>),
    Counter(Counter),
    /// Some samples of a row, before it.
    Samples {
        row: String,
        figures: Vec<u64>,
    },
    Test {
        name: String,
        verdict: Verdict,
    },
    Progress(String),
    /// The guest's own count at its end.
    Done {
        passed: u64,
        failed: u64,
    },
    /// Result line of a stress run.
    Stress(BTreeMap<String, String>),
    /// Result line of a torture run.
    Torture(BTreeMap<String, String>),
    /// Result line of a fuzz run, or of a storm.
    Fuzz(BTreeMap<String, String>),
    /// What an attack of the `hostile` program came to.
    Hostile(BTreeMap<String, String>),
    /// Result line of a scheduling policy at work.
    Policy(BTreeMap<String, String>),
    /// The result line of processes that were killed.
    Restarts(BTreeMap<String, String>),
    /// What a load of the `scale` program did.
    Scale(BTreeMap<String, String>),
    Other(String),
}

impl Report {
    pub fn parse(line: &str) -> Report {
        let line = line.trim_end_matches(['\r', '\n', '\0']);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let known = match word {
            "row" => row(&fields(rest)).map(|row| Report::Row(Box::new(row))),
            "counter" => counter(&fields(rest)).map(Report::Counter),
            "samples" => samples(rest),
            "test" => test(rest),
            "progress" => Some(Report::Progress(rest.to_owned())),
            "done" => done(&fields(rest)),
            "stress" => Some(Report::Stress(owned(&fields(rest)))),
            "torture" => Some(Report::Torture(owned(&fields(rest)))),
            "fuzz" | "storm" => Some(Report::Fuzz(owned(&fields(rest)))),
            "hostile" => Some(Report::Hostile(owned(&fields(rest)))),
            "policy" => Some(Report::Policy(owned(&fields(rest)))),
            "restarts" => Some(Report::Restarts(owned(&fields(rest)))),
            "scale" => Some(Report::Scale(owned(&fields(rest)))),
            _ => None,
        };
        known.unwrap_or_else(|| Report::Other(line.to_owned()))
    }
}

type Fields<'a> = BTreeMap<&'a str, &'a str>;

/// Returns the `key=value` words of a line.
fn fields(text: &str) -> Fields<'_> {
    text.split_whitespace().filter_map(|word| word.split_once('=')).collect()
}

fn owned(fields: &Fields<'_>) -> BTreeMap<String, String> {
    fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn number(fields: &Fields<'_>, key: &str) -> Option<u64> {
    fields.get(key)?.parse().ok()
}

fn row(fields: &Fields<'_>) -> Option<Row> {
    Some(Row {
        name: (*fields.get("name")?).to_owned(),
        unit: (*fields.get("unit")?).to_owned(),
        scope: (*fields.get("scope")?).to_owned(),
        min: number(fields, "min")?,
        p50: number(fields, "p50")?,
        p99: number(fields, "p99")?,
        max: number(fields, "max")?,
        work: None,
        samples: Vec::new(),
        n: number(fields, "n")?,
        overhead: number(fields, "overhead").unwrap_or(0),
        operations: number(fields, "operations").unwrap_or(1).max(1),
        mark: number(fields, "mark"),
    })
}

fn counter(fields: &Fields<'_>) -> Option<Counter> {
    Some(Counter {
        cpu: fields.get("cpu")?.parse().ok()?,
        row: fields.get("row").map(|row| (*row).to_owned()),
        name: (*fields.get("name")?).to_owned(),
        value: number(fields, "value")?,
    })
}

fn samples(text: &str) -> Option<Report> {
    let mut words = text.split_whitespace();
    let row = words.next()?.strip_prefix("row=")?.to_owned();
    let figures = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    Some(Report::Samples { row, figures })
}

fn test(text: &str) -> Option<Report> {
    let mut words = text.splitn(3, ' ');
    let name = words.next()?.strip_prefix("name=")?.to_owned();
    let verdict = words.next()?;
    let message = words.next().unwrap_or("").to_owned();
    let verdict = match verdict {
        "ok" => Verdict::Ok,
        "FAILED" => Verdict::Failed(message),
        "skipped" => Verdict::Skipped(message),
        _ => return None,
    };
    Some(Report::Test { name, verdict })
}

fn done(fields: &Fields<'_>) -> Option<Report> {
    Some(Report::Done { passed: number(fields, "passed")?, failed: number(fields, "failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_numbers() {
        let read = Report::parse("samples row=null_syscall 28 29 28");
        assert_eq!(read, Report::Samples { row: "null_syscall".to_owned(), figures: vec![28, 29, 28] });
        assert!(matches!(Report::parse("samples row=null_syscall 28 x"), Report::Other(_)));
    }

    #[test]
    fn rows_are_read_whatever_the_order_of_fields() {
        let line = "row n=10 name=null_syscall scope=operation unit=instructions p99=26 p50=25 min=24 max=30 overhead=12 operations=2 mark=5 new=x";
        let Report::Row(row) = Report::parse(line) else { panic!("not a row") };
        assert_eq!(
            (row.name.as_str(), row.n, row.min, row.p50, row.p99, row.max),
            ("null_syscall", 10, 24, 25, 26, 30)
        );
        assert_eq!((row.overhead, row.operations, row.mark), (12, 2, Some(5)));
    }

    #[test]
    fn a_row_without_a_figure_is_no_row() {
        let line = "row name=a unit=cycles scope=operation n=1 min=1 p50=1 p99=1";
        assert_eq!(Report::parse(line), Report::Other(line.to_owned()));
        assert!(matches!(
            Report::parse("row name=a unit=cycles scope=operation n=1 min=-1 p50=1 p99=1 max=1"),
            Report::Other(_)
        ));
    }

    #[test]
    fn verdicts_carry_their_messages() {
        let failed = Report::parse("test name=a::b FAILED expected 4, got 3");
        assert_eq!(
            failed,
            Report::Test { name: "a::b".into(), verdict: Verdict::Failed("expected 4, got 3".into()) }
        );
        assert_eq!(Report::parse("test name=a ok"), Report::Test { name: "a".into(), verdict: Verdict::Ok });
        assert!(matches!(Report::parse("test name=a maybe"), Report::Other(_)));
    }

    #[test]
    fn counters_may_belong_to_a_row() {
        let Report::Counter(counter) = Report::parse("counter cpu=3 row=yield_to name=slow_entry value=7")
        else {
            panic!("not a counter")
        };
        assert_eq!((counter.cpu, counter.row.as_deref(), counter.value), (3, Some("yield_to"), 7));
    }

    #[test]
    fn done_and_stress() {
        assert_eq!(Report::parse("done passed=3 failed=1\n"), Report::Done { passed: 3, failed: 1 });
        let Report::Stress(fields) = Report::parse("stress seed=1 lost=0 hash=ab") else {
            panic!("not stress")
        };
        assert_eq!(fields["hash"], "ab");
    }
}
