//! What the TCG plugin counted, as rows.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::plan;
use crate::report::Row;

/// Region of `call_reply_cross_cpu_busy`.
const BUSY: u8 = 1;
/// Region of `pairs_local_N` is this plus N.
const PAIRS: u8 = 0x10;

#[derive(Deserialize, Debug)]
struct Trace {
    regions: Vec<Region>,
}

#[derive(Deserialize, Debug)]
struct Region {
    id: u8,
    ops: u64,
    sample: Sample,
    lines: u64,
}

#[derive(Deserialize, Debug)]
struct Sample {
    n: u64,
    min: u64,
    p50: u64,
    p99: u64,
}

/// The rows of a traced boot on `cpus` CPUs.
pub fn rows(path: &Path, cpus: u32) -> Result<Vec<Row>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the plugin wrote nothing to {}", path.display()))?;
    rows_in(&text, cpus).with_context(|| format!("what the plugin wrote to {}", path.display()))
}

fn rows_in(text: &str, cpus: u32) -> Result<Vec<Row>> {
    let trace: Trace = serde_json::from_str(text)?;
    Ok(trace.regions.iter().filter_map(|region| region.row(cpus)).collect())
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
            {"id":1,"ops":10,"instructions":[2600,3100],"sample":{"n":9,"min":570,"p50":571,"p99":580},"lines":120},
            {"id":20,"ops":1000,"instructions":[1,1,1,1],"sample":{"n":999,"min":0,"p50":160,"p99":900},"lines":1},
            {"id":18,"ops":1000,"instructions":[1,1],"sample":{"n":999,"min":0,"p50":160,"p99":900},"lines":0}]}"#;
        let rows = rows_in(text, 4).expect("parses");
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].name.as_str(), rows[0].p50, rows[0].n), (plan::BUSY, 571, 9));
        assert_eq!(
            (rows[1].name.as_str(), rows[1].p50, rows[1].unit.as_str()),
            (plan::SHARED_LINES, 1, "lines")
        );
    }
}
