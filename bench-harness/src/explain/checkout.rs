//! The sources of another revision, in a directory of their own.
//!
//! Git keeps an index for that directory beside it, and nothing in the repository: so an
//! interrupted run leaves no registered worktree behind. The index also shows which files differ,
//! so that only these are written, and only what depends on them is built again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::screen::Screen;

/// A directory with a revision's sources, which one process at a time changes.
pub struct Checkout {
    pub tree: PathBuf,
    /// Locked until it and all its copies are closed: builds have one, and may outlive a run that
    /// is killed.
    pub lock: File,
}

impl Checkout {
    /// Puts a commit's sources into `place/base`, when nobody builds there. `root` is somewhere in
    /// the repository.
    pub fn make(screen: &Screen, root: &Path, place: &Path, commit: &str) -> Result<Checkout> {
        fs::create_dir_all(place).with_context(|| format!("making {}", place.display()))?;
        let lock = lock(screen, &place.join("lock"))?;
        let (tree, index) = (place.join("base"), place.join("index"));
        remove_worktree(root, &tree)?;
        fs::create_dir_all(&tree).with_context(|| format!("making {}", tree.display()))?;
        // Of a run that was killed: no other one has our lock.
        let _ = fs::remove_file(place.join("index.lock"));
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(root).arg("--work-tree").arg(&tree).env("GIT_INDEX_FILE", &index);
            run(command.args(arguments))
        };
        git(&["read-tree", "--reset", "-u", commit])?;
        // What a run that was killed had not written, or somebody has changed.
        git(&["checkout-index", "--all", "--force"])?;
        Ok(Checkout { tree, lock })
    }
}

/// Waits for the end of other runs, and says so.
fn lock(screen: &Screen, path: &Path) -> Result<File> {
    let locked = || -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let place = path.parent().unwrap_or(path).display();
                screen.say(&format!(
                    "explain: waits for another build in {place}, or for that of a run that was killed"
                ));
                file.lock()?;
            }
            tried => tried?,
        }
        Ok(file)
    };
    locked().with_context(|| format!("locking {}", path.display()))
}

/// Removes the worktree that earlier versions registered at this place, if there is one.
fn remove_worktree(root: &Path, tree: &Path) -> Result<()> {
    let listed = in_repository(root, &["worktree", "list", "--porcelain"])?;
    let is_ours = |line: &str| line.strip_prefix("worktree ").is_some_and(|path| Path::new(path) == tree);
    if listed.lines().any(is_ours) {
        in_repository(root, &["worktree", "remove", "--force", "--force", &tree.display().to_string()])?;
    }
    Ok(())
}

/// Runs git in a repository, and returns what it printed.
pub fn in_repository(root: &Path, arguments: &[&str]) -> Result<String> {
    run(Command::new("git").arg("-C").arg(root).args(arguments))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("git is missing: install git")?;
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::scratch;

    /// Makes a repository of two commits. `HEAD` has lost a file and changed one.
    fn repository(name: &str) -> PathBuf {
        let root = scratch(name);
        let git = |arguments: &[&str]| in_repository(&root, arguments).expect("git works");
        let commit = || {
            git(&["add", "--all"]);
            git(&["-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "--message", "x"]);
        };
        git(&["init", "--quiet"]);
        for file in ["kept", "changed", "lost"] {
            fs::write(root.join(file), "first").expect("written");
        }
        commit();
        fs::write(root.join("changed"), "second").expect("written");
        fs::remove_file(root.join("lost")).expect("removed");
        commit();
        root
    }

    fn make(root: &Path, place: &Path, commit: &str) -> Result<Checkout> {
        Checkout::make(&Screen::new(), root, place, commit)
    }

    fn worktrees(root: &Path) -> usize {
        in_repository(root, &["worktree", "list"]).expect("listed").lines().count()
    }

    #[test]
    fn a_revision_is_there_and_no_worktree() {
        let root = repository("checkout");
        let place = root.join("target/explain");
        let read = |tree: &Path, file: &str| fs::read_to_string(tree.join(file)).unwrap_or_default();
        let base = make(&root, &place, "HEAD~1").expect("checked out");
        let written = fs::metadata(base.tree.join("kept")).and_then(|file| file.modified()).expect("a time");
        assert_eq!((read(&base.tree, "changed"), read(&base.tree, "lost")), ("first".into(), "first".into()));
        drop(base);
        let base = make(&root, &place, "HEAD").expect("checked out");
        assert_eq!((read(&base.tree, "changed"), read(&base.tree, "lost")), ("second".into(), "".into()));
        let now = fs::metadata(base.tree.join("kept")).and_then(|file| file.modified()).expect("a time");
        assert_eq!(written, now, "a file that is the same is not written: cargo would build it again");
        assert_eq!(worktrees(&root), 1);
        assert_eq!(
            in_repository(&root, &["diff", "HEAD"]).expect("git works"),
            "",
            "the repository is as it was"
        );
    }

    #[test]
    fn what_a_killed_run_left_is_put_right() {
        let root = repository("killed");
        let place = root.join("target/explain");
        drop(make(&root, &place, "HEAD").expect("checked out"));
        fs::write(place.join("index.lock"), "").expect("written");
        fs::write(place.join("base/changed"), "half").expect("written");
        fs::remove_file(place.join("base/kept")).expect("removed");
        let base = make(&root, &place, "HEAD").expect("checked out");
        assert_eq!(fs::read_to_string(base.tree.join("changed")).expect("there"), "second");
        assert_eq!(fs::read_to_string(base.tree.join("kept")).expect("there"), "first");
    }

    #[test]
    fn a_worktree_of_earlier_versions_goes() {
        let root = repository("worktree");
        let place = root.join("target/explain");
        let base = place.join("base");
        for is_lost in [false, true] {
            let path = base.display().to_string();
            in_repository(&root, &["worktree", "add", "--detach", "--force", &path, "HEAD"]).expect("added");
            if is_lost {
                fs::remove_dir_all(&base).expect("removed");
            }
            drop(make(&root, &place, "HEAD").expect("checked out"));
            assert_eq!(worktrees(&root), 1);
            assert!(base.join("kept").is_file() && !base.join(".git").exists());
            fs::remove_dir_all(&base).expect("removed");
        }
    }

    #[test]
    fn who_comes_second_waits() {
        let root = repository("two");
        let place = root.join("target/explain");
        let first = make(&root, &place, "HEAD").expect("checked out");
        let of_build = first.lock.try_clone().expect("a copy");
        let (sender, done) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(make(&root, &place, "HEAD~1").map(drop)));
            let is_waiting = || done.recv_timeout(std::time::Duration::from_millis(100)).is_err();
            assert!(is_waiting());
            drop(first);
            assert!(is_waiting(), "a build that outlives its run has the lock");
            drop(of_build);
            done.recv().expect("an answer").expect("checked out");
        });
    }
}
