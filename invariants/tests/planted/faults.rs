//! States that earlier faults of the kernel led to, each as a planted violation.

use invariants::pte::{Pte, What};
use invariants::{Snapshot, Violation};
use snapshot::{ExtentKind, SlotUse, Table};

use crate::{Plant, planted, worlds};

/// What the rules say of a state.
fn judged(plant: Plant) -> Vec<&'static str> {
    let found: Vec<Violation> = planted(&worlds(), plant).expect("a world has a place for it");
    found.iter().map(|violation| violation.rule).collect()
}

/// Takes an object out of a snapshot, with its capabilities, as if its last one had been deleted.
fn delete(s: &mut Snapshot, at: u64) {
    s.contexts.retain(|object| object.at != at);
    s.notifications.retain(|object| object.at != at);
    s.frames.retain(|object| object.at != at);
    s.extents.retain(|extent| extent.object != at);
    while let Some(number) = s.slots.iter().position(|slot| slot.used == SlotUse::Full && slot.object == at) {
        let slot = s.slots.remove(number);
        for other in &mut s.slots {
            if other.at == slot.prev {
                other.next = slot.next;
            } else if other.at == slot.next {
                other.prev = slot.prev;
            }
        }
    }
}

/// The count of a page's mappings went round: 65,537 are one, and when that goes the page is its
/// frame's again.
#[test]
fn a_page_that_left_its_pool_while_it_is_mapped() {
    let rules = judged(|s| {
        let page = s.infos.iter_mut().find(|info| info.pooled && info.mapped > 1)?;
        (page.pooled, page.unclean, page.mapped, page.first) = (false, true, 0, 0);
        Some(())
    });
    assert!(["counts", "pools"].iter().all(|rule| rules.contains(rule)), "{rules:?}");
}

#[test]
fn more_mappings_than_a_page_can_have() {
    let rules = judged(|s| {
        let mapped = s.infos.iter().find(|info| info.pooled && info.mapped > 1)?.mapped;
        s.kernels[0].mappings_max = mapped - 1;
        Some(())
    });
    assert_eq!(rules, ["counts"]);
}

/// A page of 2 MiB in transit is not present, and was taken for an empty entry.
#[test]
fn a_table_that_was_written_over_a_page_in_transit() {
    let rules = judged(|s| {
        let transit = |word: u64| Pte(word).what(2) == What::Transit || Pte(word).what(2) == What::Page;
        let number = s
            .entries
            .iter()
            .position(|entry| entry.level == 2 && Pte(entry.word).is_pooled() && transit(entry.word))?;
        let (space, address) = (s.entries[number].space, s.entries[number].address);
        let vspace = s.vspaces.iter_mut().find(|vspace| vspace.at == space)?;
        let at = vspace.base + 4096 * u64::from(vspace.used);
        let number_of_table = vspace.used;
        vspace.used += 1;
        s.tables.push(Table {
            at,
            space,
            number: number_of_table,
            owner_kind: abi::ObjType::VSpace as u8,
            owner: space,
            note: address | 1,
        });
        s.entries[number].word = at | 7;
        Some(())
    });
    assert!(["counts", "reverse-map"].iter().all(|rule| rules.contains(rule)), "{rules:?}");
}

/// A SchedContext that was deleted while it was lent down a long chain of calls.
#[test]
fn time_that_is_dead_and_referred_to() {
    let rules = judged(|s| {
        let time = s.tasks.iter().find(|task| task.borrowed != 0)?.borrowed;
        delete(s, time);
        Some(())
    });
    assert!(rules.contains(&"references"), "{rules:?}");
}

/// A Notification that was deleted while the task to which it is bound moved.
#[test]
fn a_bound_notification_that_is_dead() {
    let rules = judged(|s| {
        let bound = s.tasks.iter().find(|task| task.bound != 0)?.bound;
        delete(s, bound);
        Some(())
    });
    assert!(rules.contains(&"references"), "{rules:?}");
}

/// A task and its Notification on two CPUs: a wake-up would be lost.
#[test]
fn a_bound_notification_that_stayed_behind() {
    let rules = judged(|s| {
        s.cpus.get(1)?;
        let bound = s.tasks.iter().find(|task| task.bound != 0)?.bound;
        let object = s.notifications.iter_mut().find(|object| object.at == bound)?;
        object.home = 1 - object.home.min(1);
        Some(())
    });
    assert_eq!(rules, ["references", "references", "moves"]);
}

/// The memory was given to a frame by plain stores while another CPU held the page's lock.
#[test]
fn counts_that_were_written_over() {
    let rules = judged(|s| {
        let info = s.infos.iter_mut().find(|info| info.mapped > 0 && !info.pooled)?;
        (info.mapped, info.writable, info.executable, info.first) = (0, 0, 0, 0);
        Some(())
    });
    assert_eq!(rules, ["counts"]);
}

/// A revoke that was cut short made the next one skip pages; then the memory was started again.
#[test]
fn a_page_in_a_pool_whose_memory_was_reset() {
    let rules = judged(|s| {
        let pooled =
            |info: &&snapshot::Info| info.pooled && s.frames.iter().any(|frame| frame.at == info.owner);
        let info = s.infos.iter().find(pooled)?;
        let (page, owner) = (info.at, info.owner);
        delete(s, owner);
        let holds = |untyped: &&mut snapshot::Untyped| page.wrapping_sub(untyped.base) < untyped.size;
        let untyped = s.untypeds.iter_mut().filter(holds).min_by_key(|untyped| untyped.size)?;
        (untyped.low, untyped.high) = (0, 0);
        Some(())
    });
    assert!(["page-owners", "mappings"].iter().all(|rule| rules.contains(rule)), "{rules:?}");
}

/// A page left its pool while its frame was being deleted, and was mapped again by the frame's
/// capability.
#[test]
fn a_page_that_is_mapped_although_its_frame_has_ended() {
    let rules = judged(|s| {
        let mapped = |info: &&mut snapshot::Info| info.mapped > 0 && !info.pooled && !info.device;
        let info = s.infos.iter_mut().find(mapped)?;
        let owner = info.owner;
        (info.owner, info.owner_kind, info.dying) = (0, 0, true);
        delete(s, owner);
        Some(())
    });
    assert!(["page-owners", "mappings"].iter().all(|rule| rules.contains(rule)), "{rules:?}");
}

/// The memory of such a frame went to a kernel object.
#[test]
fn an_object_that_user_level_writes() {
    let rules = judged(|s| {
        let mapped =
            |info: &&snapshot::Info| info.mapped > 0 && !info.pooled && !info.device && info.owner != 0;
        let info = *s.infos.iter().find(mapped)?;
        delete(s, info.owner);
        let context = s.contexts.first()?.at;
        s.extents.iter_mut().find(|extent| extent.at == context && extent.kind == ExtentKind::Object)?.at =
            info.at;
        Some(())
    });
    assert!(["page-owners", "mappings"].iter().all(|rule| rules.contains(rule)), "{rules:?}");
}

/// A task of a dying address space that was put on the kernel's own.
#[test]
fn a_task_that_runs_without_its_address_space() {
    let rules = judged(|s| {
        let cpu = s.cpus.iter_mut().find(|cpu| cpu.current != 0)?;
        cpu.vspace = 0;
        let id = cpu.id;
        s.hardwares.iter_mut().find(|hardware| hardware.cpu == id)?.cr3 = 0;
        Some(())
    });
    assert_eq!(rules, ["cpu-spaces"]);
}
