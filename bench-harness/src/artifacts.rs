//! Where the build leaves things and where runs leave theirs.
//!
//! ```text
//! target/boot/aurora            kernel with symbols; aurora-<variant> for each other build of it
//! target/boot/boot.tar          boot archive (init first)
//! target/boot/boot.json         its programs in order, and where their symbols are
//! target/boot/libaurora_plugin.so
//! target/run/<label>/           serial.txt, log.bin, qemu.txt of the last run of that label
//! target/bench/latest.json      the last bench
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The ordinary kernel; the others have their variant behind it.
const KERNEL: &str = "aurora";

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
}

impl Artifacts {
    pub fn new(boot: &Path) -> Artifacts {
        let runs = boot.parent().unwrap_or(Path::new(".")).join("run");
        Artifacts { boot: boot.to_owned(), runs }
    }

    /// The same with the output of runs below `runs`.
    pub fn with_runs(&self, runs: &Path) -> Artifacts {
        Artifacts { runs: runs.to_owned(), ..self.clone() }
    }

    pub fn boot_dir(&self) -> &Path {
        &self.boot
    }

    /// Where the output of runs goes.
    pub fn runs(&self) -> &Path {
        &self.runs
    }

    /// The kernel built as `variant`; the empty variant is the ordinary one.
    pub fn kernel(&self, variant: &str) -> Result<PathBuf> {
        if variant.is_empty() {
            return self.built(KERNEL);
        }
        self.built(&format!("{KERNEL}-{variant}")).with_context(|| match self.variants() {
            none if none.is_empty() => format!("no build {variant} of the kernel"),
            there => format!("no build {variant} of the kernel; there are: {}", there.join(", ")),
        })
    }

    /// The builds of the kernel that are there, but for the ordinary one.
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
        self.built("boot.tar")
    }

    pub fn plugin(&self) -> Result<PathBuf> {
        self.built("libaurora_plugin.so")
    }

    pub fn manifest_path(&self) -> PathBuf {
        self.boot.join("boot.json")
    }

    /// The programs of the boot archive, in its order.
    pub fn programs(&self) -> Result<Vec<Program>> {
        let path = self.built("boot.json")?;
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a list of programs", path.display()))
    }

    /// Where the output of the last run of a label is.
    pub fn run_path(&self, label: &str) -> PathBuf {
        self.runs.join(label)
    }

    /// An empty directory for the output of one run.
    pub fn run_dir(&self, label: &str) -> Result<PathBuf> {
        let dir = self.run_path(label);
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
