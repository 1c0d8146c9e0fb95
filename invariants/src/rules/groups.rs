//! Groups: members and exposures.

use snapshot::{Member, SlotUse};

use crate::facts::Facts;
use crate::index::Kind;
use crate::report::Findings;

/// Watchers are among so many exposures.
const WATCHERS: u32 = abi::membership::WATCHERS;

/// Returns whether a kernel entry may be changing the records of groups and processes about
/// memberships.
fn changes(f: &Facts<'_>) -> bool {
    f.any_busy() || f.any_root_locked()
}

/// Each member record in use has its place in the list of its process, and no other record has one.
/// The group counts the records in use, and all records before its mark are in use.
pub fn members(f: &Facts<'_>, out: &mut Findings) {
    if changes(f) {
        return;
    }
    for member in &f.s.members {
        let what = || format!("member {} of group {:#x}", member.number, member.group);
        if member.word == 0 {
            let free = member.place_group | member.place_process | member.next | member.prev == 0;
            hold!(out, free, "{} is none, and is listed", what());
            continue;
        }
        let fits = member.place_group == member.group;
        hold!(out, fits, "the place of {} is one of group {:#x}", what(), member.place_group);
        let process = f.process(member.place_process).filter(|process| process.key == member.process_key);
        hold!(out, process.is_some(), "{} has key {:#x}, of no process", what(), member.process_key);
    }
    for group in &f.s.groups {
        let used = |member: &&Member| member.group == group.at && member.word != 0;
        let members = f.s.members.iter().filter(used);
        let before = members.clone().filter(|member| member.number < group.free).count() as u32;
        let count = members.count() as u32;
        hold!(out, count == group.count, "group {:#x} counts {} members of {count}", group.at, group.count);
        hold!(
            out,
            before == group.free,
            "group {:#x} says that {} records are taken, of which {before} are",
            group.at,
            group.free
        );
    }
}

/// A process's list has exactly its memberships, each once, each known to its neighbours.
pub fn membership_lists(f: &Facts<'_>, out: &mut Findings) {
    if changes(f) {
        return;
    }
    let mut listed = 0;
    for process in f.s.processes.iter().filter(|process| !process.locked) {
        let (mut prev, mut next) = (0, process.memberships);
        for _ in 0..=f.s.members.len() {
            let Some(member) = f.member(next) else { break };
            let what = || {
                format!(
                    "member {} of group {:#x}, listed by process {:#x}",
                    member.number, member.group, process.at
                )
            };
            hold!(out, member.process_key == process.key && member.word != 0, "{} is another", what());
            hold!(out, member.prev == prev, "{} has another neighbour", what());
            (prev, next) = (next, member.next);
            listed += 1;
        }
        hold!(out, next == 0, "the memberships of process {:#x} lead to {}", process.at, f.name(next));
    }
    let used = f.s.members.iter().filter(|member| member.word != 0).count();
    let all = f.s.processes.iter().all(|process| !process.locked);
    hold!(out, listed == used || !all, "processes list {listed} memberships of {used}");
}

/// An exposure has a task or a Notification, and allows nothing besides. The tag that it wants is
/// that of its task. An exposure of one task for each CPU has no slot of its own that is
/// full, its entries are there, and each of them says whose it is. A watcher is a Notification that
/// the group knows to be one.
pub fn exposures(f: &Facts<'_>, out: &mut Findings) {
    for exposure in &f.s.exposures {
        let Some(group) = f.group(exposure.group) else {
            out.add(format_args!("exposure {} is of {}", exposure.number, f.name(exposure.group)));
            continue;
        };
        let what = || format!("exposure {} of group {:#x}", exposure.number, exposure.group);
        let slot = f.slot(exposure.slot).filter(|slot| slot.used == SlotUse::Full);
        if exposure.per_cpu != 0 {
            let end = exposure.per_cpu - 1 + f.kernel.cpus;
            hold!(out, end <= group.exposures, "{} has entries up to {end} of {}", what(), group.exposures);
            hold!(
                out,
                slot.is_none() || f.any_busy(),
                "{} is one task for each CPU, and has an object",
                what()
            );
            let is_its =
                |it: &&snapshot::Exposure| it.group == exposure.group && it.part_of == exposure.number + 1;
            let entries = f.s.exposures.iter().filter(is_its).count();
            hold!(out, entries == f.kernel.cpus as usize || f.any_busy(), "{} has {entries} entries", what());
        }
        if exposure.part_of != 0 {
            let heads =
                |it: &&snapshot::Exposure| it.group == exposure.group && it.number == exposure.part_of - 1;
            let head = f.s.exposures.iter().find(heads).map_or(0, |head| head.per_cpu);
            let entries = head.wrapping_sub(1)..head.wrapping_sub(1).wrapping_add(f.kernel.cpus);
            hold!(
                out,
                (head != 0 && entries.contains(&exposure.number)) || f.any_busy(),
                "{} is an entry of {}, whose entries are {entries:?}",
                what(),
                exposure.part_of - 1
            );
        }
        let Some(slot) = slot else { continue };
        let kinds = slot.kind == Kind::Task as u8 || slot.kind == Kind::Notification as u8;
        hold!(
            out,
            kinds && slot.rights == 0,
            "{} has a capability of type {} with rights {:#x}",
            what(),
            slot.kind,
            slot.rights
        );
        if let Some(task) = f.task(slot.object) {
            hold!(
                out,
                task.tag == exposure.tag,
                "{} wants the tag {:#x} of task {}",
                what(),
                exposure.tag,
                task.id
            );
        }
        if exposure.watch != 0 {
            let watches = slot.kind == Kind::Notification as u8 && exposure.number < WATCHERS;
            let known = exposure.number < 64 && group.watched & 1 << exposure.number != 0;
            hold!(out, watches && (known || f.any_busy()), "{} watches, and the group does not know", what());
        }
    }
}
