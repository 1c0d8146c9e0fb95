//! CPU time that may not run on every CPU, and searches for time that pass tasks which hold such
//! time.

use abi::{Cap, Error, ObjType, Op, Target};

use crate::scene::{Scene, call};
use crate::world::{Regs, Tcb};

/// CPU 0 alone, as a set.
const CPU_0: u64 = 1;

/// Starts a task with its own time of a priority, for some CPUs.
fn start_on(s: &mut Scene, task: &Tcb, priority: u64, cpus: u64) {
    let control = s.w.control_of(0, abi::INIT_UNTYPED, priority, cpus);
    let time = s.w.retype_of(0, abi::INIT_UNTYPED, ObjType::SchedContext, 0);
    s.w.must(0, Op::SchedConfigure, &[control.arg(), time.arg(), priority, 1000]);
    s.w.must(0, Op::SchedBind, &[time.arg(), task.cap.arg()]);
    s.w.resume(task);
    s.w.run();
}

fn answer() -> Regs {
    Regs::message(Op::ReplyRecv, Target(0), [7; 4])
}

/// A server without time holds the narrow time of its client while it calls another CPU. The callee
/// loses its time and searches: it gets that of another client of the server, whose call ends then.
#[test]
fn a_cancelled_call_brings_back_its_own_time_and_no_other() {
    let mut s = Scene::new(2);
    let (client, _) = s.task(0, 10, false);
    let (server, to_server) = s.server(0, 10);
    let (far, to_far) = s.server(1, 10);
    s.delete(server.sc);
    let (other, _) = s.running(1, 10);
    start_on(&mut s, &client, 200, CPU_0);
    s.w.does_and_run(&client, call(to_server));
    s.w.does_and_run(&server, call(to_far));
    if !s.w.runs(1, &other) {
        s.w.does_and_run(&far, Regs::op(Op::Yield, &[]));
    }
    s.w.does_and_run(&other, call(to_server));
    s.delete(far.sc);
    assert_eq!(s.w.time_of(&far), other.own_time(), "the search has found it");
    s.w.must(0, Op::TaskCancel, &[other.cap.arg()]);
    s.w.run();
    assert_eq!(s.w.result(&other).error(), Some(Error::Cancelled));
    assert_eq!(s.w.time_of(&other), other.own_time());
}

/// A task with its own time runs on its client's narrow time, and calls another CPU, where a search
/// finds the task's own time.
fn lends_its_own(s: &mut Scene) -> Tcb {
    let (client, _) = s.task(0, 10, false);
    let (task, to_task) = s.server(0, 10);
    let (far, to_far) = s.server(1, 10);
    start_on(s, &client, 20, CPU_0);
    s.w.does_and_run(&client, call(to_task));
    s.w.does_and_run(&task, call(to_far));
    s.delete(far.sc);
    assert_eq!(s.w.time_of(&far), task.own_time(), "the search has found it");
    s.w.does_and_run(&far, answer());
    assert!(s.w.runs(0, &task));
    task
}

#[test]
fn a_task_whose_own_time_comes_back_has_one_time() {
    let mut s = Scene::new(2);
    let task = lends_its_own(&mut s);
    s.w.must(0, Op::TaskSuspend, &[task.cap.arg()]);
    s.w.run();
    assert!(!s.w.runs(0, &task), "it is suspended, and runs");
}

#[test]
fn a_task_whose_own_time_comes_back_does_not_run_while_it_waits() {
    let mut s = Scene::new(2);
    let bell = s.w.make(0, ObjType::Notification, 0);
    s.w.give(bell, s.process, Cap(30));
    let task = lends_its_own(&mut s);
    s.w.summon(0);
    s.w.issue(0, Regs::op(Op::TaskSuspend, &[task.cap.arg()]));
    s.w.issue(0, Regs::op(Op::TaskResume, &[task.cap.arg()]));
    s.w.dismiss(0);
    s.w.run();
    s.w.does_and_run(&task, Regs::op(Op::Wait, &[Cap(30).arg()]));
    assert!(!s.w.runs(0, &task), "it waits, and runs");
}

/// A search passes a task whose own time is narrow, too, and finds nothing. The client's time stays
/// with the task, and goes back when the client gives up.
#[test]
fn a_search_in_vain_leaves_the_lender_as_it_was() {
    let mut s = Scene::new(2);
    let (first, _) = s.task(0, 10, false);
    let (client, to_client) = s.server(0, 10);
    let (task, to_task) = s.task(0, 10, false);
    let (far, to_far) = s.server(1, 10);
    s.delete(client.sc);
    start_on(&mut s, &task, 5, CPU_0);
    s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    start_on(&mut s, &first, 20, CPU_0);
    s.w.does_and_run(&first, call(to_client));
    s.w.does_and_run(&client, call(to_task));
    s.w.does_and_run(&task, call(to_far));
    s.delete(far.sc);
    let other = s.w.make(1, ObjType::SchedContext, 0);
    s.w.must(1, Op::SchedBind, &[other.arg(), far.cap.arg()]);
    s.w.run();
    s.w.does_and_run(&far, answer());
    assert_eq!(s.w.time_of(&task), first.own_time());
    s.w.must(0, Op::TaskCancel, &[client.cap.arg()]);
    s.w.run();
    assert_eq!(s.w.time_of(&client), first.own_time(), "it has given up its call");
}
