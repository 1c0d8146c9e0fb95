//! The texts of boxes, and which processes share one.

use abi::Rights;

use crate::system::{Cpus, Device, Found, Place, Process, System, Untyped};
use crate::units::size_text;

/// Columns of a line with several names.
const COLUMNS: usize = 34;

/// A box: one process, or several that differ only in their names.
pub struct Client {
    pub first: Place,
    pub label: u8,
    pub text: String,
}

/// The properties that processes of one box have in common: all but the name.
#[derive(PartialEq)]
struct Common {
    lines: Vec<String>,
    program: String,
    label: u8,
    uses: Vec<Place>,
}

/// Returns the boxes of a system, in the order of the start. A process that serves, drives or
/// judges has a box of its own.
pub fn clients(system: &System) -> Vec<Client> {
    let mut boxes: Vec<(Common, bool, Vec<Place>)> = Vec::new();
    for (place, process) in (0..).zip(&system.processes) {
        let verdict = system.verdict == Some(place);
        let is_alone = verdict || !process.serves.is_empty() || !process.devices.is_empty();
        let common = common(system, place, process);
        let fits = |(other, alone, _): &&mut (Common, bool, Vec<Place>)| !alone && *other == common;
        match boxes.iter_mut().find(fits).filter(|_| !is_alone) {
            Some((_, _, places)) => places.push(place),
            None => boxes.push((common, is_alone, vec![place])),
        }
    }
    boxes.into_iter().map(|(common, _, places)| client(system, common, &places)).collect()
}

fn client(system: &System, common: Common, places: &[Place]) -> Client {
    let names = places.iter().map(|place| system.processes[usize::from(*place)].name.as_str());
    let mut lines = wrapped(names);
    if system.verdict == Some(places[0]) {
        lines[0] += " (verdict)";
    }
    match places {
        [place] if system.processes[usize::from(*place)].program == common.program => {
            let process = &system.processes[usize::from(*place)];
            if process.program != process.name {
                lines.push(format!("program {}", common.program));
            }
        }
        _ => lines.push(format!("{} processes, program {}", places.len(), common.program)),
    }
    lines.extend(common.lines);
    Client { first: places[0], label: common.label, text: lines.join("\n") }
}

/// Returns names in lines that are not too long.
fn wrapped<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut() {
            Some(line) if line.len() + name.len() < COLUMNS => *line = format!("{line} {name}"),
            _ => lines.push(name.to_owned()),
        }
    }
    lines
}

fn common(system: &System, place: Place, process: &Process) -> Common {
    let mut lines = vec![format!("priority {}, {}", process.priority, cpus(&process.cpus))];
    match process.memory {
        Untyped::None => {}
        Untyped::Log2(log2) => lines.push(size_text(1 << log2)),
        Untyped::Rest => lines.push("rest of the memory".to_owned()),
    }
    if process.when_asked {
        lines.push("starts when asked".to_owned());
    }
    let mut uses = Vec::new();
    for (number, group) in (0..).zip(&system.groups) {
        for member in group.members.iter().filter(|member| member.process == place) {
            uses.push(number);
            if member.rights != Rights::SEND.0 {
                lines.push(format!("{}: {}", group.name, rights(member.rights)));
            }
        }
    }
    Common { lines, program: process.program.clone(), label: process.label, uses }
}

/// Returns the lines of a device: its name, and where it is.
pub fn of_device(device: &Device) -> String {
    let mut lines = vec![device.name.clone()];
    lines.extend(device.ports.iter().map(|(first, last)| format!("ports {first:#x}-{last:#x}")));
    lines.extend(device.memory.iter().map(|memory| format!("memory {:#x}", memory.at)));
    match device.found {
        Found::Fixed => {}
        Found::Pci(pci) => lines.push(format!("PCI {:04x}:{:04x}", pci.vendor, pci.device)),
        Found::Power => lines.push("power".to_owned()),
    }
    lines.join("\n")
}

/// Returns a set of CPUs in few words.
fn cpus(cpus: &Cpus) -> String {
    let Cpus::These(set) = cpus else { return "all CPUs".to_owned() };
    let ranges = set.chunk_by(|a, b| a + 1 == *b).map(|range| match range {
        [first, .., last] => format!("{first}-{last}"),
        _ => range.iter().map(u16::to_string).collect(),
    });
    format!("CPU {}", ranges.collect::<Vec<_>>().join(","))
}

/// Returns the rights of a member, separated by blanks.
fn rights(rights: u32) -> String {
    let named = Rights::SHARED.iter().filter(|right| Rights(rights).contains(right.value));
    named.map(|right| right.name.to_lowercase()).collect::<Vec<_>>().join(" ")
}
