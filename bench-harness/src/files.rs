//! Files that are there whole or not at all: a full disk, an error or an interrupt leaves what was there before.
//!
//! A file is written under another name beside its place, `NAME.part-PID`, and renamed when all of it is on the disk.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Stands between a file's name and the process that writes it.
const PART: &str = ".part-";

/// Writes a file. Special files, as `/dev/null`, are written as they are.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let written = || -> io::Result<()> {
        if fs::metadata(path).is_ok_and(|file| !file.is_file()) {
            return fs::write(path, bytes.as_ref());
        }
        let part = Part::of(path);
        let mut file = File::create(part.path())?;
        file.write_all(bytes.as_ref())?;
        part.settle()
    };
    written().with_context(|| format!("writing {}", path.display()))
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

/// Brings a whole file to its place, from another disk too.
pub fn bring(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
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
    /// Of a file that a link leads to, the part is beside the file: the link stays.
    fn of(path: &Path) -> Part {
        let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut part = place.as_os_str().to_owned();
        part.push(format!("{PART}{}", std::process::id()));
        Part { part: part.into(), place }
    }

    fn path(&self) -> &Path {
        &self.part
    }

    /// Renames it, with the permissions of the file that it replaces. Some disks say that they are full only at the end.
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
        write(Path::new("/dev/null"), "x").expect("written");
        assert!(!fs::metadata("/dev/null").expect("there").is_file(), "a special file stays one");
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
        let error = write(Path::new("/dev/full"), "x").expect_err("it is full");
        assert_eq!(trouble::status_of(&error), trouble::status::HOST);
        assert!(format!("{error:#}").starts_with("writing /dev/full: No space left"), "{error:#}");
        assert_eq!(trouble::advice(&error), Some(trouble::MAKE_ROOM));
    }
}
