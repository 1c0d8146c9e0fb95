//! Tests of images for machines without this tool: they boot by the command that `iso` prints, the
//! screen shows the bench's table, and `decode` finds equal figures in the capture, in text and in
//! records.

use std::fs;
use std::path::{Path, absolute};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::decode::{self, Decoded};
use crate::iso;
use crate::lab::Lab;
use crate::machine::{Mode, Outputs, ending_with_us};
use crate::monitor;
use crate::report::Row;
use crate::session::EXIT;
use crate::testsum::Tally;

const LABEL: &str = "iso-bench";
const WORDS: &str = "run=bench rows=null_syscall,call_reply_cross_as n=50 warmup=5";
const ROWS: [&str; 2] = ["null_syscall", "call_reply_cross_as"];
/// What COM1 says, and COM2, in the run's directory.
const SERIAL: &str = "serial.txt";
const RECORDS: &str = "com2.bin";
/// Time limit of a boot.
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

pub fn run(lab: &Lab) -> Result<Tally> {
    if !iso::can_be_made() {
        lab.screen.say("iso left out: grub-mkrescue is missing: `./justw iso` installs it");
        return Ok(Tally { skipped: 1, ..Tally::default() });
    }
    let mut tally = Tally::default();
    let mut count = |name: &str, wrong: Option<String>| tally += lab.judged("iso", name, wrong);
    lab.screen.step(LABEL);
    let wrong = |decoded: &Result<Decoded>| match decoded {
        Ok(decoded) => is_no_bench(decoded),
        Err(error) => Some(format!("{error:#}")),
    };
    let (serial, screen) = boot(lab, WORDS, SERIAL)?;
    let decoded = decode::decode(&serial);
    count("the serial line", wrong(&decoded));
    let rows = decoded.map(|decoded| rows_of(&decoded)).unwrap_or_default();
    count("the screen", is_not_shown(&rows, &screen));
    let (records, _) = boot(lab, &format!("{WORDS} log=com2"), RECORDS)?;
    count("the second serial line", wrong(&decode::decode(&records)));
    Ok(tally)
}

/// Boots an image. Returns what was captured in a file of the run's directory, and the lines that
/// the screen shows at the end.
fn boot(lab: &Lab, words: &str, captured: &str) -> Result<(Vec<u8>, Vec<String>)> {
    let line = iso::command_line(&[words.to_owned()]);
    let image = absolute(lab.artifacts.boot_dir().join("bench.iso"))?;
    iso::make(&lab.artifacts, "", &line, &image)?;
    let dir = absolute(lab.artifacts.run_dir(LABEL)?)?;
    let outputs = Outputs::within(&dir);
    let _turn = lab.turns.one();
    let mut child = ending_with_us("timeout")
        .args(["--foreground", &(2 * LIMIT).as_secs().to_string()])
        .arg(&lab.qemu.program)
        .args(iso::qemu_arguments(&image, &line, &format!("file:{SERIAL}")))
        .args(["-display", "none", "-monitor", &outputs.monitor_option()])
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&outputs.qemu)?)
        .stderr(Stdio::null())
        .spawn()
        .context("starting QEMU")?;
    let ended = wait_for_the_end(&dir.join(SERIAL), lab.limit.unwrap_or(LIMIT));
    let screen = monitor::text_screen(&outputs.monitor, &dir.join("screen.bin"));
    let _ = kill_process(Pid::from_child(&child), Signal::TERM);
    child.wait().context("waiting for QEMU")?;
    let _ = fs::remove_file(&outputs.monitor);
    ended?;
    Ok((fs::read(dir.join(captured))?, screen))
}

/// Waits until the kernel has ended. The machine continues, so that its screen can be read.
fn wait_for_the_end(serial: &Path, limit: Duration) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < limit {
        let said = fs::read(serial).unwrap_or_default();
        if String::from_utf8_lossy(&said).lines().any(|line| line.starts_with(EXIT)) {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    bail!("{}: no \"{EXIT}\" after {} s", serial.display(), limit.as_secs())
}

fn rows_of(decoded: &Decoded) -> Vec<Row> {
    decoded.results.runs.iter().flat_map(|run| run.rows.clone()).collect()
}

/// Returns what is wrong with a capture of the image's bench under QEMU's emulator.
fn is_no_bench(decoded: &Decoded) -> Option<String> {
    let modes: Vec<Mode> = decoded.results.runs.iter().map(|run| run.mode).collect();
    let rows = rows_of(decoded);
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let is_good =
        decoded.trouble.is_none() && decoded.notes.is_empty() && modes == [Mode::Tcg] && names == ROWS;
    (!is_good).then(|| format!("{names:?}, {modes:?}, {:?}, {:?}", decoded.notes, decoded.trouble))
}

/// Returns the row that a screen does not show as it was captured.
fn is_not_shown(rows: &[Row], screen: &[String]) -> Option<String> {
    let shows = |row: &Row| {
        let line = screen.iter().find_map(|line| line.strip_prefix("| ")?.strip_prefix(&row.name));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        let figures = [row.n, row.min, row.p50, row.p99, row.max].map(|figure| figure.to_string());
        words.first() == Some(&row.scope.as_str()) && words[1..] == figures
    };
    let missing = rows.iter().find(|row| !shows(row)).map(|row| row.name.as_str());
    let ended = screen.iter().any(|line| line == "aurora: exit pass");
    (rows.is_empty() || missing.is_some() || !ended).then(|| format!("{missing:?} in\n{}", screen.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_shown_with_all_its_figures() {
        let row = Row { p50: 92, ..Row::example("null_syscall", 90) };
        let screen = |line: &str| vec!["| noise".to_owned(), line.to_owned(), "aurora: exit pass".to_owned()];
        let rows = std::slice::from_ref(&row);
        assert_eq!(is_not_shown(rows, &screen("| null_syscall   round-trip  100  90  92  90  90")), None);
        for line in [
            "| null_syscall   round-trip  100  90  93  90  90",
            "| null_syscall_2 round-trip  100  90  92  90  90",
            "null_syscall     round-trip  100  90  92  90  90",
            "| null_syscall",
            "",
        ] {
            assert!(is_not_shown(rows, &screen(line)).is_some(), "{line}");
        }
        assert!(is_not_shown(&[], &screen("")).is_some(), "without rows nothing is shown");
        assert!(is_not_shown(rows, &[]).is_some());
    }
}
