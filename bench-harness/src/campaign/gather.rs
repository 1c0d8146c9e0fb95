//! Collects the results of all shards of a directory, and merges several directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::campaign::log::{self, Record};
use crate::campaign::page;
use crate::campaign::plan::Charter;
use crate::files;
use crate::trouble::Trouble;

const PAGE: &str = "index.html";
/// Log of a directory that was made of others.
const MERGED: &str = "merged.jsonl";

/// All that is known of a campaign.
pub struct Findings {
    pub charter: Charter,
    pub records: BTreeMap<u32, Record>,
}

impl Findings {
    pub fn of(dir: &Path) -> Result<Findings> {
        let charter = Charter::read(dir)?;
        let mut findings = Findings { charter, records: BTreeMap::new() };
        let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
        let mut logs: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        logs.sort();
        for path in logs {
            for record in log::read(&path)? {
                findings.add(record);
            }
        }
        Ok(findings)
    }

    /// Adds a result. If a seed has two results, the failure stays.
    fn add(&mut self, record: Record) {
        let there = self.records.get(&record.seed);
        if there.is_none_or(|there| there.passed()) {
            self.records.insert(record.seed, record);
        }
    }

    pub fn failed(&self) -> impl Iterator<Item = &Record> {
        self.records.values().filter(|record| !record.passed())
    }

    /// Returns how many seeds of the plan were not run.
    pub fn missing(&self) -> usize {
        self.charter.plan.all().filter(|seed| !self.records.contains_key(seed)).count()
    }

    /// Adds the findings of another directory of this campaign.
    fn take(&mut self, other: Findings, dir: &Path) -> Result<()> {
        if other.charter.plan != self.charter.plan {
            bail!(
                "{} has another campaign ({}): merge shards of one plan only",
                dir.display(),
                other.charter.plan
            );
        }
        for build in other.charter.builds {
            if !self.charter.builds.contains(&build) {
                self.charter.builds.push(build);
            }
        }
        other.records.into_values().for_each(|record| self.add(record));
        Ok(())
    }

    fn verdict(&self) -> Result<(), Trouble> {
        let (failed, missing) = (self.failed().count(), self.missing());
        match (failed, missing) {
            (0, 0) => Ok(()),
            (0, _) => Err(Trouble::CheckFailed(format!(
                "{missing} seeds have not been run: start their shards again, then merge"
            ))),
            _ => Err(Trouble::CheckFailed(format!("{failed} of {} seeds failed", self.records.len()))),
        }
    }
}

/// Writes the summary page of a directory. Returns its path.
pub fn write_page(dir: &Path) -> Result<PathBuf> {
    let path = dir.join(PAGE);
    files::write(&path, page::render(&Findings::of(dir)?))?;
    Ok(path)
}

/// Merges directories into one, or makes the summary of a single one.
/// Errors: a seed failed, or was not run.
pub fn merge(dirs: &[PathBuf], out: Option<&Path>) -> Result<()> {
    let (first, rest) = dirs.split_first().context("nothing to merge: name the directories")?;
    let mut findings = Findings::of(first)?;
    for dir in rest {
        findings.take(Findings::of(dir)?, dir)?;
    }
    let page = match out {
        Some(out) => unite(&findings, dirs, out)?,
        None if rest.is_empty() => write_page(first)?,
        None => bail!("several directories: name the merged one with --out"),
    };
    let (failed, missing) = (findings.failed().count(), findings.missing());
    println!(
        "campaign: {} seeds, {} passed, {failed} failed, {missing} not run; {}",
        findings.charter.plan.seeds,
        findings.records.len() - failed,
        page.display()
    );
    for record in findings.failed() {
        let Some(failure) = &record.failure else { continue };
        println!("seed {}: {}", record.seed, failure.why.lines().next().unwrap_or_default());
        println!("  {}", failure.replay);
    }
    findings.verdict().map_err(Into::into)
}

/// Writes the directory into which several were merged.
fn unite(findings: &Findings, dirs: &[PathBuf], out: &Path) -> Result<PathBuf> {
    if Charter::is_in(out) {
        bail!("{} is a campaign's directory: merge into a new one", out.display());
    }
    for record in findings.failed() {
        let kept = record.failure.as_ref().map(|failure| failure.kept.as_str()).unwrap_or_default();
        if let Some(dir) = dirs.iter().find(|dir| dir.join(kept).is_dir()) {
            copy(&dir.join(kept), &out.join(kept))?;
        }
    }
    fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let lines: Result<String> =
        findings.records.values().map(|record| Ok(serde_json::to_string(record)? + "\n")).collect();
    files::write(&out.join(MERGED), lines?)?;
    findings.charter.settle(out)?;
    write_page(out)
}

/// Copies a directory of plain files and directories.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            files::copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::campaign::log::tests::record;
    use crate::campaign::log::{Failure, Log};
    use crate::campaign::plan::{Build, Kind, Plan};
    use crate::campaign::scratch;
    use crate::trouble::{status, status_of};

    pub fn build(commit: &str) -> Build {
        let files = BTreeMap::from([("aurora-chaos".to_owned(), "0123".to_owned())]);
        Build { files, commit: commit.to_owned(), rustc: "rustc 1".to_owned(), qemu: "7.2".to_owned() }
    }

    pub fn charter(seeds: u32, commit: &str) -> Charter {
        let kind = Kind::Test { cpus: 1, steps: 10 };
        Charter::new(Plan::new(kind, 1, seeds, None).expect("a plan"), vec![build(commit)])
    }

    /// Makes a shard's directory in which some seeds are done.
    fn shard(name: &str, file: &str, seeds: u32, commit: &str, records: &[Record]) -> PathBuf {
        let dir = scratch(name);
        charter(seeds, commit).settle(&dir).expect("settled");
        let mut log = Log::open(&dir.join(file)).expect("opened");
        for record in records {
            log.append(record.clone()).expect("written");
            if let Some(Failure { kept, .. }) = &record.failure {
                let run = dir.join(kept).join("label");
                fs::create_dir_all(&run).expect("made");
                fs::write(run.join("serial.txt"), "words").expect("written");
            }
        }
        dir
    }

    #[test]
    fn shards_of_several_machines_become_one() {
        let one = shard("merge-1", "shard-1-of-2.jsonl", 4, "a", &[record(1, None), record(3, Some("bad"))]);
        let two = shard("merge-2", "shard-2-of-2.jsonl", 4, "b", &[record(2, None), record(4, None)]);
        let out = scratch("merge-out").join("all");
        let error = merge(&[one.clone(), two.clone()], Some(&out)).expect_err("one failed");
        assert_eq!(status_of(&error), status::CHECK_FAILED);
        let all = Findings::of(&out).expect("a campaign");
        assert_eq!(all.records.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!((all.failed().count(), all.missing(), all.charter.builds.len()), (1, 0, 2));
        assert!(out.join("runs/3/label/serial.txt").is_file(), "what a failing seed said comes along");
        assert!(fs::read_to_string(out.join("index.html")).expect("a page").contains("bad"));
        let again = merge(&[one], Some(&out)).expect_err("not into what is there");
        assert!(again.to_string().contains("merge into a new one"), "{again}");
    }

    #[test]
    fn all_passed_is_a_pass_and_a_missing_seed_is_not() {
        let dir = shard("whole", "shard-1-of-1.jsonl", 2, "a", &[record(1, None)]);
        let error = merge(std::slice::from_ref(&dir), None).expect_err("one is missing");
        assert!(error.to_string().contains("1 seeds have not been run"), "{error}");
        Log::open(&dir.join("shard-2-of-2.jsonl"))
            .and_then(|mut log| log.append(record(2, None)))
            .expect("ok");
        merge(&[dir], None).expect("all passed");
    }

    #[test]
    fn different_campaigns_do_not_mix() {
        let one = shard("mix-1", "a.jsonl", 4, "a", &[]);
        let two = shard("mix-2", "a.jsonl", 5, "a", &[]);
        let error = merge(&[one, two], Some(&scratch("mix-out").join("all"))).expect_err("other plans");
        assert!(error.to_string().contains("another campaign"), "{error}");
    }

    #[test]
    fn of_two_results_the_failure_stays() {
        let dir = shard("twice", "a.jsonl", 1, "a", &[record(1, Some("bad"))]);
        Log::open(&dir.join("b.jsonl")).and_then(|mut log| log.append(record(1, None))).expect("written");
        assert_eq!(Findings::of(&dir).expect("a campaign").failed().count(), 1);
    }
}
