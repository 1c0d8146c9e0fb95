//! What the TCG plugin counted: its file, and as rows.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::plan;
use crate::report::Row;

/// Region of `call_reply_cross_cpu_busy`.
const BUSY: u8 = 1;
/// Region around every sample of every row.
const SAMPLES: u8 = 2;
/// Region of `pairs_local_N` is this plus N.
const PAIRS: u8 = 0x10;

/// The file's content.
#[derive(Deserialize, Debug)]
pub struct Counted {
    pub regions: Vec<Region>,
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

/// Of all CPUs.
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
}

impl Counted {
    pub fn read(path: &Path) -> Result<Counted> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the plugin wrote nothing to {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("what the plugin wrote to {}", path.display()))
    }

    /// The rows of a boot that it watched on `cpus` CPUs.
    pub fn rows(&self, cpus: u32) -> Vec<Row> {
        self.regions.iter().filter_map(|region| region.row(cpus)).collect()
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
            n: self.sample.n,
            overhead: 0,
            operations: 1,
        };
        if self.id == BUSY && self.sample.n > 0 {
            let Sample { n, min, p50, p99 } = self.sample;
            return Some(Row { n, min, p50, p99, ..row(plan::BUSY, "instructions") });
        }
        if self.id == SAMPLES && self.longest_off > 0 {
            let longest = self.longest_off;
            return Some(Row {
                n: 1,
                min: longest,
                p50: longest,
                p99: longest,
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
            {"id":1,"ops":10,"instructions":[2600,3100],"span":{"instructions":0,"lines":0},"sample":{"n":9,"min":570,"p50":571,"p99":580},"lines":120},
            {"id":20,"ops":1000,"instructions":[1,1,1,1],"span":{"instructions":0,"lines":0},"sample":{"n":999,"min":0,"p50":160,"p99":900},"lines":1},
            {"id":2,"ops":0,"instructions":[1],"span":{"instructions":0,"lines":0},"sample":{"n":0,"min":0,"p50":0,"p99":0},"lines":0,"longest_off":77},
            {"id":18,"ops":1000,"instructions":[1,1],"span":{"instructions":0,"lines":0},"sample":{"n":999,"min":0,"p50":160,"p99":900},"lines":0}]}"#;
        let rows = serde_json::from_str::<Counted>(text).expect("parses").rows(4);
        assert_eq!(rows.len(), 3);
        assert_eq!((rows[2].name.as_str(), rows[2].p50), (plan::INTERRUPTS_OFF, 77));
        assert_eq!((rows[0].name.as_str(), rows[0].p50, rows[0].n), (plan::BUSY, 571, 9));
        assert_eq!(
            (rows[1].name.as_str(), rows[1].p50, rows[1].unit.as_str()),
            (plan::SHARED_LINES, 1, "lines")
        );
    }
}
