//! Translations in the TLBs of CPUs. They can be inspected only on a simulated machine.

use std::collections::BTreeMap;

use snapshot::{Entry, ExtentKind, Hardware, Translation, VSpace};

use super::memory::is_free;
use crate::facts::Facts;
use crate::index::Kind;
use crate::pte::{Pte, What};
use crate::report::Findings;

/// In a CR3 value: translations of the space are kept when the CPU leaves it.
const KEEPS: u64 = 1 << 63;

/// A CPU that runs a task is in the address space that it shows, which is that of the task's
/// process.
pub fn cpu_spaces(f: &Facts<'_>, out: &mut Findings) {
    for cpu in f.s.cpus.iter().filter(|cpu| !cpu.busy && cpu.current != 0) {
        let Some(task) = f.task(cpu.current) else { continue };
        hold!(
            out,
            cpu.vspace == task.space || f.any_busy(),
            "cpu{} runs a task in {}, and shows {}",
            cpu.id,
            f.name(task.space),
            f.name(cpu.vspace)
        );
        let Some(hardware) = hardware(f, cpu.id).filter(|hardware| !hardware.waits) else { continue };
        let shown = f.vspace(cpu.vspace).map_or(0, |space| space.cr3);
        hold!(
            out,
            hardware.cr3 == shown,
            "cpu{} is in space {:#x}, and shows {shown:#x}",
            cpu.id,
            hardware.cr3
        );
    }
}

fn hardware<'a>(f: &Facts<'a>, cpu: u32) -> Option<&'a Hardware> {
    f.s.hardwares.iter().find(|hardware| hardware.cpu == cpu)
}

/// Returns whether a page-table entry maps the page as a CPU's translation `seen` says.
fn is_so(entry: &Entry, seen: &Translation) -> bool {
    let word = Pte(entry.word);
    let kind = (word.is_writable(), word.is_executable());
    let log2 = 12 + 9 * (entry.level - 1);
    word.what(entry.level) == What::Page
        && word.at() == seen.page
        && log2 == seen.log2
        && kind == (seen.write, seen.execute)
}

/// The translations that CPUs have of a space agree with its page tables, or are about to be
/// dropped: the CPU is asked to, or drops them when it enters the space.
pub fn remembered(f: &Facts<'_>, out: &mut Findings) {
    for (seen, space) in in_use(f) {
        let entries = entries_for(f, space, seen.address);
        if is_true(f, space, seen) || entries.clone().any(|entry| is_going(f, entry, seen.page)) {
            continue;
        }
        let is: Vec<String> = entries.map(|entry| format!("{:#x}", entry.word)).collect();
        out.add(format_args!(
            "cpu{} remembers {:#x} of {:#x} as {seen:x?}: it is {is:?}",
            seen.cpu, seen.address, seen.cr3
        ));
    }
}

/// A page that a CPU remembers otherwise than it is mapped is not used for anything else: the frame
/// table has it as stale until the shootdown is over, and its memory is neither free nor an
/// object's. Memory of a device stays its frame's so long. UTCBs and event pools are not counted
/// among those: their memory stays what it is.
pub fn stale_pages(f: &Facts<'_>, out: &mut Findings) {
    for (seen, space) in in_use(f) {
        if is_true(f, space, seen) {
            continue;
        }
        let what =
            || format!("page {:#x}, which cpu{} remembers at {:#x},", seen.page, seen.cpu, seen.address);
        if let Some(info) = f.info(seen.page).filter(|info| info.owner_kind == Kind::Frame as u8) {
            let stale = info.locked || info.stale && info.note != 0 && !f.is_over(info.note);
            hold!(out, stale, "{} is a frame's, and not stale", what());
            continue;
        }
        let is_memory = f.s.ranges.iter().any(|range| seen.page.wrapping_sub(range.at) < range.bytes);
        hold!(out, is_memory, "{} is a device's, and free for its next owner", what());
        let (piece, _) = f.index.memory(seen.page);
        let is_plain =
            piece.is_some_and(|piece| piece.kind == ExtentKind::Pool || f.task(piece.object).is_some());
        hold!(
            out,
            piece.is_none() || is_plain,
            "{} is part of {}",
            what(),
            f.name(piece.map_or(0, |piece| piece.object))
        );
        hold!(out, !is_free(f, seen.page), "{} is free", what());
    }
}

/// Returns the translations that CPUs have of the spaces that they have loaded, or will use again
/// when they enter.
fn in_use<'a>(f: &Facts<'a>) -> impl Iterator<Item = (&'a Translation, &'a VSpace)> + use<'a> {
    let f = *f;
    let judged = f.s.translations.iter().filter(move |seen| !f.spaces_change && !f.is_busy(seen.cpu));
    judged.filter_map(move |seen| {
        let space = f.s.vspaces.iter().find(|space| space.cr3 == seen.cr3)?;
        let is_in = hardware(&f, seen.cpu).is_some_and(|hardware| hardware.cr3 == seen.cr3);
        (is_in || keeps(&f, space, seen.cpu)).then_some((seen, space))
    })
}

/// Returns the entries of a space for an address: of a page of 4 KiB, and of 2 MiB.
fn entries_for<'a>(
    f: &Facts<'a>,
    space: &VSpace,
    address: u64,
) -> impl Iterator<Item = &'a Entry> + Clone + use<'a> {
    let at = space.at;
    f.s.entries
        .iter()
        .filter(move |entry| entry.space == at && matches!(entry.level, 1 | 2) && is_for(entry, address))
}

/// Returns whether the page tables of a space say what a CPU's translation `seen` says.
fn is_true(f: &Facts<'_>, space: &VSpace, seen: &Translation) -> bool {
    entries_for(f, space, seen.address).any(|entry| entry.address == seen.address && is_so(entry, seen))
}

/// Returns whether an entry maps a range that contains an address.
fn is_for(entry: &Entry, address: u64) -> bool {
    address.wrapping_sub(entry.address) < crate::pte::span(entry.level)
}

/// Returns whether a CPU still has its translations of a space when it enters the space.
fn keeps(f: &Facts<'_>, space: &VSpace, cpu: u32) -> bool {
    let its = |seen: &&snapshot::Seen| seen.space == space.at && seen.cpu == cpu;
    let seen = f.s.seens.iter().find(its).map(|seen| seen.generation);
    space.cr3 & KEEPS != 0 && seen == Some(space.generation)
}

/// Returns whether a shootdown is under way of what an entry mapped, or of what it allowed.
fn is_going(f: &Facts<'_>, entry: &Entry, page: u64) -> bool {
    match Pte(entry.word).what(entry.level) {
        What::Gone(stamp) => !f.is_over(stamp),
        What::Empty => false,
        _ => f.info(page).is_some_and(|info| info.note != 0 && !f.is_over(info.note)),
    }
}

/// No page can be written by one CPU and executed by another, by page tables or by what CPUs
/// remember of the space that they are in. A CPU in the middle of a kernel entry does neither: it
/// may have shown already that it leaves the space.
pub fn write_or_execute(f: &Facts<'_>, out: &mut Findings) {
    if f.s.translations.is_empty() {
        return;
    }
    let mut kinds: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
    let mut note = |page: u64, write: bool, execute: bool| {
        let kind = kinds.entry(page).or_default();
        *kind = (kind.0 | write, kind.1 | execute);
        *kind != (true, true)
    };
    for entry in &f.s.entries {
        let word = Pte(entry.word);
        if word.what(entry.level) == What::Page && word.is_user() {
            let fine = note(word.at(), word.is_writable(), word.is_executable());
            hold!(out, fine, "page {:#x} is writable and executable", word.at());
        }
    }
    for seen in f.s.translations.iter().filter(|seen| !f.is_busy(seen.cpu)) {
        if hardware(f, seen.cpu).is_some_and(|hardware| hardware.cr3 == seen.cr3) {
            let fine = note(seen.page, seen.write, seen.execute);
            hold!(
                out,
                fine,
                "page {:#x} is writable and executable, as cpu{} remembers it",
                seen.page,
                seen.cpu
            );
        }
    }
}
