//! The files of the build and of runs.
//!
//! ```text
//! target/boot/aurora            kernel with symbols; aurora-<variant> for each other build of it
//! target/boot/boot.tar          boot archive (init first; the systems behind the programs)
//! target/boot/boot.json         its programs in order, and where their symbols are
//! target/boot/libaurora_plugin.so, libaurora_gather.so
//! target/run/<label>/           serial.txt, log.bin, qemu.txt of the last run of that label
//! target/run/<label>.lock       held by the process that runs it, until that ends: two processes would read each other's guests
//! target/bench/latest.json      the last bench
//! ```

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::files;

/// The ordinary kernel; the others have their variant behind it.
const KERNEL: &str = "aurora";

/// The lock files that this process holds. They stay locked to its end, since what a run left is
/// read after it, too.
static HELD: Mutex<BTreeMap<PathBuf, File>> = Mutex::new(BTreeMap::new());

/// One program of the boot archive; its log channel is its position, from 1.
#[derive(Clone, Serialize, Deserialize, PartialEq, Eq, Debug)]
pub struct Program {
    pub name: String,
    /// The unstripped file: it has the log strings and the line numbers.
    pub elf: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Artifacts {
    boot: PathBuf,
    runs: PathBuf,
    /// The boot archive, if it is another than the built one.
    archive: Option<PathBuf>,
    /// Programs that it has besides, behind the others.
    more: Vec<Program>,
}

impl Artifacts {
    pub fn new(boot: &Path) -> Artifacts {
        let runs = boot.parent().unwrap_or(Path::new(".")).join("run");
        Artifacts { boot: boot.to_owned(), runs, archive: None, more: Vec::new() }
    }

    /// Returns artifacts whose runs write their output below `runs`.
    pub fn with_runs(&self, runs: &Path) -> Artifacts {
        Artifacts { runs: runs.to_owned(), ..self.clone() }
    }

    /// Returns artifacts with another boot archive, which has more programs behind the built ones.
    pub fn with_archive(&self, archive: PathBuf, more: Vec<Program>) -> Artifacts {
        Artifacts { archive: Some(archive), more, ..self.clone() }
    }

    pub fn boot_dir(&self) -> &Path {
        &self.boot
    }

    /// Returns the directory for the output of runs.
    pub fn runs(&self) -> &Path {
        &self.runs
    }

    /// Returns the kernel built as `variant`. The empty variant is the ordinary kernel.
    pub fn kernel(&self, variant: &str) -> Result<PathBuf> {
        if variant.is_empty() {
            return self.built(KERNEL);
        }
        self.built(&format!("{KERNEL}-{variant}")).with_context(|| match self.variants() {
            none if none.is_empty() => format!("no build {variant} of the kernel"),
            there => format!("no build {variant} of the kernel; there are: {}", there.join(", ")),
        })
    }

    /// Returns the existing builds of the kernel, except the ordinary one.
    fn variants(&self) -> Vec<String> {
        let names = std::fs::read_dir(&self.boot).into_iter().flatten().flatten();
        let mut variants: Vec<String> = names
            .filter_map(|entry| {
                Some(entry.file_name().to_str()?.strip_prefix(KERNEL)?.strip_prefix('-')?.to_owned())
            })
            .collect();
        variants.sort();
        variants
    }

    pub fn archive(&self) -> Result<PathBuf> {
        self.archive.clone().map_or_else(|| self.built("boot.tar"), Ok)
    }

    pub fn plugin(&self) -> Result<PathBuf> {
        self.built("libaurora_plugin.so")
    }

    /// Returns the library that gathers the guest's log, if it has been built.
    pub fn gather(&self) -> Option<PathBuf> {
        let path = self.boot.join("libaurora_gather.so");
        path.is_file().then_some(path)
    }

    pub fn manifest_path(&self) -> PathBuf {
        self.boot.join("boot.json")
    }

    /// Returns the programs of the boot archive, in its order.
    pub fn programs(&self) -> Result<Vec<Program>> {
        let path = self.built("boot.json")?;
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let mut programs: Vec<Program> = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a list of programs", path.display()))?;
        programs.extend(self.more.iter().cloned());
        Ok(programs)
    }

    /// Returns the directory with the output of the last run of a label.
    pub fn run_path(&self, label: &str) -> PathBuf {
        self.runs.join(label)
    }

    /// Makes an empty directory for the output of one run.
    /// Errors: another process uses it.
    pub fn run_dir(&self, label: &str) -> Result<PathBuf> {
        let dir = self.run_path(label);
        claim(&dir)?;
        if dir.exists() {
            std::fs::remove_dir_all(&dir).with_context(|| format!("emptying {}", dir.display()))?;
        }
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(dir)
    }

    fn built(&self, name: &str) -> Result<PathBuf> {
        let path = self.boot.join(name);
        if !path.is_file() {
            bail!(
                "{} has not been built: `./justw build` makes kernel and programs; \
                 bench, stress, trace and test make their own builds of the kernel too",
                path.display()
            );
        }
        Ok(path)
    }
}

/// Makes a directory of runs this process's, to its end.
fn claim(dir: &Path) -> Result<()> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut path = dir.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    if held.contains_key(&path) {
        return Ok(());
    }
    files::make_dir_of(&path)?;
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {
            held.insert(path, file);
            Ok(())
        }
        Err(TryLockError::WouldBlock) => bail!(
            "{} is in use: another command runs the same in this tree; wait until it has ended, or work in another \
             worktree",
            dir.display()
        ),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_runs_is_of_one_process() {
        let place = std::env::temp_dir().join(format!("aurora-claim-{}", std::process::id()));
        let artifacts = Artifacts::new(&place.join("boot"));
        let dir = artifacts.run_dir("mine").expect("free");
        assert_eq!(artifacts.run_dir("mine").expect("its own, again"), dir);
        let other = File::create(place.join("run/theirs.lock")).expect("made");
        other.lock().expect("locked, as by another process");
        let said = artifacts.run_dir("theirs").expect_err("in use").to_string();
        assert!(said.contains("another command runs the same"), "{said}");
        // Not by closing it: a child that another test has just forked may hold the file until it
        // has executed its program.
        other.unlock().expect("it was locked");
        artifacts.run_dir("theirs").expect("free again");
        std::fs::remove_dir_all(&place).expect("removed");
    }
}
