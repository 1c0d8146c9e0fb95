//! Operations without the needed right, case by case. Each succeeded in an earlier kernel.

use abi::audit::{AuditEvent, Record, may};
use abi::{
    Cap, Error, FLAG_CAPS, FLAG_FORWARDED, FLAG_NONBLOCK, FLAG_PAGES, Grant, MAP_POOL, MEMBER_RIGHTS,
    MachineRights, ObjType, Op, PageMode, PageRange, Rights, Target,
};
use abi::{cnode_rights, frame_rights, machine_rights};
use std::sync::atomic::Ordering::Relaxed;

use abi::membership::SEEN_AS_ADDER;

use crate::audit::read;
use crate::grants::lists;
use crate::scene::{GROUP, Scene, call};
use crate::world::make::{CONTROL, Proc, at};
use crate::world::{Regs, Tcb};

type Answer = Result<Regs, (Error, u64)>;

fn put(s: &mut Scene, cap: Cap, to: Proc, slot: u32, rights: impl Into<Rights>) {
    let args = [cap.arg(), Target::new(to.cnode, slot).0, u64::from(rights.into().0), 0];
    s.w.must(0, Op::CapCopy, &args);
}

/// A task makes a system call: what it was answered.
fn ask(s: &mut Scene, who: &Tcb, op: Op, args: &[u64]) -> Answer {
    s.w.does_and_run(who, Regs::op(op, args));
    s.w.result(who).result()
}

fn holds(s: &mut Scene, of: Proc, slot: u32) -> bool {
    s.w.must(0, Op::CapInspect, &[Target::new(of.cnode, slot).0]).rdi != 0
}

fn no_right(right: impl Into<Rights>) -> (Error, u64) {
    (Error::NoRight, u64::from(right.into().0))
}

/// A process that is a member of the scene's group, and a task of it.
fn member(s: &mut Scene, rights: Rights, custom: u16) -> (Proc, Tcb) {
    let process = s.w.process();
    s.w.join(s.group, process, GROUP, rights, custom);
    (process, s.w.start(process, 0, 10))
}

#[test]
fn who_may_not_use_devices_takes_no_pin_back() {
    let mut s = Scene::new(1);
    let memory = s.w.make(0, ObjType::Untyped, 16);
    let frame = s.w.make_of(0, memory, ObjType::Frame, 12);
    s.w.must(0, Op::FramePin, &[frame.arg(), abi::INIT_MACHINE.arg()]);
    let (weak, all) = (s.w.slot(), Rights::ALL.minus(machine_rights::DMA.rights()));
    s.w.must(0, Op::CapCopy, &[abi::INIT_MACHINE.arg(), at(weak), u64::from(all.0), 0]);
    let refused = Err(no_right(machine_rights::DMA));
    assert_eq!(s.w.ask(0, Op::FrameUnpin, &[frame.arg(), weak.arg()]), refused);
    assert_eq!(s.w.ask(0, Op::UntypedReset, &[memory.arg(), 1, 0, weak.arg()]), refused);
    let left = s.w.ask(0, Op::UntypedReset, &[memory.arg(), 0]).map_err(|refusal| refusal.0);
    assert_eq!(left, Err(Error::InUse), "it is pinned");
    s.w.must(0, Op::FrameUnpin, &[frame.arg(), abi::INIT_MACHINE.arg()]);
    s.w.must(0, Op::UntypedReset, &[memory.arg(), 0]);
}

/// Words of a forwarded call are the forwarder's: what else the caller has in its UTCB, it never
/// sent. The receiver is told that they are not the sender's.
#[test]
fn a_forwarded_call_has_the_forwarders_words() {
    for cpus in [1, 2] {
        let mut s = Scene::new(cpus);
        let (last, to_last) = s.server(cpus - 1, 10);
        let (first, to_first) = s.server(0, 10);
        let (_, client) = member(&mut s, Rights::SEND, 7);
        let utcb = |task: &Tcb, n: usize| task.object.get().utcb(task.pin()).msg[n].load(Relaxed);
        for n in 0..abi::MSG_UTCB_WORDS {
            client.object.get().utcb(client.pin()).msg[n].store(0x5ec2_e700 + n as u64, Relaxed);
            first.object.get().utcb(first.pin()).msg[n].store(0xf02d + n as u64, Relaxed);
        }
        s.w.does_and_run(&client, call(Target::new(GROUP, to_first.index())));
        assert!(!s.w.result(&first).info().has(FLAG_FORWARDED));
        s.w.does_and_run(&first, Regs::message(Op::Forward, to_last, [0; 4]).words(3));
        s.w.run();
        let info = s.w.result(&last).info();
        assert_eq!((info.words(), info.has(FLAG_FORWARDED)), (3, true));
        assert_eq!([0, 1, 2].map(|n| utcb(&last, n)), [0xf02d, 0xf02e, 0xf02f]);
        assert_eq!(s.w.result(&last).sender(), client.id);
    }
}

#[test]
fn who_listens_leaves_alone_what_others_expose() {
    let mut s = Scene::new(2);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.expose(s.group, 3, note);
    let (worker, _) = s.server(0, 10);
    s.w.must(0, Op::Expose, &[Target::new(s.group, 8).0, worker.cap.arg(), 1 | 10 << 32]);
    let (other, task) = member(&mut s, Rights::LISTEN, 0);
    let thief = s.w.start(other, 1, 10);
    let own = s.w.make(0, ObjType::Notification, 0);
    put(&mut s, own, other, 20, Rights::ALL);
    put(&mut s, thief.cap, other, 21, Rights::LISTEN);
    let entry = |index: u32| Target::new(GROUP, index).0;
    for index in [3, 8, 10] {
        let refused = Err(no_right(Rights::REMOVE));
        assert_eq!(ask(&mut s, &task, Op::Withdraw, &[entry(index)]), refused, "exposure {index}");
    }
    // Neither as an entry of its own, nor as one of the other's.
    for args in [[entry(11), Cap(21).arg(), 0], [entry(8), Cap(21).arg(), 1 | 10 << 32]] {
        assert_eq!(ask(&mut s, &task, Op::Expose, &args), Err((Error::SlotOccupied, 0)));
    }
    // Entries are made where nothing is.
    let args = [entry(9), Cap(21).arg(), 1 | 2 << 32];
    assert_eq!(ask(&mut s, &task, Op::Expose, &args), Err((Error::SlotOccupied, 0)), "one is taken");
    let args = [entry(9), Cap(21).arg(), 1 | 11 << 32];
    assert_eq!(ask(&mut s, &task, Op::Expose, &args), Err((Error::SlotOccupied, 0)), "one is an entry");
    // What it exposes itself it takes back.
    ask(&mut s, &task, Op::Expose, &[entry(4), Cap(20).arg(), 0]).expect("exposed");
    ask(&mut s, &task, Op::Withdraw, &[entry(4)]).expect("its own");
    let args = [entry(9), Cap(21).arg(), 1 | 13 << 32];
    ask(&mut s, &task, Op::Expose, &args).expect("entries where nothing is");
    ask(&mut s, &task, Op::Withdraw, &[entry(9)]).expect("its own");
    s.w.must(0, Op::Withdraw, &[Target::new(s.group, 8).0]);
    ask(&mut s, &task, Op::Expose, &[entry(11), Cap(21).arg(), 0]).expect("an entry of none any more");
}

#[test]
fn a_table_does_not_reach_those_behind_it() {
    let mut s = Scene::new(1);
    let victim = s.w.process();
    let (second, third) = (s.w.make(0, ObjType::CNode, 8), s.w.make(0, ObjType::CNode, 8));
    for table in [second, third] {
        s.w.must(0, Op::CSpaceGrow, &[victim.process.arg(), table.arg()]);
    }
    let note = s.w.make(0, ObjType::Notification, 0);
    put(&mut s, note, victim, 3, Rights::ALL);
    s.w.must(0, Op::CapCopy, &[note.arg(), Target::new(third, 3).0, u64::from(Rights::ALL.0), 0]);
    let other = s.w.process();
    put(&mut s, second, other, 20, Rights::GRANT | cnode_rights::OBSERVE.rights());
    put(&mut s, note, other, 21, Rights::ALL);
    let task = s.w.start(other, 0, 10);
    let beyond = Target::new(Cap(20), 8 + 3).0;
    let refused = Err((Error::NoCapability, 8 + 3));
    for op in [Op::CapInspect, Op::CapDelete, Op::CapRevoke] {
        assert_eq!(ask(&mut s, &task, op, &[beyond]), refused, "{op:?}");
    }
    assert_eq!(ask(&mut s, &task, Op::CapMove, &[Cap(21).arg(), beyond]), refused);
    let mut next = 1;
    while next != 0 {
        let listed = ask(&mut s, &task, Op::CapList, &[Target::new(Cap(20), next).0]).expect("listed");
        assert_eq!(listed.rsi, 0, "nothing is in the second");
        assert!(listed.rdi < 8);
        next = listed.rdi as u32;
    }
}

#[test]
fn what_may_not_be_granted_is_not_given_and_kept() {
    let mut s = Scene::new(1);
    let (_, target) = s.server(0, 10);
    let (other, client) = member(&mut s, MEMBER_RIGHTS, 0);
    let note = s.w.make(0, ObjType::Notification, 0);
    put(&mut s, note, other, 20, Rights::NOTIFY);
    put(&mut s, other.cnode, other, 1, Rights::NONE);
    let refused = Err(no_right(Rights::GRANT));
    lists(&client, &[Grant::Copy { cap: Cap(20), rights: Rights::NOTIFY, badge: 0 }]);
    s.w.does_and_run(&client, call(Target::new(GROUP, target.index())).flag(FLAG_CAPS));
    assert_eq!(s.w.result(&client).result(), refused);
    let home = Target::new(Cap(1), 21).0;
    assert_eq!(
        ask(&mut s, &client, Op::CapCopy, &[Cap(20).arg(), home, u64::from(Rights::NOTIFY.0), 0]),
        refused
    );
    // Away it goes.
    ask(&mut s, &client, Op::CapMove, &[Cap(20).arg(), home]).expect("moved");
    assert!(!holds(&mut s, other, 20) && holds(&mut s, other, 21));
}

/// A member is what its maker says, and so is whom it adds.
#[test]
fn a_member_chooses_no_custom_bits() {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 10);
    let (other, task) = member(&mut s, Rights::SEND | Rights::ADD, 9);
    put(&mut s, other.process, other, 20, Rights::NONE);
    ask(&mut s, &task, Op::ProcessAccept, &[Cap(20).arg(), 30, GROUP.arg()]).expect("offered");
    let add = |custom: u64| [GROUP.arg(), Cap(20).arg(), u64::from(Rights::SEND.0), custom];
    for custom in [0, 1, 1 << 16] {
        let refused = ask(&mut s, &task, Op::GroupAdd, &add(custom)).map(drop);
        assert_eq!(refused, Err((Error::BadArgument, 3)), "custom bits {custom}");
    }
    ask(&mut s, &task, Op::GroupAdd, &add(SEEN_AS_ADDER)).expect("added");
    s.w.does_and_run(&task, call(Target::new(Cap(30), target.index())));
    assert_eq!(s.w.result(&server).r12, 9);
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [0; 4]));
    ask(&mut s, &task, Op::ProcessAccept, &[Cap(20).arg(), 31, GROUP.arg()]).expect("offered");
    ask(&mut s, &task, Op::GroupAdd, &add(9)).expect("added");
    // Who makes a group chooses, and has no bits that a record would be seen by.
    s.w.must(0, Op::ProcessAccept, &[other.process.arg(), 32, s.group.arg()]);
    let args = [s.group.arg(), other.process.arg(), u64::from(Rights::SEND.0), SEEN_AS_ADDER];
    assert_eq!(s.w.ask(0, Op::GroupAdd, &args).map(drop), Err((Error::BadArgument, 3)));
}

#[test]
fn an_offer_is_for_whom_it_names() {
    let mut s = Scene::new(1);
    let victim = s.w.process();
    let stranger = s.w.process();
    put(&mut s, victim.process, stranger, 20, Rights::NONE);
    let own = s.w.group(4, 4);
    put(&mut s, own, stranger, 21, Rights::ALL);
    let task = s.w.start(stranger, 0, 10);
    let add = [Cap(21).arg(), Cap(20).arg(), u64::from(MEMBER_RIGHTS.0), 0];
    let meant = [s.group.arg(), victim.process.arg(), u64::from(Rights::SEND.0), 0];
    // To a group; and to a process that adds, to whatever group.
    for from in [s.group, abi::INIT_PROCESS] {
        s.w.must(0, Op::ProcessAccept, &[victim.process.arg(), 5, from.arg()]);
        assert_eq!(ask(&mut s, &task, Op::GroupAdd, &add).map(drop), Err((Error::NoConsent, 0)));
        s.w.must(0, Op::GroupAdd, &meant);
        s.w.must(0, Op::CapDelete, &[Target::new(victim.cnode, 5).0]);
        assert_eq!(s.w.ask(0, Op::GroupAdd, &meant).map(drop), Err((Error::NoConsent, 0)), "used up");
    }
    let args = [victim.process.arg(), 5, s.process.vspace.arg()];
    let refused = s.w.ask(0, Op::ProcessAccept, &args).map(drop);
    assert_eq!(refused, Err((Error::WrongType, ObjType::VSpace as u64)));
    let args = [victim.process.arg(), 1 << 20, s.group.arg()];
    assert_eq!(s.w.ask(0, Op::ProcessAccept, &args).map(drop), Err((Error::BadArgument, 1)));
}

#[test]
fn nobody_puts_rights_into_a_record_that_its_capability_lacks() {
    let mut s = Scene::new(1);
    let other = s.w.process();
    let group = s.group;
    put(&mut s, group, other, 5, Rights::ADD | Rights::DELETE);
    put(&mut s, other.process, other, 20, Rights::NONE);
    let task = s.w.start(other, 0, 10);
    ask(&mut s, &task, Op::ProcessAccept, &[Cap(20).arg(), 30, Cap(5).arg()]).expect("offered");
    let add = |rights: Rights| [Cap(5).arg(), Cap(20).arg(), u64::from(rights.0), 0];
    let excess = MEMBER_RIGHTS.minus(Rights::ADD | Rights::DELETE);
    let refused = ask(&mut s, &task, Op::GroupAdd, &add(MEMBER_RIGHTS)).map(drop);
    assert_eq!(refused, Err((Error::Amplifies, u64::from(excess.0))));
    ask(&mut s, &task, Op::GroupAdd, &add(Rights::ADD)).expect("what it has");
}

/// A withdrawal of authority is recorded, also when the call ends with an error; so is the
/// authority that comes with a table.
#[test]
fn what_ends_in_an_error_is_told_and_what_comes_with_a_table() {
    let mut s = Scene::new(1);
    let ring = s.w.make(0, ObjType::Untyped, 17);
    let memory = s.w.make(0, ObjType::Untyped, 16);
    s.w.must(0, Op::AuditStart, &[abi::INIT_MACHINE.arg(), ring.arg(), 6]);
    let pinned = s.w.make_of(0, memory, ObjType::Frame, 12);
    s.w.must(0, Op::FramePin, &[pinned.arg(), abi::INIT_MACHINE.arg()]);
    let child = s.w.process();
    let made = Target::new(memory, ObjType::Notification as u32).0;
    s.w.must(0, Op::Retype, &[made, 0, Target::new(child.cnode, 9).0, 1]);
    let (told, _, next) = read(&mut s.w, 0, 0);
    let of = |told: &[Record], event| told.iter().filter(|it| it.event == event).count();
    assert_eq!(of(&told, AuditEvent::Pin), 1);
    let refused = s.w.ask(0, Op::CapRevoke, &[at(memory)]).map_err(|refusal| refusal.0);
    assert_eq!((refused, holds(&mut s, child, 9)), (Err(Error::InUse), false));
    let (told, _, next) = read(&mut s.w, 0, next);
    assert_eq!(told.first().map(|it| (it.event, it.op)), Some((AuditEvent::Revoke, Some(Op::CapRevoke))));
    let refused = s.w.ask(0, Op::UntypedReset, &[memory.arg(), 0]).map_err(|refusal| refusal.0);
    assert_eq!(refused, Err(Error::InUse));
    let (told, _, next) = read(&mut s.w, 0, next);
    assert_eq!(of(&told, AuditEvent::Reset), 1);
    let table = s.w.make(0, ObjType::CNode, 8);
    s.w.must(0, Op::CSpaceGrow, &[child.process.arg(), table.arg()]);
    let (told, _, _) = read(&mut s.w, 0, next);
    assert_eq!(told.last().map(|it| (it.event, it.op)), Some((AuditEvent::Bind, Some(Op::CSpaceGrow))));
}

/// A task that forges the registers of an old revoke is recorded all the same.
#[test]
fn a_revoke_that_pretends_to_go_on_is_told() {
    let mut s = Scene::new(1);
    let ring = s.w.make(0, ObjType::Untyped, 17);
    s.w.must(0, Op::AuditStart, &[abi::INIT_MACHINE.arg(), ring.arg(), 6]);
    let note = s.w.make(0, ObjType::Notification, 0);
    let child = s.w.process();
    put(&mut s, note, child, 9, Rights::ALL);
    let identity = s.w.must(0, Op::CapInspect, &[at(note)]).r8;
    let (_, _, next) = read(&mut s.w, 0, 0);
    let revoke = Regs::op(Op::CapRevoke, &[at(note), 0, identity]).flag(kern_base::flags::FLAG_AGAIN);
    assert_eq!(s.w.call(0, revoke).error(), None);
    assert!(!holds(&mut s, child, 9));
    let (told, _, _) = read(&mut s.w, 0, next);
    assert_eq!(told.first().map(|it| it.event), Some(AuditEvent::Revoke));
}

/// A pager's answer to a fault leaves the faulter's UTCB alone: what it lists there may be for
/// another message.
#[test]
fn an_answer_to_a_fault_brings_nothing_along() {
    let mut s = Scene::new(1);
    let (handler, target) = s.server(0, 10);
    let (_, task) = member(&mut s, Rights::SEND | Rights::STRING, 7);
    s.w.must(0, Op::FaultHandler, &[task.cap.arg(), Target::new(GROUP, target.index()).0]);
    let frame = s.w.make(0, ObjType::Frame, 12);
    let space = s.process.vspace;
    s.w.must(0, Op::Map, &[space.arg(), frame.arg(), 0x4000_0000, MAP_POOL | 1]);
    let utcb = task.object.get().utcb(task.pin());
    utcb.window[0].store(0x7000_0000, Relaxed);
    utcb.window[1].store(0x10000, Relaxed);
    utcb.range_count.store(5, Relaxed);
    assert!(s.w.runs(0, &task));
    s.w.fault(0, 0x1234_5000);
    s.w.run();
    assert!(s.w.runs(0, &handler));
    let own = handler.object.get().utcb(handler.pin());
    let words = PageRange::new(PageMode::Move, 0x4000_0000, 1).words();
    own.ranges[0].iter().zip(words).for_each(|(word, value)| word.store(value, Relaxed));
    own.range_count.store(1, Relaxed);
    for flag in [FLAG_PAGES, FLAG_CAPS] {
        s.w.does_and_run(&handler, Regs::message(Op::Reply, Target(0), [0; 4]).flag(flag));
        assert_eq!(s.w.result(&handler).error(), Some(Error::BadArgument));
    }
    s.w.does_and_run(&handler, Regs::message(Op::ReplyRecv, Target(0), [0; 4]));
    assert!(s.w.runs(0, &task));
    assert_eq!(utcb.range_count.load(Relaxed), 5);
}

/// What a label keeps a process from reading, it does not read as a copy that another space had
/// made.
#[test]
fn a_copy_of_a_page_does_not_lose_its_label() {
    let mut s = Scene::new(1);
    let other = s.w.process();
    let set = |s: &mut Scene, of: Cap, label: u64| {
        s.w.must(0, Op::LabelSet, &[abi::INIT_MACHINE.arg(), of.arg(), label]);
    };
    set(&mut s, other.process, 3);
    let secret = s.w.make(0, ObjType::Frame, 12);
    set(&mut s, secret, 5);
    s.w.must(0, Op::LabelRule, &[abi::INIT_MACHINE.arg(), 3, 5, u64::from(may::GRANT)]);
    let free = s.w.make(0, ObjType::VSpace, 16);
    let own = s.w.make(0, ObjType::Frame, 12);
    let same = s.w.make(0, ObjType::Frame, 12);
    set(&mut s, own, 3);
    set(&mut s, same, 5);
    for (slot, cap) in (20..).zip([secret, free, other.vspace, own, same]) {
        put(&mut s, cap, other, slot, Rights::ALL);
    }
    let task = s.w.start(other, 0, 10);
    let [key, space, mine, frame, same] = [20, 21, 22, 23, 24].map(|n| Cap(n).arg());
    let forbidden = Err((Error::Forbidden, 3 << 32 | 5));
    assert_eq!(ask(&mut s, &task, Op::Map, &[mine, key, 0x4000_0000, 0]), forbidden);
    ask(&mut s, &task, Op::Map, &[space, key, 0x4000_0000, MAP_POOL | 1]).expect("a space without label");
    for (n, frame) in [frame, same].into_iter().enumerate() {
        let to = 0x5000_0000 + 0x1000 * n as u64;
        let [first, rest] = PageRange::new(PageMode::Copy, 0x4000_0000, 1).words();
        ask(&mut s, &task, Op::PageTransfer, &[space, space, first, to, rest]).expect("seen twice");
        let copied = ask(&mut s, &task, Op::PageCopy, &[space, frame, to, 0, 0]).map(drop);
        assert_eq!(copied, if n == 0 { forbidden.map(drop) } else { Ok(()) });
    }
    // Where nobody is kept from the original, nobody is kept from its copy.
    s.w.must(0, Op::LabelRule, &[abi::INIT_MACHINE.arg(), 3, 5, u64::from(may::ALL)]);
    ask(&mut s, &task, Op::PageCopy, &[space, frame, 0x5000_0000, 0, 0]).expect("no secret any more");
}

/// A UTCB is a task's memory, which the space of its process sees: the two have one label, which
/// may be written.
#[test]
fn a_utcb_is_mapped_where_its_label_may_be_seen() {
    let mut s = Scene::new(1);
    let other = s.w.process();
    let task = s.w.make(0, ObjType::Task, 0);
    for (of, label) in [(other.process, 3), (task, 5)] {
        s.w.must(0, Op::LabelSet, &[abi::INIT_MACHINE.arg(), of.arg(), label]);
    }
    let configure = [CONTROL, task.arg(), other.process.arg(), 0x5000_0000, 0];
    assert_eq!(s.w.ask(0, Op::TaskConfigure, &configure).map(drop), Err((Error::Forbidden, 3 << 32 | 5)));
    s.w.must(0, Op::LabelSet, &[abi::INIT_MACHINE.arg(), task.arg(), 3]);
    for allowed in [0, may::READ, may::READ | may::WRITE] {
        s.w.must(0, Op::LabelRule, &[abi::INIT_MACHINE.arg(), 3, 3, u64::from(allowed)]);
        let configured = s.w.ask(0, Op::TaskConfigure, &configure).map(drop);
        let expected = if allowed & may::WRITE == 0 { Err((Error::Forbidden, 3 << 32 | 3)) } else { Ok(()) };
        assert_eq!(configured, expected, "where {allowed:#x} is allowed");
    }
}

#[test]
fn who_may_log_writes_no_report() {
    let mut s = Scene::new(1);
    let (other, log) = (s.w.process(), machine_rights::LOG);
    put(&mut s, abi::INIT_MACHINE, other, 20, log);
    put(&mut s, abi::INIT_MACHINE, other, 21, MachineRights::REPORT);
    let task = s.w.start(other, 0, 10);
    let line = |cap: u32, channel: u64| [Cap(cap).arg(), 8, channel];
    ask(&mut s, &task, Op::MachineLog, &line(20, 0)).expect("a log");
    assert_eq!(ask(&mut s, &task, Op::MachineLog, &line(20, 0x80)), Err(no_right(Rights::SEND)));
    ask(&mut s, &task, Op::MachineLog, &line(21, 0x80)).expect("a report");
}

/// A client's own frame, lent to a driver that pins it: whatever the client does, no kernel object
/// comes to be where the device writes.
#[test]
fn what_a_driver_has_pinned_stays_a_frame() {
    let mut s = Scene::new(1);
    let memory = s.w.make(0, ObjType::Untyped, 16);
    let (client, driver) = (s.w.process(), s.w.process());
    let made = Target::new(memory, ObjType::Frame as u32).0;
    s.w.must(0, Op::Retype, &[made, 12, Target::new(client.cnode, 21).0, 1]);
    s.w.must(0, Op::CapMove, &[memory.arg(), Target::new(client.cnode, 20).0]);
    let lent = Rights::MAP | frame_rights::DMA.rights();
    let (it, device) = (s.w.start(client, 0, 10), s.w.start(driver, 0, 10));
    put(&mut s, driver.cnode, client, 2, Rights::GRANT);
    put(&mut s, abi::INIT_MACHINE, driver, 22, Rights::ALL);
    let lend = [Cap(21).arg(), Target::new(Cap(2), 21).0, u64::from(lent.0), 0];
    s.w.does_and_run(&it, Regs::op(Op::CapCopy, &lend));
    s.w.does_and_run(&it, Regs::op(Op::Wait, &[0]).flag(FLAG_NONBLOCK));
    s.w.does_and_run(&it, Regs::op(Op::Yield, &[]));
    assert!(s.w.runs(0, &device));
    ask(&mut s, &device, Op::FramePin, &[Cap(21).arg(), Cap(22).arg()]).expect("pinned");
    s.w.does_and_run(&device, Regs::op(Op::Yield, &[]));
    assert!(s.w.runs(0, &it));
    for args in [[Cap(20).arg(), 0, 0, 0], [Cap(20).arg(), 1, 0, 0], [Cap(20).arg(), 1, 0, Cap(21).arg()]] {
        assert!(ask(&mut s, &it, Op::UntypedReset, &args).is_err());
    }
    assert!(ask(&mut s, &it, Op::FrameUnpin, &[Cap(21).arg(), Cap(21).arg()]).is_err());
}

/// Each operation on others is recorded as the rules ([`Op::told`]) say. Messages with capabilities
/// have a test of their own.
#[test]
fn each_operation_is_told_of_as_the_rules_say() {
    let mut s = Scene::unchecked(1, 1 << 22);
    let (mut next, mut told) = (0, Vec::new());
    let mut does = |s: &mut Scene, op: Op, args: &[u64]| {
        s.w.must(0, op, args);
        s.w.run();
        let (records, _, end) = read(&mut s.w, 0, next);
        next = end;
        let of_it = records.iter().any(|it| it.op == Some(op) && it.event == op.told()[0]);
        assert!(of_it, "{op:?} should be told of as {:?}: {records:?}", op.told());
        told.push(op);
    };
    let machine = abi::INIT_MACHINE.arg();
    let ring = s.w.make(0, ObjType::Untyped, 17);
    does(&mut s, Op::AuditStart, &[machine, ring.arg(), 10]);
    let memory = s.w.make(0, ObjType::Untyped, 16);
    let [process, cnode, table] = [(ObjType::Process, 4), (ObjType::CNode, 16), (ObjType::CNode, 8)]
        .map(|(of, size)| s.w.make(0, of, size));
    let (vspace, note) = (s.w.make(0, ObjType::VSpace, 16), s.w.make(0, ObjType::Notification, 0));
    let (frame, group) = (s.w.make(0, ObjType::Frame, 12), s.w.group(2, 2));
    let (task, pool) = (s.w.make(0, ObjType::Task, 0), s.w.make(0, ObjType::EventPool, 6));
    let moved = s.w.make(0, ObjType::Notification, 0);
    does(&mut s, Op::ProcessConfigure, &[process.arg(), cnode.arg(), vspace.arg(), 0]);
    does(&mut s, Op::CSpaceGrow, &[process.arg(), table.arg()]);
    let to = |slot| Target::new(cnode, slot).0;
    does(&mut s, Op::Retype, &[Target::new(memory, ObjType::Notification as u32).0, 0, to(3), 1]);
    does(&mut s, Op::CapCopy, &[note.arg(), to(4), u64::from(Rights::ALL.0), 0]);
    does(&mut s, Op::CapMove, &[moved.arg(), to(5)]);
    let devices = crate::world::machine::DEVICES;
    does(&mut s, Op::DeviceFrame, &[machine, memory.arg(), to(6), devices, 12]);
    does(&mut s, Op::CapDelete, &[to(4)]);
    s.w.must(0, Op::ProcessAccept, &[process.arg(), 9, group.arg()]);
    does(&mut s, Op::GroupAdd, &[group.arg(), process.arg(), u64::from(Rights::SEND.0), 0]);
    does(&mut s, Op::Expose, &[Target::new(group, 1).0, note.arg(), 0]);
    does(&mut s, Op::Withdraw, &[Target::new(group, 1).0]);
    does(&mut s, Op::GroupRemove, &[group.arg()]);
    does(&mut s, Op::TaskConfigure, &[CONTROL, task.arg(), process.arg(), 0x5000_0000, 0]);
    does(&mut s, Op::PoolBind, &[pool.arg(), process.arg(), task.arg(), 0x6000_0000, 1]);
    does(&mut s, Op::FramePin, &[frame.arg(), machine]);
    does(&mut s, Op::FrameUnpin, &[frame.arg(), machine]);
    does(&mut s, Op::LabelSet, &[machine, note.arg(), 3]);
    does(&mut s, Op::LabelRule, &[machine, 3, 4, 0]);
    does(&mut s, Op::TaskKill, &[task.arg()]);
    does(&mut s, Op::ProcessKill, &[process.arg()]);
    does(&mut s, Op::CapRevoke, &[at(memory)]);
    does(&mut s, Op::UntypedReset, &[memory.arg(), 0]);
    let messages = [Op::Call, Op::Send, Op::Reply, Op::ReplyRecv];
    for op in Op::ALL.iter().filter(|op| !op.told().is_empty() && !messages.contains(op)) {
        assert!(told.contains(op), "nobody has looked whether {op:?} is told of");
    }
}
