//! Address spaces that end while tasks still run in them: CPUs leave a space only when its tasks
//! are dead.

use abi::{Cap, ObjType, Op};
use kern_core::door::entry::Interrupt;

use crate::scene::Scene;
use crate::world::make::at;
use crate::world::{Regs, Tcb, World};

/// The CPU of the task that has not been killed yet.
const LAST: usize = 2;
/// Steps of one system call, at most.
const STEPS: usize = 100;

/// A process with a task on CPU 1 and one on [`LAST`], and memory that has to do with neither.
fn scene() -> (Scene, Tcb, Cap) {
    let mut s = Scene::new(4);
    let _ = s.running(1, 10);
    let (last, _) = s.running(LAST, 10);
    let memory = s.w.make(0, ObjType::Untyped, 16);
    let _ = s.w.make_of(3, memory, ObjType::Notification, 0);
    (s, last, memory)
}

/// CPU 3 resets the memory, for which all CPUs forget everything; [`LAST`] does so.
fn reset(w: &mut World, memory: Cap) {
    w.begin(3, Regs::op(Op::UntypedReset, &[memory.arg(), 0]));
    for _ in 0..STEPS {
        if !w.has_event(LAST) {
            let _ = w.step(3);
        }
    }
    assert!(w.step(LAST), "the last task's CPU is asked");
}

/// A task that runs sees its space.
fn is_in_its_space(w: &World, task: &Tcb) {
    if w.runs(LAST, task) {
        let utcb = task.object.get().utcb_address();
        assert!(w.touch(LAST, utcb), "a live task runs outside its space");
    }
}

#[test]
fn a_task_runs_in_its_own_space_until_it_is_killed() {
    for steps in 0.. {
        let (mut s, last, memory) = scene();
        s.w.begin(0, Regs::op(Op::CapDelete, &[at(s.process.vspace)]));
        // The delete comes so far without the last task's CPU.
        let moved = (0..steps).all(|_| s.w.step(1) || s.w.step(0));
        reset(&mut s.w, memory);
        is_in_its_space(&s.w, &last);
        let _ = (s.w.finish(0), s.w.finish(3));
        assert!(s.w.take_fault_ends().is_empty());
        if !moved {
            assert!(steps > 1, "the delete has several steps");
            return;
        }
    }
}

#[test]
fn a_task_runs_in_its_own_space_whatever_its_end_is_in_the_middle_of() {
    for point in 0.. {
        let (mut s, last, memory) = scene();
        let delete = Regs::op(Op::CapDelete, &[at(s.process.vspace)]);
        let torn = s.w.torn(0, delete, point, |w| {
            reset(w, memory);
            is_in_its_space(w, &last);
        });
        s.w.finish(0);
        if !torn {
            assert!(point > 0, "there is no such point");
            return;
        }
        s.w.finish(3);
        assert!(s.w.take_fault_ends().is_empty());
    }
}

/// In one entry a task is preempted, its CPU is told to forget everything, and the one that
/// preempted it is killed: it goes on without its context being loaded again.
#[test]
fn a_task_that_goes_on_in_the_entry_that_preempted_it_is_still_in_its_space() {
    let (mut s, last, memory) = scene();
    let other = s.w.process();
    let higher = s.w.start(other, LAST, 20);
    let bell = s.w.make(LAST, ObjType::Notification, 0);
    s.w.give(bell, other, Cap(5));
    s.w.does_and_run(&higher, Regs::op(Op::Wait, &[Cap(5).arg()]));
    assert!(s.w.runs(LAST, &last));
    s.w.begin(0, Regs::op(Op::CapDelete, &[at(s.process.vspace)]));
    // All in the mailbox of the last task's CPU by now, which has not looked.
    s.w.begin(1, Regs::op(Op::Notify, &[bell.arg(), 1]));
    s.w.begin(3, Regs::op(Op::UntypedReset, &[memory.arg(), 0]));
    while s.w.step(3) {}
    s.w.issue(1, Regs::op(Op::TaskKill, &[higher.cap.arg()]));
    s.w.interrupt(LAST, Interrupt::Mail);
    is_in_its_space(&s.w, &last);
    let _ = (s.w.finish(0), s.w.finish(3));
    assert!(s.w.take_fault_ends().is_empty());
}
