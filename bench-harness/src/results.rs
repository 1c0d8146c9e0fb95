//! The results of a bench run: `target/bench/latest.json`.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::files;
use crate::host::Host;
use crate::machine::Mode;
use crate::report::{Counter, Row};

/// Version of the file's layout.
const SCHEMA: u32 = 1;

#[derive(Serialize, Debug)]
pub struct Results {
    pub schema: u32,
    pub host: Host,
    pub runs: Vec<Run>,
}

/// All rows of one mode and one number of CPUs.
#[derive(Serialize, Debug)]
pub struct Run {
    #[serde(serialize_with = "mode_name")]
    pub mode: Mode,
    pub cpus: u32,
    pub rows: Vec<Row>,
    /// For the table only.
    #[serde(skip)]
    pub counters: Vec<Counter>,
}

fn mode_name<S: serde::Serializer>(mode: &Mode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(mode.name())
}

impl Run {
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }
}

impl Results {
    pub fn new(host: Host, runs: Vec<Run>) -> Results {
        Results { schema: SCHEMA, host, runs }
    }

    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        files::make_dir_of(path)?;
        files::write(path, self.to_json()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Work;
    use serde_json::json;

    #[test]
    fn the_file_has_the_documented_layout() {
        let work = Work { cr_writes: [2, 2], ..Work::default() };
        let row = Row { work: Some(work), max: 31, ..Row::example("null_syscall", 25) };
        let run = Run { mode: Mode::Icount, cpus: 1, rows: vec![row], counters: Vec::new() };
        let text = Results::new(Host::example("r"), vec![run]).to_json().expect("serialises");
        let value: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
        assert_eq!(value["schema"], 1);
        assert!(value["host"].is_object());
        assert_eq!(
            value["runs"],
            json!([{"mode": "icount", "cpus": 1, "rows": [{"name": "null_syscall", "unit": "instructions",
                "scope": "round-trip", "min": 25, "p50": 25, "p99": 25, "max": 31, "n": 100,
                "atomics": [0, 0], "cr_writes": [2, 2], "msr_writes": [0, 0], "serialising": [0, 0], "lines": [0, 0]}]}])
        );
    }
}
