//! Reads what a process may do with CPU time, and when it is started again.

use protocols::system::{CPUS_MAX, PRIORITY_MAX};

use crate::keys;
use crate::near::advice;
use crate::problem::Problems;
use crate::system::{Budget, Cpus, Restart, When};
use crate::units::time_text;
use crate::values::{At, Entry, Fields};
use crate::written::Time;

pub const NEVER: Restart =
    Restart { when: When::Never, wait: 10_000, most: 1_000_000, limit: 5, within: 10_000_000 };
const WHEN: [(&str, When); 3] =
    [("never", When::Never), ("failure", When::Failure), ("always", When::Always)];

/// Reads priorities, CPUs and budgets of a process.
pub fn time(process: &Fields<'_>, problems: &mut Problems) -> Time {
    let priorities = 1..=u64::from(PRIORITY_MAX);
    let byte = |number: At<u64>| At::new(number.value as u8, number.span);
    let priority = process.need("priority", problems);
    let priority = priority.and_then(|entry| entry.number(priorities.clone(), problems));
    let ceiling = process.get("ceiling").and_then(|entry| entry.number(priorities, problems));
    let cpu = process.get("cpu").and_then(|entry| entry.number(0..=u64::from(CPUS_MAX - 1), problems));
    let room = process.get("room").and_then(|entry| entry.share(problems));
    Time {
        priority: priority.map(byte),
        ceiling: ceiling.map(byte),
        cpu: cpu.map(|cpu| At::new(cpu.value as u16, cpu.span)),
        cpus: process.get("cpus").and_then(|entry| cpus(&entry, problems)),
        slice: process.get("slice").and_then(|entry| entry.time(problems)).map(|slice| slice.value),
        budget: process.get("budget").and_then(|entry| budget(&process.owner, &entry, problems)),
        room: room.map(|room| At::new(room.value as u32, room.span)),
    }
}

/// Reads a set of CPUs: `"all"`, a list of numbers, or ranges in a string.
fn cpus(entry: &Entry<'_>, problems: &mut Problems) -> Option<At<Cpus>> {
    let mut set: Vec<u16> = Vec::new();
    if entry.value.is_array() {
        for element in entry.list(problems) {
            let number = element.number(0..=u64::from(CPUS_MAX - 1), problems)?;
            add(&mut set, number.value..=number.value, &element, problems)?;
        }
    } else if let Some(number) = entry.value.as_integer() {
        let fix = format!("write `cpus = [{number}]`");
        entry.wrong("`cpus` has a number where a list of CPUs belongs", "a number", fix, problems);
        return None;
    } else {
        let text = entry.text(problems)?;
        if text.value.trim() == "all" {
            return Some(At::new(Cpus::All, text.span));
        }
        for part in text.value.split(',') {
            add(&mut set, range(part, entry, problems)?, entry, problems)?;
        }
    }
    if set.is_empty() {
        let fix = "name at least one CPU, as in `cpus = [0]`, or write `\"all\"`";
        entry.wrong("`cpus` names no CPU", "an empty list", fix, problems);
        return None;
    }
    set.sort_unstable();
    Some(At::new(Cpus::These(set), entry.span.clone()))
}

/// Reads a range of CPUs, or one of them.
fn range(part: &str, entry: &Entry<'_>, problems: &mut Problems) -> Option<std::ops::RangeInclusive<u64>> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (Ok(first), Ok(last)) = (first.trim().parse::<u64>(), last.trim().parse::<u64>()) else {
        let fix = "write `\"all\"`, numbers and ranges as in `\"0,2-3\"`, or a list of numbers";
        entry.wrong(format!("`{}` is no CPU and no range of CPUs", part.trim()), "not CPUs", fix, problems);
        return None;
    };
    let most = u64::from(CPUS_MAX - 1);
    if first > most || last > most {
        let fix = format!("CPUs are numbered from 0 to {most}");
        entry.wrong(format!("there is no CPU {}", first.max(last)), "out of range", fix, problems);
        return None;
    }
    if first > last {
        let fix = format!("write `{last}-{first}`");
        entry.wrong("a range of CPUs ends before it begins", "the first is larger", fix, problems);
        return None;
    }
    Some(first..=last)
}

/// Adds CPUs to a set, none twice.
fn add(
    set: &mut Vec<u16>,
    cpus: std::ops::RangeInclusive<u64>,
    entry: &Entry<'_>,
    problems: &mut Problems,
) -> Option<()> {
    for cpu in cpus {
        if set.contains(&(cpu as u16)) {
            let title = format!("`cpus` names CPU {cpu} twice");
            entry.wrong(title, "named twice", format!("name CPU {cpu} once"), problems);
            return None;
        }
        set.push(cpu as u16);
    }
    Some(())
}

fn budget(owner: &str, entry: &Entry<'_>, problems: &mut Problems) -> Option<At<Budget>> {
    let fields = entry.table(format!("budget of {owner}"), keys::BUDGET, problems)?;
    let time = fields.need("time", problems).and_then(|entry| entry.time(problems));
    let period = fields.need("period", problems).and_then(|entry| entry.time(problems));
    let (time, period) = (time?, period?);
    if time.value > period.value {
        let title = format!("a budget of {} does not fit its period", time_text(time.value));
        let fix = format!("write a `time` of at most {}, or a longer `period`", time_text(period.value));
        let problem = crate::problem::Problem::new(time.span, title, "longer than the period", fix);
        problems.push(problem.also(period.span, "the period"));
        return None;
    }
    Some(At::new(Budget { time: time.value, period: period.value }, entry.span.clone()))
}

/// Reads when a process is started again: a word, or a table.
pub fn restart(owner: &str, entry: &Entry<'_>, problems: &mut Problems) -> Option<At<Restart>> {
    if let Some(word) = entry.value.as_str() {
        return when(word, entry, problems)
            .map(|when| At::new(Restart { when, ..NEVER }, entry.span.clone()));
    }
    if !entry.value.is_table() {
        entry.wrong_kind("a word or a table", problems);
        return None;
    }
    let fields = entry.table(format!("`restart` of {owner}"), keys::RESTART, problems)?;
    let chosen = fields.need("when", problems).and_then(|entry| {
        let word = entry.text(problems)?;
        when(&word.value, &entry, problems)
    });
    let wait = fields.get("wait").and_then(|entry| entry.time(problems));
    let most = fields.get("most").and_then(|entry| entry.time(problems));
    let limit = fields.get("limit").and_then(|entry| entry.number(1..=1000, problems));
    let within = fields.get("within").and_then(|entry| entry.time(problems));
    let of = |time: &Option<At<u64>>, default| time.as_ref().map_or(default, |time| time.value);
    let restart = Restart {
        when: chosen?,
        wait: of(&wait, NEVER.wait),
        most: of(&most, NEVER.most.max(of(&wait, 0))),
        limit: limit.map_or(NEVER.limit, |limit| limit.value as u32),
        within: of(&within, NEVER.within),
    };
    if let (Some(most), true) = (most, restart.wait > restart.most) {
        let title = format!("the first restart waits {}, longer than `most`", time_text(restart.wait));
        let fix = format!("write a `most` of at least {}, or a shorter `wait`", time_text(restart.wait));
        let problem = crate::problem::Problem::new(most.span, title, "shorter than `wait`", fix);
        let remark = wait.map(|wait| wait.span);
        problems.push(match remark {
            Some(span) => problem.also(span, "the first wait"),
            None => problem,
        });
    }
    Some(At::new(restart, entry.span.clone()))
}

fn when(word: &str, entry: &Entry<'_>, problems: &mut Problems) -> Option<When> {
    let found = WHEN.iter().find(|(name, _)| *name == word);
    if found.is_none() {
        let fix = advice(word, WHEN.iter().map(|(name, _)| *name));
        entry.wrong(format!("a process cannot be restarted `{word}`"), "unknown word", fix, problems);
    }
    found.map(|(_, when)| *when)
}
