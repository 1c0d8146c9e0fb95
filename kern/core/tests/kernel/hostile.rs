//! What a hostile reader of the kernel's sources has found: each test says what should be, and fails while it is not so.

use abi::audit::{AuditEvent, RECORD_WORDS, Record, may};
use abi::{
    Cap, Error, FLAG_CAPS, FaultAnswer, Grant, Listening, MEMBER_RIGHTS, ObjType, Op, Rights, Target, TaskId,
};
use kern_base::group::Group;
use kern_base::task::State;
use kern_core::entry::Fault;
use smp::host_test;
use std::sync::atomic::Ordering::Relaxed;

use crate::events::Reader;
use crate::grants::{holds, lists, owned};
use crate::scene::{GROUP, Scene, call};
use crate::world::gate::Why;
use crate::world::make::{Proc, at};
use crate::world::{Regs, Tcb, World};

/// Steps that another CPU takes in the middle, at most.
const STEPS: usize = 200;
const SUBJECT: u64 = 3;
const SECRET: u64 = 7;
/// What Forbidden says of the two.
const FORBIDDEN: Result<(), (Error, u64)> = Err((Error::Forbidden, SUBJECT << 32 | SECRET));

fn label(w: &mut World, object: Cap, label: u64) {
    w.must(0, Op::LabelSet, &[abi::INIT_MACHINE.arg(), object.arg(), label]);
}

/// Subjects may come by nothing secret.
fn keep_apart(w: &mut World) {
    w.must(0, Op::LabelRule, &[abi::INIT_MACHINE.arg(), SUBJECT, SECRET, 0]);
}

/// A process with a label.
fn labelled(w: &mut World, with: u64) -> Proc {
    let memory = w.make(0, ObjType::Untyped, 18);
    label(w, memory, with);
    w.process_of(memory, 4, 64)
}

fn asks(s: &mut Scene, op: Op, args: &[u64]) -> Result<(), (Error, u64)> {
    s.w.ask(0, op, args).map(drop)
}

/// A secret group, and what a subject that tried to join it would be told.
fn secret_group(s: &mut Scene, subject: Proc) -> Cap {
    let group = s.w.group(8, 8);
    label(&mut s.w, group, SECRET);
    keep_apart(&mut s.w);
    s.w.must(0, Op::ProcessAccept, &[subject.process.arg(), 9, group.arg()]);
    let args = [group.arg(), subject.process.arg(), u64::from(Rights::SEND.0), 0];
    assert_eq!(asks(s, Op::GroupAdd, &args), FORBIDDEN, "it may not join");
    s.w.must(0, Op::ProcessAccept, &[subject.process.arg(), 0]);
    group
}

/// Starts an audit. What was told of all CPUs, whenever it is asked.
fn audited(cpus: usize) -> Scene {
    let mut s = Scene::new(cpus);
    let memory = s.w.make(0, ObjType::Untyped, 18);
    s.w.must(0, Op::AuditStart, &[abi::INIT_MACHINE.arg(), memory.arg(), 8]);
    s
}

fn told(w: &mut World) -> Vec<Record> {
    let mut found = Vec::new();
    for cpu in 0..w.cpus() as u32 {
        let mut next = 0;
        loop {
            let answer = w.must(0, Op::AuditRead, &[Target::new(abi::INIT_MACHINE, cpu).0, next]);
            assert_eq!(answer.rdx, 0, "none was lost");
            if answer.rdi == 0 {
                break;
            }
            let agent = w.agent(0);
            let bulk = &agent.object.get().utcb(agent.pin()).bulk;
            let record = |n: usize| {
                let words = std::array::from_fn(|i| bulk[n * RECORD_WORDS + i].load(Relaxed));
                Record::from_words(words).expect("a record")
            };
            found.extend((0..answer.rdi as usize).map(record));
            next = answer.rsi;
        }
    }
    found
}

/// What was told of one actor, but for what it was given at first.
fn told_of(w: &mut World, actor: TaskId) -> Vec<(AuditEvent, Option<Op>, u64)> {
    let mut records = told(w);
    records.retain(|it| it.actor == actor);
    records.iter().map(|it| (it.event, it.op, it.identity)).collect()
}

fn identity(w: &mut World, cap: Cap) -> u64 {
    w.must(0, Op::CapInspect, &[at(cap)]).r8
}

/// A process with its own CNode in slot 2, and a task of it on a CPU.
fn somebody(s: &mut Scene, n: usize, priority: u64) -> (Proc, Tcb) {
    let process = s.w.process();
    s.w.give(process.cnode, process, Cap(2));
    let task = s.w.start(process, n, priority);
    s.w.run();
    (process, task)
}

/// Moves a capability of process 1 into somebody's slot.
fn hand(s: &mut Scene, cap: Cap, to: Proc, slot: u32) {
    s.w.must(0, Op::CapMove, &[cap.arg(), Target::new(to.cnode, slot).0]);
}

fn own(slot: u32) -> u64 {
    Target::new(Cap(2), slot).0
}

// --- labels --------------------------------------------------------------------------------------

/// Words of a message are asked nothing, since joining the group was. Who is exposed there receives them, and has joined
/// nothing.
#[test]
fn who_may_not_join_a_group_is_not_exposed_in_it() {
    let mut s = Scene::new(1);
    let subject = labelled(&mut s.w, SUBJECT);
    let group = secret_group(&mut s, subject);
    let spy = s.w.start(subject, 0, 10);
    s.w.does_and_run(&spy, Regs::op(Op::Recv, &[]));
    let exposed = asks(&mut s, Op::Expose, &[Target::new(group, 1).0, spy.cap.arg(), 0]);
    // What comes of it.
    let insider = labelled(&mut s.w, SECRET);
    s.w.join(group, insider, GROUP, MEMBER_RIGHTS, 0);
    let client = s.w.start(insider, 0, 9);
    client.object.get().utcb(client.pin()).msg[0].store(0x5ec2e7, Relaxed);
    s.w.does_and_run(&client, call(Target::new(GROUP, 1)).words(1));
    let got = spy.object.get().utcb(spy.pin()).msg[0].load(Relaxed);
    assert_eq!((exposed, got), (FORBIDDEN, 0), "the subject has a secret word, {:?}", spy.regs());
}

/// The same of one who has the group's own capability, with DELETE, and exposes itself.
#[test]
fn who_may_not_join_a_group_does_not_listen_there_as_its_maker() {
    let mut s = Scene::new(1);
    let subject = labelled(&mut s.w, SUBJECT);
    let group = secret_group(&mut s, subject);
    let spy = s.w.start(subject, 0, 10);
    // All but joining.
    let machine = abi::INIT_MACHINE.arg();
    s.w.must(0, Op::LabelRule, &[machine, SUBJECT, SECRET, u64::from(may::ALL & !may::JOIN)]);
    s.w.give(group, subject, Cap(20));
    s.w.give(spy.cap, subject, Cap(21));
    s.w.does_and_run(&spy, Regs::op(Op::Expose, &[Target::new(Cap(20), 1).0, Cap(21).arg(), 0]));
    assert_eq!(s.w.result(&spy).result().map(drop), FORBIDDEN);
}

/// A call that is handed on goes on as its caller's. So it is the caller who comes to talk in that group.
#[test]
fn a_call_is_not_handed_on_where_its_caller_may_not_join() {
    let mut s = Scene::new(1);
    let subject = labelled(&mut s.w, SUBJECT);
    let group = secret_group(&mut s, subject);
    let group_of_all = s.group;
    s.w.join(group_of_all, subject, GROUP, Rights::SEND, 1);
    let insider = labelled(&mut s.w, SECRET);
    let server = s.w.start(insider, 0, 10);
    s.w.expose(group, 1, server.cap);
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    let (between, target) = s.server(0, 10);
    let process = s.process;
    s.w.join(group, process, Cap(6), MEMBER_RIGHTS, 0);
    let client = s.w.start(subject, 0, 10);
    s.w.does_and_run(&client, call(target));
    s.w.does_and_run(&between, Regs::message(Op::Forward, Target::new(Cap(6), 1), [0; 4]));
    let forwarded = between.regs().result().map(drop);
    if server.is_through() {
        s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [0x5ec2e7; 4]));
    }
    assert_eq!(
        forwarded,
        FORBIDDEN,
        "the subject's answer, by the secret server: {:x?}",
        client.regs().msg()
    );
}

/// Whoever has REGISTERS of a task is that task; so it is a part of the process as its spaces are.
#[test]
fn a_task_has_the_label_of_its_process() {
    for label_first in [true, false] {
        let mut s = Scene::new(1);
        keep_apart(&mut s.w);
        let subject = labelled(&mut s.w, SUBJECT);
        let process = s.w.process();
        let set = |s: &mut Scene| label(&mut s.w, process.process, SECRET);
        if label_first {
            set(&mut s);
        }
        // Of memory without label, by a maker without one.
        let task = s.w.make(0, ObjType::Task, 0);
        let made = asks(&mut s, Op::TaskConfigure, &[task.arg(), process.process.arg(), 0x7800_0000, 0]);
        if !label_first {
            set(&mut s);
        }
        let to = Target::new(subject.cnode, 20).0;
        let of_process = [process.process.arg(), to, u64::from(Rights::ALL.0), 0];
        assert_eq!(asks(&mut s, Op::CapCopy, &of_process), FORBIDDEN);
        let args = [task.arg(), to, u64::from(Rights::ALL.0), 0];
        let given = asks(&mut s, Op::CapCopy, &args);
        assert!(made == FORBIDDEN || given == FORBIDDEN, "label first: {label_first}: {made:?}, {given:?}");
    }
}

// --- the audit -----------------------------------------------------------------------------------

/// All tasks of a process die with its address space, and with its CSpace.
#[test]
fn who_ends_a_process_by_its_spaces_is_told_of() {
    for what in [ObjType::VSpace, ObjType::CNode] {
        let mut s = audited(1);
        let (killer, task) = somebody(&mut s, 0, 20);
        let (victim, dead) = somebody(&mut s, 0, 10);
        if what == ObjType::CNode {
            // Its own capability of it is not the last.
            s.w.must(0, Op::CapDelete, &[Target::new(victim.cnode, 2).0]);
        }
        let cap = if what == ObjType::CNode { victim.cnode } else { victim.vspace };
        hand(&mut s, cap, killer, 3);
        let before = told_of(&mut s.w, task.id).len();
        s.w.does_and_run(&task, Regs::op(Op::CapDelete, &[own(3)]));
        assert_eq!((s.w.result(&task).error(), dead.state()), (None, State::Dead));
        let told = told_of(&mut s.w, task.id).split_off(before);
        assert!(!told.is_empty(), "{what:?}: nothing says who has killed {:?}", dead.id);
    }
}

/// Whoever is made to give up in the middle of a kill has killed nevertheless.
#[test]
fn a_kill_that_is_given_up_is_told_of() {
    let mut s = audited(2);
    let (killer, task) = somebody(&mut s, 0, 20);
    let (victim, dead) = somebody(&mut s, 1, 10);
    s.w.give(victim.process, killer, Cap(3));
    let of_victim = identity(&mut s.w, victim.process);
    s.w.does(&task, Regs::op(Op::ProcessKill, &[Cap(3).arg()]));
    assert!(!task.is_through(), "it waits for another CPU");
    s.kill(&task);
    assert_eq!((task.state(), dead.state()), (State::Dead, State::Dead));
    let told = told_of(&mut s.w, task.id);
    let kill = told.iter().any(|it| (it.0, it.2) == (AuditEvent::Kill, of_victim));
    assert!(kill, "nothing says who has killed {:?}: {told:?}", dead.id);
}

/// CNodes are emptied by whoever reclaims something next.
#[test]
fn who_empties_the_table_of_others_is_not_told_of_as_who_ended_what_it_had() {
    const SLOTS: u64 = 1024;
    let mut s = audited(1);
    let (owner, task) = somebody(&mut s, 0, 10);
    let (innocent, other) = somebody(&mut s, 0, 20);
    let table = s.w.make(0, ObjType::CNode, SLOTS);
    let thing = s.w.make(0, ObjType::Process, 1);
    let of_thing = identity(&mut s.w, thing);
    s.w.must(0, Op::CapMove, &[thing.arg(), Target::new(table, SLOTS as u32 - 1).0]);
    hand(&mut s, table, owner, 3);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.give(note, innocent, Cap(3));
    s.w.must(0, Op::TaskSuspend, &[other.cap.arg()]);
    s.w.does(&task, Regs::op(Op::CapDelete, &[own(3)]));
    assert!(task.must_restart(), "it takes several entries");
    s.kill(&task);
    s.w.resume(&other);
    s.w.run();
    s.w.does_and_run(&other, Regs::op(Op::CapDelete, &[own(3)]));
    let records = told(&mut s.w);
    let end = records.iter().find(|it| (it.event, it.identity) == (AuditEvent::End, of_thing));
    assert_ne!(end.expect("its end").actor, other.id, "it has deleted a capability of its own Notification");
}

#[test]
fn who_answers_a_fault_with_a_kill_is_told_of() {
    for n in [0, 1] {
        for answer in [FaultAnswer::Kill, FaultAnswer::TearDown] {
            let mut s = audited(2);
            let (_, handler) = somebody(&mut s, n, 20);
            s.w.expose(s.group, 9, handler.cap);
            let process = s.process.process;
            s.w.must(0, Op::FaultHandler, &[process.arg(), Target::new(GROUP, 9).0]);
            s.w.does_and_run(&handler, Regs::op(Op::Recv, &[]));
            let (task, _) = s.running(0, 10);
            s.w.fault_with(0, Fault { vector: 14, error: 6, address: 0xdead_b000 });
            s.w.run();
            let mut verdict = Regs::message(Op::ReplyRecv, Target(0), [0; 4]);
            verdict.rax |= u64::from(answer.label()) << 32;
            s.w.does_and_run(&handler, verdict);
            assert_eq!(task.state(), State::Dead);
            let kills: Vec<_> = told(&mut s.w)
                .into_iter()
                .filter(|it| it.event == AuditEvent::Kill)
                .map(|it| it.actor)
                .collect();
            assert_eq!(kills, [handler.id], "{answer:?} on cpu{n}: the task that faulted is {:?}", task.id);
        }
    }
}

// --- operations that are made again --------------------------------------------------------------

/// Another CPU makes a system call while CPU 1, whose task has to make its own again, is held up and takes its mail.
fn beside(w: &mut World, op: Op, args: &[u64]) {
    w.hold(Some(1));
    w.begin(0, Regs::op(op, args));
    while !w.is_over(0) {
        let moved = [w.event(1), w.step(0)];
        assert_ne!(moved, [false; 2], "{op:?} does not end");
    }
    w.hold(None);
    assert_eq!(w.agent(0).regs().error(), None);
    w.dismiss(0);
}

/// What was to be moved to somebody who does not listen is deleted when its sender sends again. What its slot has by then may
/// be something else.
#[test]
fn a_disposal_leaves_what_comes_into_its_slot() {
    let mut s = Scene::new(2);
    let (server, target) = s.running(0, 10);
    let (client, _) = s.running(1, 10);
    let process = s.process;
    owned(&mut s, ObjType::Notification, 0, Cap(20));
    let (kept, slot) = (s.w.make(0, ObjType::Notification, 0), Target::new(process.cnode, 20).0);
    let of_kept = identity(&mut s.w, kept);
    lists(&client, &[Grant::Move { cap: Cap(20) }]);
    s.w.does_and_run(&client, call(target).flag(FLAG_CAPS));
    assert!(holds(&mut s, process, Cap(20)).is_some(), "it waits in its slot");
    // The server receives, and does not listen: the client is to dispose of it, and to send once more.
    s.w.does(&server, Regs::op(Op::Recv, &[]));
    beside(&mut s.w, Op::CapDelete, &[slot]);
    beside(&mut s.w, Op::CapMove, &[kept.arg(), slot]);
    assert!(client.must_restart());
    s.w.run();
    let there = s.w.must(0, Op::CapInspect, &[slot]);
    assert_eq!(there.r8, of_kept, "nobody has sent that away");
}

/// An answer that brings something may have to wait. Whose call a Reply has by then may be another one.
#[test]
fn an_answer_that_waits_goes_to_whom_it_was_meant_for() {
    let mut s = Scene::new(1);
    let (process, reply) = (s.process, s.w.make(0, ObjType::Reply, 0));
    s.w.give(reply, process, Cap(7));
    let (first, to_first) = s.server(0, 10);
    let (second, to_second) = s.server(0, 11);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.give(note, process, Cap(20));
    let client = |s: &mut Scene, priority: u64| {
        let process = s.w.process();
        let group = s.group;
        s.w.join(group, process, GROUP, Rights::SEND, priority as u16);
        let task = s.w.start(process, 0, priority);
        let offer = Listening { next: Cap(40), count: 1 };
        task.object.get().utcb(task.pin()).listening.store(offer.word(), Relaxed);
        (process, task)
    };
    let (its, one) = client(&mut s, 8);
    s.w.does_and_run(&one, call(to_first));
    s.w.does_and_run(&first, Regs::op(Op::SaveReply, &[Cap(7).arg()]));
    assert_eq!(s.w.result(&first).error(), None);
    // The slot in which it listens was emptied a moment ago: what comes there waits for all CPUs.
    let offered = Target::new(its.cnode, 40).0;
    s.w.must(0, Op::CapCopy, &[note.arg(), offered, 0, 0]);
    s.w.must(0, Op::CapDelete, &[offered]);
    lists(&first, &[Grant::Copy { cap: Cap(20), rights: Rights::NOTIFY, badge: 0 }]);
    s.w.does(&first, Regs::message(Op::Reply, Target(Cap(7).arg()), [0x111; 4]).flag(FLAG_CAPS));
    assert!(first.must_restart(), "{:x?}", first.regs());
    s.w.must(0, Op::TaskSuspend, &[first.cap.arg()]);
    // It gives up, and another task of the server keeps another's call.
    s.w.must(0, Op::TaskCancel, &[one.cap.arg()]);
    assert_eq!(one.regs().error(), Some(Error::Cancelled));
    let (other, two) = client(&mut s, 13);
    s.w.does_and_run(&two, call(to_second));
    s.w.does_and_run(&second, Regs::op(Op::SaveReply, &[Cap(7).arg()]));
    assert_eq!(s.w.result(&second).error(), None);
    s.w.does_and_run(&second, Regs::op(Op::Recv, &[]));
    s.w.resume(&first);
    s.w.run();
    let got = (two.is_through(), holds(&mut s, other, Cap(40)).is_some());
    assert_eq!(got, (false, false), "nobody has answered it: {:x?}", two.regs());
}

// --- who is who ----------------------------------------------------------------------------------

/// A server knows its clients by their custom bits. A call that waits was made by who had them.
#[test]
fn a_call_that_waits_is_not_taken_for_one_of_the_next_who_has_its_bits() {
    for n in [0, 1] {
        let mut s = Scene::new(2);
        let (server, target) = s.running(0, 20);
        let (before, old) = somebody(&mut s, n, 10);
        let group = s.group;
        let index = s.w.join(group, before, GROUP, Rights::SEND, 7);
        if n == 0 {
            // So that somebody else may run.
            s.w.must(0, Op::TaskSuspend, &[server.cap.arg()]);
        }
        s.w.does_and_run(&old, call(Target::new(GROUP, target.index())));
        s.w.must(0, Op::GroupRemove, &[Target::new(group, index as u32).0]);
        let (after, _) = somebody(&mut s, n, 5);
        s.w.join(group, after, GROUP, Rights::SEND, 7);
        if n == 0 {
            s.w.resume(&server);
        }
        s.w.run();
        s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
        let got = server.regs();
        let is_taken_for = server.is_through() && (got.sender(), got.r12) == (old.id, 7);
        assert!(!is_taken_for, "on cpu{n}: 7 is another member by now, and this one is none");
    }
}

/// A call to an exposure with one task per CPU takes the entry of its CPU. When the exposure is over, entry and index are others'.
#[test]
fn a_call_to_one_task_per_cpu_reaches_nobody_elses() {
    for at in 0.. {
        let mut s = Scene::new(2);
        let group = s.group;
        let worker = s.w.task_with(s.process, 0, 10, true);
        s.w.must(0, Op::Expose, &[Target::new(group, 8).0, worker.cap.arg(), 1 | 10 << 32]);
        let (thief, task) = somebody(&mut s, 0, 10);
        s.w.join(group, thief, GROUP, Rights::LISTEN, 0);
        s.w.give(task.cap, thief, Cap(21));
        let caller = s.w.process();
        s.w.join(group, caller, GROUP, Rights::SEND, 0);
        let client = s.w.start(caller, 1, 10);
        s.w.run();
        s.w.prepare(1, call(Target::new(GROUP, 8)));
        let mut points = 0..;
        let torn = s.w.tear(
            1,
            Why::SystemCall,
            move |_| points.next() == Some(at),
            |w| {
                w.begin(0, Regs::op(Op::Withdraw, &[Target::new(group, 8).0]));
                let _ = (0..STEPS).all(|_| w.step(0));
                w.dismiss(0);
                if w.runs(0, &task) {
                    // The entry of CPU 1, where nobody was.
                    w.issue(0, Regs::op(Op::Expose, &[Target::new(GROUP, 11).0, Cap(21).arg(), 0]));
                    let _ = (0..STEPS).all(|_| w.step(0));
                }
            },
        );
        if !torn {
            assert!(at > 0, "there is no such point");
            return;
        }
        s.w.run();
        if s.w.runs(0, &task) {
            s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
        }
        let got = task.regs();
        let stolen = task.is_through() && got.sender() == client.id;
        assert!(
            !stolen,
            "point {at}: a call to exposure 8 came to whom exposure 11 is, as one to {}",
            got.rdi
        );
    }
}

/// A pin that is taken back is told of, however that is done.
#[test]
fn pins_that_go_with_a_reset_are_told_of() {
    let mut s = audited(1);
    let memory = s.w.make(0, ObjType::Untyped, 16);
    let frame = s.w.make_of(0, memory, ObjType::Frame, 12);
    let of_frame = identity(&mut s.w, frame);
    let machine = abi::INIT_MACHINE.arg();
    s.w.must(0, Op::FramePin, &[frame.arg(), machine]);
    s.w.must(0, Op::UntypedReset, &[memory.arg(), 1, 0, machine]);
    let pins: Vec<_> = told(&mut s.w)
        .into_iter()
        .filter(|it| (it.event, it.identity) == (AuditEvent::Pin, of_frame))
        .map(|it| it.detail)
        .collect();
    assert_eq!(pins, [1, 0], "how many there were each time");
}

/// What ends a group takes its members' standing away before the group is gone.
#[test]
fn a_groups_end_that_is_given_up_is_told_of() {
    const MEMBERS: u64 = 1024;
    let mut s = audited(1);
    let (ender, task) = somebody(&mut s, 0, 10);
    let group = s.w.group(MEMBERS, 1);
    let of_group = identity(&mut s.w, group);
    let member = s.w.process();
    s.w.join(group, member, GROUP, Rights::SEND, 0);
    s.w.must(0, Op::CapRevoke, &[at(group)]);
    hand(&mut s, group, ender, 3);
    let before = told_of(&mut s.w, task.id).len();
    s.w.does(&task, Regs::op(Op::CapDelete, &[own(3)]));
    assert!(task.must_restart(), "it takes several entries");
    s.kill(&task);
    let told = told_of(&mut s.w, task.id).split_off(before);
    assert!(told.iter().any(|it| it.2 == of_group), "nobody says who has ended it: {told:?}");
}

/// Whoever has lost its capability of a group can do nothing there, and hears nothing.
#[test]
fn who_has_lost_its_capability_of_a_group_hears_no_broadcast() {
    let mut s = Scene::new(1);
    let (sender, _) = s.running(0, 20);
    let (member, task) = somebody(&mut s, 0, 10);
    let group = s.group;
    s.w.join(group, member, GROUP, Rights::SEND | Rights::LISTEN, 0);
    let mut reader = Reader::bind(&mut s.w, member, &task);
    let broadcast = Regs::message(Op::Broadcast, Target::new(GROUP, 0), [0x5ec2e7; 4]);
    s.w.does_and_run(&sender, broadcast);
    assert!(reader.read().is_some(), "a member hears it");
    // As a revoke does with all that have been derived.
    s.w.must(0, Op::CapDelete, &[Target::new(member.cnode, GROUP.0).0]);
    s.w.does_and_run(&sender, broadcast);
    assert_eq!(reader.read().map(|(event, _)| event.regs), None, "it has no capability of the group");
}

/// Who is no member any more takes nothing back, as it removes nobody.
#[test]
fn who_has_lost_the_right_withdraws_nothing() {
    for at in 0.. {
        let mut s = Scene::new(2);
        let group = s.group;
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.expose(group, 3, note);
        let process = s.w.process();
        let index = s.w.join(group, process, GROUP, Rights::REMOVE, 0);
        let task = s.w.start(process, 1, 10);
        s.w.run();
        let is_exposed = |w: &World| {
            let object = w.object::<Group>(group).expect("the group");
            let pin = host_test::pin(0);
            let entry = object.get().exposures.get(pin, 3).expect("an exposure");
            entry.get().slot.word.load(pin).object_type() != 0
        };
        s.w.prepare(1, Regs::op(Op::Withdraw, &[Target::new(GROUP, 3).0]));
        let mut there = false;
        let mut points = 0..;
        let torn = s.w.tear(
            1,
            Why::SystemCall,
            move |_| points.next() == Some(at),
            |w| {
                w.begin(0, Regs::op(Op::GroupRemove, &[Target::new(group, index as u32).0]));
                let _ = (0..STEPS).all(|_| w.step(0));
                there = w.is_over(0) && w.agent(0).regs().error().is_none() && is_exposed(w);
                if w.is_over(0) {
                    w.dismiss(0);
                }
            },
        );
        if !torn {
            assert!(at > 0, "there is no such point");
            return;
        }
        s.w.run();
        let taken = there && !is_exposed(&s.w);
        assert!(!taken, "point {at}: {:?} had been removed", task.id);
    }
}
