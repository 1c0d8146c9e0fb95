//! What every command that boots the kernel shares: the machine, the build, the screen.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use abi::options;
use anyhow::Result;

use crate::artifacts::Artifacts;
use crate::lanes;
use crate::machine::{Boot, GUEST_CPU, GUEST_CPU_WITHOUT_CAPABILITIES, Medium, Mode, Plugin, Qemu};
use crate::pack;
use crate::report::Report;
use crate::screen::Screen;
use crate::session::{self, Ending, Event, Session};
use crate::terminal::Input;
use crate::testsum::{Cases, Tally};
use crate::trouble::Trouble;
use crate::turns::{Turn, Turns};

pub struct Lab {
    pub qemu: Qemu,
    pub artifacts: Artifacts,
    pub screen: Screen,
    /// Show all output of the guests.
    pub verbose: bool,
    /// Instead of each command's own time limit.
    pub limit: Option<Duration>,
    /// What is typed at the first serial line of the guests.
    pub input: Input,
    /// The tests that have said their names.
    pub cases: Cases,
    /// The host's CPUs, which all labs share that work beside each other.
    pub turns: Arc<Turns>,
}

/// What to boot; the rest is the same every time.
#[derive(Clone, Debug)]
pub struct Job {
    pub label: String,
    /// Build of the kernel.
    pub variant: String,
    /// The kernel's command line without `log=`.
    pub command_line: String,
    pub mode: Mode,
    pub cpus: u32,
    /// Where the TCG plugin writes, if it is to count.
    pub counted: Option<PathBuf>,
    /// Unless the user gave another.
    pub limit: Duration,
}

impl Job {
    /// Writes a number of CPUs: `2 CPUs`, `1 CPU`.
    pub fn cpus_text(cpus: u32) -> String {
        format!("{cpus} CPU{}", if cpus == 1 { "" } else { "s" })
    }
}

/// Refuses a command line with a word that no program reads, with a value that the word does not
/// take, or with a system that the boot archive does not have.
pub fn words_are_known(artifacts: &Artifacts, command_line: &str) -> Result<()> {
    options::check(command_line).map_err(|wrong| Trouble::Usage(wrong.to_string()))?;
    let Some(wanted) = options::value(command_line, "run") else { return Ok(()) };
    let systems = pack::systems_of(artifacts)?;
    if systems.iter().any(|system| system == wanted) {
        return Ok(());
    }
    let there = systems.join(", ");
    let text = format!("run={wanted}: no such system in the boot archive; there are {there}");
    Err(Trouble::Usage(text).into())
}

/// Refuses two words with one key in a command line that a person wrote.
pub fn words_stand_once(given: &str) -> Result<(), Trouble> {
    options::once(given).map_err(|wrong| Trouble::Usage(wrong.to_string()))
}

impl Lab {
    pub fn new(qemu: Qemu, artifacts: Artifacts) -> Lab {
        Lab {
            qemu,
            artifacts,
            screen: Screen::new(),
            verbose: false,
            limit: None,
            input: Input::None,
            cases: Cases::default(),
            turns: Arc::new(Turns::of_host()),
        }
    }

    /// Returns a lab for work beside this one's: it keeps its own lines and tests.
    pub fn beside(&self) -> Lab {
        Lab {
            qemu: self.qemu.clone(),
            artifacts: self.artifacts.clone(),
            screen: self.screen.beside(),
            input: self.input.clone(),
            cases: Cases::default(),
            turns: Arc::clone(&self.turns),
            ..*self
        }
    }

    /// Waits for the host CPUs that a job keeps busy.
    fn turn(&self, job: &Job) -> Turn<'_> {
        if job.mode == Mode::Icount || job.cpus == 1 { self.turns.one() } else { self.turns.all() }
    }

    /// Counts a check that is one test, and says why it failed.
    pub fn judged(&self, group: &str, name: &str, wrong: Option<String>) -> Tally {
        if let Some(why) = &wrong {
            self.screen.say(&format!("{group}: {name} FAILED {why}"));
        }
        self.cases.one(name, wrong)
    }

    /// Describes the machine for a job.
    pub fn boot(&self, job: &Job) -> Result<Boot> {
        words_are_known(&self.artifacts, &job.command_line)?;
        let kernel = self.artifacts.kernel(&job.variant)?;
        let library = job.counted.is_some().then(|| self.artifacts.plugin()).transpose()?;
        let watched = library.zip(job.counted.clone());
        let plugin = watched.map(|(library, output)| Plugin { library, output, arguments: Vec::new() });
        Ok(Boot {
            label: job.label.clone(),
            medium: Medium::Kernel { kernel, archive: self.artifacts.archive()? },
            command_line: format!("log=e9 {}", job.command_line).trim_end().to_owned(),
            mode: job.mode,
            cpus: job.cpus,
            cpu_model: GUEST_CPU,
            plugin,
            gather: self.artifacts.gather(),
            debug: None,
            input: self.input.clone(),
            limit: self.limit.unwrap_or(job.limit),
        })
    }

    /// Boots, shows the guest's events, and returns its output. The caller judges the output.
    pub fn run(&self, job: &Job) -> Result<Session> {
        self.run_with(job, &mut |event| self.show(event))
    }

    /// Boots several jobs: those that count instructions side by side, the others one after the
    /// other. Returns the results in the order of the jobs.
    pub fn run_all(&self, jobs: &[Job]) -> Vec<Result<Session>> {
        let counts = |job: &&Job| job.mode == Mode::Icount;
        let counted: Vec<&Job> = jobs.iter().filter(counts).collect();
        let done = AtomicUsize::new(0);
        let run_one = |job: &Job| {
            let session = self.run(job)?;
            let (done, all) = (done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
            let seconds = session.elapsed.as_secs_f32();
            self.screen.say(&format!("{}: over after {seconds:.0} s, {done} of {all} boots", job.label));
            Ok(session)
        };
        let mut counted = lanes::side_by_side(&counted, |job| run_one(job)).into_iter();
        let run = |job: &Job| if counts(&job) { counted.next() } else { Some(run_one(job)) };
        jobs.iter().filter_map(run).collect()
    }

    /// Boots a job as [`Lab::run`] does, and passes the guest's events to the caller's `listener`.
    pub fn run_with(&self, job: &Job, listener: &mut dyn FnMut(&Event)) -> Result<Session> {
        let mut boot = self.boot(job)?;
        let _turn = self.turn(job);
        self.screen.step(&job.label);
        let session = session::run(&self.qemu, &self.artifacts, &boot, listener)?;
        if job.mode != Mode::Kvm || !matches!(session.ending, Ending::Broken(_)) {
            return Ok(session);
        }
        boot.cpu_model = GUEST_CPU_WITHOUT_CAPABILITIES;
        session::run(&self.qemu, &self.artifacts, &boot, listener)
    }

    /// Boots another build with this build's plugin, which gets `arguments` and writes to `output`.
    pub fn record(
        &self,
        job: &Job,
        build: &Artifacts,
        output: &Path,
        arguments: Vec<String>,
    ) -> Result<Session> {
        self.record_with(job, build, output, arguments, &mut |event| self.show(event))
    }

    /// Does what [`Lab::record`] does, and passes the guest's events to the caller's `listener`.
    pub fn record_with(
        &self,
        job: &Job,
        build: &Artifacts,
        output: &Path,
        arguments: Vec<String>,
        listener: &mut dyn FnMut(&Event),
    ) -> Result<Session> {
        let mut boot = Lab { artifacts: build.clone(), ..self.beside() }.boot(job)?;
        let plugin = Plugin { library: self.artifacts.plugin()?, output: output.to_owned(), arguments };
        boot.plugin = Some(plugin);
        let _turn = self.turn(job);
        self.screen.step(&job.label);
        session::run(&self.qemu, build, &boot, listener)
    }

    pub fn show(&self, event: &Event) {
        if let Event::Report { report: Report::Progress(text), .. } = event {
            self.screen.progress(text);
        } else if self.verbose {
            self.screen.say(&event.text());
        }
    }
}
