//! Capabilities: copies, moves, the derivation tree, and the end of the last capability.

use abi::{Cap, Error, ObjType, Op, Rights};
use user_rt::Result;
use user_rt::arch::Args;
use user_rt::cap::{Handle, Inspection, Notification, SchedContext};
use user_rt::invoke::{copy, copy_raw};
use user_rt::layout::slot;
use user_rt::spawn::own;

use crate::lab::{CHILD_FREE, Lab, Wanted};
use crate::suite::Outcome;
use crate::{expect, expect_eq, tests};

tests! {
    copies_are_of_one_object badges_stay revoke_takes_what_was_derived
    children_of_a_deleted_capability_move_up a_moved_capability_keeps_its_place
    slots_can_be_used_again_at_once deep_trees foreign_cspaces time_taken_away_and_given_again
    a_process_that_loses_its_cspace_ends
}

fn inspect(slot: Cap) -> Result<Option<Inspection>> {
    own::cnode().inspect(slot)
}

/// Makes a Notification in a slot of its own, and returns it with `count` empty slots.
fn original<const N: usize>(lab: &mut Lab<'_>) -> Result<(Notification, [Cap; N])> {
    let note: Notification = lab.nursery.make(0)?;
    let mut slots = [Cap::NULL; N];
    for slot in &mut slots {
        *slot = lab.nursery.take_slot()?;
    }
    Ok((note, slots))
}

fn derive(from: Cap, to: Cap) -> Result<()> {
    copy_raw(from, own::cnode().slot(to), Rights::ALL, 0)
}

/// Returns which of the slots are full.
fn full(slots: &[Cap]) -> Result<alloc::vec::Vec<bool>> {
    slots.iter().map(|slot| Ok(inspect(*slot)?.is_some())).collect()
}

fn copies_are_of_one_object(lab: &mut Lab<'_>) -> Outcome {
    let (note, [weak, weaker]) = original(lab)?;
    let other: Notification = lab.nursery.make(0)?;
    let rights = Rights::SEND | Rights::NOTIFY | Rights::LISTEN | Rights::GRANT;
    copy(&note, own::cnode().slot(weak), rights, 0)?;
    copy_raw(weak, own::cnode().slot(weaker), Rights::LISTEN, 0)?;
    let identity = |slot| inspect(slot).map(|seen| seen.map(|seen| seen.identity));
    expect_eq!(identity(weak)?, identity(note.cap())?, "a copy's object");
    expect_eq!(identity(weaker)?, identity(note.cap())?, "a copy's copy's object");
    expect!(identity(other.cap())? != identity(note.cap())?, "two objects look like one");
    let seen = inspect(weak)?.map(|seen| (seen.object, seen.rights, seen.badge));
    expect_eq!(seen, Some((ObjType::Notification, rights, 0)), "the copy");
    // Bits that one capability raises are visible through the other. A copy cannot do what it has
    // no right for.
    note.notify(4)?;
    let weaker = Notification::at(weaker);
    expect_eq!(weaker.poll()?, 4, "bits through the copies");
    expect_eq!(weaker.notify(1).map_err(|r| r.error), Err(Error::NoRight), "raising without NOTIFY");
    expect_eq!(weaker.poll().map_err(|r| r.error), Err(Error::WouldBlock), "bits after a refused notify");
    Ok(())
}

fn badges_stay(lab: &mut Lab<'_>) -> Outcome {
    let (note, [plain, badged, again]) = original(lab)?;
    let badge = 0xffff_ffff_ffff;
    copy(&note, own::cnode().slot(plain), Rights::ALL, 0)?;
    copy_raw(plain, own::cnode().slot(badged), Rights::ALL, badge)?;
    copy_raw(badged, own::cnode().slot(again), Rights::ALL, 5)?;
    for (slot, badge) in [(plain, 0), (badged, badge), (again, badge)] {
        expect_eq!(inspect(slot)?.map(|seen| seen.badge), Some(badge), "badge in slot {}", slot.0);
    }
    Ok(())
}

fn revoke_takes_what_was_derived(lab: &mut Lab<'_>) -> Outcome {
    let (note, [a, aa, aaa, b, ba]) = original(lab)?;
    for (from, to) in [(note.cap(), a), (a, aa), (aa, aaa), (note.cap(), b), (b, ba)] {
        derive(from, to)?;
    }
    own::cnode().revoke(aa)?;
    expect_eq!(full(&[a, aa, aaa, b, ba])?, [true, true, false, true, true], "after revoke of aa");
    own::cnode().revoke(a)?;
    expect_eq!(full(&[a, aa, aaa, b, ba])?, [true, false, false, true, true], "after revoke of a");
    own::cnode().revoke(note.cap())?;
    expect_eq!(full(&[note.cap(), a, b, ba])?, [true, false, false, false], "after revoke of all");
    note.notify(1)?;
    expect_eq!(note.poll()?, 1, "the object after revoke");
    Ok(())
}

fn children_of_a_deleted_capability_move_up(lab: &mut Lab<'_>) -> Outcome {
    let (note, [a, aa, aaa]) = original(lab)?;
    for (from, to) in [(note.cap(), a), (a, aa), (aa, aaa)] {
        derive(from, to)?;
    }
    own::cnode().delete(aa)?;
    expect_eq!(full(&[a, aa, aaa])?, [true, false, true], "after delete of aa");
    own::cnode().revoke(a)?;
    expect_eq!(full(&[a, aaa])?, [true, false], "revoke of a reaches its grandchild");
    Ok(())
}

fn a_moved_capability_keeps_its_place(lab: &mut Lab<'_>) -> Outcome {
    let (note, [a, aa, aaa, to]) = original(lab)?;
    for (from, to) in [(note.cap(), a), (a, aa), (aa, aaa)] {
        derive(from, to)?;
    }
    user_rt::invoke::transfer(Notification::at(aa), own::cnode().slot(to))?;
    expect_eq!(full(&[a, aa, aaa, to])?, [true, false, true, true], "after the move");
    own::cnode().revoke(to)?;
    expect_eq!(full(&[a, aaa, to])?, [true, false, true], "revoke of the moved one");
    own::cnode().revoke(a)?;
    expect_eq!(full(&[a, to])?, [true, false], "revoke of its parent");
    Ok(())
}

fn slots_can_be_used_again_at_once(lab: &mut Lab<'_>) -> Outcome {
    let (note, [to]) = original(lab)?;
    for round in 0..200 {
        copy(&note, own::cnode().slot(to), Rights::ALL, round + 1)?;
        expect_eq!(inspect(to)?.map(|seen| seen.badge), Some(round + 1), "round {round}");
        own::cnode().delete(to)?;
    }
    Ok(())
}

/// Revokes a chain and a fan of many copies, more than one kernel entry deletes.
fn deep_trees(lab: &mut Lab<'_>) -> Outcome {
    const MANY: usize = 400;
    /// A tree is at most 255 deep, and the original is not its first.
    const CHAIN: usize = 240;
    let (note, slots) = original::<MANY>(lab)?;
    let mut from = note.cap();
    for to in slots.into_iter().take(CHAIN) {
        derive(from, to)?;
        from = to;
    }
    own::cnode().revoke(note.cap())?;
    expect!(full(&slots)?.iter().all(|full| !full), "a link of the chain is left");
    for to in slots {
        derive(note.cap(), to)?;
    }
    own::cnode().revoke(note.cap())?;
    expect!(full(&slots)?.iter().all(|full| !full), "a leaf of the fan is left");
    Ok(())
}

fn foreign_cspaces(lab: &mut Lab<'_>) -> Outcome {
    let place = lab.process(false)?;
    let puppet = lab.puppet(&Wanted { place, ..Wanted::default() })?;
    let cnode = lab.child(place)?.cnode.again();
    let (note, [weak]) = original(lab)?;
    let slot = Cap(CHILD_FREE);
    copy(&note, cnode.slot(slot), Rights::NOTIFY, 0)?;
    let notify = Args::plain(Op::Notify, slot.arg(), 8, 0, 0);
    expect_eq!(lab.run(&puppet, &notify)?.error(), None, "the child's use of it");
    expect_eq!(note.poll()?, 8, "bits from the child");
    // Without GRANT a task can neither fill nor empty the foreign CSpace, only inspect it.
    copy(&cnode, own::cnode().slot(weak), Rights::ALL.minus(Rights::GRANT), 0)?;
    let weak = user_rt::cap::CNode::at(weak);
    let refused =
        copy(&note, weak.slot(Cap(CHILD_FREE + 1)), Rights::NONE, 0).map_err(|r| (r.error, r.detail));
    expect_eq!(refused, Err((Error::NoRight, u64::from(Rights::GRANT.0))), "filling");
    expect_eq!(weak.delete(slot).map_err(|r| r.error), Err(Error::NoRight), "emptying");
    expect_eq!(weak.inspect(slot)?.map(|seen| seen.rights), Some(Rights::NOTIFY), "looking");
    let blind = lab.nursery.take_slot()?;
    copy(&cnode, own::cnode().slot(blind), Rights::ALL.minus(abi::cnode_rights::OBSERVE.rights()), 0)?;
    let blind = user_rt::cap::CNode::at(blind);
    expect_eq!(blind.inspect(slot).map_err(|r| r.error), Err(Error::NoRight), "looking without OBSERVE");
    own::cnode().revoke(note.cap())?;
    expect_eq!(lab.run(&puppet, &notify)?.error(), Some(Error::NoCapability), "after the revoke");
    Ok(())
}

fn time_taken_away_and_given_again(lab: &mut Lab<'_>) -> Outcome {
    for cpu in 0..lab.cpus.min(2) {
        let puppet = lab.puppet(&Wanted { cpu, ..Wanted::default() })?;
        own::cnode().revoke(puppet.sched.cap())?;
        own::cnode().delete(puppet.sched.cap())?;
        lab.ask(&puppet, &Args::new(Op::Null))?;
        lab.stays_blocked(&puppet)?;
        if cpu == 0 {
            let sched: SchedContext = lab.nursery.make(0)?;
            sched.configure(crate::lab::PRIORITY, 1_000_000)?;
            sched.bind(&puppet.task)?;
            expect_eq!(lab.answer(&puppet)?.error(), None, "with time again");
        }
    }
    Ok(())
}

fn a_process_that_loses_its_cspace_ends(lab: &mut Lab<'_>) -> Outcome {
    let place = lab.process(false)?;
    let victim = lab.puppet(&Wanted { place, ..Wanted::default() })?;
    let client = lab.puppet(&Wanted::default())?;
    crate::ipc::call(lab, &client, &victim, 1)?;
    lab.stays_blocked(&client)?;
    let cnode = lab.child(place)?.cnode.again();
    // The child's own capability of its CNode is derived from this one.
    own::cnode().revoke(cnode.cap())?;
    own::cnode().delete(cnode.cap())?;
    crate::ipc::failed(lab, &client, Error::Dead, victim.id)?;
    expect!(inspect(slot::CNODE)?.is_some(), "the own CSpace");
    Ok(())
}
