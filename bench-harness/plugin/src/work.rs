//! Counts the costly instructions of each row's samples, and the cache lines that change hands. It
//! counts on all CPUs, while a sample is open on any of them.

use std::collections::HashMap;
use std::fmt::Write;

use instructions::Class;

use crate::counts::{CPUS, LINE_SHIFT};

/// What is counted, in the order of [`Sample`].
pub const KINDS: [&str; 5] = ["atomics", "cr_writes", "msr_writes", "serialising", "lines"];
const LINES: usize = 4;
type Sample = [u64; KINDS.len()];

/// All rows so far.
#[derive(Default)]
pub struct Work {
    /// Rows are numbered by the markers that announce them, from 1 on.
    row: u64,
    /// Samples that are open, on different CPUs.
    open: u64,
    now: Sample,
    samples: Vec<Sample>,
    lines: HashMap<u64, Line>,
    done: Vec<(u64, Vec<Sample>)>,
}

/// What CPUs know of a cache line.
#[derive(Default)]
struct Line {
    /// Bit set of CPUs that hold a valid copy.
    holders: u64,
    written: bool,
}

impl Work {
    /// Begins another row.
    pub fn next_row(&mut self) {
        self.keep();
        self.row += 1;
        self.lines.clear();
    }

    fn keep(&mut self) {
        if !self.samples.is_empty() {
            self.done.push((self.row, std::mem::take(&mut self.samples)));
        }
        self.open = 0;
        self.now = Sample::default();
    }

    /// Notes that a sample is open on one more CPU.
    pub fn begin(&mut self) {
        self.open += 1;
    }

    /// Notes that a sample is open on one CPU less. With the last CPU, the work since
    /// [`Work::begin`] becomes a sample.
    pub fn end(&mut self) {
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.samples.push(std::mem::take(&mut self.now));
        }
    }

    /// Returns whether a sample is open on any CPU, so that instructions count.
    pub fn is_open(&self) -> bool {
        self.open > 0
    }

    /// Counts an instruction of these kinds that a CPU executed.
    pub fn instruction(&mut self, class: Class) {
        if self.is_open() {
            let kinds = [class.atomic, class.cr_write, class.msr_write, class.serialising];
            self.now.iter_mut().zip(kinds).for_each(|(sum, is)| *sum += u64::from(is));
        }
    }

    /// Counts an access of a CPU to memory at a physical address.
    pub fn access(&mut self, cpu: usize, address: u64, bytes: u64, write: bool) {
        let me = 1_u64 << (cpu % CPUS);
        for at in address >> LINE_SHIFT..=(address + bytes.max(1) - 1) >> LINE_SHIFT {
            let line = self.lines.entry(at).or_default();
            let moved = if write { line.holders & !me != 0 } else { line.holders & me == 0 };
            self.now[LINES] += u64::from(line.written && moved);
            if write {
                *line = Line { holders: me, written: true };
            } else {
                line.holders |= me;
            }
        }
    }

    /// Returns the rows as a JSON list: of each kind the median, and the most that a sample took.
    pub fn json(&mut self) -> String {
        self.keep();
        let rows: Vec<String> = self.done.iter().map(|(row, samples)| row_json(*row, samples)).collect();
        format!("[{}]", rows.join(","))
    }
}

fn row_json(row: u64, samples: &[Sample]) -> String {
    let mut text = format!("{{\"row\":{row},\"n\":{}", samples.len());
    for (kind, name) in KINDS.iter().enumerate() {
        let mut sorted: Vec<u64> = samples.iter().map(|sample| sample[kind]).collect();
        sorted.sort_unstable();
        let median = sorted[(sorted.len() - 1) / 2];
        let most = sorted[sorted.len() - 1];
        let _ = write!(text, ",\"{name}\":{{\"p50\":{median},\"max\":{most}}}");
    }
    text + "}"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atomic() -> Class {
        Class { atomic: true, ..Class::default() }
    }

    #[test]
    fn kinds_are_counted_within_samples_of_their_row() {
        let mut work = Work::default();
        work.next_row();
        for atomics in [1, 3, 2] {
            work.begin();
            (0..atomics).for_each(|_| work.instruction(atomic()));
            work.end();
            work.instruction(atomic()); // between two samples
        }
        work.next_row();
        work.next_row();
        work.begin();
        work.end();
        let text = work.json();
        assert!(
            text.starts_with(r#"[{"row":1,"n":3,"atomics":{"p50":2,"max":3},"cr_writes":{"p50":0"#),
            "{text}"
        );
        assert!(text.contains(r#"{"row":3,"n":1,"atomics":{"p50":0,"max":0}"#), "{text}");
    }

    #[test]
    fn samples_that_overlap_are_one() {
        let mut work = Work::default();
        work.next_row();
        work.begin();
        work.begin();
        work.end();
        work.instruction(atomic());
        work.end();
        assert!(work.json().contains(r#""n":1,"atomics":{"p50":1"#));
    }

    #[test]
    fn lines_move_between_cpus_and_start_anew_with_a_row() {
        let mut work = Work::default();
        work.next_row();
        for _ in 0..3 {
            work.begin();
            work.access(0, 0x1000, 8, true);
            work.access(1, 0x1000, 8, false);
            work.end();
        }
        assert!(work.json().contains(r#""lines":{"p50":2,"max":2}"#));
        let mut work = Work::default();
        work.access(0, 0x1000, 8, true);
        work.next_row();
        work.begin();
        work.access(1, 0x1000, 8, false);
        work.end();
        assert!(work.json().contains(r#""lines":{"p50":0,"max":0}"#));
    }
}
