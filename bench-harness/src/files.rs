//! Files that are complete or absent: after a full disk, an error or an interrupt the previous file
//! stays.
//!
//! A file is written under another name beside its place, `NAME.part-PID`, and renamed when all of
//! it is on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::trouble::Trouble;

/// Returns a path as the person meant it who gave it: relative to the directory from which `justw`
/// was called.
pub fn as_given(path: &Path) -> PathBuf {
    match std::env::var_os("AURORA_FROM") {
        Some(from) => Path::new(&from).join(path),
        None => path.to_owned(),
    }
}

/// Stands between a file's name and the process that writes it.
const PART: &str = ".part-";

/// Writes a file. Special files, as `/dev/null`, are written as they are.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let written = || -> io::Result<()> {
        if is_special(path) {
            return fs::write(path, bytes.as_ref());
        }
        let part = Part::of(path);
        let mut file = File::create(part.path())?;
        file.write_all(bytes.as_ref())?;
        part.settle()
    };
    written().with_context(|| format!("writing {}", path.display()))
}

/// Checks, before long work whose result goes there, that a file can be written. An existing file
/// stays as it is.
pub fn demand_room_for(path: &Path) -> Result<()> {
    if path.is_dir() {
        let text = format!("{} is a directory: name a file in it", path.display());
        return Err(Trouble::Usage(text).into());
    }
    make_dir_of(path)?;
    if !is_special(path) {
        File::create(Part::of(path).path()).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Returns whether a path leads to something other than a plain file, such as a pipe, device or
/// directory, which must not be replaced.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| !file.is_file())
}

/// Makes the directory that a file goes into.
pub fn make_dir_of(file: &Path) -> Result<()> {
    let Some(dir) = file.parent() else { return Ok(()) };
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))
}

/// Copies a file.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let part = Part::of(to);
    fs::copy(from, part.path())
        .and_then(|_| part.settle())
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// Moves a whole file to its place, also from another disk. If that place is a special file, such
/// as a device, writes the bytes into it.
pub fn bring(from: &Path, to: &Path) -> Result<()> {
    if is_special(to) {
        let written = || io::copy(&mut File::open(from)?, &mut OpenOptions::new().write(true).open(to)?);
        let length = written().with_context(|| format!("writing {}", to.display()))?;
        let there = fs::metadata(from).map_or(0, |file| file.len());
        ensure!(length == there, "writing {}: it took {length} of {there} bytes", to.display());
        return Ok(());
    }
    match fs::rename(from, fs::canonicalize(to).as_deref().unwrap_or(to)) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            copy(from, to)?;
            let _ = fs::remove_file(from);
            Ok(())
        }
        moved => moved.with_context(|| format!("writing {}", to.display())),
    }
}

/// A file that is being written. It is removed where it does not come to its place.
struct Part {
    part: PathBuf,
    place: PathBuf,
}

impl Part {
    /// Returns the partial file for a path. If the path is a link, the partial file is beside the
    /// link's target, so that the link stays.
    fn of(path: &Path) -> Part {
        let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut part = place.as_os_str().to_owned();
        part.push(format!("{PART}{}", std::process::id()));
        Part { part: part.into(), place }
    }

    fn path(&self) -> &Path {
        &self.part
    }

    /// Renames the partial file to its final name, with the permissions of the file that it
    /// replaces. Some disks report only at the end that they are full.
    fn settle(self) -> io::Result<()> {
        File::open(&self.part)?.sync_data()?;
        if let Ok(old) = fs::metadata(&self.place) {
            fs::set_permissions(&self.part, old.permissions())?;
        }
        fs::rename(&self.part, &self.place)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::scratch;
    use crate::trouble;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("a directory");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let dir = scratch("files");
        let (file, link) = (dir.join("file"), dir.join("link"));
        write(&file, "one").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("set");
        symlink("file", &link).expect("linked");
        write(&link, "two").expect("written");
        assert_eq!(fs::read_to_string(&file).expect("there"), "two");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(names(&dir), ["file", "link"]);
        fs::write(dir.join("new"), "three").expect("written");
        bring(&dir.join("new"), &link).expect("brought");
        assert_eq!(fs::read_to_string(&file).expect("there"), "three", "the link stays, and leads to it");
    }

    #[test]
    fn a_place_for_results_is_tried_before_they_are_there() {
        let dir = scratch("files-room");
        demand_room_for(&dir.join("new/results.json")).expect("a directory is made");
        assert_eq!(names(&dir.join("new")), [""; 0]);
        let said = demand_room_for(&dir).expect_err("a directory").to_string();
        assert!(said.ends_with("is a directory: name a file in it"), "{said}");
        write(&dir.join("file"), "one").expect("written");
        demand_room_for(&dir.join("file")).expect("it can be replaced");
        assert!(demand_room_for(&dir.join("file/results.json")).is_err(), "below a file");
        assert_eq!(fs::read_to_string(dir.join("file")).expect("there"), "one");
    }

    /// A pipe stays a pipe. A device that was replaced by mistake could not be restored.
    #[test]
    fn a_special_file_stays_one() {
        let dir = scratch("files-special");
        let (file, pipe) = (dir.join("file"), dir.join("pipe"));
        write(&file, "brought").expect("written");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        std::thread::scope(|scope| {
            let read = || scope.spawn(|| fs::read_to_string(&pipe).expect("read"));
            let reader = read();
            write(&pipe, "written").expect("written");
            assert_eq!(reader.join().expect("read"), "written");
            let reader = read();
            bring(&file, &pipe).expect("written");
            assert_eq!(reader.join().expect("read"), "brought");
        });
        assert!(is_special(&pipe) && names(&dir) == ["file", "pipe"]);
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let dir = scratch("files-failed");
        let file = dir.join("file");
        write(&file, "old").expect("written");
        let part = Part::of(&file);
        fs::write(part.path(), "half of the ne").expect("written");
        drop(part);
        assert_eq!(
            (names(&dir), fs::read_to_string(&file).expect("there")),
            (vec!["file".into()], "old".into())
        );
        assert!(copy(&dir.join("nowhere"), &file).is_err());
        // A directory cannot be replaced by a file.
        fs::create_dir(dir.join("place")).expect("made");
        assert!(bring(&file, &dir.join("place")).is_err());
        assert_eq!(names(&dir), ["file", "place"]);
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let full = |kind| anyhow::Error::from(io::Error::from(kind)).context("writing x");
        let error = full(ErrorKind::StorageFull);
        assert_eq!(trouble::status_of(&error), trouble::status::HOST);
        assert_eq!(trouble::advice(&error), Some(trouble::MAKE_ROOM));
        assert_eq!(trouble::advice(&full(ErrorKind::NotFound)), None);
    }
}
