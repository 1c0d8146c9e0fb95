//! System calls that take several entries end the object with which they began, and no object that
//! another task puts into the slot meanwhile.

use abi::{Cap, Error, ObjType, Op, Rights, Target};
use kern_base::notification::Notification;
use kern_base::task::State;

use crate::world::make::{INIT, at};
use crate::world::{Regs, World};

/// CPU 0 begins a system call that takes many entries.
pub fn begin(w: &mut World, op: Op, args: &[u64]) {
    w.begin(0, Regs::op(op, args));
    assert!(!w.is_over(0), "{op:?} is over at once");
}

/// Another CPU makes a system call meanwhile. CPU 0 is held up between two entries (by an
/// interrupt, say), and takes its mail.
pub fn beside(w: &mut World, op: Op, args: &[u64]) -> Result<u64, (Error, u64)> {
    w.hold(Some(0));
    w.begin(1, Regs::op(op, args));
    while !w.is_over(1) {
        let moved = [w.event(0), w.step(1)];
        assert_ne!(moved, [false; 2], "{op:?} does not end");
    }
    w.hold(None);
    let answer = w.agent(1).regs().result().map(|regs| regs.rdi);
    w.dismiss(1);
    answer
}

/// Memory for what takes long to end, and how much of it: a CNode is emptied slot by slot.
fn long(w: &mut World) -> Cap {
    let memory = w.make(0, ObjType::Untyped, 21);
    let _ = w.make_of(0, memory, ObjType::CNode, 1 << 14);
    memory
}

fn is_there(w: &World, note: Cap) -> bool {
    w.object::<Notification>(note).is_some()
}

#[test]
fn a_delete_leaves_what_comes_into_its_slot() {
    let mut w = World::with_memory(2, 16 << 20);
    let table = w.make(0, ObjType::CNode, 1 << 14);
    begin(&mut w, Op::CapDelete, &[at(table)]);
    let args = [Target::new(abi::INIT_UNTYPED, ObjType::Notification as u32).0, 0, at(table), 1];
    assert!(beside(&mut w, Op::Retype, &args).is_ok());
    assert!(!w.is_over(0) && is_there(&w, table));
    assert_eq!(w.finish(0).error(), None);
    assert!(is_there(&w, table), "the delete took it");
}

#[test]
fn a_revoke_leaves_copies_of_what_comes_into_its_slot() {
    let mut w = World::with_memory(2, 16 << 20);
    let memory = long(&mut w);
    let other = w.make(0, ObjType::Notification, 0);
    let (copy, aside) = (w.slot(), w.slot());
    w.must(0, Op::CapCopy, &[other.arg(), at(copy), 0, 0]);
    begin(&mut w, Op::CapRevoke, &[at(memory)]);
    assert_eq!(beside(&mut w, Op::CapMove, &[memory.arg(), at(aside)]), Ok(0));
    assert_eq!(beside(&mut w, Op::CapMove, &[other.arg(), at(memory)]), Ok(0));
    assert!(!w.is_over(0));
    assert_eq!(w.finish(0).error(), None);
    assert!(is_there(&w, copy), "the revoke took a copy of another object");
}

#[test]
fn a_kill_leaves_the_process_that_comes_into_its_slot() {
    let mut w = World::with_memory(2, 32 << 20);
    let (killed, other) = (w.process_of(abi::INIT_UNTYPED, 4, 1 << 14), w.process());
    let lives = w.start(other, 0, 5);
    let copy = w.slot();
    w.must(0, Op::CapCopy, &[killed.process.arg(), at(copy), u64::from(Rights::ALL.0), 0]);
    begin(&mut w, Op::ProcessKill, &[killed.process.arg()]);
    assert_eq!(beside(&mut w, Op::CapDelete, &[at(killed.process)]), Ok(0));
    assert_eq!(beside(&mut w, Op::CapMove, &[other.process.arg(), at(killed.process)]), Ok(0));
    let slot = u64::from(killed.process.0);
    assert_eq!(w.finish(0).result().map(drop), Err((Error::NoCapability, slot)));
    w.run();
    assert_ne!(lives.state(), State::Dead, "nobody killed it");
}

/// An Untyped that is being reset cannot be moved: the resetting task could not open it again.
#[test]
fn what_is_being_reset_is_not_moved() {
    let mut w = World::with_memory(2, 32 << 20);
    let memory = long(&mut w);
    begin(&mut w, Op::UntypedReset, &[memory.arg(), 0]);
    let (aside, made) = (w.slot(), w.slot());
    let moved = beside(&mut w, Op::CapMove, &[memory.arg(), at(aside)]);
    assert_eq!(moved.map_err(|(error, _)| error), Err(Error::Dying));
    assert_eq!(w.finish(0).error(), None);
    w.must(0, Op::CapMove, &[memory.arg(), at(aside)]);
    let args = [Target::new(aside, ObjType::Notification as u32).0, 0, at(made), 1];
    w.must(0, Op::Retype, &args);
}

/// The first Untyped is deleted in the middle of its reset, and another comes into the slot.
#[test]
fn a_reset_leaves_the_untyped_that_comes_into_its_slot() {
    let mut w = World::with_memory(2, 32 << 20);
    let memory = long(&mut w);
    let other = w.make(0, ObjType::Untyped, 16);
    let note = w.make_of(0, other, ObjType::Notification, 0);
    begin(&mut w, Op::UntypedReset, &[memory.arg(), 0]);
    assert_eq!(beside(&mut w, Op::CapDelete, &[at(memory)]), Ok(0));
    assert_eq!(beside(&mut w, Op::CapMove, &[other.arg(), at(memory)]), Ok(0));
    assert!(!w.is_over(0));
    assert_eq!(w.finish(0).result().map(drop), Err((Error::NoCapability, u64::from(memory.0))));
    assert!(is_there(&w, note), "the reset took what was made of another");
}

/// The deleting task of an Untyped is killed in the middle: a reset opens the Untyped again.
#[test]
fn a_reset_opens_what_a_delete_that_was_cut_short_has_closed() {
    let mut w = World::with_memory(2, 16 << 20);
    let memory = w.make(0, ObjType::Untyped, 16);
    for _ in 0..100 {
        let _ = w.make_of(1, memory, ObjType::Notification, 0);
    }
    let worker = w.start(INIT, 1, 10);
    w.does(&worker, Regs::op(Op::CapDelete, &[at(memory)]));
    assert!(worker.must_restart());
    w.begin(0, Regs::op(Op::TaskKill, &[worker.cap.arg()]));
    while w.event(1) {}
    w.finish(0);
    assert_eq!(worker.state(), State::Dead);
    let slot = w.slot();
    let args = [Target::new(memory, ObjType::Notification as u32).0, 0, at(slot), 1];
    assert_eq!(w.ask(0, Op::Retype, &args).map(drop).map_err(|(error, _)| error), Err(Error::Dying));
    w.must(0, Op::UntypedReset, &[memory.arg(), 0]);
    w.must(0, Op::Retype, &args);
}
