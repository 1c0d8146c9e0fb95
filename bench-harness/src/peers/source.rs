//! The checkout of seL4: its commit, and whether that is the measured commit.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::trouble::Trouble;

/// Version 16.0.0-dev of 6 August 2026.
pub const PINNED: &str = "1326364bc9135d9445d936ebc01e38a402c1f4c6";

/// What a checkout is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Absolute, since the tools of the build run in other directories.
    pub dir: PathBuf,
    pub version: String,
    /// With ` with changes` where files differ from the commit.
    pub commit: String,
}

impl Source {
    /// Inspects the checkout of the other kernel's sources in `dir`.
    ///
    /// Errors: there is no checkout; or it is not the pinned commit, and `any_commit` is not set.
    pub fn look(dir: &Path, any_commit: bool) -> Result<Source> {
        let dir = dir.canonicalize().map_err(|error| usage(dir, &format!("cannot be opened ({error})")))?;
        if !dir.join("libsel4").is_dir() || !dir.join("gcc.cmake").is_file() {
            let get = format!("`git clone <seL4's repository> DIR`, then `git -C DIR checkout {PINNED}`");
            return Err(usage(&dir, &format!("is no checkout of seL4. Get one: {get}")).into());
        }
        let version = std::fs::read_to_string(dir.join("VERSION"))
            .with_context(|| format!("reading the file VERSION in {}", dir.display()))?;
        let head = git(&dir, &["rev-parse", "HEAD"])?;
        let changed = !git(&dir, &["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        let commit = if changed { format!("{head} with changes") } else { head };
        if commit != PINNED && !any_commit {
            return Err(other_commit(&dir, &commit).into());
        }
        Ok(Source { dir, version: version.trim().to_owned(), commit })
    }
}

fn usage(dir: &Path, what: &str) -> Trouble {
    Trouble::Usage(format!("--source {}: {what}", dir.display()))
}

fn other_commit(dir: &Path, found: &str) -> Trouble {
    let put_right = if found.starts_with(PINNED) {
        format!("`git -C {} stash` puts the changes away", dir.display())
    } else {
        format!("`git -C {} checkout {PINNED}` takes it", dir.display())
    };
    Trouble::Usage(format!(
        "{} is commit {found}; the committed figures are of {PINNED}. {put_right}; `--any-commit` measures what is \
         there, and the result says so",
        dir.display()
    ))
}

fn git(dir: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").arg("-C").arg(dir).args(arguments).output().context("starting git")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("`git -C {} {}`: {}", dir.display(), arguments.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_commit_is_named_with_the_way_out() {
        let text = other_commit(Path::new("/s"), "0123").to_string();
        assert!(text.contains("is commit 0123"), "{text}");
        assert!(text.contains(&format!("git -C /s checkout {PINNED}")), "{text}");
        assert!(text.contains("--any-commit"), "{text}");
        let text = other_commit(Path::new("/s"), &format!("{PINNED} with changes")).to_string();
        assert!(text.contains("git -C /s stash"), "{text}");
    }

    #[test]
    fn a_checkout_is_known_by_its_absolute_path() {
        let dir = std::env::temp_dir().join(format!("aurora-source-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("libsel4")).expect("a directory");
        for (name, text) in [("gcc.cmake", ""), ("VERSION", "1.2\n")] {
            std::fs::write(dir.join(name), text).expect("a file");
        }
        git(&dir, &["init", "--quiet"]).expect("a repository");
        let commit = ["commit", "--quiet", "--allow-empty", "--message=all"];
        git(&dir, &[&["-c", "user.name=me", "-c", "user.email=me@here"][..], &commit].concat())
            .expect("a commit");
        let found = Source::look(&dir.join("libsel4/.."), true);
        let canonical = dir.canonicalize().expect("it is there");
        let _ = std::fs::remove_dir_all(&dir);
        let found = found.expect("a checkout");
        assert_eq!((found.dir, found.version.as_str()), (canonical, "1.2"));
    }

    #[test]
    fn a_directory_without_sel4_is_refused() {
        let error = Source::look(Path::new("."), true).expect_err("no seL4 here");
        assert!(error.to_string().contains("is no checkout of seL4"), "{error}");
        let error = Source::look(Path::new("/does/not/exist"), true).expect_err("nothing there");
        assert!(error.to_string().contains("cannot be opened"), "{error}");
    }
}
