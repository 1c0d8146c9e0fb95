//! The committed figures, `perf/mailbox.json`, from which tables and picture of the book are made.
//! They are from one processor, which the file names. No check compares them with runs.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::read::Figure;
use super::{markdown, plot};
use crate::files;

/// A result file.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Results {
    pub schema: u32,
    pub cpu: String,
    pub os: String,
    pub rustc: String,
    pub cores: u32,
    pub runs: usize,
    pub figures: Vec<Figure>,
}

impl Results {
    pub fn read(path: &Path) -> Result<Results> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is no result file of `mailbox`", path.display()))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        files::write(path, self.text()?)
    }

    /// Writes the file's text: a line for each figure, so that a difference of two files reads
    /// well.
    fn text(&self) -> Result<String> {
        let Results { schema, cpu, os, rustc, cores, runs, figures } = self;
        let figures: Result<Vec<String>, _> = figures.iter().map(serde_json::to_string).collect();
        Ok(format!(
            "{{\"schema\":{schema},\"cpu\":{},\"os\":{},\"rustc\":{},\"cores\":{cores},\"runs\":{runs},\"figures\":[\n{}\n]}}\n",
            json!(cpu),
            json!(os),
            json!(rustc),
            figures?.join(",\n")
        ))
    }

    /// Returns the machine that was measured, and how often.
    pub fn machine(&self) -> String {
        let Results { cpu, os, rustc, cores, runs, .. } = self;
        let s = if *runs == 1 { "" } else { "s" };
        format!("{cpu}, {cores} cores; {os}; {rustc}; {runs} run{s}")
    }

    /// Returns the tables of the book's page.
    pub fn page(&self) -> String {
        format!("{}.\n\n{}", self.machine(), markdown::render(&self.figures, self.cores))
    }

    pub fn picture(&self) -> Result<String> {
        plot::svg(&self.figures, self.cores)
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::Group;
    use super::super::tests::figure;
    use super::*;

    #[test]
    fn a_result_file_is_read_as_it_is_written() {
        let results = Results {
            schema: 1,
            cpu: "a \"CPU\"".to_owned(),
            os: "an OS".to_owned(),
            rustc: "rustc 1.95.0".to_owned(),
            cores: 2,
            runs: 5,
            figures: vec![
                figure(Group::Latency, 1, "mailbox", (1.0, 2.0, 3.5)),
                figure(Group::Alone, 32, "a ring, each", (4.0, 5.25, 6.0)),
            ],
        };
        let text = results.text().expect("text");
        assert_eq!(text.lines().count(), 1 + 2 + 1);
        assert_eq!(serde_json::from_str::<Results>(&text).expect("what was written"), results);
    }
}
