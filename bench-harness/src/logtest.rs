//! Tests of the log: the records of each level, and that records are whole and complete whatever
//! interrupts them.

use std::collections::BTreeMap;

use abi::Level;
use abi::level::PARTS;
use anyhow::Result;

use crate::lab::{Job, Lab};
use crate::logs::Line;
use crate::machine::Mode;
use crate::session::{self, Ending, Event, Session};
use crate::suite::GUEST_LIMIT;
use crate::testsum::Tally;

/// Kernel tests that are refused system calls, kill processes and leave faults unhandled.
const TESTS: &str = "run=test only=kills,faults";
const CPUS: u32 = 2;
/// What each level shows of those tests and no lower level does: part, and the beginning or a part
/// of the text.
const TOLD: [(Level, &str, &str); 4] = [
    (Level::Warn, "kernel", "ended: exception 14"),
    (Level::Info, "kernel", "cpu1 is up"),
    (Level::Debug, "kernel", " refused: "),
    (Level::Debug, "kernel", " ends: ProcessKill by task "),
];
/// CPUs of a storm of records, and how many records each but the boot CPU writes.
const STORM_CPUS: u32 = 4;
const STORM_RECORDS: usize = 200;
/// What the kernel says of an NMI on COM1, and in the log.
const NMI: [&str; 2] = ["aurora: NMI on ", "NMI in "];
/// Boot options `fault=` of the build with faults: what the log has at the end, and how the run
/// ends.
const MIDWAY: [(&str, &str, Ending); 5] = [
    ("log-nmi", NMI[1], Ending::Pass),
    ("log-panic", "kernel panic: asked for by fault=log-panic", Ending::Panic),
    ("log-fault", "kernel exception: page fault", Ending::Panic),
    ("log-double", "kernel exception: double fault", Ending::Panic),
    ("log-cut", "kernel panic: asked for by fault=log-cut", Ending::Panic),
];

/// What a guest said, as far as it matters here.
struct Heard {
    session: Session,
    log: Vec<Line>,
    serial: Vec<String>,
    /// Bytes on the log port that are no record.
    skipped: usize,
}

pub fn run(lab: &Lab) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut count = |name: &str, wrong: Option<String>| tally += lab.judged("logs", name, wrong);
    for level in [Level::Warn, Level::Info, Level::Debug] {
        let heard = hear(lab, "", &format!("{TESTS} level={}", level.name()), CPUS)?;
        count(&format!("level={}", level.name()), is_wrong(&heard).or_else(|| differs(&heard, level)));
    }
    let silent = hear(lab, "", &format!("{TESTS} level=off"), CPUS)?;
    count("level=off", is_wrong(&silent).or_else(|| silent.log.first().map(ToString::to_string)));
    let one = hear(lab, "", &format!("{TESTS} level=off,init=info"), CPUS)?;
    let is_others = |line: &&Line| line.part != "init" || line.level > Some(defmt_parser::Level::Info);
    count(
        "the level of one part",
        is_wrong(&one).or_else(|| one.log.iter().find(is_others).map(ToString::to_string)),
    );
    count("a level that there is not", knows(lab)?);
    let programs = lab.artifacts.programs()?;
    let unknown = programs.iter().find(|program| !PARTS.contains(&program.name.as_str()));
    count("all programs have levels", unknown.map(|program| format!("{} has none", program.name)));
    for (fault, last, ending) in MIDWAY {
        let heard = hear(lab, "faults", &format!("fault={fault}"), CPUS)?;
        count(
            fault,
            torn(&heard).or_else(|| lacks(&heard, last)).or_else(|| {
                (heard.session.ending != ending).then(|| format!("it ended with {:?}", heard.session.ending))
            }),
        );
    }
    let storm = hear(lab, "faults", "fault=log-storm run=test only=notify", STORM_CPUS)?;
    count(
        "a storm",
        is_wrong(&storm).or_else(|| torn(&storm)).or_else(|| incomplete(&storm.log, &storm.serial)),
    );
    Ok(tally)
}

fn job(variant: &str, command_line: &str, cpus: u32) -> Job {
    Job {
        label: "test-logs".to_owned(),
        variant: variant.to_owned(),
        command_line: command_line.to_owned(),
        mode: Mode::Tcg,
        cpus,
        counted: None,
        limit: GUEST_LIMIT,
    }
}

fn hear(lab: &Lab, variant: &str, command_line: &str, cpus: u32) -> Result<Heard> {
    let (mut log, mut serial, mut skipped) = (Vec::new(), Vec::new(), 0);
    let session = lab.run_with(&job(variant, command_line, cpus), &mut |event| match event {
        Event::Log(line) => log.push(line.clone()),
        Event::Serial(line) => serial.push(line.clone()),
        Event::Skipped(bytes) => skipped += bytes,
        Event::Report { .. } | Event::State(_) => {}
    })?;
    Ok(Heard { session, log, serial, skipped })
}

/// Returns what is wrong with a run that should have passed.
fn is_wrong(heard: &Heard) -> Option<String> {
    heard.session.check_passed().err().map(|trouble| trouble.to_string())
}

/// Returns what the log lacks at a level, or has in excess.
fn differs(heard: &Heard, level: Level) -> Option<String> {
    if let Some(line) = heard.log.iter().find(|line| level_of(line) > level) {
        return Some(format!("it has \"{line}\""));
    }
    let has =
        |part: &str, text: &str| heard.log.iter().any(|line| line.part == part && line.text.contains(text));
    let wanted = TOLD.iter().filter(|(of, ..)| *of <= level);
    wanted
        .clone()
        .find(|(_, part, text)| !has(part, text))
        .map(|(_, part, text)| format!("{part} does not say \"{text}\""))
}

fn level_of(line: &Line) -> Level {
    line.level.and_then(|level| Level::from_name(level.as_str())).unwrap_or(Level::Off)
}

fn lacks(heard: &Heard, text: &str) -> Option<String> {
    let last = heard.log.last().map(ToString::to_string).unwrap_or_default();
    (!heard.log.iter().any(|line| line.text.contains(text)))
        .then(|| format!("no \"{text}\", the last is \"{last}\""))
}

/// Returns the part of the log that could not be read, if there is one.
fn torn(heard: &Heard) -> Option<String> {
    let unsound = heard.log.iter().find(|line| !line.is_sound).map(ToString::to_string);
    let skipped = (heard.skipped > 0).then(|| format!("{} bytes are no record", heard.skipped));
    let lost = heard.serial.iter().find(|line| line.contains("log records had no room")).cloned();
    unsound.or(skipped).or(lost)
}

/// Returns what is missing after a storm: each CPU's records must be there in order, and each NMI
/// must be in the log.
fn incomplete(log: &[Line], serial: &[String]) -> Option<String> {
    let mut numbers = BTreeMap::<&str, Vec<usize>>::new();
    for line in log {
        let number = line.text.strip_prefix("storm ").and_then(|text| text.split(' ').next());
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            numbers.entry(&line.cpu).or_default().push(number);
        }
    }
    if numbers.len() + 1 != STORM_CPUS as usize {
        return Some(format!("records of {} CPUs", numbers.len()));
    }
    if let Some((cpu, _)) = numbers.iter().find(|(_, numbers)| !numbers.iter().copied().eq(0..STORM_RECORDS))
    {
        return Some(format!("records of {cpu} are lost, or not in their order"));
    }
    let on_serial = serial.iter().filter(|line| line.starts_with(NMI[0])).count();
    let in_log = log.iter().filter(|line| line.text.starts_with(NMI[1])).count();
    (on_serial == 0 || on_serial != in_log)
        .then(|| format!("{on_serial} NMIs, of which the log has {in_log}"))
}

/// Returns what is wrong with how a guest refuses a level that does not exist. Also checks that
/// this tool refuses the level before it boots.
fn knows(lab: &Lab) -> Result<Option<String>> {
    const LEVEL: &str = "level=loud";
    if lab.boot(&job("", LEVEL, 1)).is_ok() {
        return Ok(Some(format!("{LEVEL} is booted with")));
    }
    let mut boot = lab.boot(&job("", "level=warn", 1))?;
    boot.command_line = boot.command_line.replace("level=warn", LEVEL);
    let session = session::run(&lab.qemu, &lab.artifacts, &boot, &mut |_| ())?;
    let named = session.last_words.iter().any(|line| line.starts_with(&format!("error init: {LEVEL}: ")));
    Ok((!named || session.ending != Ending::Fail).then(|| format!("process 1 continues with {LEVEL}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cpu: &str, text: &str) -> Line {
        let [time, place] = [const { String::new() }; 2];
        let part = "kernel".to_owned();
        let level = Some(defmt_parser::Level::Info);
        Line { part, level, time, cpu: cpu.to_owned(), text: text.to_owned(), place, is_sound: true }
    }

    #[test]
    fn a_storm_has_to_be_whole() {
        let all = || (1..STORM_CPUS).flat_map(|cpu| (0..STORM_RECORDS).map(move |n| (cpu, n)));
        let heard = |leave_out: Option<(u32, usize)>, nmis: usize| {
            let records = all().filter(|record| Some(*record) != leave_out);
            let mut log: Vec<Line> =
                records.map(|(cpu, n)| line(&format!("cpu{cpu}"), &format!("storm {n} 0123"))).collect();
            log.extend((0..nmis).map(|_| line("cpu1", "NMI in kernel code")));
            let serial = vec!["aurora: NMI on cpu1 in kernel code at 0x10, ignored".to_owned()];
            (log, serial)
        };
        let judged = |(log, serial): (Vec<Line>, Vec<String>)| incomplete(&log, &serial);
        assert_eq!(judged(heard(None, 1)), None);
        assert!(judged(heard(Some((2, 7)), 1)).is_some_and(|why| why.contains("cpu2")));
        assert!(judged(heard(None, 0)).is_some_and(|why| why.contains("1 NMIs, of which the log has 0")));
    }
}
