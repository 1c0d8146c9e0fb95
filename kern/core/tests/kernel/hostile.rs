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

// --- who is who ----------------------------------------------------------------------------------

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
