//! Checks priorities, CPUs and budgets against each other.

use abi::time::WHOLE_CPU;

use crate::problem::{Problem, Problems, Span};
use crate::system::{Budget, Cpus};
use crate::units::share_text;
use crate::values::At;
use crate::written::{Process, Written};

/// Reports priorities above a ceiling, CPUs outside a set, and more time than a CPU has.
pub fn check(written: &Written, problems: &mut Problems) {
    for process in &written.processes {
        check_ceiling(process, problems);
        check_cpu(process, problems);
        check_room(process, problems);
    }
    check_sums(written, problems);
}

fn check_ceiling(process: &Process, problems: &mut Problems) {
    let (Some(priority), Some(ceiling)) = (&process.time.priority, &process.time.ceiling) else { return };
    if priority.value > ceiling.value {
        let title = format!("process `{}` has a priority above its ceiling", process.name.value);
        let fix = format!("write a `ceiling` of at least {}, or a lower `priority`", priority.value);
        let problem = Problem::new(priority.span.clone(), title, "above the ceiling", fix);
        problems.push(problem.also(ceiling.span.clone(), "the ceiling"));
    }
}

fn check_cpu(process: &Process, problems: &mut Problems) {
    let (Some(cpu), Some(cpus)) = (&process.time.cpu, &process.time.cpus) else { return };
    let Cpus::These(set) = &cpus.value else { return };
    if !set.contains(&cpu.value) {
        let title =
            format!("process `{}` starts on CPU {}, on which it may not run", process.name.value, cpu.value);
        let fix = format!("add CPU {} to `cpus`, or write `cpu = {}`", cpu.value, set[0]);
        let problem = Problem::new(cpu.span.clone(), title, "not in `cpus`", fix);
        problems.push(problem.also(cpus.span.clone(), "its CPUs"));
    }
}

/// Reports a room that is more than all CPUs of the process.
fn check_room(process: &Process, problems: &mut Problems) {
    let (Some(room), Some(cpus)) = (&process.time.room, &process.time.cpus) else { return };
    let Cpus::These(set) = &cpus.value else { return };
    let most = set.len() as u64 * WHOLE_CPU;
    if u64::from(room.value) > most {
        let title = format!("process `{}` has room for more than its CPUs have", process.name.value);
        let fix = format!("write at most `\"{}\"`, or give it more `cpus`", share_text(most));
        let problem = Problem::new(room.span.clone(), title, "too much", fix);
        problems.push(problem.also(cpus.span.clone(), "its CPUs"));
    }
}

/// Returns the share of a CPU that a budget takes, rounded up.
fn share(budget: Budget) -> u64 {
    let parts = u128::from(budget.time) * u128::from(WHOLE_CPU);
    parts.div_ceil(u128::from(budget.period)) as u64
}

/// Returns the CPU on which a process's first task runs.
pub fn first_cpu(process: &Process) -> u16 {
    let of_set = process.time.cpus.as_ref().map(|cpus| match &cpus.value {
        Cpus::All => 0,
        Cpus::These(set) => set[0],
    });
    process.time.cpu.as_ref().map(|cpu| cpu.value).or(of_set).unwrap_or(0)
}

/// A part of one CPU that a description promises.
struct Claim<'a> {
    cpu: u16,
    share: u64,
    span: &'a Span,
}

/// Reports a CPU of which budgets, and rooms for budgets on it alone, take more than there is.
fn check_sums(written: &Written, problems: &mut Problems) {
    let mut claims = Vec::new();
    for process in &written.processes {
        if let Some(At { value, span }) = &process.time.budget {
            claims.push(Claim { cpu: first_cpu(process), share: share(*value), span });
        }
        if let (Some(room), Some(cpus)) = (&process.time.room, &process.time.cpus)
            && let Cpus::These(set) = &cpus.value
            && let [cpu] = *set.as_slice()
        {
            claims.push(Claim { cpu, share: room.value.into(), span: &room.span });
        }
    }
    let mut cpus: Vec<u16> = claims.iter().map(|claim| claim.cpu).collect();
    cpus.sort_unstable();
    cpus.dedup();
    for cpu in cpus {
        let here: Vec<&Claim<'_>> = claims.iter().filter(|claim| claim.cpu == cpu).collect();
        let sum: u64 = here.iter().map(|claim| claim.share).sum();
        let [first @ .., last] = here.as_slice() else { continue };
        if sum <= WHOLE_CPU || first.is_empty() {
            continue;
        }
        let title = format!("budgets take {} of CPU {cpu}", share_text(sum));
        let fix = "lower budgets or rooms, or move a process to another `cpu`";
        let problem = Problem::new(last.span.clone(), title, share_text(last.share), fix);
        let also =
            |problem: Problem, claim: &&Claim<'_>| problem.also(claim.span.clone(), share_text(claim.share));
        problems.push(first.iter().fold(problem, also));
    }
}
