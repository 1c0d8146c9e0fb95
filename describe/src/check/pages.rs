//! Checks pagers and scheduling policies against those that they look after.

use abi::machine_rights;
use protocols::clients::NUMBER_MAX;

use crate::problem::{Problem, Problems, Span};
use crate::system::Cpus;
use crate::values::At;
use crate::written::{Paged, Process, Written};

/// Returns the names of all pagers that have clients, in the order of their first clients.
pub fn pagers(written: &Written) -> Vec<&str> {
    let mut pagers = Vec::new();
    for paged in written.processes.iter().filter_map(|process| process.pager.as_ref()) {
        if !pagers.contains(&&*paged.by.value) {
            pagers.push(&*paged.by.value);
        }
    }
    pagers
}

/// Returns the clients of a pager, with their numbers.
pub fn pager_clients<'a>(
    written: &'a Written,
    pager: &'a str,
) -> impl Iterator<Item = (u16, &'a Process)> + use<'a> {
    let is_client =
        move |process: &&Process| process.pager.as_ref().is_some_and(|paged: &Paged| paged.by.value == pager);
    (1..).zip(written.processes.iter().filter(is_client))
}

/// Reports pagers and policies that could not do their work.
pub fn check(written: &Written, problems: &mut Problems) {
    for process in &written.processes {
        let own = &process.name.value;
        if let Some(paged) = process.pager.as_ref().filter(|paged| paged.by.value == *own) {
            let title = format!("process `{own}` cannot be its own pager");
            let fix = "remove `pager`, or name another process";
            problems.push(Problem::new(paged.by.span.clone(), title, "itself", fix));
        }
    }
    for pager in pagers(written) {
        check_pager(written, pager, problems);
    }
    let mut policies = written.processes.iter().filter(|process| !process.schedules.is_empty());
    let Some(first) = policies.next() else { return };
    check_policy(written, first, problems);
    for second in policies {
        let title = "a system has one scheduling policy: a CPU reports to one";
        let span = second.schedules[0].span.clone();
        let fix = format!("move the names to `schedules` of `{}`", first.name.value);
        let problem = Problem::new(span, title, "the second", fix);
        problems.push(problem.also(first.schedules[0].span.clone(), "the first"));
    }
}

/// Reports a pager with too many clients, and one that takes calls of others for theirs.
fn check_pager(written: &Written, pager: &str, problems: &mut Problems) {
    if let Some((_, client)) = pager_clients(written, pager).nth(NUMBER_MAX.into())
        && let Some(paged) = &client.pager
    {
        let title = format!("pager `{pager}` has more than {NUMBER_MAX} clients");
        let fix = "name another pager, or remove `pager`";
        problems.push(Problem::new(paged.by.span.clone(), title, "the first too many", fix));
    }
    for group in &written.groups {
        let Some(server) = group.exposes.iter().find(|server| server.value == pager) else { continue };
        let title = format!("group `{}` exposes `{pager}`, which is a pager", group.name.value);
        let fix = "remove it: its clients have a group of their own, and it would take others for them";
        problems.push(Problem::new(server.span.clone(), title, "a pager", fix));
    }
}

/// Reports processes that a policy could not place or give their CPU time.
fn check_policy(written: &Written, policy: &Process, problems: &mut Problems) {
    let own = &policy.name.value;
    if policy.machine & machine_rights::SECURITY.rights().0 == 0 {
        let title = format!("policy `{own}` lacks the right `security` to the Machine");
        let fix = "add `machine = [\"report\", \"info\", \"security\"]`: by it CPUs report what they do";
        problems.push(Problem::new(policy.name.span.clone(), title, "it would see no CPU", fix));
    }
    let ceiling = policy.time.ceiling.as_ref().or(policy.time.priority.as_ref());
    for scheduled in &policy.schedules {
        let Some(other) = written.processes.iter().find(|other| other.name.value == scheduled.value) else {
            continue;
        };
        let name = &scheduled.value;
        let mut report = |title: String, mark: &'static str, fix: String, also: Option<(&Span, &str)>| {
            let problem = Problem::new(scheduled.span.clone(), title, mark, fix);
            problems.push(match also {
                Some((span, text)) => problem.also(span.clone(), text.to_owned()),
                None => problem,
            });
        };
        if name == own {
            let title = format!("process `{own}` cannot schedule itself");
            report(title, "itself", "remove it from `schedules`".to_owned(), None);
            continue;
        }
        if let (Some(ceiling), Some(priority)) = (ceiling, &other.time.priority)
            && ceiling.value < priority.value
        {
            let title = format!("policy `{own}` cannot give `{name}` its priority {}", priority.value);
            let fix = format!("write `ceiling = {}` or more for `{own}`", priority.value);
            report(title, "above its ceiling", fix, Some((&ceiling.span, "the ceiling")));
        }
        let bound = policy.time.budget.as_ref().map(|budget| &budget.span);
        let bound = bound.or(policy.time.room.as_ref().map(|room| &room.span));
        if let Some(bound) = bound.filter(|_| other.time.budget.is_none()) {
            let title = format!("policy `{own}` cannot schedule `{name}`, which has no budget");
            let fix = format!("add a `budget` to `{name}`, or remove `budget` and `room` of `{own}`");
            report(title, "no budget", fix, Some((bound, "with this, it can set no time without a budget")));
        }
        if let Some(At { value: Cpus::These(of_policy), span }) = &policy.time.cpus
            && !covers(of_policy, other.time.cpus.as_ref().map(|cpus| &cpus.value))
        {
            let title = format!("policy `{own}` has not all CPUs of `{name}`");
            let fix = format!("add them to `cpus` of `{own}`, or remove them from those of `{name}`");
            report(title, "it may run elsewhere", fix, Some((span, "the policy's CPUs")));
        }
    }
}

/// Whether CPUs contain all those of another process.
fn covers(cpus: &[u16], others: Option<&Cpus>) -> bool {
    let Some(Cpus::These(others)) = others else { return false };
    others.iter().all(|cpu| cpus.contains(cpu))
}
