//! Checks the numbers of things against the limits of the compiled form.

use protocols::system::{DEVICES_MAX, GROUPS_MAX, PROCESSES_MAX, USES_MAX};

use super::pagers;
use crate::problem::{Problem, Problems, Span};
use crate::written::Written;

/// Reports more processes, groups, devices and uses than process 1 takes.
pub fn check(written: &Written, problems: &mut Problems) {
    let spans = written.processes.iter().map(|process| process.name.span.clone());
    at_most(PROCESSES_MAX, "a system", "processes", spans, problems);
    let spans = written.groups.iter().map(|group| group.name.span.clone());
    // Each pager has a group with its clients.
    let pagers = pagers(written);
    let of_pager = |name: &&str| written.processes.iter().find(|process| process.name.value == **name);
    let spans = spans.chain(pagers.iter().filter_map(of_pager).map(|pager| pager.name.span.clone()));
    at_most(GROUPS_MAX, "a system", "groups", spans, problems);
    let spans = written.devices.iter().map(|device| device.name.span.clone());
    at_most(DEVICES_MAX, "a system", "devices", spans, problems);
    for process in &written.processes {
        let owner = format!("process `{}`", process.name.value);
        let spans = process.uses.iter().map(|used| used.name.span.clone());
        at_most(USES_MAX, &owner, "groups that it uses", spans, problems);
    }
}

fn at_most(most: u16, owner: &str, what: &str, spans: impl Iterator<Item = Span>, problems: &mut Problems) {
    let mut beyond = spans.skip(most.into());
    let Some(first) = beyond.next() else { return };
    let count = usize::from(most) + 1 + beyond.count();
    let title = format!("{owner} has {count} {what}, more than {most}");
    let fix = format!("remove {} of them", count - usize::from(most));
    problems.push(Problem::new(first, title, "the first too many", fix));
}
