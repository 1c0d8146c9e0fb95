//! What `--diff` compares with: another build of the kernel, or another revision of the tree.
//!
//! A revision is checked out as a git worktree in `target/explain/base` and built there into
//! `target/explain/target`; both are kept, so that the next revision is built from what changed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::rows::Target;
use crate::artifacts::Artifacts;
use crate::lab::Lab;
use crate::trouble::Trouble;

/// What a kernel of this tree is asked for by.
const KERNEL: &str = "kernel:";
/// The ordinary one.
const ORDINARY: &str = "ordinary";
/// The build without the fastpath, and what it is built with.
const NOFAST: &str = "nofast";
const NOFAST_FEATURES: &str = "--no-default-features";

/// Something to compare with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Base {
    /// A build of the kernel, by its variant.
    Kernel(String),
    Revision(String),
}

impl Base {
    pub fn parse(text: &str) -> Base {
        match text.strip_prefix(KERNEL) {
            Some(ORDINARY | "") => Base::Kernel(String::new()),
            Some(variant) => Base::Kernel(variant.to_owned()),
            None => Base::Revision(text.to_owned()),
        }
    }

    /// How the rest of the output names it.
    pub fn name(&self) -> String {
        match self {
            Base::Kernel(variant) if variant.is_empty() => "the ordinary kernel".to_owned(),
            Base::Kernel(variant) => format!("the kernel {variant}"),
            Base::Revision(revision) => revision.clone(),
        }
    }
}

/// A tree of sources and what was built of it.
pub struct Tree {
    pub root: PathBuf,
    pub artifacts: Artifacts,
}

/// Checks out and builds a revision, for one row.
pub fn build(lab: &Lab, just: &OsStr, root: &Path, revision: &str, target: &Target) -> Result<Tree> {
    let commit = git(root, &["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")])
        .map_err(|_| Trouble::Usage(format!("{revision} is neither a revision nor `{KERNEL}VARIANT`")))?;
    let place = std::path::absolute(lab.artifacts.boot_dir())?;
    let place = place.parent().context("the boot directory is in none")?.join("explain");
    let (tree, built) = (place.join("base"), place.join("target"));
    lab.screen.step(&format!("building {revision}"));
    if tree.join(".git").exists() {
        git(&tree, &["checkout", "--quiet", "--force", "--detach", commit.trim()])?;
    } else {
        std::fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
        git(root, &["worktree", "add", "--force", "--detach", &tree.display().to_string(), commit.trim()])?;
    }
    just_builds(just, &tree, &built, &["build"])?;
    if target.variant == NOFAST {
        just_builds(just, &tree, &built, &["_kernel", NOFAST, NOFAST_FEATURES])?;
    }
    Ok(Tree { root: tree, artifacts: Artifacts::new(&built.join("boot")) })
}

fn git(dir: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(arguments)
        .output()
        .context("git is missing: install git")?;
    if !output.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn just_builds(just: &OsStr, tree: &Path, built: &Path, recipe: &[&str]) -> Result<()> {
    let output = Command::new(just)
        .arg("--justfile")
        .arg(tree.join("Justfile"))
        .args(recipe)
        .env("CARGO_TARGET_DIR", built)
        .output()
        .with_context(|| format!("starting {}: run this as `./justw explain`", just.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().rev().take(12).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("just {} in {} failed:\n{}", recipe.join(" "), tree.display(), last.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_from_revisions() {
        assert_eq!(Base::parse("kernel:nofast"), Base::Kernel("nofast".to_owned()));
        assert_eq!(Base::parse("kernel:ordinary"), Base::Kernel(String::new()));
        assert_eq!(Base::parse("HEAD~1"), Base::Revision("HEAD~1".to_owned()));
    }
}
