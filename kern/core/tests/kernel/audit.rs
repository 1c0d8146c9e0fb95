//! Tests of the audit, case by case.

use abi::audit::{AUDIT_READ_MAX, AuditEvent, RECORD_WORDS, Record, may};
use abi::{Cap, Error, FLAG_CAPS, FaultAnswer, Grant, Listening, ObjType, Op, Rights, Target, TaskId};
use kern_base::limits::LABEL_STEPS;
use kern_base::task::State;
use kern_core::ipc::faults::Fault;
use std::sync::atomic::Ordering::Relaxed;

use crate::grants::lists;
use crate::scene::{GROUP, Scene, call};
use crate::world::make::{Proc, at};
use crate::world::{Regs, World};

const LOG2: u64 = 6;

/// A world with an audit, and the memory that it is in.
fn audited(cpus: usize) -> (Scene, Cap) {
    let mut s = Scene::new(cpus);
    let (memory, rings) = audits(&mut s.w);
    assert_eq!(rings, cpus as u64);
    (s, memory)
}

/// Begins an audit. Returns the memory that it is in, and the number of its rings.
pub fn audits(w: &mut World) -> (Cap, u64) {
    let memory = w.make(0, ObjType::Untyped, 17);
    let begun = w.must(0, Op::AuditStart, &[abi::INIT_MACHINE.arg(), memory.arg(), LOG2]);
    (memory, begun.rdi)
}

/// What the ring of a CPU has from a record on, how many were written over before, and where to go
/// on.
pub fn read(w: &mut World, cpu: u32, first: u64) -> (Vec<Record>, u64, u64) {
    let answer = w.must(0, Op::AuditRead, &[Target::new(abi::INIT_MACHINE, cpu).0, first]);
    let agent = w.agent(0);
    let bulk = &agent.object.get().utcb(agent.pin()).bulk;
    let record = |n: usize| {
        let words = std::array::from_fn(|i| bulk[n * RECORD_WORDS + i].load(Relaxed));
        Record::from_words(words).expect("a record")
    };
    ((0..answer.rdi as usize).map(record).collect(), answer.rdx, answer.rsi)
}

/// All of a ring.
pub fn all(w: &mut World, cpu: u32) -> Vec<Record> {
    let (mut found, mut next) = (Vec::new(), 0);
    loop {
        let (records, lost, then) = read(w, cpu, next);
        assert_eq!(lost, 0);
        if records.is_empty() {
            return found;
        }
        found.extend(records);
        next = then;
    }
}

/// What has come since, of CPU 0.
fn since(w: &mut World, next: &mut u64) -> Vec<Record> {
    let (records, lost, then) = read(w, 0, *next);
    assert_eq!((lost, then - *next), (0, records.len() as u64));
    *next = then;
    records
}

fn identity(w: &mut World, cap: Cap) -> u64 {
    w.must(0, Op::CapInspect, &[at(cap)]).r8
}

/// Event, operation, object, what it went to.
fn gist(record: &Record) -> (AuditEvent, Option<Op>, u64, u64) {
    (record.event, record.op, record.identity, record.to)
}

#[test]
fn grants_and_what_takes_them_back_are_told() {
    let (mut s, memory) = audited(1);
    let mut next = 0;
    let began = since(&mut s.w, &mut next);
    assert_eq!(began.len(), 1);
    assert_eq!(gist(&began[0]).0, AuditEvent::Began);
    assert_eq!((began[0].detail, began[0].identity), (1 << LOG2, identity(&mut s.w, memory)));
    assert_eq!(began[0].actor, s.w.agent(0).id);
    let child = s.w.process();
    let (process, cnode) = (identity(&mut s.w, child.process), identity(&mut s.w, child.cnode));
    let note = s.w.make(0, ObjType::Notification, 0);
    let of_note = identity(&mut s.w, note);
    let made: Vec<_> = since(&mut s.w, &mut next).iter().map(gist).collect();
    let vspace = identity(&mut s.w, child.vspace);
    let bind = |of| (AuditEvent::Bind, Some(Op::ProcessConfigure), of, process);
    assert_eq!(made, [bind(cnode), bind(vspace)], "what it makes for itself is no grant");
    let to = |slot| Target::new(child.cnode, slot).0;
    s.w.must(0, Op::CapCopy, &[note.arg(), to(3), u64::from(Rights::NOTIFY.0), 55]);
    let copy = s.w.slot();
    s.w.must(0, Op::CapCopy, &[note.arg(), at(copy), 0, 0]);
    s.w.must(0, Op::CapMove, &[note.arg(), to(4)]);
    let made = Target::new(abi::INIT_UNTYPED, ObjType::Notification as u32).0;
    s.w.must(0, Op::Retype, &[made, 0, to(6), 2]);
    let grants = since(&mut s.w, &mut next);
    let of = |n: usize| gist(&grants[n]);
    assert_eq!(of(0), (AuditEvent::Grant, Some(Op::CapCopy), of_note, cnode));
    assert_eq!((grants[0].rights, grants[0].detail), (Rights::NOTIFY, 55));
    assert_eq!(of(1), (AuditEvent::Grant, Some(Op::CapMove), of_note, cnode));
    assert!(grants[2..].iter().all(|it| it.op == Some(Op::Retype) && it.to == cnode));
    assert_eq!(grants.len(), 4);
    assert!(grants.iter().all(|it| it.object == Some(ObjType::Notification)));
    s.w.must(0, Op::CapDelete, &[to(3)]);
    s.w.must(0, Op::CapRevoke, &[to(4)]);
    let taken = since(&mut s.w, &mut next);
    assert_eq!(gist(&taken[0]), (AuditEvent::Take, Some(Op::CapDelete), of_note, cnode));
    assert_eq!(gist(&taken[1]), (AuditEvent::Revoke, Some(Op::CapRevoke), of_note, 0));
    // Groups.
    let group = s.w.make(0, ObjType::Group, 2 | 2 << 16);
    let of_group = identity(&mut s.w, group);
    s.w.must(0, Op::ProcessAccept, &[child.process.arg(), 9, group.arg()]);
    s.w.must(0, Op::GroupAdd, &[group.arg(), child.process.arg(), u64::from(Rights::SEND.0), 0]);
    let note = s.w.make(0, ObjType::Notification, 0);
    let of_note = identity(&mut s.w, note);
    s.w.must(0, Op::Expose, &[Target::new(group, 1).0, note.arg(), 0]);
    s.w.must(0, Op::Withdraw, &[Target::new(group, 1).0]);
    s.w.must(0, Op::GroupRemove, &[group.arg()]);
    let found: Vec<_> = since(&mut s.w, &mut next).iter().map(gist).collect();
    let expected = [
        (AuditEvent::Join, Some(Op::GroupAdd), of_group, process),
        (AuditEvent::Expose, Some(Op::Expose), of_note, of_group),
        (AuditEvent::Withdraw, Some(Op::Withdraw), of_group, 0),
        (AuditEvent::Leave, Some(Op::GroupRemove), of_group, 0),
    ];
    assert_eq!(found, expected);
}

/// Once for each call that sets a label, however many entries the call takes to tell all tasks.
#[test]
fn a_label_is_told_once() {
    let (mut s, _) = audited(1);
    let count = LABEL_STEPS + 1;
    let child = s.w.process_of(abi::INIT_UNTYPED, count as u64, 4);
    for _ in 0..count {
        s.w.task_with(child, 0, 10, false);
    }
    let mut next = 0;
    while !read(&mut s.w, 0, next).0.is_empty() {
        next = read(&mut s.w, 0, next).2;
    }
    for (label, before) in [(3, 0), (3, 3), (4, 3)] {
        s.w.must(0, Op::LabelSet, &[abi::INIT_MACHINE.arg(), child.process.arg(), label]);
        let found: Vec<_> = since(&mut s.w, &mut next).iter().map(|it| (it.event, it.detail)).collect();
        assert_eq!(found, [(AuditEvent::Label, before << 32 | label)]);
    }
}

#[test]
fn refusals_are_told_with_who_and_why() {
    let (mut s, _) = audited(2);
    let (task, _) = s.running(1, 10);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.must(0, Op::LabelSet, &[abi::INIT_MACHINE.arg(), s.process.process.arg(), 3]);
    s.w.must(0, Op::LabelSet, &[abi::INIT_MACHINE.arg(), note.arg(), 4]);
    s.w.must(0, Op::LabelRule, &[abi::INIT_MACHINE.arg(), 3, 4, u64::from(may::READ)]);
    let mut changes = all(&mut s.w, 0);
    changes.retain(|it| it.event != AuditEvent::Bind);
    let changes: Vec<_> = changes.iter().map(|it| (it.event, it.to, it.detail)).collect();
    assert_eq!(changes[1].0, AuditEvent::Expose, "the task's");
    assert_eq!(
        changes[2..],
        [
            (AuditEvent::Label, 0, 3),
            (AuditEvent::Label, 0, 4),
            (AuditEvent::Rule, 3 << 32 | 4, u64::from(may::ALL) << 32 | u64::from(may::READ)),
        ]
    );
    // Nothing there, which is no denial, and more rights than it has.
    s.w.does_and_run(&task, call(Target::new(GROUP, 15)));
    assert_eq!(s.w.result(&task).error(), Some(Error::NoExposure));
    let (cnode, process) = (s.process.cnode, s.process);
    s.w.give(cnode, process, Cap(2));
    let to = Target::new(Cap(2), 20).0;
    s.w.does_and_run(&task, Regs::op(Op::CapCopy, &[GROUP.arg(), to, u64::from(Rights::ALL.0), 0]));
    let refused = s.w.result(&task);
    let denials = all(&mut s.w, 1);
    assert_eq!(denials.len(), 1, "{denials:?}");
    let denial = denials[0];
    assert_eq!((denial.event, denial.op), (AuditEvent::Denial, Some(Op::CapCopy)));
    assert_eq!((denial.error, denial.detail), (refused.error(), refused.rdi));
    assert_eq!((denial.actor, denial.label, denial.to), (task.id, 3, GROUP.arg()));
    // By the labels, of process 1, which is not confined: the CSpace is.
    let args = [note.arg(), Target::new(s.process.cnode, 30).0, 0, 0];
    assert_eq!(s.w.ask(0, Op::CapCopy, &args).map(drop), Err((Error::Forbidden, 3 << 32 | 4)));
    let last = *all(&mut s.w, 0).last().expect("a record");
    assert_eq!((last.error, last.actor, last.label), (Some(Error::Forbidden), s.w.agent(0).id, 0));
}

#[test]
fn kills_and_ends_are_told() {
    let (mut s, _) = audited(2);
    let victim = s.w.process();
    let (a, b) = (s.w.start(victim, 0, 10), s.w.start(victim, 1, 10));
    let [of_a, of_b, process] = [a.cap, b.cap, victim.process].map(|cap| identity(&mut s.w, cap));
    s.w.must(0, Op::TaskKill, &[a.cap.arg()]);
    s.w.run();
    s.w.must(0, Op::ProcessKill, &[victim.process.arg()]);
    s.delete(b.cap);
    s.delete(victim.process);
    let agent = s.w.agent(0).id;
    let told = |records: Vec<Record>| -> Vec<_> {
        let kills =
            records.into_iter().filter(|it| !matches!(it.event, AuditEvent::Began | AuditEvent::Bind));
        kills.map(|it| (it.event, it.op, it.identity, it.actor)).collect()
    };
    let here = told(all(&mut s.w, 0));
    assert_eq!(
        here,
        [
            (AuditEvent::Kill, Some(Op::TaskKill), of_a, agent),
            (AuditEvent::Death, None, of_a, a.id),
            (AuditEvent::Kill, Some(Op::ProcessKill), process, agent),
            (AuditEvent::End, None, of_b, agent),
            (AuditEvent::End, None, process, agent),
        ]
    );
    assert_eq!(told(all(&mut s.w, 1)), [(AuditEvent::Death, None, of_b, b.id)], "where it lived");
}

#[test]
fn what_is_written_over_is_counted() {
    let (mut s, _) = audited(1);
    let denied = [abi::INIT_MACHINE.arg(), s.group.arg(), u64::from(Rights::ALL.0), 0];
    let weak = s.w.slot();
    s.w.must(0, Op::CapCopy, &[abi::INIT_MACHINE.arg(), at(weak), 0, 0]);
    let deny = |s: &mut Scene, times: u64| {
        for _ in 0..times {
            assert!(s.w.ask(0, Op::LabelSet, &[weak.arg(), denied[1], 0]).is_err());
        }
    };
    deny(&mut s, 300);
    let (records, lost, next) = read(&mut s.w, 0, 0);
    // The place of the next record is not read: it may be on the way.
    let places = 1 << LOG2;
    assert_eq!((records.len(), lost), (AUDIT_READ_MAX, 301 - (places - 1)));
    let (rest, lost, next) = read(&mut s.w, 0, next);
    assert_eq!((rest.len() as u64, lost, next), (places - 1 - 32, 0, 301));
    assert_eq!(read(&mut s.w, 0, next), (vec![], 0, next));
    assert_eq!(read(&mut s.w, 0, u64::MAX), (vec![], 0, u64::MAX), "beyond the end");
    deny(&mut s, 5);
    assert_eq!(read(&mut s.w, 0, next).0.len(), 5);
}

#[test]
fn the_log_is_told_of_all_refusals_and_of_kills_where_it_wants_that() {
    let mut s = Scene::new(1);
    let note = s.w.make(0, ObjType::Notification, 0);
    let refuse = |s: &mut Scene| s.w.ask(0, Op::CapCopy, &[note.arg(), 0, 0, 0]).map(drop);
    let why = refuse(&mut s).expect_err("no slot for it").0;
    let told = |s: &Scene| std::mem::take(&mut s.w.k.machine.hardware().told);
    assert_eq!(told(&s), [], "nobody wants to know");
    s.w.k.log_events();
    assert_eq!(refuse(&mut s).map_err(|refusal| refusal.0), Err(why));
    let refusals = told(&s);
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    let refusal = (refusals[0].event, refusals[0].op, refusals[0].error, refusals[0].to);
    assert_eq!(refusal, (AuditEvent::Denial, Some(Op::CapCopy), Some(why), note.arg()));
    let (task, _) = s.running(0, 10);
    told(&s);
    s.w.must(0, Op::TaskKill, &[task.cap.arg()]);
    let events: Vec<_> = told(&s).iter().map(|it| (it.event, it.op)).collect();
    assert!(events.contains(&(AuditEvent::Kill, Some(Op::TaskKill))), "{events:?}");
    assert!(events.iter().any(|it| it.0 == AuditEvent::Death), "{events:?}");
    // An audit that ends leaves the log as it is, and none of these was for the audit.
    let memory = s.w.make(0, ObjType::Untyped, 17);
    s.w.must(0, Op::AuditStart, &[abi::INIT_MACHINE.arg(), memory.arg(), LOG2]);
    refuse(&mut s).expect_err("as before");
    assert!(all(&mut s.w, 0).iter().all(|it| it.event != AuditEvent::Denial), "which is no denial");
    s.w.must(0, Op::UntypedReset, &[memory.arg()]);
    told(&s);
    refuse(&mut s).expect_err("as before");
    assert_eq!(told(&s).len(), 1);
}

#[test]
fn an_audit_ends_with_its_memory() {
    let (mut s, memory) = audited(1);
    let machine = abi::INIT_MACHINE.arg();
    let ask = |s: &mut Scene, op, args: &[u64]| s.w.ask(0, op, args).map(drop);
    let other = s.w.make(0, ObjType::Untyped, 17);
    assert_eq!(ask(&mut s, Op::AuditStart, &[machine, other.arg(), LOG2]), Err((Error::InUse, 0)));
    s.w.must(0, Op::UntypedReset, &[other.arg()]);
    assert_eq!(ask(&mut s, Op::AuditRead, &[machine, 0]), Ok(()), "another's memory is reset");
    s.w.must(0, Op::UntypedReset, &[memory.arg()]);
    assert_eq!(ask(&mut s, Op::AuditRead, &[machine, 0]), Err((Error::BadState, 0)));
    // In an Untyped whose capability has gone it goes on until the one around it is reset.
    let inner = s.w.make_of(0, memory, ObjType::Untyped, 15);
    s.w.must(0, Op::AuditStart, &[machine, inner.arg(), 4]);
    s.delete(inner);
    assert_eq!(ask(&mut s, Op::AuditRead, &[machine, 0]), Ok(()));
    s.w.must(0, Op::UntypedReset, &[memory.arg()]);
    assert_eq!(ask(&mut s, Op::AuditRead, &[machine, 0]), Err((Error::BadState, 0)));
    s.w.must(0, Op::AuditStart, &[machine, other.arg(), LOG2]);
}

#[test]
fn an_audit_takes_right_numbers_and_room() {
    let mut s = Scene::new(2);
    let (machine, small) = (abi::INIT_MACHINE.arg(), s.w.make(0, ObjType::Untyped, 12));
    for log2 in [0, 3, 13, 64, 1 << 32 | 6] {
        let refused = s.w.ask(0, Op::AuditStart, &[machine, small.arg(), log2]).map(drop);
        assert_eq!(refused, Err((Error::BadArgument, 2)), "{log2}");
    }
    let refused = s.w.ask(0, Op::AuditStart, &[machine, small.arg(), 6]).map(drop);
    assert_eq!(refused, Err((Error::NoMemory, 1 << 12)));
    s.w.must(0, Op::AuditStart, &[machine, small.arg(), 4]);
    let beyond = Target::new(abi::INIT_MACHINE, 2).0;
    assert_eq!(s.w.ask(0, Op::AuditRead, &[beyond, 0]).map(drop), Err((Error::NoCpu, 2)));
}

#[test]
fn capabilities_in_messages_are_grants_of_their_senders() {
    for server_cpu in [0, 1] {
        let (mut s, _) = audited(2);
        let receiver = s.w.process();
        s.w.join_all(s.group, receiver, GROUP);
        let server = s.w.start(receiver, server_cpu, 10);
        s.w.expose(s.group, 12, server.cap);
        let offer = Listening { next: Cap(40), count: 1 };
        server.object.get().utcb(server.pin()).listening.store(offer.word(), Relaxed);
        s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
        let (client, _) = s.running(0, 10);
        let (note, sender) = (s.w.make(0, ObjType::Notification, 0), s.process);
        s.w.give(note, sender, Cap(20));
        let rights = Rights::NOTIFY;
        let list = Grant::Copy { cap: Cap(20), rights, badge: 9 };
        let utcb = client.object.get().utcb(client.pin());
        utcb.grant_count.store(1, Relaxed);
        utcb.grants[0].iter().zip(list.words()).for_each(|(word, value)| word.store(value, Relaxed));
        let [of_note, cnode] = [note, receiver.cnode].map(|cap| identity(&mut s.w, cap));
        s.w.does_and_run(&client, call(Target::new(GROUP, 12)).flag(FLAG_CAPS));
        let record = *all(&mut s.w, server_cpu as u32).last().expect("a record");
        assert_eq!(gist(&record), (AuditEvent::Grant, None, of_note, cnode));
        assert_eq!((record.actor, record.rights, record.detail), (client.id, rights, 9));
    }
}

#[test]
fn who_faults_and_is_torn_down_is_told() {
    let (mut s, _) = audited(1);
    let process = s.w.process();
    let (of_process, task) = (identity(&mut s.w, process.process), s.w.start(process, 0, 10));
    s.w.fault(0, 0x1234);
    s.w.run();
    let told: Vec<_> = all(&mut s.w, 0).iter().map(|it| (it.event, it.op, it.identity, it.actor)).collect();
    let of_task = identity(&mut s.w, task.cap);
    let expected =
        [(AuditEvent::Kill, None, of_process, task.id), (AuditEvent::Death, None, of_task, task.id)];
    assert_eq!(told[told.len() - 2..], expected);
}

#[test]
fn what_ends_with_a_process_and_with_a_group_is_told() {
    let (mut s, _) = audited(2);
    let victim = s.w.process();
    s.w.join_all(s.group, victim, GROUP);
    let task = s.w.start(victim, 0, 10);
    s.w.run();
    s.w.expose(s.group, 3, task.cap);
    let second = s.w.make(0, ObjType::Group, 2 | 8 << 16);
    s.w.join_all(second, victim, Cap(9));
    let per_cpu = Target::new(second, 1).0;
    s.w.must(0, Op::Expose, &[per_cpu, task.cap.arg(), 1 | 4 << 32]);
    let [of_group, of_second, process] = [s.group, second, victim.process].map(|cap| identity(&mut s.w, cap));
    let mut next = all(&mut s.w, 0).len() as u64;
    s.w.must(0, Op::Withdraw, &[per_cpu]);
    s.w.must(0, Op::ProcessKill, &[victim.process.arg()]);
    s.w.must(0, Op::CapRevoke, &[at(second)]);
    s.w.must(0, Op::CapDelete, &[at(second)]);
    let gist = |it: &Record| (it.event, it.op, it.identity, it.to, it.detail);
    let told: Vec<_> = since(&mut s.w, &mut next).iter().map(gist).collect();
    let has = |event, op, of, to, detail| assert!(told.contains(&(event, op, of, to, detail)), "{told:?}");
    has(AuditEvent::Withdraw, Some(Op::Withdraw), of_second, 0, 1);
    has(AuditEvent::Withdraw, Some(Op::ProcessKill), of_group, 0, 3);
    has(AuditEvent::Withdraw, Some(Op::ProcessKill), of_second, 0, 4);
    // Process 1 is no member of either.
    has(AuditEvent::Leave, None, of_second, process, 0);
    has(AuditEvent::Leave, None, of_group, process, 1);
    has(AuditEvent::End, None, of_second, 0, 0);
}

#[test]
fn who_calls_elsewhere_and_is_refused_there_is_told_of() {
    let (mut s, _) = audited(2);
    let (server, target) = s.running(1, 10);
    let (client, _) = s.running(0, 10);
    let note = s.w.make(0, ObjType::Notification, 0);
    let held = Target::new(s.process.cnode, 20).0;
    let give = |s: &mut Scene, rights: Rights| {
        s.w.must(0, Op::CapCopy, &[note.arg(), held, u64::from(rights.0), 0]);
    };
    give(&mut s, Rights::GRANT);
    lists(&client, &[Grant::Copy { cap: Cap(20), rights: Rights::NONE, badge: 0 }]);
    s.w.does_and_run(&client, call(target).flag(FLAG_CAPS));
    // Before it is received what it lists is less.
    s.w.must(0, Op::CapDelete, &[held]);
    give(&mut s, Rights::NOTIFY);
    let mut next = all(&mut s.w, 0).len() as u64;
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    assert_eq!(s.w.result(&client).error(), Some(Error::NoRight));
    let told = since(&mut s.w, &mut next);
    let denials: Vec<_> = told.iter().map(|it| (it.event, it.error, it.actor)).collect();
    assert_eq!(denials, [(AuditEvent::Denial, Some(Error::NoRight), client.id)]);
}

/// Returns the audit's records of one actor, on all CPUs: event, operation, object.
fn told_of(w: &mut World, actor: TaskId) -> Vec<(AuditEvent, Option<Op>, u64)> {
    let mut records: Vec<_> = (0..w.cpus() as u32).flat_map(|cpu| all(w, cpu)).collect();
    records.retain(|it| it.actor == actor);
    records.iter().map(|it| (it.event, it.op, it.identity)).collect()
}

/// Moves a capability of process 1 into somebody's slot.
fn hand(s: &mut Scene, cap: Cap, to: Proc, slot: u32) {
    s.w.must(0, Op::CapMove, &[cap.arg(), Target::new(to.cnode, slot).0]);
}

fn own(slot: u32) -> u64 {
    Target::new(Cap(2), slot).0
}

/// All tasks of a process die with its address space, and with its CSpace.
#[test]
fn who_ends_a_process_by_its_spaces_is_told_of() {
    for what in [ObjType::VSpace, ObjType::CNode] {
        let (mut s, _) = audited(1);
        let (killer, task) = s.somebody(0, 20);
        let (victim, dead) = s.somebody(0, 10);
        let of_victim = identity(&mut s.w, victim.process);
        if what == ObjType::CNode {
            // Its own capability of it is not the last.
            s.w.must(0, Op::CapDelete, &[Target::new(victim.cnode, 2).0]);
        }
        let cap = if what == ObjType::CNode { victim.cnode } else { victim.vspace };
        hand(&mut s, cap, killer, 3);
        s.w.does_and_run(&task, Regs::op(Op::CapDelete, &[own(3)]));
        assert_eq!((s.w.result(&task).error(), dead.state()), (None, State::Dead));
        let told = told_of(&mut s.w, task.id);
        assert_eq!(told, [(AuditEvent::Kill, Some(Op::CapDelete), of_victim)], "{what:?}");
    }
}

/// A task that stops in the middle of a kill has killed nevertheless; a task that continues the
/// kill has not.
#[test]
fn a_kill_that_is_given_up_is_told_of() {
    let (mut s, _) = audited(2);
    let (killer, task) = s.somebody(0, 20);
    let (victim, dead) = s.somebody(1, 10);
    s.w.give(victim.process, killer, Cap(3));
    let of_victim = identity(&mut s.w, victim.process);
    s.w.does(&task, Regs::op(Op::ProcessKill, &[Cap(3).arg()]));
    assert!(!task.is_through(), "it waits for another CPU");
    s.kill(&task);
    assert_eq!((task.state(), dead.state()), (State::Dead, State::Dead));
    s.w.must(0, Op::ProcessKill, &[victim.process.arg()]);
    let kill = (AuditEvent::Kill, Some(Op::ProcessKill), of_victim);
    assert!(told_of(&mut s.w, task.id).contains(&kill), "nothing says who has killed {:?}", dead.id);
    let agent = s.w.agent(0).id;
    assert!(!told_of(&mut s.w, agent).contains(&kill), "there was nothing left to kill");
}

/// So has who deletes the last capability, of a process or of a task.
#[test]
fn an_end_that_is_given_up_is_told_of() {
    for what in [ObjType::Process, ObjType::Task] {
        let (mut s, _) = audited(2);
        let (killer, task) = s.somebody(0, 20);
        let (victim, dead) = s.somebody(1, 10);
        let cap = if what == ObjType::Process { victim.process } else { dead.cap };
        let object = identity(&mut s.w, cap);
        hand(&mut s, cap, killer, 3);
        s.w.does(&task, Regs::op(Op::CapDelete, &[own(3)]));
        assert!(!task.is_through(), "it waits for another CPU");
        s.kill(&task);
        assert_eq!((task.state(), dead.state()), (State::Dead, State::Dead));
        let told = told_of(&mut s.w, task.id);
        assert_eq!(told.first(), Some(&(AuditEvent::Kill, Some(Op::CapDelete), object)), "{what:?}");
    }
}

/// What ends a group takes its members' standing away before the group is gone.
#[test]
fn a_groups_end_that_is_given_up_is_told_of() {
    const MEMBERS: u64 = 1024;
    let (mut s, _) = audited(1);
    let (ender, task) = s.somebody(0, 10);
    let group = s.w.group(MEMBERS, 1);
    let of_group = identity(&mut s.w, group);
    let member = s.w.process();
    s.w.join(group, member, GROUP, Rights::SEND, 0);
    s.w.must(0, Op::CapRevoke, &[at(group)]);
    hand(&mut s, group, ender, 3);
    s.w.does(&task, Regs::op(Op::CapDelete, &[own(3)]));
    assert!(task.must_restart(), "it takes several entries");
    s.kill(&task);
    let told = told_of(&mut s.w, task.id);
    assert_eq!(told.first(), Some(&(AuditEvent::Kill, Some(Op::CapDelete), of_group)));
}

/// The next task that reclaims something empties CNodes. The audit attributes the end of their
/// contents to the task that ended them.
#[test]
fn who_empties_the_table_of_others_is_not_told_of_as_who_ended_what_it_had() {
    const SLOTS: u64 = 1024;
    let (mut s, _) = audited(1);
    let (owner, task) = s.somebody(0, 10);
    let (innocent, other) = s.somebody(0, 20);
    let memory = s.w.make(0, ObjType::Untyped, 17);
    let (table, inner) = (s.w.make_of(0, memory, ObjType::CNode, SLOTS), s.w.make(0, ObjType::CNode, 8));
    let (thing, member, group) = (s.w.make(0, ObjType::Process, 1), s.w.process(), s.group);
    s.w.join_all(group, member, GROUP);
    let things = [thing, member.process].map(|cap| identity(&mut s.w, cap));
    s.w.must(0, Op::CapMove, &[member.process.arg(), Target::new(inner, 7).0]);
    s.w.must(0, Op::CapMove, &[inner.arg(), Target::new(table, SLOTS as u32 - 2).0]);
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
    let before = told_of(&mut s.w, task.id).len();
    s.w.does_and_run(&other, Regs::op(Op::CapDelete, &[own(3)]));
    assert_eq!(told_of(&mut s.w, other.id), [], "it has deleted a capability of its own Notification");
    assert_eq!(told_of(&mut s.w, task.id).len(), before, "a stranger's work ends nothing of it");
    s.w.must(0, Op::UntypedReset, &[memory.arg()]);
    let told = told_of(&mut s.w, task.id).split_off(before);
    for of in things {
        let about: Vec<_> = told.iter().filter(|it| it.2 == of).map(|it| (it.0, it.1)).collect();
        assert_eq!(about, [(AuditEvent::Kill, None), (AuditEvent::End, None)], "of {told:?}");
    }
    assert!(told.iter().any(|it| it.0 == AuditEvent::Leave), "{told:?}");
}

#[test]
fn who_answers_a_fault_with_a_kill_is_told_of() {
    for n in [0, 1] {
        for answer in [FaultAnswer::Kill, FaultAnswer::TearDown] {
            let (mut s, _) = audited(2);
            let (_, handler) = s.somebody(n, 20);
            s.w.expose(s.group, 9, handler.cap);
            let process = s.process.process;
            s.w.must(0, Op::FaultHandler, &[process.arg(), Target::new(GROUP, 9).0]);
            s.w.does_and_run(&handler, Regs::op(Op::Recv, &[]));
            let (task, _) = s.running(0, 10);
            let ends = if answer == FaultAnswer::Kill { task.cap } else { process };
            let ends = identity(&mut s.w, ends);
            s.w.fault_with(0, Fault { vector: 14, error: 6, address: 0xdead_b000 });
            s.w.run();
            let mut verdict = Regs::message(Op::ReplyRecv, Target(0), [0; 4]);
            verdict.rax |= u64::from(answer.label()) << 32;
            s.w.does_and_run(&handler, verdict);
            assert_eq!(task.state(), State::Dead);
            let records = (0..2).flat_map(|cpu| all(&mut s.w, cpu));
            let kills: Vec<_> = records.filter(|it| it.event == AuditEvent::Kill).collect();
            let kills: Vec<_> = kills.iter().map(|it| (it.op, it.identity, it.actor)).collect();
            let expected = (Some(Op::ReplyRecv), ends, handler.id);
            assert_eq!(kills, [expected], "{answer:?} on cpu{n}: the task that faulted is {:?}", task.id);
        }
    }
}

/// The removal of a pin is recorded, in each of its ways.
#[test]
fn pins_that_go_with_a_reset_are_told_of() {
    let (mut s, _) = audited(1);
    let memory = s.w.make(0, ObjType::Untyped, 16);
    let frame = s.w.make_of(0, memory, ObjType::Frame, 12);
    s.w.make_of(0, memory, ObjType::Frame, 12);
    let of_frame = identity(&mut s.w, frame);
    let machine = abi::INIT_MACHINE.arg();
    s.w.must(0, Op::FramePin, &[frame.arg(), machine]);
    s.w.must(0, Op::UntypedReset, &[memory.arg(), 1, 0, machine]);
    let mut pins = all(&mut s.w, 0);
    pins.retain(|it| it.event == AuditEvent::Pin);
    let pins: Vec<_> = pins.iter().map(|it| (it.op, it.identity, it.detail)).collect();
    let (pin, reset) = (Some(Op::FramePin), Some(Op::UntypedReset));
    assert_eq!(pins, [(pin, of_frame, 1), (reset, of_frame, 0)], "how many there were each time");
}
