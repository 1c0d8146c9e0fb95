//! The holders of capabilities, case by case.

use std::collections::BTreeSet;

use abi::audit::{CAP_ENTRY_WORDS, CAP_LIST_MAX, CapEntry};
use abi::{Cap, Error, ObjType, Op, Rights, Target, process_rights};
use std::sync::atomic::Ordering::Relaxed;

use crate::scene::{GROUP, Scene};
use crate::world::World;
use crate::world::make::{INIT, Proc, at};

/// Returns what process 1 reads of a CSpace: entries, and the position where it continues.
fn list(w: &mut World, from: u64) -> (Vec<CapEntry>, u64) {
    let answer = w.must(0, Op::CapList, &[from]);
    let agent = w.agent(0);
    let bulk = &agent.object.get().utcb(agent.pin()).bulk;
    let entry = |n: usize| {
        let words = std::array::from_fn(|i| bulk[n * CAP_ENTRY_WORDS + i].load(Relaxed));
        CapEntry::from_words(words).expect("an entry")
    };
    ((0..answer.rsi as usize).map(entry).collect(), answer.rdi)
}

/// All entries of a table or CSpace, however many system calls that takes.
fn list_all(w: &mut World, of: Cap) -> Vec<CapEntry> {
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        let (entries, next) = list(w, Target::new(of, from).0);
        found.extend(entries);
        match next {
            0 => return found,
            next => from = next as u32,
        }
    }
}

fn verify(w: &mut World, process: Proc, cap: Cap, rights: Rights) -> u64 {
    w.must(0, Op::CapVerify, &[process.process.arg(), cap.arg(), u64::from(rights.0), 0]).rdi
}

fn identity(w: &mut World, cap: Cap) -> u64 {
    let regs = w.must(0, Op::CapInspect, &[at(cap)]);
    assert_ne!(regs.rdi, 0, "{cap:?} is empty");
    regs.r8
}

#[test]
fn identities_are_never_given_twice() {
    let mut s = Scene::new(1);
    let memory = s.w.make(0, ObjType::Untyped, 14);
    let mut seen = BTreeSet::new();
    for round in 0..3 {
        let slots: Vec<Cap> = (0..5).map(|_| s.w.make_of(0, memory, ObjType::Notification, 0)).collect();
        for slot in slots {
            // At the same addresses every time.
            assert!(seen.insert(identity(&mut s.w, slot)), "round {round}: {slot:?}");
        }
        s.w.must(0, Op::UntypedReset, &[memory.arg()]);
    }
    let copy = s.w.slot();
    s.w.must(0, Op::CapCopy, &[s.group.arg(), at(copy), 0, 0]);
    assert_eq!(identity(&mut s.w, copy), identity(&mut s.w, s.group), "a copy is of the same object");
}

#[test]
fn all_of_a_cspace_is_listed_in_pieces() {
    let mut s = Scene::new(1);
    let table = s.w.make(0, ObjType::CNode, 1000);
    let note = s.w.make(0, ObjType::Notification, 0);
    let filled: Vec<u32> = (1..1000).filter(|n| n % 3 == 1 || *n > 900).collect();
    for slot in &filled {
        let args = [note.arg(), Target::new(table, *slot).0, u64::from(Rights::NOTIFY.0), u64::from(*slot)];
        s.w.must(0, Op::CapCopy, &args);
    }
    let (mut found, mut from, mut pieces) = (Vec::new(), 0, 0);
    loop {
        let (entries, next) = list(&mut s.w, Target::new(table, from).0);
        assert!(entries.len() <= CAP_LIST_MAX);
        found.extend(entries);
        pieces += 1;
        if next == 0 {
            break;
        }
        assert!(next > u64::from(from), "it goes on from {next} after {from}");
        from = next as u32;
    }
    assert!(pieces > 5, "{pieces} pieces");
    assert_eq!(found.iter().map(|entry| entry.slot).collect::<Vec<_>>(), filled);
    let object = identity(&mut s.w, note);
    for entry in found {
        let CapEntry { object: kind, rights, identity, badge, label, .. } = entry;
        let expected = (ObjType::Notification, Rights::NOTIFY, object, u64::from(entry.slot), 0);
        assert_eq!((kind, rights, identity, badge, label), expected);
    }
}

#[test]
fn a_cspace_is_listed_by_its_process() {
    let mut s = Scene::new(1);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.give(note, s.process, Cap(60));
    let process = s.process.process;
    let entries = list_all(&mut s.w, process);
    let seen: Vec<(u32, ObjType)> = entries.iter().map(|entry| (entry.slot, entry.object)).collect();
    assert_eq!(seen, [(GROUP.0, ObjType::Group), (60, ObjType::Notification)]);
    let bare = s.w.make(0, ObjType::Process, 1);
    assert_eq!(s.w.ask(0, Op::CapList, &[bare.arg()]).map_err(|e| e.0), Err(Error::BadState));
    let blind = s.w.slot();
    let rights = u64::from(Rights::ALL.minus(process_rights::OBSERVE.rights()).0);
    s.w.must(0, Op::CapCopy, &[s.process.process.arg(), at(blind), rights, 0]);
    let refused = s.w.ask(0, Op::CapList, &[blind.arg()]);
    assert_eq!(refused, Err((Error::NoRight, u64::from(process_rights::OBSERVE.rights().0))));
}

#[test]
fn what_a_process_holds_is_verified() {
    let mut s = Scene::new(1);
    // More slots than one entry looks at.
    let process = s.w.process_of(abi::INIT_UNTYPED, 1, 600);
    let (note, other) = (s.w.make(0, ObjType::Notification, 0), s.w.make(0, ObjType::Notification, 0));
    assert_eq!(verify(&mut s.w, process, note, Rights::NONE), 0);
    let some = Rights::NOTIFY | Rights::LISTEN;
    let to = Target::new(process.cnode, 599).0;
    s.w.must(0, Op::CapCopy, &[note.arg(), to, u64::from(some.0), 0]);
    assert_eq!(verify(&mut s.w, process, note, Rights::NONE), 599);
    assert_eq!(verify(&mut s.w, process, note, some), 599);
    assert_eq!(verify(&mut s.w, process, note, some | Rights::SEND), 0, "fewer rights");
    assert_eq!(verify(&mut s.w, process, other, Rights::NONE), 0, "another object");
    assert_eq!(verify(&mut s.w, INIT, note, Rights::ALL), u64::from(note.0), "the asker itself");
    s.w.must(0, Op::CapDelete, &[to]);
    assert_eq!(verify(&mut s.w, process, note, Rights::NONE), 0, "after the delete");
}

#[test]
fn a_group_is_held_as_its_member_record_says() {
    let mut s = Scene::new(1);
    let member = s.w.process();
    let index = s.w.join(s.group, member, Cap(9), Rights::SEND | Rights::NOTIFY, 0);
    assert_eq!(verify(&mut s.w, member, s.group, Rights::SEND), 9);
    assert_eq!(verify(&mut s.w, member, s.group, Rights::ADD), 0, "not in its record");
    // A copy in the hands of a stranger is inert; the maker's needs no record, but to send.
    let stranger = s.w.process();
    let copy = [s.group.arg(), Target::new(stranger.cnode, 4).0, u64::from(Rights::SEND.0), 0];
    s.w.must(0, Op::CapCopy, &copy);
    assert_eq!(verify(&mut s.w, stranger, s.group, Rights::NONE), 0);
    assert_ne!(verify(&mut s.w, INIT, s.group, Rights::ADD | Rights::DELETE), 0);
    assert_eq!(verify(&mut s.w, INIT, s.group, Rights::SEND), 0);
    s.w.must(0, Op::GroupRemove, &[Target::new(s.group, index as u32).0]);
    assert_eq!(verify(&mut s.w, member, s.group, Rights::NONE), 0, "removed, it holds nothing");
}
