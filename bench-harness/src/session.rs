//! One boot from its start to its end: all output of the guest, and how it ended.
//!
//! The session ends the guest when its time is up, or when it has been silent for long. The report
//! then has the guest's last output and the positions of its CPUs.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::artifacts::Artifacts;
use crate::confined::Confined;
use crate::files;
use crate::judge::Judge;
use crate::logs::{Line, Logs};
use crate::machine::{Boot, Medium, Outputs, Qemu};
use crate::monitor;
use crate::records::{self, Piece, Splitter};
use crate::report::Report;
use crate::state;
use crate::tail::{self, Lines, Tail};
use crate::terminal::{Input, Terminal};
use crate::testsum::Tally;
use crate::trouble::{ANNOUNCEMENT, Trouble};

/// Something the guest said.
#[derive(Clone, Debug)]
pub enum Event {
    /// A line on COM1.
    Serial(String),
    /// A decoded log frame.
    Log(Line),
    /// A report, and the line that it was read from.
    Report { report: Report, line: String },
    /// The kernel's state, as [text](crate::state) for comparing.
    State(Vec<String>),
    /// Bytes on the log port that are no record.
    Skipped(usize),
}

impl Event {
    /// Returns the event's text for a reader.
    pub fn text(&self) -> String {
        match self {
            Event::Serial(line) | Event::Report { line, .. } => line.clone(),
            Event::State(lines) => format!("(the kernel's state: {} lines)", lines.len()),
            Event::Log(line) => line.to_string(),
            Event::Skipped(bytes) => format!("({bytes} bytes on the log port are no record)"),
        }
    }
}

/// How a boot ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    Pass,
    Fail,
    Panic,
    /// Process 1 died, with which nobody is left to judge the run.
    Orphaned,
    /// QEMU ended without the guest asking for it: a triple fault, with `-no-reboot`.
    Reset,
    /// The guest's driver of the power switched the machine off, or reset it.
    Off,
    /// The person at the terminal left.
    Left,
    /// QEMU itself failed; what it printed.
    Broken(String),
    /// The disk is full: what the guest said is cut off somewhere, whatever it was.
    NoRoom(PathBuf),
    /// The time limit passed.
    TimedOut(Duration),
    /// The guest said nothing for so long.
    Silent(Duration),
}

/// Everything about a boot that is over.
#[derive(Debug)]
pub struct Session {
    pub label: String,
    pub ending: Ending,
    pub reports: Vec<Report>,
    pub last_words: Vec<String>,
    pub elapsed: Duration,
    /// What the kernel says of speculative-execution mitigations, one entry for each attack.
    pub mitigations: Vec<String>,
    /// How many events a chaos build counted.
    pub events: Option<u64>,
    /// The event from which on the guest perturbed nothing, in its words: number, point and time.
    pub calm: Option<String>,
    /// How many snapshots of the kernel's state came, and which [`invariants`] do not hold.
    pub snapshots: u32,
    pub violations: Vec<String>,
    /// What the processes that were to stay confined came to hold and see.
    pub confined: Confined,
}

/// Guest exit codes as QEMU statuses: (code << 1) | 1.
const STATUS_PASS: i32 = 33;
const STATUS_FAIL: i32 = 35;
const STATUS_PANIC: i32 = 37;
const STATUS_ORPHANED: i32 = 39;

const POLL: Duration = Duration::from_millis(5);
/// Longest that a traced guest that did not end by itself may take to let its events out.
const LAST_WISH: Duration = Duration::from_secs(60);
/// Bytes whose place is looked for when the guest has ended: a block of most file systems.
const PROBE: usize = 4096;
/// Longest silence of a guest that is alive, of few CPUs.
pub const SILENCE: Duration = Duration::from_secs(120);
/// CPUs that make it that much longer: those of a guest take turns, and at boot all compare their
/// clocks.
const FEW_CPUS: u32 = 8;
const LAST_WORDS: usize = 40;
/// How the kernel's boot lines about mitigations start.
pub const MITIGATION: &str = "aurora: mitigation ";
/// How the kernel's last line starts, with which it gives its verdict.
pub const EXIT: &str = "aurora: exit ";
/// How a chaos build's last line but one starts.
const EVENTS: &str = "aurora: chaos: ";
/// How it says from where on it perturbs nothing any more.
const CALM: &str = "aurora: calm from event ";

/// How the plugin's line begins where it could not write its file.
const PLUGIN_FAILED: &str = "aurora-plugin: writing ";

/// Returns the longest silence of a guest with `cpus` CPUs.
fn silence(cpus: u32) -> Duration {
    SILENCE * cpus.div_ceil(FEW_CPUS)
}

/// Boots once, and passes the guest's output to `listener` as it comes.
pub fn run(
    qemu: &Qemu,
    artifacts: &Artifacts,
    boot: &Boot,
    listener: &mut dyn FnMut(&Event),
) -> Result<Session> {
    let dir = artifacts.run_dir(&boot.label)?;
    let outputs = Outputs::within(&dir);
    let kernel = match &boot.medium {
        Medium::Kernel { kernel, .. } => kernel.clone(),
        Medium::Iso(_) => artifacts.kernel("")?,
    };
    let mut ear = Ear::new(&outputs, Logs::new(&kernel, &artifacts.programs()?));
    let started = Instant::now();
    let mut child = boot.start(qemu, &outputs)?;
    let mut terminal = Terminal::begin(&boot.input, child.stdin.take(), &outputs.monitor)?;
    let (mut ended_by_us, mut kill_at) = (None, None);
    let status = loop {
        let status = child.try_wait().context("waiting for QEMU")?;
        let sent = ear.listen(listener)?;
        if let Some(terminal) = &mut terminal {
            terminal.pass(&sent)?;
        }
        if let Some(status) = status {
            break status;
        }
        if ended_by_us.is_none()
            && boot.input != Input::Person
            && let Some(ending) = ear.overdue(started, boot.limit, silence(boot.cpus))
        {
            ear.states = monitor::where_are_the_cpus(&outputs.monitor, &kernel);
            ended_by_us = Some(ending);
            kill_at = Some(Instant::now());
            if boot.is_traced() {
                monitor::press_nmi(&outputs.monitor);
                kill_at = Some(Instant::now() + LAST_WISH);
            } else {
                ear.states.extend(monitor::keep_memory(&outputs.monitor, &dir.join("memory.elf")));
            }
        }
        if kill_at.take_if(|at| *at <= Instant::now()).is_some() {
            // To `timeout`, which passes it on and follows up with KILL.
            kill_process(Pid::from_child(&child), Signal::TERM).context("ending QEMU")?;
        }
        std::thread::sleep(POLL);
    };
    let sent = ear.listen(listener)?;
    let has_left = terminal.as_ref().is_some_and(Terminal::has_left);
    if let Some(terminal) = &mut terminal {
        terminal.pass(&sent)?;
    }
    drop(terminal);
    ear.finish(listener);
    ear.keep_state(&dir.join("state.txt"))?;
    ear.judge.keep(&dir.join("snapshot.txt"))?;
    let _ = std::fs::remove_file(&outputs.monitor);
    let ending = ended_by_us.unwrap_or_else(|| match has_left {
        true => Ending::Left,
        false => ending_of(status, &outputs),
    });
    let ending = if ending == Ending::Reset && is_off(&ear.reports) { Ending::Off } else { ending };
    let ending = if has_room(&dir) { ending } else { Ending::NoRoom(dir) };
    if !matches!(ending, Ending::NoRoom(_)) {
        check_plugin(&std::fs::read_to_string(&outputs.qemu).unwrap_or_default())?;
    }
    Ok(ear.into_session(boot.label.clone(), ending, started.elapsed()))
}

/// Checks that QEMU's output does not say that the plugin could not write its file.
fn check_plugin(said: &str) -> Result<(), Trouble> {
    match said.lines().find_map(|line| line.strip_prefix(PLUGIN_FAILED)) {
        Some(why) => Err(Trouble::NoRoom(format!("the plugin cannot write {why}: make room on that disk"))),
        None => Ok(()),
    }
}

/// Returns whether files in a directory can still grow: QEMU does not report when its own cannot.
pub fn has_room(dir: &Path) -> bool {
    let probe = dir.join("room");
    let written = std::fs::write(&probe, [1; PROBE]);
    let _ = std::fs::remove_file(&probe);
    written.is_ok()
}

/// Whether the last report of the driver of the power announces that it switches the machine off,
/// or resets it. Where that fails, the driver reports `power on`.
fn is_off(reports: &[Report]) -> bool {
    let power = reports.iter().rev().find_map(|report| match report {
        Report::Other(line) => line.strip_prefix("power "),
        _ => None,
    });
    matches!(power, Some("off" | "reset"))
}

fn ending_of(status: ExitStatus, outputs: &Outputs) -> Ending {
    match status.code() {
        Some(STATUS_PASS) => Ending::Pass,
        Some(STATUS_FAIL) => Ending::Fail,
        Some(STATUS_PANIC) => Ending::Panic,
        Some(STATUS_ORPHANED) => Ending::Orphaned,
        Some(0) => Ending::Reset,
        _ => {
            let said = std::fs::read_to_string(&outputs.qemu).unwrap_or_default();
            Ending::Broken(format!("{status}: {}", said.trim()))
        }
    }
}

/// Listens to one guest.
struct Ear {
    serial: Tail,
    log: Tail,
    lines: Lines,
    /// Lines of COM1 that are to be shown behind records that may still come; and how many are
    /// shown.
    held: VecDeque<String>,
    shown: u32,
    /// The last state that the kernel exported.
    state: Vec<String>,
    splitter: Splitter,
    logs: Logs,
    heard: Instant,
    reports: Vec<Report>,
    last_words: VecDeque<String>,
    states: Vec<String>,
    mitigations: Vec<String>,
    events: Option<u64>,
    calm: Option<String>,
    judge: Judge,
}

impl Ear {
    fn new(outputs: &Outputs, logs: Logs) -> Ear {
        Ear {
            serial: Tail::new(&outputs.serial),
            log: Tail::new(&outputs.log),
            lines: Lines::default(),
            held: VecDeque::new(),
            shown: 0,
            state: Vec::new(),
            splitter: Splitter::default(),
            logs,
            heard: Instant::now(),
            reports: Vec::new(),
            last_words: VecDeque::new(),
            states: Vec::new(),
            mitigations: Vec::new(),
            events: None,
            calm: None,
            judge: Judge::default(),
        }
    }

    /// Reads the output that is available now. Returns what came on COM1.
    fn listen(&mut self, listener: &mut dyn FnMut(&Event)) -> Result<Vec<u8>> {
        // First the records: the lines that they count have been written by then.
        let log = self.log.read().context("reading the log port")?;
        let serial = self.serial.read().context("reading the serial line")?;
        if !serial.is_empty() || !log.is_empty() {
            self.heard = Instant::now();
        }
        // Of those that nothing counted since the last look nothing will: a kernel in trouble
        // prints no records.
        let uncounted = self.held.len();
        self.held.extend(self.lines.push(&serial));
        self.splitter.push(&log);
        while let Some(piece) = self.splitter.next() {
            self.piece(piece, listener);
        }
        if log.is_empty() {
            self.show_lines(uncounted, listener);
        }
        Ok(serial)
    }

    /// Shows the next lines of COM1.
    fn show_lines(&mut self, count: usize, listener: &mut dyn FnMut(&Event)) {
        for _ in 0..count {
            let Some(line) = self.held.pop_front() else { return };
            self.shown = self.shown.wrapping_add(1);
            self.note(Event::Serial(line), listener);
        }
    }

    /// Reads the rest of the output after QEMU has ended.
    fn finish(&mut self, listener: &mut dyn FnMut(&Event)) {
        self.show_lines(self.held.len(), listener);
        if let Some(line) = self.lines.finish() {
            self.note(Event::Serial(line), listener);
        }
        if self.splitter.pending() > 0 {
            self.note(Event::Skipped(self.splitter.pending()), listener);
        }
    }

    /// Writes the exported state to a file, if there is one.
    fn keep_state(&self, path: &Path) -> Result<()> {
        if self.state.is_empty() {
            return Ok(());
        }
        files::write(path, self.state.join("\n") + "\n")
    }

    fn piece(&mut self, piece: Piece, listener: &mut dyn FnMut(&Event)) {
        match piece {
            Piece::Skipped(bytes) => self.note(Event::Skipped(bytes), listener),
            Piece::Record { channel: records::REPORT, payload } => {
                let line = tail::one_line(&String::from_utf8_lossy(&payload));
                self.judge.watch.hear(&line);
                self.note(Event::Report { report: Report::parse(&line), line }, listener);
            }
            Piece::Record { channel: records::SNAPSHOT, payload } => {
                self.judge.push(&payload, |snapshot| {
                    self.state = state::text(snapshot);
                    listener(&Event::State(self.state.clone()));
                });
            }
            Piece::Record { channel: records::LINES, payload } => {
                let written = payload.try_into().map_or(self.shown, u32::from_le_bytes);
                self.show_lines(written.saturating_sub(self.shown) as usize, listener);
            }
            // Read from the file afterwards.
            Piece::Record { channel: records::TRACE, .. } => {}
            Piece::Record { channel, payload } => {
                for line in self.logs.render(channel, &payload) {
                    self.note(Event::Log(line), listener);
                }
            }
        }
    }

    fn note(&mut self, event: Event, listener: &mut dyn FnMut(&Event)) {
        listener(&event);
        if self.last_words.len() == LAST_WORDS {
            self.last_words.pop_front();
        }
        self.last_words.push_back(event.text());
        match event {
            Event::Report { report, .. } => self.reports.push(report),
            Event::Serial(line) => {
                if let Some(text) = line.strip_prefix(MITIGATION) {
                    self.mitigations.push(text.to_owned());
                } else if let Some(text) = line.strip_prefix(EVENTS) {
                    self.events = text.split(' ').next().and_then(|number| number.parse().ok());
                } else if let Some(place) = line.strip_prefix(CALM) {
                    self.calm = Some(place.to_owned());
                }
            }
            Event::Log(_) | Event::State(_) | Event::Skipped(_) => {}
        }
    }

    fn overdue(&self, started: Instant, limit: Duration, silence: Duration) -> Option<Ending> {
        if started.elapsed() > limit {
            Some(Ending::TimedOut(limit))
        } else if self.heard.elapsed() > silence {
            Some(Ending::Silent(silence))
        } else {
            None
        }
    }

    fn into_session(self, label: String, ending: Ending, elapsed: Duration) -> Session {
        let last_words = self.last_words.into_iter().chain(self.states).collect();
        let Ear { reports, mitigations, events, calm, judge, .. } = self;
        let Judge { count: snapshots, violations, watch, .. } = judge;
        Session {
            label,
            ending,
            reports,
            last_words,
            elapsed,
            mitigations,
            events,
            calm,
            snapshots,
            violations,
            confined: watch.end(),
        }
    }
}

impl Session {
    /// Whether the kernel panicked, or was in a state in which an invariant did not hold, which
    /// counts as much.
    pub fn has_broken_kernel(&self) -> bool {
        self.ending == Ending::Panic || !self.violations.is_empty()
    }

    /// Checks that the kernel's state was judged at the end.
    pub fn check_judged(&self) -> Result<(), Trouble> {
        if self.snapshots > 0 {
            return Ok(());
        }
        Err(Trouble::CheckFailed(format!("{}: no snapshot of the kernel's state came", self.label)))
    }

    /// Checks that the run ended with `Pass` or, for callers who count failures themselves, with
    /// `Fail`, and that invariants of the kernel hold.
    pub fn check_ended(&self) -> Result<(), Trouble> {
        let label = &self.label;
        match &self.ending {
            Ending::Pass | Ending::Fail if !self.violations.is_empty() => {
                let lines: String = self.violations.iter().map(|line| format!("\n  | {line}")).collect();
                let text = format!(
                    "{label}: invariants of the kernel do not hold (snapshot.txt in the run's directory):{lines}"
                );
                Err(Trouble::CheckFailed(text))
            }
            Ending::Pass | Ending::Fail | Ending::Left => Ok(()),
            Ending::Panic => {
                Err(Trouble::GuestDied(self.with_words(&format!("{label}: the kernel panicked"))))
            }
            Ending::Orphaned => Err(Trouble::GuestDied(self.with_words(&format!("{label}: process 1 died")))),
            Ending::Reset => {
                let what = format!("{label}: the guest reset itself (triple fault?)");
                Err(Trouble::GuestDied(self.with_words(&what)))
            }
            Ending::Off => {
                let what = format!("{label}: the guest switched the machine off, without a verdict");
                Err(Trouble::GuestDied(self.with_words(&what)))
            }
            Ending::Broken(said) => Err(Trouble::NoMachine(format!("{label}: QEMU ended with {said}"))),
            Ending::NoRoom(dir) => {
                let dir = dir.display();
                let text =
                    format!("{label}: {dir} takes no more of what the guest says: make room on that disk");
                Err(Trouble::NoRoom(text))
            }
            Ending::TimedOut(limit) => {
                let what = format!("{label}: no end after {} s", limit.as_secs());
                Err(Trouble::TimedOut(self.with_words(&what)))
            }
            Ending::Silent(limit) => {
                let what = format!("{label}: the guest has said nothing for {} s", limit.as_secs());
                Err(Trouble::TimedOut(self.with_words(&what)))
            }
        }
    }

    /// Checks that nothing was wrong before the guest switched the machine off.
    pub fn check_off(&self) -> Result<(), Trouble> {
        let failed = Tally::of_reports(&self.reports).failed;
        if failed == 0 && self.violations.is_empty() {
            return Ok(());
        }
        let what = format!("{}: {failed} tests failed, or invariants of the kernel do not hold", self.label);
        Err(Trouble::CheckFailed(self.with_words(&what)))
    }

    /// Checks that the run ended with `Pass`.
    pub fn check_passed(&self) -> Result<(), Trouble> {
        self.check_ended()?;
        if self.ending == Ending::Fail {
            let what = format!("{}: the guest reported a failure", self.label);
            return Err(Trouble::CheckFailed(self.with_words(&what)));
        }
        Ok(())
    }

    /// Checks that the run ended with `Pass`, and that it did something: it may have skipped all
    /// its tests, or had none to run.
    pub fn check_did_something(&self) -> Result<(), Trouble> {
        self.check_passed()?;
        if self.reports.contains(&Report::Done { passed: 0, failed: 0 }) {
            let left_out = Tally::of_reports(&self.reports).skipped;
            let text =
                format!("{}: nothing was tested or measured, {left_out} tests were left out", self.label);
            return Err(Trouble::CheckFailed(text));
        }
        Ok(())
    }

    /// Checks the run, and that it ran a test.
    pub fn check_tested(&self) -> Result<(), Trouble> {
        self.check_did_something()?;
        let some = |report: &Report| matches!(report, Report::Done { passed: 1.., .. });
        if !self.reports.iter().any(some) {
            let text = format!("{}: no test was run: is there one of that name?", self.label);
            return Err(Trouble::CheckFailed(text));
        }
        Ok(())
    }

    fn with_words(&self, what: &str) -> String {
        let words = self.last_words.iter().map(|line| format!("\n  | {line}"));
        if self.last_words.is_empty() {
            return format!("{what}; it never said a word");
        }
        format!("{what}{ANNOUNCEMENT}{}", words.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(ending: Ending, reports: Vec<Report>) -> Session {
        Session {
            label: "x".to_owned(),
            ending,
            reports,
            last_words: Vec::new(),
            elapsed: Duration::ZERO,
            mitigations: Vec::new(),
            events: None,
            calm: None,
            snapshots: 0,
            violations: Vec::new(),
            confined: Confined::default(),
        }
    }

    #[test]
    fn a_run_that_did_nothing_does_not_pass() {
        let verdict = |lines: &[&str]| {
            let reports = lines.iter().map(|line| Report::parse(line)).collect();
            session(Ending::Pass, reports).check_did_something()
        };
        assert!(verdict(&["test name=a ok", "done passed=1 failed=0"]).is_ok());
        assert!(verdict(&["error nobody counts"]).is_ok());
        let nothing = verdict(&["test name=a skipped no PCID", "done passed=0 failed=0"]);
        assert!(nothing.is_err_and(|why| why.to_string().contains("1 tests were left out")));
    }

    #[test]
    fn the_last_word_about_the_power_counts() {
        let of = |lines: &[&str]| lines.iter().map(|line| Report::parse(line)).collect::<Vec<_>>();
        assert!(is_off(&of(&["power off"])) && is_off(&of(&["power reset", "note x: y"])));
        assert!(!is_off(&of(&["power off", "power on", "done passed=1 failed=0"])), "it went on");
        assert!(!is_off(&of(&["done passed=1 failed=0"])));
    }

    #[test]
    fn a_place_that_takes_nothing_is_noticed() {
        let dir = crate::campaign::scratch("room");
        let said = "x\naurora-plugin: writing boot/work-1.json: No space left on device (os error 28)\n";
        let full = check_plugin(said).expect_err("it could not write");
        assert!(full.is_of_the_host() && full.to_string().contains("write boot/work-1.json: No space left"));
        assert!(check_plugin("qemu: something else\n").is_ok());
        assert!(has_room(&dir));
        assert_eq!(std::fs::read_dir(&dir).expect("a directory").count(), 0, "nothing is left of the look");
        let gone = dir.join("gone");
        assert!(!has_room(&gone));
        let session = session(Ending::NoRoom(gone), Vec::new());
        let trouble = session.check_passed().expect_err("no result of the guest's");
        assert!(trouble.is_of_the_host(), "{trouble}");
        assert_eq!(trouble.status(), crate::trouble::status::HOST);
    }
}
