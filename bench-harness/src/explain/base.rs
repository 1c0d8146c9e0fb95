//! What `--diff` compares with: another build of the kernel, or another revision of the tree.
//!
//! A revision is [checked out](checkout) in `target/explain/base` and built there into
//! `target/explain/target`; both are kept, so that the build of the next revision compiles only
//! what changed. The last built revision is recorded and not built again.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::checkout::{self, Checkout};
use super::rows::Target;
use crate::artifacts::Artifacts;
use crate::files;
use crate::host;
use crate::lab::Lab;
use crate::machine::ending_with_us;
use crate::screen::Screen;
use crate::trouble::Trouble;

/// What a kernel of this tree is asked for by.
const KERNEL: &str = "kernel:";
/// The ordinary one.
const ORDINARY: &str = "ordinary";
/// The build without the fastpath, and what it is built with.
const NOFAST: &str = "nofast";
const NOFAST_FEATURES: &str = "--no-default-features";
/// How often progress is told where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Lines of a build's output that are shown if it fails.
const LAST_LINES: usize = 12;

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

    /// Returns the name of the base in the rest of the output.
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
    /// The checkout of another revision: keeps others from changing its sources.
    pub _checkout: Option<Checkout>,
}

/// Checks out and builds a revision, for one row.
pub fn build(lab: &Lab, just: &OsStr, root: &Path, revision: &str, target: &Target) -> Result<Tree> {
    let name = format!("{revision}^{{commit}}");
    let commit = checkout::in_repository(root, &["rev-parse", "--verify", "--quiet", &name])
        .map_err(|_| Trouble::Usage(format!("{revision} is neither a revision nor `{KERNEL}VARIANT`")))?;
    let commit = commit.trim();
    let place = std::path::absolute(lab.artifacts.boot_dir())?;
    let place = place.parent().context("the boot directory is in none")?.join("explain");
    lab.screen.step(&format!("checking out {revision}"));
    let checkout = Checkout::make(&lab.screen, root, &place, commit)?;
    let builder = Builder { screen: &lab.screen, just, checkout: &checkout, target: &place.join("target") };
    let mut recipes = vec![vec!["build"]];
    if target.variant == NOFAST {
        recipes.push(vec!["_kernel", NOFAST, NOFAST_FEATURES]);
    }
    builder.build(revision, commit, &recipes)?;
    let artifacts = Artifacts::new(&place.join("target/boot"));
    Ok(Tree { root: checkout.tree.clone(), artifacts, _checkout: Some(checkout) })
}

/// Builds a tree with its own recipes.
struct Builder<'a> {
    screen: &'a Screen,
    just: &'a OsStr,
    checkout: &'a Checkout,
    /// Where the build goes.
    target: &'a Path,
}

impl Builder<'_> {
    /// Runs the recipes, unless the note of the last build says that they were run on this commit.
    fn build(&self, revision: &str, commit: &str, recipes: &[Vec<&str>]) -> Result<()> {
        let note = self.target.join("built.txt");
        let head = format!("{commit}, {}\n", host::rustc_version());
        let was = fs::read_to_string(&note).unwrap_or_default();
        let mut done: Vec<&str> = was.strip_prefix(&head).unwrap_or_default().lines().collect();
        if done.is_empty() {
            // From here on the directory has something of both builds.
            let _ = fs::remove_file(&note);
        }
        let recipes: Vec<String> = recipes.iter().map(|recipe| recipe.join(" ")).collect();
        for recipe in &recipes {
            if done.contains(&recipe.as_str()) {
                self.screen.say(&format!("explain: {revision} is built already"));
                continue;
            }
            let started = Instant::now();
            self.screen.say(&format!(
                "explain: building {revision} ({}), which takes minutes the first time",
                commit.get(..10).unwrap_or(commit)
            ));
            self.screen.step(&format!("building {revision}"));
            self.run(recipe)?;
            self.screen.say(&format!("explain: built {revision} in {} s", started.elapsed().as_secs()));
            done.push(recipe);
            files::write(&note, head.clone() + &done.join("\n"))?;
        }
        Ok(())
    }

    /// Runs a recipe, and tells how far it is.
    fn run(&self, recipe: &str) -> Result<()> {
        let mut child = ending_with_us(&self.just.to_string_lossy())
            .arg("--justfile")
            .arg(self.checkout.tree.join("Justfile"))
            .args(recipe.split(' '))
            .env("CARGO_TARGET_DIR", self.target)
            .env_remove("AURORA_BOOT")
            // The holder of the file has the lock.
            .stdin(self.checkout.lock.try_clone().context("copying a lock")?)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}: run this as `./justw explain`", self.just.display()))?;
        let said = self.follow(child.stderr.take().context("the build's output")?);
        if !child.wait().context("waiting for the build")?.success() {
            let last = said[said.len().saturating_sub(LAST_LINES)..].join("\n");
            bail!("just {recipe} in {} failed:\n{last}", self.checkout.tree.display());
        }
        Ok(())
    }

    /// Shows each line that a build says, and returns all of them. Without a terminal the last one
    /// is told every few seconds.
    fn follow(&self, output: impl Read + Send + 'static) -> Vec<String> {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(line)));
        });
        let (mut said, mut told) = (Vec::<String>::new(), Instant::now());
        loop {
            match receiver.recv_timeout(TELL_EVERY.saturating_sub(told.elapsed())) {
                Ok(line) => {
                    self.screen.progress(line.trim());
                    said.push(line);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let last = said.last().map_or("no word of it so far", |line| line.trim());
                    if !self.screen.is_drawn() {
                        self.screen.say(&format!("explain: still building: {last}"));
                    }
                    told = Instant::now();
                }
                Err(RecvTimeoutError::Disconnected) => return said,
            }
        }
    }
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

    /// A program in place of `just`, which counts how often it is started.
    #[test]
    fn a_build_that_is_there_is_not_made_again() {
        use std::os::unix::fs::PermissionsExt;
        let dir = crate::campaign::scratch("builder");
        let just = dir.join("just");
        let script =
            format!("#!/bin/sh\necho $3 >> {0}/runs\necho said >&2\n[ ! -e {0}/broken ]\n", dir.display());
        fs::write(&just, script).expect("written");
        fs::set_permissions(&just, fs::Permissions::from_mode(0o755)).expect("executable");
        let (screen, target) = (Screen::new(), dir.join("target"));
        fs::create_dir_all(&target).expect("made");
        let lock = fs::File::create(dir.join("lock")).expect("made");
        let checkout = Checkout { tree: dir.clone(), lock };
        let builder =
            Builder { screen: &screen, just: just.as_os_str(), checkout: &checkout, target: &target };
        let runs = || fs::read_to_string(dir.join("runs")).unwrap_or_default().replace('\n', " ");
        builder.build("one", "1111", &[vec!["build"]]).expect("built");
        builder.build("one", "1111", &[vec!["build"], vec!["_kernel", "nofast"]]).expect("built");
        assert_eq!(runs(), "build _kernel ");
        fs::write(dir.join("broken"), "").expect("written");
        let error = builder.build("two", "2222", &[vec!["build"]]).expect_err("it fails");
        assert!(error.to_string().ends_with("failed:\nsaid"), "{error}");
        fs::remove_file(dir.join("broken")).expect("removed");
        builder.build("one", "1111", &[vec!["build"]]).expect("built");
        assert_eq!(
            runs(),
            "build _kernel build build ",
            "what was there before another build is not trusted"
        );
    }
}
