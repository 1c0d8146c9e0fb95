//! Reclaim, case by case.

use abi::{Cap, Error, ObjType, Op, Rights, Target};
use kern_base::header::FLAG_DEAD;
use kern_base::notification::Notification;
use kern_core::door::entry::Interrupt;

use crate::scene::{GROUP, Scene};
use crate::world::make::at;
use crate::world::{Regs, World};

/// A process's own CNode, and a slot of it.
const OWN: Cap = Cap(1);
const PLACE: Target = Target::new(OWN, 6);

#[test]
fn a_cpu_that_left_by_iret_is_not_asked() {
    let mut s = Scene::new(3);
    let (user, _) = s.running(0, 10);
    let others = [s.running(1, 10).0, s.running(2, 10).0];
    s.w.give(s.process.cnode, s.process, OWN);
    s.w.give(user.cap, s.process, Cap(6));
    let spare = s.w.slot();
    let copy = |to: u64| Regs::op(Op::CapCopy, &[user.cap.arg(), to, u64::from(Rights::ALL.0), 0]);
    s.w.call(0, copy(at(spare)));
    s.w.must(0, Op::CapDelete, &[at(spare)]);
    // The agent's round asks both, and both answer.
    s.w.begin(0, copy(at(spare)));
    assert_eq!(s.w.woken(), [1, 2]);
    s.w.event(1);
    s.w.event(2);
    // While it goes on, another task needs one, from now on. CPU 1 enters and leaves once more.
    s.w.does(&user, Regs::op(Op::CapDelete, &[PLACE.0]));
    s.w.does(&user, Regs::op(Op::CapCopy, &[GROUP.arg(), PLACE.0, 0, 0]));
    s.w.interrupt(1, Interrupt::Timer);
    s.w.event(0);
    let asked = [1, 2].map(|n| s.w.block(n).mailbox().has_mail());
    assert_eq!(asked, [false, true], "the second round asks who has not left since");
    s.w.finish(0);
    s.w.run();
    assert_eq!(s.w.result(&user).error(), None);
    assert!(others.iter().enumerate().all(|(i, task)| s.w.runs(i + 1, task)));
}

#[test]
fn nobody_waits_for_what_is_ending() {
    let mut s = Scene::new(2);
    let note = s.w.make(1, ObjType::Notification, 0);
    // The last capability is on its way out; the Notification's own CPU has stopped it.
    s.w.begin(0, Regs::op(Op::CapDelete, &[at(note)]));
    s.w.event(1);
    let refused = s.w.ask(1, Op::Wait, &[note.arg()]);
    assert!(matches!(refused, Err((Error::Dying | Error::NoCapability, _))), "{refused:?}");
    s.w.finish(0);
}

#[test]
fn memory_with_an_unfinished_cnode_is_not_reset() {
    let mut s = Scene::new(1);
    let memory = s.w.make(0, ObjType::Untyped, 16);
    let table = s.w.make_of(0, memory, ObjType::CNode, 16);
    // The last capability of what the caller itself runs in: nobody can end that from in there.
    s.w.must(0, Op::CapMove, &[abi::INIT_VSPACE.arg(), Target::new(table, 3).0]);
    let refused = s.w.ask(0, Op::UntypedReset, &[memory.arg()]);
    assert_eq!(refused.map_err(|e| e.0), Err(Error::InUse));
    s.w.run();
}

#[test]
fn memory_that_could_not_end_serves_on() {
    let mut s = Scene::new(1);
    let memory = s.w.make(0, ObjType::Untyped, 18);
    let process = s.w.process_of(memory, 2, 16);
    let inhabitant = s.w.start(process, 0, 10);
    s.w.give(process.cnode, process, OWN);
    s.w.must(0, Op::CapMove, &[memory.arg(), Target::new(process.cnode, PLACE.index()).0]);
    let note = s.w.slot();
    s.w.does_and_run(&inhabitant, Regs::op(Op::CapDelete, &[PLACE.0]));
    assert_eq!(s.w.result(&inhabitant).error(), Some(Error::InUse));
    let from = Target::new(Cap(PLACE.index()), ObjType::Notification as u32).0;
    s.w.does_and_run(&inhabitant, Regs::op(Op::Retype, &[from, 0, Target::new(OWN, 9).0, 1]));
    assert_eq!(s.w.result(&inhabitant).error(), None);
    // A pinned frame keeps it, too, and what is not gone by then.
    let own = s.w.make(0, ObjType::Untyped, 16);
    let frame = s.w.make_of(0, own, ObjType::Frame, 12);
    s.w.must(0, Op::FramePin, &[frame.arg(), abi::INIT_MACHINE.arg()]);
    assert_eq!(s.w.ask(0, Op::CapDelete, &[at(own)]).map(drop), Err((Error::InUse, 0)));
    let from = Target::new(own, ObjType::Notification as u32).0;
    s.w.must(0, Op::Retype, &[from, 0, at(note), 1]);
    s.w.must(0, Op::FrameUnpin, &[frame.arg(), abi::INIT_MACHINE.arg()]);
    s.w.must(0, Op::CapDelete, &[at(own)]);
}

#[test]
fn deletes_end_however_many_cnodes_cannot_be_emptied() {
    /// More than slots that one entry looks at.
    const PINNED: u64 = 300;
    let mut w = World::with_memory(1, 32 << 20);
    let memory = w.make(0, ObjType::Untyped, 22);
    for _ in 0..PINNED {
        let table = w.make_of(0, memory, ObjType::CNode, 2);
        let frame = w.make_of(0, memory, ObjType::Frame, 12);
        w.must(0, Op::FramePin, &[frame.arg(), abi::INIT_MACHINE.arg()]);
        w.must(0, Op::CapMove, &[frame.arg(), Target::new(table, 1).0]);
        w.must(0, Op::CapDelete, &[at(table)]);
    }
    // What can be emptied is.
    let table = w.make(0, ObjType::CNode, 2);
    let note = w.make(0, ObjType::Notification, 0);
    let object = w.object::<Notification>(note).expect("the Notification").get();
    w.must(0, Op::CapMove, &[note.arg(), Target::new(table, 1).0]);
    w.must(0, Op::CapDelete, &[at(table)]);
    assert!(object.header.has_flag(FLAG_DEAD));
    assert_eq!(w.ask(0, Op::UntypedReset, &[memory.arg(), 0]).map(drop), Err((Error::InUse, 0)));
    w.must(0, Op::UntypedReset, &[memory.arg(), 1, 0, abi::INIT_MACHINE.arg()]);
}
