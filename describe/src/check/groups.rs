//! Checks memberships against what processes use.

use abi::Rights;

use crate::problem::{Problem, Problems};
use crate::values::At;
use crate::written::{Group, Process, Use, Written};

/// Reports users that are no members, members that are no users, and users that may not send.
pub fn check(written: &Written, problems: &mut Problems) {
    for process in &written.processes {
        for (place, used) in process.uses.iter().enumerate() {
            if let Some(group) = written.groups.iter().find(|group| group.name.value == used.group.value) {
                check_use(process, used, group, problems);
            }
            let twice = process.uses[..place].iter().find(|other| other.group.value == used.group.value);
            if let Some(first) = twice {
                let (group, process) = (&used.group.value, &process.name.value);
                let title = format!("process `{process}` has two names for group `{group}`");
                let problem = Problem::new(used.name.span.clone(), title, "the second", "remove one of them");
                problems.push(problem.also(first.name.span.clone(), "the first"));
            }
        }
    }
    for group in &written.groups {
        for member in &group.members {
            let process = written.processes.iter().find(|process| process.name.value == member.process.value);
            if let Some(process) = process {
                check_member(process, &member.process, group, &written.groups, problems);
            }
        }
    }
}

/// Returns whether a process serves a group.
fn serves(process: &Process, group: &Group) -> bool {
    group.exposes.iter().any(|server| server.value == process.name.value)
}

fn check_use(process: &Process, used: &Use, group: &Group, problems: &mut Problems) {
    let (user, name) = (&process.name.value, &group.name.value);
    let member = group.members.iter().find(|member| member.process.value == *user);
    let Some(member) = member else {
        let title = format!("process `{user}` uses group `{name}`, and is no member of it");
        let fix = format!("add `[groups.{name}.members.{user}]` with `rights = [\"send\"]`");
        let problem = Problem::new(used.group.span.clone(), title, "not a member", fix);
        problems.push(problem.also(group.name.span.clone(), "the group"));
        return;
    };
    let Some(rights) = member.rights.as_ref().filter(|rights| rights.value != 0) else { return };
    if !Rights(rights.value).contains(Rights::SEND) && !serves(process, group) {
        let title = format!("process `{user}` uses group `{name}`, and may not send to it");
        let fix = "add `send` to the member's rights";
        let problem = Problem::new(rights.span.clone(), title, "`send` is missing", fix);
        problems.push(problem.also(used.group.span.clone(), "the use"));
    }
}

fn check_member(
    process: &Process,
    member: &At<String>,
    group: &Group,
    groups: &[Group],
    problems: &mut Problems,
) {
    let name = &group.name.value;
    let is_known = |used: &Use| groups.iter().any(|group| group.name.value == used.group.value);
    if process.uses.iter().any(|used| used.group.value == *name || !is_known(used)) {
        // One that uses an unknown group may mean this one.
        return;
    }
    let user = &member.value;
    let title = format!("process `{user}` is a member of group `{name}`, and does not use it");
    let fix = format!("add `{name} = \"{name}\"` to `uses` of process `{user}`, or remove the member");
    let problem = Problem::new(member.span.clone(), title, "never found by its name", fix);
    problems.push(problem.also(process.name.span.clone(), "the process"));
}
