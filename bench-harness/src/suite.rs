//! `./justw test`: runs all kinds of tests and counts them together.
//!
//! Steps continue after a failure, so that one run shows everything that is wrong. The sizes are
//! chosen for CI; the book says how to run the campaigns at full size.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::bench;
use crate::bisecttest;
use crate::bochs;
use crate::deaths;
use crate::diff;
use crate::explain::steps;
use crate::files;
use crate::fuzz;
use crate::gdbtest;
use crate::hardening;
use crate::hostile;
use crate::iso;
use crate::isotest;
use crate::junit::Junit;
use crate::lab::{Job, Lab};
use crate::lanes;
use crate::lint;
use crate::logtest;
use crate::machine::Mode;
use crate::pairs;
use crate::policy;
use crate::protection;
use crate::report::{Report, Verdict};
use crate::restarts;
use crate::scale;
use crate::scheduling;
use crate::seeded;
use crate::session::Session;
use crate::shelltest;
use crate::stress;
use crate::testsum::{self, Case, Tally};
use crate::torture;
use crate::tracetest;
use crate::trouble::Trouble;
use crate::tutorials;

/// Kinds of tests, in the order of their results.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Step {
    /// Unit, property and layering tests on the host
    Host,
    /// Clippy and rustdoc over all crates, without a warning
    Lint,
    /// The concurrent data structures under loom
    Loom,
    /// Operations stopped at their points, and others run beside them: a sample, with normal and
    /// with small limits
    Pairs,
    /// Processes that do whatever they like, each operation judged by who may do what: a sample
    Confine,
    /// The kernels' machine code: what it must not do, however branches are predicted
    Hardening,
    /// The kernel tests in QEMU on 1, 2 and 4 CPUs; and that the machine ends when process 1 dies
    Guest,
    /// The log: what each level tells, and that records are whole whatever interrupts them
    Logs,
    /// Protections of the machine, and that without each its tests fail
    Protection,
    /// Kernels with and without fastpaths: the same state after the same operations
    Diff,
    /// gdb's helpers say what the kernel says, a stop is the same again, and the kernel knows what
    /// arrives at its exit; if gdb is there
    Gdb,
    /// Traces of real runs: valid JSON, no rule broken, and a planted bug is found
    Trace,
    /// Short stress runs, replayed where the mode can; and the event of a run at which something
    /// begins, found
    Stress,
    /// A pager, its store and its policy: memory four times the frames, a store that fails, pagers
    /// that are killed
    Paging,
    /// Systems of several processes: servers that end in every way and come back, sixty processes,
    /// a shell
    Systems,
    /// The programs of the book's tutorials, built and run as they are written there
    Tutorials,
    /// A scheduling policy at work: deadlines, equal shares, balancing; and it is killed
    Scheduling,
    /// Short torture runs; and one of a kernel that forgets to flush, which is caught
    Torture,
    /// Short fuzz runs: histories of all CPUs checked against the model
    Fuzz,
    /// Short attacks of a hostile program: seen and counted
    Hostile,
    /// icount figures against the baseline; the functions that operations visit
    Bench,
    /// A program with a security label: the same limits; a rule's refusals, and the audit's report
    /// of them
    Policy,
    /// The bootable image without this tool: the screen shows the bench's table, and what was
    /// captured is decoded
    Iso,
    /// The kernel tests on Bochs, if it is there
    Bochs,
}

/// Time limit of one boot with kernel tests.
pub const GUEST_LIMIT: Duration = Duration::from_secs(300);
/// Time limit of one boot of a system of several processes.
const SYSTEM_LIMIT: Duration = Duration::from_secs(120);
const BOCHS_LIMIT: Duration = Duration::from_secs(300);
/// Messages of a stress run in the suite.
const STRESS_MESSAGES: u64 = 20_000;
/// Operations of a torture run in the suite; and the runs, and their operations, in which a planted
/// bug has to be caught. One run finds it with a probability of a half to two thirds, less on a
/// busy machine; the search ends at the first that does.
const TORTURE_OPS: u64 = 60_000;
const TORTURE_SEEDS: u32 = 12;
const PLANTED_OPS: u64 = 200_000;
/// Sequences of random system calls that the host tests play on the kernel and on the model of it.
const MODEL_CASES: u32 = 38_000;
/// Operations of a fuzz run in the suite; and the runs of so many in which a planted bug has to be
/// caught.
const FUZZ_OPS: u64 = 150_000;
const FUZZ_SEEDS: u32 = 12;
/// Rounds of a storm of revokes in the suite.
const STORM_ROUNDS: u64 = 5_000;
/// Processes of a system that are killed in a run of the suite.
const KILLED_PROCESSES: u64 = 200;
/// Kills of a storm of kills in the suite.
const KILLS: u64 = 2_000;
/// Lines that a step with failures has said, which come again at the end.
const REASONS: usize = 30;
const CPUS: [u32; 3] = [1, 2, 4];

/// What the suite needs to know beyond the lab.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Empty: all.
    pub only: Vec<Step>,
    /// Only what a change breaks most often.
    pub quick: bool,
    /// Where JUnit XML goes.
    pub junit: Option<PathBuf>,
    /// The program that runs recipes.
    pub just: OsString,
    pub bench: bench::Wanted,
}

/// What a step does in its lab.
type Work<'a> = Box<dyn Fn(&Lab) -> Result<Tally> + Sync + 'a>;

/// A step that is to run.
struct Part<'a> {
    name: String,
    work: Work<'a>,
    when: When,
}

/// When a step runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum When {
    /// From the beginning, beside all others: it takes only the CPU time that they leave.
    Always,
    /// Before those that run beside each other, and after the one before it.
    Alone,
    /// Beside others, at this place among them.
    Beside(usize),
}

/// The results of a step.
struct Outcome {
    name: String,
    tally: Tally,
    cases: Vec<Case>,
    elapsed: Duration,
    /// What it said where tests failed.
    said: Vec<String>,
}

/// Steps that no load disturbs: they boot under icount, or one CPU, or wait for their turn, or they
/// are tests on the host that only take the CPU time that is left ([`yielding`]). They run beside
/// each other, and begin in this order: those that take longest with one thing after the other come
/// first.
const BESIDE: [Step; 14] = [
    Step::Pairs,
    Step::Gdb,
    Step::Bench,
    Step::Stress,
    Step::Lint,
    Step::Bochs,
    Step::Diff,
    Step::Hostile,
    Step::Confine,
    Step::Policy,
    Step::Protection,
    Step::Iso,
    Step::Hardening,
    Step::Trace,
];
/// How many of them run at a time: with Loom, two for each of two CPUs, since each also waits and
/// writes.
const LANES: usize = 3;

/// Runs the suite; its last line is `N passed, N failed`.
pub fn run(lab: &Lab, wanted: &Wanted) -> Result<()> {
    wanted.junit.as_deref().map_or(Ok(()), files::demand_room_for)?;
    let outcomes = run_parts(lab, &parts(wanted));
    let (mut sum, mut failures, mut junit) = (Tally::default(), Vec::new(), Junit::new());
    for Outcome { name, tally, cases, elapsed, said } in outcomes {
        sum += tally;
        junit.step(&name.to_lowercase(), &testsum::complete(cases, tally), elapsed, &said);
        failures.extend(said);
    }
    if let Some(path) = &wanted.junit {
        junit.write(path)?;
    }
    // Far above they are easily passed over, and cut off where only the end of an output is kept.
    failures.iter().for_each(|line| println!("{line}"));
    if sum.skipped > 0 {
        println!("{} left out, for the reasons above", sum.skipped);
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    if sum.failed > 0 {
        return Err(Trouble::CheckFailed("not everything passed".to_owned()).into());
    }
    Ok(())
}

/// Runs steps one after the other, and then those that may run beside each other. Returns their
/// results, in the order of `parts`.
fn run_parts(lab: &Lab, parts: &[Part<'_>]) -> Vec<Outcome> {
    let of = |chosen: fn(When) -> bool| {
        let numbered = parts.iter().enumerate();
        numbered.filter(move |(_, part)| chosen(part.when)).collect::<Vec<(usize, &Part<'_>)>>()
    };
    let always = of(|when| when == When::Always);
    let alone = of(|when| when == When::Alone);
    let mut beside = of(|when| matches!(when, When::Beside(_)));
    // Lanes begin with the last.
    beside.sort_by_key(|(_, part)| Reverse(part.when));
    let run = |&(number, part): &(usize, &Part<'_>)| (number, run_part(&lab.beside(), part));
    let mut outcomes: Vec<(usize, Outcome)> = thread::scope(|scope| {
        let always = scope.spawn(|| always.iter().map(run).collect::<Vec<_>>());
        let mut outcomes: Vec<_> = alone.iter().map(run).collect();
        outcomes.extend(lanes::in_lanes(LANES, &beside, run));
        outcomes.extend(always.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        outcomes
    });
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Runs a step in a lab of its own.
fn run_part(lab: &Lab, part: &Part<'_>) -> Outcome {
    let (started, name) = (Instant::now(), part.name.clone());
    let tally = (part.work)(lab).unwrap_or_else(|error| {
        lab.screen.say(&format!("{name}: {error:#}"));
        lab.cases.one(&format!("{name} runs to its end"), Some(format!("{error:#}")))
    });
    let elapsed = started.elapsed();
    lab.screen.say(&format!("{name}: {} ({:.0} s)", describe(tally), elapsed.as_secs_f32()));
    let said = if tally.failed > 0 { reasons(lab.screen.take_said()) } else { Vec::new() };
    Outcome { name, tally, cases: lab.cases.take(), elapsed, said }
}

/// Returns when a step runs. Loom takes longest, has a target directory of its own, and boots
/// nothing.
fn when(step: Step) -> When {
    match BESIDE.iter().position(|other| *other == step) {
        _ if step == Step::Loom => When::Always,
        Some(place) => When::Beside(place),
        None => When::Alone,
    }
}

/// Returns what is to be run, in the order of the results.
fn parts(wanted: &Wanted) -> Vec<Part<'_>> {
    if wanted.quick {
        return vec![
            Part { name: "Host".to_owned(), work: Box::new(unit_tests), when: When::Alone },
            Part { name: "Guest".to_owned(), work: Box::new(quick_guest), when: When::Alone },
            Part {
                name: "Bench".to_owned(),
                work: Box::new(|lab| quick_figures(lab, &wanted.bench)),
                when: When::Alone,
            },
        ];
    }
    let chosen = |step: &&Step| match wanted.only.as_slice() {
        [] => **step != Step::Lint,
        only => only.contains(step),
    };
    let part = |&step: &Step| Part {
        name: format!("{step:?}"),
        work: Box::new(move |lab| run_step(lab, wanted, step)),
        when: when(step),
    };
    Step::value_variants().iter().filter(chosen).map(part).collect()
}

/// Returns a step's last lines, which say why it failed.
fn reasons(said: Vec<String>) -> Vec<String> {
    let of_skipped = |line: &String| line.contains(" left out: ");
    let all: Vec<String> = said.into_iter().filter(|line| !of_skipped(line)).collect();
    all[all.len().saturating_sub(REASONS)..].to_vec()
}

fn describe(tally: Tally) -> String {
    let Tally { passed, failed, skipped } = tally;
    let left_out = if skipped > 0 { format!(", {skipped} left out") } else { String::new() };
    format!("{passed} passed, {failed} failed{left_out}")
}

fn run_step(lab: &Lab, wanted: &Wanted, step: Step) -> Result<Tally> {
    match step {
        Step::Host => host_tests(lab),
        Step::Loom => {
            let words = &["--package", "smp", "--profile", "loom", "--test", "loom"];
            cargo_test(lab, yielding(&cargo()), "loom", words, Some("loom"))
        }
        Step::Lint => lint::run(lab, &wanted.just),
        Step::Pairs => pairs::run(lab),
        Step::Confine => pairs::confine(lab),
        Step::Hardening => hardening::run(lab),
        Step::Guest => {
            let mut sum = guest_tests(lab)?;
            sum += deaths::run(lab)?;
            Ok(sum)
        }
        Step::Logs => logtest::run(lab),
        Step::Protection => protection::run(lab),
        Step::Diff => diff_games(lab),
        Step::Gdb => gdbtest::run(lab),
        Step::Trace => tracetest::run(lab),
        Step::Stress => stress_runs(lab),
        Step::Paging => paging_runs(lab),
        Step::Systems => system_runs(lab),
        Step::Tutorials => tutorials::run(lab),
        Step::Scheduling => scheduling_runs(lab),
        Step::Torture => torture_runs(lab),
        Step::Fuzz => fuzz_runs(lab),
        Step::Hostile => hostile::sample(lab),
        Step::Bench => figures(lab, &wanted.bench),
        Step::Policy => policy::run(lab, &wanted.bench.baseline),
        Step::Iso => isotest::run(lab),
        Step::Bochs => bochs_tests(lab),
    }
}

pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Returns a command that gets only the CPU time that no other process wants: a boot that runs
/// beside it must not be late.
pub fn yielding(program: &str) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "19", program]);
    command
}

/// Runs `cargo test`, with a configuration flag and a target directory of its own if there is one.
fn cargo_test(
    lab: &Lab,
    mut command: Command,
    label: &str,
    arguments: &[&str],
    cfg: Option<&str>,
) -> Result<Tally> {
    lab.screen.step(label);
    command.args(["test", "--no-fail-fast"]).args(arguments);
    if std::env::var_os("MODEL_CASES").is_none() {
        command.env("MODEL_CASES", MODEL_CASES.to_string());
    }
    if let Some(cfg) = cfg {
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        command.env("RUSTFLAGS", format!("{flags} --cfg {cfg}").trim_start());
        command.arg("--target-dir").arg(target_dir(lab).join(cfg));
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting cargo test")?;
    let mut tally = Tally::default();
    for line in BufReader::new(child.stdout.take().context("cargo's output")?).lines() {
        let line = line?;
        tally += Tally::of_cargo_line(&line);
        Case::of_cargo_line(label, &line).into_iter().for_each(|case| lab.cases.note(case));
        if lab.verbose || line.contains("FAILED") || line.contains("panicked at") {
            lab.screen.say(&line);
        } else {
            lab.screen.progress(&line);
        }
    }
    if !child.wait()?.success() && tally.failed == 0 {
        let wrong = format!("{label}: cargo test failed before the tests ran");
        lab.screen.say(&wrong);
        tally += lab.cases.one(label, Some(wrong));
    }
    Ok(tally)
}

/// Runs all tests of the host, and beside them those of the simulated machine once more on a kernel
/// with small limits. The longest test of the simulated machine has one thread, so one after the
/// other they would leave a CPU idle for minutes.
fn host_tests(lab: &Lab) -> Result<Tally> {
    let small: &[&str] = &["--package", "kern-core", "--features", "small-limits", "--test", "kernel"];
    let calls = [("host, small limits", small), ("host", &[])];
    let mut sum = Tally::default();
    for tally in lanes::in_lanes(calls.len(), &calls, |(label, words)| {
        cargo_test(lab, Command::new(cargo()), label, words, None)
    }) {
        sum += tally?;
    }
    Ok(sum)
}

pub fn target_dir(lab: &Lab) -> PathBuf {
    lab.artifacts.boot_dir().parent().map_or_else(|| PathBuf::from("target"), PathBuf::from)
}

/// Runs unit tests, without those that boot something or explore states for minutes.
fn unit_tests(lab: &Lab) -> Result<Tally> {
    cargo_test(lab, Command::new(cargo()), "units", &["--lib", "--bins"], None)
}

fn guest_job(mode: Mode, cpus: u32) -> Job {
    Job {
        label: format!("test-{mode}-{cpus}"),
        variant: String::new(),
        command_line: if mode == Mode::Icount { "run=test turns=1" } else { "run=test" }.to_owned(),
        mode,
        cpus,
        counted: None,
        limit: GUEST_LIMIT,
    }
}

fn quick_guest(lab: &Lab) -> Result<Tally> {
    Ok(judge(lab, &lab.run(&guest_job(Mode::Icount, 2))?))
}

/// Checks the exact rows and limits of one CPU.
fn quick_figures(lab: &Lab, wanted: &bench::Wanted) -> Result<Tally> {
    let wanted = bench::Wanted { cpus: vec![1], ..wanted.clone() };
    let results = bench::measure(lab, &wanted)?;
    Ok(bench::check(lab, &wanted, &results)?.tally(&lab.cases))
}

fn guest_tests(lab: &Lab) -> Result<Tally> {
    let modes = [Mode::Icount, Mode::Tcg];
    let jobs: Vec<Job> = modes.iter().flat_map(|mode| CPUS.map(|cpus| guest_job(*mode, cpus))).collect();
    let mut sum = Tally::default();
    for session in lab.run_all(&jobs) {
        sum += judge(lab, &session?);
    }
    Ok(sum)
}

/// Counts the tests that a guest reported. If the guest died, that is one more failure.
pub fn judge(lab: &Lab, session: &Session) -> Tally {
    let mut tally = Tally::of_reports(&session.reports);
    for report in &session.reports {
        let Report::Test { name, verdict } = report else { continue };
        match verdict {
            Verdict::Failed(why) => lab.screen.say(&format!("{}: {name} FAILED {why}", session.label)),
            Verdict::Skipped(why) => lab.screen.say(&format!("{}: {name} left out: {why}", session.label)),
            Verdict::Ok => {}
        }
        let (group, name, verdict) = (session.label.clone(), name.clone(), verdict.clone());
        lab.cases.note(Case { group, name, verdict });
    }
    if let Some(wrong) = bad_end(session, tally) {
        lab.screen.say(&wrong);
        let (group, name) = (session.label.clone(), "comes to its end".to_owned());
        lab.cases.note(Case { group, name, verdict: Verdict::Failed(wrong) });
        tally += Tally::ONE_FAILED;
    }
    lab.screen.say(&format!(
        "{}: {} ({:.1} s)",
        session.label,
        describe(tally),
        session.elapsed.as_secs_f32()
    ));
    tally
}

/// Returns what is wrong with how a run of tests ended, if anything is.
fn bad_end(session: &Session, tally: Tally) -> Option<String> {
    let finished = session.reports.iter().any(|report| matches!(report, Report::Done { .. }));
    let verdict = if tally.failed > 0 { session.check_ended() } else { session.check_passed() };
    let label = &session.label;
    match verdict {
        Err(trouble) => Some(trouble.to_string()),
        Ok(()) if tally.passed + tally.failed == 0 => {
            Some(format!("{label}: no test was run, {} were left out", tally.skipped))
        }
        Ok(()) if !finished => Some(format!("{label}: the guest ended without `done`")),
        Ok(()) => None,
    }
}

/// Runs every scenario of the pager, on each number of CPUs.
fn paging_runs(lab: &Lab) -> Result<Tally> {
    let mut sum = Tally::default();
    for cpus in CPUS {
        sum += judge(lab, &lab.run(&system_job("paging", Mode::Tcg, cpus))?);
    }
    Ok(sum)
}

/// Runs systems of several processes, on each number of CPUs.
fn system_runs(lab: &Lab) -> Result<Tally> {
    let mut sum = Tally::default();
    for system in ["supervision", "charges", "sixty", "vandals"] {
        for (mode, cpus) in CPUS.map(|cpus| (Mode::Tcg, cpus)).into_iter().chain([(Mode::Icount, 2)]) {
            sum += judge(lab, &lab.run(&system_job(system, mode, cpus))?);
        }
    }
    // Its device computes on the host's time, which is no instruction of the guest's.
    for cpus in CPUS {
        sum += judge(lab, &lab.run(&system_job("edu", Mode::Tcg, cpus))?);
    }
    // Its description names three CPUs.
    for (mode, cpus) in [(Mode::Icount, 3), (Mode::Tcg, 4)] {
        sum += judge(lab, &lab.run(&system_job("starved", mode, cpus))?);
    }
    sum += shelltest::run(lab)?;
    for (seed, cpus, mode) in [(1, 1, Mode::Icount), (2, 2, Mode::Tcg), (3, 4, Mode::Tcg)] {
        sum += restarts::test(lab, &restarts::Wanted { seed, count: KILLED_PROCESSES, cpus, mode })?;
    }
    Ok(sum)
}

fn system_job(system: &str, mode: Mode, cpus: u32) -> Job {
    Job {
        label: format!("{system}-{mode}-{cpus}"),
        variant: String::new(),
        command_line: format!("run={system}"),
        mode,
        cpus,
        counted: None,
        limit: SYSTEM_LIMIT,
    }
}

/// Runs the kernel tests of the snapshot that a kernel writes of its state. Then runs the games of
/// the differential test: the same random operations on kernels with and without fastpath.
fn diff_games(lab: &Lab) -> Result<Tally> {
    let job = Job {
        label: "test-dump".to_owned(),
        variant: "dump".to_owned(),
        command_line: "run=test only=dump".to_owned(),
        mode: Mode::Icount,
        cpus: 1,
        counted: None,
        limit: GUEST_LIMIT,
    };
    let mut named = diff::Named::default();
    let session = lab.run_with(&job, &mut |event| {
        named.note(event);
        lab.show(event);
    })?;
    let mut sum = judge(lab, &session);
    sum += lab.judged("diff", "named states", named.disagree());
    sum += diff::diff(lab, &diff::Wanted::USUAL)?;
    Ok(sum)
}

fn stress_runs(lab: &Lab) -> Result<Tally> {
    let mut sum = Tally::default();
    for wanted in stress_wanted() {
        let limits = wanted.variant.as_deref().map_or(String::new(), |variant| format!(", {variant}"));
        let name = format!("stress, {} on {} CPUs{limits}", wanted.mode, wanted.cpus);
        sum += ran(lab, &name, stress::stress(lab, &wanted));
    }
    sum += bisecttest::run(lab)?;
    Ok(sum)
}

/// Returns short runs, replayed if the mode can replay, and one of a kernel with tiny bounds.
fn stress_wanted() -> [stress::Wanted; 4] {
    let (normal, small) = (seeded::Limits::Normal, seeded::Limits::Small);
    let runs =
        [(Mode::Icount, 2, normal), (Mode::Icount, 4, normal), (Mode::Tcg, 4, normal), (Mode::Tcg, 4, small)];
    runs.map(|(mode, cpus, limits)| stress::Wanted {
        seed: Some(1),
        seeds: 1,
        cpus,
        messages: STRESS_MESSAGES,
        mode,
        replay: mode == Mode::Icount,
        idle: None,
        variant: limits.build(None, mode),
        stop: stress::Stop::default(),
    })
}

fn scheduling_runs(lab: &Lab) -> Result<Tally> {
    use scheduling::{Policy, Wanted};
    let mut sum = Tally::default();
    for (policy, cpus, trick) in [
        (Policy::Edf, 1, ""),
        (Policy::Static, 1, ""),
        (Policy::Static, 2, ""),
        (Policy::Static, 3, "hang"),
        (Policy::Static, 1, "lie"),
        (Policy::Static, 2, "lie"),
        (Policy::Balance, 1, ""),
        (Policy::Balance, 4, ""),
    ] {
        // With this seed, jobs with fixed priorities are late.
        let seed = Some(11);
        let mode = Mode::Icount;
        let wanted = Wanted {
            policy,
            seed,
            seeds: 1,
            cpus,
            mode,
            load: None,
            jobs: None,
            hang: trick == "hang",
            lie: trick == "lie",
        };
        let trick = if trick.is_empty() { String::new() } else { format!(" ({trick})") };
        let name = format!("{} on {cpus} CPUs{trick}", format!("{policy:?}").to_lowercase());
        sum += ran(lab, &name, scheduling::schedule(lab, &wanted));
    }
    Ok(sum)
}

fn torture_runs(lab: &Lab) -> Result<Tally> {
    let mut sum = Tally::default();
    let normal = [(Mode::Tcg, 1), (Mode::Tcg, 2), (Mode::Tcg, 4), (Mode::Icount, 2)]
        .map(|(mode, cpus)| seeded_wanted(mode, cpus, TORTURE_OPS, None));
    for wanted in normal.into_iter().chain([small(TORTURE_OPS)]) {
        sum += ran(lab, &run_name("torture", &wanted), torture::torture(lab, &wanted));
    }
    sum += caught(lab, "a missing flush", catches_missing_flush(lab)?);
    Ok(sum)
}

fn fuzz_runs(lab: &Lab) -> Result<Tally> {
    let mut sum = Tally::default();
    let (revokes, kills) = (Some(fuzz::Storm::Revoke), Some(fuzz::Storm::Kill));
    for (mode, cpus, ops, storm) in [
        (Mode::Tcg, 4, FUZZ_OPS, None),
        (Mode::Tcg, 1, FUZZ_OPS / 3, None),
        (Mode::Icount, 2, FUZZ_OPS / 5, None),
        (Mode::Tcg, 4, STORM_ROUNDS, revokes),
        (Mode::Tcg, 4, KILLS, kills),
        (Mode::Tcg, 2, KILLS, kills),
    ] {
        sum += fuzz_run(lab, fuzz::Wanted { seeded: seeded_wanted(mode, cpus, ops, None), storm });
    }
    sum += fuzz_run(lab, fuzz::Wanted { seeded: small(FUZZ_OPS), storm: None });
    sum += caught(lab, "an unchecked copy", catches_unchecked_copy(lab)?);
    Ok(sum)
}

fn fuzz_run(lab: &Lab, wanted: fuzz::Wanted) -> Tally {
    let name = match wanted.storm {
        None => run_name("fuzz", &wanted.seeded),
        Some(storm) => run_name(&format!("storm of {storm:?}s").to_lowercase(), &wanted.seeded),
    };
    ran(lab, &name, fuzz::fuzz(lab, &wanted))
}

fn run_name(program: &str, wanted: &seeded::Wanted) -> String {
    let limits = if wanted.limits == seeded::Limits::Small { ", small limits" } else { "" };
    format!("{program}, {} on {} CPUs{limits}", wanted.mode, wanted.cpus)
}

/// Counts the outcome of a run as one test.
fn ran(lab: &Lab, name: &str, outcome: Result<()>) -> Tally {
    let wrong = outcome.err().map(|error| format!("{error:#}"));
    wrong.iter().for_each(|wrong| lab.screen.say(wrong));
    lab.cases.one(name, wrong)
}

fn caught(lab: &Lab, bug: &str, caught: bool) -> Tally {
    lab.cases.one(&format!("{bug} is caught"), (!caught).then(|| "no run saw it".to_owned()))
}

/// Returns whether fuzz finds the bug of a kernel that sometimes copies a capability that was
/// deleted meanwhile.
fn catches_unchecked_copy(lab: &Lab) -> Result<bool> {
    let seeded = seeded_wanted(Mode::Tcg, 4, FUZZ_OPS, Some("planted-unchecked-copy"));
    let planted = fuzz::Wanted { seeded, storm: None };
    for seed in 1..=FUZZ_SEEDS {
        if fuzz::sees_a_bug(lab, &planted, seed)? {
            return Ok(true);
        }
    }
    lab.screen
        .say(&format!("fuzz: {FUZZ_SEEDS} runs of {FUZZ_OPS} calls did not find the planted unchecked copy"));
    Ok(false)
}

/// Returns whether torture finds the bug of a kernel that sometimes omits a shootdown.
fn catches_missing_flush(lab: &Lab) -> Result<bool> {
    let planted = seeded_wanted(Mode::Tcg, 2, PLANTED_OPS, Some("planted-missing-flush"));
    for seed in 1..=TORTURE_SEEDS {
        if torture::run_seed(lab, &planted, seed)?.saw_stale() {
            return Ok(true);
        }
    }
    let runs = format!("{TORTURE_SEEDS} runs of {PLANTED_OPS} operations");
    lab.screen.say(&format!("torture: {runs} did not find the planted missing flush"));
    Ok(false)
}

fn seeded_wanted(mode: Mode, cpus: u32, ops: u64, variant: Option<&str>) -> seeded::Wanted {
    let variant = variant.map(str::to_owned);
    seeded::Wanted {
        seed: Some(1),
        seeds: 1,
        cpus,
        ops,
        mode,
        limits: seeded::Limits::Normal,
        variant,
        stretches: None,
    }
}

/// Returns a run on 4 CPUs of a kernel with tiny bounds.
fn small(ops: u64) -> seeded::Wanted {
    seeded::Wanted { limits: seeded::Limits::Small, ..seeded_wanted(Mode::Tcg, 4, ops, None) }
}

/// Counts every exact row, limit and ratio as a test.
fn figures(lab: &Lab, wanted: &bench::Wanted) -> Result<Tally> {
    let results = bench::measure(lab, wanted)?;
    let mut tally = bench::check(lab, wanted, &results)?.tally(&lab.cases);
    tally += scaling(lab)?;
    tally += functions(lab)?;
    Ok(tally)
}

/// The numbers of CPUs for which the committed figures of `scale` are measured again: the smallest
/// number that crosses, and one where servers have several clients.
const SCALE_CPUS: [u32; 2] = [2, 4];

/// Checks the book's figures for many CPUs, on some numbers of CPUs.
fn scaling(lab: &Lab) -> Result<Tally> {
    lab.screen.step("scale");
    Ok(held(lab, "scale", scale::held(lab, &SCALE_CPUS)?))
}

/// Checks the book's lists of functions that operations visit.
fn functions(lab: &Lab) -> Result<Tally> {
    lab.screen.step("functions");
    Ok(held(lab, "functions", steps::held(lab)?))
}

/// Counts the comparison of committed data with a run as a test.
fn held(lab: &Lab, label: &str, verdict: scale::Verdict) -> Tally {
    match verdict {
        scale::Verdict::Held(points) => Tally { passed: points as u64, ..Tally::default() },
        scale::Verdict::Skipped(why) => {
            lab.screen.say(&format!("{label}: skipped, {why}"));
            Tally { skipped: 1, ..Tally::default() }
        }
        scale::Verdict::Moved(lines) => {
            lines.iter().for_each(|line| lab.screen.say(&format!("{label}: {line}")));
            Tally { failed: lines.len() as u64, ..Tally::default() }
        }
    }
}

/// Runs the kernel tests on every Bochs model, or reports that they are left out if Bochs is
/// missing.
pub fn bochs_tests(lab: &Lab) -> Result<Tally> {
    if let Err(missing) = bochs::find() {
        lab.screen.say(&format!("Bochs tests left out: {missing}"));
        return Ok(Tally { skipped: bochs::MODELS.len() as u64, ..Tally::default() });
    }
    let image = lab.artifacts.boot_dir().join("test.iso");
    // Bochs stops for good when its terminal is full, which nobody reads.
    iso::make(&lab.artifacts, "", "log=com2 screen=off run=test turns=1", &image)?;
    lab.screen.step("bochs");
    let limit = lab.limit.unwrap_or(BOCHS_LIMIT);
    let run = |model: &&str| {
        let _turn = lab.turns.one();
        bochs::run(&lab.artifacts, model, &image, limit)
    };
    let mut sum = Tally::default();
    for session in lanes::side_by_side(bochs::MODELS, run) {
        sum += judge(lab, &session?);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stress_runs_can_be_done() {
        for wanted in stress_wanted() {
            assert!(wanted.check().is_ok(), "{:?} on {} CPUs", wanted.mode, wanted.cpus);
        }
    }
}
