//! Other tasks change what a system call has looked up or begun with. The call must not affect
//! another object.

use abi::{Cap, FLAG_CAPS, Grant, ObjType, Op, Rights, Target};
use kern_base::group::Group;
use smp::host_test;

use crate::grants::{holds, lists, owned};
use crate::scene::{GROUP, LateAnswer, Scene, call};
use crate::world::gate::Why;
use crate::world::make::at;
use crate::world::{Regs, World};

/// Steps that another CPU takes in the middle, at most.
const STEPS: usize = 200;

fn identity(w: &mut World, cap: Cap) -> u64 {
    w.must(0, Op::CapInspect, &[at(cap)]).r8
}

/// Another CPU makes a system call while CPU 1, whose task has to make its own again, is held up
/// and takes its mail.
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

/// A call to an exposure with one task per CPU takes the entry of its CPU. When the exposure is
/// over, entry and index are others'.
#[test]
fn a_call_to_one_task_per_cpu_reaches_nobody_elses() {
    for at in 0.. {
        let mut s = Scene::new(2);
        let group = s.group;
        let worker = s.w.task_with(s.process, 0, 10, true);
        s.w.must(0, Op::Expose, &[Target::new(group, 8).0, worker.cap.arg(), 1 | 10 << 32]);
        let (thief, task) = s.somebody(0, 10);
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

/// An answer that brings something may have to wait. Whose call a Reply has by then may be another
/// one.
#[test]
fn an_answer_that_waits_goes_to_whom_it_was_meant_for() {
    let mut late = LateAnswer::new();
    // Another task of the server keeps another's call.
    let (other, two) = LateAnswer::client(&mut late.s, 13);
    let got = late.goes_on_after_call(other, &two);
    assert_eq!(got, (false, false), "nobody has answered it: {:x?}", two.regs());
}

/// What was to be moved to somebody who does not listen is deleted when its sender sends again.
/// What its slot has by then may be something else.
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
    // The server receives, and does not listen: the client is to dispose of it, and to send once
    // more.
    s.w.does(&server, Regs::op(Op::Recv, &[]));
    beside(&mut s.w, Op::CapDelete, &[slot]);
    beside(&mut s.w, Op::CapMove, &[kept.arg(), slot]);
    assert!(client.must_restart());
    s.w.run();
    let there = s.w.must(0, Op::CapInspect, &[slot]);
    assert_eq!(there.r8, of_kept, "nobody has sent that away");
}

/// A former member can neither withdraw an exposure nor remove a member.
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
