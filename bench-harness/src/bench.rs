//! The bench: boots kernels by its plan; collects, prints, stores and checks rows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::baseline::{self, Baseline, Findings};
use crate::counted::Counted;
use crate::files;
use crate::host::Host;
use crate::lab::{Job, Lab, words_are_known, words_stand_once};
use crate::machine::{GUEST_CPU, Mode};
use crate::plan::{self, Keep, Planned};
use crate::plot;
use crate::probe;
use crate::report::{Counter, Report, Row};
use crate::results::{Results, Run};
use crate::rows;
use crate::session::Session;
use crate::table;
use crate::trouble::Trouble;

/// Time limit of one boot; one that the plugin counts takes longest.
const LIMIT: Duration = Duration::from_secs(180);

/// Seconds of a boot, on average, where two run at a time.
const SECONDS_OF_A_BOOT: usize = 6;

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Table,
    Json,
    Csv,
}

impl Form {
    pub fn new(json: bool, csv: bool) -> Form {
        match (json, csv) {
            (true, _) => Form::Json,
            (_, true) => Form::Csv,
            _ => Form::Table,
        }
    }

    pub fn render(self, results: &Results) -> Result<String> {
        match self {
            Form::Table => Ok(table::render(results)),
            Form::Json => results.to_json(),
            Form::Csv => Ok(table::csv(results)),
        }
    }
}

/// What to measure and what to do with it.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// None: icount, and the better of KVM and TCG.
    pub mode: Option<Mode>,
    pub cpus: Vec<u32>,
    /// More words for the command line of every boot.
    pub options: String,
    /// Patterns of the rows to measure; all without.
    pub rows: Option<String>,
    /// Every single sample, too, in the result file and in JSON.
    pub samples: bool,
    pub form: Form,
    pub check: bool,
    pub update_baseline: bool,
    /// Draw what pages in messages cost.
    pub plot: bool,
    pub baseline: PathBuf,
    pub output: PathBuf,
}

/// Words of the command line that the bench sets itself, and the option that says the same.
const OWN_WORDS: [(&str, &str); 5] = [
    ("run", "choose another command, as `run` or `test`"),
    ("rows", "use --rows"),
    ("cpus", "use --cpus"),
    ("idle", "rows measure it: see `bench --list`"),
    ("trace", "the bench decides by itself which boot has it"),
];

/// Refuses options that could only fail after everything is measured, or would present figures as
/// something else.
fn check_wanted(wanted: &Wanted) -> Result<()> {
    let asked = [(wanted.check, "--check"), (wanted.update_baseline, "--update-baseline")];
    if let Some(mode) = wanted.mode.filter(|mode| *mode != Mode::Icount)
        && let Some((_, option)) = asked.iter().find(|(is_asked, _)| *is_asked)
    {
        let text =
            format!("{option} needs icount figures, and --mode {mode} measures none: use --mode icount");
        return Err(Trouble::Usage(text).into());
    }
    for word in wanted.options.split_whitespace() {
        let (key, _) = abi::options::split(word);
        if let Some((key, instead)) = OWN_WORDS.iter().find(|(own, _)| *own == key) {
            let text = format!("--options {word}: the bench sets {key}= itself; {instead}");
            return Err(Trouble::Usage(text).into());
        }
    }
    Ok(())
}

/// Checks, before the measuring, the places where the results go, and the baseline with which they
/// are compared.
fn check_places(wanted: &Wanted) -> Result<()> {
    files::demand_room_for(&wanted.output)?;
    if wanted.check || wanted.update_baseline {
        let baseline = Baseline::read(&wanted.baseline)?;
        if wanted.check && !wanted.cpus.iter().any(|cpus| baseline.demands_of(*cpus)) {
            let text = "the baseline demands nothing on so many CPUs: --check on 1, 2 or 4";
            return Err(Trouble::Usage(text.to_owned()).into());
        }
    }
    Ok(())
}

/// Runs the bench: measures, writes the result file, prints the figures, and checks them if asked
/// to.
pub fn bench(lab: &Lab, wanted: &Wanted) -> Result<()> {
    check_wanted(wanted)?;
    check_places(wanted)?;
    let results = measure(lab, wanted)?;
    print!("{}", wanted.form.render(&results)?);
    results.write(&wanted.output)?;
    if wanted.plot {
        let directory = wanted.output.parent().unwrap_or(Path::new("."));
        plot::draw(&results, directory)?.iter().for_each(|line| lab.screen.say(line));
    }
    if wanted.update_baseline {
        update_baseline(lab, wanted, &results)?;
    }
    if wanted.check {
        check(lab, wanted, &results)?.verdict()?;
    }
    Ok(())
}

/// Runs every mode on every number of CPUs.
pub fn measure(lab: &Lab, wanted: &Wanted) -> Result<Results> {
    let given = format!("run=bench {}", wanted.options);
    words_stand_once(&given)?;
    words_are_known(&lab.artifacts, &given)?;
    wanted.rows.as_deref().map_or(Ok(()), rows::check)?;
    let modes = modes(lab, wanted.mode)?;
    let mut host = Host { options: wanted.options.clone(), ..Host::look(&lab.qemu.version, GUEST_CPU) };
    let all: Vec<(Mode, u32)> =
        modes.iter().flat_map(|mode| wanted.cpus.iter().map(|cpus| (*mode, *cpus))).collect();
    let planned: Vec<Vec<(Planned, Job)>> =
        all.iter().map(|(mode, cpus)| jobs(lab, *mode, *cpus, wanted)).collect();
    let jobs: Vec<Job> = planned.iter().flatten().map(|(_, job)| job.clone()).collect();
    if jobs.is_empty() {
        let text = "no run on so many CPUs, in this mode, has one of these rows: see `bench --list`, --cpus and --mode";
        return Err(Trouble::Usage(text.to_owned()).into());
    }
    let minutes = (jobs.len() * SECONDS_OF_A_BOOT).div_ceil(60);
    lab.screen.say(&format!("bench: {} boots, about {minutes} min on a host with two CPUs", jobs.len()));
    let mut sessions = lab.run_all(&jobs).into_iter();
    let mut runs = Vec::new();
    for ((mode, cpus), planned) in all.into_iter().zip(planned) {
        let mut run = Run { mode, cpus, rows: Vec::new(), counters: Vec::new() };
        for ((planned, job), session) in planned.into_iter().zip(&mut sessions) {
            take(&mut run, &mut host, planned, &job, session?)?;
        }
        runs.push(run);
    }
    Ok(Results::new(host, runs))
}

/// Compares results with the baseline, and reports what differs.
pub fn check(lab: &Lab, wanted: &Wanted, results: &Results) -> Result<Findings> {
    let findings = Baseline::read(&wanted.baseline)?.check(results);
    for line in findings.remarks.iter().map(|r| format!("note: {r}")) {
        lab.screen.say(&line);
    }
    for line in findings.failures.iter().map(|f| format!("check: {f}")) {
        lab.screen.say(&line);
    }
    lab.screen.say(&format!(
        "check: exact: {} rows; limits: {} held; {} not as demanded",
        findings.exact,
        findings.held,
        findings.failures.len()
    ));
    Ok(findings)
}

fn update_baseline(lab: &Lab, wanted: &Wanted, results: &Results) -> Result<()> {
    let mut baseline = Baseline::read(&wanted.baseline)?;
    baseline.update(results);
    baseline.write(&wanted.baseline)?;
    lab.screen.say(&format!("{}: wrote {}", wanted.baseline.display(), baseline::key(&results.host)));
    Ok(())
}

fn modes(lab: &Lab, asked: Option<Mode>) -> Result<Vec<Mode>> {
    match asked {
        Some(Mode::Kvm) => probe::demand_kvm(lab).map(|()| vec![Mode::Kvm]),
        Some(mode) => Ok(vec![mode]),
        None => {
            let choice = probe::choose(lab)?;
            lab.screen.say(&format!("cycles: {} ({})", choice.mode, choice.reason));
            Ok(vec![Mode::Icount, choice.mode])
        }
    }
}

/// Returns the boots of one mode on one number of CPUs.
fn jobs(lab: &Lab, mode: Mode, cpus: u32, wanted: &Wanted) -> Vec<(Planned, Job)> {
    let options = &wanted.options;
    let line = |planned: &Planned| {
        let line = format!("{} {options}", planned.command_line).trim_end().to_owned();
        let all_samples = wanted.samples && planned.keep.measures();
        if all_samples { line.replacen("run=bench", "run=samples", 1) } else { line }
    };
    let job = |planned: &Planned| Job {
        label: format!("bench-{mode}-{cpus}-{}", planned.name),
        variant: planned.variant.to_owned(),
        command_line: line(planned),
        mode,
        cpus,
        counted: planned
            .keep
            .is_counted()
            .then(|| lab.artifacts.boot_dir().join(format!("{}-{cpus}.json", planned.name))),
        limit: LIMIT,
    };
    let with_job = |planned: Planned| {
        let job = job(&planned);
        (planned, job)
    };
    let boots = match &wanted.rows {
        None => plan::boots(mode, cpus),
        Some(patterns) => plan::boots_for(mode, cpus, &rows::chosen(patterns, mode, cpus)),
    };
    boots.into_iter().map(with_job).collect()
}

/// Adds the figures that a boot found to a run.
fn take(run: &mut Run, host: &mut Host, planned: Planned, job: &Job, session: Session) -> Result<()> {
    judge(&session)?;
    if host.mitigations.is_empty() {
        host.mitigations = session.mitigations.clone();
    }
    if let Some(counted) = &job.counted {
        let counted = Counted::read(counted)?;
        // The boot for the work of samples sees the regions of the one that is there for them, too.
        let new = counted.rows(run.cpus).into_iter();
        let new = new.filter(|row| planned.keep.counts(&row.name) && run.row(&row.name).is_none());
        run.rows.extend(new.collect::<Vec<_>>());
        add_work(run, &planned, &counted, &session.reports);
    }
    collect(run, &planned.keep, session.reports);
    Ok(())
}

/// Adds, to rows that another boot has measured, the work that they take besides instructions.
fn add_work(run: &mut Run, planned: &Planned, counted: &Counted, reports: &[Report]) {
    for report in reports {
        let Report::Row(reported) = report else { continue };
        let Some(name) = planned.keep.name(&reported.name) else { continue };
        if let Some(row) = run.rows.iter_mut().find(|row| row.name == name) {
            row.work = reported.mark.and_then(|mark| counted.work(mark));
        }
    }
}

/// Checks that the guest of a bench boot finished and found nothing wrong.
fn judge(session: &Session) -> Result<()> {
    session.check_passed()?;
    let done = session.reports.iter().find_map(|report| match report {
        Report::Done { failed, .. } => Some(*failed),
        _ => None,
    });
    match done {
        Some(0) => Ok(()),
        Some(failed) => {
            Err(Trouble::CheckFailed(format!("{}: {failed} measurements failed", session.label)).into())
        }
        None => Err(Trouble::GuestDied(format!("{}: the guest ended without `done`", session.label)))
            .context("incomplete measurement"),
    }
}

/// Adds the rows and counters that a boot reported, and for which it is kept, to a run.
pub fn collect(run: &mut Run, keep: &Keep, reports: Vec<Report>) {
    let mut rows = Vec::new();
    let mut counters = Vec::new();
    let mut all_samples = Vec::new();
    for report in reports {
        match report {
            Report::Samples { figures, .. } => all_samples.extend(figures),
            Report::Row(row) => {
                // Its samples come right before a row.
                rows.push(Row { samples: std::mem::take(&mut all_samples), ..*row });
            }
            Report::Counter(counter) => counters.push(counter),
            _ => {}
        }
    }
    let kept = keep.take(run.mode, rows.into_iter());
    run.counters.extend(counters.into_iter().filter_map(|counter| counter_of(keep, counter)));
    run.rows.extend(kept);
}

/// Returns a counter to be kept: with its row, or, for totals since boot, from the main boot.
fn counter_of(keep: &Keep, mut counter: Counter) -> Option<Counter> {
    match &counter.row {
        None => matches!(keep, Keep::Main { .. }).then_some(counter),
        // It was measured by another boot.
        Some(_) if keep.is_counted() => None,
        Some(row) => {
            counter.row = Some(keep.name(row)?);
            Some(counter)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(mode: Option<Mode>, options: &str) -> Wanted {
        Wanted {
            mode,
            cpus: vec![1],
            options: options.to_owned(),
            rows: None,
            samples: false,
            form: Form::Table,
            check: false,
            update_baseline: false,
            plot: false,
            baseline: PathBuf::new(),
            output: PathBuf::new(),
        }
    }

    #[test]
    fn figures_of_another_mode_are_not_compared() {
        for mode in [None, Some(Mode::Icount)] {
            assert!(check_wanted(&Wanted { check: true, ..wanted(mode, "") }).is_ok());
        }
        for mode in [Mode::Tcg, Mode::Kvm] {
            assert!(check_wanted(&wanted(Some(mode), "")).is_ok());
            let asked = wanted(Some(mode), "");
            let why = check_wanted(&Wanted { check: true, ..asked.clone() }).unwrap_err().to_string();
            assert!(why.starts_with(&format!("--check needs icount figures, and --mode {mode}")), "{why}");
            let why = check_wanted(&Wanted { update_baseline: true, ..asked }).unwrap_err().to_string();
            assert!(why.starts_with("--update-baseline needs icount figures"), "{why}");
        }
    }

    #[test]
    fn words_that_the_bench_sets_are_not_options() {
        for options in ["", "label=1", "label=1 level=debug n=50"] {
            assert!(check_wanted(&wanted(None, options)).is_ok(), "{options}");
        }
        for (key, _) in OWN_WORDS {
            let why = check_wanted(&wanted(None, &format!("label=1 {key}=2"))).unwrap_err().to_string();
            assert!(why.starts_with(&format!("--options {key}=2: the bench sets {key}= itself")), "{why}");
        }
    }

    #[test]
    fn every_word_of_a_boot_is_the_benchs_own() {
        for cpus in [1, 2] {
            for boot in plan::boots(Mode::Icount, cpus) {
                for word in boot.command_line.split_whitespace() {
                    let (key, _) = abi::options::split(word);
                    let may_change = ["n", "warmup"].contains(&key);
                    assert!(may_change || OWN_WORDS.iter().any(|(own, _)| *own == key), "{word}");
                }
            }
        }
    }
}
