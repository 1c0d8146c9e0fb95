//! The bootable image: GRUB, the kernel, the boot archive, by multiboot2.
//!
//! It is for machines without the host tool. So, unless the command line says otherwise,
//! report lines go as text to the serial line and the screen (`log=text`), and
//! [`decode`](crate::decode) reads them from a capture.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use abi::options;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::artifacts::Artifacts;
use crate::files;
use crate::host::find_program;
use crate::lab::{words_are_known, words_stand_once};
use crate::machine::{GUEST_CPU, MEMORY, ending_with_us, option_value};
use crate::pack;
use crate::session::has_room;
use crate::trouble::Trouble;

pub const EXAMPLES: &str = "\
Examples:
  aurora-bench iso run=bench
  aurora-bench iso --output few.iso run=bench 'rows=null_syscall,call_*' page=60
  aurora-bench iso run=bench log=com2     records, for a second serial line

Without log= report lines are text on COM1 and the screen (log=text). `decode` makes tables
from a capture.";

/// The program that writes images.
const RESCUE: &str = "grub-mkrescue";
/// CPUs of the machine that the printed command starts.
const CPUS: u32 = 4;
/// Where an image of ISO 9660 has its volume descriptor; what that begins with; and where in it the
/// volume's size is, in sectors.
const DESCRIPTOR: u64 = 16 * SECTOR;
const SECTOR: u64 = 2048;
const SIGNATURE: &[u8] = b"\x01CD001";
const VOLUME_SIZE: usize = 80;

/// What image to make.
#[derive(Args, Clone, Debug)]
pub struct Wanted {
    /// Where to write the image
    #[arg(long, value_name = "FILE", default_value = "target/aurora.iso")]
    output: PathBuf,
    /// Build of the kernel
    #[arg(long, default_value = "")]
    variant: String,
    /// Words for the kernel's command line
    words: Vec<String>,
}

/// Makes an image, and says how to boot it.
pub fn command(artifacts: &Artifacts, wanted: &Wanted) -> Result<()> {
    let line = command_line(&wanted.words);
    words_stand_once(&line)?;
    make(artifacts, &wanted.variant, &line, &wanted.output)?;
    println!("{}\n\n{}", wanted.output.display(), how_to_boot(&wanted.output, &line));
    Ok(())
}

/// Returns the kernel's command line. Reports are text, unless the words send them elsewhere.
pub fn command_line(words: &[String]) -> String {
    let words = words.join(" ");
    match options::value(&words, "log") {
        Some(_) => words,
        None => format!("log=text {words}").trim_end().to_owned(),
    }
}

/// Returns arguments with which QEMU boots an image: with a screen, and `serial` as COM1.
pub fn qemu_arguments(image: &Path, command_line: &str, serial: &str) -> Vec<String> {
    let mut all = vec!["-machine".to_owned(), "q35".to_owned(), "-cpu".to_owned(), GUEST_CPU.to_owned()];
    let (cpus, image) = (CPUS.to_string(), image.display().to_string());
    let more = ["-m", MEMORY, "-smp", &cpus, "-cdrom", &image, "-serial", serial];
    all.extend(more.map(str::to_owned));
    if let Some((port, file)) = records(command_line) {
        all.extend([port.to_owned(), format!("file:{}", option_value(Path::new(file)))]);
    }
    all
}

/// Returns QEMU's option for the port of records, if there is one, and the file that captures it.
fn records(command_line: &str) -> Option<(&'static str, &'static str)> {
    match options::value(command_line, "log") {
        Some("com2") => Some(("-serial", "com2.bin")),
        Some("e9") => Some(("-debugcon", "log.bin")),
        _ => None,
    }
}

fn how_to_boot(image: &Path, command_line: &str) -> String {
    let quote =
        |word: &String| match word.contains(|c: char| c.is_whitespace() || "'\"$&;|()<>*?".contains(c)) {
            true => format!("'{}'", word.replace('\'', "'\\''")),
            false => word.clone(),
        };
    let qemu: Vec<String> = qemu_arguments(image, command_line, "stdio").iter().map(quote).collect();
    let image = quote(&image.display().to_string());
    let (line, file) = match options::value(command_line, "log") {
        Some("com2") => ("COM2", "com2.bin"),
        Some("e9") => ("its debug console, which only emulators have: capture it there", "log.bin"),
        _ => ("COM1", "serial.txt"),
    };
    format!(
        "In QEMU, with COM1 in this terminal (add -display none where no window opens, -accel kvm for true cycles):\n  \
           qemu-system-x86_64 {}\n\
         On a machine that boots by BIOS, from a USB stick; this erases the stick:\n  \
           sudo dd if={image} of=/dev/sdX bs=4M conv=fsync\n\
         What it says on {line}, captured at the other end (115200 baud), and the bench's tables of that:\n  \
           stty -F /dev/ttyS0 115200 raw -echo; cat /dev/ttyS0 > {file}\n  \
           ./justw decode {file}",
        qemu.join(" ")
    )
}

/// Returns whether the program that writes images is installed.
pub fn can_be_made() -> bool {
    find_program(RESCUE).is_some()
}

/// Writes an image that boots `variant` with this command line, without a menu.
pub fn make(artifacts: &Artifacts, variant: &str, command_line: &str, image: &Path) -> Result<()> {
    words_are_known(artifacts, command_line)?;
    let Some(program) = find_program(RESCUE) else {
        let text =
            "grub-mkrescue is missing: `./justw iso` installs it (grub-common, grub-pc-bin, xorriso, mtools)";
        return Err(Trouble::NoMachine(text.to_owned()).into());
    };
    let dir = artifacts.run_dir("iso")?;
    let tree = dir.join("tree");
    let boot = tree.join("boot");
    fs::create_dir_all(boot.join("grub")).context("making the image's directories")?;
    pack::strip_file(&artifacts.kernel(variant)?, &boot.join("aurora"))?;
    files::copy(&artifacts.archive()?, &boot.join("boot.tar"))?;
    files::write(&boot.join("grub/grub.cfg"), menu(command_line))?;
    write(ending_with_us(&program.to_string_lossy()), &dir, image)
}

fn menu(command_line: &str) -> String {
    format!(
        "set timeout=0\nset default=0\nmenuentry Aurora {{\n  multiboot2 /boot/aurora {command_line}\n  \
         module2 /boot/boot.tar boot.tar\n  boot\n}}\n"
    )
}

/// Runs a program that writes the image of `dir/tree`: the whole of it, or nothing. An earlier
/// image stays until then.
///
/// The image grows in `dir`: where all this is killed in the middle, no half of one is where
/// somebody looks for it.
fn write(mut rescue: Command, dir: &Path, image: &Path) -> Result<()> {
    let place = image.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(place.is_dir(), "{} is no directory: the image cannot be there", place.display());
    let grown = dir.join("image");
    let output =
        rescue.arg("-o").arg(&grown).arg(dir.join("tree")).output().context("starting grub-mkrescue")?;
    let written = check(&output, &grown, dir).and_then(|()| files::bring(&grown, image));
    if written.is_err() {
        let _ = fs::remove_file(&grown);
    }
    written
}

/// Checks that the program wrote a whole image.
fn check(output: &Output, image: &Path, dir: &Path) -> Result<()> {
    if output.status.success() && is_whole(image) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let temporary = std::env::temp_dir();
    if let Some(full) = [dir, &temporary].into_iter().find(|dir| !has_room(dir)) {
        let text = format!("{} takes no more: make room on that disk for the image", full.display());
        return Err(Trouble::NoRoom(text).into());
    }
    if said.contains("No space left on device") {
        return Err(Trouble::NoRoom(format!("no room for the image: {}", said.trim())).into());
    }
    bail!("{RESCUE} wrote no whole image ({}): {}", output.status, said.trim())
}

/// Returns whether a file is an image of ISO 9660, and as long as its header says.
fn is_whole(file: &Path) -> bool {
    let sectors = || -> Result<u64> {
        let mut file = fs::File::open(file)?;
        file.seek(SeekFrom::Start(DESCRIPTOR))?;
        let mut start = [0; VOLUME_SIZE + 4];
        file.read_exact(&mut start)?;
        ensure!(start.starts_with(SIGNATURE), "another file");
        let size: [u8; 4] = start[VOLUME_SIZE..].try_into()?;
        Ok(u32::from_le_bytes(size).into())
    };
    let length = fs::metadata(file).map_or(0, |file| file.len());
    sectors().is_ok_and(|sectors| sectors > 0 && length >= sectors * SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::scratch;
    use crate::trouble::{status, status_of};

    #[test]
    fn the_menu_boots_at_once() {
        let menu = menu("log=com2 run=test");
        assert!(menu.starts_with("set timeout=0\n"));
        assert!(menu.contains("multiboot2 /boot/aurora log=com2 run=test\n"));
    }

    #[test]
    fn what_is_reported_is_text_unless_asked_otherwise() {
        let line =
            |words: &[&str]| command_line(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["run=bench"]), "log=text run=bench");
        assert_eq!(line(&[]), "log=text");
        assert_eq!(line(&["run=bench", "log=off"]), "run=bench log=off");
    }

    #[test]
    fn the_way_to_boot_it_is_said() {
        let text = how_to_boot(Path::new("my images/a.iso"), "log=text run=bench");
        assert!(text.contains("-cdrom 'my images/a.iso' -serial stdio\n"), "{text}");
        assert!(text.contains("dd if='my images/a.iso' of=/dev/sdX"), "{text}");
        assert!(text.ends_with("decode serial.txt"), "{text}");
        let text = how_to_boot(Path::new("a.iso"), "log=com2 run=bench");
        assert!(text.contains("-serial stdio -serial file:com2.bin\n"), "{text}");
        assert!(text.ends_with("decode com2.bin"), "{text}");
    }

    /// Runs a shell in place of the real program. The image's name is `$2`.
    fn written_by(name: &str, script: &str) -> (PathBuf, Result<()>) {
        let dir = scratch(&format!("iso-{name}"));
        fs::create_dir(dir.join("work")).expect("made");
        let mut shell = Command::new("sh");
        shell.args(["-c", script, RESCUE]);
        let result = write(shell, &dir.join("work"), &dir.join("a.iso"));
        (dir, result)
    }

    /// Makes an image of `sectors` sectors, of which `there` exist.
    fn image(sectors: u32, there: u64) -> Vec<u8> {
        let mut bytes = vec![0; (there * SECTOR) as usize];
        let at = DESCRIPTOR as usize;
        bytes[at..at + SIGNATURE.len()].copy_from_slice(SIGNATURE);
        bytes[at + VOLUME_SIZE..at + VOLUME_SIZE + 4].copy_from_slice(&sectors.to_le_bytes());
        bytes
    }

    #[test]
    fn a_whole_image_or_none() {
        let source = scratch("iso-source");
        let (whole, half) = (source.join("whole"), source.join("half"));
        fs::write(&whole, image(20, 20)).expect("written");
        fs::write(&half, image(20, 18)).expect("written");
        let copy = |file: &Path, status: u8| format!("cp '{}' \"$2\"; exit {status}", file.display());
        let left = |dir: &Path| {
            let entries = [dir.to_owned(), dir.join("work")].into_iter().flat_map(fs::read_dir).flatten();
            let names = entries.map(|entry| entry.expect("an entry").file_name());
            names.filter(|name| name != "work").collect::<Vec<_>>()
        };
        let (dir, result) = written_by("whole", &copy(&whole, 0));
        result.expect("a whole image");
        assert_eq!(left(&dir), ["a.iso"]);
        for (name, script) in [
            ("failed", copy(&whole, 1)),
            ("half", copy(&half, 0)),
            ("empty", ": > \"$2\"".to_owned()),
            ("nothing", ":".to_owned()),
        ] {
            let (dir, result) = written_by(name, &script);
            let error = result.expect_err(name);
            assert_eq!(status_of(&error), status::HOST, "{error:#}");
            assert!(left(&dir).is_empty(), "{name}: {:?}", left(&dir));
        }
    }

    #[test]
    fn while_it_grows_nothing_is_in_its_place() {
        let (dir, _) = written_by("grows", "ls \"${2%/work/image}\" > \"${2%image}seen\"; exit 1");
        assert_eq!(fs::read_to_string(dir.join("work/seen")).expect("written"), "work\n");
    }

    #[test]
    fn a_full_disk_is_called_so() {
        let (_, result) =
            written_by("full", "head -c 100 /dev/zero > \"$2\"; echo 'No space left on device' >&2; exit 1");
        let error = result.expect_err("no room");
        assert!(error.downcast_ref::<Trouble>().is_some_and(Trouble::is_of_the_host), "{error:#}");
        assert_eq!(status_of(&error), status::HOST);
    }

    #[test]
    fn an_image_that_was_there_stays_when_the_next_fails() {
        let dir = scratch("iso-old");
        let old = dir.join("a.iso");
        fs::write(&old, b"old").expect("written");
        assert!(write(Command::new("false"), &dir, &old).is_err());
        assert_eq!(fs::read(&old).expect("still there"), b"old");
    }
}
