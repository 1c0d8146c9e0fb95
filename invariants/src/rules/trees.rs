//! Derivation trees: one list of slots for each root, in preorder.

use snapshot::{CNode, Slot, SlotUse};

use crate::facts::Facts;
use crate::index::Kind;
use crate::report::Findings;

fn full<'a>(f: &Facts<'a>) -> impl Iterator<Item = &'a Slot> + use<'a> {
    f.s.slots.iter().filter(|slot| slot.used == SlotUse::Full)
}

/// Returns the derivation root of a slot's tree, which is that of its object.
fn root_of(f: &Facts<'_>, slot: &Slot) -> Option<u32> {
    if f.is_object(slot.kind, slot.object) { f.root_of(slot.object) } else { None }
}

fn say(slot: &Slot) -> String {
    format!("slot {} of {:#x} ({:#x})", slot.number, slot.table, slot.at)
}

/// Each full slot names an object of its type. Its neighbours in the tree are full slots that know
/// it, of the same root. An empty slot has no neighbours.
pub fn links(f: &Facts<'_>, out: &mut Findings) {
    for slot in &f.s.slots {
        if slot.used != SlotUse::Full {
            let free = slot.next | slot.prev == 0 || f.any_root_locked();
            hold!(out, free, "{} is empty, and part of a tree", say(slot));
            continue;
        }
        let Some(root) = root_of(f, slot) else {
            out.add(format_args!(
                "{} has a capability of type {} for {}",
                say(slot),
                slot.kind,
                f.name(slot.object)
            ));
            continue;
        };
        if f.is_root_locked(root) {
            continue;
        }
        for (which, at) in
            [("next", slot.next), ("previous", slot.prev)].into_iter().filter(|(_, at)| *at != 0)
        {
            let Some(other) = f.slot(at) else {
                out.add(format_args!("the {which} of {} is {}", say(slot), f.name(at)));
                continue;
            };
            let back = if which == "next" { other.prev } else { other.next };
            hold!(out, back == slot.at, "the {which} of {} does not know it", say(slot));
            hold!(out, root_of(f, other) == Some(root), "the {which} of {} is of another root", say(slot));
        }
    }
}

/// A slot's floor is at most its depth, and at most one more than the depth of the slot before it.
/// The first slot of a tree has depth 0.
pub fn depths(f: &Facts<'_>, out: &mut Findings) {
    for slot in full(f) {
        let Some(root) = root_of(f, slot) else { continue };
        hold!(out, slot.depth <= f.kernel.depth_max, "{} is {} deep", say(slot), slot.depth);
        if f.root(root).is_some_and(|root| root.locked) {
            continue;
        }
        let prev = f.slot(slot.prev);
        let most = prev.map_or(0, |prev| prev.depth + 1).min(slot.depth);
        hold!(out, slot.floor <= most, "{} has floor {}, of {most} at most", say(slot), slot.floor);
        hold!(out, prev.is_some() || slot.depth == 0, "{} is first, and {} deep", say(slot), slot.depth);
    }
}

/// An object's reference count is the number of slots that have it. Only a CNode that is being
/// emptied has none. An object that has a capability is not dead, except a task, a SchedContext, a
/// Notification or a Reply, which end first.
pub fn reference_counts(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() || f.any_root_locked() {
        return;
    }
    let mut counts = vec![0u32; f.index.count];
    for place in full(f).filter_map(|slot| f.index.place(slot.object)) {
        counts[place] += 1;
    }
    let mut judge = |kind: Kind, at: u64, refs: u32, dead: bool| {
        let slots = f.index.place(at).map_or(0, |place| counts[place]);
        hold!(out, refs == slots, "{kind:?} {at:#x} has {slots} slots, and counts {refs}");
        hold!(out, slots != 0 || kind == Kind::CNode, "{kind:?} {at:#x} has no capability, and lives");
        let first = matches!(kind, Kind::Task | Kind::Context | Kind::Notification | Kind::Reply);
        hold!(out, !dead || first, "{kind:?} {at:#x} is dead, with {slots} slots");
    };
    macro_rules! judge {
        ($($list:ident $kind:ident;)*) => {
            $(f.s.$list.iter().for_each(|object| judge(Kind::$kind, object.at, object.refs, object.dead));)*
        };
    }
    judge! {
        untypeds Untyped;
        cnodes CNode;
        vspaces VSpace;
        frames Frame;
        processes Process;
        tasks Task;
        contexts Context;
        groups Group;
        notifications Notification;
        replies Reply;
        machines Machine;
        pools Pool;
    }
}

/// Slot 0 of a CNode is empty: a number that the table does not have leads there.
pub fn first_slots(f: &Facts<'_>, out: &mut Findings) {
    for slot in f.s.slots.iter().filter(|slot| slot.number == 0 && f.cnode(slot.table).is_some()) {
        hold!(out, slot.used == SlotUse::Empty, "{} is {:?}", say(slot), slot.used);
    }
}

/// No slot is claimed or just being emptied: nobody would ever fill it.
pub fn claims(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() {
        return;
    }
    for slot in f.s.slots.iter().filter(|slot| matches!(slot.used, SlotUse::Claimed | SlotUse::Emptying)) {
        out.add(format_args!("{} is {:?}, and no CPU fills it", say(slot), slot.used));
    }
}

/// What is made of an Untyped's memory is derived from the Untyped's capability: so a revoke finds
/// it.
pub fn made_of(f: &Facts<'_>, out: &mut Findings) {
    let homes = homes(f);
    let mut above: Vec<u64> = Vec::new();
    for first in full(f).filter(|slot| slot.prev == 0) {
        let Some(root) = root_of(f, first) else { continue };
        if f.root(root).is_some_and(|root| root.locked) {
            continue;
        }
        above.clear();
        let slots = std::iter::successors(Some(first), |slot| f.slot(slot.next));
        for slot in slots.take(f.s.slots.len()) {
            // The Untyped that each slot from the tree's first down to this one descends from.
            above.truncate(slot.floor as usize);
            let untyped = above.last().copied().unwrap_or(0);
            let home = f.index.place(slot.object).map_or(0, |place| homes[place]);
            hold!(
                out,
                home == untyped,
                "{} has {}, made of {}, and descends from {}",
                say(slot),
                f.name(slot.object),
                f.name(home),
                f.name(untyped)
            );
            let its = if slot.kind == Kind::Untyped as u8 { slot.object } else { untyped };
            above.resize(slot.depth as usize, untyped);
            above.push(its);
        }
    }
}

/// Returns, for each object by its number among all, the address of the Untyped in whose memory it
/// is.
fn homes(f: &Facts<'_>) -> Vec<u64> {
    let mut homes = vec![0; f.index.count];
    for piece in f.index.pieces.iter().filter(|piece| piece.start == piece.object) {
        let untyped = piece.inside.checked_sub(1).and_then(|number| f.s.untypeds.get(number as usize));
        if let Some((place, untyped)) = f.index.place(piece.object).zip(untyped) {
            homes[place] = untyped.at;
        }
    }
    homes
}

/// An Untyped that waits to start its memory again has no object that was made of it.
pub fn revoked(f: &Facts<'_>, out: &mut Findings) {
    for slot in full(f).filter(|slot| slot.kind == Kind::Untyped as u8) {
        let Some(untyped) = f.untyped(slot.object).filter(|untyped| untyped.revoked) else { continue };
        if f.is_root_locked(untyped.root) {
            continue;
        }
        let child = f.slot(slot.next).filter(|next| next.floor > slot.depth);
        hold!(
            out,
            child.is_none(),
            "Untyped {:#x} waits to reuse its memory, and has descendants",
            untyped.at
        );
        hold!(
            out,
            untyped.resetting,
            "Untyped {:#x} waits to reuse its memory, and no reset is under way",
            untyped.at
        );
    }
}

/// The badge of a group's capability names a member record of that group: a fastpath relies on it.
/// A capability allows no more than there are rights.
pub fn badges(f: &Facts<'_>, out: &mut Findings) {
    for slot in full(f) {
        let known = slot.rights & !abi::Rights::ALL.0 == 0;
        hold!(out, known, "{} has rights {:#x}", say(slot), slot.rights);
        if slot.kind == Kind::Group as u8
            && let Some(group) = f.group(slot.object)
        {
            let offset = slot.badge & 0xffff_ffff;
            let fits = offset % 8 == 0 && offset / 8 < u64::from(group.members);
            hold!(out, fits, "{} has badge {:#x}, in a group of {}", say(slot), slot.badge, group.members);
        }
    }
}

/// A CNode without a capability belongs to one Untyped, which has it in its ring once, and one in a
/// ring has no capability. It is not dead before it is empty.
pub fn zombies(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() || f.any_root_locked() {
        return;
    }
    let ring = |first: u64| {
        let next = move |cnode: &&_| ring_next(f, cnode, first);
        std::iter::successors(f.cnode(first), next).take(f.s.cnodes.len() + 1)
    };
    let listed: Vec<u64> =
        f.s.untypeds.iter().flat_map(|untyped| ring(untyped.zombies)).map(|cnode| cnode.at).collect();
    for cnode in &f.s.cnodes {
        let times = listed.iter().filter(|at| **at == cnode.at).count();
        let wanted = usize::from(cnode.refs == 0);
        hold!(
            out,
            times == wanted,
            "CNode {:#x} has {} capabilities, and is in {times} rings",
            cnode.at,
            cnode.refs
        );
        hold!(out, !cnode.dead, "CNode {:#x} is dead, and can be found", cnode.at);
        hold!(out, cnode.refs != 0 || cnode.dying, "CNode {:#x} is emptied, and not dying", cnode.at);
    }
}

/// Returns the CNode after one in the ring that begins with `first`, unless it is that one.
fn ring_next<'a>(f: &Facts<'a>, cnode: &CNode, first: u64) -> Option<&'a CNode> {
    f.cnode(cnode.next_zombie).filter(|next| next.at != first)
}
