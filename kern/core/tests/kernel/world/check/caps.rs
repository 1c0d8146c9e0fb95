//! The derivation trees: well-formed, and every reference counted. Processes and their spaces know each other.

use std::collections::BTreeMap;

use kern_base::header::FLAG_DEAD;
use kern_base::memory::{Reset, Untyped, VSpace};
use kern_base::process::Process;
use kern_base::slot::CNode;
use kern_core::caps::is_claimed;
use smp::host_test;

use super::{Seen, header, hold};
use crate::world::World;

pub fn check(world: &World, seen: &Seen) {
    links(seen);
    depths(world, seen);
    references(seen);
    spaces(world, seen);
    resets(world, seen);
    let claimed =
        seen.empty.iter().filter(|slot| is_claimed(slot.get().word.load(host_test::pin(0)))).count();
    hold!(claimed == 0, "{claimed} slots are claimed, and nobody fills them");
}

fn spaces(world: &World, seen: &Seen) {
    let (pin, look) = (host_test::pin(0), world.look(0));
    for process in seen.objects::<Process>() {
        let first = process.get().cnode.get(pin).into_iter();
        for table in first.flat_map(|first| look.tables(first)) {
            hold!(table.get().process.is(process), "a process has a CNode that is not its own");
        }
        let space = process.get().vspace.get(pin);
        hold!(
            space.is_none_or(|space| space.get().process.is(process)),
            "a process has an address space that is not its own"
        );
    }
    for table in seen.objects::<CNode>() {
        let process = table.get().process.get(pin);
        let mut tables =
            process.and_then(|p| p.get().cnode.get(pin)).into_iter().flat_map(|c| look.tables(c));
        hold!(process.is_none() || tables.any(|of| of == table), "a CNode's process does not know it");
    }
    for space in seen.objects::<VSpace>() {
        let process = space.get().process.get(pin);
        hold!(
            process.is_none_or(|p| p.get().vspace.is(space)),
            "an address space's process does not know it"
        );
    }
}

/// What waits to start again has nothing that was made of it.
fn resets(world: &World, seen: &Seen) {
    let pin = host_test::pin(0);
    for slot in seen.slots.values() {
        let untyped = slot.get().word.load(pin).get::<Untyped>();
        let waits =
            untyped.is_some_and(|untyped| world.k.roots.open(pin, untyped.get()).reset().get() != Reset::No);
        let next = slot.get().next.get(pin).filter(|next| next.get().depth() > slot.get().depth());
        hold!(!waits || next.is_none(), "an Untyped that is to start again has descendants");
    }
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
    if world.k.roots.iter().any(|root| !root.lock(pin, &"a root").leaving.is_null()) {
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
