//! The derivation trees: well-formed, and every reference counted.

use std::collections::BTreeMap;

use kern_base::header::FLAG_DEAD;
use smp::host_test;

use super::{Seen, header, hold};
use crate::world::World;

pub fn check(world: &World, seen: &Seen) {
    links(seen);
    depths(world, seen);
    references(seen);
}

fn links(seen: &Seen) {
    let pin = host_test::pin(0);
    for (at, slot) in &seen.slots {
        let (next, prev) = (slot.get().next.get(pin), slot.get().prev.get(pin));
        if let Some(next) = next {
            hold!(next.get().prev.is(*slot), "slot {at:#x}: its next does not know it");
            hold!(
                seen.slots.contains_key(&next.addr()),
                "slot {at:#x}: its next is in no table that can be found"
            );
        }
        if let Some(prev) = prev {
            hold!(prev.get().next.is(*slot), "slot {at:#x}: its previous does not know it");
            hold!(seen.slots.contains_key(&prev.addr()), "slot {at:#x}: its previous is in no table");
        }
    }
    for slot in &seen.empty {
        let linked = !slot.get().next.is_null() || !slot.get().prev.is_null();
        hold!(!linked, "an empty slot is part of a tree");
    }
}

/// A child's depth is one more than its parent's, unless a slot is just leaving.
fn depths(world: &World, seen: &Seen) {
    let pin = host_test::pin(0);
    if world.k.roots.iter().any(|root| !root.lock().leaving.is_null()) {
        return;
    }
    for slot in seen.slots.values() {
        let depth = slot.get().depth();
        match slot.get().prev.get(pin) {
            Some(prev) => {
                hold!(depth <= prev.get().depth() + 1, "a slot is too deep for what stands before it")
            }
            None => hold!(depth == 0, "the first slot of a tree has depth {depth}"),
        }
    }
}

fn references(seen: &Seen) {
    let pin = host_test::pin(0);
    let mut count: BTreeMap<u64, u32> = BTreeMap::new();
    for slot in seen.slots.values() {
        *count.entry(slot.get().word.load(pin).addr()).or_default() += 1;
    }
    for slot in seen.slots.values() {
        let Some((header, kind)) = header(*slot) else { continue };
        let slots = count[&slot.get().word.load(pin).addr()];
        hold!(header.refs() == slots, "a {kind:?} has {slots} slots and {} references", header.refs());
        let ended_first = matches!(
            kind,
            Some(
                abi::ObjType::Task
                    | abi::ObjType::SchedContext
                    | abi::ObjType::Notification
                    | abi::ObjType::Reply
            )
        );
        hold!(ended_first || !header.has_flag(FLAG_DEAD), "a {kind:?} is dead with {slots} slots");
    }
}
