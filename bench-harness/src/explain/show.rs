//! An explanation as a person reads it, and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use console::style;
use serde_json::json;

use super::cycles;
use super::fold::fold;
use super::phase::Phase;
use super::story::{Counts, Line, Shared, Uncounted};
use super::{Answer, Explained};
use crate::lab::Job;

/// The letters before an instruction.
const LEGEND: &str = "R reads, W writes, D of a device, B branches, T taken, A atomic, M writes an MSR, C a control register, S serialises";
const NO_PHASE: &str = "(no phase)";
/// Places that are named of instructions without a phase.
const PLACES: usize = 10;

/// Writes the whole answer. The last line is the total.
pub fn text(answer: &Answer) -> String {
    let mut out = String::new();
    heading(&mut out, answer);
    match &answer.base {
        Some((name, base, difference)) => {
            differences(&mut out, difference);
            compared_phases(&mut out, name, base, &answer.now);
        }
        None => {
            listing(&mut out, &answer.now);
            table(&mut out, &answer.now);
        }
    }
    without_phase(&mut out, &answer.now);
    sharing(&mut out, &answer.now);
    estimates(&mut out, answer);
    let _ = writeln!(out, "total: {} instructions", answer.now.total());
    out
}

fn heading(out: &mut String, answer: &Answer) {
    let now = &answer.now;
    let figure = match answer.committed {
        Some(committed) if committed == now.figure => format!("{}, as committed", now.figure),
        Some(committed) => format!("{}, NOT the {committed} that are committed", now.figure),
        None => format!("{} (no figure is committed for this compiler and QEMU)", now.figure),
    };
    let head = format!("{}, {}: {figure}", now.row, Job::cpus_text(now.cpus));
    let _ = writeln!(out, "{}", style(head).bold());
    let faulted = now.uncounted(Uncounted::Faulted);
    let mut how = format!("{} instructions executed", now.lines.len() as u64 - faulted);
    if faulted > 0 {
        how += &format!(" and {faulted} that faulted");
    }
    if now.overhead > 0 {
        how += &format!(", less {} of the empty measurement", now.overhead);
    }
    if now.operations > 1 {
        how += &format!(", in {} operations", now.operations);
    }
    let _ = writeln!(out, "{how}\n");
}

/// Writes every instruction, with folded loops.
fn listing(out: &mut String, now: &Explained) {
    let _ = writeln!(out, "{LEGEND}\n");
    let mut number = 1;
    let mut before: Option<(u8, Option<Phase>)> = None;
    for block in fold(&now.lines) {
        if block.turns > 1 {
            let _ = writeln!(out, "     {} times:", block.turns);
        }
        let body = &now.lines[block.start..block.start + block.period];
        for line in body {
            if line.counts() && before != Some((line.cpu, line.phase)) {
                phase_heading(out, now.cpus, line);
                before = Some((line.cpu, line.phase));
            }
            let count = if line.counts() { number.to_string() } else { "-".to_owned() };
            let _ = writeln!(out, "{count:>5} {}", instruction(line));
            number += usize::from(line.counts());
        }
        let counted = body.iter().filter(|line| line.counts()).count();
        number += counted * (block.turns - 1);
    }
    out.push('\n');
}

fn phase_heading(out: &mut String, cpus: u32, line: &Line) {
    let cpu = if cpus > 1 { format!("CPU {}: ", line.cpu) } else { String::new() };
    let phase = line.phase.map_or(NO_PHASE, Phase::name);
    let _ = writeln!(out, "{}", style(format!("{cpu}{phase}")).cyan().bold());
}

fn instruction(line: &Line) -> String {
    let place = place(line);
    let source = line.source.as_deref().unwrap_or("");
    let text = match line.uncounted {
        Some(Uncounted::Measurement) => format!("{} (measurement)", line.text),
        Some(Uncounted::Faulted) => format!("{} (faults)", line.text),
        None => line.text.clone(),
    };
    let row = format!("{:<6} {text:<44} {place:<40} {source}", flags(line));
    let row = row.trim_end();
    if line.counts() { row.to_owned() } else { style(row).dim().to_string() }
}

/// Returns symbol and offset, and what was inlined there, both without the text before the last
/// module.
fn place(line: &Line) -> String {
    let mut place = format!("{}+{:#x}", shortened(&line.symbol), line.offset);
    if let Some(inlined) = &line.inlined {
        place += &format!(" < {}", shortened(inlined));
    }
    place
}

/// Shortens a name: `kern_core::ipc::call::call::<kern_hal::pc::Pc>` is `ipc::call`.
fn shortened(name: &str) -> String {
    let mut plain = String::new();
    let mut depth = 0_u32;
    for c in name.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let parts: Vec<&str> = plain.split("::").filter(|part| !part.is_empty()).collect();
    if parts.len() < 2 && name.starts_with('<') {
        return name.to_owned();
    }
    parts[parts.len().saturating_sub(2)..].join("::")
}

fn flags(line: &Line) -> String {
    let accesses = |write: bool| line.accesses.iter().any(|access| access.write == write);
    let class = &line.class;
    let flags = [
        (accesses(false), 'R'),
        (accesses(true), 'W'),
        (line.accesses.iter().any(|access| access.device), 'D'),
        (class.branch && !line.taken, 'B'),
        (line.taken, 'T'),
        (class.atomic, 'A'),
        (class.msr_write, 'M'),
        (class.cr_write, 'C'),
        (class.serialising, 'S'),
    ];
    flags.iter().filter(|(is, _)| *is).map(|(_, letter)| *letter).collect()
}

type Group = (u8, Option<Phase>);

/// Counts by CPU and phase, in the order of phases; what has none comes last.
fn groups(now: &Explained) -> Vec<(Group, Counts)> {
    let mut groups: BTreeMap<(u8, usize), (Group, Vec<&Line>)> = BTreeMap::new();
    for line in now.counted() {
        let rank = line.phase.and_then(|phase| Phase::ALL.iter().position(|other| *other == phase));
        let key = (line.cpu, rank.unwrap_or(usize::MAX));
        groups.entry(key).or_insert_with(|| ((line.cpu, line.phase), Vec::new())).1.push(line);
    }
    groups.into_values().map(|(group, lines)| (group, Counts::of(lines.into_iter()))).collect()
}

/// Writes the table of phases.
fn table(out: &mut String, now: &Explained) {
    let head = format!(
        "{:<16} {:>8} {:>6} {:>6} {:>8} {:>6} {:>7} {:>4} {:>3} {:>7} {:>6} {:>10} {:>10}",
        "phase",
        "instr.",
        "loads",
        "stores",
        "branches",
        "taken",
        "atomics",
        "MSR",
        "CR",
        "serial.",
        "device",
        "code l/p",
        "data l/p"
    );
    let _ = writeln!(out, "{}", style(head).bold());
    let groups = groups(now);
    let several = now.cpus > 1;
    for (at, ((cpu, phase), counts)) in groups.iter().enumerate() {
        let name = phase.map_or(NO_PHASE, Phase::name);
        let name = if several { format!("CPU {cpu}: {name}") } else { name.to_owned() };
        row(out, &name, counts);
        if several && groups.get(at + 1).is_none_or(|((next, _), _)| next != cpu) {
            let of_cpu = Counts::of(now.counted().filter(|line| line.cpu == *cpu));
            row(out, &format!("CPU {cpu}"), &of_cpu);
        }
    }
    row(out, "all", &Counts::of(now.counted()));
    if now.operations > 1 {
        let _ = writeln!(out, "in {} operations: {} for each", now.operations, now.total());
    }
    let _ = writeln!(out, "l/p: distinct cache lines and pages; device: accesses to device registers\n");
}

fn row(out: &mut String, name: &str, counts: &Counts) {
    let pair = |lines: u64, pages: u64| format!("{lines}/{pages}");
    let _ = writeln!(
        out,
        "{name:<16} {:>8} {:>6} {:>6} {:>8} {:>6} {:>7} {:>4} {:>3} {:>7} {:>6} {:>10} {:>10}",
        counts.instructions,
        counts.loads,
        counts.stores,
        counts.branches,
        counts.taken,
        counts.atomics,
        counts.msr_writes,
        counts.cr_writes,
        counts.serialising,
        counts.device_accesses,
        pair(counts.code_lines, counts.code_pages),
        pair(counts.data_lines, counts.data_pages)
    );
}

fn without_phase(out: &mut String, now: &Explained) {
    let mut places: BTreeMap<String, u64> = BTreeMap::new();
    for line in now.without_phase() {
        let inlined = line.inlined.as_ref().map_or(String::new(), |inlined| format!(" < {inlined}"));
        *places.entry(format!("{} {}{inlined}", line.program, line.symbol)).or_default() += 1;
    }
    if places.is_empty() {
        return;
    }
    let _ = writeln!(out, "{}", style("in no phase (explain::phase does not know these):").red().bold());
    for (place, count) in places.iter().take(PLACES) {
        let _ = writeln!(out, "{count:>6} {place}");
    }
    if places.len() > PLACES {
        let _ = writeln!(out, "       and {} more places", places.len() - PLACES);
    }
    out.push('\n');
}

fn sharing(out: &mut String, now: &Explained) {
    let shared = Shared::of(now.counted());
    if now.cpus > 1 {
        let Shared { lines, written, pages } = shared;
        let text = format!("{lines} cache lines, {written} of them written, in {pages} pages");
        let _ = writeln!(out, "data touched by more than one CPU: {text}\n");
    }
}

fn estimates(out: &mut String, answer: &Answer) {
    let estimates = match &answer.estimate {
        Ok(estimates) => estimates,
        Err(why) => {
            let _ = writeln!(out, "no estimate in cycles: {why}\n");
            return;
        }
    };
    let of = if answer.now.operations > 1 {
        format!(" of the {} operations", answer.now.operations)
    } else {
        String::new()
    };
    let _ = writeln!(
        out,
        "{} (an ESTIMATE{of}: no misses, no mispredictions, no lines from other CPUs):",
        style("cycles").bold()
    );
    for estimate in estimates {
        let base = answer.base_estimate.iter().find(|base| base.cpu == estimate.cpu);
        let base = base.map_or(String::new(), |base| format!("; base {}", base.cycles()));
        let _ = writeln!(
            out,
            "  {:<16} {:>6} = {} by llvm-mca + {} published + {} assumed{base}",
            estimate.cpu,
            estimate.cycles(),
            estimate.ordinary,
            estimate.published,
            estimate.assumed
        );
    }
    for source in cycles::sources(&answer.now.lines) {
        let _ = writeln!(out, "  {source}");
    }
    out.push('\n');
}

/// Writes what was added and removed.
fn differences(out: &mut String, difference: &super::Difference) {
    for change in &difference.changes {
        let times = if change.turns > 1 { format!("{} times ", change.turns) } else { String::new() };
        let phase = change.line.phase.map_or(NO_PHASE, Phase::name);
        let sign = if change.added { '+' } else { '-' };
        let text = format!("{sign} CPU {} {phase:<9} {times}{}", change.line.cpu, instruction(&change.line));
        let text = if change.added { style(text).green() } else { style(text).red() };
        let _ = writeln!(out, "{text}");
    }
    if difference.changes.is_empty() {
        let _ = writeln!(out, "the same instructions in the same order");
    }
    out.push('\n');
}

/// Writes both builds, phase by phase.
fn compared_phases(out: &mut String, name: &str, base: &Explained, now: &Explained) {
    let head = format!("{:<16} {:>10} {:>10} {:>10}", "phase", "base", "now", "difference");
    let _ = writeln!(out, "{}", style(head).bold());
    let sums = |explained: &Explained| -> BTreeMap<(u8, usize), u64> {
        let of_group = |((cpu, phase), counts): (Group, Counts)| {
            let rank = phase.and_then(|phase| Phase::ALL.iter().position(|other| *other == phase));
            ((cpu, rank.unwrap_or(usize::MAX)), counts.instructions)
        };
        groups(explained).into_iter().map(of_group).collect()
    };
    let (old, new) = (sums(base), sums(now));
    let mut keys: Vec<_> = old.keys().chain(new.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    let several = now.cpus > 1;
    for (cpu, rank) in keys {
        let phase = Phase::ALL.get(rank).map_or(NO_PHASE, |phase| phase.name());
        let title = if several { format!("CPU {cpu}: {phase}") } else { phase.to_owned() };
        let count = |sums: &BTreeMap<_, u64>| sums.get(&(cpu, rank)).copied().unwrap_or(0);
        compared_row(out, &title, count(&old), count(&new));
    }
    compared_row(out, "all", base.counted().count() as u64, now.counted().count() as u64);
    let _ = writeln!(out, "base: {name}, {} instructions\n", base.total());
}

fn compared_row(out: &mut String, title: &str, old: u64, new: u64) {
    let difference = i128::from(new) - i128::from(old);
    let difference = if difference == 0 { String::new() } else { format!("{difference:+}") };
    let row = format!("{title:<16} {old:>10} {new:>10} {difference:>10}");
    let _ = writeln!(out, "{}", row.trim_end());
}

/// Returns the answer as JSON, for programs.
pub fn json(answer: &Answer) -> Result<String> {
    let phases: Vec<_> = groups(&answer.now)
        .into_iter()
        .map(|((cpu, phase), counts)| json!({"cpu": cpu, "phase": phase, "counts": counts}))
        .collect();
    let (estimate, no_estimate) = match &answer.estimate {
        Ok(estimate) => (json!(estimate), json!(null)),
        Err(why) => (json!(null), json!(why)),
    };
    let base = answer.base.as_ref().map(|(name, base, difference)| {
        let (changes, estimate) = (&difference.changes, &answer.base_estimate);
        json!({"name": name, "total": base.total(), "changes": changes, "estimate": estimate})
    });
    let value = json!({
        "explained": answer.now,
        "committed": answer.committed,
        "phases": phases,
        "shared": Shared::of(answer.now.counted()),
        "estimate": estimate,
        "no_estimate": no_estimate,
        "base": base,
        "total": answer.now.total(),
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::super::compare::Difference;
    use super::super::story::examples::line;
    use super::*;

    fn explained(extra: bool) -> Explained {
        let mut lines = vec![
            line(0, 1, &[0x0f, 0x05], Phase::User),
            line(0, 3, &[0x0f, 0x22, 0xdb], Phase::Switch),
            line(1, 6, &[0x48, 0x8b, 0x03], Phase::Checks),
        ];
        if extra {
            lines.push(line(1, 9, &[0x90], Phase::Checks));
        }
        let figure = lines.len() as u64;
        Explained { row: "yield_to".to_owned(), cpus: 2, figure, operations: 1, overhead: 0, lines }
    }

    fn answer(base: Option<Explained>) -> Answer {
        let now = explained(true);
        let base = base.map(|base| {
            let difference = Difference::new(&base.lines, &now.lines);
            ("HEAD~1".to_owned(), base, difference)
        });
        Answer {
            now,
            committed: Some(4),
            estimate: Err("no analyser".to_owned()),
            base_estimate: Vec::new(),
            base,
        }
    }

    #[test]
    fn phases_are_told_apart_and_add_up() {
        let text = text(&answer(None));
        assert!(text.starts_with("yield_to, 2 CPUs: 4, as committed\n"), "{text}");
        assert!(text.contains("CPU 1: checks") && text.contains("mov cr3, rbx"), "{text}");
        assert!(text.contains("no estimate in cycles: no analyser"), "{text}");
        assert!(text.ends_with("\ntotal: 4 instructions\n"), "{text}");
        let sum: u64 = groups(&explained(true)).iter().map(|(_, counts)| counts.instructions).sum();
        assert_eq!(sum, 4);
    }

    #[test]
    fn a_difference_names_the_instruction_and_its_phase() {
        let text = text(&answer(Some(explained(false))));
        let added = text.lines().find(|line| line.starts_with('+')).expect("something was added");
        assert!(added.contains("checks") && added.contains("nop") && added.contains("a.s:9"), "{added}");
        assert!(text.contains("base: HEAD~1, 3 instructions"), "{text}");
        assert!(text.ends_with("total: 4 instructions\n"), "{text}");
    }

    #[test]
    fn both_builds_are_estimated() {
        let of = |ordinary| vec![cycles::Estimate { cpu: "Z", ordinary, published: 2, assumed: 1 }];
        let answer = Answer { estimate: Ok(of(40)), base_estimate: of(30), ..answer(Some(explained(false))) };
        let text = text(&answer);
        assert!(text.contains("43 = 40 by llvm-mca + 2 published + 1 assumed; base 33"), "{text}");
        assert!(text.contains("ESTIMATE"), "{text}");
    }

    #[test]
    fn another_figure_than_the_committed_one_is_said() {
        let answer = Answer { committed: Some(3), ..answer(None) };
        assert!(text(&answer).contains("4, NOT the 3 that are committed"));
    }

    #[test]
    fn json_has_the_same() {
        let value: serde_json::Value =
            serde_json::from_str(&json(&answer(Some(explained(false)))).expect("serialises"))
                .expect("is JSON");
        assert_eq!(value["total"], 4);
        assert_eq!(value["base"]["changes"][0]["text"], "nop");
        assert_eq!(value["explained"]["lines"][1]["phase"], "switch");
    }

    #[test]
    fn names_are_shortened_to_what_tells_them_apart() {
        assert_eq!(shortened("kern_core::ipc::call::call::<kern_hal::pc::Pc>"), "call::call");
        assert_eq!(shortened("syscall_entry"), "syscall_entry");
    }
}
