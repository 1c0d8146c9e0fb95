//! Bochs: the second, independent machine, with features that QEMU's emulator lacks.
//!
//! PCID, INVPCID, x2APIC and TSC-deadline exist there and not under TCG. Bochs's exit status has no
//! meaning, and its last serial bytes may be lost. So the verdict is the kernel's last line on
//! COM1. Debian's Bochs starts in its debugger and needs a terminal: `script` provides one, and a
//! command file continues the run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::artifacts::Artifacts;
use crate::confined::Confined;
use crate::host::find_program;
use crate::logs::Logs;
use crate::records::{self, Piece, Splitter};
use crate::report::Report;
use crate::session::{EXIT, Ending, Session};
use crate::tail;
use crate::trouble::Trouble;

/// The processor models that the kernel is tested on.
pub const MODELS: &[&str] = &["corei7_haswell_4770", "corei7_skylake_x"];

/// Where distributions put the firmware.
const BIOS: &[&str] = &["/usr/share/bochs/BIOS-bochs-latest", "/usr/local/share/bochs/BIOS-bochs-latest"];
const VGA_BIOS: &[&str] = &[
    "/usr/share/vgabios/vgabios.bin",
    "/usr/share/bochs/VGABIOS-lgpl-latest",
    "/usr/local/share/bochs/VGABIOS-lgpl-latest",
];

/// Checks that Bochs and its files are installed.
pub fn find() -> Result<(), Trouble> {
    let missing =
        |what: &str| Trouble::NoMachine(format!("{what} is missing: `./justw test-bochs` installs it"));
    for program in ["bochs", "script"] {
        find_program(program).ok_or_else(|| missing(program))?;
    }
    first_file(BIOS).ok_or_else(|| missing("Bochs's BIOS"))?;
    first_file(VGA_BIOS).ok_or_else(|| missing("Bochs's VGA BIOS"))?;
    Ok(())
}

fn first_file(candidates: &[&'static str]) -> Option<&'static str> {
    candidates.iter().copied().find(|path| Path::new(path).is_file())
}

/// Boots an image made with `log=com2` on a model, with 2 CPUs.
pub fn run(artifacts: &Artifacts, model: &str, image: &Path, limit: Duration) -> Result<Session> {
    find()?;
    let label = format!("bochs-{model}");
    let dir = artifacts.run_dir(&label)?;
    let (config, commands) = (dir.join("bochsrc"), dir.join("commands"));
    fs::write(&config, configuration(model, image, &dir)).context("writing Bochs's configuration")?;
    fs::write(&commands, "c\n").context("writing Bochs's commands")?;
    let started = Instant::now();
    let line = format!("bochs -q -f '{}' -rc '{}'", config.display(), commands.display());
    let status = Command::new("timeout")
        .args(["-k", "5", &limit.as_secs().to_string(), "script", "-qefc", &line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(fs::File::create(dir.join("screen.txt"))?)
        .stderr(Stdio::null())
        .status()
        .context("starting Bochs")?;
    let timed_out = status.code() == Some(124);
    let logs = Logs::new(&artifacts.kernel("")?, &artifacts.programs()?);
    let heard = Heard::read(&dir, &logs);
    let ending = if timed_out { Ending::TimedOut(limit) } else { ending(&heard.serial) };
    Ok(Session {
        label,
        ending,
        last_words: heard.last_words(),
        mitigations: Vec::new(),
        events: None,
        calm: None,
        snapshots: 0,
        violations: Vec::new(),
        confined: Confined::default(),
        reports: heard.reports,
        elapsed: started.elapsed(),
    })
}

struct Heard {
    serial: Vec<String>,
    /// Logs and report lines.
    logs: Vec<String>,
    reports: Vec<Report>,
}

impl Heard {
    fn read(dir: &Path, logs: &Logs) -> Heard {
        let serial = fs::read(dir.join("com1.txt")).unwrap_or_default();
        let serial = String::from_utf8_lossy(&serial).lines().map(str::to_owned).collect();
        let mut heard = Heard { serial, logs: Vec::new(), reports: Vec::new() };
        let mut splitter = Splitter::default();
        splitter.push(&fs::read(dir.join("com2.bin")).unwrap_or_default());
        for piece in splitter {
            match piece {
                Piece::Record { channel: records::REPORT, payload } => {
                    let line = tail::one_line(&String::from_utf8_lossy(&payload));
                    heard.reports.push(Report::parse(&line));
                    heard.logs.push(line);
                }
                Piece::Record { channel, payload } => {
                    heard.logs.extend(logs.render(channel, &payload).iter().map(ToString::to_string))
                }
                Piece::Skipped(_) => {}
            }
        }
        heard
    }

    fn last_words(&self) -> Vec<String> {
        const EACH: usize = 20;
        let tail = |lines: &[String]| lines[lines.len().saturating_sub(EACH)..].to_vec();
        [tail(&self.serial), tail(&self.logs)].concat()
    }
}

/// Returns the kernel's verdict: its last line.
fn ending(serial: &[String]) -> Ending {
    let verdict = serial.iter().rev().find_map(|line| line.trim().strip_prefix(EXIT));
    match verdict {
        Some("pass") => Ending::Pass,
        Some("fail") => Ending::Fail,
        Some("panic") => Ending::Panic,
        Some("orphaned") => Ending::Orphaned,
        _ => Ending::Reset,
    }
}

fn configuration(model: &str, image: &Path, dir: &Path) -> String {
    let file = |name: &str| dir.join(name).display().to_string();
    format!(
        "display_library: term\n\
         romimage: file={bios}\nvgaromimage: file={vga}\n\
         megs: 512\ncpu: model={model}, count=2, ips=100000000, reset_on_triple_fault=0\n\
         ata0-master: type=cdrom, path=\"{image}\", status=inserted\nboot: cdrom\n\
         com1: enabled=1, mode=file, dev=\"{com1}\"\ncom2: enabled=1, mode=file, dev=\"{com2}\"\n\
         sound: waveoutdrv=dummy\nspeaker: enabled=0\nclock: sync=none\n\
         log: \"{log}\"\npanic: action=fatal\nerror: action=report\ninfo: action=ignore\n",
        bios = first_file(BIOS).unwrap_or(BIOS[0]),
        vga = first_file(VGA_BIOS).unwrap_or(VGA_BIOS[0]),
        image = image.display(),
        com1 = file("com1.txt"),
        com2 = file("com2.bin"),
        log = file("bochs.log"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_verdict_on_the_serial_line_counts() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(ending(&lines("boot\naurora: exit pass\n")), Ending::Pass);
        assert_eq!(ending(&lines("aurora: exit panic")), Ending::Panic);
        assert_eq!(ending(&lines("boot\n")), Ending::Reset);
    }
}
