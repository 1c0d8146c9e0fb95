//! Checks that no two devices claim one thing, and no two processes one device.

use abi::PAGE_SIZE;

use crate::problem::{Problem, Problems, Span};
use crate::system::Interrupt;
use crate::values::At;
use crate::written::Written;

/// Views of device memory that process 1 keeps.
const VIEWS_MAX: usize = 16;

/// A claim of a device: its name, the claimed range, and its place in the file.
struct Claim<'a> {
    device: &'a str,
    first: u64,
    last: u64,
    span: &'a Span,
}

/// Reports what is claimed twice.
pub fn check(written: &Written, problems: &mut Problems) {
    let devices = &written.devices;
    let ports = devices.iter().flat_map(|device| {
        device.ports.iter().map(|At { value: (first, last), span }| Claim {
            device: &device.name.value,
            first: (*first).into(),
            last: (*last).into(),
            span,
        })
    });
    overlaps("ports", &ports.collect::<Vec<_>>(), problems);
    let memory = devices.iter().flat_map(|device| {
        device.memory.iter().map(|At { value, span }| Claim {
            device: &device.name.value,
            first: value.at,
            last: value.at + (u64::from(value.pages).max(1) * PAGE_SIZE - 1),
            span,
        })
    });
    overlaps("pages of memory", &memory.collect::<Vec<_>>(), problems);
    lines(written, problems);
    numbers(written, problems);
    switches(written, problems);
    drivers(written, problems);
    views(written, problems);
}

/// Reports a process whose devices have more ranges of memory than a process can have views.
fn views(written: &Written, problems: &mut Problems) {
    for process in &written.processes {
        let mut ranges = 0;
        for wanted in &process.devices {
            let found = written.devices.iter().find(|device| device.name.value == wanted.value);
            let before = ranges;
            ranges += found.map_or(0, |device| device.memory.len());
            if before <= VIEWS_MAX && ranges > VIEWS_MAX {
                let title = format!("the devices of `{}` have {ranges} ranges of memory", process.name.value);
                let fix = format!("a process has at most {VIEWS_MAX}; give some devices to another process");
                problems.push(Problem::new(wanted.span.clone(), title, "too many with this one", fix));
            }
        }
    }
}

fn overlaps(what: &str, claims: &[Claim<'_>], problems: &mut Problems) {
    for (place, claim) in claims.iter().enumerate() {
        let overlap = |other: &&Claim<'_>| other.first <= claim.last && claim.first <= other.last;
        let Some(first) = claims[..place].iter().find(overlap) else { continue };
        let (from, to) = (claim.first.max(first.first), claim.last.min(first.last));
        let range = if from == to { format!("{from:#x}") } else { format!("{from:#x}-{to:#x}") };
        let (title, fix) = match first.device == claim.device {
            true => (
                format!("device `{}` claims {what} {range} twice", claim.device),
                "correct one of the ranges, or remove it",
            ),
            false => (
                format!("devices `{}` and `{}` both claim {what} {range}", first.device, claim.device),
                "correct one of the ranges, or describe both as one device",
            ),
        };
        let problem = Problem::new(claim.span.clone(), title, "the second", fix);
        problems.push(problem.also(first.span.clone(), "the first"));
    }
}

/// Reports interrupt lines of two devices.
fn lines(written: &Written, problems: &mut Problems) {
    let lines: Vec<_> = (written.devices.iter())
        .filter_map(|device| match device.interrupt.as_ref()? {
            At { value: Interrupt::Line { number, .. }, span } => Some((&device.name.value, *number, span)),
            _ => None,
        })
        .collect();
    for (place, (device, number, span)) in lines.iter().enumerate() {
        if let Some((first, _, at)) = lines[..place].iter().find(|(_, other, _)| other == number) {
            let title = format!("devices `{first}` and `{device}` have one interrupt line, {number}");
            let fix = "correct one of the lines: a line wakes one driver";
            let problem = Problem::new((*span).clone(), title, "the second", fix);
            problems.push(problem.also((*at).clone(), "the first"));
        }
    }
}

/// Reports devices that are found by the same numbers.
fn numbers(written: &Written, problems: &mut Problems) {
    for (place, device) in written.devices.iter().enumerate() {
        let Some(pci) = &device.pci else { continue };
        let before = written.devices[..place].iter().find_map(|other| {
            other.pci.as_ref().filter(|at| at.value == pci.value).map(|at| (&other.name.value, at))
        });
        if let Some((first, at)) = before {
            let title =
                format!("devices `{first}` and `{}` have the same numbers on the bus", device.name.value);
            let fix = "remove one of them: the bus search finds one device of these numbers";
            let problem = Problem::new(pci.span.clone(), title, "the second", fix);
            problems.push(problem.also(at.span.clone(), "the first"));
        }
    }
}

/// Reports a second device that switches the machine off.
fn switches(written: &Written, problems: &mut Problems) {
    let mut switches =
        written.devices.iter().filter_map(|device| device.power.as_ref().map(|at| (device, at)));
    let Some((first, at)) = switches.next() else { return };
    for (device, span) in switches.map(|(device, at)| (device, at.span.clone())) {
        let title = format!("devices `{}` and `{}` both have the power", first.name.value, device.name.value);
        let fix = "remove one of them: a machine has one switch";
        let problem = Problem::new(span, title, "the second", fix);
        problems.push(problem.also(at.span.clone(), "the first"));
    }
}

/// Reports devices that two processes drive.
fn drivers(written: &Written, problems: &mut Problems) {
    let driven: Vec<_> = (written.processes.iter())
        .flat_map(|process| process.devices.iter().map(|device| (&process.name.value, device)))
        .collect();
    for (place, (process, device)) in driven.iter().enumerate() {
        let before = driven[..place].iter().find(|(_, other)| other.value == device.value);
        if let Some((first, at)) = before {
            let title = format!("processes `{first}` and `{process}` both drive device `{}`", device.value);
            let fix =
                format!("let `{process}` use a group that `{first}` serves, or remove one of the claims");
            let problem = Problem::new(device.span.clone(), title, "the second", fix);
            problems.push(problem.also(at.span.clone(), "the first"));
        }
    }
}
