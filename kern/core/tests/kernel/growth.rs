//! CSpaces of several tables, case by case.

use abi::audit::{CAP_ENTRY_WORDS, CapEntry};
use abi::{Cap, Error, ObjType, Op, Rights, Target, process_rights};
use kern_base::process::Process;
use std::sync::atomic::Ordering::Relaxed;

use crate::scene::{Scene, call};
use crate::world::make::{Proc, at};
use crate::world::{Regs, World};

fn ask(w: &mut World, op: Op, args: &[u64]) -> Result<u64, (Error, u64)> {
    w.ask(0, op, args).map(|regs| regs.rdi)
}

/// Adds a table of so many slots to a process's CSpace: its capability, and the number of its slot
/// 1.
fn grow(w: &mut World, process: Proc, slots: u64) -> (Cap, Cap) {
    let table = w.make(0, ObjType::CNode, slots);
    let first = w.must(0, Op::CSpaceGrow, &[process.process.arg(), table.arg()]).rdi;
    (table, Cap(first as u32))
}

fn slots(w: &mut World, cnode: Cap) -> Vec<u32> {
    let (mut found, mut next) = (Vec::new(), 0);
    loop {
        let answer = w.must(0, Op::CapList, &[Target::new(cnode, next).0]);
        let agent = w.agent(0);
        let bulk = &agent.object.get().utcb(agent.pin()).bulk;
        for n in 0..answer.rsi as usize {
            let words = std::array::from_fn(|i| bulk[n * CAP_ENTRY_WORDS + i].load(Relaxed));
            found.push(CapEntry::from_words(words).expect("an entry").slot);
        }
        next = answer.rdi as u32;
        if next == 0 {
            return found;
        }
    }
}

#[test]
fn numbers_go_on_from_table_to_table() {
    let mut s = Scene::new(1);
    let child = s.w.process_of(abi::INIT_UNTYPED, 4, 64);
    s.w.give(child.cnode, child, Cap(1));
    s.w.give(child.process, child, Cap(2));
    let task = s.w.start(child, 0, 10);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.give(note, child, Cap(3));
    let (second, at_second) = grow(&mut s.w, child, 10);
    let (third, at_third) = grow(&mut s.w, child, 1000);
    assert_eq!((at_second, at_third), (Cap(65), Cap(75)));
    let own = |s: &mut Scene, op: Op, args: &[u64]| {
        s.w.does_and_run(&task, Regs::op(op, args));
        s.w.result(&task).result().map(|regs| regs.rdi)
    };
    let rights = u64::from(Rights::NOTIFY.0);
    // The process counts them through.
    for slot in [4, 63, 65, 73, 75, 1073] {
        let copied = own(&mut s, Op::CapCopy, &[Cap(3).arg(), Target::new(Cap(1), slot).0, rights, 0]);
        assert_eq!(copied, Ok(0), "slot {slot}");
    }
    for slot in [64, 74, 1074, u32::MAX] {
        let copied = own(&mut s, Op::CapCopy, &[Cap(3).arg(), Target::new(Cap(1), slot).0, rights, 0]);
        assert_eq!(copied, Err((Error::NoCapability, u64::from(slot))));
    }
    // A capability of a table is of that one.
    let copy = |s: &mut Scene, cnode: Cap, slot: u32| {
        ask(&mut s.w, Op::CapCopy, &[note.arg(), Target::new(cnode, slot).0, rights, 0])
    };
    assert_eq!(copy(&mut s, second, 1), Err((Error::SlotOccupied, 0)), "it is number 65");
    assert_eq!(copy(&mut s, third, 5), Ok(0));
    for (table, slot) in [(child.cnode, 66), (second, 11), (third, 1000)] {
        assert_eq!(copy(&mut s, table, slot), Err((Error::NoCapability, u64::from(slot))));
    }
    assert_eq!(slots(&mut s.w, child.process), [1, 2, 3, 4, 63, 65, 73, 75, 79, 1073]);
    assert_eq!(slots(&mut s.w, child.cnode), [1, 2, 3, 4, 63]);
    assert_eq!(slots(&mut s.w, second), [1, 9]);
    assert_eq!(slots(&mut s.w, third), [1, 5, 999]);
    let held = [child.process.arg(), note.arg(), rights, 70];
    assert_eq!(ask(&mut s.w, Op::CapVerify, &held), Ok(73));
    let at_1000 = Target::new(Cap(1), 1000).0;
    assert_eq!(own(&mut s, Op::CapDelete, &[Target::new(Cap(1), 1073).0]), Ok(0));
    assert_eq!(own(&mut s, Op::CapMove, &[Cap(3).arg(), at_1000]), Ok(0));
    assert_eq!(own(&mut s, Op::CapRevoke, &[at_1000]), Ok(0));
    assert_eq!(slots(&mut s.w, child.process), [1, 2, 79, 1000]);
}

#[test]
fn capabilities_of_an_added_table_work() {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 12);
    let child = s.w.process_of(abi::INIT_UNTYPED, 4, 64);
    let (table, first) = grow(&mut s.w, child, 8);
    // Membership is offered there.
    s.w.must(0, Op::ProcessAccept, &[child.process.arg(), u64::from(first.0) + 2, s.group.arg()]);
    s.w.must(0, Op::GroupAdd, &[s.group.arg(), child.process.arg(), u64::from(Rights::SEND.0), 0]);
    let client = s.w.start(child, 0, 10);
    s.w.does_and_run(&client, call(Target::new(Cap(first.0 + 2), target.index())));
    assert_eq!(s.w.result(&server).msg(), [1, 2, 3, 4]);
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [9; 4]));
    assert_eq!(s.w.result(&client).msg(), [9; 4]);
    // The process is killed: it leaves the group that its second table names.
    s.w.must(0, Op::ProcessKill, &[child.process.arg()]);
    s.w.run();
    let args = [Target::new(s.group, 1).0];
    assert_eq!(ask(&mut s.w, Op::GroupRemove, &args), Err((Error::NotMember, 1)));
    // Its tables are free for others.
    let other = s.w.process_of(abi::INIT_UNTYPED, 4, 64);
    s.w.must(0, Op::CSpaceGrow, &[other.process.arg(), table.arg()]);
}

#[test]
fn a_table_that_ends_takes_its_process_along() {
    for by_reset in [false, true] {
        let mut s = Scene::new(2);
        let memory = s.w.make(0, ObjType::Untyped, 14);
        let child = s.w.process();
        let table = s.w.make_of(0, memory, ObjType::CNode, 16);
        s.w.must(0, Op::CSpaceGrow, &[child.process.arg(), table.arg()]);
        let (behind, _) = grow(&mut s.w, child, 16);
        let task = s.w.start(child, 1, 10);
        if by_reset {
            s.w.must(0, Op::UntypedReset, &[memory.arg()]);
        } else {
            s.delete(table);
        }
        assert_eq!(ask(&mut s.w, Op::TaskResume, &[task.cap.arg()]), Err((Error::BadState, 0)), "it is dead");
        let process = s.w.object::<Process>(child.process).expect("the process");
        assert!(process.get().cnode.is_null());
        let other = s.w.process();
        s.w.must(0, Op::CSpaceGrow, &[other.process.arg(), behind.arg()]);
        s.w.must(0, Op::UntypedReset, &[memory.arg()]);
    }
}

#[test]
fn who_lives_in_a_table_keeps_it() {
    let mut s = Scene::new(1);
    let memory = s.w.make(0, ObjType::Untyped, 16);
    let table = s.w.make_of(0, memory, ObjType::CNode, 16);
    s.w.must(0, Op::CSpaceGrow, &[abi::INIT_PROCESS.arg(), table.arg()]);
    assert_eq!(ask(&mut s.w, Op::CapDelete, &[at(table)]), Err((Error::InUse, 0)));
    assert_eq!(ask(&mut s.w, Op::UntypedReset, &[memory.arg(), 0]), Err((Error::InUse, 0)));
    s.w.must(0, Op::CapInspect, &[at(table)]);
}

#[test]
fn what_cannot_be_added_is_refused() {
    let mut s = Scene::new(1);
    let (child, other) = (s.w.process(), s.w.process());
    let (table, _) = grow(&mut s.w, child, 4);
    for of in [child, other] {
        for used in [table, child.cnode, other.cnode] {
            let args = [of.process.arg(), used.arg()];
            assert_eq!(ask(&mut s.w, Op::CSpaceGrow, &args), Err((Error::InUse, 0)));
        }
    }
    let bare = s.w.make(0, ObjType::Process, 1);
    let spare = s.w.make(0, ObjType::CNode, 4);
    let args = [bare.arg(), spare.arg()];
    assert_eq!(ask(&mut s.w, Op::CSpaceGrow, &args), Err((Error::BadState, 0)));
    s.w.must(0, Op::LabelSet, &[abi::INIT_MACHINE.arg(), spare.arg(), 2]);
    let args = [child.process.arg(), spare.arg()];
    assert_eq!(ask(&mut s.w, Op::CSpaceGrow, &args), Err((Error::Forbidden, 2)));
    s.w.must(0, Op::LabelSet, &[abi::INIT_MACHINE.arg(), spare.arg(), 0]);
    for _ in 2..16 {
        grow(&mut s.w, child, 2);
    }
    assert_eq!(ask(&mut s.w, Op::CSpaceGrow, &args), Err((Error::Full, 16)));
    // It is nobody's, then.
    s.w.must(0, Op::CSpaceGrow, &[other.process.arg(), spare.arg()]);
    // A label is that of all tables.
    s.w.must(0, Op::LabelSet, &[abi::INIT_MACHINE.arg(), other.process.arg(), 5]);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.must(0, Op::LabelRule, &[abi::INIT_MACHINE.arg(), 5, 0, 0]);
    let give = [note.arg(), Target::new(spare, 2).0, 0, 0];
    assert_eq!(ask(&mut s.w, Op::CapCopy, &give), Err((Error::Forbidden, 5 << 32)));
    let weak = s.w.slot();
    s.w.must(0, Op::CapCopy, &[child.process.arg(), at(weak), 0, 0]);
    let missing = u64::from(process_rights::CONFIGURE.rights().0);
    assert_eq!(ask(&mut s.w, Op::CSpaceGrow, &[weak.arg(), spare.arg()]), Err((Error::NoRight, missing)));
}
