//! The boot archive: a ustar file of programs, process 1's own first, and of the compiled
//! descriptions of systems behind them.

use core::fmt;

use tar_no_std::TarArchiveRef;

/// Longest program name.
const NAME_MAX: usize = 32;
/// Where the descriptions of systems are.
const SYSTEMS: &str = "systems/";

/// Why an archive cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArchiveError {
    Empty,
    NotTar,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ArchiveError::Empty => "there is none (boot with -initrd)",
            ArchiveError::NotTar => "not a tar file",
        })
    }
}

/// The archive.
pub struct Archive<'a> {
    tar: TarArchiveRef<'a>,
}

/// A program of the archive.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    name: [u8; NAME_MAX],
    length: usize,
    /// Its log channel: its place in the archive, from 1.
    pub channel: u8,
    pub file: &'a [u8],
}

impl Program<'_> {
    pub fn name(&self) -> &str {
        core::str::from_utf8(&self.name[..self.length]).unwrap_or("?")
    }
}

impl<'a> Archive<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Archive<'a>, ArchiveError> {
        if bytes.is_empty() {
            return Err(ArchiveError::Empty);
        }
        let tar = TarArchiveRef::new(bytes).map_err(|_| ArchiveError::NotTar)?;
        Ok(Archive { tar })
    }

    /// Returns all programs, in order: the files whose names are short enough, in no directory.
    pub fn programs(&self) -> impl Iterator<Item = Program<'a>> {
        self.tar.entries().zip(1..0x80).filter_map(|(entry, channel)| {
            let filename = entry.filename();
            let text = filename.as_str().ok().filter(|text| !text.contains('/'))?.as_bytes();
            let mut name = [0; NAME_MAX];
            name.get_mut(..text.len())?.copy_from_slice(text);
            Some(Program { name, length: text.len(), channel, file: entry.data() })
        })
    }

    /// Runs `each` for the name of each system, in order.
    pub fn systems(&self, mut each: impl FnMut(&str)) {
        for entry in self.tar.entries() {
            if let Some(name) = entry.filename().as_str().ok().and_then(|name| name.strip_prefix(SYSTEMS)) {
                each(name);
            }
        }
    }

    /// Returns the compiled description of a system.
    pub fn system(&self, name: &str) -> Option<&'a [u8]> {
        let is_it = |file: &str| file.strip_prefix(SYSTEMS) == Some(name);
        let found = self.tar.entries().find(|entry| entry.filename().as_str().is_ok_and(is_it));
        found.map(|entry| entry.data())
    }

    pub fn program(&self, name: &str) -> Option<Program<'a>> {
        self.programs().find(|program| program.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a ustar header and its data, padded.
    fn file(name: &str, data: &[u8]) -> Vec<u8> {
        let mut header = vec![0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000555");
        header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
        header[156] = b'0';
        header[257..263].copy_from_slice(b"ustar\0");
        header[263..265].copy_from_slice(b"00");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header.extend(data);
        header.resize(header.len().next_multiple_of(512), 0);
        header
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes: Vec<u8> = files.iter().flat_map(|(name, data)| file(name, data)).collect();
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    #[test]
    fn programs_have_their_place_as_channel() {
        let bytes = archive(&[
            ("init", b"first"),
            ("bench", &[7; 1000]),
            ("kerntest", b"third"),
            ("systems/test", b"compiled"),
        ]);
        let archive = Archive::new(&bytes).unwrap();
        let bench = archive.program("bench").unwrap();
        assert_eq!((bench.channel, bench.file.len(), bench.name()), (2, 1000, "bench"));
        assert_eq!(archive.program("kerntest").unwrap().file, b"third");
        assert!(archive.program("bencher").is_none());
        assert_eq!(archive.programs().count(), 3);
        assert_eq!((archive.system("test"), archive.system("bench")), (Some(&b"compiled"[..]), None));
        let mut names = Vec::new();
        archive.systems(|name| names.push(name.to_owned()));
        assert_eq!(names, ["test"]);
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        assert_eq!(Archive::new(&[]).err(), Some(ArchiveError::Empty));
        assert_eq!(Archive::new(&[1; 700]).err(), Some(ArchiveError::NotTar));
    }
}
