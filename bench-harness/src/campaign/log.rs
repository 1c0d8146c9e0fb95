//! A shard's log: one line of JSON for each finished seed.
//!
//! Lines are only ever appended, and each is on the disk before the next seed begins. An
//! interrupted write leaves an incomplete last line. That line is dropped when the log is opened
//! again, and its seed counts as not run. A broken line anywhere else is an error.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The result of a seed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    pub seed: u32,
    /// Why it failed, its first line in short, if it did.
    pub failure: Option<Failure>,
    /// The hash of the whole run, if runs repeat.
    pub hash: Option<String>,
    /// How many events a chaos build counted.
    pub events: Option<u64>,
    pub seconds: f64,
    /// Short name of the build.
    pub build: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub why: String,
    /// The one command that repeats it.
    pub replay: String,
    /// How gdb gets to it. Logs of earlier versions do not say.
    #[serde(default)]
    pub gdb: Option<Gdb>,
    /// Directory of what the guest said, within the campaign's.
    pub kept: String,
}

/// How gdb gets to a failure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gdb {
    pub command: String,
    /// Where the machine then stands.
    pub stops: String,
    /// The command that searches for the first event after which something is wrong, where there
    /// are events.
    pub bisect: Option<String>,
}

impl Record {
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

/// A log that this process alone writes.
#[derive(Debug)]
pub struct Log {
    file: File,
    pub records: Vec<Record>,
    /// Bytes of a line that was cut off.
    pub dropped: usize,
}

impl Log {
    /// Opens a log, new or not.
    pub fn open(path: &Path) -> Result<Log> {
        let what = || format!("opening {}", path.display());
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(path).with_context(what)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{}: this shard is running already; take another, or wait for it", path.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(what),
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(what)?;
        let (records, whole) = parse(&bytes).with_context(|| path.display().to_string())?;
        file.set_len(whole as u64).with_context(what)?;
        Ok(Log { file, records, dropped: bytes.len() - whole })
    }

    /// Adds a result to the log. When this returns, the result survives a crash.
    pub fn append(&mut self, record: Record) -> Result<()> {
        let line = serde_json::to_string(&record)? + "\n";
        self.file.write_all(line.as_bytes()).context("writing a result")?;
        self.file.sync_data().context("writing a result to the disk")?;
        self.records.push(record);
        Ok(())
    }
}

/// A program that another thread is about to start shares the file until it runs: to close it would
/// not free the lock.
impl Drop for Log {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// Reads the records that a log has so far; another process may be writing it.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(parse(&bytes).with_context(|| path.display().to_string())?.0)
}

/// Returns the results, and how many bytes they take. Leaves out a last line that is cut off.
fn parse(bytes: &[u8]) -> Result<(Vec<Record>, usize)> {
    let mut records = Vec::new();
    let mut whole = 0;
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let last = whole + line.len() == bytes.len();
        match serde_json::from_slice(line) {
            Ok(record) if line.ends_with(b"\n") => records.push(record),
            _ if last => break,
            Ok(_) => unreachable!("only the last line has no end"),
            Err(error) => bail!(
                "line {} is not a result ({error}): the file was damaged after it was written; remove that line \
                 to have its seed run again",
                number + 1
            ),
        }
        whole += line.len();
    }
    Ok((records, whole))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::campaign::scratch;
    use proptest::prelude::*;

    pub fn record(seed: u32, why: Option<&str>) -> Record {
        let failure = why.map(|why| Failure {
            why: why.to_owned(),
            replay: format!("./justw stress --seed {seed}"),
            gdb: Some(Gdb {
                command: format!("./justw gdb --stress --seed {seed} --stop-at 9"),
                stops: "stopped at its last event".to_owned(),
                bisect: Some(format!("./justw gdb --bisect --seed {seed}")),
            }),
            kept: format!("runs/{seed}"),
        });
        Record {
            seed,
            failure,
            hash: Some("ab".to_owned()),
            events: Some(9),
            seconds: 1.5,
            build: "b".to_owned(),
        }
    }

    fn bytes(records: &[Record]) -> Vec<u8> {
        let line = |record| serde_json::to_string(record).expect("serialises") + "\n";
        records.iter().map(line).collect::<String>().into_bytes()
    }

    #[test]
    fn a_log_goes_on_after_a_torn_write() {
        let path = scratch("torn").join("log");
        let all = [record(1, None), record(2, Some("lost=1\n\"quoted\" | näher")), record(3, None)];
        let mut log = Log::open(&path).expect("new");
        log.append(all[0].clone()).expect("written");
        drop(log);
        let mut torn = bytes(&all[1..2]);
        torn.truncate(torn.len() - 4);
        OpenOptions::new().append(true).open(&path).expect("there").write_all(&torn).expect("written");
        let mut log = Log::open(&path).expect("there");
        assert_eq!((log.records.as_slice(), log.dropped), (&all[..1], torn.len()));
        log.append(all[1].clone()).expect("written");
        log.append(all[2].clone()).expect("written");
        drop(log);
        assert_eq!(std::fs::read(&path).expect("there"), bytes(&all));
        assert_eq!(read(&path).expect("whole"), all);
    }

    #[test]
    fn one_process_at_a_time_writes_a_log() {
        let path = scratch("locked").join("log");
        let log = Log::open(&path).expect("new");
        let error = Log::open(&path).expect_err("locked");
        assert!(error.to_string().contains("running already"), "{error}");
        drop(log);
        Log::open(&path).expect("free again");
    }

    #[test]
    fn a_log_is_free_though_a_program_being_started_still_shares_its_file() {
        let path = scratch("shared").join("log");
        let log = Log::open(&path).expect("new");
        let shared = log.file.try_clone().expect("as by fork");
        drop(log);
        Log::open(&path).expect("free again");
        drop(shared);
    }

    #[test]
    fn damage_in_the_middle_is_no_torn_write() {
        let mut damaged = bytes(&[record(1, None), record(2, None), record(3, None)]);
        let middle = damaged.len() / 2;
        damaged[middle] = b'\n';
        let error = parse(&damaged).expect_err("damaged");
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    proptest! {
        /// Wherever a write is cut off, exactly the results before the cut are read.
        #[test]
        fn any_cut_leaves_whole_results(count in 0_u32..5, cut in 0_usize..1000, garbage in any::<bool>()) {
            let all: Vec<Record> =
                (0..count).map(|seed| record(seed, (seed % 2 == 1).then_some("why \u{1f980}\n"))).collect();
            let whole = bytes(&all);
            let mut cut = whole[..cut.min(whole.len())].to_vec();
            let before = cut.iter().filter(|byte| **byte == b'\n').count();
            if garbage {
                // A file that grew before its data came.
                cut.extend([0; 16]);
            }
            let (records, length) = parse(&cut).expect("no damage");
            prop_assert_eq!(&records[..], &all[..before]);
            prop_assert_eq!(length, bytes(&all[..before]).len());
        }
    }
}
