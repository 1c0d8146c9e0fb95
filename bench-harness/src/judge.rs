//! Judges snapshots of the guest's kernel as they come, by the crate [`invariants`].

use std::path::Path;

use anyhow::{Context, Result};
use invariants::{Checker, Snapshot};
use snapshot::text::END;

use crate::confined::Watch;
use crate::files;
use crate::tail::Lines;
use crate::trouble::Trouble;

/// Listens to the channel of snapshots.
#[derive(Default)]
pub struct Judge {
    lines: Lines,
    /// The snapshot that is coming in.
    text: String,
    snapshot: Snapshot,
    checker: Checker,
    /// The last snapshot that came whole, or the first in which something was wrong.
    kept: String,
    /// How many snapshots of everything came whole.
    pub count: u32,
    /// What was wrong in the first in which something was.
    pub violations: Vec<String>,
    /// What some processes come to hold and see.
    pub watch: Watch,
}

impl Judge {
    /// Reads the payload of a record, and shows each snapshot that it completes.
    pub fn push(&mut self, payload: &[u8], mut show: impl FnMut(&Snapshot)) {
        for line in self.lines.push(payload) {
            self.text.push_str(&line);
            self.text.push('\n');
            if line == END {
                self.judge(&mut show);
            }
        }
    }

    fn judge(&mut self, show: &mut impl FnMut(&Snapshot)) {
        let text = std::mem::take(&mut self.text);
        self.snapshot.clear();
        let read = self.snapshot.read(&text);
        if read.is_ok() {
            show(&self.snapshot);
            if self.snapshot.kernels.iter().any(|kernel| kernel.without_memory) {
                // Most references name something of which it has no record.
                return;
            }
        }
        self.count += 1;
        if !self.violations.is_empty() {
            return;
        }
        self.violations = match read {
            Ok(()) => {
                self.watch.look(&mut self.snapshot);
                self.checker.check(&self.snapshot).iter().map(ToString::to_string).collect()
            }
            Err(error) => vec![format!("the snapshot is none: {error}")],
        };
        self.kept = text;
    }

    /// Writes the snapshot, if there was one, to a file for later inspection.
    pub fn keep(&self, path: &Path) -> Result<()> {
        if self.kept.is_empty() {
            return Ok(());
        }
        files::write(path, &self.kept)
    }
}

/// Judges a snapshot in a file, and prints what is wrong with it.
pub fn command(path: &Path) -> Result<()> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let mut judge = Judge::default();
    judge.push(&text, |_| {});
    if judge.count == 0 {
        return Err(Trouble::Usage(format!("{} has no whole snapshot", path.display())).into());
    }
    judge.violations.iter().for_each(|violation| println!("{violation}"));
    match judge.violations.len() {
        0 => Ok(()),
        count => Err(Trouble::CheckFailed(format!("{count} invariants do not hold")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = ":kernel cpus steps_max\nkernel 1 -\n:cpu id soonest\ncpu - ffffffffffffffff\n:end\n";

    #[test]
    fn snapshots_are_judged_as_they_come() {
        let mut judge = Judge::default();
        let (first, second) = GOOD.as_bytes().split_at(30);
        judge.push(first, |_| {});
        assert_eq!(judge.count, 0);
        judge.push(second, |_| {});
        assert_eq!((judge.count, &judge.violations), (1, &Vec::new()));
        let bad = GOOD
            .replace("id soonest\ncpu - ", "id steps soonest\ncpu - 9 ")
            .replace("kernel 1 -", "kernel 1 8");
        judge.push(bad.as_bytes(), |_| {});
        assert_eq!(judge.count, 2);
        assert_eq!(judge.violations, ["steps: an entry on cpu0 took 9 steps, of 8 at most"]);
        judge.push(GOOD.as_bytes(), |_| {});
        assert_eq!((judge.count, judge.violations.len()), (3, 1), "what was wrong once was wrong");
        assert_eq!(judge.kept, bad);
    }

    #[test]
    fn a_snapshot_without_memory_is_shown_and_not_judged() {
        let mut judge = Judge::default();
        let mut shown = 0;
        let partial =
            GOOD.replace("cpus steps_max\nkernel 1 -", "cpus steps_max without_memory\nkernel 1 - 1");
        judge.push(partial.as_bytes(), |_| shown += 1);
        assert_eq!((judge.count, shown), (0, 1));
        judge.push(GOOD.as_bytes(), |_| shown += 1);
        assert_eq!((judge.count, shown), (1, 2));
    }

    #[test]
    fn what_is_no_snapshot_is_wrong() {
        let mut judge = Judge::default();
        judge.push(b"cpu 1\n:end\n", |_| {});
        assert!(judge.violations[0].contains("no line names the fields"), "{:?}", judge.violations);
    }
}
