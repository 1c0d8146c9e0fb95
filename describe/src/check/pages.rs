//! Checks pagers and scheduling policies against those that they look after.

use protocols::clients::NUMBER_MAX;

use crate::problem::{Problem, Problems};
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

/// Reports a pager that is its own client or has too many, a process that places itself on a CPU,
/// and one that two others place.
pub fn check(written: &Written, problems: &mut Problems) {
    for process in &written.processes {
        let own = &process.name.value;
        if let Some(paged) = process.pager.as_ref().filter(|paged| paged.by.value == *own) {
            let title = format!("process `{own}` cannot be its own pager");
            let fix = "remove `pager`, or name another process";
            problems.push(Problem::new(paged.by.span.clone(), title, "itself", fix));
        }
        for scheduled in process.schedules.iter().filter(|name| name.value == *own) {
            let title = format!("process `{own}` cannot schedule itself");
            let fix = "remove it from `schedules`";
            problems.push(Problem::new(scheduled.span.clone(), title, "itself", fix));
        }
    }
    for pager in pagers(written) {
        if let Some((_, client)) = pager_clients(written, pager).nth(NUMBER_MAX.into())
            && let Some(paged) = &client.pager
        {
            let title = format!("pager `{pager}` has more than {NUMBER_MAX} clients");
            let fix = "name another pager, or remove `pager`";
            problems.push(Problem::new(paged.by.span.clone(), title, "the first too many", fix));
        }
    }
    let mut placed: Vec<(&At<String>, &str)> = Vec::new();
    for process in &written.processes {
        for scheduled in &process.schedules {
            if let Some((first, by)) = placed.iter().find(|(name, _)| name.value == scheduled.value) {
                let (name, other) = (&scheduled.value, &process.name.value);
                let title = format!("processes `{by}` and `{other}` both schedule `{name}`");
                let fix = "remove it from one of the lists";
                let problem = Problem::new(scheduled.span.clone(), title, "the second", fix);
                problems.push(problem.also(first.span.clone(), "the first"));
            }
            placed.push((scheduled, &process.name.value));
        }
    }
}
