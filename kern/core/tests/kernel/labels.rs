//! Security labels, case by case.

use abi::audit::{CapEntry, LABELS, may};
use abi::{Cap, Error, MEMBER_RIGHTS, ObjType, Op, PageMode, PageRange, Rights, Target};
use kern_base::limits::LABEL_STEPS;
use kern_base::task::{LABEL_MASK, LABEL_SHIFT, State, label_part};
use std::sync::atomic::Ordering::Relaxed;

use crate::scene::{GROUP, Scene, call};
use crate::world::make::{CONTROL, INIT, Proc, at};
use crate::world::{Regs, Tcb, World};

pub const SUBJECT: u64 = 3;
pub const SECRET: u64 = 7;
const SPACE: u64 = 0x6000_0000;

/// What Forbidden says of a subject and an object.
const fn forbidden(subject: u64, object: u64) -> Result<(), (Error, u64)> {
    Err((Error::Forbidden, subject << 32 | object))
}

pub fn set(w: &mut World, object: Cap, label: u64) {
    w.must(0, Op::LabelSet, &[abi::INIT_MACHINE.arg(), object.arg(), label]);
}

pub fn rule(w: &mut World, subject: u64, object: u64, allowed: u8) -> u64 {
    w.must(0, Op::LabelRule, &[abi::INIT_MACHINE.arg(), subject, object, u64::from(allowed)]).rdi
}

fn ask(w: &mut World, op: Op, args: &[u64]) -> Result<(), (Error, u64)> {
    w.ask(0, op, args).map(drop)
}

/// Returns the label that a list shows for a slot of process 1.
fn label(w: &mut World, cap: Cap) -> u32 {
    let answer = w.must(0, Op::CapList, &[Target::new(abi::INIT_CNODE, cap.0).0]);
    assert_ne!(answer.rsi, 0);
    let agent = w.agent(0);
    let bulk = &agent.object.get().utcb(agent.pin()).bulk;
    let entry = CapEntry::from_words(std::array::from_fn(|i| bulk[i].load(Relaxed))).expect("an entry");
    assert_eq!(entry.slot, cap.0);
    entry.label
}

/// A process with a label.
pub fn confined(w: &mut World) -> Proc {
    let memory = w.make(0, ObjType::Untyped, 18);
    set(w, memory, SUBJECT);
    w.process_of(memory, 4, 32)
}

fn copy(w: &mut World, cap: Cap, to: Proc, slot: u32) -> Result<(), (Error, u64)> {
    ask(w, Op::CapCopy, &[cap.arg(), Target::new(to.cnode, slot).0, u64::from(Rights::ALL.0), 0])
}

#[test]
fn objects_get_the_label_of_their_memory_or_their_maker() {
    let mut s = Scene::new(1);
    let child = confined(&mut s.w);
    for cap in [child.process, child.cnode, child.vspace] {
        assert_eq!(u64::from(label(&mut s.w, cap)), SUBJECT);
    }
    // Made by a subject with a label of memory without one.
    let (memory, task) = (s.w.make(0, ObjType::Untyped, 16), s.w.start(child, 0, 10));
    s.w.give(child.cnode, child, Cap(2));
    s.w.must(0, Op::CapMove, &[memory.arg(), Target::new(child.cnode, 3).0]);
    let notification = Target::new(Cap(3), ObjType::Notification as u32).0;
    s.w.does_and_run(&task, Regs::op(Op::Retype, &[notification, 0, Target::new(Cap(2), 4).0, 1]));
    assert_eq!(s.w.result(&task).error(), None);
    s.w.does_and_run(&task, Regs::op(Op::CapList, &[Target::new(Cap(2), 4).0]));
    assert_eq!(s.w.result(&task).rsi, 1);
    let bulk = &task.object.get().utcb(task.pin()).bulk;
    assert_eq!(bulk[0].load(Relaxed), 4 | SUBJECT << 32);
}

#[test]
fn grants_are_checked() {
    let mut s = Scene::new(1);
    let child = confined(&mut s.w);
    let note = s.w.make(0, ObjType::Notification, 0);
    set(&mut s.w, note, SECRET);
    assert_eq!(rule(&mut s.w, SUBJECT, SECRET, may::ALL & !may::GRANT), u64::from(may::ALL));
    assert_eq!(copy(&mut s.w, note, child, 4), forbidden(SUBJECT, SECRET));
    let to = Target::new(child.cnode, 4).0;
    assert_eq!(ask(&mut s.w, Op::CapMove, &[note.arg(), to]), forbidden(SUBJECT, SECRET));
    // Made there of memory with that label.
    let memory = s.w.make(0, ObjType::Untyped, 16);
    set(&mut s.w, memory, SECRET);
    let kind = Target::new(memory, ObjType::Notification as u32).0;
    assert_eq!(ask(&mut s.w, Op::Retype, &[kind, 0, to, 1]), forbidden(SUBJECT, SECRET));
    // To others, and of other labels, all goes on.
    let other = s.w.process();
    assert_eq!(copy(&mut s.w, note, other, 4), Ok(()));
    let plain = s.w.make(0, ObjType::Notification, 0);
    assert_eq!(copy(&mut s.w, plain, child, 4), Ok(()));
    // The rule is taken back.
    assert_eq!(rule(&mut s.w, SUBJECT, SECRET, may::ALL), u64::from(may::ALL & !may::GRANT));
    assert_eq!(copy(&mut s.w, note, child, 5), Ok(()));
    // What it has it may move about itself, whatever the rule.
    rule(&mut s.w, SUBJECT, SECRET, 0);
    let task = s.w.start(child, 0, 10);
    s.w.give(child.cnode, child, Cap(2));
    let own = |slot| Target::new(Cap(2), slot).0;
    s.w.does_and_run(&task, Regs::op(Op::CapCopy, &[Cap(5).arg(), own(6), 0, 0]));
    assert_eq!(s.w.result(&task).error(), None);
    s.w.does_and_run(&task, Regs::op(Op::CapMove, &[Cap(5).arg(), own(7)]));
    assert_eq!(s.w.result(&task).error(), None);
}

#[test]
fn memberships_are_checked() {
    let mut s = Scene::new(1);
    let child = confined(&mut s.w);
    set(&mut s.w, s.group, SECRET);
    rule(&mut s.w, SUBJECT, SECRET, may::ALL & !may::JOIN);
    s.w.must(0, Op::ProcessAccept, &[child.process.arg(), 9, s.group.arg()]);
    let args = [s.group.arg(), child.process.arg(), u64::from(Rights::SEND.0), 0];
    assert_eq!(ask(&mut s.w, Op::GroupAdd, &args), forbidden(SUBJECT, SECRET));
    rule(&mut s.w, SUBJECT, SECRET, may::JOIN);
    // It still offers the slot.
    assert_eq!(ask(&mut s.w, Op::GroupAdd, &args), Ok(()));
}

/// A secret group, which a subject may not join.
fn secret_group(s: &mut Scene, subject: Proc) -> Cap {
    let group = s.w.group(8, 8);
    set(&mut s.w, group, SECRET);
    rule(&mut s.w, SUBJECT, SECRET, 0);
    s.w.must(0, Op::ProcessAccept, &[subject.process.arg(), 9, group.arg()]);
    let args = [group.arg(), subject.process.arg(), u64::from(Rights::SEND.0), 0];
    assert_eq!(ask(&mut s.w, Op::GroupAdd, &args), forbidden(SUBJECT, SECRET));
    s.w.must(0, Op::ProcessAccept, &[subject.process.arg(), 0]);
    group
}

/// Words of a message are asked nothing, since joining the group was. Whatever is exposed there
/// receives words, or bits.
#[test]
fn who_may_not_join_a_group_is_not_exposed_in_it() {
    let mut s = Scene::new(1);
    let subject = confined(&mut s.w);
    let group = secret_group(&mut s, subject);
    let spy = s.w.start(subject, 0, 10);
    s.w.does_and_run(&spy, Regs::op(Op::Recv, &[]));
    let exposed = ask(&mut s.w, Op::Expose, &[Target::new(group, 1).0, spy.cap.arg(), 0]);
    // The results of that.
    let insider = s.w.process();
    set(&mut s.w, insider.process, SECRET);
    s.w.join(group, insider, GROUP, MEMBER_RIGHTS, 0);
    let client = s.w.start(insider, 0, 9);
    client.object.get().utcb(client.pin()).msg[0].store(0x5ec2e7, Relaxed);
    s.w.does_and_run(&client, call(Target::new(GROUP, 1)).words(1));
    let got = spy.object.get().utcb(spy.pin()).msg[0].load(Relaxed);
    assert_eq!((exposed, got), (forbidden(SUBJECT, SECRET), 0), "the subject has a secret word");
    // One of several, and one that only watches.
    let per_cpu = [Target::new(group, 1).0, spy.cap.arg(), 1 | 4 << 32];
    assert_eq!(ask(&mut s.w, Op::Expose, &per_cpu), forbidden(SUBJECT, SECRET));
    let note = s.w.make(0, ObjType::Notification, 0);
    set(&mut s.w, note, SUBJECT);
    for how in [0, 2] {
        let args = [Target::new(group, 1).0, note.arg(), how];
        assert_eq!(ask(&mut s.w, Op::Expose, &args), forbidden(SUBJECT, SECRET));
    }
    set(&mut s.w, note, SECRET);
    s.w.expose(group, 1, note);
}

/// It has the group's own capability, with DELETE, and exposes itself.
#[test]
fn who_may_not_join_a_group_does_not_listen_there_as_its_maker() {
    let mut s = Scene::new(1);
    let subject = confined(&mut s.w);
    let group = secret_group(&mut s, subject);
    let spy = s.w.start(subject, 0, 10);
    rule(&mut s.w, SUBJECT, SECRET, may::ALL & !may::JOIN);
    s.w.give(group, subject, Cap(20));
    s.w.give(spy.cap, subject, Cap(21));
    s.w.does_and_run(&spy, Regs::op(Op::Expose, &[Target::new(Cap(20), 1).0, Cap(21).arg(), 0]));
    assert_eq!(s.w.result(&spy).result().map(drop), forbidden(SUBJECT, SECRET));
}

/// A subject of the scene's group that has called a server there, which has received the call.
fn called(s: &mut Scene, subject: Proc) -> (Tcb, Tcb) {
    let group = s.group;
    s.w.join(group, subject, GROUP, Rights::SEND, 1);
    let (server, target) = s.server(0, 10);
    let client = s.w.start(subject, 0, 10);
    s.w.does_and_run(&client, call(target));
    (server, client)
}

/// A call that is handed on goes on as its caller's. So it is the caller who comes to talk in that
/// group.
#[test]
fn a_call_is_not_handed_on_where_its_caller_may_not_join() {
    let mut s = Scene::new(1);
    let subject = confined(&mut s.w);
    let group = secret_group(&mut s, subject);
    let insider = s.w.process();
    set(&mut s.w, insider.process, SECRET);
    let server = s.w.start(insider, 0, 10);
    s.w.expose(group, 1, server.cap);
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    let process = s.process;
    s.w.join(group, process, Cap(6), MEMBER_RIGHTS, 0);
    let (between, client) = called(&mut s, subject);
    let on = Regs::message(Op::Forward, Target::new(Cap(6), 1), [0; 4]);
    s.w.does_and_run(&between, on);
    assert_eq!(s.w.result(&between).result().map(drop), forbidden(SUBJECT, SECRET));
    assert!(!server.is_through());
    // It still has the call.
    rule(&mut s.w, SUBJECT, SECRET, may::JOIN);
    s.w.does_and_run(&between, on);
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [4; 4]));
    assert_eq!(client.regs().msg(), [4; 4]);
}

/// The holder of a Reply object answers the call that it keeps. So the object counts as a group of
/// the two.
#[test]
fn a_call_is_not_kept_in_what_its_caller_may_not_join() {
    let mut s = Scene::new(1);
    let (subject, process) = (confined(&mut s.w), s.process);
    let reply = s.w.make(0, ObjType::Reply, 0);
    set(&mut s.w, reply, SECRET);
    s.w.give(reply, process, Cap(7));
    rule(&mut s.w, SUBJECT, SECRET, 0);
    let (server, client) = called(&mut s, subject);
    let keep = Regs::op(Op::SaveReply, &[Cap(7).arg()]);
    s.w.does_and_run(&server, keep);
    assert_eq!(s.w.result(&server).result().map(drop), forbidden(SUBJECT, SECRET));
    // It still has the call.
    rule(&mut s.w, SUBJECT, SECRET, may::JOIN);
    s.w.does_and_run(&server, keep);
    assert_eq!(s.w.result(&server).error(), None);
    s.w.does_and_run(&server, Regs::message(Op::Reply, Target(Cap(7).arg()), [4; 4]));
    assert_eq!(client.regs().msg(), [4; 4]);
}

#[test]
fn mappings_are_checked() {
    let mut s = Scene::new(1);
    let child = confined(&mut s.w);
    let frame = s.w.make(0, ObjType::Frame, 12);
    set(&mut s.w, frame, SECRET);
    let map = |access: u64| [child.vspace.arg(), frame.arg(), SPACE, access, 0, 1];
    rule(&mut s.w, SUBJECT, SECRET, 0);
    for access in [0, 1, 2, 1 | abi::MAP_POOL] {
        assert_eq!(ask(&mut s.w, Op::Map, &map(access)), forbidden(SUBJECT, SECRET), "{access}");
    }
    // To be read only.
    rule(&mut s.w, SUBJECT, SECRET, may::READ);
    assert_eq!(ask(&mut s.w, Op::Map, &map(1)), forbidden(SUBJECT, SECRET));
    assert_eq!(ask(&mut s.w, Op::Map, &map(0)), Ok(()));
    assert_eq!(ask(&mut s.w, Op::Protect, &map(1)), forbidden(SUBJECT, SECRET));
    rule(&mut s.w, SUBJECT, SECRET, may::READ | may::WRITE);
    assert_eq!(ask(&mut s.w, Op::Protect, &map(1)), Ok(()));
    s.w.must(0, Op::Unmap, &map(0));
    // A space without label maps what it likes.
    rule(&mut s.w, SUBJECT, SECRET, 0);
    set(&mut s.w, child.process, 0);
    assert_eq!(ask(&mut s.w, Op::Map, &map(1)), Ok(()));
}

#[test]
fn pages_that_are_handed_over_are_checked() {
    let mut s = Scene::new(1);
    let child = confined(&mut s.w);
    let frame = s.w.make(0, ObjType::Frame, 12 | 2 << 8);
    set(&mut s.w, frame, SECRET);
    s.w.must(0, Op::Map, &[INIT.vspace.arg(), frame.arg(), SPACE, 1 | abi::MAP_POOL]);
    let transfer = |mode| {
        let [words, count] = PageRange { address: SPACE, count: 2, large: false, mode }.words();
        [INIT.vspace.arg(), child.vspace.arg(), words, SPACE, count]
    };
    rule(&mut s.w, SUBJECT, SECRET, 0);
    for mode in [PageMode::Move, PageMode::Share, PageMode::Copy] {
        assert_eq!(ask(&mut s.w, Op::PageTransfer, &transfer(mode)), forbidden(SUBJECT, SECRET), "{mode:?}");
    }
    // To be read only: what can be written does not move there, and a view stays one.
    rule(&mut s.w, SUBJECT, SECRET, may::READ);
    let moved = ask(&mut s.w, Op::PageTransfer, &transfer(PageMode::Move));
    assert_eq!(moved, forbidden(SUBJECT, SECRET));
    assert_eq!(ask(&mut s.w, Op::PageTransfer, &transfer(PageMode::Copy)), Ok(()));
    let own = s.w.make(0, ObjType::Frame, 12);
    set(&mut s.w, own, SECRET);
    let copy = [child.vspace.arg(), own.arg(), SPACE];
    assert_eq!(ask(&mut s.w, Op::PageCopy, &copy), forbidden(SUBJECT, SECRET));
    set(&mut s.w, own, 0);
    assert_eq!(ask(&mut s.w, Op::PageCopy, &copy), Ok(()));
    s.w.must(0, Op::Unmap, &[INIT.vspace.arg(), 0, SPACE, 0, 0, 2]);
    let alone = [child.vspace.arg(), 0, SPACE + abi::PAGE_SIZE, 1, 0, 1];
    assert_eq!(ask(&mut s.w, Op::Protect, &alone), forbidden(SUBJECT, SECRET));
    rule(&mut s.w, SUBJECT, SECRET, may::READ | may::WRITE);
    assert_eq!(ask(&mut s.w, Op::Protect, &alone), Ok(()));
}

#[test]
fn a_page_keeps_its_label_when_its_frame_has_gone() {
    let mut s = Scene::new(1);
    let child = confined(&mut s.w);
    let frame = s.w.make(0, ObjType::Frame, 12 | 2 << 8);
    set(&mut s.w, frame, SECRET);
    s.w.must(0, Op::Map, &[INIT.vspace.arg(), frame.arg(), SPACE, 1 | abi::MAP_POOL]);
    s.delete(frame);
    rule(&mut s.w, SUBJECT, SECRET, 0);
    let [words, count] = PageRange { address: SPACE, count: 2, large: false, mode: PageMode::Move }.words();
    let moved = [INIT.vspace.arg(), child.vspace.arg(), words, SPACE, count];
    assert_eq!(ask(&mut s.w, Op::PageTransfer, &moved), forbidden(SUBJECT, SECRET));
}

#[test]
fn event_pools_are_checked() {
    let mut s = Scene::new(1);
    let child = confined(&mut s.w);
    let reader = s.w.start(child, 0, 10);
    let pool = s.w.make(0, ObjType::EventPool, 6);
    set(&mut s.w, pool, SECRET);
    let bind = [pool.arg(), child.process.arg(), reader.cap.arg(), SPACE, 1];
    rule(&mut s.w, SUBJECT, SECRET, may::ALL & !may::WRITE);
    assert_eq!(ask(&mut s.w, Op::PoolBind, &bind), forbidden(SUBJECT, SECRET));
    rule(&mut s.w, SUBJECT, SECRET, may::READ | may::WRITE);
    assert_eq!(ask(&mut s.w, Op::PoolBind, &bind), Ok(()));
}

#[test]
fn the_parts_of_a_process_have_one_label() {
    let mut s = Scene::new(1);
    let (cnode, vspace) = (s.w.make(0, ObjType::CNode, 8), s.w.make(0, ObjType::VSpace, 4));
    let process = s.w.make(0, ObjType::Process, 1);
    set(&mut s.w, process, SUBJECT);
    let args = [process.arg(), cnode.arg(), vspace.arg(), 0];
    assert_eq!(ask(&mut s.w, Op::ProcessConfigure, &args), forbidden(SUBJECT, 0));
    set(&mut s.w, cnode, SUBJECT);
    assert_eq!(ask(&mut s.w, Op::ProcessConfigure, &args), forbidden(SUBJECT, 0));
    set(&mut s.w, vspace, SUBJECT);
    assert_eq!(ask(&mut s.w, Op::ProcessConfigure, &args), Ok(()));
    // A new label is that of all three, and of no part alone.
    set(&mut s.w, process, SECRET);
    for cap in [process, cnode, vspace] {
        assert_eq!(u64::from(label(&mut s.w, cap)), SECRET);
    }
    for part in [cnode, vspace] {
        let alone = [abi::INIT_MACHINE.arg(), part.arg(), SUBJECT];
        assert_eq!(ask(&mut s.w, Op::LabelSet, &alone), forbidden(SECRET, SUBJECT));
        set(&mut s.w, part, SECRET);
    }
}

/// The holder of REGISTERS of a task controls that task. So a task is a part of the process, as its
/// spaces are.
#[test]
fn a_task_has_the_label_of_its_process() {
    for label_first in [true, false] {
        let mut s = Scene::new(1);
        rule(&mut s.w, SUBJECT, SECRET, 0);
        let (subject, process) = (confined(&mut s.w), s.w.process());
        if label_first {
            set(&mut s.w, process.process, SECRET);
        }
        // Of memory without label, by a maker without one.
        let task = s.w.make(0, ObjType::Task, 0);
        s.w.must(0, Op::TaskConfigure, &[CONTROL, task.arg(), process.process.arg(), SPACE, 0]);
        if !label_first {
            set(&mut s.w, process.process, SECRET);
        }
        assert_eq!(u64::from(label(&mut s.w, task)), SECRET);
        assert_eq!(copy(&mut s.w, task, subject, 20), forbidden(SUBJECT, SECRET));
        // Its label goes with the process's, and alone nowhere.
        let alone = [abi::INIT_MACHINE.arg(), task.arg(), 0];
        assert_eq!(ask(&mut s.w, Op::LabelSet, &alone), forbidden(SECRET, 0));
        set(&mut s.w, process.process, 0);
        assert_eq!(label(&mut s.w, task), 0);
    }
}

#[test]
fn a_task_with_another_label_does_not_become_a_part_of_a_process() {
    let mut s = Scene::new(1);
    let (child, plain) = (confined(&mut s.w), s.w.process());
    let task = s.w.make(0, ObjType::Task, 0);
    let made = |s: &mut Scene, of: Proc, at: u64| {
        ask(&mut s.w, Op::TaskConfigure, &[CONTROL, task.arg(), of.process.arg(), at, 0])
    };
    set(&mut s.w, task, SECRET);
    assert_eq!(made(&mut s, child, SPACE), forbidden(SUBJECT, SECRET));
    assert_eq!(made(&mut s, plain, SPACE), forbidden(0, SECRET));
    // What has come to nothing has labelled nothing.
    set(&mut s.w, task, 0);
    let frame = s.w.make(0, ObjType::Frame, 12);
    s.w.must(0, Op::Map, &[child.vspace.arg(), frame.arg(), SPACE, 0, 0, 1]);
    assert_eq!(made(&mut s, child, SPACE).map_err(|it| it.0), Err(Error::Mapped));
    assert_eq!(label(&mut s.w, task), 0);
    set(&mut s.w, task, SUBJECT);
    assert_eq!(made(&mut s, child, SPACE + abi::PAGE_SIZE), Ok(()));
}

#[test]
fn labels_and_rules_are_in_range_and_take_a_right() {
    let mut s = Scene::new(1);
    let machine = abi::INIT_MACHINE.arg();
    let (note, beyond) = (s.w.make(0, ObjType::Notification, 0), u64::from(LABELS));
    let bad = |position| Err((Error::BadArgument, position));
    for label in [beyond, 1 << 32, u64::MAX] {
        assert_eq!(ask(&mut s.w, Op::LabelSet, &[machine, note.arg(), label]), bad(2));
        assert_eq!(ask(&mut s.w, Op::LabelRule, &[machine, label, 0, 0]), bad(1));
        assert_eq!(ask(&mut s.w, Op::LabelRule, &[machine, 1, label, 0]), bad(2));
    }
    assert_eq!(ask(&mut s.w, Op::LabelRule, &[machine, 0, 1, 0]), bad(1));
    assert_eq!(ask(&mut s.w, Op::LabelRule, &[machine, 1, 1, u64::from(may::ALL) + 1]), bad(3));
    let weak = s.w.slot();
    let rights = u64::from(Rights::ALL.minus(abi::machine_rights::SECURITY.rights()).0);
    s.w.must(0, Op::CapCopy, &[machine, at(weak), rights, 0]);
    let missing = Err((Error::NoRight, u64::from(abi::machine_rights::SECURITY.rights().0)));
    assert_eq!(ask(&mut s.w, Op::LabelSet, &[weak.arg(), note.arg(), 1]), missing);
    assert_eq!(ask(&mut s.w, Op::LabelRule, &[weak.arg(), 1, 1, 0]), missing);
}

/// The label in a task's state word.
fn in_word(task: &Tcb) -> u64 {
    u64::from((task.hot().word() as u32 & LABEL_MASK) >> LABEL_SHIFT)
}

#[test]
fn tasks_have_the_label_of_their_process() {
    let mut s = Scene::new(2);
    let child = confined(&mut s.w);
    let (here, there) = (s.w.start(child, 0, 10), s.w.start(child, 1, 10));
    let (other, _) = s.running(1, 5);
    assert_eq!([&here, &there, &other].map(in_word), [SUBJECT, SUBJECT, 0]);
    // Tasks that are there already are told, wherever they are and whatever they do.
    s.w.does_and_run(&there, Regs::op(Op::Recv, &[]));
    set(&mut s.w, child.process, SECRET);
    s.w.run();
    assert_eq!([&here, &there, &other].map(in_word), [SECRET, SECRET, 0]);
    assert_eq!((here.home(), there.home()), (0, 1));
    assert_eq!(there.state(), State::Recv);
    set(&mut s.w, child.process, 0);
    s.w.run();
    assert_eq!([&here, &there].map(in_word), [0, 0]);
}

/// More task numbers than one entry looks at.
#[test]
fn the_last_task_of_many_is_told() {
    let mut s = Scene::new(1);
    let count = LABEL_STEPS + 1;
    let child = s.w.process_of(abi::INIT_UNTYPED, count as u64, 4);
    let tasks: Vec<Tcb> = (0..count).map(|_| s.w.task_with(child, 0, 10, false)).collect();
    for label in [SUBJECT, SECRET, SECRET, 0] {
        set(&mut s.w, child.process, label);
        assert!(tasks.iter().all(|task| in_word(task) == label));
    }
}

/// What the fastpath of CPU 0 expects of others.
fn halves(w: &World) -> [u32; 6] {
    let hot = &w.look(0).cpu.own().hot;
    let all = [&hot.recv_half, &hot.await_half, &hot.plain_half, &hot.wait_half];
    let [a, b, c, d] = all.map(|half| half.get() as u32);
    [a, b, c, d, hot.recv_vector_half.get() as u32, hot.await_vector_half.get() as u32]
}

#[test]
fn the_fastpath_stays_within_a_label() {
    let mut s = Scene::new(1);
    let child = confined(&mut s.w);
    let (inside, (outside, _)) = (s.w.start(child, 0, 10), s.running(0, 10));
    let run = |s: &mut Scene, task: &Tcb, other: &Tcb| {
        s.w.must(0, Op::TaskSuspend, &[other.cap.arg()]);
        s.w.resume(task);
        assert!(s.w.runs(0, task));
    };
    run(&mut s, &outside, &inside);
    let plain = halves(&s.w);
    assert!(plain.iter().all(|half| half & LABEL_MASK == 0));
    run(&mut s, &inside, &outside);
    let labelled = halves(&s.w);
    assert_eq!(labelled, plain.map(|half| half | label_part(SUBJECT as u32)));
    run(&mut s, &outside, &inside);
    assert_eq!(halves(&s.w), plain);
}

/// Nobody is switched to, and so nothing else would flush what tasks with the old label taught the
/// branch predictors.
#[test]
fn predictors_are_flushed_when_the_running_task_gets_a_label() {
    let mut s = Scene::new(2);
    let child = s.w.process();
    let task = s.w.start(child, 1, 10);
    let flushes = |w: &World| w.k.machine.hardware().predictor_flushes.get(&1).copied().unwrap_or(0);
    let shown = |w: &World| w.look(1).cpu.own().hot.special_on.get() & LABEL_MASK;
    for (label, count) in [(SUBJECT, 1), (SUBJECT, 1), (SECRET, 2), (0, 3)] {
        assert!(s.w.runs(1, &task));
        set(&mut s.w, child.process, label);
        s.w.run();
        assert_eq!((in_word(&task), flushes(&s.w)), (label, count));
        assert_eq!(shown(&s.w), label_part(label as u32));
    }
    // While it waits, the CPU flushes when it goes on with the task.
    s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    set(&mut s.w, child.process, SUBJECT);
    s.w.run();
    assert_eq!((in_word(&task), flushes(&s.w), shown(&s.w)), (SUBJECT, 3, 0));
}
