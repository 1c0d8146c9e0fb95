//! Checks that each name refers to something, and that everything is referred to.

use crate::near::{nearest, one_of};
use crate::problem::{Problem, Problems};
use crate::read::NO_LABEL;
use crate::values::At;
use crate::written::{Controls, Written};

/// The name of process 1.
const FIRST_PROCESS: &str = "init";

/// Whether one of these names is none of the known ones.
fn is_any_unknown<'a>(
    mut names: impl Iterator<Item = &'a At<String>>,
    known: impl Iterator<Item = &'a At<String>> + Clone,
) -> bool {
    names.any(|name| known.clone().all(|known| known.value != name.value))
}

/// A kind of things that have names.
struct Kind<'a> {
    /// "process", and the section in which a person adds one.
    what: &'static str,
    section: &'static str,
    names: Vec<&'a str>,
}

impl Kind<'_> {
    /// Reports a name that none of the things has.
    fn demand(&self, name: &At<String>, problems: &mut Problems) {
        if self.names.contains(&name.value.as_str()) {
            return;
        }
        let text = &name.value;
        let Kind { what, section, names } = self;
        let add = section.replace("NAME", text);
        let fix = match nearest(text, names.iter().copied()) {
            Some(close) => format!("write `{close}`, or add {add}"),
            None if names.is_empty() => format!("add {add}"),
            None => format!("add {add}, or write {}", one_of(names.iter().copied())),
        };
        let title = format!("there is no {what} `{text}`");
        problems.push(Problem::new(name.span.clone(), title, format!("unknown {what}"), fix));
    }
}

/// Reports names of nothing, and things that nothing names.
pub fn check(written: &Written, problems: &mut Problems) {
    references(written, problems);
    unused(written, problems);
    for process in written.processes.iter().filter(|process| process.name.value == FIRST_PROCESS) {
        let title = "`init` is process 1, which no description starts";
        let fix = "give the process another name";
        problems.push(Problem::new(process.name.span.clone(), title, "the name of process 1", fix));
    }
    for label in written.labels.iter().filter(|label| label.name.value == NO_LABEL) {
        let title = "`none` means objects without a label, and no label can have this name";
        problems.push(Problem::new(
            label.name.span.clone(),
            title,
            "reserved",
            "give the label another name",
        ));
    }
}

/// Reports a group that is not there, which may be the name of a process.
fn demand_group(name: &At<String>, groups: &Kind<'_>, processes: &Kind<'_>, problems: &mut Problems) {
    let text = name.value.as_str();
    if groups.names.contains(&text) || !processes.names.contains(&text) {
        return groups.demand(name, problems);
    }
    let title = format!("`{text}` is a process, and a process uses groups");
    let fix = format!("add `[groups.{text}]` with `exposes = [\"{text}\"]` and members");
    problems.push(Problem::new(name.span.clone(), title, "not a group", fix));
}

fn references(written: &Written, problems: &mut Problems) {
    let names = written.processes.iter().map(|process| process.name.value.as_str());
    let processes = Kind { what: "process", section: "`[processes.NAME]`", names: names.collect() };
    let names = written.groups.iter().map(|group| group.name.value.as_str());
    let groups = Kind { what: "group", section: "`[groups.NAME]`", names: names.collect() };
    let names = written.devices.iter().map(|device| device.name.value.as_str());
    let devices = Kind { what: "device", section: "`[devices.NAME]`", names: names.collect() };
    let names = written.labels.iter().map(|label| label.name.value.as_str());
    let labels = Kind { what: "label", section: "`NAME = NUMBER` to `[labels]`", names: names.collect() };
    written.verdict.iter().for_each(|name| processes.demand(name, problems));
    for group in &written.groups {
        group.exposes.iter().for_each(|name| processes.demand(name, problems));
        group.members.iter().for_each(|member| processes.demand(&member.process, problems));
    }
    for process in &written.processes {
        process.needs.iter().for_each(|name| processes.demand(name, problems));
        if let Some(Controls::These(names)) = &process.controls {
            names.iter().for_each(|name| processes.demand(name, problems));
        }
        process.schedules.iter().for_each(|name| processes.demand(name, problems));
        process.pager.iter().for_each(|paged| processes.demand(&paged.by, problems));
        process.uses.iter().for_each(|used| demand_group(&used.group, &groups, &processes, problems));
        process.devices.iter().for_each(|name| devices.demand(name, problems));
        let label = process.label.iter().filter(|label| label.value != NO_LABEL);
        label.for_each(|name| labels.demand(name, problems));
    }
    for rule in &written.rules {
        rule.subjects
            .iter()
            .filter(|name| name.value != NO_LABEL)
            .for_each(|name| labels.demand(name, problems));
        rule.objects
            .iter()
            .filter(|name| name.value != NO_LABEL)
            .for_each(|name| labels.demand(name, problems));
    }
}

/// Reports groups, devices and labels that nothing uses. A misspelt name may mean any of them.
fn unused(written: &Written, problems: &mut Problems) {
    let mut report = |name: &At<String>, what: &str, fix: String| {
        let title = format!("nothing uses {what} `{}`", name.value);
        problems.push(Problem::new(name.span.clone(), title, "unused", fix));
    };
    let used = || written.processes.iter().flat_map(|process| &process.uses).map(|used| &used.group);
    let are_unknown = is_any_unknown(used(), written.groups.iter().map(|group| &group.name));
    for group in written.groups.iter().filter(|group| group.members.is_empty() && !are_unknown) {
        let name = &group.name.value;
        if used().all(|used| used.value != *name) {
            let fix = "add a member, and the group to `uses` of its process; or remove the group";
            report(&group.name, "group", fix.to_owned());
        }
    }
    let driven = || written.processes.iter().flat_map(|process| &process.devices);
    let are_unknown = is_any_unknown(driven(), written.devices.iter().map(|device| &device.name));
    for device in written.devices.iter().filter(|_| !are_unknown) {
        let name = &device.name.value;
        if driven().all(|driven| driven.value != *name) {
            let fix = format!("add `devices = [\"{name}\"]` to the process that drives it, or remove it");
            report(&device.name, "device", fix);
        }
    }
    let labels = || {
        let of_processes = written.processes.iter().filter_map(|process| process.label.as_ref());
        let of_rules = written.rules.iter().flat_map(|rule| rule.subjects.iter().chain(&rule.objects));
        of_processes.chain(of_rules).filter(|name| name.value != NO_LABEL)
    };
    let are_unknown = is_any_unknown(labels(), written.labels.iter().map(|label| &label.name));
    for label in written.labels.iter().filter(|label| label.name.value != NO_LABEL && !are_unknown) {
        let name = &label.name.value;
        if labels().all(|used| used.value != *name) {
            let fix = format!("add `label = \"{name}\"` to a process, or remove the label");
            report(&label.name, "label", fix);
        }
    }
}
