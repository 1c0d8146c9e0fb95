//! Interleavings that once broke something: an operation stops at each of its points, and another
//! operation runs there.

use abi::audit::AuditEvent;
use abi::{Cap, Error, ObjType, Op, Rights, Target};
use kern_base::group::{Exposure, Group};
use kern_base::limits::LABEL_STEPS;
use kern_base::task::{State, Task};
use smp::door::Ref;
use smp::host_test;
use std::sync::atomic::Ordering::Relaxed;

use crate::audit::read;
use crate::labels::{SUBJECT, confined};
use crate::scene::{GROUP, LateAnswer, Scene, call};
use crate::world::gate::Why;
use crate::world::make::{CONTROL, at};
use crate::world::stop::Part;
use crate::world::{Regs, World};

/// Steps that another CPU takes in the middle, at most.
const STEPS: usize = 200;
/// Points of an entry that are tried, at most.
const POINTS: usize = 400;
/// A per-CPU exposure, and where its entries start.
const HEAD: u32 = 8;
const FIRST: u64 = 10;
const PER_CPU: u64 = 1 | FIRST << 32;

fn entry(w: &World, group: Cap, index: usize) -> Ref<'static, Exposure> {
    let object = w.object::<Group>(group).expect("the group");
    object.get().exposures.get(host_test::pin(0), index).expect("an exposure")
}

/// A system call of the agent of a CPU comes to its end while others stand; what it was answered.
fn beside(w: &mut World, n: usize, op: Op, args: &[u64]) -> Result<(), Error> {
    w.begin(n, Regs::op(op, args));
    let _ = (0..STEPS).all(|_| w.step(n));
    assert!(w.is_over(n), "{op:?} does not end");
    let error = w.agent(n).regs().error();
    w.dismiss(n);
    error.map_or(Ok(()), Err)
}

/// The agent of a CPU begins a system call, which stops at every point.
fn stand(w: &mut World, n: usize, op: Op, args: &[u64]) -> Part {
    w.summon(n);
    w.prepare(n, Regs::op(op, args));
    Part::begin(&w.gate, n, Why::SystemCall, |_| true)
}

/// A per-CPU exposure that is only just being tried marks its entries. What is exposed there is not
/// its own meanwhile.
#[test]
fn a_call_to_one_task_per_cpu_reaches_nobody_while_entries_are_tried() {
    let mut stolen = Vec::new();
    for before in 0..POINTS {
        let mut over = false;
        for then in 0..4 {
            let mut s = Scene::unchecked(3, 16 << 20);
            let group = s.group;
            let worker = s.w.task_with(s.process, 0, 10, true);
            s.w.must(0, Op::Expose, &[Target::new(group, HEAD).0, worker.cap.arg(), PER_CPU]);
            let process = s.process;
            let other = s.w.start(process, 2, 10);
            let (thief, task) = s.somebody(0, 10);
            s.w.join(group, thief, GROUP, Rights::LISTEN, 0);
            s.w.give(task.cap, thief, Cap(21));
            let caller = s.w.process();
            s.w.join(group, caller, GROUP, Rights::SEND, 0);
            let client = s.w.start(caller, 1, 10);
            s.w.run();
            s.w.prepare(1, call(Target::new(GROUP, HEAD)));
            let mut calls = Part::begin(&s.w.gate, 1, Why::SystemCall, |_| true);
            (0..before).for_each(|_| calls.go_on());
            if calls.stop().is_none() {
                over = true;
                break;
            }
            s.w.hold(Some(1));
            assert_eq!(beside(&mut s.w, 0, Op::Withdraw, &[Target::new(group, HEAD).0]), Ok(()));
            s.w.issue(0, Regs::op(Op::Expose, &[Target::new(GROUP, FIRST as u32 + 1).0, Cap(21).arg(), 0]));
            let _ = (0..STEPS).all(|_| s.w.step(0));
            assert!(task.is_through());
            (0..then).for_each(|_| calls.go_on());
            // It is refused in the end: the first worker is there still, and the thief.
            let again = [Target::new(group, HEAD).0, other.cap.arg(), PER_CPU];
            let mut tries = stand(&mut s.w, 2, Op::Expose, &again);
            let its = entry(&s.w, group, FIRST as usize + 1);
            while tries.stop().is_some() && its.get().part_of.load(Relaxed) == 0 {
                tries.go_on();
            }
            assert!(tries.stop().is_some(), "it marks the entry");
            calls.finish();
            tries.finish();
            s.w.hold(None);
            s.w.run();
            assert_eq!(s.w.agent(2).regs().error(), Some(Error::SlotOccupied));
            s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
            let got = task.regs();
            if task.is_through() && got.sender() == client.id {
                stolen.push((before, then));
            }
        }
        if over {
            break;
        }
    }
    assert!(stolen.is_empty(), "calls to {HEAD} came to whom {} is: {stolen:?}", FIRST + 1);
}

/// Whether somebody is about to fill an exposure.
fn is_claimed(entry: Ref<'static, Exposure>) -> bool {
    kern_core::caps::slots::is_claimed(entry.get().slot.word.load(host_test::pin(0)))
}

/// An `Expose` that stands just before it claims the index of a per-CPU exposure.
fn before_its_claim(s: &mut Scene, n: usize, note: Cap) -> Part {
    let args = [Target::new(s.group, HEAD).0, note.arg(), 0];
    let points = {
        let mut part = stand(&mut s.w, n, Op::Expose, &args);
        let (mut points, head) = (0, entry(&s.w, s.group, HEAD as usize));
        while !is_claimed(head) {
            part.go_on();
            points += 1;
        }
        part.finish();
        points
    };
    s.w.dismiss(n);
    s.w.must(0, Op::Withdraw, &[args[0]]);
    // Its slot is reusable again.
    (0..4).for_each(|_| _ = s.w.must(0, Op::CapRevoke, &[at(note)]));
    let mut part = stand(&mut s.w, n, Op::Expose, &args);
    (1..points).for_each(|_| part.go_on());
    assert!(!is_claimed(entry(&s.w, s.group, HEAD as usize)));
    part
}

/// A task that begins a per-CPU exposure and is refused removes its marks, though another task is
/// just at its index.
#[test]
fn a_refused_expose_leaves_no_marks_beside_who_looks_at_its_index() {
    let mut left = Vec::new();
    for at in 0..POINTS {
        let mut s = Scene::unchecked(3, 16 << 20);
        let group = s.group;
        let (process, task) = s.somebody(0, 10);
        let member = s.w.join(group, process, GROUP, Rights::LISTEN, 0);
        s.w.give(task.cap, process, Cap(21));
        let note = s.w.make(0, ObjType::Notification, 0);
        let mut claims = before_its_claim(&mut s, 2, note);
        s.w.prepare(0, Regs::op(Op::Expose, &[Target::new(GROUP, HEAD).0, Cap(21).arg(), PER_CPU]));
        let mut begins = Part::begin(&s.w.gate, 0, Why::SystemCall, |_| true);
        (0..at).for_each(|_| begins.go_on());
        let head = entry(&s.w, group, HEAD as usize);
        let has_begun = || head.get().per_cpu.load(Relaxed) != 0;
        if has_begun() || begins.stop().is_none() {
            begins.finish();
            claims.finish();
            break;
        }
        s.w.hold(Some(0));
        let w = &mut s.w;
        begins.beside(|| {
            w.begin(1, Regs::op(Op::GroupRemove, &[Target::new(group, member as u32).0]));
        });
        while begins.stop().is_some() && !has_begun() {
            begins.go_on();
        }
        if has_begun() {
            // It has let go of the index, which the other one claims.
            while begins.stop().is_some() && is_claimed(head) {
                begins.go_on();
            }
            claims.go_on();
        }
        begins.finish();
        claims.finish();
        s.w.hold(None);
        s.w.run();
        let refused = task.regs().error();
        if refused.is_some() && has_begun() {
            left.push((at, refused));
        }
    }
    assert!(left.is_empty(), "refused, and its marks are there: {left:?}");
}

/// A removal that has nothing left to do but to wait goes on in a fresh task of another CPU, by its
/// registers.
#[test]
fn a_removal_that_goes_on_elsewhere_removes_nobody_else() {
    let mut s = Scene::new(2);
    let (group, process) = (s.group, s.process);
    let (removes, _) = s.running(0, 10);
    let (one, other) = (s.w.process(), s.w.process());
    let index = s.w.join(group, one, GROUP, Rights::SEND, 1);
    s.w.does(&removes, Regs::op(Op::GroupRemove, &[Target::new(GROUP, index as u32).0]));
    assert!(!removes.is_through(), "it waits for the other CPU");
    s.w.begin(1, Regs::op(Op::TaskSuspend, &[removes.cap.arg()]));
    s.w.run();
    s.w.dismiss(1);
    assert!(!removes.is_through());
    let fresh = s.w.task_with(process, 1, 10, true);
    s.w.must(0, Op::TaskReadRegs, &[removes.cap.arg()]);
    s.w.must(0, Op::TaskWriteRegs, &[fresh.cap.arg()]);
    s.kill(&removes);
    let again = s.w.join(group, other, GROUP, Rights::SEND, 2);
    assert_eq!(again, index);
    s.w.resume(&fresh);
    s.w.run();
    let record = s.w.object::<Group>(group).expect("it").get().member(host_test::pin(0), index as usize);
    let there = record.is_some_and(|member| member.custom() == 2);
    assert!(
        there,
        "nobody has removed it; the removal of the one before was answered {:?}",
        fresh.regs().error()
    );
    assert_eq!(s.w.result(&fresh).error(), None, "it has removed one");
}

/// An answer that brings something waits. Its caller gives up, and calls again: that is another
/// call.
#[test]
fn an_answer_that_waits_is_not_for_the_next_call_of_the_same_task() {
    let mut late = LateAnswer::new();
    // It asks another server something else.
    let (its, one) = late.caller;
    let got = late.goes_on_after_call(its, &one);
    assert_eq!(got, (false, false), "nobody has answered its second call: {:x?}", one.regs());
}

/// A task that is configured in vain keeps the label that somebody gives it meanwhile.
#[test]
fn a_label_that_is_given_to_a_task_stays() {
    let mut lost = Vec::new();
    for point in 0..POINTS {
        let mut s = Scene::new(2);
        let child = confined(&mut s.w);
        let there = s.w.start(child, 0, 5).object.get().utcb_address();
        let task = s.w.make(0, ObjType::Task, 0);
        // It is refused: something is mapped there.
        let args = [CONTROL, task.arg(), child.process.arg(), there, 0];
        let mut points = 0..;
        let mut told = None;
        let torn = s.w.torn_where(
            0,
            Regs::op(Op::TaskConfigure, &args),
            move |_| points.next() == Some(point),
            |w| told = Some(beside(w, 1, Op::LabelSet, &[abi::INIT_MACHINE.arg(), task.arg(), SUBJECT])),
        );
        let refused = s.w.finish(0).error();
        if !torn {
            assert!(point > 0 && refused.is_some(), "{refused:?}");
            break;
        }
        let label = s.w.object::<Task>(task).expect("it").get().header.label();
        if told == Some(Ok(())) && u64::from(label) != SUBJECT {
            lost.push((point, label, refused));
        }
    }
    assert!(lost.is_empty(), "a label that was set is gone: {lost:?}");
}

/// What an operation asked of another CPU has been done before a revoke is over, though that CPU
/// sends it on.
#[test]
fn what_is_sent_on_comes_before_a_revoke_is_over() {
    // The task is made on CPU 0 and starts on CPU 2. CPU 3 asks CPU 0 to kill it.
    let mut s = Scene::unchecked(4, 16 << 20);
    let process = s.process;
    // Without time it does not run there: CPU 2 idles.
    let task = s.w.task_with(process, 2, 10, false);
    let by = s.w.slot();
    s.w.must(0, Op::CapCopy, &[task.cap.arg(), at(by), u64::from(Rights::ALL.0), 0]);
    s.w.run();
    // It is under way to CPU 2.
    s.w.begin(0, Regs::op(Op::TaskResume, &[task.cap.arg()]));
    s.w.dismiss(0);
    s.w.begin(3, Regs::op(Op::TaskKill, &[by.arg()]));
    s.w.dismiss(3);
    // It arrives; CPU 0 has not looked into its mailbox.
    while s.w.event(2) {}
    assert_eq!(task.home(), 2);
    s.w.begin(1, Regs::op(Op::CapRevoke, &[at(task.cap)]));
    let _ = (0..STEPS).all(|_| s.w.step(1) || s.w.step(0) || s.w.step(3));
    let over = s.w.is_over(1);
    let before = task.state();
    s.w.run();
    let after = task.state();
    assert!(!over || before == after, "{before:?} when the revoke is over, then {after:?}");
}

/// The caller's lender ends by the caller's own action; the caller has no time for a moment. The
/// audit attributes the action to the caller.
#[test]
fn who_loses_its_time_by_a_delete_is_told_of() {
    let mut s = Scene::new(1);
    let memory = s.w.make(0, ObjType::Untyped, 17);
    s.w.must(0, Op::AuditStart, &[abi::INIT_MACHINE.arg(), memory.arg(), 6]);
    let process = s.process;
    s.w.give(process.cnode, process, Cap(2));
    let (server, to_server) = s.task(0, 12, false);
    let (middle, to_middle) = s.task(0, 11, false);
    let (user, _) = s.running(0, 10);
    s.w.resume(&server);
    s.w.resume(&middle);
    s.w.does_and_run(&user, call(to_middle));
    s.w.does_and_run(&middle, Regs::op(Op::Recv, &[]));
    s.w.does_and_run(&middle, call(to_server));
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    assert!(s.w.runs(0, &server));
    let exposed = Target::new(s.group, 2).0;
    s.w.must(0, Op::Withdraw, &[exposed]);
    let its = Target::new(process.cnode, 30).0;
    s.w.must(0, Op::CapMove, &[middle.cap.arg(), its]);
    let next = read(&mut s.w, 0, 0).2;
    s.w.does_and_run(&server, Regs::op(Op::CapDelete, &[Target::new(Cap(2), 30).0]));
    assert_eq!(middle.state(), State::Dead);
    let records = read(&mut s.w, 0, next).0;
    let ends = records.iter().filter(|record| matches!(record.event, AuditEvent::Kill | AuditEvent::End));
    for record in ends {
        assert_eq!(record.actor, server.id, "{:?} of {:?}: {records:?}", record.event, record.object);
    }
}

/// Two tasks label one process, each in several entries: one of them comes to its end.
#[test]
fn two_who_label_a_process_do_not_hold_each_other_up() {
    let mut s = Scene::unchecked(2, 32 << 20);
    let process = s.w.process_of(abi::INIT_UNTYPED, 4 * LABEL_STEPS as u64, 16).process;
    let label = |label: u64| Regs::op(Op::LabelSet, &[abi::INIT_MACHINE.arg(), process.arg(), label]);
    s.w.begin(0, label(SUBJECT));
    s.w.begin(1, label(SUBJECT + 1));
    for _ in 0..10_000 {
        if s.w.is_over(0) || s.w.is_over(1) {
            return;
        }
        let _ = [0, 1].map(|n| s.w.step(n));
    }
    panic!("each begins anew what the other one has begun");
}
