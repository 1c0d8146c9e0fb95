//! Tests the shell and the driver of the serial line: types commands at the system `demo`, kills
//! the driver and the shell themselves, and looks at what a person would see.

use std::time::Duration;

use anyhow::Result;

use crate::lab::{Job, Lab};
use crate::machine::Mode;
use crate::session::{Ending, Event};
use crate::terminal::Input;
use crate::testsum::Tally;

const LIMIT: Duration = Duration::from_secs(120);

/// Lines that are typed, each with parts of the lines that it leads to.
const SCRIPT: &[(&str, &[&str])] = &[
    ("help kill", &["kill PROCESS", "kill ends a process."]),
    (
        "processes",
        &[
            "process ",
            "serial           serial       runs       1",
            "shell ",
            "spare            systems      new ",
        ],
    ),
    ("memory all", &["memory takes no words"]),
    ("log 501", &["want: log [COUNT], with a count from 1 to 500"]),
    ("groups", &["console: served by serial; members shell", "log: served by log; members shell"]),
    ("devices", &["com1: driven by serial"]),
    ("run spare", &[]),
    ("date", &[" UTC", "the CPU counts "]),
    ("kill counter", &[]),
    ("kill pager", &[]),
    ("kill policy", &[]),
    // It is started again meanwhile.
    ("top", &[" %  shell"]),
    (
        "processes",
        &[
            "pager            pager        runs       2",
            "hoard            systems      runs       2",
            "policy           policy       runs       2",
            "spare            systems      runs       1",
            "counter          systems      runs       2",
        ],
    ),
    ("kill nobody", &["there is no process nobody; "]),
    ("restart counter", &[]),
    ("top 1", &[" %  shell"]),
    ("processes", &["counter          systems      runs       3"]),
    ("log", &["info  shell: counter is ended", "info  shell: counter is started again"]),
    ("kill log", &[]),
    ("log", &["info  shell: log is ended"]),
    // The driver loses what it has not sent, and the shell writes it again.
    ("kill serial", &[]),
    ("echo  the driver   is back", &["the driver is back"]),
    ("processes", &["serial           serial       runs       2"]),
    ("run spare", &["spare runs, or is about to"]),
    ("kill spare", &[]),
    ("run spare", &[]),
    ("processes", &["spare            systems      runs       2"]),
    ("kill clock", &[]),
    ("date", &[" UTC"]),
    ("cpus", &["cpu ", "0 "]),
    ("counters", &["  slow_entry"]),
    ("memory", &[" MiB  shell", " are set aside for processes"]),
    ("kill shell", &["Aurora. `help` lists the commands."]),
    ("processes", &["shell            shell        runs       2"]),
    ("one two three four five six seven eight nine", &["that is more than 8 words"]),
    ("nonsense", &["nonsense: no such command"]),
    // Ctrl-U drops what is before the cursor, Backspace the last letter.
    ("nothing\u{15}kill  nobodi\u{7f}y else\u{17}\u{7f}", &["there is no process nobody;"]),
    ("echo fine", &["fine"]),
];

/// Runs the script on one CPU and on several; and scripts that end otherwise.
pub fn run(lab: &Lab) -> Result<Tally> {
    let mut sum = Tally::default();
    for (mode, cpus) in [(Mode::Tcg, 1), (Mode::Icount, 1), (Mode::Icount, 2), (Mode::Tcg, 4)] {
        let name = format!("shell-{mode}-{cpus}");
        let lines: Vec<&str> = SCRIPT.iter().map(|(line, _)| *line).collect();
        let (ending, said) = type_at(lab, &name, &lines, mode, cpus)?;
        let wrong = match ending {
            Ending::Pass => missing(&said),
            other => Some(format!("it ends as {other:?}")),
        };
        sum += lab.judged("shell", &name, wrong);
    }
    for (name, lines, ending) in [
        ("nothing is typed", &[][..], Ending::Pass),
        ("the last command fails", &["echo x", "nonsense"], Ending::Fail),
        ("exit with a status", &["nonsense", "exit pass", "never"], Ending::Pass),
        ("the machine goes off", &["nonsense", "off", "never"], Ending::Off),
        ("the machine is reset", &["kill power", "reset", "never"], Ending::Off),
    ] {
        let (ended, _) = type_at(lab, "shell-end", lines, Mode::Icount, 1)?;
        let wrong = (ended != ending).then(|| format!("it ends as {ended:?}"));
        sum += lab.judged("shell", name, wrong);
    }
    Ok(sum)
}

/// Types lines at the demo's shell. Returns how the machine ended, and the lines on the screen.
fn type_at(lab: &Lab, label: &str, lines: &[&str], mode: Mode, cpus: u32) -> Result<(Ending, Vec<String>)> {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    let lab = Lab { input: Input::Script { lines, is_shown: false }, ..lab.beside() };
    let job = Job {
        label: label.to_owned(),
        variant: String::new(),
        command_line: "run=demo".to_owned(),
        mode,
        cpus,
        counted: None,
        limit: LIMIT,
    };
    let mut said = Vec::new();
    let session = lab.run_with(&job, &mut |event| {
        lab.show(event);
        if let Event::Serial(line) = event {
            said.push(line.clone());
        }
    })?;
    Ok((session.ending, said))
}

/// Returns what the lines do not show that should have been there, in the order of the script.
fn missing(said: &[String]) -> Option<String> {
    let mut rest = said.iter();
    for (typed, expected) in SCRIPT {
        for wanted in *expected {
            if !rest.any(|line| line.contains(wanted)) {
                return Some(format!("after `{typed}`: nothing says `{wanted}`: {said:#?}"));
            }
        }
    }
    None
}
