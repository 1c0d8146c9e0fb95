//! The TCG plugin's counts: reads its file, and makes rows of it.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::plan;
use crate::report::{Row, Work};

/// Region of `call_reply_cross_cpu_busy`.
const BUSY: u8 = 1;
/// Regions of [`plan::IRQS`]: from this one on.
const IRQ: u8 = 9;
/// Region around every sample of every row.
const SAMPLES: u8 = 2;
/// Region of `pairs_local_N` is this plus N.
const PAIRS: u8 = 0x10;

/// The file's content.
#[derive(Deserialize, Debug)]
pub struct Counted {
    pub regions: Vec<Region>,
    /// What samples of rows took besides instructions.
    #[serde(default)]
    work: Vec<RowWork>,
}

/// The counts of the row that this marker announced.
#[derive(Deserialize, Debug)]
struct RowWork {
    row: u64,
    atomics: Counts,
    cr_writes: Counts,
    msr_writes: Counts,
    serialising: Counts,
    lines: Counts,
}

/// The median and maximum of all samples of a row.
#[derive(Deserialize, Clone, Copy, Debug)]
struct Counts {
    p50: u64,
    max: u64,
}

impl From<Counts> for [u64; 2] {
    fn from(counts: Counts) -> [u64; 2] {
        [counts.p50, counts.max]
    }
}

#[derive(Deserialize, Debug)]
pub struct Region {
    pub id: u8,
    pub ops: u64,
    /// Between the end of the first operation and that of the last.
    pub span: Sum,
    sample: Sample,
    lines: u64,
    /// Instructions that a CPU executed in the kernel on end, interrupts off.
    #[serde(default)]
    longest_off: u64,
}

/// The sums of all CPUs.
#[derive(Deserialize, Debug)]
pub struct Sum {
    pub instructions: u64,
    /// Cache lines that changed hands.
    pub lines: u64,
}

#[derive(Deserialize, Debug)]
struct Sample {
    n: u64,
    min: u64,
    p50: u64,
    p99: u64,
    max: u64,
}

impl Counted {
    pub fn read(path: &Path) -> Result<Counted> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the plugin wrote nothing to {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("what the plugin wrote to {}", path.display()))
    }

    /// Returns the rows of a boot on `cpus` CPUs that the plugin watched.
    pub fn rows(&self, cpus: u32) -> Vec<Row> {
        self.regions.iter().filter_map(|region| region.row(cpus)).collect()
    }

    /// Returns the work of the samples of the row that this marker announced.
    pub fn work(&self, mark: u64) -> Option<Work> {
        let of = self.work.iter().find(|work| work.row == mark)?;
        Some(Work {
            atomics: of.atomics.into(),
            cr_writes: of.cr_writes.into(),
            msr_writes: of.msr_writes.into(),
            serialising: of.serialising.into(),
            lines: of.lines.into(),
        })
    }
}

impl Region {
    fn row(&self, cpus: u32) -> Option<Row> {
        let row = |name: &str, unit: &str| Row {
            name: name.to_owned(),
            unit: unit.to_owned(),
            scope: "round-trip".to_owned(),
            min: 0,
            p50: 0,
            p99: 0,
            max: 0,
            n: self.sample.n,
            work: None,
            samples: Vec::new(),
            overhead: 0,
            operations: 1,
            mark: None,
        };
        if self.id == BUSY && self.sample.n > 0 {
            let Sample { n, min, p50, p99, max } = self.sample;
            return Some(Row { n, min, p50, p99, max, ..row(plan::BUSY, "instructions") });
        }
        if let Some(name) = self.id.checked_sub(IRQ).and_then(|place| plan::IRQS.get(usize::from(place)))
            && self.sample.n > 0
        {
            let Sample { n, min, p50, p99, max } = self.sample;
            return Some(Row {
                n,
                min,
                p50,
                p99,
                max,
                scope: "one-way".to_owned(),
                ..row(name, "instructions")
            });
        }
        if self.id == SAMPLES && self.longest_off > 0 && cpus == 1 {
            let longest = self.longest_off;
            return Some(Row {
                n: 1,
                min: longest,
                p50: longest,
                p99: longest,
                max: longest,
                scope: "operation".to_owned(),
                ..row(plan::INTERRUPTS_OFF, "instructions")
            });
        }
        if u32::from(self.id) == u32::from(PAIRS) + cpus && self.ops > 0 {
            // Rounded up: one line that changes hands once must not vanish.
            let lines = self.lines.div_ceil(self.ops);
            return Some(Row {
                n: self.ops,
                min: lines,
                p50: lines,
                p99: lines,
                max: lines,
                ..row(plan::SHARED_LINES, "lines")
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_become_rows() {
        let text = r#"{"regions":[
            {"id":1,"ops":10,"instructions":[2600,3100],"span":{"instructions":0,"lines":0},"sample":{"n":9,"min":570,"p50":571,"p99":580,"max":580},"lines":120},
            {"id":20,"ops":1000,"instructions":[1,1,1,1],"span":{"instructions":0,"lines":0},"sample":{"n":999,"min":0,"p50":160,"p99":900,"max":900},"lines":1},
            {"id":2,"ops":0,"instructions":[1],"span":{"instructions":0,"lines":0},"sample":{"n":0,"min":0,"p50":0,"p99":0,"max":0},"lines":0,"longest_off":77},
            {"id":18,"ops":1000,"instructions":[1,1],"span":{"instructions":0,"lines":0},"sample":{"n":999,"min":0,"p50":160,"p99":900,"max":900},"lines":0}],
            "work":[{"row":3,"n":9,"atomics":{"p50":1,"max":2},"cr_writes":{"p50":2,"max":2},"msr_writes":{"p50":0,"max":0},
            "serialising":{"p50":3,"max":3},"lines":{"p50":0,"max":0}}]}"#;
        let rows = serde_json::from_str::<Counted>(text).expect("parses");
        let work = rows.work(3).expect("counted");
        assert_eq!((work.atomics, work.serialising, rows.work(4)), ([1, 2], [3, 3], None));
        let of_one = rows.rows(1);
        assert_eq!((of_one[1].name.as_str(), of_one[1].p50), (plan::INTERRUPTS_OFF, 77));
        let rows = rows.rows(4);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].name.as_str(), rows[0].p50, rows[0].n), (plan::BUSY, 571, 9));
        assert_eq!(
            (rows[1].name.as_str(), rows[1].p50, rows[1].unit.as_str()),
            (plan::SHARED_LINES, 1, "lines")
        );
    }
}
