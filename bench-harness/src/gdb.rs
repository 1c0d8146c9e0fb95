//! `./justw gdb`: a debugger that knows the kernel, on a machine that is stopped at a chosen place.
//!
//! There are three ways to stop. *From the start*: QEMU waits before its first instruction. *At an
//! event* of a stress seed: the chaos build runs up to it and stops all CPUs itself, because under
//! icount a breakpoint would change what several CPUs execute; attaching gdb does not. *Recorded*,
//! with one CPU: the run is recorded to its end and then replayed from a snapshot of its start, so
//! that gdb can go backwards, too.
//!
//! At the end this process becomes gdb. QEMU is a process group of its own, so that an interrupt
//! from the terminal goes only to gdb. QEMU ends when gdb does.

pub mod args;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::host::find_program;
use crate::lab::{Job, Lab};
use crate::machine::{Boot, Debug, Mode, Outputs, Replay};
use crate::monitor;
use crate::probe;
use crate::stress::{self, Stop};
use crate::trouble::Trouble;

/// What the kernel says when it has stopped the machine.
const STOPPED: &str = "aurora: stopped at event ";
/// The helpers, in the tree.
pub const SCRIPT: &str = "kern/gdb/aurora.py";
const POLL: Duration = Duration::from_millis(20);
/// Bytes of the disk that holds nothing but the snapshot.
const SNAPSHOT_DISK: &str = "16M";

/// What to debug, and how.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub what: What,
    /// Record the run first, then replay it.
    pub record: bool,
    /// Commands for gdb, after it has attached.
    pub commands: Vec<String>,
    /// End after them.
    pub batch: bool,
    /// The helpers.
    pub script: PathBuf,
}

#[derive(Clone, Debug)]
pub enum What {
    Boot(Job),
    Stress { wanted: stress::Wanted, seed: u32 },
}

/// Replaces this process by gdb. Returns only on an error.
pub fn gdb(lab: &Lab, wanted: &Wanted) -> Result<()> {
    let program = find_gdb(&wanted.script)?;
    let (job, stop) = match &wanted.what {
        What::Boot(job) => (job.clone(), Stop::default()),
        What::Stress { wanted, seed } => (stress::job(wanted, *seed), wanted.stop),
    };
    probe::check_mode(lab, job.mode)?;
    if stop != Stop::default() {
        lab.screen.say(&format!("{}: runs up to the stop", job.label));
    }
    let held = Held::start(lab, &job, stop, wanted.record)?;
    if let Some(line) = &held.stopped {
        println!("{line}");
    }
    std::io::stdout().flush()?;
    let error = Command::new(program).args(arguments(wanted, &held.kernel, &held.socket)).exec();
    Err(error).context("starting gdb")
}

/// Where a stress run stopped, and what gdb said there.
pub struct Answer {
    /// The event's number, its point and its time.
    pub place: String,
    pub said: Vec<String>,
}

/// Runs a stress run to its stop, and lets gdb execute one command there.
pub fn ask(lab: &Lab, run: &stress::Wanted, seed: u32, script: &Path, command: &str) -> Result<Answer> {
    let program = find_gdb(script)?;
    let _turn = lab.turns.one();
    lab.screen.step(&format!("seed {seed} runs up to the stop"));
    let held = Held::start(lab, &stress::job(run, seed), run.stop, false)?;
    let wanted = Wanted {
        what: What::Stress { wanted: run.clone(), seed },
        record: false,
        commands: vec![command.to_owned()],
        batch: true,
        script: script.to_owned(),
    };
    let said = Command::new(program).args(arguments(&wanted, &held.kernel, &held.socket)).output();
    let said = said.context("starting gdb")?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    let place = held.stopped.as_deref().and_then(|line| line.strip_prefix(STOPPED)).unwrap_or_default();
    Ok(Answer { place: place.to_owned(), said: text.lines().map(str::to_owned).collect() })
}

/// Finds gdb, and checks that the helpers are there.
fn find_gdb(script: &Path) -> Result<PathBuf, Trouble> {
    let program = find_program("gdb")
        .ok_or_else(|| Trouble::NoMachine("gdb is missing: apt-get install gdb".to_owned()))?;
    if !script.is_file() {
        let script = script.display();
        let text = format!("{script} is not there: start it in the tree, or name it by --script");
        return Err(Trouble::Usage(text));
    }
    Ok(program)
}

/// A machine that gdb can attach to: before its first instruction, or where it was to stop. It ends
/// with this.
struct Held {
    child: Child,
    /// The socket of QEMU's gdb stub.
    socket: PathBuf,
    kernel: PathBuf,
    /// The kernel's line about where it stopped.
    stopped: Option<String>,
}

impl Held {
    fn start(lab: &Lab, job: &Job, stop: Stop, is_recorded: bool) -> Result<Held> {
        let boot = lab.boot(&Job { label: format!("gdb-{}", job.label), ..job.clone() })?;
        let kernel = lab.artifacts.kernel(&job.variant)?;
        let dir = lab.artifacts.run_dir(&boot.label)?;
        let outputs = Outputs::within(&dir);
        let socket = outputs.monitor.with_extension("gdb");
        let replay = if is_recorded { Some(record(lab, &boot, &dir)?) } else { None };
        let stops = stop != Stop::default();
        let debug = Debug { socket: socket.clone(), hold: !stops, replay };
        let child = Boot { debug: Some(debug), ..boot.clone() }.start(&lab.qemu, &outputs)?;
        let mut held = Held { child, socket, kernel, stopped: None };
        if stops {
            held.stopped = Some(wait_for_stop(&mut held.child, &outputs, &held.kernel, boot.limit)?);
        }
        wait_for(&held.socket, &mut held.child, &outputs)?;
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
        // QEMU leaves its sockets where it is ended.
        for socket in [self.socket.clone(), self.socket.with_extension("monitor")] {
            let _ = fs::remove_file(socket);
        }
    }
}

/// Returns gdb's arguments.
fn arguments(wanted: &Wanted, kernel: &Path, socket: &Path) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec!["-q".into()];
    if wanted.batch {
        all.push("-batch".into());
    }
    all.extend([kernel.into(), "-x".into(), OsString::from(&wanted.script)]);
    let attach = format!("target remote {}", socket.display());
    for command in std::iter::once(&attach).chain(&wanted.commands) {
        all.extend(["-ex".into(), command.into()]);
    }
    all
}

/// Runs the guest to its end and records it, so that it can be replayed.
fn record(lab: &Lab, boot: &Boot, dir: &Path) -> Result<Replay> {
    if boot.cpus != 1 || boot.mode != Mode::Icount {
        let text =
            "QEMU records and replays one CPU only, under icount: leave --cpus and --mode out, or --record";
        return Err(Trouble::Usage(text.to_owned()).into());
    }
    let disk = dir.join("snapshot.qcow2");
    let image = find_program("qemu-img").ok_or_else(|| {
        Trouble::NoMachine("qemu-img, for the snapshot, is missing: apt-get install qemu-utils".to_owned())
    })?;
    let made =
        Command::new(image).args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg(SNAPSHOT_DISK).status();
    if !made.is_ok_and(|status| status.success()) {
        bail!("qemu-img could not make {}", disk.display());
    }
    let replay = |recording| Replay { recording, log: dir.join("replay.bin"), disk: disk.clone() };
    let first = dir.join("recorded");
    fs::create_dir_all(&first).with_context(|| format!("making {}", first.display()))?;
    let outputs = Outputs::within(&first);
    let debug =
        Debug { socket: outputs.monitor.with_extension("gdb"), hold: false, replay: Some(replay(true)) };
    lab.screen.say(&format!("{}: records the run", boot.label));
    let started = Instant::now();
    let mut child = Boot { debug: Some(debug), ..boot.clone() }.start(&lab.qemu, &outputs)?;
    while child.try_wait().context("waiting for QEMU")?.is_none() {
        if started.elapsed() > boot.limit {
            // What is recorded by then can be replayed: perhaps that it hangs is what one wants to
            // see.
            kill_process(Pid::from_child(&child), Signal::TERM).context("ending QEMU")?;
            child.wait().context("waiting for QEMU")?;
        }
        std::thread::sleep(POLL);
    }
    Ok(replay(false))
}

/// Waits until the guest says that it has stopped, and all its CPUs have.
fn wait_for_stop(child: &mut Child, outputs: &Outputs, kernel: &Path, limit: Duration) -> Result<String> {
    let started = Instant::now();
    loop {
        let ended = child.try_wait().context("waiting for QEMU")?;
        let said = fs::read(&outputs.serial).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        if let Some(line) = stop_line(&said)
            && halted(&monitor::where_are_the_cpus(&outputs.monitor, kernel))
        {
            return Ok(line.to_owned());
        }
        if ended.is_some() {
            return Err(if said.is_empty() { did_not_start(outputs) } else { never_stopped(&said) });
        }
        if started.elapsed() > limit {
            return Err(Trouble::TimedOut(format!("no stop after {} s", limit.as_secs())).into());
        }
        std::thread::sleep(POLL);
    }
}

/// Returns the line that reports the stop, once it is complete.
fn stop_line(said: &str) -> Option<&str> {
    let whole = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(str::trim_end).find(|line| line.starts_with(STOPPED))
}

fn halted(cpus: &[String]) -> bool {
    !cpus.is_empty() && cpus.iter().all(|cpu| cpu.ends_with("halted"))
}

fn never_stopped(said: &str) -> anyhow::Error {
    let events = said.lines().find_map(|line| line.strip_prefix("aurora: chaos: "));
    let why = match events {
        Some(events) => format!("it ended first, after {events}: give a lower --stop-at"),
        None => {
            "this kernel knows no events: it takes a build with chaos, as `./justw stress --mode icount` makes"
                .to_owned()
        }
    };
    Trouble::CheckFailed(format!("the machine did not stop: {why}")).into()
}

/// Waits until QEMU's stub listens.
fn wait_for(socket: &Path, child: &mut Child, outputs: &Outputs) -> Result<()> {
    let started = Instant::now();
    while !socket.exists() {
        if child.try_wait().context("waiting for QEMU")?.is_some()
            || started.elapsed() > Duration::from_secs(20)
        {
            return Err(did_not_start(outputs));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// Makes an error with QEMU's own words.
fn did_not_start(outputs: &Outputs) -> anyhow::Error {
    let said = fs::read_to_string(&outputs.qemu).unwrap_or_default();
    let said = if said.trim().is_empty() { "it says nothing" } else { said.trim() };
    Trouble::NoMachine(format!("QEMU did not start: {said}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_a_whole_line() {
        let whole = "boot\r\naurora: stopped at event 12 (BitsRaised), TSC 5\r\n";
        assert_eq!(stop_line(whole), Some("aurora: stopped at event 12 (BitsRaised), TSC 5"));
        assert_eq!(stop_line(&whole[..whole.len() - 1]), None);
        assert_eq!(stop_line("boot\n"), None);
    }

    #[test]
    fn all_cpus_have_to_stand() {
        let cpus =
            |last: &str| vec!["cpu 0: kernel 0x1  halted".to_owned(), format!("cpu 1: kernel 0x2{last}")];
        assert!(halted(&cpus("  halted")) && !halted(&cpus("")) && !halted(&[]));
    }

    #[test]
    fn it_says_why_it_did_not_stop() {
        let error = never_stopped("aurora: chaos: 77 events\naurora: exit pass\n").to_string();
        assert!(error.contains("after 77 events: give a lower --stop-at"), "{error}");
        assert!(never_stopped("aurora: exit pass\n").to_string().contains("build with chaos"));
    }

    #[test]
    fn commands_come_after_attaching() {
        let wanted = Wanted {
            what: What::Stress {
                wanted: stress::Wanted {
                    seed: Some(1),
                    seeds: 1,
                    cpus: 2,
                    messages: 1,
                    mode: Mode::Icount,
                    replay: false,
                    idle: None,
                    variant: None,
                    stop: Stop::default(),
                },
                seed: 1,
            },
            record: false,
            commands: vec!["aurora cpus".to_owned()],
            batch: true,
            script: "s.py".into(),
        };
        let words = arguments(&wanted, Path::new("k"), Path::new("/t"));
        assert_eq!(
            words,
            ["-q", "-batch", "k", "-x", "s.py", "-ex", "target remote /t", "-ex", "aurora cpus"]
        );
    }
}
